//! Writes a tree to a new directory: bytes, executable bits and symlinks, exactly the revision.
//!
//! The directories are made first, then several threads write the files, each through the descriptor
//! of the file's directory and with `O_EXCL`: nothing that is there is followed or written over.
//! Reuse of an older release has its place here: [`export`] is told of one destination, which is empty.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};

use super::git::Repository;
use super::submodules::Part;
use super::times::Older;
use super::tree::{Entry, Kind};
use crate::support::{Context, Error, Result, text};

/// What an export will write, or wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Files and symlinks.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes in the files.
    pub bytes: u64,
    /// Bytes on disk, where each file takes whole blocks of 4 KiB.
    pub allocated: u64,
}

/// How large the parts are, without reading a file. `repository` holds the first of them; the others
/// are opened.
pub fn measure(repository: &Repository, parts: &[Part]) -> Result<Size> {
    let mut size = Size::default();
    for (at, part) in parts.iter().enumerate() {
        let opened;
        let repository = if at == 0 {
            repository
        } else {
            opened = Repository::open(&part.repository)?;
            &opened
        };
        for entry in part.tree.entries.iter().filter(|entry| entry.kind != Kind::Submodule) {
            let bytes = repository.size(entry.id)?;
            size.files += 1;
            size.bytes += bytes;
            size.allocated += bytes.next_multiple_of(4096);
        }
        size.directories += part.tree.directories.len() as u64 + part.tree.submodules().count() as u64;
    }
    size.allocated += size.directories * 4096;
    Ok(size)
}

/// Writes the parts below `destination`, a new and empty directory. Not synced yet. What is as it was in the
/// `older` release gets its time from there.
///
/// `stop` is looked at between files: the export ends early where it becomes true.
pub fn export(
    parts: &[Part],
    destination: &Path,
    older: Option<&Older>,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, destination, flags, Mode::empty())
        .context(|| format!("cannot open {}", destination.display()))?;
    for part in parts {
        for directory in &part.tree.directories {
            make_directory(&top, directory)?;
        }
        for submodule in part.tree.submodules() {
            make_directory(&top, &submodule.path)?;
        }
    }
    for part in parts {
        write_files(part, &top, older, stop)?;
    }
    Ok(())
}

fn make_directory(top: &OwnedFd, path: &[u8]) -> Result<()> {
    match rustix::fs::mkdirat(top, OsStr::from_bytes(path), Mode::from_raw_mode(0o755)) {
        // The directory of a submodule is made by the tree around it, and named by both.
        Err(error) if error != rustix::io::Errno::EXIST => {
            Err(error).context(|| format!("cannot make the directory {}", text::printable_bytes(path)))
        }
        _ => Ok(()),
    }
}

fn write_files(
    part: &Part,
    top: &OwnedFd,
    older: Option<&Older>,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    // Neighbours in a directory go to one thread, which opens the directory once.
    const CHUNK: usize = 128;
    let chunks: Vec<&[Entry]> = part.tree.entries.chunks(CHUNK).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(chunks.len()).max(1);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            let repository = Repository::open(&part.repository)?;
            let mut writer = Writer { repository: &repository, top, older, directory: None };
            while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                for entry in *chunk {
                    if failed.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    if stop() {
                        return Err(Error::new("the export was stopped"));
                    }
                    writer.write(entry).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                }
            }
            Ok(())
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results: Vec<Result<()>> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(Error::new("a thread of the export died"))))
            .collect();
        results.into_iter().collect()
    })
}

struct Writer<'a> {
    repository: &'a Repository,
    top: &'a OwnedFd,
    older: Option<&'a Older>,
    /// The directory that was written to last, open.
    directory: Option<(Vec<u8>, OwnedFd)>,
}

impl Writer<'_> {
    fn write(&mut self, entry: &Entry) -> Result<()> {
        let split = entry.path.iter().rposition(|b| *b == b'/');
        let (directory, name) = match split {
            Some(at) => (&entry.path[..at], &entry.path[at + 1..]),
            None => (&b"."[..], &entry.path[..]),
        };
        if self.directory.as_ref().is_none_or(|(open, _)| open != directory) {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(self.top, OsStr::from_bytes(directory), flags, Mode::empty());
            let opened = opened.context(|| format!("cannot open {}", text::printable_bytes(directory)))?;
            self.directory = Some((directory.to_vec(), opened));
        }
        let Some((_, directory)) = &self.directory else { return Ok(()) };
        let name = OsStr::from_bytes(name);
        match entry.kind {
            Kind::Submodule => Ok(()),
            Kind::Link => {
                let target = self.repository.read(entry.id)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), directory, name)
                    .context(|| format!("cannot make the symlink {}", entry.shown()))
            }
            Kind::File { executable } => self.write_file(entry, directory, name, executable),
        }
    }

    fn write_file(&self, entry: &Entry, directory: &OwnedFd, name: &OsStr, executable: bool) -> Result<()> {
        let bytes = self.repository.read(entry.id)?;
        if is_lfs_pointer(&bytes) {
            return Err(lfs_refusal(entry));
        }
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, name, flags, mode);
        let mut file = File::from(file.context(|| format!("cannot make {}", entry.shown()))?);
        file.write_all(&bytes).context(|| format!("cannot write {}", entry.shown()))?;
        match self.older {
            Some(older) => older.pass_on(&entry.path, bytes.len() as u64, &file),
            None => Ok(()),
        }
    }
}

/// Whether these are the bytes of a Git LFS pointer, as its specification has them.
///
/// Source: git-lfs, docs/spec.md: "version https://git-lfs.github.com/spec/v1" comes first, and a
/// pointer has less than 1024 bytes.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.len() < 1024 && bytes.starts_with(b"version https://git-lfs.github.com/spec/v1\n")
}

/// What is said of a file that is an LFS pointer.
pub fn lfs_refusal(entry: &Entry) -> Error {
    Error::new(format!("{} is a pointer of Git LFS, and not the file itself", entry.shown()))
        .hint("put the file itself into the repository: `git lfs migrate export`, or bring it by shared/")
}
