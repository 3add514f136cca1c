//! Capture and the way of rows between two databases, as [`crate::data::way`] has it.
//!
//! - [`tables`](mod@tables): what a plan is made from
//! - [`note`]: the log, the functions and the triggers of one table
//! - [`capture`](mod@capture): all of them, and the proof that they are whole
//! - [`carrier`]: who reads and writes rows
//! - [`carry`](mod@carry): the one transaction
//! - [`source`], [`target`]: its two ends
//! - [`behind`]: a copy that was made ahead, brought to the moment of a hold
//! - [`stage`]: the rows of one table on their way
//! - [`links`]: references, whole at the end
//! - [`stays`]: counts of what stays behind

mod behind;
mod capture;
mod carrier;
mod carry;
mod links;
mod note;
mod source;
mod stage;
mod stays;
mod tables;
mod target;

use super::server::Server;
use crate::data::way::Table;
use crate::support::Result;

pub(super) use behind::{catch_up, copies_ahead, copy_ahead};
pub(super) use capture::{capture, captured, changes, end_capture};
pub(super) use carry::{carry, foresee, merge};

/// The tables of a database.
pub(super) fn tables(server: &Server, name: &str) -> Result<Vec<Table>> {
    let mut session = server.session(name)?;
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    Ok(tables::tables(&mut session)?.into_iter().map(|known| known.table).collect())
}
