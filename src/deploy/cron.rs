//! `[cron]`: commands at their times, in the live release.
//!
//! Where systemd keeps what runs, each has a transient timer; elsewhere one small process for each app
//! looks at the clock. Both end in `receiver cron APP NAME`, which runs the command: never twice at
//! once, its output and its end in `receiver logs APP NAME`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, Mode};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::environment::Environment;
use super::hand::{self, Foreign};
use super::look::{self, Scene};
use super::watching;
use crate::app::App;
use crate::app::layout::FORMAT;
use crate::app::settings::Settings;
use crate::serve::calendar::{self, Calendar};
use crate::serve::output::{Log, Voice};
use crate::serve::start::{START_VARIABLE, StartId};
use crate::serve::supervision::Keeper;
use crate::serve::timers::Timers;
use crate::serve::{family, keep};
use crate::support::lock::DirectoryLock;
use crate::support::{Context, Error, Result, clock, files, program};

/// How long commands have to end when all is stopped.
const PATIENCE: Duration = Duration::from_secs(10);

/// The clock may be set: it is looked at as often as this.
const GLANCE: Duration = Duration::from_secs(20);

/// What is arranged: the times by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Times {
    format: u32,
    at: BTreeMap<String, String>,
}

impl Times {
    fn file(app: &App) -> PathBuf {
        app.cron().join(".times.json")
    }

    fn read(app: &App) -> Option<Times> {
        serde_json::from_str(&files::read_text(&Times::file(app)).ok()??).ok()
    }
}

/// Has the commands of these settings run at their times from now on, and no others. Doing it again
/// is harmless; what runs just now is left alone.
pub fn arrange(app: &App, settings: &Settings) -> Result<()> {
    let mut at: BTreeMap<_, _> =
        settings.cron.iter().map(|(name, cron)| (name.clone(), cron.at.clone())).collect();
    if watching::is_wanted(settings) {
        at.insert(watching::NAME.to_owned(), watching::AT.to_owned());
    }
    let timers = Keeper::of_app(app).map(|manager| Timers::of(app, manager));
    if at.is_empty() && !files::exists(&Times::file(app)) {
        return Ok(());
    }
    files::make_directory(&app.cron(), 0o700)?;
    let times = Times { format: FORMAT, at };
    let same = Times::read(app).as_ref() == Some(&times);
    let text = serde_json::to_vec(&times).context(|| "cannot write down the times of [cron]")?;
    files::write_atomic(&Times::file(app), &text, 0o600)?;
    if let Some(timers) = timers {
        end_scheduler(app)?;
        if same && timers.count()? == times.at.len() {
            return Ok(());
        }
        if hand::must_ask(app) {
            return hand::arrange_timers(app, &times.at);
        }
        timers.clear()?;
        for (name, at) in &times.at {
            let calendar: Calendar = at.parse().map_err(|why| Error::new(format!("'{at}' {why}")))?;
            timers.set(name, &calendar.on_calendar())?;
        }
        return Ok(());
    }
    match scheduler(app)? {
        Some(pid) => {
            let _ = rustix::process::kill_process(pid, Signal::HUP);
            Ok(())
        }
        None if times.at.is_empty() => Ok(()),
        None => {
            let root = app.root().as_os_str();
            let name = OsStr::new(app.name().as_str());
            program::detach(&[OsStr::new("cron"), OsStr::new("--root"), root, name])
        }
    }
}

/// Has nothing run any more, and ends what does.
pub fn stop(app: &App) -> Result<()> {
    if hand::must_ask(app) {
        hand::end_timers(app)?;
    } else if let Some(manager) = Keeper::of_app(app) {
        Timers::of(app, manager).end()?;
    }
    end_scheduler(app)
}

fn lock(app: &App, name: &str) -> Result<File> {
    let path = app.cron().join(name);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(&path).context(|| format!("cannot open {}", path.display()))
}

const SCHEDULER: &str = ".scheduler.lock";

/// The process that looks at the clock.
fn scheduler(app: &App) -> Result<Option<Pid>> {
    if !files::exists(&app.cron().join(SCHEDULER)) {
        return Ok(None);
    }
    let mut file = lock(app, SCHEDULER)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return Ok(None);
    }
    let mut text = String::new();
    let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut text);
    Ok(text.parse().ok().and_then(Pid::from_raw))
}

fn end_scheduler(app: &App) -> Result<()> {
    let until = Instant::now() + PATIENCE * 2;
    let mut asked = None;
    while let Some(pid) = scheduler(app)? {
        let late = Instant::now() > until;
        if late || asked != Some(pid) {
            let _ = rustix::process::kill_process(pid, if late { Signal::KILL } else { Signal::TERM });
            asked = Some(pid);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Looks at the clock until it is asked to end, and runs what is due.
pub fn schedule(app: &App) -> Result<()> {
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context(|| "cannot look after what commands leave")?;
    // Before anybody can know of us: a hang-up means that the times have changed.
    let (sender, events) = mpsc::channel();
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD])
        .context(|| "cannot wait for signals")?;
    std::thread::spawn(move || signals.forever().take_while(|signal| sender.send(*signal).is_ok()).count());
    files::make_directory(&app.cron(), 0o700)?;
    let mut held = lock(app, SCHEDULER)?;
    if rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
        // Somebody else is as quick.
        return Ok(());
    }
    let told = held.set_len(0).and_then(|()| held.write_all(std::process::id().to_string().as_bytes()));
    told.context(|| "cannot say who looks at the clock")?;
    program::let_go_of_output()?;
    program::let_go_of_errors()?;
    look_at_the_clock(app, &events);
    end_commands();
    Ok(())
}

fn look_at_the_clock(app: &App, events: &mpsc::Receiver<i32>) {
    let mut due = dues(app, clock::now());
    loop {
        let now = clock::now();
        for (name, (calendar, at)) in &mut due {
            if at.is_some_and(|at| at <= now) {
                start(app, name);
                // What was missed while the machine slept runs once.
                *at = calendar.next(now, &calendar::zone());
            }
        }
        let next = due.values().filter_map(|(_, at)| *at).min();
        let pause = next.map_or(GLANCE, |next| calendar::until(next, clock::now()).min(GLANCE));
        match events.recv_timeout(pause.max(Duration::from_millis(20))) {
            Ok(SIGHUP) => due = dues(app, clock::now()),
            Ok(SIGCHLD) => drop(family::reap(None)),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

type Due = BTreeMap<String, (Calendar, Option<Timestamp>)>;

fn dues(app: &App, now: Timestamp) -> Due {
    let times = Times::read(app).map(|times| times.at).unwrap_or_default();
    let calendars = times.into_iter().filter_map(|(name, at)| Some((name, at.parse::<Calendar>().ok()?)));
    calendars
        .map(|(name, calendar)| {
            let next = calendar.next(now, &calendar::zone());
            (name, (calendar, next))
        })
        .collect()
}

fn start(app: &App, name: &str) {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("receiver").arg("--root").arg(app.root()).args(["cron", app.name().as_str(), name]);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        say(app, name, &format!("cannot be started: {error}"));
    }
}

fn end_commands() {
    let until = Instant::now() + PATIENCE;
    for pid in family::descendants() {
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    while !family::descendants().is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
        family::reap(None);
    }
    family::kill_descendants();
}

/// One line about a command that does not run.
fn say(app: &App, name: &str, line: &str) {
    let log = StartId::free(app, name).and_then(|id| Log::open(app, name, &id, 1 << 20));
    match log {
        Ok(mut log) => log.write(Voice::Receiver, [line.as_bytes()]),
        Err(error) => log::warn!("{}", error.one_line()),
    }
}

/// Runs one command of `[cron]` in the live release, to its end. Where it still runs from before,
/// that is said, and nothing is done.
pub fn run(app: &App, name: &str) -> Result<u8> {
    if name == watching::NAME {
        return watching::look(app).map(|()| 0);
    }
    let scene = Scene::read(app)?;
    let record = scene.live_record(app)?.ok_or_else(|| Error::new("nothing is live yet"))?;
    let settings = look::settings_of(app, record)?;
    let Some(cron) = settings.cron.get(name) else {
        let names: Vec<&str> = settings.cron.keys().map(String::as_str).collect();
        return Err(Error::usage(format!("[cron] of the live release has no '{}'", name.escape_default()))
            .hint(format!("it has: {}", names.join(", "))));
    };
    files::make_directory(&app.cron(), 0o700)?;
    let held = lock(app, &format!("{name}.lock"))?;
    if rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).is_err() {
        say(app, name, "left out: it still runs from before");
        return Ok(0);
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context(|| "cannot look after what a command leaves")?;
    let id = StartId::free(app, name)?;
    let log = Log::open(app, name, &id, settings.limits.log_bytes)?;
    let directory = app.release(&record.id);
    let release = DirectoryLock::share(&directory)?
        .ok_or_else(|| Error::new(format!("{} is being removed", record.id)))?;
    release.inherit()?;
    let mut environment = Environment::of_release(app, record)?;
    environment.set(START_VARIABLE, id.as_str());
    let log = Arc::new(Mutex::new(log));
    let begun = Instant::now();
    let trouble = || format!("cannot start {name}");
    let (reader, writer) = std::io::pipe().context(trouble)?;
    let both = writer.try_clone().context(trouble)?;
    let status = if app.user().is_some() {
        let foreign = Foreign {
            app,
            release: &record.id,
            words: hand::shell(&cron.command),
            environment: &environment,
            limits: &settings.limits,
            terminal: false,
        };
        let mut running = foreign.start_quiet(writer).context(trouble)?;
        drop(both);
        let reading = keep::read(reader, Arc::clone(&log));
        let ended = hand::wait(&mut running)?;
        keep::finish_reading(reading);
        hand::status(ended)
    } else {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &cron.command]).current_dir(&directory).env_clear().envs(environment.pairs());
        command.stdin(Stdio::null()).stdout(writer).stderr(both);
        let mut child = command.spawn().context(trouble)?;
        drop(command);
        let reading = keep::read(reader, Arc::clone(&log));
        let status = child.wait().context(|| format!("cannot wait for {name}"))?;
        family::kill_descendants();
        keep::finish_reading(reading);
        status
    };
    let how = match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
    };
    if let Ok(mut log) = log.lock() {
        let line = format!("{how} after {:.1} s", begun.elapsed().as_secs_f32());
        log.write(Voice::Receiver, [line.as_bytes()]);
    }
    Ok(u8::from(!status.success()))
}
