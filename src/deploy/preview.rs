//! The end of a preview: its branch is gone, and so is all of it, data too.
//!
//! It leaves by one rename, into its parent's trash, under both locks: the parent's, which decides, and its
//! own, which nobody who works there has then. Up to that rename it is there wholly; a death on the way
//! is no matter, since the order stays in the parent's queue until its verdict, and each step of it is
//! harmless when done again. Where the preview has a user of its own the rename is root's, who takes the user back after it.

use std::time::{Duration, Instant};

use super::queue::{self, Job, Order};
use super::underway::Underway;
use super::verdict::Verdict;
use super::worker;
use super::{databases, hand, processes, site, stage};
use super::{joblog::JobLog, look};
use crate::app::guard::{self, Guard};
use crate::app::journal::{Event, Outcome};
use crate::app::{App, AppName};
use crate::support::{Error, Result, clock, death, files};
use crate::vcs::Repository;

/// How long the end of what is done in a preview is waited for.
const MOST: Duration = Duration::from_secs(120);

/// The previews whose branch is gone. None where the app's own branch is not there either: then it is the
/// repository that is damaged.
pub fn orphans(parent: &App) -> Result<Vec<App>> {
    let apps = parent.branch_apps()?;
    if !apps.iter().any(|(_, lineage)| lineage.preview) {
        return Ok(Vec::new());
    }
    let repository = Repository::open(&parent.repository())?;
    if repository.tip(look::server_settings(parent)?.branch.as_str())?.is_none() {
        return Ok(Vec::new());
    }
    let mut orphans = Vec::new();
    for (app, lineage) in apps {
        if lineage.preview && repository.tip(&lineage.branch)?.is_none() {
            orphans.push(app);
        }
    }
    Ok(orphans)
}

/// Carries out the order to remove the preview of a branch that a push deleted.
pub fn perform(guard: &mut Guard, by: &str, name: &AppName, branch: &str) -> Verdict {
    let app = guard.app().sibling(name);
    match remove(guard, by, &app, branch) {
        Ok(true) => Verdict::done(format!("removed: {name} with its data, since {branch} was deleted")),
        Ok(false) => Verdict::done(format!("{name} stays: {branch} is there again")),
        Err(error) => Verdict {
            outcome: Outcome::Failed,
            release: None,
            why: Some(error.one_line()),
            notes: error.innermost_hint().map(|hint| format!("hint: {hint}")).into_iter().collect(),
            line: format!(
                "NOT REMOVED: {name}; {}; `receiver prune {}` tries again",
                error.one_line(),
                guard.app().name()
            ),
            code: 1,
        },
    }
}

/// Removes previews whose branch is gone, but for those that somebody works on: the next prune finds them.
/// Answers which went.
pub fn prune(guard: &mut Guard, orphans: Vec<AppName>) -> Result<Vec<AppName>> {
    let mut gone = Vec::new();
    for name in orphans {
        let app = guard.app().sibling(&name);
        let Ok(Some(lineage)) = app.lineage() else { continue };
        if guard::holder(&app).is_none() && remove(guard, "receiver", &app, &lineage.branch)? {
            gone.push(name);
        }
    }
    Ok(gone)
}

/// Removes a preview, under its parent's lock. Answers `false` where its branch is there (again).
fn remove(guard: &mut Guard, by: &str, app: &App, branch: &str) -> Result<bool> {
    let parent = guard.app().clone();
    let repository = Repository::open(&parent.repository())?;
    if app.is_created() {
        let lineage = app.lineage()?;
        if lineage.is_none_or(|lineage| !lineage.preview || lineage.branch != branch) {
            return Err(Error::new(format!("{} is not the preview of {branch}", app.name())));
        }
        let why = Error::new("its branch was deleted, and this preview is removed");
        let Some(own) = silence(app, by, &why, &|| repository.tip(branch).map(|tip| tip.is_some()))? else {
            return Ok(false);
        };
        let what = format!("preview {} removed: its branch {branch} is gone", app.name());
        guard.append(Some(by), Event::Change { what })?;
        death::point("preview-silent");
        processes::end_everything(app)?;
        if app.user().is_none()
            && let Err(error) = site::take_back(app)
        {
            log::warn!("the site of {} is left in nginx: {}", app.name(), error.one_line());
        }
        // Without a dump: its data is to be thrown away. A SQLite database goes with the directory.
        for database in databases::on_servers(app)? {
            database.remove()?;
        }
        if app.user().is_none() {
            let stamp = clock::now().strftime("%Y%m%dT%H%M%SZ");
            let trash = parent.trash().join(format!("{}-{stamp}-{}", app.name(), std::process::id()));
            files::move_new(app.directory(), &trash)?;
            death::point("preview-moved");
        } else {
            hand::end_branch(app, false)?;
        }
        drop(own);
    } else if parent.user().is_some() {
        // What a death left of it: its user, and what hangs on that.
        hand::end_branch(app, false)?;
    }
    repository.release_all(app.name().as_str())?;
    Ok(true)
}

/// Ends what is being deployed in an app that is removed, and refuses what waits; its lock, once nobody has it.
/// `None` where its branch `is_back` by then.
pub(super) fn silence(
    app: &App,
    by: &str,
    why: &Error,
    is_back: &dyn Fn() -> Result<bool>,
) -> Result<Option<Guard>> {
    if is_back()? {
        return Ok(None);
    }
    let cancel = Job::new(Order::Cancel, by);
    if guard::holder(app).is_some() {
        JobLog::open(app, &cancel.id)?;
        cancel.put(app)?;
    }
    // A command that takes its time there must not keep the parent from its deploys.
    let begun = Instant::now();
    while let Some(holder) = guard::holder(app) {
        if begun.elapsed() > MOST {
            cancel.remove(app)?;
            return Err(Error::new(format!("{} is busy: {} is under way there", app.name(), holder.doing)));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let own = Guard::wait(app, "the removal of this app", |_| {})?;
    if is_back()? {
        cancel.remove(app)?;
        return Ok(None);
    }
    // What a dead worker left running would write into what is removed.
    if let Ok(Some(underway)) = Underway::read(app)
        && let Some(release) = underway.release()
    {
        stage::end_orphans(&app.release(release));
    }
    for job in queue::waiting(app)? {
        worker::say(&JobLog::open(app, &job.id)?, &Verdict::not_live(app, None, Outcome::Cancelled, why));
    }
    Ok(Some(own))
}
