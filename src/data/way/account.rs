//! What was noted, and what went which way.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Left;
use crate::support::Error;
use crate::support::text::printable;

/// What changes are noted for. Both may be noted at once, and neither knows of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A rollback, which carries them into the version before.
    Rollback,
    /// A copy that is made while nobody waits, and comes behind by them.
    Copy,
}

impl For {
    /// What the names of logs and triggers have in them, so that the two never meet.
    pub fn prefix(self) -> &'static str {
        match self {
            For::Rollback => "",
            For::Copy => "copy_",
        }
    }
}

/// The state of a capture: which rows changed is noted, for the way to `peer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The name of the database that the changes can be carried to.
    pub peer: String,
    /// When it began: UTC, RFC 3339.
    pub since: String,
    /// Why it is not whole, a sentence each: a table that lost its triggers, or came without. Empty: it is
    /// proved that no change is missing.
    pub gaps: Vec<String>,
}

impl Capture {
    /// Whether every change since its beginning is noted.
    pub fn is_whole(&self) -> bool {
        self.gaps.is_empty()
    }
}

/// How many rows of one table were noted, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// That are there: inserted or changed.
    pub written: u64,
    /// That are not there any more. Those that came and went since count, too.
    pub deleted: u64,
}

/// What to do with rows that the target refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnConflict {
    /// Carry nothing at all; the error names the first one.
    Abort,
    /// Leave them out, and whatever refers to them; the target keeps what it had under their keys.
    Quarantine,
}

/// What was carried, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// For each table in which something moved.
    pub moved: BTreeMap<String, Moved>,
    /// For each table of which rows were left out.
    pub refused: BTreeMap<String, Refused>,
    /// How many references among the carried rows lead nowhere in the source, and so in the target.
    pub dangling: u64,
    /// What has no place in the target, counted; only what concerns any row.
    pub left: Left,
}

/// What moved in one table of the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Rows that were written.
    pub written: u64,
    /// Rows that were deleted.
    pub deleted: u64,
    /// Of those written: rows that had not changed, but that the target lacked and others refer to.
    pub along: u64,
}

/// Rows of one table that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// How many.
    pub rows: u64,
    /// The first of them: the key, as `id = 7`, and why.
    pub first: Vec<(String, String)>,
}

impl Refused {
    /// How many are told one by one.
    pub const TOLD: usize = 20;

    /// Counts one more.
    pub fn add(&mut self, key: String, why: String) {
        self.rows += 1;
        if self.first.len() < Self::TOLD {
            self.first.push((key, why));
        }
    }
}

/// The row at which a way ended that was to carry all or nothing: among the causes of the error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The table of the target.
    pub table: String,
    /// The key, as `id = 7`.
    pub key: String,
    /// What the target says.
    pub why: String,
}

impl Refusal {
    /// The refusal that brought an error about, if one did: then [`OnConflict::Quarantine`] would go on.
    pub fn of(error: &Error) -> Option<&Refusal> {
        let mut next = error.source();
        while let Some(cause) = next {
            if let Some(refusal) = cause.downcast_ref() {
                return Some(refusal);
            }
            next = cause.source();
        }
        None
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, key, why) = (printable(&self.table), printable(&self.key), printable(&self.why));
        write!(f, "the row of table '{table}' with {key} is refused: {why}")
    }
}

impl std::error::Error for Refusal {}
