//! A version opens: its database comes into being, and the one before is fenced.
//!
//! The order, and why it is safe: everything is rehearsed on a copy that nobody waits for; then writers are held, and
//! the data is copied once more, or was while nobody waited, and what changed since comes behind; it is proved and
//! migrated; then, in the transaction that held the writers, the old database is fenced. Up to the fence every failure
//! just lets the hold go. Between the fence and the switch writes are refused, never swallowed; recovery takes the
//! fence back.

use std::thread;
use std::time::{Duration, Instant};

use super::beginning::Beginning;
use super::crew::Upbringing;
use super::databases::{self, Passing};
use super::joblog::Line;
use super::look::Look;
use super::making::Making;
use super::plan::{self, Brought, Data};
use super::rehearsal::{self, UNHURRIED};
use super::trial::{self, Begins, Origin, Run, Trial};
use super::{crossing, doorway, processes, returning};
use crate::app::record::{DatabaseRecord, StageRun};
use crate::app::settings::{Carry, HoldBy, StageName};
use crate::app::{App, Version};
use crate::data::way::{Carried, Way};
use crate::data::{Database, Limit, Progress};
use crate::serve::start::Purpose;
use crate::support::{Context, Result, death, text};

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
    /// It begins with a snapshot of this database of the app that this one is a preview of.
    Seeded(Carry, DatabaseRecord),
    /// It begins with the dump that the app was made with.
    Brought(Brought),
    /// It is carried over from here.
    Carried(Carry, DatabaseRecord),
    /// It is that of a version which a rollback left, and gets what was written here since.
    Returned(DatabaseRecord),
}

impl Opening {
    /// What is to be done, as planned.
    pub fn of(app: &App, look: &Look) -> Result<Opening> {
        let engine = plan::engine_name(look.settings.database.engine);
        let own = || databases::record_for(app, engine, look.plan.version).map(Some);
        let (database, source) = match &look.plan.data {
            Data::None => (None, Source::Nothing),
            Data::Join(database) => (Some(database.clone()), Source::Nothing),
            Data::Fresh => (own()?, Source::Fresh),
            Data::Seeded(carry, from) => (own()?, Source::Seeded(*carry, from.clone())),
            Data::Brought(brought) => (Some(brought.database.clone()), Source::Brought(brought.clone())),
            Data::Carried(Carry::Shared, from) => {
                (Some(from.clone()), Source::Carried(Carry::Shared, from.clone()))
            }
            Data::Carried(carry, from) => (own()?, Source::Carried(*carry, from.clone())),
            Data::Returned { from, to } => (Some(to.clone()), Source::Returned(from.clone())),
        };
        Ok(Opening { database, source })
    }

    /// Whether it makes a database of its own.
    fn is_new(&self) -> bool {
        !matches!(self.source, Source::Nothing | Source::Returned(_) | Source::Carried(Carry::Shared, _))
    }

    /// Makes the still empty database that `build` and `assets` find.
    pub fn prepare(&self, app: &App) -> Result<()> {
        match &self.database {
            Some(database) if self.is_new() => databases::of(app, database)?.create(),
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
        (Source::Fresh, Some(database)) => begin_empty(making, databases::of(&app, database)?),
        (Source::Brought(brought), Some(database)) => {
            begin_with_data(making, brought.fits, databases::of(&app, database)?)
        }
        (Source::Seeded(carry, from), Some(database)) => {
            let from = databases::of_parent(&app, from)?;
            seed(making, *carry, &*from, databases::of(&app, database)?)
        }
        (Source::Carried(Carry::Shared, from), _) => {
            share(making, databases::of(&app, from)?)?;
            bring_up(making)
        }
        (Source::Carried(carry, from), Some(database)) => {
            let (live, own) = (databases::of(&app, from)?, databases::of(&app, database)?);
            if let Some(stays) = making.stays() {
                making.log.note(stays);
            }
            let foretold = rehearsal::of(making, *carry, &*live, &*own)?;
            let ahead = copies_ahead(making, *carry, &*live, foretold.copying)?;
            rehearsal::refuse_long_pause(making, foretold.pause(ahead))?;
            if ahead {
                copy_ahead(making, &*live, &*own)?;
            }
            carry_over(making, *carry, &*live, own, ahead)
        }
        (Source::Returned(from), Some(database)) => returning::to(making, from, database),
    }
}

/// The first version of all: syncdb makes it.
fn begin_empty(making: &mut Making, own: Box<dyn Database>) -> Result<()> {
    let found = trial::database_files(making);
    let trial = Trial { database: own, previous: None, begins: Begins::Empty };
    trial.migrate(making, Run::ForGood, UNHURRIED)?;
    trial::refuse_strays(making, &found)?;
    making.stage(StageName::Check, &making.environment.clone(), UNHURRIED)?;
    death::point("checked");
    trial.database.sync()?;
    bring_up(making)
}

/// The first release of an app that was restored or adopted: its data was brought along. The revision that it was
/// live with finds it as it was; any other has its syncdb run over it, as over a copy.
fn begin_with_data(making: &mut Making, fits: bool, own: Box<dyn Database>) -> Result<()> {
    let begun = Instant::now();
    let app = making.app().clone();
    let from =
        Beginning::read(&app)?.map_or_else(|| "what the app adopts".to_owned(), |beginning| beginning.from);
    let found = trial::database_files(making);
    let scratch = Passing::Loading.spot(&app, making.version())?;
    making.log.step("data", format!("from {from}"));
    own.load(&Beginning::dump(&app), &scratch, &Limit::within(UNHURRIED))?;
    making.log.timed("data", format!("{} is loaded", own.spot().name), begun);
    death::point("data-loaded");
    let trial = Trial { database: own, previous: None, begins: Begins::Seeded };
    if !fits {
        trial.migrate(making, Run::ForGood, UNHURRIED)?;
    }
    trial::refuse_strays(making, &found)?;
    making.stage(StageName::Check, &making.environment.clone(), UNHURRIED)?;
    death::point("checked");
    trial.database.sync()?;
    bring_up(making)
}

/// Starts the web process of a version that opens, and proves it. What else runs waits for the switch.
fn bring_up(making: &mut Making) -> Result<()> {
    let environment = making.environment.clone();
    making.bring_up(&environment, processes::web_only(making.settings()))
}

/// Whether everybody is disconnected for the copy.
pub(super) fn disconnects(making: &Making, carry: Carry, live: &dyn Database) -> bool {
    carry == Carry::Copy && making.settings().database.hold == HoldBy::Disconnect && live.disconnects()
}

/// What came from the version that a rollback left.
pub(super) struct Merged {
    /// Its database.
    left: String,
    carried: Carried,
}

/// Brings what the version that a rollback left alone holds: its tables and columns that the live one lacks.
pub(super) fn merge(
    making: &Making,
    carry: Carry,
    live: &dyn Database,
    own: &dyn Database,
    limit: &Limit,
) -> Result<Option<Merged>> {
    let Some(left) = making.merges().filter(|left| carry == Carry::Copy && left.engine == own.engine())
    else {
        return Ok(None);
    };
    let left = databases::of(making.app(), left)?;
    let way = Way::merge(&left.tables()?, &live.tables()?, &own.tables()?);
    let carried = own.merge(left.spot(), &way, limit)?;
    Ok(Some(Merged { left: left.spot().name.clone(), carried }))
}

fn tell_merged(making: &Making, Merged { left, carried }: &Merged) {
    for line in crossing::words_of_moved(carried) {
        making.log.step("merge", format!("from {left}: {line}"));
    }
    for line in crossing::words_of_left(carried) {
        making.log.note(format!("stays in {left}: {line}"));
    }
}

/// What is noted of a version's changes.
pub(super) enum Noted {
    /// Every one, so that a rollback can carry them back.
    All,
    /// Nothing: it is not wanted, or no other database can take them.
    Nothing,
    /// Not all of them, and why.
    NotAll(String),
}

/// Notes from before the first write which rows change.
pub(super) fn capture(
    making: &Making,
    carry: Carry,
    live: &dyn Database,
    own: &dyn Database,
    limit: &Limit,
) -> Result<Noted> {
    let wanted = !making.settings().database.rollback_window.is_zero();
    if !wanted || carry == Carry::Shared || live.engine() != own.engine() {
        return Ok(Noted::Nothing);
    }
    match own.capture(&live.spot().name, limit) {
        Ok(capture) if capture.is_whole() => Ok(Noted::All),
        Ok(capture) => Ok(Noted::NotAll(capture.gaps.join("; "))),
        Err(error) => {
            limit.check()?;
            Ok(Noted::NotAll(error.one_line()))
        }
    }
}

/// Says it where a rollback will leave data behind. Answers whether it will not.
fn tell_noted(making: &Making, noted: &Noted) -> bool {
    if let Noted::NotAll(why) = noted {
        making.log.note(format!("a rollback over this version will leave new data behind: {why}"));
    }
    matches!(noted, Noted::All)
}

/// Starts the web process on the version's own database, while requests are held: the rehearsal has
/// proved that it stays up, so that nobody waits for `settle`.
pub(super) fn start_held(making: &mut Making, most: Duration) -> Result<()> {
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

/// Begins a preview's data with a snapshot of its parent's: nobody there is held, or waits, or sees it.
fn seed(making: &mut Making, carry: Carry, from: &dyn Database, own: Box<dyn Database>) -> Result<()> {
    let begun = Instant::now();
    let found = trial::database_files(making);
    let origin = Origin { database: from, hold: None, ahead: false, limit: Limit::within(UNHURRIED) };
    let trial = trial::begin(making, carry, &origin, own, Begins::Seeded, &mut |_| {})?;
    trial.migrate(making, Run::ForGood, UNHURRIED)?;
    trial::end_previous(making.app(), &trial)?;
    trial::refuse_strays(making, &found)?;
    making.log.timed("data", format!("from a snapshot of {}; nobody was held", from.spot().name), begun);
    making.stage(StageName::Check, &making.environment.clone(), UNHURRIED)?;
    death::point("checked");
    trial.database.sync()?;
    bring_up(making)
}

/// Whether the data is copied before anybody waits, and only what changes meanwhile is brought under the hold: where the
/// rehearsal's copy took longer than `database.copy_ahead`.
fn copies_ahead(making: &Making, carry: Carry, live: &dyn Database, copying: Duration) -> Result<bool> {
    let wanted = carry == Carry::Copy && copying >= making.settings().database.copy_ahead;
    Ok(wanted && !disconnects(making, carry, live) && live.copies_ahead()?)
}

/// Copies it. Where that cannot be, neither could it under the hold: nobody is made to wait for that.
fn copy_ahead(making: &Making, live: &dyn Database, own: &dyn Database) -> Result<()> {
    let (begun, log) = (Instant::now(), making.log.clone());
    let mut tell = |progress: Progress| {
        log.step("copy", format!("{} of {}", text::bytes(progress.done), text::bytes(progress.total)));
    };
    live.copy_ahead(own.spot(), &Limit::within(UNHURRIED), &mut tell)?;
    log.timed("copy", "the data is copied; what changes meanwhile comes behind", begun);
    Ok(())
}

/// Holds the writers, carries the data over, migrates and proves it, and fences the old database.
fn carry_over(
    making: &mut Making,
    carry: Carry,
    live: &dyn Database,
    own: Box<dyn Database>,
    ahead: bool,
) -> Result<()> {
    let most = making.max_pause();
    live.prepare_hold(&Limit::within(most))?;
    making.stopper.check()?;
    making.stopper.pass();
    let limit = Limit::within(most);
    let begun = Instant::now();
    let app = making.app().clone();
    doorway::close(&app, most, &making.log, making.hold)?;
    let why = retired(making.app(), making.previous_version());
    let patience = Limit::within(most / 2);
    let hold = if disconnects(making, carry, live) {
        live.disconnect(&why, &patience)
    } else {
        live.hold(&patience)
    }?;
    death::point("held");
    let name = own.spot().name.clone();
    let origin = Origin { database: live, hold: Some(&*hold), ahead, limit };
    carry_held(making, carry, &origin, own).map_err(|error| {
        if limit.is_over() {
            error.hint("it took longer than in the rehearsal; try again, or give it a longer max_pause")
        } else {
            error
        }
    })?;
    hold.check()?;
    hold.fence(&why)?;
    death::point("fenced");
    making.log.timed("carry", format!("{} → {name}: writers held, none lost", live.spot().name), begun);
    making.ran("carry", begun);
    Ok(())
}

/// What is done while the writers are held: the copy, its proof, the migration, and the start of the web process.
fn carry_held(making: &mut Making, carry: Carry, origin: &Origin, own: Box<dyn Database>) -> Result<()> {
    let (live, limit) = (origin.database, origin.limit);
    let trial = trial::begin(making, carry, origin, own, Begins::Copied, &mut |_| {})?;
    death::point("carried");
    let own = &*trial.database;
    let broken = match carry {
        Carry::Copy => own.verify(live.spot(), &limit).or_else(|why| {
            if !origin.ahead {
                return Err(why);
            }
            origin.copy_again(making, own.spot(), &why)?;
            own.verify(live.spot(), &limit)
        })?,
        Carry::Empty | Carry::Shared => u64::MAX,
    };
    trial.migrate(making, Run::ForGood, limit.left())?;
    trial::end_previous(making.app(), &trial)?;
    if let Some(merged) = merge(making, carry, live, own, &limit)? {
        tell_merged(making, &merged);
    }
    let noted = capture(making, carry, live, own, &limit)?;
    making.captured = tell_noted(making, &noted);
    own.sync()?;
    death::point("migrated");
    examine_beside(own, broken, &limit, || start_held(making, limit.left()))?;
    if let Some(door) = making.hold.as_ref() {
        door.check()?;
    }
    let most = making.max_pause().as_secs_f64();
    limit.check().context(|| format!("writers were held for longer than {most:.1} s"))
}

/// Proves that a migrated database is sound while the web process starts on it: whoever waits waits for the longer of the
/// two. Answers how long the proof took, and what `start` answers.
pub(super) fn examine_beside<T>(
    own: &dyn Database,
    broken: u64,
    limit: &Limit,
    start: impl FnOnce() -> Result<T>,
) -> Result<(Duration, T)> {
    let examine = || {
        let begun = Instant::now();
        own.examine(broken, limit).map(|()| begun.elapsed())
    };
    thread::scope(|scope| {
        let examined = scope.spawn(examine);
        let started = start();
        // What is wrong with the database comes first: it may be why nothing starts.
        let examined = examined.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((examined, started?))
    })
}

/// What a fenced database says to who writes to it.
pub fn retired(app: &App, version: Version) -> String {
    format!("version {version} of {} is retired", app.name())
}

/// One database for all versions: rehearsed on a copy, then changed in place just before the switch.
fn share(making: &mut Making, live: Box<dyn Database>) -> Result<()> {
    let name = &live.spot().name;
    making.log.step(
        "database",
        format!("{name} is shared: its schema changes in place, and no rollback brings it back"),
    );
    rehearsal::of(making, Carry::Shared, &*live, &*live)?;
    making.stopper.pass();
    let trial = Trial { database: live, previous: None, begins: Begins::Copied };
    trial.migrate(making, Run::ForGood, UNHURRIED)
}

/// What a version's opening costs, as the last one measured it; for a plan.
pub fn measured(stages: &[StageRun]) -> Option<f64> {
    stages.iter().find(|stage| stage.name == "carry").map(|stage| stage.seconds)
}
