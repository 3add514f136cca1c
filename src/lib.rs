//! `receiver`: `git push` to your own server becomes a live release, with a way back.
//!
//! The rooms, arrows only downward:
//!
//! - `cli`: one file a subcommand: arguments, one call into the library, print.
//! - `server`: set-up, the root service's answering side, keys, what comes over ssh, and who carries it out.
//! - `deploy`: the way of a push: queue, worker, plan, release, stages, switch, rollback, recovery, prune.
//! - `vcs`, `schema`, `data`, `serve`: read a revision and write its tree; when is it a schema change;
//!   databases; processes, the door, health, nginx. None of the four knows another.
//! - `root`: what only root can do, asked of a small service.
//! - `app`: the disk layout, settings, records, journal, lock: the values, and the only way to write them.
//! - `support`: the error, what the user is told, the one unsafe module.

pub mod app;
pub mod cli;
pub mod data;
pub mod deploy;
pub mod root;
pub mod schema;
pub mod serve;
pub mod server;
pub mod support;
pub mod vcs;
