//! The hold: readers go on, writers wait, and a death of the holder lets them go on.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::{copy, fence, open, place};
use crate::data::{Limit, Progress};
use crate::support::{Context, Error, Result};

/// How long to wait before asking for the lock again: short, to find the gap between two writers.
const PAUSE: Duration = Duration::from_millis(1);

/// A lock on one database that lets readers through and makes writers wait.
///
/// It is a write transaction in which nothing is written. Dropped, or ended by the death of its
/// process, it lets the writers go on as if nothing had been. Writers wait as long as their own busy
/// timeout says (5 s in most frameworks).
#[derive(Debug)]
pub struct Hold {
    connection: Connection,
    path: PathBuf,
}

impl Hold {
    /// Takes the hold, trying again until the limit. The error names who is in the way.
    pub fn take(path: &Path, limit: &Limit<'_>) -> Result<Self> {
        let connection = open::writer(path)?;
        let cannot = || format!("cannot hold the writers of {}", path.display());
        connection.busy_timeout(Duration::ZERO).context(cannot)?;
        loop {
            match connection.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => break,
                Err(error) if is_busy(&error) => {}
                Err(error) => return Err(Error::new(cannot()).caused_by(error)),
            }
            if limit.is_over() {
                let spent = limit.spent().as_secs_f32();
                let who = writer(path).unwrap_or_else(|| "another writer".to_owned());
                return Err(Error::new(format!("{}: after {spent:.1} s {who} still has the lock", cannot()))
                    .hint("end the long transaction, then try again"));
            }
            limit.check().context(cannot)?;
            thread::sleep(PAUSE);
        }
        // From here on only readers can be in the way, of a commit in a database that is not in WAL mode.
        connection.busy_timeout(Duration::from_secs(5)).context(cannot)?;
        Ok(Hold { connection, path: path.to_owned() })
    }

    /// Copies the held database, exactly as it is, into a new one at `to` (see [`super::snapshot`]).
    ///
    /// It reads through another connection: the backup API on the one that holds the lock never ends.
    pub fn copy_to(&self, to: &Path, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        copy::snapshot(&self.path, to, limit, on_progress)
    }

    /// Makes the database refuse every write from now on, and lets go of it, in one commit. Who waited
    /// for the lock meets the refusal, which says `why`, as `version 3 is retired`.
    ///
    /// When it fails nothing is fenced, and the writers go on.
    pub fn fence(self, why: &str) -> Result<()> {
        let path = self.path.clone();
        self.write(|connection| fence::raise(connection, why))
            .context(|| format!("cannot fence the database {}", path.display()))
    }

    /// Writes, and lets go, in one commit.
    pub(super) fn write(
        self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        work(&self.connection)?;
        self.connection.execute_batch("COMMIT")
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// Who has the lock of writers, as /proc tells: asking the file itself would mean to open and close
/// it, which drops this process's own locks.
fn writer(path: &Path) -> Option<String> {
    // In WAL mode it is byte 120 of the shared memory; else the reserved byte of the database.
    let places = [(place::beside(path, "-shm"), 120), (path.to_owned(), 0x4000_0001)];
    let locks = fs::read_to_string("/proc/locks").ok()?;
    places.iter().find_map(|(file, byte)| {
        let inode = fs::symlink_metadata(file).ok()?.st_ino();
        let pid = locks.lines().find_map(|line| holder(line, inode, *byte))?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!("process {pid} ({})", name.trim().escape_debug()))
    })
}

/// The process of one line of /proc/locks, if it has written its name on `byte` of `inode`:
/// `1: POSIX  ADVISORY  WRITE 8759 08:01:1234 120 120`. A line with `->` only waits.
fn holder(line: &str, inode: u64, byte: u64) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, "POSIX", _, "WRITE", pid, file, from, to] = fields[..] else { return None };
    let found = file.rsplit(':').next()?.parse::<u64>().ok()? == inode;
    let to = if to == "EOF" { u64::MAX } else { to.parse().ok()? };
    let covers = from.parse::<u64>().ok()? <= byte && byte <= to;
    if found && covers { pid.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_from_proc() {
        let line = "1: POSIX  ADVISORY  WRITE 8759 08:01:1234 120 120";
        assert_eq!(holder(line, 1234, 120), Some(8759));
        assert_eq!(holder(line, 1234, 121), None);
        assert_eq!(holder(line, 12, 120), None);
        assert_eq!(holder("1: -> POSIX ADVISORY WRITE 1 08:01:1234 120 120", 1234, 120), None);
    }
}
