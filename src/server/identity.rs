//! Goes on as receiver, or has something done as it.

use std::ffi::OsString;
use std::process::Command;

use crate::app::server::{HOME, RECEIVER};
use crate::support::accounts::Account;
use crate::support::{Context, Error, Result, program};

/// This program once more, as whoever we are, with receiver's environment.
pub fn again(arguments: impl Iterator<Item = OsString>) -> Result<Command> {
    let mut command = Command::new(program::program()?);
    command.args(arguments).env("HOME", HOME).env("USER", RECEIVER).env("LOGNAME", RECEIVER);
    Ok(command)
}

/// Does something as receiver. Only the thread that does it is receiver, and what it starts.
pub fn as_receiver<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let thread = std::thread::spawn(move || {
        Account::want(RECEIVER)?.assume()?;
        work()
    });
    thread.join().map_err(|_| Error::new("the thread that did it died"))?
}

/// Runs this program as receiver, to its end; its exit code.
pub fn run_as_receiver(arguments: Vec<OsString>) -> Result<u8> {
    let status = as_receiver(move || {
        let status = again(arguments.into_iter())?.current_dir("/").status();
        status.context(|| format!("cannot start this program as {RECEIVER}"))
    })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
