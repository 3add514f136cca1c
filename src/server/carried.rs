//! The keys that name an app: they go with its backup, come with its restore, and end with it.
//!
//! A key for all apps names none, and is the server's affair.

use std::path::Path;

use super::grant;
use super::keys::{Key, Keys};
use super::place::Place;
use crate::app::{App, AppName, Sight};
use crate::support::{Context, Result, files};

/// The keys that name an app, as they open nothing but it; `None` where there are none.
pub fn of(place: &Place, app: &AppName) -> Result<Option<Vec<u8>>> {
    let mut carried = Keys::default();
    for key in named(&Keys::read(place)?, app) {
        carried.add(Key { apps: Sight::Only(vec![app.clone()]), ..key })?;
    }
    if carried.all().is_empty() {
        return Ok(None);
    }
    toml::to_string(&carried).map(|text| Some(text.into_bytes())).context(|| "cannot write down the keys")
}

fn named(keys: &Keys, app: &AppName) -> Vec<Key> {
    let names = |key: &&Key| matches!(&key.apps, Sight::Only(names) if names.contains(app));
    keys.all().iter().filter(names).cloned().collect()
}

/// Adds the keys that came with a restored app. Answers a line for each, an error where it could not
/// be: one that is there already stays as it is.
pub fn bring(place: &Place, app: &App) -> Result<Vec<Result<String, String>>> {
    let path = app.carried_keys();
    let Some(text) = files::read_limited(&path, 1 << 20)? else { return Ok(Vec::new()) };
    let app = app.name();
    let carried = Keys::parse(&String::from_utf8_lossy(&text), Path::new("the keys in the backup"))?;
    let mut lines = Vec::new();
    for key in named(&carried, app) {
        let (name, role) = (key.name.clone(), key.role.as_str());
        let only = Key { apps: Sight::Only(vec![app.clone()]), ..key };
        lines.push(match grant::add(place, only, &Sight::All) {
            Ok(_) => Ok(format!("the key {name} opens {app} again, as {role}")),
            Err(error) => Err(format!("the key {name} was not brought: {}", error.one_line())),
        });
    }
    // They are brought once: whoever is taken away later does not come back by a second run.
    files::remove_file(&path)?;
    Ok(lines)
}

/// Takes an app that is gone out of the keys that name it; one that names no other ends.
pub fn end(place: &Place, app: &AppName) -> Result<()> {
    for key in named(&Keys::read(place)?, app) {
        let Sight::Only(names) = &key.apps else { continue };
        let left: Vec<AppName> = names.iter().filter(|name| *name != app).cloned().collect();
        grant::remove(place, &key.name, &Sight::All)?;
        if !left.is_empty() {
            grant::add(place, Key { apps: Sight::Only(left), ..key }, &Sight::All)?;
        }
    }
    Ok(())
}
