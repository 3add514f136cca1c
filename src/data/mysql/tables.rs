//! The tables of a database.

use std::collections::BTreeMap;

use super::quote;
use super::session::Session;
use crate::support::{Error, Result, text};

/// Engines whose tables are copied. The others keep their rows elsewhere (FEDERATED, CONNECT, MERGE) or take
/// none back.
const KEPT: [&str; 4] = ["InnoDB", "Aria", "MyISAM", "MEMORY"];

/// One table, or a sequence (MariaDB).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) is_sequence: bool,
    pub(super) engine: String,
    /// About how many bytes it has.
    pub(super) bytes: u64,
    pub(super) auto_increment: Option<u64>,
}

/// One row of information_schema: name, kind, engine, bytes, next number.
type Told = (String, String, Option<String>, Option<u64>, Option<u64>);

/// All tables and sequences, in order of names. Views are none.
pub(super) fn all(session: &mut Session, database: &str) -> Result<Vec<Table>> {
    let query = format!(
        "SELECT TABLE_NAME, TABLE_TYPE, ENGINE, DATA_LENGTH + INDEX_LENGTH, AUTO_INCREMENT \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW') \
         ORDER BY BINARY TABLE_NAME",
        quote::text(database)
    );
    let rows: Vec<Told> = session.rows(&query, ())?;
    let files = files(session, database);
    let table = |(name, kind, engine, bytes, auto_increment): Told| Table {
        is_sequence: kind == "SEQUENCE",
        engine: engine.unwrap_or_default(),
        bytes: bytes.unwrap_or(0).max(files.get(&name).copied().unwrap_or(0)),
        auto_increment,
        name,
    };
    Ok(rows.into_iter().map(table).collect())
}

/// The bytes of each table's file, where receiver may see them (PROCESS): the figures of a table lag behind what
/// was written to it. Tables whose files have other names (signs, partitions) are left out.
fn files(session: &mut Session, database: &str) -> BTreeMap<String, u64> {
    let list = if session.is_mariadb() { "INNODB_SYS_TABLESPACES" } else { "INNODB_TABLESPACES" };
    let query = format!("SELECT NAME, FILE_SIZE FROM information_schema.{list} WHERE NAME LIKE ?");
    let like = format!("{}/%", super::roles::pattern(database));
    let rows: Vec<(String, u64)> = session.rows(&query, (like,)).unwrap_or_default();
    let table = |(name, bytes): (String, u64)| Some((name.split_once('/')?.1.to_owned(), bytes));
    rows.into_iter().filter_map(table).collect()
}

/// The same without sequences.
pub(super) fn base(session: &mut Session, database: &str) -> Result<Vec<Table>> {
    let mut tables = all(session, database)?;
    tables.retain(|table| !table.is_sequence);
    Ok(tables)
}

/// The names of all tables, the cheap way: no table is opened for it.
pub(super) fn names(session: &mut Session, database: &str) -> Result<Vec<String>> {
    let query = format!(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} \
         AND TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW', 'SEQUENCE') ORDER BY BINARY TABLE_NAME",
        quote::text(database)
    );
    session.rows(&query, ())
}

/// Refuses what cannot be copied exactly: tables whose rows lie elsewhere, and old rows of versioned tables.
pub(super) fn copyable(session: &mut Session, database: &str) -> Result<()> {
    if let Some(table) = all(session, database)?.iter().find(|table| !KEPT.contains(&table.engine.as_str())) {
        return Err(Error::new(format!(
            "table '{}' of {database} cannot be copied: its engine is {}",
            text::printable(&table.name),
            if table.engine.is_empty() { "unknown, or it is damaged" } else { &table.engine }
        ))
        .hint("make it an InnoDB table (ALTER TABLE … ENGINE=InnoDB), or drop it"));
    }
    let versioned: Option<String> = session.first(
        &format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} \
             AND TABLE_TYPE = 'SYSTEM VERSIONED'",
            quote::text(database)
        ),
        (),
    )?;
    let Some(table) = versioned else { return Ok(()) };
    Err(Error::new(format!(
        "table '{}' of {database} cannot be copied: it is system-versioned, and its history would be lost",
        text::printable(&table)
    ))
    .hint("ALTER TABLE … DROP SYSTEM VERSIONING"))
}

/// A foreign key: from the columns of a table to those of another.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) table: String,
    pub(super) columns: Vec<String>,
    pub(super) to_database: String,
    pub(super) to_table: String,
    pub(super) to_columns: Vec<String>,
    pub(super) on_update: String,
    pub(super) on_delete: String,
}

/// One column of a key: table, key, column, and the database, table and column that it refers to.
type Use = (String, String, String, String, String, String);

/// All foreign keys of a database.
pub(super) fn references(session: &mut Session, database: &str) -> Result<Vec<Reference>> {
    let schema = quote::text(database);
    let rules: Vec<(String, String, String, String)> = session.rows(
        &format!(
            "SELECT TABLE_NAME, CONSTRAINT_NAME, UPDATE_RULE, DELETE_RULE \
             FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = {schema}"
        ),
        (),
    )?;
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let uses: Vec<Use> = session.rows(
        &format!(
            "SELECT TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, \
             REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE \
             WHERE TABLE_SCHEMA = {schema} AND REFERENCED_TABLE_NAME IS NOT NULL \
             ORDER BY BINARY TABLE_NAME, BINARY CONSTRAINT_NAME, ORDINAL_POSITION"
        ),
        (),
    )?;
    let mut rules: BTreeMap<(String, String), (String, String)> =
        rules.into_iter().map(|(table, name, update, delete)| ((table, name), (update, delete))).collect();
    let mut found: Vec<(String, Reference)> = Vec::new();
    for (table, name, column, to_database, to_table, to_column) in uses {
        match found.last_mut() {
            Some((last, key)) if *last == name && key.table == table => {
                key.columns.push(column);
                key.to_columns.push(to_column);
            }
            _ => {
                let rule = rules.remove(&(table.clone(), name.clone()));
                let (on_update, on_delete) = rule.unwrap_or_default();
                let (columns, to_columns) = (vec![column], vec![to_column]);
                let key =
                    Reference { table, columns, to_database, to_table, to_columns, on_update, on_delete };
                found.push((name, key));
            }
        }
    }
    Ok(found.into_iter().map(|(_, key)| key).collect())
}
