//! The capture as a whole: begun, proved, counted, ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::super::{Hold, triggers};
use super::log::Log;
use super::note::{self, MARK, Watched};
use super::open;
use crate::data::Limit;
use crate::data::way::{Capture, Changes};
use crate::support::{Context, Error, Result, clock};

/// What tells the table of logs from the logs.
const INDEX: &str = "/* which */";

/// What a database says of its own capture.
struct State {
    peer: String,
    since: String,
    /// For each table, in order of names: the name of the log and the number in it, or why there is none. `None` where a
    /// receiver of before began it, with a log for each table.
    logs: Option<Logs>,
}

type Logs = BTreeMap<String, Result<(String, u32), String>>;

/// What was noted, and what is known of it.
pub(super) struct Proof {
    pub(super) capture: Capture,
    /// The log of each table that has one, by the table's name in lower case.
    pub(super) logs: BTreeMap<String, Log>,
}

/// Begins to note changes, from one moment on.
pub fn capture(path: &Path, peer: &str, limit: &Limit<'_>) -> Result<Capture> {
    let cannot = || format!("cannot capture the changes of {}", path.display());
    // The hold finds the gap between writers that never pause.
    let begin = |connection: &Connection| {
        drop_all(connection)?;
        install(connection, peer)
    };
    Hold::take(path, limit)?.write(begin).context(cannot)?;
    captured(path)?.ok_or_else(|| Error::new(cannot()))
}

/// Whether changes are noted, and what is missing.
pub fn captured(path: &Path) -> Result<Option<Capture>> {
    let connection = open::reader(path)?;
    let proof = proof(&connection).context(|| format!("cannot prove the capture of {}", path.display()))?;
    Ok(proof.map(|proof| proof.capture))
}

/// Ends it, and forgets what was noted.
pub fn end_capture(path: &Path) -> Result<()> {
    let mut connection = open::writer(path)?;
    let mut end = || -> rusqlite::Result<()> {
        if names(&connection)?.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        drop_all(&transaction)?;
        transaction.commit()
    };
    end().context(|| format!("cannot end the capture of {}", path.display()))
}

/// How many rows changed.
pub fn changes(path: &Path, limit: &Limit<'_>) -> Result<BTreeMap<String, Changes>> {
    let cannot = || format!("cannot count the changes of {}", path.display());
    let connection = open::reader(path)?;
    let count = || -> rusqlite::Result<_> {
        // One moment for all of them.
        connection.execute_batch("BEGIN")?;
        let mut found = BTreeMap::new();
        for (table, log) in proof(&connection)?.map(|proof| proof.logs).unwrap_or_default() {
            if log.says_something(&connection)? {
                let written = log.living(&connection, &table)?;
                found.insert(table, Changes { written, deleted: log.count(&connection)? - written });
            }
        }
        Ok(found)
    };
    open::within(&connection, limit, || count().context(cannot))
}

/// The tables in whose logs there is anything, by their names in lower case.
pub(super) fn noted(
    connection: &Connection,
    logs: &BTreeMap<String, Log>,
) -> rusqlite::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (table, log) in logs {
        if log.says_something(connection)? {
            found.insert(table.clone());
        }
    }
    Ok(found)
}

/// Makes logs and triggers, in the transaction that `connection` is in.
fn install(connection: &Connection, peer: &str) -> rusqlite::Result<()> {
    let mut names = Names::read(connection)?;
    let index = named(names.next());
    connection.execute_batch(&format!(
        "CREATE TABLE \"{index}\" ({MARK} {INDEX} name TEXT, log TEXT, number INTEGER, why TEXT)"
    ))?;
    let mut enter = connection.prepare(&format!("INSERT INTO \"{index}\" VALUES (?1, ?2, ?3, ?4)"))?;
    enter.execute((peer, None::<String>, None::<u32>, clock::now().to_string()))?;
    // By the text of their columns: the name of the log, or why it could not be made.
    let mut kinds: BTreeMap<String, Result<String, String>> = BTreeMap::new();
    let mut all = Vec::new();
    for listed in open::tables_of(connection, "main")?.iter().filter(|listed| !listed.shadow) {
        let Some(watched) = Watched::read(connection, listed)? else { continue };
        let number = names.next();
        let made = kinds.entry(Log::columns(&watched)).or_insert_with_key(|columns| {
            let name = named(names.next());
            // A collation of the app's own, most likely. Tables with other keys are noted all the same.
            let made = connection.execute_batch(&create(&name, columns));
            made.map(|()| name).map_err(|error| error.to_string())
        });
        match made {
            Ok(name) => {
                enter.execute((&listed.name, &*name, number, None::<String>))?;
                all.extend(watched.triggers(&Log::new(name.clone(), number, &watched)));
            }
            Err(why) => drop(enter.execute((&listed.name, None::<String>, None::<u32>, &*why))?),
        }
    }
    triggers::make(connection, &all)
}

fn named(number: u32) -> String {
    format!("receiver_log_{number}")
}

fn create(log: &str, columns: &str) -> String {
    format!("CREATE TABLE \"{log}\" {columns}")
}

/// Numbers whose names nobody has.
struct Names {
    taken: BTreeSet<String>,
    number: u32,
}

impl Names {
    fn read(connection: &Connection) -> rusqlite::Result<Names> {
        let mut query = connection
            .prepare("SELECT lower(name) FROM sqlite_schema WHERE lower(name) GLOB 'receiver_log_*'")?;
        let taken = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(Names { taken, number: 0 })
    }

    fn next(&mut self) -> u32 {
        loop {
            let number = self.number;
            self.number += 1;
            let name = named(number);
            if !self.taken.iter().any(|taken| taken.starts_with(&name)) {
                return number;
            }
        }
    }
}

/// Removes logs and triggers, in the transaction that `connection` is in.
pub(in crate::data::sqlite) fn drop_all(connection: &Connection) -> rusqlite::Result<()> {
    triggers::drop_those(connection, note::OURS)?;
    for (kind, name) in names(connection)? {
        connection.execute_batch(&format!("DROP {kind} main.{}", open::quoted(&name)))?;
    }
    Ok(())
}

/// What there is of receiver's, triggers first.
pub(in crate::data::sqlite) fn names(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut query = connection
        .prepare(&format!("SELECT type, name FROM sqlite_schema WHERE {} ORDER BY type DESC", note::OURS))?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// What the capture of `main` says of itself, and the proof of it: every table that has a primary key has
/// its log and its triggers, word by word as they would be made today.
pub(super) fn proof(connection: &Connection) -> rusqlite::Result<Option<Proof>> {
    let Some(State { peer, since, logs: noted }) = state(connection)? else { return Ok(None) };
    let Some(noted) = noted else {
        let gaps = vec!["a receiver of before began it".to_owned()];
        return Ok(Some(Proof { capture: Capture { peer, since, gaps }, logs: BTreeMap::new() }));
    };
    let mut found = BTreeMap::new();
    let mut query =
        connection.prepare(&format!("SELECT name, sql FROM sqlite_schema WHERE {}", note::OURS))?;
    for row in query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))? {
        let (name, sql) = row?;
        found.insert(name, sql);
    }
    let is_there = |name: &str, sql: &String| found.get(name) == Some(sql);
    let (mut gaps, mut seen, mut logs) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
    for listed in open::tables_of(connection, "main")? {
        let watched = if listed.shadow { None } else { Watched::read(connection, &listed)? };
        let Some(watched) = watched else { continue };
        let table = listed.name;
        let name = table.escape_debug();
        match noted.get(&table) {
            None => gaps.push(format!("table '{name}' came after it began")),
            Some(Err(why)) => gaps.push(format!("table '{name}' could not be watched: {why}")),
            Some(Ok((log, number))) => {
                let log = Log::new(log.clone(), *number, &watched);
                let has_log = is_there(&log.name, &create(&log.name, &Log::columns(&watched)));
                if !has_log || !watched.triggers(&log).iter().all(|one| is_there(&one.name, &one.sql)) {
                    gaps.push(format!("table '{name}' was made anew or changed, and lost what watched it"));
                }
                if has_log {
                    logs.insert(table.to_ascii_lowercase(), log);
                }
            }
        }
        seen.insert(table);
    }
    for table in noted.keys().filter(|table| !seen.contains(*table)) {
        gaps.push(format!("table '{}' is gone, or has another name now", table.escape_debug()));
    }
    Ok(Some(Proof { capture: Capture { peer, since, gaps }, logs }))
}

fn state(connection: &Connection) -> rusqlite::Result<Option<State>> {
    let find = format!(
        "SELECT name FROM sqlite_schema WHERE {} AND type = 'table' AND instr(sql, '{MARK} {INDEX}')",
        note::OURS
    );
    let index: Option<String> = connection.query_row(&find, [], |row| row.get(0)).optional()?;
    let Some(index) = index else { return Ok(None) };
    let first = format!("SELECT name, why FROM \"{index}\" ORDER BY rowid LIMIT 1");
    let first = connection.query_row(&first, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((peer, since)) = first else { return Ok(None) };
    let numbers = connection
        .prepare_cached("SELECT 1 FROM pragma_table_info(?1, 'main') WHERE name = 'number'")?
        .exists([&index])?;
    let logs = if numbers { Some(logs(connection, &index)?) } else { None };
    Ok(Some(State { peer, since, logs }))
}

fn logs(connection: &Connection, index: &str) -> rusqlite::Result<Logs> {
    let list = format!("SELECT name, log, number, why FROM \"{index}\" ORDER BY rowid LIMIT -1 OFFSET 1");
    let mut query = connection.prepare(&list)?;
    let mut rows = query.query([])?;
    let mut logs = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let log = match row.get::<_, Option<String>>(1)? {
            Some(log) => Ok((log, row.get(2)?)),
            None => Err(row.get(3)?),
        };
        logs.insert(row.get(0)?, log);
    }
    Ok(logs)
}
