//! The value of a stage: a command as text, or a table with a command or SQL files in it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::names::{Variable, VariableValue};
use super::values::{Limit, RelativePath, Text};

/// The stages, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    /// Makes the release: dependencies, compiled programs.
    Build,
    /// Makes what is served as files.
    Assets,
    /// Makes the schema of a version that opens.
    Syncdb,
    /// Brings the data of the version before into one that opens.
    Migration,
    /// Looks at the release before the switch, every time.
    Check,
}

impl StageName {
    /// All of them, in the order in which they run.
    pub const ALL: [StageName; 5] =
        [StageName::Build, StageName::Assets, StageName::Syncdb, StageName::Migration, StageName::Check];

    /// Its key in `[stages]`.
    pub fn as_str(self) -> &'static str {
        match self {
            StageName::Build => "build",
            StageName::Assets => "assets",
            StageName::Syncdb => "syncdb",
            StageName::Migration => "migration",
            StageName::Check => "check",
        }
    }

    /// Whether it works on the database of a version that opens, and so may be SQL files.
    pub fn opens_version(self) -> bool {
        matches!(self, StageName::Syncdb | StageName::Migration)
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A command for `/bin/sh -c`.
    Run(String),
    /// SQL files of the release, at least one, that receiver runs itself in this order.
    Sql(Vec<RelativePath>),
}

/// One stage, ready to be planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What it does.
    pub action: Action,
    /// How long it may take before it is stopped and has failed; never zero.
    pub timeout: Duration,
    /// What it finds in its environment besides what every stage finds.
    pub env: BTreeMap<String, String>,
}

/// The keys of a stage that is written as a table.
pub(super) const PARTS: &[&str] = &["run", "sql", "timeout", "env"];

/// A stage as it is written: its timeout may be left to the default.
#[derive(Clone, Debug)]
pub(super) struct WrittenStage {
    pub(super) action: Action,
    pub(super) timeout: Option<Duration>,
    pub(super) env: BTreeMap<String, String>,
}

/// The table; unknown keys in it are named by the one who knows all keys, see [`super::fragments`].
#[derive(Deserialize)]
struct Table {
    run: Option<Text>,
    sql: Option<Vec<RelativePath>>,
    timeout: Option<Limit>,
    #[serde(default)]
    env: BTreeMap<Variable, VariableValue>,
}

impl<'de> Deserialize<'de> for WrittenStage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenStage;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command as text, or a table with run or sql")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WrittenStage, E> {
                let Text(command) = text.parse().map_err(|why| E::custom(format!("the command {why}")))?;
                Ok(WrittenStage { action: Action::Run(command), timeout: None, env: BTreeMap::new() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WrittenStage, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                let action = match (table.run, table.sql) {
                    (Some(Text(command)), None) => Action::Run(command),
                    (None, Some(files)) if files.is_empty() => {
                        return Err(A::Error::custom("sql names no file"));
                    }
                    (None, Some(_)) if !table.env.is_empty() => {
                        return Err(A::Error::custom("env is for a command: SQL files have no environment"));
                    }
                    (None, Some(files)) => Action::Sql(files),
                    (Some(_), Some(_)) => {
                        return Err(A::Error::custom("has both run and sql: only one can be"));
                    }
                    (None, None) => return Err(A::Error::custom("has neither run nor sql")),
                };
                let env = table.env.into_iter().map(|(name, value)| (name.0, value.0)).collect();
                Ok(WrittenStage { action, timeout: table.timeout.map(|Limit(length)| length), env })
            }
        }
        deserializer.deserialize_any(Either)
    }
}
