//! How a manifest lies on disk.
//!
//! A line of JSON with the format's number, up to a zero byte; then an item for each path, its numbers in bytes, the lowest
//! first. A deploy reads two manifests and writes one: as text, that took as long as to look at all files of the tree.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Item, Kept, Manifest, Stamp, What, path_of};
use crate::app::journal::refuse_newer;
use crate::app::layout::FORMAT;
use crate::support::{Error, Result, files};
use crate::vcs::tree::{Kind, ObjectId};

/// So much of a manifest is read, or written, at a time.
const BUFFER: usize = 64 << 10;

/// So many bytes of an item come before its path.
const FIXED: usize = 75;

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    newest: i64,
    items: usize,
}

impl Header {
    fn read(input: &mut impl BufRead) -> io::Result<Header> {
        let mut line = Vec::new();
        input.take(256).read_until(0, &mut line)?;
        let line = line.strip_suffix(&[0]).ok_or(ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_slice(line)?)
    }
}

impl Manifest {
    /// Reads a manifest; `None` where there is none.
    ///
    /// # Errors
    /// Where it is damaged, or of a newer format.
    pub fn read(path: &Path) -> Result<Option<Manifest>> {
        let Some(file) = files::open_regular(path)? else { return Ok(None) };
        let damaged =
            |error: io::Error| Error::new(format!("{} is damaged", path.display())).caused_by(error);
        let mut input = BufReader::with_capacity(BUFFER, file);
        let header = Header::read(&mut input).map_err(damaged)?;
        refuse_newer(header.format, path)?;
        let mut manifest = Manifest { newest: header.newest, ..Manifest::default() };
        manifest.read_items(header.items, &mut input).map_err(damaged)?;
        Ok(Some(manifest))
    }

    fn read_items(&mut self, count: usize, input: &mut impl BufRead) -> io::Result<()> {
        // No more than that on the word of a file that may be damaged.
        self.reserve(count.min(1 << 20));
        for at in 0..count {
            let mut fixed = [0; FIXED];
            input.read_exact(&mut fixed)?;
            let (what, stamp, length) = parse(&fixed).ok_or(ErrorKind::InvalidData)?;
            let begin = self.paths.len();
            self.paths.resize(begin + length, 0);
            input.read_exact(&mut self.paths[begin..])?;
            let bound = |at| u32::try_from(at).map_err(|_| ErrorKind::FileTooLarge);
            let kept = Kept { path: (bound(begin)?, bound(begin + length)?), what, stamp };
            if at > 0 && path_of(&self.paths, &self.items[at - 1]) >= path_of(&self.paths, &kept) {
                return Err(ErrorKind::InvalidData.into());
            }
            self.items.push(kept);
        }
        if input.fill_buf()?.is_empty() { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// The newest second of a manifest, without the rest of it.
    pub fn read_newest(path: &Path) -> Option<i64> {
        let mut begin = BufReader::with_capacity(256, File::open(path).ok()?);
        Header::read(&mut begin).ok().map(|header| header.newest)
    }

    /// Writes the manifest as it lies on disk.
    pub fn write(&self, file: &mut dyn Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let header = Header { format: FORMAT, newest: self.newest, items: self.items.len() };
        serde_json::to_writer(&mut out, &header)?;
        out.write_all(&[0])?;
        for item in self.items() {
            out.write_all(&fixed(&item).ok_or(ErrorKind::InvalidInput)?)?;
            out.write_all(item.path)?;
        }
        out.flush()
    }
}

/// What comes before an item's path.
fn fixed(Item { path, what, stamp }: &Item) -> Option<[u8; FIXED]> {
    let (kind, id) = match *what {
        What::Entry(Kind::File { executable: false }, id) => (b'f', id),
        What::Entry(Kind::File { executable: true }, id) => (b'x', id),
        What::Entry(Kind::Link, id) => (b'l', id),
        What::Directory => (b'd', ObjectId::ZERO_SHA1),
        What::Gone => (b'g', ObjectId::ZERO_SHA1),
        What::Entry(Kind::Submodule, _) => return None,
    };
    let Stamp { mode, size, modified, changed, inode, owner } = stamp;
    let (mut fixed, mut at) = ([0; FIXED], 0);
    let mut put = |bytes: &[u8]| {
        fixed[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&[kind]);
    put(id.as_bytes());
    put(&mode.to_le_bytes());
    put(&size.to_le_bytes());
    for (seconds, nanoseconds) in [modified, changed] {
        put(&seconds.to_le_bytes());
        put(&nanoseconds.to_le_bytes());
    }
    put(&inode.to_le_bytes());
    put(&owner.0.to_le_bytes());
    put(&owner.1.to_le_bytes());
    put(&u16::try_from(path.len()).ok()?.to_le_bytes());
    Some(fixed)
}

/// What came before an item's path, and how long that is.
fn parse(fixed: &[u8; FIXED]) -> Option<(What, Stamp, usize)> {
    let mut rest = fixed.as_slice();
    let [kind] = next(&mut rest)?;
    let id = ObjectId::from_bytes(&next::<20>(&mut rest)?).ok()?;
    let what = match kind {
        b'f' => What::Entry(Kind::File { executable: false }, id),
        b'x' => What::Entry(Kind::File { executable: true }, id),
        b'l' => What::Entry(Kind::Link, id),
        b'd' => What::Directory,
        b'g' => What::Gone,
        _ => return None,
    };
    let mode = u32::from_le_bytes(next(&mut rest)?);
    let size = u64::from_le_bytes(next(&mut rest)?);
    let mut moment = || Some((i64::from_le_bytes(next(&mut rest)?), u32::from_le_bytes(next(&mut rest)?)));
    let (modified, changed) = (moment()?, moment()?);
    let inode = u64::from_le_bytes(next(&mut rest)?);
    let owner = (u32::from_le_bytes(next(&mut rest)?), u32::from_le_bytes(next(&mut rest)?));
    let length = u16::from_le_bytes(next(&mut rest)?);
    Some((what, Stamp { mode, size, modified, changed, inode, owner }, length.into()))
}

fn next<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let mut manifest = Manifest::default();
        let stamp = Stamp {
            mode: 0o100_644,
            size: 7,
            modified: (1_700_000_000, 5),
            changed: (-3, 999_999_999),
            inode: u64::MAX,
            owner: (1000, 33),
        };
        let id = "8be01d2c44aa8be01d2c44aa8be01d2c44aa8be0".parse().unwrap();
        let whats = [
            (&b"a b\n\xff"[..], What::Entry(Kind::File { executable: false }, id)),
            (b"a/run", What::Entry(Kind::File { executable: true }, id)),
            (b"a", What::Directory),
            (b"z", What::Gone),
            (b"l", What::Entry(Kind::Link, id)),
        ];
        for (path, what) in whats {
            manifest.add(Item { path, what, stamp }).unwrap();
        }
        manifest.sort();
        manifest.notice(1_700_000_001);
        manifest
    }

    #[test]
    fn what_is_written_is_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("m");
        let manifest = sample();
        manifest.write(&mut File::create(&path).unwrap()).unwrap();
        let read = Manifest::read(&path).unwrap().unwrap();
        let all = |manifest: &Manifest| {
            manifest.items().map(|item| (item.path.to_vec(), item.what, item.stamp)).collect::<Vec<_>>()
        };
        assert_eq!(all(&read), all(&manifest));
        assert_eq!((read.newest(), Manifest::read_newest(&path)), (1_700_000_001, Some(1_700_000_001)));
        assert_eq!(read.find(b"a/run").unwrap().stamp.inode, u64::MAX);
        assert!(read.find(b"b").is_none());
        let mut cursor = read.cursor();
        assert!(cursor.find(b"a").is_some() && cursor.find(b"a/q").is_none() && cursor.find(b"z").is_some());
    }

    #[test]
    fn half_a_manifest_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("m");
        let mut whole = Vec::new();
        sample().write(&mut whole).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(Manifest::read(&path).is_err(), "{length} of {} bytes", whole.len());
        }
        let zero = whole.iter().position(|byte| *byte == 0).unwrap();
        let mut of_no_kind = whole.clone();
        of_no_kind[zero + 1] = b'?';
        let mut out_of_order = whole.clone();
        // The second item's path, which comes after that of the first, `a`.
        out_of_order[zero + 1 + FIXED + 1 + FIXED] = b'A';
        // As manifests were before they were bytes.
        let text = b"{\"format\":1,\"newest\":7,\"items\":1}\0directory - 40755 0 7.5 7.5 3 0.0 \0".to_vec();
        for damaged in [[whole.as_slice(), b"x"].concat(), of_no_kind, out_of_order, text] {
            std::fs::write(&path, damaged).unwrap();
            assert!(Manifest::read(&path).is_err());
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(Manifest::read(&path).unwrap().is_some());
        assert!(Manifest::read(&place.path().join("none")).unwrap().is_none());
    }
}
