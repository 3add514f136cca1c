//! The capture as a whole: begun, proved, counted, ended.
//!
//! **From when on.** A trigger is made when no transaction has its table open, one table after the other: what was written
//! before it is committed, and all that comes after it is noted. For a rollback nobody writes meanwhile: the database is not
//! live yet, or is fenced. A copy begins when the last one is there.
//!
//! **What says that it is there** is one row, written last and taken away first: a death in the middle leaves no
//! capture, or one that lacks triggers and says so.
//!
//! **What no trigger sees** is `TRUNCATE`, and what is done to the table itself. A table that was emptied has
//! another number in InnoDB than it had, as has one that was rebuilt (`OPTIMIZE`, some `ALTER`); in one that was
//! emptied every row that is there came since, and was noted. So: another number, and no row that was not noted,
//! is a gap. (Where receiver lacks the right PROCESS, and for one partition alone, this is not seen.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::note::{self, Watched};
use super::tables::Tables;
use crate::data::mysql::database::Mysql;
use crate::data::mysql::session::Session;
use crate::data::mysql::{fence, lookout, place, quote, tables as names};
use crate::data::way::{Capture, Changes, For, Table};
use crate::data::{Limit, derived_name};
use crate::support::{Error, Result, clock, text};

/// The table with the one row, and that of the logs.
fn state_and_list(what: For) -> (String, String) {
    (format!("{}capture", what.prefix()), format!("{}captured", what.prefix()))
}

/// How long a table that is in use is asked for, to be watched: each time makes others wait for a moment.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many tables one statement asks about, or tells of.
const AT_ONCE: usize = 100;

/// What a log is, as receiver wrote it down: its name, or why there is none; and the table's number.
type Entry = (String, Option<String>, Option<String>, Option<u64>);

/// Triggers by name: table, timing and event, and body of each.
type Triggers = BTreeMap<String, (String, String, String)>;

/// What is known of a whole capture.
pub(super) struct Proof {
    pub(super) capture: Capture,
    /// The log of each table that has one.
    pub(super) logs: BTreeMap<String, String>,
    /// Tables of which not every change was noted, or that are gone.
    pub(super) unsure: BTreeSet<String>,
}

/// Begins to note changes.
pub(in crate::data::mysql) fn capture(
    database: &Mysql,
    what: For,
    peer: &str,
    limit: &Limit<'_>,
) -> Result<Capture> {
    let name = database.name();
    let cannot = |why: Error| Error::new(format!("cannot capture the changes of {name}")).caused_by(why);
    derived_name(name, "log").map_err(cannot)?;
    let begin = || -> Result<Capture> {
        let mut session = database.session()?;
        if !fence::may_make_triggers(&mut session)? {
            return Err(Error::new("the server writes a binary log, and does not trust who makes triggers")
                .hint("SET GLOBAL log_bin_trust_function_creators = 1, and put it into the server's configuration"));
        }
        clear(database, what, &mut session, limit)?;
        install(database, what, &mut session, peer, limit)?;
        let proof = proof(&mut session, name, what)?;
        Ok(proof.ok_or_else(|| Error::new("it was ended while it began"))?.capture)
    };
    begin().map_err(cannot)
}

/// Whether changes are noted at all.
pub(super) fn is_begun(session: &mut Session, database: &str, what: For) -> Result<bool> {
    has(session, database, &state_and_list(what).1)
}

/// Whether every change of a table that has a key could be noted. A circle of cascades is not followed: rows of any table in
/// it would change unseen.
pub(super) fn notes_all(session: &mut Session, database: &str, what: For) -> Result<bool> {
    let tables = Tables::read(session, database)?;
    for table in to_watch(&tables) {
        if Watched::of(&tables, database, table, what)?.fault.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether changes are noted, and what is missing.
pub(in crate::data::mysql) fn captured(database: &Mysql) -> Result<Option<Capture>> {
    let name = database.name();
    let proof = database.session().and_then(|mut session| proof(&mut session, name, For::Rollback));
    let proof =
        proof.map_err(|why| Error::new(format!("cannot prove the capture of {name}")).caused_by(why))?;
    Ok(proof.map(|proof| proof.capture))
}

/// Ends it, and forgets what was noted.
pub(in crate::data::mysql) fn end_capture(database: &Mysql, what: For) -> Result<()> {
    let name = database.name();
    let end = || -> Result<()> {
        let mut session = database.session()?;
        clear(database, what, &mut session, &Limit::within(Duration::from_secs(30)))?;
        place::drop_own_if_empty(&mut session, name)
    };
    end().map_err(|why| Error::new(format!("cannot end the capture of {name}")).caused_by(why))
}

/// How many rows changed.
pub(in crate::data::mysql) fn changes(
    database: &Mysql,
    limit: &Limit<'_>,
) -> Result<BTreeMap<String, Changes>> {
    let name = database.name();
    let mut session = database.session()?;
    let count = |session: &mut Session| -> Result<_> {
        let Some(proof) = proof(session, name, For::Rollback)? else { return Ok(BTreeMap::new()) };
        let read = Tables::read(session, name)?;
        session.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
        session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")?;
        let mut found = BTreeMap::new();
        for (table, log) in proof.logs {
            let key = read.key(&table);
            let log = quote::table(&place::own(name)?, &log);
            let same = key.iter().map(|key| quote::name(&key.name));
            let same = same.map(|key| format!("t.{key} = l.{key}")).collect::<Vec<_>>().join(" AND ");
            if key.is_empty() {
                continue;
            }
            let table_name = quote::table(name, &table);
            let all: u64 = session.value(&format!("SELECT COUNT(*) FROM {log}"), ())?;
            let query = format!("SELECT COUNT(*) FROM {log} l JOIN {table_name} t ON {same}");
            let written: u64 = session.value(&query, ())?;
            if all > 0 {
                found.insert(table, Changes { written, deleted: all.saturating_sub(written) });
            }
        }
        Ok(found)
    };
    database
        .server
        .within(&mut session, limit, count)
        .map_err(|why| Error::new(format!("cannot count the changes of {name}")).caused_by(why))
}

/// The tables in whose logs there is anything.
pub(super) fn noted(session: &mut Session, logs: &BTreeMap<String, String>) -> Result<BTreeSet<String>> {
    let all: Vec<(&String, &String)> = logs.iter().collect();
    let mut found = BTreeSet::new();
    for some in all.chunks(AT_ONCE) {
        let ask = some.iter().enumerate();
        let ask: Vec<_> =
            ask.map(|(at, (_, log))| format!("SELECT {at}, EXISTS (SELECT 1 FROM {log})")).collect();
        for (at, any) in session.rows::<(usize, bool)>(&ask.join(" UNION ALL "), ())? {
            found.extend(some.get(at).filter(|_| any).map(|(table, _)| (*table).clone()));
        }
    }
    Ok(found)
}

fn own_table(database: &str, table: &str) -> Result<String> {
    Ok(quote::table(&place::own(database)?, table))
}

fn has(session: &mut Session, database: &str, table: &str) -> Result<bool> {
    let query = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
    Ok(session.value::<u64>(query, (place::own(database)?, table))? > 0)
}

/// Takes everything away: first what says that it is there, last what the triggers write to.
fn clear(database: &Mysql, what: For, session: &mut Session, limit: &Limit<'_>) -> Result<()> {
    let name = database.name();
    let own = place::own(name)?;
    let (state, list) = state_and_list(what);
    if has(session, name, &state)? {
        session.run(&format!("DROP TABLE {}", own_table(name, &state)?))?;
    }
    let ours = triggers(session, name, what)?;
    if !ours.is_empty() {
        lookout::has_room(session)?;
    }
    for trigger in ours.into_keys() {
        let drop_it = format!("DROP TRIGGER IF EXISTS {}", quote::table(name, &trigger));
        if let Err(why) = fence::patiently(database, session, &drop_it, limit) {
            return Err(why.unwrap_or_else(|| Error::new("the server lets nobody drop a trigger")));
        }
    }
    // What is left of them would write into nothing, and fail the app's own writes.
    if let Some(left) = triggers(session, name, what)?.into_keys().next() {
        return Err(Error::new(format!("the server does not drop the trigger {left} of {name}")));
    }
    session.run(fence::PATIENCE)?;
    if !place::is_there(session, &own)? {
        return Ok(());
    }
    for table in names::names(session, &own)? {
        if table.starts_with(&note::logs(what)) {
            session.run(&format!("DROP TABLE {}", quote::table(&own, &table)))?;
        }
    }
    // What says that something is left goes last.
    session.run(&format!("DROP TABLE IF EXISTS {}", quote::table(&own, &list)))
}

/// Receiver's own triggers that note.
fn triggers(session: &mut Session, database: &str, what: For) -> Result<Triggers> {
    let query = format!(
        "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, CONCAT(ACTION_TIMING, ' ', EVENT_MANIPULATION), ACTION_STATEMENT \
         FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {}",
        quote::text(database)
    );
    let rows: Vec<(String, String, String, String)> = session.rows(&query, ())?;
    let ours = rows.into_iter().filter(|(name, ..)| note::is_for(what, name));
    Ok(ours.map(|(name, table, when, body)| (name, (table, when, body))).collect())
}

/// Makes logs, then all triggers, then the row that says so.
fn install(database: &Mysql, what: For, session: &mut Session, peer: &str, limit: &Limit<'_>) -> Result<()> {
    let name = database.name();
    let own = quote::name(&place::own(name)?);
    session.run(&format!("CREATE DATABASE IF NOT EXISTS {own} CHARACTER SET utf8mb4"))?;
    let since = clock::now().to_string();
    loop {
        let tables = Tables::read(session, name)?;
        let watched = logs(session, name, what, &tables)?;
        make_triggers(database, session, &watched, limit)?;
        // A table of another shape would get triggers that were not meant for it.
        if Tables::read(session, name)?.all == tables.all {
            break;
        }
        limit.check()?;
        clear(database, what, session, limit)?;
    }
    session.run(fence::PATIENCE)?;
    let (state, list) = state_and_list(what);
    let numbers = numbers(session, name);
    enter_numbers(session, &own_table(name, &list)?, numbers)?;
    let state = own_table(name, &state)?;
    session.run(&format!(
        "CREATE TABLE {state} (peer varchar(64) NOT NULL, since varchar(64) NOT NULL) ENGINE=InnoDB"
    ))?;
    session.rows::<mysql::Row>(&format!("INSERT INTO {state} VALUES (?, ?)"), (peer, since))?;
    Ok(())
}

/// Writes down which number each table has, of those that have a log.
fn enter_numbers(session: &mut Session, list: &str, numbers: BTreeMap<String, u64>) -> Result<()> {
    let numbers: Vec<_> = numbers.into_iter().collect();
    for some in numbers.chunks(AT_ONCE) {
        let (mut cases, mut names) = (String::new(), Vec::new());
        for (table, number) in some {
            let table = quote::text(table);
            cases = format!("{cases} WHEN {table} THEN {number}");
            names.push(table);
        }
        let names = names.join(", ");
        session.run(&format!("UPDATE {list} SET number = CASE name{cases} END WHERE name IN ({names})"))?;
    }
    Ok(())
}

/// Makes the logs, and the table that lists them. Answers what is to be watched.
fn logs(session: &mut Session, name: &str, what: For, tables: &Tables) -> Result<Vec<Watched>> {
    let list = own_table(name, &state_and_list(what).1)?;
    session.run(&format!(
        "CREATE TABLE {list} (name varchar(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY, \
         log varchar(64), why text, number bigint unsigned) ENGINE=InnoDB"
    ))?;
    let mut watched = Vec::new();
    for table in to_watch(tables) {
        let one = Watched::of(tables, name, table, what)?;
        session.run(&one.create(name)?)?;
        watched.push(one);
    }
    for some in watched.chunks(AT_ONCE) {
        let entries = some.iter().map(|one| {
            let why = one.fault.as_deref().map_or_else(|| "NULL".to_owned(), quote::text);
            format!("({}, {}, {why})", quote::text(&one.table), quote::text(&one.log))
        });
        let entries = entries.collect::<Vec<_>>().join(", ");
        session.run(&format!("INSERT INTO {list} (name, log, why) VALUES {entries}"))?;
    }
    Ok(watched)
}

/// The tables whose rows can go anywhere.
fn to_watch(tables: &Tables) -> impl Iterator<Item = &Table> {
    tables.all.iter().filter(|table| !table.key.is_empty() && table.apart.is_none())
}

/// A dump has the statements as they are made: without the name of a database they fit into any.
fn make_triggers(
    database: &Mysql,
    session: &mut Session,
    watched: &[Watched],
    limit: &Limit<'_>,
) -> Result<()> {
    session.run(&format!("USE {}", quote::name(database.name())))?;
    for one in watched {
        for trigger in &one.triggers {
            let make_it = format!(
                "CREATE TRIGGER {} {} ON {} FOR EACH ROW {}",
                quote::name(&trigger.name),
                trigger.when,
                quote::name(&one.table),
                trigger.body
            );
            limit.check()?;
            let patience = Limit::within(limit.left().min(PATIENCE));
            fence::patiently(database, session, &make_it, &patience)
                .map_err(|why| why.unwrap_or_else(|| Error::new("the server lets nobody make a trigger")))?;
        }
    }
    Ok(())
}

/// The numbers that InnoDB knows tables by; none where receiver may not see them.
fn numbers(session: &mut Session, database: &str) -> BTreeMap<String, u64> {
    let list = if session.is_mariadb() { "INNODB_SYS_TABLES" } else { "INNODB_TABLES" };
    let query = format!("SELECT NAME, TABLE_ID FROM information_schema.{list} WHERE NAME LIKE ?");
    let like = format!("{}/%", crate::data::mysql::roles::pattern(database));
    let found: Vec<(String, u64)> = session.rows(&query, (like,)).unwrap_or_default();
    let found: BTreeMap<String, u64> = found
        .into_iter()
        .filter_map(|(name, number)| Some((name.split_once('/')?.1.to_owned(), number)))
        .collect();
    if !session.is_mariadb() {
        return numbers_by_name(session, database, &found);
    }
    // There a name is written as its file's is.
    let query = "SELECT TABLE_NAME, CONVERT(BINARY CONVERT(TABLE_NAME USING filename) USING utf8mb4) \
                 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?";
    let names: Vec<(String, String)> = session.rows(query, (database,)).unwrap_or_default();
    names.into_iter().filter_map(|(table, file)| Some((table, *found.get(&file)?))).collect()
}

/// The same on MySQL, which tells nobody how the file of a table is named: in ASCII it is known; any other table, and one in
/// partitions, is known by the second in which it was made, as TRUNCATE makes it anew.
fn numbers_by_name(
    session: &mut Session,
    database: &str,
    found: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let query = "SELECT TABLE_NAME, CAST(UNIX_TIMESTAMP(CREATE_TIME) AS UNSIGNED) \
                 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?";
    let names: Vec<(String, Option<u64>)> = session.rows(query, (database,)).unwrap_or_default();
    let number = |(table, made): (String, Option<u64>)| {
        let number = found.get(&file_name(&table)).copied().or(made)?;
        Some((table, number))
    };
    names.into_iter().filter_map(number).collect()
}

/// The name of a table's file, where all of the name is ASCII.
fn file_name(table: &str) -> String {
    let mut name = String::new();
    for c in table.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            name.push(c);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, "@{:04x}", u32::from(c));
        }
    }
    name
}

/// What the capture says of itself, and the proof of it: every table that has a primary key has its log and its
/// triggers, word by word as they would be made today.
pub(super) fn proof(session: &mut Session, database: &str, what: For) -> Result<Option<Proof>> {
    let (state, list) = state_and_list(what);
    if !has(session, database, &state)? {
        return Ok(None);
    }
    let query = format!("SELECT peer, since FROM {}", own_table(database, &state)?);
    let Some((peer, since)) = session.first(&query, ())? else { return Ok(None) };
    let list = format!("SELECT name, log, why, number FROM {}", own_table(database, &list)?);
    let entries: Vec<Entry> = session.rows(&list, ())?;
    let mut entries: BTreeMap<String, Entry> =
        entries.into_iter().map(|entry| (entry.0.clone(), entry)).collect();
    let tables = Tables::read(session, database)?;
    let own = Tables::read(session, &place::own(database)?)?;
    let found = triggers(session, database, what)?;
    let numbers = numbers(session, database);
    let (mut gaps, mut logs) = (BTreeMap::new(), BTreeMap::new());
    for table in to_watch(&tables) {
        let name = text::printable(&table.name);
        let gap = match entries.remove(&table.name) {
            None => Some(format!("table '{name}' came after it began")),
            Some((_, _, Some(why), _)) => Some(format!("table '{name}' could not be watched: {why}")),
            Some((_, log, None, number)) => {
                let log = log.unwrap_or_default();
                let watched = Watched::of(&tables, database, table, what)?;
                let mut whole = watched.log == log && own.key(&log) == watched.key && watched.fault.is_none();
                for trigger in &watched.triggers {
                    whole = whole && is_there(session, database, &watched.table, trigger, &found)?;
                }
                logs.insert(table.name.clone(), log);
                if !whole {
                    Some(format!("table '{name}' was made anew or changed, and lost what watched it"))
                } else if number.is_some()
                    && number != numbers.get(&table.name).copied()
                    && all_noted(session, database, &watched)?
                {
                    Some(format!("table '{name}' was emptied by TRUNCATE, which no trigger sees"))
                } else {
                    None
                }
            }
        };
        gaps.extend(gap.map(|gap| (table.name.clone(), gap)));
    }
    for table in entries.into_keys() {
        let gap = format!("table '{}' is gone, or has another name now", text::printable(&table));
        gaps.insert(table, gap);
    }
    let unsure = gaps.keys().cloned().collect();
    let mut gaps: Vec<_> = gaps.into_values().collect();
    gaps.sort();
    Ok(Some(Proof { capture: Capture { peer, since, gaps }, logs, unsure }))
}

/// Whether a trigger is there as it would be made today.
fn is_there(
    session: &mut Session,
    database: &str,
    table: &str,
    trigger: &note::Trigger,
    found: &Triggers,
) -> Result<bool> {
    let Some((of, when, body)) = found.get(&trigger.name) else { return Ok(false) };
    if of != table || *when != trigger.when {
        return Ok(false);
    }
    if *body == trigger.body || session.is_mariadb() {
        return Ok(*body == trigger.body);
    }
    // MySQL (9.7) garbles names with a backtick in information_schema, and there alone.
    let show = format!("SHOW CREATE TRIGGER {}", quote::table(database, &trigger.name));
    let row: Option<mysql::Row> = session.first(&show, ())?;
    let statement: Option<String> = row.and_then(|row| row.get(2));
    Ok(statement.is_some_and(|statement| statement.ends_with(&format!(" FOR EACH ROW {}", trigger.body))))
}

/// Whether every row of a table was noted.
fn all_noted(session: &mut Session, database: &str, watched: &Watched) -> Result<bool> {
    let same = watched.key.iter().map(|key| quote::name(&key.name));
    let same = same.map(|key| format!("l.{key} = t.{key}")).collect::<Vec<_>>().join(" AND ");
    let query = format!(
        "SELECT 1 FROM {} t WHERE NOT EXISTS (SELECT 1 FROM {} l WHERE {same}) LIMIT 1",
        quote::table(database, &watched.table),
        own_table(database, &watched.log)?
    );
    Ok(session.first::<u8>(&query, ())?.is_none())
}
