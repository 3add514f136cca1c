//! Where an app's databases are, and how receiver reaches what keeps them.

use std::path::PathBuf;

use super::sqlite::Sqlite;
use super::{Database, Spot};
use crate::support::{Error, Result};

/// What the server grants: which database server, and as whom.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// The directory (0700) of [`Credentials`](super::Credentials), a file (0600) for each database on a server.
    pub secrets: PathBuf,
    /// Where the passwords of databases are that are another app's, and only read here: those that a preview
    /// begins with.
    pub lender: Option<PathBuf>,
    /// The server's socket (MySQL, MariaDB) or the directory of it (PostgreSQL); the engine's usual place where
    /// nothing is said.
    pub server: Option<PathBuf>,
    /// The role that makes databases; that of the operating system's user where nothing is said.
    pub admin: Option<String>,
    /// The file with its password, where the socket does not tell who somebody is.
    pub password_file: Option<PathBuf>,
}

impl Ground {
    /// The database at `spot`, kept by the engine of this name.
    pub fn database(&self, engine: &str, spot: Spot) -> Result<Box<dyn Database>> {
        match engine {
            "sqlite" => Ok(Box::new(Sqlite::at(spot))),
            #[cfg(feature = "mysql")]
            "mysql" => Ok(Box::new(super::mysql::Mysql::at(self, spot))),
            #[cfg(not(feature = "mysql"))]
            "mysql" => Err(Error::new("this receiver was built without MySQL and MariaDB")
                .hint("build it with `cargo build --features mysql`")),
            #[cfg(feature = "postgres")]
            "postgres" => Ok(Box::new(super::postgres::Postgres::at(self, spot))),
            #[cfg(not(feature = "postgres"))]
            "postgres" => Err(Error::new("this receiver was built without PostgreSQL")
                .hint("build it with `cargo build --features postgres`")),
            other => {
                Err(Error::new(format!("this receiver knows no database engine '{}'", other.escape_debug())))
            }
        }
    }
}
