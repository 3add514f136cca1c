//! What outlives releases: files and directories of `shared/`, linked into each.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::hand;
use crate::app::App;
use crate::app::settings::Shared;
use crate::support::{Error, Result, files};

/// Links what outlives releases into this one.
///
/// # Errors
/// Where a file is not in `shared/`, or would lie behind a symlink of the revision.
pub fn link(app: &App, release: &Path, shared: &Shared) -> Result<()> {
    for file in &shared.files {
        let source = app.shared().join(file.as_path());
        if !source.is_file() {
            return Err(Error::new(format!(
                "shared/{} is not there, and the release needs it",
                file.as_str()
            ))
            .hint(bring(app, file.as_str())));
        }
        link_one(release, file.as_path())?;
    }
    for directory in &shared.dirs {
        let source = app.shared().join(directory.as_path());
        if !source.exists() {
            seed(release, directory.as_path(), &source)?;
            hand::give_shared(app, directory)?;
        }
        link_one(release, directory.as_path())?;
    }
    Ok(())
}

/// How a shared file is brought. A preview has a `shared/` of its own, and no file of its parent's.
fn bring(app: &App, file: &str) -> String {
    let bring = format!("`receiver put {} {file} < FILE` brings it", app.name());
    match app.lineage() {
        Ok(Some(lineage)) if lineage.preview => format!(
            "{bring}; a preview has a shared/ of its own: what it needs can also be said in [preview.env] of {}, \
             where the code does without the file then",
            app.sibling(&lineage.parent).server_config().display()
        ),
        _ => bring,
    }
}

/// The first release's own files in a directory that is to be shared are what it begins with.
fn seed(release: &Path, path: &Path, source: &Path) -> Result<()> {
    let inside = release.join(path);
    let parent = source.parent().unwrap_or(source);
    if !files::is_directory(parent) {
        files::make_directory(parent, 0o755)?;
    }
    let device = |path: &Path| std::fs::metadata(path).map(|about| about.dev()).ok();
    // Moved, it is there whole or not at all, and its symlinks stay symlinks.
    if files::is_directory(&inside) && device(&inside) == device(parent) {
        return files::move_new(&inside, source);
    }
    files::make_directory(source, 0o755)?;
    if files::is_directory(&inside) {
        let options = fs_extra::dir::CopyOptions::new().content_only(true);
        fs_extra::dir::copy(&inside, source, &options)
            .map_err(|error| Error::new(format!("cannot fill {}", source.display())).caused_by(error))?;
    }
    Ok(())
}

fn link_one(release: &Path, path: &Path) -> Result<()> {
    let place = release.join(path);
    // A link among the directories above it would take what is made, and removed, here elsewhere.
    let mut above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above.find(|above| release.join(above).is_symlink()) {
        return Err(Error::new(format!(
            "shared {} lies behind the symlink {} of the revision",
            path.display(),
            above.display()
        )));
    }
    if let Some(parent) = place.parent() {
        files::make_directory(parent, 0o755)?;
    }
    if files::is_directory(&place) {
        files::remove_tree(&place)?
    } else {
        files::remove_file(&place)?
    }
    // Relative, so that the app may be moved: from the link up to ROOT/APP, then down into shared/.
    let ups = path.components().count() + 2;
    let target: PathBuf = std::iter::repeat_n("..", ups).collect();
    files::link_new(&target.join("shared").join(path), &place)
}
