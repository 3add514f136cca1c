//! The server: where its socket is, who administers it, and what its errors mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postgres::config::Config;
use postgres::error::SqlState;
use postgres::{Client, NoTls};

use super::session::Session;
use crate::data::Ground;
use crate::support::{self, Error, Result, files};

/// Where Debian, Ubuntu and Fedora have the socket.
const USUAL: &str = "/var/run/postgresql";

/// What a socket's file is named before its port.
const SOCKET: &str = ".s.PGSQL.";

/// What our own sessions do not leave to `ALTER DATABASE … SET` or `ALTER ROLE … SET`: text that means the same
/// in two databases, and nothing that calls a function of the app.
const OPTIONS: &str = "-c search_path=pg_catalog -c row_security=off -c TimeZone=UTC -c DateStyle=ISO \
    -c IntervalStyle=postgres -c extra_float_digits=1 -c bytea_output=hex -c statement_timeout=0 -c lock_timeout=0 \
    -c idle_in_transaction_session_timeout=0 -c default_transaction_isolation=read\\ committed \
    -c default_transaction_read_only=off -c default_transaction_deferrable=off -c client_min_messages=warning \
    -c standard_conforming_strings=on -c xmloption=content";

/// The same for settings that not every server has, which would refuse a connection that names them. An app
/// that puts a view in the place of a table, at the right moment, has its functions called by who reads it: the
/// first keeps the administrator from it (CVE-2024-7348).
const GUARDS: &str = "SELECT set_config(name, CASE WHEN name LIKE 'restrict%' THEN 'view, foreign-table' ELSE '0' END, false)
    FROM pg_settings WHERE name IN ('restrict_nonsystem_relation_kind', 'transaction_timeout', 'idle_session_timeout')";

/// A PostgreSQL server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    directory: PathBuf,
    port: u16,
    pub(super) admin: String,
    password_file: Option<PathBuf>,
    /// The directory of the passwords of roles.
    pub(super) secrets: PathBuf,
    /// That of the passwords of another app's databases, which are only read.
    pub(super) lender: Option<PathBuf>,
}

impl Server {
    /// The server that the ground names: by its socket's directory, or by the socket itself where the port
    /// is not 5432.
    pub(super) fn of(ground: &Ground) -> Server {
        let path = ground.server.clone().unwrap_or_else(|| PathBuf::from(USUAL));
        let port = path.file_name().and_then(|name| name.to_str()?.strip_prefix(SOCKET)?.parse().ok());
        let (directory, port) = match (port, path.parent()) {
            (Some(port), Some(directory)) => (directory.to_owned(), port),
            _ => (path, 5432),
        };
        Server {
            directory,
            port,
            admin: ground.admin.clone().unwrap_or_else(support::user_name),
            password_file: ground.password_file.clone(),
            secrets: ground.secrets.clone(),
            lender: ground.lender.as_ref().map(|lender| lender.secrets.clone()),
        }
    }

    /// The directory of its socket.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The port that is part of its socket's name.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Its socket, to speak of it by.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join(format!("{SOCKET}{}", self.port))
    }

    /// The administrator's password, where the socket does not tell who somebody is.
    pub(super) fn password(&self) -> Result<Option<String>> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let text = files::read_text(path)?;
        let line = text.as_deref().and_then(|text| text.lines().next()).filter(|line| !line.is_empty());
        line.map(|line| Some(line.to_owned())).ok_or_else(|| {
            Error::new(format!("{} holds no password of '{}'", path.display(), self.admin.escape_debug()))
                .hint("its first line is to be the password")
        })
    }

    /// A session of the administrator's.
    pub(super) fn session(&self, database: &str) -> Result<Session> {
        let mut config = self.config(database, &self.admin);
        if let Some(password) = self.password()? {
            config.password(password);
        }
        config.options(OPTIONS);
        let mut session = self.connect(&config, &self.admin)?;
        session.query(GUARDS, &[])?;
        Ok(session)
    }

    /// A session of a version's role, with our settings where `plain` is not wanted.
    pub(super) fn session_of(
        &self,
        database: &str,
        role: &str,
        password: &str,
        plain: bool,
    ) -> Result<Session> {
        let mut config = self.config(database, role);
        config.password(password);
        if !plain {
            config.options(OPTIONS);
        }
        self.connect(&config, role)
    }

    fn config(&self, database: &str, role: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.directory).port(self.port).dbname(database).user(role);
        config.application_name("receiver").connect_timeout(Duration::from_secs(10)).notice_callback(|_| {});
        config
    }

    fn connect(&self, config: &Config, role: &str) -> Result<Session> {
        let client = config.connect(NoTls).map_err(|error| self.refused(&error, role))?;
        Ok(Session::new(client, self.socket()))
    }

    /// Why a connection could not be made.
    fn refused(&self, error: &postgres::Error, role: &str) -> Error {
        let socket = self.socket();
        let cannot =
            format!("cannot connect to PostgreSQL at {} as '{}'", socket.display(), role.escape_debug());
        let hint = if role == self.admin { self.admin_cure() } else { login_cure(&self.admin) };
        let cause = told(error, &socket);
        match error.code() {
            None if is_io(error) => {
                Error::new(format!("no PostgreSQL server answers at {}", socket.display()))
                    .caused_by(inner(error))
                    .hint("`pg_lsclusters` shows the servers; `systemctl start postgresql`")
                    .away()
            }
            // It wants a password, and there is none.
            None => Error::new(cannot).caused_by(cause).hint(hint),
            Some(code)
                if [&SqlState::INVALID_AUTHORIZATION_SPECIFICATION, &SqlState::INVALID_PASSWORD]
                    .contains(&code) =>
            {
                Error::new(cannot).caused_by(cause).hint(hint)
            }
            // It is starting up, or shutting down.
            Some(&SqlState::CANNOT_CONNECT_NOW) => Error::new(cannot).caused_by(cause).away(),
            Some(_) => Error::new(cannot).caused_by(cause),
        }
    }

    fn admin_cure(&self) -> String {
        let name = super::names::ident(&self.admin).replace('\'', "");
        format!("sudo -u postgres psql -c 'CREATE ROLE {name} LOGIN CREATEDB CREATEROLE'")
    }
}

/// What lets roles log in by their passwords, and the administrator by its user.
pub(super) fn login_cure(admin: &str) -> String {
    format!(
        "in pg_hba.conf replace `local all all peer` by the two lines `local all {} peer` and \
         `local all all scram-sha-256`, then `sudo -u postgres psql -c 'SELECT pg_reload_conf()'`",
        super::names::ident(admin)
    )
}

/// Whether it is the socket that failed, and not the server that answered.
fn is_io(error: &postgres::Error) -> bool {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = next {
        if cause.is::<std::io::Error>() {
            return true;
        }
        next = cause.source();
    }
    false
}

/// The innermost cause, in its own words.
fn inner(error: &dyn std::error::Error) -> Error {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    Error::new(last.to_string())
}

/// What the server says, as a sentence of ours where it is about the server itself.
pub(super) fn told(error: &postgres::Error, socket: &Path) -> Error {
    let server = format!("the PostgreSQL server at {}", socket.display());
    let Some(said) = error.as_db_error() else {
        return if error.is_closed() || is_io(error) {
            Error::new(format!("{server} went away")).hint("`pg_lsclusters` shows whether it is up again")
        } else {
            inner(error)
        };
    };
    let message = said.message().replace('\n', " ");
    match said.code() {
        &SqlState::TOO_MANY_CONNECTIONS => Error::new(format!("{server} has no connection left: {message}"))
            .hint("end some, or raise max_connections: `psql -c 'SELECT usename, count(*) FROM pg_stat_activity GROUP BY 1'`"),
        &SqlState::CANNOT_CONNECT_NOW => Error::new(format!("{server} is not ready: {message}")),
        &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN => {
            Error::new(format!("{server} ended the connection: {message}"))
        }
        &SqlState::DISK_FULL => Error::new(format!("{server} has no space left on its disk: {message}"))
            .hint("make room, then try again"),
        &SqlState::OUT_OF_MEMORY if said.hint().is_some_and(|hint| hint.contains("max_locks_per")) => {
            Error::new(format!("{server} has no room for so many locks: {message}"))
                .hint(
                    "`ALTER SYSTEM SET max_locks_per_transaction = 1024`, or to twice of what it is, then restart the \
                     server",
                )
        }
        &SqlState::INSUFFICIENT_PRIVILEGE => Error::new(format!("a right is missing: {message}")),
        _ => match said.detail() {
            Some(detail) => Error::new(format!("{message} ({})", detail.replace('\n', " "))),
            None => Error::new(message),
        },
    }
}

/// Whether a connection could be made at all: what [`Client`] answers to a login that must fail tells how the
/// server knows who somebody is.
pub(super) fn knows_by_password(server: &Server, role: &str) -> bool {
    let mut config = server.config("postgres", role);
    config.password("not-a-password");
    match config.connect(NoTls) {
        Ok(client) => {
            drop::<Client>(client);
            true
        }
        Err(error) => {
            let peer = error.as_db_error().is_some_and(|said| said.message().to_lowercase().contains("peer"));
            !peer
        }
    }
}
