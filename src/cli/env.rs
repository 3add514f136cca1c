//! `receiver env`: settings and secrets of stages and processes.

use std::io::IsTerminal;

use clap::Args;

use super::request::{self, DryRun};
use super::{Global, app, talk};
use crate::deploy::request::Request;
use crate::support::{Error, Result};

/// Arguments of `env`.
#[derive(Args)]
#[command(
    override_usage = "receiver env [APP] list | set NAME < VALUE | unset NAME",
    after_help = "\
A value comes by stdin, so that it stands in no history and no list of processes:
  receiver env agroguia set SECRET_KEY < key.txt
What is deployed from now on finds it; `receiver deploy` makes it so at once."
)]
pub struct Env {
    /// The app, and what to do
    #[arg(value_name = "APP] ACTION [NAME", num_args = 1..=3, required = true)]
    words: Vec<String>,
    #[command(flatten)]
    dry: DryRun,
}

impl Env {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        let words: Vec<&str> = rest.iter().map(String::as_str).collect();
        let request = match words.as_slice() {
            ["list"] => Request::EnvList,
            ["set", name] if name.contains('=') => {
                let name = name.split('=').next().unwrap_or_default();
                return Err(Error::usage("the value comes by stdin, where no list of processes shows it")
                    .hint(format!("`receiver env {} set {} < FILE`", app.name(), name.escape_default())));
            }
            ["set", name] => {
                if std::io::stdin().is_terminal() && !self.dry.dry_run {
                    talk::say(global, "type the value, then Ctrl-D on a line of its own");
                }
                Request::EnvSet { name: (*name).to_owned() }
            }
            ["unset", name] => Request::EnvUnset { name: (*name).to_owned() },
            _ => return Err(Error::usage("env does one of: list, set NAME, unset NAME")),
        };
        if let Request::EnvList = request {
            return request::send(global, &app, &request);
        }
        self.dry.send(global, &app, &request)
    }
}
