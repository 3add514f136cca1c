//! Compares a release with its revision, byte for byte. What stages added is counted, not judged.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;

use super::look::{self, Scene};
use crate::app::{App, ReleaseId};
use crate::support::text::printable_bytes;
use crate::support::{Context, Error, Result};
use crate::vcs::objects::Reader;
use crate::vcs::submodules::{self, Part};
use crate::vcs::{Entry, Kind, Objects, Repository};

/// What a comparison found.
#[derive(Debug, Serialize)]
pub struct Found {
    /// Files and symlinks of the revision that were compared.
    pub compared: usize,
    /// Files and symlinks that the revision does not have.
    pub extra: usize,
    /// What is not as it was pushed.
    pub differences: Vec<Difference>,
}

/// A file that is not as it was pushed.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Its path, safe for a terminal.
    pub path: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Compares a kept release with its revision.
pub fn release(app: &App, scene: &Scene, id: &ReleaseId) -> Result<Found> {
    let record =
        scene.releases.sealed(id).ok_or_else(|| Error::usage(format!("{id} is not a complete release")))?;
    let repository = Repository::open(&app.repository())?;
    let tree = repository.tree(&record.revision)?;
    let settings = look::settings_of(app, record)?;
    let mut parts =
        submodules::expand(repository.objects(), &tree, &settings.export.submodules, &app.submodules())?;
    parts.push(Part::new(repository.objects().path().to_owned(), tree));
    let shared: Vec<Vec<u8>> = settings
        .shared
        .files
        .iter()
        .chain(&settings.shared.dirs)
        .map(|path| path.as_str().as_bytes().to_vec())
        .collect();
    let top = app.release(id);
    let mut found = Found { compared: 0, extra: 0, differences: Vec::new() };
    if !repository.prove(&record.revision)? {
        return Err(Error::new(format!(
            "what is kept of {} is not what the repository has",
            record.revision.short()
        ))
        .hint(format!("remove {}: it is made again", repository.objects().path().display())));
    }
    let mut known = BTreeSet::new();
    let is_shared = |path: &[u8]| {
        shared.iter().any(|shared| path == *shared || path.starts_with(&[shared.as_slice(), b"/"].concat()))
    };
    for part in &parts {
        let objects = Objects::open(&part.repository)?;
        let reader = objects.reader();
        // What lies behind a link in a directory's place may be equal, and is not of this release.
        for directory in part.tree.directories.iter().filter(|directory| !is_shared(directory)) {
            let about = std::fs::symlink_metadata(top.join(OsStr::from_bytes(directory)));
            if about.is_ok_and(|about| !about.is_dir()) {
                let path = printable_bytes(directory);
                found.differences.push(Difference { path, what: "is no directory any more" });
            }
        }
        for entry in part.tree.entries.iter().filter(|entry| entry.kind != Kind::Submodule) {
            known.insert(entry.path.clone());
            // What lies in shared/ is meant to change.
            if is_shared(&entry.path) {
                continue;
            }
            found.compared += 1;
            if let Some(what) = compare(&reader, &top, entry)? {
                found.differences.push(Difference { path: printable_bytes(&entry.path), what });
            }
        }
    }
    found.extra = count_extra(&top, &known);
    Ok(found)
}

fn compare(reader: &Reader, top: &Path, entry: &Entry) -> Result<Option<&'static str>> {
    let path = top.join(OsStr::from_bytes(&entry.path));
    let Ok(about) = std::fs::symlink_metadata(&path) else { return Ok(Some("is missing")) };
    let wanted = reader.read(entry.id)?;
    Ok(match entry.kind {
        Kind::Link if !about.is_symlink() => Some("is no symlink any more"),
        Kind::Link => {
            let target = std::fs::read_link(&path).context(|| format!("cannot read {}", path.display()))?;
            (target.as_os_str().as_bytes() != wanted).then_some("points elsewhere")
        }
        _ if !about.is_file() => Some("is no regular file any more"),
        Kind::File { executable } if (about.permissions().mode() & 0o100 != 0) != executable => {
            Some("has another executable bit")
        }
        _ if about.len() != wanted.len() as u64 => Some("has another content"),
        _ => {
            let bytes = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
            (bytes != wanted).then_some("has another content")
        }
    })
}

fn count_extra(top: &Path, known: &BTreeSet<Vec<u8>>) -> usize {
    let mut extra = 0;
    let mut waiting = vec![top.to_owned()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(path);
            } else if let Ok(inside) = path.strip_prefix(top) {
                extra += usize::from(!known.contains(inside.as_os_str().as_bytes()));
            }
        }
    }
    extra
}
