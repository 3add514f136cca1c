//! Starts this program once more, to outlive whoever starts it.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::systemd::Manager;
use crate::support::program::{self, environment};
use crate::support::{Context, Result};

/// What systemd does when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Killed {
    /// Nothing: somebody else notices.
    Ends,
    /// It starts it again.
    ComesBack,
}

/// Starts it: as a unit of its own where systemd looks after processes, since that ends what a unit started
/// when the unit ends; else as a child, which is to make a session of its own.
pub fn start(program: &Path, arguments: &[OsString], what: &str, killed: Killed) -> Result<Option<Child>> {
    if let Some(manager) = Manager::here()
        && as_unit(manager, program, arguments, what, killed)
    {
        return Ok(None);
    }
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().context(|| format!("cannot start what {what}"))?;
    // It is to live on when a stage ends, and when we do.
    program::outlives(child.id());
    Ok(Some(child))
}

/// Starts it as a unit of its own; `false` where that does not work.
pub fn as_unit(manager: Manager, program: &Path, arguments: &[OsString], what: &str, killed: Killed) -> bool {
    let mut command = manager.command("systemd-run");
    command.args(["--quiet", "--collect", "--property=KillMode=mixed"]);
    if killed == Killed::ComesBack {
        command.args(["--property=Restart=on-failure", "--property=RestartSec=1s"]);
    }
    command.arg(format!("--description=receiver {what}"));
    for (name, value) in environment() {
        command.arg(format!("--setenv={name}={value}"));
    }
    command.arg("--").arg(program).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
