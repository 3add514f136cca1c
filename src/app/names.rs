//! The names of things, as types: an app, a version, a release, a revision.
//!
//! Whatever comes from outside becomes one of these or an error; nobody else parses or joins them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::support::{Error, Result};

/// Words that no app may be called, so that `ssh deploy@host WORD` is never ambiguous: all of the
/// commands of design.md section 6, those of later issues too, from the first day.
pub const RESERVED: &[&str] = &[
    "setup",
    "init",
    "create",
    "hook",
    "shell",
    "work",
    "deploy",
    "plan",
    "rollback",
    "list",
    "status",
    "show",
    "history",
    "logs",
    "attach",
    "cancel",
    "lock",
    "unlock",
    "run",
    "serve",
    "maintenance",
    "up",
    "down",
    "restart",
    "db",
    "env",
    "config",
    "key",
    "put",
    "get",
    "pin",
    "unpin",
    "prune",
    "verify",
    "doctor",
    "backup",
    "adopt",
    "remove",
    "watch",
    "demo",
    "completions",
    "man",
    "receiver",
    "help",
];

macro_rules! text_newtype {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

/// The name of an app: `[a-z][a-z0-9-]{0,23}`, none of the [`RESERVED`] words; or that of a branch's app,
/// `APP--BRANCH`, as long as any other. `--` is in no other name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);
text_newtype!(AppName);

impl FromStr for AppName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let shape = "an app's name is 1 to 24 of a-z, 0-9 and -, and begins with a letter";
        let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
        let refuse = |why: &str| Err(Error::usage(format!("'{shown}' cannot be an app's name: {why}")));
        if text.is_empty() || text.len() > AppName::LONGEST {
            return refuse(shape);
        }
        let sound = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !sound || !text.as_bytes()[0].is_ascii_lowercase() {
            return refuse(shape);
        }
        if let Some((parent, branch)) = text.split_once("--") {
            if branch.is_empty() || branch.starts_with('-') || branch.contains("--") {
                return refuse("-- stands once, between an app and its branch");
            }
            parent.parse::<AppName>()?;
        }
        if RESERVED.contains(&text) {
            return refuse("it is a command of receiver");
        }
        Ok(AppName(text.to_owned()))
    }
}

impl AppName {
    /// The longest that there is, in bytes.
    pub const LONGEST: usize = 24;

    /// The app that this one is a branch of, for `APP--BRANCH`.
    pub fn parent(&self) -> Option<AppName> {
        self.0.split_once("--").map(|(parent, _)| AppName(parent.to_owned()))
    }

    /// Refuses the name of a branch's app: only receiver makes those, by what `[branches]` says.
    pub fn refuse_branch(&self) -> Result<()> {
        match self.parent() {
            None => Ok(()),
            Some(parent) => Err(Error::usage(format!(
                "'{self}' cannot be an app's name: -- is kept for the apps of branches"
            ))
            .hint(format!(
                "they are made by what [branches] says in {parent}'s receiver.toml on the server"
            ))),
        }
    }
}

/// The names of apps, for a sentence.
pub fn list_names<'a>(names: impl IntoIterator<Item = &'a AppName>) -> String {
    names.into_iter().map(AppName::as_str).collect::<Vec<_>>().join(", ")
}

/// The number of a version: one database schema, its directory and its database. From 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let canonical = text == "0" || !text.starts_with('0');
        match text.parse() {
            Ok(number) if canonical && text.bytes().all(|b| b.is_ascii_digit()) => Ok(Version(number)),
            _ => Err(Error::usage(format!("'{}' is not a version's number", text.escape_default()))),
        }
    }
}

/// The full hash of a commit or changeset: 40 (or 64) lowercase hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(String);
text_newtype!(Revision);

impl Revision {
    /// The first seven digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }

    /// Whether this is the hash of nothing: how git says that a ref did not, or will not, exist.
    pub fn is_none(&self) -> bool {
        self.0.bytes().all(|b| b == b'0')
    }
}

impl FromStr for Revision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hex && (text.len() == 40 || text.len() == 64) {
            Ok(Revision(text.to_owned()))
        } else {
            Err(Error::new(format!("'{}' is not a full revision", text.escape_default())))
        }
    }
}

/// The name of a release in its version: `20261122T190501Z-4f2a9c1d0b7e`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseName(String);
text_newtype!(ReleaseName);

impl ReleaseName {
    /// The name that a release of `revision` has when it begins at `second`.
    pub fn new(second: jiff::Timestamp, revision: &Revision) -> Self {
        ReleaseName(format!("{}-{}", second.strftime("%Y%m%dT%H%M%SZ"), &revision.as_str()[..12]))
    }
}

impl FromStr for ReleaseName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let sound = text.len() == "20261122T190501Z-4f2a9c1d0b7e".len()
            && text.bytes().enumerate().all(|(at, b)| match at {
                8 => b == b'T',
                15 => b == b'Z',
                16 => b == b'-',
                0..=14 => b.is_ascii_digit(),
                _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
            });
        if sound {
            Ok(ReleaseName(text.to_owned()))
        } else {
            Err(Error::new(format!("'{}' is not a release's name", text.escape_default())))
        }
    }
}

/// A release anywhere in an app: `4/20261122T190501Z-4f2a9c1d0b7e`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId {
    /// The version that it belongs to.
    pub version: Version,
    /// Its name there.
    pub name: ReleaseName,
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.version, self.name)
    }
}

impl FromStr for ReleaseId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (version, name) = text
            .split_once('/')
            .ok_or_else(|| Error::new(format!("'{}' is not a release's id", text.escape_default())))?;
        Ok(ReleaseId { version: version.parse()?, name: name.parse()? })
    }
}

impl TryFrom<String> for ReleaseId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ReleaseId> for String {
    fn from(id: ReleaseId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names_that_could_escape_are_refused() {
        for bad in [
            "", "..", "-x", "A", "a/b", "a--", "a---b", "a--b--c", "--b", "deploy", "receiver", "help",
            "a b", "é", "a\n",
        ] {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(25).parse::<AppName>().is_err());
        for good in ["a", "agroguia", "shop-videos", "a1"] {
            assert_eq!(good.parse::<AppName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn only_the_apps_of_branches_have_two_hyphens() {
        let name: AppName = "agroguia--dev".parse().unwrap();
        assert_eq!(name.parent().unwrap().as_str(), "agroguia");
        assert!(name.refuse_branch().unwrap_err().to_string().contains("kept for the apps of branches"));
        let name: AppName = "shop-videos".parse().unwrap();
        assert!(name.parent().is_none() && name.refuse_branch().is_ok());
        assert!(format!("a--{}", "b".repeat(22)).parse::<AppName>().is_err());
    }

    #[test]
    fn a_release_is_named_after_its_second_and_revision() {
        let revision: Revision = "4f2a9c1d0b7e4f2a9c1d0b7e4f2a9c1d0b7e0000".parse().unwrap();
        let second = "2026-11-22T19:05:01Z".parse().unwrap();
        let name = ReleaseName::new(second, &revision);
        assert_eq!(name.as_str(), "20261122T190501Z-4f2a9c1d0b7e");
        let id: ReleaseId = "4/20261122T190501Z-4f2a9c1d0b7e".parse().unwrap();
        assert_eq!(id, ReleaseId { version: Version(4), name });
    }

    #[test]
    fn ids_that_are_not_canonical_are_refused() {
        for bad in [
            "4",
            "04/20261122T190501Z-4f2a9c1d0b7e",
            "+4/20261122T190501Z-4f2a9c1d0b7e",
            "../20261122T190501Z-4f2a9c1d0b7e",
            "4/20261122T190501Z-4F2a9c1d0b7e",
            "4/../x",
        ] {
            assert!(bad.parse::<ReleaseId>().is_err(), "{bad:?}");
        }
    }
}
