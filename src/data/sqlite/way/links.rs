//! References: among what was carried, as whole in the target as in the source.
//!
//! A row may refer to one that the target lacks though nobody changed it: one that the migration made. Such
//! a parent comes along. A row whose parent is left out is left out itself; and a parent that is gone stays,
//! if something that was not carried still refers to it. What leads nowhere in the source as well is the
//! app's own affair, and carried as it is.

use std::collections::BTreeMap;

use rusqlite::types::Value as Cell;
use rusqlite::{Connection, Row};

use super::open;
use super::stage::Stage;
use crate::data::way::{self, Link, Stages, Table, Value, Wanted, Way};

/// What is found here: keys as SQLite has them.
pub(super) type Found = way::Found<Vec<Cell>>;

/// The references of the target, and who is on the way.
pub(super) struct Links<'a> {
    connection: &'a Connection,
    way: &'a Way,
    /// The tables of the source, by their names.
    source: BTreeMap<&'a str, &'a Table>,
}

impl<'a> Links<'a> {
    pub(super) fn new(connection: &'a Connection, way: &'a Way, source: &'a [Table]) -> Self {
        let source = source.iter().map(|table| (table.name.as_str(), table)).collect();
        Links { connection, way, source }
    }

    /// Notes what can be referred to in the rows that are about to be taken out, in tables that are gone with this pass.
    pub(super) fn before(&self, stages: &Stages<'_, Stage<'_>>) -> rusqlite::Result<()> {
        for (number, link, parent) in self.with_parents(stages) {
            let (left, columns) = (left_by(number), list(&link.reference.to, "p."));
            // Where they refer to the key, only a row that is gone leaves them behind.
            let by_key = link.reference.to.iter().all(|column| parent.passage.key.contains(column));
            let gone = if by_key { "AND NOT k.live" } else { "" };
            self.connection.execute_batch(&format!(
                "CREATE TABLE {left} (n, {}); INSERT INTO {left}
                 SELECT k.n, {columns} FROM {} k JOIN {} p ON {} WHERE k.there AND NOT k.out {gone}",
                values(link).join(", "),
                parent.keys,
                parent.table("peer"),
                parent.same("p.", "k.")
            ))?;
        }
        Ok(())
    }

    /// Looks at the target as it would be.
    pub(super) fn after(&self, stages: &Stages<'_, Stage<'_>>) -> rusqlite::Result<Found> {
        let mut found = Found::default();
        for link in &self.way.links {
            if let Some(child) = stages.used_of(&link.table) {
                self.children(link, child, stages, &mut found)?;
            }
        }
        for (number, link, parent) in self.with_parents(stages) {
            self.orphans(number, link, parent, stages, &mut found)?;
        }
        Ok(found)
    }

    /// The references to tables of which a row is on its way.
    fn with_parents<'s>(
        &'s self,
        stages: &'s Stages<'s, Stage<'s>>,
    ) -> impl Iterator<Item = (usize, &'s Link, &'s Stage<'s>)> {
        self.way.links.iter().enumerate().filter_map(|(number, link)| {
            stages.used_of(&link.reference.table).map(|parent| (number, link, parent))
        })
    }

    /// Carried rows whose parents the target lacks.
    fn children(
        &self,
        link: &Link,
        child: &Stage<'_>,
        stages: &Stages<'_, Stage<'_>>,
        found: &mut Found,
    ) -> rusqlite::Result<()> {
        let reference = &link.reference;
        let parent = stages.of(&reference.table);
        // The parents by the source's columns: those that the target's come from.
        let columns: Option<Vec<String>> = match parent {
            Some(parent) => reference.to.iter().map(|name| origin(parent, name)).collect(),
            None => Some(reference.to.clone()),
        };
        let has = |columns: &Vec<String>| {
            let table = self.source.get(reference.table.as_str());
            table.is_some_and(|table| columns.iter().all(|column| table.column(column).is_some()))
        };
        let columns = columns.filter(has);
        let source = format!("main.{} s", open::quoted(&reference.table));
        let (join, key) = match (&columns, parent) {
            (Some(columns), Some(parent)) => (columns, parent.named("s.")),
            (Some(columns), None) => (columns, "1".to_owned()),
            (None, _) => (&reference.to, String::new()),
        };
        let joined = if key.is_empty() {
            String::new()
        } else {
            format!("LEFT JOIN {source} ON {}", pairs(join, "s.", &reference.columns, "c."))
        };
        let sql = format!(
            "SELECT k.n, {} FROM {} k JOIN {} c ON {} {joined}
             WHERE k.live AND NOT k.out AND {} AND {}",
            if key.is_empty() { "NULL" } else { &key },
            child.keys,
            child.table("peer"),
            child.same("c.", "k."),
            present(&reference.columns),
            nowhere(link)
        );
        let mut query = self.connection.prepare(&sql)?;
        let width = query.column_count();
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let n: i64 = row.get(0)?;
            let why =
                format!("it refers to a row of '{}' that the other version does not have", reference.table);
            let first: Cell = row.get(1)?;
            match (first, parent) {
                (Cell::Null, _) if columns.is_some() => found.dangling += 1,
                (first, Some(parent)) if first != Cell::Null && !parent.passage.fills => {
                    let key = cells(row, 1..width)?;
                    found.wanted.push(Wanted { at: parent.at, key, child: (child.at, n), why });
                }
                _ => found.refused.push(((child.at, n), why)),
            }
        }
        Ok(())
    }

    /// Rows that were not carried, and whose parents are gone now.
    fn orphans(
        &self,
        number: usize,
        link: &Link,
        parent: &Stage<'_>,
        stages: &Stages<'_, Stage<'_>>,
        found: &mut Found,
    ) -> rusqlite::Result<()> {
        let (gone, reference) = (left_by(number), &link.reference);
        let values = values(link);
        let bare = gone.trim_start_matches("temp.");
        self.connection.execute_batch(&format!(
            "DELETE FROM {gone} WHERE EXISTS (SELECT 1 FROM {} p WHERE {})",
            parent.table("peer"),
            pairs(&reference.to, "p.", &values, &format!("{bare}."))
        ))?;
        if !self.connection.prepare(&format!("SELECT 1 FROM {gone}"))?.exists([])? {
            return Ok(());
        }
        let child = stages.used_of(&link.table);
        let carried = child.map_or_else(String::new, |child| {
            let same = child.same("c.", "k.");
            format!("AND NOT EXISTS (SELECT 1 FROM {} k WHERE {same} AND k.live AND NOT k.out)", child.keys)
        });
        let sql = format!(
            "SELECT g.n, {}, {} FROM {gone} g JOIN peer.{} c ON {} WHERE {} {carried}",
            self.same_in_source(link),
            if link.key.is_empty() { "''".to_owned() } else { shown(&link.key) },
            open::quoted(&link.table),
            pairs(&reference.columns, "c.", &values, "g."),
            nowhere(link)
        );
        let mut query = self.connection.prepare(&sql)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            if row.get(1)? {
                found.dangling += 1;
                continue;
            }
            let which: String = row.get(2)?;
            let which = if which.is_empty() { String::new() } else { format!(" with {which}") };
            let why = format!("a row of '{}'{which} still refers to it", link.table);
            found.refused.push(((parent.at, row.get(0)?), why));
        }
        Ok(())
    }

    /// Whether the source has the same row, with the same reference.
    fn same_in_source(&self, link: &Link) -> String {
        let table = self.source.get(link.table.as_str());
        let has = |columns: &[String]| {
            table.is_some_and(|table| columns.iter().all(|column| table.column(column).is_some()))
        };
        if link.key.is_empty() || !has(&link.key) || !has(&link.reference.columns) {
            return "0".to_owned();
        }
        format!(
            "EXISTS (SELECT 1 FROM main.{} s WHERE {} AND {})",
            open::quoted(&link.table),
            pairs(&link.key, "s.", &link.key, "c."),
            pairs(&link.reference.columns, "s.", &link.reference.columns, "c.")
        )
    }
}

/// The temporary table of what the parents of one link leave behind.
fn left_by(number: usize) -> String {
    format!("temp.receiver_gone_{number}")
}

/// The columns of that table, beside the number of the parent's key.
fn values(link: &Link) -> Vec<String> {
    (0..link.reference.to.len()).map(|at| format!("v{at}")).collect()
}

/// The source's column that a column of the target is.
fn origin(stage: &Stage<'_>, name: &str) -> Option<String> {
    let (_, value) = stage.passage.columns.iter().find(|(column, _)| column == name)?;
    match value {
        Value::Column(name) => Some(name.clone()),
        Value::Expression(_) => None,
    }
}

fn cells(row: &Row<'_>, range: std::ops::Range<usize>) -> rusqlite::Result<Vec<Cell>> {
    range.map(|at| row.get(at)).collect()
}

fn list(names: &[String], prefix: &str) -> String {
    names.iter().map(|name| format!("{prefix}{}", open::quoted(name))).collect::<Vec<_>>().join(", ")
}

fn pairs(left: &[String], before: &str, right: &[String], behind: &str) -> String {
    let equal = |(left, right): (&String, &String)| {
        format!("{before}{} = {behind}{}", open::quoted(left), open::quoted(right))
    };
    left.iter().zip(right).map(equal).collect::<Vec<_>>().join(" AND ")
}

fn present(columns: &[String]) -> String {
    columns
        .iter()
        .map(|name| format!("c.{} IS NOT NULL", open::quoted(name)))
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// That the target has no row that `c` refers to.
fn nowhere(link: &Link) -> String {
    let reference = &link.reference;
    format!(
        "NOT EXISTS (SELECT 1 FROM peer.{} p WHERE {})",
        open::quoted(&reference.table),
        pairs(&reference.to, "p.", &reference.columns, "c.")
    )
}

/// The key of `c`, for a person.
fn shown(key: &[String]) -> String {
    let parts = key.iter().map(|name| {
        format!("{} || substr(quote(c.{}), 1, 80)", open::text(&format!("{name} = ")), open::quoted(name))
    });
    parts.collect::<Vec<_>>().join(" || ', ' || ")
}
