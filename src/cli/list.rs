//! `receiver list`: releases by version, newest first.

use clap::Args;

use super::{Global, app, talk};
use crate::deploy::listing;
use crate::support::Result;

/// Arguments of `list`.
#[derive(Args)]
pub struct List {
    /// The app
    app: Option<String>,
}

impl List {
    /// Prints the releases.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, self.app.as_deref())?;
        let listing = listing::Listing::read(&app)?;
        for warning in &listing.warnings {
            talk::say(global, &format!("note: {warning}"));
        }
        talk::data(global, &listing, &listing.words())?;
        app::mention_lost_tip(global, &app);
        Ok(0)
    }
}
