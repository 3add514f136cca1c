//! Who keeps a process running: systemd where it is there, receiver's own small supervisor elsewhere.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::builtin::Builtin;
use super::start::{Purpose, Start, StartId};
use super::systemd::{self, Manager, Systemd};
use crate::app::App;
use crate::support::Result;

/// Who keeps a start running. It is written down with the start: what was begun under one is ended
/// under the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keeper {
    /// Receiver's own small supervisor.
    #[default]
    Builtin,
    /// The system's systemd.
    System,
    /// The systemd of the app's user.
    User,
}

impl Keeper {
    /// Who keeps a new start on this machine. What runs beside something else ends with it, so it is
    /// never systemd's; nor is what systemd has no name for.
    ///
    /// `RECEIVER_SUPERVISOR=builtin|systemd` overrules what the machine suggests.
    pub fn here(app: &App, purpose: Purpose, id: &StartId) -> Keeper {
        if app.user().is_some() {
            return Keeper::System;
        }
        if purpose == Purpose::Beside || !systemd::takes(&app.process(id.as_str())) {
            return Keeper::Builtin;
        }
        match Keeper::of_machine() {
            Some(Manager::System) => Keeper::System,
            Some(Manager::User) => Keeper::User,
            None => Keeper::Builtin,
        }
    }

    /// The systemd that keeps what is to run at its times for this app, where one does.
    pub fn of_app(app: &App) -> Option<Manager> {
        if app.user().is_some() { Some(Manager::System) } else { Keeper::of_machine() }
    }

    /// The systemd that keeps what is to run on this machine, where one does.
    pub fn of_machine() -> Option<Manager> {
        match std::env::var("RECEIVER_SUPERVISOR").unwrap_or_default().as_str() {
            "builtin" => None,
            "systemd" if rustix::process::geteuid().is_root() => Some(Manager::System),
            "systemd" => Some(Manager::User),
            _ => Manager::here(),
        }
    }
}

/// Whoever keeps the processes of an app: each start goes to the part that it was written down for.
pub fn of(app: &App) -> Box<dyn Supervisor> {
    let systemd = |manager| Systemd::of(app, manager);
    Box::new(Parts {
        builtin: Builtin::of(app),
        system: systemd(Manager::System),
        user: systemd(Manager::User),
    })
}

struct Parts {
    builtin: Builtin,
    system: Systemd,
    user: Systemd,
}

impl Parts {
    fn of(&self, start: &Start) -> &dyn Supervisor {
        match start.keeper {
            Keeper::Builtin => &self.builtin,
            Keeper::System => &self.system,
            Keeper::User => &self.user,
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
