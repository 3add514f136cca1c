//! The fence: triggers that make every write to a retired database fail.
//!
//! Each table has three, before insert, update and delete. They hold for connections that were open
//! before, with statements that they prepared before; for `INSERT OR IGNORE`, `OR REPLACE`, `OR FAIL`
//! and upserts (the raise is not subject to the statement's conflict clause); for a `DELETE` of all
//! rows; and for what a cascade does.
//!
//! **Virtual tables** cannot have triggers. Those of FTS3, FTS4, FTS5 and R*Tree are fenced through the
//! tables that they keep their content in. Two things matter there, or SQLite crashes in the app (both were
//! seen, in 3.40.1 of Debian 12 and in 3.54.1): the triggers say `RAISE(FAIL)`, as `ABORT` rolls a statement
//! back from within the module's own write; and the tables that the full-text modules write when they are
//! flushed ([`FLUSHED`]) have none, as SQLite flushes them again before it runs such a trigger, without end.
//! The refusal arrives as `constraint failed`; FTS4 may call it a malformed image, which it is not.
//!
//! **What goes past the fence** (each of these was tried, also through a connection that was open before):
//! - `CREATE TABLE`, and writes to that new table ([`fence`] then finds gaps); `ALTER TABLE`,
//!   `CREATE INDEX`, `DROP TRIGGER`, `VACUUM`, `PRAGMA user_version`; `DROP TABLE`, unless foreign keys
//!   are on and it would cascade into another, fenced table;
//! - writes to SQLite's own tables (`sqlite_sequence`, `ANALYZE`);
//! - an FTS5 table with neither content nor sizes (`content='', columnsize=0`), and `optimize` of any;
//! - `INSERT OR IGNORE` and `UPDATE OR IGNORE` of a virtual table: nothing is written, but the refusal is
//!   ignored, as the statement says;
//! - the words of a full-text table, if a transaction goes on after the refusal and commits: no row is
//!   written, but the index may keep or lose words until `INSERT INTO t (t) VALUES ('rebuild')`;
//! - incremental blob writes, and connections that switched triggers off.
//!
//! Nothing that SQL can do stops DDL in connections that are open. A write version of 3 in the file's
//! header would, but a connection that has seen it stays read-only for good, also after [`unfence`].

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::triggers::{self, Trigger};
use super::{open, way};
use crate::data::Fence;
use crate::support::{Context, Result};

/// Which triggers are receiver's: its prefix, and what only its own do. An app may well have a table
/// that begins with `receiver_`.
pub(super) const OURS: &str =
    "type = 'trigger' AND name GLOB 'receiver_fence_*' AND sql GLOB '*SELECT RAISE(*, ''receiver: *'";

/// The tables behind virtual ones that are written when the module is flushed, by the ends of their names.
const FLUSHED: [&str; 4] = ["_data", "_idx", "_segdir", "_segments"];

/// How far the database is fenced.
pub fn fence(path: &Path) -> Result<Fence> {
    let connection = open::reader(path)?;
    state(&connection).context(|| format!("cannot read the fence of {}", path.display()))
}

/// Takes the fence down. Without one, nothing happens.
pub fn unfence(path: &Path) -> Result<()> {
    let mut connection = open::writer(path)?;
    let mut remove = || -> rusqlite::Result<()> {
        // A reader's look first: a database without a fence need not wait for its writers.
        if names(&connection)?.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        drop_all(&transaction)?;
        transaction.commit()
    };
    remove().context(|| format!("cannot take down the fence of {}", path.display()))
}

/// Removes everything of receiver's own from a copy, fence and capture, and nothing of the app's.
pub fn strip(copy: &Path) -> Result<()> {
    let mut connection = open::writer(copy)?;
    let mut remove = || -> rusqlite::Result<()> {
        if names(&connection)?.is_empty() && way::names(&connection)?.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        drop_all(&transaction)?;
        way::drop_all(&transaction)?;
        transaction.commit()
    };
    remove().context(|| format!("cannot strip the copy {}", copy.display()))
}

/// Creates the triggers in the transaction that `connection` is in.
pub(super) fn raise(connection: &Connection, why: &str) -> rusqlite::Result<()> {
    drop_all(connection)?;
    let message = open::text(&format!("receiver: {why}"));
    let mut gates = Vec::new();
    for (number, (table, shadow)) in fenceable(connection)?.into_iter().enumerate() {
        let quoted = open::quoted(&table);
        let how = if shadow { "FAIL" } else { "ABORT" };
        for event in ["insert", "update", "delete"] {
            let name = format!("receiver_fence_{number}_{event}");
            let sql = format!(
                "CREATE TRIGGER {name} BEFORE {event} ON main.{quoted} BEGIN SELECT RAISE({how}, {message}); END"
            );
            gates.push(Trigger { name, table: table.clone(), sql });
        }
    }
    triggers::make(connection, &gates)
}

/// The tables that get triggers, and whether each is one behind a virtual table.
fn fenceable(connection: &Connection) -> rusqlite::Result<Vec<(String, bool)>> {
    let mut tables = open::tables(connection)?;
    tables.retain(|(name, shadow)| !(*shadow && FLUSHED.iter().any(|end| name.ends_with(end))));
    Ok(tables)
}

fn drop_all(connection: &Connection) -> rusqlite::Result<()> {
    triggers::drop_those(connection, OURS)
}

fn names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = connection.prepare(&format!("SELECT name FROM sqlite_schema WHERE {OURS}"))?;
    query.query_map([], |row| row.get(0))?.collect()
}

fn state(connection: &Connection) -> rusqlite::Result<Fence> {
    if names(connection)?.is_empty() {
        return Ok(Fence::Open);
    }
    let mut query = connection.prepare(&format!(
        "SELECT lower(tbl_name), count(*) FROM sqlite_schema WHERE {OURS} GROUP BY lower(tbl_name)"
    ))?;
    let fenced: BTreeMap<String, u32> =
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    let mut gaps: Vec<String> = fenceable(connection)?.into_iter().map(|(table, _)| table).collect();
    gaps.retain(|table| fenced.get(&table.to_ascii_lowercase()).is_none_or(|count| *count < 3));
    Ok(if gaps.is_empty() { Fence::Whole } else { Fence::Gaps(gaps) })
}
