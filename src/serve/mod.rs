//! What runs: the processes of a release, the door in front of them, their health, and nginx before it.
//!
//! A [`start::Start`] is one start of one process, written down before it happens. A
//! [`supervision::Supervisor`] keeps it running. [`health`] asks it, the [`door`] leads requests to it, and
//! a [`hold`] lets them wait for a moment.

pub mod backlog;
pub mod builtin;
pub mod calendar;
pub mod detached;
pub mod door;
pub mod exec;
pub mod family;
pub mod health;
pub mod hold;
pub mod journald;
pub mod keep;
pub mod logs;
pub mod nginx;
pub mod output;
pub mod relay;
pub mod start;
pub mod supervision;
pub mod systemd;
pub mod timers;
pub mod waker;
