//! The side of receiver's own account: one command, for whoever connected.
//!
//! The kernel says who that is. The account for ssh only says by which key somebody came; what that key may do is
//! looked up here. root needs no key.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{Signal, Uid};

use super::line;
use super::place::Place;
use super::visitor::Visitor;
use super::wire::{self, Ask, Done, Pass, Streams};
use crate::app::journal::refuse_newer;
use crate::support::{Context, Error, Result, uid_of};

/// Answers one connection: takes its streams for our own, has `carry` carry the command out, and hands back its code.
///
/// # Errors
/// Where whoever connected has nothing to ask here, or asks for nothing that can be understood. Nothing is done then.
pub fn answer(connection: OwnedFd, place: &Place, carry: &dyn Fn(Visitor, &[String]) -> u8) -> Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(&connection).context(|| "cannot see who asks")?.uid;
    let server = place.server().ok_or_else(|| {
        Error::new("this server was not set up for several users").hint("`sudo receiver setup` does it")
    })?;
    if peer != Uid::ROOT && Some(peer) != uid_of(&server.account)? {
        return Err(Error::new(format!("user {peer} has nothing to ask here")));
    }
    let Some((ask, streams)) = wire::receive_with_streams::<Ask>(&connection)? else { return Ok(()) };
    refuse_newer(ask.format, &server.socket)?;
    let streams = streams.ok_or_else(|| Error::new("a command came without its streams"))?;
    take(&streams)?;
    let connection = Arc::new(connection);
    listen(&connection);
    let code = match visitor(place, &ask, peer) {
        Ok(visitor) => carry(visitor, &ask.words),
        Err(error) => {
            eprintln!("{}", error.render());
            error.exit_code()
        }
    };
    wire::send(&connection.as_fd(), &Done { code }, None)
}

fn visitor(place: &Place, ask: &Ask, peer: Uid) -> Result<Visitor> {
    let visitor = match &ask.key {
        Some(key) => Visitor::of(place, key)?,
        None if peer == Uid::ROOT => Visitor::root(),
        None => return Err(Error::usage("a key is needed")),
    };
    Ok(visitor.at_terminal(ask.terminal.clone()))
}

/// What the command reads and writes is what came.
fn take([input, output, errors]: &Streams<OwnedFd>) -> Result<()> {
    let taken = rustix::stdio::dup2_stdin(input)
        .and_then(|()| rustix::stdio::dup2_stdout(output))
        .and_then(|()| rustix::stdio::dup2_stderr(errors));
    taken.context(|| "cannot take the streams of a command")
}

/// Does what comes from the terminal to the command, and ends it when whoever asked is gone.
fn listen(connection: &Arc<OwnedFd>) {
    let from = Arc::clone(connection);
    std::thread::spawn(move || {
        while let Ok(Some(Pass { signal })) = wire::receive(&from.as_fd()) {
            match Signal::from_named_raw(signal) {
                Some(signal @ (Signal::INT | Signal::QUIT | Signal::WINCH)) => line::pass(signal),
                _ => break,
            }
        }
        line::hang_up();
    });
}
