//! Versions that sleep: each has a socket, and its web process starts when somebody asks there.
//!
//! One small process an app, the waker, listens on `receiver/run/versions/N.sock` for every kept version, and
//! joins each connection to that version's web process, which it starts first where it sleeps. Only so many are
//! awake at once; who had no connection for longest goes to sleep for another, and one with open connections
//! never does. Who cannot be woken in time gets a 503, in the protocol that the version speaks. The live version
//! is always awake: its socket leads to the door.

mod places;
mod refusal;
mod spawn;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use places::serve;
pub use spawn::{ensure, ensure_by, runs};

use crate::app::Version;
use crate::app::settings::Protocol;
use crate::support::Result;

/// What the waker asks of whoever knows releases and databases.
pub trait Wake: Send + Sync {
    /// What is granted now; `None` where versions that are not live are nobody's to see.
    fn terms(&self) -> Result<Option<Terms>>;

    /// Starts the version's web process, and answers with its socket when that is healthy.
    fn start(&self, version: Version) -> Result<PathBuf>;

    /// Ends it; returns when nothing of it runs.
    fn stop(&self, version: Version) -> Result<()>;
}

/// What is granted.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The versions that may be asked for, and what each speaks.
    pub versions: Vec<(Version, Protocol)>,
    /// The one that is live.
    pub live: Option<Version>,
    /// How many may be awake at once, besides it.
    pub awake: usize,
    /// After how long without a connection one goes to sleep.
    pub idle: Duration,
}

/// Somebody who wakes, for threads.
pub type Waking = Arc<dyn Wake>;
