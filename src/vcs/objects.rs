//! Reads the objects of a git repository: trees, and the bytes of files.
//!
//! Most of the work of an export is to inflate. gitoxide does that in half to two thirds of the time that libgit2 takes
//! (docs/benchmarks.md), lets all threads read one mapping of a pack, and lets us say how much each keeps of it.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gix_object::{Data, Find, TreeRefIter};
use gix_odb::pack::cache::DecodeEntry;
use gix_odb::pack::cache::lru::MemoryCappedHashmap;
use gix_odb::store::init::Options;
use gix_odb::{HandleArc, Header, Store};

use super::tree::{Entry, Kind, ObjectId, Tree, join};
use crate::support::{Context, Error, Result, text};

/// No tree has more entries than this: a few kilobytes of pushed trees can stand for billions.
const MOST_ENTRIES: usize = 2_000_000;

/// Nor more bytes of paths: that many entries with the longest of them would fill any memory.
const MOST_NAMES: usize = 256 << 20;

/// So many bytes of what others are deltas of each reader keeps. A tree's files are seldom deltas of each other: sixteen
/// times as much saved a tenth of the time on the kernel's source.
const CACHE: usize = 4 << 20;

/// What is larger is not kept: nor would the cache count what it keeps in its place then.
const LARGEST_BASE: usize = 512 << 10;

/// What is larger is read by one reader at a time, since a delta takes several times its size; then the reader gives the
/// memory back.
const ALONE: usize = 1 << 20;

/// The objects of a repository, for as many readers as one likes.
pub struct Source {
    /// Those that are still in quarantine come first.
    stores: Vec<Arc<Store>>,
    repository: PathBuf,
    alone: Mutex<()>,
}

impl Source {
    /// Those in some directories of a repository.
    ///
    /// # Errors
    /// Where a directory is not there.
    pub fn open(repository: &Path, directories: &[PathBuf]) -> Result<Source> {
        // A directory that is gone is none to work in, and no reason to read nothing.
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let options = Options { current_dir: Some(here), ..Options::default() };
        let open = |directory: &PathBuf| {
            let none = &mut std::iter::empty();
            Store::at_opts(directory.clone(), gix_hash::Kind::Sha1, none, options.clone())
                .map(Arc::new)
                .context(|| format!("cannot open {}", directory.display()))
        };
        let stores = directories.iter().map(open).collect::<Result<_>>()?;
        Ok(Source { stores, repository: repository.to_owned(), alone: Mutex::default() })
    }

    /// A reader, for one thread.
    pub fn reader(&self) -> Reader<'_> {
        let handle = |store: &Arc<Store>| {
            let mut handle = store.to_cache_arc();
            handle.set_pack_cache(|| Box::new(Bases(MemoryCappedHashmap::new(CACHE))));
            handle
        };
        let mut handles: Vec<_> = self.stores.iter().map(handle).collect();
        if let Some((_, quarantine)) = handles.split_last_mut() {
            // All that comes is there: it need not be looked for again for each object that is not.
            for handle in quarantine {
                handle.refresh_never();
            }
        }
        Reader { handles, buffer: RefCell::default(), source: self }
    }
}

/// What deltas are of, as far as it is small.
struct Bases(MemoryCappedHashmap);

impl DecodeEntry for Bases {
    fn put(&mut self, pack: u32, offset: u64, data: &[u8], kind: gix_object::Kind, packed: usize) {
        if data.len() <= LARGEST_BASE {
            self.0.put(pack, offset, data, kind, packed);
        }
    }

    fn get(&mut self, pack: u32, offset: u64, data: &mut Vec<u8>) -> Option<(gix_object::Kind, usize)> {
        self.0.get(pack, offset, data)
    }
}

/// Reads one object after the other.
pub struct Reader<'a> {
    handles: Vec<HandleArc>,
    buffer: RefCell<Vec<u8>>,
    source: &'a Source,
}

impl Reader<'_> {
    /// Lets `act` see an object of a kind.
    fn find<T>(&self, id: ObjectId, kind: gix_object::Kind, act: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let mut buffer = self.buffer.borrow_mut();
        let name = named(id)?;
        for handle in &self.handles {
            let found = handle.try_find(&name, &mut buffer).context(|| cannot_read(id))?;
            let Some(Data { kind: found, data, .. }) = found else { continue };
            let done = if found == kind { Ok(act(data)) } else { Err(wrong_kind(id, kind)) };
            buffer.clear();
            buffer.shrink_to(ALONE);
            return done;
        }
        Err(not_there(id))
    }

    /// Lets `act` see a file of `size` bytes, which are not copied.
    pub fn with<T>(&self, id: ObjectId, size: u64, act: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let _alone = (size > ALONE as u64).then(|| self.source.alone.lock());
        self.find(id, gix_object::Kind::Blob, act)
    }

    /// The bytes of a file.
    pub fn read(&self, id: ObjectId) -> Result<Vec<u8>> {
        self.find(id, gix_object::Kind::Blob, <[u8]>::to_vec)
    }

    /// The size of a file in bytes, without reading it.
    pub fn size(&self, id: ObjectId) -> Result<u64> {
        let name = named(id)?;
        for handle in &self.handles {
            let Some(header) = handle.try_header(&name).context(|| cannot_read(id))? else { continue };
            let blob = gix_object::Kind::Blob;
            return if header.kind() == blob { Ok(header.size()) } else { Err(wrong_kind(id, blob)) };
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
        let mut walk = Walk { waiting: vec![(at.to_vec(), top)], ..Walk::default() };
        while let Some((directory, id)) = walk.waiting.pop() {
            let cannot = || format!("cannot read the directory '{}'", text::printable_bytes(&directory));
            let kind = gix_object::Kind::Tree;
            self.find(id, kind, |listing| walk.take_up(&directory, listing)).context(cannot)??;
        }
        let mut tree = walk.tree;
        tree.directories.sort();
        tree.entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }
}

/// A tree, as far as it was walked.
#[derive(Default)]
struct Walk {
    tree: Tree,
    /// How many bytes its paths have.
    names: usize,
    /// Directories that were not read yet.
    waiting: Vec<(Vec<u8>, ObjectId)>,
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
        for entry in entries {
            let path = join(directory, entry.filename);
            let id = ObjectId::from_bytes(entry.oid.as_bytes()).context(damaged)?;
            self.names += path.len();
            if let Some(kind) = Kind::of_mode(entry.mode.value().into()) {
                self.tree.entries.push(Entry { path, kind, id });
            } else {
                self.tree.directories.push(path.clone());
                self.waiting.push((path, id));
            }
        }
        if self.tree.entries.len() + self.tree.directories.len() > MOST_ENTRIES {
            return Err(Error::new(format!("the revision has more than {MOST_ENTRIES} files")));
        }
        if self.names > MOST_NAMES {
            let most = text::bytes(MOST_NAMES as u64);
            return Err(Error::new(format!("the paths of the revision have more than {most} of names")));
        }
        Ok(())
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
