//! The black-box tests: one binary, real git, the shipped hooks, the program as a user has it.

#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc, clippy::format_push_string)]
#![allow(
    clippy::items_after_statements,
    clippy::unused_self,
    clippy::match_wild_err_arm,
    clippy::useless_format
)]

mod adoption;
mod aged;
mod ahead;
mod apart;
mod away;
mod back;
mod backed;
mod backup;
mod beside_live;
mod booted;
mod branches;
mod brim;
mod browser;
mod cache;
mod calls;
mod certificate;
mod changesets;
mod ci;
mod commands;
mod create;
mod cron;
mod damage;
mod data;
mod deaths;
mod demo;
mod disconnect;
mod django;
mod doors;
mod dumped;
mod engines;
mod examples;
mod frameworks;
mod full;
mod health;
mod hgsite;
mod hold;
mod hosts;
mod init;
mod install;
mod interrupted;
mod keeping;
mod keys;
mod kill;
mod kinds;
mod layers;
mod load;
mod logs;
mod lost;
mod many;
mod mercurial;
mod moving;
mod newest;
mod nginx;
mod notify;
mod orphans;
mod package;
mod plumbing;
mod previews;
mod promises;
mod prune;
mod push;
mod random;
mod reader;
mod reboot;
mod refs;
mod removal;
mod restored;
mod reuse;
mod servers;
mod serving;
mod settings;
mod setup;
mod shapes;
mod shared;
mod site;
mod ssh;
mod sshd;
mod stages;
mod streams;
mod submodules;
mod system;
mod takeover;
mod together;
mod tree;
mod versions;
mod web;
mod world;
mod writes;
