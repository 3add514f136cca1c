//! `receiver put` and `receiver get`: files of `shared/`.

use clap::Args;

use super::request::{self, DryRun};
use super::{Global, app};
use crate::app::settings::RelativePath;
use crate::deploy::request::Request;
use crate::support::{Error, Result};

/// Arguments of `put`.
#[derive(Args)]
#[command(override_usage = "receiver put [APP] PATH < FILE")]
pub struct Put {
    /// The app, and where the file goes, below shared/
    #[arg(value_name = "APP] PATH", num_args = 1..=2, required = true)]
    words: Vec<String>,
    #[command(flatten)]
    dry: DryRun,
}

/// Arguments of `get`.
#[derive(Args)]
#[command(override_usage = "receiver get [APP] PATH > FILE")]
pub struct Get {
    /// The app, and the file, below shared/
    #[arg(value_name = "APP] PATH", num_args = 1..=2, required = true)]
    words: Vec<String>,
}

fn path(rest: &[String]) -> Result<RelativePath> {
    let [path] = rest else { return Err(Error::usage("name one file below shared/")) };
    path.parse().map_err(|why| {
        Error::usage(format!("'{}' cannot be a file of shared/: {why}", path.escape_default()))
    })
}

impl Put {
    /// Brings a file.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        self.dry.send(global, &app, &Request::Put { path: path(&rest)? })
    }
}

impl Get {
    /// Hands out a file.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        request::send(global, &app, &Request::Get { path: path(&rest)? })
    }
}
