//! SQLite's work as an app's user, where the app has one of its own.
//!
//! Who opens a database of SQLite's reads whatever the app wrote there, and owns what SQLite keeps beside it. So on a
//! server with users for apps receiver itself opens none: the root service starts this program once more as the app's
//! user, and over a socket between the two goes what is to be done ([`Ask`](message::Ask)) and what came of it. What the
//! agent says is no more trusted than the app is: it is data of the app, of bounded length.
//!
//! - [`message`]: what is said, and how
//! - [`line`](mod@line): the asking side of one conversation
//! - [`theirs`]: a [`Database`](crate::data::Database) that another user works on
//! - [`session`]: the side that works
//!
//! There is one agent for an app in a process that asks, and it dies with that process: so does a hold.

mod line;
mod message;
mod session;
mod theirs;

pub(super) use theirs::Theirs;

#[cfg(test)]
pub(super) use line::tests;

use std::os::unix::net::UnixStream;
use std::thread;

use crate::support::{Context, Result, beside};

/// Works for whoever is at the other end of `control`, until that is closed. Each byte that comes brings a socket for
/// one conversation.
pub fn serve(control: UnixStream) -> Result<()> {
    loop {
        let heard = beside::receive(&control, &mut [0]).context(|| "cannot hear what is to be done")?;
        if heard.bytes == 0 {
            // With this process ends all that is under way: a transaction of SQLite's is undone by whoever comes next.
            return Ok(());
        }
        for socket in heard.beside {
            thread::spawn(|| session::serve(socket.into()));
        }
    }
}
