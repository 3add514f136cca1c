//! Whose turn it is: previews of one app are deployed one after the other.
//!
//! Whoever may push can push many branches at once, and each preview has a queue and a worker of its own. So that a
//! server has one of their builds to carry at a time, a preview's deploy waits for a lock of its parent's, which dies with
//! its holder. It waits under its own app's lock; a newer push of the branch, a cancellation or the end of the preview ends
//! the wait.

use std::time::Duration;

use super::joblog::JobLog;
use super::queue::{self, Job, Order};
use super::stop::Stopper;
use crate::app::App;
use crate::support::Result;
use crate::support::files;
use crate::support::lock::DirectoryLock;
use crate::vcs::Repository;

/// How often it is looked whether the turn has come.
const GLANCE: Duration = Duration::from_millis(100);

/// How the wait ended.
#[derive(Debug)]
pub enum Turn {
    /// Nobody else is deployed as long as this value lives; or nobody has to wait, the app being no preview.
    Ours(#[allow(dead_code, reason = "held")] Option<DirectoryLock>),
    /// A newer push of the branch waits, and has made its tip.
    Overtaken,
}

/// Waits until no other preview of the same parent is deployed.
///
/// # Errors
/// Where somebody wants the wait to end.
pub fn wait(app: &App, job: &Job, stopper: &Stopper<'_>, log: &JobLog) -> Result<Turn> {
    let Some(lineage) = app.lineage()?.filter(|lineage| lineage.preview) else { return Ok(Turn::Ours(None)) };
    let place = app.sibling(&lineage.parent).turn();
    files::make_directory(&place, 0o700)?;
    let mut told = false;
    loop {
        if let Some(lock) = DirectoryLock::try_take(&place)? {
            return Ok(Turn::Ours(Some(lock)));
        }
        stopper.check()?;
        if is_overtaken(app, job)? {
            return Ok(Turn::Overtaken);
        }
        if !told {
            told = true;
            log.step("waiting", format!("another preview of {} is deployed first", lineage.parent));
        }
        std::thread::sleep(GLANCE);
    }
}

/// Whether the branch moved on, and what moved it waits.
fn is_overtaken(app: &App, job: &Job) -> Result<bool> {
    let Order::Push { branch, new, .. } = &job.order else { return Ok(false) };
    let waits = |other: &Job| matches!(&other.order, Order::Push { branch: on, .. } if on == branch && other.id != job.id);
    Ok(queue::waiting(app)?.iter().any(waits)
        && Repository::open(&app.repository())?.tip(branch)?.as_ref() != Some(new))
}
