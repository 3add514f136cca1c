//! A terminal for a command that another user runs: one of its own, joined to ours.
//!
//! Ours cannot be handed on: it is another user's, and can control one session only.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios};
use signal_hook::consts::SIGWINCH;

use crate::support::{Context, Result};

/// A terminal that is joined to ours for as long as this value lives.
pub struct Terminal {
    before: Termios,
    ours: File,
    master: File,
    printing: Option<std::thread::JoinHandle<()>>,
}

/// Whether we have a terminal to join one to.
pub fn is_ours() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

impl Terminal {
    /// Opens one, of the size of ours, and hands out its other end.
    pub fn open() -> Result<(Terminal, OwnedFd)> {
        let cannot = || "cannot open a terminal";
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).context(cannot)?;
        rustix::pty::grantpt(&master).and_then(|()| rustix::pty::unlockpt(&master)).context(cannot)?;
        let name = rustix::pty::ptsname(&master, Vec::new()).context(cannot)?;
        let other = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
        let other = other.context(cannot)?;
        let ours = File::from(std::io::stdin().as_fd().try_clone_to_owned().context(cannot)?);
        let before = rustix::termios::tcgetattr(&ours).context(cannot)?;
        fit(&ours, &master);
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&ours, OptionalActions::Now, &raw).context(cannot)?;
        Ok((Terminal { before, ours, master: File::from(master), printing: None }, other))
    }

    /// Passes on what is typed and what is printed, from now on.
    pub fn join(&mut self) -> Result<()> {
        let cannot = || "cannot join two terminals";
        let (mut typed, mut to) =
            (self.ours.try_clone().context(cannot)?, self.master.try_clone().context(cannot)?);
        // It waits for a key, and ends with this process.
        std::thread::spawn(move || copy(&mut typed, &mut to));
        let mut printed = self.master.try_clone().context(cannot)?;
        self.printing = Some(std::thread::spawn(move || copy(&mut printed, &mut std::io::stdout())));
        let (ours, master) =
            (self.ours.try_clone().context(cannot)?, self.master.try_clone().context(cannot)?);
        let mut signals = signal_hook::iterator::Signals::new([SIGWINCH]).context(cannot)?;
        std::thread::spawn(move || signals.forever().for_each(|_| fit(&ours, &master)));
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whoever had the other end is gone: what it printed last comes to its end.
        let _ = self.printing.take().map(std::thread::JoinHandle::join);
        let _ = rustix::termios::tcsetattr(&self.ours, OptionalActions::Now, &self.before);
    }
}

fn fit(from: &impl AsFd, to: &impl AsFd) {
    if let Ok(size) = rustix::termios::tcgetwinsize(from) {
        let _ = rustix::termios::tcsetwinsize(to, size);
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = [0; 4096];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || to.write_all(&buffer[..read]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
