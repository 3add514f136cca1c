//! Back to a release that was live before: a switch with no export and no build.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::crew::{Crew, Upbringing};
use super::crossing::{self, Crossing, Fresh};
use super::environment::Environment;
use super::joblog::{JobLog, Line};
use super::look::{self, Scene};
use super::opening;
use super::queue::Job;
use super::underway::{Step, Underway};
use super::verdict::Verdict;
use super::{databases, doorway, processes, recovery, switch};
use crate::app::guard::Guard;
use crate::app::journal::Outcome;
use crate::app::record::{self, Record};
use crate::app::{App, ReleaseId, Version};
use crate::data::way::{OnConflict, Refusal};
use crate::data::{Database, Limit};
use crate::serve::hold::Hold;
use crate::serve::start::Purpose;
use crate::support::{Error, Result, death};

/// What a rollback will do, decided before anything is done.
#[derive(Clone, Debug, Serialize)]
pub struct RollbackPlan {
    /// What is live now.
    pub from: ReleaseId,
    /// What will be.
    pub to: ReleaseId,
    /// Whether the database changes with it.
    pub crosses: bool,
    /// What comes along into the older database, as sentences.
    pub brings: Vec<String>,
    /// What stays behind in the newer database, as sentences.
    pub stays_behind: Vec<String>,
    /// Why what was written since cannot come along; `None` where it can, or where the database stays the same.
    pub hindrance: Option<String>,
}

/// How far a rollback goes for the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// What was written since is left behind.
    pub without_new_data: bool,
    /// Rows that the older database refuses are left behind, whatever the settings say.
    pub quarantine: bool,
}

/// How long a rollback waits for a lock, at least.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to count what would come along: nobody waits for it.
const COUNTING: Duration = Duration::from_secs(3600);

/// Where a rollback goes to.
#[derive(Clone, Debug)]
pub enum Target<'a> {
    /// The release that was live before.
    Before,
    /// This one.
    Release(&'a ReleaseId),
}

/// Finds the release that a person means: its id, or any part of its name that fits only one.
pub fn find(scene: &Scene, part: &str) -> Result<ReleaseId> {
    let complete = scene.releases.standing.iter().filter(|record| record.sealed.is_some());
    let shown = part.escape_default();
    let fits = |record: &&Record| {
        let id = record.id.to_string();
        id == part || (part.len() >= 3 && (id.contains(part) || record.revision.as_str().starts_with(part)))
    };
    let found: Vec<&ReleaseId> = complete.filter(fits).map(|record| &record.id).collect();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            Err(Error::usage(format!("no kept release is named '{shown}'"))
                .hint("`receiver list` shows them"))
        }
        many => {
            let names = many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(Error::usage(format!("'{shown}' fits several releases: {names}")))
        }
    }
}

/// The newest good release of a version.
pub fn last_of(scene: &Scene, version: Version) -> Result<ReleaseId> {
    let withdrawn = scene.history.withdrawn();
    let of_it = scene
        .releases
        .standing
        .iter()
        .filter(|record| record.id.version == version && record.sealed.is_some());
    let newest: Vec<&Record> = of_it.collect();
    let good = newest.iter().rev().find(|record| !withdrawn.contains(&record.id)).or(newest.last());
    good.map(|record| record.id.clone()).ok_or_else(|| {
        Error::usage(format!("version {version} has no release")).hint("`receiver list` shows the versions")
    })
}

/// Decides where a rollback goes. Order is the journal's: clocks and names play no part.
pub fn plan(app: &App, scene: &Scene, target: &Target) -> Result<RollbackPlan> {
    let Some(from) = scene.live.clone() else { return Err(Error::new("nothing is live yet")) };
    let to = match target {
        Target::Release(id) => (*id).clone(),
        Target::Before => {
            let withdrawn = scene.history.withdrawn();
            let mut before = scene.history.lives().into_iter().rev();
            let found = before
                .find(|id| **id != from && !withdrawn.contains(id) && scene.releases.sealed(id).is_some());
            let nothing = || {
                Error::new(format!("nothing was live before {from} that is still kept"))
                    .hint("`receiver list` shows what is kept")
            };
            found.cloned().ok_or_else(nothing)?
        }
    };
    if scene.releases.sealed(&to).is_none() {
        return Err(Error::usage(format!("{to} is not a complete release")));
    }
    let (old, new) = (scene.releases.database(&to), scene.releases.database(&from));
    let crosses = old != new && new.is_some();
    let mut plan = RollbackPlan {
        from: from.clone(),
        to: to.clone(),
        crosses,
        brings: Vec::new(),
        stays_behind: Vec::new(),
        hindrance: None,
    };
    match (&old, &new) {
        (Some(_), Some(_)) if crosses => plan.hindrance = crossing(app, scene, &plan)?.hindrance,
        (None, Some(new)) => {
            plan.hindrance = Some(format!(
                "receiver keeps no database for version {}; everything in {} stays there",
                to.version, new.name
            ));
        }
        _ => {}
    }
    Ok(plan)
}

/// The two databases of a rollback that changes it.
fn crossing(app: &App, scene: &Scene, plan: &RollbackPlan) -> Result<Crossing> {
    let gone = || Error::new("receiver keeps no database for both versions");
    let new = scene.releases.database(&plan.from).ok_or_else(gone)?;
    let old = scene.releases.database(&plan.to).ok_or_else(gone)?;
    // The newer version knows how its columns came to be.
    let record = scene.releases.sealed(&plan.from).ok_or_else(gone)?;
    let settings = look::settings_of(app, record)?.database;
    let down = crossing::expressions(&settings.map, |map| &map.down);
    Crossing::of(app, new, old, &down, settings.rollback_window)
}

/// Which tables have another number of rows in the newer database, a line each.
fn row_differences(old: &dyn Database, new: &dyn Database) -> Result<Vec<String>> {
    let limit = Limit::within(Duration::from_secs(30));
    let (old, new) = (old.rows(&limit)?, new.rows(&limit)?);
    let mut lines = Vec::new();
    for (table, rows) in &new {
        let shown = table.escape_debug();
        match old.get(table) {
            None => lines.push(format!("{shown}: a table of the newer version, with {rows} rows")),
            Some(before) if before != rows => {
                lines.push(format!("{shown}: {rows} rows in the newer, {before} in the older"))
            }
            Some(_) => {}
        }
    }
    Ok(lines)
}

impl RollbackPlan {
    /// Counts what would come along, and what would stay. Nobody waits for it.
    pub fn count(&mut self, app: &App, scene: &Scene, wish: Wish) -> Result<()> {
        let (old, new) = (scene.releases.database(&self.to), scene.releases.database(&self.from));
        let (Some(old), Some(new)) = (old, new) else {
            let kept = new.iter().map(|new| format!("everything in {} stays there", new.name));
            self.stays_behind.extend(kept);
            return Ok(());
        };
        if !self.crosses {
            return Ok(());
        }
        if self.hindrance.is_none() && !wish.without_new_data {
            let carried = crossing(app, scene, self)?.foresee(&Limit::within(COUNTING))?;
            self.brings = crossing::words_of_moved(&carried);
            self.stays_behind = crossing::words_of_left(&carried);
            return Ok(());
        }
        let left = scene.history.left_at(&self.to).map(|time| time.to_string());
        let left = left.unwrap_or_else(|| "it was left".to_owned());
        self.stays_behind.push(format!(
            "{} is as it was at {left}; what was written since stays in {}",
            old.name, new.name
        ));
        self.stays_behind.extend(row_differences(&*databases::of(app, old)?, &*databases::of(app, new)?)?);
        Ok(())
    }

    /// The plan in words, a line each.
    pub fn words(&self) -> Vec<String> {
        let mut lines = vec![format!("from {} to {}", self.from, self.to)];
        if !self.crosses {
            lines.push("the database stays the same: nothing is left behind".to_owned());
            return lines;
        }
        let list = |what: &[String]| what.iter().map(|line| format!("  {line}")).collect::<Vec<_>>();
        if let Some(why) = &self.hindrance {
            lines.push(format!("the database changes with it, and nothing comes along: {why}"));
        } else if self.brings.is_empty() {
            lines.push(
                "the database changes with it; nothing was written since that could come along".to_owned(),
            );
        } else {
            lines.push("the database changes with it; what comes along:".to_owned());
            lines.extend(list(&self.brings));
        }
        if !self.stays_behind.is_empty() {
            lines.push("what stays behind:".to_owned());
            lines.extend(list(&self.stays_behind));
        }
        lines
    }

    /// Where all new data would stay behind, somebody has to have said that it may.
    pub fn refuse_loss(&self, app: &App, wish: Wish) -> Result<()> {
        let Some(why) = self.hindrance.as_ref().filter(|_| self.crosses && !wish.without_new_data) else {
            return Ok(());
        };
        Err(Error::new(format!(
            "a rollback from version {} to {} leaves new data behind: {why}",
            self.from.version, self.to.version
        ))
        .hint(format!(
            "`receiver rollback {} {} --without-new-data` goes all the same",
            app.name(),
            self.to
        )))
    }
}

/// Goes back, as the job asks.
pub fn run(
    guard: &mut Guard,
    job: &Job,
    log: &JobLog,
    underway: &mut Underway,
    target: &Target,
    wish: Wish,
) -> Verdict {
    let app = guard.app().clone();
    match attempt(guard, job, log, underway, target, wish) {
        Ok((id, after)) => {
            let verdict = Verdict::live(&id);
            match after {
                Ok(()) => verdict,
                Err(error) => verdict.attention(&error),
            }
        }
        Err(error) => {
            let live = record::live(&app).ok().flatten();
            let mut verdict = Verdict::not_live(&app, live.as_ref(), Outcome::Failed, &error);
            let still = live.map_or_else(|| "nothing is live".to_owned(), |id| format!("still {id}"));
            verdict.line = format!(
                "NOT ROLLED BACK: {still}; {error}; `receiver list {}` shows what is kept",
                app.name()
            );
            verdict
        }
    }
}

type After = Result<()>;

fn attempt(
    guard: &mut Guard,
    job: &Job,
    log: &JobLog,
    underway: &mut Underway,
    target: &Target,
    wish: Wish,
) -> Result<(ReleaseId, After)> {
    let app = guard.app().clone();
    let scene = Scene::read(&app)?;
    let plan = plan(&app, &scene, target)?;
    if plan.from == plan.to {
        return Ok((plan.to, Ok(())));
    }
    plan.refuse_loss(&app, wish)?;
    log.begin(format!("{}: back from {} to {}", app.name(), plan.from, plan.to));
    underway.step = Step::Rollback { to: plan.to.clone(), crosses: plan.crosses };
    underway.write(guard)?;
    death::point("rollback-begun");
    let mut hold = None;
    let switched =
        prepare(&app, &scene, &plan, wish, log, &mut hold).and_then(|()| switch::to(guard, &plan.to));
    let failed = match switched {
        Err(error) if record::live(&app)?.as_ref() != Some(&plan.to) => Some(error),
        _ => None,
    };
    if failed.is_some() {
        recovery::undo_or_remember(guard, underway, log, "the rollback failed")?;
    } else {
        death::point("rollback-switched");
        doorway::open_link(&app)?;
    }
    if let Some(hold) = hold {
        doorway::open(hold, log);
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let after = recovery::finish(guard, &job.by, &plan.to, true)
        .and_then(|()| processes::succeed(guard, &|line| log.write(line)));
    Ok((plan.to, after))
}

/// Everything before the switch: the database where it changes, with requests held, and the processes.
fn prepare(
    app: &App,
    scene: &Scene,
    plan: &RollbackPlan,
    wish: Wish,
    log: &JobLog,
    hold: &mut Option<Hold>,
) -> Result<()> {
    let record =
        scene.releases.sealed(&plan.to).ok_or_else(|| Error::new(format!("{} has no record", plan.to)))?;
    let settings = look::settings_of(app, record)?;
    let environment = Environment::of_release(app, record)?;
    let report = |line: &Line| log.write(line);
    let start = |names: &[&str]| {
        let how =
            Upbringing { report: &report, stop: &|| Ok(()), most: Duration::MAX, settle: !plan.crosses };
        let mut crew = Crew::new(app, &plan.to, &settings, &environment, Purpose::Live);
        crew.bring_up(names, &how)?;
        crew.link()
    };
    if !plan.crosses {
        return start(&processes::before_the_switch(&settings));
    }
    // Requests wait for the start as well: in between neither database is anybody's.
    let most = settings.database.max_pause + settings.web.start_timeout;
    let names = processes::web_only(&settings);
    if scene.releases.database(&plan.to).is_some() {
        cross(app, scene, plan, wish, log, &mut || doorway::close(app, most, log, hold), &|| start(names))?;
    } else {
        leave(app, scene, plan, &mut || doorway::close(app, most, log, hold), &|| start(names))?;
    }
    match hold {
        Some(hold) => hold.check(),
        None => Ok(()),
    }
}

/// Goes back to a version that has no database of receiver's: the one that is left is fenced all the same.
fn leave(
    app: &App,
    scene: &Scene,
    plan: &RollbackPlan,
    close: &mut dyn FnMut() -> Result<()>,
    start: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let Some(left) = scene.releases.database(&plan.from) else {
        close()?;
        return start();
    };
    let left = databases::of(app, left)?;
    left.prepare_hold(&Limit::within(PATIENCE))?;
    close()?;
    let hold = left.hold(&Limit::within(PATIENCE))?;
    start()?;
    hold.check()?;
    hold.fence(&opening::retired(app, plan.from.version))
}

/// Carries what was written since along, where it can be and is wanted, and changes the database.
fn cross(
    app: &App,
    scene: &Scene,
    plan: &RollbackPlan,
    wish: Wish,
    log: &JobLog,
    close: &mut dyn FnMut() -> Result<()>,
    start: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let crossing = crossing(app, scene, plan)?;
    let record = scene.releases.sealed(&plan.from).ok_or_else(|| Error::new("nothing is live"))?;
    let settings = look::settings_of(app, record)?.database;
    let fresh = match crossing.hindrance {
        None if !wish.without_new_data => Fresh::Carried(if wish.quarantine {
            OnConflict::Quarantine
        } else {
            crossing::on_conflict(settings.on_conflict)
        }),
        _ => Fresh::LeftBehind,
    };
    let begun = Instant::now();
    // As long as a deploy would: a lock on very many tables takes a while.
    let patience = PATIENCE.max(settings.max_pause / 2);
    crossing.from.prepare_hold(&Limit::within(patience))?;
    close()?;
    let closed = Instant::now();
    let hold = crossing.from.hold(&Limit::within(patience))?;
    death::point("rollback-held");
    // However long that took, nobody waits longer for both than for the usual wait and max_pause.
    let left = (PATIENCE + settings.max_pause).saturating_sub(closed.elapsed());
    let limit = Limit::within(settings.max_pause.min(left));
    let carried = crossing
        .open(&*hold, fresh, !settings.rollback_window.is_zero(), &limit)
        .map_err(|error| refused(app, plan, error))?;
    death::point("rollback-opened");
    crossing::tell(log, &crossing, fresh, &carried, begun);
    start()?;
    hold.check()?;
    hold.fence(&opening::retired(app, plan.from.version))?;
    death::point("rollback-fenced");
    Ok(())
}

/// A row that the older database refuses is what is said, with the command that goes on without it.
fn refused(app: &App, plan: &RollbackPlan, error: Error) -> Error {
    let Some(refusal) = Refusal::of(&error) else { return error };
    let (name, to) = (app.name(), &plan.to);
    Error::new(refusal.to_string()).hint(format!(
        "`receiver rollback {name} {to} --quarantine` leaves rows behind that the older version cannot hold; \
         `receiver rollback {name} {to} --dry-run` counts them"
    ))
}
