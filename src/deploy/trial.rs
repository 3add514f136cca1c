//! A trial: a database that syncdb and migration are run on, once in a rehearsal and once for good, and the
//! proof that they used it and no other.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::databases::{self, Passing};
use super::environment::Environment;
use super::joblog::Line;
use super::making::Making;
use crate::app::App;
use crate::app::settings::{Action, Carry, Engine, StageName};
use crate::data::{Access, Census, Database, Hold, Limit, Progress, Schema, Script, Spot};
use crate::schema::{Detector, Pending};
use crate::support::{Error, Result, files, text};

/// A database that syncdb and migration are run on.
pub struct Trial {
    /// The database.
    pub database: Box<dyn Database>,
    /// What a migration reads of the version before.
    pub previous: Option<Previous>,
    /// What it began as.
    pub begins: Begins,
}

/// What a migration reads of the version before.
#[derive(Debug)]
pub enum Previous {
    /// A copy, which goes with the trial.
    Copy(Box<dyn Database>),
    /// The live database itself, by a role that cannot write, while its writers are held.
    Live(Box<dyn Database>),
}

impl Previous {
    fn database(&self) -> &dyn Database {
        let (Previous::Copy(database) | Previous::Live(database)) = self;
        &**database
    }
}

/// Where the data of a trial comes from.
pub struct Origin<'a> {
    /// The database.
    pub database: &'a dyn Database,
    /// The hold on its writers, where they wait.
    pub hold: Option<&'a dyn Hold>,
    /// Whether its copy was made ahead, and comes behind under the hold.
    pub ahead: bool,
    /// How long copying it may take.
    pub limit: Limit<'a>,
}

impl Origin<'_> {
    /// Copies it.
    fn copy(&self, to: &Spot, tell: &mut dyn FnMut(Progress)) -> Result<()> {
        match self.hold {
            Some(hold) => hold.copy_to(to, &self.limit, tell),
            None => self.database.snapshot(to, &self.limit, tell),
        }
    }

    /// Copies under the hold, in the time that is left, what was copied ahead and is not the same.
    pub fn copy_again(&self, making: &Making, to: &Spot, why: &Error) -> Result<()> {
        self.limit.check()?;
        making.log.note(format!("the data is copied again: {}", why.one_line()));
        self.copy(to, &mut |_| {})
    }

    /// What a migration reads of it.
    fn readable(&self, scratch: Spot, tell: &mut dyn FnMut(Progress)) -> Result<Previous> {
        if self.hold.is_some() && self.database.has_reader() {
            return Ok(Previous::Live(self.database.beside(self.database.spot().clone())));
        }
        self.copy(&scratch, tell)?;
        let copy = self.database.beside(scratch);
        copy.freeze()?;
        Ok(Previous::Copy(copy))
    }
}

/// What a trial's database began as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// Empty.
    Empty,
    /// As a copy of one whose schema is an older one.
    Copied,
    /// As a copy of another app's, whose schema may well be the same.
    Seeded,
}

/// What syncdb and migration are run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// To see what becomes of it; the database goes.
    Rehearsal,
    /// The database is the version's.
    ForGood,
}

/// A database before syncdb, as far as it is looked at.
enum Before {
    Empty,
    Schema(Schema),
    All(Census),
}

impl Trial {
    /// Runs syncdb and, over an earlier version, migration, and proves that they used this database.
    pub fn migrate(&self, making: &mut Making, run: Run, most: Duration) -> Result<()> {
        let mut environment = making.environment.with_database(&*self.database, Access::Write)?;
        if run == Run::Rehearsal {
            environment.set("RECEIVER_REHEARSAL", "1");
        }
        if let Some(previous) = &self.previous {
            environment = environment.with_previous(previous.database())?;
        }
        let begun = Instant::now();
        let before = self.before(making, run, most)?;
        self.stage(making, StageName::Syncdb, &environment, most)?;
        if self.previous.is_some() || making.has_previous() && self.begins != Begins::Seeded {
            self.stage(making, StageName::Migration, &environment, most.saturating_sub(begun.elapsed()))?;
        }
        if let Some(before) = before {
            self.prove(making, &before, &environment, most)?;
        }
        // Whoever waits has been told by the rehearsal already.
        if run == Run::Rehearsal || self.begins != Begins::Copied {
            refuse_pending(making, &environment)?;
        }
        Ok(())
    }

    fn stage(
        &self,
        making: &mut Making,
        name: StageName,
        environment: &Environment,
        most: Duration,
    ) -> Result<()> {
        let Some(stage) = making.settings().stage(name).cloned() else { return Ok(()) };
        let Action::Sql(scripts) = &stage.action else { return making.stage(name, environment, most) };
        let begun = Instant::now();
        let names: Vec<&str> = scripts.iter().map(|script| script.as_str()).collect();
        making.log.step(name.as_str(), names.join(", "));
        let mut texts = Vec::new();
        for script in scripts {
            let path = making.directory().join(script.as_path());
            let text = files::read_limited(&path, 256 << 20)?;
            texts
                .push(text.ok_or_else(|| Error::new(format!("{} is not in the revision", script.as_str())))?);
        }
        let scripts: Vec<Script> =
            scripts.iter().zip(&texts).map(|(script, text)| Script { name: script.as_str(), text }).collect();
        let log = making.log.clone();
        let limit = Limit::within(most.min(stage.timeout));
        let mut say = |line: &str| log.write(&Line::Output(text::printable_output(line)));
        let previous = self.previous.as_ref().map(Previous::database);
        // SQL can read what its own engine keeps, and nothing else.
        let previous = previous.filter(|previous| previous.engine() == self.database.engine());
        self.database
            .run_sql(&scripts, previous.map(Database::spot), &limit, &mut say)
            .map_err(|error| Error::new(format!("stage `{name}` failed")).caused_by(error))?;
        making.ran(name.as_str(), begun);
        Ok(())
    }

    /// What the proof that the app used this database compares with; `None` where SQL is run, by receiver itself.
    fn before(&self, making: &Making, run: Run, most: Duration) -> Result<Option<Before>> {
        let runs = making.settings().stage(StageName::Syncdb).map(|stage| &stage.action);
        if !matches!(runs, Some(Action::Run(_))) {
            return Ok(None);
        }
        Ok(Some(match self.begins {
            Begins::Empty => Before::Empty,
            Begins::Copied if run == Run::ForGood && making.changes_schema => {
                Before::Schema(self.database.schema()?)
            }
            _ => Before::All(self.database.census(&Limit::within(most))?),
        }))
    }

    /// The proof that the app used the database that it was given (design.md, section 9).
    fn prove(
        &self,
        making: &mut Making,
        before: &Before,
        environment: &Environment,
        most: Duration,
    ) -> Result<()> {
        let changed = match before {
            Before::Empty => return if self.database.is_empty()? { Err(unused(making)) } else { Ok(()) },
            Before::Schema(before) => self.database.schema()? != *before,
            Before::All(before) => {
                let after = self.database.census(&Limit::within(most))?;
                making.changes_schema = before.has_other_schema(&after);
                before.used_since(&after)
            }
        };
        let used = changed
            || self.is_asked(making, environment, most)?
            || self.begins == Begins::Seeded && self.fills_an_empty_one(making, environment, most)?;
        if used { Ok(()) } else { Err(unused(making)) }
    }

    /// Whether syncdb makes a schema in an empty database: there is nothing left for it to do in a copy of
    /// one that has the same.
    fn fills_an_empty_one(
        &self,
        making: &mut Making,
        environment: &Environment,
        most: Duration,
    ) -> Result<bool> {
        let empty = self.empty(making)?;
        let environment =
            environment.with_database(&*empty, Access::Write)?.with([("RECEIVER_REHEARSAL", "1".to_owned())]);
        let filled = making
            .stage(StageName::Syncdb, &environment, most)
            .and_then(|()| empty.is_empty())
            .map(|is_empty| !is_empty);
        databases::discard(making.app(), &*empty)?;
        filled
    }

    /// An empty database, to ask a framework on.
    fn empty(&self, making: &Making) -> Result<Box<dyn Database>> {
        let empty = self.database.beside(Passing::Question.spot(making.app(), making.version())?);
        empty.create()?;
        Ok(empty)
    }

    /// Whether the framework says that nothing is pending, and means this database: of an empty one it
    /// must not say so, too, as it would if it looked at another.
    fn is_asked(&self, making: &Making, environment: &Environment, most: Duration) -> Result<bool> {
        if making.pending(environment, most)? != Pending::Nothing {
            return Ok(false);
        }
        let empty = self.empty(making)?;
        let same = making.pending(&environment.with_database(&*empty, Access::Write)?, most);
        databases::discard(making.app(), &*empty)?;
        Ok(same? != Pending::Nothing)
    }
}

/// After its migrations a framework has to say that nothing is pending.
fn refuse_pending(making: &Making, environment: &Environment) -> Result<()> {
    let runs = making.settings().stage(StageName::Syncdb).map(|stage| &stage.action);
    if !matches!(runs, Some(Action::Run(_))) || !making.can_be_asked() {
        return Ok(());
    }
    match making.pending(environment, Duration::MAX)? {
        Pending::Nothing => Ok(()),
        Pending::Unknown(why) => {
            making.log.note(format!("whether migrations are pending still cannot be asked: {why}"));
            Ok(())
        }
        Pending::Something(said) => {
            Err(Error::new("after syncdb the framework says that migrations are pending still")
                .hint(format!("it was asked by {said}")))
        }
    }
}

/// The settings lines that make a framework use the database that it is given.
pub fn unused(making: &Making) -> Error {
    let lines = match making.detector() {
        Detector::Django | Detector::DjangoModels if making.settings().database.engine != Engine::Sqlite => {
            "in settings.py: fill DATABASES from RECEIVER_DATABASE_NAME, …_USER, …_PASSWORD and …_SOCKET (as HOST for \
             PostgreSQL, as OPTIONS[\"unix_socket\"] for MySQL); examples/django has the lines"
        }
        Detector::Django | Detector::DjangoModels => {
            "in settings.py: import os; DATABASES = {\"default\": {\"ENGINE\": \"django.db.backends.sqlite3\", \
             \"NAME\": os.environ.get(\"RECEIVER_DATABASE_NAME\", BASE_DIR / \"db.sqlite3\")}}"
        }
        Detector::Rails => "in config/database.yml: production: { url: <%= ENV[\"DATABASE_URL\"] %> }",
        Detector::Laravel => {
            "in config/database.php, for sqlite: 'database' => env('RECEIVER_DATABASE_NAME')"
        }
        Detector::Prisma => "in schema.prisma: url = \"file:\" and RECEIVER_DATABASE_NAME, by env(…)",
        _ => "let it read DATABASE_URL, or the path in RECEIVER_DATABASE_NAME, from its environment",
    };
    Error::new("syncdb did not touch the database of this version: the application uses another one")
        .hint(lines)
}

/// Makes the database of a trial and what its migration reads, as `carry` says.
pub fn begin(
    making: &Making,
    carry: Carry,
    origin: &Origin,
    database: Box<dyn Database>,
    begins: Begins,
    tell: &mut dyn FnMut(Progress),
) -> Result<Trial> {
    let migrates = making.settings().stage(StageName::Migration).is_some();
    // A copy for a preview has its data already, and its parent may well have the same schema.
    let wants_previous = match begins {
        Begins::Seeded => carry == Carry::Empty && migrates,
        _ => making.has_previous() && (carry == Carry::Empty || migrates),
    };
    let previous = if wants_previous {
        Some(origin.readable(Passing::Previous.spot(making.app(), making.version())?, tell)?)
    } else {
        None
    };
    match carry {
        Carry::Empty => database.create()?,
        Carry::Copy | Carry::Shared => match origin.hold {
            Some(hold) if origin.ahead => hold
                .catch_up(database.spot(), &origin.limit)
                .or_else(|why| origin.copy_again(making, database.spot(), &why))?,
            _ => origin.copy(database.spot(), tell)?,
        },
    }
    let begins = if carry == Carry::Empty { Begins::Empty } else { begins };
    Ok(Trial { database, previous, begins })
}

/// Removes a rehearsal's database, and what its migration read.
pub fn end(app: &App, trial: &Trial) -> Result<()> {
    end_previous(app, trial)?;
    databases::discard(app, &*trial.database)
}

/// Removes what a migration read.
pub fn end_previous(app: &App, trial: &Trial) -> Result<()> {
    match &trial.previous {
        Some(Previous::Copy(copy)) => databases::discard(app, &**copy),
        Some(Previous::Live(_)) | None => Ok(()),
    }
}

/// A database file in a release: where, its size in bytes, and its time.
pub type Found = (PathBuf, u64, Option<SystemTime>);

/// The database files in the release: what syncdb must not make or change.
pub fn database_files(making: &Making) -> Vec<Found> {
    const SKIPPED: [&str; 4] = [".venv", "venv", "node_modules", ".receiver"];
    let mut found = Vec::new();
    let mut waiting = vec![making.directory().to_owned()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let (Ok(kind), name) = (entry.file_type(), entry.file_name()) else { continue };
            if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                waiting.push(entry.path());
            } else if kind.is_file() && is_database(&entry.path()) {
                let about = entry.metadata().ok();
                let (size, time) = about.map_or((0, None), |about| (about.len(), about.modified().ok()));
                found.push((entry.path(), size, time));
            }
        }
    }
    found.sort();
    found
}

fn is_database(path: &Path) -> bool {
    let named = path
        .extension()
        .is_some_and(|end| ["sqlite3", "sqlite", "db", "db3"].iter().any(|known| end == *known));
    let mut magic = [0; 16];
    named
        || std::fs::File::open(path)
            .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic))
            .is_ok_and(|()| magic == *b"SQLite format 3\0")
}

/// Refuses what came to be beside the database that syncdb was given.
pub fn refuse_strays(making: &Making, before: &[Found]) -> Result<()> {
    let after = database_files(making);
    let Some((stray, ..)) = after.iter().find(|file| !before.contains(file)) else { return Ok(()) };
    let name = stray.strip_prefix(making.directory()).unwrap_or(stray);
    let name = text::printable(&name.to_string_lossy());
    Err(Error::new(format!("the application made a database of its own in the release: {name}"))
        .caused_by(unused(making)))
}
