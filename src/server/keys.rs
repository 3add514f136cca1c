//! The keys: who may come over ssh, to which apps, as what. One file, written by whoever holds its lock.
//!
//! What is written down decides: `sshd` only tells which key somebody has, by the line that [`line`] makes, and a name
//! that is not in the file opens nothing, whatever line there may be.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::place::Place;
use super::pubkey::PublicKey;
use crate::app::Sight;
use crate::app::journal::refuse_newer;
use crate::app::layout::FORMAT;
use crate::support::{Context, Error, Result, files};

/// The name of a key: whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyName(String);

impl KeyName {
    /// The longest that there is, in bytes.
    pub const LONGEST: usize = 32;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = Error;

    fn from_str(text: &str) -> Result<KeyName> {
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if begins && text.len() <= KeyName::LONGEST && text.bytes().all(sound) {
            return Ok(KeyName(text.to_owned()));
        }
        let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
        Err(Error::usage(format!(
            "'{shown}' cannot be a key's name: 1 to {} of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
            KeyName::LONGEST
        )))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyName {
    type Error = Error;
    fn try_from(text: String) -> Result<KeyName> {
        text.parse()
    }
}

impl From<KeyName> for String {
    fn from(name: KeyName) -> String {
        name.0
    }
}

/// What a key may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Read,
    /// Push, deploy, go back, run.
    Deploy,
    /// Data, secrets, settings, keys.
    Admin,
}

impl Role {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Deploy => "deploy",
            Role::Admin => "admin",
        }
    }
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Whose it is.
    pub name: KeyName,
    /// What it may do.
    pub role: Role,
    /// To which apps.
    pub apps: Sight,
    /// When it was added, in UTC.
    pub added: Timestamp,
    /// Who added it.
    pub by: String,
    /// The key itself.
    #[serde(rename = "key", with = "as_words")]
    pub public: PublicKey,
}

mod as_words {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::PublicKey;

    pub fn serialize<S: Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&key.words())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
        PublicKey::parse(String::deserialize(deserializer)?.as_bytes()).map_err(de::Error::custom)
    }
}

/// All keys of a place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keys {
    format: u32,
    #[serde(default, rename = "key", skip_serializing_if = "Vec::is_empty")]
    all: Vec<Key>,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys { format: FORMAT, all: Vec::new() }
    }
}

impl Keys {
    /// Reads them. No file is no key.
    pub fn read(place: &Place) -> Result<Keys> {
        let path = place.keys();
        match files::read_text(&path)? {
            Some(text) => Keys::parse(&text, &path),
            None => Ok(Keys::default()),
        }
    }

    /// Reads the text of the file at `path`, and validates all of it again.
    pub fn parse(text: &str, path: &Path) -> Result<Keys> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = || format!("{} is damaged", path.display());
        let Format { format } = toml::from_str(text).context(damaged)?;
        refuse_newer(format, path)?;
        let mut keys: Keys = toml::from_str(text).context(damaged)?;
        keys.format = FORMAT;
        for (at, key) in keys.all.iter().enumerate() {
            if keys.all[..at].iter().any(|other| other.name == key.name || other.public == key.public) {
                return Err(Error::new(format!("{} has the key {} twice", path.display(), key.name)));
            }
        }
        Ok(keys)
    }

    /// The keys, by name.
    pub fn all(&self) -> &[Key] {
        &self.all
    }

    /// The key of that name.
    pub fn find(&self, name: &KeyName) -> Option<&Key> {
        self.all.iter().find(|key| key.name == *name)
    }

    /// Adds one; `false` where the same one with the same rights is there already.
    ///
    /// # Errors
    /// Where its name is another's, or the key is there by another name.
    pub fn add(&mut self, key: Key) -> Result<bool> {
        if let Some(there) = self.find(&key.name) {
            if there.public == key.public && there.role == key.role && there.apps == key.apps {
                return Ok(false);
            }
            return Err(Error::usage(format!("there is a key {} already", key.name)).hint(format!(
                "choose another name, or take it away first: `receiver key remove {}`",
                key.name
            )));
        }
        if let Some(there) = self.all.iter().find(|there| there.public == key.public) {
            return Err(Error::usage(format!("this key is there already, as {}", there.name)).hint(format!(
                "to give it other rights, take it away first: `receiver key remove {}`",
                there.name
            )));
        }
        self.all.push(key);
        self.all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(true)
    }

    /// Takes one away.
    pub fn remove(&mut self, name: &KeyName) {
        self.all.retain(|key| key.name != *name);
    }
}

/// The proof that nobody else changes the keys now, and the only way to write them.
#[derive(Debug)]
pub struct Changing<'a> {
    place: &'a Place,
    _lock: std::fs::File,
}

impl<'a> Changing<'a> {
    /// Waits for its turn.
    pub fn begin(place: &'a Place) -> Result<Changing<'a>> {
        place.prepare()?;
        let path = place.lock();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&path).context(|| format!("cannot open {}", path.display()))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))
            .context(|| format!("cannot lock {}", path.display()))?;
        Ok(Changing { place, _lock: lock })
    }

    /// Writes the keys, whole or not at all.
    pub fn write(&self, keys: &Keys) -> Result<()> {
        let text = toml::to_string(keys).context(|| "cannot write down the keys")?;
        files::write_atomic(&self.place.keys(), text.as_bytes(), self.place.keys_mode())
    }
}

/// The line of `authorized_keys` for a key: no shell, no forwarding, one command. Everything in it was validated as
/// the value that it is, and is made into text anew.
///
/// # Errors
/// Where the paths have anything that `sshd` or a login shell could read as more than a path.
pub fn line(key: &Key, program: &Path, root: &Path) -> Result<String> {
    let (program, root) = (plain(program)?, plain(root)?);
    let (name, public) = (&key.name, key.public.words());
    Ok(format!("restrict,pty,command=\"{program} --root {root} shell {name}\" {public} {name}"))
}

fn plain(path: &Path) -> Result<&str> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@".contains(&b);
    let text = path.to_str().filter(|text| text.starts_with('/') && text.bytes().all(sound));
    text.ok_or_else(|| {
        Error::new(format!(
            "the path '{}' cannot stand in authorized_keys",
            path.display().to_string().escape_default()
        ))
        .hint("keys need paths of letters, digits and /._-+@ only")
    })
}

/// How old the mark of a key's last use may get before it is set anew.
const FRESH: Duration = Duration::from_secs(60);

/// Notes that a key was used, at most once a minute. Where that cannot be noted the key works all the same.
pub fn note_use(place: &Place, name: &KeyName) {
    let mark = place.used().join(name.as_str());
    let age = std::fs::symlink_metadata(&mark)
        .and_then(|about| about.modified())
        .map(|then| SystemTime::now().duration_since(then).unwrap_or(Duration::MAX));
    if age.is_ok_and(|age| age < FRESH) {
        return;
    }
    let directory =
        if place.server().is_some() { Ok(()) } else { files::make_directory(&place.used(), 0o700) };
    if let Err(error) = directory.and_then(|()| files::write_unsynced(&mark, b"", 0o640)) {
        log::debug!("the use of {name} is not noted: {}", error.one_line());
    }
}

/// When a key was used last, to the minute; `None` where it never was, or a key of its name was before it.
pub fn last_use(place: &Place, key: &Key) -> Option<Timestamp> {
    let about = std::fs::symlink_metadata(place.used().join(key.name.as_str())).ok()?;
    let used = Timestamp::try_from(about.modified().ok()?).ok()?;
    let used = used.round(jiff::Unit::Second).unwrap_or(used);
    (used >= key.added).then_some(used)
}
