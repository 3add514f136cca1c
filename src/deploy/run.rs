//! A deploy, from a job to its verdict. [`deploy`] reads as its own summary.

use std::time::Duration;

use super::adoption::attended::Old;
use super::beginning::Beginning;
use super::databases::{self, Passing};
use super::joblog::JobLog;
use super::look::{self, Look, Scene, Submodules};
use super::making::{Attempt, Making};
use super::opening::{self, Opening};
use super::plan::{Action, Data, SchemaChanged};
use super::queue::{Job, Options, Order, SchemaSaid};
use super::spare::{self, Spare};
use super::stop::Stopper;
use super::turn::{self, Turn};
use super::underway::Underway;
use super::verdict::Verdict;
use super::{doorway, exporting, processes, recovery, switch};
use crate::app::guard::Guard;
use crate::app::journal::Outcome;
use crate::app::settings::StageName;
use crate::app::{App, ReleaseId};
use crate::data::{Access, Limit};
use crate::schema::{Fingerprint, Pending};
use crate::serve::hold::Hold;
use crate::support::{Context, Error, Result, death};
use crate::vcs::Repository;

/// How an attempt ended that did not fail.
enum Ended {
    /// The release is live.
    Live {
        /// The release.
        id: ReleaseId,
        /// Whether a rollback from it would leave data behind.
        leaves_data: bool,
        /// What went wrong after the switch.
        after: Result<()>,
    },
    /// There was nothing to do.
    Skipped(Option<ReleaseId>, String),
    /// The framework says that something is pending: the schema changed after all.
    Pending,
}

/// Deploys what the job asks for.
pub fn deploy(guard: &mut Guard, job: &Job, log: &JobLog, underway: &mut Underway) -> Verdict {
    let app = guard.app().clone();
    let stopper = Stopper::new(&app);
    let not_live = |outcome, error: &Error| {
        Verdict::not_live(&app, crate::app::record::live(&app).ok().flatten().as_ref(), outcome, error)
    };
    let failed = |error: &Error| match stopper.reason() {
        Some(reason) => not_live(Outcome::Cancelled, &Error::new(reason)),
        None => not_live(Outcome::Failed, error),
    };
    let _turn = match turn::wait(&app, job, &stopper, log) {
        Ok(Turn::Ours(turn)) => turn,
        Ok(Turn::Overtaken) => {
            return not_live(Outcome::Superseded, &Error::new("a newer push took its place"));
        }
        Err(error) => return failed(&error),
    };
    let mut options = job.options.clone();
    loop {
        match attempt(guard, job, &options, log, underway, &stopper) {
            Ok(Ended::Live { id, leaves_data, after }) => {
                let mut verdict = Verdict::live(&id);
                verdict.notes.extend(address(&app));
                if underway.before.is_some() {
                    verdict = verdict.undo_by(&app, leaves_data);
                }
                return match after {
                    Ok(()) => verdict,
                    Err(error) => verdict.attention(&error),
                };
            }
            Ok(Ended::Skipped(live, why)) => return Verdict::skipped(live, &why),
            Ok(Ended::Pending) => {
                log.step("schema", "something is pending: the deploy begins again, in a version that opens");
                options.schema = Some(SchemaSaid::New);
            }
            Err(error) => return failed(&error),
        }
    }
}

/// Where the app of a branch is seen: who pushed the branch may never have heard of it.
fn address(app: &App) -> Option<String> {
    app.name().parent()?;
    let domain = look::server_settings(app).ok()?.domain?;
    Some(format!("url: http://{domain}/"))
}

/// One attempt. Whatever fails in it before the switch is undone, and what was live still is.
fn attempt(
    guard: &mut Guard,
    job: &Job,
    options: &Options,
    log: &JobLog,
    underway: &mut Underway,
    stopper: &Stopper,
) -> Result<Ended> {
    let app = guard.app().clone();
    stopper.check()?;
    let scene = Scene::read(&app)?;
    refuse_locked(&app, &scene)?;
    // Its manifest is read while the revision is looked at.
    let (look, spare) = std::thread::scope(|threads| {
        let spare = threads.spawn(|| spare::look(&app));
        (look(&app, job, options, &scene), spare.join().unwrap_or_default())
    });
    let look = look?;
    if look.plan.action == Action::Skip {
        return Ok(Ended::Skipped(scene.live, look.plan.reason));
    }
    announce(log, &look);
    let mut hold = None;
    let old = job.options.adopts.then(|| Old::of(&app));
    let attempt = Attempt { job, log, look: &look, scene: &scene, stopper, old: old.as_ref() };
    let made = make(guard, underway, attempt, spare, &mut hold);
    let ended = conclude(guard, underway, attempt, made);
    // The door is open again by now, whatever happened: those who were held go on.
    if let Some(hold) = hold {
        doorway::open(hold, log);
    }
    ended
}

/// What was made goes live, or is undone.
fn conclude(
    guard: &mut Guard,
    underway: &mut Underway,
    attempt: Attempt,
    made: Result<Made>,
) -> Result<Ended> {
    let app = guard.app().clone();
    let Attempt { job, log, stopper, .. } = attempt;
    match made {
        Ok(Made::Ready { id, leaves_data }) => {
            let after = go_live(guard, job, &id, log);
            Ok(Ended::Live { id, leaves_data, after })
        }
        Ok(Made::Pending) => {
            recovery::undo(
                guard,
                underway,
                "the framework says that something is pending: it is made again in a version that opens",
            )?;
            Ok(Ended::Pending)
        }
        Err(error) if is_live(&app, underway) => {
            let _ = doorway::open_link(&app);
            // Only what comes after the rename can fail here: its directory's sync.
            let id = underway.release().cloned().ok_or_else(|| Error::new("nothing was under way"))?;
            Ok(Ended::Live { id, leaves_data: false, after: Err(error) })
        }
        Err(error) => {
            let reason = stopper.reason().map_or_else(|| error.one_line(), str::to_owned);
            recovery::undo_or_remember(guard, underway, log, &reason)?;
            if let Some(old) = attempt.old {
                old.start(log);
            }
            Err(error)
        }
    }
}

fn is_live(app: &App, underway: &Underway) -> bool {
    underway.release().is_some()
        && crate::app::record::live(app).ok().flatten().as_ref() == underway.release()
}

fn refuse_locked(app: &App, scene: &Scene) -> Result<()> {
    let Some(why) = scene.history.locked() else { return Ok(()) };
    // The lock came with a restored journal: it is for what comes after the restore.
    if Beginning::read(app)?.is_some() {
        return Ok(());
    }
    Err(Error::new(format!("{} is locked: {why}", app.name()))
        .hint(format!("`receiver unlock {}` lets deploys through again", app.name())))
}

fn look(app: &App, job: &Job, options: &Options, scene: &Scene) -> Result<Look> {
    let revision = job.revision().ok_or_else(|| Error::new("this job deploys nothing"))?;
    let again = matches!(job.order, Order::Deploy { reconcile: false, .. });
    let repository = Repository::open(&app.repository())?;
    if !again && let Some(branch) = job.branch() {
        repository.refuse(branch, revision)?;
    }
    let look = look::at(
        app,
        &repository,
        scene,
        &look::Request { revision, options, again, submodules: Submodules::Fetch, unborn: None },
    )?;
    // The server's file may have been changed by hand.
    repository.limit_pushes(look.settings.limits.push_bytes)?;
    Ok(look)
}

fn announce(log: &JobLog, look: &Look) {
    if let Some(why) = exporting::refuse_names(look) {
        log.step("note", why);
    }
    log.step("schema", look.plan.schema_line());
    if let Data::Returned { from, to } = &look.plan.data {
        log.step(
            "database",
            format!(
                "{} comes back, which a rollback left, with what was written to {} since",
                to.name, from.name
            ),
        );
    }
}

/// A release that was made.
enum Made {
    /// It is live.
    Ready {
        /// The release.
        id: ReleaseId,
        /// Whether a rollback from it would leave data behind.
        leaves_data: bool,
    },
    /// The framework says that it belongs into a new version.
    Pending,
}

/// Makes the release, up to its seal. Nothing of it changes what is live.
fn make(
    guard: &mut Guard,
    underway: &mut Underway,
    attempt: Attempt,
    spare: Option<Spare>,
    hold: &mut Option<Hold>,
) -> Result<Made> {
    let Attempt { log, look, .. } = attempt;
    let mut making = Making::begin(guard, underway, attempt, hold)?;
    let opening = making.opening()?;
    making.export(spare)?;
    making.link_shared()?;
    making.carry_cache()?;
    opening.prepare(making.app())?;
    making.use_database(&opening)?;
    making.build()?;
    if let Some(old) = attempt.old {
        old.stop(attempt.stopper, log)?;
    }
    if is_pending(&mut making, look, &opening)? {
        return Ok(Made::Pending);
    }
    if look.plan.opens || matches!(look.plan.data, Data::Returned { .. }) {
        opening::open(&mut making, &opening)?;
    } else {
        let environment = making.environment.clone();
        making.stage(StageName::Check, &environment, Duration::MAX)?;
        refuse_pending(&making, look, &opening)?;
        death::point("checked");
        making.bring_up(&environment, &processes::before_the_switch(&look.settings))?;
    }
    making.stopper.check()?;
    attempt.old.map_or(Ok(()), Old::refuse_unattended)?;
    making.seal()?;
    let id = making.id().clone();
    switch::to(making.guard, &id)?;
    death::point("switched");
    doorway::open_link(making.app())?;
    if let Some(hold) = making.hold.take() {
        doorway::open(hold, log);
    }
    Ok(Made::Ready { id, leaves_data: making.leaves_data() })
}

/// Where files alone cannot tell: what the built release says of its schema.
fn is_pending(making: &mut Making, look: &Look, opening: &Opening) -> Result<bool> {
    let mut pending = false;
    if let Some(command) = &look.settings.schema.command {
        let mut fingerprint = look.fingerprint.clone();
        let output = making.schema_output(command)?;
        let hash =
            git2::Oid::hash_object(git2::ObjectType::Blob, &output).context(|| "cannot hash a schema")?;
        fingerprint.command_output = Some(hash.to_string());
        let before: Option<Fingerprint> =
            making.previous_schema().and_then(|schema| schema.clone().try_into().ok());
        pending = before.is_some_and(|before| before.command_output != fingerprint.command_output);
        making.set_schema(toml::Table::try_from(&fingerprint).context(|| "cannot write down the schema")?);
    }
    if look.plan.schema.changed != SchemaChanged::Ask {
        return Ok(false);
    }
    if look.settings.schema.command.is_some() || look.question.is_none() {
        return Ok(pending);
    }
    // Who does not know opens a version.
    Ok(ask(making, opening)? != Pending::Nothing)
}

/// Files that did not change say that the schema is the same; the framework, asked once more, has to agree.
fn refuse_pending(making: &Making, look: &Look, opening: &Opening) -> Result<()> {
    let agreed = look.plan.schema.changed != SchemaChanged::No || look.plan.schema_said;
    if agreed || !making.can_be_asked() || making.settings().stage(StageName::Syncdb).is_none() {
        return Ok(());
    }
    let Some(database) = &opening.database else { return Ok(()) };
    let live = databases::of(making.app(), database)?;
    if !live.has_reader() && live.size()? > SMALL {
        return Ok(());
    }
    if !matches!(ask(making, opening)?, Pending::Something(_)) {
        return Ok(());
    }
    let name = making.app().name();
    Err(Error::new("the framework says that migrations are pending, and no file of the schema changed").hint(format!(
        "`receiver deploy {name} -o schema=new` opens a version for them; `-o schema=same` goes live all the same"
    )))
}

/// How large a database may be, in bytes, to be copied for a mere question.
const SMALL: u64 = 64 << 20;

/// Asks the framework what is pending: of the live database, by a role that cannot write, or on a
/// copy that it may do with as it likes.
fn ask(making: &Making, opening: &Opening) -> Result<Pending> {
    let app = making.app();
    let unhurried = Duration::from_secs(3600);
    let Some(database) = &opening.database else {
        return making.pending(&making.environment, unhurried);
    };
    let live = databases::of(app, database)?;
    let pending = if live.has_reader() {
        let environment = making.environment.with_database(&*live, Access::Read)?;
        making.pending(&environment, unhurried)?
    } else {
        let copy = live.beside(Passing::Question.spot(app, making.version())?);
        live.snapshot(copy.spot(), &Limit::within(unhurried), &mut |_| {})?;
        let environment = making.environment.with_database(&*copy, Access::Write)?;
        let answer = making.pending(&environment, unhurried);
        databases::discard(app, &*copy)?;
        answer?
    };
    let said = match &pending {
        Pending::Nothing => "the framework says that nothing is pending".to_owned(),
        Pending::Something(said) => format!("the framework says that something is pending: {said}"),
        Pending::Unknown(why) => format!("the framework cannot be asked whether something is pending: {why}"),
    };
    making.log.step("schema", said);
    Ok(pending)
}

/// What comes after the rename: nothing of it can take the release back.
fn go_live(guard: &mut Guard, job: &Job, id: &ReleaseId, log: &JobLog) -> Result<()> {
    recovery::finish(guard, &job.by, id, false)?;
    processes::succeed(guard, &|line| log.write(line))
}
