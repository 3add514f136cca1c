//! References: among what was carried, as whole in the target as in the source.
//!
//! A row may refer to one that the target lacks though nobody changed it: one that the migration made. Such
//! a parent comes along. A row whose parent is left out, or nowhere, is left out itself: the server would refuse
//! all of them for it. And a parent that is gone stays, if something that was not carried still refers to it:
//! to delete it could delete that, too.

use super::super::names::ident;
use super::super::session::Session;
use super::source::Source;
use super::stage::Stage;
use super::tables::Known;
use crate::data::way::{Link, Stages, Value, Way};
use crate::support::Result;

/// What one pass found.
#[derive(Default)]
pub(super) struct Found {
    /// Rows to leave out: place of the table, number of the key, and why.
    pub(super) refused: Vec<(usize, i64, String)>,
    /// Whether a parent was taken along.
    pub(super) along: bool,
}

/// The references of the target, and its tables.
pub(super) struct Links<'a> {
    pub(super) way: &'a Way,
    pub(super) known: &'a [Known],
}

impl Links<'_> {
    fn rows(&self, table: &str) -> Option<&Known> {
        self.known.iter().find(|known| known.table.name == table)
    }

    /// Each link with its tables: who refers, and to whom.
    fn all(&self) -> impl Iterator<Item = (usize, &Link, &Known, &Known)> {
        self.way.links.iter().enumerate().filter_map(|(number, link)| {
            Some((number, link, self.rows(&link.table)?, self.rows(&link.reference.table)?))
        })
    }

    /// Parents that are to go, and that rows refer to which stay as they are. Where they do not refer to the key, a row
    /// that comes may take its place: a parent's own key changed. Also notes what could be referred to so in the
    /// rows that are about to change.
    pub(super) fn before(&self, target: &mut Session, stages: &Stages<'_, Stage<'_>>) -> Result<Found> {
        let mut found = Found::default();
        for (number, link, from, to) in self.all() {
            let Some(parent) = stages.used_of(&link.reference.table) else { continue };
            let staying = stages
                .used_of(&link.table)
                .map_or_else(String::new, |child| format!("AND NOT {}", child.carried("c.")));
            let by_key = is_by_key(link, parent);
            let replaced = if by_key {
                String::new()
            } else {
                format!("AND NOT {}", parent.brings(&link.reference.to, "p."))
            };
            let sql = format!(
                "SELECT DISTINCT ON (k.n) k.n, {} FROM {} k JOIN {} p ON {} JOIN {} c ON {}
                 WHERE k.there AND NOT k.live AND NOT k.out {staying} {replaced}",
                shown(&link.key),
                parent.keys,
                to.rows(),
                parent.same("p.", "k."),
                from.rows(),
                pairs(link, to)
            );
            found.refused.extend(still_referred(target, &sql, parent, link)?);
            if by_key {
                continue;
            }
            let values: Vec<_> = link.reference.to.iter().map(|name| format!("p.{}", ident(name))).collect();
            target.run(&format!(
                "CREATE TEMP TABLE receiver_gone_{number} ON COMMIT DROP AS SELECT k.n, {} FROM {} k JOIN {} p ON {}
                 WHERE k.there AND NOT k.out",
                values.join(", "),
                parent.keys,
                to.rows(),
                parent.same("p.", "k.")
            ))?;
        }
        Ok(found)
    }

    /// What keeps a row of a table from being deleted already: one that does not go itself refers to it.
    pub(super) fn referred(&self, parent: &Stage<'_>, stages: &Stages<'_, Stage<'_>>) -> String {
        let own = self.all().filter(|(_, link, ..)| link.reference.table == parent.passage.table);
        own.map(|(_, link, from, to)| {
            let staying = stages
                .used_of(&link.table)
                .map_or_else(String::new, |child| format!("AND NOT {}", child.doomed("c.")));
            let equal = pairs(link, to).replace("p.\"", "t.\"");
            format!(" AND NOT EXISTS (SELECT FROM {} c WHERE {equal} {staying})", from.rows())
        })
        .collect()
    }

    /// Looks at the target as it would be.
    pub(super) fn after(
        &self,
        source: &mut Source,
        target: &mut Session,
        stages: &Stages<'_, Stage<'_>>,
    ) -> Result<Found> {
        let mut found = Found::default();
        for (number, link, from, to) in self.all() {
            if let Some(child) = stages.used_of(&link.table) {
                children(link, to, child, stages, source, target, &mut found)?;
            }
            let Some(parent) = stages.used_of(&link.reference.table) else { continue };
            if is_by_key(link, parent) {
                continue;
            }
            let gone: String = pairs(link, to).replace("p.\"", "g.\"");
            let sql = format!(
                "SELECT DISTINCT ON (g.n) g.n, {} FROM pg_temp.receiver_gone_{number} g JOIN {} c ON {gone}
                 WHERE NOT EXISTS (SELECT FROM {} p WHERE {})",
                shown(&link.key),
                from.rows(),
                to.rows(),
                pairs(link, to)
            );
            found.refused.extend(still_referred(target, &sql, parent, link)?);
        }
        Ok(found)
    }
}

/// Carried rows whose parents the target lacks.
fn children(
    link: &Link,
    to: &Known,
    child: &Stage<'_>,
    stages: &Stages<'_, Stage<'_>>,
    source: &mut Source,
    target: &mut Session,
    found: &mut Found,
) -> Result<()> {
    let reference = &link.reference;
    let parent = stages.of(&reference.table);
    let staying = stages
        .used_of(&reference.table)
        .map_or_else(String::new, |parent| format!("AND NOT {}", parent.doomed("p.")));
    let columns = reference.columns.iter().map(|name| format!("c.{}", ident(name)));
    let columns: Vec<_> = columns.collect();
    let texts: Vec<_> = columns.iter().map(|name| format!("{name}::text")).collect();
    let present: Vec<_> = columns.iter().map(|name| format!("{name} IS NOT NULL")).collect();
    let sql = format!(
        "SELECT k.n, ARRAY[{}] FROM {} k JOIN {} c ON {} WHERE k.live AND NOT k.out AND {}
         AND NOT EXISTS (SELECT FROM {} p WHERE {} {staying}) ORDER BY k.n",
        texts.join(", "),
        child.keys,
        child.to.rows(),
        child.same("c.", "k."),
        present.join(" AND "),
        to.rows(),
        pairs(link, to)
    );
    // The parents by the source's columns: those that the target's come from.
    let origins: Option<Vec<String>> =
        parent.and_then(|parent| reference.to.iter().map(|name| origin(parent, name)).collect());
    for row in target.query(&sql, &[])? {
        let (n, values): (i64, Vec<String>) = (row.get(0), row.get(1));
        let number = match (&origins, parent) {
            (Some(origins), Some(parent)) if !parent.passage.fills => {
                source.take_along(parent.at, parent.passage, origins, &values)?
            }
            _ => None,
        };
        match (number, parent) {
            (Some(number), Some(parent)) if number > parent.last() => found.along = true,
            _ => {
                let table = &reference.table;
                let why = format!("it refers to a row of '{table}' that the other version does not have");
                found.refused.push((child.at, n, why));
            }
        }
    }
    Ok(())
}

/// The rows that a query names as parents of others that stay.
fn still_referred(
    target: &mut Session,
    sql: &str,
    parent: &Stage<'_>,
    link: &Link,
) -> Result<Vec<(usize, i64, String)>> {
    let rows = target.query(sql, &[])?;
    let told = |row: &postgres::Row| {
        let which: String = row.get(1);
        let which = if which.is_empty() { String::new() } else { format!(" with {which}") };
        (parent.at, row.get(0), format!("a row of '{}'{which} still refers to it", link.table))
    };
    Ok(rows.iter().map(told).collect())
}

/// Whether a reference is to the primary key, which no row changes.
fn is_by_key(link: &Link, parent: &Stage<'_>) -> bool {
    link.reference.to.iter().all(|column| parent.passage.key.contains(column))
}

/// The source's column that a column of the target is.
fn origin(stage: &Stage<'_>, name: &str) -> Option<String> {
    let (_, value) = stage.passage.columns.iter().find(|(column, _)| column == name)?;
    match value {
        Value::Column(name) => Some(name.clone()),
        Value::Expression(_) => None,
    }
}

/// That `c` refers to `p`. Both may be of different types: `integer` and `bigint`.
fn pairs(link: &Link, to: &Known) -> String {
    let reference = &link.reference;
    let equal = reference
        .to
        .iter()
        .zip(&reference.columns)
        .map(|(parent, child)| format!("p.{} {} c.{}", ident(parent), to.across(parent), ident(child)));
    equal.collect::<Vec<_>>().join(" AND ")
}

/// The key of `c`, for a person.
fn shown(key: &[String]) -> String {
    let parts = key.iter().map(|name| {
        let says = super::super::names::literal(&format!("{name} = "));
        format!("{says} || left(c.{}::text, 80)", ident(name))
    });
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { "''".to_owned() } else { parts.join(" || ', ' || ") }
}
