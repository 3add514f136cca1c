//! `receiver init`: a receiver.toml for the framework that is found here.

use clap::Args;
use serde_json::json;

use super::{Global, talk};
use crate::app::init;
use crate::support::{Error, Result, files};

/// What is convenient to have in a repository of Mercurial's.
const ALIASES: &str = "\
  [paths]
  production = ssh://deploy@HOST/APP
  [alias]
  plan = push --pushvars RECEIVER_PLAN=1 production
  deploy = push production";

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
            if files::is_directory(&here.join(".hg")) {
                talk::say(
                    global,
                    "for Mercurial, into .hg/hgrc; then `hg plan` shows what `hg deploy` would do:",
                );
                talk::say(global, ALIASES);
            }
            return Ok(0);
        }
        let words: Vec<String> = text.lines().map(str::to_owned).collect();
        talk::data(global, &json!({ "framework": facts.framework.to_string(), "text": text }), &words)?;
        Ok(0)
    }
}
