//! A revision's tree as a list, and the check that it can be written without leaving its place.

use std::collections::BTreeMap;

pub use git2::Oid as ObjectId;

use super::links::{self, Links};
use super::paths;
use crate::support::text::printable_bytes;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symlink; its content is its target.
    Link,
    /// A commit of another repository.
    Submodule,
}

impl Kind {
    /// What git's mode of an entry stands for; `None` is a directory.
    pub(super) fn of_mode(mode: u32) -> Option<Kind> {
        match mode & 0o170_000 {
            0o040_000 => None,
            0o120_000 => Some(Kind::Link),
            0o160_000 => Some(Kind::Submodule),
            _ => Some(Kind::File { executable: mode & 0o100 != 0 }),
        }
    }
}

/// A file, symlink or submodule of a tree.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path from the top, as bytes: names need not be UTF-8.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Its content's id.
    pub id: ObjectId,
}

impl Entry {
    /// Its path, for people.
    pub fn shown(&self) -> String {
        printable_bytes(&self.path)
    }
}

/// All that is in a revision, in git's order, and its directories, parents first.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Files, symlinks and submodules.
    pub entries: Vec<Entry>,
    /// Directories.
    pub directories: Vec<Vec<u8>>,
    /// What cannot be written, as sentences that name the path.
    pub complaints: Vec<String>,
}

impl Tree {
    /// The entry at a path.
    pub fn find(&self, path: &[u8]) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.path.as_slice().cmp(path)).ok()?;
        self.entries.get(at)
    }

    /// Whether a file, symlink or directory is at a path.
    pub fn has(&self, path: &str) -> bool {
        self.find(path.as_bytes()).is_some()
            || self.directories.iter().any(|directory| directory == path.as_bytes())
    }

    /// The names in a directory, those that are UTF-8; `""` is the top.
    pub fn names_in(&self, directory: &str) -> Vec<String> {
        let inside = |path: &[u8]| {
            let rest = if directory.is_empty() {
                path
            } else {
                path.strip_prefix(directory.as_bytes())?.strip_prefix(b"/")?
            };
            (!rest.contains(&b'/')).then(|| std::str::from_utf8(rest).ok().map(str::to_owned))?
        };
        let paths = self.entries.iter().map(|entry| &entry.path).chain(&self.directories);
        paths.filter_map(|path| inside(path)).collect()
    }

    /// Takes up what comes behind it.
    pub(super) fn append(&mut self, mut other: Tree) {
        self.entries.append(&mut other.entries);
        self.directories.append(&mut other.directories);
        self.complaints.append(&mut other.complaints);
    }

    /// The submodules.
    pub fn submodules(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.kind == Kind::Submodule)
    }

    /// Takes up one directory's names; says which of them may not be.
    pub(super) fn check_names(complaints: &mut Vec<String>, directory: &[u8], mut names: Vec<&[u8]>) {
        names.sort_unstable();
        for (at, name) in names.iter().enumerate() {
            let shown = || printable_bytes(&join(directory, name));
            if let Some(why) = paths::refuse_component(name, directory.is_empty()) {
                complaints.push(format!("{} {why}", shown()));
            } else if at > 0 && names[at - 1] == *name {
                complaints.push(format!("{} is there twice", shown()));
            } else if directory.len() + 1 + name.len() > 3500 {
                complaints
                    .push(format!("{}… is too long a path", printable_bytes(&join(directory, name)[..100])));
            }
        }
    }

    /// The symlinks that lead out of the release, as sentences.
    ///
    /// `targets` are the symlinks' contents by path; `shared` are the paths that become links into
    /// `shared/`, through which nothing may climb.
    pub fn outside_links(&self, targets: &BTreeMap<Vec<u8>, Vec<u8>>, shared: &[&str]) -> Vec<String> {
        let links = Links { targets, shared };
        let mut complaints = Vec::new();
        for (path, target) in targets {
            if let Err(why) = links::resolve(&links, path) {
                complaints.push(format!("{} → {} {why}", printable_bytes(path), printable_bytes(target)));
            }
        }
        complaints
    }
}

/// `directory/name`, or `name` at the top.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
