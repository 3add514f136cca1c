//! A database as one file to keep or to take away: `pg_dump`'s custom format.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::catalog::OURS;
use super::place::LOBBY;
use super::program::{self, Desk, Who};
use super::server::Server;
use crate::data::{Limit, Progress};
use crate::support::{Context, Result, files};

/// Writes what a database holds at one moment to a new file, synced, and reads it back to its end. One that fails is
/// taken away.
///
/// `pg_dump` has no way to leave out a trigger: a dump of a retired database names those of the fence, without
/// their function. [`load`](super::load) passes them over; so does a `pg_restore` without `--exit-on-error`.
pub(super) fn dump(
    server: &Server,
    name: &str,
    to: &Path,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let cannot = || format!("cannot dump the database '{}'", name.escape_debug());
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    made.map(drop).context(|| format!("cannot make {}", to.display())).context(cannot)?;
    let written = write(server, name, to, limit, on_progress);
    written.context(cannot).inspect_err(|_| {
        if let Err(error) = files::remove_file(to) {
            log::warn!("{}", error.one_line());
        }
    })
}

fn write(
    server: &Server,
    name: &str,
    to: &Path,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut session = server.session(LOBBY)?;
    let version = session.version()?;
    let ask = "SELECT pg_database_size(datname) FROM pg_database WHERE datname = $1";
    let total = session.number(ask, &[&name])?.unsigned_abs();
    let desk = Desk::new(server, name)?;
    let password = server.password()?;
    let who = Who { role: &server.admin, password: password.as_deref(), database: name };
    let mut command = desk.command(server, &program::find("pg_dump", version)?, &who)?;
    let path = std::path::absolute(to).context(|| format!("cannot find {}", to.display()))?;
    command
        .args(["--format=custom", "--compress=3"])
        .arg(format!("--exclude-schema={OURS}"))
        .arg("--file")
        .arg(&path);
    let mut told = Instant::now();
    program::run_watched(command, limit, &mut || {
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            // What is packed is smaller: how much, nobody knows before.
            let done = std::fs::metadata(&path).map_or(0, |about| about.len()).min(total);
            on_progress(Progress { done, total });
        }
    })?;
    let mut back = desk.command(server, &program::find("pg_restore", version)?, &who)?;
    back.arg("--file=/dev/null").arg(&path);
    program::run(back, limit).context(|| "what was written cannot be read back")?;
    files::sync_directory(path.parent().unwrap_or(Path::new("/")))
}
