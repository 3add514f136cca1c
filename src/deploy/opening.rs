//! A version opens: its database comes into being, and the one before is fenced.
//!
//! The order, and why it is safe: everything is rehearsed on a copy that nobody waits for; then
//! writers are held, the data is copied once more, migrated and proved; then, in the transaction that
//! held the writers, the old database is fenced. Up to the fence every failure just lets the hold go.
//! Between the fence and the switch writes are refused, never swallowed; recovery takes the fence back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::crew::Upbringing;
use super::environment::Environment;
use super::joblog::Line;
use super::making::Making;
use super::plan::Data;
use super::{doorway, processes};
use crate::app::record::{DatabaseRecord, StageRun};
use crate::app::settings::{Action, Carry, StageName};
use crate::app::{App, Version};
use crate::data::sqlite::{self, Hold, Script};
use crate::data::{self, Census, Limit};
use crate::schema::Detector;
use crate::serve::start::Purpose;
use crate::support::{Context, Error, Result, death, files, text};

/// The database of a version, as its record has it.
pub fn record_for(app: &App, version: Version) -> Result<DatabaseRecord> {
    let name = data::database_name(app.name(), version)?;
    Ok(DatabaseRecord { engine: "sqlite".to_owned(), name, home: version })
}

/// Where the file of a recorded database lies.
pub fn file_of(app: &App, database: &DatabaseRecord) -> PathBuf {
    app.database(database.home).join(format!("{}.sqlite3", database.name))
}

/// What a stage or process finds about the database at `file`.
pub fn variables(file: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("DATABASE_URL", sqlite::url(file)),
        ("RECEIVER_DATABASE_ENGINE", "sqlite".to_owned()),
        ("RECEIVER_DATABASE_NAME", file.display().to_string()),
        ("RECEIVER_DATABASE_USER", String::new()),
        ("RECEIVER_DATABASE_PASSWORD", String::new()),
        ("RECEIVER_DATABASE_SOCKET", String::new()),
    ]
}

/// How long anything may take that nobody waits for.
const UNHURRIED: Duration = Duration::from_secs(24 * 3600);

/// The database of a release that is being made, and what there is to do for it.
#[derive(Debug)]
pub struct Opening {
    /// The release's own database; absent where receiver keeps none.
    pub database: Option<DatabaseRecord>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Nothing is to be done for the data.
    Nothing,
    /// It begins empty.
    Fresh,
    /// It begins with a snapshot of another app's database, at this place.
    Seeded(Carry, PathBuf),
    /// It is carried over from here.
    Carried(Carry, DatabaseRecord),
}

impl Opening {
    /// What is to be done, as planned.
    pub fn planned(app: &App, data: &Data, version: Version) -> Result<Opening> {
        Ok(match data {
            Data::None => Opening { database: None, source: Source::Nothing },
            Data::Join(database) => Opening { database: Some(database.clone()), source: Source::Nothing },
            Data::Fresh => Opening { database: Some(record_for(app, version)?), source: Source::Fresh },
            Data::Seeded(carry, from) => {
                let parent = app.name().parent().ok_or_else(|| Error::new("only a preview has a parent"))?;
                let from = file_of(&app.sibling(&parent), from);
                Opening { database: Some(record_for(app, version)?), source: Source::Seeded(*carry, from) }
            }
            Data::Carried(Carry::Shared, from) => {
                Opening { database: Some(from.clone()), source: Source::Carried(Carry::Shared, from.clone()) }
            }
            Data::Carried(carry, from) => Opening {
                database: Some(record_for(app, version)?),
                source: Source::Carried(*carry, from.clone()),
            },
        })
    }

    /// Whether it makes a database of its own.
    fn is_new(&self) -> bool {
        !matches!(self.source, Source::Nothing | Source::Carried(Carry::Shared, _))
    }

    /// Makes the still empty database that `build` and `assets` find.
    pub fn prepare(&self, app: &App) -> Result<()> {
        match &self.database {
            Some(database) if self.is_new() => sqlite::create(&file_of(app, database)),
            _ => Ok(()),
        }
    }
}

/// Does all that a version needs which opens: syncdb, migration, check, the data, the fence.
pub fn open(making: &mut Making, opening: &Opening) -> Result<()> {
    let app = making.app().clone();
    match (&opening.source, &opening.database) {
        (Source::Nothing, _) | (_, None) => {
            making.stage(StageName::Syncdb, &making.environment.clone(), UNHURRIED)?;
            if making.has_previous() {
                making.stage(StageName::Migration, &making.environment.clone(), UNHURRIED)?;
            }
            making.stage(StageName::Check, &making.environment.clone(), UNHURRIED)?;
            bring_up(making)
        }
        (Source::Fresh, Some(database)) => {
            let own = file_of(&app, database);
            let found = database_files(making);
            let trial = Trial { file: own.clone(), previous: None, begins: Begins::Empty };
            trial.migrate(making, None, UNHURRIED)?;
            refuse_strays(making, &found)?;
            making.stage(StageName::Check, &making.environment.clone(), UNHURRIED)?;
            death::point("checked");
            sqlite::checkpoint_and_sync(&own)?;
            bring_up(making)
        }
        (Source::Seeded(carry, from), Some(database)) => seed(making, *carry, from, &file_of(&app, database)),
        (Source::Carried(Carry::Shared, from), _) => {
            share(making, &file_of(&app, from))?;
            bring_up(making)
        }
        (Source::Carried(carry, from), Some(database)) => {
            let live = file_of(&app, from);
            let pause = rehearse(making, *carry, &live)?;
            refuse_long_pause(making, pause)?;
            carry_over(making, *carry, &live, &file_of(&app, database))
        }
    }
}

/// Starts the web process of a version that opens, and proves it. What else runs waits for the switch.
fn bring_up(making: &mut Making) -> Result<()> {
    let environment = making.environment.clone();
    making.bring_up(&environment, processes::web_only(making.settings()))
}

/// A database that syncdb and migration are run on.
struct Trial {
    file: PathBuf,
    previous: Option<PathBuf>,
    begins: Begins,
}

/// What a trial's database began as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    /// Empty.
    Empty,
    /// As a copy of one whose schema is an older one.
    Copied,
    /// As a copy of another app's, whose schema may well be the same.
    Seeded,
}

impl Trial {
    /// Runs syncdb and, over an earlier version, migration, and proves that they used this database.
    fn migrate(&self, making: &mut Making, rehearsal: Option<()>, most: Duration) -> Result<()> {
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
            log.write(&super::joblog::Line::Output(text::printable_output(line)));
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
fn unused(making: &Making) -> Error {
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

/// Does everything once on a copy, with nobody waiting; answers how long requests would have waited.
fn rehearse(making: &mut Making, carry: Carry, live: &Path) -> Result<Duration> {
    let app = making.app().clone();
    let begun = Instant::now();
    let directory = app.rehearsal(making.version());
    let file = directory.join(live.file_name().unwrap_or_default());
    let schema_before = sqlite::schema(live)?;
    let trial = begin_trial(making, carry, &file, Begins::Copied, |making, to| {
        let log = making.log.clone();
        sqlite::snapshot(live, to, &Limit::within(UNHURRIED), &mut |progress| {
            log.step(
                "rehearse",
                format!("{} of {}", text::bytes(progress.done), text::bytes(progress.total)),
            );
        })
    })?;
    let found = database_files(making);
    let migrated = trial.migrate(making, Some(()), UNHURRIED);
    let pause = begun.elapsed();
    let result = unchanged(making, live, &schema_before).and(migrated).and_then(|()| {
        refuse_strays(making, &found)?;
        sqlite::examine(&trial.file, u64::MAX, &Limit::within(UNHURRIED))?;
        if carry == Carry::Copy && sqlite::schema(&trial.file)? == schema_before {
            making.log.step("schema", "the migration left the tables as they were");
        }
        let environment =
            making.environment.with(variables(&trial.file)).with([("RECEIVER_REHEARSAL", "1".to_owned())]);
        making.stage(StageName::Check, &environment, UNHURRIED)?;
        rehearse_start(making, &environment)
    });
    end_trial(making, &trial)?;
    let pause = pause + result?;
    let size = sqlite::size(live)?;
    making.log.timed("rehearse", format!("on a copy of {}, {}", shown(live), text::bytes(size)), begun);
    death::point("rehearsed");
    Ok(pause)
}

/// Starts the web process on the copy, proves that it stays up, and ends it. Answers how long it took
/// to be healthy: requests will wait for that, too.
fn rehearse_start(making: &Making, environment: &Environment) -> Result<Duration> {
    let begun = Instant::now();
    let report = |line: &Line| making.log.write(line);
    let stop = || making.stopper.check();
    let how = Upbringing { report: &report, stop: &stop, most: Duration::MAX, settle: false };
    let mut crew = making.crew(environment, Purpose::Rehearsal);
    crew.bring_up(processes::web_only(making.settings()), &how)?;
    let healthy = begun.elapsed();
    let stayed = crew.stay_up(&how);
    crew.dismiss()?;
    stayed.map(|()| healthy)
}

/// Starts the web process on the version's own database, while requests are held: the rehearsal has
/// proved that it stays up, so that nobody waits for `settle`.
fn start_held(making: &mut Making, most: Duration) -> Result<()> {
    let begun = Instant::now();
    let report = |line: &Line| making.log.write(line);
    let how = Upbringing { report: &report, stop: &|| Ok(()), most, settle: false };
    let mut crew = making.crew(&making.environment, Purpose::Live);
    crew.bring_up(processes::web_only(making.settings()), &how)?;
    crew.link()?;
    drop(crew);
    making.ran("start", begun);
    death::point("started");
    Ok(())
}

fn shown(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A rehearsal that changed the live database is told so first, whatever else went wrong in it.
fn unchanged(making: &Making, live: &Path, before: &data::Schema) -> Result<()> {
    if sqlite::schema(live)? == *before {
        return Ok(());
    }
    Err(Error::new("syncdb changed the live database: it has to use the one that it is given")
        .caused_by(unused(making)))
}

/// Makes the database of a trial at `file`, as `carry` says, by copying with `copy`.
fn begin_trial(
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

fn end_trial(making: &Making, trial: &Trial) -> Result<()> {
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

/// Begins a preview's data with a snapshot of its parent's: nobody there is held, or waits, or sees it.
fn seed(making: &mut Making, carry: Carry, from: &Path, own: &Path) -> Result<()> {
    let begun = Instant::now();
    let found = database_files(making);
    let trial = begin_trial(making, carry, own, Begins::Seeded, |_, to| {
        sqlite::snapshot(from, to, &Limit::within(UNHURRIED), &mut |_| {})
    })?;
    trial.migrate(making, None, UNHURRIED)?;
    end_trial(making, &trial)?;
    refuse_strays(making, &found)?;
    making.log.timed("data", format!("from a snapshot of {}; nobody was held", shown(from)), begun);
    making.stage(StageName::Check, &making.environment.clone(), UNHURRIED)?;
    death::point("checked");
    sqlite::checkpoint_and_sync(own)?;
    bring_up(making)
}

fn refuse_long_pause(making: &Making, pause: Duration) -> Result<()> {
    let most = making.max_pause();
    if pause <= most {
        return Ok(());
    }
    let name = making.app().name();
    Err(Error::new(format!(
        "the rehearsal took {:.1} s, and writers may be held for {:.1} s (max_pause): nobody was held",
        pause.as_secs_f64(),
        most.as_secs_f64()
    ))
    .hint(format!(
        "`receiver deploy {name} -o max-pause={}s` lets them wait; `-o carry=shared` changes the live database in place",
        pause.as_secs() + 2
    )))
}

/// Holds the writers, carries the data over, migrates and proves it, and fences the old database.
fn carry_over(making: &mut Making, carry: Carry, live: &Path, own: &Path) -> Result<()> {
    let most = making.max_pause();
    let limit = Limit::within(most);
    let begun = Instant::now();
    making.stopper.check()?;
    making.stopper.pass();
    let app = making.app().clone();
    doorway::close(&app, most, &making.log, making.hold)?;
    let hold = Hold::take(live, &Limit::within(most / 2))?;
    death::point("held");
    let mut broken = 0;
    let trial =
        begin_trial(making, carry, own, Begins::Copied, |_, to| hold.copy_to(to, &limit, &mut |_| {}))?;
    death::point("carried");
    if carry == Carry::Copy {
        broken = sqlite::verify(own, live, &limit)?;
    }
    let left = most.saturating_sub(begun.elapsed());
    trial.migrate(making, None, left).map_err(|error| {
        if limit.is_over() {
            error.hint("it took longer than in the rehearsal; try again, or give it a longer max_pause")
        } else {
            error
        }
    })?;
    end_trial(making, &trial)?;
    sqlite::examine(own, broken.max(u64::from(carry != Carry::Copy) * u64::MAX), &limit)?;
    sqlite::checkpoint_and_sync(own)?;
    death::point("migrated");
    start_held(making, most.saturating_sub(begun.elapsed()))?;
    if let Some(door) = making.hold.as_ref() {
        door.check()?;
    }
    limit.check().context(|| format!("writers were held for longer than {:.1} s", most.as_secs_f64()))?;
    hold.fence(&format!("version {} of {} is retired", making.previous_version(), making.app().name()))?;
    making.fenced = true;
    death::point("fenced");
    making.log.timed("carry", format!("{} → {}: writers held, none lost", shown(live), shown(own)), begun);
    making.ran("carry", begun);
    Ok(())
}

/// One database for all versions: rehearsed on a copy, then changed in place just before the switch.
fn share(making: &mut Making, live: &Path) -> Result<()> {
    making.log.step(
        "database",
        format!("{} is shared: its schema changes in place, and no rollback brings it back", shown(live)),
    );
    rehearse(making, Carry::Shared, live)?;
    making.stopper.pass();
    let trial = Trial { file: live.to_owned(), previous: None, begins: Begins::Copied };
    trial.migrate(making, None, UNHURRIED)
}

/// The database files in the release, with their size and time: what syncdb must not make or change.
fn database_files(making: &Making) -> Vec<(PathBuf, u64, Option<std::time::SystemTime>)> {
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

fn refuse_strays(making: &Making, before: &[(PathBuf, u64, Option<std::time::SystemTime>)]) -> Result<()> {
    let after = database_files(making);
    let Some((stray, ..)) = after.iter().find(|file| !before.contains(file)) else { return Ok(()) };
    let name = stray.strip_prefix(making.directory()).unwrap_or(stray);
    let name = text::printable(&name.to_string_lossy());
    Err(Error::new(format!("the application made a database of its own in the release: {name}"))
        .caused_by(unused(making)))
}

/// What a version's opening costs, as the last one measured it; for a plan.
pub fn measured(stages: &[StageRun]) -> Option<f64> {
    stages.iter().find(|stage| stage.name == "carry").map(|stage| stage.seconds)
}
