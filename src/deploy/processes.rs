//! The processes of an app over its releases: which of them are wanted, who takes whose place, and
//! what `up`, `down` and `restart` do.
//!
//! What is wanted follows from what is live: the start that `current/.receiver/web.sock` leads to, and
//! the newest start of each other process in that release. Everything else that was started to be live
//! is retired: it ends its requests, and then itself. Every step is harmless when done again.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::crew::{Crew, Report, Upbringing};
use super::environment::Environment;
use super::joblog::Line;
use super::look::{self, Scene};
use super::{cron, site, waking};
use crate::app::guard::Guard;
use crate::app::layout::FORMAT;
use crate::app::record::{self, Record};
use crate::app::settings::Settings;
use crate::app::{App, ReleaseId};
use crate::serve::nginx::Installed;
use crate::serve::start::{Purpose, Start, StartId, WEB};
use crate::serve::supervision::{self, Condition, State, Supervisor};
use crate::serve::{backlog, door};
use crate::support::{Error, Result, files, text};

/// How often is looked whether a retired process has ended its requests.
const LOOK: Duration = Duration::from_millis(50);

/// The processes that start before the switch to a release that joins its version: the web process,
/// and what may run beside its older self.
pub fn before_the_switch(settings: &Settings) -> Vec<&str> {
    let beside = settings.processes.iter().filter(|(_, process)| process.overlap);
    web_only(settings).iter().copied().chain(beside.map(|(name, _)| name.as_str())).collect()
}

/// When the database changes with the switch only the web process starts before it: no job is done
/// twice, on two copies of one queue.
pub fn web_only(settings: &Settings) -> &'static [&'static str] {
    if settings.web.command.is_some() { &[WEB] } else { &[] }
}

/// The socket of the web process that is live, where there is one.
pub fn live_socket(app: &App) -> Option<std::path::PathBuf> {
    let live = record::live(app).ok().flatten()?;
    linked(app, &live)
}

/// The socket that a release's link leads to.
fn linked(app: &App, id: &ReleaseId) -> Option<std::path::PathBuf> {
    let target = std::fs::read_link(app.web_socket(id)).ok()?;
    Some(app.run_app().join(target.file_name()?))
}

/// What is live, with all that its processes need.
struct Live {
    record: Record,
    settings: Settings,
    environment: Environment,
}

impl Live {
    fn read(app: &App) -> Result<Option<Live>> {
        let scene = Scene::read(app)?;
        let Some(record) = scene.live_record(app)?.cloned() else { return Ok(None) };
        let settings = look::settings_of(app, &record)?;
        let environment = Environment::of_release(app, &record)?;
        Ok(Some(Live { record, settings, environment }))
    }

    /// The names of all its processes.
    fn names(&self) -> Vec<&str> {
        let others = self.settings.processes.keys().map(String::as_str);
        web_only(&self.settings).iter().copied().chain(others).collect()
    }
}

/// After a switch: the processes that waited for it take their predecessors' place, and what is no
/// longer wanted is retired.
///
/// # Errors
/// Where a process that starts now does not stay up; all others were dealt with all the same.
pub fn succeed(guard: &Guard, report: &Report) -> Result<()> {
    let app = guard.app();
    let starts = Start::all(app)?;
    let Some(live) = Live::read(app)? else { return Ok(()) };
    if starts.is_empty() && live.settings.web.command.is_none() && live.settings.processes.is_empty() {
        return cron::arrange(app, &live.settings).and(refresh_site(app, &live.settings, report));
    }
    files::remove_file(&app.down())?;
    if live.settings.web.command.is_some() {
        door::open(app)?;
        waking::ensure(app);
    }
    let supervisor = supervision::of(app);
    let wanted = wanted(app, &live, &starts, &*supervisor)?;
    retire_all_but(app, &starts, &wanted)?;
    let names: Vec<&str> = live.settings.processes.keys().map(String::as_str).collect();
    let missing = names.into_iter().filter(|name| !wanted.iter().any(|start| start.process == *name));
    let replaced = replace(app, &live, &missing.collect::<Vec<_>>(), report);
    replaced.and(cron::arrange(app, &live.settings)).and(refresh_site(app, &live.settings, report))
}

/// Brings nginx's site up to date, where it was brought in: `[web] static` may have changed.
fn refresh_site(app: &App, settings: &Settings, report: &Report) -> Result<()> {
    if site::refresh(app, settings)? == Some(Installed::Loaded) {
        report(&step("nginx", "its site is up to date", None));
    }
    Ok(())
}

/// Ends what runs under these names, and starts the live release's own instead.
fn replace(app: &App, live: &Live, names: &[&str], report: &Report) -> Result<()> {
    let supervisor = supervision::of(app);
    let mut result = Ok(());
    for name in names {
        for old in Start::all(app)?.iter().filter(|start| start.retired && start.process == *name) {
            let begun = Instant::now();
            supervisor.stop(old)?;
            old.forget(app)?;
            report(&step(name, "the one before has ended", Some(begun)));
        }
        let mut crew = crew(app, live);
        let how = Upbringing { report, stop: &|| Ok(()), most: Duration::MAX, settle: true };
        match crew.keep_up(&[name], &how) {
            Ok(()) => report(&step(name, "is up", None)),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

fn crew<'a>(app: &'a App, live: &'a Live) -> Crew<'a> {
    Crew::new(app, &live.record.id, &live.settings, &live.environment, Purpose::Live)
}

/// The starts of what is live that go on: one for each name, of those that still run.
fn wanted(app: &App, live: &Live, starts: &[Start], supervisor: &dyn Supervisor) -> Result<Vec<Start>> {
    let linked = linked(app, &live.record.id);
    let mut wanted: Vec<Start> = Vec::new();
    for start in starts.iter().rev() {
        let fits = start.purpose == Purpose::Live && !start.retired && start.release == live.record.id;
        let known = match start.process.as_str() {
            WEB => live.settings.web.command.is_some() && start.socket == linked,
            name => live.settings.processes.contains_key(name),
        };
        let taken = wanted.iter().any(|other| other.process == start.process);
        if fits && known && !taken && supervisor.condition(start)?.state != State::Stopped {
            wanted.push(start.clone());
        }
    }
    Ok(wanted)
}

fn retire_all_but(app: &App, starts: &[Start], wanted: &[Start]) -> Result<()> {
    let kept = |id: &StartId| wanted.iter().any(|start| start.id == *id);
    for start in starts.iter().filter(|start| start.purpose == Purpose::Live && !start.retired) {
        if !kept(&start.id) {
            start.retire(app)?;
        }
    }
    Ok(())
}

/// Whether anything was started.
pub fn any(app: &App) -> Result<bool> {
    Ok(!Start::all(app)?.is_empty())
}

/// Whether anything retired still runs.
pub fn any_retired(app: &App) -> Result<bool> {
    Ok(Start::all(app)?.iter().any(|start| start.retired))
}

/// Lets every retired process end its requests, at most for its patience, and then itself. Needs no
/// lock: nobody wants them any more.
pub fn drain_retired(app: &App) -> Result<()> {
    let supervisor = supervision::of(app);
    let retired: Vec<Start> = Start::all(app)?.into_iter().filter(|start| start.retired).collect();
    let begun = Instant::now();
    let mut result = Ok(());
    for start in retired {
        if let Some(socket) = &start.socket {
            while begun.elapsed() < start.patience && backlog::on(socket).is_ok_and(|left| left.total() > 0) {
                std::thread::sleep(LOOK);
            }
        }
        let ended = supervisor.stop(&start).and_then(|()| start.forget(app));
        result = result.and(ended);
    }
    result
}

/// Ends everything that was started in a release which will not be live: it is undone.
pub fn end_all_of(app: &App, id: &ReleaseId) -> Result<()> {
    end(app, |start| start.release == *id && start.purpose != Purpose::Beside && !start.retired)
}

/// Ends what a rehearsal left that nobody finished.
pub fn end_rehearsals(app: &App) -> Result<()> {
    end(app, |start| start.purpose == Purpose::Rehearsal)
}

/// Ends everything that was ever started in an app, which is removed.
pub fn end_everything(app: &App) -> Result<()> {
    cron::stop(app)?;
    end(app, |_| true)
}

fn end(app: &App, which: impl Fn(&Start) -> bool) -> Result<()> {
    let supervisor = supervision::of(app);
    for start in Start::all(app)?.iter().filter(|start| which(start)) {
        supervisor.stop(start)?;
        start.forget(app)?;
    }
    Ok(())
}

/// Starts whatever of the live release does not run; what runs is left alone. What does not come up at once is
/// started again and again.
///
/// # Errors
/// Where something is not up yet.
pub fn up(guard: &Guard, report: &Report) -> Result<()> {
    let app = guard.app();
    files::remove_file(&app.down())?;
    let Some(live) = Live::read(app)? else { return Ok(()) };
    let supervisor = supervision::of(app);
    let starts = Start::all(app)?;
    let wanted = wanted(app, &live, &starts, &*supervisor)?;
    retire_all_but(app, &starts, &wanted)?;
    let runs = |name: &str| wanted.iter().any(|start| start.process == name);
    let how = Upbringing { report, stop: &|| Ok(()), most: Duration::MAX, settle: true };
    let mut web = Ok(());
    if live.settings.web.command.is_some() {
        if !runs(WEB) {
            let mut crew = crew(app, &live);
            web = crew.keep_up(&[WEB], &how);
            crew.link()?;
        }
        door::open(app)?;
        waking::ensure(app);
    }
    let missing: Vec<&str> =
        live.settings.processes.keys().map(String::as_str).filter(|name| !runs(name)).collect();
    let replaced = replace(app, &live, &missing, report);
    web.and(replaced).and(cron::arrange(app, &live.settings)).and(refresh_site(app, &live.settings, report))
}

/// Ends everything that runs, until `up`, or the next deploy.
pub fn down(guard: &Guard) -> Result<()> {
    let app = guard.app();
    guard.write(&app.down(), format!("{{\"format\":{FORMAT}}}\n").as_bytes(), 0o644)?;
    cron::stop(app)?;
    end(app, |start| start.purpose != Purpose::Beside)
}

/// Whether somebody said `down`.
pub fn is_down(app: &App) -> bool {
    files::exists(&app.down())
}

/// Starts processes anew, in the live release: the web process beside its older self, which is retired
/// when the new one is healthy; all others after their older selves have ended.
///
/// # Errors
/// Where the new ones do not come up; the old web process then never stopped.
pub fn restart(guard: &Guard, name: Option<&str>, report: &Report) -> Result<()> {
    let app = guard.app();
    let live = Live::read(app)?.ok_or_else(|| Error::new("nothing is live yet"))?;
    let mut names = live.names();
    if let Some(name) = name {
        if !names.contains(&name) {
            return Err(unknown(name, &names));
        }
        names.retain(|one| *one == name);
    }
    files::remove_file(&app.down())?;
    let old = Start::all(app)?;
    let how = Upbringing { report, stop: &|| Ok(()), most: Duration::MAX, settle: true };
    if names.contains(&WEB) {
        let mut crew = crew(app, &live);
        crew.bring_up(&[WEB], &how)?;
        crew.link()?;
        door::open(app)?;
    }
    let replaced = |start: &&Start| start.purpose == Purpose::Live && names.contains(&start.process.as_str());
    for start in old.iter().filter(replaced) {
        start.retire(app)?;
    }
    names.retain(|name| *name != WEB);
    replace(app, &live, &names, report).and(cron::arrange(app, &live.settings))
}

/// The names of what runs of the live release; for a dry run.
///
/// # Errors
/// Where nothing is live.
pub fn names(app: &App) -> Result<Vec<String>> {
    let live = Live::read(app)?.ok_or_else(|| Error::new("nothing is live yet"))?;
    Ok(live.names().into_iter().map(str::to_owned).collect())
}

/// There is no process of this name.
pub fn unknown(name: &str, names: &[&str]) -> Error {
    let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
    let hint = if names.is_empty() {
        "what is live has no [web] command and no [process.NAME]".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    };
    Error::usage(format!("there is no process '{shown}'")).hint(hint)
}

fn step(name: &str, text: &str, since: Option<Instant>) -> Line {
    let seconds = since.map(|since| since.elapsed().as_secs_f64());
    Line::Step { name: name.to_owned(), text: text.to_owned(), seconds }
}

/// A process, as `status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The release that it runs in.
    pub release: ReleaseId,
    /// How it fares, `draining` where something newer took its place.
    pub state: String,
    /// Its process id, where it runs.
    pub pid: Option<u32>,
    /// Bytes of memory that it uses, with its children.
    pub memory: Option<u64>,
    /// How often it ended by itself and was started again.
    pub restarts: u32,
    /// Since when it is so, in UTC.
    pub since: Option<jiff::Timestamp>,
    /// How it ended the last time.
    pub last_end: Option<String>,
}

/// How long a process has to run for its last end to be history.
const STEADY: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

impl Listed {
    /// Whether it runs since a moment only, and not for the first time: it may well end again.
    fn just_restarted(&self) -> bool {
        let now = jiff::Timestamp::now();
        self.restarts > 0 && self.since.is_some_and(|since| now.duration_since(since) < STEADY)
    }

    /// Whether it was started again so often, and is not steady now.
    pub fn loops(&self, often: u32) -> bool {
        self.restarts >= often && (self.state == "restarting" || self.just_restarted())
    }

    /// A line for people.
    pub fn words(&self) -> String {
        let mut line = format!("  {:<10} {} in {}", self.name, self.state, self.release);
        if let Some(pid) = self.pid {
            let _ = write!(line, ", pid {pid}");
        }
        if let Some(memory) = self.memory {
            let _ = write!(line, ", {}", text::bytes(memory));
        }
        if self.restarts > 0 {
            let _ = write!(
                line,
                ", restarted {} {}",
                self.restarts,
                text::plural(self.restarts as usize, "time", "times")
            );
        }
        if let Some(since) = self.since {
            let _ = write!(line, ", since {}", since.strftime("%Y-%m-%dT%H:%M:%SZ"));
        }
        line
    }
}

/// All processes that were started, the oldest first.
pub fn list(app: &App) -> Result<Vec<Listed>> {
    let supervisor = supervision::of(app);
    let mut listed = Vec::new();
    for start in Start::all(app)? {
        let Condition { state, pid, memory, restarts, since, last_end } = supervisor.condition(&start)?;
        let state = match state {
            State::Running if start.retired => "draining".to_owned(),
            state => format!("{state:?}").to_lowercase(),
        };
        let name = start.process.clone();
        listed.push(Listed { name, release: start.release, state, pid, memory, restarts, since, last_end });
    }
    Ok(listed)
}

/// What should run and does not, as sentences.
pub fn attention(app: &App, listed: &[Listed]) -> Vec<String> {
    let Ok(Some(live)) = Live::read(app) else { return Vec::new() };
    if is_down(app) {
        return vec![format!("it is down: `receiver up {}` starts it", app.name())];
    }
    let names = live.names();
    let fares =
        |name: &str| listed.iter().rev().find(|one| one.name == name && one.release == live.record.id);
    let troubles = names.into_iter().filter_map(|name| match fares(name) {
        Some(one) if one.state == "running" && !one.just_restarted() => None,
        Some(one) if one.state == "running" => Some(format!(
            "process `{name}` was started again a moment ago, it {}: `receiver logs {} {name}` says more",
            one.last_end.as_deref().unwrap_or("ended"),
            app.name()
        )),
        Some(one) => Some(format!(
            "process `{name}` is {}{}: `receiver logs {} {name}` says more",
            one.state,
            one.last_end.as_ref().map(|end| format!(", it {end}")).unwrap_or_default(),
            app.name()
        )),
        None => Some(format!("process `{name}` does not run: `receiver up {}` starts it", app.name())),
    });
    troubles.collect()
}
