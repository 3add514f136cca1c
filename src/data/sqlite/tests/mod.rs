//! Real databases in a temporary directory, with other connections and other processes on them.

mod agent;
mod canon;
mod capture;
mod carry;
mod dump;
mod fence;
mod model;
mod place;
mod script;
mod shell;
mod two;
mod way;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::data::{Access, Fence, Script};
use crate::data::{Limit, Progress};

/// A directory with databases in it.
pub(super) struct Sandbox {
    root: TempDir,
}

impl Sandbox {
    pub(super) fn new() -> Self {
        Sandbox { root: tempfile::tempdir().unwrap() }
    }

    /// The place of a database that may not be there yet.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name).join("app.sqlite3")
    }

    /// Makes a database by `sql`.
    pub(super) fn database(&self, name: &str, sql: &str) -> PathBuf {
        let path = self.path(name);
        create(&path).unwrap();
        connect(&path).execute_batch(sql).unwrap();
        path
    }
}

/// A connection as an app has one.
pub(super) fn connect(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

pub(super) fn patience() -> Limit<'static> {
    Limit::within(Duration::from_secs(20))
}

pub(super) fn silent(_: Progress) {}

pub(super) fn number(path: &Path, sql: &str) -> i64 {
    connect(path).query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Retires a database as a deploy does.
pub(super) fn retire(path: &Path) {
    Hold::take(path, &patience()).unwrap().fence("version 3 is retired").unwrap();
}
