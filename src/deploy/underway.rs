//! What is being done just now, written down before it is done, for whoever has to finish or undo
//! it after a death.

use serde::{Deserialize, Serialize};

use super::queue::Job;
use crate::app::guard::Guard;
use crate::app::journal::refuse_newer;
use crate::app::layout::FORMAT;
use crate::app::{App, ReleaseId};
use crate::support::{Context, Error, Result, files};

/// A job that was begun and has not ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Underway {
    format: u32,
    /// The job.
    pub job: Job,
    /// The journal's next number when it began.
    pub seq: u64,
    /// What is live before it.
    pub before: Option<ReleaseId>,
    /// How far it has come.
    pub step: Step,
    /// Whether it failed, and could not wholly be undone, as the database server is away: it is tried again.
    #[serde(default)]
    pub unfinished: bool,
}

/// How far a job has come, as far as recovery must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// It was taken out of the queue; nothing was done.
    Taken,
    /// A release is being made.
    Release {
        /// The release.
        id: ReleaseId,
        /// Whether it opens its version: then its database, and the fence on the one before, are its own.
        opens: bool,
        /// Whether it comes back to a version that a rollback left: then the fence on that one's database is
        /// taken down before the switch.
        #[serde(default)]
        returns: bool,
    },
    /// A rollback moves from what was live to this release.
    Rollback {
        /// The release.
        to: ReleaseId,
        /// Whether the database changes with it.
        crosses: bool,
    },
}

impl Underway {
    /// A job that is taken up now.
    pub fn new(guard: &Guard, job: &Job, before: Option<ReleaseId>) -> Underway {
        Underway {
            format: FORMAT,
            job: job.clone(),
            seq: guard.next_seq(),
            before,
            step: Step::Taken,
            unfinished: false,
        }
    }

    /// Writes it down; synced, unless nothing was done yet: its job is in the queue, which is on disk.
    pub fn write(&self, guard: &Guard) -> Result<()> {
        let text = serde_json::to_vec(self).context(|| "cannot write down what is under way")?;
        let mode = guard.app().state_mode();
        match self.step {
            Step::Taken if !self.unfinished => guard.write_unsynced(&guard.app().underway(), &text, mode),
            _ => guard.write(&guard.app().underway(), &text, mode),
        }
    }

    /// What was under way; `None` where nothing was.
    ///
    /// # Errors
    /// Where it was written by a newer receiver, or is damaged.
    pub fn read(app: &App) -> Result<Option<Underway>> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let path = app.underway();
        let Some(text) = files::read_text(&path)? else { return Ok(None) };
        if let Ok(there) = serde_json::from_str::<Format>(&text) {
            refuse_newer(there.format, &path)?;
        }
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|_| Error::new(format!("{} is damaged", path.display())))
    }

    /// It is done: nothing is under way.
    pub fn clear(guard: &Guard) -> Result<()> {
        files::remove_file(&guard.app().underway())
    }

    /// The release that is being made.
    pub fn release(&self) -> Option<&ReleaseId> {
        match &self.step {
            Step::Release { id, .. } => Some(id),
            _ => None,
        }
    }

    /// What will be live when it succeeds.
    pub fn goal(&self) -> Option<&ReleaseId> {
        match &self.step {
            Step::Release { id, .. } | Step::Rollback { to: id, .. } => Some(id),
            Step::Taken => None,
        }
    }
}
