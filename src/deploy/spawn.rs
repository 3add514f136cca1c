//! Starts a worker that outlives whoever asked for it.

use std::ffi::OsString;
use std::io::Read;
use std::process::{Command, Stdio};

use super::queue;
use crate::app::App;
use crate::app::names::list_names;
use crate::serve::detached::{self, Killed};
use crate::serve::systemd::Manager;
use crate::support::program::{environment, program};
use crate::support::{Context, Error, Result};

/// Starts a worker for the app, and returns when it stands on its own feet.
pub fn worker(app: &App) -> Result<()> {
    workers(std::slice::from_ref(app))
}

/// Starts a worker for several apps of one root, which works for one after the other: a push of many branches
/// must not start as many builds at once.
///
/// Where systemd looks after what this user starts the worker becomes a unit of its own: a server that ends
/// a login's processes leaves it alone then, and so does the end of the unit that asked for it (a boot's, a
/// holder's). Elsewhere it gets a session of its own.
pub fn workers(apps: &[App]) -> Result<()> {
    let (others, apps): (Vec<App>, Vec<App>) = apps.iter().cloned().partition(|app| app.user().is_some());
    // A unit of systemd looks at their queues, whoever puts something there.
    others.iter().try_for_each(queue::wake)?;
    let apps = apps.as_slice();
    let Some(app) = apps.first() else { return Ok(()) };
    let program = program()?;
    let what = format!("deploys {}", list_names(apps.iter().map(App::name)));
    let start = |manager| detached::as_unit(manager, &program, &arguments(apps), &what, Killed::Ends);
    if Manager::here().is_some_and(start) {
        return Ok(());
    }
    let mut command = Command::new(program);
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
