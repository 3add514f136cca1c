//! A version that a rollback left is live again: the schema that is pushed is its own.
//!
//! Its database is there, as the rollback left it. What was written to the live one since is carried into it
//! by the keys that were noted, and everything that a version which opens goes through is gone through here.

use std::time::{Duration, Instant};

use super::crossing::{self, Crossing, Fresh};
use super::databases::Passing;
use super::environment::Environment;
use super::making::Making;
use super::opening;
use super::rehearsal::{self, UNHURRIED};
use super::{databases, doorway};
use crate::app::App;
use crate::app::record::DatabaseRecord;
use crate::app::settings::{OnConflict, StageName};
use crate::data::way::{Carried, Refusal};
use crate::data::{Access, Database, Limit};
use crate::support::{Context, Error, Result, death, text};

/// Carries what changed since from the live database into the one that was left, and retires the live one.
pub fn to(making: &mut Making, from: &DatabaseRecord, to: &DatabaseRecord) -> Result<()> {
    let app = making.app().clone();
    let settings = making.settings().database.clone();
    let up = crossing::expressions(&settings.map, |map| &map.up);
    let crossing = Crossing::of(&app, from, to, &up, settings.rollback_window)?;
    if let Some(why) = &crossing.hindrance {
        return Err(Error::new(format!("version {} cannot be live again: {why}", making.version()))
            .hint(format!("`receiver deploy {} -o schema=new` opens a new version", app.name())));
    }
    let pause = rehearse(making, &crossing)?;
    rehearsal::refuse_long_pause(making, pause)?;
    let most = making.max_pause();
    crossing.from.prepare_hold(&Limit::within(most))?;
    making.stopper.check()?;
    making.stopper.pass();
    let limit = Limit::within(most);
    let begun = Instant::now();
    doorway::close(&app, most, &making.log, making.hold)?;
    let hold = crossing.from.hold(&Limit::within(most / 2))?;
    death::point("held");
    let fresh = Fresh::Carried(crossing::on_conflict(settings.on_conflict));
    let carried = crossing.open(&*hold, fresh, true, &limit).map_err(|error| refused(&app, error))?;
    death::point("carried");
    opening::start_held(making, most.saturating_sub(begun.elapsed()))?;
    if let Some(door) = making.hold.as_ref() {
        door.check()?;
    }
    limit.check().context(|| format!("writers were held for longer than {:.1} s", most.as_secs_f64()))?;
    hold.check()?;
    hold.fence(&opening::retired(&app, making.previous_version()))?;
    making.captured = true;
    death::point("fenced");
    crossing::tell(&making.log, &crossing, fresh, &carried, begun);
    making.ran("carry", begun);
    Ok(())
}

/// A row that the version which was left refuses is what is said, with the command that goes on without it.
fn refused(app: &App, error: Error) -> Error {
    let Some(refusal) = Refusal::of(&error) else { return error };
    Error::new(refusal.to_string()).hint(quarantine(app))
}

fn quarantine(app: &App) -> String {
    format!(
        "`receiver deploy {0} -o schema=new` opens a new version for all of them; `receiver config {0} \
         database.on_conflict quarantine` leaves such rows behind",
        app.name()
    )
}

/// Does on a copy what comes after the rows, while requests wait. Answers how long it took.
fn try_the_rest(
    making: &Making,
    crossing: &Crossing,
    copy: &dyn Database,
    environment: &Environment,
) -> Result<Duration> {
    let begun = Instant::now();
    copy.capture(&crossing.from.spot().name, &Limit::within(UNHURRIED))?;
    let captured = begun.elapsed();
    let started = rehearsal::start(making, environment)?;
    Ok(captured + started + rehearsal::hold_and_fence(&*crossing.from, copy)?)
}

/// The first row that would be refused: its table, its key, and why.
fn first_refused(foreseen: &Carried) -> Option<(&str, &str, &str)> {
    let (table, refused) = foreseen.refused.iter().next()?;
    refused.first.first().map(|(key, why)| (table.as_str(), key.as_str(), why.as_str()))
}

/// Counts what will be carried, and starts the web process on a copy, with nobody waiting. Answers how long
/// requests would have waited.
fn rehearse(making: &mut Making, crossing: &Crossing) -> Result<Duration> {
    let begun = Instant::now();
    let foreseen = crossing.foresee(&Limit::within(UNHURRIED))?;
    let counted = begun.elapsed();
    let aborts = making.settings().database.on_conflict == OnConflict::Abort;
    if let Some((table, key, why)) = first_refused(&foreseen).filter(|_| aborts) {
        let refused = format!("the row of table '{table}' with {key} is refused: {why}");
        return Err(Error::new(text::printable(&refused)).hint(quarantine(making.app())));
    }
    let copy = crossing.to.beside(Passing::Rehearsal.spot(making.app(), making.version())?);
    crossing.to.snapshot(copy.spot(), &Limit::within(UNHURRIED), &mut |_| {})?;
    let environment = making
        .environment
        .with_database(&*copy, Access::Write)?
        .with([("RECEIVER_REHEARSAL", "1".to_owned())]);
    let tried = making
        .stage(StageName::Check, &environment, UNHURRIED)
        .and_then(|()| try_the_rest(making, crossing, &*copy, &environment));
    databases::discard(making.app(), &*copy)?;
    let pause = counted + tried?;
    making.log.timed("rehearse", format!("on a copy of {}", crossing.to.spot().name), begun);
    death::point("rehearsed");
    Ok(pause)
}
