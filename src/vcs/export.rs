//! Writes a tree to a directory: bytes, executable bits and symlinks, exactly the revision.
//!
//! The directories come first (see [`reuse`](super::reuse)). Then several threads take over what can be (see
//! [`taker`](super::taker)): in a directory that holds a spare, what is exactly what an earlier export wrote stays, and all
//! else is put away. What is left they write, in the order in which the repository has it (see [`order`](super::order)).

use std::path::Path;
use std::sync::atomic::AtomicBool;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::git::Repository;
use super::manifest::{self, Item, Manifest, Stamp, What};
use super::objects::Source;
use super::order::{self, Chunk, Task};
use super::reuse::Wanted;
use super::submodules::Part;
use super::taker::Taker;
use super::times::Older;
use super::tree::{Entry, Kind};
use super::writer::{Done, How, Way, Writer};
use crate::support::syncer::Syncer;
use crate::support::threads::{self, share_out};
use crate::support::{Context, Error, Result, clock, files};

/// So many entries, one after the other, a thread looks at before it takes others.
const NEIGHBOURS: usize = 256;

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

/// How large the parts are, without reading a file; writes down the size of each. `repository` holds the first of
/// them; the others are opened. Sizes that are `known` are not asked for again.
pub fn measure(repository: &Repository, parts: &mut [Part], known: Option<&Manifest>) -> Result<Size> {
    let mut size = Size::default();
    for (at, part) in parts.iter_mut().enumerate() {
        let opened;
        let repository = if at == 0 {
            repository
        } else {
            opened = Repository::open(&part.repository)?;
            &opened
        };
        part.sizes = sizes(repository.source(), &part.tree.entries, known)?;
        for (entry, bytes) in part.tree.entries.iter().zip(&part.sizes) {
            if entry.kind != Kind::Submodule {
                size.files += 1;
                size.bytes += bytes;
                size.allocated += bytes.next_multiple_of(4096);
            }
        }
        size.directories += part.tree.directories.len() as u64 + part.tree.submodules().count() as u64;
    }
    size.allocated += size.directories * 4096;
    Ok(size)
}

/// In how many paths the parts differ from what an export wrote.
pub fn changes(parts: &[Part], exported: &Manifest) -> usize {
    let is_entry = |item: &Item| matches!(item.what, What::Entry(..));
    let (mut found, mut other) = (0, 0);
    for part in parts {
        let mut there = exported.cursor();
        for entry in part.tree.entries.iter().filter(|entry| entry.kind != Kind::Submodule) {
            match there.find(&entry.path).filter(is_entry) {
                Some(item) => {
                    found += 1;
                    other += usize::from(item.what != What::Entry(entry.kind, entry.id));
                }
                None => other += 1,
            }
        }
    }
    // Of those that were there, whichever was not found is gone.
    other + exported.items().filter(is_entry).count() - found
}

/// How large each entry is.
fn sizes(source: &Source, entries: &[Entry], known: Option<&Manifest>) -> Result<Vec<u64>> {
    let chunks: Vec<_> = entries.chunks(NEIGHBOURS).collect();
    let sizes = share_out(&chunks, || {
        let reader = source.reader();
        move |entries: &&[Entry]| {
            let mut known = known.map(Manifest::cursor);
            let of = |entry: &Entry| match known.as_mut().and_then(|known| known.find(&entry.path)) {
                _ if entry.kind == Kind::Submodule => Ok(0),
                Some(item) if item.what == What::Entry(entry.kind, entry.id) => Ok(item.stamp.size),
                _ => reader.size(entry.id),
            };
            entries.iter().map(of).collect::<Result<Vec<_>>>()
        }
    })?;
    Ok(sizes.concat())
}

/// What an export may take over.
pub struct Given<'a> {
    /// What the destination holds: a tree that was exported once, by this account. Else it is new and empty.
    pub spare: Option<&'a Manifest>,
    /// The release that is live.
    pub older: Option<&'a Older>,
    /// Where directories go that are in the way; on the same filesystem.
    pub trash: &'a Path,
    /// Is told of what is written.
    pub syncer: &'a Syncer,
}

/// Is told of how many more files are there; where it answers with an error, the export ends early.
pub type Told<'a> = &'a (dyn Fn(u64) -> Result<()> + Sync);

/// What one thread has to tell. It does so now and then: told of each file, threads would wait for each other.
pub(super) struct Count<'a> {
    told: Told<'a>,
    files: u64,
}

impl<'a> Count<'a> {
    fn new(told: Told<'a>) -> Count<'a> {
        Count { told, files: 0 }
    }

    pub(super) fn one_more(&mut self) -> Result<()> {
        self.files += 1;
        if self.files < 64 { Ok(()) } else { self.tell() }
    }

    pub(super) fn tell(&mut self) -> Result<()> {
        (self.told)(std::mem::take(&mut self.files))
    }
}

/// What an export did.
#[derive(Debug, Default)]
pub struct Exported {
    /// What is there now.
    pub manifest: Manifest,
    /// How many files were there already.
    pub kept: u64,
    /// How many share what they have with the live release's.
    pub shared: u64,
    /// How many were written.
    pub written: u64,
    /// What was written, if it is little.
    few: Option<Vec<Vec<u8>>>,
}

/// So many files are synced one by one; for more one sync of the whole filesystem is less.
const FEW: usize = 12;

impl Exported {
    /// Forces what was exported to disk, with the files beside it that are there. Only right where nothing else was
    /// written to the release.
    pub fn sync(&self, destination: &Path, beside: &[&Path], syncer: &Syncer) -> Result<()> {
        let Some(few) = &self.few else { return syncer.sync() };
        beside.iter().filter(|path| files::exists(path)).try_for_each(|path| files::sync_file(path))?;
        files::sync_some(destination, few)
    }
}

/// Removes all from a tree that its export did not write.
pub fn remove_unknown(tree: &Path, manifest: &Manifest, trash: &Path) -> Result<()> {
    Wanted::known(manifest).bring_about(&open_top(tree)?, manifest, trash).map(drop)
}

fn open_top(tree: &Path) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, tree, flags, Mode::empty()).context(|| format!("cannot open {}", tree.display()))
}

/// Brings `destination` to what the parts say. Not synced yet. What is as it was in the older release has its time
/// from there.
///
/// `told` is told between files of how many more are there: the export ends early with an error of its.
pub fn export(parts: &[Part], destination: &Path, given: &Given, told: Told) -> Result<Exported> {
    let top = open_top(destination)?;
    let wanted = Wanted::of(parts);
    let changed = match given.spare {
        Some(spare) => wanted.bring_about(&top, spare, given.trash)?,
        None => wanted.make(&top)?,
    };
    let brought = parts.iter().map(|part| bring(part, &top, given, told)).collect::<Result<Vec<_>>>()?;
    let mut exported = account(&in_order(&brought), &wanted, &top, given.older)?;
    if let Some(few) = &mut exported.few {
        few.extend(changed);
    }
    exported.few.take_if(|few| few.len() > FEW);
    Ok(exported)
}

/// Brings the files of a part to what it says; in no order.
fn bring<'a>(part: &'a Part, top: &OwnedFd, given: &Given, told: Told) -> Result<Vec<Vec<Done<'a>>>> {
    let repository = Repository::open(&part.repository)?;
    let source = repository.source();
    let (blocks, owner) = (AtomicBool::new(true), rustix::process::geteuid().as_raw());
    let sizes = part.sizes.chunks(NEIGHBOURS);
    let neighbours: Vec<_> = part.tree.entries.chunks(NEIGHBOURS).zip(sizes).collect();
    let taken = share_out(&neighbours, || {
        let count = Count::new(told);
        let mut taker =
            Taker { reader: source.reader(), top, given, blocks: &blocks, owner, count, directory: None };
        move |(entries, sizes)| taker.take(entries.iter().zip(sizes.iter().copied()))
    })?;
    let mut left: Vec<&Task> = taken.iter().flat_map(|taken| &taken.left).collect();
    let chunks = order::chunks(&mut left, threads::count(), |place| source.packs().is_whole(place));
    let mut done = share_out(&chunks, || {
        let mut writer = Writer::new(source.reader(), top, given.syncer.tally(), Count::new(told));
        move |chunk: &Chunk| match chunk {
            Chunk::Streamed(task) => writer.write(&[task], How::Streamed),
            Chunk::Read(tasks) => writer.write(tasks, How::Whole),
        }
    })?;
    done.extend(taken.into_iter().map(|taken| taken.done));
    Ok(done)
}

/// What was done for each part, in the order of its paths: in that order its entries lie in memory.
fn in_order<'d, 'a>(parts: &'d [Vec<Vec<Done<'a>>>]) -> Vec<&'d Done<'a>> {
    let mut all = Vec::with_capacity(parts.iter().flatten().map(Vec::len).sum());
    for part in parts {
        let begin = all.len();
        all.extend(part.iter().flatten());
        // Runs of it are in order already.
        all[begin..].sort_by_key(|done: &&Done| std::ptr::from_ref(done.entry));
    }
    all
}

/// Writes down what is there now.
fn account(done: &[&Done], wanted: &Wanted, top: &OwnedFd, older: Option<&Older>) -> Result<Exported> {
    let mut exported = Exported { few: Some(Vec::new()), ..Exported::default() };
    let manifest = &mut exported.manifest;
    let directories: Vec<&[u8]> =
        std::iter::once(&b""[..]).chain(wanted.directories.iter().copied()).collect();
    manifest.reserve(done.len() + directories.len());
    let stamps = look_at(&directories, top)?;
    let mut directories = directories.into_iter().zip(stamps).peekable();
    let add =
        |manifest: &mut Manifest, (path, stamp)| manifest.add(Item { path, what: What::Directory, stamp });
    for done in done {
        // Both are in order: so is what they are put into.
        while let Some(directory) = directories.next_if(|(path, _)| **path < *done.entry.path) {
            add(manifest, directory)?;
        }
        let what = What::Entry(done.entry.kind, done.entry.id);
        manifest.add(Item { path: &done.entry.path, what, stamp: done.stamp })?;
        if done.is_new {
            manifest.notice(done.stamp.modified.0);
        }
        match done.way {
            Way::Kept => exported.kept += 1,
            Way::Shared => exported.shared += 1,
            Way::Written => exported.written += 1,
        }
        if done.way != Way::Kept
            && let Some(few) = &mut exported.few
        {
            few.push(done.entry.path.clone());
            exported.few.take_if(|few| few.len() > FEW);
        }
    }
    directories.try_for_each(|directory| add(manifest, directory))?;
    manifest.sort();
    if let Some(older) = older {
        remember_gone(manifest, older.manifest())?;
    }
    Ok(exported)
}

/// How directories look.
fn look_at(directories: &[&[u8]], top: &OwnedFd) -> Result<Vec<Stamp>> {
    let look = |path: &&[u8]| {
        let name = if path.is_empty() { b"." } else { *path };
        rustix::fs::statat(top, name, AtFlags::SYMLINK_NOFOLLOW).map(|about| Stamp::of(&about))
    };
    let look_at_some = |some: &&[&[u8]]| {
        some.iter().map(look).collect::<Result<Vec<_>, _>>().context(|| "cannot look at what was exported")
    };
    let chunks: Vec<_> = directories.chunks(NEIGHBOURS).collect();
    Ok(share_out(&chunks, || look_at_some)?.concat())
}

/// What is gone leaves its time behind, as long as the present is not later: else it could come again at once, with
/// other content and the same time.
fn remember_gone(manifest: &mut Manifest, older: &Manifest) -> Result<()> {
    let now = clock::of_files().0;
    let recent = |item: &Item| {
        item.stamp.modified.0 >= now && matches!(item.what, What::Gone | What::Entry(Kind::File { .. }, _))
    };
    let mut gone: Vec<(Vec<u8>, Item)> = Vec::new();
    for item in older.items().filter(recent) {
        let path = item.path.strip_suffix(b"/").unwrap_or(item.path);
        match manifest.find(path).map(|item| item.what) {
            None => gone.push((path.to_owned(), item)),
            Some(What::Directory | What::Entry(Kind::Link, _)) => gone.push((manifest::left(path), item)),
            // Its time is later.
            Some(_) => {}
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    for (path, item) in gone {
        manifest.add(Item { path: &path, what: What::Gone, ..item })?;
    }
    manifest.sort();
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_an_export_is_counted_by_paths() {
        let id = |byte| super::super::tree::ObjectId::from_bytes(&[byte; 20]).unwrap();
        let file = |executable| Kind::File { executable };
        let stamp = Stamp { mode: 0, size: 0, modified: (0, 0), changed: (0, 0), inode: 0, owner: (0, 0) };
        let mut exported = Manifest::default();
        for (path, what) in [
            (&b""[..], What::Directory),
            (b"content", What::Entry(file(false), id(1))),
            (b"gone", What::Entry(file(false), id(2))),
            (b"kind", What::Entry(file(false), id(3))),
            (b"long ago", What::Gone),
            (b"mode", What::Entry(file(false), id(4))),
            (b"place", What::Directory),
            (b"place/below", What::Entry(file(false), id(5))),
            (b"same", What::Entry(file(true), id(6))),
        ] {
            exported.add(Item { path, what, stamp }).unwrap();
        }
        exported.sort();
        let entries = [
            ("content", file(false), 9),
            ("kind", Kind::Link, 3),
            ("mode", file(true), 4),
            ("module", Kind::Submodule, 7),
            ("new", file(false), 8),
            ("place", file(false), 5),
            ("same", file(true), 6),
        ];
        let entry = |(path, kind, byte): (&str, Kind, u8)| Entry { path: path.into(), kind, id: id(byte) };
        let tree = super::super::Tree { entries: entries.map(entry).to_vec(), ..Default::default() };
        // All but `same` and the submodule, whose files have a part of their own, and two that are gone.
        assert_eq!(changes(&[Part::new("none".into(), tree)], &exported), 7);
    }
}
