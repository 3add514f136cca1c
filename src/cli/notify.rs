//! `receiver notify`: what tells somebody of what went wrong.

use clap::Args;

use super::{Global, app};
use crate::deploy::notice;
use crate::support::Result;

/// Arguments of `notify`.
#[derive(Args)]
pub struct Notify {
    /// The app
    app: String,
}

impl Notify {
    /// Runs the command of [notify] for each event that waits.
    pub fn run(self, global: &Global) -> Result<u8> {
        notice::deliver(&app::pick(global, Some(&self.app))?).map(|()| 0)
    }
}
