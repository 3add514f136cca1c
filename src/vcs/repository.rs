//! The repository of an app, whichever system it is pushed to with.
//!
//! A history is the system's own affair: branches, names, ancestors. Contents are git objects in any case:
//! [`Repository::objects`] is where the files of a revision are read from, and whoever exports, compares or
//! measures them asks for nothing else. So what is done for one system there is done for all.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::git;
use super::tree::Tree;
use crate::app::Revision;
use crate::support::Result;

/// The repository of an app.
pub enum Repository {
    /// A bare git repository.
    Git(git::Repository),
}

impl Repository {
    /// Opens the repository of an app.
    pub fn open(path: &Path) -> Result<Repository> {
        git::Repository::open(path).map(Repository::Git)
    }

    /// Opens it as a hook finds it: with what is being pushed, which may be refused yet.
    pub fn open_in_hook(path: &Path) -> Result<Repository> {
        git::Repository::open_in_hook(path).map(Repository::Git)
    }

    /// Where the contents of its revisions are read from.
    pub fn objects(&self) -> &git::Repository {
        match self {
            Repository::Git(git) => git,
        }
    }

    /// The revision that a branch points to.
    pub fn tip(&self, branch: &str) -> Result<Option<Revision>> {
        match self {
            Repository::Git(git) => git.tip(branch),
        }
    }

    /// The names of all branches.
    pub fn branches(&self) -> Vec<String> {
        match self {
            Repository::Git(git) => git.branches(),
        }
    }

    /// The revision that a person means: a branch, a tag, a full or a short hash.
    pub fn resolve(&self, name: &str) -> Result<Revision> {
        match self {
            Repository::Git(git) => git.resolve(name),
        }
    }

    /// Why a revision is none that can be deployed, or `None` where it is one.
    pub fn refuse_non_commit(&self, revision: &Revision) -> Option<String> {
        match self {
            Repository::Git(git) => git.refuse_non_commit(revision),
        }
    }

    /// The first line of a revision's message, safe for a terminal.
    pub fn subject(&self, revision: &Revision) -> Result<String> {
        self.objects().subject(revision)
    }

    /// Whether `old` is among the ancestors of `new`: then a push from one to the other forced nothing.
    pub fn is_ancestor(&self, old: &Revision, new: &Revision) -> bool {
        match self {
            Repository::Git(git) => git.is_ancestor(old, new),
        }
    }

    /// Whether what is pushed lacks its parents: it comes from a shallow clone.
    pub fn lacks_history(&self, new: &Revision) -> Result<bool> {
        match self {
            Repository::Git(git) => git.lacks_history(new),
        }
    }

    /// Everything in a revision, with what is wrong about its names.
    pub fn tree(&self, revision: &Revision) -> Result<Tree> {
        self.objects().tree(revision)
    }

    /// The targets of all symlinks of a tree, by path.
    pub fn link_targets(&self, tree: &Tree) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.objects().link_targets(tree)
    }

    /// The paths in which two revisions differ, those of submodules that moved among them.
    pub fn changed_paths(&self, old: &Revision, new: &Revision) -> Result<HashSet<Vec<u8>>> {
        self.objects().changed_paths(old, new)
    }

    /// Keeps a revision, and its contents, for as long as `name` is held.
    pub fn hold(&self, name: &str, revision: &Revision) -> Result<()> {
        self.objects().hold(name, revision)
    }

    /// Lets a revision go.
    pub fn release(&self, name: &str) -> Result<()> {
        self.objects().release(name)
    }

    /// Lets go of all that is held below `group`.
    pub fn release_all(&self, group: &str) -> Result<()> {
        self.objects().release_all(group)
    }
}
