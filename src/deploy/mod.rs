//! The way of a push.

pub mod joblog;
pub mod queue;
