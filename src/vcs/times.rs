//! Modification times over releases: what did not change keeps its own, and new content gets a new one.
//!
//! Browsers and nginx take a file's time and size for its content (`Last-Modified`, `ETag`), to the second. So content
//! that stays hands its time on, whatever way the new file was made; new content gets the present time, or one
//! second more than anything had that was ever seen at its path, whichever is later.

use std::path::Path;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};

use super::manifest::{Item, Manifest, Moment, Stamp, What};
use super::tree::{Entry, Kind};
use crate::support::clock;

/// How files of the live release may be taken over that are in the new one, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// As copies that share their blocks until one is written to, where the filesystem can do that.
    Blocks,
    /// As second names of the same files: what writes to one writes to all.
    Names,
}

/// The release that is live: times come from it, and files where the filesystem can share them.
#[derive(Debug)]
pub struct Older {
    pub(super) top: OwnedFd,
    pub(super) manifest: Arc<Manifest>,
    pub(super) sharing: Sharing,
    newest: i64,
}

impl Older {
    /// The release in `directory`. `newest` is the newest second that was given in a release after it. `None`
    /// where the directory is gone.
    pub fn open(directory: &Path, manifest: Arc<Manifest>, newest: i64, sharing: Sharing) -> Option<Older> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::PATH;
        let top = rustix::fs::openat(CWD, directory, flags, Mode::empty()).ok()?;
        Some(Older { top, manifest, sharing, newest })
    }

    /// What its export wrote.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How a file of it looks now.
    pub(super) fn look(&self, path: &[u8]) -> Option<Stamp> {
        rustix::fs::statat(&self.top, path, AtFlags::SYMLINK_NOFOLLOW).ok().map(|about| Stamp::of(&about))
    }
}

/// The time of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// Its content is not new: this one.
    Kept(Moment),
    /// Its content is new, and the present is later than all that was seen here.
    Now,
    /// Its content is new, and this is the first second that is.
    Later(i64),
}

impl Time {
    /// Whether the content is new.
    pub(super) fn is_new(self) -> bool {
        !matches!(self, Time::Kept(_))
    }

    /// What is set as its time; `None` is the present.
    pub(super) fn moment(self) -> Option<Moment> {
        match self {
            Time::Kept(moment) => Some(moment),
            Time::Later(second) => Some((second, 0)),
            Time::Now => None,
        }
    }
}

/// Which time a file gets; `before` is what the older release had at its path.
pub(super) fn time_of(entry: &Entry, older: Option<&Older>, before: Option<&Item>) -> Time {
    let same = |item: &&Item| matches!(item.what, What::Entry(Kind::File { .. }, id) if id == entry.id);
    if let Some(item) = before.filter(same) {
        return Time::Kept(item.stamp.modified);
    }
    let Some(older) = older else { return Time::Now };
    let mut last = older.newest;
    if let Some(item) = before {
        // Something may have written to it since: what was seen last counts.
        let seen = older.look(&entry.path).map_or(i64::MIN, |stamp| stamp.modified.0);
        last = last.max(item.stamp.modified.0).max(seen);
    }
    if let Some(second) = older.manifest.left_at(&entry.path) {
        last = last.max(second);
    }
    if last < clock::of_files().0 { Time::Now } else { Time::Later(last.saturating_add(1)) }
}

/// A change of the modification time alone.
pub(super) fn set_to((seconds, nanoseconds): Moment) -> Timestamps {
    let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
    Timestamps { last_access: keep, last_modification: time }
}
