//! One connection to the server, and what its errors mean to a person.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use mysql::prelude::{FromRow, Queryable};
use mysql::{Conn, OptsBuilder, Params};
use rustix::net::Shutdown;
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use super::lookout;
use crate::support::{Error, Result, text};

/// What every session of receiver's begins with: settings of the server that would change what a statement means or
/// how long it may take. Zero dates, dates that are none and an `AUTO_INCREMENT` of zero are data like any other.
pub(super) const COMMON: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,\
    NO_ENGINE_SUBSTITUTION', autocommit = 1, sql_quote_show_create = 1, sql_safe_updates = 0, \
    sql_select_limit = DEFAULT, completion_type = 'NO_CHAIN', wait_timeout = 31536000, lock_wait_timeout = 10, \
    innodb_lock_wait_timeout = 10, group_concat_max_len = 16777216";

/// What each session of receiver's has a lock of, with its number behind it: so they are told from those of others, also
/// where another process has them.
pub(super) const MARK: &str = "receiver session ";

/// One connection.
pub(super) struct Session {
    connection: Conn,
    socket: PathBuf,
    id: u32,
    mariadb: bool,
    /// Its end of the way to the server, for who hangs up.
    _line: Option<Arc<OwnedFd>>,
}

/// The sessions of this process: who asks for the connections of others leaves them out. Also those that are
/// closed, as the server lists them a moment longer.
static OWN: Mutex<BTreeMap<(PathBuf, u32), Weak<OwnedFd>>> = Mutex::new(BTreeMap::new());

/// Whether a connection of this server is one of this process.
pub(super) fn is_own(socket: &Path, id: u32) -> bool {
    OWN.lock().is_ok_and(|own| own.contains_key(&(socket.to_owned(), id)))
}

/// Makes a connection of this process one of another's.
#[cfg(test)]
pub(super) fn forget(socket: &Path, id: u32) {
    OWN.lock().unwrap().remove(&(socket.to_owned(), id));
}

/// Ends a connection of this process from our side: whoever waits for its answer waits no more, and the server may do
/// what it does to its end. Where the kernel does not allow it (older than 5.6, or a container's filter) nothing is done.
pub(super) fn hang_up(socket: &Path, id: u32) {
    let line = OWN.lock().ok().and_then(|own| own.get(&(socket.to_owned(), id))?.upgrade());
    if let Some(line) = line {
        let _ = rustix::net::shutdown(&line, Shutdown::Both);
    }
}

/// Another handle of a connection. The driver has none to give, and is in the middle of its work when it is needed.
fn line(connection: &Conn) -> Option<Arc<OwnedFd>> {
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).ok()?;
    let line = rustix::process::pidfd_getfd(&own, connection.as_raw_fd(), PidfdGetfdFlags::empty());
    line.ok().map(Arc::new)
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {} on {}", self.id, self.socket.display())
    }
}

/// The number of a server's error.
pub(super) fn code(error: &mysql::Error) -> Option<u16> {
    match error {
        mysql::Error::MySqlError(error) => Some(error.code),
        _ => None,
    }
}

/// Numbers of errors that something decides on.
pub(super) mod codes {
    /// Nobody got the lock in time.
    pub const LOCK_WAIT: u16 = 1205;
    /// Two waited for each other.
    pub const DEADLOCK: u16 = 1213;
    /// The table is not there.
    pub const NO_TABLE: u16 = 1146;
    /// The statement was stopped by KILL QUERY.
    pub const STOPPED: u16 = 1317;
    /// The session is not there.
    pub const NO_SESSION: u16 = 1094;
    /// The role may not do this on the server.
    pub const NO_RIGHT: u16 = 1227;
    /// A trigger of this name is there.
    pub const TRIGGER_EXISTS: u16 = 1359;
    /// A trigger or function may not be made while the server writes a binary log.
    pub const BINLOG_TRIGGER: u16 = 1419;
}

impl Session {
    /// Connects as receiver's administrator.
    pub(super) fn open(socket: &Path, role: &str, password: Option<String>) -> Result<Session> {
        let mut session = Session::connect(socket, role, password, None)?;
        session.run(COMMON)?;
        session.run(if session.mariadb {
            "SET SESSION max_statement_time = 0, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0, \
             idle_write_transaction_timeout = 0"
        } else {
            // MySQL keeps the statistics of information_schema for a day.
            "SET SESSION max_execution_time = 0, information_schema_stats_expiry = 0"
        })?;
        Ok(session)
    }

    /// Connects as a database's own role, with the settings that the app has.
    pub(super) fn of_role(socket: &Path, role: &str, password: String, database: &str) -> Result<Session> {
        Session::connect(socket, role, Some(password), Some(database))
    }

    fn connect(
        socket: &Path,
        role: &str,
        password: Option<String>,
        database: Option<&str>,
    ) -> Result<Session> {
        let path = socket
            .to_str()
            .ok_or_else(|| Error::new(format!("the path of the socket {} is not UTF-8", socket.display())))?;
        let options = OptsBuilder::new()
            .socket(Some(path))
            .user(Some(role))
            .pass(password)
            .db_name(database)
            .prefer_socket(false);
        let connection = Conn::new(options).map_err(|error| refused(socket, role, &error))?;
        let id = connection.connection_id();
        let line = line(&connection);
        if let Ok(mut own) = OWN.lock() {
            own.insert((socket.to_owned(), id), line.as_ref().map(Arc::downgrade).unwrap_or_default());
        }
        let mut session = Session { connection, socket: socket.to_owned(), id, mariadb: false, _line: line };
        let version: Option<String> = session.first("SELECT VERSION()", ())?;
        session.mariadb = version.is_some_and(|version| version.contains("MariaDB"));
        // A server that gives no such locks (one of a cluster) lists the session with the others.
        let _ = session.raw(&format!("DO GET_LOCK('{MARK}{id}', 0)"));
        Ok(session)
    }

    /// The number that the server knows it by.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Whether the server is MariaDB.
    pub(super) fn is_mariadb(&self) -> bool {
        self.mariadb
    }

    /// Runs a statement whose errors something decides on.
    pub(super) fn raw(&mut self, sql: &str) -> mysql::Result<()> {
        // To the end of every answer: the driver's own way to drop one swallows an error that comes after its
        // first packet.
        let mut answers = self.connection.query_iter(sql)?;
        while let Some(rows) = answers.iter() {
            for row in rows {
                row?;
            }
        }
        Ok(())
    }

    /// The one value that a statement answers, where something decides on its errors.
    pub(super) fn raw_value<T: mysql::prelude::FromValue>(&mut self, sql: &str) -> mysql::Result<T> {
        let value: Option<T> = self.connection.query_first(sql)?;
        value.ok_or(mysql::Error::DriverError(mysql::DriverError::UnexpectedPacket))
    }

    /// Runs a statement.
    pub(super) fn run(&mut self, sql: &str) -> Result<()> {
        self.raw(sql).map_err(|error| self.told(&error))
    }

    /// Tables may be made as others are, whatever their row format means to the server of today.
    pub(super) fn take_tables_as_they_are(&mut self) -> Result<()> {
        match self.raw("SET SESSION innodb_strict_mode = 0") {
            // MySQL lets only some roles say so. For the others it says itself which table cannot be made, and why.
            Err(error) if code(&error) == Some(codes::NO_RIGHT) && !self.mariadb => Ok(()),
            result => result.map_err(|error| self.told(&error)),
        }
    }

    /// Runs a statement that holds a secret: no word of it comes back in an error.
    pub(super) fn secret(&mut self, sql: &str) -> Result<()> {
        self.raw(sql).map_err(|error| match error {
            mysql::Error::MySqlError(mut error) => {
                "a role cannot be made or changed".clone_into(&mut error.message);
                self.told(&mysql::Error::MySqlError(error))
            }
            other => self.told(&other),
        })
    }

    /// All rows of an answer.
    pub(super) fn rows<T: FromRow>(&mut self, sql: &str, parameters: impl Into<Params>) -> Result<Vec<T>> {
        let parameters = parameters.into();
        let rows = match parameters {
            Params::Empty => self.connection.query(sql),
            some => self.connection.exec(sql, some),
        };
        rows.map_err(|error| self.told(&error))
    }

    /// The first row of an answer.
    pub(super) fn first<T: FromRow>(
        &mut self,
        sql: &str,
        parameters: impl Into<Params>,
    ) -> Result<Option<T>> {
        Ok(self.rows(sql, parameters)?.into_iter().next())
    }

    /// The one value of an answer that always has one.
    pub(super) fn value<T: FromRow>(&mut self, sql: &str, parameters: impl Into<Params>) -> Result<T> {
        self.first(sql, parameters)?.ok_or_else(|| Error::new("the database server gave an empty answer"))
    }

    /// The driver's own connection.
    pub(super) fn connection(&mut self) -> &mut Conn {
        &mut self.connection
    }

    /// What an error means.
    pub(super) fn told(&self, error: &mysql::Error) -> Error {
        let at = self.socket.display();
        match lookout::ended(&self.socket, self.id) {
            Some(lookout::Why::Full) => {
                Error::new(format!("the database server at {at} has no room left, and waits for some"))
                    .hint("make room on the filesystem of its datadir (SELECT @@datadir)")
            }
            Some(lookout::Why::Over) => Error::new(format!(
                "writers were held for as long as they may, and the database server at {at} let itself not be stopped"
            ))
            .hint("its own log says what it waits for"),
            None => told(&self.socket, error),
        }
    }
}

/// Why there is no connection.
fn refused(socket: &Path, role: &str, error: &mysql::Error) -> Error {
    let at = socket.display();
    let role = role.escape_debug().to_string();
    match error {
        mysql::Error::MySqlError(error) if matches!(error.code, 1044 | 1045 | 1698) => {
            Error::new(format!("the database server at {at} does not let '{role}' in")).hint(let_in(&role))
        }
        // 4151: MariaDB, 3118: MySQL, as its manual is known to say.
        mysql::Error::MySqlError(error) if matches!(error.code, 4151 | 3118) => {
            Error::new(format!("the role '{role}' is locked: its version is retired, and can only be read"))
        }
        // MySQL asks whom it does not know by a method that it picks, so that nobody learns that it does not.
        mysql::Error::DriverError(mysql::DriverError::UnknownAuthPlugin(method)) => Error::new(format!(
            "the database server at {at} does not let '{role}' in: it wants '{}', or does not know that role",
            text::printable(method)
        ))
        .hint(let_in(&role)),
        other => told(socket, other),
    }
}

/// How somebody gets in.
fn let_in(role: &str) -> String {
    format!(
        "as its root: CREATE USER '{role}'@'localhost' IDENTIFIED VIA unix_socket (MySQL: IDENTIFIED WITH auth_socket), \
         or name its password file in the server's settings; `receiver doctor` says which rights it needs"
    )
}

/// What an error of the server or of the way to it means, and what to type.
fn told(socket: &Path, error: &mysql::Error) -> Error {
    let at = socket.display();
    let error = match error {
        mysql::Error::MySqlError(error) => error,
        other => {
            return Error::new(format!("the database server at {at} does not answer: {}", way(other)))
                .hint("`systemctl status mariadb` (or mysql) says whether it runs")
                .away();
        }
    };
    let said = text::printable(&error.message);
    match error.code {
        1040 | 1203 | 1226 => {
            Error::new(format!("the database server at {at} has no connection free: {said}"))
                .hint("raise max_connections, or end connections that are not needed")
        }
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1419 => {
            Error::new(format!("a right is missing on the database server at {at}: {said}"))
                .hint("`receiver doctor` prints the GRANT statements")
        }
        3 | 1021 | 1114 => no_room(at, &said),
        // InnoDB's own words where a file of its sorting cannot grow.
        1296 if said.contains("emp file write failure") => no_room(at, &said),
        1053 | 1077 => Error::new(format!("the database server at {at} is shutting down")),
        1205 => Error::new("another connection kept its lock for too long"),
        1317 | 3024 | 1969 | 1968 => Error::new("the statement was stopped"),
        1927 | 3169 => Error::new("the connection was ended by the server's administrator"),
        code => Error::new(format!("{said} (error {code})")),
    }
}

fn no_room(at: impl fmt::Display, said: &str) -> Error {
    Error::new(format!("the database server at {at} has no room left: {said}"))
        .hint("make room on the filesystem of its datadir (SELECT @@datadir)")
}

fn way(error: &mysql::Error) -> String {
    match error {
        mysql::Error::IoError(error) => error.to_string(),
        mysql::Error::DriverError(error) => text::printable(&error.to_string()),
        other => text::printable(&other.to_string()),
    }
}
