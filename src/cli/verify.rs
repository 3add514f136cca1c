//! `receiver verify`: a release against its revision, byte for byte.

use clap::Args;
use serde_json::json;

use super::{Global, app, talk};
use crate::deploy::look::Scene;
use crate::deploy::{rollback, verify};
use crate::support::text::plural;
use crate::support::{Error, Result};

/// Arguments of `verify`.
#[derive(Args)]
pub struct Verify {
    /// The app, and a release (any part of its name that fits only one); the live one where none is named
    #[arg(value_name = "APP] [RELEASE", num_args = 0..=2)]
    words: Vec<String>,
}

impl Verify {
    /// Compares; exit 1 where something differs.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        let scene = Scene::read(&app)?;
        let id = match rest.first() {
            Some(part) => rollback::find(&scene, part)?,
            None => scene.live.clone().ok_or_else(|| Error::new("nothing is live yet"))?,
        };
        let found = verify::release(&app, &scene, &id)?;
        let mut words: Vec<String> = found.differences.iter().map(ToString::to_string).collect();
        words.push(format!("{id}: {} files compared, {} more made by stages", found.compared, found.extra));
        talk::data(global, &json!({ "app": app.name(), "release": id, "verify": found }), &words)?;
        match found.differences.len() {
            0 => Ok(0),
            count => Err(Error::new(format!(
                "{count} {} not as in the revision",
                plural(count, "file is", "files are")
            ))),
        }
    }
}
