//! `receiver db`: the databases of an app's versions, in and out.

use std::io::BufReader;

use serde::Serialize;
use serde_json::json;

use super::databases::{self, Passing};
use super::look::Scene;
use super::request::{PATIENT, Reply, Streams, scratch};
use crate::app::guard::Guard;
use crate::app::journal::Event;
use crate::app::{App, ReleaseId, Version};
use crate::data::{Access, Database, Fence, Limit, Talk};
use crate::support::text::bytes;
use crate::support::{Context, Error, Result, clock, files};

/// A version's database, as `db list` shows it.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// The version.
    pub version: Version,
    /// The engine.
    pub engine: String,
    /// The database's name.
    pub name: String,
    /// Whether the live release uses it.
    pub live: bool,
    /// Whether it refuses writes.
    pub retired: bool,
    /// Its size in bytes.
    pub bytes: u64,
    /// Where it lies: its file, or its server's socket.
    pub path: String,
}

/// The databases of all versions, newest first.
pub fn list(app: &App) -> Result<Vec<Listed>> {
    let scene = Scene::read(app)?;
    let live = scene.live.as_ref().and_then(|live| scene.releases.database(live));
    let mut listed: Vec<Listed> = Vec::new();
    for record in scene.releases.standing.iter().rev().filter(|record| record.sealed.is_some()) {
        let Some(database) = &record.database else { continue };
        if listed.iter().any(|other| other.version == record.id.version) {
            continue;
        }
        let found = databases::of(app, database)?;
        listed.push(Listed {
            version: record.id.version,
            engine: database.engine.clone(),
            name: database.name.clone(),
            live: live == Some(database),
            retired: found.fence()? != Fence::Open,
            bytes: found.size()?,
            path: found.place(),
        });
    }
    Ok(listed)
}

impl Listed {
    /// A line for people.
    pub fn words(&self) -> String {
        let state = match (self.live, self.retired) {
            (true, _) => "live",
            (false, true) => "retired: it refuses writes",
            (false, false) => "takes writes",
        };
        format!("{:>3}  {:<33} {:>9}  {state}", self.version.0, self.name, bytes(self.bytes))
    }
}

/// The database of a version, or the live one's, and a release that uses it.
fn find(app: &App, version: Option<Version>) -> Result<(ReleaseId, Box<dyn Database>)> {
    let scene = Scene::read(app)?;
    let id = match version {
        Some(version) => super::rollback::last_of(&scene, version)?,
        None => scene.live.clone().ok_or_else(|| Error::new("nothing is live yet"))?,
    };
    let database = scene.releases.database(&id);
    let database = database
        .ok_or_else(|| Error::new(format!("receiver keeps no database for version {}", id.version)))?;
    let database = databases::of(app, database)?;
    Ok((id, database))
}

/// The name of a version's database, or the live one's.
pub fn name(app: &App, version: Option<Version>) -> Result<String> {
    let (_, database) = find(app, version)?;
    Ok(database.spot().name.clone())
}

/// Writes a database to the output, as its engine dumps it, without receiver's own objects.
pub fn dump(app: &App, version: Option<Version>, streams: &mut Streams) -> Result<Reply> {
    let (_, database) = find(app, version)?;
    let place = scratch(app, "dump");
    files::remove_file(&place)?;
    let dumped = database.dump(&place, &Limit::within(PATIENT), &mut |_| {}).and_then(|()| {
        let mut dump = std::fs::File::open(&place).context(|| "cannot read the dump")?;
        std::io::copy(&mut dump, streams.output).context(|| "cannot hand out the dump")
    });
    files::remove_file(&place)?;
    dumped.map(|_| Reply::default())
}

/// Puts what the input holds (a dump, or SQL) in the place of what a database holds; what it held before is
/// kept as a dump.
pub fn load(guard: &mut Guard, version: Option<Version>, by: &str, streams: &mut Streams) -> Result<Reply> {
    let app = guard.app().clone();
    let (id, database) = find(&app, version)?;
    let incoming = scratch(&app, "load");
    let stamp = clock::now().strftime("%Y%m%dT%H%M%SZ");
    let name = database.spot().name.clone();
    let before = app.dumps().join(format!("{name}-before-load-{stamp}.{}", database.dump_suffix()));
    files::remove_file(&incoming)?;
    files::remove_file(&before)?;
    let limit = Limit::within(PATIENT);
    let is_noted = || Ok::<_, Error>(database.captured()?.is_some_and(|capture| capture.is_whole()));
    let was_noted = is_noted()?;
    let loaded = (|| {
        let mut to =
            std::fs::File::create_new(&incoming).context(|| "cannot take in what is to be loaded")?;
        std::io::copy(streams.input, &mut to).context(|| "cannot take in what is to be loaded")?;
        database.dump(&before, &limit, &mut |_| {})?;
        database.load(&incoming, &Passing::Loading.spot(&app, id.version)?, &limit)
    })();
    files::remove_file(&incoming)?;
    loaded?;
    guard.append(Some(by), Event::Change { what: format!("database {name} loaded") })?;
    let mut words =
        format!("{name} (version {}) is loaded; what it held before is in {}", id.version, before.display());
    if was_noted && !is_noted()? {
        words.push_str(
            "\nwhat had been noted for the way back is of rows that are gone: a rollback over this version needs \
             --without-new-data now",
        );
    }
    Ok(Reply::said(words, json!({ "database": name, "before": before.display().to_string() })))
}

/// Statements in, rows out.
pub fn shell(app: &App, version: Option<Version>, read_only: bool, streams: &mut Streams) -> Result<Reply> {
    let (_, database) = find(app, version)?;
    let mut access = if read_only { Access::Read } else { Access::Write };
    if access == Access::Write && database.has_reader() && database.fence()? != Fence::Open {
        // Its own role cannot even come in any more.
        let name = &database.spot().name;
        writeln!(streams.talk, "{name} is retired: it can be read, and not written")
            .context(|| "cannot speak")?;
        access = Access::Read;
    }
    let mut input = BufReader::new(&mut streams.input);
    let talk = Talk { input: &mut input, output: streams.output, errors: streams.talk };
    if database.shell(access, talk)? {
        return Ok(Reply::default());
    }
    Err(Error::new("not every statement succeeded"))
}

/// The address of a database, for an application's settings.
pub fn url(app: &App, version: Option<Version>) -> Result<Reply> {
    let (_, database) = find(app, version)?;
    let url = database.url(Access::Write)?;
    Ok(Reply::data(url.clone(), json!({ "url": url })))
}

/// Removes all databases that receiver made on a server for this app, with their roles.
pub fn remove_all(app: &App) -> Result<()> {
    databases::on_servers(app)?.iter().try_for_each(|database| database.remove())
}
