//! The rows of one table on their way.
//!
//! The keys come first, into a temporary table of the key's own types and collations, each with a number. Then, for
//! each that is there in the source, the whole row as the target shall have it: mapped columns, and those that only
//! the target has as its row has them. Only then are the old rows taken out of the target and the new ones put in:
//! two rows that changed places do not meet in a unique index, a row that another one is in the way of is refused
//! (`ON DUPLICATE KEY UPDATE` would overwrite that other one), and `ON UPDATE CURRENT_TIMESTAMP` has nothing to say.

use super::expression;
use super::tables::{Key, Tables};
use crate::data::mysql::quote;
use crate::data::mysql::session::{Session, code};
use crate::data::way::{Moved, Passage, Staged, Value};
use crate::support::{Error, Result, text};

/// The two ends of a way, and the database that temporary tables are in.
pub(super) struct Between {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) own: String,
    pub(super) from: Tables,
    pub(super) to: Tables,
}

/// One table that rows go through.
pub(super) struct Stage<'a> {
    pub(super) passage: &'a Passage,
    between: &'a Between,
    /// Its place among the others, in the order of inserts.
    pub(super) at: usize,
    /// The temporary table of the keys: `n`, `k0`…, and what is known of each: whether the target has it
    /// (`there`), whether the source has it (`live`), whether it had not changed (`along`), and whether it is
    /// left out (`gone`).
    pub(super) keys: String,
    /// The temporary table of the rows: `n`, the columns `c0`…, the kept ones `o0`….
    rows: String,
    key: Vec<Key>,
    /// What each written column becomes, of the source's row `s`.
    values: Vec<String>,
    /// Whether any row is on its way, and the temporary tables are there: of thousands of tables that could be needed, few
    /// are.
    is_used: bool,
    /// Up to which `n` the rows are there.
    filled: i64,
}

/// That two expressions are equal, by the collation of the first where they differ.
pub(super) fn equal(one: &str, of_one: Option<&String>, other: &str, of_other: Option<&String>) -> String {
    match (of_one, of_other) {
        (Some(collation), Some(another)) if collation != another => {
            let set = collation.split('_').next().unwrap_or(collation);
            format!("{one} = CONVERT({other} USING {set}) COLLATE {collation}")
        }
        _ => format!("{one} = {other}"),
    }
}

impl<'a> Stage<'a> {
    /// For a table on both sides.
    pub(super) fn new(at: usize, passage: &'a Passage, between: &'a Between) -> Result<Self> {
        let table = between.from.find(&passage.table).ok_or_else(|| {
            Error::new(format!("the source has no table '{}' any more", text::printable(&passage.table)))
        })?;
        let mut key = between.from.key(&passage.table).to_vec();
        key.sort_by_key(|key| passage.key.iter().position(|name| *name == key.name.to_lowercase()));
        let value = |(column, value): &(String, Value)| match value {
            Value::Column(name) => Ok(format!("s.{}", quote::name(name))),
            Value::Expression(text) => {
                expression::checked(text, table, "s").map(|text| format!("({text})")).map_err(|why| {
                    let (table, column) = (text::printable(&passage.table), text::printable(column));
                    Error::new(format!(
                        "the expression for column '{column}' of table '{table}' cannot be used: {why}"
                    ))
                })
            }
        };
        Ok(Stage {
            passage,
            between,
            at,
            keys: quote::table(&between.own, &format!("receiver_keys_{at}")),
            rows: quote::table(&between.own, &format!("receiver_rows_{at}")),
            key,
            values: passage.columns.iter().map(value).collect::<Result<_>>()?,
            is_used: false,
            filled: 0,
        })
    }

    /// Makes the temporary tables, where they are not there.
    fn begin(&mut self, session: &mut Session) -> Result<()> {
        if std::mem::replace(&mut self.is_used, true) {
            return Ok(());
        }
        let columns: Vec<String> =
            self.key.iter().enumerate().map(|(at, key)| format!("k{at} {} NOT NULL", key.kind)).collect();
        let flags =
            ["there", "live", "along", "gone"].map(|name| format!("{name} tinyint NOT NULL DEFAULT 0"));
        session.run(&format!(
            "CREATE TEMPORARY TABLE {} (n bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, {}, {}, \
             UNIQUE ({})) ENGINE=InnoDB",
            self.keys,
            columns.join(", "),
            flags.join(", "),
            self.k("")
        ))?;
        session
            .run(&format!(
                "CREATE TEMPORARY TABLE {} (n bigint unsigned NOT NULL PRIMARY KEY) ENGINE=InnoDB AS {} LIMIT 0",
                self.rows,
                self.selection()
            ))
            .map_err(|why| self.cannot_read(why))
    }

    fn cannot_read(&self, why: Error) -> Error {
        let table = text::printable(&self.passage.table);
        Error::new(format!("cannot read the rows of table '{table}'")).caused_by(why)
    }

    /// The rows as they shall be, from the source and the untouched target.
    fn selection(&self) -> String {
        let fills = self.passage.fills;
        let columns =
            self.passage.columns.iter().zip(&self.values).enumerate().map(|(at, ((name, _), value))| {
                if fills && !self.passage.key.contains(name) {
                    format!("COALESCE({value}, t.{}) AS c{at}", quote::name(name))
                } else {
                    format!("{value} AS c{at}")
                }
            });
        let kept = self.passage.kept.iter().enumerate();
        let kept = kept.map(|(at, name)| format!("t.{} AS o{at}", quote::name(name)));
        let all: Vec<_> = columns.chain(kept).collect();
        format!(
            "SELECT k.n AS n, {} FROM {} k STRAIGHT_JOIN {} s ON {} LEFT JOIN {} t ON {}",
            all.join(", "),
            self.keys,
            self.source(),
            self.same_in_source("s.", "k."),
            self.target(),
            self.same("t.", "k.")
        )
    }

    /// `k0, k1` of the keys, behind a prefix.
    pub(super) fn k(&self, prefix: &str) -> String {
        (0..self.key.len()).map(|at| format!("{prefix}k{at}")).collect::<Vec<_>>().join(", ")
    }

    /// The names of the key's columns, behind a prefix.
    pub(super) fn named(&self, prefix: &str) -> String {
        let names = self.passage.key.iter().map(|name| format!("{prefix}{}", quote::name(name)));
        names.collect::<Vec<_>>().join(", ")
    }

    /// That a row of the target and one of the keys have the same key.
    pub(super) fn same(&self, row: &str, key: &str) -> String {
        self.pairs(row, key, &self.between.to)
    }

    /// The same of a row of the source.
    fn same_in_source(&self, row: &str, key: &str) -> String {
        self.pairs(row, key, &self.between.from)
    }

    fn pairs(&self, row: &str, key: &str, tables: &Tables) -> String {
        let pairs = self.passage.key.iter().zip(&self.key).enumerate();
        let pairs = pairs.map(|(at, (name, of))| {
            let collation = tables.collation(&self.passage.table, name);
            equal(
                &format!("{row}{}", quote::name(name)),
                collation,
                &format!("{key}k{at}"),
                of.collation.as_ref(),
            )
        });
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    fn source(&self) -> String {
        quote::table(&self.between.source, &self.passage.table)
    }

    /// The table of the target.
    pub(super) fn target(&self) -> String {
        quote::table(&self.between.target, &self.passage.table)
    }

    /// Takes the keys of a log.
    pub(super) fn take_noted(&mut self, session: &mut Session, log: &str) -> Result<()> {
        if session.first::<u8>(&format!("SELECT 1 FROM {log} LIMIT 1"), ())?.is_none() {
            return Ok(());
        }
        self.begin(session)?;
        let (keys, k, named) = (&self.keys, self.k(""), self.named(""));
        session.run(&format!("INSERT IGNORE INTO {keys} ({k}) SELECT {named} FROM {log}"))
    }

    /// Takes the keys of all rows; of those that only fill, where both have the row and there is something.
    pub(super) fn take_all(&mut self, session: &mut Session) -> Result<()> {
        self.begin(session)?;
        let (keys, k, named) = (&self.keys, self.k(""), self.named("s."));
        let mut filling = String::new();
        if self.passage.fills {
            let columns = self.passage.columns.iter().zip(&self.values);
            let some: Vec<_> = columns
                .filter(|((name, _), _)| !self.passage.key.contains(name))
                .map(|(_, value)| format!("{value} IS NOT NULL"))
                .collect();
            let pairs = self.passage.key.iter().map(|name| {
                let (to, from) = (&self.between.to, &self.between.from);
                let (table, quoted) = (&self.passage.table, quote::name(name));
                equal(
                    &format!("t.{quoted}"),
                    to.collation(table, name),
                    &format!("s.{quoted}"),
                    from.collation(table, name),
                )
            });
            let pairs = pairs.collect::<Vec<_>>().join(" AND ");
            filling = format!(" JOIN {} t ON {pairs} WHERE {}", self.target(), some.join(" OR "));
        }
        session
            .run(&format!("INSERT IGNORE INTO {keys} ({k}) SELECT {named} FROM {} s{filling}", self.source()))
    }

    /// Takes one key along, of a row that did not change. Answers its number.
    pub(super) fn take(&mut self, session: &mut Session, key: &[mysql::Value]) -> Result<i64> {
        self.begin(session)?;
        let (keys, k) = (&self.keys, self.k(""));
        let marks = vec!["?"; key.len()].join(", ");
        let insert = format!("INSERT IGNORE INTO {keys} ({k}, along) VALUES ({marks}, 1)");
        session.rows::<mysql::Row>(&insert, key.to_vec())?;
        session.value(&format!("SELECT n FROM {keys} WHERE ({k}) = ({marks})"), key.to_vec())
    }

    /// Up to which number there are keys.
    pub(super) fn last(&self, session: &mut Session) -> Result<i64> {
        if !self.is_used {
            return Ok(0);
        }
        session.value(&format!("SELECT COALESCE(MAX(n), 0) FROM {}", self.keys), ())
    }

    /// Makes the rows of the keys that came since the last time.
    pub(super) fn fill(&mut self, session: &mut Session) -> Result<()> {
        let last = self.last(session)?;
        if last == self.filled {
            return Ok(());
        }
        let (keys, rows, from) = (&self.keys, &self.rows, self.filled);
        session
            .run(&format!("INSERT INTO {rows} {} WHERE k.n > {from}", self.selection()))
            .map_err(|why| self.cannot_read(why))?;
        session.run(&format!(
            "UPDATE {keys} k SET there = EXISTS (SELECT 1 FROM {} t WHERE {}), \
             live = EXISTS (SELECT 1 FROM {rows} r WHERE r.n = k.n) WHERE k.n > {from}",
            self.target(),
            self.same("t.", "k.")
        ))?;
        self.filled = last;
        Ok(())
    }

    /// Leaves one key out.
    pub(super) fn leave(&self, session: &mut Session, n: i64) -> Result<()> {
        session.run(&format!("UPDATE {} SET gone = 1 WHERE n = {n}", self.keys))
    }

    /// Takes the old rows out of the target.
    pub(super) fn delete(&self, session: &mut Session) -> Result<()> {
        session.run(&format!(
            "DELETE t FROM {} k STRAIGHT_JOIN {} t ON {} WHERE k.there AND NOT k.gone",
            self.keys,
            self.target(),
            self.same("t.", "k.")
        ))
    }

    /// Puts the new rows in. Answers which were refused, and why.
    pub(super) fn insert(&self, session: &mut Session) -> Result<Vec<(i64, String)>> {
        let mut refused = Vec::new();
        for there in [true, false] {
            let sql = self.insertion(there);
            let not = if there { "" } else { "NOT " };
            let which = format!("SELECT n FROM {} WHERE live AND NOT gone AND {not}there", self.keys);
            match session.raw(&format!("{sql} IN ({which}) ORDER BY r.n")) {
                Ok(()) => continue,
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(session.told(&error)),
            }
            // One of them is refused, and nothing is done: now one by one, to see which.
            let numbers: Vec<i64> = session.rows(&format!("{which} ORDER BY n"), ())?;
            for n in numbers {
                match session.raw(&format!("{sql} = {n}")) {
                    Ok(()) => {}
                    Err(error) if is_refusal(&error) => refused.push((n, told(&error))),
                    Err(error) => return Err(session.told(&error)),
                }
            }
        }
        Ok(refused)
    }

    /// The statement that inserts rows, up to `WHERE r.n`.
    fn insertion(&self, there: bool) -> String {
        let mut names: Vec<&String> = self.passage.columns.iter().map(|(name, _)| name).collect();
        let mut columns: Vec<String> = (0..names.len()).map(|at| format!("r.c{at}")).collect();
        if there {
            names.extend(&self.passage.kept);
            columns.extend((0..self.passage.kept.len()).map(|at| format!("r.o{at}")));
        }
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} r WHERE r.n",
            self.target(),
            quote::names(&names),
            columns.join(", "),
            self.rows
        )
    }

    /// What moved, once it is settled.
    pub(super) fn moved(&self, session: &mut Session) -> Result<Moved> {
        let count = |what: &str| format!("COUNT(CASE WHEN {what} THEN 1 END)");
        let (written, deleted, along) = session.value(
            &format!(
                "SELECT {}, {}, {} FROM {} WHERE NOT gone",
                count("live"),
                count("there AND NOT live"),
                count("live AND along"),
                self.keys
            ),
            (),
        )?;
        Ok(Moved { written, deleted, along })
    }

    /// A key for a person: `id = 7`.
    pub(super) fn told(&self, session: &mut Session, n: i64) -> Result<String> {
        let table = self.between.from.find(&self.passage.table);
        let parts = self.passage.key.iter().enumerate().map(|(at, name)| {
            let kind = table.and_then(|table| table.column(name)).map_or("", |column| column.kind.as_str());
            shown(name, &format!("k{at}"), kind)
        });
        let parts = parts.collect::<Vec<_>>().join(", ', ', ");
        session.value(&format!("SELECT CONCAT({parts}) FROM {} WHERE n = {n}", self.keys), ())
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

/// A column of a key, for a person, as arguments of `CONCAT`.
pub(super) fn shown(name: &str, value: &str, kind: &str) -> String {
    let value = match kind {
        "integer" | "number" => value.to_owned(),
        "bytes" | "bit" => format!("'0x', HEX(LEFT({value}, 40))"),
        _ => format!("QUOTE(LEFT(CONVERT({value} USING utf8mb4), 80))"),
    };
    format!("{}, {value}", quote::text(&format!("{name} = ")))
}

/// Whether it is this row that the target cannot hold, and not the whole that fails.
fn is_refusal(error: &mysql::Error) -> bool {
    matches!(
        code(error),
        Some(
            1048 | 1062
                | 1118
                | 1169
                | 1263
                | 1264
                | 1265
                | 1292
                | 1364
                | 1366
                | 1367
                | 1406
                | 1411
                | 1416
                | 1526
                | 1586
                | 1690
                | 3140
                | 3819
                | 4025
                | 4078
        )
    )
}

fn told(error: &mysql::Error) -> String {
    match error {
        mysql::Error::MySqlError(error) => {
            // The number of the row is the statement's, and no row of the table's.
            error.message.trim_end_matches(" at row 1").to_owned()
        }
        other => other.to_string(),
    }
}
