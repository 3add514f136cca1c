//! The black-box tests: one binary, real git, the shipped hooks, the program as a user has it.

#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod create;
mod data;
mod demo;
mod install;
mod layers;
mod plumbing;
mod push;
mod refs;
mod tree;
mod world;
mod writes;
