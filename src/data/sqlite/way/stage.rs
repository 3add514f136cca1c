//! The rows of one table on their way.
//!
//! The keys come first, into a temporary table of the key's own types and collations, each with a number.
//! Then, for each that is there in the source, the whole row as the target shall have it: mapped columns,
//! and those that only the target has as its row has them. Only then are the old rows taken out of the target
//! and the new ones put in, so that two rows that changed places do not meet in a unique index. A row that
//! stays under its key keeps its `rowid`.

use rusqlite::types::Value as Cell;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use super::super::open::Listed;
use super::super::{lexer, script};
use super::log::Log;
use super::open;
use super::tables::{self, Key};
use crate::data::way::{Moved, Passage, Staged, Value};
use crate::support::{Context, Error, Result};

/// One table that rows go through.
pub(super) struct Stage<'a> {
    pub(super) passage: &'a Passage,
    /// Its place among the others, in the order of inserts.
    pub(super) at: usize,
    /// The temporary table of the keys: `n`, `k0`…, and what is known of each: whether the target has it
    /// (`there`), whether the source has it (`live`), whether it had not changed (`along`), and whether it is
    /// left out (`out`).
    pub(super) keys: String,
    /// The temporary table of the rows: `n`, the target's `rid`, the columns `c0`…, the kept ones `o0`….
    pub(super) rows: String,
    key: Vec<Key>,
    /// The name of the target's hidden number of rows, where that is not a column.
    rowid: Option<&'static str>,
    /// Whether any row is on its way, and the temporary tables are there: of thousands of tables that could be needed, few
    /// are.
    is_used: bool,
    /// Up to which `n` the rows are there.
    filled: i64,
}

impl<'a> Stage<'a> {
    /// For a table on both sides.
    pub(super) fn new(
        connection: &Connection,
        at: usize,
        passage: &'a Passage,
        source: &Listed,
        target: &Listed,
    ) -> rusqlite::Result<Self> {
        let mut key = tables::key(connection, "main", source)?;
        key.sort_by_key(|key| passage.key.iter().position(|name| name.eq_ignore_ascii_case(&key.name)));
        Ok(Stage {
            passage,
            at,
            keys: format!("temp.receiver_keys_{at}"),
            rows: format!("temp.receiver_rows_{at}"),
            key,
            rowid: if target.without_rowid { None } else { rowid(connection, passage)? },
            is_used: false,
            filled: 0,
        })
    }

    /// Makes the temporary tables, where they are not there.
    fn begin(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if std::mem::replace(&mut self.is_used, true) {
            return Ok(());
        }
        let columns: Vec<String> = (self.key.iter().enumerate())
            .map(|(at, key)| format!("k{at} {} COLLATE {}", key.affinity, open::quoted(&key.collation)))
            .collect();
        connection.execute_batch(&format!(
            "CREATE TABLE {} (n INTEGER PRIMARY KEY, {}, there INTEGER NOT NULL DEFAULT 0,
                 live INTEGER NOT NULL DEFAULT 0, along INTEGER NOT NULL DEFAULT 0, out INTEGER NOT NULL DEFAULT 0,
                 UNIQUE ({}));
             CREATE TABLE {} (n INTEGER PRIMARY KEY, rid, {})",
            self.keys,
            columns.join(", "),
            self.k(""),
            self.rows,
            numbered("c", self.passage.columns.len())
                .chain(numbered("o", self.passage.kept.len()))
                .collect::<Vec<_>>()
                .join(", ")
        ))
    }

    /// `k0, k1` of the keys, behind a prefix.
    pub(super) fn k(&self, prefix: &str) -> String {
        (0..self.key.len()).map(|at| format!("{prefix}k{at}")).collect::<Vec<_>>().join(", ")
    }

    /// The names of the key's columns, behind a prefix.
    pub(super) fn named(&self, prefix: &str) -> String {
        let names = self.passage.key.iter().map(|name| format!("{prefix}{}", open::quoted(name)));
        names.collect::<Vec<_>>().join(", ")
    }

    /// That a row of the app and one of the keys have the same key.
    pub(super) fn same(&self, row: &str, key: &str) -> String {
        let pairs = self.passage.key.iter().enumerate();
        let pairs = pairs.map(|(at, name)| format!("{row}{} = {key}k{at}", open::quoted(name)));
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    /// The table, in `main` or `peer`.
    pub(super) fn table(&self, schema: &str) -> String {
        format!("{schema}.{}", open::quoted(&self.passage.table))
    }

    /// Takes the keys of a log.
    pub(super) fn take_noted(&mut self, connection: &Connection, log: &Log) -> rusqlite::Result<()> {
        if !log.says_something(connection)? {
            return Ok(());
        }
        self.begin(connection)?;
        let (keys, k, noted) = (&self.keys, self.k(""), log.keys(&self.passage.key));
        connection.execute_batch(&format!("INSERT INTO {keys} ({k}) {noted} ON CONFLICT DO NOTHING"))
    }

    /// Takes the keys of all rows; of those that only fill, where both have the row and there is something.
    pub(super) fn take_all(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.begin(connection)?;
        let (keys, k, named) = (&self.keys, self.k(""), self.named(""));
        let mut conditions: Vec<String> =
            self.passage.key.iter().map(|name| format!("{} IS NOT NULL", open::quoted(name))).collect();
        if self.passage.fills {
            conditions.push(format!("({named}) IN (SELECT {named} FROM {})", self.table("peer")));
            let others = self.passage.columns.iter().filter(|(name, _)| !self.passage.key.contains(name));
            let some: Vec<_> =
                others.map(|(_, value)| format!("{} IS NOT NULL", self.value(value))).collect();
            conditions.push(format!("({})", some.join(" OR ")));
        }
        connection.execute_batch(&format!(
            "INSERT INTO {keys} ({k}) SELECT {named} FROM {} WHERE {} ON CONFLICT DO NOTHING",
            self.table("main"),
            conditions.join(" AND ")
        ))
    }

    /// Takes one key along, of a row that did not change. Answers its number.
    pub(super) fn take(&mut self, connection: &Connection, key: &[Cell]) -> rusqlite::Result<i64> {
        self.begin(connection)?;
        let (keys, k) = (&self.keys, self.k(""));
        let marks = vec!["?"; key.len()].join(", ");
        let insert = format!("INSERT INTO {keys} ({k}, along) VALUES ({marks}, 1) ON CONFLICT DO NOTHING");
        connection.prepare_cached(&insert)?.execute(params_from_iter(key))?;
        connection
            .prepare_cached(&format!("SELECT n FROM {keys} WHERE ({k}) = ({marks})"))?
            .query_row(params_from_iter(key), |row| row.get(0))
    }

    /// Up to which number there are keys.
    pub(super) fn last(&self, connection: &Connection) -> rusqlite::Result<i64> {
        if !self.is_used {
            return Ok(0);
        }
        connection.query_row(&format!("SELECT coalesce(max(n), 0) FROM {}", self.keys), [], |row| row.get(0))
    }

    /// Makes the rows of the keys that came since the last time, from the source and the untouched target.
    pub(super) fn fill(&mut self, connection: &Connection) -> Result<()> {
        let table = self.passage.table.escape_debug();
        let cannot = || format!("cannot read the rows of table '{table}'");
        let (expected, made) =
            self.make_rows(connection).map_err(|error| Error::new(script::told(&error).1)).context(cannot)?;
        if expected == made {
            return Ok(());
        }
        let why = format!("the expressions for table '{table}' do not make one row of each");
        Err(Error::new(why).hint("an expression may not be an aggregate, like count(*)"))
    }

    fn make_rows(&mut self, connection: &Connection) -> rusqlite::Result<(i64, i64)> {
        let last = self.last(connection)?;
        if last == self.filled {
            return Ok((0, 0));
        }
        let (keys, rows, from) = (&self.keys, &self.rows, self.filled);
        let (main, peer) = (self.table("main"), self.table("peer"));
        let new = format!("({}) IN (SELECT {} FROM {keys} WHERE n > {from})", self.named(""), self.k(""));
        let values: Vec<_> = self.passage.columns.iter().map(|(_, value)| self.value(value)).collect();
        let columns: Vec<_> = numbered("c", values.len()).collect();
        // The only names in an expression's reach are those of the source's table.
        connection.execute_batch(&format!(
            "INSERT INTO {rows} (n, {}) SELECT (SELECT n FROM {keys} WHERE {}), {} FROM {main} WHERE {new}",
            columns.join(", "),
            self.same(&format!("{main}."), ""),
            values.join(", ")
        ))?;
        let there = self.same("t.", "k.");
        let mut kept: Vec<String> = self
            .passage
            .kept
            .iter()
            .enumerate()
            .map(|(at, name)| format!("o{at} = t.{}", open::quoted(name)))
            .collect();
        kept.extend(self.rowid.map(|name| format!("rid = t.{name}")));
        if self.passage.fills {
            let columns = self.passage.columns.iter().enumerate();
            kept.extend(
                columns.map(|(at, (name, _))| format!("c{at} = coalesce(c{at}, t.{})", open::quoted(name))),
            );
        }
        if !kept.is_empty() {
            let bare = rows.trim_start_matches("temp.");
            connection.execute_batch(&format!(
                "UPDATE {rows} SET {} FROM {keys} k, {peer} t
                 WHERE k.n = {bare}.n AND k.n > {from} AND {there}",
                kept.join(", ")
            ))?;
        }
        connection.execute_batch(&format!(
            "UPDATE {keys} AS k SET there = EXISTS (SELECT 1 FROM {peer} t WHERE {there}),
                 live = EXISTS (SELECT 1 FROM {rows} r WHERE r.n = k.n) WHERE n > {from}"
        ))?;
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let expected = number(&format!("SELECT count(*) FROM {main} WHERE {new}"))?;
        let made = number(&format!("SELECT count(*) FROM {rows} WHERE n > {from}"))?;
        self.filled = last;
        Ok((expected, made))
    }

    pub(super) fn value(&self, value: &Value) -> String {
        match value {
            Value::Column(name) => format!("{}.{}", self.table("main"), open::quoted(name)),
            Value::Expression(text) => format!("({text})"),
        }
    }

    /// Leaves one key out.
    pub(super) fn leave(&self, connection: &Connection, n: i64) -> rusqlite::Result<()> {
        let leave = format!("UPDATE {} SET out = 1 WHERE n = ?1", self.keys);
        connection.prepare_cached(&leave)?.execute([n]).map(drop)
    }

    /// Takes the old rows out of the target.
    pub(super) fn delete(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(&format!(
            "DELETE FROM {} WHERE ({}) IN (SELECT {} FROM {} WHERE there AND NOT out)",
            self.table("peer"),
            self.named(""),
            self.k(""),
            self.keys
        ))
    }

    /// Puts the new rows in. Answers which were refused, and why.
    pub(super) fn insert(&self, connection: &Connection) -> rusqlite::Result<Vec<(i64, String)>> {
        let mut refused = Vec::new();
        // Those that keep their hidden number go first: a new one could get it.
        for (there, sql) in [("there", self.insertion(true)), ("NOT there", self.insertion(false))] {
            let which = format!("SELECT n FROM {} WHERE live AND NOT out AND {there}", self.keys);
            match connection.execute_batch(&format!("{sql} IN ({which}) ORDER BY n")) {
                Ok(()) => continue,
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(error),
            }
            // One of them is refused, and nothing is done: now one by one, to see which.
            let mut insert = connection.prepare(&format!("{sql} = ?1"))?;
            let mut query = connection.prepare(&format!("{which} ORDER BY n"))?;
            let mut numbers = query.query([])?;
            while let Some(row) = numbers.next()? {
                let n: i64 = row.get(0)?;
                match insert.execute([n]) {
                    Ok(_) => {}
                    Err(error) if is_refusal(&error) => refused.push((n, told(&error))),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(refused)
    }

    /// The statement that inserts rows, up to `WHERE n`. `OR ABORT`, as the schema may say `ON CONFLICT REPLACE`.
    fn insertion(&self, there: bool) -> String {
        let names = self.passage.columns.iter().map(|(name, _)| open::quoted(name));
        let mut names: Vec<String> = names.collect();
        let mut columns: Vec<String> = numbered("c", names.len()).collect();
        if there {
            names.extend(self.passage.kept.iter().map(|name| open::quoted(name)));
            columns.extend(numbered("o", self.passage.kept.len()));
            if let Some(rowid) = self.rowid {
                names.push(rowid.to_owned());
                columns.push("rid".to_owned());
            }
        }
        format!(
            "INSERT OR ABORT INTO {} ({}) SELECT {} FROM {} WHERE n",
            self.table("peer"),
            names.join(", "),
            columns.join(", "),
            self.rows
        )
    }

    /// What moved, once it is settled.
    pub(super) fn moved(&self, connection: &Connection) -> rusqlite::Result<Moved> {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE live), count(*) FILTER (WHERE there AND NOT live),
                 count(*) FILTER (WHERE live AND along) FROM {} WHERE NOT out",
            self.keys
        );
        connection.query_row(&sql, [], |row| {
            let count = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
            Ok(Moved { written: count(0)?, deleted: count(1)?, along: count(2)? })
        })
    }

    /// A key for a person: `id = 7`.
    pub(super) fn told(&self, connection: &Connection, n: i64) -> rusqlite::Result<String> {
        let parts = self.passage.key.iter().enumerate();
        let parts: Vec<_> = parts
            .map(|(at, name)| format!("{} || substr(quote(k{at}), 1, 80)", open::text(&format!("{name} = "))))
            .collect();
        let sql = format!("SELECT {} FROM {} WHERE n = ?1", parts.join(" || ', ' || "), self.keys);
        connection.query_row(&sql, [n], |row| row.get(0))
    }

    /// A counter of keys never goes back: the target's is as far as the source's.
    pub(super) fn count_on(&self, connection: &Connection) -> rusqlite::Result<()> {
        if !counts(connection, "peer", &self.passage.table)?
            || !counts(connection, "main", &self.passage.table)?
        {
            return Ok(());
        }
        let table = open::text(&self.passage.table);
        connection.execute_batch(&format!(
            "INSERT INTO peer.sqlite_sequence (name, seq)
                 SELECT name, 0 FROM peer.sqlite_schema WHERE type = 'table' AND name = {table} COLLATE NOCASE
                     AND name NOT IN (SELECT name FROM peer.sqlite_sequence);
             UPDATE peer.sqlite_sequence SET seq = max(seq, coalesce(
                     (SELECT max(seq) FROM main.sqlite_sequence WHERE name = {table} COLLATE NOCASE), 0))
                 WHERE name = {table} COLLATE NOCASE"
        ))
    }
}

impl<'a> Staged<'a> for Stage<'a> {
    fn passage(&self) -> &'a Passage {
        self.passage
    }

    fn is_used(&self) -> bool {
        self.is_used
    }
}

fn numbered(letter: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |at| format!("{letter}{at}"))
}

/// The name of the hidden number of the target's rows, if it is no column.
fn rowid(connection: &Connection, passage: &Passage) -> rusqlite::Result<Option<&'static str>> {
    // A key without an index is the number itself.
    let indexed = connection
        .prepare_cached("SELECT 1 FROM pragma_index_list(?1, 'peer') WHERE origin = 'pk'")?
        .exists([&passage.table])?;
    let columns: Vec<String> = connection
        .prepare_cached("SELECT lower(name) FROM pragma_table_xinfo(?1, 'peer')")?
        .query_map([&passage.table], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let free =
        ["rowid", "_rowid_", "oid"].into_iter().find(|name| !columns.iter().any(|column| column == name));
    Ok(free.filter(|_| indexed))
}

/// Whether a table has `AUTOINCREMENT`.
fn counts(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<bool> {
    let sql: String = connection.query_row(
        &format!("SELECT sql FROM {schema}.sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE"),
        [table],
        |row| row.get(0),
    )?;
    Ok(lexer::tokens(&sql).iter().any(|token| token.is("autoincrement")))
}

/// Whether it is this row that the target cannot hold, and not the whole that fails.
fn is_refusal(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
    )
}

fn told(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}
