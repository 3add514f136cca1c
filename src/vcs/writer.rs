//! Writes the files of a tree, one thread's share of them, each by the descriptor of its directory.
//!
//! A file that is there is kept, if it is exactly what an earlier export wrote, or makes place for a new one: no file
//! is ever written in place, since whoever has it open, or has another name for it, would see that.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::export::{Given, is_lfs_pointer, lfs_refusal};
use super::manifest::{Cursor, Item, Moment, Stamp, What};
use super::objects::Reader;
use super::reuse::{open_directory, put_away};
use super::times::{Sharing, Time, set_to, time_of};
use super::tree::{Entry, Kind};
use crate::support::{Context, Error, Result, clock};

/// How a file came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It was there.
    Kept,
    /// It shares what it has with the live release's.
    Shared,
    /// It was written.
    Written,
}

/// A file that was brought to what the revision says.
pub(super) struct Done<'a> {
    pub(super) entry: &'a Entry,
    pub(super) stamp: Stamp,
    pub(super) way: Way,
    /// Whether its content is new at this path.
    pub(super) is_new: bool,
}

/// One thread of an export.
pub(super) struct Writer<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) top: &'a OwnedFd,
    pub(super) given: &'a Given<'a>,
    /// Whether the filesystem lets files share blocks, as far as it was tried.
    pub(super) blocks: &'a AtomicBool,
    /// The user that all of a release belongs to while it is exported.
    pub(super) owner: u32,
    /// The directory that was written to last, open.
    pub(super) directory: Option<(Vec<u8>, OwnedFd)>,
}

impl<'a> Writer<'a> {
    /// Brings some neighbours, which are in order, to what the revision says.
    pub(super) fn write_all<'t>(
        &mut self,
        entries: &'t [Entry],
        sizes: &[u64],
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Vec<Done<'t>>> {
        let mut done = Vec::with_capacity(entries.len());
        let mut spare = self.given.spare.map(|manifest| manifest.cursor());
        let mut older = self.given.older.map(|older| older.manifest.cursor());
        let find = |cursor: &mut Option<Cursor<'a>>, path: &[u8]| cursor.as_mut().and_then(|c| c.find(path));
        for (entry, size) in entries.iter().zip(sizes) {
            go_on()?;
            if entry.kind != Kind::Submodule {
                let (there, before) = (find(&mut spare, &entry.path), find(&mut older, &entry.path));
                done.push(self.write(entry, *size, there, before)?);
            }
        }
        Ok(done)
    }

    fn write<'t>(
        &mut self,
        entry: &'t Entry,
        size: u64,
        there: Option<Item>,
        before: Option<Item>,
    ) -> Result<Done<'t>> {
        let split = entry.path.iter().rposition(|b| *b == b'/');
        let (directory, name) = match split {
            Some(at) => (&entry.path[..at], &entry.path[at + 1..]),
            None => (&b""[..], &entry.path[..]),
        };
        if self.directory.as_ref().is_none_or(|(open, _)| open != directory) {
            self.directory = Some((directory.to_vec(), open_directory(self.top, directory)?));
        }
        let Some((_, directory)) = &self.directory else { return Err(Error::new("no directory is open")) };
        let name = OsStr::from_bytes(name);
        let time = time_of(entry, self.given.older, before.as_ref());
        let is_new = !matches!(time, Time::Kept(_));
        if self.given.spare.is_some() {
            if let Some(stamp) = self.keep(entry, directory, name, there, time)? {
                return Ok(Done { entry, stamp, way: Way::Kept, is_new });
            }
            put_away(directory, name, self.given.trash)?;
        }
        let cannot = || format!("cannot make {}", entry.shown());
        let Kind::File { executable } = entry.kind else {
            let target = self.reader.read(entry.id)?;
            rustix::fs::symlinkat(OsStr::from_bytes(&target), directory, name).context(cannot)?;
            let about = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).context(cannot)?;
            return Ok(Done { entry, stamp: Stamp::of(&about), way: Way::Written, is_new: false });
        };
        if self.shares(Sharing::Names)
            && let Some(stamp) = self.link(entry, directory, name, before.as_ref())
        {
            return Ok(Done { entry, stamp, way: Way::Shared, is_new });
        }
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(directory, name, flags, mode).context(cannot)?);
        let way = if self.shares(Sharing::Blocks) && self.clone_into(&file, entry, before.as_ref())? {
            Way::Shared
        } else {
            self.fill(entry, size, &file)?;
            Way::Written
        };
        let time = match time {
            Time::Kept(moment) => Some(moment),
            Time::Later(second) => Some((second, 0)),
            Time::Now => None,
        };
        if let Some(moment) = time {
            rustix::fs::futimens(&file, &set_to(moment)).context(cannot)?;
        }
        let about = rustix::fs::fstat(&file).context(cannot)?;
        Ok(Done { entry, stamp: Stamp::of(&about), way, is_new })
    }

    fn shares(&self, how: Sharing) -> bool {
        self.given.older.is_some_and(|older| older.sharing == how)
            && (how == Sharing::Names || self.blocks.load(Ordering::Relaxed))
    }

    /// Keeps the file that is there, where it is what `item` says and that is what is wanted.
    fn keep(
        &self,
        entry: &Entry,
        directory: &OwnedFd,
        name: &OsStr,
        item: Option<Item>,
        time: Time,
    ) -> Result<Option<Stamp>> {
        let Some(item) = item.filter(|item| item.what == What::Entry(entry.kind, entry.id)) else {
            return Ok(None);
        };
        let look = || rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let Ok(about) = look() else { return Ok(None) };
        // One with a second name would be shared with whatever has that, whoever may write there now.
        if Stamp::of(&about) != item.stamp || item.stamp.owner.0 != self.owner || about.st_nlink != 1 {
            return Ok(None);
        }
        let time: Moment = match time {
            Time::Kept(moment) => moment,
            Time::Later(second) => (second, 0),
            Time::Now => clock::of_files(),
        };
        if entry.kind == Kind::Link || time == item.stamp.modified {
            return Ok(Some(item.stamp));
        }
        let cannot = || format!("cannot set the time of {}", entry.shown());
        rustix::fs::utimensat(directory, name, &set_to(time), AtFlags::SYMLINK_NOFOLLOW).context(cannot)?;
        Ok(Some(Stamp::of(&look().context(cannot)?)))
    }

    /// Whether the live release has the same file, and nobody changed it since it was exported.
    fn is_same(entry: &Entry, before: Option<&Item>) -> bool {
        before.is_some_and(|item| item.what == What::Entry(entry.kind, entry.id))
    }

    /// Makes a second name of the live release's file; `None` where that cannot be, or there are too many.
    fn link(&self, entry: &Entry, directory: &OwnedFd, name: &OsStr, before: Option<&Item>) -> Option<Stamp> {
        let older = self.given.older?;
        let item = before.filter(|_| Self::is_same(entry, before))?;
        if older.look(&entry.path)? != item.stamp {
            return None;
        }
        rustix::fs::linkat(&older.top, entry.path.as_slice(), directory, name, AtFlags::empty()).ok()?;
        let about = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let stamp = Stamp::of(&about);
        if (Stamp { changed: item.stamp.changed, ..stamp }) == item.stamp {
            return Some(stamp);
        }
        // Another file took its place in between.
        rustix::fs::unlinkat(directory, name, AtFlags::empty()).ok()?;
        None
    }

    /// Lets a new file share the blocks of the live release's. Answers whether it does.
    fn clone_into(&self, file: &File, entry: &Entry, before: Option<&Item>) -> Result<bool> {
        let Some(older) = self.given.older else { return Ok(false) };
        let Some(item) = before.filter(|item| Self::is_same(entry, before) && item.stamp.size > 0) else {
            return Ok(false);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(source) = rustix::fs::openat(&older.top, entry.path.as_slice(), flags, Mode::empty()) else {
            return Ok(false);
        };
        let is_as_exported = || rustix::fs::fstat(&source).is_ok_and(|about| Stamp::of(&about) == item.stamp);
        if !is_as_exported() {
            return Ok(false);
        }
        match rustix::fs::ioctl_ficlone(file, &source) {
            // Who writes changes the change time first: if it is as it was, nothing was written before the end.
            Ok(()) if is_as_exported() => return Ok(true),
            Ok(()) => {
                let cannot = || format!("cannot empty {} again", entry.shown());
                file.set_len(0).context(cannot)?;
            }
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
                self.blocks.store(false, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        Ok(false)
    }

    fn fill(&self, entry: &Entry, size: u64, file: &File) -> Result<()> {
        let cannot = || format!("cannot write {}", entry.shown());
        let written = self.reader.with(entry.id, size, |bytes| {
            if is_lfs_pointer(bytes) {
                return Err(lfs_refusal(entry));
            }
            std::io::Write::write_all(&mut &*file, bytes).context(cannot)
        })?;
        written.unwrap_or_else(|| self.reader.stream(entry.id, size, file).context(cannot))
    }
}
