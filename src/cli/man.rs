//! `receiver man`: the manual, one page with every command.

use std::io::Write;

use clap::Args;

use super::talk;
use crate::support::{Context, Result};

/// Arguments of `man`.
#[derive(Args)]
pub struct Man {}

impl Man {
    /// Prints it as roff: `receiver man | man -l -`.
    pub fn print(command: &clap::Command) -> Result<u8> {
        let mut page = Vec::new();
        let cannot = || "cannot write the manual";
        clap_mangen::Man::new(command.clone()).render(&mut page).context(cannot)?;
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            let name = format!("receiver {}", inner.get_name());
            page.extend_from_slice(format!(".SH \"{}\"\n", name.to_uppercase()).as_bytes());
            let man = clap_mangen::Man::new(inner.clone().bin_name(name));
            man.render_synopsis_section(&mut page).context(cannot)?;
            man.render_description_section(&mut page).context(cannot)?;
            man.render_options_section(&mut page).context(cannot)?;
        }
        talk::written(std::io::stdout().write_all(&page)).map(|()| 0)
    }
}
