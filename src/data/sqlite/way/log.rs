//! Where the keys that changed are noted: in one table for all tables that have the same kind of key.
//!
//! To make or to drop a table SQLite looks through its whole schema. A log for each of ten thousand tables would be
//! the square of that, while writers wait; kinds of keys there are few.

use rusqlite::Connection;

use super::super::open;
use super::note::{MARK, Watched};

/// What was noted of one table: its rows in a log.
#[derive(Clone)]
pub(super) struct Log {
    /// The name of the table that has them.
    pub(super) name: String,
    /// What tells them from those of other tables, and the table's triggers from theirs.
    pub(super) number: u32,
    /// The columns of the key, as the log has them: `k0`….
    key: Vec<String>,
}

impl Log {
    pub(super) fn new(name: String, number: u32, watched: &Watched) -> Log {
        Log { name, number, key: watched.key.iter().map(|key| key.name.clone()).collect() }
    }

    /// Its columns behind its name, as they are said where it is made: which table, and the key, with the affinities and
    /// collations of the table's own, so that each is noted once, however often its row changes.
    pub(super) fn columns(watched: &Watched) -> String {
        let columns: String = (watched.key.iter().enumerate())
            .map(|(at, key)| format!(", k{at} {} COLLATE {}", key.affinity, open::quoted(&key.collation)))
            .collect();
        let key: String = (0..watched.key.len()).map(|at| format!(", k{at}")).collect();
        format!("({MARK} t INTEGER{columns}, PRIMARY KEY (t{key})) WITHOUT ROWID")
    }

    /// The query for the keys, by the names that the app has for their columns.
    pub(super) fn keys<Name: AsRef<str>>(&self, names: &[Name]) -> String {
        let place = |name: &Name| self.key.iter().position(|key| key.eq_ignore_ascii_case(name.as_ref()));
        let columns: Vec<_> = names.iter().filter_map(place).map(|at| format!("k{at}")).collect();
        format!("SELECT {} FROM {}", columns.join(", "), self.rows())
    }

    /// How many keys there are.
    pub(super) fn count(&self, connection: &Connection) -> rusqlite::Result<u64> {
        count(connection, &format!("SELECT count(*) FROM {}", self.rows()))
    }

    /// How many of the rows whose keys these are the table still has.
    pub(super) fn living(&self, connection: &Connection, table: &str) -> rusqlite::Result<u64> {
        let names: Vec<_> = self.key.iter().map(|name| open::quoted(name)).collect();
        let (table, names, keys) = (open::quoted(table), names.join(", "), self.keys(&self.key));
        count(connection, &format!("SELECT count(*) FROM main.{table} WHERE ({names}) IN ({keys})"))
    }

    /// Whether there is anything in it.
    pub(super) fn says_something(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let ask = format!("SELECT 1 FROM main.{} WHERE t = ?1", open::quoted(&self.name));
        connection.prepare_cached(&ask)?.exists([self.number])
    }

    fn rows(&self) -> String {
        format!("main.{} WHERE t = {}", open::quoted(&self.name), self.number)
    }
}

fn count(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}
