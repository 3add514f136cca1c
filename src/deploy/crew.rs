//! The crew of a release: its processes, brought up together or not at all.
//!
//! Each is started, the web process is asked for its health over the socket of its own start, and all
//! must stay up for `settle`. Nothing that runs already is touched: the old ones never stop for it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::environment::Environment;
use super::joblog::Line;
use crate::app::settings::Settings;
use crate::app::{App, ReleaseId, record};
use crate::serve::exec;
use crate::serve::health::{Answer, Probe};
use crate::serve::start::{Purpose, Start, WEB, Wanted};
use crate::serve::supervision::{self, GLANCE, State, Supervisor};
use crate::support::text::printable_output;
use crate::support::{Error, Result, files};

/// How many of its last lines are shown of a process that did not come up.
const LAST_LINES: usize = 20;
/// How long one answer may take, however long the whole start may.
const ONE_ANSWER: Duration = Duration::from_secs(10);
/// The host that is asked for where the app has no domain.
const NO_DOMAIN: &str = "localhost";

/// Where what happens is told.
pub type Report<'a> = dyn Fn(&Line) + 'a;

/// How a crew is brought up.
pub struct Upbringing<'a> {
    /// Where it is told.
    pub report: &'a Report<'a>,
    /// An error is the reason to give up.
    pub stop: &'a dyn Fn() -> Result<()>,
    /// The most that it may take, besides each process's own limits.
    pub most: Duration,
    /// Whether to watch for `settle` that all stay up; else somebody does so later.
    pub settle: bool,
}

/// The processes of one release.
pub struct Crew<'a> {
    app: &'a App,
    id: &'a ReleaseId,
    settings: &'a Settings,
    environment: &'a Environment,
    purpose: Purpose,
    supervisor: Box<dyn Supervisor>,
    starts: Vec<Start>,
}

impl<'a> Crew<'a> {
    /// The crew of a release; nothing is started yet.
    pub fn new(
        app: &'a App,
        id: &'a ReleaseId,
        settings: &'a Settings,
        environment: &'a Environment,
        purpose: Purpose,
    ) -> Crew<'a> {
        let supervisor = supervision::of(app);
        Crew { app, id, settings, environment, purpose, supervisor, starts: Vec::new() }
    }

    /// Starts these processes, and answers when all are up, or none.
    ///
    /// # Errors
    /// Where one of them ends, or the web process is not healthy in time. What was started is ended then.
    pub fn bring_up(&mut self, names: &[&str], how: &Upbringing) -> Result<()> {
        let began = self.starts.len();
        let result = self.try_bring_up(names, how);
        if let Err(error) = &result {
            self.show_last_output(error, how);
            let _ = self.dismiss_from(began);
        }
        result
    }

    /// The same for what nothing else could take the place of: what does not come up is left to its
    /// supervisor, which goes on starting it. At a boot a database server may still be on its way.
    ///
    /// # Errors
    /// Where one of them is not up yet.
    pub fn keep_up(&mut self, names: &[&str], how: &Upbringing) -> Result<()> {
        self.try_bring_up(names, how).inspect_err(|error| self.show_last_output(error, how))
    }

    fn try_bring_up(&mut self, names: &[&str], how: &Upbringing) -> Result<()> {
        let begun = Instant::now();
        let began = self.starts.len();
        for name in names {
            let Some(command) = command(self.settings, name) else { continue };
            let start = Start::begin(
                self.app,
                Wanted {
                    process: name,
                    release: self.id,
                    purpose: self.purpose,
                    command,
                    environment: self.environment.pairs(),
                    patience: self.settings.web.drain,
                    limits: &self.settings.limits,
                },
            )?;
            self.starts.push(start.clone());
            self.supervisor.start(&start)?;
        }
        for at in began..self.starts.len() {
            if self.starts[at].process == WEB {
                let asked = Instant::now();
                let answer = self.until_healthy(&self.starts[at], how, begun)?;
                if let Some(socket) = &self.starts[at].socket {
                    // Who waits for the socket may be a moment behind us.
                    exec::let_in(socket)?;
                }
                let text = format!("{} in {} ms", answer.status, answer.took.as_millis());
                (how.report)(&timed("health", text, asked));
            }
        }
        let settle = if how.settle { self.settings.web.settle } else { Duration::ZERO };
        self.watch(began, settle, how)
    }

    /// All that were started are up, and stay so for `settle`.
    fn watch(&self, began: usize, settle: Duration, how: &Upbringing) -> Result<()> {
        let started = &self.starts[began..];
        let until = Instant::now() + if started.is_empty() { Duration::ZERO } else { settle };
        loop {
            (how.stop)()?;
            for start in started {
                self.refuse_ended(start)?;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(GLANCE.min(left));
        }
    }

    /// The same for all that this crew started, after a switch that could not wait for it.
    pub fn stay_up(&self, how: &Upbringing) -> Result<()> {
        self.watch(0, self.settings.web.settle, how).inspect_err(|error| self.show_last_output(error, how))
    }

    fn refuse_ended(&self, start: &Start) -> Result<()> {
        let condition = self.supervisor.condition(start)?;
        let ended = condition.restarts > 0
            || condition.last_end.is_some()
            || matches!(condition.state, State::Restarting | State::Stopped);
        if !ended {
            return Ok(());
        }
        let how = condition.last_end.unwrap_or_else(|| "ended".to_owned());
        let hint = if how == "exited with status 0" {
            format!(
                "a process has to stay in the foreground: `{}` must not go into the background",
                start.process
            )
        } else {
            format!(
                "its last lines stand above; `receiver logs {} {}` has more",
                self.app.name(),
                start.process
            )
        };
        Err(Error::new(format!("process `{}` {how}", start.process)).hint(hint))
    }

    /// Asks until the answer is the one that is expected.
    fn until_healthy(&self, start: &Start, how: &Upbringing, begun: Instant) -> Result<Answer> {
        let most = self.settings.web.start_timeout.min(how.most);
        let mut pause = Duration::from_millis(5);
        let mut last = None;
        loop {
            (how.stop)()?;
            self.refuse_ended(start)?;
            let left = most.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(self.unhealthy(last, most, how));
            }
            match self.ask(start.socket.as_deref(), left.min(ONE_ANSWER)) {
                Ok(answer) if self.is_healthy(&answer) => return Ok(answer),
                other => last = Some(other),
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    fn ask(&self, socket: Option<&Path>, timeout: Duration) -> Result<Answer> {
        let socket = socket.ok_or_else(|| Error::new("the web process has no socket"))?;
        let web = &self.settings.web;
        let host = self.host();
        let path = web.health_path.as_deref().unwrap_or("/");
        Ok(Probe { socket, protocol: web.protocol, host, path, timeout }.ask()?)
    }

    fn host(&self) -> &str {
        self.settings.domain.as_ref().map_or(NO_DOMAIN, |domain| domain.as_str())
    }

    fn is_healthy(&self, answer: &Answer) -> bool {
        let expect = &self.settings.web.health_expect;
        if (expect.first..=expect.last).contains(&answer.status) {
            return true;
        }
        // An app without a front page: where no path is named, it is as healthy as what is live.
        answer.status == 404 && self.settings.web.health_path.is_none() && self.live_answers(404)
    }

    fn live_answers(&self, status: u16) -> bool {
        let Ok(Some(live)) = record::live(self.app) else { return false };
        let socket = self.app.web_socket(&live);
        self.ask(Some(&socket), ONE_ANSWER).is_ok_and(|answer| answer.status == status)
    }

    /// Why a process that runs is not healthy, with the first lines that it answered.
    fn unhealthy(&self, last: Option<Result<Answer>>, most: Duration, how: &Upbringing) -> Error {
        let seconds = most.as_secs_f64();
        let path = self.settings.web.health_path.as_deref().unwrap_or("/");
        match last {
            Some(Ok(answer)) => {
                for line in &answer.head {
                    (how.report)(&Line::Output(printable_output(&self.environment.mask(line))));
                }
                let hint = if answer.status == 400 {
                    format!(
                        "it was asked with `Host: {}`: the application must allow that host; `receiver config {} domain …` \
                         names another",
                        self.host(),
                        self.app.name()
                    )
                } else {
                    "[web] health = { path = \"…\", expect = \"…\" } says what is healthy".to_owned()
                };
                Error::new(format!("process `{WEB}` answers {path} with {}", answer.status)).hint(hint)
            }
            Some(Err(error)) => {
                Error::new(format!("process `{WEB}` gave no answer within {seconds:.0} s")).caused_by(error)
            }
            None => Error::new(format!("process `{WEB}` had no time to start")),
        }
    }

    fn show_last_output(&self, _error: &Error, how: &Upbringing) {
        for start in &self.starts {
            for line in self.supervisor.last_output(start, LAST_LINES).unwrap_or_default() {
                (how.report)(&Line::Output(printable_output(&self.environment.mask(&line))));
            }
        }
    }

    /// Links the release to the socket of its web process; the next request goes there, if it is live.
    pub fn link(&self) -> Result<()> {
        let Some(web) = self.starts.iter().rev().find(|start| start.process == WEB) else { return Ok(()) };
        let Some(name) = web.socket.as_deref().and_then(Path::file_name) else { return Ok(()) };
        let link = self.app.web_socket(self.id);
        if let Some(parent) = link.parent() {
            files::make_directory(parent, 0o755)?;
        }
        files::link_unsynced(&Path::new("../../../../receiver/run/app").join(name), &link)
    }

    /// Leaves what it started to itself.
    pub fn leave(self) -> Vec<Start> {
        self.starts
    }

    /// Ends all that it started.
    pub fn dismiss(&mut self) -> Result<()> {
        self.dismiss_from(0)
    }

    fn dismiss_from(&mut self, began: usize) -> Result<()> {
        let mut result = Ok(());
        for start in self.starts.drain(began..) {
            let ended = self.supervisor.stop(&start).and_then(|()| start.forget(self.app));
            result = result.and(ended);
        }
        result
    }
}

/// What a process of these settings runs.
fn command<'s>(settings: &'s Settings, name: &str) -> Option<&'s str> {
    if name == WEB {
        return settings.web.command.as_deref();
    }
    settings.processes.get(name).map(|process| process.command.as_str())
}

/// A step that took the time since `begun`.
fn timed(name: &str, text: String, begun: Instant) -> Line {
    Line::Step { name: name.to_owned(), text, seconds: Some(begun.elapsed().as_secs_f64()) }
}
