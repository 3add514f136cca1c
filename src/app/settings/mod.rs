//! The configuration of an app, in three steps.
//!
//! 1. `fragments`: what one file may say, and where it says it. `keys` is the one list of what is known.
//! 2. `inputs`: the defaults, the repository's `receiver.toml` and the server's, merged key by key; each
//!    value remembers its file and line.
//! 3. `settings`: validated, with types that only sound values can have. Nothing else leaves this folder.
//!
//! The promises: whatever the bytes are, reading them ends in settings or in an error, never in a panic
//! or an overflow; the error lists everything that is wrong; nothing that a push can write reaches a
//! terminal unescaped, or a path outside of the release.

mod agreement;
mod complaint;
mod database;
mod edit;
mod explain;
mod fragments;
mod inputs;
mod keys;
mod names;
mod nginx;
#[allow(clippy::module_inception, reason = "the third of the three steps is what the folder is named after")]
mod settings;
mod stage;
mod values;
mod watching;

pub use database::{Carry, Database, DatabaseServer, Engine, HoldBy, OnConflict, TableMap};
pub use edit::{server_config_change, server_config_get, server_config_set, server_config_unset};
pub use explain::Explained;
pub use fragments::MOST_BYTES;
pub use names::{BranchName, Domain, Globs, Statuses, branch_matches};
pub use nginx::{Certificate, Listen, Nginx};
pub use settings::{
    Branch, BranchData, Cron, Export, Keep, Limits, Link, Process, Protocol, Schema, Settings, Shared, Urls,
    Versions, Web,
};
pub use stage::{Action, Stage, StageName};
pub use values::RelativePath;
pub use watching::{Metrics, Notify, Occasion};

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
