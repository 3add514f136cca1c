//! Reads the objects of a git repository: directories, and the bytes of files.
//!
//! Most of the work of an export is to inflate. Packs are read by [`packs`](super::packs), and what is
//! loose, or came later, by gix-odb: both are faster than libgit2 (docs/benchmarks.md).

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gix_object::{Data, Exists, Find};
use gix_odb::store::init::Options;
use gix_odb::{HandleArc, Header, Store};

use super::packs::{Buffers, Found, Packs, Place, Unpacker};
use super::tree::ObjectId;
use crate::support::syncer::Counted;
use crate::support::{Context, Error, Result};

/// So much of an object each reader reads in memory of its own.
pub(super) const OWN: usize = 512 << 10;

/// What is larger than that is read by one reader at a time, in memory that all of them share; a file that is larger than
/// this is streamed, and not read into memory at all.
pub(super) const LARGE: usize = 4 << 20;

/// So is a file that is a delta of something larger than this.
const LARGEST_BASE: usize = 10 << 20;

/// The objects of a repository, for as many readers as one likes.
pub struct Source {
    /// Those that are still in quarantine come first.
    stores: Vec<Arc<Store>>,
    /// Opened when the first object is read: many open a repository for its references alone.
    packs: OnceLock<Packs>,
    directories: Vec<PathBuf>,
    here: PathBuf,
    repository: PathBuf,
    /// Made when the first object is read that is too large for a reader's own.
    alone: Mutex<Option<Buffers>>,
}

impl Source {
    /// Those in some directories of a repository.
    ///
    /// # Errors
    /// Where a directory is not there.
    pub fn open(repository: &Path, directories: &[PathBuf]) -> Result<Source> {
        // A directory that is gone is none to work in, and no reason to read nothing.
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let options = Options { current_dir: Some(here.clone()), ..Options::default() };
        let open = |directory: &PathBuf| {
            let none = &mut std::iter::empty();
            Store::at_opts(directory.clone(), gix_hash::Kind::Sha1, none, options.clone())
                .map(Arc::new)
                .context(|| format!("cannot open {}", directory.display()))
        };
        let stores = directories.iter().map(open).collect::<Result<_>>()?;
        Ok(Source {
            stores,
            packs: OnceLock::new(),
            directories: directories.to_vec(),
            here,
            repository: repository.to_owned(),
            alone: Mutex::default(),
        })
    }

    pub(super) fn packs(&self) -> &Packs {
        self.packs.get_or_init(|| Packs::open(&self.directories, &self.here))
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
            unpacker: RefCell::new(self.packs().unpacker()),
            handles,
            buffers: RefCell::new(Buffers::new(OWN, OWN)),
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
    fn find<T>(&self, id: ObjectId, kind: gix_object::Kind, mut act: impl FnMut(&[u8]) -> T) -> Result<T> {
        if let Some(done) = self.find_here(id, self.place(id), kind, false, &mut act)? {
            return Ok(done);
        }
        let mut memory = Vec::new();
        let found = self.elsewhere(id, &mut memory)?;
        of_kind(id, kind, found.kind).map(|()| act(found.data))
    }

    /// The same, in the memory that is there for it. `None` where it needs more. One that is known to be `large` is not tried
    /// in the reader's own.
    fn find_here<T>(
        &self,
        id: ObjectId,
        place: Option<Place>,
        kind: gix_object::Kind,
        large: bool,
        mut act: impl FnMut(&[u8]) -> T,
    ) -> Result<Option<T>> {
        if !large
            && let Some(done) = self.find_in(&mut self.buffers.borrow_mut(), id, place, kind, &mut act)?
        {
            return Ok(Some(done));
        }
        // Whoever died with it in hand left nothing that the next one looks at.
        let mut shared = self.source.alone.lock().unwrap_or_else(PoisonError::into_inner);
        self.find_in(
            shared.get_or_insert_with(|| Buffers::new(LARGEST_BASE, LARGEST_BASE)),
            id,
            place,
            kind,
            act,
        )
    }

    fn find_in<T>(
        &self,
        buffers: &mut Buffers,
        id: ObjectId,
        place: Option<Place>,
        kind: gix_object::Kind,
        mut act: impl FnMut(&[u8]) -> T,
    ) -> Result<Option<T>> {
        let mut read = |place| self.unpacker.borrow_mut().read(place, buffers).context(|| cannot_read(id));
        let done = match place.map_or(Ok(Found::Elsewhere), &mut read)? {
            Found::Large => return Ok(None),
            Found::Here(found) => of_kind(id, kind, found).map(|()| act(buffers.object())),
            Found::Elsewhere => {
                let found = self.elsewhere(id, buffers.first())?;
                of_kind(id, kind, found.kind).map(|()| act(found.data))
            }
        };
        buffers.shrink();
        done.map(Some)
    }

    /// Reads an object that is not in a pack that we know, or needs more memory than we give it.
    fn elsewhere<'b>(&self, id: ObjectId, buffer: &'b mut Vec<u8>) -> Result<Data<'b>> {
        let name = named(id)?;
        let Some((last, others)) = self.handles.split_last() else { return Err(not_there(id)) };
        let handle = others.iter().find(|handle| handle.exists(&name)).unwrap_or(last);
        let found = handle.try_find(&name, buffer).context(|| cannot_read(id))?;
        found.ok_or_else(|| not_there(id))
    }

    /// Lets `act` see a file of `size` bytes, which are not copied. `None` where so much memory is needed for it that it is
    /// [streamed](Self::stream).
    pub(super) fn with<T>(
        &self,
        id: ObjectId,
        place: Option<Place>,
        size: u64,
        act: impl FnMut(&[u8]) -> T,
    ) -> Result<Option<T>> {
        if size > LARGE as u64 {
            return Ok(None);
        }
        self.find_here(id, place, gix_object::Kind::Blob, size > OWN as u64, act)
    }

    /// The bytes of a file.
    pub fn read(&self, id: ObjectId) -> Result<Vec<u8>> {
        self.find(id, gix_object::Kind::Blob, <[u8]>::to_vec)
    }

    /// Where an object lies among others; `None` where it is in no pack.
    pub(super) fn place(&self, id: ObjectId) -> Option<Place> {
        named(id).ok().and_then(|name| self.unpacker.borrow_mut().find(&name))
    }

    /// The size of a file in bytes, without reading it.
    pub fn size(&self, id: ObjectId) -> Result<u64> {
        let (name, blob) = (named(id)?, gix_object::Kind::Blob);
        let sized = |(kind, size)| of_kind(id, blob, kind).map(|()| size);
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

    /// Writes a file of `size` bytes to one that is empty, without having all of it in memory.
    pub fn stream(&self, id: ObjectId, size: u64, into: &mut Counted) -> Result<()> {
        let cannot = || cannot_read(id);
        let streamed = self.unpacker.borrow_mut().stream(&named(id)?, into);
        let streamed = streamed.context(|| format!("cannot unpack the object {id}"))?;
        if let Some(kind) = streamed {
            return of_kind(id, gix_object::Kind::Blob, kind);
        }
        // Of what is a delta, or loose, git itself can do that.
        let environment = ["PATH", "HOME"].map(|name| (name, std::env::var_os(name).unwrap_or_default()));
        let output = into.file.try_clone().context(cannot)?;
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
        match into.file.metadata().context(cannot)?.len() {
            written if written == size => Ok(()),
            written => Err(Error::new(format!("the object {id} has {written} bytes, and not {size}"))),
        }
    }

    /// What is in a directory, as git keeps it.
    pub(super) fn listing(&self, id: ObjectId) -> Result<Vec<u8>> {
        self.find(id, gix_object::Kind::Tree, <[u8]>::to_vec)
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

fn of_kind(id: ObjectId, wanted: gix_object::Kind, found: gix_object::Kind) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    let wanted = if wanted == gix_object::Kind::Tree { "directory" } else { "file" };
    Err(Error::new(format!("the object {id} is no {wanted}")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::support::syncer::Syncer;

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
        assert!(text.len() > OWN / 2, "{} bytes", text.len());
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
                assert_eq!(
                    reader.with(*id, reader.place(*id), size, |bytes| bytes == blob.content()).unwrap(),
                    Some(true)
                );
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
        assert!(reader.listing(tree).unwrap().len() > 20 * (ids.len() - 1));
        for refused in [reader.read(tree).map(drop), reader.size(tree).map(drop)] {
            assert_eq!(refused.unwrap_err().one_line(), format!("the object {tree} is no file"));
        }
        let refused = reader.listing(ids[0]).unwrap_err().one_line();
        assert_eq!(refused, format!("the object {} is no directory", ids[0]));
        let nobody = ObjectId::from_bytes(&[7; 20]).unwrap();
        let refused = reader.read(nobody).unwrap_err().one_line();
        assert_eq!(refused, format!("cannot read the object {nobody}: it is not in the repository"));
        assert!(Source::open(place.path(), &[place.path().join("none")]).is_err());
    }

    #[test]
    fn a_file_that_is_a_delta_of_something_large_is_streamed() {
        let place = tempfile::tempdir().unwrap();
        let git = git2::Repository::init_bare(place.path()).unwrap();
        let lines = (0..LARGEST_BASE / 8).map(|line| format!("{:>8}\n", line * 7919));
        let large: String = lines.collect();
        assert!(large.len() > LARGEST_BASE);
        let mut builder = git.treebuilder(None).unwrap();
        // Git makes no deltas of what is thirty-two times as large, and looks at names from the last one on.
        let [_, small] = [("z", &large[..]), ("a", &large[..large.len() / 16])].map(|(name, text)| {
            let id = git.blob(text.as_bytes()).unwrap();
            builder.insert(name, id, 0o100_644).unwrap();
            (id, text.len())
        });
        let tree = git.find_tree(builder.write().unwrap()).unwrap();
        let somebody = git2::Signature::new("Ada", "ada@example.org", &git2::Time::new(0, 0)).unwrap();
        git.commit(Some("HEAD"), &somebody, &somebody, "one", &tree, &[]).unwrap();
        let repack = ["repack", "-a", "-d", "-f", "-q"];
        assert!(Command::new("git").arg("-C").arg(place.path()).args(repack).status().unwrap().success());
        let source = Source::open(place.path(), &[place.path().join("objects")]).unwrap();
        let (reader, (id, length)) = (source.reader(), small);
        assert_eq!(reader.size(id).unwrap(), length as u64);
        assert_eq!(
            reader.with(id, reader.place(id), length as u64, <[u8]>::len).unwrap(),
            None,
            "it would take too much memory"
        );
        assert!(reader.read(id).unwrap() == large.as_bytes()[..length]);
        let file = tempfile::NamedTempFile::new().unwrap();
        let syncer = Syncer::open(place.path()).unwrap();
        reader.stream(id, length as u64, &mut syncer.tally().file(file.as_file())).unwrap();
        assert!(std::fs::read(file.path()).unwrap() == large.as_bytes()[..length]);
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
