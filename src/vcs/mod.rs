//! Reads a revision and writes its tree: exactly the revision, and nothing outside its place.
//!
//! What is read here was pushed: names, links and sizes are whatever the pusher wanted. A [`Tree`]
//! without complaints cannot leave the directory that it is exported to.

pub mod bundle;
mod delta;
pub mod export;
pub mod git;
pub mod hg;
mod kept;
pub mod links;
pub mod manifest;
pub mod objects;
mod order;
mod packs;
pub mod paths;
mod repository;
mod reuse;
pub mod submodules;
mod taker;
pub mod times;
pub mod tree;
mod walk;
mod writer;

pub use git::{AtTop, Repository as Objects};
pub use repository::Repository;
pub use tree::{Entry, Kind, Tree};
