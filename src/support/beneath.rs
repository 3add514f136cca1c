//! Files below a directory that others may write to: opened without following a single symlink.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};

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
    written(directory, path, input, mode, None)
}

/// The same, of this time in seconds.
pub fn replace(directory: &Path, path: &Path, input: &mut dyn Read, mode: u32, mtime: u64) -> Result<u64> {
    written(directory, path, input, mode, Some(UNIX_EPOCH + Duration::from_secs(mtime)))
}

fn written(
    directory: &Path,
    path: &Path,
    input: &mut dyn Read,
    mode: u32,
    mtime: Option<SystemTime>,
) -> Result<u64> {
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
        mtime.map_or(Ok(()), |mtime| file.set_modified(mtime))?;
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

/// Makes a directory below `directory`, and those above it; one that is there stays as it is.
pub fn make_directory(directory: &Path, path: &Path, mode: u32) -> Result<()> {
    let made = make_directories(directory, path)?;
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let opened = rustix::fs::fchmod(&made, Mode::from_raw_mode(mode));
    opened.context(|| format!("cannot make the directory {} in {}", path.display(), directory.display()))
}

/// Makes a new file at `path` below `directory` of what `input` holds, of this time in seconds, and makes the
/// directories between. What is there already is refused. Not synced: for many files whose filesystem is synced
/// after them.
pub fn place(directory: &Path, path: &Path, input: &mut dyn Read, mode: u32, mtime: u64) -> Result<()> {
    let cannot = || format!("cannot write {} in {}", path.display(), directory.display());
    let Some(name) = path.file_name() else {
        return Err(Error::usage(format!("'{}' names no file", path.display())));
    };
    let parent = make_directories(directory, path.parent().unwrap_or(Path::new("")))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file =
        File::from(rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600)).context(cannot)?);
    let placed = std::io::copy(input, &mut file)
        .and_then(|_| file.set_permissions(std::fs::Permissions::from_mode(mode)))
        .and_then(|()| file.set_modified(UNIX_EPOCH + Duration::from_secs(mtime)));
    placed.context(cannot)
}

/// What lies in a directory.
#[derive(Debug)]
pub struct Found {
    /// Its path, below the directory that was asked for.
    pub path: PathBuf,
    /// What it is.
    pub kind: FileType,
    /// Its permission bits.
    pub mode: u32,
    /// Its modification time, in seconds.
    pub mtime: u64,
    /// Its bytes.
    pub size: u64,
}

/// What lies in the directory at `path` below `directory`, by name; the names alone are followed.
pub fn list(directory: &Path, path: &Path) -> Result<Vec<Found>> {
    let cannot = || format!("cannot list {}", directory.join(path).display());
    let place = if path.as_os_str().is_empty() {
        top(directory)?
    } else {
        rustix::fs::openat2(top(directory)?, path, DIRECTORY, Mode::empty(), INSIDE).context(cannot)?
    };
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(&place).context(cannot)? {
        let entry = entry.context(cannot)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // What goes away meanwhile is not there.
        let Ok(about) = rustix::fs::statat(&place, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        found.push(Found {
            path: path.join(OsStr::from_bytes(name.to_bytes())),
            kind: FileType::from_raw_mode(about.st_mode),
            mode: about.st_mode & 0o777,
            mtime: u64::try_from(about.st_mtime).unwrap_or(0),
            size: u64::try_from(about.st_size).unwrap_or(0),
        });
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// The bytes of the regular file at `path` below `directory`, and its time in seconds; `None` where there is none.
pub fn size_and_time(directory: &Path, path: &Path) -> Result<Option<(u64, u64)>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(opened) = rustix::fs::openat2(top(directory)?, path, flags, Mode::empty(), ResolveFlags::BENEATH)
    else {
        return Ok(None);
    };
    let about = rustix::fs::fstat(&opened).context(|| format!("cannot look at {}", path.display()))?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let size = u64::try_from(about.st_size).unwrap_or(0);
    Ok(Some((size, u64::try_from(about.st_mtime).unwrap_or(0))))
}

/// What the symlink at `path` below `directory` leads to.
pub fn target(directory: &Path, path: &Path) -> Result<PathBuf> {
    let cannot = || format!("cannot read the link {}", directory.join(path).display());
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = rustix::fs::openat2(top(directory)?, path, flags, Mode::empty(), ResolveFlags::BENEATH)
        .context(cannot)?;
    let target = rustix::fs::readlinkat(&link, "", Vec::new()).context(cannot)?;
    Ok(PathBuf::from(OsStr::from_bytes(target.to_bytes())))
}

/// Whether a symlink, so many directories below the top, stays below it, also where what it names on its way is
/// such a link itself: it goes up first, by no more than it is deep, and then only down.
pub fn stays_within(depth: usize, target: &Path) -> bool {
    let mut ups = 0;
    let mut goes_down = false;
    for component in target.components() {
        match component {
            Component::ParentDir if !goes_down => ups += 1,
            Component::Normal(_) => goes_down = true,
            Component::CurDir => {}
            _ => return false,
        }
    }
    ups <= depth
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
    fn what_lies_there_is_listed_and_never_gone_through() {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), Path::new("a/b"), &mut &b"x"[..], 0o640).unwrap();
        files::link_new(Path::new("/etc"), &place.path().join("out")).unwrap();
        let all = list(place.path(), Path::new("")).unwrap();
        assert_eq!(
            all.iter().map(|one| one.kind).collect::<Vec<_>>(),
            [FileType::Directory, FileType::Symlink]
        );
        let inner = list(place.path(), Path::new("a")).unwrap();
        assert_eq!((inner[0].path.as_path(), inner[0].mode, inner[0].size), (Path::new("a/b"), 0o640, 1));
        assert!(list(place.path(), Path::new("out")).is_err());
        assert!(list(place.path(), Path::new("..")).is_err());
        assert_eq!(target(place.path(), Path::new("out")).unwrap(), Path::new("/etc"));
        assert!(super::place(place.path(), Path::new("out/x"), &mut &b"x"[..], 0o600, 0).is_err());
        assert!(super::place(place.path(), Path::new("a/b"), &mut &b"x"[..], 0o600, 0).is_err());
    }

    #[test]
    fn a_link_stays_within_whatever_it_leads_through() {
        for (depth, target) in [(0, "a"), (0, "a/b"), (1, "../a"), (2, "../../a"), (0, "."), (0, "./a")] {
            assert!(stays_within(depth, Path::new(target)), "{depth} {target}");
        }
        for (depth, target) in [(0, ".."), (0, "/etc"), (1, "../../a"), (2, "a/../b"), (1, "a/../..")] {
            assert!(!stays_within(depth, Path::new(target)), "{depth} {target}");
        }
    }

    #[test]
    fn directories_between_are_made() {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), Path::new("a/b/c"), &mut &b"x"[..], 0o644).unwrap();
        assert_eq!(std::fs::read(place.path().join("a/b/c")).unwrap(), b"x");
    }
}
