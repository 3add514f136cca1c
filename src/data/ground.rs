//! Where an app's databases are, and how receiver reaches what keeps them.

use std::path::PathBuf;

use super::{Database, Spot};
use crate::app::AppName;
use crate::support::{Error, Result};

/// What the server grants: which database server, and as whom.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// The directory (0700) of [`Credentials`](super::Credentials), a file (0600) for each database on a server.
    pub secrets: PathBuf,
    /// The app whose user works on databases in files, where it has one of its own; `None` where we are that user.
    pub agent: Option<AppName>,
    /// Whose databases are only read here, where they are not the app's own.
    pub lender: Option<Lender>,
    /// The server's socket (MySQL, MariaDB) or the directory of it (PostgreSQL); the engine's usual place where
    /// nothing is said.
    pub server: Option<PathBuf>,
    /// The role that makes databases; that of the operating system's user where nothing is said.
    pub admin: Option<String>,
    /// The file with its password, where the socket does not tell who somebody is.
    pub password_file: Option<PathBuf>,
}

/// Another app, of whose databases one is read: that which a preview begins with.
#[derive(Clone, Debug)]
pub struct Lender {
    /// The directory of its passwords.
    pub secrets: PathBuf,
    /// The app, where its own user works on its databases in files.
    pub agent: Option<AppName>,
}

/// The engines that a receiver can have: the name, what people call it, and whether this one has it.
const ENGINES: [(&str, &str, bool); 3] = [
    ("sqlite", "SQLite", cfg!(feature = "sqlite")),
    ("mysql", "MySQL and MariaDB", cfg!(feature = "mysql")),
    ("postgres", "PostgreSQL", cfg!(feature = "postgres")),
];

/// Refuses an engine that this receiver was built without, or that none knows.
pub fn require(engine: &str) -> Result<()> {
    match ENGINES.iter().find(|(name, ..)| *name == engine) {
        Some((_, _, true)) => Ok(()),
        Some((name, called, false)) => Err(Error::new(format!("this receiver was built without {called}"))
            .hint(format!("build it with `cargo build --release --features {name}`"))),
        None => {
            Err(Error::new(format!("this receiver knows no database engine '{}'", engine.escape_debug())))
        }
    }
}

impl Ground {
    /// The database at `spot`, kept by the engine of this name.
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres", feature = "sqlite")),
        expect(unused_variables, clippy::unused_self, reason = "there is no engine to make one with")
    )]
    pub fn database(&self, engine: &str, spot: Spot) -> Result<Box<dyn Database>> {
        require(engine)?;
        match engine {
            #[cfg(feature = "sqlite")]
            "sqlite" => Ok(super::sqlite::at(self, spot)),
            #[cfg(feature = "mysql")]
            "mysql" => Ok(Box::new(super::mysql::Mysql::at(self, spot))),
            #[cfg(feature = "postgres")]
            "postgres" => Ok(Box::new(super::postgres::Postgres::at(self, spot))),
            other => Err(Error::new(format!("there is no way to a database of the engine '{other}'"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_not_built_in_is_refused_by_name() {
        for (name, called, built_in) in ENGINES {
            match require(name) {
                Ok(()) => assert!(built_in),
                Err(error) => {
                    assert!(!built_in);
                    assert_eq!(error.to_string(), format!("this receiver was built without {called}"));
                    assert!(error.innermost_hint().is_some_and(|hint| hint.ends_with(name)));
                }
            }
        }
        assert!(require("oracle").is_err());
    }
}
