//! `receiver doctor`: the traps, each with its cure.

use clap::Args;
use serde_json::json;

use super::{Global, app, identity, talk};
use crate::app::App;
use crate::deploy::doctor::{self, Finding};
use crate::support::{Error, Result};

/// Arguments of `doctor`.
#[derive(Args)]
pub struct Doctor {
    /// The app; all of them where none is named
    app: Option<String>,
}

impl Doctor {
    /// Looks; exit 1 where something was found.
    pub fn run(self, global: &Global) -> Result<u8> {
        let apps: Vec<App> = match &self.app {
            Some(name) => vec![app::pick(global, Some(name))?],
            None => identity::all(global)?,
        };
        let mut words = Vec::new();
        let mut objects = Vec::new();
        let mut troubles = 0;
        for app in &apps {
            let findings = doctor::examine(app);
            troubles += findings.iter().filter(|finding| !finding.ok).count();
            words.push(app.name().to_string());
            words.extend(findings.iter().flat_map(Finding::words));
            objects.push(json!({ "app": app.name(), "findings": findings }));
        }
        talk::data(global, &json!({ "apps": objects }), &words)?;
        if troubles == 0 { Ok(0) } else { Err(Error::new(format!("{troubles} found"))) }
    }
}
