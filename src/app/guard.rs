//! The app's lock, and what only its holder may do: write.
//!
//! The lock is the kernel's (flock) on one permanent file that is never unlinked; it dies with its
//! holder, and no child inherits it. What stands in the file only tells others who holds it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::journal::{Event, Journal, refuse_newer};
use super::layout::{App, FORMAT};
use super::names::{ReleaseId, ReleaseName};
use super::record::Record;
use crate::support::{Context, Error, Result, clock, death, files};

/// Who holds the lock, as it told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holder {
    format: u32,
    /// Its process.
    pub pid: u32,
    /// What it does, in a few words.
    pub doing: String,
}

/// The proof that the app's lock is held, and the only way to write to the app.
#[derive(Debug)]
pub struct Guard {
    app: App,
    file: File,
    journal: Journal,
    told: Option<String>,
}

impl Guard {
    /// Takes the lock, waiting for it as long as it takes. `waiting` is called once where it has to wait.
    pub fn wait(app: &App, doing: &str, waiting: impl FnOnce(Option<Holder>)) -> Result<Guard> {
        let file = open_lock(app)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                waiting(holder(app));
                rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
                    .context(|| format!("cannot lock {}", app.lock_file().display()))?;
            }
            Err(error) => return Err(error).context(|| format!("cannot lock {}", app.lock_file().display())),
        }
        if !app.is_created() {
            return Err(Error::new(format!("{} was removed", app.directory().display())));
        }
        let mut file = file;
        tell(&mut file, app, doing)?;
        let (journal, told) = Journal::open(app)?;
        let mut guard = Guard { app: app.clone(), file, journal, told: None };
        if let Some(told) = told {
            guard.append(None, Event::Recover { what: told.clone() })?;
            guard.told = Some(told);
        }
        death::point("locked");
        Ok(guard)
    }

    /// What had to be mended when the lock was taken, as a sentence; told once.
    pub fn take_told(&mut self) -> Option<String> {
        self.told.take()
    }

    /// Says what the holder does now, for those who wait.
    pub fn doing(&mut self, doing: &str) -> Result<()> {
        tell(&mut self.file, &self.app, doing)
    }

    /// The app.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Appends to the journal, synced.
    pub fn append(&mut self, by: Option<&str>, event: Event) -> Result<u64> {
        self.journal.append(by, event)
    }

    /// Appends to the journal what nobody is told before the next entry is on disk.
    pub fn note(&mut self, by: Option<&str>, event: Event) -> Result<u64> {
        self.journal.note(by, event)
    }

    /// The number that the journal's next entry gets.
    pub fn next_seq(&self) -> u64 {
        self.journal.next_seq()
    }

    /// Writes down that a release begins. Its record is not sealed: it is no release yet. Not synced: what is under way
    /// is on disk by then, and names it.
    pub fn begin(&self, record: &Record) -> Result<()> {
        files::make_directory(&self.app.version(record.id.version), 0o755)?;
        record.write_unsynced(&self.app.record(&record.id))
    }

    /// Prepares the seal of a record: when it is put in its place the release is complete.
    pub fn prepare_seal(&self, record: &mut Record) -> Result<files::Prepared> {
        record.sealed = Some(clock::now());
        record.prepare(&self.app.record(&record.id))
    }

    /// Moves the record of a release that failed to `receiver/failed/`, with the reason.
    pub fn fail(&self, record: &mut Record, why: &str) -> Result<()> {
        record.failure = Some(why.to_owned());
        record.sealed = None;
        record.write(&self.app.failed_record(&record.id.name))?;
        files::remove_file(&self.app.record(&record.id))
    }

    /// Writes a file of the app's state, whole or not at all.
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        debug_assert!(path.starts_with(self.app.directory()));
        // What the server grants is read by hooks as well, and lies where new files are receiver's alone.
        if path == self.app.server_config()
            && let Some(group) = self.app.door_group()
        {
            return files::write_atomic_for(path, bytes, 0o640, Some(group));
        }
        files::write_atomic(path, bytes, mode)
    }

    /// Writes a file of the app's state that a power cut may take back to what it was.
    pub fn write_unsynced(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        debug_assert!(path.starts_with(self.app.directory()));
        files::write_unsynced(path, bytes, mode)
    }

    /// Renames something of a release that is being made to the trash; nothing there is fine.
    pub fn put_into_trash(&self, place: &Path) -> Result<()> {
        debug_assert!(place.starts_with(self.app.versions()));
        if !files::exists(place) {
            return Ok(());
        }
        files::move_new(
            place,
            &self.app.trash().join(format!("part-{}-{}", self.next_seq(), std::process::id())),
        )
    }

    /// Writes down what an export wrote. Not synced: without it a later export has more to do, and that is all.
    pub fn write_manifest(
        &self,
        release: &ReleaseName,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<()> {
        files::make_directory(&self.app.manifests(), 0o700)?;
        files::write_unsynced_by(&self.app.manifest(release), 0o600, write)
    }

    /// Renames a release, or what is left of it, out of `versions/`, with its record. It is deleted later, when nobody
    /// waits.
    pub fn discard(&self, id: &ReleaseId) -> Result<()> {
        self.discard_tree(id)?;
        self.forget(id)
    }

    /// Removes the record of a release whose tree is gone.
    pub fn forget(&self, id: &ReleaseId) -> Result<()> {
        files::remove_file(&self.app.record(id))
    }

    /// The same without its record.
    pub fn discard_tree(&self, id: &ReleaseId) -> Result<()> {
        files::remove_file(&self.app.manifest(&id.name))?;
        let place = self.app.release(id);
        if files::exists(&place) {
            let trash = self.app.trash().join(format!("{}-{}-{}", id.version, id.name, std::process::id()));
            files::move_new(&place, &trash)?;
        }
        Ok(())
    }

    /// Renames the tree of a release, whole or half, out of `versions/` into the place of the spare. It keeps its
    /// manifest, and nothing runs in it: that is the caller's affair.
    pub fn set_aside(&self, id: &ReleaseId) -> Result<()> {
        self.discard_spare()?;
        files::make_directory(&self.app.spare(), 0o700)?;
        files::move_new(&self.app.release(id), &self.app.spare().join(id.name.as_str()))
    }

    /// Renames the spare to the place of a release that is being made. On disk with the release's seal: as long as
    /// that is not there, it does not matter where a power cut leaves the tree.
    pub fn take_spare(&self, spare: &ReleaseName, id: &ReleaseId) -> Result<()> {
        files::move_unsynced(&self.app.spare().join(spare.as_str()), &self.app.release(id))
    }

    /// Renames whatever lies in the place of the spare to the trash. Answers whether anything did.
    pub fn discard_spare(&self) -> Result<bool> {
        let names = files::names_in(&self.app.spare())?;
        for name in &names {
            if let Ok(name) = name.parse::<ReleaseName>() {
                files::remove_file(&self.app.manifest(&name))?;
            }
            let trash = self.app.trash().join(format!("spare-{name}-{}", std::process::id()));
            files::move_new(&self.app.spare().join(name), &trash)?;
        }
        Ok(!names.is_empty())
    }
}

/// Who holds the app's lock now, as far as it told; `None` where nobody does.
pub fn holder(app: &App) -> Option<Holder> {
    let mut file = open_nonblocking(OpenOptions::new().read(true), &app.lock_file()).ok()?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    Read::by_ref(&mut file).take(4096).read_to_string(&mut text).ok()?;
    let unknown = Holder { format: FORMAT, pid: 0, doing: "something".to_owned() };
    Some(serde_json::from_str(&text).unwrap_or(unknown))
}

/// Whether the lock can be taken at all: a regular file, of a format that we know.
pub fn examine_lock(app: &App) -> Result<()> {
    let text = files::read_text(&app.lock_file()).map(Option::unwrap_or_default);
    // Junk in it is nobody's loss, and written over.
    let junk = |error| match std::fs::symlink_metadata(app.lock_file()) {
        Ok(there) if there.is_file() => Ok(String::new()),
        _ => Err(error),
    };
    text.or_else(junk).and_then(|text| refuse_newer_holder(&text, app))
}

fn refuse_newer_holder(text: &str, app: &App) -> Result<()> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    match serde_json::from_str::<Format>(text) {
        Ok(there) => refuse_newer(there.format, &app.lock_file()),
        Err(_) => Ok(()),
    }
}

/// Follows no symlink, and waits for nobody at a FIFO.
fn open_nonblocking(options: &mut OpenOptions, path: &Path) -> std::io::Result<File> {
    #[allow(clippy::cast_possible_wrap, reason = "the flags are small positive numbers")]
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32;
    options.custom_flags(flags).open(path)
}

fn open_lock(app: &App) -> Result<File> {
    let path = app.lock_file();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(app.state_mode());
    let opened = open_nonblocking(&mut options, &path);
    let file = opened.context(|| format!("cannot open the lock {}", path.display()))?;
    if file.metadata().is_ok_and(|about| about.is_file()) {
        return Ok(file);
    }
    Err(Error::new(format!("{} is not a regular file", path.display())))
}

/// Writes who holds the lock into it. Junk in it is written over; a newer format is left alone.
fn tell(file: &mut File, app: &App, doing: &str) -> Result<()> {
    let path = app.lock_file();
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| Read::by_ref(file).take(4096).read_to_string(&mut text));
    refuse_newer_holder(&text, app)?;
    let holder = Holder { format: FORMAT, pid: std::process::id(), doing: doing.to_owned() };
    let text = serde_json::to_string(&holder).context(|| "cannot write down who holds the lock")?;
    let told = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
    // A full disk must not keep anybody from cleaning up: the lock itself is the kernel's.
    if let Err(error) = told {
        log::warn!("cannot say in {} who holds it: {error}", path.display());
    }
    Ok(())
}
