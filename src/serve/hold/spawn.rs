//! Starts a holder that outlives the worker.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use super::control::Control;
use crate::app::App;
use crate::serve::detached::{self, Killed};
use crate::support::{Error, Result};

/// How long a holder has to come up.
const COMING_UP: Duration = Duration::from_secs(10);

/// Starts a holder, and returns when it listens.
pub(super) fn holder(program: &Path, app: &App, id: &str, times: (Duration, Duration)) -> Result<Control> {
    let what = format!("holds requests of {}", app.name());
    let mut child = detached::start(program, &arguments(app, id, times), &what, Killed::Ends)?;
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
