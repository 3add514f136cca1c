//! The way of rows between two schemas: back to the version before at a rollback, forward again afterwards.
//!
//! A [`Way`] is planned from the [`Table`]s of a source and a target, without looking at any row: which
//! column goes where, in which order, and what the target has no place for ([`Left`]). Engines follow it:
//! while a version serves, triggers note the keys of the rows that change ([`Capture`]); on the way each of
//! these keys is brought to the state that it has in the source, or removed. So it does not matter how
//! often a row changed, and a way that was interrupted can be gone again.
//!
//! Back and forward are the same, with source and target swapped.

mod account;
mod expression;
mod left;
mod order;
mod plan;
mod settle;
mod stages;
mod table;

pub use account::{Capture, Carried, Changes, For, Moved, OnConflict, Refusal, Refused};
pub use left::{Left, Stay, What};
pub use order::{Order, order};
pub use plan::{Expressions, Link, Passage, Value, Way};
pub use settle::{Attempt, Found, Row, Settled, Wanted, settle};
pub use stages::{Staged, Stages};
pub use table::{Action, Column, Reference, Table};

#[cfg(test)]
mod tests;
