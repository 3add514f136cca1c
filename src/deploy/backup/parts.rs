//! The parts of a backup: by what path each stands in the stream, and what may stand there at all.
//!
//! A stream that is restored comes from anywhere. What is not named here is refused: another path, one that leads
//! out, a device; of symlinks only those of `shared/` that stay in it, whatever else is a link there.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use crate::support::beneath::stays_within;
use crate::support::{Error, Result};

/// The first part: what the stream is.
pub const HEAD: &str = "receiver-backup.json";
/// The last part: the sum of every other.
pub const TAIL: &str = "receiver-backup-end.json";
/// The repository, as `git bundle` or `hg bundle` writes it: `git clone` or `hg clone` reads it, too.
pub const REPOSITORY: &str = "repo.bundle";
/// The bookmarks of Mercurial's, which its bundle has not.
pub const BOOKMARKS: &str = "bookmarks";
/// The server's settings.
pub const SETTINGS: &str = "receiver.toml";
/// What `receiver env` keeps.
pub const ENVIRONMENT: &str = "env.json";
/// The keys that name the app.
pub const KEYS: &str = "keys.toml";
/// The journal.
pub const JOURNAL: &str = "journal.jsonl";
/// The password's hash for versions that are not live.
pub const PASSWORDS: &str = "versions.htpasswd";
/// The page that everyone gets, where maintenance is on.
pub const MAINTENANCE: &str = "maintenance.html";
/// There where the app was put down.
pub const DOWN: &str = "down";
/// `records/N/NAME.toml`: the records of complete releases.
pub const RECORDS: &str = "records";
/// `failed/NAME.toml`: those of releases that failed.
pub const FAILED: &str = "failed";
/// `dumps/NAME.SUFFIX`: the databases.
pub const DUMPS: &str = "dumps";
/// `shared/…`: what outlives releases.
pub const SHARED: &str = "shared";

/// What kind a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symlink, and what it leads to.
    Link(PathBuf),
}

/// Refuses a part that no backup of receiver's has.
pub fn refuse_strange(path: &Path, kind: &Kind) -> Result<()> {
    let names: Option<Vec<&OsStr>> = path
        .components()
        .map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let strange = || Error::new(format!("the backup has a part that cannot be: {}", path.display()));
    let names = names.ok_or_else(strange)?;
    let first = names.first().and_then(|name| name.to_str()).ok_or_else(strange)?;
    let known = match (first, names.len(), kind) {
        (
            REPOSITORY | BOOKMARKS | SETTINGS | ENVIRONMENT | JOURNAL | KEYS | PASSWORDS | MAINTENANCE | DOWN
            | HEAD | TAIL,
            1,
            Kind::File,
        )
        | (RECORDS, 3, Kind::File)
        | (FAILED | DUMPS, 2, Kind::File)
        | (SHARED, _, Kind::Directory)
        | (SHARED, 2.., Kind::File) => true,
        (SHARED, depth @ 2.., Kind::Link(target)) => stays_within(depth - 2, target),
        _ => false,
    };
    if known { Ok(()) } else { Err(strange()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_backup_has_is_refused() {
        let link = |target: &str| Kind::Link(target.into());
        for (path, kind) in [
            ("receiver.toml", Kind::File),
            ("records/0/x.toml", Kind::File),
            ("shared", Kind::Directory),
            ("shared/a/b", Kind::File),
            ("shared/a/b", link("../c")),
        ] {
            refuse_strange(Path::new(path), &kind).unwrap();
        }
        for (path, kind) in [
            ("/etc/passwd", Kind::File),
            ("shared/../../x", Kind::File),
            ("shared", link("/etc")),
            ("shared/a", link("/etc")),
            ("shared/a", link("..")),
            ("receiver.toml", link("shared/x")),
            ("receiver/lock", Kind::File),
            ("repo.git/hooks/post-receive", Kind::File),
            ("dumps", link("shared")),
            ("shared", Kind::File),
        ] {
            assert!(refuse_strange(Path::new(path), &kind).is_err(), "{path}");
        }
    }
}
