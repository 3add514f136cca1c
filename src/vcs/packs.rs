//! The objects of packs, with all that they are deltas of kept for those that come next.
//!
//! gix-odb keeps what it was asked for, and never what that is a delta of: of a tree of small files, each a delta of
//! another, it inflates six times what the pack has of them. Here each step on the way to an object is kept, as far as
//! it is small. What no pack has that can be read here is left to gix-odb: loose objects, and packs that came later.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gix_hash::oid;
use gix_object::Kind;
use gix_odb::pack::Bundle;
use gix_odb::pack::data::decode::header;
use gix_odb::pack::data::entry::Header;
use gix_odb::pack::data::{Entry, Offset};
use gix_zlib::Inflate;

use super::delta;
use crate::support::{Error, Result, files};

/// So many bytes of what others are deltas of are kept, twice.
const GENERATION: usize = 2 << 20;

/// What is larger is not kept.
const LARGEST_BASE: usize = 512 << 10;

/// No chain of deltas is longer; git itself makes none of more than 4,095 (git-pack-objects(1), `--depth`).
const LONGEST_CHAIN: usize = 1 << 13;

/// The packs of a repository, for as many readers as one likes.
pub(super) struct Packs {
    all: Vec<Bundle>,
    /// Of all readers: what one made, the others need not make again.
    kept: Mutex<Kept>,
}

impl Packs {
    /// Those in some directories of objects, and in those that they borrow from.
    pub(super) fn open(directories: &[PathBuf], here: &Path) -> Packs {
        let mut all = Vec::new();
        for directory in directories {
            let borrowed = gix_odb::alternate::resolve(directory.clone(), here).unwrap_or_default();
            all.extend(std::iter::once(directory.clone()).chain(borrowed));
        }
        let packs = all.iter().flat_map(|directory| {
            let directory = directory.join("pack");
            let names = files::names_in(&directory).unwrap_or_default();
            names.into_iter().map(move |name| directory.join(name))
        });
        let indexes = packs.filter(|path| path.extension().is_some_and(|end| end == "idx"));
        let all = indexes.filter_map(|path| Bundle::at(path, gix_hash::Kind::Sha1).ok()).collect();
        Packs { all, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whoever died with it in hand left it whole, or without what was being put in.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader, for one thread.
    pub(super) fn unpacker(&self) -> Unpacker<'_> {
        Unpacker { packs: self, last: 0, inflate: Inflate::default(), chain: Vec::new() }
    }
}

/// Where an object lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    /// The number of its pack.
    pack: usize,
    at: Offset,
}

/// Reads objects out of packs, one after the other.
pub(super) struct Unpacker<'a> {
    packs: &'a Packs,
    /// The pack that had the last one: it has most likely the next one, too.
    last: usize,
    inflate: Inflate,
    /// The deltas on the way to an object, its own first.
    chain: Vec<Entry>,
}

/// Where an object is put together. Their memory is used again for the next one.
#[derive(Default)]
pub(super) struct Buffers {
    /// The object.
    pub(super) out: Vec<u8>,
    /// What it is a delta of.
    base: Vec<u8>,
    delta: Vec<u8>,
}

impl Buffers {
    /// Gives memory back, where there is more than so many bytes of it.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        for buffer in [&mut self.out, &mut self.base, &mut self.delta] {
            if buffer.capacity() > bytes {
                *buffer = Vec::new();
            }
        }
    }
}

/// Makes room for so many bytes, and has it grow seldom: what is left behind when memory moves is not given back.
fn make_room(buffer: &mut Vec<u8>, size: u64) -> Result<usize> {
    let too_large = || Error::new(format!("an object has {size} bytes, for which there is no memory"));
    let size = usize::try_from(size).map_err(|_| too_large())?;
    let wanted = size.checked_next_power_of_two().unwrap_or(size);
    if size > buffer.capacity() {
        buffer.clear();
        buffer.try_reserve_exact(wanted).map_err(|_| too_large())?;
    }
    Ok(size)
}

impl Unpacker<'_> {
    /// Reads an object. `None` where it is not for this reader.
    pub(super) fn read(&mut self, id: &oid, buffers: &mut Buffers) -> Result<Option<Kind>> {
        let Some(place) = self.find(id) else { return Ok(None) };
        let Some(kind) = self.descend(place, &mut buffers.out)? else { return Ok(None) };
        let Buffers { out, base, delta } = buffers;
        while let Some(entry) = self.chain.pop() {
            std::mem::swap(out, base);
            self.inflate(place.pack, &entry, delta)?;
            delta::apply(base, delta, out).map_err(damaged)?;
            self.packs.kept().put(Place { at: entry.pack_offset(), ..place }, kind, out);
        }
        Ok(Some(kind))
    }

    /// Inflates what lies in a pack: an object, or a delta.
    fn inflate(&mut self, pack: usize, entry: &Entry, into: &mut Vec<u8>) -> Result<()> {
        let size = make_room(into, entry.decompressed_size)?;
        into.resize(size, 0);
        self.packs.all[pack].pack.decompress_entry(entry, &mut self.inflate, into).map(drop).map_err(damaged)
    }

    /// The kind and size of an object, of which as little is read as can be. `None` where it is not for this reader.
    pub(super) fn header(&mut self, id: &oid) -> Result<Option<(Kind, u64)>> {
        let Some(place) = self.find(id) else { return Ok(None) };
        let Bundle { pack, index } = &self.packs.all[place.pack];
        let entry = pack.entry(place.at).map_err(damaged)?;
        let found = pack.decode_header(entry, &mut self.inflate, &|base| {
            let Some(at) = index.lookup(base) else { return Ok(None) };
            pack.entry(index.pack_offset_at_index(at)).map(|entry| Some(header::ResolvedBase::InPack(entry)))
        });
        let found = found.map_err(damaged)?;
        Ok(Some((found.kind, found.object_size)))
    }

    fn find(&mut self, id: &oid) -> Option<Place> {
        let count = self.packs.all.len();
        for pack in (self.last..count).chain(0..self.last.min(count)) {
            let index = &self.packs.all[pack].index;
            if let Some(found) = index.lookup(id) {
                self.last = pack;
                return Some(Place { pack, at: index.pack_offset_at_index(found) });
            }
        }
        None
    }

    /// Goes down from an object to the first that is known, or is no delta, which is in `base` then; the deltas between
    /// them are in `chain`. `None` where what one is a delta of is somewhere else.
    fn descend(&mut self, Place { pack: number, mut at }: Place, base: &mut Vec<u8>) -> Result<Option<Kind>> {
        let Bundle { pack, index } = &self.packs.all[number];
        self.chain.clear();
        while self.chain.len() < LONGEST_CHAIN {
            if let Some(kind) = self.packs.kept().get(Place { pack: number, at }, base) {
                return Ok(Some(kind));
            }
            let entry = pack.entry(at).map_err(damaged)?;
            let below = match entry.header {
                Header::OfsDelta { base_distance } => entry.checked_base_pack_offset(base_distance),
                Header::RefDelta { base_id } => {
                    index.lookup(base_id).map(|found| index.pack_offset_at_index(found))
                }
                Header::Commit | Header::Tree | Header::Blob | Header::Tag => {
                    self.inflate(number, &entry, base)?;
                    let kind = entry.header.as_kind();
                    // Most objects are nobody's base: only what was one is kept.
                    if let Some(kind) = kind.filter(|_| !self.chain.is_empty()) {
                        self.packs.kept().put(Place { pack: number, at }, kind, base);
                    }
                    return Ok(kind);
                }
            };
            let Some(below) = below else { return Ok(None) };
            self.chain.push(entry);
            at = below;
        }
        Ok(None)
    }
}

/// What was read lately, and may be what others are deltas of.
///
/// Two blocks of memory, and not a piece for each object: the memory of a thread may grow by a system call for each
/// piece, for which all threads wait.
#[derive(Default)]
struct Kept {
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    bytes: Vec<u8>,
    places: HashMap<Place, (Kind, Range<usize>)>,
}

impl Kept {
    /// Copies an object that is kept to `into`, and answers its kind.
    fn get(&self, place: Place, into: &mut Vec<u8>) -> Option<Kind> {
        [&self.young, &self.old].into_iter().find_map(|generation| {
            let (kind, range) = generation.places.get(&place)?;
            let bytes = &generation.bytes[range.clone()];
            make_room(into, bytes.len() as u64).ok()?;
            into.clear();
            into.extend_from_slice(bytes);
            Some(*kind)
        })
    }

    /// Keeps an object, if it is small. Where there is no room, the older half of what is kept is forgotten.
    fn put(&mut self, place: Place, kind: Kind, bytes: &[u8]) {
        if bytes.len() > LARGEST_BASE {
            return;
        }
        if self.young.bytes.len() + bytes.len() > GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.bytes.clear();
            self.young.places.clear();
        }
        let Generation { bytes: all, places } = &mut self.young;
        if all.capacity() == 0 {
            all.reserve_exact(GENERATION);
        }
        let begin = all.len();
        all.extend_from_slice(bytes);
        places.insert(place, (kind, begin..all.len()));
    }
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::new(format!("its pack is damaged: {error}"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use gix_hash::ObjectId;

    use super::*;

    fn place(at: Offset) -> Place {
        Place { pack: 0, at }
    }

    #[test]
    fn what_was_read_lately_is_kept_and_no_more_than_there_is_room_for() {
        let (mut kept, mut into) = (Kept::default(), b"before".to_vec());
        let each = vec![7; LARGEST_BASE];
        let most = GENERATION / LARGEST_BASE;
        for at in 0..most + 1 {
            kept.put(place(at as Offset), Kind::Blob, &each);
        }
        kept.put(place(1000), Kind::Tree, b"small");
        assert_eq!(kept.get(place(1000), &mut into), Some(Kind::Tree));
        assert_eq!(into, b"small");
        assert_eq!(kept.get(place(0), &mut into), Some(Kind::Blob), "the older half is still there");
        assert_eq!(into, each);
        assert_eq!(kept.get(Place { pack: 1, at: 0 }, &mut into), None);
        kept.put(place(2000), Kind::Blob, &vec![7; LARGEST_BASE + 1]);
        assert_eq!(kept.get(place(2000), &mut into), None, "it is too large");
        for at in most..2 * most + 1 {
            kept.put(place(at as Offset), Kind::Blob, &each);
        }
        assert_eq!(kept.get(place(0), &mut into), None, "it is forgotten");
        assert!(kept.young.bytes.capacity() + kept.old.bytes.capacity() <= 2 * GENERATION);
    }

    /// A repository of one pack of deltas, each of the one before, and their ids.
    fn packed(by_offset: bool) -> (tempfile::TempDir, Vec<ObjectId>) {
        let place = tempfile::tempdir().unwrap();
        let git = git2::Repository::init_bare(place.path()).unwrap();
        let mut text = (0..300).map(|line| format!("{}\n", line * 7919 % 1009)).collect::<String>();
        let mut builder = git.treebuilder(None).unwrap();
        let mut ids = Vec::new();
        for number in 0..40 {
            text.push_str(&format!("one more: {number}\n"));
            let id = git.blob(text.as_bytes()).unwrap();
            builder.insert(format!("file{number}"), id, 0o100_644).unwrap();
            ids.push(ObjectId::try_from(id.as_bytes()).unwrap());
        }
        let tree = git.find_tree(builder.write().unwrap()).unwrap();
        let somebody = git2::Signature::new("Ada", "ada@example.org", &git2::Time::new(0, 0)).unwrap();
        git.commit(Some("HEAD"), &somebody, &somebody, "one", &tree, &[]).unwrap();
        let run = |arguments: &[&str]| {
            let ran = Command::new("git").arg("-C").arg(place.path()).args(arguments).output().unwrap();
            assert!(ran.status.success(), "{ran:?}");
        };
        let offsets = format!("repack.useDeltaBaseOffset={by_offset}");
        run(&["-c", &offsets, "repack", "-a", "-d", "-f", "-q", "--depth=50"]);
        (place, ids)
    }

    fn open(place: &tempfile::TempDir) -> Packs {
        Packs::open(&[place.path().join("objects")], place.path())
    }

    #[test]
    fn an_object_is_read_whatever_way_its_delta_names_its_base() {
        for by_offset in [true, false] {
            let (place, ids) = packed(by_offset);
            let (packs, git) = (open(&place), git2::Repository::open_bare(place.path()).unwrap());
            let (mut unpacker, mut buffers) = (packs.unpacker(), Buffers::default());
            let mut deltas = [0, 0];
            for id in ids.iter().chain(ids.iter().rev()) {
                let blob = git.find_blob(git2::Oid::from_bytes(id.as_bytes()).unwrap()).unwrap();
                assert_eq!(unpacker.header(id).unwrap(), Some((Kind::Blob, blob.size() as u64)));
                assert_eq!(unpacker.read(id, &mut buffers).unwrap(), Some(Kind::Blob));
                assert_eq!(buffers.out, blob.content());
                let at = unpacker.find(id).unwrap().at;
                match packs.all[0].pack.entry(at).unwrap().header {
                    Header::OfsDelta { .. } => deltas[0] += 1,
                    Header::RefDelta { .. } => deltas[1] += 1,
                    _ => {}
                }
            }
            assert!(
                deltas[usize::from(!by_offset)] > 50 && deltas[usize::from(by_offset)] == 0,
                "{deltas:?}"
            );
            let nobody = ObjectId::from_bytes_or_panic(&[7; 20]);
            assert_eq!(unpacker.read(&nobody, &mut buffers).unwrap(), None);
            assert_eq!(unpacker.header(&nobody).unwrap(), None);
        }
    }

    #[test]
    fn a_pack_that_is_damaged_gives_an_error_and_never_other_bytes() {
        let (place, ids) = packed(true);
        let packs = open(&place);
        let path = packs.all[0].pack.path().to_owned();
        let (mut whole, mut buffers) = (std::fs::read(&path).unwrap(), Buffers::default());
        let right: Vec<Vec<u8>> = ids
            .iter()
            .map(|id| {
                packs.unpacker().read(id, &mut buffers).unwrap();
                buffers.out.clone()
            })
            .collect();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut errors = 0;
        for at in (12..whole.len() - 20).step_by(7) {
            whole[at] ^= 0x10;
            std::fs::write(&path, &whole).unwrap();
            let packs = open(&place);
            let mut unpacker = packs.unpacker();
            for (id, right) in ids.iter().zip(&right) {
                match unpacker.read(id, &mut buffers) {
                    Ok(Some(Kind::Blob)) => assert!(buffers.out == *right, "byte {at}"),
                    Ok(_) => {}
                    Err(_) => errors += 1,
                }
            }
            whole[at] ^= 0x10;
        }
        assert!(errors > 100, "{errors}");
    }
}
