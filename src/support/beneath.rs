//! Files below a directory that others may write to: opened without following a single symlink.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};

use super::files::{self, TEMPORARY};
use super::{Context, Error, Result};

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn top(directory: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, directory, DIRECTORY, Mode::empty())
        .context(|| format!("cannot open {}", directory.display()))
}

/// Opens the regular file at `path`, which is relative, below `directory`.
pub fn read(directory: &Path, path: &Path) -> Result<File> {
    let cannot = || format!("cannot open {} in {}", path.display(), directory.display());
    // Without waiting: a FIFO in its place must not hold anybody up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(top(directory)?, path, flags, Mode::empty(), INSIDE).context(cannot)?;
    let file = File::from(opened);
    if file.metadata().is_ok_and(|about| about.is_file()) {
        return Ok(file);
    }
    Err(Error::new(format!("{} is not a regular file", directory.join(path).display())))
}

/// Writes what `input` holds to the file at `path` below `directory`, whole or not at all; makes the
/// directories between. Answers how many bytes it has.
pub fn write(directory: &Path, path: &Path, input: &mut dyn Read, mode: u32) -> Result<u64> {
    let cannot = || format!("cannot write {} in {}", path.display(), directory.display());
    let Some(name) = path.file_name() else {
        return Err(Error::usage(format!("'{}' names no file", path.display())));
    };
    let parent = make_directories(directory, path.parent().unwrap_or(Path::new("")))?;
    let temporary = format!("{TEMPORARY}{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
    let written = (|| {
        let mut file = File::from(rustix::fs::openat(&parent, &temporary, flags, Mode::from_raw_mode(mode))?);
        let length = std::io::copy(input, &mut file)?;
        file.flush()?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        files::rename_at(&parent, temporary.as_ref(), name)?;
        rustix::fs::fsync(&parent)?;
        Ok::<u64, std::io::Error>(length)
    })();
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
    }
    written.context(cannot)
}

fn make_directories(directory: &Path, path: &Path) -> Result<OwnedFd> {
    let mut place = top(directory)?;
    for component in path.components() {
        let Component::Normal(name) = component else {
            return Err(Error::usage(format!("'{}' leads elsewhere", path.display())));
        };
        let cannot = || format!("cannot make the directory {} in {}", path.display(), directory.display());
        match rustix::fs::mkdirat(&place, name, Mode::from_raw_mode(0o755)) {
            Err(error) if error != rustix::io::Errno::EXIST => return Err(error).context(cannot),
            _ => {}
        }
        place = rustix::fs::openat(&place, name, DIRECTORY, Mode::empty()).context(cannot)?;
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_symlink_leads_out() {
        let place = tempfile::tempdir().unwrap();
        let inside = place.path().join("shared");
        std::fs::create_dir(&inside).unwrap();
        files::link_new(Path::new("/etc"), &inside.join("out")).unwrap();
        files::link_new(Path::new("/etc/passwd"), &inside.join("file")).unwrap();
        assert!(read(&inside, Path::new("out/passwd")).is_err());
        assert!(read(&inside, Path::new("file")).is_err());
        assert!(read(&inside, Path::new("../shared/x")).is_err());
        assert!(write(&inside, Path::new("out/x"), &mut &b"x"[..], 0o644).is_err());
        assert!(write(&inside, Path::new("../x"), &mut &b"x"[..], 0o644).is_err());
        // A symlink in the file's own place is replaced, and what it pointed to stays.
        assert_eq!(write(&inside, Path::new("file"), &mut &b"new"[..], 0o600).unwrap(), 3);
        assert_eq!(std::fs::read(inside.join("file")).unwrap(), b"new");
        assert!(std::fs::symlink_metadata(inside.join("file")).unwrap().is_file());
    }

    #[test]
    fn directories_between_are_made() {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), Path::new("a/b/c"), &mut &b"x"[..], 0o644).unwrap();
        assert_eq!(std::fs::read(place.path().join("a/b/c")).unwrap(), b"x");
    }
}
