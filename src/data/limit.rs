//! How long something may take, and who may stop it before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::support::{Error, Result};

/// How far a copy has come, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is copied.
    pub done: u64,
    /// What there is to copy.
    pub total: u64,
}

/// The end of patience: a moment, or a flag that somebody else raises.
#[derive(Clone, Copy, Debug)]
pub struct Limit<'a> {
    began: Instant,
    allowed: Duration,
    cancelled: Option<&'a AtomicBool>,
}

impl<'a> Limit<'a> {
    /// From now, no longer than `allowed`.
    pub fn within(allowed: Duration) -> Self {
        Limit { began: Instant::now(), allowed, cancelled: None }
    }

    /// And not once `flag` is raised.
    #[must_use]
    pub fn unless(self, flag: &'a AtomicBool) -> Self {
        Limit { cancelled: Some(flag), ..self }
    }

    /// An error when the time is over or the flag is raised.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Error::new("it was cancelled"));
        }
        if self.is_over() {
            return Err(Error::new(format!("it took longer than {:?}", self.allowed)));
        }
        Ok(())
    }

    /// Whether somebody raised the flag.
    #[cfg(feature = "sqlite")]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.began.elapsed() >= self.allowed
    }

    /// How much time there is left.
    pub fn left(&self) -> Duration {
        self.allowed.saturating_sub(self.began.elapsed())
    }

    /// How long it has taken so far.
    pub fn spent(&self) -> Duration {
        self.began.elapsed()
    }
}
