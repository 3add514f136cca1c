//! `receiver shell KEY`: what ssh calls, whoever comes and whatever he wants.

use std::os::unix::ffi::OsStringExt;

use clap::Args;

use super::{Global, talk, visit};
use crate::server::keys::{self, KeyName};
use crate::server::place::Place;
use crate::server::visitor::Visitor;
use crate::server::wire::Ask;
use crate::server::wish::{self, Wish};
use crate::server::{ask, git, hg};
use crate::support::Result;

/// Arguments of `shell`.
#[derive(Args)]
pub struct Shell {
    /// The key that somebody came with
    key: String,
}

/// How git ends where it cannot.
const FATAL: u8 = 128;

impl Shell {
    /// Does what is wanted, or says what could be.
    pub fn run(self, global: &Global) -> Result<u8> {
        let root = global.root()?;
        let place = Place::of(&root)?;
        let name: KeyName = self.key.parse()?;
        let visitor = Visitor::of(&place, &name)?.at_terminal(std::env::var("TERM").ok());
        keys::note_use(&place, &name);
        let command = std::env::var_os("SSH_ORIGINAL_COMMAND").unwrap_or_default().into_vec();
        match wish::read(&command, root.path()).map_err(|error| error.or_hint(visit::may(&visitor)))? {
            Wish::Shell => {
                visit::greet(&visitor);
                Ok(1)
            }
            Wish::Git { service, app } => {
                let protocol = std::env::var("GIT_PROTOCOL").ok();
                let served = git::serve(&root, &visitor, service, &app, protocol.as_deref());
                served.map(|()| FATAL).or_else(|error| {
                    talk::error(global, &error);
                    Ok(FATAL)
                })
            }
            Wish::Mercurial { app } => hg::serve(&root, &visitor, &app).map(|()| FATAL),
            Wish::Command(words) => match place.server() {
                Some(server) => ask::ask(&server.socket, &Ask::new(Some(name), words, visitor.terminal)),
                None => Ok(visit::carry(root.path(), visitor, &words)),
            },
        }
    }
}
