//! Adding keys and taking them away, within what whoever does it may give.
//!
//! Who came by a key gives no more than he has: his own apps, and keys that open others are not his to take away.

use super::authorized::Authorized;
use super::keys::{self, Changing, Key, KeyName, Keys};
use super::place::Place;
use crate::app::Sight;
use crate::root::{self, Request};
use crate::support::{Context, Error, Result, program};

/// Adds a key for somebody who sees `sight`; `false` where it is there already, with the same rights.
pub fn add(place: &Place, key: Key, sight: &Sight) -> Result<bool> {
    refuse_wider(sight, &key)?;
    if place.server().is_none() {
        let file = authorized(place)?;
        if let Some(at) = file.elsewhere(&key.public)? {
            return Err(Error::usage(format!(
                "this key opens a whole login already, by line {at} of {}",
                file.path().display()
            ))
            .hint("take that line out first, or make another key for receiver"));
        }
    }
    let changing = Changing::begin(place)?;
    let mut keys = Keys::read(place)?;
    let added = keys.add(key)?;
    if added && place.server().is_some() {
        // Root reads what is written down.
        keys.all()
            .iter()
            .try_for_each(|key| keys::line(key, &program::program()?, place.root()).map(drop))?;
        changing.write(&keys)?;
        put_in_force(place, &keys)?;
    } else if added {
        // Before it is written down: what cannot stand in authorized_keys is no key.
        put_in_force(place, &keys)?;
        changing.write(&keys)?;
    } else {
        put_in_force(place, &keys)?;
    }
    Ok(added)
}

/// Takes a key away, for somebody who sees `sight`.
pub fn remove(place: &Place, name: &KeyName, sight: &Sight) -> Result<()> {
    let changing = Changing::begin(place)?;
    let mut keys = Keys::read(place)?;
    refuse_removal(&keys, name, sight)?;
    keys.remove(name);
    // From here on it opens nothing, whatever line there is.
    changing.write(&keys)?;
    put_in_force(place, &keys)
}

/// Refuses what [`remove`] would refuse.
pub fn refuse_removal(keys: &Keys, name: &KeyName, sight: &Sight) -> Result<()> {
    match keys.find(name).filter(|key| sight.of(&key.apps).is_some()) {
        Some(key) => refuse_wider(sight, key),
        None => Err(Error::usage(format!("there is no key {name}")).hint("`receiver key list` shows them")),
    }
}

/// Refuses a key that opens more than `sight` shows.
pub fn refuse_wider(sight: &Sight, key: &Key) -> Result<()> {
    if sight.contains(&key.apps) {
        return Ok(());
    }
    Err(Error::usage(format!("the key {} opens apps that yours does not", key.name))
        .hint(format!("yours opens: {}", sight.words().join(", "))))
}

/// Lets `sshd` know the keys.
fn put_in_force(place: &Place, keys: &Keys) -> Result<()> {
    if place.is_set_up() {
        return root::ask(&Request::Keys).map(drop);
    }
    if place.server().is_some() {
        return Ok(());
    }
    authorized(place)?.write(keys.all(), &program::program()?, place.root())
}

fn authorized(place: &Place) -> Result<Authorized> {
    let home =
        std::env::home_dir().ok_or_else(|| Error::new("this user has no home, and so no authorized_keys"))?;
    Ok(Authorized::of(
        &home.canonicalize().context(|| format!("cannot find {}", home.display()))?,
        place.root(),
    ))
}
