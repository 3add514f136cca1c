//! `receiver status`: what is live, deploying, waiting, drifted.

use clap::Args;
use serde_json::json;

use super::{Global, app, identity, talk};
use crate::deploy::listing::AppStatus;
use crate::support::{Error, Result};

/// Arguments of `status`.
#[derive(Args)]
pub struct Status {
    /// The app; all of them where none is named
    app: Option<String>,
    /// For monitoring: exit 1 where something needs attention
    #[arg(long)]
    check: bool,
}

impl Status {
    /// Prints the state of an app, or of all.
    pub fn run(self, global: &Global) -> Result<u8> {
        let apps = match &self.app {
            Some(name) => vec![app::pick(global, Some(name))?],
            None => identity::all(global)?,
        };
        let all: Vec<AppStatus> = apps.iter().map(AppStatus::read).collect::<Result<_>>()?;
        if all.is_empty() {
            global.root()?.refuse_all_closed()?;
            talk::say(global, "there is no app yet; `receiver create APP` makes one");
        }
        let words: Vec<String> = all.iter().flat_map(AppStatus::words).collect();
        talk::data(global, &json!({ "apps": all }), &words)?;
        if !self.check {
            return Ok(0);
        }
        let mut troubles = all.iter().flat_map(|app| {
            app.troubles().into_iter().map(|why| format!("{} needs attention: {why}", app.app))
        });
        let Some(first) = troubles.next() else { return Ok(0) };
        Err(Error::new(match troubles.count() {
            0 => first,
            more => format!("{first}; and {more} more"),
        }))
    }
}
