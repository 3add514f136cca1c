//! Keeps the objects small: what no release holds goes, and the rest lies in one pack.
//!
//! Done when nobody waits, and only when loose objects outnumber half of what is packed, so that it costs no more
//! than what was brought since. Who brings a changeset holds a lock that this one does not get meanwhile: an object
//! that is there already is not written again, and must not go.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use git2::Oid;
use rustix::fs::FlockOperation;

use super::Repository;
use crate::support::{Context, Error, Result, files};

/// So many loose objects are no trouble.
const FEW: u64 = 2000;

/// Bytes of a pack's index for each object in it: hash, sum, offset.
const INDEXED: u64 = 28;

impl Repository {
    /// The lock under which objects are brought, or thrown away; `None` where others have it.
    pub(super) fn lock_objects(&self, how: FlockOperation) -> Result<Option<File>> {
        let file = File::open(super::place(&self.path)).context(|| "cannot lock the objects")?;
        match rustix::fs::flock(&file, how) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            other => other.map(|()| Some(file)).context(|| "cannot lock the objects"),
        }
    }

    /// Throws away what no release holds, where that has become much.
    pub fn tidy(&self) -> Result<()> {
        let place = self.objects.path().join("objects");
        let loose: Vec<String> =
            files::names_in(&place)?.into_iter().filter(|name| name.len() == 2).collect();
        let mut many = 0;
        for directory in &loose {
            many += files::names_in(&place.join(directory))?.len() as u64;
        }
        if many < FEW || many < packed(&place.join("pack"))? / 2 {
            return Ok(());
        }
        let Some(_lock) = self.lock_objects(FlockOperation::NonBlockingLockExclusive)? else { return Ok(()) };
        let before: BTreeSet<String> = files::names_in(&place.join("pack"))?.into_iter().collect();
        self.pack_what_is_held()?;
        files::sync_filesystem(&place)?;
        let after: BTreeSet<String> = files::names_in(&place.join("pack"))?.into_iter().collect();
        // Where nothing new was written, what is held lies in the old pack.
        if after != before {
            before.iter().try_for_each(|name| files::remove_file(&place.join("pack").join(name)))?;
        }
        // The directories stay: they are shared.
        for directory in loose.iter().map(|name| place.join(name)) {
            files::names_in(&directory)?
                .iter()
                .try_for_each(|name| files::remove_file(&directory.join(name)))?;
        }
        Ok(())
    }

    /// Forgets the changesets that no release holds, but for the last, and packs the others.
    fn pack_what_is_held(&self) -> Result<()> {
        let git = self.objects.raw();
        let trouble = || "cannot pack what is held";
        let mut held: BTreeSet<Oid> = BTreeSet::new();
        for reference in git.references_glob("refs/receiver/*").context(trouble)?.flatten() {
            held.extend(reference.target());
        }
        let last = self.latest().map(|(revision, _)| format!("refs/changesets/{revision}"));
        for mut reference in git.references_glob("refs/changesets/*").context(trouble)?.flatten() {
            match reference.target() {
                Some(target) if reference.name().ok() == last.as_deref() => drop(held.insert(target)),
                Some(target) if held.contains(&target) => {}
                _ => reference.delete().context(trouble)?,
            }
        }
        let mut pack = git.packbuilder().context(trouble)?;
        for commit in held {
            pack.insert_commit(commit).context(trouble)?;
        }
        let objects = git.odb().context(trouble)?;
        let mut writer = objects.packwriter().context(trouble)?;
        let mut failed = None;
        let written =
            pack.foreach(|bytes| writer.write_all(bytes).map_err(|error| failed = Some(error)).is_ok());
        if let Some(error) = failed {
            return Err(Error::new(trouble()).caused_by(error));
        }
        written.context(trouble)?;
        writer.commit().map(drop).context(trouble)
    }
}

/// How many objects lie in packs, by the size of their indexes.
fn packed(place: &Path) -> Result<u64> {
    let mut bytes = 0;
    for name in files::names_in(place)? {
        let file = place.join(name);
        if file.extension().is_some_and(|end| end == "idx") {
            bytes += std::fs::metadata(&file).map_or(0, |about| about.len());
        }
    }
    Ok(bytes / INDEXED)
}
