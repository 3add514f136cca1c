//! The capture as a whole: begun, proved, counted, ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::catalog::OURS;
use super::super::names::{ident, literal};
use super::super::server::Server;
use super::super::session::{Session, text};
use super::super::{fence, hold};
use super::note::{BEFORE_TRUNCATE, EACH_ROW, Note};
use super::tables::{self, Known};
use crate::data::Limit;
use crate::data::way::{Capture, Changes, For};
use crate::support::{Context, Error, Result, clock};

/// How long writers may be in the way of the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// For how many tables one message has all statements.
const AT_ONCE: usize = 50;

/// What is noted where: tables by number, with those of their partitions, as text.
fn index(what: For) -> String {
    let ours = format!("receiver.{}", what.prefix());
    format!(
        "CREATE TABLE {ours}capture (peer text NOT NULL, since text NOT NULL);
         CREATE TABLE {ours}noted (oid oid PRIMARY KEY, name text NOT NULL, key text[] NOT NULL, partitions oid[] NOT NULL);
         CREATE TABLE {ours}emptied (oid oid PRIMARY KEY)"
    )
}

/// What a database says of its own capture.
pub(super) struct State {
    pub(super) capture: Capture,
    /// The tables that are noted, by name: the log, and whether all rows were removed at once.
    pub(super) logs: BTreeMap<String, Log>,
    /// Those of which not every change was noted.
    pub(super) unsure: BTreeSet<String>,
}

/// The log of one table.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) sql: String,
    pub(super) emptied: bool,
}

/// Begins to note changes, from one moment on.
pub(in super::super) fn capture(
    server: &Server,
    name: &str,
    what: For,
    peer: &str,
    limit: &Limit<'_>,
) -> Result<Capture> {
    let cannot = || format!("cannot capture the changes of '{}'", name.escape_debug());
    // The hold finds the gap between writers that never pause.
    let mut session = hold::take(server, name, limit)?.into_session();
    session.within(limit, |session| install(session, what, peer)).context(cannot)?;
    session.run("COMMIT").context(cannot)?;
    captured(server, name, what)?.ok_or_else(|| Error::new(cannot()))
}

/// Whether changes are noted, and what is missing.
pub(in super::super) fn captured(server: &Server, name: &str, what: For) -> Result<Option<Capture>> {
    let cannot = || format!("cannot prove the capture of '{}'", name.escape_debug());
    let mut session = server.session(name).context(cannot)?;
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").context(cannot)?;
    let known = tables::tables(&mut session).context(cannot)?;
    Ok(proof(&mut session, &known, what).context(cannot)?.map(|state| state.capture))
}

/// Ends it, and forgets what was noted.
///
/// The triggers are switched off, for which no reader is in the way; then they are dropped, but for those of
/// tables that somebody reads: they do nothing, and the next capture takes them up again.
pub(in super::super) fn end_capture(server: &Server, name: &str, what: For) -> Result<()> {
    let cannot = || format!("cannot end the capture of '{}'", name.escape_debug());
    let mut session = server.session(name).context(cannot)?;
    let triggers = triggers(&mut session, what).context(cannot)?;
    if triggers.is_empty() && !is_on(&mut session, what).context(cannot)? {
        return Ok(());
    }
    if is_on(&mut session, what).context(cannot)? || triggers.iter().any(|trigger| trigger.enabled != "D") {
        let mut session = hold::take(server, name, &Limit::within(PATIENCE)).context(cannot)?.into_session();
        let off = forget(&mut session, what).and_then(|()| session.run("COMMIT"));
        off.context(cannot)?;
    }
    session.run("SET lock_timeout = '100ms'").context(cannot)?;
    for trigger in triggers.iter().filter(|trigger| !trigger.cloned) {
        let drop = format!("DROP TRIGGER IF EXISTS {} ON {}", ident(&trigger.name), trigger.table);
        if let Err(error) = session.run(&drop) {
            log::debug!("a trigger of the capture of {name} stays, switched off: {error}");
        }
    }
    let functions = session.texts(
        "SELECT f.oid::regprocedure::text FROM pg_proc f WHERE f.pronamespace = to_regnamespace('receiver')
           AND f.proname ~ $1 AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = f.oid)",
        &[&functions_of(what)],
    );
    for function in functions.context(cannot)? {
        session.run(&format!("DROP FUNCTION {function}")).context(cannot)?;
    }
    Ok(())
}

/// How many rows changed. Of a table that was emptied at once only those count that were noted besides.
pub(in super::super) fn changes(
    server: &Server,
    name: &str,
    limit: &Limit<'_>,
) -> Result<BTreeMap<String, Changes>> {
    let cannot = || format!("cannot count the changes of '{}'", name.escape_debug());
    let mut session = server.session(name).context(cannot)?;
    session.within(limit, count).context(cannot)
}

fn count(session: &mut Session) -> Result<BTreeMap<String, Changes>> {
    // One moment for all of them.
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let known = tables::tables(session)?;
    let by_name: BTreeMap<&str, &Known> =
        known.iter().map(|known| (known.table.name.as_str(), known)).collect();
    let mut found = BTreeMap::new();
    for (name, log) in proof(session, &known, For::Rollback)?.map(|state| state.logs).unwrap_or_default() {
        let Some(table) = by_name.get(name.as_str()) else { continue };
        let same = table
            .table
            .key
            .iter()
            .enumerate()
            .map(|(at, key)| format!("t.{} {} l.k{at}", ident(key), table.equal(key)));
        let ask = format!(
            "SELECT count(*), count(*) FILTER (WHERE EXISTS (SELECT FROM {} AS t WHERE {})) FROM {} AS l",
            table.rows(),
            same.collect::<Vec<_>>().join(" AND "),
            log.sql
        );
        let row = session.client.query_one(&ask, &[]).map_err(|error| session.told(&error))?;
        let [all, written] = [0, 1].map(|at| row.get::<_, i64>(at).unsigned_abs());
        if all > 0 || log.emptied {
            found.insert(name, Changes { written, deleted: all - written });
        }
    }
    Ok(found)
}

fn is_on(session: &mut Session, what: For) -> Result<bool> {
    let capture = format!("receiver.{}capture", what.prefix());
    session.any("SELECT WHERE to_regclass($1) IS NOT NULL", &[&capture])
}

/// How the functions that note are called.
fn functions_of(what: For) -> String {
    format!("^{}(note|emptied)_[0-9]+$", what.prefix())
}

/// A trigger that calls one of ours.
struct Trigger {
    relation: u32,
    table: String,
    name: String,
    function: String,
    kind: i16,
    enabled: String,
    /// Whether it is one of a partition, and stands and falls with the one of its root.
    cloned: bool,
    /// Whether it is called for every change, and the function is of the administrator's making.
    plain: bool,
    body: String,
}

fn triggers(session: &mut Session, what: For) -> Result<Vec<Trigger>> {
    let rows = session.query(
        "SELECT t.tgrelid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), t.tgname::text, f.proname::text, t.tgtype,
                t.tgenabled::text, t.tgparentid <> 0,
                t.tgqual IS NULL AND t.tgattr = '' AND f.prosecdef AND f.proowner = o.nspowner AND NOT t.tgdeferrable
                AND f.proconfig = ARRAY['search_path=pg_catalog, pg_temp'], f.prosrc
         FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_namespace o ON o.oid = f.pronamespace AND o.nspname = 'receiver'
         JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE f.proname ~ $1 ORDER BY t.oid",
        &[&functions_of(what)],
    )?;
    let trigger = |row: &postgres::Row| -> Result<Trigger> {
        Ok(Trigger {
            relation: row.get(0),
            table: text(row, 1)?,
            name: text(row, 2)?,
            function: text(row, 3)?,
            kind: row.get(4),
            enabled: text(row, 5)?,
            cloned: row.get(6),
            plain: row.get(7),
            body: text(row, 8)?,
        })
    };
    rows.iter().map(trigger).collect()
}

/// Switches all triggers off and drops all logs, in the transaction of a hold.
fn forget(session: &mut Session, what: For) -> Result<()> {
    let triggers = triggers(session, what)?;
    for some in triggers.chunks(200) {
        let off = some.iter().map(|trigger| {
            format!("ALTER TABLE ONLY {} DISABLE TRIGGER {};", trigger.table, ident(&trigger.name))
        });
        session.run(&off.collect::<String>())?;
    }
    let logs = session.texts(
        "SELECT quote_ident(c.relname) FROM pg_class c WHERE c.relnamespace = to_regnamespace('receiver') AND c.relkind = 'r'
           AND c.relname ~ $1",
        &[&format!("^{}(log_[0-9]+|capture|noted|emptied)$", what.prefix())],
    )?;
    for some in logs.chunks(200) {
        let drop = some.iter().map(|log| format!("DROP TABLE {OURS}.{log};"));
        session.run(&drop.collect::<String>())?;
    }
    Ok(())
}

/// Makes logs, functions and triggers, in the transaction of a hold.
fn install(session: &mut Session, what: For, peer: &str) -> Result<()> {
    session.run(fence::SCHEMA)?;
    forget(session, what)?;
    session.run(&index(what))?;
    let since = clock::now().to_string();
    let ours = format!("receiver.{}", what.prefix());
    session.query(&format!("INSERT INTO {ours}capture VALUES ($1, $2)"), &[&peer, &since])?;
    // Those that could not be dropped, as somebody read, are there.
    let there: BTreeMap<(u32, String), String> = triggers(session, what)?
        .into_iter()
        .map(|trigger| ((trigger.relation, trigger.name), trigger.function))
        .collect();
    let state = |oid: u32, name: &str, function: &str| {
        there.get(&(oid, name.to_owned())).map(|found| found == function)
    };
    let mut known = tables::tables(session)?;
    known.retain(|known| !known.table.key.is_empty() && known.table.apart.is_none());
    let mut batch = Vec::new();
    for known in known {
        let note = Note(&known, what);
        let (rows, emptied) = (note.rows(), note.emptied());
        let mut made = note.make() + "; ";
        made += &note.trigger(&rows, &known.sql, state(known.oid, &rows, &note.row_function()));
        for (_, part) in &known.partitions {
            made += &note.trigger(&rows, part, Some(true));
        }
        for (oid, table) in known.all() {
            made += &note.trigger(&emptied, table, state(oid, &emptied, &note.emptied_function()));
        }
        let key: Vec<_> = signature(&known).iter().map(|column| literal(column)).collect();
        let parts: Vec<_> = known.partitions.iter().map(|(oid, _)| oid.to_string()).collect();
        batch.push(format!(
            "{made} INSERT INTO {ours}noted VALUES ({}, {}, ARRAY[{}]::text[], ARRAY[{}]::oid[]);",
            known.oid,
            literal(&known.table.name),
            key.join(", "),
            parts.join(", ")
        ));
    }
    for some in batch.chunks(AT_ONCE) {
        session.run(&some.concat())?;
    }
    Ok(())
}

/// The key, as far as its log depends on it.
fn signature(known: &Known) -> Vec<String> {
    // Whatever it is noted for.
    let columns = Note(known, For::Rollback).columns();
    known.table.key.iter().zip(columns).map(|(name, column)| format!("{name} {column}")).collect()
}

/// What the capture says of itself, and the proof of it: every table that has a primary key has its log and its
/// triggers, as they would be made today.
pub(super) fn proof(session: &mut Session, known: &[Known], what: For) -> Result<Option<State>> {
    if !is_on(session, what)? {
        return Ok(None);
    }
    let ours = format!("receiver.{}", what.prefix());
    let rows = session.query(&format!("SELECT peer, since FROM {ours}capture"), &[])?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (peer, since) = (text(row, 0)?, text(row, 1)?);
    let mut noted = BTreeMap::new();
    let ask = format!(
        "SELECT n.oid, n.name, n.key, n.partitions, to_regclass('{ours}log_' || n.oid) IS NOT NULL, e.oid IS NOT NULL
         FROM {ours}noted n LEFT JOIN {ours}emptied e USING (oid)"
    );
    for row in session.query(&ask, &[])? {
        noted.insert(row.get::<_, u32>(0), row);
    }
    let mut triggers: BTreeMap<u32, Vec<Trigger>> = BTreeMap::new();
    for trigger in self::triggers(session, what)? {
        triggers.entry(trigger.relation).or_default().push(trigger);
    }
    let (mut gaps, mut logs, mut unsure) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    for table in known.iter().filter(|known| !known.table.key.is_empty() && known.table.apart.is_none()) {
        let name = table.table.name.escape_debug();
        let before = gaps.len();
        let Some(row) = noted.remove(&table.oid) else {
            gaps.push(format!("table '{name}' came after it began"));
            continue;
        };
        let parts: Vec<u32> = table.partitions.iter().map(|(oid, _)| *oid).collect();
        if row.get::<_, Vec<u32>>(3) != parts {
            gaps.push(format!("table '{name}' got or lost partitions"));
        }
        let same_key = row.get::<_, Vec<String>>(2) == signature(table);
        if !same_key || !row.get::<_, bool>(4) || !is_watched(table, what, &triggers) {
            gaps.push(format!("table '{name}' was changed, and lost what watched it"));
            continue;
        }
        if text(&row, 1)? != table.table.name {
            gaps.push(format!("table '{}' has the name '{name}' now", text(&row, 1)?.escape_debug()));
        }
        if gaps.len() > before {
            unsure.insert(table.table.name.clone());
        }
        let log = Log { sql: Note(table, what).log(), emptied: row.get(5) };
        logs.insert(table.table.name.clone(), log);
    }
    for row in noted.values() {
        gaps.push(format!("table '{}' is gone, or cannot be watched any more", text(row, 1)?.escape_debug()));
    }
    Ok(Some(State { capture: Capture { peer, since, gaps }, logs, unsure }))
}

/// Whether the triggers of one table are all there, always fire, and do what they are for.
fn is_watched(table: &Known, what: For, triggers: &BTreeMap<u32, Vec<Trigger>>) -> bool {
    let note = Note(table, what);
    let has = |relation: u32, function: &str, kind: i16, body: &str| {
        triggers.get(&relation).into_iter().flatten().any(|trigger| {
            trigger.function == function
                && trigger.kind == kind
                && trigger.enabled == "A"
                && trigger.plain
                && trigger.body == body
        })
    };
    table.all().all(|(oid, _)| {
        has(oid, &note.row_function(), EACH_ROW, &note.row_body())
            && has(oid, &note.emptied_function(), BEFORE_TRUNCATE, &note.emptied_body())
    })
}
