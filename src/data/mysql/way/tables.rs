//! Tables as [`Way`](crate::data::way::Way) plans with them, from information_schema.

use std::collections::BTreeMap;

use crate::data::mysql::session::Session;
use crate::data::mysql::{quote, tables};
use crate::data::way::{Action, Column, Reference, Table};
use crate::support::Result;

/// A column of a primary key, as another table of receiver's own can have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The name as it is written.
    pub(super) name: String,
    /// Its type, with character set and collation: `varchar(20) CHARACTER SET … COLLATE …`.
    pub(super) kind: String,
    /// The collation of a text.
    pub(super) collation: Option<String>,
}

/// What information_schema says of a column: table, name, type as written and its family, whether it may be null,
/// default, extra, expression, character set, collation.
type Told = (
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// The tables of a database, and the columns of their primary keys.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) all: Vec<Table>,
    /// Where in `all` each is, by name.
    places: BTreeMap<String, usize>,
    /// Where in `all` those are that refer to each, by its name.
    children: BTreeMap<String, Vec<usize>>,
    /// By the name of the table.
    pub(super) keys: BTreeMap<String, Vec<Key>>,
    /// The collations of texts, by the names of table and column.
    pub(super) collations: BTreeMap<(String, String), String>,
}

impl Tables {
    /// Reads them.
    pub(super) fn read(session: &mut Session, database: &str) -> Result<Tables> {
        let mariadb = session.is_mariadb();
        let mut read = Tables::default();
        let mut kinds: BTreeMap<(String, String), Key> = BTreeMap::new();
        let mut columns: BTreeMap<String, Vec<Column>> = BTreeMap::new();
        let query = format!(
            "SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, \
             GENERATION_EXPRESSION, CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = {} ORDER BY BINARY TABLE_NAME, ORDINAL_POSITION",
            quote::text(database)
        );
        for row in session.rows::<mysql::Row>(&query, ())? {
            let told: Told = told(row);
            let (table, name, kind, family, nullable, default, extra, expression, set, collation) = told;
            let lower = name.to_lowercase();
            let default = default.and_then(|text| as_expression(mariadb, text, &family, &extra));
            let counts = extra.to_lowercase().contains("auto_increment");
            columns.entry(table.clone()).or_default().push(Column {
                name: lower.clone(),
                kind: self::family(&family).to_owned(),
                nullable: nullable == "YES",
                default: if counts { Some("AUTO_INCREMENT".to_owned()) } else { default },
                generated: expression.is_some_and(|text| !text.is_empty()),
            });
            let text = set.zip(collation.clone());
            let text = text.map(|(set, collation)| format!(" CHARACTER SET {set} COLLATE {collation}"));
            let kind = format!("{kind}{}", text.unwrap_or_default());
            if let Some(collation) = &collation {
                read.collations.insert((table.clone(), lower.clone()), collation.clone());
            }
            kinds.insert((table, lower), Key { name, kind, collation });
        }
        let (keys, partial) = primary_keys(session, database)?;
        let mut references = references(session, database)?;
        for table in tables::base(session, database)? {
            let name = table.name;
            let key = keys.get(&name).cloned().unwrap_or_default();
            let with_kind = key.iter().filter_map(|column| kinds.get(&(name.clone(), column.clone())));
            read.keys.insert(name.clone(), with_kind.cloned().collect());
            let apart = if table.engine != "InnoDB" {
                Some(format!("its engine is {}, which has no transactions", table.engine))
            } else if partial.contains(&name) {
                Some("its primary key holds only the beginning of a column".to_owned())
            } else {
                None
            };
            read.all.push(Table {
                columns: columns.remove(&name).unwrap_or_default(),
                key,
                references: references.remove(&name).unwrap_or_default(),
                apart,
                name,
            });
        }
        Ok(read.indexed())
    }

    /// These tables, of whose keys nothing is known.
    #[cfg(test)]
    pub(super) fn of(all: Vec<Table>) -> Tables {
        Tables { all, ..Tables::default() }.indexed()
    }

    /// The same, once it is known where each table is.
    fn indexed(mut self) -> Tables {
        for (at, table) in self.all.iter().enumerate() {
            self.places.insert(table.name.clone(), at);
            let mut parents: Vec<&String> =
                table.references.iter().map(|reference| &reference.table).collect();
            parents.sort_unstable();
            parents.dedup();
            for parent in parents {
                self.children.entry(parent.clone()).or_default().push(at);
            }
        }
        self
    }

    /// The tables that refer to one, in order of names.
    pub(super) fn children(&self, parent: &str) -> impl Iterator<Item = &Table> {
        self.children.get(parent).into_iter().flatten().map(|at| &self.all[*at])
    }

    /// The table of this name.
    pub(super) fn find(&self, name: &str) -> Option<&Table> {
        self.places.get(name).map(|at| &self.all[*at])
    }

    /// The columns of a table's primary key.
    pub(super) fn key(&self, table: &str) -> &[Key] {
        self.keys.get(table).map_or(&[], Vec::as_slice)
    }

    /// The collation of a column, if it is a text.
    pub(super) fn collation(&self, table: &str, column: &str) -> Option<&String> {
        self.collations.get(&(table.to_owned(), column.to_owned()))
    }
}

/// Ten columns are more than the driver turns into a tuple by itself in one answer with nulls.
fn told(row: mysql::Row) -> Told {
    let mut cells =
        row.unwrap().into_iter().map(|cell| mysql::from_value_opt::<Option<String>>(cell).ok().flatten());
    let mut next = || cells.next().flatten();
    (
        next().unwrap_or_default(),
        next().unwrap_or_default(),
        next().unwrap_or_default(),
        next().unwrap_or_default(),
        next().unwrap_or_default(),
        next(),
        next().unwrap_or_default(),
        next(),
        next(),
        next(),
    )
}

/// A default as SQL writes it. MariaDB tells it so; MySQL tells a bare value unless it is an expression.
fn as_expression(mariadb: bool, text: String, family: &str, extra: &str) -> Option<String> {
    if mariadb {
        return (!text.eq_ignore_ascii_case("null")).then_some(text);
    }
    let bare = extra.contains("DEFAULT_GENERATED") || family == "bit";
    Some(if bare { text } else { quote::text(&text) })
}

/// Types whose values can be equal, by one name.
fn family(kind: &str) -> &str {
    match kind {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => "integer",
        "decimal" | "float" | "double" => "number",
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" => "text",
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => "bytes",
        "datetime" | "timestamp" => "datetime",
        other => other,
    }
}

/// The columns of primary keys, by table.
type Keys = BTreeMap<String, Vec<String>>;

/// The columns of each primary key, and the tables in whose keys one is not whole.
fn primary_keys(session: &mut Session, database: &str) -> Result<(Keys, Vec<String>)> {
    let rows: Vec<(String, String, Option<u32>)> = session.rows(
        &format!(
            "SELECT TABLE_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = {} AND INDEX_NAME = 'PRIMARY' ORDER BY BINARY TABLE_NAME, SEQ_IN_INDEX",
            quote::text(database)
        ),
        (),
    )?;
    let (mut keys, mut partial) = (Keys::new(), Vec::new());
    for (table, column, part) in rows {
        if part.is_some() {
            partial.push(table.clone());
        }
        keys.entry(table).or_default().push(column.to_lowercase());
    }
    Ok((keys, partial))
}

fn references(session: &mut Session, database: &str) -> Result<BTreeMap<String, Vec<Reference>>> {
    let mut found: BTreeMap<String, Vec<Reference>> = BTreeMap::new();
    for key in tables::references(session, database)? {
        if key.to_database != database {
            continue;
        }
        let lower = |names: &[String]| names.iter().map(|name| name.to_lowercase()).collect();
        found.entry(key.table.clone()).or_default().push(Reference {
            columns: lower(&key.columns),
            table: key.to_table,
            to: lower(&key.to_columns),
            on_delete: action(&key.on_delete),
            on_update: action(&key.on_update),
        });
    }
    Ok(found)
}

fn action(rule: &str) -> Action {
    match rule {
        "CASCADE" => Action::Cascade,
        "SET NULL" => Action::SetNull,
        "SET DEFAULT" => Action::SetDefault,
        _ => Action::None,
    }
}
