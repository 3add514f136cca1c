//! The switch: the one atomic act that makes a release live. Nobody else renames `current`.

use std::path::Path;

use crate::app::guard::Guard;
use crate::app::record::{self, Record};
use crate::app::{ReleaseId, Version};
use crate::support::{Error, Result, files};

/// Makes a complete release live: a temporary link, one rename, and the directory synced.
///
/// # Errors
/// Where its record is not sealed, or its directory is gone; then nothing changed.
pub fn to(guard: &mut Guard, id: &ReleaseId) -> Result<()> {
    let app = guard.app();
    let sealed = Record::read(&app.record(id))?.is_some_and(|record| record.sealed.is_some());
    if !sealed || !files::is_directory(&app.release(id)) {
        return Err(Error::new(format!("{id} is not a complete release")));
    }
    if let Some(live) = record::live(app)?.filter(|live| live != id) {
        // Before the switch, so that at no moment an asset of the page that somebody reads is missing.
        files::link_unsynced(&Path::new("../versions").join(live.to_string()), &app.previous())?;
    }
    files::link_atomic(&Path::new("versions").join(id.to_string()), &app.current())
}

/// Points `last` of a version to its newest good release, or removes it where there is none.
pub fn mark_last(guard: &Guard, version: Version, newest: Option<&ReleaseId>) -> Result<()> {
    let link = guard.app().last(version);
    match newest {
        Some(id) => files::link_atomic(Path::new(id.name.as_str()), &link),
        None => files::remove_file(&link),
    }
}
