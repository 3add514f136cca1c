//! References: among what was carried, as whole in the target as in the source.
//!
//! A row may refer to one that the target lacks though nobody changed it: one that the migration made. Such
//! a parent comes along. A row whose parent is left out is left out itself; and a parent that is gone stays,
//! if something that was not carried still refers to it. What leads nowhere in the source as well is the
//! app's own affair, and carried as it is.

use std::collections::BTreeSet;

use mysql::prelude::Queryable as _;

use super::stage::{Between, Stage, equal, shown};
use crate::data::mysql::quote;
use crate::data::mysql::session::Session;
use crate::data::way::{self, Link, Stages, Value, Wanted, Way};
use crate::support::Result;

/// What one pass found.
pub(super) type Found = way::Found<Vec<mysql::Value>>;

/// The references of the target.
pub(super) struct Links<'a> {
    way: &'a Way,
    between: &'a Between,
    /// The numbers of those whose temporary table is there.
    made: BTreeSet<usize>,
}

impl<'a> Links<'a> {
    pub(super) fn new(way: &'a Way, between: &'a Between) -> Self {
        Links { way, between, made: BTreeSet::new() }
    }

    /// Makes the temporary tables that the next pass wants: no pass takes one back.
    pub(super) fn prepare(&mut self, session: &mut Session, stages: &Stages<'_, Stage<'_>>) -> Result<()> {
        for (number, link) in self.way.links.iter().enumerate() {
            if stages.used_of(&link.reference.table).is_none() || !self.made.insert(number) {
                continue;
            }
            let columns = link.reference.to.iter().enumerate();
            let columns: Vec<_> =
                columns.map(|(at, name)| format!("p.{} AS v{at}", quote::name(name))).collect();
            session.run(&format!(
                "CREATE TEMPORARY TABLE {} (n bigint unsigned) ENGINE=InnoDB AS SELECT CAST(0 AS unsigned) AS n, {} \
                 FROM {} p LIMIT 0",
                self.left_by(number),
                columns.join(", "),
                quote::table(&self.between.target, &link.reference.table)
            ))?;
        }
        Ok(())
    }

    /// The temporary table of what the parents of one link leave behind.
    fn left_by(&self, number: usize) -> String {
        quote::table(&self.between.own, &format!("receiver_gone_{number}"))
    }

    /// Notes what can be referred to in the rows that are about to be taken out.
    pub(super) fn before(&self, session: &mut Session, stages: &Stages<'_, Stage<'_>>) -> Result<()> {
        for (number, link, parent) in self.with_parents(stages) {
            let columns = list(&link.reference.to, "p.");
            // Where they refer to the key, only a row that is gone leaves them behind.
            let by_key = link.reference.to.iter().all(|column| parent.passage.key.contains(column));
            let gone = if by_key { "AND NOT k.live" } else { "" };
            session.run(&format!(
                "INSERT INTO {} SELECT k.n, {columns} FROM {} k STRAIGHT_JOIN {} p ON {} \
                 WHERE k.there AND NOT k.gone {gone}",
                self.left_by(number),
                parent.keys,
                parent.target(),
                parent.same("p.", "k.")
            ))?;
        }
        Ok(())
    }

    /// Looks at the target as it would be.
    pub(super) fn after(&self, session: &mut Session, stages: &Stages<'_, Stage<'_>>) -> Result<Found> {
        let mut found = Found::default();
        for link in &self.way.links {
            if let Some(child) = stages.used_of(&link.table) {
                self.children(session, link, child, stages, &mut found)?;
            }
        }
        for (number, link, parent) in self.with_parents(stages) {
            self.orphans(session, number, link, parent, stages, &mut found)?;
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
        session: &mut Session,
        link: &Link,
        child: &Stage<'_>,
        stages: &Stages<'_, Stage<'_>>,
        found: &mut Found,
    ) -> Result<()> {
        let reference = &link.reference;
        let parent = stages.of(&reference.table);
        // The parents by the source's columns: those that the target's come from.
        let columns: Option<Vec<String>> = match parent {
            Some(parent) => reference.to.iter().map(|name| origin(parent, name)).collect(),
            None => Some(reference.to.clone()),
        };
        let table = self.between.from.find(&reference.table);
        let has = |columns: &Vec<String>| {
            table.is_some_and(|table| columns.iter().all(|column| table.column(column).is_some()))
        };
        let columns = columns.filter(has);
        let (key, joined) = match &columns {
            None => ("NULL".to_owned(), String::new()),
            Some(columns) => {
                let pairs = columns.iter().zip(&reference.columns).map(|(to, own)| {
                    equal(
                        &format!("s.{}", quote::name(to)),
                        self.between.from.collation(&reference.table, to),
                        &format!("c.{}", quote::name(own)),
                        self.between.to.collation(&link.table, own),
                    )
                });
                let pairs = pairs.collect::<Vec<_>>().join(" AND ");
                let source = quote::table(&self.between.source, &reference.table);
                let first = quote::name(&columns[0]);
                let key = parent.map_or_else(|| format!("s.{first}"), |parent| parent.named("s."));
                (key, format!("LEFT JOIN {source} s ON {pairs}"))
            }
        };
        let sql = format!(
            "SELECT k.n, {key} FROM {} k STRAIGHT_JOIN {} c ON {} {joined} \
             WHERE k.live AND NOT k.gone AND {} AND {}",
            child.keys,
            child.target(),
            child.same("c.", "k."),
            present(&reference.columns),
            self.nowhere(link)
        );
        let rows: mysql::Result<Vec<mysql::Row>> = session.connection().exec(sql, ());
        for row in rows.map_err(|error| session.told(&error))? {
            let mut cells = row.unwrap().into_iter();
            let n: i64 = cells.next().map_or(0, mysql::from_value);
            let key: Vec<mysql::Value> = cells.collect();
            let why =
                format!("it refers to a row of '{}' that the other version does not have", reference.table);
            let nowhere = key.first().is_none_or(|first| *first == mysql::Value::NULL);
            match parent {
                _ if nowhere && columns.is_some() => found.dangling += 1,
                Some(parent) if !nowhere && !parent.passage.fills => {
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
        session: &mut Session,
        number: usize,
        link: &Link,
        parent: &Stage<'_>,
        stages: &Stages<'_, Stage<'_>>,
        found: &mut Found,
    ) -> Result<()> {
        let (gone, reference) = (self.left_by(number), &link.reference);
        let values = |columns: &[String], row: &str| {
            let pairs = columns.iter().enumerate();
            let pairs = pairs.map(|(at, name)| format!("{row}.{} = g.v{at}", quote::name(name)));
            pairs.collect::<Vec<_>>().join(" AND ")
        };
        session.run(&format!(
            "DELETE g FROM {gone} g JOIN {} p ON {}",
            parent.target(),
            values(&reference.to, "p")
        ))?;
        if session.first::<u8>(&format!("SELECT 1 FROM {gone} LIMIT 1"), ())?.is_none() {
            return Ok(());
        }
        let child = stages.used_of(&link.table);
        let carried = child.map_or_else(String::new, |child| {
            let same = child.same("c.", "k.");
            format!("AND NOT EXISTS (SELECT 1 FROM {} k WHERE {same} AND k.live AND NOT k.gone)", child.keys)
        });
        let sql = format!(
            "SELECT g.n, {}, {} FROM {gone} g STRAIGHT_JOIN {} c ON {} WHERE {} {carried}",
            self.same_in_source(link),
            self.shown(link),
            quote::table(&self.between.target, &link.table),
            values(&reference.columns, "c"),
            self.nowhere(link)
        );
        let rows: Vec<(i64, bool, String)> = session.rows(&sql, ())?;
        for (n, same, which) in rows {
            if same {
                found.dangling += 1;
                continue;
            }
            let which = if which.is_empty() { String::new() } else { format!(" with {which}") };
            let why = format!("a row of '{}'{which} still refers to it", link.table);
            found.refused.push(((parent.at, n), why));
        }
        Ok(())
    }

    /// Whether the source has the same row, with the same reference.
    fn same_in_source(&self, link: &Link) -> String {
        let table = self.between.from.find(&link.table);
        let has = |columns: &[String]| {
            table.is_some_and(|table| columns.iter().all(|column| table.column(column).is_some()))
        };
        if link.key.is_empty() || !has(&link.key) || !has(&link.reference.columns) {
            return "0".to_owned();
        }
        let names = link.key.iter().chain(&link.reference.columns);
        let pairs = names.map(|name| {
            let quoted = quote::name(name);
            let (from, to) = (&self.between.from, &self.between.to);
            equal(
                &format!("s.{quoted}"),
                from.collation(&link.table, name),
                &format!("c.{quoted}"),
                to.collation(&link.table, name),
            )
        });
        let pairs = pairs.collect::<Vec<_>>().join(" AND ");
        let source = quote::table(&self.between.source, &link.table);
        format!("EXISTS (SELECT 1 FROM {source} s WHERE {pairs})")
    }

    /// The key of `c`, for a person.
    fn shown(&self, link: &Link) -> String {
        let table = self.between.to.find(&link.table);
        let parts = link.key.iter().map(|name| {
            let kind = table.and_then(|table| table.column(name)).map_or("", |column| column.kind.as_str());
            shown(name, &format!("c.{}", quote::name(name)), kind)
        });
        let parts: Vec<_> = parts.collect();
        if parts.is_empty() { "''".to_owned() } else { format!("CONCAT({})", parts.join(", ', ', ")) }
    }

    /// That the target has no row that `c` refers to.
    fn nowhere(&self, link: &Link) -> String {
        let reference = &link.reference;
        let pairs = reference.to.iter().zip(&reference.columns);
        let pairs = pairs.map(|(to, own)| format!("p.{} = c.{}", quote::name(to), quote::name(own)));
        format!(
            "NOT EXISTS (SELECT 1 FROM {} p WHERE {})",
            quote::table(&self.between.target, &reference.table),
            pairs.collect::<Vec<_>>().join(" AND ")
        )
    }
}

/// The source's column that a column of the target is.
fn origin(stage: &Stage<'_>, name: &str) -> Option<String> {
    let (_, value) = stage.passage.columns.iter().find(|(column, _)| column == name)?;
    match value {
        Value::Column(name) => Some(name.clone()),
        Value::Expression(_) => None,
    }
}

fn list(names: &[String], prefix: &str) -> String {
    names.iter().map(|name| format!("{prefix}{}", quote::name(name))).collect::<Vec<_>>().join(", ")
}

fn present(columns: &[String]) -> String {
    let present = columns.iter().map(|name| format!("c.{} IS NOT NULL", quote::name(name)));
    present.collect::<Vec<_>>().join(" AND ")
}
