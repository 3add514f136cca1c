//! PostgreSQL's own programs: found, given who they are by a file, ended when they are not wanted any more.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::server::Server;
use crate::data::Limit;
use crate::support::{Context, Error, Result, files};

/// Where Debian keeps the programs of each major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A program that is not older than the server, and its major version.
pub(super) fn find(name: &str, server_version: u32) -> Result<PathBuf> {
    let wanted = server_version / 10_000;
    let mut seen = None;
    for path in candidates(name) {
        let Some(version) = major(&path) else { continue };
        if version >= wanted {
            return Ok(path);
        }
        seen = seen.max(Some(version));
    }
    let what = match seen {
        Some(old) => format!("{name} of PostgreSQL {old} is older than the server, which is {wanted}"),
        None => format!("{name} is not installed"),
    };
    Err(Error::new(what).hint(format!("`apt-get install postgresql-client-{wanted}`")))
}

/// Those of the server's packages first, which need no wrapper; then those of the PATH.
fn candidates(name: &str) -> Vec<PathBuf> {
    let mut versions = files::names_in(Path::new(DEBIAN)).unwrap_or_default();
    versions.sort_by_key(|version| version.parse::<u32>().unwrap_or(0));
    let mut found: Vec<_> =
        versions.iter().map(|version| Path::new(DEBIAN).join(version).join("bin")).collect();
    found.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    found.into_iter().map(|directory| directory.join(name)).filter(|path| path.is_file()).collect()
}

/// The major version that a program says it is: `pg_dump (PostgreSQL) 15.18 (Debian …)`.
fn major(program: &Path) -> Option<u32> {
    let said =
        Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = text.split(") ").nth(1)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A directory (0700) for what programs read and write meanwhile: gone when it is dropped, or with
/// the database's `remove`.
#[derive(Debug)]
pub(super) struct Desk {
    path: PathBuf,
}

impl Desk {
    /// A fresh one for a database.
    pub(super) fn new(server: &Server, name: &str) -> Result<Desk> {
        let path = place(server, name);
        files::remove_tree(&path)?;
        files::make_directory(&path, 0o700)?;
        Ok(Desk { path })
    }

    /// Removes the one that a death left.
    pub(super) fn clear(server: &Server, name: &str) -> Result<()> {
        files::remove_tree(&place(server, name))
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A program, told where the server is and who it is there by a file of passwords.
    pub(super) fn command(&self, server: &Server, program: &Path, who: &Who<'_>) -> Result<Command> {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.path).stdin(Stdio::null());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("LC_ALL", "C").env("PGCONNECT_TIMEOUT", "10").env("PGAPPNAME", "receiver");
        command.env("PGHOST", server.directory()).env("PGPORT", server.port().to_string());
        // No file of whoever runs this says otherwise; a database may not, either.
        command.env("HOME", &self.path).env("PGSYSCONFDIR", &self.path);
        command.env(
            "PGOPTIONS",
            "-c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off",
        );
        command.env("PGUSER", who.role).env("PGDATABASE", who.database);
        if let Some(password) = who.password {
            let file =
                self.file(&format!("{}.pgpass", if who.role == server.admin { "admin" } else { "role" }));
            let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
            files::write_unsynced(&file, format!("*:*:*:*:{escaped}\n").as_bytes(), 0o600)?;
            command.env("PGPASSFILE", file);
        }
        Ok(command)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Err(error) = files::remove_tree(&self.path) {
            log::warn!("{}", error.one_line());
        }
    }
}

fn place(server: &Server, name: &str) -> PathBuf {
    server.secrets.join(format!("{}{name}.work", files::TEMPORARY))
}

/// As whom a program connects, and to what.
pub(super) struct Who<'a> {
    pub(super) role: &'a str,
    pub(super) password: Option<&'a str>,
    pub(super) database: &'a str,
}

/// Runs a program to its end. What it says on stderr is why it failed.
pub(super) fn run(command: Command, limit: &Limit<'_>) -> Result<()> {
    run_watched(command, limit, &mut || {})
}

/// The same, and calls `on_wait` now and then.
pub(super) fn run_watched(mut command: Command, limit: &Limit<'_>, on_wait: &mut dyn FnMut()) -> Result<()> {
    let name = command.get_program().to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context(|| format!("cannot start {name}"))?;
    let pipe = child.stderr.take();
    let reader = thread::spawn(move || {
        // Enough to say why; the rest is read away, so that it does not wait for us.
        let mut said = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(64 << 10).read_to_end(&mut said);
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        }
        String::from_utf8_lossy(&said).into_owned()
    });
    let status = wait(&mut child, limit, on_wait);
    let said = reader.join().unwrap_or_default();
    let status = status.map_err(|error| Error::new(format!("{name} was ended")).caused_by(error))?;
    if status {
        return Ok(());
    }
    Err(Error::new(format!("{name} failed: {}", why(&said))))
}

/// Waits for the end of a program, or ends it: with SIGTERM first, on which it ends what it started.
fn wait(child: &mut Child, limit: &Limit<'_>, on_wait: &mut dyn FnMut()) -> Result<bool> {
    let mut asked: Option<Instant> = None;
    let mut over = None;
    loop {
        if let Some(status) = child.try_wait().context(|| "cannot wait for a program")? {
            return over.map_or(Ok(status.success()), Err);
        }
        match asked {
            None => {
                if let Err(error) = limit.check() {
                    over = Some(error);
                    asked = Some(Instant::now());
                    if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                    }
                }
            }
            Some(since) if since.elapsed() > Duration::from_secs(2) => {
                let _ = child.kill();
            }
            Some(_) => {}
        }
        on_wait();
        thread::sleep(Duration::from_millis(5));
    }
}

/// The line that says why, of what a program said: the first error, and the detail of it.
fn why(said: &str) -> String {
    let wanted =
        |line: &&str| line.contains("error:") || line.contains("ERROR:") || line.starts_with("DETAIL:");
    let mut lines: Vec<&str> = said.lines().filter(wanted).take(2).collect();
    if lines.is_empty() {
        lines.extend(said.lines().take(1));
    }
    let text = lines.join("; ");
    text.chars().take(500).collect::<String>().escape_debug().to_string()
}
