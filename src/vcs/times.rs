//! Modification times over releases: what did not change keeps its own, and new content gets a new one.
//!
//! Browsers and nginx take a file's time and size for its content (`Last-Modified`, `ETag`), to the second.
//! So a file that is as it was hands its time on, and one that changed gets another second than before.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps};

use crate::support::{Context, Result};

/// The release that the times come from.
#[derive(Debug)]
pub struct Older {
    top: OwnedFd,
    exported: Timestamp,
    changed: HashSet<Vec<u8>>,
}

impl Older {
    /// The release in `directory`, whose export ended at `exported`; `changed` are the paths, submodules'
    /// included, in which the new revision differs from it. `None` where the directory is gone.
    pub fn open(directory: &Path, exported: Timestamp, changed: HashSet<Vec<u8>>) -> Option<Older> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::PATH;
        let top = rustix::fs::openat(CWD, directory, flags, Mode::empty()).ok()?;
        Some(Older { top, exported, changed })
    }

    /// Gives a file that was just written the time that is right for it.
    pub(super) fn pass_on(&self, path: &[u8], size: u64, file: &File) -> Result<()> {
        let older = rustix::fs::statat(&self.top, OsStr::from_bytes(path), AtFlags::SYMLINK_NOFOLLOW);
        let Ok(older) = older else { return Ok(()) };
        if FileType::from_raw_mode(older.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let time = if self.is_unchanged(path)
            && u64::try_from(older.st_size) == Ok(size)
            && self.is_untouched(&older)
        {
            Timespec { tv_sec: older.st_mtime, tv_nsec: nanoseconds(older.st_mtime_nsec) }
        } else if older.st_mtime >= Timestamp::now().as_second() {
            Timespec { tv_sec: older.st_mtime + 1, tv_nsec: 0 }
        } else {
            return Ok(());
        };
        let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        rustix::fs::futimens(file, &Timestamps { last_access: keep, last_modification: time })
            .context(|| "cannot set the time of a file")
    }

    /// Whether the revisions have the same there, also above it: a submodule changes as a whole.
    fn is_unchanged(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        !ends.chain([path.len()]).any(|end| self.changed.contains(&path[..end]))
    }

    /// Whether no stage wrote to it: only the change time cannot be set back (field notes).
    fn is_untouched(&self, older: &Stat) -> bool {
        let changed = Timestamp::new(older.st_ctime, i32::try_from(older.st_ctime_nsec).unwrap_or_default());
        changed.is_ok_and(|changed| changed <= self.exported)
    }
}

#[allow(
    clippy::cast_possible_wrap,
    clippy::unnecessary_cast,
    reason = "less than a billion, on every platform"
)]
fn nanoseconds(nanoseconds: u64) -> i64 {
    nanoseconds as i64
}
