//! Which apps of a root somebody sees: all of them, or those that a key names.
//!
//! A [`super::Root`] that is seen by somebody has no other apps: they cannot be named, listed or meant.

use serde::{Deserialize, Serialize};

use super::names::AppName;
use crate::support::{Error, Result};

/// The word for all apps, those of tomorrow too.
const ALL: &str = "*";

/// Which apps somebody sees. The apps of branches are their parent's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub enum Sight {
    /// All that there are.
    All,
    /// These, at least one, sorted.
    Only(Vec<AppName>),
}

impl Sight {
    /// Whether an app is among them.
    pub fn shows(&self, app: &AppName) -> bool {
        match self {
            Sight::All => true,
            Sight::Only(names) => {
                names.contains(app) || app.parent().is_some_and(|parent| names.contains(&parent))
            }
        }
    }

    /// Whether all that `other` sees is seen here, too.
    pub fn contains(&self, other: &Sight) -> bool {
        match (self, other) {
            (Sight::All, _) => true,
            (Sight::Only(_), Sight::All) => false,
            (Sight::Only(_), Sight::Only(names)) => names.iter().all(|name| self.shows(name)),
        }
    }

    /// What of `other` is seen here; `None` where that is nothing. All stays all: it is no app's name.
    pub fn of(&self, other: &Sight) -> Option<Sight> {
        let (Sight::Only(_), Sight::Only(names)) = (self, other) else { return Some(other.clone()) };
        let seen: Vec<AppName> = names.iter().filter(|name| self.shows(name)).cloned().collect();
        (!seen.is_empty()).then_some(Sight::Only(seen))
    }

    /// The names as they are written down: `*`, or one after the other.
    pub fn words(&self) -> Vec<String> {
        self.clone().into()
    }
}

impl TryFrom<Vec<String>> for Sight {
    type Error = Error;

    fn try_from(words: Vec<String>) -> Result<Sight> {
        if words.iter().any(|word| word == ALL) {
            return Ok(Sight::All);
        }
        let mut names = Vec::new();
        for word in &words {
            let name: AppName = word.parse()?;
            if let Some(parent) = name.parent() {
                return Err(Error::usage(format!("'{name}' is the app of a branch: a key names {parent}")));
            }
            names.push(name);
        }
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Err(Error::usage("a key names at least one app, or * for all of them"));
        }
        Ok(Sight::Only(names))
    }
}

impl From<Sight> for Vec<String> {
    fn from(sight: Sight) -> Vec<String> {
        match sight {
            Sight::All => vec![ALL.to_owned()],
            Sight::Only(names) => names.into_iter().map(String::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(words: &[&str]) -> Result<Sight> {
        words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn an_app_is_seen_with_its_branches_and_no_other() {
        let one = sight(&["shop"]).unwrap();
        for (name, seen) in [("shop", true), ("shop--dev", true), ("shop-videos", false), ("sho", false)] {
            assert_eq!(one.shows(&name.parse().unwrap()), seen, "{name}");
        }
        assert!(sight(&["*"]).unwrap().shows(&"anything".parse().unwrap()));
        for bad in [&[][..], &["shop--dev"], &["../x"], &["**"], &["list"]] {
            assert!(sight(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nobody_sees_more_through_another_than_by_himself() {
        let (one, two, all) = (sight(&["a"]).unwrap(), sight(&["b", "a", "a"]).unwrap(), Sight::All);
        assert!(two.contains(&one) && !one.contains(&two) && all.contains(&two) && !two.contains(&all));
        assert_eq!(one.of(&two), Some(one.clone()));
        assert_eq!(sight(&["c"]).unwrap().of(&two), None);
        assert_eq!(one.of(&all), Some(all));
        assert_eq!(two.words(), ["a", "b"]);
    }
}
