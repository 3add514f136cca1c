//! What everything stands on: the error, what the user is told, and the one module that may be unsafe.

pub mod error;

pub use error::{Context, Error, Result};
