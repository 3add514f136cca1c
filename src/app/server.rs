//! What `receiver setup` made of a server: one file that says so, and the names that follow from it.
//!
//! On a server without it everything is one user. On one with it an app is somebody's of its own where its marker says
//! so; apps from before stay as they were.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal::refuse_newer;
use super::layout::FORMAT;
use super::names::AppName;
use crate::support::{Context, Error, Result, files};

/// Where it is written down that a server was set up, and how.
pub const PLACE: &str = "/etc/receiver/server.toml";

/// The account that works: lock, records, journal, secrets, databases.
pub const RECEIVER: &str = "receiver";

/// The home of that account, and of all that setup makes outside the apps.
pub const HOME: &str = "/var/lib/receiver";

/// Where the small root service listens.
pub const ROOT_SOCKET: &str = "/run/receiver/root.sock";

/// What the accounts that receiver made have in their comment.
pub const COMMENT: &str = "made by receiver";

/// A server that was set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    format: u32,
    /// The directory of all apps.
    pub root: PathBuf,
    /// The account that is pushed to.
    pub account: String,
}

impl Server {
    /// One with its apps in `root`, and pushed to as `account`.
    pub fn new(root: &Path, account: &str) -> Server {
        Server { format: FORMAT, root: root.to_owned(), account: account.to_owned() }
    }

    /// This one, where it was set up.
    pub fn read() -> Result<Option<Server>> {
        Server::read_at(Path::new(PLACE))
    }

    /// The one that this file tells of.
    pub fn read_at(path: &Path) -> Result<Option<Server>> {
        let Some(text) = files::read_text(path)? else { return Ok(None) };
        let server: Server =
            toml::from_str(&text).map_err(|_| Error::new(format!("{} is damaged", path.display()))).map_err(|error| {
                error.hint("`sudo receiver setup --dry-run` says what it would be; the same without --dry-run writes it")
            })?;
        refuse_newer(server.format, path)?;
        Ok(Some(server))
    }

    /// The file's text.
    pub fn text(&self) -> Result<String> {
        let text = toml::to_string(self).context(|| "cannot write down how this server is set up")?;
        Ok(format!("# Written by `receiver setup`.\n{text}"))
    }

    /// The home of the account that is pushed to.
    pub fn door_home(&self) -> PathBuf {
        Path::new(HOME).join(&self.account)
    }
}

/// The user that an app's stages and processes run as.
pub fn user_of(app: &AppName) -> String {
    format!("app-{app}")
}

/// The group of those who get into an app's directory at all: its user, the account that is pushed to, nginx.
pub fn group_of(app: &AppName) -> String {
    format!("site-{app}")
}

/// The home of an app's user.
pub fn home_of(app: &AppName) -> PathBuf {
    Path::new(HOME).join("home").join(app.as_str())
}
