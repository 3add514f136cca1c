//! How a database is opened: what is there already, with nothing trusted, and a limit on every wait.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{place, way};
use crate::data::Limit;
use crate::support::{Context, Error, Result};

/// How long one statement waits for somebody else's lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a running statement is asked whether it may go on.
const HEARTBEAT: Duration = Duration::from_millis(20);

/// Opens an existing database to read it.
///
/// The file is opened for writing all the same: a reader may have to recover a WAL or a journal that
/// a death left. What it runs cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let connection = writer(path)?;
    connection
        .pragma_update(None, "query_only", true)
        .context(|| format!("cannot open the database {}", path.display()))?;
    Ok(connection)
}

/// Opens an existing database to write to it.
pub(super) fn writer(path: &Path) -> Result<Connection> {
    let connection = raw(path)?;
    // The first look at the pages: here it shows whether this is a database at all.
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .context(|| format!("cannot read the database {}", path.display()))?;
    Ok(connection)
}

/// Opens an existing file without a look at what is in it.
pub(super) fn raw(path: &Path) -> Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(place::existing(path)?, flags)
        .context(|| format!("cannot open the database {}", path.display()))?;
    configure(&connection).context(|| format!("cannot open the database {}", path.display()))?;
    Ok(connection)
}

pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    // The schema is the app's: it may not reach functions that do more than compute.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // A WAL commit is on disk when it returns: the fence must not be lost with the power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cell_size_check", true)
}

/// Puts a database into WAL mode.
pub(super) fn write_ahead(path: &Path) -> Result<()> {
    journal_mode(&writer(path)?, path, "wal")
}

/// Puts a database into a journal mode, and proves that it is.
pub(super) fn journal_mode(connection: &Connection, path: &Path, mode: &str) -> Result<()> {
    let cannot = || format!("cannot put the database {} into {mode} mode", path.display());
    let now: String =
        connection.query_row(&format!("PRAGMA journal_mode={mode}"), [], |row| row.get(0)).context(cannot)?;
    if now == mode { Ok(()) } else { Err(Error::new(format!("{}: it stays in {now} mode", cannot()))) }
}

/// Runs `work` on a connection, and interrupts what it runs when the limit is reached. A progress
/// handler would not do: counting a damaged tree is one single instruction.
pub(super) fn within<T>(
    connection: &Connection,
    limit: &Limit<'_>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    limit.check()?;
    let handle = connection.get_interrupt_handle();
    let (working, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                // Again and again: an interrupt is forgotten between two statements.
                if limit.check().is_err() {
                    handle.interrupt();
                }
            }
        });
        let result = work();
        drop(working);
        result.map_err(|error| limit.check().err().unwrap_or(error))
    })
}

/// A table that has rows of its own and can have triggers.
pub(super) struct Listed {
    pub(super) name: String,
    /// Whether a virtual table keeps its content in it.
    pub(super) shadow: bool,
    /// Whether it is `STRICT`.
    pub(super) strict: bool,
    /// Whether it is `WITHOUT ROWID`.
    pub(super) without_rowid: bool,
}

/// Every table that has rows of its own and can have triggers, by name; and whether it is one of those
/// that a virtual table keeps its content in. Receiver's own are left out.
pub(super) fn tables(connection: &Connection) -> rusqlite::Result<Vec<(String, bool)>> {
    Ok(tables_of(connection, "main")?.into_iter().map(|table| (table.name, table.shadow)).collect())
}

/// The same, of `main` or an attached database, and all that is said of them.
pub(super) fn tables_of(connection: &Connection, schema: &str) -> rusqlite::Result<Vec<Listed>> {
    let mut query = connection.prepare(&format!(
        "SELECT name, type = 'shadow', strict, wr FROM pragma_table_list
         WHERE schema = ?1 AND type IN ('table', 'shadow') AND lower(substr(name, 1, 7)) <> 'sqlite_'
             AND name NOT IN (SELECT name FROM {}.sqlite_schema WHERE {})
         ORDER BY name",
        quoted(schema),
        way::NOTES
    ))?;
    let listed = |row: &rusqlite::Row<'_>| {
        Ok(Listed { name: row.get(0)?, shadow: row.get(1)?, strict: row.get(2)?, without_rowid: row.get(3)? })
    };
    query.query_map([schema], listed)?.collect()
}

/// A name as an identifier of SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Text as a string of SQL.
pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
