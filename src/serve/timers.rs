//! The times of `[cron]` under systemd: transient timers, made anew by a boot or a deploy.

use std::path::Path;

use jiff::Timestamp;

use super::systemd::{Manager, escape};
use crate::app::App;
use crate::app::server::{HOME, RECEIVER};
use crate::support::{Context, Error, Result, program};

/// The transient timers of one app's `[cron]`.
#[derive(Debug)]
pub struct Timers {
    app: App,
    manager: Manager,
}

impl Timers {
    /// Those of an app.
    pub fn of(app: &App, manager: Manager) -> Timers {
        Timers { app: app.clone(), manager }
    }

    fn prefix(&self) -> String {
        format!("receiver-cron-{}", escape(self.app.directory()))
    }

    /// All of a kind, as a pattern; a backslash is itself in one (systemctl matches with FNM_NOESCAPE).
    fn all(&self, kind: &str) -> String {
        format!("{}-*.{kind}", self.prefix())
    }

    /// How many there are.
    pub fn count(&self) -> Result<usize> {
        let all = self.all("timer");
        let text = self.manager.ask(&["list-units", "--all", "--plain", "--no-legend", "--", &all])?;
        Ok(text.lines().filter(|line| !line.trim().is_empty()).count())
    }

    /// Runs `receiver cron APP NAME` at these times. A new name each time: the service of an older
    /// timer may still run.
    pub fn set(&self, name: &str, times: &[String]) -> Result<()> {
        // They are gone after a boot, which makes them anew.
        self.manager.prepare(self.app.root())?;
        let number = Timestamp::now().as_microsecond();
        let unit = format!("{}-{}-{number:x}", self.prefix(), escape(Path::new(name)));
        let mut command = self.manager.command("systemd-run");
        command.args([
            "--quiet",
            "--collect",
            "--timer-property=AccuracySec=1s",
            "--property=KillMode=mixed",
        ]);
        command.arg(format!("--unit={unit}"));
        command.arg(format!("--description=receiver: {name} of {}", self.app.name()));
        command.args(times.iter().map(|time| format!("--on-calendar={time}")));
        if self.app.user().is_some() {
            command.args([format!("--uid={RECEIVER}"), format!("--setenv=HOME={HOME}")]);
        } else {
            for (name, value) in program::environment() {
                command.arg(format!("--setenv={name}={value}"));
            }
        }
        command.arg("--").arg(program::program()?).arg("--root").arg(self.app.root());
        command.args(["cron", self.app.name().as_str(), name]);
        let output = command.output().context(|| "cannot start systemd-run")?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        Err(Error::new(format!("cannot have {name} run at its times")).caused_by(Error::new(said)))
    }

    /// Takes the timers away; what runs is left alone.
    pub fn clear(&self) -> Result<()> {
        self.manager.ask(&["stop", "--", &self.all("timer")]).map(drop)
    }

    /// Takes the timers away, and ends what runs.
    pub fn end(&self) -> Result<()> {
        self.clear()?;
        self.manager.ask(&["stop", "--", &self.all("service")]).map(drop)
    }
}
