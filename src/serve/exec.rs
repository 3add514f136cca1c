//! Prepares and becomes the command of a start; whoever keeps it running calls this.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::family;
use super::start::Start;
use crate::support::files::DirectoryLock;
use crate::support::{Context, Error, Result, files};

/// Becomes the command of the start that is written down in `file`; returns only where it cannot.
///
/// It holds the release's lock shared, and hands it down: prune leaves the release alone for as long as
/// anything of the start runs. With `parent`, the death of that process is its own.
pub fn run(file: &Path, parent: Option<u32>) -> Result<Infallible> {
    let start = Start::read(file)?.ok_or_else(|| Error::new(format!("there is no {}", file.display())))?;
    if let Some(parent) = parent {
        die_with(parent)?;
    }
    let lock = DirectoryLock::try_take(&start.directory, false)?
        .ok_or_else(|| Error::new(format!("{} is being removed", start.release)))?;
    lock.inherit()?;
    if let Some(socket) = &start.socket {
        // What it left when it ended the last time would keep it from listening.
        files::remove_file(socket)?;
    }
    let _mark = family::mark(file)?;
    limit(&start)?;
    let error = Command::new("/bin/sh")
        .args(["-c", &start.command])
        .current_dir(&start.directory)
        .env_clear()
        .envs(&start.environment)
        .stdin(Stdio::null())
        .exec();
    Err(error).context(|| format!("cannot start {} in {}", start.process, start.directory.display()))
}

/// The kernel ends this process, whatever it will have become, when its parent dies.
fn die_with(parent: u32) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context(|| "cannot be bound to whoever keeps it running")?;
    // It may have died before that.
    let parent = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if rustix::process::getppid() == parent {
        return Ok(());
    }
    Err(Error::new("whoever was to keep it running has died"))
}

/// The limits that a process can be given by itself, without control groups: the memory that each of
/// its processes may write to (`RLIMIT_DATA`, setrlimit(2)). `RLIMIT_NPROC` counts all processes of a
/// user, other apps' too, and a share of a processor has no such limit: they hold under systemd only.
fn limit(start: &Start) -> Result<()> {
    if start.keeper != super::supervision::Keeper::Builtin {
        return Ok(());
    }
    let Some(memory) = start.memory else { return Ok(()) };
    let most = Rlimit { current: Some(memory), maximum: Some(memory) };
    rustix::process::setrlimit(Resource::Data, most).context(|| "cannot limit the memory of a process")
}
