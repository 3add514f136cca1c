//! `receiver wake APP`: starts versions that are not live when somebody asks for them, and lets them sleep.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{Global, app};
use crate::deploy::waking::Sleepers;
use crate::serve::waker;
use crate::support::{Context, Result};

/// Arguments of `wake`.
#[derive(Args)]
pub struct Wake {
    /// The app
    app: String,
}

impl Wake {
    /// Looks after them until nothing is granted any more, or it is asked to end.
    pub fn run(self, global: &Global) -> Result<u8> {
        // It fails only where there is a session of our own already, as under systemd.
        let _ = rustix::process::setsid();
        let app = app::pick(global, Some(&self.app))?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, stop.clone()).context(|| "cannot wait for signals")?;
        }
        waker::serve(&app, Arc::new(Sleepers::of(&app)), &stop)?;
        Ok(0)
    }
}
