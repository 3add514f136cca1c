//! The proofs: that a copy is whole, that references lead somewhere, and that something was written.
//!
//! `CHECKSUM TABLE` reads every row and adds up a checksum of each, whatever their order: two tables of the same
//! definition with the same rows have the same. Pages need no proof of ours: InnoDB checks each that it reads.

use std::collections::BTreeMap;
use std::thread;

use super::canon;
use super::database::Mysql;
use super::quote;
use super::session::{Session, codes};
use super::tables::{self, Reference};
use crate::data::{Census, Limit, Rows, Schema};
use crate::support::{Error, Result, text};

/// How many tables one statement asks about.
const AT_ONCE: usize = 50;

/// The rows of each table.
pub(super) fn count(session: &mut Session, database: &str) -> Result<Rows> {
    let mut rows = Rows::new();
    for some in tables::names(session, database)?.chunks(AT_ONCE) {
        let counts: Vec<String> = some
            .iter()
            .map(|table| {
                format!("SELECT {}, COUNT(*) FROM {}", quote::text(table), quote::table(database, table))
            })
            .collect();
        rows.extend(session.rows::<(String, u64)>(&counts.join(" UNION ALL "), ())?);
    }
    Ok(rows)
}

/// What each table and sequence holds, as one figure.
fn content(session: &mut Session, database: &str) -> Result<BTreeMap<String, String>> {
    let mut content = BTreeMap::new();
    let all = tables::all(session, database)?;
    let (sequences, base): (Vec<_>, Vec<_>) = all.into_iter().partition(|table| table.is_sequence);
    for some in base.chunks(AT_ONCE) {
        let list: Vec<String> = some.iter().map(|table| quote::table(database, &table.name)).collect();
        let sums: Vec<(String, Option<u64>)> =
            session.rows(&format!("CHECKSUM TABLE {}", list.join(", ")), ())?;
        for (table, (_, sum)) in some.iter().zip(sums) {
            // A table that is damaged has no checksum, and is told apart from every other.
            let sum = sum.map_or_else(|| format!("unreadable {database}"), |sum| sum.to_string());
            let next = table.auto_increment.map_or_else(String::new, |next| format!(" next {next}"));
            content.insert(table.name.clone(), format!("{sum}{next}"));
        }
    }
    for sequence in sequences {
        let next = format!("SELECT next_not_cached_value FROM {}", quote::table(database, &sequence.name));
        let next: i64 = session.value(&next, ())?;
        content.insert(sequence.name, format!("next {next}"));
    }
    Ok(content)
}

/// Everything that shows, compared with an earlier or later one, whether a database was written to.
pub(super) fn census(session: &mut Session, database: &str) -> Result<Census> {
    let schema = canon::read(session, database)?;
    let rows = count(session, database)?;
    let stamp =
        content(session, database)?.into_iter().map(|(table, is)| format!("{table} {is}\n")).collect();
    Ok(Census { schema, rows, stamp })
}

/// Proves that a copy that was made under a hold is its original. Answers how many references lead nowhere in
/// both. The two are read side by side, and each in one session: more of them would push each other's pages out of the
/// server's memory.
pub(super) fn verify(copy: &Mysql, original: &Mysql, limit: &Limit<'_>) -> Result<u64> {
    let (copied, was) = thread::scope(|scope| {
        let other = scope.spawn(|| ask(original, limit, whole));
        let copied = ask(copy, limit, |session, name| Ok((whole(session, name)?, broken(session, name)?)));
        (copied, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let ((copied, broken), was) = (copied?, was?);
    match copied.schema.diff(&was.schema).into_iter().next() {
        Some(line) => Err(Error::new(format!("the original differs: {line}"))),
        None => equal(&copied.rows, &was.rows).and_then(|()| same(&copied.content, &was.content)),
    }
    .map_err(|why| Error::new(format!("the copy {} is not its original", copy.name())).caused_by(why))?;
    Ok(broken)
}

struct Whole {
    schema: Schema,
    rows: Rows,
    content: BTreeMap<String, String>,
}

fn whole(session: &mut Session, database: &str) -> Result<Whole> {
    Ok(Whole {
        schema: canon::read(session, database)?,
        rows: count(session, database)?,
        content: content(session, database)?,
    })
}

/// Asks a database something in a session of its own.
fn ask<T: Send>(
    database: &Mysql,
    limit: &Limit<'_>,
    what: impl FnOnce(&mut Session, &str) -> Result<T> + Send,
) -> Result<T> {
    let mut session = database.session()?;
    database.server.within(&mut session, limit, |session| what(session, database.name()))
}

/// Proves that two counts are the same, or names the first table that differs.
fn equal(copy: &Rows, original: &Rows) -> Result<()> {
    for (table, rows) in original {
        let name = text::printable(table);
        match copy.get(table) {
            Some(copied) if copied == rows => {}
            Some(copied) => {
                return Err(Error::new(format!("table '{name}' has {copied} rows instead of {rows}")));
            }
            None => return Err(Error::new(format!("table '{name}' is missing"))),
        }
    }
    Ok(())
}

fn same(copy: &BTreeMap<String, String>, original: &BTreeMap<String, String>) -> Result<()> {
    let differs = original.iter().find(|(table, is)| copy.get(*table) != Some(is));
    match differs {
        Some((table, is)) => Err(Error::new(format!(
            "'{}' holds something else ({} instead of {is})",
            text::printable(table),
            copy.get(table).map_or("nothing", String::as_str)
        ))),
        None => Ok(()),
    }
}

/// Proves that not more than `allowed` references lead nowhere.
pub(super) fn examine(database: &Mysql, allowed: u64, limit: &Limit<'_>) -> Result<()> {
    let now = ask(database, limit, broken)?;
    if now <= allowed {
        return Ok(());
    }
    let why = Error::new(format!("{now} references lead nowhere, and {allowed} did before"));
    Err(Error::new(format!("the database {} is not sound", database.name())).caused_by(why))
}

/// How many foreign keys lead nowhere. Those of one that leads to no table at all count as one.
fn broken(session: &mut Session, database: &str) -> Result<u64> {
    let mut sum = 0;
    for key in tables::references(session, database)? {
        match session.raw_value::<u64>(&nowhere(&key, database)) {
            Ok(count) => sum += count,
            Err(error) if super::session::code(&error) == Some(codes::NO_TABLE) => sum += 1,
            Err(error) => return Err(session.told(&error)),
        }
    }
    Ok(sum)
}

/// Counts the rows that refer to none. A reference that is NULL in part is none (MATCH SIMPLE).
fn nowhere(key: &Reference, database: &str) -> String {
    let columns = |of: &str, columns: &[String]| -> Vec<String> {
        columns.iter().map(|column| format!("{of}.{}", quote::name(column))).collect()
    };
    let (from, to) = (columns("child", &key.columns), columns("parent", &key.to_columns));
    let on: Vec<String> = from.iter().zip(&to).map(|(from, to)| format!("{from} = {to}")).collect();
    let given: Vec<String> = from.iter().map(|column| format!("{column} IS NOT NULL")).collect();
    format!(
        "SELECT COUNT(*) FROM {} child LEFT JOIN {} parent ON {} WHERE {} AND {} IS NULL",
        quote::table(database, &key.table),
        quote::table(&key.to_database, &key.to_table),
        on.join(" AND "),
        given.join(" AND "),
        to[0]
    )
}
