//! What the server changes by itself: rows that follow their parents by a foreign key. It does so without a trigger
//! of the child's table. So the parent's triggers note them, before it happens: the children, and theirs.
//!
//! Who is reached is known from the schema: from the delete of a parent, or the change of what children refer to,
//! along each key that is `ON DELETE` or `ON UPDATE` `CASCADE` or `SET NULL`. A table that refers to itself is
//! followed to the end by a recursive query. A circle of several tables is not followed, but named.

use std::collections::BTreeSet;

use super::tables::Tables;
use crate::data::mysql::quote;
use crate::data::way::{Action, Reference, Table};

/// Beyond this many ways from one parent the statements would be longer than anybody's patience.
const MOST: usize = 200;

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It is deleted.
    Delete,
    /// Its columns that others refer to change.
    Update,
}

/// Rows that follow: of which table, and the query for their keys, with `OLD` as the parent.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) table: String,
    pub(super) query: String,
}

/// The rows on the way so far.
#[derive(Clone)]
struct Path<'a> {
    /// Tables that were passed.
    passed: Vec<&'a str>,
    /// Recursive queries, as `WITH RECURSIVE` has them.
    with: Vec<String>,
    from: String,
    condition: String,
    /// The last table, or the query that stands for it.
    alias: String,
}

/// What follows `parent` at an event. The error is why that cannot be said.
pub(super) fn follows(
    tables: &Tables,
    database: &str,
    parent: &Table,
    event: Event,
) -> Result<Vec<Follow>, String> {
    let start = Path {
        passed: vec![&parent.name],
        with: Vec::new(),
        from: String::new(),
        condition: String::new(),
        alias: "OLD".to_owned(),
    };
    let mut found = Vec::new();
    walk(tables, database, parent, event, &start, &mut found)?;
    Ok(found)
}

/// What the columns of a child that refer to its parent meet.
fn effect(reference: &Reference, event: Event) -> Option<Event> {
    let action = if event == Event::Delete { reference.on_delete } else { reference.on_update };
    match (event, action) {
        (Event::Delete, Action::Cascade) => Some(Event::Delete),
        (_, Action::Cascade | Action::SetNull | Action::SetDefault) => Some(Event::Update),
        (_, Action::None) => None,
    }
}

fn walk<'a>(
    tables: &'a Tables,
    database: &str,
    parent: &Table,
    event: Event,
    path: &Path<'a>,
    found: &mut Vec<Follow>,
) -> Result<(), String> {
    for child in tables.children(&parent.name) {
        for reference in child.references.iter().filter(|reference| reference.table == parent.name) {
            let Some(effect) = effect(reference, event) else { continue };
            let own = child.name == parent.name;
            if own && path.alias != "OLD" {
                // The query that stands for this table has followed it to itself already.
                continue;
            }
            if !own && path.passed.contains(&child.name.as_str()) {
                let (one, other) = (parent.name.escape_debug(), child.name.escape_debug());
                return Err(format!("rows of '{one}' and '{other}' follow each other in a circle"));
            }
            if found.len() == MOST {
                return Err("too many tables follow its rows".to_owned());
            }
            let next = step(tables, database, child, reference, path, effect);
            let key: Vec<_> =
                child.key.iter().map(|name| format!("{}.{}", next.alias, quote::name(name))).collect();
            if !key.is_empty() && child.apart.is_none() {
                let with = if next.with.is_empty() {
                    String::new()
                } else {
                    format!("WITH RECURSIVE {} ", next.with.join(", "))
                };
                let query = format!("{with}SELECT {} FROM {}{}", key.join(", "), next.from, next.condition);
                found.push(Follow { table: child.name.clone(), query });
            }
            walk(tables, database, child, effect, &next, found)?;
        }
    }
    Ok(())
}

/// One table further.
fn step<'a>(
    tables: &Tables,
    database: &str,
    child: &'a Table,
    reference: &Reference,
    path: &Path<'a>,
    event: Event,
) -> Path<'a> {
    let mut next = path.clone();
    next.passed.push(&child.name);
    let alias = format!("r{}", next.passed.len());
    let table = quote::table(database, &child.name);
    let same = |child: &str, reference: &Reference, parent: &str| {
        let pairs = reference.columns.iter().zip(&reference.to);
        let pairs =
            pairs.map(|(own, to)| format!("{child}.{} = {parent}.{}", quote::name(own), quote::name(to)));
        pairs.collect::<Vec<_>>().join(" AND ")
    };
    let joined = same(&alias, reference, &path.alias);
    if path.alias == "OLD" {
        next.from = format!("{table} {alias}");
        next.condition = format!(" WHERE {joined}");
    } else {
        next.from = format!("{} JOIN {table} {alias} ON {joined}", path.from);
    }
    next.alias = alias;
    let itself: Vec<&Reference> = child
        .references
        .iter()
        .filter(|reference| reference.table == child.name && effect(reference, event).is_some())
        .collect();
    if itself.is_empty() {
        return next;
    }
    let mut names: BTreeSet<&String> = child.key.iter().chain(referred_to(tables, child)).collect();
    names.extend(child.references.iter().flat_map(|reference| &reference.columns));
    let names: Vec<String> = names.into_iter().map(|name| quote::name(name)).collect();
    let of = |alias: &str| names.iter().map(|name| format!("{alias}.{name}")).collect::<Vec<_>>().join(", ");
    let query = format!("q{}", next.passed.len());
    let mut parts = vec![format!("SELECT {} FROM {}{}", of(&next.alias), next.from, next.condition)];
    for reference in itself {
        parts.push(format!(
            "SELECT {} FROM {table} t JOIN {query} ON {}",
            of("t"),
            same("t", reference, &query)
        ));
    }
    next.with.push(format!("{query} ({}) AS ({})", names.join(", "), parts.join(" UNION ")));
    next.from.clone_from(&query);
    next.condition.clear();
    next.alias = query;
    next
}

/// The columns of a table that anybody refers to.
pub(super) fn referred_to<'a>(tables: &'a Tables, table: &Table) -> Vec<&'a String> {
    let mut columns: Vec<&String> = tables
        .children(&table.name)
        .flat_map(|child| &child.references)
        .filter(|reference| reference.table == table.name)
        .flat_map(|reference| &reference.to)
        .collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::way::Column;

    fn table(name: &str, parents: &[(&str, Action)]) -> Table {
        let references = parents.iter().map(|(parent, action)| Reference {
            columns: vec![(*parent).to_owned()],
            table: (*parent).to_owned(),
            to: vec!["id".to_owned()],
            on_delete: *action,
            on_update: Action::None,
        });
        Table {
            name: name.to_owned(),
            columns: vec![Column { name: "id".to_owned(), ..Column::default() }],
            key: vec!["id".to_owned()],
            references: references.collect(),
            apart: None,
        }
    }

    fn of(all: Vec<Table>, event: Event) -> Result<Vec<String>, String> {
        let tables = Tables::of(all);
        let found = follows(&tables, "d", &tables.all[0], event)?;
        Ok(found.into_iter().map(|follow| follow.query).collect())
    }

    #[test]
    fn children_and_theirs_are_found_before_they_follow() {
        let all = vec![
            table("a", &[]),
            table("b", &[("a", Action::Cascade)]),
            table("c", &[("b", Action::SetNull)]),
            table("d", &[("b", Action::None), ("c", Action::Cascade)]),
        ];
        assert_eq!(
            of(all.clone(), Event::Delete).unwrap(),
            [
                "SELECT r2.`id` FROM `d`.`b` r2 WHERE r2.`a` = OLD.`id`",
                "SELECT r3.`id` FROM `d`.`b` r2 JOIN `d`.`c` r3 ON r3.`b` = r2.`id` WHERE r2.`a` = OLD.`id`",
            ],
            "what is set to null is changed, and not deleted"
        );
        assert!(of(all, Event::Update).unwrap().is_empty());
        let tree = vec![table("a", &[("a", Action::Cascade)]), table("b", &[("a", Action::Cascade)])];
        let found = of(tree, Event::Delete).unwrap();
        let with = "WITH RECURSIVE q2 (`a`, `id`) AS (SELECT r2.`a`, r2.`id` FROM `d`.`a` r2 WHERE r2.`a` = OLD.`id` \
                    UNION SELECT t.`a`, t.`id` FROM `d`.`a` t JOIN q2 ON t.`a` = q2.`id`)";
        assert_eq!(found[0], format!("{with} SELECT q2.`id` FROM q2"));
        assert_eq!(found[1], format!("{with} SELECT r3.`id` FROM q2 JOIN `d`.`b` r3 ON r3.`a` = q2.`id`"));
        let circle = vec![table("a", &[("b", Action::Cascade)]), table("b", &[("a", Action::Cascade)])];
        assert_eq!(
            of(circle, Event::Delete).unwrap_err(),
            "rows of 'b' and 'a' follow each other in a circle"
        );
    }
}
