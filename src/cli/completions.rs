//! `receiver completions SHELL`.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use super::talk;
use crate::support::Result;

/// Arguments of `completions`.
#[derive(Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub fn run(&self, command: &mut clap::Command) -> Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "receiver", &mut script);
        talk::written(std::io::stdout().write_all(&script)).map(|()| 0)
    }
}
