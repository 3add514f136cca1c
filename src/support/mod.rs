//! What everything stands on: the error, files that survive a death, text made safe, the clock.

pub mod clock;
pub mod death;
pub mod error;
pub mod files;
pub mod text;

pub use error::{Context, Error, Exit, Result};
