//! Every change to a file, link or directory that must survive a death is made here, and nowhere else.
//!
//! Why the order is safe: what is new is written beside its place under a name that nobody reads, is
//! synced, takes its place by one rename, and then the directory is synced. A reader sees the old or
//! the new; a power cut leaves the old or the new.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};

use super::{Context, Error, Result};

/// The beginning of the names under which files are prepared; what has such a name after a death is
/// swept away by whoever holds the app's lock.
pub const TEMPORARY: &str = ".receiver-new-";

fn beside(path: &Path) -> Result<(PathBuf, PathBuf)> {
    let name = path.file_name().and_then(OsStr::to_str);
    let (Some(directory), Some(name)) = (path.parent(), name) else {
        return Err(Error::new(format!("{} has no place to be written to", path.display())));
    };
    let temporary = format!("{TEMPORARY}{}-{}", std::process::id(), name);
    Ok((directory.to_owned(), directory.join(temporary)))
}

/// Replaces, or makes, the file at `path` by `bytes`, with these permission bits: whole or not at all.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_atomic_for(path, bytes, mode, None)
}

/// The same for a group other than the one that new files here have.
pub fn write_atomic_for(path: &Path, bytes: &[u8], mode: u32, group: Option<u32>) -> Result<()> {
    let (directory, temporary) = beside(path)?;
    let written = (|| {
        let _ = std::fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        if let Some(group) = group {
            std::os::unix::fs::fchown(&file, None, Some(group))?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.context(|| format!("cannot write {}", path.display()))?;
    sync_directory(&directory)
}

/// Replaces, or makes, the file at `path` whole or not at all for whoever reads it, but not synced: for
/// what means nothing after a power cut.
pub fn write_unsynced(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_unsynced_by(path, mode, |file| file.write_all(bytes))
}

/// The same for what is too long to have in memory: `write` writes it, piece by piece.
pub fn write_unsynced_by(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let (_, temporary) = beside(path)?;
    let written = (|| {
        let _ = std::fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        write(&mut file)?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.context(|| format!("cannot write {}", path.display()))
}

/// Writes over the file at `path`, or makes it: for what whoever reads it can tell half of. Nothing waits for the room
/// of another file, as a rename over this one would.
pub fn overwrite(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let written = rustix::fs::open(path, flags, Mode::from_raw_mode(mode)).and_then(|opened| {
        rustix::io::pwrite(&opened, bytes, 0).and_then(|count| rustix::fs::ftruncate(&opened, count as u64))
    });
    written.context(|| format!("cannot write {}", path.display()))
}

/// A file that is written beside its place, and not in it yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Prepared {
    temporary: PathBuf,
    path: PathBuf,
}

/// Writes what will be at `path`. It is not synced: that is for whoever syncs more at the same time.
pub fn prepare(path: &Path, bytes: &[u8], mode: u32) -> Result<Prepared> {
    let (_, temporary) = beside(path)?;
    let _ = std::fs::remove_file(&temporary);
    let prepared = Prepared { temporary, path: path.to_owned() };
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&prepared.temporary)?;
        file.write_all(bytes)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    })();
    written.context(|| format!("cannot write {}", path.display()))?;
    Ok(prepared)
}

impl Prepared {
    /// Where it lies until then.
    pub fn lies_at(&self) -> &Path {
        &self.temporary
    }

    /// Puts it in its place, whole or not at all. Only right once what it holds is on disk.
    pub fn put(self) -> Result<()> {
        std::fs::rename(&self.temporary, &self.path)
            .context(|| format!("cannot write {}", self.path.display()))?;
        sync_directory(self.path.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Puts a file in the place of an older one, as logs are: not synced.
pub fn rotate(file: &Path, older: &Path) -> Result<()> {
    std::fs::rename(file, older).context(|| format!("cannot move {} to {}", file.display(), older.display()))
}

/// Makes `link` a symlink to `target`, replacing the symlink that may be there by one rename.
///
/// Anything else that is in the way (a directory, a file) is refused: it is not ours.
pub fn link_atomic(target: &Path, link: &Path) -> Result<()> {
    link_unsynced(target, link)?;
    sync_directory(link.parent().unwrap_or(Path::new(".")))
}

/// The same without waiting for the disk: a power cut may take it back, to the link before or to none.
pub fn link_unsynced(target: &Path, link: &Path) -> Result<()> {
    match std::fs::symlink_metadata(link) {
        Ok(there) if !there.file_type().is_symlink() => {
            return Err(Error::new(format!("{} is not a symlink", link.display()))
                .hint(format!("move it away: `mv {0} {0}.aside`", link.display())));
        }
        _ => {}
    }
    let (_, temporary) = beside(link)?;
    let _ = std::fs::remove_file(&temporary);
    std::os::unix::fs::symlink(target, &temporary)
        .and_then(|()| std::fs::rename(&temporary, link))
        .context(|| format!("cannot point {} to {}", link.display(), target.display()))
}

/// Makes a new symlink; one that is there already is an error.
pub fn link_new(target: &Path, link: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, link)
        .context(|| format!("cannot point {} to {}", link.display(), target.display()))
}

/// Moves a file or directory within one filesystem; what is in the way is never replaced.
pub fn move_new(from: &Path, to: &Path) -> Result<()> {
    move_unsynced(from, to)?;
    for directory in [from.parent(), to.parent()].into_iter().flatten() {
        sync_directory(directory)?;
    }
    Ok(())
}

/// The same without waiting for the disk: a power cut may take it back.
pub fn move_unsynced(from: &Path, to: &Path) -> Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
        .context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

/// Renames within one open directory, replacing what is there.
pub fn rename_at(directory: &impl rustix::fd::AsFd, from: &OsStr, to: &OsStr) -> std::io::Result<()> {
    Ok(rustix::fs::renameat(directory, from, directory, to)?)
}

/// Moves what is at `name` in an open directory into another one, under the first of `names` that is free there.
pub fn move_at(
    directory: &impl rustix::fd::AsFd,
    name: &OsStr,
    to: &Path,
    names: impl Iterator<Item = String>,
) -> std::io::Result<()> {
    for new in names {
        match rustix::fs::renameat_with(directory, name, CWD, to.join(new), RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => {}
            result => return Ok(result?),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Makes a directory and those above it; one that is there is fine, a symlink in its place is not.
pub fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let made = std::fs::create_dir_all(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)));
    made.context(|| format!("cannot make the directory {}", path.display()))?;
    if is_directory(path) {
        Ok(())
    } else {
        Err(Error::new(format!("{} is not a directory", path.display())))
    }
}

/// Whether a directory is at `path`, and not a symlink to one.
pub fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|there| there.is_dir())
}

/// Whether anything is at `path`, also a dangling symlink.
pub fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// Forces the names in a directory to disk.
pub fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .context(|| format!("cannot sync {}", path.display()))
}

/// Forces all that was written to the filesystem of `path` to disk: an error there is an error here.
pub fn sync_filesystem(path: &Path) -> Result<()> {
    let directory = File::open(path).context(|| format!("cannot open {}", path.display()))?;
    rustix::fs::syncfs(&directory).context(|| format!("cannot sync the filesystem of {}", path.display()))
}

/// Forces some files below a directory to disk, with the names of all that is in it.
pub fn sync_some(directory: &Path, paths: &[Vec<u8>]) -> Result<()> {
    let mut places = std::collections::BTreeSet::from([directory.to_owned()]);
    for path in paths.iter().filter(|path| !path.is_empty()) {
        let path = directory.join(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path));
        places.extend(
            path.ancestors().skip(1).take_while(|above| above.starts_with(directory)).map(Path::to_owned),
        );
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            // A symlink is synced by its directory, and what is gone, too.
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOENT) => {}
            opened => {
                opened.and_then(rustix::fs::fsync).context(|| format!("cannot sync {}", path.display()))?
            }
        }
    }
    places.iter().try_for_each(|place| sync_directory(place))
}

/// Forces one file to disk.
pub fn sync_file(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_data()).context(|| format!("cannot sync {}", path.display()))
}

/// Removes a file or symlink; one that is gone already is fine.
pub fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes an empty directory; one that is gone is fine, and one that is not empty stays.
pub fn remove_empty_directory(path: &Path) -> Result<()> {
    match std::fs::remove_dir(path) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(error).context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a directory with all that is in it, following no symlink; one that is gone is fine.
///
/// Stages like to leave directories without write permission behind: they are opened and it is
/// tried again.
pub fn remove_tree(path: &Path) -> Result<()> {
    let removed = match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path);
            std::fs::remove_dir_all(path)
        }
        result => result,
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn open_up(path: &Path) {
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        let _ = std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700));
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        let inner = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(inner.map(|entry| entry.path()));
    }
}

/// Reads a file of at most `limit` bytes, which must be a regular file and no symlink.
///
/// `Ok(None)` where nothing is there. A FIFO or a device is refused without waiting for it.
pub fn read_limited(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let Some(file) = open_regular(path)? else { return Ok(None) };
    let about = file.metadata().context(|| format!("cannot read {}", path.display()))?;
    if about.len() > limit {
        return Err(Error::new(format!(
            "{} has {} bytes; at most {limit} are read",
            path.display(),
            about.len()
        )));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(bytes))
}

/// Opens a regular file to read it; no symlink.
///
/// `Ok(None)` where nothing is there. A FIFO or a device is refused without waiting for it.
pub fn open_regular(path: &Path) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => {
            return Err(Error::new(format!("{} is a symlink; a file is wanted", path.display())));
        }
        Err(error) => return Err(error).context(|| format!("cannot read {}", path.display())),
    };
    let about = file.metadata().context(|| format!("cannot read {}", path.display()))?;
    if !about.is_file() {
        return Err(Error::new(format!("{} is not a regular file", path.display())));
    }
    Ok(Some(file))
}

/// The regular-file text of a state file, at most 64 MiB, as UTF-8.
pub fn read_text(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = read_limited(path, 64 << 20)? else { return Ok(None) };
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|_| Error::new(format!("{} is not UTF-8 text", path.display())))
}

/// The names in a directory, sorted; none where it is not there.
pub fn names_in(path: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(|| format!("cannot list {}", path.display())),
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Bytes and inodes that are free for this user on the filesystem of `path`.
pub fn free_space(path: &Path) -> Result<(u64, u64)> {
    let about =
        rustix::fs::statvfs(path).context(|| format!("cannot ask for the space of {}", path.display()))?;
    // Some filesystems (btrfs) have no fixed number of inodes and answer 0 of 0.
    let inodes = if about.f_files == 0 { u64::MAX } else { about.f_favail };
    Ok((about.f_bavail.saturating_mul(about.f_frsize), inodes))
}

/// The bytes that a directory takes on disk, symlinks not followed, files with several names counted once.
pub fn disk_usage(path: &Path) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let mut total = 0;
    let mut waiting = vec![path.to_owned()];
    while let Some(place) = waiting.pop() {
        let Ok(about) = std::fs::symlink_metadata(&place) else { continue };
        if about.nlink() == 1 || about.is_dir() || seen.insert((about.dev(), about.ino())) {
            total += about.blocks() * 512;
        }
        if about.is_dir()
            && let Ok(entries) = std::fs::read_dir(&place)
        {
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    total
}

/// Whether a filesystem is one that other machines share, where locks and renames promise less.
pub fn is_network_filesystem(magic: u64) -> bool {
    // Magic numbers of statfs(2): NFS, SMB, CIFS, SMB2, AFS, Coda, NCP, 9P, Ceph, GFS2, OCFS2, Lustre.
    const NETWORK: [u64; 12] = [
        0x6969,
        0x517B,
        0xFF53_4D42,
        0xFE53_4D42,
        0x5346_414F,
        0x7375_7245,
        0x564C,
        0x0102_1997,
        0x00C3_6400,
        0x0116_1970,
        0x7461_636F,
        0x0BD0_0BD0,
    ];
    NETWORK.contains(&(magic & 0xFFFF_FFFF))
}

/// The kind of filesystem that `path`, which must be there, lies on: statfs(2)'s magic number.
pub fn filesystem_magic(path: &Path) -> Result<u64> {
    let about = rustix::fs::statfs(path)
        .context(|| format!("cannot ask for the filesystem of {}", path.display()))?;
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "the type differs between machines")]
    Ok(about.f_type as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_atomic_leaves_the_old_file_when_it_cannot_write() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a");
        write_atomic(&file, b"old", 0o600).unwrap();
        // A directory in the way of the rename makes it fail after the new bytes were written.
        let taken = place.path().join("d");
        std::fs::create_dir(&taken).unwrap();
        assert!(write_atomic(&taken, b"new", 0o600).is_err());
        assert_eq!(names_in(place.path()).unwrap(), ["a", "d"]);
        assert_eq!(std::fs::read(&file).unwrap(), b"old");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn link_atomic_replaces_a_symlink_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("current");
        link_atomic(Path::new("a"), &link).unwrap();
        link_atomic(Path::new("b"), &link).unwrap();
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("b"));
        let directory = place.path().join("kept");
        std::fs::create_dir(&directory).unwrap();
        assert!(link_atomic(Path::new("b"), &directory).is_err());
    }

    #[test]
    fn remove_tree_opens_directories_that_may_not_be_written() {
        let place = tempfile::tempdir().unwrap();
        let inner = place.path().join("t/a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("f"), "x").unwrap();
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o500)).unwrap();
        remove_tree(&place.path().join("t")).unwrap();
        assert!(!exists(&place.path().join("t")));
    }

    #[test]
    fn read_limited_refuses_what_is_not_a_regular_file() {
        let place = tempfile::tempdir().unwrap();
        let fifo = place.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(read_limited(&fifo, 10).is_err());
        let link = place.path().join("link");
        link_new(Path::new("/etc/passwd"), &link).unwrap();
        assert!(read_limited(&link, 1 << 20).unwrap_err().to_string().contains("is a symlink"));
        assert!(read_limited(&place.path().join("none"), 1).unwrap().is_none());
    }

    #[test]
    fn network_filesystems_are_known_by_their_magic() {
        assert!(is_network_filesystem(0x6969));
        assert!(is_network_filesystem(0xFFFF_FFFF_FF53_4D42));
        assert!(!is_network_filesystem(0xEF53));
    }
}
