//! Second step: the defaults, the repository's file and the server's, merged key by key. Each value
//! remembers where it came from.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use toml::Value;

use super::complaint::dotted;
use super::fragments::{File, Fragment};
use super::keys::KEYS;
use crate::support::{Context, Error, Result};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    /// A file by the name that a person calls it, and the line in it, from 1.
    Line(String, usize),
}

#[derive(Clone, Debug)]
pub(super) struct Input {
    /// The place of its key in [`KEYS`].
    pub(super) rank: usize,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// All that holds, by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Inputs {
    held: BTreeMap<Vec<String>, Input>,
    /// What was said, but refused: it is not missing.
    refused: BTreeSet<Vec<String>>,
}

impl Inputs {
    /// Only the defaults.
    pub(super) fn defaults() -> Self {
        let mut inputs = Inputs::default();
        for (rank, key) in KEYS.iter().enumerate() {
            if let Some(value) = key.default.and_then(|toml| toml.parse().ok()) {
                let path = key.segments().map(str::to_owned).collect();
                inputs.held.insert(path, Input { rank, value, origin: Origin::Default });
            }
        }
        inputs
    }

    /// What `fragment` says, over what was there.
    pub(super) fn overlay(&mut self, file: File<'_>, fragment: Fragment) {
        for entry in fragment.entries {
            let origin = Origin::Line(file.name.to_owned(), entry.line);
            self.held.insert(entry.path, Input { rank: entry.rank, value: entry.value, origin });
        }
        self.refused.extend(fragment.refused);
    }

    /// A default that depends on other values.
    pub(super) fn fill(&mut self, path: &[&str], value: Value) {
        let rank = KEYS.iter().position(|key| key.segments().eq(path.iter().copied())).unwrap_or(KEYS.len());
        self.held.entry(owned(path)).or_insert(Input { rank, value, origin: Origin::Default });
    }

    /// The value at `path`, `None` where nothing is said and there is no default.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>> {
        let Some(input) = self.held.get(&owned(path)) else { return Ok(None) };
        T::deserialize(input.value.clone())
            .map(Some)
            .context(|| format!("cannot read the setting '{}'", dotted(path)))
    }

    /// The value of a key that has a default.
    pub(super) fn want<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        self.get(path)?.ok_or_else(|| Error::new(format!("the setting '{}' has no value", dotted(path))))
    }

    /// Whether a file said it.
    pub(super) fn said(&self, path: &[&str]) -> bool {
        self.held.get(&owned(path)).is_some_and(|input| input.origin != Origin::Default)
    }

    /// Whether a file named it, soundly or not.
    pub(super) fn mentioned(&self, path: &[&str]) -> bool {
        self.said(path) || self.refused.contains(&owned(path))
    }

    /// Where the value at `path`, or the first one below it, was said.
    pub(super) fn line(&self, path: &[&str]) -> Option<(&str, usize)> {
        let path = owned(path);
        let (_, input) = self.held.range(path.clone()..).find(|(held, _)| held.starts_with(&path))?;
        match &input.origin {
            Origin::Line(file, line) => Some((file, *line)),
            Origin::Default => None,
        }
    }

    /// The names that the files chose below `table`.
    pub(super) fn names(&self, table: &[&str]) -> BTreeSet<&str> {
        let below =
            |held: &Vec<String>| held.len() > table.len() && held.iter().zip(table).all(|(a, b)| a == b);
        self.held.keys().filter(|held| below(held)).map(|held| held[table.len()].as_str()).collect()
    }

    /// Everything, in the order of the list of keys.
    pub(super) fn in_order(&self) -> Vec<(&[String], &Input)> {
        let mut all: Vec<_> = self.held.iter().map(|(path, input)| (path.as_slice(), input)).collect();
        all.sort_by_key(|(_, input)| input.rank);
        all
    }
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|name| (*name).to_owned()).collect()
}
