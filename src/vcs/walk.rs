//! Reads all that is below a tree, by as many threads as there are processors.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use gix_object::TreeRefIter;

use super::objects::{Reader, Source};
use super::tree::{Entry, Kind, ObjectId, Tree, join};
use crate::support::threads::share_out;
use crate::support::{Context, Error, Result, text};

/// No tree has more entries than this: a few kilobytes of pushed trees can stand for billions.
const MOST_ENTRIES: usize = 2_000_000;

/// Nor more bytes of paths: that many entries with the longest of them would fill any memory.
const MOST_NAMES: usize = 256 << 20;

/// So many directories are known for a while: what unfolds without end is made of the same few, time and again.
const RECENT: usize = 16;

/// So many directories one thread reads before others help: to begin with them takes as long as a few.
const ALONE: usize = 64;

/// All that is below the tree `top`, its paths below `at`, with what is wrong about its names.
pub(super) fn tree(source: &Source, top: ObjectId, at: &[u8]) -> Result<Tree> {
    let seen = Seen::default();
    let mut walk = Walk::new(source.reader(), &seen);
    walk.read(at, top)?;
    walk.go_on(ALONE)?;
    let Walk { mut tree, waiting, .. } = walk;
    // What is left is mostly near the top, and much is below it.
    let directories: Vec<_> = waiting.iter().rev().filter_map(Waiting::directory).collect();
    let walked = share_out(&directories, || {
        let mut walk = Walk::new(source.reader(), &seen);
        move |&(path, id)| {
            walk.waiting.push(Waiting::Directory(path.to_vec(), id));
            walk.go_on(usize::MAX)?;
            Ok(std::mem::take(&mut walk.tree))
        }
    })?;
    let mut walked = walked.into_iter();
    for next in waiting.into_iter().rev() {
        match next {
            Waiting::Entry(entry) => tree.entries.push(entry),
            Waiting::Directory(..) => tree.append(walked.next().unwrap_or_default()),
        }
    }
    tree.directories.sort();
    // What git made is in order already, which costs nothing; who pushes may have made something else.
    tree.entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

/// What was seen of a tree, by all threads.
#[derive(Default)]
struct Seen {
    entries: AtomicUsize,
    /// In bytes of their paths.
    names: AtomicUsize,
}

impl Seen {
    /// Takes note of the entries of one more directory.
    fn add(&self, entries: usize, names: usize) -> Result<()> {
        let add = |to: &AtomicUsize, more| to.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if add(&self.entries, entries) > MOST_ENTRIES {
            return Err(Error::new(format!("the revision has more than {MOST_ENTRIES} files")));
        }
        if add(&self.names, names) > MOST_NAMES {
            let most = text::bytes(MOST_NAMES as u64);
            return Err(Error::new(format!("the paths of the revision have more than {most} of names")));
        }
        Ok(())
    }
}

/// A part of a tree, as far as one thread walked it.
///
/// All that is in a directory is taken up before what comes after the directory. As git sorts its trees, that is the order of
/// whole paths. It is not recursive: how deep a tree goes is the pusher's choice.
struct Walk<'a> {
    reader: Reader<'a>,
    seen: &'a Seen,
    tree: Tree,
    /// What was seen and is not taken up yet, the next one last.
    waiting: Vec<Waiting>,
    /// Directories that were read last, and what is in them.
    recent: VecDeque<(ObjectId, Vec<u8>)>,
}

enum Waiting {
    Entry(Entry),
    Directory(Vec<u8>, ObjectId),
}

impl Waiting {
    fn directory(&self) -> Option<(&[u8], ObjectId)> {
        match self {
            Waiting::Directory(path, id) => Some((path, *id)),
            Waiting::Entry(_) => None,
        }
    }
}

impl<'a> Walk<'a> {
    fn new(reader: Reader<'a>, seen: &'a Seen) -> Walk<'a> {
        Walk { reader, seen, tree: Tree::default(), waiting: Vec::new(), recent: VecDeque::new() }
    }

    /// Takes up what is waiting, up to so many directories.
    fn go_on(&mut self, mut directories: usize) -> Result<()> {
        while directories > 0 {
            match self.waiting.pop() {
                None => break,
                Some(Waiting::Entry(entry)) => self.tree.entries.push(entry),
                Some(Waiting::Directory(path, id)) => {
                    self.read(&path, id)?;
                    self.tree.directories.push(path);
                    directories -= 1;
                }
            }
        }
        Ok(())
    }

    /// Reads a directory.
    fn read(&mut self, directory: &[u8], id: ObjectId) -> Result<()> {
        let known = self.recent.iter().position(|(known, _)| *known == id);
        if known.is_none() {
            let cannot = || format!("cannot read the directory '{}'", text::printable_bytes(directory));
            self.recent.push_front((id, self.reader.listing(id).context(cannot)?));
            self.recent.truncate(RECENT);
        }
        self.take_up(directory, known.unwrap_or(0))
    }

    /// Takes up what is in a directory that was read, if nothing is wrong about its names.
    fn take_up(&mut self, directory: &[u8], recent: usize) -> Result<()> {
        let Walk { seen, tree, waiting, recent: listings, .. } = self;
        let damaged = || format!("the directory '{}' is damaged", text::printable_bytes(directory));
        let entries = TreeRefIter::from_bytes(&listings[recent].1, gix_hash::Kind::Sha1);
        let entries = entries.collect::<Result<Vec<_>, _>>().context(damaged)?;
        let complaints = tree.complaints.len();
        let names = entries.iter().map(|entry| entry.filename.as_ref()).collect();
        Tree::check_names(&mut tree.complaints, directory, names);
        if tree.complaints.len() > complaints {
            return Ok(());
        }
        let names = entries.iter().map(|entry| directory.len() + 1 + entry.filename.len()).sum();
        seen.add(entries.len(), names)?;
        for entry in entries.into_iter().rev() {
            let path = join(directory, entry.filename);
            let id = ObjectId::from_bytes(entry.oid.as_bytes()).context(damaged)?;
            waiting.push(match Kind::of_mode(entry.mode.value().into()) {
                Some(kind) => Waiting::Entry(Entry { path, kind, id }),
                None => Waiting::Directory(path, id),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes trees of `width` directories in each other, so deep, around one file; answers the id of the outermost.
    fn nest(git: &git2::Repository, width: usize, depth: usize) -> ObjectId {
        let file = git.blob(b"content").unwrap();
        let mut inner = None;
        for _ in 0..=depth {
            let mut builder = git.treebuilder(None).unwrap();
            builder.insert("b.file", file, 0o100_644).unwrap();
            for number in 0..width {
                if let Some(inner) = inner {
                    builder.insert(format!("a{number}"), inner, 0o040_000).unwrap();
                }
            }
            inner = Some(builder.write().unwrap());
        }
        inner.unwrap()
    }

    fn open() -> (tempfile::TempDir, git2::Repository, Source) {
        let place = tempfile::tempdir().unwrap();
        let git = git2::Repository::init_bare(place.path()).unwrap();
        let source = Source::open(place.path(), &[place.path().join("objects")]).unwrap();
        (place, git, source)
    }

    #[test]
    fn a_tree_is_in_the_order_of_its_paths_whoever_read_which_part_of_it() {
        let (_place, git, source) = open();
        for (width, depth) in [(0, 0), (1, 3), (1, 3 * ALONE), (3, 3), (4, 5), (2 * ALONE, 1), (2 * ALONE, 2)]
        {
            let top = nest(&git, width, depth);
            let found = tree(&source, top, b"").unwrap();
            let mut paths = vec![];
            let mut directories = vec![];
            let walk = |at: &str, entry: &git2::TreeEntry| {
                let list =
                    if entry.kind() == Some(git2::ObjectType::Tree) { &mut directories } else { &mut paths };
                list.push((format!("{at}{}", entry.name().unwrap()).into_bytes(), entry.id()));
                git2::TreeWalkResult::Ok
            };
            git.find_tree(top).unwrap().walk(git2::TreeWalkMode::PreOrder, walk).unwrap();
            paths.sort();
            directories.sort();
            let same = found.entries.iter().map(|entry| (&entry.path, entry.id));
            assert!(same.eq(paths.iter().map(|(path, id)| (path, *id))), "{width} wide, {depth} deep");
            let same = found.directories.iter().eq(directories.iter().map(|(path, _)| path));
            assert!(same, "{width} wide, {depth} deep");
            assert!(found.complaints.is_empty());
        }
    }

    #[test]
    fn a_tree_that_unfolds_without_end_is_refused_whoever_reads_which_part_of_it() {
        let (_place, git, source) = open();
        let files = "the revision has more than 2000000 files";
        let names = "the paths of the revision have more than 268.4 MB of names";
        // The second has few more than it may, of which no thread reads all.
        for (width, depth, why) in [(10, 10, files), (2, 19, files), (ALONE, ALONE, names)] {
            let refused = tree(&source, nest(&git, width, depth), b"").map(drop).unwrap_err();
            assert_eq!(refused.one_line(), why);
        }
    }

    #[test]
    fn what_is_no_directory_or_a_damaged_one_is_named_at_any_depth() {
        let (_place, git, source) = open();
        let file = git.blob(b"content").unwrap();
        let refused = tree(&source, file, b"").unwrap_err().one_line();
        assert_eq!(refused, format!("cannot read the directory '': the object {file} is no directory"));
        let damaged = git.odb().unwrap().write(git2::ObjectType::Tree, b"100644 cut\0short").unwrap();
        let refused = tree(&source, damaged, b"at").unwrap_err().one_line();
        assert!(refused.starts_with("the directory 'at' is damaged"), "{refused}");
        for number in [0, 2 * ALONE] {
            let mut builder = git.treebuilder(None).unwrap();
            for other in 0..3 * ALONE {
                let id = if other == number { damaged } else { nest(&git, 0, 0) };
                builder.insert(format!("{other:03}"), id, 0o040_000).unwrap();
            }
            let refused = tree(&source, builder.write().unwrap(), b"").unwrap_err().one_line();
            assert!(refused.starts_with(&format!("the directory '{number:03}' is damaged")), "{refused}");
        }
    }
}
