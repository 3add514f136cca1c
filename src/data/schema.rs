//! The canonical form of a schema: the same for two databases that behave the same, however they were made.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest;
use crate::support::Result;

/// Tables that frameworks keep their own accounts in. They move with every migration and say nothing
/// of the schema.
pub(super) const BOOKKEEPING: &[&str] = &[
    "django_migrations",
    "schema_migrations",
    "ar_internal_metadata",
    "_prisma_migrations",
    "alembic_version",
    "_sqlx_migrations",
    "__diesel_schema_migrations",
    "migrations",
    "flyway_schema_history",
    "refinery_schema_history",
];

/// A schema as sorted facts, each a key and what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// For each table its facts: columns, keys, checks, indexes, triggers.
    tables: BTreeMap<String, BTreeMap<String, String>>,
    /// Views and whatever else stands alone.
    others: BTreeMap<String, String>,
}

#[cfg_attr(
    not(any(feature = "mysql", feature = "postgres", feature = "sqlite")),
    expect(dead_code, reason = "there is no engine to note one with")
)]
impl Schema {
    /// Notes that there is a table.
    pub(super) fn table(&mut self, table: &str) {
        self.tables.entry(table.to_owned()).or_default();
    }

    /// Whether it has this table.
    #[cfg(feature = "mysql")]
    pub(super) fn has(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    /// Notes a fact about a table. A fact that is stated twice counts once.
    pub(super) fn fact(&mut self, table: &str, key: String, value: String) {
        self.tables.entry(table.to_owned()).or_default().insert(key, value);
    }

    /// Notes something that is no table's.
    pub(super) fn other(&mut self, key: String, value: String) {
        self.others.insert(key, value);
    }

    /// The same without the tables that frameworks keep their own accounts in.
    #[must_use]
    pub(super) fn without_bookkeeping(mut self) -> Self {
        // `app.django_migrations` is one, too: engines with schemas name it first.
        let bookkeeping = |table: &str| BOOKKEEPING.contains(&table.rsplit('.').next().unwrap_or(table));
        self.tables.retain(|table, _| !bookkeeping(table));
        self
    }

    /// A stable hash of all of it.
    pub fn hash(&self) -> Result<String> {
        digest(self.to_string().as_bytes())
    }

    /// What `newer` has (`+`), lacks (`-`) or says otherwise (`~`), a line each, in order of names.
    pub fn diff(&self, newer: &Schema) -> Vec<String> {
        let mut lines = Vec::new();
        for name in union(&self.tables, &newer.tables) {
            match (self.tables.get(name), newer.tables.get(name)) {
                (None, _) => lines.push(format!("+ table {name}")),
                (_, None) => lines.push(format!("- table {name}")),
                (Some(old), Some(new)) => compare(old, new, &mut lines),
            }
        }
        compare(&self.others, &newer.others, &mut lines);
        // Names come from the app, and lines go to a terminal.
        lines.iter().map(|line| line.replace(char::is_control, "\u{fffd}")).collect()
    }
}

fn union<'a, T>(one: &'a BTreeMap<String, T>, other: &'a BTreeMap<String, T>) -> Vec<&'a String> {
    let mut keys: Vec<_> = one.keys().chain(other.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn compare(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>, lines: &mut Vec<String>) {
    for key in union(old, new) {
        match (old.get(key), new.get(key)) {
            (None, _) => lines.push(format!("+ {key}")),
            (_, None) => lines.push(format!("- {key}")),
            (Some(was), Some(is)) if was != is => lines.push(format!("~ {key}: {was} → {is}")),
            _ => {}
        }
    }
}

impl fmt::Display for Schema {
    /// The canonical text: it is what is hashed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (table, facts) in &self.tables {
            writeln!(f, "table {table}")?;
            for (key, value) in facts {
                writeln!(f, "  {key}: {value}")?;
            }
        }
        for (key, value) in &self.others {
            writeln!(f, "{key}: {value}")?;
        }
        Ok(())
    }
}
