//! The journal, read: what happened, and what follows from that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};

use super::journal::{Entry, Event, Header, Outcome, refuse_newer};
use super::layout::App;
use super::names::{ReleaseId, Revision};
use super::record::versions;
use crate::support::{Context, Result, files};

/// The journal as it was read.
#[derive(Clone, Debug, Default)]
pub struct History {
    entries: Arc<Vec<Entry>>,
    junk: Vec<usize>,
    torn: bool,
    headless: bool,
    missing: bool,
    /// How far it was read, and of which file.
    inode: u64,
    length: u64,
    lines: usize,
}

/// What this process has read of a journal.
static KNOWN: Mutex<Option<(PathBuf, History)>> = Mutex::new(None);

/// A journal is not longer.
const MOST: u64 = 1 << 30;

impl History {
    /// Reads the journal of an app. Junk in it is left out and counted, a newer format refused.
    ///
    /// It only ever grows: what this process has read of it is not read again.
    pub fn read(app: &App) -> Result<History> {
        let path = app.journal();
        let Ok(mut known) = KNOWN.lock() else { return History::default().go_on(&path) };
        // Another app's is forgotten: one is enough for a worker.
        let begin = known.take().filter(|(of, _)| *of == path).map(|(_, history)| history);
        let history = begin.unwrap_or_default().go_on(&path)?;
        *known = Some((path, history.clone()));
        Ok(history)
    }

    /// Reads what was appended since.
    fn go_on(self, path: &Path) -> Result<History> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(opened) => File::from(opened),
            Err(rustix::io::Errno::NOENT) => {
                return Ok(History { headless: true, missing: true, ..History::default() });
            }
            // What is wrong with it is said by whoever reads all of it.
            Err(_) => return files::read_limited(path, MOST).map(|_| History::default()),
        };
        let about = file.metadata().context(|| format!("cannot read {}", path.display()))?;
        let same = about.ino() == self.inode && about.len() >= self.length && self.is_sound();
        let mut history =
            if same && self.length > 0 { self } else { History { headless: true, ..History::default() } };
        let text = if history.length == 0 {
            files::read_limited(path, MOST)?.unwrap_or_default()
        } else {
            let mut text = vec![0; usize::try_from(about.len() - history.length).unwrap_or(0)];
            file.read_exact_at(&mut text, history.length)
                .context(|| format!("cannot read {}", path.display()))?;
            text
        };
        history.inode = about.ino();
        history.take_up(&text, path)?;
        Ok(history)
    }

    fn is_sound(&self) -> bool {
        self.junk.is_empty() && !self.torn && !self.headless
    }

    /// Reads the bytes of the journal at `path`.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<History> {
        let mut history = History { headless: true, ..History::default() };
        history.take_up(bytes, path)?;
        Ok(history)
    }

    fn take_up(&mut self, bytes: &[u8], path: &Path) -> Result<()> {
        let begins = self.length == 0;
        self.length += bytes.len() as u64;
        let entries = Arc::make_mut(&mut self.entries);
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            self.lines += 1;
            if line.last() != Some(&b'\n') {
                self.torn = true;
                continue;
            }
            if begins
                && self.lines == 1
                && let Ok(header) = serde_json::from_slice::<Header>(line)
            {
                refuse_newer(header.format, path)?;
                self.headless = false;
                continue;
            }
            match Entry::read(line) {
                Ok(entry) => entries.push(entry),
                Err(_) => self.junk.push(self.lines),
            }
        }
        Ok(())
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
        for entry in self.entries.iter() {
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
        for entry in self.entries.iter() {
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
        for entry in self.entries.iter() {
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
        for entry in self.entries.iter() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::clock;

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
        History { entries: Arc::new(entries.collect()), ..History::default() }
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
        let good = serde_json::to_string(&history(vec![live(1)]).entries[0]).unwrap() + "\n";
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

    #[test]
    fn what_is_read_without_a_detour_is_the_same() {
        let lines = [
            r#"{"seq":1,"time":"2026-11-28T14:00:00Z","by":"ada","event":"push","job":"j","branch":"m","new":"8be01d2c44aa8be01d2c44aa8be01d2c44aa8be0","forced":true,"options":["x"]}"#,
            r#"{"seq":2,"time":"2026-11-28T14:00:00Z","event":"verdict","job":"j","outcome":"failed","why":"\u00e9"}"#,
            r#"{"seq":3,"time":"2026-11-28T14:00:00Z","event":"live","release":"0/20261128T140000Z-aaaaaaaaaaaa","rollback":false}"#,
            r#"{"seq":4,"time":"2026-11-28T14:00:00Z","event":"lock","why":"x"}"#,
            r#"{"seq":4,"time":"2026-11-28T14:00:00Z","event":"prune","releases":["0/20261128T140000Z-aaaaaaaaaaaa"],"versions":[3]}"#,
            r#"{"seq":5,"time":"2026-11-28T14:00:00Z","event":"new one","release":{"of":"another kind"}}"#,
        ];
        for line in lines {
            let slow: Entry = serde_json::from_str(line).unwrap();
            let fast = Entry::read(line.as_bytes()).unwrap();
            assert_eq!(format!("{fast:?}"), format!("{slow:?}"));
        }
        for line in ["{}", r#"{"seq":1,"time":"2026-11-28T14:00:00Z","event":"live"}"#, "junk"] {
            assert!(Entry::read(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn what_was_read_is_not_read_again_and_another_file_is() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("j");
        let header = "{\"format\":1,\"app\":\"app\"}\n";
        let line =
            |seq: u32| format!("{{\"seq\":{seq},\"time\":\"2026-11-28T14:00:00Z\",\"event\":\"unlock\"}}\n");
        std::fs::write(&path, format!("{header}{}", line(1))).unwrap();
        let one = History::default().go_on(&path).unwrap();
        assert_eq!((one.entries.len(), one.is_sound()), (1, true));
        std::fs::write(&path, format!("{header}{}{}junk\n", line(1), line(2))).unwrap();
        let two = one.clone().go_on(&path).unwrap();
        assert_eq!((two.next_seq(), two.junk.as_slice()), (3, &[4][..]));
        // One that is not sound is read anew, and so is one that is shorter or another file.
        std::fs::write(&path, format!("{header}{}", line(7))).unwrap();
        assert_eq!(two.go_on(&path).unwrap().next_seq(), 8);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(one.go_on(&path).unwrap().next_seq(), 1);
    }
}
