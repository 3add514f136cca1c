//! The repository of an app, whichever system it is pushed to with.
//!
//! A history is the system's own affair: branches, names, ancestors. Contents are git objects in any case:
//! [`Repository::objects`] is where the files of a revision are read from, and whoever exports, compares or
//! measures them asks for nothing else. So what is done for one system there is done for all.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::git::AtTop;
use super::tree::Tree;
use super::{git, hg};
use crate::app::{Revision, Vcs};
use crate::support::{Error, Result};

/// The repository of an app.
pub enum Repository {
    /// A bare git repository.
    Git(git::Repository),
    /// A Mercurial repository.
    Mercurial(hg::Repository),
}

impl Repository {
    /// Opens the repository of an app.
    pub fn open(path: &Path) -> Result<Repository> {
        match Vcs::of(path) {
            Vcs::Git => git::Repository::open(path).map(Repository::Git),
            Vcs::Mercurial => hg::Repository::open(path).map(Repository::Mercurial),
        }
    }

    /// Opens it as a hook finds it: with what is being pushed, which may be refused yet.
    pub fn open_in_hook(path: &Path) -> Result<Repository> {
        match Vcs::of(path) {
            Vcs::Git => git::Repository::open_in_hook(path).map(Repository::Git),
            Vcs::Mercurial => hg::Repository::open_in_hook(path).map(Repository::Mercurial),
        }
    }

    /// Where the contents of its revisions are read from.
    pub fn objects(&self) -> &git::Repository {
        match self {
            Repository::Git(git) => git,
            Repository::Mercurial(hg) => hg.objects(),
        }
    }

    /// Has a push refused that sends more than so many bytes, or with `None` of any size.
    ///
    /// # Errors
    /// Where it cannot be: Mercurial takes what it is sent.
    pub fn limit_pushes(&self, bytes: Option<u64>) -> Result<()> {
        match self {
            Repository::Git(git) => git.limit_pushes(bytes),
            Repository::Mercurial(_) if bytes.is_none() => Ok(()),
            Repository::Mercurial(_) => {
                Err(Error::new("limits.push_bytes cannot be: Mercurial has no limit for what is pushed")
                    .hint("take the key out of the server's receiver.toml"))
            }
        }
    }

    /// The revision that a branch points to.
    pub fn tip(&self, branch: &str) -> Result<Option<Revision>> {
        match self {
            Repository::Git(git) => git.tip(branch),
            Repository::Mercurial(hg) => hg.tip(branch),
        }
    }

    /// The names of all branches.
    pub fn branches(&self) -> Result<Vec<String>> {
        match self {
            Repository::Git(git) => Ok(git.branches()),
            Repository::Mercurial(hg) => hg.branches(),
        }
    }

    /// The revision that a person means: a branch, a tag, a full or a short hash.
    pub fn resolve(&self, name: &str) -> Result<Revision> {
        match self {
            Repository::Git(git) => git.resolve(name),
            Repository::Mercurial(hg) => hg.resolve(name),
        }
    }

    /// Refuses what a branch leads to where that is no one revision.
    pub fn refuse(&self, branch: &str, revision: &Revision) -> Result<()> {
        let error = match self {
            Repository::Git(git) => git.refuse_non_commit(revision).map(Error::new),
            Repository::Mercurial(hg) => hg.refuse_branch(branch)?,
        };
        error.map_or(Ok(()), Err)
    }

    /// Whether what is kept of a revision's files is what the system itself has.
    pub fn prove(&self, revision: &Revision) -> Result<bool> {
        match self {
            Repository::Git(_) => Ok(true),
            Repository::Mercurial(hg) => hg.prove(revision),
        }
    }

    /// The first line of a revision's message, safe for a terminal.
    pub fn subject(&self, revision: &Revision) -> Result<String> {
        self.objects().subject(&self.commit(revision)?)
    }

    /// Whether `old` is among the ancestors of `new`: then a push from one to the other forced nothing.
    pub fn is_ancestor(&self, old: &Revision, new: &Revision) -> bool {
        match self {
            Repository::Git(git) => git.is_ancestor(old, new),
            Repository::Mercurial(hg) => hg.is_ancestor(old, new),
        }
    }

    /// Whether what is pushed lacks its parents: it comes from a shallow clone.
    pub fn lacks_history(&self, new: &Revision) -> Result<bool> {
        match self {
            Repository::Git(git) => git.lacks_history(new),
            Repository::Mercurial(_) => Ok(false),
        }
    }

    /// Everything in a revision, with what is wrong about its names.
    pub fn tree(&self, revision: &Revision) -> Result<Tree> {
        match self {
            Repository::Git(git) => git.tree(revision),
            Repository::Mercurial(hg) => hg.tree(revision),
        }
    }

    /// What has this name at the top of a revision; the rest of it is not looked at.
    pub fn at_top(&self, revision: &Revision, name: &str) -> Result<Option<AtTop>> {
        self.objects().at_top(&self.commit(revision)?, name)
    }

    /// The commit in the objects that has exactly a revision's files.
    fn commit(&self, revision: &Revision) -> Result<Revision> {
        match self {
            Repository::Git(_) => Ok(revision.clone()),
            Repository::Mercurial(hg) => hg.commit(revision),
        }
    }

    /// The targets of all symlinks of a tree, by path.
    pub fn link_targets(&self, tree: &Tree) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.objects().link_targets(tree)
    }

    /// The paths in which two revisions differ, those of submodules that moved among them.
    pub fn changed_paths(&self, old: &Revision, new: &Revision) -> Result<HashSet<Vec<u8>>> {
        self.objects().changed_paths(&self.commit(old)?, &self.commit(new)?)
    }

    /// Keeps a revision, and its contents, for as long as `name` is held.
    pub fn hold(&self, name: &str, revision: &Revision) -> Result<()> {
        self.objects().hold(name, &self.commit(revision)?)
    }

    /// Throws away what is kept of revisions that nobody holds, where that has become much; nobody waits for it.
    pub fn tidy(&self) -> Result<()> {
        match self {
            // `git receive-pack` does it by itself.
            Repository::Git(_) => Ok(()),
            Repository::Mercurial(hg) => hg.tidy(),
        }
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
