//! The users and groups of this machine, as `/etc/passwd` and `/etc/group` have them.
//!
//! What receiver makes are local accounts, and only local ones are asked for: no name service is waited for, and a
//! number that is not there is nobody's.

use std::path::PathBuf;

use rustix::fs::{Gid, Uid};

use super::{Context, Error, Result};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The number of its own group.
    pub gid: u32,
    /// What it is said to be for.
    pub comment: String,
    /// Its home.
    pub home: PathBuf,
    /// Its login shell.
    pub shell: String,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name.
    pub name: String,
    /// The number.
    pub gid: u32,
    /// Who belongs to it besides those whose own group it is.
    pub members: Vec<String>,
}

impl Account {
    /// All users.
    pub fn all() -> Result<Vec<Account>> {
        Ok(read("/etc/passwd")?.lines().filter_map(Account::parse).collect())
    }

    /// The user of this name.
    pub fn named(name: &str) -> Result<Option<Account>> {
        Ok(Account::all()?.into_iter().find(|account| account.name == name))
    }

    /// The user of this name, which has to be there.
    pub fn want(name: &str) -> Result<Account> {
        Account::named(name)?.ok_or_else(|| Error::new(format!("there is no user {name} on this machine")))
    }

    /// This process becomes the user, with all its groups and no way back; only the thread that calls it, and what
    /// that thread becomes or starts. No privilege can be gained any more (`PR_SET_NO_NEW_PRIVS`).
    pub fn assume(&self) -> Result<()> {
        let cannot = || format!("cannot become the user {}", self.name);
        let mut groups = vec![Gid::from_raw(self.gid)];
        for line in read("/etc/group")?.lines() {
            let belongs = Group::parse(line).filter(|group| group.members.contains(&self.name));
            groups.extend(belongs.map(|group| Gid::from_raw(group.gid)));
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_no_new_privs(true).context(cannot)?;
        rustix::thread::set_thread_groups(&groups).context(cannot)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).context(cannot)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).context(cannot)?;
        if rustix::process::geteuid() == uid && rustix::process::getegid() == gid {
            return Ok(());
        }
        Err(Error::new(cannot()))
    }

    fn parse(line: &str) -> Option<Account> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, comment, home, shell] = fields[..] else { return None };
        Some(Account {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            comment: comment.to_owned(),
            home: PathBuf::from(home),
            shell: shell.to_owned(),
        })
    }
}

impl Group {
    /// The group of this name.
    pub fn named(name: &str) -> Result<Option<Group>> {
        Ok(read("/etc/group")?.lines().filter_map(Group::parse).find(|group| group.name == name))
    }

    fn parse(line: &str) -> Option<Group> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields[..] else { return None };
        let members = members.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Some(Group { name: name.to_owned(), gid: gid.parse().ok()?, members })
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_files_are_read_and_others_are_nobody() {
        let account = Account::parse("app-shop:x:997:996:receiver: shop:/var/lib/x:/usr/sbin/nologin");
        // A comment cannot have a colon, so this is no account.
        assert_eq!(account, None);
        let account =
            Account::parse("app-shop:x:997:996:receiver, shop:/var/lib/x:/usr/sbin/nologin").unwrap();
        assert_eq!((account.uid, account.gid, account.comment.as_str()), (997, 996, "receiver, shop"));
        let group = Group::parse("deploy:x:998:receiver,web").unwrap();
        assert_eq!((group.gid, group.members.len()), (998, 2));
        assert_eq!(Group::parse("deploy:x:998:").unwrap().members, Vec::<String>::new());
        assert_eq!(Account::parse("+@nis"), None);
    }
}
