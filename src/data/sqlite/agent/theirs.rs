//! A database that another user works on.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::line::Line;
use super::message::{Ask, Told};
use crate::app::AppName;
use crate::data::sqlite::database::{Sqlite, file_of};
use crate::data::sqlite::{place, shell};
use crate::data::way::{Capture, Carried, Changes, OnConflict, Table, Way};
use crate::data::{
    Access, Census, Database, Fence, Finding, Hold, Limit, Progress, Rows, Schema, Script, Spot, Talk,
};
use crate::support::{Context, Error, Result, files};

/// A version's database in a file that only an app's user opens.
///
/// Directories are made and removed here: they are receiver's, and the app's user may write in them.
#[derive(Clone, Debug)]
pub(in crate::data::sqlite) struct Theirs {
    /// All that needs nobody to open it.
    plain: Sqlite,
    /// Whose user reads it.
    reader: AppName,
    /// Whose user makes others beside it: another app's where this one is only lent.
    maker: AppName,
}

impl Theirs {
    /// The database at this spot.
    pub(in crate::data::sqlite) fn at(spot: Spot, reader: AppName, maker: AppName) -> Theirs {
        Theirs { plain: Sqlite::at(spot), reader, maker }
    }

    fn own(&self, spot: Spot) -> Theirs {
        Theirs::at(spot, self.maker.clone(), self.maker.clone())
    }

    fn file(&self) -> PathBuf {
        file_of(self.plain.spot())
    }

    /// Asks for what tells nothing meanwhile.
    fn ask<T: DeserializeOwned>(&self, limit: Option<&Limit<'_>>, ask: Ask) -> Result<T> {
        self.ask_aloud(limit, ask, &mut |_| {})
    }

    fn ask_aloud<T: DeserializeOwned>(
        &self,
        limit: Option<&Limit<'_>>,
        ask: Ask,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<T> {
        let line = Line::open(&self.reader)?;
        line.ask(self.spot(), limit, ask, &mut io::empty(), &mut |told| {
            progress(&told, on_progress);
            Ok(())
        })
    }

    /// Has something made in a directory for it, which goes again where that fails.
    fn make<T>(&self, make: impl FnOnce(&Theirs) -> Result<T>) -> Result<T> {
        let file = self.file();
        place::remove(&file)?;
        place::make_directory(&file)?;
        make(self).inspect_err(|_| place::abandon(&file))
    }

    /// The place of a copy that is handed out, beside the database. What a death leaves there is swept.
    fn handing_out(&self) -> Spot {
        let Spot { directory, name } = self.spot();
        let mut place = directory.clone().into_os_string();
        place.push(format!(".handing-out-{}", std::process::id()));
        Spot { directory: place.into(), name: name.clone() }
    }

    /// Hands out a copy of one moment: `to` is given its length in bytes, and where to read it.
    fn hand_out<T>(
        &self,
        limit: &Limit<'_>,
        on_progress: &mut dyn FnMut(Progress),
        to: impl FnOnce(&Line, u64) -> Result<T>,
    ) -> Result<T> {
        let by = Theirs { plain: Sqlite::at(self.handing_out()), ..self.clone() };
        let handed = by.make(|by| {
            let line = Line::open(&self.reader)?;
            let ask = Ask::Dump { by: by.spot().clone() };
            let length = line.ask(self.spot(), Some(limit), ask, &mut io::empty(), &mut |told| {
                progress(&told, on_progress);
                Ok(())
            })?;
            to(&line, length)
        })?;
        place::remove(&by.file())?;
        Ok(handed)
    }

    /// A copy for another app, whose user may not read this one: its bytes go from one to the other.
    fn lend(&self, to: &Theirs, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        self.hand_out(limit, on_progress, |line, length| {
            to.make(|to| {
                let (mut reads, writes) = io::pipe().context(|| "cannot make a pipe")?;
                let taking = Line::open(&to.reader)?;
                std::thread::scope(|scope| {
                    let sending = scope.spawn(move || {
                        let mut writes = writes;
                        line.content(limit, length, &mut writes)
                    });
                    let ask = Ask::Receive { length };
                    let taken = taking.ask::<()>(to.spot(), Some(limit), ask, &mut reads, &mut |_| Ok(()));
                    drop(reads);
                    let sent = sending.join().map_err(|_| Error::new("a thread has died"))?;
                    taken.and(sent)
                })
            })
        })
    }
}

fn progress(told: &Told, on_progress: &mut dyn FnMut(Progress)) {
    if let Told::Progress(progress) = told {
        on_progress(*progress);
    }
}

impl Database for Theirs {
    fn spot(&self) -> &Spot {
        self.plain.spot()
    }

    fn engine(&self) -> &'static str {
        self.plain.engine()
    }

    fn place(&self) -> String {
        self.plain.place()
    }

    fn beside(&self, spot: Spot) -> Box<dyn Database> {
        Box::new(self.own(spot))
    }

    fn variables(&self, access: Access) -> Result<Vec<(&'static str, String)>> {
        self.plain.variables(access)
    }

    fn url(&self, access: Access) -> Result<String> {
        self.plain.url(access)
    }

    fn exists(&self) -> Result<bool> {
        self.plain.exists()
    }

    fn has_reader(&self) -> bool {
        self.plain.has_reader()
    }

    fn create(&self) -> Result<()> {
        self.make(|this| this.ask(None, Ask::Create))
    }

    fn remove(&self) -> Result<()> {
        self.plain.remove()
    }

    fn snapshot(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let made = self.own(to.clone());
        if self.reader != self.maker {
            return self.lend(&made, limit, on_progress);
        }
        made.make(|_| self.ask_aloud(Some(limit), Ask::Snapshot { to: to.clone() }, on_progress))
    }

    fn freeze(&self) -> Result<()> {
        self.ask(None, Ask::Freeze)
    }

    fn sync(&self) -> Result<()> {
        self.ask::<()>(None, Ask::Sync)?;
        place::sync_directory(&self.file())
    }

    fn schema(&self) -> Result<Schema> {
        self.ask(None, Ask::Schema)
    }

    fn census(&self, limit: &Limit<'_>) -> Result<Census> {
        self.ask(Some(limit), Ask::Census)
    }

    fn rows(&self, limit: &Limit<'_>) -> Result<Rows> {
        self.ask(Some(limit), Ask::Rows)
    }

    fn is_empty(&self) -> Result<bool> {
        self.ask(None, Ask::IsEmpty)
    }

    fn size(&self) -> Result<u64> {
        self.plain.size()
    }

    fn directory(&self) -> Result<Option<PathBuf>> {
        self.plain.directory()
    }

    fn verify(&self, original: &Spot, limit: &Limit<'_>) -> Result<u64> {
        self.ask(Some(limit), Ask::Verify { original: original.clone() })
    }

    fn examine(&self, broken: u64, limit: &Limit<'_>) -> Result<()> {
        self.ask(Some(limit), Ask::Examine { broken })
    }

    fn run_sql(
        &self,
        scripts: &[Script<'_>],
        previous: Option<&Spot>,
        limit: &Limit<'_>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let named = |script: &Script<'_>| (script.name.to_owned(), script.text.len() as u64);
        let ask = Ask::RunSql { scripts: scripts.iter().map(named).collect(), previous: previous.cloned() };
        let content = scripts.iter().map(|script| script.text).collect::<Vec<_>>().concat();
        let line = Line::open(&self.reader)?;
        line.ask(self.spot(), Some(limit), ask, &mut content.as_slice(), &mut |told| {
            if let Told::Line(line) = told {
                on_line(&line);
            }
            Ok(())
        })
    }

    fn prepare_hold(&self, _: &Limit<'_>) -> Result<()> {
        // The agent is there before anybody waits for it.
        Line::open(&self.reader).map(drop)
    }

    fn hold(&self, limit: &Limit<'_>) -> Result<Box<dyn Hold>> {
        let line = Line::open(&self.reader)?;
        let held = Held { line, database: self.clone() };
        held.ask::<()>(Some(limit), Ask::Hold)?;
        Ok(Box::new(held))
    }

    fn fence(&self) -> Result<Fence> {
        self.ask(None, Ask::Fence)
    }

    fn unfence(&self) -> Result<()> {
        self.ask(None, Ask::Unfence)
    }

    fn connected(&self) -> Result<Vec<String>> {
        self.plain.connected()
    }

    fn findings(&self) -> Result<Vec<Finding>> {
        self.plain.findings()
    }

    fn dump_suffix(&self) -> &'static str {
        self.plain.dump_suffix()
    }

    fn dump(&self, to: &Path, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let cannot = || format!("cannot write the dump {}", to.display());
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(to);
        let file = file.context(cannot)?;
        let dumped = self.hand_out(limit, on_progress, |line, length| {
            let mut summed = Summed { to: &file, sum: Sha256::new() };
            line.content(limit, length, &mut summed)?;
            file.sync_all().context(cannot)?;
            // The agent has read its copy back, page by page; this one has to be the same.
            if read_back(&file).context(cannot)? != summed.sum.finalize().as_slice() {
                return Err(Error::new(format!("{}: it reads back otherwise", cannot())));
            }
            files::sync_directory(to.parent().unwrap_or(Path::new("/")))
        });
        dumped.inspect_err(|_| {
            let _ = files::remove_file(to);
        })
    }

    fn load(&self, from: &Path, scratch: &Spot, limit: &Limit<'_>) -> Result<()> {
        let cannot = || format!("cannot read {}", from.display());
        let content = files::open_regular(from)?.ok_or_else(|| Error::new(cannot()))?;
        let length = content.metadata().context(cannot)?.len();
        let scratch = self.own(scratch.clone());
        scratch.make(|scratch| {
            let called = from.display().to_string();
            let ask = Ask::Load { called, length, scratch: scratch.spot().clone() };
            let line = Line::open(&self.reader)?;
            line.ask::<()>(self.spot(), Some(limit), ask, &mut content.take(length), &mut |_| Ok(()))
        })?;
        place::remove(&scratch.file())
    }

    fn shell(&self, access: Access, talk: Talk<'_>) -> Result<bool> {
        let line = Line::open(&self.reader)?;
        let Talk { input, output, errors } = talk;
        let mut ask = |ask: Ask| {
            line.ask::<()>(self.spot(), None, ask, &mut io::empty(), &mut |told| match told {
                Told::Output(text) => output.write_all(text.as_bytes()).context(|| "cannot write a row"),
                _ => Ok(()),
            })
        };
        ask(Ask::Shell { access })?;
        let succeeded = shell::each(input, errors, &mut |sql| ask(Ask::Statement { sql: sql.to_owned() }))?;
        let closed = ask(Ask::CloseShell);
        Ok(shell::told(closed, errors)? && succeeded)
    }

    fn tables(&self) -> Result<Vec<Table>> {
        self.ask(None, Ask::Tables)
    }

    fn capture(&self, peer: &str, limit: &Limit<'_>) -> Result<Capture> {
        self.ask(Some(limit), Ask::Capture { peer: peer.to_owned() })
    }

    fn captured(&self) -> Result<Option<Capture>> {
        self.ask(None, Ask::Captured)
    }

    fn end_capture(&self) -> Result<()> {
        self.ask(None, Ask::EndCapture)
    }

    fn changes(&self, limit: &Limit<'_>) -> Result<BTreeMap<String, Changes>> {
        self.ask(Some(limit), Ask::Changes)
    }

    fn foresee(&self, target: &Spot, way: &Way, limit: &Limit<'_>) -> Result<Carried> {
        self.ask(Some(limit), Ask::Foresee { target: target.clone(), way: way.clone() })
    }

    fn merge(&self, left: &Spot, way: &Way, limit: &Limit<'_>) -> Result<Carried> {
        self.ask(Some(limit), Ask::Merge { left: left.clone(), way: way.clone() })
    }
}

/// A hold that the agent has. It lasts as long as the conversation.
struct Held {
    line: Line,
    database: Theirs,
}

impl Held {
    fn ask<T: DeserializeOwned>(&self, limit: Option<&Limit<'_>>, ask: Ask) -> Result<T> {
        self.line.ask(self.database.spot(), limit, ask, &mut io::empty(), &mut |_| Ok(()))
    }
}

impl Hold for Held {
    fn check(&self) -> Result<()> {
        self.ask(None, Ask::StillHeld)
    }

    fn copy_to(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        self.database.snapshot(to, limit, on_progress)
    }

    fn carry_to(
        &self,
        target: &Spot,
        way: &Way,
        on_conflict: OnConflict,
        limit: &Limit<'_>,
    ) -> Result<Carried> {
        self.ask(Some(limit), Ask::Carry { target: target.clone(), way: way.clone(), on_conflict })
    }

    fn fence(self: Box<Self>, why: &str) -> Result<()> {
        self.ask(None, Ask::Retire { why: why.to_owned() })
    }
}

/// Writes, and sums up what it wrote.
struct Summed<'a> {
    to: &'a File,
    sum: Sha256,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn read_back(mut file: &File) -> io::Result<Vec<u8>> {
    let mut sum = Sha256::new();
    file.rewind()?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sum.finalize().to_vec()),
            read => sum.update(&buffer[..read]),
        }
    }
}
