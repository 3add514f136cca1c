//! What root does for an app that adopts: it reads the original, which may be root's alone to read, and brings the copy.
//!
//! What is adopted is written down where only root gets in, with the password. The app's own state says it, too, for the
//! worker; root never reads it there. The copy of the database is handed to receiver, and files are written as the app's
//! user: nothing is opened as root where pushed code, or receiver, could have put something else in its place.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::identity::as_receiver;
use crate::app::journal::refuse_newer;
use crate::app::layout::FORMAT;
use crate::app::server::HOME;
use crate::app::settings::server_config_get;
use crate::app::{App, AppName};
use crate::data::foreign::Foreign;
use crate::deploy::adoption::{self, Wanted};
use crate::support::accounts::Account;
use crate::support::{Context, Error, Result, files};

/// An application that is adopted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Original {
    format: u32,
    /// The database's address, without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    /// The directory of what outlives releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<PathBuf>,
}

/// Root's alone.
fn place() -> PathBuf {
    Path::new(HOME).join("adoptions")
}

fn file(app: &AppName) -> PathBuf {
    place().join(format!("{app}.toml"))
}

impl Original {
    /// That of an app.
    ///
    /// # Errors
    /// Where it adopts nothing.
    pub fn of(app: &AppName) -> Result<Original> {
        let path = file(app);
        let text = files::read_text(&path)?.ok_or_else(|| {
            Error::new(format!("{app} adopts nothing")).hint(format!(
                "`sudo receiver adopt {app} --database-from URL --shared-from DIR` begins, before the first push"
            ))
        })?;
        let original: Original =
            toml::from_str(&text).map_err(|_| Error::new(format!("{} is damaged", path.display())))?;
        refuse_newer(original.format, &path)?;
        Ok(original)
    }

    fn write(&self, app: &AppName) -> Result<()> {
        files::make_directory(&place(), 0o700)?;
        let text = toml::to_string(self).context(|| "cannot write down what is adopted")?;
        files::write_atomic(&file(app), text.as_bytes(), 0o600)
    }

    /// Copies the database to what the next version begins with, and files to `shared/`.
    pub fn copy(&self, app: &App, say: &mut dyn FnMut(&str)) -> Result<()> {
        if let Some(url) = &self.database {
            let dump = place().join(format!("{}.dump", app.name()));
            let desk = place().join(format!("{}.desk", app.name()));
            adoption::copy_database(&url.parse()?, self.password.as_deref(), &desk, &dump, say)?;
            let handed = hand_over(app, &dump);
            files::remove_file(&dump)?;
            handed?;
        }
        let Some(from) = &self.shared else { return Ok(()) };
        let user = app.user().ok_or_else(|| Error::new(format!("{} has no user of its own", app.name())))?;
        adoption::copy_files(from, &app.shared(), Some(&Account::want(&user)?), say)
    }
}

/// Receiver writes the dump into the app's state, out of the file that root opened.
fn hand_over(app: &App, dump: &Path) -> Result<()> {
    let mut file = File::open(dump).context(|| format!("cannot read {}", dump.display()))?;
    let app = app.clone();
    as_receiver(move || adoption::place_dump(&app, &mut file))
}

/// What is adopted is known here no longer.
pub fn forget(app: &AppName) -> Result<()> {
    files::remove_file(&file(app))?;
    files::remove_empty_directory(&place())
}

/// An app that setup made, and that nothing was live in, begins with a copy. Nothing of the original is changed.
pub fn begin(app: &App, wanted: &Wanted<'_>, by: &str, say: &mut dyn FnMut(&str)) -> Result<()> {
    refuse_unfit(app, wanted.database.as_ref())?;
    let original = Original {
        format: FORMAT,
        database: wanted.database.as_ref().map(Foreign::url),
        password: wanted.password.clone(),
        shared: wanted.shared.map(Path::to_owned),
    };
    original.write(app.name())?;
    let begun = original.copy(app, say).and_then(|()| {
        let (app, by) = (app.clone(), by.to_owned());
        let (database, shared) = (wanted.database.clone(), original.shared.clone());
        as_receiver(move || adoption::begin_there(&app, database.as_ref(), shared.as_deref(), &by))
    });
    if begun.is_err() {
        forget(app.name())?;
    }
    begun
}

/// Refuses what the first push could not begin with, before anything is copied.
fn refuse_unfit(app: &App, database: Option<&Foreign>) -> Result<()> {
    let of = app.clone();
    let said = as_receiver(move || {
        adoption::refuse_begun(&of)?;
        let text = files::read_text(&of.server_config())?.unwrap_or_default();
        server_config_get(&text, "database.engine")
    })?;
    let Some(database) = database else { return Ok(()) };
    let (name, engine) = (app.name(), database.engine());
    match said {
        Some(said) if said == engine => Ok(()),
        Some(said) => {
            Err(Error::new(format!("{name} was set up for {said}, and {database} is another engine's"))
                .hint(format!("`sudo receiver setup {name} --database {engine}`")))
        }
        None if engine == "sqlite" => Ok(()),
        None => Err(Error::new(format!("nobody said yet that {name} has a database on a server"))
            .hint(format!("`sudo receiver setup {name} --database {engine}`"))),
    }
}
