//! Somebody is told: the command of `[notify]` gets the event as one JSON object on its input.
//!
//! An event is first a file in `receiver/notices/`; a process of its own then runs the command for each, one after
//! the other, and removes it, whatever came of that. So neither a command that hangs nor one that fails can break or
//! delay a deploy, and none is told twice of the same. What the command prints, and how it ended, is in
//! `receiver logs APP notify`; that the last one failed, in `status`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::look;
use super::queue::{Job, Order};
use super::verdict::Verdict;
use crate::app::journal::Outcome;
use crate::app::layout::FORMAT;
use crate::app::settings::{Notify, Occasion};
use crate::app::{App, AppName, ReleaseId, Revision, record};
use crate::serve::detached::{self, Killed};
use crate::serve::output::{Log, Voice};
use crate::serve::start::StartId;
use crate::serve::{family, keep};
use crate::support::{Context, Error, Result, clock, files, lock, program};

/// How long the command may take, for one event.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name that it has in `receiver logs`.
pub const NAME: &str = "notify";

/// What is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notice {
    format: u32,
    /// What it is about.
    pub event: Occasion,
    /// The app.
    pub app: AppName,
    /// When it happened, in UTC.
    pub time: Timestamp,
    /// All of it, in a sentence.
    pub summary: String,
    /// What is live now.
    pub live: Option<ReleaseId>,
    /// About a deploy or a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<About>,
    /// About a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Looping>,
    /// About a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Expiring>,
}

/// A deploy or a rollback.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// The job.
    pub job: String,
    /// Who asked for it.
    pub by: String,
    /// What it was to deploy; absent for a rollback.
    pub revision: Option<Revision>,
    /// By which branch.
    pub branch: Option<String>,
    /// Why it failed.
    pub why: Option<String>,
}

/// A process that ends again and again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Looping {
    /// Its name.
    pub name: String,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended.
    pub last_end: Option<String>,
}

/// A certificate that ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Expiring {
    /// Its file.
    pub file: String,
    /// Its end, in UTC.
    pub expires: Timestamp,
}

impl Notice {
    /// One about the app, with nothing but its sentence.
    pub fn new(app: &App, event: Occasion, summary: String) -> Notice {
        Notice {
            format: FORMAT,
            event,
            app: app.name().clone(),
            time: clock::now(),
            summary,
            live: record::live(app).ok().flatten(),
            deploy: None,
            process: None,
            certificate: None,
        }
    }

    /// Puts it where it is delivered from, under a name that the same one would have again.
    pub fn put(&self, app: &App, name: &str) -> Result<()> {
        files::make_directory(&app.notices(), 0o700)?;
        let text = serde_json::to_vec(self).context(|| "cannot write down an event")?;
        files::write_atomic(&app.notices().join(format!("{name}.json")), &text, 0o600)
    }
}

/// Tells of a verdict, where somebody wants to know. Whatever goes wrong with that, the verdict stands.
pub fn of_verdict(app: &App, job: &Job, verdict: &Verdict) {
    let deploys = matches!(job.order, Order::Push { .. } | Order::Deploy { .. } | Order::Rollback { .. });
    let occasion = match verdict.outcome {
        Outcome::Failed => Occasion::Failed,
        Outcome::Live if verdict.code != 0 => Occasion::Attention,
        Outcome::Live => Occasion::Live,
        _ => return,
    };
    let wanted = look::server_settings(app).is_ok_and(|settings| settings.notify.wants(occasion));
    if !deploys || !wanted {
        return;
    }
    let mut summary = format!("{}: {}", app.name(), verdict.line);
    if occasion == Occasion::Attention {
        summary.extend(verdict.notes.iter().take(1).map(|note| format!("; {note}")));
    }
    let mut notice = Notice::new(app, occasion, summary);
    notice.deploy = Some(About {
        job: job.id.clone(),
        by: job.by.clone(),
        revision: job.revision().cloned(),
        branch: job.branch().map(str::to_owned),
        why: verdict.why.clone(),
    });
    if let Err(error) = notice.put(app, &job.id).and_then(|()| send(app)) {
        log::warn!("nobody is told of it: {}", error.one_line());
    }
}

/// Starts what delivers; it outlives us.
pub fn send(app: &App) -> Result<()> {
    let arguments = ["--root".into(), app.root().into(), "notify".into(), app.name().as_str().into()];
    let what = format!("tells of {}", app.name());
    let child = detached::start(&program::program()?, &arguments, &what, Killed::Ends)?;
    if let Some(mut child) = child {
        std::thread::spawn(move || child.wait());
    }
    Ok(())
}

/// Runs the command for each event that waits, the oldest first.
pub fn deliver(app: &App) -> Result<()> {
    // Where we are a child, whoever started us may end first.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context(|| "cannot look after what a command leaves")?;
    files::make_directory(&app.notices(), 0o700)?;
    let lock = lock::DirectoryLock::wait(&app.notices())?;
    for name in files::names_in(&app.notices())? {
        let path = app.notices().join(&name);
        if path.extension().is_none_or(|end| end != "json") || name.starts_with('.') {
            continue;
        }
        let event = files::read_limited(&path, 1 << 20)?;
        let notify = look::server_settings(app)?.notify;
        let told = match (event, notify) {
            (Some(event), Notify { command: Some(command), .. }) => tell(app, &command, &event),
            _ => Ok(()),
        };
        files::remove_file(&path)?;
        note(app, told)?;
    }
    drop(lock);
    Ok(())
}

/// Notes that the last one failed, or that it did not.
fn note(app: &App, told: Result<()>) -> Result<()> {
    match told {
        Ok(()) => files::remove_file(&failure_file(app)),
        Err(error) => files::write_atomic(&failure_file(app), error.one_line().as_bytes(), 0o600),
    }
}

fn failure_file(app: &App) -> std::path::PathBuf {
    app.notices().join("failed")
}

/// Why the last event did not reach anybody; for `status`.
pub fn failure(app: &App) -> Option<String> {
    let why = files::read_text(&failure_file(app)).ok()??;
    Some(format!("[notify] failed: {why}: `receiver logs {} {NAME}` says more", app.name()))
}

/// Runs the command with one event on its input, for as long as it may take.
fn tell(app: &App, command: &str, event: &[u8]) -> Result<()> {
    let trouble = || "cannot start the command of [notify]".to_owned();
    let id = StartId::free(app, NAME)?;
    let log = Arc::new(Mutex::new(Log::open(app, NAME, &id, 1 << 20)?));
    let (reader, writer) = std::io::pipe().context(trouble)?;
    let both = writer.try_clone().context(trouble)?;
    let mut start = Command::new("/bin/sh");
    start.args(["-c", command]).current_dir("/").env_clear().envs(environment(app));
    start.stdin(Stdio::piped()).stdout(writer).stderr(both);
    let mut child = start.spawn().context(trouble)?;
    drop(start);
    let reading = keep::read(reader, Arc::clone(&log));
    if let Some(mut input) = child.stdin.take() {
        let event = event.to_owned();
        // One that does not read it must not hold us up.
        std::thread::spawn(move || input.write_all(&event));
    }
    let begun = Instant::now();
    let ended = loop {
        match child.try_wait().context(|| "cannot wait for the command of [notify]")? {
            Some(status) => break Some(status),
            None if begun.elapsed() > PATIENCE => break None,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let _ = child.kill();
    family::kill_descendants();
    let _ = child.wait();
    keep::finish_reading(reading);
    let how = match ended {
        None => format!("was ended after {} s", PATIENCE.as_secs()),
        Some(status) => match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
        },
    };
    if let Ok(mut log) = log.lock() {
        log.write(Voice::Receiver, [how.as_bytes()]);
    }
    if ended.is_some_and(|status| status.success()) { Ok(()) } else { Err(Error::new(format!("it {how}"))) }
}

/// No secret of the app is in it, and nothing of the pusher's.
fn environment(app: &App) -> Vec<(String, String)> {
    let ours = ["PATH", "HOME", "LANG", "TZ", "USER"];
    let own = program::environment().into_iter().filter(|(name, _)| ours.contains(&name.as_str()));
    own.chain([("RECEIVER_APP".to_owned(), app.name().to_string())]).collect()
}
