//! `receiver work APP…`: the worker, which outlives whoever started it.

use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::Mode;

use super::{Global, app};
use crate::app::{App, Root};
use crate::deploy::worker;
use crate::support::{Context, Result, program};

/// Arguments of `work`.
#[derive(Args)]
pub struct Work {
    /// The apps, one after the other
    #[arg(required_unless_present = "at", value_name = "APP")]
    apps: Vec<String>,
    /// The app of this directory: what a unit of systemd knows
    #[arg(long, value_name = "DIR", conflicts_with = "apps")]
    at: Option<PathBuf>,
}

impl Work {
    /// Does what is queued.
    pub fn run(self, global: &Global) -> Result<u8> {
        // A session of its own: no terminal and no hang-up reaches it. It fails only where there is
        // one already, as under systemd.
        let _ = rustix::process::setsid();
        // What it writes into a repository of another user is that user's as well, by the group.
        let umask = if self.at.is_some() { 0o002 } else { 0o022 };
        rustix::process::umask(Mode::from_raw_mode(umask));
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .context(|| "cannot look after what stages leave")?;
        program::let_go_of_output()?;
        if let Some(place) = &self.at {
            return worker::work_all(&[at(place)?]).map(|()| 0);
        }
        // One that was removed meanwhile needs no work.
        let (there, gone): (Vec<_>, Vec<_>) =
            self.apps.iter().map(|name| app::pick(global, Some(name))).partition(Result::is_ok);
        let there: Vec<_> = there.into_iter().flatten().collect();
        worker::work_all(&there)?;
        gone.into_iter().find_map(Result::err).map_or(Ok(0), Err)
    }
}

fn at(place: &Path) -> Result<App> {
    let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Root::find(place.parent())?.open(&name.parse()?)
}
