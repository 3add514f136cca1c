//! Runs something as an app's user, with exactly the environment that it is given.
//!
//! Between root and the command stands this program once more ([`become_it`]): it finds what it has to become in a file
//! that has no name, becomes the user, and then the command. So the environment, in which secrets are, is in no
//! argument, and no program runs as root with it.

use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, Mode};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use super::Ground;
use crate::root::{Bounds, Ended, Run};
use crate::serve::family;
use crate::serve::systemd::Manager;
use crate::support::accounts::Account;
use crate::support::{Context, Error, Result, lock, program};

/// How long what is asked to end has for it, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// What [`become_it`] becomes.
#[derive(Serialize, Deserialize)]
struct Orders {
    user: String,
    words: Vec<String>,
    environment: BTreeMap<String, String>,
}

pub(super) fn run(ground: &Ground, run: &Run, beside: &[OwnedFd], stream: &UnixStream) -> Result<Ended> {
    let [input, output, errors] = beside else {
        return Err(Error::new("input, output and errors belong beside a command"));
    };
    refuse_strange(run)?;
    let place = Path::new("versions").join(run.release.to_string());
    // What runs in a release holds it, and hands that down: prune leaves it alone.
    let release = lock::share(|| ground.open(&place))?
        .ok_or_else(|| Error::new(format!("{} is being removed", run.release)))?;
    limit(run.bounds)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context(|| "cannot look after what a command leaves")?;
    let mut words = run.words.clone();
    if run.terminal {
        // It gets a session of its own, and its input as the terminal that controls it.
        words.splice(0..0, ["/usr/bin/setsid", "--ctty", "--wait"].map(str::to_owned));
    }
    let orders = Orders { user: ground.user.name.clone(), words, environment: run.environment.clone() };
    rustix::io::fcntl_setfd(&release, rustix::io::FdFlags::empty()).context(|| "cannot hand a lock down")?;
    let place = format!("/proc/self/fd/{}", release.as_raw_fd());
    let child = orders.start(Path::new(&place), [input, output, errors])?;
    wait(child, stream)
}

/// Runs what works on the app's databases in files, as its user, who asks for that work over `beside`.
pub(super) fn agent(ground: &Ground, beside: &[OwnedFd], stream: &UnixStream) -> Result<Ended> {
    let [socket] = beside else { return Err(Error::new("one socket belongs beside this request")) };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context(|| "cannot look after what a command leaves")?;
    let program = program::program()?;
    let program = program.to_str().ok_or_else(|| Error::new("this program has a name that is not UTF-8"))?;
    let words = [program, "database-agent"].map(str::to_owned).to_vec();
    let orders = Orders { user: ground.user.name.clone(), words, environment: BTreeMap::new() };
    let nothing = OwnedFd::from(std::fs::File::open("/dev/null").context(|| "cannot open /dev/null")?);
    wait(orders.start(Path::new("/"), [socket, &nothing, &nothing])?, stream)
}

impl Orders {
    /// Starts what they say in `place`, with input, output and errors.
    fn start(&self, place: &Path, [input, output, errors]: [&OwnedFd; 3]) -> Result<Child> {
        let cannot = || "cannot start a command";
        let orders = self.write_down()?;
        rustix::io::fcntl_setfd(&orders, rustix::io::FdFlags::empty()).context(cannot)?;
        let mut command = Command::new(program::program()?);
        command.arg("become").arg(orders.as_raw_fd().to_string()).env_clear().current_dir(place);
        let copy = |of: &OwnedFd| of.try_clone().context(cannot);
        command.stdin(copy(input)?).stdout(copy(output)?).stderr(copy(errors)?).process_group(0);
        command.spawn().context(cannot)
    }

    /// A file without a name that holds them.
    fn write_down(&self) -> Result<OwnedFd> {
        let cannot = || "cannot write down a command";
        let descriptor = rustix::fs::memfd_create("orders", MemfdFlags::CLOEXEC).context(cannot)?;
        let mut file = std::fs::File::from(descriptor);
        serde_json::to_writer(&mut file, self).context(cannot)?;
        file.flush().and_then(|()| file.rewind()).context(cannot)?;
        Ok(file.into())
    }
}

/// Nothing that the kernel would cut or refuse halfway.
fn refuse_strange(run: &Run) -> Result<()> {
    let text = |text: &str| !text.contains('\0');
    let words = !run.words.is_empty() && run.words.iter().all(|word| text(word));
    let names = |name: &String| !name.is_empty() && !name.contains('=') && text(name);
    let environment = run.environment.iter().all(|(name, value)| names(name) && text(value));
    if words && environment { Ok(()) } else { Err(Error::new("that is no command, or no environment")) }
}

/// Has the limits hold for the unit that this process is in, which is the command's alone.
fn limit(bounds: Bounds) -> Result<()> {
    let mut properties = Vec::new();
    properties.extend(bounds.memory.map(|bytes| format!("MemoryMax={bytes}")));
    properties.extend(bounds.tasks.map(|tasks| format!("TasksMax={tasks}")));
    properties.extend(bounds.cpu.map(|percent| format!("CPUQuota={percent}%")));
    if properties.is_empty() {
        return Ok(());
    }
    let groups = std::fs::read_to_string("/proc/self/cgroup").context(|| "cannot tell which unit this is")?;
    let unit =
        groups.lines().filter_map(|line| line.rsplit('/').next()).find(|name| name.ends_with(".service"));
    let unit = unit.ok_or_else(|| Error::new("limits hold in a unit of systemd only"))?;
    let mut command = Manager::System.command("systemctl");
    command.args(["set-property", "--runtime", "--", unit]).args(&properties);
    let output = command.output().context(|| "cannot start systemctl")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::new("cannot limit a command").caused_by(Error::new(said)))
}

/// Waits for its end, and ends it where nobody is there any more who asked for it.
fn wait(mut child: Child, stream: &UnixStream) -> Result<Ended> {
    let cannot = || "cannot wait for a command";
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| Error::new(cannot()))?;
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context(cannot)?;
    let mut asked: Option<Instant> = None;
    loop {
        let (over, gone) = {
            let mut both = vec![PollFd::new(&process, PollFlags::IN)];
            if asked.is_none() {
                both.push(PollFd::new(stream, PollFlags::IN | PollFlags::HUP | PollFlags::RDHUP));
            }
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            let _ = rustix::event::poll(&mut both, Some(&second));
            let heard = both.get(1).map_or(PollFlags::empty(), PollFd::revents);
            (!heard.is_empty(), heard.contains(PollFlags::HUP))
        };
        if gone {
            // Whoever asked has died: what comes next must not meet this any more.
            family::kill_descendants();
            return Ok(Ended::Signalled(Signal::KILL.as_raw()));
        }
        if let Some(status) = child.try_wait().context(cannot)? {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            family::kill_descendants();
            return Ok(match (status.code(), status.signal()) {
                (Some(code), _) => Ended::Exited(code),
                (None, signal) => Ended::Signalled(signal.unwrap_or(0)),
            });
        }
        if over && asked.is_none() {
            asked = Some(Instant::now());
            for member in family::descendants() {
                let _ = rustix::process::kill_process(member, Signal::TERM);
            }
        }
        if asked.is_some_and(|asked| asked.elapsed() > GRACE) {
            family::kill_descendants();
            return Ok(Ended::Signalled(Signal::KILL.as_raw()));
        }
    }
}

/// Becomes the app's user, and then the command, that the open file `descriptor` says; returns only where it cannot.
pub fn become_it(descriptor: i32) -> Result<std::convert::Infallible> {
    let cannot = || "cannot read what is to be run";
    let orders: Orders = {
        let path = format!("/proc/self/fd/{descriptor}");
        let mut text = String::new();
        std::fs::File::open(path).context(cannot)?.read_to_string(&mut text).context(cannot)?;
        serde_json::from_str(&text).map_err(|_| Error::new(cannot()))?
    };
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Account::want(&orders.user)?.assume()?;
    let (program, arguments) = orders.words.split_first().ok_or_else(|| Error::new(cannot()))?;
    let error = Command::new("/usr/bin/env")
        .args(["--", program])
        .args(arguments)
        .env_clear()
        .envs(&orders.environment)
        .exec();
    Err(error).context(|| format!("cannot run '{}'", program.escape_default()))
}
