//! `receiver pin` and `unpin`.

use clap::Args;

use super::request::DryRun;
use super::{Global, app};
use crate::app::{App, ReleaseId};
use crate::deploy::look::Scene;
use crate::deploy::request::Request;
use crate::deploy::rollback;
use crate::support::{Error, Result};

/// Arguments of `pin`.
#[derive(Args)]
pub struct Pin {
    /// The app, and a release (any part of its name that fits only one)
    #[arg(value_name = "APP] RELEASE", num_args = 1..=2, required = true)]
    words: Vec<String>,
    #[command(flatten)]
    dry: DryRun,
}

/// Arguments of `unpin`.
#[derive(Args)]
pub struct Unpin {
    /// The app, and a release (any part of its name that fits only one)
    #[arg(value_name = "APP] RELEASE", num_args = 1..=2, required = true)]
    words: Vec<String>,
    #[command(flatten)]
    dry: DryRun,
}

fn release(app: &App, rest: &[String]) -> Result<ReleaseId> {
    let [part] = rest else { return Err(Error::usage("name one release")) };
    rollback::find(&Scene::read(app)?, part)
}

impl Pin {
    /// Pins.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        self.dry.send(global, &app, &Request::Pin { release: release(&app, &rest)? })
    }
}

impl Unpin {
    /// Unpins.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        self.dry.send(global, &app, &Request::Unpin { release: release(&app, &rest)? })
    }
}
