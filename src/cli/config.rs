//! `receiver config`: the server's own settings.

use clap::Args;
use serde_json::json;

use super::request::DryRun;
use super::{Global, app, talk};
use crate::app::settings;
use crate::deploy::request::Request;
use crate::support::{Error, Result, files};

/// Arguments of `config`.
#[derive(Args)]
#[command(override_usage = "receiver config [APP] [KEY [VALUE]]")]
pub struct Config {
    /// The app, a key and its value; without a value it is printed, without a key the whole file
    #[arg(value_name = "APP] [KEY [VALUE]", num_args = 0..=3)]
    words: Vec<String>,
    /// Back to the default
    #[arg(long)]
    unset: bool,
    #[command(flatten)]
    dry: DryRun,
}

impl Config {
    /// Prints or sets.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
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
            _ => Err(Error::usage("config takes a key and a value, or --unset and a key")),
        }
    }
}
