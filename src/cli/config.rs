//! `receiver config`: the server's own settings.

use clap::Args;
use serde_json::json;

use super::request::DryRun;
use super::{Global, app, talk};
use crate::app::{App, settings};
use crate::deploy::request::Request;
use crate::deploy::{password, site as nginx};
use crate::serve::nginx::Installed;
use crate::support::{Error, Result, files};

/// Arguments of `config`.
#[derive(Args)]
#[command(
    override_usage = "receiver config [APP] [KEY [VALUE]]\n       receiver config [APP] KEY VALUE KEY VALUE…"
)]
pub struct Config {
    /// The app, a key and its value; without a value it is printed, without a key the whole file. Several keys that go
    /// together are set together, or none of them
    #[arg(value_name = "APP] [KEY [VALUE]", num_args = 0..=9)]
    words: Vec<String>,
    /// Back to the default
    #[arg(long)]
    unset: bool,
    /// Print the site that nginx is to read, as it is for what is live
    #[arg(long, conflicts_with_all = ["unset", "dry_run"])]
    site: bool,
    /// With --site: write it into nginx's configuration, and let nginx load it; deploys keep it up to date
    #[arg(long, requires = "site")]
    install: bool,
    #[command(flatten)]
    dry: DryRun,
}

impl Config {
    /// Prints or sets.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        if self.site {
            return site(global, &app, &rest, self.install);
        }
        match rest.as_slice() {
            [] if !self.unset => {
                let text = files::read_text(&app.server_config())?.unwrap_or_default();
                let words: Vec<String> = text.lines().map(str::to_owned).collect();
                talk::data(global, &json!({ "app": app.name(), "text": text }), &words)?;
                Ok(0)
            }
            [key] if self.unset => self.dry.send(global, &app, &Request::ConfigUnset { key: key.clone() }),
            [key] => {
                let text = files::read_text(&app.server_config())?.unwrap_or_default();
                let value = settings::server_config_get(&text, key)?;
                let words: Vec<String> = value.iter().cloned().collect();
                talk::data(global, &json!({ "app": app.name(), "key": key, "value": value }), &words)?;
                if value.is_none() {
                    talk::say(
                        global,
                        &format!(
                            "{key} is not set on the server; `receiver show {} --config` says what holds",
                            app.name()
                        ),
                    );
                }
                Ok(0)
            }
            [key, value] if !self.unset => {
                self.dry.send(global, &app, &Request::ConfigSet { key: key.clone(), value: value.clone() })
            }
            pairs if !self.unset && pairs.len().is_multiple_of(2) => {
                let values = pairs.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
                self.dry.send(global, &app, &Request::ConfigTogether { values })
            }
            _ => Err(Error::usage("config takes a key and a value, or --unset and a key")),
        }
    }
}

fn site(global: &Global, app: &App, rest: &[String], install: bool) -> Result<u8> {
    if !rest.is_empty() {
        return Err(Error::usage("--site takes no key"));
    }
    let settings = nginx::live_settings(app)?;
    let file = nginx::file(app, &settings);
    if !install {
        let text = nginx::text(app, &settings)?;
        let words: Vec<String> = text.lines().map(str::to_owned).collect();
        talk::data(global, &json!({ "app": app.name(), "file": file, "text": text }), &words)?;
        return Ok(0);
    }
    let (word, what) = match nginx::bring(app, &settings)? {
        Installed::Unchanged => ("unchanged", "is as it should be"),
        Installed::Loaded => ("loaded", "is written, and nginx has loaded it"),
        Installed::NotRunning => ("not-running", "is written; nginx does not run: `systemctl start nginx`"),
    };
    talk::say(global, &format!("{} {what}", file.display()));
    if let Some(missing) = password::missing(app, settings.versions.urls) {
        talk::say(global, &missing);
    }
    if global.json {
        talk::data(global, &json!({ "app": app.name(), "file": file, "installed": word }), &[])?;
    }
    Ok(0)
}
