//! A copy of one moment, while others write.
//!
//! The copy is made by the backup API inside a read transaction. Without one the API begins again
//! whenever another process writes, and under steady writing it never ends; within one every page
//! comes from the same moment, in steps, so that it can be stopped and watched. In WAL mode nobody
//! waits for it.
//!
//! `VACUUM INTO` was measured against it (340 MB with two indexes: 1.5 to 2.5 s, and the backup 0.6 to
//! 1.5 s): it builds every table and index anew, may give rows of tables without an `INTEGER PRIMARY KEY`
//! other rowids, needs every function and collation of the app, and leaves WAL mode.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::{open, place};
use crate::data::{Limit, Progress};
use crate::support::{Context, Result, death};

/// Makes a copy one that is only read: in one file, which its owner may not write either.
pub fn freeze(copy: &Path) -> Result<()> {
    open::journal_mode(&open::writer(copy)?, copy, "delete")?;
    std::fs::set_permissions(copy, std::fs::Permissions::from_mode(0o400))
        .context(|| format!("cannot make {} read-only", copy.display()))
}

/// How many pages are copied between two looks at the limit: 8 MiB of the usual size.
const PAGES: i32 = 2048;

/// Copies the database at `from` into a new one at `to`, as it is at one moment.
///
/// The copy is in WAL mode, in a fresh directory of its own, and not yet synced
/// ([`checkpoint_and_sync`]). It carries the triggers of its source, receiver's as well ([`super::strip`]).
/// What takes more than a second is told, once a second. A copy that fails leaves nothing.
pub fn snapshot(
    from: &Path,
    to: &Path,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    place::make_directory(to)?;
    snapshot_into(from, to, limit, on_progress).inspect_err(|_| place::abandon(to))
}

/// The same, in a directory that is there, and stays where it fails.
pub(super) fn snapshot_into(
    from: &Path,
    to: &Path,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let source = open::reader(from)?;
    place::make_file(to)?;
    let mut copy = || {
        at_one_moment(&source, from, || fill(&source, to, limit, on_progress))?;
        death::point("copying");
        open::write_ahead(to)
    };
    copy().context(|| format!("cannot copy the database {}", from.display()))
}

/// Runs `work` while `source` sees one moment of its database.
pub(super) fn at_one_moment<T>(
    source: &Connection,
    path: &Path,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    // The moment is the first read's, not BEGIN's.
    source
        .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
        .context(|| format!("cannot read the database {}", path.display()))?;
    let result = work();
    // Ending a transaction that only read loses nothing, whatever it says.
    let _ = source.execute_batch("ROLLBACK");
    result
}

/// Copies what `source` sees into the empty file at `to`.
pub(super) fn fill(
    source: &Connection,
    to: &Path,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut copy = open::raw(to)?;
    // Whoever dies here leaves a file that nobody uses: no journal, no waiting for the disk.
    copy.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
        .context(|| format!("cannot write the database {}", to.display()))?;
    pages(source, &mut copy, limit, on_progress)
}

/// Copies all pages of one connection's database over another's, in one transaction of the target.
pub(super) fn pages(
    source: &Connection,
    target: &mut Connection,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let cannot = || "cannot copy the pages of the database";
    let size: u32 = source.pragma_query_value(None, "page_size", |row| row.get(0)).context(cannot)?;
    let backup = Backup::new(source, target).context(cannot)?;
    let mut told = Instant::now();
    loop {
        limit.check()?;
        match backup.step(PAGES).context(cannot)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            _ => thread::sleep(Duration::from_millis(1)),
        }
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            let pages = |count: i32| u64::try_from(count).unwrap_or(0) * u64::from(size);
            let state = backup.progress();
            on_progress(Progress {
                done: pages(state.pagecount - state.remaining),
                total: pages(state.pagecount),
            });
        }
    }
}

/// Brings everything that is committed into the database's own file, and the file and its names onto the disk.
pub fn checkpoint_and_sync(path: &Path) -> Result<()> {
    checkpoint(path)?;
    place::sync_directory(path)
}

/// The same, but for the name of its directory.
pub(super) fn checkpoint(path: &Path) -> Result<()> {
    let connection = open::writer(path)?;
    touch(&connection)
        .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
        .context(|| format!("cannot sync the database {}", path.display()))?;
    place::sync_names(path)
}

/// A commit that changes nothing. It makes SQLite itself sync the file, whatever was written to it
/// before: a descriptor of our own would, once closed, drop all locks that this process has on it.
pub(super) fn touch(connection: &Connection) -> rusqlite::Result<()> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    connection.pragma_update(None, "user_version", version)
}
