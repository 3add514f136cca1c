//! What an app is pushed to with, and where.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::{App, ReleaseName};
use crate::support::files;

/// What an app is pushed to with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Vcs {
    /// `git push`.
    Git,
    /// `hg push`.
    #[value(name = "hg")]
    Mercurial,
}

impl Vcs {
    /// That of a repository, by what is there.
    pub fn of(repository: &Path) -> Vcs {
        if files::is_directory(&repository.join(".hg")) { Vcs::Mercurial } else { Vcs::Git }
    }

    /// The name of such a repository in an app.
    fn directory(self) -> &'static str {
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

impl App {
    /// The repository that is pushed to; that of its parent for the app of a branch.
    pub fn repository(&self) -> PathBuf {
        let there = self.repository_of(Vcs::Mercurial);
        if files::is_directory(&there) { there } else { self.repository_of(Vcs::Git) }
    }

    /// The repository that is pushed to, where it is made for a system.
    pub fn repository_of(&self, vcs: Vcs) -> PathBuf {
        let home = match self.name().parent() {
            Some(parent) => self.root().join(parent.as_str()),
            None => self.directory().to_owned(),
        };
        home.join(vcs.directory())
    }

    /// What it is pushed to with.
    pub fn vcs(&self) -> Vcs {
        Vcs::of(&self.repository())
    }

    /// The name by which the revision of a release is held in the repository. Apps that share one hold
    /// under names of their own: the same revision may become a release of each in the same second.
    pub fn hold_name(&self, release: &ReleaseName) -> String {
        match self.name().parent() {
            Some(_) => format!("{}/{release}", self.name()),
            None => release.to_string(),
        }
    }
}
