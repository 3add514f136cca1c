//! `receiver work APP…`: the worker, which outlives whoever started it.

use clap::Args;
use rustix::fs::Mode;

use super::{Global, app};
use crate::deploy::worker;
use crate::support::{Context, Result, program};

/// Arguments of `work`.
#[derive(Args)]
pub struct Work {
    /// The apps, one after the other
    #[arg(required = true, value_name = "APP")]
    apps: Vec<String>,
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
        // One that was removed meanwhile needs no work.
        let (there, gone): (Vec<_>, Vec<_>) =
            self.apps.iter().map(|name| app::pick(global, Some(name))).partition(Result::is_ok);
        let there: Vec<_> = there.into_iter().flatten().collect();
        worker::work_all(&there)?;
        gone.into_iter().find_map(Result::err).map_or(Ok(0), Err)
    }
}
