//! SQLite: a version's database is a file, `ROOT/APP/receiver/databases/N/APP_vN.sqlite3`, in a
//! directory of its own (0700; the file 0600, in WAL mode).
//!
//! The file, its schema and what lies beside it come from the app: they are opened without following
//! a link, must be regular files, are never trusted to call functions, and every walk over their
//! pages has a [`Limit`](super::Limit).
//!
//! A database file is never replaced by rename while a process may have it open (it would go on
//! writing into the old one): new content goes in through SQLite's own pages. Nor does this room open
//! and close a descriptor of its own on a live database: that would drop every POSIX lock of this
//! process on it, a [`Hold`]'s as well.

mod agent;
mod canon;
mod copy;
mod database;
mod dump;
mod fence;
mod hold;
mod lexer;
mod open;
mod pages;
mod place;
mod proof;
mod script;
mod shell;
mod triggers;
mod way;

pub use agent::serve as serve_agent;
pub use canon::schema;
pub use copy::{checkpoint_and_sync, freeze, snapshot};
pub use database::Sqlite;
pub use dump::{dump, load, read_back};
pub use fence::{fence, strip, unfence};
pub use hold::Hold;
pub use place::{create, file_name, remove, size, url};
pub use proof::{census, examine, is_empty, rows, verify};
pub use script::run_sql;
pub use shell::shell;
pub use way::{capture, captured, carry, changes, end_capture, foresee, merge, tables};

use super::{Database, Ground, Spot};

/// The database at `spot`: ours to open, or an app's user's.
pub fn at(ground: &Ground, spot: Spot) -> Box<dyn Database> {
    let Some(own) = &ground.agent else { return Box::new(Sqlite::at(spot)) };
    let lender = ground.lender.as_ref().and_then(|lender| lender.agent.as_ref());
    Box::new(agent::Theirs::at(spot, lender.unwrap_or(own).clone(), own.clone()))
}

#[cfg(test)]
mod tests;
