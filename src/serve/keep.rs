//! Receiver's own supervisor of one start: a small process in a session of its own.
//!
//! It holds the start's lock for as long as it lives, so that "looked after" is the kernel's word. It
//! is the subreaper of all that the start makes: what the command leaves behind ends with the command,
//! and nothing is left when it is asked to end.

use std::io::PipeReader;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::Mode;
use rustix::process::{Pid, Signal, WaitStatus};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::builtin::{Account, Alive};
use super::family;
use super::output::{self, Log, Voice};
use super::start::{Purpose, Start};
use super::supervision::State;
use crate::app::App;
use crate::support::lock::DirectoryLock;
use crate::support::{Context, Error, Result, program};

/// The pause before a command that ended by itself is started again for the first time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause: each is twice the one before.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A command that ran for so long ended for another reason than the one before it.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// What the supervisor is woken by.
enum Event {
    /// It is asked to end, or whoever it works for has died.
    Asked,
    /// A child ended.
    Child,
}

/// Keeps the start that is written down in `file` running until it is asked to end.
pub fn keep(file: &Path) -> Result<()> {
    // It fails only where there is a session of its own already.
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context(|| "cannot look after what a process leaves")?;
    let app = App::of_process(file)?;
    let start = Start::read(file)?.ok_or_else(|| Error::new(format!("there is no {}", file.display())))?;
    let alive = Alive::take(&app, &start)?;
    let release = DirectoryLock::share(&start.directory)?
        .ok_or_else(|| Error::new(format!("{} is being removed", start.release)))?;
    let events = listen(start.purpose)?;
    let log = Arc::new(Mutex::new(Log::open(&app, &start.process, &start.id, start.log_bytes)?));
    let account = Account::begin();
    account.write(&app, &start)?;
    let mut keeper = Keeper { app, start, file: file.to_owned(), events, log, account };
    keeper.run();
    drop((release, alive));
    Ok(())
}

/// Signals, and where it works for a process that is still there, the end of that: it has the other
/// end of our input.
fn listen(purpose: Purpose) -> Result<mpsc::Receiver<Event>> {
    let (sender, events) = mpsc::channel();
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD])
        .context(|| "cannot wait for signals")?;
    if purpose == Purpose::Beside {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = sender.send(Event::Asked);
        });
    }
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let event = match signal {
                SIGTERM | SIGINT => Event::Asked,
                SIGCHLD => Event::Child,
                // The end of a terminal is nothing to us.
                _ => continue,
            };
            if sender.send(event).is_err() {
                break;
            }
        }
    });
    Ok(events)
}

struct Keeper {
    app: App,
    start: Start,
    file: std::path::PathBuf,
    events: mpsc::Receiver<Event>,
    log: Arc<Mutex<Log>>,
    account: Account,
}

/// The command, while it runs.
struct Running {
    pid: Pid,
    reading: JoinHandle<()>,
}

impl Keeper {
    fn run(&mut self) {
        let mut pause = FIRST_PAUSE;
        let mut first = true;
        loop {
            let begun = Instant::now();
            let how = match self.spawn() {
                Ok(running) => {
                    self.tell(State::Running, Some(running.pid));
                    self.settle(&mut first);
                    match self.watch(running.pid) {
                        Some(status) => {
                            family::kill_descendants();
                            finish_reading(running.reading);
                            describe(status)
                        }
                        None => return self.end(running),
                    }
                }
                Err(error) => {
                    self.settle(&mut first);
                    error.one_line()
                }
            };
            if begun.elapsed() >= LONG_ENOUGH {
                pause = FIRST_PAUSE;
            }
            self.account.last_end = Some(how.clone());
            self.tell(State::Restarting, None);
            self.say(&format!("{how}; started again in {} s", pause.as_secs_f32()));
            if self.asked_within(pause) {
                return self.tell(State::Stopped, None);
            }
            self.account.restarts = self.account.restarts.saturating_add(1);
            pause = next_pause(pause);
        }
    }

    /// Lets whoever started us go on, once.
    fn settle(&self, first: &mut bool) {
        if std::mem::take(first)
            && let Err(error) = program::let_go_of_output().and_then(|()| program::let_go_of_errors())
        {
            self.say(&error.one_line());
        }
    }

    fn spawn(&self) -> Result<Running> {
        let trouble = || format!("cannot start {}", self.start.process);
        let (reader, writer) = std::io::pipe().context(trouble)?;
        let both = writer.try_clone().context(trouble)?;
        // The very program that runs, also where another one was installed in its place.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("receiver").args(["process", "run"]).arg(&self.file);
        command.arg("--parent").arg(std::process::id().to_string());
        command.process_group(0).stdin(Stdio::null()).stdout(writer).stderr(both);
        let child = command.spawn().context(trouble)?;
        drop(command);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::new(trouble()))?;
        Ok(Running { pid, reading: read(reader, Arc::clone(&self.log)) })
    }

    /// Waits for the end of the command; `None` where we are asked to end before.
    fn watch(&self, pid: Pid) -> Option<WaitStatus> {
        loop {
            match self.events.recv() {
                Ok(Event::Child) => {
                    if let Some(status) = family::reap(Some(pid)) {
                        return Some(status);
                    }
                }
                Ok(Event::Asked) | Err(_) => return None,
            }
        }
    }

    /// Whether we are asked to end within a pause.
    fn asked_within(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Child) => drop(family::reap(None)),
                Ok(Event::Asked) | Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Ends the command: SIGTERM to itself, then to what it left, and when patience is over SIGKILL to
    /// all. A server that ends its own workers in order is not to find them signalled behind its back.
    fn end(&mut self, running: Running) {
        self.tell(State::Stopping, Some(running.pid));
        let until = Instant::now() + self.start.patience;
        let _ = rustix::process::kill_process(running.pid, Signal::TERM);
        let mut how = None;
        let mut asked_rest = false;
        loop {
            how = family::reap(Some(running.pid)).or(how);
            if how.is_some() {
                let left = family::descendants();
                if left.is_empty() {
                    break;
                }
                if !std::mem::replace(&mut asked_rest, true) {
                    for pid in left {
                        let _ = rustix::process::kill_process(pid, Signal::TERM);
                    }
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.say(&format!("did not end within {:?} of SIGTERM: killed", self.start.patience));
                break;
            }
            // A grandchild's end is not told to us while its parent lives.
            let _ = self.events.recv_timeout(left.min(Duration::from_millis(50)));
        }
        if how.is_none() {
            let _ = rustix::process::kill_process(running.pid, Signal::KILL);
            how = rustix::process::waitpid(Some(running.pid), rustix::process::WaitOptions::empty())
                .ok()
                .flatten()
                .map(|(_, status)| status);
        }
        family::kill_descendants();
        finish_reading(running.reading);
        let how = how.map_or_else(|| "ended".to_owned(), describe);
        self.say(&format!("{how}, as asked"));
        self.account.last_end = Some(how);
        self.tell(State::Stopped, None);
    }

    fn tell(&mut self, state: State, pid: Option<Pid>) {
        self.account.state = state;
        self.account.pid = pid.and_then(|pid| u32::try_from(pid.as_raw_pid()).ok());
        self.account.since = Timestamp::now();
        if let Err(error) = self.account.write(&self.app, &self.start) {
            self.say(&error.one_line());
        }
    }

    fn say(&self, line: &str) {
        if let Ok(mut log) = self.log.lock() {
            log.write(Voice::Receiver, [line.replace('\n', " ").as_bytes()]);
        }
    }
}

/// Writes into a log what comes out of a pipe.
pub fn read(reader: PipeReader, log: Arc<Mutex<Log>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        output::read_lines(reader, |lines| {
            if let Ok(mut log) = log.lock() {
                log.write(Voice::Process, lines.iter().copied());
            }
        });
    })
}

/// The pipe ends when nobody holds it, and all who could are dead.
pub fn finish_reading(reading: JoinHandle<()>) {
    let until = Instant::now() + Duration::from_secs(2);
    while !reading.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    if reading.is_finished() {
        let _ = reading.join();
    }
}

fn next_pause(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

/// How a command ended, as a condition says it.
pub fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_before_another_start_grows_and_has_an_end() {
        let pauses: Vec<Duration> =
            std::iter::successors(Some(FIRST_PAUSE), |pause| Some(next_pause(*pause))).take(12).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses[1], FIRST_PAUSE * 2);
        assert_eq!(pauses[11], LONGEST_PAUSE);
    }
}
