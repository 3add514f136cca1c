//! What keeps the data of each version, and how receiver reaches it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::inputs::Inputs;
use super::settings::{choice, collect, text};
use super::values::{Limit, Period, ServerPath, Text};
use crate::support::{Error, Result};

choice! {
    /// What keeps the data of a version.
    Engine {
        /// Nothing that receiver looks after: the data is the application's own affair.
        None,
        /// A file for each version.
        Sqlite,
        /// A database for each version, on MySQL or MariaDB.
        Mysql,
        /// A database for each version, on PostgreSQL.
        Postgres,
    }
}
choice! {
    /// How a version begins.
    Carry {
        /// With a copy of the data of the version before.
        Copy,
        /// Empty: syncdb makes the schema, migration fills it.
        Empty,
        /// With the one database that all versions share.
        Shared,
    }
}
choice! {
    /// How writers are kept out while the data is carried.
    HoldBy {
        /// They wait on a lock.
        Lock,
        /// They are refused, and everybody is disconnected for a moment (PostgreSQL): the server copies its own files.
        Disconnect,
    }
}
choice! {
    /// What becomes of rows that the other version's schema cannot hold.
    OnConflict {
        /// Nothing goes, and nothing changes.
        Abort,
        /// They stay where they are, the others go.
        Quarantine,
    }
}

/// The database of each version.
#[derive(Clone, Debug)]
pub struct Database {
    /// What it is kept in.
    pub engine: Engine,
    /// Whether a file said so, even if what it said is the default.
    pub engine_said: bool,
    /// How a version begins.
    pub carry: Carry,
    /// How writers are kept out meanwhile.
    pub hold: HoldBy,
    /// How long requests may be held, counted from the closing of the door.
    pub max_pause: Duration,
    /// How long copying the data may take for it to be copied under the hold. Where it takes longer it is copied before, and what
    /// changes meanwhile comes behind.
    pub copy_ahead: Duration,
    /// How long a rollback to the version before still brings the data along.
    pub rollback_window: Duration,
    /// What becomes of rows that the older schema cannot hold.
    pub on_conflict: OnConflict,
    /// Expressions for columns that changed their name or meaning, by table.
    pub map: BTreeMap<String, TableMap>,
}

/// How receiver reaches the database server, on this machine.
#[derive(Clone, Debug, Default)]
pub struct DatabaseServer {
    /// Its socket (MySQL, MariaDB), or the directory of it (PostgreSQL); where the engine has it where nothing is
    /// said.
    pub socket: Option<PathBuf>,
    /// The role that makes databases and roles; that of receiver's own user where nothing is said.
    pub admin: Option<String>,
    /// The file with that role's password, where the socket does not tell the server who somebody is.
    pub password_file: Option<PathBuf>,
}

/// Expressions for the columns of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableMap {
    /// Into the new version, by column.
    pub up: BTreeMap<String, String>,
    /// Back into the old one, by column.
    pub down: BTreeMap<String, String>,
}

impl DatabaseServer {
    pub(super) fn from(from: &Inputs) -> Result<DatabaseServer> {
        let path =
            |key| Ok::<_, Error>(from.get::<ServerPath>(&["database", key])?.map(|ServerPath(path)| path));
        Ok(DatabaseServer {
            socket: path("server")?,
            admin: text(from, &["database", "admin"])?,
            password_file: path("password_file")?,
        })
    }
}

impl Database {
    pub(super) fn from(from: &Inputs, engine: Engine) -> Result<Database> {
        let mut map = BTreeMap::new();
        for table in from.names(&["map"]) {
            let up = collect(from, &["map", table, "up"], |Text(expression)| expression)?;
            let down = collect(from, &["map", table, "down"], |Text(expression)| expression)?;
            map.insert(table.to_owned(), TableMap { up, down });
        }
        Ok(Database {
            engine,
            engine_said: from.said(&["database", "engine"]),
            carry: from.want(&["database", "carry"])?,
            hold: from.want(&["database", "hold"])?,
            max_pause: from.want::<Limit>(&["database", "max_pause"])?.0,
            copy_ahead: from.want::<Period>(&["database", "copy_ahead"])?.0,
            rollback_window: from.want::<Period>(&["database", "rollback_window"])?.0,
            on_conflict: from.want(&["database", "on_conflict"])?,
            map,
        })
    }
}
