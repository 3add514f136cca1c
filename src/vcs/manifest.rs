//! The manifest of a release: what its export wrote, and how each file looked on disk when that was done.
//!
//! It tells a later export which files of an old tree are still exactly what was written: whoever changes a file in any
//! way, and sets its modification time back, changes its change time all the same, which nobody can set. So a file
//! whose [`Stamp`] is as it was has the content that it had.
//!
//! It lies where no application can write.

mod disk;

use std::cmp::Ordering;

use rustix::fs::{FileType, Stat};

use super::tree::{Kind, ObjectId};
use crate::support::{Error, Result};

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
}

/// How a file is named that was where something else is.
pub(super) fn left(path: &[u8]) -> Vec<u8> {
    [path, b"/"].concat()
}

fn path_of<'a>(paths: &'a [u8], kept: &Kept) -> &'a [u8] {
    &paths[kept.path.0 as usize..kept.path.1 as usize]
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
        let manifest = self.manifest;
        let rest = &manifest.items[self.at..];
        let compare = |kept: &Kept| path_of(&manifest.paths, kept).cmp(path);
        // Most often it is the next one, or near: twice as far is looked each time.
        let mut far = 1;
        let end = loop {
            match rest.get(far - 1).map(compare) {
                Some(Ordering::Less) => far *= 2,
                Some(Ordering::Equal) => {
                    self.at += far;
                    return Some(manifest.item(&rest[far - 1]));
                }
                Some(Ordering::Greater) => break far - 1,
                None => break rest.len(),
            }
        };
        let begin = far / 2;
        let found = rest[begin..end].binary_search_by(compare);
        self.at += begin + found.map_or_else(|place| place, |place| place + 1);
        found.ok().map(|place| manifest.item(&rest[begin + place]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_finds_what_is_there_however_far_it_goes() {
        let stamp = Stamp { mode: 0, size: 0, modified: (0, 0), changed: (0, 0), inode: 0, owner: (0, 0) };
        let path = |number: usize| format!("{number:03}").into_bytes();
        for count in 0..40 {
            let mut manifest = Manifest::default();
            for number in 0..count {
                // Only the even ones are there.
                manifest.add(Item { path: &path(2 * number), what: What::Directory, stamp }).unwrap();
            }
            for step in 1..=2 * count + 1 {
                let mut cursor = manifest.cursor();
                for number in (0..2 * count + 3).step_by(step) {
                    let found = cursor.find(&path(number)).map(|item| item.path.to_vec());
                    let there = number % 2 == 0 && number < 2 * count;
                    assert_eq!(found, there.then(|| path(number)), "{number} of {count}, by {step}");
                }
            }
        }
    }
}
