//! Starts a worker that outlives whoever asked for it.

use std::ffi::OsString;
use std::io::Read;
use std::process::{Command, Stdio};

use crate::app::App;
use crate::app::layout::list_names;
use crate::serve::systemd::lingering;
use crate::support::program::{environment, program};
use crate::support::{Context, Error, Result};

/// Starts a worker for the app, and returns when it stands on its own feet.
pub fn worker(app: &App) -> Result<()> {
    workers(std::slice::from_ref(app))
}

/// Starts a worker for several apps of one root, which works for one after the other: a push of many branches
/// must not start as many builds at once.
///
/// Where the user's systemd lingers (it outlives logins) the worker becomes a unit of it: a server
/// that ends a login's processes then leaves it alone. Elsewhere it gets a session of its own.
pub fn workers(apps: &[App]) -> Result<()> {
    let Some(app) = apps.first() else { return Ok(()) };
    if lingering() && by_systemd(apps).is_ok() {
        return Ok(());
    }
    let mut command = Command::new(program()?);
    command.args(arguments(apps));
    command.env_clear().envs(environment()).current_dir(app.directory());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context(|| "cannot start a worker")?;
    // It closes its output when it has a session of its own: before that, the end of the terminal
    // would end it too.
    let mut output = child.stdout.take().ok_or_else(|| Error::new("cannot start a worker"))?;
    let _ = output.read(&mut [0; 1]);
    Ok(())
}

fn arguments(apps: &[App]) -> Vec<OsString> {
    let root = apps.first().map(|app| app.root().as_os_str().to_owned()).unwrap_or_default();
    let begin = ["--root".into(), root, "work".into()];
    begin.into_iter().chain(apps.iter().map(|app| app.name().as_str().into())).collect()
}

fn by_systemd(apps: &[App]) -> Result<()> {
    let uid = rustix::process::getuid().as_raw();
    let mut command = Command::new("systemd-run");
    command.args(["--user", "--quiet", "--collect", "--property=KillMode=mixed"]);
    command.arg(format!("--description=receiver deploys {}", list_names(apps)));
    for (name, value) in environment() {
        command.arg(format!("--setenv={name}={value}"));
    }
    command.arg("--").arg(program()?).args(arguments(apps));
    command.env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().context(|| "cannot start systemd-run")?;
    if status.success() { Ok(()) } else { Err(Error::new("systemd-run could not start a worker")) }
}
