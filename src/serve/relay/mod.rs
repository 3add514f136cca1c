//! Connections that are joined in pairs, byte by byte both ways, in one poll loop.
//!
//! What is said is not looked at: HTTP, FastCGI, uwsgi and WebSockets alike. A half-close is passed on, an
//! end of one side ends the other when all that it said has arrived. A pair takes memory only for bytes that
//! one side sent and the other does not take yet, at most one [`CHUNK`] in each direction.

mod ends;
mod pair;
#[cfg(test)]
mod tests;

use std::io;

use mio::event::Event;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

pub(super) use ends::{listen, raise_files};
use pair::{Pair, Turn};

/// What is read at once, in bytes.
const CHUNK: usize = 64 << 10;

/// Whose end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// All pairs of a poll loop.
#[derive(Debug)]
pub(super) struct Relay {
    registry: Registry,
    /// The first of the tokens that are the relay's.
    first: usize,
    /// Each with the number of whoever it belongs to.
    pairs: Vec<Option<(u64, Pair)>>,
    free: Vec<usize>,
    /// Pairs that stopped in the middle, to let others have their turn.
    again: Vec<usize>,
    chunk: Vec<u8>,
}

impl Relay {
    /// No pairs yet; all tokens from `first` on are theirs.
    pub(super) fn new(registry: Registry, first: usize) -> Relay {
        let chunk = vec![0; CHUNK];
        Relay { registry, first, pairs: Vec::new(), free: Vec::new(), again: Vec::new(), chunk }
    }

    /// Joins two connections. From now on they end together.
    pub(super) fn join(&mut self, client: UnixStream, server: UnixStream) -> io::Result<()> {
        self.join_for(0, client, server)
    }

    /// Joins two connections that belong to `owner`.
    pub(super) fn join_for(
        &mut self,
        owner: u64,
        mut client: UnixStream,
        mut server: UnixStream,
    ) -> io::Result<()> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        let token = self.first + 2 * slot;
        let registered = self
            .registry
            .register(&mut client, Token(token), both)
            .and_then(|()| self.registry.register(&mut server, Token(token + 1), both));
        if let Err(error) = registered {
            self.free.push(slot);
            return Err(error);
        }
        self.pairs[slot] = Some((owner, Pair::new(client, server)));
        self.again.push(slot);
        Ok(())
    }

    /// Passes on what an event announced.
    pub(super) fn event(&mut self, event: &Event) {
        let Some(at) = event.token().0.checked_sub(self.first) else { return };
        let side = if at % 2 == 0 { Side::Client } else { Side::Server };
        // An event of a pair that ended in the same round finds nobody, or its successor, whom it does no harm
        // but for what it says of an end.
        if event.is_write_closed()
            && let Some(Some((_, pair))) = self.pairs.get_mut(at / 2)
            && pair.is_closed(side)
        {
            pair.is_gone(side);
        }
        self.turn(at / 2);
    }

    /// Goes on with the pairs that stopped in the middle.
    pub(super) fn go_on(&mut self) {
        for slot in std::mem::take(&mut self.again) {
            self.turn(slot);
        }
    }

    /// Whether a pair stopped in the middle.
    pub(super) fn has_more(&self) -> bool {
        !self.again.is_empty()
    }

    /// How many pairs there are.
    pub(super) fn len(&self) -> usize {
        self.pairs.len() - self.free.len()
    }

    /// How many pairs belong to `owner`.
    pub(super) fn count(&self, owner: u64) -> usize {
        self.pairs.iter().flatten().filter(|(whose, _)| *whose == owner).count()
    }

    fn turn(&mut self, slot: usize) {
        let Some(Some((_, pair))) = self.pairs.get_mut(slot) else { return };
        match pair.turn(&mut self.chunk) {
            Turn::Waits => {}
            Turn::HasMore if self.again.contains(&slot) => {}
            Turn::HasMore => self.again.push(slot),
            Turn::Ended => {
                if let Some((_, mut pair)) = self.pairs[slot].take() {
                    pair.deregister(&self.registry);
                    self.free.push(slot);
                }
            }
        }
    }
}
