//! The proofs: that a copy is whole, that it still is after a migration, and that an app used it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::{self, ScopedJoinHandle};

use rusqlite::{Connection, ErrorCode};

use super::{canon, open, pages};
use crate::data::{Census, Limit, Rows};
use crate::support::{Context, Error, Result};

/// How many rows each table has. Of a virtual table those count that it keeps its content in.
pub fn rows(path: &Path, limit: &Limit<'_>) -> Result<Rows> {
    let connection = open::reader(path)?;
    open::within(&connection, limit, || {
        count(&connection).context(|| format!("cannot count the rows of {}", path.display()))
    })
    .context(|| format!("cannot read the database {}", path.display()))
}

/// Everything that shows, compared with an earlier or later one, whether a database was written to.
///
/// What is in the WAL is brought into the file first, so that the file's own stamp tells: it moves
/// with every commit, also one that changes no count.
pub fn census(path: &Path, limit: &Limit<'_>) -> Result<Census> {
    let cannot = || format!("cannot take the census of {}", path.display());
    let connection = open::reader(path)?;
    let read = || -> rusqlite::Result<_> {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok((canon::read(&connection)?, count(&connection)?))
    };
    let (schema, rows) = open::within(&connection, limit, || read().context(cannot)).context(cannot)?;
    let file = fs::symlink_metadata(path).context(cannot)?;
    let stamp = format!(
        "{} {} {}.{:09} {}.{:09}",
        file.ino(),
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec()
    );
    Ok(Census { schema, rows, stamp })
}

/// Whether the database has no table at all.
pub fn is_empty(path: &Path) -> Result<bool> {
    let connection = open::reader(path)?;
    open::tables(&connection)
        .map(|tables| tables.is_empty())
        .context(|| format!("cannot read the schema of {}", path.display()))
}

/// Proves that a copy that was made under a hold is its original: the same pages, but for what is receiver's, or else the
/// same tables, the same rows in each, value by value, sound pages, no broken reference more. Answers how many references
/// are broken in both.
///
/// Who waits for it waits for the slowest of the questions, as far as there are processors.
pub fn verify(copy: &Path, original: &Path, limit: &Limit<'_>) -> Result<u64> {
    thread::scope(|scope| {
        let broken = scope.spawn(|| violations(original, limit));
        let proved = if same_pages(copy, original, limit)? {
            Ok(None)
        } else {
            same_rows_in_all(copy, original, limit).map(Some)
        };
        let broken = answer(broken)?;
        proved.and_then(|now| now.map_or(Ok(()), |now| no_more_than(broken, now))).or_else(|why| {
            refuse(limit, why, || format!("the copy {} is not its original", copy.display()))
        })?;
        Ok(broken)
    })
}

/// What was found wrong; or that there was no time to find out.
fn refuse(limit: &Limit<'_>, why: Error, what: impl FnOnce() -> String) -> Result<()> {
    limit.check()?;
    Err(why).context(what)
}

/// Whether the pages prove it. Where they cannot even be read, the rows are asked.
fn same_pages(copy: &Path, original: &Path, limit: &Limit<'_>) -> Result<bool> {
    let (ours, theirs) = (open::reader(copy)?, open::reader(original)?);
    let compare = || Ok(pages::are_same(&ours, &theirs).unwrap_or(false));
    open::within(&ours, limit, || open::within(&theirs, limit, compare))
}

/// Proves it by all rows. Answers how many references of the copy lead nowhere.
fn same_rows_in_all(copy: &Path, original: &Path, limit: &Limit<'_>) -> Result<u64> {
    thread::scope(|scope| {
        let were = scope.spawn(|| rows(original, limit));
        let are = scope.spawn(|| rows(copy, limit));
        let now = scope.spawn(|| violations(copy, limit));
        let sound = scope.spawn(|| sound(copy, "quick_check", limit));
        let same = same_content(copy, original, limit);
        equal(&answer(are)?, &answer(were)?)?;
        answer(sound).and(same)?;
        answer(now)
    })
}

/// Proves that a database is sound, after a migration for instance, and has not more than `broken`
/// references that lead nowhere.
pub fn examine(path: &Path, broken: u64, limit: &Limit<'_>) -> Result<()> {
    thread::scope(|scope| {
        let now = scope.spawn(|| violations(path, limit));
        sound(path, "integrity_check", limit)
            .and_then(|()| no_more_than(broken, answer(now)?))
            .or_else(|why| refuse(limit, why, || format!("the database {} is not sound", path.display())))
    })
}

fn answer<T>(asked: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Proves that each table holds the same values in the same order, and the sequences as well. Both are only read, and
/// lie still.
fn same_content(copy: &Path, original: &Path, limit: &Limit<'_>) -> Result<()> {
    let (ours, theirs) = (open::reader(copy)?, open::reader(original)?);
    let cannot = || format!("cannot compare {} with {}", copy.display(), original.display());
    let compare = || -> Result<()> {
        let tables: Vec<String> =
            open::tables(&theirs).context(cannot)?.into_iter().map(|(table, _)| table).collect();
        let mut asked: Vec<(String, String)> = tables
            .iter()
            .map(|table| {
                let rows = format!("SELECT * FROM main.{} NOT INDEXED", open::quoted(table));
                (format!("table '{}' has", table.escape_debug()), rows)
            })
            .collect();
        let counts = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence')";
        if theirs.query_row(counts, [], |row| row.get(0)).context(cannot)? {
            let names: Vec<String> = tables.iter().map(|table| open::text(table)).collect();
            let next = format!(
                "SELECT name, seq FROM main.sqlite_sequence WHERE name IN ({}) ORDER BY name",
                names.join(", ")
            );
            asked.push(("the sequences have".to_owned(), next));
        }
        for (what, rows) in asked {
            match same_rows(&ours, &theirs, &rows) {
                Ok(true) => {}
                Ok(false) => return Err(Error::new(format!("{what} other content"))),
                Err(error) if is_beyond_us(&error) => {}
                Err(error) => return Err(error).context(cannot),
            }
        }
        Ok(())
    };
    open::within(&ours, limit, || open::within(&theirs, limit, compare))
}

/// Whether two databases answer the same rows, in the same order.
fn same_rows(ours: &Connection, theirs: &Connection, ask: &str) -> rusqlite::Result<bool> {
    let (mut ours, mut theirs) = (ours.prepare(ask)?, theirs.prepare(ask)?);
    let columns = ours.column_count();
    if columns != theirs.column_count() {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (ours.query([])?, theirs.query([])?);
    loop {
        match (ours.next()?, theirs.next()?) {
            (None, None) => return Ok(true),
            (Some(ours), Some(theirs)) => {
                for at in 0..columns {
                    if ours.get_ref(at)? != theirs.get_ref(at)? {
                        return Ok(false);
                    }
                }
            }
            _ => return Ok(false),
        }
    }
}

/// Proves that two counts are the same, or names the first table that differs.
pub(super) fn equal(copy: &Rows, original: &Rows) -> Result<()> {
    for (table, rows) in original {
        let name = table.escape_debug();
        match copy.get(table) {
            Some(copied) if copied == rows => {}
            Some(copied) => {
                return Err(Error::new(format!("table '{name}' has {copied} rows instead of {rows}")));
            }
            None => return Err(Error::new(format!("table '{name}' is missing"))),
        }
    }
    match copy.keys().find(|table| !original.contains_key(*table)) {
        Some(table) => Err(Error::new(format!("table '{}' is in the copy alone", table.escape_debug()))),
        None => Ok(()),
    }
}

/// Proves that the pages of a database hold together.
///
/// Constraints are the app's affair, and may call functions that only it has. So may an index: what
/// stands in the way of the whole check is then left out, table by table.
pub(super) fn sound(path: &Path, check: &str, limit: &Limit<'_>) -> Result<()> {
    let connection = open::reader(path)?;
    let ask = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, String>(0));
    let answer = || -> rusqlite::Result<String> {
        connection.pragma_update(None, "ignore_check_constraints", true)?;
        match ask(&format!("PRAGMA {check}(1)")) {
            Err(error) if is_beyond_us(&error) => {}
            whole => return whole,
        }
        for (table, _) in open::tables(&connection)? {
            match ask(&format!("PRAGMA {check}({})", open::quoted(&table))) {
                Ok(answer) if answer == "ok" => {}
                Err(error) if is_beyond_us(&error) => {}
                other => return other,
            }
        }
        Ok("ok".to_owned())
    };
    let answer = open::within(&connection, limit, || {
        answer().context(|| format!("cannot check the pages of {}", path.display()))
    })?;
    if answer == "ok" {
        Ok(())
    } else {
        Err(Error::new(format!("its pages do not hold together: {}", answer.escape_debug())))
    }
}

/// Whether SQLite only lacks what the app would bring: a function, a collation, a unique key to refer to.
fn is_beyond_us(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqlInputError { .. })
        || error.sqlite_error_code() == Some(ErrorCode::Unknown)
}

fn no_more_than(broken: u64, now: u64) -> Result<()> {
    if now <= broken {
        Ok(())
    } else {
        Err(Error::new(format!("{now} references lead nowhere, and {broken} did before")))
    }
}

/// How many foreign keys lead nowhere. A table whose keys cannot even be followed, as what they refer
/// to is not unique, counts as one.
fn violations(path: &Path, limit: &Limit<'_>) -> Result<u64> {
    let connection = open::reader(path)?;
    let of = |table: &str| -> rusqlite::Result<u64> {
        let mut check = connection.prepare(&format!("PRAGMA foreign_key_check({})", open::quoted(table)))?;
        let mut found = check.query([])?;
        let mut broken = 0;
        while found.next()?.is_some() {
            broken += 1;
        }
        Ok(broken)
    };
    let ask = || -> rusqlite::Result<u64> {
        let tables = open::tables(&connection)?;
        tables.iter().try_fold(0, |sum, (table, _)| match of(table) {
            Err(error) if is_beyond_us(&error) => Ok(sum + 1),
            broken => Ok(sum + broken?),
        })
    };
    open::within(&connection, limit, || {
        ask().context(|| format!("cannot check the references of {}", path.display()))
    })
}

/// The rows of each table, as one connection sees them.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<Rows> {
    let mut rows = Rows::new();
    for (table, _) in open::tables(connection)? {
        let count = format!("SELECT count(*) FROM main.{}", open::quoted(&table));
        let ask = |count: &str| connection.query_row(count, [], |row| row.get::<_, i64>(0));
        // An index is the shorter way, unless its collation is the app's own.
        let count = ask(&count).or_else(|_| ask(&format!("{count} NOT INDEXED")))?;
        rows.insert(table, count.unsigned_abs());
    }
    Ok(rows)
}
