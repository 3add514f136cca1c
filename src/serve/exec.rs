//! Prepares and becomes the command of a start; whoever keeps it running calls this.

use std::convert::Infallible;
use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::family;
use super::start::Start;
use super::supervision::GLANCE;
use crate::app::App;
use crate::support::accounts::Account;
use crate::support::lock::DirectoryLock;
use crate::support::{Context, Error, Result, files, program};

/// Becomes the command of the start that is written down in `file`; returns only where it cannot.
///
/// It holds the release's lock shared, and hands it down: prune leaves the release alone for as long as
/// anything of the start runs. With `parent`, the death of that process is its own.
pub fn run(file: &Path, parent: Option<u32>) -> Result<Infallible> {
    let start = Start::read(file)?.ok_or_else(|| Error::new(format!("there is no {}", file.display())))?;
    let app = App::of_process(file)?;
    let user = app.user().map(|user| Account::want(&user)).transpose()?;
    if let Some(user) = &user {
        return run_as(user, &app, &start);
    }
    if let Some(parent) = parent {
        die_with(parent)?;
    }
    if let Some(socket) = &start.socket {
        // What it left when it ended the last time would keep it from listening.
        files::remove_file(socket)?;
        admit_later(socket)?;
    }
    let lock = hold(&start)?;
    let _mark = family::mark(file)?;
    limit(&start)?;
    let error = command(&start).exec();
    drop(lock);
    Err(error).context(|| format!("cannot start {} in {}", start.process, start.directory.display()))
}

/// The same for an app with a user of its own, by root: it becomes that user first.
fn run_as(user: &Account, app: &App, start: &Start) -> Result<Infallible> {
    start.refuse_foreign(app)?;
    if let Some(socket) = &start.socket {
        files::remove_file(socket)?;
    }
    let lock = hold(start)?;
    user.assume()?;
    // In its name: only its own socket can be opened to others by it.
    start.socket.as_deref().map_or(Ok(()), admit_later)?;
    let error = command(start).exec();
    drop(lock);
    Err(error).context(|| format!("cannot start {} in {}", start.process, start.directory.display()))
}

/// The release's lock, for whatever is started from now on.
fn hold(start: &Start) -> Result<DirectoryLock> {
    let lock = DirectoryLock::share(&start.directory)?
        .ok_or_else(|| Error::new(format!("{} is being removed", start.release)))?;
    lock.inherit()?;
    Ok(lock)
}

fn command(start: &Start) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &start.command])
        .current_dir(&start.directory)
        .env_clear()
        .envs(&start.environment)
        .stdin(Stdio::null());
    command
}

/// How long a socket is waited for, at the most.
const MOST: Duration = Duration::from_secs(120);

/// Starts who waits for the socket, to let nginx in. By way of a child that ends at once, so that the
/// command has no child that it does not know.
fn admit_later(socket: &Path) -> Result<()> {
    let mut command = Command::new(program::program()?);
    command.args(["process", "admit"]).arg(socket).stdin(Stdio::null()).stdout(Stdio::null());
    command.env_clear().stderr(Stdio::null());
    command.status().context(|| "cannot start who waits for the socket").map(drop)
}

/// Starts who waits, and returns: whoever takes orphans in has it from then on.
pub fn wait_to_admit(socket: &Path) -> Result<()> {
    let mut command = Command::new(program::program()?);
    command.args(["process", "admit", "--wait"]).arg(socket).stdin(Stdio::null()).stdout(Stdio::null());
    let spawned = command.env_clear().stderr(Stdio::null()).spawn();
    spawned.context(|| "cannot start who waits for the socket").map(drop)
}

/// Waits until a socket is there, and lets nginx in, whose workers are another user.
///
/// Most servers make their socket as the umask has it, 0755, and to connect one has to be allowed to write
/// (unix(7)). A server that closed its socket to all others on purpose is left alone.
pub fn admit(socket: &Path) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < MOST {
        if let_in(socket)? {
            return Ok(());
        }
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

/// Lets nginx in at a socket, where it is there already.
pub fn let_in(socket: &Path) -> Result<bool> {
    let Ok(about) = std::fs::symlink_metadata(socket) else { return Ok(false) };
    if !about.file_type().is_socket() {
        return Ok(false);
    }
    let (mode, me) = (about.permissions().mode(), rustix::process::geteuid());
    // Who waits for it in its owner's name does it, where we cannot.
    let ours = me.is_root() || about.uid() == me.as_raw();
    if ours && mode & 0o007 == 0o005 {
        std::fs::set_permissions(socket, Permissions::from_mode(mode | 0o022))
            .context(|| format!("cannot let nginx in at {}", socket.display()))?;
    }
    Ok(true)
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
