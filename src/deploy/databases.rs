//! The databases of an app: where each is, and by what name.
//!
//! Every version has one of its own. Beside them come and go: the copy that a version is rehearsed on, the
//! snapshot of the version before that a migration reads, one that a framework is asked on, and those that
//! somebody looks at.

use super::{hand, look};
use crate::app::record::{DatabaseRecord, Record};
use crate::app::{App, AppName, Version};
use crate::data::{Credentials, Database, Ground, Lender, Spot, database_name, derived_name};
use crate::support::{Error, Result, files};

/// The database of a version, as its record has it.
pub fn record_for(app: &App, engine: &str, version: Version) -> Result<DatabaseRecord> {
    let name = database_name(app.name(), version)?;
    Ok(DatabaseRecord { engine: engine.to_owned(), name, home: version })
}

/// A recorded database.
pub fn of(app: &App, database: &DatabaseRecord) -> Result<Box<dyn Database>> {
    ground(app)?.database(&database.engine, spot_of(app, database))
}

/// A database of the app that `app` is a preview of, reached as `app` reaches its own.
pub fn of_parent(app: &App, database: &DatabaseRecord) -> Result<Box<dyn Database>> {
    let parent = app.name().parent().ok_or_else(|| Error::new("only a preview has a parent"))?;
    let parent = app.sibling(&parent);
    let lender = Lender { secrets: parent.database_secrets(), agent: agent(&parent) };
    let ground = Ground { lender: Some(lender), ..ground(app)? };
    ground.database(&database.engine, spot_of(&parent, database))
}

/// The database of a release; `None` where receiver keeps none for it.
pub fn of_release(app: &App, record: &Record) -> Result<Option<Box<dyn Database>>> {
    record.database.as_ref().map(|database| of(app, database)).transpose()
}

/// All databases that receiver made on a server for this app, and has not removed.
pub fn on_servers(app: &App) -> Result<Vec<Box<dyn Database>>> {
    let ground = ground(app)?;
    let known = Credentials::all(&ground.secrets)?.into_iter();
    known.map(|one| ground.database(&one.engine, Spot { directory: one.directory, name: one.name })).collect()
}

fn ground(app: &App) -> Result<Ground> {
    let server = look::server_settings(app)?.database_server;
    Ok(Ground {
        secrets: app.database_secrets(),
        agent: agent(app),
        lender: None,
        server: server.socket,
        admin: server.admin,
        password_file: server.password_file,
    })
}

/// The app itself, where it has a user of its own: who works on its databases in files.
fn agent(app: &App) -> Option<AppName> {
    app.user().map(|_| app.name().clone())
}

fn spot_of(app: &App, database: &DatabaseRecord) -> Spot {
    Spot { directory: app.database(database.home), name: database.name.clone() }
}

/// A database that comes and goes with what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// What a version is rehearsed on.
    Rehearsal,
    /// What a migration reads.
    Previous,
    /// What a framework is asked on.
    Question,
    /// The throw-away copy of what the process of this number runs beside what is live.
    Beside(u32),
    /// What a dump is loaded into first.
    Loading,
}

impl Passing {
    /// Where it is.
    pub fn spot(self, app: &App, version: Version) -> Result<Spot> {
        let name = database_name(app.name(), version)?;
        let (directory, what) = match self {
            Passing::Rehearsal => (app.rehearsal(version), "rehearsal".to_owned()),
            Passing::Previous => (app.previous_snapshot(version), "previous".to_owned()),
            Passing::Question => (app.question(version), "question".to_owned()),
            Passing::Beside(pid) => (app.beside(version, pid), format!("beside_{pid}")),
            Passing::Loading => (app.loading(version), "loading".to_owned()),
        };
        Ok(Spot { directory, name: derived_name(&name, &what)? })
    }
}

/// Removes a database, and whatever a stage left beside it in a directory that was the database's alone.
pub fn discard(app: &App, database: &dyn Database) -> Result<()> {
    let directory = &database.spot().directory;
    match database.remove() {
        Err(_) if files::exists(directory) => hand::remove_databases(app, directory),
        removed => removed,
    }
}

/// Removes what a deploy of `version` made and left. `own`: the version's database as well.
pub fn discard_all_of(app: &App, version: Version, own: bool) -> Result<()> {
    let mut directories = vec![
        app.rehearsal(version),
        app.previous_snapshot(version),
        app.question(version),
        app.loading(version),
    ];
    if own {
        directories.push(app.database(version));
    }
    for database in on_servers(app)? {
        if directories.contains(&database.spot().directory) {
            database.remove()?;
        }
    }
    directories.iter().try_for_each(|directory| hand::remove_databases(app, directory))
}
