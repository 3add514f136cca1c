//! The proofs: that a copy is whole, that it still is after a migration, and that an app used it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::catalog::{self, RELATIONS, Table};
use super::parallel::{self, Shared};
use super::session::{Session, text};
use super::{canon, names};
use crate::data::{Census, Limit, Rows};
use crate::support::{Context, Error, Result};

/// How many tables one statement asks about.
const AT_ONCE: usize = 100;

/// How many rows each table has. Those of a partitioned one are counted in its partitions.
pub(super) fn rows(session: &mut Session, limit: &Limit<'_>) -> Result<Rows> {
    session.within(limit, |session| {
        let tables = with_rows(session)?;
        let mut rows = Rows::new();
        for (table, row) in ask_each(session, &tables, "count(*)")? {
            rows.insert(table.name.clone(), row.get::<_, i64>(1).unsigned_abs());
        }
        Ok(rows)
    })
}

/// The tables that have rows of their own.
fn with_rows(session: &mut Session) -> Result<Vec<Table>> {
    let mut tables = catalog::tables(session)?;
    tables.retain(|table| !table.partitioned);
    Ok(tables)
}

/// What is asked of the rows `t` of each table, many tables in one statement: behind the table's place in it.
fn ask_each<'a>(
    session: &mut Session,
    tables: &'a [Table],
    what: &str,
) -> Result<Vec<(&'a Table, postgres::Row)>> {
    let mut answers = Vec::with_capacity(tables.len());
    for some in tables.chunks(AT_ONCE) {
        let parts = some.iter().enumerate();
        let parts: Vec<_> =
            parts.map(|(at, table)| format!("SELECT {at}, {what} FROM ONLY {} AS t", table.sql)).collect();
        let rows = session.query(&format!("{} ORDER BY 1", parts.join(" UNION ALL ")), &[])?;
        answers.extend(some.iter().zip(rows));
    }
    Ok(answers)
}

/// Everything that shows, compared with an earlier or later one, whether the database was written to.
///
/// The stamp is, for each table, how many rows it has and the sum of the numbers of the transactions that
/// wrote them: whatever is inserted, updated or deleted moves one of the two, and no value has to be read. (The
/// server's own counters are those of all databases, or late.)
pub(super) fn census(session: &mut Session, limit: &Limit<'_>) -> Result<Census> {
    session.within(limit, |session| {
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let schema = canon::read(session)?;
        let mut rows = Rows::new();
        let mut stamp = Vec::new();
        let tables = with_rows(session)?;
        let what = "count(*), coalesce(sum(t.xmin::text::bigint), 0)::text";
        for (table, row) in ask_each(session, &tables, what)? {
            let count: i64 = row.get(1);
            rows.insert(table.name.clone(), count.unsigned_abs());
            stamp.push(format!("{}:{count}/{}", table.oid, text(&row, 2)?));
        }
        for sequence in catalog::sequences(session)? {
            stamp.push(format!("{}={}/{}", sequence.name, sequence.last, sequence.called));
        }
        session.run("COMMIT")?;
        Ok(Census { schema, rows, stamp: stamp.join(" ") })
    })
}

/// Whether there is no table at all.
pub(super) fn is_empty(session: &mut Session) -> Result<bool> {
    let any = session.any(&format!("{RELATIONS} SELECT FROM rel WHERE kind IN ('r', 'p') LIMIT 1"), &[])?;
    Ok(!any)
}

/// What a table holds: how many rows, and a sum of their hashes, which no order changes.
type Content = (i64, String);

/// Proves that the copy has the tables, rows, content and sequences of its original, and no broken reference
/// more. Answers how many references are broken in both.
pub(super) fn verify(
    copy: &(dyn Fn() -> Result<Session> + Sync),
    original: &(dyn Fn() -> Result<Session> + Sync),
    limit: &Limit<'_>,
) -> Result<u64> {
    let (mut ours, mut theirs) = (copy()?, original()?);
    let (have, want) = (catalog::tables(&mut ours)?, catalog::tables(&mut theirs)?);
    same_tables(&have, &want)?;
    let want: Vec<_> = want.into_iter().filter(|table| !table.partitioned).collect();
    // Side by side: the server answers each session with one processor.
    let (have, were) = thread::scope(|scope| {
        let were = scope.spawn(|| contents(original, want.clone(), limit));
        let have = contents(copy, want.clone(), limit);
        (have, were.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (have, were) = (have?, were?);
    want.iter().try_for_each(|table| same_content(table, have.get(&table.name), were.get(&table.name)))?;
    same_sequences(&catalog::sequences(&mut ours)?, &catalog::sequences(&mut theirs)?)?;
    let broken = violations(&mut theirs, limit)?;
    no_more_than(broken, &mut ours, limit)?;
    Ok(broken)
}

/// What each of these tables holds.
fn contents(
    connect: &(dyn Fn() -> Result<Session> + Sync),
    tables: Vec<Table>,
    limit: &Limit<'_>,
) -> Result<BTreeMap<String, Content>> {
    let found = Mutex::new(BTreeMap::new());
    let look = |session: &mut Session, table: Table, _: &Shared<'_>| {
        let is = content(session, &table, limit)
            .context(|| format!("cannot compare table '{}'", table.name.escape_debug()))?;
        found.lock().unwrap_or_else(PoisonError::into_inner).insert(table.name, is);
        Ok(())
    };
    parallel::over(tables, limit, connect, look, &mut |_| {})?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn content(session: &mut Session, table: &Table, limit: &Limit<'_>) -> Result<Content> {
    // The alias is a name that no column has: a column's would win.
    let ask = format!(
        "SELECT count(*), coalesce(sum(hashtextextended(\"receiver: the row\"::text, 0)), 0)::text \
         FROM ONLY {} AS \"receiver: the row\"",
        table.sql
    );
    let rows = session.within(limit, |session| session.query(&ask, &[]))?;
    let row = rows.first().ok_or_else(|| Error::new("the server does not count"))?;
    Ok((row.get(0), text(row, 1)?))
}

fn same_tables(copy: &[Table], original: &[Table]) -> Result<()> {
    let names =
        |tables: &[Table]| -> BTreeSet<String> { tables.iter().map(|table| table.name.clone()).collect() };
    let (have, want) = (names(copy), names(original));
    if let Some(table) = original.iter().find(|table| !have.contains(&table.name)) {
        return Err(Error::new(format!("table '{}' is missing", table.name.escape_debug())));
    }
    match copy.iter().find(|table| !want.contains(&table.name)) {
        Some(table) => Err(Error::new(format!("table '{}' is in the copy alone", table.name.escape_debug()))),
        None => Ok(()),
    }
}

fn same_content(table: &Table, copy: Option<&Content>, original: Option<&Content>) -> Result<()> {
    let name = table.name.escape_debug();
    let rows = |content: Option<&Content>| content.map_or(0, |content| content.0);
    if rows(copy) != rows(original) {
        return Err(Error::new(format!(
            "table '{name}' has {} rows instead of {}",
            rows(copy),
            rows(original)
        )));
    }
    if copy == original { Ok(()) } else { Err(Error::new(format!("table '{name}' has other content"))) }
}

/// The original may have gone on since: who only takes numbers is not held, and what it took is in no row.
fn same_sequences(copy: &[catalog::Sequence], original: &[catalog::Sequence]) -> Result<()> {
    let have: BTreeMap<_, _> = copy.iter().map(|one| (&one.name, one)).collect();
    for want in original {
        let name = want.name.escape_debug();
        let Some(found) = have.get(&want.name) else {
            return Err(Error::new(format!("sequence '{name}' is missing")));
        };
        if found.last.abs() > want.last.abs() || found.called != want.called {
            return Err(Error::new(format!(
                "sequence '{name}' is at {} instead of {}",
                found.last, want.last
            )));
        }
    }
    Ok(())
}

/// Proves that a database is sound, after a migration for instance.
pub(super) fn examine(session: &mut Session, broken: u64, limit: &Limit<'_>) -> Result<()> {
    let invalid = session.text(
        &format!(
            "{RELATIONS} SELECT quote_ident(c.relname) || ' on ' || rel.name FROM rel JOIN pg_index x ON x.indrelid = rel.oid
             JOIN pg_class c ON c.oid = x.indexrelid WHERE rel.kind = 'r' AND NOT x.indisvalid LIMIT 1"
        ),
        &[],
    )?;
    if let Some(index) = invalid {
        return Err(Error::new(format!("the index {} is invalid", index.escape_debug()))
            .hint("a CREATE INDEX CONCURRENTLY failed half-way: drop the index, and make it again"));
    }
    no_more_than(broken, session, limit)
}

fn no_more_than(broken: u64, session: &mut Session, limit: &Limit<'_>) -> Result<()> {
    let found = violations(session, limit)?;
    if found <= broken {
        return Ok(());
    }
    Err(Error::new(format!("{found} references lead nowhere, and {broken} did before")))
}

/// How many rows refer to nothing, by foreign keys that were never proved (`NOT VALID`): the server keeps
/// the others itself.
fn violations(session: &mut Session, limit: &Limit<'_>) -> Result<u64> {
    let keys = session.query(
        &format!(
            "{RELATIONS} SELECT x.conrelid::regclass::text, x.confrelid::regclass::text,
                array(SELECT a.attname::text FROM unnest(x.conkey) WITH ORDINALITY k (n, i) JOIN pg_attribute a ON a.attrelid = x.conrelid AND a.attnum = k.n ORDER BY k.i),
                array(SELECT a.attname::text FROM unnest(x.confkey) WITH ORDINALITY k (n, i) JOIN pg_attribute a ON a.attrelid = x.confrelid AND a.attnum = k.n ORDER BY k.i),
                array(SELECT quote_ident(n.nspname) || '.' || o.oprname FROM unnest(x.conpfeqop) WITH ORDINALITY k (o, i) JOIN pg_operator o ON o.oid = k.o
                      JOIN pg_namespace n ON n.oid = o.oprnamespace ORDER BY k.i)
             FROM rel JOIN pg_constraint x ON x.conrelid = rel.oid WHERE x.contype = 'f' AND NOT x.convalidated"
        ),
        &[],
    )?;
    let mut found = 0;
    for key in keys {
        let (child, parent) = (text(&key, 0)?, text(&key, 1)?);
        let (from, to, operators): (Vec<String>, Vec<String>, Vec<String>) =
            (key.get(2), key.get(3), key.get(4));
        let known: Vec<_> = from.iter().map(|name| format!("c.{} IS NOT NULL", names::ident(name))).collect();
        let equal = from.iter().zip(&to).zip(&operators).map(|((from, to), operator)| {
            format!("p.{} OPERATOR({operator}) c.{}", names::ident(to), names::ident(from))
        });
        let ask = format!(
            "SELECT count(*) FROM {child} AS c WHERE {} AND NOT EXISTS (SELECT FROM {parent} AS p WHERE {})",
            known.join(" AND "),
            equal.collect::<Vec<_>>().join(" AND ")
        );
        found += session.within(limit, |session| session.number(&ask, &[]))?.unsigned_abs();
    }
    Ok(found)
}
