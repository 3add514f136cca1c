//! What only root can do, asked of a small service that runs as root: the questions, and how they are asked.
//!
//! On a server that setup made, the worker is `receiver` and no root. For what is left (becoming an app's user, giving
//! a release to it, a unit, nginx's site) it sends one [`Request`] a connection, and gets one [`Reply`]. A request has
//! names and numbers only: every path is made by the side that answers, which believes nothing of it
//! (`server::root`). Secrets go in the request's body; nothing of it becomes an argument of a program that others
//! see, or a line of a file that root owns.

mod client;
mod request;
mod wire;

pub use client::{Running, Tether, agent, ask, find_out, run, tether};
pub use request::{Bounds, Ended, Reply, Request, Run};
pub use wire::{MOST, receive, send};
