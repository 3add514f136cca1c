//! Runs one command of the configuration, and leaves nothing of it behind.
//!
//! A stage has its own process group, an environment of exactly what it is given, and a pipe of the
//! worker's for its output, never the pusher's. It ends when its shell ends: what it left running is
//! ended too, also what left the group, since the worker is the subreaper of all its descendants.

use std::io::{PipeReader, PipeWriter, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use super::environment::Environment;
use super::hand::{self, Foreign};
use super::joblog::{JobLog, Line};
use crate::app::settings::Limits;
use crate::app::{App, ReleaseId};
use crate::root::Running;
use crate::support::{Context, Error, Result, program, text};

/// How long what is asked to end has for it, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// What a stage is to do.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Its name, for the log.
    pub name: &'a str,
    /// What the shell is given.
    pub command: &'a str,
    /// The app.
    pub app: &'a App,
    /// The release that it runs in.
    pub release: &'a ReleaseId,
    /// All that it finds in its environment.
    pub environment: &'a Environment,
    /// How long it may take.
    pub timeout: Duration,
    /// What it may use, where it has a user of its own.
    pub limits: &'a Limits,
    /// How many bytes of its output are kept.
    pub log_bytes: u64,
}

/// Looked at while a stage runs; an error is the reason to end it.
pub type Stop<'a> = dyn Fn() -> Result<()> + Sync + 'a;

impl Stage<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// Where it exits with another status than 0, takes too long, or `stop` has a reason to end it.
    pub fn run(&self, log: &JobLog, stop: &Stop) -> Result<()> {
        let log = log.clone();
        let environment = self.environment.clone();
        let mut limit = Limit { left: self.log_bytes, told: false };
        let status = self.execute(stop, move |line| {
            if limit.told {
                return;
            }
            let line = text::printable_output(&environment.mask(&String::from_utf8_lossy(line)));
            // What the line costs in the log: empty lines, and what is written out, are not free.
            match limit.take(line.len() as u64 + 16) {
                Taken::Whole => log.write(&Line::Output(line)),
                Taken::Last => log.write(&Line::Note("it prints too much: the rest is not kept".to_owned())),
                Taken::None => {}
            }
        })?;
        self.judge(status)
    }

    /// Runs it to its end and returns what it printed, up to its limit.
    pub fn output(&self, stop: &Stop) -> Result<Vec<u8>> {
        let (status, output) = self.ask(stop)?;
        self.judge(status).map(|()| output)
    }

    /// The same, whatever its status is.
    pub fn ask(&self, stop: &Stop) -> Result<(ExitStatus, Vec<u8>)> {
        let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (into, most) = (Arc::clone(&kept), self.log_bytes);
        let status = self.execute(stop, move |line| {
            if let Ok(mut kept) = into.lock()
                && (kept.len() as u64) < most
            {
                kept.extend_from_slice(line);
                kept.push(b'\n');
            }
        })?;
        let output = kept.lock().map(|kept| kept.clone()).map_err(|_| Error::new("the output was lost"))?;
        Ok((status, output))
    }

    fn execute(&self, stop: &Stop, sink: impl FnMut(&[u8]) + Send + 'static) -> Result<ExitStatus> {
        let start = || format!("cannot start stage `{}`", self.name);
        let (reader, writer) = std::io::pipe().context(start)?;
        let mut running = self.start(writer).context(start)?;
        let done = Arc::new(AtomicBool::new(false));
        let printed = Arc::clone(&done);
        let reading = std::thread::spawn(move || {
            read_lines(reader, sink);
            printed.store(true, Ordering::Release);
        });
        let ended = self.wait(&mut running, stop);
        running.end_what_is_left();
        // The pipe ends when nobody holds it. Whoever still does has left this process's family.
        let until = Instant::now() + Duration::from_secs(2);
        while !done.load(Ordering::Acquire) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        if done.load(Ordering::Acquire) {
            let _ = reading.join();
        }
        ended
    }

    /// As the app's user where it has one of its own, and root does it; else as we are.
    fn start(&self, output: PipeWriter) -> Result<Stand> {
        if self.app.user().is_some() {
            let foreign = Foreign {
                app: self.app,
                release: self.release,
                words: hand::shell(self.command),
                environment: self.environment,
                limits: self.limits,
                terminal: false,
            };
            return foreign.start_quiet(output).map(Stand::There);
        }
        let expression = duct::cmd!("/bin/sh", "-c", self.command)
            .dir(self.app.release(self.release))
            .full_env(self.environment.pairs())
            .stdin_null()
            .stderr_to_stdout()
            .stdout_file(output)
            .before_spawn(|command| {
                command.process_group(0);
                Ok(())
            })
            .unchecked();
        let handle = expression.start().context(|| "cannot start a shell")?;
        let group = handle.pids().first().and_then(|pid| i32::try_from(*pid).ok()).and_then(Pid::from_raw);
        Ok(Stand::Here(Box::new(handle), group))
    }

    fn wait(&self, running: &mut Stand, stop: &Stop) -> Result<ExitStatus> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        let reason = loop {
            let ended = running.wait(pause).context(|| format!("cannot wait for stage `{}`", self.name))?;
            if let Some(status) = ended {
                return Ok(status);
            }
            pause = (pause * 2).min(Duration::from_millis(100));
            if let Err(reason) = stop() {
                break reason;
            }
            if begun.elapsed() > self.timeout {
                break Error::new(format!("stage `{}` took longer than {:?}", self.name, self.timeout)).hint(
                    format!(
                        "give it more time: [stages] {} = {{ run = \"…\", timeout = \"1h\" }}",
                        self.name
                    ),
                );
            }
        };
        running.end();
        Err(reason)
    }

    fn judge(&self, status: ExitStatus) -> Result<()> {
        use std::os::unix::process::ExitStatusExt;
        let how = match (status.code(), status.signal()) {
            (Some(0), _) => return Ok(()),
            (Some(code), _) => format!("exited with status {code}"),
            (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
        };
        let shown: String = text::printable(self.command).chars().take(120).collect();
        let cause = Error::new(format!("`{}` {how}", self.environment.mask(&shown)));
        Err(Error::new(format!("stage `{}` failed", self.name)).caused_by(cause))
    }
}

/// A stage that runs.
enum Stand {
    /// As our child, with its group.
    Here(Box<duct::Handle>, Option<Pid>),
    /// As another user, as root's.
    There(Running),
}

impl Stand {
    /// Waits at most so long; how it ended.
    fn wait(&mut self, most: Duration) -> Result<Option<ExitStatus>> {
        match self {
            Stand::Here(handle, _) => {
                let output = handle.wait_timeout(most).context(|| "its end cannot be known")?;
                Ok(output.map(|output| output.status))
            }
            Stand::There(running) => Ok(running.wait(most)?.map(hand::status)),
        }
    }

    /// Asks it to end, and kills it where it does not.
    fn end(&mut self) {
        match self {
            Stand::Here(handle, group) => {
                signal(*group, Signal::TERM);
                if handle.wait_timeout(GRACE).ok().flatten().is_none() {
                    signal(*group, Signal::KILL);
                    let _ = handle.wait();
                }
            }
            Stand::There(running) => {
                running.end();
                // Root kills it after as long.
                let _ = running.wait(GRACE * 4);
            }
        }
    }

    /// Ends what it left behind. What is root's has ended with it.
    fn end_what_is_left(&self) {
        if let Stand::Here(_, group) = self {
            end_descendants(*group);
        }
    }
}

struct Limit {
    left: u64,
    told: bool,
}

enum Taken {
    Whole,
    Last,
    None,
}

impl Limit {
    fn take(&mut self, bytes: u64) -> Taken {
        if self.left >= bytes {
            self.left -= bytes;
            return Taken::Whole;
        }
        self.left = 0;
        if std::mem::replace(&mut self.told, true) { Taken::None } else { Taken::Last }
    }
}

/// Hands on what is read, line by line; a line that never ends is handed on in pieces, and of one
/// that is written over by carriage returns (a progress bar) the last state.
fn read_lines(mut reader: PipeReader, mut sink: impl FnMut(&[u8])) {
    const LONGEST: usize = 16 << 10;
    let mut line = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let mut hand_on = |line: &mut Vec<u8>| {
        let end = line.iter().rposition(|b| *b != b'\r').map_or(0, |at| at + 1);
        let start = line[..end].iter().rposition(|b| *b == b'\r').map_or(0, |at| at + 1);
        sink(&line[start..end]);
        line.clear();
    };
    loop {
        let length = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        for &byte in &buffer[..length] {
            if byte == b'\n' {
                hand_on(&mut line);
                continue;
            }
            line.push(byte);
            if line.len() >= LONGEST {
                hand_on(&mut line);
            }
        }
    }
    if !line.is_empty() {
        hand_on(&mut line);
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

/// Ends all that a stage left: its group, and whatever else became this process's child.
fn end_descendants(group: Option<Pid>) {
    signal(group, Signal::KILL);
    // A child that is killed hands its own children on to us: once more, until there are none.
    for _ in 0..200 {
        let children = children();
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = rustix::process::kill_process(child, Signal::KILL);
            let _ = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ends what the stages of a dead worker left running: they could write into what is made next.
///
/// They are known by the environment that stages are given, or by standing in the release.
pub fn end_orphans(release: &Path) {
    let mark = format!("RECEIVER_RELEASE_DIR={}", release.display()).into_bytes();
    for _ in 0..100 {
        let Ok(processes) = std::fs::read_dir("/proc") else { return };
        let mut found = false;
        for process in processes.flatten() {
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            let Some(pid) = pid.filter(|pid| *pid != rustix::process::getpid()) else { continue };
            let marked = std::fs::read(process.path().join("environ"))
                .is_ok_and(|environ| environ.split(|b| *b == 0).any(|pair| pair == mark));
            let inside =
                std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(release));
            if marked || inside {
                found |= rustix::process::kill_process(pid, Signal::KILL).is_ok();
            }
        }
        if !found {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The children of this process that the kernel gave it as their subreaper; not those that are to
/// outlive it, such as what keeps a release's processes running.
fn children() -> Vec<Pid> {
    let me = std::process::id();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(me))
        .filter(|pid| !u32::try_from(*pid).is_ok_and(program::is_to_outlive))
        .filter_map(Pid::from_raw)
        .collect()
}

fn parent_of(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; what follows the last bracket is state and parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
