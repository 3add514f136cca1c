//! The journal: an append-only account of every push, deploy, rollback, pin, withdrawal and removal.
//!
//! One JSON object a line, the first of them the format's number. Its sequence is the only order
//! that counts: clocks go back, names sort by clocks. A line is appended and synced before whatever
//! it tells of is told to anybody. A death in mid-line leaves a last line without its end: the next
//! writer moves it aside and goes on. Lines that are junk are moved aside too, and said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::layout::{App, FORMAT};
use super::names::{ReleaseId, Revision};
use super::record::{Releases, versions};
use crate::support::{Context, Error, Result, clock, files, text};

/// One line of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in the order of things, from 1.
    pub seq: u64,
    /// When it was written, in UTC.
    pub time: Timestamp,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its release is live.
    Live,
    /// It stopped before the switch; what was live still is.
    Failed,
    /// Somebody stopped it before the switch.
    Cancelled,
    /// A newer push took its place.
    Superseded,
    /// There was nothing to do.
    Skipped,
}

/// What can happen to an app.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A branch moved by a push.
    Push {
        /// The job that it became.
        job: String,
        /// The branch.
        branch: String,
        /// Its tip before; absent for a new branch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        old: Option<Revision>,
        /// Its tip after.
        new: Revision,
        /// Whether commits were left behind.
        forced: bool,
        /// The push options.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
    /// A job ended.
    Verdict {
        /// The job.
        job: String,
        /// How it ended.
        outcome: Outcome,
        /// What it was to deploy; absent for a rollback.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<Revision>,
        /// The branch that it came by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        branch: Option<String>,
        /// The release that it made, or went to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<ReleaseId>,
        /// Why it did not become live.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A release was switched to.
    Live {
        /// The release.
        release: ReleaseId,
        /// What was live before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<ReleaseId>,
        /// By a rollback, not by a deploy.
        rollback: bool,
    },
    /// A rollback left a release: no later one picks it.
    Withdraw {
        /// The release.
        release: ReleaseId,
    },
    /// A release is kept, whatever prune would do.
    Pin {
        /// The release.
        release: ReleaseId,
    },
    /// It is kept no longer.
    Unpin {
        /// The release.
        release: ReleaseId,
    },
    /// No deploys until further notice.
    Lock {
        /// Why.
        why: String,
    },
    /// Deploys again.
    Unlock,
    /// Releases and versions were removed.
    Prune {
        /// The releases.
        releases: Vec<ReleaseId>,
        /// The versions, with their databases.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        versions: Vec<u32>,
    },
    /// What a death left was finished or undone.
    Recover {
        /// What was found and done.
        what: String,
    },
    /// A setting, a secret's name, a file of `shared/` or a database changed.
    Change {
        /// What changed, never its value where that may be secret.
        what: String,
    },
    /// Written by a newer receiver of the same format.
    #[serde(other)]
    Other,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    app: String,
}

/// The journal as it was read.
#[derive(Debug, Default)]
pub struct History {
    entries: Vec<Entry>,
    junk: Vec<usize>,
    torn: bool,
    headless: bool,
    missing: bool,
}

impl History {
    /// Reads the journal of an app. Junk in it is left out and counted, a newer format refused.
    pub fn read(app: &App) -> Result<History> {
        let path = app.journal();
        let Some(bytes) = files::read_limited(&path, 1 << 30)? else {
            return Ok(History { headless: true, missing: true, ..History::default() });
        };
        History::parse(&bytes, &path)
    }

    /// Reads the bytes of the journal at `path`.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<History> {
        let mut history = History { headless: true, ..History::default() };
        for (at, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
            if line.last() != Some(&b'\n') {
                history.torn = true;
                continue;
            }
            if at == 0
                && let Ok(header) = serde_json::from_slice::<Header>(line)
            {
                refuse_newer(header.format, path)?;
                history.headless = false;
                continue;
            }
            match serde_json::from_slice::<Entry>(line) {
                Ok(entry) => history.entries.push(entry),
                Err(_) => history.junk.push(at + 1),
            }
        }
        Ok(history)
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is wrong with the file itself, as a sentence; `None` where it is sound.
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
        self.entries.iter().map(|entry| entry.seq).max().unwrap_or(0) + 1
    }

    /// The releases that became live, in order, with those that are there several times.
    pub fn lives(&self) -> impl DoubleEndedIterator<Item = &ReleaseId> {
        self.entries.iter().filter_map(|entry| match &entry.event {
            Event::Live { release, .. } => Some(release),
            _ => None,
        })
    }

    /// The release of another version that a rollback left, while the version that it went back to is live.
    pub fn left_version(&self) -> Option<&ReleaseId> {
        let mut left = None;
        for entry in &self.entries {
            if let Event::Live { release, before, rollback } = &entry.event
                && let Some(before) = before
                && before.version != release.version
            {
                left = rollback.then_some(before);
            }
        }
        left
    }

    /// When each release was last left by something that became live after it.
    pub fn left_at(&self) -> BTreeMap<ReleaseId, Timestamp> {
        let mut left = BTreeMap::new();
        for entry in &self.entries {
            if let Event::Live { release, before, .. } = &entry.event {
                left.remove(release);
                if let Some(before) = before {
                    left.insert(before.clone(), entry.time);
                }
            }
        }
        left
    }

    /// The releases that rollbacks left, and that did not become live again since.
    pub fn withdrawn(&self) -> BTreeSet<ReleaseId> {
        let mut withdrawn = BTreeSet::new();
        for entry in &self.entries {
            match &entry.event {
                Event::Withdraw { release } => withdrawn.insert(release.clone()),
                Event::Live { release, .. } => withdrawn.remove(release),
                _ => continue,
            };
        }
        withdrawn
    }

    /// The releases that are pinned.
    pub fn pinned(&self) -> BTreeSet<ReleaseId> {
        let mut pinned = BTreeSet::new();
        for entry in &self.entries {
            match &entry.event {
                Event::Pin { release } => pinned.insert(release.clone()),
                Event::Unpin { release } => pinned.remove(release),
                _ => continue,
            };
        }
        pinned
    }

    /// Why there are no deploys, where `receiver lock` said so.
    pub fn locked(&self) -> Option<&str> {
        self.entries.iter().rev().find_map(|entry| match &entry.event {
            Event::Lock { why } => Some(Some(why.as_str())),
            Event::Unlock => Some(None),
            _ => None,
        })?
    }

    /// Whether there ever was a verdict about this tip of this branch. That a push was superseded is
    /// none: it says nothing about the revision.
    pub fn has_verdict(&self, tip: &Revision, on: &str) -> bool {
        self.entries.iter().any(|entry| {
            matches!(&entry.event, Event::Verdict { outcome, revision: Some(revision), branch, .. }
                if *outcome != Outcome::Superseded && revision == tip && branch.as_deref() == Some(on))
        })
    }

    /// The last deploy that ended; orders like `lock` and rollbacks are none.
    pub fn last_deploy(&self) -> Option<&str> {
        self.entries.iter().rev().find_map(|entry| match &entry.event {
            Event::Verdict { job, revision: Some(_), .. } => Some(job.as_str()),
            _ => None,
        })
    }

    /// Whether the push that became this job is written down already.
    pub fn has_push(&self, wanted: &str) -> bool {
        self.entries.iter().any(|entry| matches!(&entry.event, Event::Push { job, .. } if job == wanted))
    }
}

/// Refuses a file whose format is newer than this program's.
pub fn refuse_newer(format: u32, path: &Path) -> Result<()> {
    if format <= FORMAT {
        return Ok(());
    }
    Err(Error::new(format!(
        "{} has format {format}; this receiver knows formats up to {FORMAT}, and leaves it alone",
        path.display()
    ))
    .hint("it was written by a newer receiver: install that one"))
}

/// The journal, open for appending. Only the guard of the app's lock makes one.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    next: u64,
}

impl Journal {
    /// Opens the journal for writing; first moves aside what a death or an accident left in it.
    ///
    /// Returns what was moved aside, as a sentence.
    pub(super) fn open(app: &App) -> Result<(Journal, Option<String>)> {
        let path = app.journal();
        let history = History::read(app)?;
        let damage = history.damage(app).filter(|_| files::exists(&path));
        if damage.is_some() {
            let stamp = clock::now().strftime("%Y%m%dT%H%M%SZ").to_string();
            let aside = app.state(&format!("journal.damaged-{stamp}-{}", std::process::id()));
            let whole = files::read_limited(&path, 1 << 30)?.unwrap_or_default();
            files::write_atomic(&aside, &whole, 0o600)?;
        }
        if damage.is_some() || !files::exists(&path) {
            let header = Header { format: FORMAT, app: app.name().to_string() };
            let mut text = line(&header)?;
            for entry in history.entries() {
                text.push_str(&line(entry)?);
            }
            files::write_atomic(&path, text.as_bytes(), 0o600)?;
        }
        let mut next = history.next_seq();
        let mut told = damage
            .map(|damage| format!("{damage}; the sound lines were kept, the whole file lies beside it"));
        if told.is_some() || next == 1 {
            // What was lost may have had higher numbers: the records remember those that they began with,
            // and what is written from now on comes after them.
            let numbers = Releases::read(app)?.numbers().max();
            next = next.max(numbers.map_or(1, |last| last + 1));
            if told.is_none() && numbers.is_some() {
                told = Some(format!("{} was lost: a new one is begun", path.display()));
            }
        }
        Ok((Journal { path, next }, told))
    }

    /// Appends one entry and forces it to disk; returns its number.
    pub fn append(&mut self, by: Option<&str>, event: Event) -> Result<u64> {
        let seq = self.next;
        let entry = Entry { seq, time: clock::now(), by: by.map(text::printable), event };
        let text = line(&entry)?;
        let written = (|| {
            let mut file = OpenOptions::new().append(true).custom_flags(libc_nofollow()).open(&self.path)?;
            let length = file.metadata()?.len();
            let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
            if written.is_err() {
                // Half a line (a full disk) must not be the beginning of the next one.
                let _ = file.set_len(length);
            }
            written
        })();
        written.context(|| format!("cannot append to {}", self.path.display()))?;
        self.next += 1;
        Ok(seq)
    }

    /// The number that the next entry gets.
    pub fn next_seq(&self) -> u64 {
        self.next
    }
}

#[allow(clippy::cast_possible_wrap, reason = "the flag is a small positive number")]
fn libc_nofollow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits() as i32
}

fn line(value: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string(value).context(|| "cannot write down an entry")?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(n: u32) -> ReleaseId {
        format!("0/2026112{n}T000000Z-aaaaaaaaaaaa").parse().unwrap()
    }

    fn history(events: Vec<Event>) -> History {
        let entries = events.into_iter().enumerate().map(|(at, event)| Entry {
            seq: at as u64 + 1,
            time: clock::now(),
            by: None,
            event,
        });
        History { entries: entries.collect(), ..History::default() }
    }

    fn live(n: u32) -> Event {
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

    #[test]
    fn a_line_without_its_end_and_junk_are_left_out() {
        let good = line(&history(vec![live(1)]).entries[0]).unwrap();
        let text = format!("{{\"format\":1,\"app\":\"a\"}}\n{good}junk\n{good}{{\"seq\":3");
        let read = History::parse(text.as_bytes(), Path::new("j")).unwrap();
        assert_eq!((read.entries.len(), read.junk.clone(), read.torn), (2, vec![3], true));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let text = b"{\"format\":2,\"app\":\"a\"}\n";
        assert!(History::parse(text, Path::new("j")).unwrap_err().to_string().contains("format 2"));
    }

    #[test]
    fn events_of_later_receivers_are_kept_in_order_and_not_understood() {
        let text =
            "{\"format\":1,\"app\":\"a\"}\n{\"seq\":9,\"time\":\"2026-11-22T00:00:00Z\",\"event\":\"new\"}\n";
        let read = History::parse(text.as_bytes(), Path::new("j")).unwrap();
        assert!(matches!(read.entries[0].event, Event::Other));
        assert_eq!(read.next_seq(), 10);
    }
}
