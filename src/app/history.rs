//! The journal, read: what happened, and what follows from that.
//!
//! Most questions are answered by what follows from the entries ([`Gist`]), which lies beside a long journal: then only
//! what was appended since is read. Whoever wants the entries themselves reads all of them.

mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::gist::{Gist, Seal};
use super::journal::{Entry, Event, Outcome};
use super::layout::App;
use super::names::{ReleaseId, ReleaseName, Revision, Version};
use super::record::versions;
use crate::support::Result;

/// The journal as it was read.
#[derive(Clone, Debug, Default)]
pub struct History {
    gist: Arc<Gist>,
    /// Those that were read: all, or those that came after a gist.
    entries: Arc<Vec<Entry>>,
    /// The number that the gist ended with which was read instead of its entries.
    after: Option<u64>,
    junk: Vec<usize>,
    torn: bool,
    headless: bool,
    missing: bool,
    /// How far it was read, and how it looked then.
    length: u64,
    lines: usize,
    seal: Option<Seal>,
}

impl History {
    /// What follows from it, and how it looked when that was all; `None` where it is not sound.
    pub(super) fn gist(&self) -> Option<(&Gist, &Seal)> {
        Some((&self.gist, self.seal.as_ref().filter(|_| self.is_sound())?))
    }

    /// The entries that were read, oldest first: all, where [`History::read_whole`] did.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is wrong with the file itself, as a sentence; `None` where it is sound. One that a gist stands for was
    /// sound.
    pub fn damage(&self, app: &App) -> Option<String> {
        let lines = self.junk.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let name = app.journal().display().to_string();
        if !self.junk.is_empty() {
            Some(format!("{name} has junk in line {lines}"))
        } else if self.torn {
            Some(format!("{name} ends in the middle of a line"))
        } else if self.missing && versions(app).is_ok_and(|versions| versions.is_empty()) {
            // The first thing that happens begins it.
            None
        } else if self.headless {
            Some(format!("{name} does not begin with its format's number"))
        } else {
            None
        }
    }

    /// The number that the next entry gets.
    pub fn next_seq(&self) -> u64 {
        self.gist.last + 1
    }

    /// The releases that became live, by the last time that each did.
    pub fn lives(&self) -> Vec<&ReleaseId> {
        let lived = self.gist.releases.iter().filter_map(|(id, fate)| Some((fate.lived?.0, id)));
        let by_time: BTreeMap<u64, &ReleaseId> = lived.collect();
        by_time.into_values().collect()
    }

    /// When a release became live the last time.
    pub fn live_since(&self, release: &ReleaseId) -> Option<Timestamp> {
        self.gist.releases.get(release)?.lived.map(|(_, time)| time)
    }

    /// Whether a release of this name was ever live.
    pub fn was_live(&self, app: &App, name: &ReleaseName) -> Result<bool> {
        if let Some(known) = self.gist.was_live(name) {
            return Ok(known);
        }
        Ok(History::read_whole(app)?.gist.was_live(name) == Some(true))
    }

    /// The release of another version that a rollback left, while the version that it went back to is live.
    pub fn left_version(&self) -> Option<&ReleaseId> {
        self.gist.left_version.as_ref()
    }

    /// When a release was left by something that became live after it, and is not live again.
    pub fn left_at(&self, release: &ReleaseId) -> Option<Timestamp> {
        self.gist.releases.get(release)?.left
    }

    /// When each version was last left, release by release.
    pub fn versions_left(&self) -> BTreeMap<Version, Timestamp> {
        self.gist.versions_left()
    }

    /// The releases that rollbacks left, and that did not become live again since.
    pub fn withdrawn(&self) -> BTreeSet<ReleaseId> {
        self.gist.releases.iter().filter(|(_, fate)| fate.withdrawn).map(|(id, _)| id.clone()).collect()
    }

    /// The releases that are pinned.
    pub fn pinned(&self) -> BTreeSet<ReleaseId> {
        self.gist.releases.iter().filter(|(_, fate)| fate.pinned).map(|(id, _)| id.clone()).collect()
    }

    /// Why there are no deploys, where `receiver lock` said so.
    pub fn locked(&self) -> Option<&str> {
        self.gist.locked.as_deref()
    }

    /// How many deploys ended in which way.
    pub fn outcomes(&self) -> &BTreeMap<Outcome, u64> {
        &self.gist.outcomes
    }

    /// Whether there ever was a verdict about this tip of this branch. That a push was superseded is
    /// none: it says nothing about the revision.
    pub fn has_verdict(&self, app: &App, tip: &Revision, on: &str) -> Result<bool> {
        if self.gist.is_last_verdict(tip, on) {
            return Ok(true);
        }
        Ok(History::read_whole(app)?.entries().iter().any(|entry| {
            matches!(&entry.event, Event::Verdict { outcome, revision: Some(revision), branch, .. }
                if *outcome != Outcome::Superseded && revision == tip && branch.as_deref() == Some(on))
        }))
    }

    /// The last deploy that ended; orders like `lock` and rollbacks are none.
    pub fn last_deploy(&self) -> Option<&str> {
        self.gist.deploy.as_deref()
    }

    /// Whether the push that became this job is written down already.
    pub fn has_push(app: &App, wanted: &str) -> Result<bool> {
        let is_it = |entry: &Entry| matches!(&entry.event, Event::Push { job, .. } if job == wanted);
        Ok(History::read_whole(app)?.entries().iter().any(is_it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::clock;

    pub(super) fn release(n: u32) -> ReleaseId {
        format!("0/2026112{n}T000000Z-aaaaaaaaaaaa").parse().unwrap()
    }

    pub(super) fn history(events: Vec<Event>) -> History {
        let mut history = History::default();
        for (at, event) in events.into_iter().enumerate() {
            let entry = Entry { seq: at as u64 + 1, time: clock::now(), by: None, event };
            assert!(Arc::make_mut(&mut history.gist).take(&entry));
            Arc::make_mut(&mut history.entries).push(entry);
        }
        history
    }

    pub(super) fn live(n: u32) -> Event {
        Event::Live { release: release(n), before: None, rollback: false }
    }

    #[test]
    fn what_became_live_again_is_withdrawn_no_longer() {
        let history = history(vec![
            live(1),
            live(2),
            Event::Withdraw { release: release(2) },
            live(1),
            live(2),
            Event::Withdraw { release: release(1) },
        ]);
        assert_eq!(history.withdrawn().into_iter().collect::<Vec<_>>(), [release(1)]);
    }

    #[test]
    fn the_last_word_on_the_lock_counts() {
        let lock = || Event::Lock { why: "holidays".into() };
        assert_eq!(history(vec![lock()]).locked(), Some("holidays"));
        assert_eq!(history(vec![lock(), Event::Unlock]).locked(), None);
    }
}
