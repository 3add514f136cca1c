//! `receiver work APP`: the worker, which outlives whoever started it.

use clap::Args;
use rustix::fs::Mode;

use super::{Global, app};
use crate::deploy::worker;
use crate::support::{Context, Result, program};

/// Arguments of `work`.
#[derive(Args)]
pub struct Work {
    /// The app
    app: String,
}

impl Work {
    /// Does what is queued.
    pub fn run(self, global: &Global) -> Result<u8> {
        // A session of its own: no terminal and no hang-up reaches it. It fails only where there is
        // one already, as under systemd.
        let _ = rustix::process::setsid();
        rustix::process::umask(Mode::from_raw_mode(0o022));
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .context(|| "cannot look after what stages leave")?;
        program::let_go_of_output()?;
        let app = app::pick(global, Some(&self.app))?;
        worker::work(&app)?;
        Ok(0)
    }
}
