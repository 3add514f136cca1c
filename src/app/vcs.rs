//! What an app is pushed to with.

use std::path::Path;

use crate::support::files;

/// What an app is pushed to with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vcs {
    /// `git push`.
    Git,
    /// `hg push`.
    Mercurial,
}

impl Vcs {
    /// That of a repository, by what is there.
    pub fn of(repository: &Path) -> Vcs {
        if files::is_directory(&repository.join(".hg")) { Vcs::Mercurial } else { Vcs::Git }
    }

    /// The name of such a repository in an app.
    pub fn directory(self) -> &'static str {
        match self {
            Vcs::Git => "repo.git",
            Vcs::Mercurial => "repo.hg",
        }
    }

    /// The branch that a new repository begins with.
    pub fn first_branch(self) -> &'static str {
        match self {
            Vcs::Git => "main",
            Vcs::Mercurial => "default",
        }
    }
}

impl std::fmt::Display for Vcs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Vcs::Git => "git",
            Vcs::Mercurial => "hg",
        })
    }
}
