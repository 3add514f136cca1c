//! A table, as far as the way of its rows depends on it.

use serde::{Deserialize, Serialize};

/// A table that is the app's (or its framework's), never receiver's own.
///
/// Names are as the engine compares them: in lower case where case does not count (SQLite, columns of MySQL),
/// else as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The name. On PostgreSQL a table outside `public` has its schema before it: `geo.parcel`.
    pub name: String,
    /// The columns, in their order.
    pub columns: Vec<Column>,
    /// The columns of the primary key, in its order. Empty: there is none.
    pub key: Vec<String>,
    /// To whom its rows refer.
    pub references: Vec<Reference>,
    /// Why its rows can go no way, as `it is a virtual table`. Most have no such reason.
    pub apart: Option<String>,
}

/// A column of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The family of its type: two columns of a key whose values can be equal say the same here, like
    /// `integer` for those of 4 and of 8 bytes.
    pub kind: String,
    /// Whether it may be null.
    pub nullable: bool,
    /// What it is where nothing is said: an expression of SQL that the engine takes, `nextval(…)` and
    /// `AUTO_INCREMENT` included (there only that it is something matters).
    pub default: Option<String>,
    /// Whether its value is computed from others: then nobody writes it.
    pub generated: bool,
}

/// A foreign key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The columns that refer.
    pub columns: Vec<String>,
    /// The table that they refer to.
    pub table: String,
    /// Its columns, named also where the schema leaves them out (the primary key).
    pub to: Vec<String>,
    /// What happens to the row when the one that it refers to is deleted.
    pub on_delete: Action,
    /// What happens to it when that one's key changes.
    pub on_update: Action,
}

/// What a foreign key does by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Nothing, or it refuses.
    #[default]
    None,
    /// The row goes along.
    Cascade,
    /// Its columns become null.
    SetNull,
    /// Its columns take their defaults.
    SetDefault,
}

impl Table {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}
