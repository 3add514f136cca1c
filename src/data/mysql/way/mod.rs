//! Capture and the way of rows between two databases of one server, as [`crate::data::way`] has it.
//!
//! A way is gone in one session of the administrator's: rows go from database to database inside the server, and none
//! comes here, but for keys of parents that come along. Foreign keys are not enforced in that session, and no cascade
//! happens; the app's triggers in the target are [put aside](aside).
//!
//! - [`tables`](mod@tables): what a plan is made from
//! - [`note`]: the log and the triggers of one table
//! - [`cascade`]: rows that the server changes by itself
//! - [`capture`](mod@capture): all of them, and the proof that they are whole
//! - [`carry`](mod@carry): the one transaction
//! - [`behind`]: a copy that was made ahead, brought to the moment of a hold
//! - [`stage`]: the rows of one table on their way
//! - [`expression`]: what `[map]` may compute
//! - [`links`]: references, whole at the end
//! - [`stays`]: counts of what stays behind

pub(super) mod aside;
pub(super) mod behind;
pub(super) mod capture;
pub(super) mod carry;
mod cascade;
mod expression;
mod links;
mod note;
mod stage;
mod stays;
mod tables;

use super::database::Mysql;
use crate::data::way::Table;
use crate::support::Result;

pub(super) use note::is_ours;

/// The tables of a database.
pub(super) fn tables(database: &Mysql) -> Result<Vec<Table>> {
    Ok(tables::Tables::read(&mut database.session()?, database.name())?.all)
}
