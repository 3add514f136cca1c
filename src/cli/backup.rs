//! `receiver backup`: all of an app as one stream.

use std::io::IsTerminal;

use clap::Args;

use super::{Global, app, talk};
use crate::deploy::backup::{self, Wanted};
use crate::server::carried;
use crate::server::place::Place;
use crate::support::{Error, Result};

/// Arguments of `backup`.
#[derive(Args)]
#[command(
    override_usage = "receiver backup [APP] > FILE",
    after_help = "The stream is a tar, not packed, and it holds secrets: `receiver backup APP | zstd | age -r … > FILE`.\n\
                  `receiver create APP --restore FILE` makes the same app of it."
)]
pub struct Backup {
    /// The app
    app: Option<String>,
    /// The databases of all kept versions, not only the live one's
    #[arg(long)]
    all_versions: bool,
}

impl Backup {
    /// Writes it to stdout.
    pub fn run(self, global: &Global) -> Result<u8> {
        if global.json {
            return Err(Error::usage("a backup is a stream, and no JSON"));
        }
        let app = app::pick(global, self.app.as_deref())?;
        let output = std::io::stdout().lock();
        if output.is_terminal() {
            return Err(Error::usage("a backup is not for a terminal")
                .hint(format!("`receiver backup {} > FILE`", app.name())));
        }
        let wanted = if self.all_versions { Wanted::AllVersions } else { Wanted::Live };
        let output = std::io::BufWriter::with_capacity(1 << 20, output);
        let keys = carried::of(&Place::of(&global.root()?)?, app.name())?;
        backup::write(&app, wanted, keys, output, &mut |line| talk::say(global, line))?;
        Ok(0)
    }
}
