//! A database's place on disk: made fresh, measured, removed; nothing else is touched.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::open;
use crate::app::{AppName, Version};
use crate::data::database_name;
use crate::support::{Context, Error, Result};

/// What comes to be beside a database, by what it adds to the name: what SQLite keeps, and [`INCOMING`].
const SIDE_FILES: [&str; 4] = ["-wal", "-shm", "-journal", INCOMING];

/// What is to be loaded, where it came from another user.
pub(super) const INCOMING: &str = "-incoming";

/// The name of a version's database file: `agroguia_v4.sqlite3`.
pub fn file_name(app: &AppName, version: Version) -> Result<String> {
    Ok(format!("{}.sqlite3", database_name(app, version)?))
}

/// The address of a database for an app's settings: `sqlite:////abs/path`, percent-encoded.
pub fn url(path: &Path) -> String {
    format!("sqlite:///{}", percent_encoded(path))
}

/// The path with every byte that means something in a URL as `%XX`.
pub(super) fn percent_encoded(path: &Path) -> String {
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Makes a new, empty database in WAL mode, in a directory that must not be there yet.
pub fn create(path: &Path) -> Result<()> {
    make_directory(path)?;
    begin(path).inspect_err(|_| abandon(path))
}

/// Makes a new, empty database in WAL mode, in a directory that is there.
pub(super) fn begin(path: &Path) -> Result<()> {
    make_file(path)?;
    open::write_ahead(path)
}

/// Makes the directory of a database (0700), which must not be there already. Where its parent hands its group
/// down (set-group-ID), it is that group's as well, an app's user's, who keeps its databases there.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    let dir = directory(path)?;
    let cannot = || format!("cannot make the database directory {}", dir.display());
    DirBuilder::new().mode(0o700).create(dir).context(cannot)?;
    let made = fs::symlink_metadata(dir).context(cannot)?.permissions().mode();
    if made & 0o2000 != 0 {
        fs::set_permissions(dir, Permissions::from_mode(0o2770)).context(cannot)?;
    }
    Ok(())
}

/// Makes an empty file (0600) that must not be there yet, in a directory that is.
pub(super) fn make_file(path: &Path) -> Result<File> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.context(|| format!("cannot make the database {}", path.display()))
}

/// Takes back what [`make`] made, after a failure that is the one to report.
pub(super) fn abandon(path: &Path) {
    if let Err(error) = remove(path) {
        log::warn!("{}", error.one_line());
    }
}

/// Removes a version's database: its directory, and there only the database and what comes to be
/// beside it. A directory that is not there is removed already; one that holds anything else stays as it is.
pub fn remove(path: &Path) -> Result<()> {
    let dir = directory(path)?;
    let cannot = || format!("cannot remove the database directory {}", dir.display());
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::new(cannot()).caused_by(error)),
        Ok(found) if !found.is_dir() => {
            return Err(Error::new(format!("{}: it is not a directory", cannot())));
        }
        Ok(_) => {}
    }
    let ours = files(path);
    for entry in fs::read_dir(dir).context(cannot)? {
        let entry = entry.context(cannot)?;
        let known = ours.contains(&entry.path()) && entry.file_type().context(cannot)?.is_file();
        if !known {
            let name = entry.file_name();
            let stranger = name.to_string_lossy();
            return Err(Error::new(format!("{}: '{}' is not receiver's", cannot(), stranger.escape_debug()))
                .hint("move it elsewhere, then try again"));
        }
    }
    // The database goes first: without it the rest is nothing, while a database without its WAL
    // would look whole and lack what was written last.
    for file in &ours {
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::new(cannot()).caused_by(error));
            }
            _ => {}
        }
    }
    fs::remove_dir(dir).context(cannot)
}

/// Removes a file that this room made in a directory that is not its own, with what SQLite keeps beside it.
pub(super) fn abandon_file(path: &Path) {
    for file in files(path) {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {error}", file.display());
            }
            _ => {}
        }
    }
}

/// How many bytes a database takes, what lies in its WAL included.
pub fn size(path: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in [path.to_owned(), beside(path, "-wal")] {
        match fs::symlink_metadata(&file) {
            Ok(found) => bytes += found.len(),
            Err(error) if error.kind() == ErrorKind::NotFound && file != path => {}
            Err(error) => {
                return Err(
                    Error::new(format!("cannot measure the database {}", path.display())).caused_by(error)
                );
            }
        }
    }
    Ok(bytes)
}

/// The path with all links of its directory resolved, once the database and its side files are
/// proved to be regular files. A pipe in their place would make SQLite wait for ever.
pub(super) fn existing(path: &Path) -> Result<PathBuf> {
    let cannot = || format!("cannot open the database {}", path.display());
    let name = path.file_name().ok_or_else(|| Error::new(cannot()))?;
    let path = fs::canonicalize(directory(path)?).context(cannot)?.join(name);
    for file in files(&path) {
        match fs::symlink_metadata(&file) {
            Ok(found) if found.is_file() => {}
            Ok(_) => {
                return Err(Error::new(format!("{}: {} is not a regular file", cannot(), file.display())));
            }
            Err(error) if error.kind() == ErrorKind::NotFound && file != path => {}
            Err(error) => return Err(Error::new(cannot()).caused_by(error)),
        }
    }
    Ok(path)
}

/// Makes the names in a database's directory survive a loss of power.
pub(super) fn sync_names(path: &Path) -> Result<()> {
    sync(directory(path)?)
}

/// Makes the name of a database's directory survive a loss of power.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    directory(path)?.parent().map_or(Ok(()), sync)
}

fn sync(dir: &Path) -> Result<()> {
    let sync = || -> io::Result<()> { File::open(dir)?.sync_all() };
    sync().context(|| format!("cannot sync the directory {}", dir.display()))
}

/// The file that SQLite keeps beside a database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The database, then what comes to be beside it.
fn files(path: &Path) -> Vec<PathBuf> {
    let side = SIDE_FILES.iter().map(|suffix| beside(path, suffix));
    std::iter::once(path.to_owned()).chain(side).collect()
}

fn directory(path: &Path) -> Result<&Path> {
    path.parent()
        .filter(|_| path.is_absolute())
        .ok_or_else(|| Error::new(format!("the database path {} is not absolute", path.display())))
}
