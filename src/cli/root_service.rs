//! `receiver root-service`, which systemd starts, as root, for what only root can do; and what that becomes:
//! `receiver become` an app's user, and its `receiver database-agent`.

use std::os::fd::AsFd;

use clap::Args;

use crate::data;
use crate::server::root;
use crate::support::{Context, Result};

/// Arguments of `root-service`: it has none, the connection is its input.
#[derive(Args)]
pub struct RootService {}

/// Arguments of `become`.
#[derive(Args)]
pub struct Become {
    /// The open file that says whom and what
    descriptor: i32,
}

/// Arguments of `database-agent`: it has none, the socket over which work is asked for is its input.
#[derive(Args)]
pub struct DatabaseAgent {}

impl DatabaseAgent {
    /// Does the work that is asked for, until nobody is there any more who could.
    pub fn run() -> Result<u8> {
        let socket = std::io::stdin().as_fd().try_clone_to_owned();
        data::serve_agent(socket.context(|| "cannot use what is connected")?).map(|()| 0)
    }
}

impl RootService {
    /// Answers one request.
    pub fn run() -> Result<u8> {
        let connection = std::io::stdin().as_fd().try_clone_to_owned();
        root::serve(connection.context(|| "cannot use what is connected")?).map(|()| 0)
    }
}

impl Become {
    /// Becomes it.
    pub fn run(self) -> Result<u8> {
        match root::become_it(self.descriptor)? {}
    }
}
