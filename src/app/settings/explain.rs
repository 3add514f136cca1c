//! What holds and where it came from; and what is said that this build does not act on yet.

use serde::Serialize;

use super::complaint::{dotted, visible};
use super::inputs::{Input, Origin};
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
}
