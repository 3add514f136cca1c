//! Writes the files of a tree, one thread's share of them.
//!
//! No file is ever written in place, since whoever has it open, or has another name for it, would see that.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io;

use super::export::{Count, is_lfs_pointer, lfs_refusal};
use super::manifest::Stamp;
use super::objects::Reader;
use super::order::Task;
use super::reuse::{INSIDE, open_directory, split};
use super::times::{Time, set_to};
use super::tree::{Entry, Kind};
use crate::support::syncer::{Counted, Tally};
use crate::support::{Context, Result};

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

const NEW: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn mode(executable: bool) -> Mode {
    Mode::from_raw_mode(if executable { 0o755 } else { 0o644 })
}

/// Makes a new file in a directory. Nothing that is there is followed, or written over.
pub(super) fn create(directory: &OwnedFd, name: &[u8], executable: bool) -> io::Result<File> {
    rustix::fs::openat(directory, OsStr::from_bytes(name), NEW, mode(executable)).map(File::from)
}

/// The same at a path, which leads through no link.
fn create_inside(top: &OwnedFd, path: &[u8], executable: bool) -> io::Result<File> {
    rustix::fs::openat2(top, OsStr::from_bytes(path), NEW, mode(executable), INSIDE).map(File::from)
}

/// Gives a file that was written its time, and looks at it.
pub(super) fn finish(file: &File, time: Time) -> io::Result<Stamp> {
    if let Some(moment) = time.moment() {
        rustix::fs::futimens(file, &set_to(moment))?;
    }
    Ok(Stamp::of(&rustix::fs::fstat(file)?))
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// All of it, into memory.
    Whole,
    /// A piece at a time.
    Streamed,
}

/// One thread of an export.
pub(super) struct Writer<'w, 'a> {
    reader: Reader<'w>,
    top: &'w OwnedFd,
    tally: Tally<'w>,
    count: Count<'w>,
    /// The directory that was opened last.
    directory: Option<(&'a [u8], OwnedFd)>,
}

impl<'w, 'a> Writer<'w, 'a> {
    pub(super) fn new(
        reader: Reader<'w>,
        top: &'w OwnedFd,
        tally: Tally<'w>,
        count: Count<'w>,
    ) -> Writer<'w, 'a> {
        Writer { reader, top, tally, count, directory: None }
    }

    /// Writes files and symlinks where nothing is.
    pub(super) fn write(&mut self, tasks: &[&Task<'a>], how: How) -> Result<Vec<Done<'a>>> {
        let mut done = Vec::with_capacity(tasks.len());
        for (at, task) in tasks.iter().enumerate() {
            let (directory, _) = split(&task.entry.path);
            let stays = tasks.get(at + 1).is_some_and(|next| split(&next.entry.path).0 == directory);
            done.push(match task.entry.kind {
                Kind::File { executable } => self.write_file(task, executable, how, stays)?,
                Kind::Link | Kind::Submodule => self.write_link(task)?,
            });
            self.count.one_more()?;
        }
        self.count.tell()?;
        Ok(done)
    }

    /// Writes a file. Its directory is opened only where the next one `stays` there: for one file it would be more work.
    fn write_file(&mut self, task: &Task<'a>, executable: bool, how: How, stays: bool) -> Result<Done<'a>> {
        let Task { entry, time, .. } = *task;
        let cannot = || format!("cannot make {}", entry.shown());
        let (directory, name) = split(&entry.path);
        let is_open = self.directory.as_ref().is_some_and(|(open, _)| *open == directory);
        let file = if is_open || stays {
            create(self.open(directory)?, name, executable)
        } else {
            create_inside(self.top, &entry.path, executable)
        };
        let file = file.context(cannot)?;
        self.fill(task, self.tally.file(&file), how)?;
        let stamp = finish(&file, time).context(cannot)?;
        Ok(Done { entry, stamp, way: Way::Written, is_new: time.is_new() })
    }

    fn write_link(&mut self, task: &Task<'a>) -> Result<Done<'a>> {
        let entry = task.entry;
        let cannot = || format!("cannot make {}", entry.shown());
        let (directory, name) = split(&entry.path);
        let target = self.reader.read(entry.id)?;
        let directory = self.open(directory)?;
        rustix::fs::symlinkat(OsStr::from_bytes(&target), directory, name).context(cannot)?;
        let about = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).context(cannot)?;
        Ok(Done { entry, stamp: Stamp::of(&about), way: Way::Written, is_new: false })
    }

    fn open(&mut self, directory: &'a [u8]) -> Result<&OwnedFd> {
        let opened = match self.directory.take().filter(|(open, _)| *open == directory) {
            Some(open) => open,
            None => (directory, open_directory(self.top, directory)?),
        };
        Ok(&self.directory.insert(opened).1)
    }

    fn fill(&self, task: &Task, mut file: Counted, how: How) -> Result<()> {
        let Task { entry, size, place, .. } = *task;
        let cannot = || format!("cannot write {}", entry.shown());
        let written = match how {
            How::Streamed => None,
            How::Whole => self.reader.with(entry.id, place, size, |bytes| {
                if is_lfs_pointer(bytes) {
                    return Err(lfs_refusal(entry));
                }
                file.write_all(bytes).context(cannot)
            })?,
        };
        written.unwrap_or_else(|| self.reader.stream(entry.id, size, &mut file).context(cannot))
    }
}
