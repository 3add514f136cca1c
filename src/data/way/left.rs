//! What has no place in the target, said before anybody decides.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::support::text::printable;

/// Everything that stays behind in the source, in order of tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left(pub Vec<Stay>);

/// One thing that stays behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// The table of the source.
    pub table: String,
    /// What of it, and why.
    pub what: What,
    /// How many rows that concerns, as [`What`] says; `None` as long as nobody counted.
    pub rows: Option<u64>,
}

/// What of a table stays behind, and which of its rows count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// All of it, as the target has no such table: the rows that were written since.
    Table,
    /// A column that the target lacks: the rows written since in which it is neither null nor its default.
    Column(String),
    /// All of it, as it has no primary key: every row.
    Keyless,
    /// All of it, as the primary key is another one: the rows that were written since.
    Key,
    /// All of it, for a reason of its own: every row.
    Apart(String),
    /// Its new rows, where this column of the target, which must not be null, is given by nothing: the rows
    /// written since that the target does not have yet.
    Required(String),
    /// What this expression for a column of the target would make, and why it cannot: no rows are counted.
    Expression {
        /// The column of the target.
        column: String,
        /// Why.
        why: String,
    },
}

impl Left {
    pub(super) fn add(&mut self, table: &str, what: What) {
        self.0.push(Stay { table: table.to_owned(), what, rows: None });
    }

    /// What concerns any row, once they are counted. What cannot be counted stays.
    #[must_use]
    pub fn that_matters(mut self) -> Self {
        self.0.retain(|stay| stay.rows != Some(0));
        self
    }
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = printable(&self.table);
        match &self.what {
            What::Table => write!(f, "table '{table}': the other version has none of this name")?,
            What::Column(column) => {
                write!(f, "table '{table}': the other version has no column '{}'", printable(column))?;
            }
            What::Keyless => write!(f, "table '{table}': it has no primary key")?,
            What::Key => write!(f, "table '{table}': its primary key is another one in the other version")?,
            What::Apart(why) => write!(f, "table '{table}': {}", printable(why))?,
            What::Required(column) => write!(
                f,
                "table '{table}': nothing gives new rows the column '{}' of the other version",
                printable(column)
            )?,
            What::Expression { column, why } => write!(
                f,
                "table '{table}': the expression for column '{}' cannot be used: {}",
                printable(column),
                printable(why)
            )?,
        }
        match self.rows {
            None => Ok(()),
            Some(1) => write!(f, " (1 row)"),
            Some(rows) => write!(f, " ({rows} rows)"),
        }
    }
}
