//! `receiver init`: a receiver.toml for the framework that is found here.

use clap::Args;
use serde_json::json;

use super::{Global, talk};
use crate::app::init;
use crate::support::{Error, Result, files};

/// Arguments of `init`.
#[derive(Args)]
pub struct Init {
    /// Print it, and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Init {
    /// Writes the file.
    pub fn run(self, global: &Global) -> Result<u8> {
        let here = std::path::Path::new(".");
        let facts = init::detect(&|directory| files::names_in(&here.join(directory)).unwrap_or_default());
        let text = init::template(&facts);
        let file = std::path::absolute("receiver.toml")
            .map_err(|error| Error::new("cannot tell where we are").caused_by(error))?;
        if !self.dry_run {
            if files::exists(&file) {
                return Err(Error::usage("receiver.toml is there already")
                    .hint("`receiver init --dry-run` prints what would be written"));
            }
            files::write_atomic(&file, text.as_bytes(), 0o644)?;
            talk::say(
                global,
                &format!(
                    "receiver.toml is written (found: {}); look it over, commit it, and push",
                    facts.framework
                ),
            );
            return Ok(0);
        }
        let words: Vec<String> = text.lines().map(str::to_owned).collect();
        talk::data(global, &json!({ "framework": facts.framework.to_string(), "text": text }), &words)?;
        Ok(0)
    }
}
