//! The line to whoever is at the other end of ssh, and what happens when it is cut.
//!
//! `sshd` tells nobody: without a terminal, a command whose client is gone goes on until it writes again. So somebody
//! looks at the output's other end, and when nobody is there the command is hung up on, as a terminal would do it. What
//! stands on its own feet (a worker, what it deploys) is in no group of ours and goes on.

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getpgrp, getpid, getsid, kill_current_process_group, kill_process};

/// From now on, ends this process and what it runs when nobody reads its output any more.
pub fn end_with_it() {
    thread::spawn(|| {
        if is_gone(None) {
            hang_up();
        }
    });
}

/// Waits until the output's reader is gone; at most so long, where that is said. A file is never gone.
fn is_gone(most: Option<Duration>) -> bool {
    let output = rustix::stdio::stdout();
    let most = most.and_then(|most| Timespec::try_from(most).ok());
    loop {
        let mut ends = [PollFd::new(&output, PollFlags::empty())];
        match poll(&mut ends, most.as_ref()) {
            Ok(_) => return ends[0].revents().intersects(PollFlags::HUP | PollFlags::ERR),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Tells this process, and what it runs, that nobody is there any more.
pub fn hang_up() {
    pass(Signal::HUP);
    // Who listens to that ends by himself; this process at least is to end.
    thread::sleep(Duration::from_secs(5));
    let _ = kill_process(getpid(), Signal::KILL);
}

/// Passes a signal to this process and what it runs.
pub fn pass(signal: Signal) {
    // Only a group that is all ours, as a unit's or a session's of sshd: not that of somebody's shell.
    let over_ssh = std::env::var_os("SSH_CONNECTION").is_some();
    let group: Pid = getpgrp();
    let is_ours = group == getpid() || over_ssh && getsid(None).is_ok_and(|session| session == group);
    let _ = if is_ours { kill_current_process_group(signal) } else { kill_process(getpid(), signal) };
}

/// What comes in, as far as somebody is there: an end that is only the end of the line is an error, so that half a file
/// never passes for a whole one.
#[derive(Debug)]
pub struct Input<R>(pub R);

/// `sshd` closes the input first and the output right after it.
const BETWEEN: Duration = Duration::from_millis(100);

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buffer)?;
        if length == 0 && !buffer.is_empty() && is_gone(Some(BETWEEN)) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection ended before the input did",
            ));
        }
        Ok(length)
    }
}
