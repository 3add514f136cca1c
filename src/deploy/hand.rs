//! What changes hands between receiver and an app's user, where the app has a user of its own. Everywhere else
//! all of this is nothing.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitStatus;

use jiff::Timestamp;

use super::environment::Environment;
use crate::app::settings::{Limits, RelativePath};
use crate::app::{App, ReleaseId};
use crate::root::{self, Bounds, Ended, Reply, Request, Run, Running};
use crate::support::{Context, Error, Result, files};

/// The app's user may write in the release: it builds there.
pub fn give(app: &App, release: &ReleaseId) -> Result<()> {
    if app.user().is_none() {
        return Ok(());
    }
    root::ask(&Request::Give { app: app.name().clone(), release: release.clone() }).map(drop)
}

/// The release is receiver's again. One that is not there is fine.
pub fn take_back(app: &App, release: &ReleaseId) -> Result<()> {
    if app.user().is_none() || !files::is_directory(&app.release(release)) {
        return Ok(());
    }
    root::ask(&Request::TakeBack { app: app.name().clone(), release: release.clone() }).map(drop)
}

/// The same for one that is undone: what cannot be taken back is removed.
pub fn take_back_or_remove(app: &App, release: &ReleaseId) -> Result<()> {
    take_back(app, release).or_else(|error| {
        log::warn!("{}", error.one_line());
        root::ask(&Request::RemoveRelease { app: app.name().clone(), release: release.clone() }).map(drop)
    })
}

/// What we brought into `shared/` is the app's user's.
pub fn give_shared(app: &App, path: &RelativePath) -> Result<()> {
    if app.user().is_none() {
        return Ok(());
    }
    root::ask(&Request::GiveShared { app: app.name().clone(), path: path.clone() }).map(drop)
}

/// Removes a directory of databases, with what the app's user may have put there.
pub fn remove_databases(app: &App, directory: &Path) -> Result<()> {
    let name = directory.file_name().and_then(|name| name.to_str());
    match name.filter(|_| app.user().is_some() && files::exists(directory)) {
        Some(name) => {
            let (app, directory) = (app.name().clone(), name.to_owned());
            root::ask(&Request::Remove { app, directory }).map(drop)
        }
        None => files::remove_tree(directory),
    }
}

/// A command in a release, to be run as the app's user.
pub struct Foreign<'a> {
    /// The app.
    pub app: &'a App,
    /// The release.
    pub release: &'a ReleaseId,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Its whole environment.
    pub environment: &'a Environment,
    /// What it may use.
    pub limits: &'a Limits,
    /// Whether its input is to be the terminal that controls it.
    pub terminal: bool,
}

impl Foreign<'_> {
    /// Starts it.
    pub fn start(self, input: impl AsFd, output: impl AsFd, errors: impl AsFd) -> Result<Running> {
        let Limits { memory, tasks, cpu, .. } = *self.limits;
        let run = Run {
            app: self.app.name().clone(),
            release: self.release.clone(),
            words: self.words,
            environment: self.environment.pairs(),
            bounds: Bounds { memory, tasks, cpu },
            terminal: self.terminal,
        };
        root::run(run, [input.as_fd(), output.as_fd(), errors.as_fd()])
    }

    /// The same with nothing to read, and one place for what it prints.
    pub fn start_quiet(self, output: impl AsFd) -> Result<Running> {
        let nothing = std::fs::File::open("/dev/null").context(|| "cannot open /dev/null")?;
        self.start(nothing, &output, &output)
    }
}

/// The words for a shell that runs a command.
pub fn shell(command: &str) -> Vec<String> {
    ["/bin/sh", "-c", command].map(str::to_owned).to_vec()
}

/// How something ended, as the system says it of a child.
pub fn status(ended: Ended) -> ExitStatus {
    use std::os::unix::process::ExitStatusExt;
    match ended {
        Ended::Exited(code) => ExitStatus::from_raw((code & 0xFF) << 8),
        Ended::Signalled(signal) => ExitStatus::from_raw(signal & 0x7F),
    }
}

/// Waits for its end, however long that takes.
pub fn wait(running: &mut Running) -> Result<Ended> {
    loop {
        if let Some(ended) = running.wait(std::time::Duration::from_secs(3600))? {
            return Ok(ended);
        }
    }
}

/// Whether root has to be asked for what it alone can do for the app.
pub fn must_ask(app: &App) -> bool {
    crate::serve::systemd::must_ask(app)
}

/// Has root say when the certificate of an app's site ends, which only root may read.
pub fn certificate_end(app: &App) -> Result<Timestamp> {
    match root::find_out(&Request::CertificateEnd { app: app.name().clone() })? {
        Reply::Ends(end) => Ok(end),
        _ => Err(Error::new("the root service did not say when the certificate ends")),
    }
}

/// Has root make the app of a branch; whether anything of it was missing.
pub fn make_branch(parent: &App, branch: &str) -> Result<bool> {
    let branch = branch.parse().map_err(|why| Error::new(format!("'{branch}' {why}")))?;
    root::ask(&Request::MakeBranch { app: parent.name().clone(), branch })
}

/// Has root take the app of a branch back, or what is there of it: its place, its site, its user.
pub fn end_branch(app: &App, keep: bool) -> Result<bool> {
    root::ask(&Request::EndBranch { app: app.name().clone(), keep })
}

/// Has root take back what is half there of apps of branches.
pub fn sweep_branches(parent: &App) -> Result<bool> {
    root::ask(&Request::SweepBranches { app: parent.name().clone() })
}

/// Has root bring nginx's site up to date; whether anything changed.
pub fn refresh_site(app: &App) -> Result<bool> {
    root::ask(&Request::Site { app: app.name().clone() })
}

/// Has root arrange what runs at its times.
pub fn arrange_timers(app: &App, at: &std::collections::BTreeMap<String, String>) -> Result<()> {
    root::ask(&Request::Timers { app: app.name().clone(), at: at.clone() }).map(drop)
}

/// Has root take all timers away, and end what runs.
pub fn end_timers(app: &App) -> Result<()> {
    root::ask(&Request::EndTimers { app: app.name().clone() }).map(drop)
}
