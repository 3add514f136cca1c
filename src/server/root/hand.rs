//! A tree changes hands: from receiver to the app's user, who builds it, and back.
//!
//! The app's user may be at work in it meanwhile. So nothing is named twice: each entry is opened without following a
//! link, looked at, and changed through that same descriptor; what belongs to anybody else is an error. A directory
//! is taken back before what is in it, so that nobody can add to it any more.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};

use super::Ground;
use crate::app::ReleaseId;
use crate::support::accounts::Account;
use crate::support::{Context, Error, Result, files};

/// How deep a tree may be: each level costs a descriptor.
const DEEPEST: usize = 900;

/// Who is to have a tree.
struct Hand<'a> {
    ground: &'a Ground,
    uid: Uid,
    gid: Gid,
    /// What its modes become.
    mode: fn(u32) -> u32,
}

impl<'a> Hand<'a> {
    fn to_user(ground: &'a Ground) -> Hand<'a> {
        Hand::new(ground, &ground.user, ground.user.gid, |mode| mode & 0o777)
    }

    /// Receiver's, who alone writes there; the app's group reads what its owner could.
    fn back(ground: &'a Ground) -> Hand<'a> {
        Hand::new(ground, &ground.receiver, ground.user.gid, |mode| {
            let readable = mode & 0o700;
            readable | (readable >> 3) & 0o050 | mode & 0o005
        })
    }

    fn new(ground: &'a Ground, to: &Account, gid: u32, mode: fn(u32) -> u32) -> Hand<'a> {
        Hand { ground, uid: Uid::from_raw(to.uid), gid: Gid::from_raw(gid), mode }
    }

    /// Gives what is opened, and all that is below; whether anything changed.
    fn give(&self, opened: &OwnedFd, deep: usize) -> Result<bool> {
        let mut changed = self.give_one(opened)?;
        let about = rustix::fs::fstat(opened).context(|| "cannot look at it")?;
        if FileType::from_raw_mode(about.st_mode) != FileType::Directory {
            return Ok(changed);
        }
        if deep > DEEPEST {
            return Err(Error::new(format!("directories lie {DEEPEST} deep in one another")));
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let readable =
            rustix::fs::openat(opened, ".", flags, Mode::empty()).context(|| "cannot read a directory")?;
        for entry in Dir::read_from(&readable).context(|| "cannot read a directory")? {
            let entry = entry.context(|| "cannot read a directory")?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let told = |error: Error| Error::new(format!("at {}", shown(name))).caused_by(error);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = match rustix::fs::openat(opened, name, flags, Mode::empty()) {
                // It went away while we looked.
                Err(rustix::io::Errno::NOENT) => continue,
                inner => inner.context(|| format!("cannot open {}", shown(name)))?,
            };
            changed |= self.give(&inner, deep + 1).map_err(told)?;
        }
        Ok(changed)
    }

    fn give_one(&self, opened: &OwnedFd) -> Result<bool> {
        let about = self.ground.refuse_foreign(opened)?;
        let kind = FileType::from_raw_mode(about.st_mode);
        let mode = (self.mode)(about.st_mode & 0o7777);
        let has_mode = matches!(kind, FileType::RegularFile | FileType::Directory);
        let owned = about.st_uid == self.uid.as_raw() && about.st_gid == self.gid.as_raw();
        if owned && (!has_mode || about.st_mode & 0o7777 == mode) {
            return Ok(false);
        }
        let cannot = || "cannot change whose it is";
        rustix::fs::chownat(opened, c"", Some(self.uid), Some(self.gid), AtFlags::EMPTY_PATH)
            .context(cannot)?;
        if has_mode {
            // The descriptor's own name: the mode of just this file, whatever its name leads to by now.
            let own = format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd());
            std::fs::set_permissions(own, std::fs::Permissions::from_mode(mode)).context(cannot)?;
        }
        Ok(true)
    }
}

fn shown(name: &CStr) -> String {
    crate::support::text::printable_bytes(name.to_bytes())
}

fn release(ground: &Ground, id: &ReleaseId) -> Result<OwnedFd> {
    ground.open(&Path::new("versions").join(id.to_string()))
}

/// Gives a release to the app's user.
pub(super) fn give(ground: &Ground, id: &ReleaseId) -> Result<bool> {
    let told = || format!("cannot give {id} to {}", ground.user.name);
    Hand::to_user(ground).give(&release(ground, id)?, 0).context(told)
}

/// Takes a release back.
pub(super) fn take_back(ground: &Ground, id: &ReleaseId) -> Result<bool> {
    let told = || format!("cannot take {id} back from {}", ground.user.name);
    Hand::back(ground).give(&release(ground, id)?, 0).context(told)
}

/// Gives something in `shared/` to the app's user.
pub(super) fn give_shared(ground: &Ground, path: &Path) -> Result<bool> {
    let told = || format!("cannot give shared/{} to {}", path.display(), ground.user.name);
    let name = path.file_name().ok_or_else(|| Error::new(told()))?;
    let parent = ground.open(&Path::new("shared").join(path.parent().unwrap_or(Path::new(""))))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&parent, name, flags, Mode::empty()).context(told)?;
    Hand::to_user(ground).give(&opened, 0).context(told)
}

/// Removes a release that cannot be taken back: one with more directories in one another than there are descriptors.
pub(super) fn remove_release(ground: &Ground, id: &ReleaseId) -> Result<bool> {
    // Opened first: it is a directory of the app, and no link leads to it.
    drop(release(ground, id)?);
    let version = ground.open(&Path::new("versions").join(id.version.to_string()))?;
    let place = Path::new("/proc/self/fd").join(version.as_raw_fd().to_string()).join(id.name.as_str());
    files::remove_tree(&place).map(|()| true)
}

/// Removes a directory of `receiver/databases/`.
pub(super) fn remove(ground: &Ground, directory: &str) -> Result<bool> {
    let mut parts = Path::new(directory).components();
    let single = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if !single
        || directory.len() > 64
        || !directory.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
    {
        return Err(Error::new("that is no directory of a database"));
    }
    let databases = ground.open(Path::new("receiver/databases"))?;
    // It is receiver's own: the app's user cannot put another in its place.
    if rustix::fs::fstat(&databases).context(|| "cannot look at it")?.st_uid != ground.receiver.uid {
        return Err(Error::new("the directory of databases is not receiver's"));
    }
    let place = Path::new("/proc/self/fd").join(databases.as_raw_fd().to_string()).join(directory);
    if !files::exists(&place) {
        return Ok(false);
    }
    files::remove_tree(&place).map(|()| true)
}
