//! A copy, made by the server itself: `INSERT … SELECT` from database to database. No row comes here.
//!
//! **A large table** gets its rows in the order of its primary key, then its indexes, each sorted once
//! ([`definition`](super::definition)). Any other is made whole: with `unique_checks` and `foreign_key_checks` off MariaDB
//! (10.6 and newer) fills an empty table by sorting it and each of its indexes, which takes a tenth longer and twice the
//! writing (10.11, 400 MB with one index), but no further statement. The rows were unique and referred to each other before,
//! and are the same.
//!
//! **Under a hold** several sessions copy table after table, the biggest first. Their transactions are READ
//! COMMITTED: in any stricter one the server would lock each row that it reads.
//!
//! **A snapshot** is one transaction with one view of all tables. `INSERT … SELECT` in it would lock the rows
//! that it reads, and read not the view but what is newest, as the manuals say. But where a `SELECT` calls a function, the
//! tables that the function reads are read as by that `SELECT`: from the view, and without a lock (MariaDB
//! 10.11.19: `trx_rows_locked` stays 0, and writers go on; on MySQL 9.7 they go on, too). So each
//! table has a function in the copy that copies it, gone before the copy is anybody's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::database::Mysql;
use super::definition::Definition;
use super::lexer;
use super::objects;
use super::place;
use super::quote;
use super::rights;
use super::session::Session;
use super::tables;
use crate::data::{Limit, Progress};
use crate::support::{Error, Result, death, text};

/// How often the limit is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How many sessions copy at once, at most: beyond that they wait for the same disk.
const SESSIONS: usize = 4;

/// From how many bytes on a table's indexes are made after its rows. (The tests of this crate have small tables, and those
/// of shapes and corners are worth most here; black-box tests copy small ones as they are.)
const LARGE: u64 = if cfg!(test) { 1 } else { 4 << 20 };

/// One table to copy.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) table: String,
    bytes: u64,
    /// The columns that are not computed.
    pub(super) columns: Vec<String>,
    /// The columns of the primary key, in the order of its rows on the disk; none where that gives no order for free.
    key: Vec<String>,
}

impl Task {
    /// How to make a table like the source's in the database that the session uses. The names of the tables that it refers
    /// to are taken to be in the same one.
    fn definition(&self, session: &mut Session, from: &str, to: &str) -> Result<Definition> {
        let (_, statement): (String, String) =
            session.value(&format!("SHOW CREATE TABLE {}", quote::table(from, &self.table)), ())?;
        let statement = lexer::requalified(&statement, from, to);
        Ok(if self.bytes < LARGE { Definition::whole(statement) } else { Definition::parted(statement) })
    }

    pub(super) fn insert(&self, from: &str, to: &str) -> String {
        let columns = quote::names(&self.columns);
        let order = if self.key.is_empty() {
            String::new()
        } else {
            format!(" ORDER BY {}", quote::names(&self.key))
        };
        format!(
            "INSERT INTO {} ({columns}) SELECT {columns} FROM {}{order}",
            quote::table(to, &self.table),
            quote::table(from, &self.table)
        )
    }
}

/// Makes `to` an exact copy of `from`, whose writers are held.
pub(super) fn under_hold(
    from: &Mysql,
    to: &Mysql,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    made(from, to, |session| {
        rows(session, from, to, limit, on_progress)?;
        what_else(session, from, to, limit)
    })
}

/// Makes `to` and fills its tables, each with the rows of a moment of its own, while writers go on: what comes
/// [`behind`](super::way::behind) makes it whole.
pub(super) fn ahead(
    from: &Mysql,
    to: &Mysql,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    made(from, to, |session| rows(session, from, to, limit, on_progress))
}

/// Tables with their rows, and what they refer to.
fn rows(
    session: &mut Session,
    from: &Mysql,
    to: &Mysql,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let tasks = tasks(session, from.name())?;
    let mut watch = Watch::new(to, &tasks, on_progress)?;
    let made = crew(from, to, tasks, limit, &mut watch)?;
    death::point("copying");
    session.run("SET SESSION foreign_key_checks = 0")?;
    for (table, definition) in &made {
        limit.check()?;
        add(session, to.name(), table, &definition.references)?;
    }
    session.run("SET SESSION foreign_key_checks = 1")
}

/// All that there is besides tables, and who may do what with it.
pub(super) fn what_else(session: &mut Session, from: &Mysql, to: &Mysql, limit: &Limit<'_>) -> Result<()> {
    objects::carry(session, from.name(), to.name(), limit)?;
    rights::carry(session, from.name(), to.name())
}

/// Makes `to` a copy of one moment of `from`, while its writers go on.
pub(super) fn snapshot(
    from: &Mysql,
    to: &Mysql,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    made(from, to, |session| {
        let tasks = tasks(session, from.name())?;
        let mut watch = Watch::new(to, &tasks, on_progress)?;
        watch.empty = u64::MAX;
        settings(session, "REPEATABLE READ")?;
        let mut made = Vec::new();
        for (number, task) in tasks.iter().enumerate() {
            limit.check()?;
            let definition = task.definition(session, from.name(), to.name())?;
            session.run(&definition.create)?;
            made.push(definition);
            session.run(&format!(
                "CREATE FUNCTION `receiver_copy_{number}`() RETURNS int DETERMINISTIC MODIFIES SQL DATA \
                 BEGIN {}; RETURN 0; END",
                task.insert(from.name(), to.name())
            ))?;
            watch.look();
        }
        watch.empty = place::size(&mut watch.session, to.name())?;
        session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")?;
        for (number, (task, definition)) in tasks.iter().zip(&made).enumerate() {
            check_unique(session, definition)?;
            let call = format!("SELECT `receiver_copy_{number}`()");
            let tick = &mut || watch.look();
            to.server.within_watched(session, limit, tick, |session| session.run(&call)).map_err(|why| {
                Error::new(format!("cannot copy table '{}'", text::printable(&task.table))).caused_by(why)
            })?;
            watch.finished += task.bytes;
        }
        session.run("COMMIT")?;
        death::point("copying");
        for number in 0..tasks.len() {
            session.run(&format!("DROP FUNCTION `receiver_copy_{number}`"))?;
        }
        for (task, definition) in tasks.iter().zip(&made) {
            let tick = &mut || watch.look();
            to.server.within_watched(session, limit, tick, |session| {
                add(session, to.name(), &task.table, &definition.indexes)
            })?;
        }
        for (task, definition) in tasks.iter().zip(&made) {
            add(session, to.name(), &task.table, &definition.references)?;
        }
        session.run("SET SESSION unique_checks = 1, foreign_key_checks = 1")?;
        objects::carry(session, from.name(), to.name(), limit)
    })
}

/// Makes the new database, lets `fill` fill it, and takes it away again when that fails.
fn made(from: &Mysql, to: &Mysql, fill: impl FnOnce(&mut Session) -> Result<()>) -> Result<()> {
    let was_there = place::credentials(&to.server, to.name())?.is_some();
    let mut session = from.session()?;
    tables::copyable(&mut session, from.name())?;
    within_one_database(&mut session, from.name())?;
    place::create(&to.server, &to.spot)?;
    let whole = || {
        same_character_set(&mut session, from.name(), to.name())?;
        session.run(&format!("USE {}", quote::name(to.name())))?;
        write_rows(&mut session)?;
        objects::sequences(&mut session, from.name(), to.name())?;
        fill(&mut session)
    };
    whole().map_err(|why| {
        // One whose passwords somebody may have is only emptied, by whoever makes it anew.
        if !was_there {
            let _ = place::remove(&to.server, to.name());
        }
        Error::new(format!("cannot copy the database {}", from.name())).caused_by(why)
    })
}

/// Refuses keys that lead into another database: in a copy they would hold the other's rows.
fn within_one_database(session: &mut Session, database: &str) -> Result<()> {
    let keys = tables::references(session, database)?;
    match keys.iter().find(|key| key.to_database != database) {
        Some(key) => Err(Error::new(format!(
            "a foreign key of table '{}' of {database} leads to the database '{}'",
            text::printable(&key.table),
            text::printable(&key.to_database)
        ))
        .hint("a version's database stands alone: drop that key")),
        None => Ok(()),
    }
}

fn same_character_set(session: &mut Session, from: &str, to: &str) -> Result<()> {
    let (set, collation): (String, String) = session.value(
        "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA \
         WHERE SCHEMA_NAME = ?",
        (from,),
    )?;
    session.run(&format!("ALTER DATABASE {} CHARACTER SET {set} COLLATE {collation}", quote::name(to)))
}

/// Where the server writes a binary log, it must be of rows: a log of statements would make every read of
/// them lock, and cannot be written at READ COMMITTED at all.
pub(super) fn write_rows(session: &mut Session) -> Result<()> {
    let (log, format): (u8, String) = session.value("SELECT @@log_bin, @@binlog_format", ())?;
    if log == 1 && format != "ROW" {
        session.run("SET SESSION binlog_format = 'ROW'")?;
    }
    Ok(())
}

/// What a session that fills tables begins with.
pub(super) fn settings(session: &mut Session, isolation: &str) -> Result<()> {
    session.run(&format!("SET SESSION TRANSACTION ISOLATION LEVEL {isolation}"))?;
    session.run("SET SESSION foreign_key_checks = 0")?;
    session.take_tables_as_they_are()?;
    if session.is_mariadb() {
        // Rows that were there before a check are copied as they are.
        session.run("SET SESSION check_constraint_checks = 0")?;
    }
    Ok(())
}

/// All that is to be copied, the biggest first.
pub(super) fn tasks(session: &mut Session, database: &str) -> Result<Vec<Task>> {
    let literal = quote::text(database);
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let rows: Vec<(String, String)> = session.rows(
        &format!(
            "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {literal} \
             AND COALESCE(GENERATION_EXPRESSION, '') = '' ORDER BY BINARY TABLE_NAME, ORDINAL_POSITION"
        ),
        (),
    )?;
    for (table, column) in rows {
        columns.entry(table).or_default().push(column);
    }
    let mut keys: BTreeMap<String, Vec<(String, Option<u32>)>> = BTreeMap::new();
    let rows: Vec<(String, String, Option<u32>)> = session.rows(
        &format!(
            "SELECT TABLE_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = {literal} AND INDEX_NAME = 'PRIMARY' ORDER BY BINARY TABLE_NAME, SEQ_IN_INDEX"
        ),
        (),
    )?;
    for (table, column, part) in rows {
        keys.entry(table).or_default().push((column, part));
    }
    let partitioned: Vec<String> = session.rows(
        &format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal} \
             AND CREATE_OPTIONS LIKE '%partitioned%'"
        ),
        (),
    )?;
    let mut tasks: Vec<Task> = Vec::new();
    for table in tables::base(session, database)? {
        let key = keys.remove(&table.name).unwrap_or_default();
        // Rows lie in the order of the key only where its columns are whole, and in one tree.
        let ordered = key.iter().all(|(_, part)| part.is_none()) && !partitioned.contains(&table.name);
        let key = if ordered { key.into_iter().map(|(column, _)| column).collect() } else { Vec::new() };
        let columns = columns.remove(&table.name).unwrap_or_default();
        tasks.push(Task { table: table.name, bytes: table.bytes, columns, key });
    }
    tasks.sort_by_key(|task| std::cmp::Reverse(task.bytes));
    Ok(tasks)
}

/// Adds to a table what its definition left for later.
fn add(session: &mut Session, database: &str, table: &str, what: &[String]) -> Result<()> {
    if what.is_empty() {
        return Ok(());
    }
    session.run(&format!("ALTER TABLE {} {}", quote::table(database, table), what.join(", ")))
}

/// How MariaDB fills a table: with `unique_checks` off it sorts first, which pays where there are indexes already.
fn check_unique(session: &mut Session, definition: &Definition) -> Result<()> {
    session.run(&format!("SET SESSION unique_checks = {}", u8::from(definition.parted)))
}

/// Copies all tables, several at once. Answers what they were made by.
fn crew(
    from: &Mysql,
    to: &Mysql,
    tasks: Vec<Task>,
    limit: &Limit<'_>,
    watch: &mut Watch<'_>,
) -> Result<Vec<(String, Definition)>> {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let mut sessions = Vec::new();
    for _ in 0..cores.clamp(2, SESSIONS).min(tasks.len()) {
        let mut session = to.session()?;
        settings(&mut session, "READ COMMITTED")?;
        write_rows(&mut session)?;
        sessions.push(session);
    }
    let ids: Vec<u32> = sessions.iter().map(Session::id).collect();
    let queue = Mutex::new(VecDeque::from(tasks));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel::<Result<(Task, Definition)>>();
        for mut session in sessions {
            let (tell, queue, stop) = (tell.clone(), &queue, &stop);
            scope.spawn(move || {
                while let Some(task) = next(queue, stop) {
                    let done = one(&mut session, from.name(), to.name(), &task);
                    let done = done.map(|definition| (task, definition));
                    if done.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    if tell.send(done).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        let mut failed: Option<Error> = None;
        let mut made = Vec::new();
        loop {
            match told.recv_timeout(LOOK) {
                Ok(Ok((task, definition))) => {
                    watch.finished += task.bytes;
                    made.push((task.table, definition));
                }
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(error) = limit.check() {
                stop.store(true, Ordering::Relaxed);
                failed = failed.or(Some(error));
            }
            if stop.load(Ordering::Relaxed) {
                // What one could not do nobody needs the rest of.
                for id in &ids {
                    let _ = to.server.stop(*id);
                }
            }
            watch.look();
        }
        failed.map_or(Ok(made), Err)
    })
}

fn next(queue: &Mutex<VecDeque<Task>>, stop: &AtomicBool) -> Option<Task> {
    if stop.load(Ordering::Relaxed) {
        return None;
    }
    queue.lock().ok()?.pop_front()
}

fn one(session: &mut Session, from: &str, to: &str, task: &Task) -> Result<Definition> {
    let copy = |session: &mut Session| -> Result<Definition> {
        let definition = task.definition(session, from, to)?;
        session.run(&definition.create)?;
        check_unique(session, &definition)?;
        session.run(&task.insert(from, to))?;
        add(session, to, &task.table, &definition.indexes)?;
        Ok(definition)
    };
    copy(session).map_err(|why| {
        Error::new(format!("cannot copy table '{}'", text::printable(&task.table))).caused_by(why)
    })
}

/// Tells how far a copy has come, once a second.
struct Watch<'a> {
    session: Session,
    database: String,
    total: u64,
    finished: u64,
    /// What its tables had on the disk before there was a row in them.
    empty: u64,
    told: Instant,
    on_progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Watch<'a> {
    fn new(to: &Mysql, tasks: &[Task], on_progress: &'a mut dyn FnMut(Progress)) -> Result<Watch<'a>> {
        let total = tasks.iter().map(|task| task.bytes).sum();
        let (session, database) = (to.server.connect()?, to.name().to_owned());
        Ok(Watch { session, database, total, finished: 0, empty: 0, told: Instant::now(), on_progress })
    }

    fn look(&mut self) {
        if self.told.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.told = Instant::now();
        // The files grow while a table is filled; what is finished may be smaller than what it was made from.
        let written = place::size(&mut self.session, &self.database).unwrap_or(0);
        let done = self.finished.max(written.saturating_sub(self.empty)).min(self.total);
        (self.on_progress)(Progress { done, total: self.total });
    }
}
