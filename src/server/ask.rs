//! The side of the account for ssh: hands a command and its three streams to receiver's own account, passes on what
//! comes from the terminal, and answers with the command's exit code.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use signal_hook::consts::{SIGINT, SIGQUIT, SIGWINCH};

use super::line;
use super::wire::{self, Ask, Done, Pass};
use crate::support::{Context, Error, Result};

/// Has a command carried out at `socket`, on this process's streams. Returns its exit code.
pub fn ask(socket: &Path, ask: &Ask) -> Result<u8> {
    let connection = Arc::new(wire::connect(socket)?);
    let last = pass_signals(&connection)?;
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    wire::send(&connection.as_fd(), ask, Some(streams))?;
    // Where we end, the connection does, and with it the command.
    line::end_with_it();
    match wire::receive::<Done>(&connection.as_fd())? {
        Some(done) => Ok(done.code),
        // It was ended by what came from the terminal.
        None => match u8::try_from(last.load(Ordering::SeqCst)) {
            Ok(signal) if signal > 0 => Ok(128 + signal),
            _ => Err(Error::new("receiver ended before the command did")),
        },
    }
}

/// Passes on what a terminal sends. The answer is the last signal that would end a command; 0 is none.
fn pass_signals(connection: &Arc<OwnedFd>) -> Result<Arc<AtomicI32>> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGQUIT, SIGWINCH])
        .context(|| "cannot wait for signals")?;
    let last = Arc::new(AtomicI32::new(0));
    let (to, noted) = (Arc::clone(connection), Arc::clone(&last));
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal != SIGWINCH {
                noted.store(signal, Ordering::SeqCst);
            }
            if wire::send(&to.as_fd(), &Pass { signal }, None).is_err() {
                return;
            }
        }
    });
    Ok(last)
}
