//! The way of a push.

pub mod environment;
pub mod follow;
pub mod joblog;
pub mod queue;
pub mod spawn;
pub mod stage;
pub mod switch;
