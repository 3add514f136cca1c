//! Users and groups.

use std::path::PathBuf;

use super::act::{Act, run};
use super::leftovers;
use crate::app::server::COMMENT;
use crate::support::accounts::{Account, Group};
use crate::support::{Error, Result};

/// How long something of a user that is to go may still run.
const LINGERING: std::time::Duration = std::time::Duration::from_secs(15);

/// A user of the system, with a group of its own.
pub struct User {
    /// Its name.
    pub name: String,
    /// Its home.
    pub home: PathBuf,
    /// Its login shell.
    pub shell: &'static str,
    /// Whether pushed code runs as it: nothing of it may be left to whoever gets its number next.
    pub runs_code: bool,
}

impl User {
    /// Refuses an account of this name that receiver did not make.
    pub fn refuse_foreign(&self) -> Result<()> {
        match Account::named(&self.name)? {
            Some(there) if there.comment != COMMENT || there.home != self.home => Err(Error::new(format!(
                "there is an account {} on this server that receiver did not make: it was not touched",
                self.name
            ))),
            _ => Ok(()),
        }
    }
}

impl User {
    /// Removes it, once nothing of it runs any more: a login that has just ended lingers for a while.
    fn remove(&self) -> Result<()> {
        let begun = std::time::Instant::now();
        if let Some(account) = Account::named(&self.name)?.filter(|_| self.runs_code) {
            leftovers::end(&account)?;
        }
        let _ = run("loginctl", &["terminate-user", &self.name]);
        loop {
            match run("userdel", &["--", &self.name]) {
                Err(error) if begun.elapsed() > LINGERING => return Err(error),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(100)),
                Ok(_) => return Ok(()),
            }
        }
    }
}

impl Act for User {
    fn what(&self) -> String {
        format!("user       {} (home {}, shell {})", self.name, self.home.display(), self.shell)
    }

    fn is_done(&self) -> Result<bool> {
        self.refuse_foreign()?;
        Ok(Account::named(&self.name)?.is_some_and(|there| there.shell == self.shell))
    }

    fn perform(&self) -> Result<()> {
        if Account::named(&self.name)?.is_some() {
            return run("usermod", &["--shell", self.shell, &self.name]).map(drop);
        }
        let home = self.home.display().to_string();
        // No password opens it, and it is not locked either: sshd refuses locked ones, keys and all.
        let about = ["--system", "--user-group", "--no-create-home", "--password", "*", "--comment", COMMENT];
        let place = ["--home-dir", &home, "--shell", self.shell, "--", &self.name];
        run("useradd", &[&about[..], &place[..]].concat()).map(drop)
    }

    fn undo(&self) -> Result<bool> {
        match Account::named(&self.name)? {
            Some(there) if there.comment == COMMENT => self.remove().map(|()| true),
            _ => Ok(false),
        }
    }

    fn is_data(&self) -> bool {
        true
    }
}

/// A group that several users belong to.
pub struct Circle {
    /// Its name.
    pub name: String,
}

impl Act for Circle {
    fn what(&self) -> String {
        format!("group      {}", self.name)
    }

    fn is_done(&self) -> Result<bool> {
        Ok(Group::named(&self.name)?.is_some())
    }

    fn perform(&self) -> Result<()> {
        run("groupadd", &["--system", "--", &self.name]).map(drop)
    }

    fn undo(&self) -> Result<bool> {
        if Group::named(&self.name)?.is_none() {
            return Ok(false);
        }
        run("groupdel", &["--", &self.name]).map(|_| true)
    }

    fn is_data(&self) -> bool {
        true
    }
}

/// That a user belongs to a group.
pub struct Member {
    /// The user.
    pub user: String,
    /// The group.
    pub group: String,
}

impl Act for Member {
    fn what(&self) -> String {
        format!("member     {} of {}", self.user, self.group)
    }

    fn is_done(&self) -> Result<bool> {
        Ok(Group::named(&self.group)?.is_some_and(|group| group.members.contains(&self.user)))
    }

    fn perform(&self) -> Result<()> {
        run("usermod", &["--append", "--groups", &self.group, "--", &self.user]).map(drop)
    }

    fn undo(&self) -> Result<bool> {
        if !self.is_done()? {
            return Ok(false);
        }
        run("gpasswd", &["--delete", &self.user, &self.group]).map(|_| true)
    }

    fn is_data(&self) -> bool {
        true
    }
}
