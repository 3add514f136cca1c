//! The journal: an append-only account of every push, deploy, rollback, pin, withdrawal and removal.
//!
//! One JSON object a line, the first of them the format's number. Its sequence is the only order
//! that counts: clocks go back, names sort by clocks. A line is appended and synced before whatever
//! it tells of is told to anybody. A death in mid-line leaves a last line without its end: the next
//! writer moves it aside and goes on. Lines that are junk are moved aside too, and said.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::gist::{Gist, LONG, Seal};
pub use super::history::History;
use super::layout::{App, FORMAT};
use super::names::{ReleaseId, Revision};
use super::record::Releases;
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

/// The words of a line, all of which an event of ours has at most.
#[derive(Deserialize)]
struct Line<'a> {
    seq: u64,
    time: Timestamp,
    by: Option<String>,
    event: &'a str,
    job: Option<String>,
    branch: Option<String>,
    old: Option<Revision>,
    new: Option<Revision>,
    #[serde(default)]
    options: Vec<String>,
    forced: Option<bool>,
    outcome: Option<Outcome>,
    revision: Option<Revision>,
    release: Option<ReleaseId>,
    before: Option<ReleaseId>,
    rollback: Option<bool>,
    why: Option<String>,
    releases: Option<Vec<ReleaseId>>,
    #[serde(default)]
    versions: Vec<u32>,
}

impl Entry {
    /// Reads a line. Most are of four kinds, which are read without a detour: a journal may have very many.
    pub(super) fn read(line: &[u8]) -> serde_json::Result<Entry> {
        let known = serde_json::from_slice::<Line>(line).ok().and_then(Line::into_entry);
        known.map_or_else(|| serde_json::from_slice(line), Ok)
    }
}

impl Line<'_> {
    fn into_entry(self) -> Option<Entry> {
        let Line { seq, time, by, job, branch, old, options, revision, before, why, .. } = self;
        let event = match self.event {
            "push" => {
                Event::Push { job: job?, branch: branch?, old, new: self.new?, forced: self.forced?, options }
            }
            "verdict" => {
                let (job, outcome) = (job?, self.outcome?);
                Event::Verdict { job, outcome, revision, branch, release: self.release, why }
            }
            "live" => Event::Live { release: self.release?, before, rollback: self.rollback? },
            "prune" => Event::Prune { releases: self.releases?, versions: self.versions },
            _ => return None,
        };
        Some(Entry { seq, time, by, event })
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
pub(super) struct Header {
    pub(super) format: u32,
    app: String,
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
    gist: Option<Kept>,
}

/// What follows from the journal, kept up to date beside it.
#[derive(Debug)]
struct Kept {
    path: PathBuf,
    mode: u32,
    gist: Gist,
    /// How the journal looked when that was all of it.
    seal: Seal,
}

impl Journal {
    /// Opens the journal for writing; first moves aside what a death or an accident left in it.
    ///
    /// Returns what was moved aside, as a sentence.
    pub(super) fn open(app: &App) -> Result<(Journal, Option<String>)> {
        let path = app.journal();
        let history = History::read_afresh(app)?;
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
            files::write_atomic(&path, text.as_bytes(), app.state_mode())?;
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
        let gist = if told.is_none() { Kept::begin(app, &history) } else { None };
        Ok((Journal { path, next, gist }, told))
    }

    /// Appends one entry and forces it to disk, with all that was noted before; returns its number.
    pub fn append(&mut self, by: Option<&str>, event: Event) -> Result<u64> {
        self.add(by, event, File::sync_data)
    }

    /// Appends one entry that nobody is told before the next one is on disk; returns its number.
    pub fn note(&mut self, by: Option<&str>, event: Event) -> Result<u64> {
        self.add(by, event, |_| Ok(()))
    }

    fn add(
        &mut self,
        by: Option<&str>,
        event: Event,
        sync: impl FnOnce(&File) -> std::io::Result<()>,
    ) -> Result<u64> {
        let seq = self.next;
        let entry = Entry { seq, time: clock::now(), by: by.map(text::printable), event };
        let text = line(&entry)?;
        let written = (|| {
            let mut file = OpenOptions::new().append(true).custom_flags(libc_nofollow()).open(&self.path)?;
            let before = file.metadata()?;
            let written = file.write_all(text.as_bytes()).and_then(|()| sync(&file));
            if written.is_err() {
                // Half a line (a full disk) must not be the beginning of the next one.
                let _ = file.set_len(before.len());
            }
            written.and_then(|()| Ok((before, file.metadata()?)))
        })();
        let (before, after) = written.context(|| format!("cannot append to {}", self.path.display()))?;
        self.next += 1;
        self.gist = self.gist.take().and_then(|kept| kept.follow(&entry, text.len(), &before, &after));
        Ok(seq)
    }

    /// The number that the next entry gets.
    pub fn next_seq(&self) -> u64 {
        self.next
    }
}

impl Kept {
    fn begin(app: &App, history: &History) -> Option<Kept> {
        let (gist, seal) = history.gist()?;
        let (gist, seal) = (gist.without_pruned(), seal.clone());
        Some(Kept { path: app.gist(), mode: app.state_mode(), gist, seal })
    }

    /// Goes on with an entry that was appended. Only where nobody else wrote meanwhile: else nothing is written any
    /// more, and whoever reads next reads all.
    fn follow(mut self, entry: &Entry, length: usize, before: &Metadata, after: &Metadata) -> Option<Kept> {
        let grown = before.len() + length as u64 == after.len();
        if !grown || Seal::of(before) != self.seal || !self.gist.take(entry) {
            return None;
        }
        self.gist = self.gist.without_pruned();
        self.seal = Seal::of(after);
        if after.len() >= LONG {
            self.gist.write(&self.path, &self.seal, self.mode);
        }
        Some(self)
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
