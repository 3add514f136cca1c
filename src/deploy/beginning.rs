//! What an app's first release begins with: data that was there before the app was.
//!
//! An app that was restored or adopted has a dump and the number of a version, in `receiver/beginning/`, until
//! something is live. Whatever is deployed first opens that version and finds that data in its database; an
//! attempt that fails leaves it there for the next. So a restore that needs a package first, or a push that
//! mends what does not build on this server, is one deploy after the other, and no data is at stake.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::plan::Brought;
use crate::app::journal::refuse_newer;
use crate::app::layout::FORMAT;
use crate::app::record::DatabaseRecord;
use crate::app::{App, Revision, Version, record};
use crate::data::database_name;
use crate::support::{Context, Error, Result, files};

/// What a first release begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    format: u32,
    /// Where it comes from, in words.
    pub from: String,
    /// The version that opens.
    pub version: Version,
    /// The revision that has this data's schema; `None` where nobody knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// The data; `None` where receiver keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Dumped>,
}

/// A dump that lies beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dumped {
    /// The engine that wrote it, and reads it.
    pub engine: String,
    /// The version that its database is named after: another one than that which opens where it is shared.
    pub home: Version,
}

impl Beginning {
    /// One that comes from there.
    pub fn new(
        from: String,
        version: Version,
        revision: Option<Revision>,
        data: Option<Dumped>,
    ) -> Beginning {
        Beginning { format: FORMAT, from, version, revision, data }
    }

    /// Makes the directory for it. What a push is judged by is the account's to read that is pushed to; the dump is not.
    pub fn make_place(app: &App) -> Result<()> {
        let place = app.beginning();
        files::make_directory(&place, 0o700)?;
        if app.user().is_none() {
            return Ok(());
        }
        let read_by_door = std::fs::Permissions::from_mode(0o2750);
        std::fs::set_permissions(&place, read_by_door).context(|| format!("cannot open {}", place.display()))
    }

    /// Writes it down in an app that is being made, its dump being there.
    pub fn write(&self, app: &App) -> Result<()> {
        let text = toml::to_string(self).context(|| "cannot write down what the app begins with")?;
        files::write_atomic(&Beginning::file(app), text.as_bytes(), app.state_mode())
    }

    /// What the next release begins with; `None` where something is live, or nothing was brought.
    pub fn read(app: &App) -> Result<Option<Beginning>> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let path = Beginning::file(app);
        let Some(text) = files::read_text(&path)? else { return Ok(None) };
        if record::live(app)?.is_some() {
            return Ok(None);
        }
        let damaged = || Error::new(format!("{} is damaged", path.display()));
        let format: Format = toml::from_str(&text).map_err(|_| damaged())?;
        refuse_newer(format.format, &path)?;
        toml::from_str(&text).map(Some).map_err(|_| damaged())
    }

    /// The data, for the deploy of a revision.
    pub fn brought(&self, app: &App, revision: &Revision) -> Result<Option<Brought>> {
        let Some(data) = &self.data else { return Ok(None) };
        let name = database_name(app.name(), data.home)?;
        let database = DatabaseRecord { engine: data.engine.clone(), name, home: data.home };
        Ok(Some(Brought { database, fits: self.revision.as_ref() == Some(revision) }))
    }

    /// The dump.
    pub fn dump(app: &App) -> PathBuf {
        app.beginning().join("dump")
    }

    fn file(app: &App) -> PathBuf {
        app.beginning().join("beginning.toml")
    }
}

/// Something is live: what it began with is needed no longer.
pub fn forget(app: &App) -> Result<()> {
    files::remove_tree(&app.beginning())
}
