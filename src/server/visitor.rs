//! Who came: a key, and what it opens. Made of what is written down, and of nothing that was sent.

use super::keys::{Key, KeyName, Keys, Role};
use super::place::Place;
use crate::app::{AppName, Sight};
use crate::support::{Error, Result};

/// Somebody who came over ssh.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The key that he came with; root needs none.
    pub key: Option<KeyName>,
    /// What it may do.
    pub role: Role,
    /// The apps that there are for him.
    pub sight: Sight,
    /// What kind of terminal he has, where he has one.
    pub terminal: Option<String>,
}

impl Visitor {
    /// Looks a key up.
    ///
    /// # Errors
    /// Where there is none of that name: it was taken away.
    pub fn of(place: &Place, name: &KeyName) -> Result<Visitor> {
        let keys = Keys::read(place)?;
        let key =
            keys.find(name).ok_or_else(|| Error::usage(format!("the key {name} opens nothing any more")))?;
        Ok(Visitor::with(key))
    }

    /// root himself, on the server.
    pub fn root() -> Visitor {
        Visitor { key: None, role: Role::Admin, sight: Sight::All, terminal: None }
    }

    fn with(key: &Key) -> Visitor {
        Visitor { key: Some(key.name.clone()), role: key.role, sight: key.apps.clone(), terminal: None }
    }

    /// Who it is, for the journal.
    pub fn by(&self) -> &str {
        self.key.as_ref().map_or("root", KeyName::as_str)
    }

    /// Refuses an app that the key does not open. Whether there is such an app makes no difference.
    pub fn refuse_foreign(&self, app: &AppName) -> Result<()> {
        if self.sight.shows(app) {
            return Ok(());
        }
        Err(Error::usage(format!("this key opens no app '{app}'"))
            .hint(format!("it opens: {}", self.sight.words().join(", "))))
    }

    /// Refuses what takes more than the key's role.
    pub fn refuse_below(&self, role: Role, what: &str) -> Result<()> {
        if self.role >= role {
            return Ok(());
        }
        Err(Error::usage(format!(
            "{what} takes the role {}; this key, {}, has {}",
            role.as_str(),
            self.by(),
            self.role.as_str()
        )))
    }

    /// What kind of terminal there is, as far as its name is one.
    #[must_use]
    pub fn at_terminal(self, name: Option<String>) -> Visitor {
        let sound = |name: &String| {
            name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
        };
        Visitor { terminal: name.filter(sound), ..self }
    }
}
