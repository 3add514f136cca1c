//! `receiver prune`.

use clap::Args;

use super::{Global, app, request, talk};
use crate::deploy::request::Request;
use crate::deploy::{look, prune};
use crate::support::Result;

/// Arguments of `prune`.
#[derive(Args)]
pub struct Prune {
    /// The app
    app: Option<String>,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

impl Prune {
    /// Removes what is no longer kept.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, self.app.as_deref())?;
        if !self.dry_run {
            return request::send(global, &app, &Request::Prune);
        }
        let settings = look::server_settings(&app)?;
        let (selection, _) = prune::selection(&app, &settings.keep, prune::window(&app)?)?;
        talk::data(global, &selection, &prune::words(&selection))?;
        Ok(0)
    }
}
