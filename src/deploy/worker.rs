//! The worker: takes the app's lock, mends what a death left, and does what waits, one job at a time.

use std::thread;
use std::time::{Duration, Instant};

use super::joblog::{self, JobLog};
use super::look::{self, Scene};
use super::queue::{self, Job, Order};
use super::rollback::{Target, Wish};
use super::underway::Underway;
use super::verdict::Verdict;
use super::{branches, metrics, notice, preview, processes, prune, recovery, rollback, run, waking};
use crate::app::guard::Guard;
use crate::app::journal::{Event, History, Outcome};
use crate::app::{App, Revision, record};
use crate::support::{Error, Result, death};
use crate::vcs::Repository;

/// Works for one app after the other; then sees to the branches that nobody looked at.
pub fn work_all(apps: &[App]) -> Result<()> {
    // What is wrong with one app is no other's business.
    let worked: Vec<Result<()>> = apps.iter().map(work).collect();
    for parent in apps.iter().filter(|app| app.name().parent().is_none()) {
        if let Err(error) = branches::reconcile(parent) {
            log::warn!("cannot see to the branches of {}: {}", parent.name(), error.one_line());
        }
    }
    worked.into_iter().collect()
}

/// How long a database server is waited for that is not there: after a boot it may be on its way still. Nobody holds the lock
/// meanwhile.
const AWAY: Duration = Duration::from_secs(300);

/// Does all that waits, and ends when nothing does.
///
/// # Errors
/// Where the app's state cannot be read or written; whoever follows a waiting job is told.
pub fn work(app: &App) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut guard = Guard::wait(app, "a worker", |_| {}).inspect_err(|error| tell_waiting(app, error))?;
        if app.user().is_some() {
            queue::woken(app)?;
        }
        match recovery::recover(&mut guard) {
            Err(error) if error.is_away() && begun.elapsed() < AWAY => {
                drop(guard);
                thread::sleep(Duration::from_secs(1));
                continue;
            }
            recovered => recovered.inspect_err(|error| tell_waiting(app, error))?,
        };
        let worked = drain(&mut guard).inspect_err(|error| tell_waiting(app, error));
        drop(guard);
        worked?;
        // Whoever queued a job while the lock was held may have seen a worker, and started none.
        if queue::waiting(app)?.is_empty() {
            break;
        }
    }
    // Nobody waits for this, and the lock is free: a next deploy may come in between.
    if let Err(error) = processes::drain_retired(app) {
        log::warn!("cannot end what was retired: {}", error.one_line());
    }
    prune::empty_trash(app);
    if let Err(error) = Repository::open(&app.repository()).and_then(|repository| repository.tidy()) {
        log::warn!("cannot tidy the repository: {}", error.one_line());
    }
    if app.user().is_some() {
        waking::ensure(app);
    }
    if let Err(error) = metrics::write(app) {
        log::warn!("cannot write the figures of {}: {}", app.name(), error.one_line());
    }
    Ok(())
}

/// Nobody may wait for a verdict that never comes.
fn tell_waiting(app: &App, error: &Error) {
    // What was interrupted is still to be undone, and begun again, once what that needs is there.
    let underway = if error.is_away() { Underway::read(app).ok().flatten() } else { None };
    let is_underway = |job: &Job| underway.as_ref().is_some_and(|underway| underway.job.id == job.id);
    let live = record::live(app).ok().flatten();
    let waiting = queue::waiting(app).unwrap_or_default();
    for job in waiting.into_iter().filter(|job| !is_underway(job)) {
        let verdict = Verdict::not_live(app, live.as_ref(), Outcome::Failed, error);
        if let Ok(log) = JobLog::open(app, &job.id) {
            say(&log, &verdict);
        }
        let _ = job.remove(app);
    }
}

fn drain(guard: &mut Guard) -> Result<()> {
    let app = guard.app().clone();
    let mut reconciled = false;
    loop {
        let jobs = queue::waiting(&app)?;
        if let Some(job) = next(guard, jobs)? {
            perform(guard, &job)?;
            continue;
        }
        if reconciled {
            return Ok(());
        }
        reconciled = true;
        if let Some(job) = lost_tip(&app)? {
            job.put(&app)?;
        }
    }
}

/// What is done next; what a newer push overtook gets its verdict on the way.
fn next(guard: &mut Guard, jobs: Vec<Job>) -> Result<Option<Job>> {
    let app = guard.app().clone();
    let repository = Repository::open(&app.repository())?;
    let choice = choose(jobs, |branch| repository.tip(branch).ok().flatten());
    for job in choice.superseded {
        let log = JobLog::open(&app, &job.id)?;
        journal_push(guard, &job)?;
        let live = record::live(&app)?;
        let why = Error::new("a newer push took its place");
        close(guard, &job, &log, &Verdict::not_live(&app, live.as_ref(), Outcome::Superseded, &why))?;
    }
    Ok(choice.next)
}

/// What is to be done with what waits.
#[derive(Debug)]
pub struct Choice {
    /// This now.
    pub next: Option<Job>,
    /// These never: a newer push took their place.
    pub superseded: Vec<Job>,
}

/// Decides what is done next. Pure but for the question what a branch's tip is.
///
/// Orders that are no deploys go first, then rollbacks. Of the pushes to a branch, the one that made
/// its present tip wins.
pub fn choose(jobs: Vec<Job>, tip: impl Fn(&str) -> Option<Revision>) -> Choice {
    let rank = |job: &Job| match job.order {
        Order::Cancel
        | Order::Lock { .. }
        | Order::Unlock
        | Order::RemovePreview { .. }
        | Order::Branch { .. } => 0,
        Order::Rollback { .. } => 1,
        Order::Push { .. } | Order::Deploy { .. } => 2,
    };
    let first = |rank_of: u8| jobs.iter().position(|job| rank(job) == rank_of);
    if let Some(at) = first(0).or_else(|| first(1)) {
        return Choice { next: jobs.into_iter().nth(at), superseded: Vec::new() };
    }
    // Later pushes come later in the queue: the last one that made the tip is the one.
    let winner = |branch: &str| {
        let tip = tip(branch);
        jobs.iter().rev().find(|job| {
            matches!(&job.order, Order::Push { branch: on, new, .. } if on == branch && Some(new) == tip.as_ref())
        })
    };
    let overtaken = |job: &Job| match &job.order {
        Order::Push { branch, .. } => winner(branch).is_none_or(|winner| winner.id != job.id),
        _ => false,
    };
    let marks: Vec<bool> = jobs.iter().map(overtaken).collect();
    let (mut next, mut superseded) = (None, Vec::new());
    for (job, overtaken) in jobs.into_iter().zip(marks) {
        if overtaken {
            superseded.push(job);
        } else if next.is_none() {
            next = Some(job);
        }
    }
    Choice { next, superseded }
}

/// The tip of the deployed branch, where there never was a verdict about it: its hook was lost.
fn lost_tip(app: &App) -> Result<Option<Job>> {
    let Ok(settings) = look::server_settings(app) else { return Ok(None) };
    let branch = settings.branch.as_str();
    let Some(tip) = Repository::open(&app.repository())?.tip(branch)? else { return Ok(None) };
    let scene = Scene::read(app)?;
    let live = scene.live_record(app)?.is_some_and(|live| live.revision == tip);
    if live || scene.history.locked().is_some() || scene.history.has_verdict(app, &tip, branch)? {
        return Ok(None);
    }
    let order = Order::Deploy { branch: branch.to_owned(), revision: tip, reconcile: true };
    Ok(Some(Job::new(order, "receiver")))
}

/// The tip of the deployed branch that was never deployed nor refused, for commands to speak of.
pub fn undeployed_tip(app: &App) -> Option<Revision> {
    lost_tip(app).ok().flatten().and_then(|job| job.revision().cloned())
}

fn perform(guard: &mut Guard, job: &Job) -> Result<()> {
    let app = guard.app().clone();
    let log = JobLog::open(&app, &job.id)?;
    // A verdict that was written before a death is not given twice.
    if joblog::end(&app, &job.id).is_some() {
        return job.remove(&app);
    }
    guard.doing(&format!("{} {}", describe(job), job.id))?;
    let mut underway = Underway::new(guard, job, record::live(&app).ok().flatten());
    if is_unfinished(&app) {
        // What only says or stops something does not have to wait for a database server.
        let deploys = matches!(job.order, Order::Push { .. } | Order::Deploy { .. } | Order::Rollback { .. });
        if deploys && let Err(error) = recovery::recover(guard) {
            let live = record::live(&app)?;
            return close(guard, job, &log, &Verdict::not_live(&app, live.as_ref(), Outcome::Failed, &error));
        }
    }
    if !is_unfinished(&app) {
        underway.write(guard)?;
    }
    death::point("job-taken");
    let verdict = match &job.order {
        Order::Push { .. } | Order::Deploy { .. } => {
            journal_push(guard, job)?;
            headline(&app, job, &log)?;
            run::deploy(guard, job, &log, &mut underway)
        }
        Order::Rollback { to, without_new_data, quarantine } => {
            let wish = Wish { without_new_data: *without_new_data, quarantine: *quarantine };
            let target = to.as_ref().map_or(Target::Before, Target::Release);
            rollback::run(guard, job, &log, &mut underway, &target, wish)
        }
        Order::Cancel => cancel_waiting(guard)?,
        Order::Lock { why } => {
            guard.append(Some(&job.by), Event::Lock { why: why.clone() })?;
            Verdict::done(format!("locked: {why}"))
        }
        Order::Unlock => {
            guard.append(Some(&job.by), Event::Unlock)?;
            Verdict::done("unlocked")
        }
        Order::RemovePreview { app, branch } => preview::perform(guard, &job.by, app, branch),
        Order::Branch { push } => branches::perform(guard, job, push, &log),
    };
    let deployed = verdict.outcome == Outcome::Live;
    close(guard, job, &log, &verdict)?;
    if deployed && matches!(job.order, Order::Push { .. } | Order::Deploy { .. }) {
        tidy(guard);
    }
    Ok(())
}

/// Whether an earlier job could not wholly be undone.
fn is_unfinished(app: &App) -> bool {
    matches!(Underway::read(app), Ok(Some(underway)) if underway.unfinished)
}

/// What a job does, in a few words.
pub fn describe(job: &Job) -> String {
    match &job.order {
        Order::Push { new, .. } => format!("the deploy of {}", new.short()),
        Order::Deploy { revision, .. } => format!("the deploy of {}", revision.short()),
        Order::Rollback { .. } => "a rollback".to_owned(),
        Order::Cancel => "a cancellation".to_owned(),
        Order::Lock { .. } => "a lock".to_owned(),
        Order::Unlock => "an unlock".to_owned(),
        Order::RemovePreview { app, .. } => format!("the removal of {app}"),
        Order::Branch { .. } => "the app of a branch".to_owned(),
    }
}

fn headline(app: &App, job: &Job, log: &JobLog) -> Result<()> {
    let repository = Repository::open(&app.repository())?;
    let subject = |revision: &Revision| repository.subject(revision).unwrap_or_default();
    let (branch, moved, revision) = match &job.order {
        Order::Push { branch, old, new, forced } => {
            let from = old.as_ref().map_or("new", Revision::short);
            let forced = if *forced { " (forced: commits were left behind)" } else { "" };
            (branch, format!("{from}..{}{forced}", new.short()), new)
        }
        Order::Deploy { branch, revision, reconcile } => {
            let why = if *reconcile { " (its push was lost)" } else { "" };
            (branch, format!("{}{why}", revision.short()), revision)
        }
        _ => return Ok(()),
    };
    log.begin(format!("{}: {branch} {moved} \"{}\"", app.name(), subject(revision)));
    Ok(())
}

fn journal_push(guard: &mut Guard, job: &Job) -> Result<()> {
    let Order::Push { branch, old, new, forced } = &job.order else { return Ok(()) };
    // Once for each push, however often it is begun.
    if job.deaths > 0 && History::has_push(guard.app(), &job.id)? {
        return Ok(());
    }
    let event = Event::Push {
        job: job.id.clone(),
        branch: branch.clone(),
        old: old.clone(),
        new: new.clone(),
        forced: *forced,
        options: job.options.words(),
    };
    // Nobody is told of it before its verdict.
    guard.note(Some(&job.by), event).map(drop)
}

/// The journal's word on a job that failed.
pub fn failed(job: &Job, why: &str) -> Event {
    Event::Verdict {
        job: job.id.clone(),
        outcome: Outcome::Failed,
        revision: job.revision().cloned(),
        branch: job.branch().map(str::to_owned),
        release: None,
        why: Some(why.to_owned()),
    }
}

/// Gives a job its verdict: to the journal, to who follows, and out of the queue.
pub fn close(guard: &mut Guard, job: &Job, log: &JobLog, verdict: &Verdict) -> Result<()> {
    let event = Event::Verdict {
        job: job.id.clone(),
        outcome: verdict.outcome,
        revision: job.revision().cloned(),
        branch: job.branch().map(str::to_owned),
        release: verdict.release.clone(),
        why: verdict.why.clone(),
    };
    guard.append(Some(&job.by), event)?;
    death::point("verdict-written");
    say(log, verdict);
    notice::of_verdict(guard.app(), job, verdict);
    job.remove(guard.app())?;
    death::point("job-removed");
    if is_unfinished(guard.app()) { Ok(()) } else { Underway::clear(guard) }
}

/// Says a verdict, to who follows.
pub fn say(log: &JobLog, verdict: &Verdict) {
    for note in &verdict.notes {
        log.note(note.clone());
    }
    log.end(verdict.line.clone(), verdict.code);
}

/// What waits is cancelled; what ran has ended already, since it looks for this order.
fn cancel_waiting(guard: &mut Guard) -> Result<Verdict> {
    let app = guard.app().clone();
    let mut cancelled = 0;
    for job in queue::waiting(&app)?.iter().filter(|job| job.revision().is_some()) {
        let log = JobLog::open(&app, &job.id)?;
        journal_push(guard, job)?;
        let live = record::live(&app)?;
        close(
            guard,
            job,
            &log,
            &Verdict::not_live(&app, live.as_ref(), Outcome::Cancelled, &Error::new("it was cancelled")),
        )?;
        cancelled += 1;
    }
    let ran = History::read_whole(&app)?
        .entries()
        .iter()
        .rev()
        .take(2)
        .any(|entry| matches!(&entry.event, Event::Verdict { outcome: Outcome::Cancelled, .. }));
    Ok(match (cancelled, ran) {
        (0, false) => Verdict::done("nothing runs or waits"),
        _ => Verdict::done("cancelled"),
    })
}

/// Prune's renames, still under the lock. What fails here changes nothing about the verdict.
fn tidy(guard: &mut Guard) {
    let keep = look::server_settings(guard.app()).map(|settings| settings.keep);
    if let Err(error) = keep.and_then(|keep| prune::run(guard, &keep)) {
        log::warn!("cannot prune: {}", error.one_line());
    }
    death::point("pruned");
}
