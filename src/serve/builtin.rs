//! Receiver's own small supervisor, for machines and users without systemd: seen from outside.
//!
//! Each start has a supervisor of its own ([`super::keep`]), which holds a lock as long as it lives.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use serde::{Deserialize, Serialize};

use super::family;
use super::output::{self, Voice};
use super::start::{Purpose, Start, StartId};
use super::supervision::{Condition, GLANCE, State, Supervisor};
use crate::app::App;
use crate::app::layout::FORMAT;
use crate::support::{Context, Error, Result, files, program};

/// How much longer than a start's patience its supervisor may take to end.
const SLACK: Duration = Duration::from_secs(20);

/// What ties the starts that run beside what is live to this process: their supervisors end with it.
static TETHERS: Mutex<BTreeMap<StartId, ChildStdin>> = Mutex::new(BTreeMap::new());

/// What a supervisor writes down of its start. It is believed only while the supervisor lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    pub(super) format: u32,
    /// The supervisor's process.
    pub keeper: u32,
    /// How the start fares.
    pub state: State,
    /// Its process, where it runs.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// Since when it is so.
    pub since: Timestamp,
    /// How it ended the last time.
    pub last_end: Option<String>,
}

impl Account {
    /// The account of a start that has not run yet, by its supervisor.
    pub fn begin() -> Account {
        Account {
            format: FORMAT,
            keeper: std::process::id(),
            state: State::Restarting,
            pid: None,
            restarts: 0,
            since: Timestamp::now(),
            last_end: None,
        }
    }

    /// The last one of a start; none where it never ran, or it cannot be read: nothing hangs on it.
    pub fn read(app: &App, start: &Start) -> Option<Account> {
        let text = files::read_text(&app.process_account(start.id.as_str())).ok()??;
        serde_json::from_str(&text).ok()
    }

    /// Writes it down, for whoever asks how the start fares.
    pub fn write(&self, app: &App, start: &Start) -> Result<()> {
        let text = serde_json::to_vec(self).context(|| "cannot write down how a process fares")?;
        files::write_unsynced(&app.process_account(start.id.as_str()), &text, 0o600)
    }
}

/// The lock that a supervisor holds for as long as it lives.
#[derive(Debug)]
pub struct Alive(#[allow(dead_code, reason = "held")] File);

impl Alive {
    /// Takes it, and writes into it who did.
    ///
    /// # Errors
    /// Where the start is looked after already.
    pub fn take(app: &App, start: &Start) -> Result<Alive> {
        let path = app.process_lock(start.id.as_str());
        let mut file = open(&path, true).context(|| format!("cannot open {}", path.display()))?;
        // Whoever looks whether it is held takes it for a moment.
        let mut tries = 0;
        while let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            tries += 1;
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(error).context(|| format!("cannot lock {}", path.display()));
            }
            if tries == 50 {
                return Err(Error::new(format!("{} is kept running already", start.id)));
            }
            std::thread::sleep(GLANCE / 10);
        }
        let told = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        told.context(|| format!("cannot write to {}", path.display()))?;
        Ok(Alive(file))
    }

    /// The supervisor that holds it now.
    fn holder(app: &App, start: &Start) -> Result<Holder> {
        holder(&app.process_lock(start.id.as_str()))
    }
}

/// Who holds the lock of a start, which goes when the start is forgotten.
fn holder(path: &Path) -> Result<Holder> {
    let mut file = match open(path, false) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        opened => opened.context(|| format!("cannot open {}", path.display()))?,
    };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return Ok(Holder::Nobody);
    }
    let mut text = String::new();
    let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut text);
    Ok(text.parse().ok().and_then(Pid::from_raw).map_or(Holder::Somebody, Holder::Process))
}

/// Who looks after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    /// Who has not said yet who it is.
    Somebody,
    Process(Pid),
}

fn open(path: &Path, create: bool) -> std::io::Result<File> {
    #[allow(clippy::cast_possible_wrap, reason = "the flags are small positive numbers")]
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).write(create).create(create).truncate(false).mode(0o600).custom_flags(flags);
    options.open(path)
}

/// Receiver's own supervisor, for the processes of one app.
#[derive(Debug)]
pub struct Builtin {
    app: App,
}

impl Builtin {
    /// That of an app.
    pub fn of(app: &App) -> Builtin {
        Builtin { app: app.clone() }
    }
}

impl Supervisor for Builtin {
    fn start(&self, start: &Start) -> Result<()> {
        if Alive::holder(&self.app, start)? != Holder::Nobody {
            return Ok(());
        }
        let trouble = || format!("cannot start {}", start.process);
        let mut command = Command::new(program::program()?);
        command.args(["process", "keep"]).arg(start.file(&self.app));
        command.env_clear().envs(program::environment()).current_dir("/");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if start.purpose == Purpose::Beside { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().context(trouble)?;
        program::outlives(child.id());
        // The other end of its input is ours until we die, however we do, or it has ended.
        if let (Some(input), Ok(mut tethers)) = (child.stdin.take(), TETHERS.lock()) {
            tethers.insert(start.id.clone(), input);
        }
        // It closes its output when it stands on its own feet.
        let (mut ready, mut errors) = (String::new(), String::new());
        if let (Some(mut output), Some(mut error)) = (child.stdout.take(), child.stderr.take()) {
            let _ = output.read_to_string(&mut ready);
            if Alive::holder(&self.app, start)? != Holder::Nobody {
                return Ok(());
            }
            let _ = error.read_to_string(&mut errors);
        }
        let _ = child.wait();
        let why = errors.lines().next().unwrap_or("it ended at once");
        let why = why.strip_prefix("error: ").unwrap_or(why).to_owned();
        Err(Error::new(trouble()).caused_by(Error::new(why)))
    }

    fn condition(&self, start: &Start) -> Result<Condition> {
        let alive = Alive::holder(&self.app, start)? != Holder::Nobody;
        let account = Account::read(&self.app, start);
        let state = match &account {
            Some(account) if alive => account.state,
            None if alive => State::Restarting,
            _ => State::Stopped,
        };
        let pid = account.as_ref().and_then(|account| account.pid).filter(|_| alive);
        Ok(Condition {
            state,
            pid,
            memory: pid.and_then(family::memory),
            restarts: account.as_ref().map_or(0, |account| account.restarts),
            since: account.as_ref().map(|account| account.since),
            last_end: account.and_then(|account| account.last_end),
        })
    }

    fn stop(&self, start: &Start) -> Result<()> {
        let until = Instant::now() + start.patience + SLACK;
        let mut asked = None;
        loop {
            let late = Instant::now() > until;
            match Alive::holder(&self.app, start)? {
                Holder::Nobody => break,
                Holder::Process(keeper) if late || asked != Some(keeper) => {
                    self.signal(start, keeper, if late { Signal::KILL } else { Signal::TERM })?;
                    asked = Some(keeper);
                }
                _ => {}
            }
            std::thread::sleep(GLANCE / 4);
        }
        if let Some(keeper) = asked {
            // Where it was our child, nobody else takes it in.
            let _ = rustix::process::waitpid(Some(keeper), WaitOptions::NOHANG);
        }
        family::kill_orphans(&self.app, start);
        if let Ok(mut tethers) = TETHERS.lock() {
            tethers.remove(&start.id);
        }
        Ok(())
    }

    fn last_output(&self, start: &Start, lines: usize) -> Result<Vec<String>> {
        let all = output::last(&self.app, &start.process, Some(&start.id), usize::MAX)?;
        let mut own: Vec<_> = all.into_iter().filter(|line| line.voice == Voice::Process).collect();
        let own = own.split_off(own.len().saturating_sub(lines));
        Ok(own.into_iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect())
    }
}

impl Builtin {
    /// Signals a supervisor, and nobody who came by its number since.
    fn signal(&self, start: &Start, keeper: Pid, signal: Signal) -> Result<()> {
        let Ok(process) = rustix::process::pidfd_open(keeper, PidfdFlags::empty()) else { return Ok(()) };
        let line = std::fs::read(format!("/proc/{}/cmdline", keeper.as_raw_pid())).unwrap_or_default();
        let file = start.file(&self.app);
        if !line.split(|b| *b == 0).any(|word| word == file.as_os_str().as_encoded_bytes()) {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(&process, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).context(|| format!("cannot end {}", start.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_lock_that_goes_while_it_is_looked_at_is_held_by_nobody() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("web-1.lock");
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    std::fs::write(&path, "").unwrap();
                    std::fs::remove_file(&path).unwrap();
                }
            });
            let found = (0..50_000).map(|_| holder(&path)).find(|found| !matches!(found, Ok(Holder::Nobody)));
            end.store(true, Ordering::Relaxed);
            assert!(found.is_none(), "{found:?}");
        });
    }
}
