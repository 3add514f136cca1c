//! The asking side of one conversation.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::message::{self, Ask, Order, Told};
use crate::app::AppName;
use crate::data::{Limit, Spot};
use crate::root::{self, Running};
use crate::support::{Context, Error, Result, beside};

/// How often is looked whether nobody wants the answer any more.
const HEARTBEAT: Duration = Duration::from_millis(20);

/// How long an agent may be silent, or take over its time, before it counts as dead: it belongs to the app, which can
/// stop it.
const SILENCE: Duration = Duration::from_secs(15);

/// How long what has no limit of its own may take.
const UNLIMITED: Duration = Duration::from_secs(3600);

/// The agents that this process has, by the app.
static AGENTS: Mutex<BTreeMap<String, Agent>> = Mutex::new(BTreeMap::new());

/// How many it has started.
static STARTED: AtomicU64 = AtomicU64::new(0);

/// A process of an app's user. It ends with this value, or this process.
struct Agent {
    number: u64,
    control: UnixStream,
    /// The connection that it ends with.
    running: Option<Running>,
}

impl Agent {
    fn start(app: &AppName) -> Result<Agent> {
        let cannot = || "cannot make a socket";
        let (control, theirs) = UnixStream::pair().context(cannot)?;
        #[cfg(not(test))]
        let running = Some(root::agent(app, theirs.as_fd())?);
        // A thread stands for the process: what goes over the socket is the same.
        #[cfg(test)]
        let running = {
            let _ = (app, root::agent);
            std::thread::spawn(|| super::serve(theirs));
            None
        };
        Ok(Agent { number: STARTED.fetch_add(1, Ordering::Relaxed), control, running })
    }

    /// A conversation; `None` where the agent is dead.
    fn call(&self, app: &AppName) -> Result<Option<Line>> {
        let cannot = || "cannot make a socket";
        let (stream, theirs) = UnixStream::pair().context(cannot)?;
        stream.set_read_timeout(Some(HEARTBEAT)).context(cannot)?;
        stream.set_write_timeout(Some(SILENCE)).context(cannot)?;
        let sent = beside::send(&self.control, &[0], &[theirs.as_fd()]);
        Ok(sent.is_ok().then(|| Line { app: app.clone(), agent: self.number, stream }))
    }
}

/// One conversation with an app's agent.
#[derive(Debug)]
pub(super) struct Line {
    app: AppName,
    /// The number of the agent.
    agent: u64,
    stream: UnixStream,
}

impl Line {
    /// Begins one, with the agent that is there or a new one.
    pub(super) fn open(app: &AppName) -> Result<Line> {
        let cannot = || format!("cannot work on the databases of {app} as its user");
        let mut agents = AGENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let there = agents.get(app.as_str()).map_or(Ok(None), |agent| agent.call(app)).context(cannot)?;
        if let Some(line) = there {
            return Ok(line);
        }
        let agent = Agent::start(app).context(cannot)?;
        let line = agent.call(app).context(cannot)?;
        agents.insert(app.as_str().to_owned(), agent);
        line.ok_or_else(|| Error::new(cannot()))
    }

    /// Asks for something, and hears what came of it. `content` goes after the question, `on` hears what is told
    /// meanwhile.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        spot: &Spot,
        limit: Option<&Limit<'_>>,
        ask: Ask,
        content: &mut dyn Read,
        on: &mut dyn FnMut(Told) -> Result<()>,
    ) -> Result<T> {
        let mut patience = Patience::of(limit);
        let order = Order { spot: spot.clone(), within: patience.within, ask };
        let put = message::put(&mut &self.stream, &order).and_then(|()| {
            io::copy(content, &mut &self.stream).context(|| "the other side is gone").map(drop)
        });
        // Who took no more may have said why.
        self.hear(&mut patience, on).map_err(|error| put.err().map_or(error, |_| self.died()))
    }

    /// Hears the end of what was asked for.
    fn hear<T: DeserializeOwned>(
        &self,
        patience: &mut Patience<'_>,
        on: &mut dyn FnMut(Told) -> Result<()>,
    ) -> Result<T> {
        loop {
            let told = message::get::<Told>(&mut Patient { line: self, patience })?;
            match told.ok_or_else(|| self.died())? {
                Told::Done(value) => {
                    return serde_json::from_value(value).context(|| "not the answer to what was asked");
                }
                Told::Failed(failure) => return Err(failure.into_error()),
                Told::Alive => {}
                other => on(other)?,
            }
        }
    }

    /// Reads so many bytes that come after an answer into `to`, and hears that they were all.
    pub(super) fn content(&self, limit: &Limit<'_>, length: u64, to: &mut dyn io::Write) -> Result<()> {
        let mut patience = Patience::of(Some(limit));
        let mut to = to;
        message::pass(&mut Patient { line: self, patience: &mut patience }, &mut to, length)?;
        self.hear::<u64>(&mut patience, &mut |_| Ok(())).map(drop)
    }

    /// The agent, which nobody else asks any more.
    fn forget(&self) -> Option<Agent> {
        let mut agents = AGENTS.lock().unwrap_or_else(PoisonError::into_inner);
        // Not one that somebody else has begun since.
        let is_ours = agents.get(self.app.as_str()).is_some_and(|agent| agent.number == self.agent);
        if is_ours { agents.remove(self.app.as_str()) } else { None }
    }

    /// Why there is nobody who answers.
    fn died(&self) -> Error {
        let error = Error::new(format!("what works on the databases of {} as its user has ended", self.app));
        let running = self.forget().and_then(|agent| agent.running);
        match running.map(|mut running| running.wait(Duration::from_secs(2))) {
            Some(Err(why)) => error.caused_by(why),
            Some(Ok(Some(ended))) => error.caused_by(Error::new(ended.to_string())),
            _ => error,
        }
    }
}

/// How long an answer is waited for.
struct Patience<'a> {
    limit: Option<&'a Limit<'a>>,
    within: Duration,
    until: Instant,
    heard: Instant,
    cancelled: bool,
}

impl<'a> Patience<'a> {
    fn of(limit: Option<&'a Limit<'a>>) -> Patience<'a> {
        let within = limit.map_or(UNLIMITED, Limit::left);
        let now = Instant::now();
        Patience { limit, within, until: now + within + SILENCE, heard: now, cancelled: false }
    }
}

/// Reads from a line, and lets go of what nobody wants any more.
struct Patient<'a, 'b> {
    line: &'a Line,
    patience: &'a mut Patience<'b>,
}

impl Read for Patient<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.line.stream).read(buffer) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(0),
                read => {
                    self.patience.heard = Instant::now();
                    return read;
                }
            }
            if !self.patience.cancelled && self.patience.limit.is_some_and(Limit::is_cancelled) {
                self.patience.cancelled = true;
                self.line.stream.shutdown(Shutdown::Write)?;
            }
            if Instant::now() > self.patience.until || self.patience.heard.elapsed() > SILENCE {
                // With it ends what it holds, in which others wait.
                drop(self.line.forget());
                return Err(io::Error::other(format!(
                    "what works on the databases of {} as its user does not answer",
                    self.line.app
                )));
            }
        }
    }
}

#[cfg(test)]
pub(in crate::data::sqlite) mod tests {
    use std::io::Write;

    use super::*;

    /// What is made of what an agent says that is asked for a number.
    pub(in crate::data::sqlite) fn hears(said: &[u8]) -> Result<u64> {
        let (stream, mut theirs) = UnixStream::pair().context(|| "no socket")?;
        stream.set_read_timeout(Some(HEARTBEAT)).context(|| "no timeout")?;
        theirs.write_all(said).context(|| "cannot say it")?;
        drop(theirs);
        let line = Line { app: "shop".parse().map_err(|_| Error::new("no name"))?, agent: u64::MAX, stream };
        line.hear(&mut Patience::of(None), &mut |_| Ok(()))
    }
}
