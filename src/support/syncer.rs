//! Forces what is written to disk, and begins with that while more is written.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::{Context, Result};

/// After so many bytes more the filesystem is synced.
const EVERY: u64 = 16 << 20;

/// For so many bytes more a file counts: its name, its inode and where its blocks are is written, too.
const FILE: u64 = 16 << 10;

/// Syncs the filesystem of a directory, from before something is written there.
///
/// It is open all the while: whoever opens it later is not told of an error that somebody else was told of before (Linux,
/// Documentation/core-api/errseq.rst).
pub struct Syncer {
    directory: PathBuf,
    filesystem: Arc<File>,
    /// How much was written, in bytes.
    written: AtomicU64,
    /// There once so much was written that it is worth a thread.
    ahead: Mutex<Option<Ahead>>,
}

/// A thread that syncs while others write.
struct Ahead {
    more: SyncSender<()>,
    thread: JoinHandle<rustix::io::Result<()>>,
}

impl Syncer {
    /// For the filesystem of a directory.
    pub fn open(directory: &Path) -> Result<Syncer> {
        let filesystem = File::open(directory).context(|| format!("cannot open {}", directory.display()))?;
        Ok(Syncer {
            directory: directory.to_owned(),
            filesystem: Arc::new(filesystem),
            written: AtomicU64::new(0),
            ahead: Mutex::default(),
        })
    }

    /// For one of those that write.
    pub fn tally(&self) -> Tally<'_> {
        Tally { syncer: self, due: Cell::new(0) }
    }

    /// Takes note of bytes that were written; never waits.
    fn wrote(&self, bytes: u64) {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before / EVERY != before.wrapping_add(bytes) / EVERY {
            self.go_ahead();
        }
    }

    /// Begins to sync, unless that is what it does.
    fn go_ahead(&self) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        match &*ahead {
            Some(Ahead { more, .. }) => drop(more.try_send(())),
            // Without a thread all is synced at the end.
            None => *ahead = Ahead::start(self.filesystem.clone()).ok(),
        }
    }

    /// Waits for what was begun. Where there is an error, nothing that was written is sure to be on disk.
    pub fn settle(&self) -> Result<()> {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Ahead { more, thread }) = ahead else { return Ok(()) };
        drop(more);
        let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        done.context(|| self.cannot())
    }

    /// Forces all that was written to disk: an error there is an error here.
    pub fn sync(&self) -> Result<()> {
        self.settle()?;
        rustix::fs::syncfs(&self.filesystem).context(|| self.cannot())
    }

    fn cannot(&self) -> String {
        format!("cannot sync the filesystem of {}", self.directory.display())
    }
}

/// What one thread writes. The syncer is told of it a megabyte at a time: told of each file, threads would wait for each other.
pub struct Tally<'a> {
    syncer: &'a Syncer,
    due: Cell<u64>,
}

impl<'a> Tally<'a> {
    /// A new file, that is to be written to.
    pub fn file(&'a self, file: &'a File) -> Counted<'a> {
        self.add(FILE);
        Counted { file, tally: self }
    }

    fn add(&self, bytes: u64) {
        let due = self.due.get() + bytes;
        let told = if due < 1 << 20 { 0 } else { due };
        self.due.set(due - told);
        if told > 0 {
            self.syncer.wrote(told);
        }
    }
}

/// A file of which all that is written to it is counted.
pub struct Counted<'a> {
    /// The file itself, for what is not to be counted.
    pub file: &'a File,
    tally: &'a Tally<'a>,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.tally.add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Ahead {
    fn start(filesystem: Arc<File>) -> std::io::Result<Ahead> {
        // What is asked for while it syncs is not kept: it is asked for again.
        let (more, asked) = sync_channel(0);
        let thread = std::thread::Builder::new().spawn(move || {
            rustix::fs::syncfs(&filesystem)?;
            asked.iter().try_for_each(|()| rustix::fs::syncfs(&filesystem))
        })?;
        Ok(Ahead { more, thread })
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn syncing_begins_once_enough_was_written_however_it_was() {
        let place = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile_in(place.path()).unwrap();
        let has_begun = |syncer: &Syncer| syncer.ahead.lock().unwrap().is_some();
        let small = Syncer::open(place.path()).unwrap();
        let tally = small.tally();
        for _ in 1..EVERY / FILE {
            tally.file(&file);
        }
        assert!(!has_begun(&small));
        small.settle().unwrap();
        tally.file(&file);
        assert!(has_begun(&small), "many small files");
        small.settle().unwrap();
        assert!(!has_begun(&small));
        small.sync().unwrap();
        let large = Syncer::open(place.path()).unwrap();
        let tally = large.tally();
        let mut counted = tally.file(&file);
        counted.write_all(&vec![0; usize::try_from(EVERY - FILE).unwrap() - 1]).unwrap();
        assert!(!has_begun(&large));
        counted.write_all(&vec![0; 1 << 20]).unwrap();
        assert!(has_begun(&large), "one large file");
    }

    #[test]
    fn an_error_of_what_was_begun_is_one_of_the_whole() {
        let place = tempfile::tempdir().unwrap();
        // The kernel syncs nothing by a descriptor that is but a place.
        let no_file = rustix::fs::open(place.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let syncer = || Syncer {
            filesystem: Arc::new(no_file.try_clone().unwrap().into()),
            ..Syncer::open(place.path()).unwrap()
        };
        let said = |result: Result<()>| result.unwrap_err().one_line();
        let one = syncer();
        one.settle().unwrap();
        one.wrote(EVERY);
        assert!(said(one.settle()).starts_with("cannot sync the filesystem of "));
        assert!(said(syncer().sync()).starts_with("cannot sync the filesystem of "));
    }
}
