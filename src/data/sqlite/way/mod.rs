//! Capture and the way of rows between two files, as [`crate::data::way`] has it.
//!
//! A way is gone on one connection: the source is its `main` database, opened so that nothing can write to
//! it (`mode=ro`: the hold is another connection's), and the target is attached as `peer`. Bare names in an
//! expression therefore mean the source. On this connection triggers are off and foreign keys are not
//! enforced: the target's fence, the app's triggers and cascades stay as they are and do nothing.
//!
//! - [`tables`](mod@tables): what a plan is made from
//! - [`log`]: where keys are noted
//! - [`note`]: the triggers of one table that note them
//! - [`capture`](mod@capture): all of them, and the proof that they are whole
//! - [`carry`](mod@carry): the one transaction
//! - [`stage`]: the rows of one table on their way
//! - [`links`]: references, whole at the end
//! - [`stays`]: counts of what stays behind

mod capture;
mod carry;
mod links;
mod log;
mod note;
mod stage;
mod stays;
mod tables;

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{open, place};
use crate::data::way::Table;
use crate::support::{Context, Result};

pub use capture::{capture, captured, changes, end_capture};
pub(super) use capture::{drop_all, names};
pub use carry::{carry, foresee, merge};
pub(super) use note::OURS as NOTES;

/// The tables of a database.
pub fn tables(path: &Path) -> Result<Vec<Table>> {
    let connection = open::reader(path)?;
    tables::tables(&connection, "main").context(|| format!("cannot read the tables of {}", path.display()))
}

/// Opens the source to read, and attaches the target.
fn between(source: &Path, target: &Path) -> Result<Connection> {
    let cannot = || format!("cannot open the way from {} to {}", source.display(), target.display());
    let from = place::existing(source)?;
    let to = place::existing(target)?;
    let open = || -> rusqlite::Result<Connection> {
        // Read-only by the address alone: what is attached gets these flags.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_URI;
        let address = format!("file:{}?mode=ro", place::percent_encoded(&from));
        let connection = Connection::open_with_flags(address, flags)?;
        open::configure(&connection)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
        let address = format!("file:{}?mode=rw", place::percent_encoded(&to));
        connection.execute("ATTACH ?1 AS peer", [address])?;
        connection.pragma_update(Some("peer"), "synchronous", "FULL")?;
        Ok(connection)
    };
    open().context(cannot)
}
