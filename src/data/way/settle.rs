//! What goes, and what is left out: tried until it stands. The same for every engine.

use std::collections::BTreeMap;

use super::{OnConflict, Refusal};
use crate::support::{Error, Result};

/// A row on its way: the place of its table among the passages, and its number there.
pub type Row = (usize, i64);

/// What one pass over all tables found.
#[derive(Debug)]
pub struct Found<K> {
    /// Rows that the target refuses, and why.
    pub refused: Vec<(Row, String)>,
    /// Parents that the source has, and the target lacks, though nobody changed them: a migration made them.
    pub wanted: Vec<Wanted<K>>,
    /// References that lead nowhere in the source either: the app's own affair.
    pub dangling: u64,
}

impl<K> Default for Found<K> {
    fn default() -> Self {
        Found { refused: Vec::new(), wanted: Vec::new(), dangling: 0 }
    }
}

/// A parent that a row needs.
#[derive(Debug)]
pub struct Wanted<K> {
    /// The place of its table.
    pub at: usize,
    /// Its key.
    pub key: K,
    /// Who refers to it: left out, if it cannot come.
    pub child: Row,
    /// Why, then.
    pub why: String,
}

/// An engine's part: everything on its way, in one transaction of the target.
pub trait Attempt {
    /// The key of a row.
    type Key;

    /// Carries everything that is not left out, and looks what is wrong. Rows that are refused do not hinder the
    /// others. References are only looked at once no row is refused. [`undo`](Attempt::undo) takes it back.
    fn pass(&mut self) -> Result<Found<Self::Key>>;

    /// Takes back what the last pass did to the target.
    fn undo(&mut self) -> Result<()>;

    /// The number of the last row of a table that is on its way.
    fn last(&mut self, at: usize) -> Result<i64>;

    /// Takes a row along that had not changed. Answers its number, the old one if it was on its way already.
    fn take_along(&mut self, at: usize, key: &Self::Key) -> Result<i64>;

    /// Leaves a row out of the next passes: the target keeps what it has under its key.
    fn leave(&mut self, row: Row) -> Result<()>;

    /// The table and the key of a row, for a person.
    fn told(&mut self, row: Row) -> Result<(String, String)>;
}

/// How it ended: the last pass stands.
#[derive(Debug, Default)]
pub struct Settled {
    /// What was left out, and why.
    pub refused: BTreeMap<Row, String>,
    /// How many references lead nowhere in both.
    pub dangling: u64,
}

/// Goes until nothing is refused any more. Each time something is left out, or a parent taken along, so it
/// ends. With [`OnConflict::Abort`] the first refusal is the error; the transaction is then to be undone.
pub fn settle<A: Attempt>(attempt: &mut A, on_conflict: OnConflict) -> Result<Settled> {
    let mut settled = Settled::default();
    loop {
        let found = attempt.pass()?;
        if found.refused.is_empty() && found.wanted.is_empty() {
            settled.dangling = found.dangling;
            return Ok(settled);
        }
        attempt.undo()?;
        let mut refused = found.refused;
        // Two may need the same one: only what came in this round comes from being wanted.
        let mut fresh = BTreeMap::new();
        for wanted in found.wanted {
            let last = match fresh.get(&wanted.at) {
                Some(last) => *last,
                None => attempt.last(wanted.at)?,
            };
            fresh.insert(wanted.at, last);
            if attempt.take_along(wanted.at, &wanted.key)? <= last {
                refused.push((wanted.child, wanted.why));
            }
        }
        if let (OnConflict::Abort, Some((row, why))) = (on_conflict, refused.first()) {
            let (table, key) = attempt.told(*row)?;
            let refusal = Refusal { table, key, why: why.clone() };
            return Err(Error::new("the other version cannot hold a row").caused_by(refusal));
        }
        for (row, why) in refused {
            attempt.leave(row)?;
            settled.refused.entry(row).or_insert(why);
        }
    }
}
