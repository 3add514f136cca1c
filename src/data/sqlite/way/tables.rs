//! Tables as [`Way`](crate::data::way::Way) plans with them, from the pragmas.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::open::{self, Listed};
use crate::data::way::{Action, Column, Reference, Table};

/// A column of a primary key.
pub(super) struct Key {
    pub(super) name: String,
    /// The affinity of its type, as a type.
    pub(super) affinity: &'static str,
    pub(super) collation: String,
    /// Whether it can be null: SQLite allows it in most primary keys.
    pub(super) nullable: bool,
}

/// All tables of a schema (`main`, or the name of an attached database).
pub(super) fn tables(connection: &Connection, schema: &str) -> rusqlite::Result<Vec<Table>> {
    let mut tables = Vec::new();
    for listed in open::tables_of(connection, schema)? {
        if !listed.shadow {
            tables.push(table(connection, schema, &listed)?);
        }
    }
    let mut query = connection
        .prepare("SELECT lower(name) FROM pragma_table_list WHERE schema = ?1 AND type = 'virtual'")?;
    for name in query.query_map([schema], |row| row.get::<_, String>(0))? {
        let apart = Some("it is a virtual table".to_owned());
        tables.push(Table { name: name?, apart, ..Table::default() });
    }
    let keys: BTreeMap<String, Vec<String>> =
        tables.iter().map(|table| (table.name.clone(), table.key.clone())).collect();
    for table in &mut tables {
        table.references.retain_mut(|reference| {
            if reference.to.is_empty()
                && let Some(key) = keys.get(&reference.table)
            {
                reference.to.clone_from(key);
            }
            // Where it leads to no key, or none of this width, SQLite itself cannot follow it.
            reference.to.len() == reference.columns.len()
        });
    }
    Ok(tables)
}

fn table(connection: &Connection, schema: &str, listed: &Listed) -> rusqlite::Result<Table> {
    let (name, strict) = (listed.name.as_str(), listed.strict);
    let mut query = connection.prepare_cached(
        "SELECT lower(name), type, \"notnull\", dflt_value, hidden IN (2, 3)
         FROM pragma_table_xinfo(?1, ?2) WHERE hidden <> 1 ORDER BY cid",
    )?;
    let columns = query.query_map([name, schema], |row| {
        Ok(Column {
            name: row.get(0)?,
            kind: affinity(&row.get::<_, String>(1)?, strict).to_lowercase(),
            nullable: !row.get::<_, bool>(2)?,
            default: row.get(3)?,
            generated: row.get(4)?,
        })
    })?;
    Ok(Table {
        name: name.to_ascii_lowercase(),
        columns: columns.collect::<rusqlite::Result<_>>()?,
        key: key(connection, schema, listed)?.into_iter().map(|key| key.name.to_ascii_lowercase()).collect(),
        references: references(connection, schema, name)?,
        apart: None,
    })
}

/// The primary key of a table, in its order.
pub(super) fn key(connection: &Connection, schema: &str, listed: &Listed) -> rusqlite::Result<Vec<Key>> {
    let (table, strict) = (listed.name.as_str(), listed.strict);
    let mut query = connection.prepare_cached(
        "SELECT c.name, c.type, NOT c.\"notnull\", (
             SELECT x.coll FROM pragma_index_list(?1, ?2) i, pragma_index_xinfo(i.name, ?2) x
             WHERE i.origin = 'pk' AND x.key AND x.cid = c.cid
         ) FROM pragma_table_xinfo(?1, ?2) c WHERE c.pk > 0 ORDER BY c.pk",
    )?;
    let keys = query.query_map([table, schema], |row| {
        let collation: Option<String> = row.get(3)?;
        Ok(Key {
            name: row.get(0)?,
            affinity: affinity(&row.get::<_, String>(1)?, strict),
            // Without an index of its own the key is the row's number, and never null.
            nullable: row.get::<_, bool>(2)? && collation.is_some(),
            collation: collation.unwrap_or_else(|| "BINARY".to_owned()),
        })
    })?;
    keys.collect()
}

/// The affinity of a declared type, by the rules of <https://sqlite.org/datatype3.html>, 3.1.
fn affinity(declared: &str, strict: bool) -> &'static str {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if has(&["INT"]) {
        "INTEGER"
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        "TEXT"
    } else if declared.is_empty() || has(&["BLOB"]) || (strict && declared == "ANY") {
        "BLOB"
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        "REAL"
    } else {
        "NUMERIC"
    }
}

fn references(connection: &Connection, schema: &str, table: &str) -> rusqlite::Result<Vec<Reference>> {
    let mut query = connection.prepare_cached(
        "SELECT id, lower(\"table\"), lower(\"from\"), lower(\"to\"), on_delete, on_update
         FROM pragma_foreign_key_list(?1, ?2) ORDER BY id, seq",
    )?;
    let mut rows = query.query([table, schema])?;
    let mut found: Vec<(i64, Reference)> = Vec::new();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        if found.last().is_none_or(|(last, _)| *last != id) {
            let reference = Reference {
                table: row.get(1)?,
                on_delete: action(&row.get::<_, String>(4)?),
                on_update: action(&row.get::<_, String>(5)?),
                ..Reference::default()
            };
            found.push((id, reference));
        }
        if let Some((_, reference)) = found.last_mut() {
            reference.columns.push(row.get(2)?);
            reference.to.extend(row.get::<_, Option<String>>(3)?);
        }
    }
    Ok(found.into_iter().map(|(_, reference)| reference).collect())
}

fn action(text: &str) -> Action {
    match text {
        "CASCADE" => Action::Cascade,
        "SET NULL" => Action::SetNull,
        "SET DEFAULT" => Action::SetDefault,
        _ => Action::None,
    }
}
