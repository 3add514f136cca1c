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
use super::trial::{self, Begins, Trial};
use super::{doorway, processes};
use crate::app::record::{DatabaseRecord, StageRun};
use crate::app::settings::{Carry, StageName};
use crate::app::{App, Version};
use crate::data::sqlite::{self, Hold};
use crate::data::{self, Limit};
use crate::serve::start::Purpose;
use crate::support::{Context, Error, Result, death, text};

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
            let found = trial::database_files(making);
            let trial = Trial { file: own.clone(), previous: None, begins: Begins::Empty };
            trial.migrate(making, None, UNHURRIED)?;
            trial::refuse_strays(making, &found)?;
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

/// Does everything once on a copy, with nobody waiting; answers how long requests would have waited.
fn rehearse(making: &mut Making, carry: Carry, live: &Path) -> Result<Duration> {
    let app = making.app().clone();
    let begun = Instant::now();
    let directory = app.rehearsal(making.version());
    let file = directory.join(live.file_name().unwrap_or_default());
    let schema_before = sqlite::schema(live)?;
    let trial = trial::begin(making, carry, &file, Begins::Copied, |making, to| {
        let log = making.log.clone();
        sqlite::snapshot(live, to, &Limit::within(UNHURRIED), &mut |progress| {
            log.step(
                "rehearse",
                format!("{} of {}", text::bytes(progress.done), text::bytes(progress.total)),
            );
        })
    })?;
    let found = trial::database_files(making);
    let migrated = trial.migrate(making, Some(()), UNHURRIED);
    let pause = begun.elapsed();
    let result = unchanged(making, live, &schema_before).and(migrated).and_then(|()| {
        trial::refuse_strays(making, &found)?;
        sqlite::examine(&trial.file, u64::MAX, &Limit::within(UNHURRIED))?;
        if carry == Carry::Copy && sqlite::schema(&trial.file)? == schema_before {
            making.log.step("schema", "the migration left the tables as they were");
        }
        let environment =
            making.environment.with(variables(&trial.file)).with([("RECEIVER_REHEARSAL", "1".to_owned())]);
        making.stage(StageName::Check, &environment, UNHURRIED)?;
        rehearse_start(making, &environment)
    });
    trial::end(making, &trial)?;
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
        .caused_by(trial::unused(making)))
}

/// Begins a preview's data with a snapshot of its parent's: nobody there is held, or waits, or sees it.
fn seed(making: &mut Making, carry: Carry, from: &Path, own: &Path) -> Result<()> {
    let begun = Instant::now();
    let found = trial::database_files(making);
    let trial = trial::begin(making, carry, own, Begins::Seeded, |_, to| {
        sqlite::snapshot(from, to, &Limit::within(UNHURRIED), &mut |_| {})
    })?;
    trial.migrate(making, None, UNHURRIED)?;
    trial::end(making, &trial)?;
    trial::refuse_strays(making, &found)?;
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
        trial::begin(making, carry, own, Begins::Copied, |_, to| hold.copy_to(to, &limit, &mut |_| {}))?;
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
    trial::end(making, &trial)?;
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

/// What a version's opening costs, as the last one measured it; for a plan.
pub fn measured(stages: &[StageRun]) -> Option<f64> {
    stages.iter().find(|stage| stage.name == "carry").map(|stage| stage.seconds)
}
