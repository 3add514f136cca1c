//! Directories, files and units.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::act::{Act, run};
use crate::support::accounts::{Account, Group};
use crate::support::{Context, Error, Result, files};

/// Whose something is, by names.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The user.
    pub user: String,
    /// The group.
    pub group: String,
}

impl Owner {
    /// Root's.
    pub fn root() -> Owner {
        Owner::of("root", "root")
    }

    /// A user's, and a group's.
    pub fn of(user: &str, group: &str) -> Owner {
        Owner { user: user.to_owned(), group: group.to_owned() }
    }

    /// Both as numbers; `None` while one of them is not there.
    pub fn numbers(&self) -> Result<Option<(u32, u32)>> {
        let (user, group) = (Account::named(&self.user)?, Group::named(&self.group)?);
        Ok(user.zip(group).map(|(user, group)| (user.uid, group.gid)))
    }

    fn want(&self) -> Result<(u32, u32)> {
        self.numbers()?.ok_or_else(|| Error::new(format!("there is no {}:{}", self.user, self.group)))
    }
}

/// A directory.
pub struct Directory {
    /// Where.
    pub path: PathBuf,
    /// Whose.
    pub owner: Owner,
    /// Its mode.
    pub mode: u32,
    /// What becomes of it when it is taken back.
    pub end: End,
}

/// What becomes of a directory when it is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It goes if nothing is in it.
    Empty,
    /// It goes with what is in it, which is all receiver's.
    Whole,
    /// It goes with what is in it, which is somebody's data.
    Data,
}

impl Directory {
    /// One that only root writes to.
    pub fn of_root(path: impl Into<PathBuf>, mode: u32, end: End) -> Directory {
        Directory { path: path.into(), owner: Owner::root(), mode, end }
    }
}

impl Act for Directory {
    fn what(&self) -> String {
        let Owner { user, group } = &self.owner;
        format!("directory  {} {user}:{group} {:04o}", self.path.display(), self.mode)
    }

    fn is_done(&self) -> Result<bool> {
        let Some((uid, gid)) = self.owner.numbers()? else { return Ok(false) };
        let Ok(there) = std::fs::symlink_metadata(&self.path) else { return Ok(false) };
        if !there.is_dir() {
            return Err(Error::new(format!("{} is in the way: it is no directory", self.path.display()))
                .hint("move it away"));
        }
        Ok(there.uid() == uid && there.gid() == gid && there.permissions().mode() & 0o7777 == self.mode)
    }

    fn perform(&self) -> Result<()> {
        let (uid, gid) = self.owner.want()?;
        if !files::is_directory(&self.path) {
            files::make_directory(&self.path, 0o700)?;
        }
        own(&self.path, uid, gid, self.mode)
    }

    fn undo(&self) -> Result<bool> {
        if !files::is_directory(&self.path) {
            return Ok(false);
        }
        match self.end {
            End::Empty => files::remove_empty_directory(&self.path)?,
            End::Whole | End::Data => files::remove_tree(&self.path)?,
        }
        Ok(!files::exists(&self.path))
    }

    fn is_data(&self) -> bool {
        self.end == End::Data
    }
}

/// Gives a file or directory to somebody. Nobody but root, or whom root trusts, may write to where it lies.
pub fn own(path: &Path, uid: u32, gid: u32, mode: u32) -> Result<()> {
    let cannot = || format!("cannot give {} to its owner", path.display());
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).context(cannot)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).context(cannot)
}

/// A file of root's, with a text that is known.
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

impl Act for File {
    fn what(&self) -> String {
        format!("file       {}", self.path.display())
    }

    fn is_done(&self) -> Result<bool> {
        Ok(files::read_text(&self.path)?.as_deref() == Some(&self.text))
    }

    fn perform(&self) -> Result<()> {
        if let Some(parent) = self.path.parent().filter(|parent| !files::is_directory(parent)) {
            files::make_directory(parent, 0o755)?;
        }
        files::write_atomic(&self.path, self.text.as_bytes(), 0o644)
    }

    fn undo(&self) -> Result<bool> {
        let there = files::exists(&self.path);
        files::remove_file(&self.path).map(|()| there)
    }
}

/// A unit of systemd that is to be there from now on, and after a boot.
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Whether it is to be active now, too.
    pub now: bool,
}

impl Act for Unit {
    fn what(&self) -> String {
        format!("unit       {}", self.name)
    }

    fn is_done(&self) -> Result<bool> {
        let enabled = run("systemctl", &["is-enabled", "--quiet", "--", &self.name]).is_ok();
        let active = !self.now || run("systemctl", &["is-active", "--quiet", "--", &self.name]).is_ok();
        Ok(enabled && active)
    }

    fn perform(&self) -> Result<()> {
        run("systemctl", &["daemon-reload"])?;
        run("systemctl", &["enable", "--quiet", "--", &self.name])?;
        if self.now {
            run("systemctl", &["start", "--", &self.name])?;
        }
        Ok(())
    }

    fn undo(&self) -> Result<bool> {
        if run("systemctl", &["is-enabled", "--quiet", "--", &self.name]).is_err() {
            return Ok(false);
        }
        run("systemctl", &["disable", "--quiet", "--now", "--", &self.name]).map(|_| true)
    }
}
