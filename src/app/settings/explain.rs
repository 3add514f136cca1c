//! What holds and where it came from; and what is said that this build does not act on yet.

use serde::Serialize;

use super::complaint::{dotted, visible};
use super::inputs::{Input, Origin};
use super::keys::KEYS;
use super::settings::Settings;

/// One setting, for a person or for `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its path of keys, as TOML writes it.
    pub key: String,
    /// Its value, as TOML writes it, on one line and safe to print.
    pub value: String,
    /// `default`, or `FILE:LINE`.
    pub origin: String,
}

impl Settings {
    /// Every key that has a value, said or by default, in the order of `examples/receiver.toml` and then of
    /// `examples/server-receiver.toml`.
    pub fn explain(&self) -> Vec<Explained> {
        let explain = |(path, input): (&[String], &Input)| Explained {
            key: dotted(path),
            value: visible(&input.value.to_string(), usize::MAX),
            origin: match &input.origin {
                Origin::Default => "default".to_owned(),
                Origin::Line(file, line) => format!("{file}:{line}"),
            },
        };
        self.inputs.in_order().into_iter().map(explain).collect()
    }

    /// The keys that a file says and on which this build does not act, safe to print.
    pub fn not_in_force_yet(&self) -> Vec<String> {
        let waits = |(_, input): &(&[String], &Input)| {
            let key = &KEYS[input.rank];
            !key.in_force && input.origin != Origin::Default
        };
        self.inputs.in_order().into_iter().filter(waits).map(|(path, _)| dotted(path)).collect()
    }
}
