//! `receiver root-service` and `receiver become`: what systemd starts, as root, for what only root can do.

use std::os::fd::AsFd;

use clap::Args;

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
