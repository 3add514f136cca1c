//! What worker and holder say to each other: lines over a socket; its end is the death of the other.
//!
//! The worker says `ping` and `open`; the holder `ready`, `pong`, and at the end
//! `released HELD LONGEST-MS LOST WAITING`.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::process::{PidfdFlags, Signal};

use super::Released;
use crate::support::{Context, Error, Result};

/// The longest line that either says.
pub(super) const LONGEST_LINE: usize = 200;

/// The worker's end.
#[derive(Debug)]
pub(super) struct Control {
    stream: Mutex<UnixStream>,
    /// The holder's process: what is signalled is it, and no later one of its number.
    process: Option<OwnedFd>,
    pid: Option<u32>,
}

impl Control {
    /// Takes a connection to a holder.
    pub(super) fn new(stream: UnixStream) -> Control {
        let process = peer(&stream);
        let pid = rustix::net::sockopt::socket_peercred(&stream).ok();
        let pid = pid.and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok());
        Control { stream: Mutex::new(stream), process, pid }
    }

    /// The holder's process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Says `word` and waits for a line that begins with `wanted`.
    pub(super) fn ask(&self, word: &str, wanted: &str, patience: Duration) -> Result<String> {
        let mut stream = self.stream.lock().map_err(|_| died())?;
        stream.set_write_timeout(Some(patience)).context(|| "cannot speak to the holder at the door")?;
        stream.write_all(format!("{word}\n").as_bytes()).map_err(|error| silent(&error))?;
        read_until(&mut stream, wanted, patience)
    }

    /// Waits for a line that begins with `wanted`.
    pub(super) fn wait_for(&self, wanted: &str, patience: Duration) -> Result<String> {
        read_until(&mut *self.stream.lock().map_err(|_| died())?, wanted, patience)
    }

    /// Whether the holder is dead, as its connection has it.
    pub(super) fn has_ended(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let Ok(stream) = self.stream.lock() else { return true };
        let mut asked = [PollFd::new(&*stream, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&now)).is_ok() && asked[0].revents().contains(PollFlags::HUP)
    }

    /// Lets a holder go on that was stopped.
    pub(super) fn let_go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends a holder that is of no use.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            let _ = rustix::process::pidfd_send_signal(process, signal);
        }
    }
}

/// The process at the other end, where it is one of ours.
pub(super) fn peer(stream: &impl rustix::fd::AsFd) -> Option<OwnedFd> {
    let credentials = rustix::net::sockopt::socket_peercred(stream).ok()?;
    let ours = credentials.uid == rustix::process::getuid();
    ours.then(|| rustix::process::pidfd_open(credentials.pid, PidfdFlags::empty()).ok()).flatten()
}

fn read_until(stream: &mut UnixStream, wanted: &str, patience: Duration) -> Result<String> {
    let deadline = Instant::now() + patience;
    let mut line = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(silent(&ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(left)).context(|| "cannot hear the holder at the door")?;
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Err(died()),
            Ok(_) if byte[0] == b'\n' => {
                let text = String::from_utf8_lossy(&line).into_owned();
                if text.starts_with(wanted) {
                    return Ok(text);
                }
                // A late answer to an earlier question.
                line.clear();
            }
            Ok(_) if line.len() < LONGEST_LINE => line.push(byte[0]),
            Ok(_) => return Err(Error::new("the holder at the door answers nonsense")),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(silent(&error)),
        }
    }
}

fn silent(error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::new("the holder at the door does not answer"),
        _ => died(),
    }
}

fn died() -> Error {
    Error::new("the holder at the door died")
}

/// The holder's account.
pub(super) fn write_released(released: &Released) -> String {
    let longest = released.longest.as_millis();
    format!("released {} {longest} {} {}\n", released.held, released.lost, released.waiting)
}

/// Reads the holder's account.
pub(super) fn parse_released(line: &str) -> Option<Released> {
    let mut words = line.strip_prefix("released ")?.split(' ').map(|word| word.parse::<u64>().ok());
    let mut next = || words.next().flatten();
    let (held, longest) = (next()?, Duration::from_millis(next()?));
    Some(Released { held, longest, lost: next()?, waiting: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_as_it_was_written() {
        let released = Released { held: 10_000, longest: Duration::from_millis(2_150), lost: 1, waiting: 2 };
        let line = write_released(&released);
        assert_eq!(parse_released(line.trim_end()), Some(released));
        assert_eq!(parse_released("released 1 2 x 4"), None);
    }

    #[test]
    fn a_late_answer_is_passed_over_and_silence_is_no_death() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let control = Control::new(ours);
        theirs.write_all(b"pong\nreleased 1 2 3 4\n").unwrap();
        assert_eq!(control.wait_for("released ", Duration::from_secs(5)).unwrap(), "released 1 2 3 4");
        let short = Duration::from_millis(20);
        assert!(control.ask("ping", "pong", short).unwrap_err().to_string().ends_with("does not answer"));
        assert!(!control.has_ended());
        drop(theirs);
        assert!(control.ask("ping", "pong", short).unwrap_err().to_string().ends_with("died"));
        assert!(control.has_ended());
    }
}
