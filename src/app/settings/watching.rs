//! Who is told when something goes wrong, and where figures are written.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::inputs::Inputs;
use super::settings::text;
use super::values::ServerPath;
use crate::support::Result;

/// What somebody can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// A deploy or a rollback failed; what was live still is.
    Failed,
    /// It is live, and something after the switch needs attention.
    Attention,
    /// A release is live.
    Live,
    /// A process ends again and again.
    CrashLoop,
    /// The certificate ends soon, or has ended.
    Certificate,
}

/// Who is told.
#[derive(Clone, Debug)]
pub struct Notify {
    /// The command that gets the event on its input; nobody is told without one.
    pub command: Option<String>,
    /// What it is told of.
    pub on: Vec<Occasion>,
}

/// Figures for monitoring.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The file that they are written to.
    pub file: Option<PathBuf>,
}

impl Notify {
    pub(super) fn from(from: &Inputs) -> Result<Notify> {
        Ok(Notify { command: text(from, &["notify", "command"])?, on: from.want(&["notify", "on"])? })
    }

    /// Whether the command is told of this.
    pub fn wants(&self, occasion: Occasion) -> bool {
        self.command.is_some() && self.on.contains(&occasion)
    }
}

impl Metrics {
    pub(super) fn from(from: &Inputs) -> Result<Metrics> {
        Ok(Metrics { file: from.get::<ServerPath>(&["metrics", "file"])?.map(|ServerPath(file)| file) })
    }
}
