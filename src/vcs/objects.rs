//! Reads the objects of a git repository: trees, and the bytes of files.
//!
//! Most of the work of an export is to inflate. gitoxide does that in half to two thirds of the time that libgit2 takes
//! (docs/benchmarks.md), lets all threads read one mapping of a pack, and lets us say how much each keeps of it.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gix_hash::oid;
use gix_object::{Data, Exists, Find, TreeRefIter};
use gix_odb::store::init::Options;
use gix_odb::{HandleArc, Header, Store};

use super::packs::{Buffers, Packs, Unpacker};
use super::tree::{Entry, Kind, ObjectId, Tree, join};
use crate::support::{Context, Error, Result, text};

/// No tree has more entries than this: a few kilobytes of pushed trees can stand for billions.
const MOST_ENTRIES: usize = 2_000_000;

/// Nor more bytes of paths: that many entries with the longest of them would fill any memory.
const MOST_NAMES: usize = 256 << 20;

/// What is larger is read by one reader at a time, since a delta takes several times its size, in memory that all of them
/// share.
const ALONE: usize = 512 << 10;

/// So much of its own memory a reader keeps from one object to the next: what a delta of the largest that it reads there
/// takes. To give back less would cost as much as to inflate, since the kernel clears all that it gives again.
const OWN: usize = 4 * ALONE;

/// The objects of a repository, for as many readers as one likes.
pub struct Source {
    /// Those that are still in quarantine come first.
    stores: Vec<Arc<Store>>,
    packs: Packs,
    repository: PathBuf,
    alone: Mutex<Buffers>,
}

impl Source {
    /// Those in some directories of a repository.
    ///
    /// # Errors
    /// Where a directory is not there.
    pub fn open(repository: &Path, directories: &[PathBuf]) -> Result<Source> {
        // A directory that is gone is none to work in, and no reason to read nothing.
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let packs = Packs::open(directories, &here);
        let options = Options { current_dir: Some(here), ..Options::default() };
        let open = |directory: &PathBuf| {
            let none = &mut std::iter::empty();
            Store::at_opts(directory.clone(), gix_hash::Kind::Sha1, none, options.clone())
                .map(Arc::new)
                .context(|| format!("cannot open {}", directory.display()))
        };
        let stores = directories.iter().map(open).collect::<Result<_>>()?;
        Ok(Source { stores, packs, repository: repository.to_owned(), alone: Mutex::default() })
    }

    /// A reader, for one thread.
    pub fn reader(&self) -> Reader<'_> {
        let mut handles: Vec<_> = self.stores.iter().map(|store| store.to_cache_arc()).collect();
        if let Some((_, quarantine)) = handles.split_last_mut() {
            // All that comes is there: it need not be looked for again for each object that is not.
            for handle in quarantine {
                handle.refresh_never();
            }
        }
        Reader {
            unpacker: RefCell::new(self.packs.unpacker()),
            handles,
            buffers: RefCell::default(),
            source: self,
        }
    }
}

/// Reads one object after the other.
pub struct Reader<'a> {
    unpacker: RefCell<Unpacker<'a>>,
    /// For what is not in a pack.
    handles: Vec<HandleArc>,
    buffers: RefCell<Buffers>,
    source: &'a Source,
}

impl Reader<'_> {
    /// Lets `act` see an object of a kind.
    fn find<T>(&self, id: ObjectId, kind: gix_object::Kind, act: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let mut buffers = self.buffers.borrow_mut();
        let done = self.find_in(&mut buffers, id, kind, act);
        buffers.shrink_to(OWN);
        done
    }

    fn find_in<T>(
        &self,
        buffers: &mut Buffers,
        id: ObjectId,
        kind: gix_object::Kind,
        act: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let name = named(id)?;
        let seen = |found, data: &[u8]| if found == kind { Ok(act(data)) } else { Err(wrong_kind(id, kind)) };
        match self.unpacker.borrow_mut().read(&name, buffers).context(|| cannot_read(id))? {
            Some(found) => seen(found, &buffers.out),
            None => self
                .elsewhere(id, &name, &mut buffers.out)
                .and_then(|Data { kind, data, .. }| seen(kind, data)),
        }
    }

    /// Reads an object that is not in a pack that we know.
    fn elsewhere<'b>(&self, id: ObjectId, name: &oid, buffer: &'b mut Vec<u8>) -> Result<Data<'b>> {
        for handle in &self.handles {
            // Asked twice, since what is found borrows the buffer.
            if handle.exists(name) {
                let found = handle.try_find(name, buffer).context(|| cannot_read(id))?;
                return found.ok_or_else(|| not_there(id));
            }
        }
        Err(not_there(id))
    }

    /// Lets `act` see a file of `size` bytes, which are not copied.
    pub fn with<T>(&self, id: ObjectId, size: u64, act: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let kind = gix_object::Kind::Blob;
        if size <= ALONE as u64 {
            return self.find(id, kind, act);
        }
        // Whoever died with it in hand left nothing that the next one looks at.
        let mut shared = self.source.alone.lock().unwrap_or_else(PoisonError::into_inner);
        self.find_in(&mut shared, id, kind, act)
    }

    /// The bytes of a file.
    pub fn read(&self, id: ObjectId) -> Result<Vec<u8>> {
        self.find(id, gix_object::Kind::Blob, <[u8]>::to_vec)
    }

    /// The size of a file in bytes, without reading it.
    pub fn size(&self, id: ObjectId) -> Result<u64> {
        let (name, blob) = (named(id)?, gix_object::Kind::Blob);
        let sized = |(kind, size)| if kind == blob { Ok(size) } else { Err(wrong_kind(id, blob)) };
        if let Some(found) = self.unpacker.borrow_mut().header(&name).context(|| cannot_read(id))? {
            return sized(found);
        }
        for handle in &self.handles {
            if let Some(found) = handle.try_header(&name).context(|| cannot_read(id))? {
                return sized((found.kind(), found.size()));
            }
        }
        Err(not_there(id))
    }

    /// Writes a file of `size` bytes to `file`, without having all of it in memory: git itself can do that.
    pub fn stream(&self, id: ObjectId, size: u64, file: &File) -> Result<()> {
        let cannot = || cannot_read(id);
        let environment = ["PATH", "HOME"].map(|name| (name, std::env::var_os(name).unwrap_or_default()));
        let output = file.try_clone().context(cannot)?;
        // Only the blob's id, which is hexadecimal, reaches it.
        duct::cmd!("git", "-c", "core.bigFileThreshold=1m", "cat-file", "blob", id.to_string())
            .dir(&self.source.repository)
            .full_env(environment)
            .env("GIT_DIR", &self.source.repository)
            .stdin_null()
            .stdout_file(output)
            .stderr_null()
            .run()
            .context(cannot)?;
        match file.metadata().context(cannot)?.len() {
            written if written == size => Ok(()),
            written => Err(Error::new(format!("the object {id} has {written} bytes, and not {size}"))),
        }
    }

    /// All that is below a tree, its paths below `at`, with what is wrong about its names.
    pub(super) fn tree(&self, top: ObjectId, at: &[u8]) -> Result<Tree> {
        // Not recursive: how deep it goes is the pusher's choice.
        let mut walk = Walk::default();
        let mut next = Some((at.to_vec(), top));
        while let Some((directory, id)) = next {
            let cannot = || format!("cannot read the directory '{}'", text::printable_bytes(&directory));
            let kind = gix_object::Kind::Tree;
            self.find(id, kind, |listing| walk.take_up(&directory, listing)).context(cannot)??;
            next = walk.go_on();
        }
        let mut tree = walk.tree;
        tree.directories.sort();
        // They are in order already: only to say so costs little.
        tree.entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }
}

/// A tree, as far as it was walked.
///
/// What is found is taken up in git's own order, each directory's before what comes after it: that is the order of
/// whole paths.
#[derive(Default)]
struct Walk {
    tree: Tree,
    /// How many bytes its paths have.
    names: usize,
    /// What was seen and is not taken up yet, the next one last.
    waiting: Vec<Waiting>,
}

enum Waiting {
    Entry(Entry),
    Directory(Vec<u8>, ObjectId),
}

impl Walk {
    /// Takes up what is in a directory, if nothing is wrong about its names.
    fn take_up(&mut self, directory: &[u8], listing: &[u8]) -> Result<()> {
        let damaged = || format!("the directory '{}' is damaged", text::printable_bytes(directory));
        let entries = TreeRefIter::from_bytes(listing, gix_hash::Kind::Sha1);
        let entries = entries.collect::<Result<Vec<_>, _>>().context(damaged)?;
        let complaints = self.tree.complaints.len();
        let names = entries.iter().map(|entry| entry.filename.as_ref()).collect();
        Tree::check_names(&mut self.tree.complaints, directory, names);
        if self.tree.complaints.len() > complaints {
            return Ok(());
        }
        for entry in entries.into_iter().rev() {
            let path = join(directory, entry.filename);
            let id = ObjectId::from_bytes(entry.oid.as_bytes()).context(damaged)?;
            self.names += path.len();
            self.waiting.push(match Kind::of_mode(entry.mode.value().into()) {
                Some(kind) => Waiting::Entry(Entry { path, kind, id }),
                None => Waiting::Directory(path, id),
            });
        }
        if self.tree.entries.len() + self.tree.directories.len() + self.waiting.len() > MOST_ENTRIES {
            return Err(Error::new(format!("the revision has more than {MOST_ENTRIES} files")));
        }
        if self.names > MOST_NAMES {
            let most = text::bytes(MOST_NAMES as u64);
            return Err(Error::new(format!("the paths of the revision have more than {most} of names")));
        }
        Ok(())
    }

    /// Up to the next directory, which is to be read then.
    fn go_on(&mut self) -> Option<(Vec<u8>, ObjectId)> {
        loop {
            match self.waiting.pop()? {
                Waiting::Entry(entry) => self.tree.entries.push(entry),
                Waiting::Directory(path, id) => {
                    self.tree.directories.push(path.clone());
                    return Some((path, id));
                }
            }
        }
    }
}

fn named(id: ObjectId) -> Result<gix_hash::ObjectId> {
    gix_hash::ObjectId::try_from(id.as_bytes()).context(|| cannot_read(id))
}

fn cannot_read(id: ObjectId) -> String {
    format!("cannot read the object {id}")
}

fn not_there(id: ObjectId) -> Error {
    Error::new(cannot_read(id)).caused_by(Error::new("it is not in the repository"))
}

fn wrong_kind(id: ObjectId, wanted: gix_object::Kind) -> Error {
    let wanted = if wanted == gix_object::Kind::Tree { "directory" } else { "file" };
    Error::new(format!("the object {id} is no {wanted}"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A repository with a pack of long deltas, some of large files, and a loose object.
    fn packed() -> (tempfile::TempDir, Vec<ObjectId>) {
        let place = tempfile::tempdir().unwrap();
        let git = git2::Repository::init_bare(place.path()).unwrap();
        let mut builder = git.treebuilder(None).unwrap();
        let mut text = String::new();
        let mut ids = Vec::new();
        for number in 0..60 {
            text.extend((0..number * 40).map(|line| format!("{number} {}\n", line * 7919)));
            ids.push(git.blob(text.as_bytes()).unwrap());
            builder.insert(format!("file{number}"), *ids.last().unwrap(), 0o100_644).unwrap();
        }
        assert!(text.len() > ALONE / 2, "{} bytes", text.len());
        let long = text.repeat(3);
        ids.push(git.blob(long.as_bytes()).unwrap());
        builder.insert("long", *ids.last().unwrap(), 0o100_755).unwrap();
        let tree = git.find_tree(builder.write().unwrap()).unwrap();
        let somebody = git2::Signature::new("Ada", "ada@example.org", &git2::Time::new(0, 0)).unwrap();
        git.commit(Some("HEAD"), &somebody, &somebody, "one", &tree, &[]).unwrap();
        let repack = ["repack", "-a", "-d", "-f", "-q", "--depth=50"];
        assert!(Command::new("git").arg("-C").arg(place.path()).args(repack).status().unwrap().success());
        ids.push(git.blob(b"nobody packed this").unwrap());
        (place, ids)
    }

    #[test]
    fn what_is_read_is_what_git_has_by_any_number_of_readers() {
        let (place, ids) = packed();
        let source = Source::open(place.path(), &[place.path().join("objects")]).unwrap();
        let read = || {
            let (git, reader) = (git2::Repository::open_bare(place.path()).unwrap(), source.reader());
            for id in ids.iter().chain(ids.iter().rev()) {
                let blob = git.find_blob(*id).unwrap();
                let size = reader.size(*id).unwrap();
                assert_eq!(size, blob.size() as u64);
                assert!(reader.with(*id, size, |bytes| bytes == blob.content()).unwrap());
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(read);
            }
        });
    }

    #[test]
    fn an_object_of_another_kind_or_of_no_repository_is_an_error() {
        let (place, ids) = packed();
        let source = Source::open(place.path(), &[place.path().join("objects")]).unwrap();
        let git = git2::Repository::open_bare(place.path()).unwrap();
        let tree = git.head().unwrap().peel_to_tree().unwrap().id();
        let reader = source.reader();
        assert_eq!(reader.tree(tree, b"at").unwrap().entries.len(), ids.len() - 1);
        for refused in [reader.read(tree).map(drop), reader.size(tree).map(drop)] {
            assert_eq!(refused.unwrap_err().one_line(), format!("the object {tree} is no file"));
        }
        let refused = reader.tree(ids[0], b"").unwrap_err().one_line();
        assert_eq!(refused, format!("cannot read the directory '': the object {} is no directory", ids[0]));
        let damaged = git.odb().unwrap().write(git2::ObjectType::Tree, b"100644 cut\0short").unwrap();
        let refused = reader.tree(damaged, b"at").unwrap_err().one_line();
        assert!(refused.starts_with("the directory 'at' is damaged"), "{refused}");
        let nobody = ObjectId::from_bytes(&[7; 20]).unwrap();
        let refused = reader.read(nobody).unwrap_err().one_line();
        assert_eq!(refused, format!("cannot read the object {nobody}: it is not in the repository"));
        assert!(Source::open(place.path(), &[place.path().join("none")]).is_err());
    }

    #[test]
    fn what_is_in_quarantine_is_read_with_what_the_repository_has() {
        let (place, ids) = packed();
        let quarantine = place.path().join("objects/incoming");
        std::fs::create_dir(&quarantine).unwrap();
        let git = git2::Repository::open_bare(place.path()).unwrap();
        let loose = git.blob(b"it comes").unwrap().to_string();
        let (from, to) = (place.path().join("objects").join(&loose[..2]), quarantine.join(&loose[..2]));
        std::fs::create_dir(&to).unwrap();
        std::fs::rename(from.join(&loose[2..]), to.join(&loose[2..])).unwrap();
        let objects = place.path().join("objects");
        let coming = loose.parse().unwrap();
        let size = git.find_blob(ids[3]).unwrap().size() as u64;
        // What comes may be loose, or a pack.
        for directories in [[quarantine.clone(), objects.clone()], [objects.clone(), quarantine]] {
            let source = Source::open(place.path(), &directories).unwrap();
            let reader = source.reader();
            assert_eq!(reader.read(coming).unwrap(), b"it comes");
            assert_eq!(reader.size(ids[3]).unwrap(), size);
            assert_eq!(reader.read(ids[3]).unwrap().len() as u64, size);
        }
        let without = Source::open(place.path(), &[objects]).unwrap();
        assert!(without.reader().read(coming).is_err());
    }
}
