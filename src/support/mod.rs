//! What everything stands on: the error, files that survive a death, text made safe, the clock.

pub mod accounts;
pub mod acl;
pub mod beneath;
pub mod beside;
pub mod clock;
pub mod death;
pub mod error;
pub mod files;
pub mod lock;
pub mod program;
pub mod syncer;
pub mod text;
pub mod threads;

pub use error::{Context, Error, Exit, Result};

/// The name of the user that this program runs as, or the number where it has none.
pub fn user_name() -> String {
    let uid = rustix::process::getuid();
    let found = accounts().unwrap_or_default().into_iter().find(|(_, number)| *number == uid);
    found.map_or_else(|| uid.to_string(), |(name, _)| name)
}

/// The number of the user of that name; `None` where there is none.
pub fn uid_of(name: &str) -> Result<Option<rustix::process::Uid>> {
    let found =
        accounts().context(|| "cannot read /etc/passwd")?.into_iter().find(|(account, _)| account == name);
    Ok(found.map(|(_, uid)| uid))
}

fn accounts() -> std::io::Result<Vec<(String, rustix::process::Uid)>> {
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let account = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((name, rustix::process::Uid::from_raw(fields.nth(1)?.parse().ok()?)))
    };
    Ok(passwd.lines().filter_map(account).collect())
}
