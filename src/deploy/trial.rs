//! A trial: a database that syncdb and migration are run on, once in a rehearsal and once for good, and the
//! proof that they used it and no other.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::environment::Environment;
use super::joblog::Line;
use super::making::Making;
use super::opening::variables;
use crate::app::settings::{Action, Carry, StageName};
use crate::data::sqlite;
use crate::data::{Census, Limit, Script};
use crate::schema::Detector;
use crate::support::{Error, Result, files, text};

/// A database that syncdb and migration are run on.
pub struct Trial {
    /// Its file.
    pub file: PathBuf,
    /// The read-only snapshot of the version before, where a migration reads it.
    pub previous: Option<PathBuf>,
    /// What it began as.
    pub begins: Begins,
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

impl Trial {
    /// Runs syncdb and, over an earlier version, migration, and proves that they used this database.
    pub fn migrate(&self, making: &mut Making, rehearsal: Option<()>, most: Duration) -> Result<()> {
        let mut environment = making.environment.with(variables(&self.file));
        if rehearsal.is_some() {
            environment.set("RECEIVER_REHEARSAL", "1");
        }
        if let Some(previous) = &self.previous {
            environment.set("PREVIOUS_DATABASE_URL", sqlite::url(previous));
        }
        let begun = Instant::now();
        let before = sqlite::census(&self.file, &Limit::within(most))?;
        self.stage(making, StageName::Syncdb, &environment, most)?;
        if making.has_previous() || self.previous.is_some() {
            self.stage(making, StageName::Migration, &environment, most.saturating_sub(begun.elapsed()))?;
        }
        self.prove(making, &before, &environment, most)
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
        sqlite::run_sql(&self.file, &scripts, self.previous.as_deref(), &limit, &mut |line| {
            log.write(&Line::Output(text::printable_output(line)));
        })
        .map_err(|error| Error::new(format!("stage `{name}` failed")).caused_by(error))?;
        making.ran(name.as_str(), begun);
        Ok(())
    }

    /// The proof that the app used the database that it was given (design.md, section 9).
    fn prove(
        &self,
        making: &mut Making,
        before: &Census,
        environment: &Environment,
        most: Duration,
    ) -> Result<()> {
        let runs = making.settings().stage(StageName::Syncdb).map(|stage| &stage.action);
        if !matches!(runs, Some(Action::Run(_))) {
            return Ok(());
        }
        let used = match self.begins {
            Begins::Empty => !sqlite::is_empty(&self.file)?,
            begins => {
                before.used_since(&sqlite::census(&self.file, &Limit::within(most))?)
                    || self.is_asked(making, environment, most)?
                    || begins == Begins::Seeded && self.fills_an_empty_one(making, environment, most)?
            }
        };
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
        let directory = self.file.with_file_name("question");
        let empty = directory.join("empty.sqlite3");
        sqlite::create(&empty)?;
        let environment = environment.with(variables(&empty)).with([("RECEIVER_REHEARSAL", "1".to_owned())]);
        let filled = making
            .stage(StageName::Syncdb, &environment, most)
            .and_then(|()| sqlite::is_empty(&empty))
            .map(|is_empty| !is_empty);
        files::remove_tree(&directory)?;
        filled
    }

    /// Whether the framework says that nothing is pending, and means this database: of an empty one it
    /// must not say so, too, as it would if it looked at another.
    fn is_asked(&self, making: &Making, environment: &Environment, most: Duration) -> Result<bool> {
        if !making.nothing_pending(environment, most)? {
            return Ok(false);
        }
        let directory = self.file.with_file_name("question");
        let empty = directory.join("empty.sqlite3");
        sqlite::create(&empty)?;
        let same = making.nothing_pending(&environment.with(variables(&empty)), most);
        files::remove_tree(&directory)?;
        Ok(!same?)
    }
}

/// The settings lines that make a framework use the database that it is given.
pub fn unused(making: &Making) -> Error {
    let lines = match making.detector() {
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

/// Makes the database of a trial at `file`, as `carry` says, by copying with `copy`.
pub fn begin(
    making: &Making,
    carry: Carry,
    file: &Path,
    begins: Begins,
    copy: impl Fn(&Making, &Path) -> Result<()>,
) -> Result<Trial> {
    let migrates = making.settings().stage(StageName::Migration).is_some();
    // A copy for a preview has its data already, and its parent may well have the same schema.
    let wants_previous = match begins {
        Begins::Seeded => carry == Carry::Empty && migrates,
        _ => making.has_previous() && (carry == Carry::Empty || migrates),
    };
    let mut previous = None;
    if wants_previous {
        let snapshot = making.app().previous_snapshot(making.version()).join("previous.sqlite3");
        sqlite::remove(&snapshot)?;
        copy(making, &snapshot)?;
        sqlite::strip(&snapshot)?;
        sqlite::freeze(&snapshot)?;
        previous = Some(snapshot);
    }
    sqlite::remove(file)?;
    match carry {
        Carry::Empty => sqlite::create(file)?,
        Carry::Copy | Carry::Shared => {
            copy(making, file)?;
            sqlite::strip(file)?;
        }
    }
    let begins = if carry == Carry::Empty { Begins::Empty } else { begins };
    Ok(Trial { file: file.to_owned(), previous, begins })
}

/// Removes what a trial needed besides its database, and that, too, where it was a rehearsal's.
pub fn end(making: &Making, trial: &Trial) -> Result<()> {
    if let Some(previous) = &trial.previous {
        sqlite::remove(previous)?;
    }
    if trial.file.starts_with(making.app().rehearsal(making.version())) {
        discard_directory(making, &making.app().rehearsal(making.version()), &trial.file)?;
    }
    Ok(())
}

/// A rehearsal's stages may leave anything beside their database: it was only theirs.
fn discard_directory(making: &Making, directory: &Path, file: &Path) -> Result<()> {
    if sqlite::remove(file).is_err() {
        making.log.note(format!("{} holds more than a database; it goes too", directory.display()));
        files::remove_tree(directory)?;
    }
    Ok(())
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
