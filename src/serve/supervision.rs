//! Who keeps a process running: systemd where it is there, receiver's own small supervisor elsewhere.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::builtin::Builtin;
use super::start::{Purpose, Start, StartId};
use crate::app::App;
use crate::support::{Result, user_name};

/// Who keeps a start running. It is written down with the start: what was begun under one is ended
/// under the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keeper {
    /// Receiver's own small supervisor.
    #[default]
    Builtin,
}

impl Keeper {
    /// Who keeps a new start on this machine.
    pub fn here(_app: &App, _purpose: Purpose, _id: &StartId) -> Keeper {
        Keeper::Builtin
    }
}

/// Whoever keeps the processes of an app: each start goes to the part that it was written down for.
pub fn of(app: &App) -> Box<dyn Supervisor> {
    Box::new(Parts { builtin: Builtin::of(app) })
}

struct Parts {
    builtin: Builtin,
}

impl Parts {
    fn of(&self, start: &Start) -> &dyn Supervisor {
        match start.keeper {
            Keeper::Builtin => &self.builtin,
        }
    }
}

impl Supervisor for Parts {
    fn start(&self, start: &Start) -> Result<()> {
        self.of(start).start(start)
    }

    fn condition(&self, start: &Start) -> Result<Condition> {
        self.of(start).condition(start)
    }

    fn stop(&self, start: &Start) -> Result<()> {
        self.of(start).stop(start)
    }

    fn last_output(&self, start: &Start, lines: usize) -> Result<Vec<String>> {
        self.of(start).last_output(start, lines)
    }
}

/// Whether this user has a systemd of its own that outlives logins.
pub fn lingering() -> bool {
    let uid = rustix::process::getuid().as_raw();
    Path::new("/var/lib/systemd/linger").join(user_name()).exists()
        && Path::new(&format!("/run/user/{uid}/systemd/private")).exists()
}

/// How a process fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
