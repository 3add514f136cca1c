//! What follows from the journal, in a few lines, so that nobody has to read what happened years ago.
//!
//! A [`Gist`] is made by taking one entry after the other. It lies beside the journal as `journal.gist`, with the
//! [`Seal`] of the file that it was made of: its inode, its length and its change time, which nobody can set. The
//! journal is the truth: a gist whose seal is not exactly that of the journal now, or that is torn, or not ours, is as
//! none, and all is read. It is only written where that would take a while.
//!
//! A gist on disk leaves out the releases that were pruned. Which others it may be asked of, it says itself: those that it
//! has, and those whose name is greater than all that are left out.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::journal::{Entry, Event, Outcome};
use super::names::{ReleaseId, ReleaseName, Revision, Version};
use crate::support::{Context, Result, files};

/// The number of the file's format; one with another is as none.
const GIST: u32 = 1;

/// A journal that is shorter is read.
pub(super) const LONG: u64 = 64 << 10;

/// A gist is not longer.
const MOST: u64 = 16 << 20;

/// Verdicts about the tips of so many branches are remembered.
const BRANCHES: usize = 16;

/// What became of a release, as far as the journal says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Fate {
    /// When it last became live, by the count of entries and by the clock.
    pub(super) lived: Option<(u64, Timestamp)>,
    /// When it was left by something that became live after it.
    pub(super) left: Option<Timestamp>,
    /// Whether a rollback left it, and it did not become live again.
    pub(super) withdrawn: bool,
    /// Whether it is pinned.
    pub(super) pinned: bool,
    /// Whether it was pruned.
    pruned: bool,
}

/// What follows from some entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gist {
    /// The greatest number.
    pub(super) last: u64,
    /// How many entries there were.
    count: u64,
    /// The releases.
    pub(super) releases: BTreeMap<ReleaseId, Fate>,
    /// The greatest name of those that are left out.
    left_out: Option<ReleaseName>,
    /// When a release of each version was last left, of those that are left out.
    others: BTreeMap<Version, Timestamp>,
    /// The release of another version that a rollback left, while the version that it went back to is live.
    pub(super) left_version: Option<ReleaseId>,
    /// Why there are no deploys.
    pub(super) locked: Option<String>,
    /// The last deploy that ended.
    pub(super) deploy: Option<String>,
    /// How many deploys ended in which way.
    pub(super) outcomes: BTreeMap<Outcome, u64>,
    /// The last verdicts of some branches, that of the last one last.
    verdicts: Vec<(String, Revision)>,
}

impl Gist {
    /// Takes an entry up. Answers false where it says something of a release that was left out: then all has to be read.
    pub(super) fn take(&mut self, entry: &Entry) -> bool {
        if named(&entry.event).any(|id| !self.knows(id)) {
            return false;
        }
        self.count += 1;
        self.last = self.last.max(entry.seq);
        match &entry.event {
            Event::Live { release, before, rollback } => {
                self.switch(entry.time, release, before.as_ref(), *rollback);
            }
            Event::Withdraw { release } => self.fate(release).withdrawn = true,
            Event::Pin { release } => self.fate(release).pinned = true,
            Event::Unpin { release } => self.fate(release).pinned = false,
            Event::Prune { releases, .. } => {
                for id in releases {
                    if let Some(fate) = self.releases.get_mut(id) {
                        fate.pruned = true;
                    }
                }
            }
            Event::Lock { why } => self.locked = Some(why.clone()),
            Event::Unlock => self.locked = None,
            Event::Verdict { job, outcome, revision: Some(revision), branch, .. } => {
                self.deploy = Some(job.clone());
                *self.outcomes.entry(*outcome).or_default() += 1;
                if let Some(branch) = branch.as_ref().filter(|_| *outcome != Outcome::Superseded) {
                    self.verdicts.retain(|(of, _)| of != branch);
                    self.verdicts.push((branch.clone(), revision.clone()));
                    let many = self.verdicts.len().saturating_sub(BRANCHES);
                    self.verdicts.drain(..many);
                }
            }
            _ => {}
        }
        true
    }

    fn switch(&mut self, time: Timestamp, release: &ReleaseId, before: Option<&ReleaseId>, rollback: bool) {
        let lived = Some((self.count, time));
        let fate = self.fate(release);
        (fate.lived, fate.left, fate.withdrawn) = (lived, None, false);
        let Some(before) = before else { return };
        self.fate(before).left = Some(time);
        if before.version != release.version {
            self.left_version = rollback.then(|| before.clone());
        }
    }

    fn fate(&mut self, release: &ReleaseId) -> &mut Fate {
        let fate = self.releases.entry(release.clone()).or_default();
        fate.pruned = false;
        fate
    }

    /// Whether it has all that the entries say of a release.
    pub(super) fn knows(&self, release: &ReleaseId) -> bool {
        self.releases.contains_key(release) || self.is_new(&release.name)
    }

    /// Whether no release of this name was left out.
    fn is_new(&self, name: &ReleaseName) -> bool {
        self.left_out.as_ref().is_none_or(|last| name > last)
    }

    /// Whether a release of this name was ever live; `None` where that cannot be told.
    pub(super) fn was_live(&self, name: &ReleaseName) -> Option<bool> {
        let is_it = |(id, fate): (&ReleaseId, &Fate)| id.name == *name && fate.lived.is_some();
        if self.releases.iter().any(is_it) {
            return Some(true);
        }
        self.is_new(name).then_some(false)
    }

    /// When a release of each version was last left by something that is live since.
    pub(super) fn versions_left(&self) -> BTreeMap<Version, Timestamp> {
        let mut left = self.others.clone();
        for (id, fate) in &self.releases {
            note_left(&mut left, id.version, fate);
        }
        left
    }

    /// Whether this is the last verdict about a branch; others may have been before it.
    pub(super) fn is_last_verdict(&self, tip: &Revision, on: &str) -> bool {
        self.verdicts.iter().any(|(branch, revision)| branch == on && revision == tip)
    }

    /// The same without the releases that were pruned.
    #[must_use]
    pub(super) fn without_pruned(&self) -> Gist {
        let mut others = self.others.clone();
        for (id, fate) in self.releases.iter().filter(|(_, fate)| fate.pruned) {
            note_left(&mut others, id.version, fate);
        }
        let stays = self.releases.iter().filter(|(_, fate)| !fate.pruned);
        let releases: BTreeMap<_, _> = stays.map(|(id, fate)| (id.clone(), fate.clone())).collect();
        let pruned = self.releases.iter().filter(|(_, fate)| fate.pruned).map(|(id, _)| &id.name);
        let left_out = pruned.chain(&self.left_out).max().cloned();
        Gist {
            releases,
            left_out,
            others,
            left_version: self.left_version.clone(),
            locked: self.locked.clone(),
            deploy: self.deploy.clone(),
            outcomes: self.outcomes.clone(),
            verdicts: self.verdicts.clone(),
            ..*self
        }
    }

    /// Writes it beside the journal; what does not succeed here only makes more work.
    pub(super) fn write(&self, path: &Path, seal: &Seal, mode: u32) {
        let written = self.text(seal).and_then(|text| files::overwrite(path, text.as_bytes(), mode));
        if let Err(error) = written {
            log::debug!("{}", error.one_line());
        }
    }

    fn text(&self, seal: &Seal) -> Result<String> {
        let cannot = || "cannot write down what follows from the journal";
        let body = serde_json::to_string(self).context(cannot)?;
        let head = Head { gist: GIST, seal: seal.clone(), sum: sum(&body) };
        Ok(format!("{}\n{body}\n", serde_json::to_string(&head).context(cannot)?))
    }

    /// Reads the gist of the journal that looks like this; `None` where there is none that is whole and of just this.
    pub(super) fn read(path: &Path, seal: &Seal) -> Option<Gist> {
        if seal.length < LONG {
            return None;
        }
        let bytes = files::read_limited(path, MOST).ok()??;
        Gist::parse(std::str::from_utf8(&bytes).ok()?, seal)
    }

    fn parse(text: &str, seal: &Seal) -> Option<Gist> {
        let (head, body) = text.strip_suffix('\n')?.split_once('\n')?;
        let head: Head = serde_json::from_str(head).ok()?;
        let fits = head.gist == GIST && head.seal == *seal && head.sum == sum(body);
        fits.then(|| serde_json::from_str(body).ok())?
    }
}

fn note_left(left: &mut BTreeMap<Version, Timestamp>, version: Version, fate: &Fate) {
    if let Some(time) = fate.left {
        left.entry(version).and_modify(|last| *last = time.max(*last)).or_insert(time);
    }
}

/// The releases whose fate an event changes; that one is pruned only decides whether it is left out.
fn named(event: &Event) -> impl Iterator<Item = &ReleaseId> {
    let (one, other) = match event {
        Event::Live { release, before, .. } => (Some(release), before.as_ref()),
        Event::Withdraw { release } | Event::Pin { release } | Event::Unpin { release } => {
            (Some(release), None)
        }
        _ => (None, None),
    };
    one.into_iter().chain(other)
}

fn sum(body: &str) -> String {
    Sha256::digest(body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Serialize, Deserialize)]
struct Head {
    gist: u32,
    seal: Seal,
    sum: String,
}

/// How a journal looks from outside: whoever writes to it, in whatever way, changes that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Seal {
    pub(super) fn of(about: &Metadata) -> Seal {
        let changed = (about.ctime(), about.ctime_nsec());
        Seal { device: about.dev(), inode: about.ino(), length: about.len(), changed }
    }

    /// Whether a journal that looked like this may look like that after something was appended to it.
    pub(super) fn may_become(&self, later: &Seal) -> bool {
        let same = (self.device, self.inode) == (later.device, later.inode);
        self == later || (same && self.length < later.length)
    }

    /// How long the journal is.
    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    /// What the entries say, asked one by one of all of them.
    struct Truth<'a>(&'a [Entry]);

    impl Truth<'_> {
        fn lives(&self) -> Vec<ReleaseId> {
            let mut lives: Vec<ReleaseId> = Vec::new();
            for entry in self.0 {
                if let Event::Live { release, .. } = &entry.event {
                    lives.retain(|id| id != release);
                    lives.push(release.clone());
                }
            }
            lives
        }

        fn left_at(&self) -> BTreeMap<ReleaseId, Timestamp> {
            let mut left = BTreeMap::new();
            for entry in self.0 {
                if let Event::Live { release, before, .. } = &entry.event {
                    left.remove(release);
                    if let Some(before) = before {
                        left.insert(before.clone(), entry.time);
                    }
                }
            }
            left
        }

        fn left_version(&self) -> Option<ReleaseId> {
            let crossing = self.0.iter().rev().find_map(|entry| match &entry.event {
                Event::Live { release, before: Some(before), rollback }
                    if before.version != release.version =>
                {
                    Some(rollback.then(|| before.clone()))
                }
                _ => None,
            });
            crossing.flatten()
        }

        fn last_word(
            &self,
            release: &ReleaseId,
            word: impl Fn(&Event) -> Option<(&ReleaseId, bool)>,
        ) -> bool {
            let words = self.0.iter().rev().filter_map(|entry| word(&entry.event));
            words.clone().find(|(id, _)| *id == release).is_some_and(|(_, is)| is)
        }

        fn is_withdrawn(&self, release: &ReleaseId) -> bool {
            self.last_word(release, |event| match event {
                Event::Withdraw { release } => Some((release, true)),
                Event::Live { release, .. } => Some((release, false)),
                _ => None,
            })
        }

        fn is_pinned(&self, release: &ReleaseId) -> bool {
            self.last_word(release, |event| match event {
                Event::Pin { release } => Some((release, true)),
                Event::Unpin { release } => Some((release, false)),
                _ => None,
            })
        }

        fn verdicts(&self) -> impl DoubleEndedIterator<Item = (&str, Outcome, &Revision, Option<&str>)> {
            self.0.iter().filter_map(|entry| match &entry.event {
                Event::Verdict { job, outcome, revision: Some(revision), branch, .. } => {
                    Some((job.as_str(), *outcome, revision, branch.as_deref()))
                }
                _ => None,
            })
        }
    }

    fn id(number: u32) -> ReleaseId {
        format!("{}/2026112{}T000000Z-aaaaaaaaaaaa", number % 3, number % 10).parse().unwrap()
    }

    fn ids() -> impl Iterator<Item = ReleaseId> {
        (0..10).map(id)
    }

    fn revision(number: u32) -> Revision {
        format!("{number:040x}").parse().unwrap()
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let one = || (0u32..10).prop_map(id);
        let outcome = prop::sample::select(vec![Outcome::Live, Outcome::Failed, Outcome::Superseded]);
        let verdict = (0u32..5, outcome, 0u32..5, prop::option::of(0u32..20), prop::option::of(one()));
        prop_oneof![
            6 => (one(), prop::option::of(one()), any::<bool>())
                .prop_map(|(release, before, rollback)| Event::Live { release, before, rollback }),
            4 => prop::collection::vec(one(), 0..4)
                .prop_map(|releases| Event::Prune { releases, versions: vec![] }),
            3 => verdict.prop_map(|(job, outcome, number, branch, release)| Event::Verdict {
                job: format!("job {job}"),
                outcome,
                revision: (number > 0).then(|| revision(number)),
                branch: branch.map(|branch| format!("branch {branch}")),
                release,
                why: None,
            }),
            1 => one().prop_map(|release| Event::Withdraw { release }),
            1 => one().prop_map(|release| Event::Pin { release }),
            1 => one().prop_map(|release| Event::Unpin { release }),
            1 => (0u32..3).prop_map(|why| Event::Lock { why: format!("why {why}") }),
            1 => Just(Event::Unlock),
            1 => Just(Event::Other),
        ]
    }

    /// Numbers and times in any order: a journal may be damaged, clocks go back.
    fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = (0u64..1000, 0i64..100, any_event()).prop_map(|(seq, second, event)| Entry {
            seq,
            time: Timestamp::from_second(1_800_000_000 + second).unwrap(),
            by: None,
            event,
        });
        prop::collection::vec(entry, 0..60)
    }

    fn check(gist: &Gist, entries: &[Entry]) {
        let truth = Truth(entries);
        let known: BTreeSet<ReleaseId> = ids().filter(|id| gist.knows(id)).collect();
        let mut lived: Vec<_> =
            gist.releases.iter().filter_map(|(id, fate)| Some((fate.lived?, id))).collect();
        lived.sort();
        let lived: Vec<ReleaseId> = lived.into_iter().map(|(_, id)| id.clone()).collect();
        let lives: Vec<ReleaseId> = truth.lives().into_iter().filter(|id| known.contains(id)).collect();
        assert_eq!(lived, lives);
        let left = truth.left_at();
        for id in &known {
            let fate = gist.releases.get(id).cloned().unwrap_or_default();
            assert_eq!(fate.left.as_ref(), left.get(id), "{id}");
            assert_eq!((fate.withdrawn, fate.pinned), (truth.is_withdrawn(id), truth.is_pinned(id)), "{id}");
        }
        let mut versions = BTreeMap::new();
        for (id, time) in left {
            versions
                .entry(id.version)
                .and_modify(|last: &mut Timestamp| *last = time.max(*last))
                .or_insert(time);
        }
        assert_eq!(gist.versions_left(), versions);
        assert_eq!(gist.left_version, truth.left_version());
        assert_eq!(gist.last, entries.iter().map(|entry| entry.seq).max().unwrap_or(0));
        let lock = entries.iter().rev().find_map(|entry| match &entry.event {
            Event::Lock { why } => Some(Some(why.clone())),
            Event::Unlock => Some(None),
            _ => None,
        });
        assert_eq!(gist.locked, lock.flatten());
        assert_eq!(gist.deploy.as_deref(), truth.verdicts().next_back().map(|(job, ..)| job));
        let mut outcomes = BTreeMap::new();
        truth.verdicts().for_each(|(_, outcome, ..)| *outcomes.entry(outcome).or_default() += 1);
        assert_eq!(gist.outcomes, outcomes);
        for (branch, tip) in &gist.verdicts {
            let about = |verdict: &(&str, Outcome, &Revision, Option<&str>)| {
                verdict.1 != Outcome::Superseded && verdict.3 == Some(branch)
            };
            assert_eq!(truth.verdicts().rev().find(about).map(|verdict| verdict.2), Some(tip));
        }
        for id in ids() {
            let was = truth.lives().iter().any(|lived| lived.name == id.name);
            assert!(gist.was_live(&id.name).is_none_or(|said| said == was), "{id}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_asked_with_a_gist_is_answered_as_without(
            entries in any_entries(),
            cuts in prop::collection::btree_set(0usize..60, 0..4),
        ) {
            let mut gist = Gist::default();
            for (at, entry) in entries.iter().enumerate() {
                if cuts.contains(&at) {
                    // Written, and read by another process.
                    let seal = Seal { device: 1, inode: 2, length: at as u64, changed: (3, 4) };
                    gist = Gist::parse(&gist.without_pruned().text(&seal).unwrap(), &seal).unwrap();
                    check(&gist, &entries[..at]);
                }
                if !gist.take(entry) {
                    prop_assert!(gist.left_out.is_some());
                    // All is read then.
                    gist = Gist::default();
                    prop_assert!(entries[..=at].iter().all(|entry| gist.take(entry)));
                }
                check(&gist, &entries[..=at]);
            }
        }
    }
}
