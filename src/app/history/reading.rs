//! Reads a journal: a gist and what was appended since, or all of its lines.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};

use super::super::gist::{Gist, Seal};
use super::super::journal::{Entry, Header, refuse_newer};
use super::History;
use crate::app::App;
use crate::app::ReleaseId;
use crate::support::{Context, Result, files};

/// What this process has read of a journal.
static KNOWN: Mutex<Option<(PathBuf, History)>> = Mutex::new(None);

/// A journal is not longer.
const MOST: u64 = 1 << 30;

/// Where a journal lies, and its gist.
struct Place {
    journal: PathBuf,
    gist: PathBuf,
}

impl History {
    /// Reads the journal of an app. Junk in it is left out and counted, a newer format refused.
    ///
    /// It only ever grows: what this process has read of it is not read again, nor is what a gist beside it says.
    pub fn read(app: &App) -> Result<History> {
        History::recall(app, false)
    }

    /// Reads all lines of it.
    pub fn read_whole(app: &App) -> Result<History> {
        History::recall(app, true)
    }

    /// Reads it without what this process remembers of it.
    pub(in crate::app) fn read_afresh(app: &App) -> Result<History> {
        if let Ok(mut known) = KNOWN.lock() {
            *known = None;
        }
        History::read(app)
    }

    /// Reads it so that it can be asked of these releases.
    pub fn read_about<'a>(app: &App, mut releases: impl Iterator<Item = &'a ReleaseId>) -> Result<History> {
        let history = History::read(app)?;
        if releases.all(|id| history.gist.knows(id)) { Ok(history) } else { History::read_whole(app) }
    }

    fn recall(app: &App, whole: bool) -> Result<History> {
        let place = Place { journal: app.journal(), gist: app.gist() };
        let Ok(mut known) = KNOWN.lock() else { return History::default().go_on(&place, whole) };
        // Another app's is forgotten: one is enough for a worker.
        let begin = known.take().filter(|(of, _)| *of == place.journal).map(|(_, history)| history);
        let history = begin.unwrap_or_default().go_on(&place, whole)?;
        *known = Some((place.journal, history.clone()));
        Ok(history)
    }

    /// Reads what was appended since.
    fn go_on(self, place: &Place, whole: bool) -> Result<History> {
        let path = place.journal.as_path();
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
        let seal = Seal::of(&about);
        let goes_on = self.is_sound() && self.seal.as_ref().is_some_and(|before| before.may_become(&seal));
        let begin = if goes_on { Some(self) } else { History::of_gist(place, &seal) };
        if let Some(mut history) = begin.filter(|begin| !whole || begin.after.is_none()) {
            let mut text = vec![0; usize::try_from(about.len() - history.length).unwrap_or(0)];
            file.read_exact_at(&mut text, history.length)
                .context(|| format!("cannot read {}", path.display()))?;
            if history.take_up(&text, path)? {
                history.seal = Some(seal);
                return Ok(history);
            }
        }
        let text = files::read_limited(path, MOST)?.unwrap_or_default();
        let mut history = History::parse(&text, path)?;
        history.seal = Some(seal).filter(|seal| seal.length() == history.length);
        Ok(history)
    }

    /// What the gist of a journal says that looks like this.
    fn of_gist(place: &Place, seal: &Seal) -> Option<History> {
        let gist = Gist::read(&place.gist, seal)?;
        let (after, length, seal) = (Some(gist.last), seal.length(), Some(seal.clone()));
        Some(History { gist: Arc::new(gist), after, length, seal, ..History::default() })
    }

    pub(super) fn is_sound(&self) -> bool {
        self.junk.is_empty() && !self.torn && !self.headless
    }

    /// Reads the bytes of the journal at `path`.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<History> {
        let mut history = History { headless: true, ..History::default() };
        history.take_up(bytes, path)?;
        Ok(history)
    }

    /// Takes lines up. Answers false where one of them cannot be understood without what a gist left out.
    fn take_up(&mut self, bytes: &[u8], path: &Path) -> Result<bool> {
        let begins = self.length == 0;
        self.length += bytes.len() as u64;
        let (entries, gist) = (Arc::make_mut(&mut self.entries), Arc::make_mut(&mut self.gist));
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
                Ok(entry) if !gist.take(&entry) => return Ok(false),
                Ok(entry) => entries.push(entry),
                // Which line it is says only who has read all of them.
                Err(_) if self.after.is_some() => return Ok(false),
                Err(_) => self.junk.push(self.lines),
            }
        }
        Ok(true)
    }

    /// Reads it with the entries from a number on, at least.
    pub fn read_since(app: &App, number: u64) -> Result<History> {
        let history = History::read(app)?;
        if history.after.is_none_or(|after| after < number) {
            return Ok(history);
        }
        History::read_whole(app)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::super::gist::LONG;
    use super::super::super::journal::Event;
    use super::super::tests::{history, live, release};
    use super::*;
    use crate::support::clock;

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
        let place = &Place { journal: path.clone(), gist: place.path().join("g") };
        let header = "{\"format\":1,\"app\":\"app\"}\n";
        let line =
            |seq: u32| format!("{{\"seq\":{seq},\"time\":\"2026-11-28T14:00:00Z\",\"event\":\"unlock\"}}\n");
        std::fs::write(&path, format!("{header}{}", line(1))).unwrap();
        let one = History::default().go_on(place, false).unwrap();
        assert_eq!((one.entries.len(), one.is_sound()), (1, true));
        std::fs::write(&path, format!("{header}{}{}junk\n", line(1), line(2))).unwrap();
        let two = one.clone().go_on(place, false).unwrap();
        assert_eq!((two.next_seq(), two.junk.as_slice()), (3, &[4][..]));
        // One that is not sound is read anew, and so is one that is shorter or another file.
        std::fs::write(&path, format!("{header}{}", line(7))).unwrap();
        assert_eq!(two.go_on(place, false).unwrap().next_seq(), 8);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(one.go_on(place, false).unwrap().next_seq(), 1);
    }
    /// A journal that is so long that its gist is read, with a gist of its first half.
    struct Long {
        _directory: tempfile::TempDir,
        place: Place,
        entries: Vec<Entry>,
    }

    impl Long {
        fn new() -> Long {
            let directory = tempfile::tempdir().unwrap();
            let place =
                Place { journal: directory.path().join("j"), gist: directory.path().join("journal.gist") };
            let what = "x".repeat(usize::try_from(LONG).unwrap());
            let events = vec![
                live(1),
                Event::Change { what },
                Event::Live { release: release(2), before: Some(release(1)), rollback: false },
                Event::Pin { release: release(2) },
                Event::Prune { releases: vec![release(1)], versions: vec![] },
            ];
            let entries = Arc::unwrap_or_clone(history(events).entries);
            let long = Long { _directory: directory, place, entries };
            let lines = long.entries.iter().map(|entry| serde_json::to_string(entry).unwrap() + "\n");
            let text = "{\"format\":1,\"app\":\"a\"}\n".to_owned() + &lines.collect::<String>();
            std::fs::write(&long.place.journal, text).unwrap();
            long.write_gist();
            long
        }

        fn write_gist(&self) {
            let whole = self.read(true);
            let (gist, seal) = whole.gist().unwrap();
            gist.without_pruned().write(&self.place.gist, seal, 0o600);
        }

        fn read(&self, whole: bool) -> History {
            History::default().go_on(&self.place, whole).unwrap()
        }

        fn append(&self, event: Event) {
            use std::io::Write;
            let entry = Entry { seq: 6, time: clock::now(), by: None, event };
            let mut file = std::fs::OpenOptions::new().append(true).open(&self.place.journal).unwrap();
            writeln!(file, "{}", serde_json::to_string(&entry).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_gist_is_read_instead_of_a_long_journal() {
        let long = Long::new();
        let read = long.read(false);
        assert_eq!((read.after, read.entries.len(), read.next_seq()), (Some(5), 0, 6));
        assert_eq!((read.pinned(), read.lives()), (BTreeSet::from([release(2)]), vec![&release(2)]));
        assert!(read.is_sound());
        // What this process read is gone on with, and what the gist left out makes it read all.
        long.append(Event::Unpin { release: release(2) });
        let more = read.clone().go_on(&long.place, false).unwrap();
        assert_eq!((more.after, more.entries.len(), more.pinned()), (Some(5), 1, BTreeSet::new()));
        long.append(Event::Pin { release: release(1) });
        let all = more.go_on(&long.place, false).unwrap();
        assert_eq!((all.after, all.entries.len(), all.pinned()), (None, 7, BTreeSet::from([release(1)])));
        assert!(long.read(true).entries.len() == 7);
    }

    #[test]
    fn a_gist_that_is_torn_or_changed_is_as_none() {
        let long = Long::new();
        let sound = std::fs::read(&long.place.gist).unwrap();
        let truth = long.read(true);
        for at in 0..sound.len() {
            for damaged in [sound[..at].to_vec(), {
                let mut flipped = sound.clone();
                flipped[at] ^= 1;
                flipped
            }] {
                std::fs::write(&long.place.gist, damaged).unwrap();
                let read = long.read(false);
                assert_eq!((read.after, &read.gist), (None, &truth.gist), "at byte {at}");
            }
        }
        std::fs::remove_file(&long.place.gist).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &long.place.gist).unwrap();
        assert_eq!(long.read(false).gist, truth.gist);
    }

    #[test]
    fn a_gist_of_a_journal_that_was_written_to_is_as_none() {
        let long = Long::new();
        let (seal, text) = (std::fs::metadata(&long.place.journal), std::fs::read(&long.place.journal));
        let (seal, mut text) = (seal.unwrap(), text.unwrap());
        assert!(long.read(false).after.is_some());
        // In place, as long as it was, and with its modification time set back.
        let at = memchr::memmem::find(&text, b"\"pin\"").unwrap();
        text.splice(at..at + 5, *b"\"pxn\"");
        std::fs::write(&long.place.journal, &text).unwrap();
        let file = File::options().write(true).open(&long.place.journal).unwrap();
        file.set_modified(seal.modified().unwrap()).unwrap();
        let read = long.read(false);
        assert_eq!((read.after, read.pinned()), (None, BTreeSet::new()));
        // Another file in its place.
        long.write_gist();
        assert!(long.read(false).after.is_some());
        let copy = long.place.journal.with_extension("copy");
        std::fs::copy(&long.place.journal, &copy).unwrap();
        std::fs::rename(&copy, &long.place.journal).unwrap();
        assert_eq!(long.read(false).after, None);
    }
}
