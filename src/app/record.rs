//! The record of a release: what is known about it, beside it on disk.
//!
//! It is written when the release begins and sealed, once, when the release is complete. A release
//! is complete when its record is sealed, not when its directory is there: whoever reads must ask
//! the record. A failed release keeps its record in `receiver/failed/`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::refuse_newer;
use super::layout::App;
use super::names::{ReleaseId, ReleaseName, Revision, Version};
use crate::support::{Context, Error, Result, files};

/// What is known about a release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The number of this file's format.
    pub format: u32,
    /// The release.
    pub id: ReleaseId,
    /// What it is an export of.
    pub revision: Revision,
    /// The branch that it came by.
    pub branch: String,
    /// The first line of the revision's message.
    pub subject: String,
    /// Who pushed it, or asked for it.
    pub pusher: String,
    /// When it began, in UTC.
    pub created: Timestamp,
    /// Its place in the order of things: the journal's number when it began.
    pub seq: u64,
    /// The job that made it, and the name of its log.
    pub job: String,
    /// Whether it opened its version.
    pub opens: bool,
    /// When its files were written, by the machine's clock: what was changed in it since was not by receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exported: Option<Timestamp>,
    /// When it was complete; absent as long as it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Timestamp>,
    /// Why it failed; absent unless it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// The stages that ran, in order, with their time in seconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageRun>,
    /// The database that it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseRecord>,
    /// What its schema looked like, in the words of the room `schema`.
    #[serde(default)]
    pub schema: toml::Table,
}

/// A stage that ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRun {
    /// Its name.
    pub name: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Which database a release uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseRecord {
    /// The engine.
    pub engine: String,
    /// Its name: `agroguia_v4`.
    pub name: String,
    /// The version that it was made for; another one than the release's where it is shared.
    pub home: Version,
}

impl Record {
    /// Reads a record; `None` where there is none.
    pub fn read(path: &std::path::Path) -> Result<Option<Record>> {
        files::read_text(path)?.map(|text| Record::parse(&text, path)).transpose()
    }

    /// Reads the text of the record at `path`.
    pub fn parse(text: &str, path: &std::path::Path) -> Result<Record> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = || Error::new(format!("{} is not a whole record", path.display()));
        let format: Format = toml::from_str(text).map_err(|_| damaged())?;
        refuse_newer(format.format, path)?;
        toml::from_str(text).map_err(|_| damaged())
    }

    /// Writes it down, whole or not at all.
    pub(super) fn write(&self, path: &std::path::Path) -> Result<()> {
        files::write_atomic(path, self.text()?.as_bytes(), 0o644)
    }

    /// Writes it beside its place.
    pub(super) fn prepare(&self, path: &std::path::Path) -> Result<files::Prepared> {
        files::prepare(path, self.text()?.as_bytes(), 0o644)
    }

    /// The same, but a power cut may leave nothing of it.
    pub(super) fn write_unsynced(&self, path: &std::path::Path) -> Result<()> {
        files::write_unsynced(path, self.text()?.as_bytes(), 0o644)
    }

    fn text(&self) -> Result<String> {
        toml::to_string(self).context(|| format!("cannot write down {}", self.id))
    }
}

/// The releases that lie on disk, as their records say.
#[derive(Debug, Default)]
pub struct Releases {
    /// Those in `versions/`, sealed or not, oldest first.
    pub standing: Vec<Record>,
    /// Those that failed, oldest first.
    pub failed: Vec<Record>,
    /// What lies in `versions/` and is not understood, as sentences.
    pub unknown: Vec<String>,
}

impl Releases {
    /// Reads all records of an app. What cannot be read is said, not guessed.
    pub fn read(app: &App) -> Result<Releases> {
        let mut releases = Releases::default();
        for version in versions(app)? {
            releases.read_version(app, version)?;
        }
        for name in files::names_in(&app.failed())? {
            let Some(name) = name.strip_suffix(".toml").and_then(|name| name.parse::<ReleaseName>().ok())
            else {
                continue;
            };
            match Record::read(&app.failed_record(&name)) {
                Ok(record) => releases.failed.extend(record),
                Err(error) => releases.unknown.push(error.one_line()),
            }
        }
        releases.standing.sort_by_key(|record| record.seq);
        releases.failed.sort_by_key(|record| record.seq);
        Ok(releases)
    }

    fn read_version(&mut self, app: &App, version: Version) -> Result<()> {
        let names = files::names_in(&app.version(version))?;
        for name in &names {
            let path = app.version(version).join(name);
            if let Some(stem) = name.strip_suffix(".toml") {
                match Record::read(&path) {
                    Ok(Some(record)) if record.id.version == version && record.id.name.as_str() == stem => {
                        self.standing.push(record);
                    }
                    Ok(_) => {
                        self.unknown.push(format!("{} is the record of another release", path.display()));
                    }
                    Err(error) => self.unknown.push(error.one_line()),
                }
            } else if name != "last"
                && !name.starts_with(files::TEMPORARY)
                && !names.contains(&format!("{name}.toml"))
            {
                self.unknown.push(format!("{} has no record", path.display()));
            }
        }
        Ok(())
    }

    /// The record of a release that is sealed.
    pub fn sealed(&self, id: &ReleaseId) -> Option<&Record> {
        self.standing.iter().find(|record| record.id == *id && record.sealed.is_some())
    }

    /// The database that a complete release uses.
    pub fn database(&self, id: &ReleaseId) -> Option<&DatabaseRecord> {
        self.sealed(id).and_then(|record| record.database.as_ref())
    }

    /// The record of a release, whatever became of it.
    pub fn find(&self, id: &ReleaseId) -> Option<&Record> {
        self.standing.iter().chain(&self.failed).find(|record| record.id == *id)
    }

    /// The journal's numbers that the records know of.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.standing.iter().chain(&self.failed).map(|record| record.seq)
    }

    /// The number that a version gets which opens now: one more than the newest that has a complete
    /// release, so that the number of one that failed is used again.
    pub fn next_version(&self) -> Version {
        let newest =
            self.standing.iter().filter(|record| record.sealed.is_some()).map(|record| record.id.version.0);
        Version(newest.max().map_or(0, |newest| newest + 1))
    }
}

/// The versions that have a directory, by number.
pub fn versions(app: &App) -> Result<Vec<Version>> {
    let mut versions: Vec<Version> =
        files::names_in(&app.versions())?.iter().filter_map(|name| name.parse().ok()).collect();
    versions.sort();
    Ok(versions)
}

/// The release that `current` points to.
///
/// # Errors
/// Where it is something else than a symlink to a complete release of this app.
pub fn live(app: &App) -> Result<Option<ReleaseId>> {
    let link = app.current();
    let target = match std::fs::read_link(&link) {
        Ok(target) => target,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(_) => {
            return Err(Error::new(format!(
                "{} is not a symlink, so nobody can say what is live",
                link.display()
            ))
            .hint(format!(
                "move it away: `mv {0} {0}.aside`; then `receiver deploy {1}`",
                link.display(),
                app.name()
            )));
        }
    };
    let id = target
        .strip_prefix("versions")
        .ok()
        .and_then(|rest| rest.to_str())
        .and_then(|rest| rest.parse().ok());
    let id: ReleaseId = id.ok_or_else(|| {
        Error::new(format!("{} points to {}, which is no release", link.display(), target.display()))
            .hint(format!("`rm {}`, then `receiver deploy {}`", link.display(), app.name()))
    })?;
    if !files::is_directory(&app.release(&id)) {
        return Err(Error::new(format!("{} points to {id}, which is not there", link.display()))
            .hint(format!("`rm {}`, then `receiver deploy {}`", link.display(), app.name())));
    }
    Ok(Some(id))
}
