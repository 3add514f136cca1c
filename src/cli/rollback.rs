//! `receiver rollback`: back.

use clap::Args;

use super::{Global, app, attach, talk};
use crate::app::Version;
use crate::deploy::look::Scene;
use crate::deploy::queue::{Options, Order};
use crate::deploy::rollback::{self, Target, Wish};
use crate::support::{Error, Result};

/// Arguments of `rollback`.
#[derive(Args)]
pub struct Rollback {
    /// The app, and a release (any part of its name that fits only one); the one that was live before where none is named
    #[arg(value_name = "APP] [RELEASE", num_args = 0..=2)]
    words: Vec<String>,
    /// To the newest good release of a version
    #[arg(long, value_name = "N")]
    version: Option<Version>,
    /// Leave behind what was written since, where the database changes
    #[arg(long)]
    without_new_data: bool,
    /// Leave behind the rows that the older version cannot hold, instead of going nowhere
    #[arg(long)]
    quarantine: bool,
    /// Say where it would go, what would come along and what would stay behind, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Rollback {
    /// Goes back.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        let scene = Scene::read(&app)?;
        let to = match (rest.as_slice(), self.version) {
            ([], None) => None,
            ([], Some(version)) => Some(rollback::last_of(&scene, version)?),
            ([part], None) => Some(rollback::find(&scene, part)?),
            _ => return Err(Error::usage("name a release or a version, not both")),
        };
        let target = to.as_ref().map_or(Target::Before, Target::Release);
        // While a deploy runs, what is live may change until the rollback's turn comes: it decides then.
        let mut plan = rollback::plan(&app, &scene, &target)?;
        let wish = Wish { without_new_data: self.without_new_data, quarantine: self.quarantine };
        if self.dry_run {
            plan.count(&app, &scene, wish)?;
            talk::data(global, &plan, &plan.words())?;
            return Ok(0);
        }
        plan.refuse_loss(&app, wish)?;
        attach::order(
            global,
            &app,
            Order::Rollback { to, without_new_data: self.without_new_data, quarantine: self.quarantine },
            Options::default(),
        )
    }
}
