//! The black-box tests: one binary, real git, the shipped hooks, the program as a user has it.

#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod commands;
mod create;
mod demo;
mod plumbing;
mod push;
mod refs;
mod settings;
mod shapes;
mod shared;
mod stages;
mod submodules;
mod tree;
mod world;
