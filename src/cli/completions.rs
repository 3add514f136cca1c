//! `receiver completions SHELL`.

use clap::Args;
use clap_complete::Shell;

use crate::support::Result;

/// Arguments of `completions`.
#[derive(Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub fn run(self, command: &mut clap::Command) -> Result<u8> {
        clap_complete::generate(self.shell, command, "receiver", &mut std::io::stdout());
        Ok(0)
    }
}
