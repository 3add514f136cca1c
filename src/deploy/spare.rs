//! The spare: the tree of a release that is no longer kept, which the next deploy takes over.
//!
//! What a deploy costs grows with what changed: it renames the spare to the new release's name and replaces what
//! differs. No two releases ever share a file by that. Nothing runs in a spare: whoever makes one of a release, or
//! takes one, has the exclusive lock on its directory, and no process works there.
//!
//! A spare has its manifest; one without is none, and goes to the trash. While a release is being made of it, the
//! manifest of the old tree still lies under the old name and that of the new one is not written: what a death leaves of
//! this is a release that is not sealed, and is undone like any other.

use std::path::Path;

use super::prune;
use crate::app::guard::Guard;
use crate::app::record::Record;
use crate::app::{App, ReleaseId, ReleaseName};
use crate::support::files;
use crate::support::lock::DirectoryLock;
use crate::support::{Result, death};
use crate::vcs::export;
use crate::vcs::manifest::Manifest;

/// Whether nothing runs in a tree, and nothing can begin to as long as the lock is held.
fn claim(place: &Path) -> Option<DirectoryLock> {
    let lock = DirectoryLock::try_take(place).ok()??;
    prune::working_directories().iter().all(|directory| !directory.starts_with(place)).then_some(lock)
}

/// Takes the tree of a release out of `versions/`: it becomes the spare, where that can be, or goes to the trash.
///
/// Of what is made of a spare, no more is synced than what changes: a release that was not sealed is brought to disk first.
pub fn retire(guard: &Guard, id: &ReleaseId) -> Result<()> {
    let app = guard.app();
    let place = app.release(id);
    if !files::is_directory(&place) {
        return guard.discard_tree(id);
    }
    let manifest = Manifest::read(&app.manifest(&id.name)).ok().flatten();
    let (Some(manifest), Some(_lock)) = (manifest, claim(&place)) else { return guard.discard_tree(id) };
    let record = Record::read(&app.record(id)).ok().flatten();
    let is_sealed = record.is_some_and(|record| record.sealed.is_some());
    if !is_sealed && files::sync_filesystem(&place).is_err() {
        return guard.discard_tree(id);
    }
    guard.set_aside(id)?;
    // What stages made goes now: it takes room, and whoever takes the spare would have to remove it.
    let place = app.spare().join(id.name.as_str());
    if export::remove_unknown(&place, &manifest, &app.trash()).is_err() {
        guard.discard_spare()?;
    }
    Ok(())
}

/// A spare, as far as it was looked at.
pub struct Spare {
    name: ReleaseName,
    /// What its export wrote.
    manifest: Manifest,
}

/// Looks whether there is a spare. It is taken by [`take`], which looks again.
pub fn look(app: &App) -> Option<Spare> {
    let names = files::names_in(&app.spare()).ok()?;
    let [name] = names.as_slice() else { return None };
    let name = name.parse::<ReleaseName>().ok()?;
    let manifest = Manifest::read(&app.manifest(&name)).ok()??;
    Some(Spare { name, manifest })
}

/// Moves the spare that was seen to the place of a release that is being made; answers what its export had written.
/// `None` where it cannot be taken.
pub fn take(guard: &Guard, seen: Option<Spare>, id: &ReleaseId) -> Result<Option<Manifest>> {
    let app = guard.app();
    let names = files::names_in(&app.spare())?;
    let Some(Spare { name, manifest }) = seen.filter(|seen| names == [seen.name.as_str()]) else {
        return give_up(guard);
    };
    let place = app.spare().join(name.as_str());
    let Some(_lock) = claim(&place).filter(|_| files::is_directory(&place)) else { return give_up(guard) };
    guard.take_spare(&name, id)?;
    death::point("spare-taken");
    // From here on it is not what that manifest says.
    files::remove_file(&app.manifest(&name))?;
    Ok(Some(manifest))
}

fn give_up(guard: &Guard) -> Result<Option<Manifest>> {
    guard.discard_spare().map(|_| None)
}

/// Removes manifests that belong to nothing, and a spare that has none.
pub fn sweep(guard: &Guard, standing: &dyn Fn(&str) -> bool) -> Result<()> {
    let app = guard.app();
    let spares = files::names_in(&app.spare())?;
    if spares.len() > 1 || spares.iter().any(|name| !has_manifest(app, name)) {
        guard.discard_spare()?;
    }
    for name in files::names_in(&app.manifests())? {
        if !standing(&name) && !spares.contains(&name) {
            files::remove_file(&app.manifests().join(name))?;
        }
    }
    Ok(())
}

fn has_manifest(app: &App, name: &str) -> bool {
    name.parse().is_ok_and(|name| files::exists(&app.manifest(&name)))
}
