//! This program, started once more: by what path, with what environment, and on its own feet.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::{Context, Error, Result};

/// The program itself, also where the running one was replaced since it started.
pub fn program() -> Result<PathBuf> {
    let program = std::env::current_exe().context(|| "cannot find this program")?;
    let name = program.to_string_lossy();
    Ok(name.strip_suffix(" (deleted)").map_or_else(|| program.clone(), PathBuf::from))
}

/// What it needs of our environment; no `GIT_*`, no agent, nothing of the pusher's.
pub fn environment() -> Vec<(String, String)> {
    let wanted = |name: &str| {
        let ours = ["PATH", "HOME", "LANG", "TZ", "USER", "XDG_RUNTIME_DIR", "RUST_LOG", "RUST_BACKTRACE"];
        ours.contains(&name)
            || name == "RECEIVER_SUPERVISOR"
            || cfg!(debug_assertions) && name.starts_with("RECEIVER_TEST_")
    };
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| wanted(name))
        .collect()
}

/// Closes the pipe that tells the starter that we stand on our own feet.
pub fn let_go_of_output() -> Result<()> {
    rustix::stdio::dup2_stdout(&nothing()?).context(|| "cannot let go of the output")
}

/// The same for what errors are said on.
pub fn let_go_of_errors() -> Result<()> {
    rustix::stdio::dup2_stderr(&nothing()?).context(|| "cannot let go of the output")
}

fn nothing() -> Result<std::fs::File> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    opened.context(|| "cannot open /dev/null")
}

/// Starts this program with `arguments` so that it outlives us, and returns when it closed its output
/// ([`let_go_of_output`]).
///
/// # Errors
/// Where it ended before, with what it said.
pub fn detach(arguments: &[&OsStr]) -> Result<()> {
    let trouble = || format!("cannot start `receiver {}`", arguments[0].display());
    let mut command = Command::new(program()?);
    command.args(arguments).env_clear().envs(environment()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context(trouble)?;
    outlives(child.id());
    let mut said = Vec::new();
    for pipe in [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)] {
        let _ = pipe.map(|pipe| File::from(pipe).read_to_end(&mut said));
    }
    match child.try_wait() {
        Ok(Some(status)) if !status.success() => {
            let said = String::from_utf8_lossy(&said);
            let why = said.lines().next().unwrap_or("it ended at once");
            let why = why.strip_prefix("error: ").unwrap_or(why).to_owned();
            Err(Error::new(trouble()).caused_by(Error::new(why)))
        }
        _ => Ok(()),
    }
}

/// Children of this process that are to outlive it.
static OUTLIVING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Notes that a child is to outlive this process: whoever ends what a stage left leaves it alone.
pub fn outlives(pid: u32) {
    if let Ok(mut all) = OUTLIVING.lock() {
        all.insert(pid);
    }
}

/// Whether a child is to outlive this process.
pub fn is_to_outlive(pid: u32) -> bool {
    OUTLIVING.lock().is_ok_and(|all| all.contains(&pid))
}
