//! The keys of whoever sets a server up: they open everything, so that the rest can be done from the laptop.

use std::path::Path;

use super::act::Act;
use crate::app::Sight;
use crate::app::server::{HOME, Server};
use crate::server::identity;
use crate::server::keys::{Key, KeyName, Keys, Role};
use crate::server::place::Place;
use crate::server::{grant, pubkey, root};
use crate::support::accounts::Account;
use crate::support::{Error, Result, clock, files};

/// The file by which sshd lets in whom the keys name, and nobody else.
pub struct Door {
    /// The server.
    pub server: Server,
}

impl Door {
    fn path(&self) -> std::path::PathBuf {
        self.server.door_home().join(".ssh/authorized_keys")
    }
}

impl Act for Door {
    fn what(&self) -> String {
        format!("file       {}", self.path().display())
    }

    fn is_done(&self) -> Result<bool> {
        let there = files::read_text(&self.path()).unwrap_or_default();
        Ok(Server::read()?.is_some() && there == Some(root::keys::text(&self.server)?))
    }

    fn perform(&self) -> Result<()> {
        root::keys::put_in_force().map(drop)
    }

    fn undo(&self) -> Result<bool> {
        let there = files::exists(&self.path());
        files::remove_file(&self.path()).map(|()| there)
    }
}

/// A key that opens everything.
pub struct FirstKey {
    /// Whose it is.
    pub name: KeyName,
    /// The key itself.
    pub public: pubkey::PublicKey,
}

impl Act for FirstKey {
    fn what(&self) -> String {
        format!("key        {} {} (admin, all apps)", self.name, self.public.fingerprint())
    }

    fn is_done(&self) -> Result<bool> {
        let Ok(place) = Place::of_server() else { return Ok(false) };
        let there = Keys::read(&place)?.all().iter().any(|key| key.public == self.public);
        Ok(there)
    }

    fn perform(&self) -> Result<()> {
        let key = Key {
            name: self.name.clone(),
            role: Role::Admin,
            apps: Sight::All,
            added: clock::now(),
            by: "setup".to_owned(),
            public: self.public.clone(),
        };
        identity::as_receiver(move || grant::add(&Place::of_server()?, key, &Sight::All).map(drop))
    }

    fn is_data(&self) -> bool {
        true
    }
}

/// The keys that are to open everything: those of a file, or those of who ran sudo. None where there are keys already.
pub fn of_administrator(
    file: Option<&Path>,
    user: Option<&str>,
) -> Result<Vec<(KeyName, pubkey::PublicKey)>> {
    if let Some(file) = file {
        let text = files::read_limited(file, 1 << 20)?
            .ok_or_else(|| Error::usage(format!("there is no {}", file.display())))?;
        let keys = named(user.unwrap_or("admin"), &String::from_utf8_lossy(&text))?;
        if keys.is_empty() {
            return Err(Error::usage(format!("there is no public key in {}", file.display()))
                .hint("the public one is wanted, such as ~/.ssh/id_ed25519.pub"));
        }
        return Ok(keys);
    }
    // They are there also where the rest was taken back.
    let path = Path::new(HOME).join("keys/keys.toml");
    let there = files::read_text(&path).ok().flatten().and_then(|text| Keys::parse(&text, &path).ok());
    if there.is_some_and(|keys| !keys.all().is_empty()) {
        return Ok(Vec::new());
    }
    let account = user.map(Account::named).transpose()?.flatten();
    let text =
        account.map(|account| files::read_limited(&account.home.join(".ssh/authorized_keys"), 1 << 20));
    let text = text.transpose()?.flatten().unwrap_or_default();
    let keys = named(user.unwrap_or("admin"), &String::from_utf8_lossy(&text))?;
    if keys.is_empty() {
        return Err(Error::usage("nobody could push: no key of an administrator is known")
            .hint("copy ~/.ssh/id_ed25519.pub of your laptop here, and name it: --key FILE"));
    }
    Ok(keys)
}

/// The keys in a text of lines, whatever stands before each.
fn named(user: &str, text: &str) -> Result<Vec<(KeyName, pubkey::PublicKey)>> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = |line: &str| -> Option<pubkey::PublicKey> {
        let all: Vec<&str> = line.split_whitespace().collect();
        all.windows(2).find_map(|pair| pubkey::PublicKey::parse(pair.join(" ").as_bytes()).ok())
    };
    let mut keys = Vec::new();
    for public in lines.filter_map(words) {
        let name = if keys.is_empty() { user.to_owned() } else { format!("{user}-{}", keys.len() + 1) };
        keys.push((name.parse()?, public));
    }
    Ok(keys)
}
