//! The manifest of a release: what its export wrote, and how each file looked on disk when that was done.
//!
//! It tells a later export which files of an old tree are still exactly what was written: whoever changes a file in any
//! way, and sets its modification time back, changes its change time all the same, which nobody can set. So a file
//! whose [`Stamp`] is as it was has the content that it had.
//!
//! On disk: a line of JSON with the format's number, then an item for each path, all of them ended by a zero byte.
//! It lies where no application can write.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

use super::tree::{Kind, ObjectId};
use crate::app::journal::refuse_newer;
use crate::app::layout::FORMAT;
use crate::support::{Context, Error, Result, files};

/// So much of a manifest is read, or written, at a time.
const BUFFER: usize = 64 << 10;

/// A moment as the filesystem has it: seconds and nanoseconds.
pub type Moment = (i64, u32);

/// How a file or directory looks from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its kind and permissions.
    pub mode: u32,
    /// Its size in bytes; of a directory nothing.
    pub size: u64,
    /// When its content was last changed, as whoever may write to it says.
    pub modified: Moment,
    /// When anything about it was last changed, as the kernel says.
    pub changed: Moment,
    /// Its number.
    pub inode: u64,
    /// Its user and group.
    pub owner: (u32, u32),
}

impl Stamp {
    /// That of what was looked at.
    pub fn of(about: &Stat) -> Stamp {
        let is_directory = FileType::from_raw_mode(about.st_mode) == FileType::Directory;
        let nanoseconds = |count| u32::try_from(count).unwrap_or_default();
        Stamp {
            mode: about.st_mode,
            size: if is_directory { 0 } else { u64::try_from(about.st_size).unwrap_or_default() },
            modified: (about.st_mtime, nanoseconds(about.st_mtime_nsec)),
            changed: (about.st_ctime, nanoseconds(about.st_ctime_nsec)),
            inode: about.st_ino,
            owner: (about.st_uid, about.st_gid),
        }
    }
}

/// What an item stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A file or symlink, and its content.
    Entry(Kind, ObjectId),
    /// A directory.
    Directory,
    /// A file that an earlier release had: it is not there, but its time must not come again so soon. Where something
    /// else is in its place, a slash is behind its path, which no other item has.
    Gone,
}

/// A path, and what an export made of it.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The path from the top of the release.
    pub path: &'a [u8],
    /// What is there.
    pub what: What,
    /// How it looked.
    pub stamp: Stamp,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    path: (u32, u32),
    what: What,
    stamp: Stamp,
}

/// What an export wrote, by path.
#[derive(Debug, Default)]
pub struct Manifest {
    paths: Vec<u8>,
    items: Vec<Kept>,
    newest: i64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    newest: i64,
    items: usize,
}

impl Manifest {
    /// The newest second that new content was ever given, in this release or one that it came after.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// Notes that new content was given this second.
    pub fn notice(&mut self, second: i64) {
        self.newest = self.newest.max(second);
    }

    /// Makes room for so many items.
    pub fn reserve(&mut self, items: usize) {
        self.items.reserve_exact(items);
    }

    /// Adds an item. They are looked up only after [`Manifest::sort`].
    pub fn add(&mut self, item: Item) -> Result<()> {
        let too_long = || Error::new("the paths of a release are too long");
        let begin = u32::try_from(self.paths.len()).map_err(|_| too_long())?;
        self.paths.extend_from_slice(item.path);
        let end = u32::try_from(self.paths.len()).map_err(|_| too_long())?;
        self.items.push(Kept { path: (begin, end), what: item.what, stamp: item.stamp });
        Ok(())
    }

    /// Brings the items into order.
    pub fn sort(&mut self) {
        let paths = &self.paths;
        self.items.sort_unstable_by(|a, b| path_of(paths, a).cmp(path_of(paths, b)));
    }

    /// All items, by path.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.items.iter().map(|kept| self.item(kept))
    }

    /// What was written at a path.
    pub fn find(&self, path: &[u8]) -> Option<Item<'_>> {
        let at = self.items.binary_search_by(|kept| path_of(&self.paths, kept).cmp(path)).ok()?;
        Some(self.item(&self.items[at]))
    }

    /// The second of a file that was at a path before a link or a directory.
    pub fn left_at(&self, path: &[u8]) -> Option<i64> {
        self.find(&left(path)).map(|item| item.stamp.modified.0)
    }

    /// A reader that finds paths in order faster than [`Manifest::find`] does.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { manifest: self, at: 0 }
    }

    fn item(&self, kept: &Kept) -> Item<'_> {
        Item { path: path_of(&self.paths, kept), what: kept.what, stamp: kept.stamp }
    }

    /// The newest change of what was written.
    pub fn last_change(&self) -> Option<Moment> {
        let there = self.items.iter().filter(|kept| kept.what != What::Gone);
        there.map(|kept| kept.stamp.changed).max()
    }

    /// Reads a manifest; `None` where there is none.
    ///
    /// # Errors
    /// Where it is damaged, or of a newer format.
    pub fn read(path: &Path) -> Result<Option<Manifest>> {
        let Some(file) = files::open_regular(path)? else { return Ok(None) };
        let damaged = || Error::new(format!("{} is damaged", path.display()));
        let mut parts = Parts { input: BufReader::with_capacity(BUFFER, file), part: Vec::new(), path };
        let header = parts.next()?.and_then(|line| serde_json::from_slice::<Header>(line).ok());
        let header = header.ok_or_else(damaged)?;
        refuse_newer(header.format, path)?;
        let mut manifest = Manifest { newest: header.newest, ..Manifest::default() };
        // No more than that on the word of a file that may be damaged.
        manifest.reserve(header.items.min(1 << 20));
        for _ in 0..header.items {
            let item = parts.next()?.and_then(read_item).ok_or_else(damaged)?;
            let before = manifest.items.last().map(|kept| path_of(&manifest.paths, kept));
            if before.is_some_and(|before| before >= item.path) {
                return Err(damaged());
            }
            manifest.add(item)?;
        }
        if !parts.is_at_end() {
            return Err(damaged());
        }
        Ok(Some(manifest))
    }

    /// The newest second of a manifest, without the rest of it.
    pub fn read_newest(path: &Path) -> Option<i64> {
        use std::io::Read;
        let mut begin = Vec::new();
        std::fs::File::open(path).ok()?.take(256).read_to_end(&mut begin).ok()?;
        let line = begin.split(|b| *b == 0).next()?;
        serde_json::from_slice::<Header>(line).ok().map(|header| header.newest)
    }

    /// Writes the manifest as it lies on disk.
    pub fn write(&self, file: &mut dyn Write) -> std::io::Result<()> {
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let header = Header { format: FORMAT, newest: self.newest, items: self.items.len() };
        serde_json::to_writer(&mut out, &header)?;
        out.write_all(&[0])?;
        for item in self.items() {
            let Stamp { mode, size, modified, changed, inode, owner } = item.stamp;
            match item.what {
                What::Entry(Kind::Link, id) => write!(out, "link {id}"),
                What::Entry(Kind::File { executable: true }, id) => write!(out, "program {id}"),
                What::Entry(_, id) => write!(out, "file {id}"),
                What::Directory => write!(out, "directory -"),
                What::Gone => write!(out, "gone -"),
            }?;
            write!(
                out,
                " {mode:o} {size} {}.{} {}.{} {inode} {}.{} ",
                modified.0, modified.1, changed.0, changed.1, owner.0, owner.1
            )?;
            out.write_all(item.path)?;
            out.write_all(&[0])?;
        }
        out.flush()
    }
}

/// How a file is named that was where something else is.
pub(super) fn left(path: &[u8]) -> Vec<u8> {
    [path, b"/"].concat()
}

/// Reads what ends in a zero byte, one after the other.
struct Parts<'a> {
    input: BufReader<File>,
    part: Vec<u8>,
    path: &'a Path,
}

impl Parts<'_> {
    /// The next one, without its end; `None` where there is no whole one.
    fn next(&mut self) -> Result<Option<&[u8]>> {
        self.part.clear();
        let read = self.input.read_until(0, &mut self.part);
        read.context(|| format!("cannot read {}", self.path.display()))?;
        Ok((self.part.pop() == Some(0)).then_some(self.part.as_slice()))
    }

    fn is_at_end(&mut self) -> bool {
        self.input.fill_buf().is_ok_and(<[u8]>::is_empty)
    }
}

fn path_of<'a>(paths: &'a [u8], kept: &Kept) -> &'a [u8] {
    &paths[kept.path.0 as usize..kept.path.1 as usize]
}

/// Reads a line byte by byte: a deploy reads some for every file of the tree, three times.
fn read_item(bytes: &[u8]) -> Option<Item<'_>> {
    let mut words = bytes.splitn(9, |b| *b == b' ');
    let mut word = || words.next();
    let (what, id) = (word()?, word()?);
    let mode = u32::try_from(number(word()?, 8)?).ok()?;
    let size = number(word()?, 10)?;
    let modified = moment(word()?)?;
    let changed = moment(word()?)?;
    let inode = number(word()?, 10)?;
    let (user, group) = split(word()?)?;
    let of_system = |word| u32::try_from(number(word, 10)?).ok();
    let owner = (of_system(user)?, of_system(group)?);
    let path = words.next()?;
    let kind = |kind| Some(What::Entry(kind, std::str::from_utf8(id).ok()?.parse().ok()?));
    let what = match what {
        b"link" => kind(Kind::Link)?,
        b"program" => kind(Kind::File { executable: true })?,
        b"file" => kind(Kind::File { executable: false })?,
        b"directory" => What::Directory,
        b"gone" => What::Gone,
        _ => return None,
    };
    Some(Item { path, what, stamp: Stamp { mode, size, modified, changed, inode, owner } })
}

fn moment(word: &[u8]) -> Option<Moment> {
    let (seconds, nanoseconds) = split(word)?;
    let seconds = match seconds.strip_prefix(b"-") {
        Some(before) => i64::try_from(number(before, 10)?).ok()?.checked_neg()?,
        None => i64::try_from(number(seconds, 10)?).ok()?,
    };
    Some((seconds, number(nanoseconds, 10)?.try_into().ok()?))
}

/// What lies before and behind the point.
fn split(word: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = word.iter().position(|b| *b == b'.')?;
    Some((&word[..at], &word[at + 1..]))
}

fn number(word: &[u8], base: u8) -> Option<u64> {
    let digit = |b: &u8| b.checked_sub(b'0').filter(|digit| *digit < base);
    let add = |sum: u64, b: &u8| sum.checked_mul(base.into())?.checked_add(digit(b)?.into());
    if word.is_empty() { None } else { word.iter().try_fold(0, add) }
}

/// Finds one path after the other.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    manifest: &'a Manifest,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// What was written at a path that comes after all that were asked for before.
    pub fn find(&mut self, path: &[u8]) -> Option<Item<'a>> {
        let items = &self.manifest.items;
        // Most often it is the next one; after a jump, whichever a search finds.
        for _ in 0..4 {
            let kept = items.get(self.at)?;
            match path_of(&self.manifest.paths, kept).cmp(path) {
                Ordering::Less => self.at += 1,
                Ordering::Equal => {
                    self.at += 1;
                    return Some(self.manifest.item(kept));
                }
                Ordering::Greater => return None,
            }
        }
        let rest = &items[self.at..];
        match rest.binary_search_by(|kept| path_of(&self.manifest.paths, kept).cmp(path)) {
            Ok(found) => {
                self.at += found + 1;
                Some(self.manifest.item(&rest[found]))
            }
            Err(place) => {
                self.at += place;
                None
            }
        }
    }
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
        std::fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
        assert!(Manifest::read(&path).is_err());
        assert!(Manifest::read(&place.path().join("none")).unwrap().is_none());
    }
}
