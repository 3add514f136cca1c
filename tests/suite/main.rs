//! The black-box tests: one binary, real git, the shipped hooks, the program as a user has it.

#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod away;
mod calls;
mod damage;
mod demo;
mod full;
mod kill;
mod prune;
mod push;
mod reader;
mod together;
mod world;
