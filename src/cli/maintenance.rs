//! `receiver maintenance`: a page for everyone.

use clap::Args;

use super::request::DryRun;
use super::{Global, app};
use crate::deploy::request::Request;
use crate::support::{Error, Result};

/// Arguments of `maintenance`.
#[derive(Args)]
#[command(
    override_usage = "receiver maintenance [APP] on|off",
    after_help = "\
While it is on, nginx answers every request with 503, Retry-After and a page: the live release's own
maintenance.html where it has one, or a plain one. Static files and the questions of a certificate's
authority are answered all the same. Nothing is reloaded or restarted; deploys go on."
)]
pub struct Maintenance {
    /// The app, and on or off
    #[arg(value_name = "APP] on|off", num_args = 1..=2, required = true)]
    words: Vec<String>,
    #[command(flatten)]
    dry: DryRun,
}

impl Maintenance {
    /// Puts the page up, or takes it down.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        let on = match rest.as_slice() {
            [word] if word == "on" => true,
            [word] if word == "off" => false,
            _ => return Err(Error::usage("say on or off")),
        };
        self.dry.send(global, &app, &Request::Maintenance { on })
    }
}
