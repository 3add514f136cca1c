//! Prepares the directories of a release: new ones, or those of a spare, which then hold nothing that the revision
//! does not have.
//!
//! A spare was somebody's: a stage, a process or a person may have put anything anywhere in it. So a directory is only
//! opened without following a link on the way, and one that is not exactly what was exported has its names read. What
//! does not belong there is unlinked; whole directories go to the trash, which nobody waits for.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::manifest::{Manifest, Stamp, What};
use super::submodules::Part;
use super::tree::{Kind, join};
use crate::support::threads::share_out;
use crate::support::{Context, Error, Result, files, text};

/// How a path in a release is followed: not out of it, and through no link.
pub(super) const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// Opens a directory of a release, where no link leads there.
pub(super) fn open_directory(top: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
    open(top, path).context(|| format!("cannot open {}", text::printable_bytes(path)))
}

fn open(top: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let path = OsStr::from_bytes(if path.is_empty() { b"." } else { path });
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(top, path, flags, Mode::empty(), INSIDE)
}

/// Takes away what is at `name`, if anything is: a directory goes to the trash with all that is in it.
pub(super) fn put_away(directory: &impl AsFd, name: &OsStr, trash: &Path) -> Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let cannot = || format!("cannot remove {}", text::printable_bytes(name.as_bytes()));
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => {
            let me = std::process::id();
            let free = || Some(format!("part-{me}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
            files::move_at(directory, name, trash, std::iter::from_fn(free)).context(cannot)
        }
        Err(error) => Err(error).context(cannot),
    }
}

/// So many directories, one after the other, a thread takes at a time.
const NEIGHBOURS: usize = 64;

/// How a directory of a spare was found.
enum State {
    /// Nothing about it changed since it was exported.
    AsExported,
    /// What did not belong there is gone.
    Cleaned,
    /// It is no directory, or not one that may stay.
    Unfit,
}

/// The paths that a revision has.
pub(super) struct Wanted<'a> {
    /// Its directories, parents first.
    pub(super) directories: Vec<&'a [u8]>,
    /// Its files and symlinks, in order.
    entries: Vec<&'a [u8]>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(parts: &'a [Part]) -> Wanted<'a> {
        let mut directories: Vec<&[u8]> = Vec::new();
        let mut entries: Vec<&[u8]> = Vec::new();
        for part in parts {
            directories.extend(part.tree.directories.iter().map(Vec::as_slice));
            for entry in &part.tree.entries {
                let list = if entry.kind == Kind::Submodule { &mut directories } else { &mut entries };
                list.push(&entry.path);
            }
        }
        directories.sort_unstable();
        directories.dedup();
        entries.sort_unstable();
        Wanted { directories, entries }
    }

    /// What an export wrote.
    pub(super) fn known(manifest: &'a Manifest) -> Wanted<'a> {
        let paths = |of: fn(What) -> bool| {
            manifest.items().filter(move |item| of(item.what)).map(|item| item.path).collect::<Vec<_>>()
        };
        let mut directories = paths(|what| what == What::Directory);
        directories.retain(|path| !path.is_empty());
        Wanted { directories, entries: paths(|what| matches!(what, What::Entry(..))) }
    }

    fn has_directory(&self, path: &[u8]) -> bool {
        path.is_empty() || self.directories.binary_search(&path).is_ok()
    }

    fn has(&self, path: &[u8]) -> bool {
        self.entries.binary_search(&path).is_ok() || self.has_directory(path)
    }

    /// Makes the directories in a new and empty one; answers them.
    pub(super) fn make(&self, top: &OwnedFd) -> Result<Vec<Vec<u8>>> {
        let chunks: Vec<_> = self.directories.chunks(NEIGHBOURS).collect();
        share_out(&chunks, || {
            |chunk: &&[&[u8]]| chunk.iter().try_for_each(|path| make_with_parents(top, path))
        })?;
        Ok(self.directories.iter().map(|directory| directory.to_vec()).collect())
    }

    /// Brings the directories of a spare to what the revision has; answers those that were read or made for it.
    pub(super) fn bring_about(&self, top: &OwnedFd, spare: &Manifest, trash: &Path) -> Result<Vec<Vec<u8>>> {
        // What the revision does not have any more, by the directory that it is in.
        let mut gone: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        let (mut entries, mut directories) = (self.entries.as_slice(), self.directories.as_slice());
        for item in spare.items().filter(|item| item.what != What::Gone && !item.path.is_empty()) {
            if !comes(&mut entries, item.path) && !comes(&mut directories, item.path) {
                let (directory, name) = split(item.path);
                gone.entry(directory).or_default().push(name);
            }
        }
        let directories: Vec<&[u8]> =
            std::iter::once(&b""[..]).chain(self.directories.iter().copied()).collect();
        let as_exported = as_exported(top, &directories, spare)?;
        let (mut changed, mut replaced) = (Vec::new(), false);
        for (directory, as_exported) in directories.into_iter().zip(as_exported) {
            // Below one that is replaced nothing is as it was.
            if as_exported && !replaced && !gone.contains_key(directory) {
                continue;
            }
            match self.clean(top, directory, spare, &gone, trash)? {
                State::AsExported => continue,
                State::Cleaned => {}
                State::Unfit => {
                    replaced = true;
                    let (above, name) = split(directory);
                    let above = open_directory(top, above)?;
                    let name = OsStr::from_bytes(name);
                    put_away(&above, name, trash)?;
                    make_directory(&above, name.as_bytes())?;
                }
            }
            changed.push(directory.to_vec());
        }
        Ok(changed)
    }

    /// Empties a directory of what does not belong there.
    fn clean(
        &self,
        top: &OwnedFd,
        path: &[u8],
        spare: &Manifest,
        gone: &HashMap<&[u8], Vec<&[u8]>>,
        trash: &Path,
    ) -> Result<State> {
        let is_top = path.is_empty();
        let (opened, item) = match (open(top, path), spare.find(path)) {
            (Ok(opened), Some(item)) if item.what == What::Directory => (opened, item),
            _ if is_top => return Err(Error::new("the spare is not what was exported")),
            (Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS), _) => {
                return Ok(State::Unfit);
            }
            (Err(error), _) => {
                return Err(error).context(|| format!("cannot open {}", text::printable_bytes(path)));
            }
        };
        let cannot = || format!("cannot read the directory {}", text::printable_bytes(path));
        let stamp = Stamp::of(&rustix::fs::fstat(&opened).context(cannot)?);
        if stamp == item.stamp {
            let Some(gone) = gone.get(path) else { return Ok(State::AsExported) };
            gone.iter().try_for_each(|name| put_away(&opened, OsStr::from_bytes(name), trash))?;
            return Ok(State::Cleaned);
        }
        let same = stamp.mode == item.stamp.mode && stamp.owner == item.stamp.owner;
        if !same || stamp.inode != item.stamp.inode || has_rules(&opened) {
            let refuse = || Err(Error::new("the spare's mode or owner was changed"));
            return if is_top { refuse() } else { Ok(State::Unfit) };
        }
        for entry in Dir::read_from(&opened).context(cannot)? {
            let entry = entry.context(cannot)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." && !self.has(&join(path, name)) {
                put_away(&opened, OsStr::from_bytes(name), trash)?;
            }
        }
        Ok(State::Cleaned)
    }
}

/// Which directories look as they did when they were exported.
fn as_exported(top: &OwnedFd, directories: &[&[u8]], spare: &Manifest) -> Result<Vec<bool>> {
    let look = |directories: &&[&[u8]]| {
        let mut known = spare.cursor();
        let is_same = |path: &&[u8]| {
            let item = known.find(path).filter(|item| item.what == What::Directory);
            let stamp = || Some(Stamp::of(&rustix::fs::fstat(open(top, path).ok()?).ok()?));
            item.is_some_and(|item| stamp() == Some(item.stamp))
        };
        Ok(directories.iter().map(is_same).collect::<Vec<_>>())
    };
    let chunks: Vec<_> = directories.chunks(NEIGHBOURS).collect();
    Ok(share_out(&chunks, || look)?.concat())
}

/// Whether a path comes next in a list, once those before it are left behind.
fn comes(list: &mut &[&[u8]], path: &[u8]) -> bool {
    while let [first, rest @ ..] = *list
        && *first < path
    {
        *list = rest;
    }
    list.first() == Some(&path)
}

/// Whether a directory has access rules that what is made in it would inherit.
fn has_rules(directory: &OwnedFd) -> bool {
    let mut names = [0; 4096];
    match rustix::fs::flistxattr(directory, &mut names) {
        Ok(length) => names[..length].split(|b| *b == 0).any(|name| name.starts_with(b"system.posix_acl")),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => false,
        Err(_) => true,
    }
}

/// A path's directory, and its name there.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Makes a directory, and what it lies in, where whoever makes that is not so far yet.
fn make_with_parents(top: &OwnedFd, path: &[u8]) -> Result<()> {
    let (above, _) = split(path);
    match make(top, path) {
        Err(Errno::NOENT) if !above.is_empty() => {
            make_with_parents(top, above)?;
            make_directory(top, path)
        }
        made => made.context(|| cannot_make(path)),
    }
}

fn make_directory(top: &OwnedFd, path: &[u8]) -> Result<()> {
    make(top, path).context(|| cannot_make(path))
}

fn make(top: &OwnedFd, path: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::mkdirat(top, OsStr::from_bytes(path), Mode::from_raw_mode(0o755)) {
        // The directory of a submodule is made by the tree around it, and named by both.
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

fn cannot_make(path: &[u8]) -> String {
    format!("cannot make the directory {}", text::printable_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_whoever_comes_to_them_first() {
        let place = tempfile::tempdir().unwrap();
        let top = std::fs::File::open(place.path()).unwrap().into();
        // Each lies in the one before: a thread that does not begin with the first finds nothing that it lies in.
        let paths: Vec<String> = (1..=20 * NEIGHBOURS).map(|depth| vec!["d"; depth].join("/")).collect();
        let directories: Vec<&[u8]> = paths.iter().map(|path| path.as_bytes()).collect();
        let wanted = Wanted { directories: directories.clone(), entries: Vec::new() };
        make_with_parents(&top, directories[NEIGHBOURS]).unwrap();
        assert!(place.path().join(&paths[NEIGHBOURS]).is_dir());
        assert_eq!(wanted.make(&top).unwrap(), directories);
        assert!(place.path().join(paths.last().unwrap()).is_dir());
        // What is in the way is not taken for one.
        let place = tempfile::tempdir().unwrap();
        let top = std::fs::File::open(place.path()).unwrap().into();
        std::fs::write(place.path().join("d"), "").unwrap();
        let refused = wanted.make(&top).unwrap_err().one_line();
        assert!(refused.starts_with("cannot make the directory d/d"), "{refused}");
    }
}
