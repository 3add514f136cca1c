//! The store of git objects that the files of changesets are brought into.
//!
//! On a server that was set up two accounts write to it: that of the hook, and the worker's. They share a group, to
//! which the repository belongs, and each has a umask of its own. So every directory that either would make is made
//! here, once, as the one around it is; what lies in them is only ever replaced.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::{Context, Result, files};
use crate::vcs::git;

/// For the group to write to, which new files belong to.
const OF_GROUP: u32 = 0o2070;

/// Opens it; where it is not there, or was thrown away, an empty one is made.
pub(super) fn open(repository: &Path) -> Result<git::Repository> {
    let around = super::place(repository);
    let store = around.join("objects.git");
    if !store.is_dir() {
        let new = around.join(format!("objects.new-{}", std::process::id()));
        files::remove_tree(&new)?;
        make(&new).context(|| format!("cannot make {}", new.display()))?;
        let about = std::fs::metadata(&around).context(|| format!("cannot look at {}", around.display()))?;
        if about.mode() & OF_GROUP == OF_GROUP {
            share(&new)?;
        }
        match files::move_new(&new, &store) {
            // Somebody else was faster.
            Err(_) if store.is_dir() => files::remove_tree(&new)?,
            moved => moved?,
        }
    }
    git::Repository::open(&store)
}

/// Lets the group write to all of a store that was made before the repository was a group's; where there is none, nothing
/// is made. Only where nobody else can write to the repository yet.
pub(super) fn give_to_group(repository: &Path) -> Result<()> {
    let store = super::place(repository).join("objects.git");
    if store.is_dir() { share(&store) } else { Ok(()) }
}

fn make(store: &Path) -> std::result::Result<(), git2::Error> {
    let mut options = git2::RepositoryInitOptions::new();
    options.bare(true).external_template(false);
    git2::Repository::init_opts(store, &options).map(drop)
}

/// Makes the directories that come with time, and lets the group write to all of them.
fn share(store: &Path) -> Result<()> {
    let fan_out = (0..=u8::MAX).map(|byte| format!("objects/{byte:02x}"));
    let named = ["", "objects", "objects/info", "objects/pack", "refs", "refs/changesets", "refs/receiver"];
    let mut all = named.map(str::to_owned).into_iter().chain(fan_out);
    all.try_for_each(|name| files::make_directory(&store.join(name), 0o2775))
}
