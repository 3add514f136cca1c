//! What everything stands on: the error, files that survive a death, text made safe, the clock.

pub mod beneath;
pub mod clock;
pub mod death;
pub mod error;
pub mod files;
pub mod program;
pub mod text;

pub use error::{Context, Error, Exit, Result};

/// The name of the user that this program runs as, or the number where it has none.
pub fn user_name() -> String {
    let uid = rustix::process::getuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| uid.to_string())
}
