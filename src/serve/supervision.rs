//! Who keeps a process running: systemd where it is there, receiver's own small supervisor elsewhere.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::start::Start;
use crate::support::Result;

/// How a process fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs.
    Running,
    /// It ended by itself, and is started again in a moment.
    Restarting,
    /// It is asked to end.
    Stopping,
    /// It does not run, and nobody starts it.
    Stopped,
}

/// What is known about a start that is kept running.
#[derive(Clone, Debug, Serialize)]
pub struct Condition {
    /// How it fares.
    pub state: State,
    /// Its process, where it runs.
    pub pid: Option<u32>,
    /// Bytes of memory that it uses, with its children.
    pub memory: Option<u64>,
    /// How often it ended by itself and was started again.
    pub restarts: u32,
    /// Since when it is so, in UTC.
    pub since: Option<Timestamp>,
    /// How it ended the last time: `exited with status 1`, `was ended by signal 9`.
    pub last_end: Option<String>,
}

/// Keeps processes running: each start by itself, whoever asked for it.
///
/// Both parts hold the release's lock shared as long as anything of the start runs, start it again
/// with growing pauses when it ends by itself, keep what it prints, and survive whoever asked.
pub trait Supervisor: Sync {
    /// Starts it, and keeps it running from now on. Returns when somebody looks after it, not when it
    /// is up.
    fn start(&self, start: &Start) -> Result<()>;

    /// How it fares now.
    fn condition(&self, start: &Start) -> Result<Condition>;

    /// Ends it: SIGTERM, `start.patience`, then SIGKILL to all that is left of it. Returns when nothing
    /// of it runs. One that does not run is fine.
    fn stop(&self, start: &Start) -> Result<()>;

    /// The last lines that this start printed, at most `lines`, oldest first, as they came.
    fn last_output(&self, start: &Start, lines: usize) -> Result<Vec<String>>;
}

/// How long a look at a process that comes up waits before the next.
pub const GLANCE: Duration = Duration::from_millis(20);
