//! Where the keys of a root lie, and who carries out what comes by them.
//!
//! A server that was set up has one file of facts, `/etc/receiver/server.toml`, which names its root and its account
//! for ssh. Keys of that root lie in `/var/lib/receiver/keys`, and commands go over a socket to receiver's own account. Any
//! other root belongs to one user, as do its keys, in `ROOT/.receiver`.

use std::path::{Path, PathBuf};

use crate::app::{Root, server};
use crate::support::{Error, Result, files};

/// Where keys lie.
#[derive(Clone, Debug)]
pub struct Place {
    root: PathBuf,
    directory: PathBuf,
    server: Option<Server>,
}

/// What is known of a server that was set up.
#[derive(Clone, Debug)]
pub struct Server {
    /// The account that everybody logs in as.
    pub account: String,
    /// Where receiver's own account listens.
    pub socket: PathBuf,
}

impl Server {
    fn read() -> Result<Option<server::Server>> {
        server::Server::read_at(&top().join(server::PLACE.trim_start_matches('/')))
    }

    fn of(facts: server::Server) -> Server {
        Server { account: facts.account, socket: top().join("run/receiver/receiver.sock") }
    }
}

impl Place {
    /// The place of a root's keys.
    pub fn of(root: &Root) -> Result<Place> {
        let server = Server::read()?.filter(|facts| facts.root == root.path()).map(Server::of);
        let directory = if server.is_some() { top().join("var/lib/receiver/keys") } else { root.keys() };
        Ok(Place { root: root.path().to_owned(), directory, server })
    }

    /// That of the server that was set up.
    ///
    /// # Errors
    /// Where none was.
    pub fn of_server() -> Result<Place> {
        let facts = Server::read()?.ok_or_else(|| {
            Error::new("this server was not set up for several users").hint("`sudo receiver setup` does it")
        })?;
        Place::of(&Root::find(Some(&facts.root))?)
    }

    /// The root that the keys are for.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is known of the server; `None` where one user has it all.
    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// The keys.
    pub fn keys(&self) -> PathBuf {
        self.directory.join("keys.toml")
    }

    /// Who may read the keys: on a server the account for ssh, too.
    pub fn keys_mode(&self) -> u32 {
        if self.server.is_some() { 0o640 } else { 0o600 }
    }

    /// Locked while keys are changed.
    pub fn lock(&self) -> PathBuf {
        self.directory.join("keys.lock")
    }

    /// A file for each key, as old as its last use. On a server it is the account's for ssh, and receiver only reads it.
    pub fn used(&self) -> PathBuf {
        self.directory.join("used")
    }

    /// Whether it is a server that setup made, with receiver's account and the root service: a test's has neither.
    pub fn is_set_up(&self) -> bool {
        self.server.is_some() && top() == Path::new("/")
    }

    /// Makes the directory, where it is not the set-up's.
    pub fn prepare(&self) -> Result<()> {
        if self.server.is_some() {
            return if self.directory.is_dir() {
                Ok(())
            } else {
                Err(Error::new(format!("{} is not there", self.directory.display()))
                    .hint("`sudo receiver setup` makes it"))
            };
        }
        files::make_directory(&self.directory, 0o700)
    }
}

/// What a server's own files lie below; tests have a server of their own.
fn top() -> PathBuf {
    #[cfg(debug_assertions)]
    if let Some(top) = std::env::var_os("RECEIVER_TEST_SERVER") {
        return PathBuf::from(top);
    }
    PathBuf::from("/")
}
