//! `receiver remove`: the end of an app.

use clap::Args;
use serde_json::json;

use super::request::DryRun;
use super::{Global, identity, talk};
use crate::app::AppName;
use crate::deploy::removal::{self, Data, Running};
use crate::server::carried;
use crate::server::place::Place;
use crate::support::{Error, Result};

/// Arguments of `remove`.
#[derive(Args)]
#[command(after_help = "\
Ends its processes, takes its site out of nginx, dumps its databases and drops them, and moves the rest
(repository, shared/, settings, secrets, journal, dumps) to .removed-APP-… in the root. The apps of its
branches go with it. With --data --yes APP nothing is kept. Take a backup first: `receiver backup APP`.")]
pub struct Remove {
    /// The app; it has to be named
    app: String,
    /// The data goes, too: repository, shared/, databases, without a dump
    #[arg(long, requires = "yes")]
    data: bool,
    /// The app's name once more, for --data
    #[arg(long, value_name = "APP", requires = "data")]
    yes: Option<String>,
    /// Cancel what is being deployed
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    dry: DryRun,
}

impl Remove {
    /// Removes it, or lists what would go.
    pub fn run(self, global: &Global) -> Result<u8> {
        let name: AppName = self.app.parse()?;
        let root = global.root()?;
        if let Some(yes) = self.yes.as_ref().filter(|yes| **yes != self.app) {
            return Err(Error::usage(format!("{name} is to go with its data, and --yes says {yes}")));
        }
        if root.place(&name).user().is_some() && name.parent().is_none() {
            return Err(Error::usage(format!("setup made {name}, and setup takes it back"))
                .hint(format!("`sudo receiver setup {name} --undo`, and with --data all that it holds; `receiver backup {name}` first")));
        }
        // The app of a branch was made because somebody pushed: it goes as it came.
        identity::settle(&root.place(&name))?;
        let data = if self.data { Data::Removed } else { Data::Kept };
        if self.dry.dry_run {
            let lines = removal::foresee(&root.open(&name)?, data)?;
            talk::data(global, &json!({ "dry_run": lines.join("\n") }), &lines)?;
            return Ok(0);
        }
        if removal::end(&root, &name)? {
            return done(global, &name, None);
        }
        let app = root.open(&name)?;
        let running = if self.cancel { Running::Cancelled } else { Running::Refuses };
        let kept =
            removal::remove(&app, &identity::who(), data, running, &mut |line| talk::say(global, line))?;
        if name.parent().is_none() {
            carried::end(&Place::of(&root)?, &name)?;
        }
        done(global, &name, kept.as_deref())
    }
}

fn done(global: &Global, name: &AppName, kept: Option<&std::path::Path>) -> Result<u8> {
    let words = match kept {
        Some(place) => format!("{name} is removed; what is kept of it is in {}", place.display()),
        None => format!("{name} is removed, with its data"),
    };
    talk::say(global, &words);
    if global.json {
        let kept = kept.map(|place| place.display().to_string());
        talk::data(global, &json!({ "app": name, "kept": kept }), &[])?;
    }
    Ok(0)
}
