//! `receiver watch`: deploys what arrives by other ways than a hook.

use std::sync::mpsc;
use std::time::Duration;

use clap::Args;
use notify::{RecursiveMode, Watcher};

use super::{Global, app, identity, talk};
use crate::app::{App, Vcs};
use crate::deploy::{branches, spawn, worker};
use crate::support::{Context, Result};

/// Arguments of `watch`.
#[derive(Args)]
#[command(after_help = "\
Follows the refs on disk: a mirror's fetch, a pull by cron. A tip of the deployed branch that has no
verdict yet is deployed, as if it were pushed.")]
pub struct Watch {
    /// The apps; all of them where none is named
    #[arg(value_name = "APP")]
    apps: Vec<String>,
    /// Look once, and end
    #[arg(long)]
    once: bool,
}

impl Watch {
    /// Watches until it is ended.
    pub fn run(self, global: &Global) -> Result<u8> {
        let apps: Vec<App> = match self.apps.as_slice() {
            [] => identity::all(global)?,
            names => names.iter().map(|name| app::pick(global, Some(name))).collect::<Result<_>>()?,
        };
        let (sender, changes) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |_| {
            let _ = sender.send(());
        })
        .context(|| "cannot watch directories")?;
        for app in &apps {
            let repository = app.repository();
            let places = match app.vcs() {
                // Loose refs lie below refs/, packed ones in a file that is replaced beside it.
                Vcs::Git => [
                    (repository.join("refs"), RecursiveMode::Recursive),
                    (repository, RecursiveMode::NonRecursive),
                ],
                // Bookmarks lie beside the store, and in newer repositories in it.
                Vcs::Mercurial => {
                    [".hg", ".hg/store"].map(|place| (repository.join(place), RecursiveMode::NonRecursive))
                }
            };
            for (place, mode) in places {
                watcher.watch(&place, mode).context(|| format!("cannot watch {}", app.name()))?;
            }
        }
        loop {
            for app in &apps {
                if let Some(tip) = worker::undeployed_tip(app) {
                    talk::say(global, &format!("{}: {} arrived", app.name(), tip.short()));
                    spawn::worker(app)?;
                }
                for claim in branches::lost(app)? {
                    talk::say(global, &format!("{}: {} arrived", claim.app.name(), claim.lineage.branch));
                    spawn::worker(app)?;
                }
            }
            if self.once {
                return Ok(0);
            }
            // The limit is for filesystems that tell nobody.
            if changes.recv_timeout(Duration::from_secs(30)).is_ok() {
                // A fetch moves many refs: wait until it is quiet.
                while changes.recv_timeout(Duration::from_millis(200)).is_ok() {}
            }
        }
    }
}
