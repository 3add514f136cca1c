//! Many triggers at once.
//!
//! For each `CREATE TRIGGER` and `DROP TRIGGER` SQLite looks through the whole schema, which has a row for every trigger
//! that there is: with thousands of tables that is the square, while writers wait. So their rows are written, and
//! removed, as SQLite itself does it, all in one pass, and then it reads the schema anew. A row that is no trigger it refuses
//! there, and the transaction ends without effect.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};

/// A trigger to be made.
pub(super) struct Trigger {
    pub(super) name: String,
    /// The name of its table, as it is written.
    pub(super) table: String,
    /// The statement, as SQLite keeps it: `CREATE TRIGGER …`.
    pub(super) sql: String,
}

/// Makes triggers, in the transaction that `connection` is in.
pub(super) fn make(connection: &Connection, triggers: &[Trigger]) -> rusqlite::Result<()> {
    changed(connection, || {
        let mut enter = connection.prepare(
            "INSERT INTO main.sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES ('trigger', ?1, ?2, 0, ?3)",
        )?;
        for trigger in triggers {
            enter.execute(params![trigger.name, trigger.table, trigger.sql])?;
        }
        Ok(!triggers.is_empty())
    })
}

/// Drops the triggers of which `which` is true, a condition on `sqlite_schema`, in the transaction that `connection` is in.
pub(super) fn drop_those(connection: &Connection, which: &str) -> rusqlite::Result<()> {
    changed(connection, || {
        let gone = connection
            .execute(&format!("DELETE FROM main.sqlite_schema WHERE type = 'trigger' AND {which}"), [])?;
        Ok(gone > 0)
    })
}

/// Lets `work` change the rows of the schema; if it says that it did, every connection reads them anew.
fn changed(connection: &Connection, work: impl FnOnce() -> rusqlite::Result<bool>) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true)?;
    let done = work();
    // Off again before it is read: what is malformed would only be passed over.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false)?;
    if done? {
        let version: i32 = connection.pragma_query_value(Some("main"), "schema_version", |row| row.get(0))?;
        connection.pragma_update(Some("main"), "schema_version", version.wrapping_add(1))?;
        connection.query_row("SELECT count(*) FROM main.sqlite_schema", [], |_| Ok(()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE \"a b\" (x); CREATE TABLE seen (x); BEGIN IMMEDIATE").unwrap();
        connection
    }

    fn trigger(sql: &str) -> Trigger {
        Trigger { name: "ours".into(), table: "a b".into(), sql: sql.into() }
    }

    #[test]
    fn a_trigger_that_is_made_fires_and_one_that_is_dropped_does_not() {
        let connection = database();
        let sql =
            "CREATE TRIGGER \"ours\" AFTER INSERT ON main.\"a b\" BEGIN INSERT INTO seen VALUES (NEW.x); END";
        make(&connection, &[trigger(sql)]).unwrap();
        connection.execute_batch("COMMIT; INSERT INTO \"a b\" VALUES (1)").unwrap();
        let seen =
            || connection.query_row("SELECT count(*) FROM seen", [], |row| row.get::<_, u32>(0)).unwrap();
        assert_eq!(seen(), 1);
        drop_those(&connection, "name = 'ours'").unwrap();
        connection.execute_batch("INSERT INTO \"a b\" VALUES (2)").unwrap();
        assert_eq!(seen(), 1);
        let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }

    #[test]
    fn what_is_no_trigger_is_refused_before_it_is_committed() {
        for sql in
            ["CREATE TRIGGER ours AFTER INSERT ON nowhere BEGIN SELECT 1; END", "CREATE TRIGGER ours AFTER"]
        {
            let connection = database();
            make(&connection, &[trigger(sql)]).unwrap_err();
            connection.execute_batch("ROLLBACK; INSERT INTO \"a b\" VALUES (1)").unwrap();
        }
    }
}
