//! Two connections that are joined.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::Registry;
use mio::net::UnixStream;

use super::Side;

/// How often one direction reads before another pair has its turn.
const ROUNDS: usize = 8;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing can be passed on now.
    Waits,
    /// There is more to pass on: others have their turn first.
    HasMore,
    /// Both directions have ended.
    Ended,
}

/// Two connections that are joined.
#[derive(Debug)]
pub(super) struct Pair {
    client: UnixStream,
    server: UnixStream,
    asked: Flow,
    answered: Flow,
}

impl Pair {
    pub(super) fn new(client: UnixStream, server: UnixStream) -> Pair {
        Pair { client, server, asked: Flow::default(), answered: Flow::default() }
    }

    /// Passes on what can be passed on.
    pub(super) fn turn(&mut self, chunk: &mut [u8]) -> Turn {
        let asked = self.asked.turn(&mut self.client, &mut self.server, chunk);
        let answered = self.answered.turn(&mut self.server, &mut self.client, chunk);
        match (asked, answered) {
            (Turn::Ended, Turn::Ended) => Turn::Ended,
            (Turn::HasMore, _) | (_, Turn::HasMore) => Turn::HasMore,
            _ => Turn::Waits,
        }
    }

    /// Whether one side is closed both ways, as the kernel has it now.
    pub(super) fn is_closed(&self, side: Side) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stream = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        let mut asked = [PollFd::new(stream, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&now)).is_ok() && asked[0].revents().contains(PollFlags::HUP)
    }

    /// One side is closed both ways: nothing can be said to it any more. What it said before still goes on.
    pub(super) fn is_gone(&mut self, side: Side) {
        let flow = match side {
            Side::Client => &mut self.answered,
            Side::Server => &mut self.asked,
        };
        flow.stop();
    }

    pub(super) fn deregister(&mut self, registry: &Registry) {
        let _ = registry.deregister(&mut self.client);
        let _ = registry.deregister(&mut self.server);
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// What was read and could not be written yet.
    left: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
    /// Nothing more is passed on.
    done: bool,
}

impl Flow {
    fn turn(&mut self, from: &mut UnixStream, to: &mut UnixStream, chunk: &mut [u8]) -> Turn {
        for _ in 0..ROUNDS {
            if self.done {
                return Turn::Ended;
            }
            if !self.left.is_empty() {
                let left = std::mem::take(&mut self.left);
                if !self.write(from, to, &left) {
                    return if self.done { Turn::Ended } else { Turn::Waits };
                }
            }
            if self.ended {
                let _ = to.shutdown(Shutdown::Write);
                self.stop();
                return Turn::Ended;
            }
            match from.read(chunk) {
                Ok(0) => self.ended = true,
                Ok(read) => {
                    if !self.write(from, to, &chunk[..read]) {
                        return if self.done { Turn::Ended } else { Turn::Waits };
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Waits,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A reset: what came before it has been read.
                Err(_) => self.ended = true,
            }
        }
        Turn::HasMore
    }

    /// Writes; what is not taken yet is kept. Whether all of it was taken.
    fn write(&mut self, from: &mut UnixStream, to: &mut UnixStream, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match to.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.left = bytes.to_vec();
                    return false;
                }
                Err(_) => {
                    // Nobody reads it: who writes it finds out as if there were nothing between.
                    let _ = from.shutdown(Shutdown::Read);
                    self.stop();
                    return false;
                }
            }
        }
        true
    }

    fn stop(&mut self) {
        self.done = true;
        self.left = Vec::new();
    }
}
