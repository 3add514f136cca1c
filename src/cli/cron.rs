//! `receiver cron`: what runs the commands of `[cron]` at their times.

use clap::Args;

use super::{Global, app};
use crate::deploy::{cron, look};
use crate::support::{Error, Result};

/// Arguments of `cron`.
#[derive(Args)]
pub struct Cron {
    /// The app
    app: String,
    /// The command's name in [cron]; without one, all of them are run at their times
    name: Option<String>,
    /// Have the commands of the live release run from now on
    #[arg(long, conflicts_with = "name")]
    arrange: bool,
    /// Have nothing run from now on
    #[arg(long, conflicts_with_all = ["name", "arrange"])]
    stop: bool,
}

impl Cron {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, Some(&self.app))?;
        if self.stop {
            return cron::stop(&app).map(|()| 0);
        }
        if self.arrange {
            let scene = look::Scene::read(&app)?;
            let record = scene.live_record(&app)?.ok_or_else(|| Error::new("nothing is live yet"))?;
            return cron::arrange(&app, &look::settings_of(&app, record)?).map(|()| 0);
        }
        match self.name {
            Some(name) => cron::run(&app, &name),
            None => cron::schedule(&app).map(|()| 0),
        }
    }
}
