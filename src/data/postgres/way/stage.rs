//! The rows of one table on their way.
//!
//! The keys come first, into a temporary table of the target, each with a number; then, for each that is there in
//! the source, the values of the row, as text: what they become is the target's to say, row by row. Rows that
//! are there are updated, so that columns that only the target has stay, and nothing that refers to them is
//! touched; the others are inserted.

use super::super::names::ident;
use super::super::session::Session;
use super::source::{Source, k};
use super::tables::Known;
use crate::data::Limit;
use crate::data::way::{Moved, Passage, Staged};
use crate::support::{Context, Error, Result};

/// One table that rows go through.
pub(super) struct Stage<'a> {
    pub(super) passage: &'a Passage,
    /// Its place among the others, in the order of inserts.
    pub(super) at: usize,
    /// The temporary table of the keys: `n`, `t0`… as text, `k0`… in the target's types, and what is known of each:
    /// whether the target has it (`there`), whether the source has it (`live`), whether it had not changed
    /// (`along`), and whether it is left out (`out`).
    pub(super) keys: String,
    /// The temporary table of the rows: `n`, and the columns `c0`…, as text.
    rows: String,
    pub(super) to: &'a Known,
    /// Whether any row is on its way, and the temporary tables are there.
    is_used: bool,
    /// Up to which `n` the rows are there.
    filled: i64,
}

/// What was refused: the number of the key, and why.
pub(super) type Refusals = Vec<(i64, String)>;

impl<'a> Stage<'a> {
    /// For a table of the target.
    pub(super) fn new(at: usize, passage: &'a Passage, to: &'a Known) -> Self {
        let keys = format!("pg_temp.receiver_keys_{at}");
        let rows = format!("pg_temp.receiver_rows_{at}");
        Stage { passage, at, keys, rows, to, is_used: false, filled: 0 }
    }

    /// Makes the temporary tables, where they are not there.
    fn begin(&mut self, target: &mut Session) -> Result<()> {
        if std::mem::replace(&mut self.is_used, true) {
            return Ok(());
        }
        let (at, keys, width) = (self.at, &self.keys, self.passage.key.len());
        let texts: Vec<_> = (0..width).map(|at| format!("t{at} text")).collect();
        let typed = self.passage.key.iter().enumerate().map(|(at, name)| {
            let known = self.to.of(name);
            format!("k{at} {}{}", known.base, known.collate)
        });
        let columns: Vec<_> = (0..self.passage.columns.len()).map(|at| format!("c{at} text")).collect();
        target.run(&format!(
            "CREATE TEMP TABLE receiver_keys_{at} (n bigint PRIMARY KEY, {}, {}, there bool NOT NULL DEFAULT false,
                 live bool NOT NULL DEFAULT false, along bool NOT NULL DEFAULT false, out bool NOT NULL DEFAULT false) ON COMMIT DROP;
             CREATE INDEX ON {keys} ({});
             CREATE TEMP TABLE receiver_rows_{at} (n bigint PRIMARY KEY, {}) ON COMMIT DROP",
            texts.join(", "),
            typed.collect::<Vec<_>>().join(", "),
            k(width, ""),
            columns.join(", ")
        ))
    }

    /// That a row of the target and one of the keys have the same key.
    pub(super) fn same(&self, row: &str, key: &str) -> String {
        let pairs = self.passage.key.iter().enumerate();
        let pairs =
            pairs.map(|(at, name)| format!("{row}{} {} {key}k{at}", ident(name), self.to.equal(name)));
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    /// Up to which number there are keys.
    pub(super) fn last(&self) -> i64 {
        self.filled
    }

    /// Makes the rows of the keys that came since the last time. Answers those whose keys the target cannot have.
    pub(super) fn fill(
        &mut self,
        source: &mut Source,
        target: &mut Session,
        limit: &Limit<'_>,
    ) -> Result<Refusals> {
        let table = self.passage.table.escape_debug();
        let cannot = || format!("cannot read the rows of table '{table}'");
        let last = source.last(self.at).context(cannot)?;
        let from = self.filled;
        if last == from && !(from == 0 && source.was_emptied(&self.passage.table)) {
            return Ok(Vec::new());
        }
        self.begin(target).context(cannot)?;
        let texts: Vec<_> = (0..self.passage.key.len()).map(|at| format!("t{at}")).collect();
        let into = format!("COPY {} (n, {}) FROM STDIN", self.keys, texts.join(", "));
        source.send_keys(self.at, self.passage, from, target, &into, limit).context(cannot)?;
        let columns: Vec<_> = (0..self.passage.columns.len()).map(|at| format!("c{at}")).collect();
        let into = format!("COPY {} (n, {}) FROM STDIN", self.rows, columns.join(", "));
        let sent = source.send_rows(self.at, self.passage, from, target, &into, limit).context(cannot)?;
        if sent.0 != sent.1 {
            let why = format!("the expressions for table '{table}' do not make one row of each");
            return Err(Error::new(why).hint("an expression may not answer many rows, like unnest(…)"));
        }
        self.filled = last;
        self.know(target, from, source.was_emptied(&self.passage.table))
    }

    /// Notes what is known of the keys behind a number.
    fn know(&self, target: &mut Session, from: i64, emptied: bool) -> Result<Refusals> {
        let (keys, there) = (&self.keys, self.same("t.", "k."));
        let rows = self.to.rows();
        let typed = self.passage.key.iter().enumerate();
        let typed: Vec<_> =
            typed.map(|(at, name)| format!("k{at} = t{at}::{}", self.to.of(name).base)).collect();
        let type_keys =
            |lo: i64, hi: i64| format!("UPDATE {keys} SET {} WHERE n > {lo} AND n <= {hi}", typed.join(", "));
        let mut refused = Vec::new();
        attempt(target, &type_keys, from, self.filled, &mut refused)?;
        if emptied && from == 0 {
            let key: Vec<_> = self.passage.key.iter().map(|name| format!("t.{}", ident(name))).collect();
            let texts: Vec<_> = key.iter().map(|name| format!("{name}::text")).collect();
            let into = (0..key.len()).map(|at| format!("t{at}")).collect::<Vec<_>>().join(", ");
            target.run(&format!(
                "INSERT INTO {keys} (n, {into}, {}, there) SELECT -row_number() OVER (), {}, {}, true
                 FROM {rows} AS t WHERE NOT EXISTS (SELECT FROM {keys} k WHERE {there})",
                k(key.len(), ""),
                texts.join(", "),
                key.join(", ")
            ))?;
        }
        target.run(&format!(
            "ANALYZE {keys}; ANALYZE {};
             UPDATE {keys} AS k SET there = EXISTS (SELECT FROM {rows} AS t WHERE {there}),
                 live = EXISTS (SELECT FROM {} r WHERE r.n = k.n), along = {} WHERE n > {from}",
            self.rows,
            self.rows,
            from > 0
        ))?;
        if self.passage.fills {
            target.run(&format!("DELETE FROM {keys} WHERE NOT there"))?;
        }
        // What the source does not have either needs no place.
        let live = target.query(&format!("SELECT n FROM {keys} WHERE live AND k0 IS NULL"), &[])?;
        let live: Vec<i64> = live.iter().map(|row| row.get(0)).collect();
        refused.retain(|(n, _)| live.contains(n));
        Ok(refused)
    }

    /// Leaves one key out.
    pub(super) fn leave(&self, target: &mut Session, n: i64) -> Result<()> {
        target.query(&format!("UPDATE {} SET out = true WHERE n = $1", self.keys), &[&n]).map(drop)
    }

    /// Writes all rows that go. Answers which were refused, at least as long as the others are as they are.
    pub(super) fn write(&self, target: &mut Session) -> Result<Refusals> {
        let mut refused = Vec::new();
        attempt(target, &|lo, hi| self.statements(lo, hi), 0, self.filled, &mut refused)?;
        Ok(refused)
    }

    /// Tries those again that were refused.
    pub(super) fn write_again(&self, target: &mut Session, stuck: Refusals) -> Result<Refusals> {
        let mut refused = Vec::new();
        for (n, _) in stuck {
            attempt(target, &|lo, hi| self.statements(lo, hi), n - 1, n, &mut refused)?;
        }
        Ok(refused)
    }

    /// Updates what is there, and inserts what is not. The columns of a key that the database counts by itself
    /// cannot be set, and are what they were.
    fn statements(&self, lo: i64, hi: i64) -> String {
        let (rows, keys, table) = (&self.rows, &self.keys, &self.to.sql);
        let value = |at: usize, name: &str| format!("r.c{at}::{}", self.to.of(name).name);
        let columns = || self.passage.columns.iter().enumerate().map(|(at, (name, _))| (at, name));
        let which = format!("r.n = k.n AND k.live AND NOT k.out AND k.n > {lo} AND k.n <= {hi}");
        let set: Vec<_> = columns()
            .filter(|(_, name)| {
                !self.passage.key.contains(name) || !(self.passage.fills || self.to.of(name).always)
            })
            .map(|(at, name)| {
                let (new, name) = (value(at, name), ident(name));
                let new = if self.passage.fills { format!("coalesce({new}, t.{name})") } else { new };
                format!("{name} = {new}")
            })
            .collect();
        let mut sql = Vec::new();
        if !set.is_empty() {
            sql.push(format!(
                "UPDATE {} AS t SET {} FROM {rows} r, {keys} k WHERE {which} AND {}",
                self.to.rows(),
                set.join(", "),
                self.same("t.", "k.")
            ));
        }
        if !self.passage.fills {
            let names: Vec<_> = columns().map(|(_, name)| ident(name)).collect();
            let values: Vec<_> = columns().map(|(at, name)| value(at, name)).collect();
            sql.push(format!(
                "INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {rows} r, {keys} k
                 WHERE {which} AND NOT EXISTS (SELECT FROM {} AS t WHERE {}) ORDER BY k.n",
                names.join(", "),
                values.join(", "),
                self.to.rows(),
                self.same("t.", "k.")
            ));
        }
        sql.join(";\n")
    }

    /// Takes stuck rows out of the target, and puts them in as they shall be: two that changed places, say.
    pub(super) fn replace(&self, target: &mut Session, stuck: &Refusals) -> Result<Refusals> {
        let aside = format!("receiver_aside_{}", self.at);
        let numbers: Vec<_> = stuck.iter().map(|(n, _)| n.to_string()).collect();
        let kept: Vec<_> = self.passage.kept.iter().map(|name| ident(name)).collect();
        let same = self.same("t.", "k.");
        let own: String = kept.iter().enumerate().map(|(at, name)| format!(", t.{name} AS o{at}")).collect();
        target.run(&format!(
            "CREATE TEMP TABLE {aside} ON COMMIT DROP AS SELECT k.n{own} FROM {rows} AS t, {keys} k WHERE {same} AND k.n IN ({});
             DELETE FROM {rows} AS t USING {keys} k, pg_temp.{aside} a WHERE {same} AND k.n = a.n",
            numbers.join(", "),
            rows = self.to.rows(),
            keys = self.keys
        ))?;
        let names = self.passage.columns.iter().map(|(name, _)| ident(name)).chain(kept.iter().cloned());
        let names = names.collect::<Vec<_>>().join(", ");
        let values = self.passage.columns.iter().enumerate();
        let values = values.map(|(at, (name, _))| format!("r.c{at}::{}", self.to.of(name).name));
        let values: Vec<_> = values.chain((0..kept.len()).map(|at| format!("a.o{at}"))).collect();
        let insert = |lo: i64, hi: i64| {
            format!(
                "INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} r, pg_temp.{aside} a
                 WHERE r.n = a.n AND r.n > {lo} AND r.n <= {hi}; {}",
                self.to.sql,
                values.join(", "),
                self.rows,
                self.statements(lo, hi)
            )
        };
        let mut refused = Vec::new();
        for (n, _) in stuck {
            attempt(target, &insert, n - 1, *n, &mut refused)?;
        }
        Ok(refused)
    }

    /// Deletes what is gone, but for that which `unless` is true of, a condition on `t`.
    pub(super) fn delete(&self, target: &mut Session, unless: &str) -> Result<()> {
        target.run(&format!(
            "DELETE FROM {} AS t USING {} k WHERE {} AND k.there AND NOT k.live AND NOT k.out {unless}",
            self.to.rows(),
            self.keys,
            self.same("t.", "k.")
        ))
    }

    /// That a row of the target goes: it is in the keys, gone in the source, and not left out.
    pub(super) fn doomed(&self, row: &str) -> String {
        let same = self.same(row, "d.");
        format!("EXISTS (SELECT FROM {} d WHERE {same} AND d.there AND NOT d.live AND NOT d.out)", self.keys)
    }

    /// Whether any that goes is still there.
    pub(super) fn has_doomed(&self, target: &mut Session) -> Result<bool> {
        let doomed = self.doomed("t.");
        let rows = self.to.rows();
        target
            .number(&format!("SELECT EXISTS (SELECT FROM {rows} AS t WHERE {doomed})::int::bigint"), &[])
            .map(|any| any > 0)
    }

    /// That a row which is written has the same in these columns as one of the target. Compared as text, for a value
    /// that the target cannot hold is an error only where it is written.
    pub(super) fn brings(&self, columns: &[String], row: &str) -> String {
        let equal = columns.iter().map(|name| {
            let at = self.passage.columns.iter().position(|(column, _)| column == name)?;
            Some(format!("r.c{at} = {row}{}::text", ident(name)))
        });
        let Some(equal) = equal.collect::<Option<Vec<_>>>() else { return "false".to_owned() };
        format!(
            "EXISTS (SELECT FROM {} r JOIN {} w ON w.n = r.n WHERE w.live AND NOT w.out AND {})",
            self.rows,
            self.keys,
            equal.join(" AND ")
        )
    }

    /// That it is written or deleted.
    pub(super) fn carried(&self, row: &str) -> String {
        let same = self.same(row, "d.");
        format!("EXISTS (SELECT FROM {} d WHERE {same} AND (d.live OR d.there) AND NOT d.out)", self.keys)
    }

    /// What moved, once it is settled.
    pub(super) fn moved(&self, target: &mut Session) -> Result<Moved> {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE live), count(*) FILTER (WHERE there AND NOT live),
                 count(*) FILTER (WHERE live AND along) FROM {} WHERE NOT out",
            self.keys
        );
        let rows = target.query(&sql, &[])?;
        let count = |at| rows.first().map_or(0, |row| row.get::<_, i64>(at).unsigned_abs());
        Ok(Moved { written: count(0), deleted: count(1), along: count(2) })
    }

    /// How many rows are new in the target.
    pub(super) fn new_rows(&self, target: &mut Session) -> Result<u64> {
        let ask = format!("SELECT count(*) FROM {} WHERE live AND NOT there", self.keys);
        target.number(&ask, &[]).map(i64::unsigned_abs)
    }

    /// A key for a person: `id = 7`.
    pub(super) fn told(&self, target: &mut Session, n: i64) -> Result<String> {
        let parts: Vec<_> = (0..self.passage.key.len()).map(|at| format!("left(t{at}, 80)")).collect();
        let ask = format!("SELECT {} FROM {} WHERE n = $1", parts.join(", "), self.keys);
        let rows = target.query(&ask, &[&n])?;
        let Some(row) = rows.first() else { return Ok(String::new()) };
        let part = |(at, name): (usize, &String)| {
            format!("{name} = {}", row.get::<_, Option<String>>(at).unwrap_or_default())
        };
        Ok(self.passage.key.iter().enumerate().map(part).collect::<Vec<_>>().join(", "))
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

/// Runs a statement for the numbers behind `lo` up to `hi`; where a row is refused, for each half, until it is
/// known which.
fn attempt(
    target: &mut Session,
    statement: &dyn Fn(i64, i64) -> String,
    lo: i64,
    hi: i64,
    refused: &mut Refusals,
) -> Result<()> {
    if lo >= hi {
        return Ok(());
    }
    target.run("SAVEPOINT receiver_row")?;
    let Err(error) = target.client.batch_execute(&statement(lo, hi)) else {
        return target.run("RELEASE SAVEPOINT receiver_row");
    };
    let Some(why) = refusal(&error) else { return Err(target.told(&error)) };
    target.run("ROLLBACK TO SAVEPOINT receiver_row; RELEASE SAVEPOINT receiver_row")?;
    if hi - lo == 1 {
        refused.push((hi, why));
        return Ok(());
    }
    let middle = lo + (hi - lo) / 2;
    attempt(target, statement, lo, middle, refused)?;
    attempt(target, statement, middle, hi, refused)
}

/// What the target says, if it is a row that it cannot hold, and not the whole that fails: data, constraints, what
/// a check of the app's raises, and an index that cannot take so much.
fn refusal(error: &postgres::Error) -> Option<String> {
    let said = error.as_db_error()?;
    let code = said.code().code();
    let is_row = code.starts_with("22") || code.starts_with("23") || code == "P0001" || code == "54000";
    is_row.then(|| said.message().replace('\n', " "))
}
