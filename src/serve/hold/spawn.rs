//! Starts a holder that outlives the worker.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::control::Control;
use crate::app::App;
use crate::support::program::{self, environment};
use crate::support::{Context, Error, Result};

/// How long a holder has to come up.
const COMING_UP: Duration = Duration::from_secs(10);

/// Starts a holder, and returns when it listens.
pub(super) fn holder(program: &Path, app: &App, id: &str, times: (Duration, Duration)) -> Result<Control> {
    let mut child = None;
    let arguments = arguments(app, id, times);
    if !by_systemd(program, app, &arguments) {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(environment()).current_dir(app.directory());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = command.spawn().context(|| "cannot start a holder at the door")?;
        // It is to live on when a stage ends, and when we do.
        program::outlives(started.id());
        child = Some(started);
    }
    let deadline = Instant::now() + COMING_UP;
    let stream = connect(&app.hold_control(id), &mut child, deadline)?;
    if let Some(mut child) = child {
        // Somebody has to hear of its end, or it stays a zombie for as long as we live.
        std::thread::spawn(move || child.wait());
    }
    let control = Control::new(stream);
    control.wait_for("ready", deadline.saturating_duration_since(Instant::now()))?;
    Ok(control)
}

fn connect(path: &Path, child: &mut Option<Child>, deadline: Instant) -> Result<UnixStream> {
    loop {
        if let Ok(stream) = UnixStream::connect(path) {
            return Ok(stream);
        }
        let ended = child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        if let Some(status) = ended {
            return Err(Error::new(format!("the holder at the door ended at once: {status}")));
        }
        if Instant::now() >= deadline {
            if let Some(child) = child {
                let _ = child.kill();
                let _ = child.wait();
            }
            return Err(Error::new("the holder at the door did not come up"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn arguments(app: &App, id: &str, (most, grace): (Duration, Duration)) -> Vec<OsString> {
    let mut all =
        vec!["--root".into(), app.root().into(), "hold".into(), app.name().as_str().into(), id.into()];
    let millis = |time: Duration| time.as_millis().to_string().into();
    all.extend(["--most".into(), millis(most), "--grace".into(), millis(grace)]);
    all
}

/// A unit of its own, where the worker may be in one: systemd ends what a unit started when it ends.
fn by_systemd(program: &Path, app: &App, arguments: &[OsString]) -> bool {
    let Some(whose) = whose_systemd() else { return false };
    let mut command = Command::new("systemd-run");
    command.args(whose).args(["--quiet", "--collect", "--property=KillMode=mixed"]);
    command.arg(format!("--description=receiver holds requests of {}", app.name()));
    for (name, value) in environment() {
        command.arg(format!("--setenv={name}={value}"));
    }
    command.arg("--").arg(program).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// How the systemd is called that a unit is asked of; `None` where there is none for us.
fn whose_systemd() -> Option<&'static [&'static str]> {
    let uid = rustix::process::getuid();
    if uid.is_root() {
        return Path::new("/run/systemd/system").is_dir().then_some(&[]);
    }
    let user = crate::support::user_name();
    let lingers = Path::new("/var/lib/systemd/linger").join(user).exists()
        && Path::new(&format!("/run/user/{}/systemd/private", uid.as_raw())).exists();
    lingers.then_some(&["--user"])
}
