//! Where rows come from: one moment of it, in two sessions. The administrator's reads what was noted; the
//! other, which may do what the app may, reads the rows, as expressions of the pushed repository are in between.

use std::collections::{BTreeMap, BTreeSet};

use postgres::types::ToSql;

use super::super::copy::pour;
use super::super::names::{ident, literal};
use super::super::server::Server;
use super::super::session::Session;
use super::capture::{self, Log};
use super::carrier::Carrier;
use super::tables::{self, Known};
use crate::data::Limit;
use crate::data::way::{For, Passage, Value};
use crate::support::{Error, Result};

/// Which rows go.
#[derive(Clone, Copy)]
pub(super) enum Which<'a> {
    /// Those that were noted for the way to this database.
    Noted(&'a str),
    /// Those that were noted for this copy, of tables of which all was noted.
    Behind(&'a str),
    /// All.
    All,
}

/// A name that no column and no table of an app has.
const KEYS: &str = "\"receiver: keys\"";

pub(super) struct Source {
    notes: Session,
    carrier: Carrier,
    pub(super) known: Vec<Known>,
    /// The logs, where only what was noted goes.
    pub(super) logs: Option<BTreeMap<String, Log>>,
    /// The places whose table of keys is there: of thousands of tables that could be needed, few are.
    taken: BTreeSet<usize>,
}

impl Source {
    /// Opens one moment of the source, and proves that no change is missing.
    pub(super) fn open(server: &Server, name: &str, which: Which<'_>) -> Result<Source> {
        let mut notes = server.session(name)?;
        notes.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let known = tables::tables(&mut notes)?;
        let logs = match which {
            Which::Noted(peer) => Some(proved(&mut notes, &known, peer)?),
            Which::Behind(copy) => Some(sure(&mut notes, &known, copy)?),
            Which::All => None,
        };
        let snapshot = notes.text("SELECT pg_export_snapshot()", &[])?.unwrap_or_default();
        let mut carrier = Carrier::new(server, name)?;
        // Names in an expression are those of the app; PostgreSQL's own come first all the same.
        carrier.session.run(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT {}; SET LOCAL search_path = public",
            literal(&snapshot)
        ))?;
        Ok(Source { notes, carrier, known, logs, taken: BTreeSet::new() })
    }

    /// The tables in which any row was noted, where only what was noted goes.
    pub(super) fn changed(&mut self) -> Result<Option<BTreeSet<String>>> {
        let Some(logs) = &self.logs else { return Ok(None) };
        let mut changed: BTreeSet<String> =
            logs.iter().filter(|(_, log)| log.emptied).map(|(table, _)| table.clone()).collect();
        let all: Vec<_> = logs.iter().collect();
        for some in all.chunks(100) {
            let ask = some.iter().enumerate();
            let ask = ask.map(|(at, (_, log))| format!("SELECT {at} WHERE EXISTS (SELECT FROM {})", log.sql));
            let ask = ask.collect::<Vec<_>>().join(" UNION ALL ");
            for row in self.notes.query(&ask, &[])? {
                let at = usize::try_from(row.get::<_, i32>(0)).unwrap_or(usize::MAX);
                changed.extend(some.get(at).map(|(table, _)| (*table).clone()));
            }
        }
        Ok(Some(changed))
    }

    /// The table of this name.
    pub(super) fn table(&self, name: &str) -> Option<&Known> {
        self.known.iter().find(|known| known.table.name == name)
    }

    /// Whether all rows of a table were removed at once.
    pub(super) fn was_emptied(&self, table: &str) -> bool {
        self.logs.as_ref().and_then(|logs| logs.get(table)).is_some_and(|log| log.emptied)
    }

    /// Makes a table of keys, where it is not there.
    fn begin(&mut self, at: usize, passage: &Passage) -> Result<()> {
        if !self.taken.insert(at) {
            return Ok(());
        }
        let known = self.known_of(&passage.table)?;
        let columns = passage.key.iter().enumerate().map(|(at, name)| {
            let known = known.of(name);
            format!("k{at} {}{}", known.base, known.collate)
        });
        let columns: Vec<_> = columns.collect();
        self.carrier.session.run(&format!(
            "CREATE TEMP TABLE receiver_keys_{at} (n bigint GENERATED ALWAYS AS IDENTITY, {}, PRIMARY KEY ({}))",
            columns.join(", "),
            k(passage.key.len(), "")
        ))
    }

    /// Makes the table of the keys that go: those that were noted, or all.
    pub(super) fn take(&mut self, at: usize, passage: &Passage, limit: &Limit<'_>) -> Result<()> {
        self.begin(at, passage)?;
        let names = k(passage.key.len(), "");
        let log = self.logs.as_ref().map(|logs| logs.get(&passage.table).cloned());
        match log {
            Some(Some(log)) => {
                // The log has the key in the order of its own table.
                let known = self.known_of(&passage.table)?;
                let place = |name: &String| known.table.key.iter().position(|key| key == name).unwrap_or(0);
                let order: Vec<_> = passage.key.iter().map(|name| format!("k{}", place(name))).collect();
                let out = format!("COPY (SELECT {} FROM {}) TO STDOUT", order.join(", "), log.sql);
                let into = format!("COPY pg_temp.receiver_keys_{at} ({names}) FROM STDIN");
                pour(&mut self.notes, &out, &mut self.carrier.session, &into, &mut |_| limit.check())?;
            }
            Some(None) => return Err(not_noted(&passage.table)),
            None => {
                let sql = self.all(at, passage)?;
                self.carrier.session.run(&sql)?;
            }
        }
        self.carrier.session.run(&format!("ANALYZE pg_temp.receiver_keys_{at}"))
    }

    /// The statement that takes all keys; of those that only fill, where there is something.
    fn all(&self, at: usize, passage: &Passage) -> Result<String> {
        let known = self.known_of(&passage.table)?;
        let some: Vec<_> = passage
            .columns
            .iter()
            .filter(|(name, _)| !passage.key.contains(name))
            .map(|(_, value)| format!("{} IS NOT NULL", self::value(known, value)))
            .collect();
        let condition = if passage.fills { format!("WHERE {}", some.join(" OR ")) } else { String::new() };
        Ok(format!(
            "INSERT INTO pg_temp.receiver_keys_{at} ({}) SELECT {} FROM {} {condition}",
            k(passage.key.len(), ""),
            named(known, &passage.key),
            known.rows()
        ))
    }

    fn known_of(&self, name: &str) -> Result<&Known> {
        let lost = || Error::new(format!("the source has no table '{}'", name.escape_debug()));
        self.table(name).ok_or_else(lost)
    }

    /// Up to which number there are keys.
    pub(super) fn last(&mut self, at: usize) -> Result<i64> {
        if !self.taken.contains(&at) {
            return Ok(0);
        }
        self.carrier.session.number(&format!("SELECT max(n) FROM pg_temp.receiver_keys_{at}"), &[])
    }

    /// Sends the keys behind a number into a table of the target.
    pub(super) fn send_keys(
        &mut self,
        at: usize,
        passage: &Passage,
        from: i64,
        to: &mut Session,
        into: &str,
        limit: &Limit<'_>,
    ) -> Result<u64> {
        let names = k(passage.key.len(), "");
        let out =
            format!("COPY (SELECT n, {names} FROM pg_temp.receiver_keys_{at} WHERE n > {from}) TO STDOUT");
        pour(&mut self.carrier.session, &out, to, into, &mut |_| limit.check())
    }

    /// Sends the rows of these keys, as the target shall have them. Answers how many there should have been,
    /// and how many there were.
    pub(super) fn send_rows(
        &mut self,
        at: usize,
        passage: &Passage,
        from: i64,
        to: &mut Session,
        into: &str,
        limit: &Limit<'_>,
    ) -> Result<(u64, u64)> {
        let known = self.known_of(&passage.table)?;
        let keys = format!("FROM pg_temp.receiver_keys_{at} AS {KEYS} WHERE {}", same(known, &passage.key));
        let values: Vec<_> = passage.columns.iter().map(|(_, value)| self::value(known, value)).collect();
        let rows = format!("FROM {} WHERE EXISTS (SELECT {keys} AND {KEYS}.n > {from})", known.rows());
        // The only names in an expression's reach are those of the source's table.
        let out = format!("COPY (SELECT (SELECT {KEYS}.n {keys}), {} {rows}) TO STDOUT", values.join(", "));
        let session = &mut self.carrier.session;
        let expected = session.number(&format!("SELECT count(*) {rows}"), &[])?.unsigned_abs();
        let made = pour(session, &out, to, into, &mut |_| limit.check())?;
        Ok((expected, made))
    }

    /// Takes along the row whose columns have these values. Answers its number, if there is one.
    pub(super) fn take_along(
        &mut self,
        at: usize,
        passage: &Passage,
        columns: &[String],
        values: &[String],
    ) -> Result<Option<i64>> {
        self.begin(at, passage)?;
        let known = self.known_of(&passage.table)?;
        let equal = columns.iter().enumerate().map(|(at, name)| {
            let base = known.of(name).base;
            format!("{}.{} {} ${}::text::{base}", known.bare, ident(name), known.equal(name), at + 1)
        });
        let equal = equal.collect::<Vec<_>>().join(" AND ");
        let (keys, rows) = (k(passage.key.len(), ""), known.rows());
        let insert = format!(
            "INSERT INTO pg_temp.receiver_keys_{at} ({keys}) SELECT {} FROM {rows} WHERE {equal} ON CONFLICT DO NOTHING",
            named(known, &passage.key)
        );
        let find = format!(
            "SELECT {KEYS}.n FROM pg_temp.receiver_keys_{at} AS {KEYS}, {rows} WHERE {} AND {equal}",
            same(known, &passage.key)
        );
        let with: Vec<&(dyn ToSql + Sync)> =
            values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        let session = &mut self.carrier.session;
        session.query(&insert, &with)?;
        Ok(session.query(&find, &with)?.first().map(|row| row.get(0)))
    }

    /// Counts rows of a table for which `condition` holds. What cannot be counted has no number.
    pub(super) fn count(&mut self, table: &str, noted: Option<&str>, condition: &str) -> Option<u64> {
        let known = self.table(table)?;
        let noted = noted.unwrap_or_default();
        let ask = format!("SELECT count(*) FROM {} WHERE true {noted} {condition}", known.rows());
        let session = &mut self.carrier.session;
        session.run("SAVEPOINT receiver_count").ok()?;
        let counted = session.number(&ask, &[]);
        // A default may be a call of what is the app's.
        let end = "ROLLBACK TO SAVEPOINT receiver_count; RELEASE SAVEPOINT receiver_count";
        session.run(end).ok()?;
        counted.ok().map(i64::unsigned_abs)
    }

    /// The same, of those whose keys were taken at `at`.
    pub(super) fn count_by(
        &mut self,
        table: &str,
        at: usize,
        key: &[String],
        condition: &str,
    ) -> Option<u64> {
        let same = same(self.table(table)?, key);
        let noted = format!("AND EXISTS (SELECT FROM pg_temp.receiver_keys_{at} AS {KEYS} WHERE {same})");
        self.count(table, Some(&noted), condition)
    }

    /// The session that may do what the app may.
    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.carrier.session
    }
}

/// Why a table cannot go where only what was noted goes.
pub(super) fn not_noted(table: &str) -> Error {
    Error::new(format!("the changes of table '{}' were not noted", table.escape_debug()))
}

/// The logs, once it is proved that they are whole, and meant for this way.
fn proved(session: &mut Session, known: &[Known], peer: &str) -> Result<BTreeMap<String, Log>> {
    let Some(state) = capture::proof(session, known, For::Rollback)? else {
        return Err(Error::new("no changes were noted"));
    };
    if let Some(gap) = state.capture.gaps.first() {
        return Err(Error::new(format!("not every change was noted: {gap}")));
    }
    if state.capture.peer != peer {
        let noted = state.capture.peer.escape_debug();
        return Err(Error::new(format!("changes were noted for the way to {noted}, not to {peer}")));
    }
    Ok(state.logs)
}

/// The logs of those tables of which all was noted for a copy.
fn sure(session: &mut Session, known: &[Known], copy: &str) -> Result<BTreeMap<String, Log>> {
    let state = capture::proof(session, known, For::Copy)?.filter(|state| state.capture.peer == copy);
    let mut state = state.ok_or_else(|| Error::new("it was not noted which rows changed"))?;
    state.logs.retain(|table, _| !state.unsure.contains(table));
    Ok(state.logs)
}

/// `k0, k1`, behind a prefix.
pub(super) fn k(width: usize, prefix: &str) -> String {
    (0..width).map(|at| format!("{prefix}k{at}")).collect::<Vec<_>>().join(", ")
}

/// What a value is, in a statement from that table.
pub(super) fn value(known: &Known, value: &Value) -> String {
    match value {
        Value::Column(name) => format!("{}.{}", known.bare, ident(name)),
        Value::Expression(text) => format!("({text})"),
    }
}

fn named(known: &Known, key: &[String]) -> String {
    key.iter().map(|name| format!("{}.{}", known.bare, ident(name))).collect::<Vec<_>>().join(", ")
}

/// That a row has the key of one of the keys.
fn same(known: &Known, key: &[String]) -> String {
    let pairs = key
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{}.{} {} {KEYS}.k{at}", known.bare, ident(name), known.equal(name)));
    pairs.collect::<Vec<_>>().join(" AND ")
}
