//! The objects of packs, with all that they are deltas of kept for those that come next.
//!
//! gix-odb keeps what it was asked for, and never what that is a delta of: of a tree of small files, each a delta of
//! another, it inflates six times what the pack has of them. Here each step on the way to an object is kept, as far as
//! it is small. What no pack has that can be read here is left to gix-odb: loose objects, and packs that came later.

use std::io::Write;
use std::path::{Path, PathBuf};

use gix_hash::oid;
use gix_object::Kind;
use gix_odb::pack::Bundle;
use gix_odb::pack::data::decode::header;
use gix_odb::pack::data::entry::Header;
use gix_odb::pack::data::{Entry, Offset};
use gix_zlib::stream::inflate;
use gix_zlib::{Decompress, Inflate};

use super::delta;
use super::kept::Kept;
use crate::support::{Context, Error, Result, files};

/// So much of a large object is inflated before it is written.
const PIECE: usize = 128 << 10;

/// No chain of deltas is longer; git itself makes none of more than 4,095 (git-pack-objects(1), `--depth`).
const LONGEST_CHAIN: usize = 1 << 13;

/// The packs of a repository, for as many readers as one likes.
pub(super) struct Packs {
    all: Vec<Bundle>,
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
        Packs { all }
    }

    /// Whether what lies there is no delta.
    pub(super) fn is_whole(&self, place: Place) -> bool {
        self.all[place.pack].pack.entry(place.at).is_ok_and(|entry| !entry.header.is_delta())
    }

    /// A reader, for one thread.
    pub(super) fn unpacker(&self) -> Unpacker<'_> {
        Unpacker {
            packs: self,
            last: 0,
            inflate: Inflate::default(),
            chain: Vec::new(),
            kept: Kept::default(),
        }
    }
}

/// Where an object lies. Git puts what is a delta of an object right behind it, with what is a delta of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// The number of its pack.
    pack: usize,
    at: Offset,
}

#[cfg(test)]
impl Place {
    pub(super) fn new(pack: usize, at: Offset) -> Place {
        Place { pack, at }
    }

    pub(super) fn at(self) -> Offset {
        self.at
    }
}

/// Reads objects out of packs, one after the other.
pub(super) struct Unpacker<'a> {
    packs: &'a Packs,
    /// The pack that had the last one: it has most likely the next one, too.
    last: usize,
    inflate: Inflate,
    /// The deltas on the way to an object, its own first.
    chain: Vec<Entry>,
    kept: Kept,
}

/// What became of an object that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is in the buffer.
    Here(Kind),
    /// It is not in a pack that is known here.
    Elsewhere,
    /// It, or what it is a delta of, is larger than there is room for.
    Large,
}

/// Where an object is put together. Their memory is used again for the next one.
pub(super) struct Buffers {
    /// What others are deltas of, and each of those in turn; the first of them is the largest.
    objects: [Vec<u8>; 2],
    /// Which of them is the one that was asked for.
    last: usize,
    delta: Vec<u8>,
    room: [usize; 2],
}

impl Buffers {
    /// With room for objects of so many bytes, and for the first on the way to one. Buffers that grow leave holes in memory
    /// behind, and what nobody writes to takes none.
    pub(super) fn new(first: usize, others: usize) -> Buffers {
        let room = [first, others];
        Buffers { objects: room.map(Vec::with_capacity), last: 0, delta: Vec::with_capacity(others), room }
    }

    /// The object that was asked for.
    pub(super) fn object(&self) -> &[u8] {
        &self.objects[self.last]
    }

    /// For one that is read otherwise.
    pub(super) fn first(&mut self) -> &mut Vec<u8> {
        &mut self.objects[0]
    }

    /// Makes of the last object what a delta says of it.
    fn apply(&mut self) -> Result<()> {
        let [first, second] = &mut self.objects;
        let (from, to) = if self.last == 0 { (first, second) } else { (second, first) };
        self.last = 1 - self.last;
        delta::apply(from, &self.delta, to)
    }

    /// Gives back what is more than they were made with.
    pub(super) fn shrink(&mut self) {
        let [first, others] = self.room;
        let [one, two] = &mut self.objects;
        for (buffer, room) in [(one, first), (two, others), (&mut self.delta, others)] {
            if buffer.capacity() > room {
                *buffer = Vec::with_capacity(room);
            }
        }
    }
}

impl Unpacker<'_> {
    /// Reads the object at a place.
    pub(super) fn read(&mut self, place: Place, buffers: &mut Buffers) -> Result<Found> {
        let found = self.descend(place, buffers)?;
        let Found::Here(kind) = found else { return Ok(found) };
        while let Some(entry) = self.chain.pop() {
            self.inflate(place.pack, &entry, &mut buffers.delta)?;
            buffers.apply().map_err(damaged)?;
            self.kept.put(Place { at: entry.pack_offset(), ..place }, kind, buffers.object());
        }
        Ok(found)
    }

    /// Inflates what lies in a pack: an object, or a delta.
    fn inflate(&mut self, pack: usize, entry: &Entry, into: &mut Vec<u8>) -> Result<()> {
        let size = entry.decompressed_size;
        let too_large = || Error::new(format!("an object has {size} bytes, for which there is no memory"));
        let size = usize::try_from(size).map_err(|_| too_large())?;
        into.try_reserve_exact(size.saturating_sub(into.len())).map_err(|_| too_large())?;
        into.resize(size, 0);
        self.packs.all[pack].pack.decompress_entry(entry, &mut self.inflate, into).map(drop).map_err(damaged)
    }

    /// Writes an object, a piece at a time. `None`, and nothing is written, where it is a delta, or not in a pack that is
    /// known here.
    pub(super) fn stream(&mut self, id: &oid, into: &mut dyn Write) -> Result<Option<Kind>> {
        let Some(place) = self.find(id) else { return Ok(None) };
        let pack = &self.packs.all[place.pack].pack;
        let entry = pack.entry(place.at).map_err(damaged)?;
        let Some(kind) = entry.header.as_kind() else { return Ok(None) };
        let bytes = pack.entry_slice(entry.data_offset..pack.pack_end() as u64);
        let mut bytes = bytes.ok_or_else(|| damaged("it ends too early"))?;
        let (mut state, mut piece, mut left) = (Decompress::new(), vec![0; PIECE], entry.decompressed_size);
        loop {
            let length = inflate::read(&mut bytes, &mut state, &mut piece).map_err(damaged)?;
            if length == 0 {
                break;
            }
            left =
                left.checked_sub(length as u64).ok_or_else(|| damaged("an object is longer than it says"))?;
            into.write_all(&piece[..length]).context(|| "cannot write it")?;
        }
        if left > 0 {
            return Err(damaged("an object is shorter than it says"));
        }
        Ok(Some(kind))
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

    /// Where an object lies; `None` where it is in no pack that is known here.
    pub(super) fn find(&mut self, id: &oid) -> Option<Place> {
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

    /// Goes down from an object to the first that is known, or is no delta, which is in a buffer then; the deltas between
    /// them are in `chain`.
    fn descend(&mut self, Place { pack: number, mut at }: Place, buffers: &mut Buffers) -> Result<Found> {
        let (base, room) = (&mut buffers.objects[0], buffers.room[0]);
        buffers.last = 0;
        let Bundle { pack, index } = &self.packs.all[number];
        self.chain.clear();
        while self.chain.len() < LONGEST_CHAIN {
            if let Some(kind) = self.kept.get(Place { pack: number, at }, base) {
                return Ok(Found::Here(kind));
            }
            let entry = pack.entry(at).map_err(damaged)?;
            let below = match entry.header {
                Header::OfsDelta { base_distance } => entry.checked_base_pack_offset(base_distance),
                Header::RefDelta { base_id } => {
                    index.lookup(base_id).map(|found| index.pack_offset_at_index(found))
                }
                Header::Commit | Header::Tree | Header::Blob | Header::Tag => {
                    if entry.decompressed_size > room as u64 {
                        return Ok(Found::Large);
                    }
                    let Some(kind) = entry.header.as_kind() else { return Ok(Found::Elsewhere) };
                    self.inflate(number, &entry, base)?;
                    // Most objects are nobody's base: only what was one is kept.
                    if !self.chain.is_empty() {
                        self.kept.put(Place { pack: number, at }, kind, base);
                    }
                    return Ok(Found::Here(kind));
                }
            };
            let Some(below) = below else { return Ok(Found::Elsewhere) };
            self.chain.push(entry);
            at = below;
        }
        Ok(Found::Elsewhere)
    }
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::new(format!("its pack is damaged: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::process::Command;

    use gix_hash::ObjectId;

    use super::*;

    /// A repository of one pack of deltas, each of the one before, and their ids.
    fn packed(by_offset: bool) -> (tempfile::TempDir, Vec<ObjectId>) {
        let place = tempfile::tempdir().unwrap();
        let git = git2::Repository::init_bare(place.path()).unwrap();
        let mut text = (0..300).map(|line| format!("{}\n", line * 7919 % 1009)).collect::<String>();
        let mut builder = git.treebuilder(None).unwrap();
        let mut ids = Vec::new();
        for number in 0..40 {
            writeln!(text, "one more: {number}").unwrap();
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

    fn read(unpacker: &mut Unpacker, id: &oid, buffers: &mut Buffers) -> Result<Found> {
        unpacker.find(id).map_or(Ok(Found::Elsewhere), |place| unpacker.read(place, buffers))
    }

    #[test]
    fn an_object_is_read_whatever_way_its_delta_names_its_base() {
        for by_offset in [true, false] {
            let (place, ids) = packed(by_offset);
            let (packs, git) = (open(&place), git2::Repository::open_bare(place.path()).unwrap());
            let (mut unpacker, mut buffers) = (packs.unpacker(), Buffers::new(1 << 20, 0));
            let mut deltas = [0, 0];
            for id in ids.iter().chain(ids.iter().rev()) {
                let blob = git.find_blob(git2::Oid::from_bytes(id.as_bytes()).unwrap()).unwrap();
                assert_eq!(unpacker.header(id).unwrap(), Some((Kind::Blob, blob.size() as u64)));
                assert_eq!(read(&mut unpacker, id, &mut buffers).unwrap(), Found::Here(Kind::Blob));
                assert_eq!(buffers.object(), blob.content());
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
            let whole = ids.iter().filter(|id| {
                let mut streamed = Vec::new();
                let is_whole = unpacker.stream(id, &mut streamed).unwrap() == Some(Kind::Blob);
                read(&mut unpacker, id, &mut buffers).unwrap();
                assert!(streamed == if is_whole { buffers.object() } else { b"" });
                is_whole
            });
            assert_eq!(whole.count(), 1, "what all the others are deltas of");
            let nobody = ObjectId::from_bytes_or_panic(&[7; 20]);
            assert_eq!(unpacker.stream(&nobody, &mut Vec::new()).unwrap(), None);
            assert_eq!(read(&mut unpacker, &nobody, &mut buffers).unwrap(), Found::Elsewhere);
            assert_eq!(unpacker.header(&nobody).unwrap(), None);
        }
    }

    #[test]
    fn an_object_is_streamed_in_pieces_and_not_where_nobody_can_write() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0 += 1;
                if self.0 > 2 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let place = tempfile::tempdir().unwrap();
        let git = git2::Repository::init_bare(place.path()).unwrap();
        // One that ends with a piece, and one that does not.
        for length in [4 * PIECE, 3 * PIECE + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at * at / 7 % 256).unwrap()).collect();
            let mut builder = git.packbuilder().unwrap();
            let id = git.blob(&bytes).unwrap();
            builder.insert_object(id, None).unwrap();
            builder.write(place.path().join("objects/pack").as_path(), 0o444).unwrap();
            let packs = open(&place);
            let (mut unpacker, id) = (packs.unpacker(), ObjectId::try_from(id.as_bytes()).unwrap());
            let mut streamed = Vec::new();
            assert_eq!(unpacker.stream(&id, &mut streamed).unwrap(), Some(Kind::Blob));
            assert!(streamed == bytes);
            let refused = unpacker.stream(&id, &mut Full(0)).unwrap_err().one_line();
            assert!(refused.starts_with("cannot write it: "), "{refused}");
        }
    }

    #[test]
    fn a_pack_that_is_damaged_gives_an_error_and_never_other_bytes() {
        let (place, ids) = packed(true);
        let packs = open(&place);
        let path = packs.all[0].pack.path().to_owned();
        let (mut whole, mut buffers) = (std::fs::read(&path).unwrap(), Buffers::new(1 << 20, 0));
        let right: Vec<Vec<u8>> = ids
            .iter()
            .map(|id| {
                read(&mut packs.unpacker(), id, &mut buffers).unwrap();
                buffers.object().to_vec()
            })
            .collect();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let (mut errors, mut errors_of_streams) = (0, 0);
        for at in (12..whole.len() - 20).step_by(7) {
            whole[at] ^= 0x10;
            std::fs::write(&path, &whole).unwrap();
            let packs = open(&place);
            let mut unpacker = packs.unpacker();
            for (id, right) in ids.iter().zip(&right) {
                match read(&mut unpacker, id, &mut buffers) {
                    Ok(Found::Here(Kind::Blob)) => assert!(buffers.object() == right.as_slice(), "byte {at}"),
                    Ok(_) => {}
                    Err(_) => errors += 1,
                }
                let mut streamed = Vec::new();
                match unpacker.stream(id, &mut streamed) {
                    Ok(Some(Kind::Blob)) => assert!(streamed == *right, "byte {at}, streamed"),
                    Ok(_) => {}
                    Err(_) => errors_of_streams += 1,
                }
            }
            whole[at] ^= 0x10;
        }
        assert!(errors > 100 && errors_of_streams > 10, "{errors} and {errors_of_streams}");
    }
}
