//! `receiver tethered -- CMD`: becomes a program that is told to end when whoever started it dies.

use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;

use crate::support::{Context, Error, Result};

/// Arguments of `tethered`.
#[derive(Args)]
pub struct Tethered {
    /// The process that it must not outlive
    #[arg(long, value_name = "PID")]
    parent: i32,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Tethered {
    /// Becomes it; returns only where that fails.
    pub fn run(self) -> Result<u8> {
        // Kept over execve, and lost in what it forks itself (prctl(2), PR_SET_PDEATHSIG).
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
            .context(|| "cannot ask for the parent's death")?;
        // Dead before it was asked for: then there is another parent by now.
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
        if parent != Some(self.parent) {
            return Err(Error::new("whoever started this is gone"));
        }
        let (program, arguments) = (&self.command[0], &self.command[1..]);
        let error = Command::new(program).args(arguments).exec();
        Err(Error::new(format!("cannot run '{}'", program.escape_default())).caused_by(error))
    }
}
