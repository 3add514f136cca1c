//! What a death left is finished or undone, whatever state it is in.
//!
//! There is one question: does `current` point to what was being made? If it does, the switch
//! happened, and all that comes after it is done again; each step of it is harmless twice. If not,
//! everything before the switch is undone, in an order that may itself be interrupted anywhere.

use std::collections::BTreeSet;
use std::path::Path;

use super::joblog::{self, JobLog};
use super::look::Scene;
use super::queue::{Job, Order};
use super::switch;
use super::underway::{Step, Underway};
use super::verdict::Verdict;
use super::worker;
use super::{adoption, beginning, databases, doorway, hand, opening, processes, spare, stage};
use crate::app::guard::Guard;
use crate::app::journal::{Event, History, Outcome};
use crate::app::record::{self, Record, Releases};
use crate::app::{App, ReleaseId, Version};
use crate::data::Database;
use crate::support::{Error, Result, death, files};
use crate::vcs::Repository;

/// Finishes or undoes what a dead worker left, and sweeps up after it. Says what was done.
pub fn recover(guard: &mut Guard) -> Result<Vec<String>> {
    let app = guard.app().clone();
    let mut told: Vec<String> = guard.take_told().into_iter().collect();
    match Underway::read(&app) {
        Ok(Some(underway)) => told.push(resume(guard, underway)?),
        Ok(None) => {}
        Err(error)
            if files::read_text(&app.underway())
                .is_ok_and(|text| text.is_some_and(|text| is_newer(&text))) =>
        {
            return Err(error);
        }
        Err(error) => {
            let aside = app.state(&format!("underway.damaged-{}", guard.next_seq()));
            files::move_new(&app.underway(), &aside)?;
            // Nobody can tell any more whether it stood between fence and switch.
            unfence_live(&app)?;
            told.push(format!("{}; it lies beside its place now", error.one_line()));
        }
    }
    told.extend(sweep(guard)?);
    for what in &told {
        guard.append(None, Event::Recover { what: what.clone() })?;
    }
    Ok(told)
}

fn is_newer(text: &str) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
    value
        .and_then(|value| value.get("format")?.as_u64())
        .is_some_and(|format| format > u64::from(crate::app::layout::FORMAT))
}

/// What recovery would do, for `doctor`: nothing is changed.
pub fn foresee(app: &App) -> Result<Vec<String>> {
    let mut told = Vec::new();
    if let Some(underway) = Underway::read(app)? {
        let live = record::live(app)?;
        told.push(match (&underway.step, underway.goal()) {
            _ if underway.unfinished => {
                format!("{} had failed, and could not wholly be undone: it is tried again", underway.job.id)
            }
            (_, Some(goal)) if live.as_ref() == Some(goal) => {
                format!("a worker died after the switch to {goal}: it will be finished")
            }
            (Step::Taken, _) | (_, None) => {
                "a worker died before it did anything: its job will be begun again".to_owned()
            }
            (_, Some(goal)) => format!("a worker died before the switch to {goal}: it will be undone"),
        });
    }
    let releases = Releases::read(app)?;
    let unsealed = releases.standing.iter().filter(|record| record.sealed.is_none());
    told.extend(unsealed.map(|record| format!("{} is not complete: it will be removed", record.id)));
    Ok(told)
}

fn resume(guard: &mut Guard, underway: Underway) -> Result<String> {
    let app = guard.app().clone();
    let job = underway.job.clone();
    let log = JobLog::open(&app, &job.id)?;
    if underway.unfinished {
        undo(guard, &underway, "it failed")?;
        job.remove(&app)?;
        Underway::clear(guard)?;
        return Ok(format!("{} had failed, and the rest of it is undone now", job.id));
    }
    if let Some(verdict) = Verdict::written(&app, &job.id)? {
        if joblog::end(&app, &job.id).is_none() {
            worker::say(&log, &verdict);
        }
        job.remove(&app)?;
        Underway::clear(guard)?;
        return Ok(format!("a worker died after the verdict on {}: nothing was left to do", job.id));
    }
    let goal = underway.goal().cloned();
    if let Some(goal) = goal
        && record::live(&app)?.as_ref() == Some(&goal)
    {
        log.step("recover", format!("the worker died after the switch to {goal}: finished now"));
        let rollback = matches!(underway.step, Step::Rollback { .. });
        finish(guard, &job.by, &goal, rollback)?;
        let verdict = match processes::succeed(guard, &|line| log.write(line)) {
            Ok(()) => Verdict::live(&goal),
            Err(error) => Verdict::live(&goal).attention(&error),
        };
        worker::close(guard, &job, &log, &verdict)?;
        return Ok(format!("a worker died after the switch to {goal}: finished"));
    }
    undo(guard, &underway, "the worker died")?;
    if let Some((line, _)) = joblog::end(&app, &job.id) {
        // The pusher was told, and the journal could not be written: it is written now.
        let event = worker::failed(&job, &line);
        guard.append(Some(&job.by), event)?;
        job.remove(&app)?;
        Underway::clear(guard)?;
        return Ok(format!("{} had failed, and the journal did not say so: undone", job.id));
    }
    let what = underway.release().map_or_else(|| job.id.clone(), ToString::to_string);
    if begin_again(&app, &job)? {
        let mut job = job;
        job.deaths += 1;
        job.put(&app)?;
        Underway::clear(guard)?;
        log.step("recover", "the worker died; what it had done is undone, and it begins again");
        return Ok(format!("a worker died in {what}: undone, and begun again"));
    }
    let live = record::live(&app)?;
    let why = if job.deaths > 0 { "the worker died for the second time" } else { "the worker died" };
    let verdict = Verdict::not_live(&app, live.as_ref(), Outcome::Failed, &Error::new(why));
    worker::close(guard, &job, &log, &verdict)?;
    Ok(format!("a worker died in {what}: undone"))
}

/// Once more, if nobody overtook it; a second death is its verdict.
fn begin_again(app: &App, job: &Job) -> Result<bool> {
    if job.deaths > 0 {
        return Ok(false);
    }
    Ok(match &job.order {
        Order::Push { branch, new, .. } => {
            Repository::open(&app.repository())?.tip(branch)?.as_ref() == Some(new)
        }
        _ => true,
    })
}

/// All that comes after the switch to a release; harmless when done again.
pub fn finish(guard: &mut Guard, by: &str, id: &ReleaseId, rollback: bool) -> Result<()> {
    let app = guard.app().clone();
    let underway = Underway::read(&app)?;
    doorway::open_link(&app)?;
    let adopts = underway.as_ref().is_some_and(|underway| underway.job.options.adopts);
    let (since, before) =
        underway.map_or((guard.next_seq(), None), |underway| (underway.seq, underway.before));
    let history = History::read_since(&app, since)?;
    let told = |history: &History, wanted: &dyn Fn(&Event) -> bool| {
        history.entries().iter().any(|entry| entry.seq >= since && wanted(&entry.event))
    };
    if rollback {
        let left = before.clone().filter(|before| before != id);
        if let Some(left) = &left
            && !told(&history, &|event| matches!(event, Event::Withdraw { release } if release == left))
        {
            guard.append(Some(by), Event::Withdraw { release: left.clone() })?;
        }
        let scene = Scene::read(&app)?;
        for version in BTreeSet::from([id.version, left.as_ref().unwrap_or(id).version]) {
            switch::mark_last(guard, version, newest_good(&scene, version, id))?;
        }
    } else {
        switch::mark_last(guard, id.version, Some(id))?;
    }
    death::point("last-moved");
    if !told(&history, &|event| matches!(event, Event::Live { release, .. } if release == id)) {
        // Nobody is told of it before the verdict.
        guard.note(Some(by), Event::Live { release: id.clone(), before: before.clone(), rollback })?;
    }
    death::point("journaled");
    beginning::forget(&app)?;
    if adopts {
        adoption::finish(&app)?;
    }
    forget_copy(&app, before.filter(|before| before.version != id.version));
    // Events of a database come disabled in every copy: they are for the live one.
    match database_of(&app, id)? {
        Some(database) => database.begin_events(),
        None => Ok(()),
    }
}

/// Nothing is copied any more from what was live. Where what noted its changes cannot be taken away now, it does no harm, and
/// goes when that database is live again.
fn forget_copy(app: &App, before: Option<ReleaseId>) {
    let forget = || -> Result<()> {
        let Some(before) = before else { return Ok(()) };
        match database_of(app, &before)? {
            Some(database) if database.exists()? => database.forget_copy(),
            _ => Ok(()),
        }
    };
    if let Err(error) = forget() {
        log::warn!("what changed for a copy is still noted: {}", error.one_line());
    }
}

/// The newest release of a version that no rollback left; what is live now is left no longer.
fn newest_good<'a>(scene: &'a Scene, version: Version, live: &ReleaseId) -> Option<&'a ReleaseId> {
    let withdrawn = scene.history.withdrawn();
    let good = |record: &&Record| {
        record.id.version == version
            && record.sealed.is_some()
            && (record.id == *live || !withdrawn.contains(&record.id))
    };
    scene.releases.standing.iter().rev().find(good).map(|record| &record.id)
}

/// Undoes what failed; what cannot be undone now, as the database server is away, is tried again by whatever
/// writes next.
pub fn undo_or_remember(guard: &mut Guard, underway: &mut Underway, log: &JobLog, why: &str) -> Result<()> {
    let Err(error) = undo(guard, underway, why) else { return Ok(()) };
    underway.unfinished = true;
    underway.write(guard)?;
    log.note(format!(
        "not all of it could be undone: {}; the next command that writes tries again",
        error.one_line()
    ));
    Ok(())
}

/// Undoes all that was done before a switch that did not happen. Each step is harmless when done
/// again, and none touches what is live but to take its fence back. All are tried; the first error is told.
pub fn undo(guard: &mut Guard, underway: &Underway, why: &str) -> Result<()> {
    let app = guard.app().clone();
    let back = unfence_live(&app).and(doorway::open_link(&app));
    let undone = match &underway.step {
        Step::Taken => Ok(()),
        Step::Rollback { to, crosses } => {
            let ended = processes::end_all_of(&app, to);
            ended.and(if *crosses { fence_again(&app, to) } else { Ok(()) })
        }
        Step::Release { id, opens, returns } => {
            let fenced = if *returns { fence_again(&app, id) } else { Ok(()) };
            fenced.and(discard_release(guard, id, *opens, why))
        }
    };
    back.and(undone)
}

/// What is live takes writes.
fn unfence_live(app: &App) -> Result<()> {
    let Some(live) = record::live(app)? else { return Ok(()) };
    let Some(database) = database_of(app, &live)? else { return Ok(()) };
    if database.exists()? { database.unfence() } else { Ok(()) }
}

/// The target of a rollback that did not happen is retired still.
fn fence_again(app: &App, to: &ReleaseId) -> Result<()> {
    let live = record::live(app)?.map(|live| database_of(app, &live)).transpose()?.flatten();
    match database_of(app, to)? {
        Some(database) if live.is_none_or(|live| live.spot() != database.spot()) => {
            let limit = crate::data::Limit::within(std::time::Duration::from_secs(10));
            // To take writes it had lost what a fence is made of.
            database.prepare_hold(&limit)?;
            database.hold(&limit)?.fence(&opening::retired(app, to.version))
        }
        _ => Ok(()),
    }
}

fn database_of(app: &App, id: &ReleaseId) -> Result<Option<Box<dyn Database>>> {
    let record = match Record::read(&app.record(id))? {
        Some(record) => Some(record),
        None => Record::read(&app.failed_record(&id.name))?,
    };
    record.map_or(Ok(None), |record| databases::of_release(app, &record))
}

fn discard_release(guard: &mut Guard, id: &ReleaseId, opens: bool, why: &str) -> Result<()> {
    let app = guard.app().clone();
    processes::end_all_of(&app, id)?;
    stage::end_orphans(&app.release(id));
    // The version that it opened is its alone: no other release of it can be complete.
    let alone = opens
        && !Releases::read(&app)?
            .standing
            .iter()
            .any(|other| other.id.version == id.version && other.sealed.is_some() && other.id != *id);
    let record = Record::read(&app.record(id)).ok().flatten();
    let dropped = databases::discard_all_of(&app, id.version, alone);
    // A directory that is another's cannot be moved.
    hand::take_back_or_remove(&app, id)?;
    spare::retire(guard, id)?;
    match record {
        Some(mut record) => guard.fail(&mut record, why)?,
        None => files::remove_file(&app.record(id))?,
    }
    Repository::open(&app.repository())?.release(&app.hold_name(&id.name))?;
    sweep_version(&app, id.version)?;
    if alone {
        files::remove_file(&app.last(id.version))?;
        files::remove_empty_directory(&app.version(id.version))?;
    }
    dropped
}

/// What no account of what was under way tells of: releases that were never sealed, and files that
/// were being prepared.
fn sweep(guard: &mut Guard) -> Result<Vec<String>> {
    let app = guard.app().clone();
    let mut told = Vec::new();
    let scene = Scene::read(&app);
    let Ok(scene) = scene else { return Ok(told) };
    let unsealed: Vec<&Record> =
        scene.releases.standing.iter().filter(|record| record.sealed.is_none()).collect();
    for record in unsealed {
        if scene.live.as_ref() == Some(&record.id) {
            return Err(Error::new(format!("the record of the live release {} is not sealed", record.id))
                .hint("it was changed by hand: put it back as it was"));
        }
        discard_release(guard, &record.id, record.opens, "the worker died")?;
        told.push(format!("{} was not complete: removed", record.id));
    }
    spare::sweep(guard, &|name| {
        scene
            .releases
            .standing
            .iter()
            .any(|record| record.sealed.is_some() && record.id.name.as_str() == name)
    })?;
    processes::end_rehearsals(&app)?;
    for place in [app.directory().to_owned(), app.directory().join("receiver"), app.queue(), app.failed()] {
        // A hook that lives may be preparing its job just now.
        sweep_prepared(&place, &|pid| Path::new("/proc").join(pid).exists())?;
    }
    for version in record::versions(&app)? {
        sweep_version(&app, version)?;
    }
    Ok(told)
}

/// What was being prepared in a version's directory: only who holds the app's lock does that.
fn sweep_version(app: &App, version: Version) -> Result<()> {
    sweep_prepared(&app.version(version), &|_| false)
}

fn sweep_prepared(place: &Path, lives: &dyn Fn(&str) -> bool) -> Result<()> {
    for name in files::names_in(place)? {
        let Some(rest) = name.strip_prefix(files::TEMPORARY) else { continue };
        if !lives(rest.split('-').next().unwrap_or_default()) {
            files::remove_file(&place.join(name))?;
        }
    }
    Ok(())
}
