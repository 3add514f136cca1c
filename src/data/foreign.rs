//! A database that is somebody else's: read once into a dump, and never written to.
//!
//! Its address is a URL. The password is never in it here, nor in an argument of a program, nor in anything that is
//! printed: it is handed over by a file that only we can read. What is read is one moment, while its own application
//! goes on.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;
#[cfg(feature = "sqlite")]
use std::time::Instant;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
#[cfg(feature = "sqlite")]
use rusqlite::backup::{Backup, StepResult};
#[cfg(feature = "sqlite")]
use rusqlite::{Connection, OpenFlags};
use url::Url;

use super::Limit;
use crate::support::{Context, Error, Result, files, text};

/// Where such a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A file.
    Sqlite(PathBuf),
    /// On a server.
    Server(OnServer),
}

/// A database on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnServer {
    engine: &'static str,
    url: String,
    host: Option<String>,
    socket: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    name: String,
}

impl fmt::Display for Foreign {
    /// Scheme, host and name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Foreign::Sqlite(path) => write!(f, "sqlite {}", path.display()),
            Foreign::Server(OnServer { engine, host, name, .. }) => {
                write!(f, "{engine} {name} at {}", host.as_deref().unwrap_or("this machine"))
            }
        }
    }
}

/// Reads an address. A password in it is handed on apart.
pub fn read(url: &str) -> Result<(Foreign, Option<String>)> {
    // What is wrong with it is said without it: it may hold a password.
    let refuse = |why: &str| {
        Error::usage(format!("this is no address of a database: {why}"))
            .hint("mysql://USER@HOST/NAME, postgres://USER@HOST/NAME, sqlite:///PATH")
    };
    let mut parsed: Url = url.parse().map_err(|_| refuse("it cannot be read"))?;
    let decoded = |text: &str| -> Result<String> {
        let text = percent_decode_str(text).decode_utf8().map_err(|_| refuse("it is not UTF-8"))?;
        if text.contains(|c: char| c.is_control()) {
            return Err(refuse("it has a control character"));
        }
        Ok(text.into_owned())
    };
    let engine = match parsed.scheme() {
        "mysql" | "mariadb" => "mysql",
        "postgres" | "postgresql" => "postgres",
        "sqlite" | "sqlite3" => {
            let path = PathBuf::from(decoded(parsed.path())?);
            return if path.is_absolute() {
                Ok((Foreign::Sqlite(path), None))
            } else {
                Err(refuse("the path of the file is not absolute: sqlite:///srv/old/db.sqlite3"))
            };
        }
        _ => return Err(refuse("its scheme is not mysql, postgres or sqlite")),
    };
    let password = parsed.password().map(decoded).transpose()?;
    if password.is_some() {
        parsed.set_password(None).map_err(|()| refuse("it has a password and no host"))?;
    }
    let name = decoded(parsed.path().trim_start_matches('/'))?;
    if name.is_empty() || name.contains('/') || name.starts_with('-') {
        return Err(refuse("it names no database"));
    }
    let of_query = |wanted: &[&str]| {
        let mut pairs = parsed.query_pairs();
        pairs.find(|(key, _)| wanted.contains(&key.as_ref())).map(|(_, value)| value.into_owned())
    };
    let user =
        Some(decoded(parsed.username())?).filter(|user| !user.is_empty()).or_else(|| of_query(&["user"]));
    let on = OnServer {
        engine,
        url: parsed.to_string(),
        host: parsed.host_str().map(decoded).transpose()?.filter(|host| !host.is_empty()),
        socket: of_query(&["socket", "unix_socket", "host"]),
        port: parsed.port(),
        user,
        name,
    };
    if [&on.host, &on.socket, &on.user]
        .into_iter()
        .flatten()
        .any(|text| text.contains(|c: char| c.is_control()))
    {
        return Err(refuse("it has a control character"));
    }
    Ok((Foreign::Server(on), password))
}

impl FromStr for Foreign {
    type Err = Error;

    fn from_str(url: &str) -> Result<Foreign> {
        read(url).map(|(foreign, _)| foreign)
    }
}

impl Foreign {
    /// The engine that keeps it, and reads its dump.
    pub fn engine(&self) -> &'static str {
        match self {
            Foreign::Sqlite(_) => "sqlite",
            Foreign::Server(on) => on.engine,
        }
    }

    /// Its address, without a password.
    pub fn url(&self) -> String {
        match self {
            Foreign::Sqlite(path) => {
                const MEANT: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');
                format!("sqlite://{}", utf8_percent_encode(&path.display().to_string(), MEANT))
            }
            Foreign::Server(on) => on.url.clone(),
        }
    }

    /// Writes what it holds at one moment to a new file (0600), as its engine's `load` reads it. `desk` is a
    /// directory of ours alone (0700).
    pub fn dump(&self, password: Option<&str>, desk: &Path, to: &Path, limit: &Limit<'_>) -> Result<()> {
        let dumped = match self {
            Foreign::Sqlite(path) => copy(path, to),
            Foreign::Server(on) => on.dump(password, desk, to, limit),
        };
        dumped.context(|| format!("cannot read the database {self}")).inspect_err(|_| {
            let _ = files::remove_file(to);
        })
    }
}

fn new_file(to: &Path) -> Result<File> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    made.context(|| format!("cannot make {}", to.display()))
}

/// A receiver that was built without SQLite reads no such file.
#[cfg(not(feature = "sqlite"))]
fn copy(_: &Path, _: &Path) -> Result<()> {
    super::require("sqlite")
}

/// All pages of a file at one moment. It is opened to be read: not even its log is written back.
#[cfg(feature = "sqlite")]
fn copy(path: &Path, to: &Path) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    drop(new_file(to)?);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(path, flags).context(|| "it cannot be opened")?;
    source.busy_timeout(Duration::from_secs(30)).context(|| "it cannot be opened")?;
    let mut target = Connection::open(to).context(|| "the copy cannot be opened")?;
    let begun = Instant::now();
    let backup = Backup::new(&source, &mut target).context(|| "it cannot be copied")?;
    // All of it in one step: that is one moment. Who writes just now is waited for.
    while backup.step(-1).context(|| "it cannot be copied")? != StepResult::Done {
        if begun.elapsed() > PATIENCE {
            return Err(Error::new("somebody writes to it all the time"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(backup);
    target.pragma_update(None, "journal_mode", "delete").context(|| "the copy cannot be closed")?;
    target.close().map_err(|(_, error)| error).context(|| "the copy cannot be closed")
}

impl OnServer {
    fn dump(&self, password: Option<&str>, desk: &Path, to: &Path, limit: &Limit<'_>) -> Result<()> {
        let file = new_file(to)?;
        let command = match self.engine {
            "mysql" => self.mysql(password, desk)?,
            _ => self.postgres(password, desk)?,
        };
        run(command, &file, limit)?;
        file.sync_all().context(|| format!("cannot write {}", to.display()))
    }

    fn mysql(&self, password: Option<&str>, desk: &Path) -> Result<Command> {
        let program = ["mariadb-dump", "mysqldump"].into_iter().find(|name| is_there(name));
        let program = program.ok_or_else(|| {
            Error::new("neither mariadb-dump nor mysqldump is there").hint("`apt install mariadb-client`")
        })?;
        // The client's files know the same escapes as its strings.
        let quoted = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        let mut options = "[client]\n".to_owned();
        for (key, value) in [("user", &self.user), ("host", &self.host), ("socket", &self.socket)] {
            if let Some(value) = value {
                options = format!("{options}{key}={}\n", quoted(value));
            }
        }
        if let Some(port) = self.port {
            options = format!("{options}port={port}\n");
        }
        if let Some(password) = password {
            options = format!("{options}password={}\n", quoted(password));
        }
        let path = desk.join("client.cnf");
        files::write_atomic(&path, options.as_bytes(), 0o600)?;
        let mut command = Command::new(program);
        command.arg(format!("--defaults-file={}", path.display())).args([
            "--single-transaction",
            "--quick",
            "--skip-lock-tables",
            "--no-tablespaces",
            "--routines",
            "--triggers",
            "--hex-blob",
            "--default-character-set=utf8mb4",
        ]);
        command.arg("--").arg(&self.name);
        Ok(command)
    }

    fn postgres(&self, password: Option<&str>, desk: &Path) -> Result<Command> {
        if !is_there("pg_dump") {
            return Err(Error::new("pg_dump is not there").hint("`apt install postgresql-client`"));
        }
        let mut command = Command::new("pg_dump");
        command.args(["--format=custom", "--compress=3", "--no-owner", "--no-acl", "--no-password"]);
        if let Some(password) = password {
            let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
            let path = desk.join("pgpass");
            files::write_atomic(&path, format!("*:*:*:*:{escaped}\n").as_bytes(), 0o600)?;
            command.env("PGPASSFILE", path);
        }
        let host = self.host.as_ref().or(self.socket.as_ref());
        command.envs(host.map(|host| ("PGHOST", host)));
        command.envs(self.port.map(|port| ("PGPORT", port.to_string())));
        command.envs(self.user.as_ref().map(|user| ("PGUSER", user)));
        command.env("PGDATABASE", &self.name).env("PGCONNECT_TIMEOUT", "10");
        command.env("PGOPTIONS", "-c default_transaction_read_only=on -c statement_timeout=0");
        Ok(command)
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn run(mut command: Command, to: &File, limit: &Limit<'_>) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let trouble = || format!("cannot start {name}");
    let output = to.try_clone().context(trouble)?;
    // What it is told comes by its file: nothing of ours, but where programs are.
    let told: Vec<_> =
        command.get_envs().map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned))).collect();
    command.env_clear().env("LC_ALL", "C").env("HOME", "/nonexistent");
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(told.into_iter().filter_map(|(key, value)| Some((key, value?))));
    command.current_dir("/").stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
    let mut child = command.spawn().context(trouble)?;
    let errors = child.stderr.take();
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = errors
            .map(|errors| std::io::Read::read_to_end(&mut std::io::Read::take(errors, 1 << 16), &mut said));
        said
    });
    let status = loop {
        if let Some(status) = child.try_wait().context(trouble)? {
            break status;
        }
        if let Err(why) = limit.check() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(why);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = said.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    let said = text::printable(String::from_utf8_lossy(&said).trim());
    Err(Error::new(format!("{name} failed: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_and_its_password_stays_out_of_it() {
        let (foreign, password) = read("mysql://shop:p%40ss%3Aword@db.example:3307/shop").unwrap();
        assert_eq!(password.as_deref(), Some("p@ss:word"));
        assert_eq!(foreign.to_string(), "mysql shop at db.example");
        assert_eq!(foreign.url(), "mysql://shop@db.example:3307/shop");
        assert!(!format!("{foreign:?}").contains("word"));
        assert_eq!(foreign.url().parse::<Foreign>().unwrap(), foreign);
        let (file, _) = read("sqlite:///srv/old/a%20b.sqlite3").unwrap();
        assert_eq!(file, Foreign::Sqlite("/srv/old/a b.sqlite3".into()));
        let (local, _) = read("postgres:///shop?host=/run/pg").unwrap();
        assert_eq!(
            (local.engine(), local.to_string().as_str()),
            ("postgres", "postgres shop at this machine")
        );
    }

    #[test]
    fn what_is_no_address_is_refused_without_a_word_of_it() {
        for bad in [
            "",
            "secret",
            "http://u:secret@h/x",
            "mysql://u:secret@h/",
            "mysql://u:secret@h/a/b",
            "mysql://u:secret@h/-x",
            "mysql://u:secret@h/a%0Ab",
            "mysql://u%0A:secret@h/a",
            "mysql://u:secret@h/a?socket=%0A",
            "sqlite:secret",
        ] {
            let error = read(bad).unwrap_err().render();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
