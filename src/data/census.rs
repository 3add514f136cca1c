//! What is in a database, counted: the proof that a copy is whole, and that an app used what it was given.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Schema;

/// How many rows each table has, the framework's bookkeeping included, receiver's own left out.
pub type Rows = BTreeMap<String, u64>;

/// A database at one moment, to be compared with the same one later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// All of the schema, the framework's bookkeeping included.
    pub schema: Schema,
    /// The rows of each table.
    pub rows: Rows,
    /// What the engine itself moves when anything at all is written.
    pub stamp: String,
}

impl Census {
    /// Whether something was written between `self` and `after`: schema, rows or bookkeeping.
    pub fn used_since(&self, after: &Census) -> bool {
        self != after
    }

    /// Whether the schema changed between `self` and `after`, the framework's bookkeeping left out.
    pub fn has_other_schema(&self, after: &Census) -> bool {
        self.schema.clone().without_bookkeeping() != after.schema.clone().without_bookkeeping()
    }
}
