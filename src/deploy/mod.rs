//! The way of a push: from a hook's line to a verdict.
//!
//! [`hook`] refuses or queues; [`worker`] takes the lock, lets [`recovery`] mend what a death left,
//! and does what [`queue`] holds; [`look`] sees, [`plan`] decides, [`run`] deploys by way of
//! [`making`], [`stage`], [`rehearsal`], [`opening`] and [`switch`]; [`rollback`] goes back; [`prune`] tidies up.
//! What is said on the way stands in the job's [`joblog`], which [`follow`] reads to the pusher.

pub mod adoption;
pub mod backup;
pub mod beginning;
pub mod beside;
pub mod branches;
mod cache;
pub mod certificate;
pub mod configuring;
pub mod crew;
pub mod cron;
mod crossing;
mod databases;
pub mod db;
pub mod doctor;
pub mod doorway;
pub mod environment;
pub mod exporting;
pub mod fate;
pub mod follow;
pub mod foresight;
pub mod found;
pub mod hand;
pub mod hook;
pub mod hooked;
pub mod joblog;
pub mod listing;
pub mod look;
pub mod maintenance;
pub mod making;
pub mod metrics;
pub mod notice;
pub mod opening;
pub mod password;
pub mod plan;
pub mod preview;
pub mod processes;
pub mod prune;
pub mod queue;
pub mod recovery;
pub mod rehearsal;
pub mod removal;
pub mod request;
mod returning;
pub mod rollback;
pub mod room;
pub mod run;
pub mod sharing;
pub mod shown;
pub mod site;
pub mod spare;
pub mod spawn;
pub mod stage;
pub mod stop;
pub mod switch;
pub mod transaction;
pub mod trial;
pub mod turn;
pub mod underway;
pub mod verdict;
pub mod verify;
pub mod waking;
pub mod watching;
pub mod worker;
