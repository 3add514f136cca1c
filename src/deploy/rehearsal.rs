//! The rehearsal: everything that the opening of a version goes through, once, on a copy, with nobody waiting. What fails
//! fails here, and how long requests will have to wait is known before they do.

use std::time::{Duration, Instant};

use super::crew::Upbringing;
use super::databases::{self, Passing};
use super::environment::Environment;
use super::joblog::Line;
use super::making::Making;
use super::trial::{self, Begins, Origin, Run};
use super::{opening, processes};
use crate::app::settings::{Carry, StageName};
use crate::data::{Access, Database, Limit, Progress, Schema};
use crate::serve::start::Purpose;
use crate::support::{Error, Result, death, text};

/// How long anything may take that nobody waits for.
pub const UNHURRIED: Duration = Duration::from_secs(24 * 3600);

/// How long requests would have waited.
pub struct Foretold {
    /// For the copy.
    pub copying: Duration,
    /// For its proof, the migration and the proof of that, the merge, the capture, the start of the web process, the hold itself and
    /// the fence.
    rest: Duration,
}

impl Foretold {
    /// How long they will wait, with a copy that is made ahead or under the hold.
    pub fn pause(&self, ahead: bool) -> Duration {
        if ahead { self.rest } else { self.copying + self.rest }
    }
}

/// Does everything once on a copy, with nobody waiting; answers how long requests would have waited.
///
/// `own` is on the server that the copy is made on.
pub fn of(making: &mut Making, carry: Carry, live: &dyn Database, own: &dyn Database) -> Result<Foretold> {
    let begun = Instant::now();
    let spot = Passing::Rehearsal.spot(making.app(), making.version())?;
    let schema_before = live.schema()?;
    let log = making.log.clone();
    let mut tell = |progress: Progress| {
        log.step("rehearse", format!("{} of {}", text::bytes(progress.done), text::bytes(progress.total)));
    };
    let origin = Origin { database: live, hold: None, ahead: false, limit: Limit::within(UNHURRIED) };
    let trial = trial::begin(making, carry, &origin, own.beside(spot), Begins::Copied, &mut tell)?;
    let copied = begun.elapsed();
    let found = trial::database_files(making);
    let migrated =
        prove_cost(carry, &*trial.database).and_then(|()| trial.migrate(making, Run::Rehearsal, UNHURRIED));
    let proved = begun.elapsed().saturating_sub(copied);
    let result = unchanged(making, live, &schema_before).and(migrated).and_then(|()| {
        trial::refuse_strays(making, &found)?;
        if carry == Carry::Copy && trial.database.schema()? == schema_before {
            making.log.step("schema", "the migration left the tables as they were");
        }
        let environment = making
            .environment
            .with_database(&*trial.database, Access::Write)?
            .with([("RECEIVER_REHEARSAL", "1".to_owned())]);
        making.stage(StageName::Check, &environment, UNHURRIED)?;
        let noted = merge_and_capture(making, carry, live, &*trial.database)?;
        let start = || start(making, &environment);
        let limit = Limit::within(UNHURRIED);
        let (examined, started) = opening::examine_beside(&*trial.database, u64::MAX, &limit, start)?;
        Ok(noted + examined.max(started) + hold_and_fence(live, &*trial.database)?)
    });
    let copying = result.as_ref().ok().map(|_| disconnect(making, carry, &*trial.database));
    trial::end(making.app(), &trial)?;
    let rest = result?;
    // Under a hold that disconnects the copy is made another way.
    let copying = copying.transpose()?.flatten().unwrap_or(copied);
    let size = live.size()?;
    making.log.timed("rehearse", format!("on a copy of {}, {}", live.spot().name, text::bytes(size)), begun);
    death::point("rehearsed");
    Ok(Foretold { copying, rest: proved + rest })
}

/// What a copy goes through after its migration, while requests wait. Answers how long it took.
fn merge_and_capture(
    making: &Making,
    carry: Carry,
    live: &dyn Database,
    copy: &dyn Database,
) -> Result<Duration> {
    let (begun, limit) = (Instant::now(), Limit::within(UNHURRIED));
    opening::merge(making, carry, live, copy, &limit)?;
    // Whatever hinders it is said when it counts.
    opening::capture(making, carry, live, copy, &limit).map(drop)?;
    Ok(begun.elapsed())
}

/// What the hold and the fence cost by themselves, with thousands of tables for instance: on a copy that has those of
/// `live`, and where nobody is in the way. Answers how long both took.
pub fn hold_and_fence(live: &dyn Database, copy: &dyn Database) -> Result<Duration> {
    if live.engine() != copy.engine() || live.spot() == copy.spot() {
        return Ok(Duration::ZERO);
    }
    let limit = Limit::within(UNHURRIED);
    copy.prepare_hold(&limit)?;
    let begun = Instant::now();
    copy.hold(&limit)?.fence("it is a rehearsal's")?;
    Ok(begun.elapsed())
}

/// What the copy of its files costs, where that is how the data is carried: of the rehearsal's own.
fn disconnect(making: &Making, carry: Carry, copy: &dyn Database) -> Result<Option<Duration>> {
    if !opening::disconnects(making, carry, copy) {
        return Ok(None);
    }
    // The rehearsal of the fence left it standing.
    copy.unfence()?;
    let begun = Instant::now();
    let limit = Limit::within(UNHURRIED);
    let files = copy.beside(Passing::Question.spot(making.app(), making.version())?);
    let copied = copy
        .disconnect("it is a rehearsal's", &limit)
        .and_then(|hold| hold.copy_to(files.spot(), &limit, &mut |_| {}));
    let took = begun.elapsed();
    databases::discard(making.app(), &*files)?;
    copied.map(|()| Some(took))
}

/// What it takes to prove a copy is part of the pause: the rehearsal's is compared with itself, as its original
/// has moved on meanwhile.
fn prove_cost(carry: Carry, copy: &dyn Database) -> Result<()> {
    if carry == Carry::Copy {
        copy.verify(copy.spot(), &Limit::within(UNHURRIED))?;
    }
    Ok(())
}

/// Starts the web process on the copy, proves that it stays up, and ends it. Answers how long it took
/// to be healthy: requests will wait for that, too.
pub fn start(making: &Making, environment: &Environment) -> Result<Duration> {
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

/// A rehearsal that changed the live database is told so first, whatever else went wrong in it.
fn unchanged(making: &Making, live: &dyn Database, before: &Schema) -> Result<()> {
    if live.schema()? == *before {
        return Ok(());
    }
    Err(Error::new("syncdb changed the live database: it has to use the one that it is given")
        .caused_by(trial::unused(making)))
}

/// Refuses to hold anybody for longer than `max_pause`.
pub fn refuse_long_pause(making: &Making, pause: Duration) -> Result<()> {
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
