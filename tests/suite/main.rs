//! The black-box tests: one binary, real git, the shipped hooks, the program as a user has it.

#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc)]

mod data;
mod demo;
mod django;
mod examples;
mod frameworks;
mod push;
mod world;
mod writes;
