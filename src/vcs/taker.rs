//! Takes files over for a release, one thread's share of them, each by the descriptor of its directory: what a spare holds
//! stays, if it is exactly what an earlier export wrote, and what the live release holds is linked, or shared, where that can be.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::export::{Count, Given};
use super::manifest::{Item, Moment, Stamp, What};
use super::objects::Reader;
use super::order::Task;
use super::reuse::{open_directory, put_away, split};
use super::times::{Older, Sharing, Time, set_to, time_of};
use super::tree::{Entry, Kind};
use super::writer::{self, Done, Way};
use crate::support::{Context, Result, clock};

/// One thread of an export, as long as it writes nothing anew.
pub(super) struct Taker<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) top: &'a OwnedFd,
    pub(super) given: &'a Given<'a>,
    /// Whether the filesystem lets files share blocks, as far as it was tried.
    pub(super) blocks: &'a AtomicBool,
    /// The user that all of a release belongs to while it is exported.
    pub(super) owner: u32,
    pub(super) count: Count<'a>,
    /// The directory of the last file, open.
    pub(super) directory: Option<(Vec<u8>, OwnedFd)>,
}

/// What became of some neighbours.
#[derive(Default)]
pub(super) struct Taken<'a> {
    pub(super) done: Vec<Done<'a>>,
    /// What could not be taken over; nothing is at their paths.
    pub(super) left: Vec<Task<'a>>,
}

impl<'a> Taker<'a> {
    /// Takes over what can be of some neighbours, which are in order.
    pub(super) fn take<'t>(
        &mut self,
        neighbours: impl Iterator<Item = (&'t Entry, u64)>,
    ) -> Result<Taken<'t>> {
        let mut taken = Taken::default();
        let mut spare = self.given.spare.map(|manifest| manifest.cursor());
        let mut older = self.given.older.map(|older| older.manifest.cursor());
        for (entry, size) in neighbours {
            if entry.kind == Kind::Submodule {
                continue;
            }
            let there = spare.as_mut().and_then(|spare| spare.find(&entry.path));
            let before = older.as_mut().and_then(|older| older.find(&entry.path));
            let time = time_of(entry, self.given.older, before.as_ref());
            if let Some((stamp, way)) = self.take_one(entry, there, before, time)? {
                self.count.one_more()?;
                taken.done.push(Done { entry, stamp, way, is_new: time.is_new() });
            } else {
                taken.left.push(Task { entry, size, time, place: self.reader.place(entry.id) });
            }
        }
        self.count.tell()?;
        Ok(taken)
    }

    /// Takes over an entry, from what the spare had `there` or the live release `before`. Else nothing is at its path.
    fn take_one(
        &mut self,
        entry: &Entry,
        there: Option<Item>,
        before: Option<Item>,
        time: Time,
    ) -> Result<Option<(Stamp, Way)>> {
        let same = before.filter(|item| item.what == What::Entry(entry.kind, entry.id));
        let older = self.given.older.zip(same).filter(|(older, _)| {
            let may = older.sharing == Sharing::Names || self.blocks.load(Ordering::Relaxed);
            may && matches!(entry.kind, Kind::File { .. })
        });
        if self.given.spare.is_none() && older.is_none() {
            return Ok(None);
        }
        let (directory, name) = split(&entry.path);
        if self.directory.as_ref().is_none_or(|(open, _)| open != directory) {
            self.directory = Some((directory.to_vec(), open_directory(self.top, directory)?));
        }
        let Some((_, directory)) = &self.directory else { return Ok(None) };
        let name = OsStr::from_bytes(name);
        if self.given.spare.is_some() {
            if let Some(stamp) = self.keep(entry, directory, name, there, time)? {
                return Ok(Some((stamp, Way::Kept)));
            }
            put_away(directory, name, self.given.trash)?;
        }
        let Some((older, item)) = older else { return Ok(None) };
        let stamp = match older.sharing {
            Sharing::Names => link(older, entry, item, directory, name),
            Sharing::Blocks => self.share_blocks(older, entry, item, directory, name, time)?,
        };
        Ok(stamp.map(|stamp| (stamp, Way::Shared)))
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
        let time: Moment = time.moment().unwrap_or_else(clock::of_files);
        if entry.kind == Kind::Link || time == item.stamp.modified {
            return Ok(Some(item.stamp));
        }
        let cannot = || format!("cannot set the time of {}", entry.shown());
        rustix::fs::utimensat(directory, name, &set_to(time), AtFlags::SYMLINK_NOFOLLOW).context(cannot)?;
        Ok(Some(Stamp::of(&look().context(cannot)?)))
    }

    /// Makes a new file that shares the blocks of the live release's. `None` where that cannot be.
    fn share_blocks(
        &self,
        older: &Older,
        entry: &Entry,
        item: Item,
        directory: &OwnedFd,
        name: &OsStr,
        time: Time,
    ) -> Result<Option<Stamp>> {
        let Kind::File { executable } = entry.kind else { return Ok(None) };
        if item.stamp.size == 0 {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(source) = rustix::fs::openat(&older.top, entry.path.as_slice(), flags, Mode::empty()) else {
            return Ok(None);
        };
        let is_as_exported = || rustix::fs::fstat(&source).is_ok_and(|about| Stamp::of(&about) == item.stamp);
        if !is_as_exported() {
            return Ok(None);
        }
        let cannot = || format!("cannot make {}", entry.shown());
        let file = writer::create(directory, name.as_bytes(), executable).context(cannot)?;
        match rustix::fs::ioctl_ficlone(&file, &source) {
            // Who writes changes the change time first: if it is as it was, nothing was written before the end.
            Ok(()) if is_as_exported() => return writer::finish(&file, time).context(cannot).map(Some),
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
                self.blocks.store(false, Ordering::Relaxed);
            }
            _ => {}
        }
        rustix::fs::unlinkat(directory, name, AtFlags::empty()).context(cannot)?;
        Ok(None)
    }
}

/// Makes a second name of the live release's file; `None` where that cannot be, or there are too many.
fn link(older: &Older, entry: &Entry, item: Item, directory: &OwnedFd, name: &OsStr) -> Option<Stamp> {
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
