//! The side that works: one conversation.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec};
use serde::Serialize;
use serde_json::Value;

use super::message::{self, Ask, Failure, Order, Told};
use crate::data::sqlite::database::{Sqlite, file_of};
use crate::data::sqlite::shell::Shell;
use crate::data::sqlite::{copy, dump, fence, place};
use crate::data::{Database, Hold, Limit, Script};
use crate::support::{Context, Error, Result};

/// How often whoever waits is told that the work goes on.
const HEARTBEAT: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Does what is asked for over `stream`, one thing after the other.
pub(super) fn serve(stream: UnixStream) {
    let peer = Peer { stream, gone: AtomicBool::new(false), waits: Mutex::new(false) };
    thread::scope(|scope| {
        scope.spawn(|| peer.watch());
        let mut session = Session { peer: &peer, held: None, shell: None };
        // There is nobody else to tell.
        let _ = session.converse();
        drop(session);
        peer.hang_up();
    });
}

/// Whoever asks.
struct Peer {
    stream: UnixStream,
    /// Nobody wants the work any more.
    gone: AtomicBool,
    /// Whether an answer is waited for. Who has it is the one who speaks.
    waits: Mutex<bool>,
}

impl Peer {
    /// Waits for the end of whoever asks, and says meanwhile that the work goes on.
    fn watch(&self) {
        loop {
            let mut one = [PollFd::new(&self.stream, PollFlags::RDHUP)];
            match rustix::event::poll(&mut one, Some(&HEARTBEAT)) {
                Ok(0) => {
                    if self.waits.try_lock().is_ok_and(|waits| *waits && self.put(&Told::Alive).is_err()) {
                        break;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
        self.gone.store(true, Ordering::Relaxed);
    }

    fn put(&self, told: &Told) -> Result<()> {
        message::put(&mut &self.stream, told)
    }

    /// Tells what is not the last word.
    fn tell(&self, told: &Told) -> Result<()> {
        let _speaks = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(told)
    }

    /// Tells what nobody has to hear; where nobody does, the work ends at its next look.
    fn say(&self, told: &Told) {
        if self.tell(told).is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    fn begin(&self) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Tells the last word.
    fn end(&self, told: &Told) -> Result<()> {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        *waits = false;
        self.put(told)
    }

    /// Tells how long a file is, and hands its content over.
    fn hand_over(&self, path: &Path) -> Result<u64> {
        let cannot = || format!("cannot read the dump {}", path.display());
        let mut file = fs::File::open(path).context(cannot)?;
        let length = file.metadata().context(cannot)?.len();
        let _speaks = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(&Told::Done(length.into()))?;
        // What comes next would be taken for content.
        message::pass(&mut file, &mut &self.stream, length).inspect_err(|_| self.hang_up())?;
        Ok(length)
    }

    fn hang_up(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

struct Session<'a> {
    peer: &'a Peer,
    held: Option<Box<dyn Hold>>,
    shell: Option<Shell>,
}

impl Session<'_> {
    fn converse(&mut self) -> Result<()> {
        while let Some(order) = message::get::<Order>(&mut &self.peer.stream)? {
            self.peer.begin();
            let done = match self.perform(order) {
                Ok(value) => Told::Done(value),
                Err(error) => Told::Failed(Failure::of(&error)),
            };
            self.peer.end(&done)?;
        }
        Ok(())
    }

    fn perform(&mut self, order: Order) -> Result<Value> {
        let peer = self.peer;
        let limit = Limit::within(order.within).unless(&peer.gone);
        let database = Sqlite::at(order.spot);
        let file = file_of(database.spot());
        let mut progress = |progress| peer.say(&Told::Progress(progress));
        match order.ask {
            Ask::Create => answer(place::begin(&file)),
            Ask::Snapshot { to } => {
                let to = file_of(&to);
                copy::snapshot_into(&file, &to, &limit, &mut progress)?;
                answer(fence::strip(&to))
            }
            Ask::Receive { length } => {
                message::pass(&mut &peer.stream, &mut place::make_file(&file)?, length)?;
                answer(crate::data::sqlite::open::write_ahead(&file))
            }
            Ask::Freeze => answer(database.freeze()),
            Ask::Sync => answer(copy::checkpoint(&file)),
            Ask::Schema => answer(database.schema()),
            Ask::Census => answer(database.census(&limit)),
            Ask::Rows => answer(database.rows(&limit)),
            Ask::IsEmpty => answer(database.is_empty()),
            Ask::Verify { original } => answer(database.verify(&original, &limit)),
            Ask::Examine { broken } => answer(database.examine(broken, &limit)),
            Ask::RunSql { scripts, previous } => {
                let texts = scripts.iter().map(|(_, length)| content(&peer.stream, *length));
                let texts: Vec<_> = texts.collect::<Result<_>>()?;
                let both = scripts.iter().zip(&texts);
                let scripts: Vec<_> = both.map(|((name, _), text)| Script { name, text }).collect();
                let mut line = |line: &str| peer.say(&Told::Line(line.to_owned()));
                answer(database.run_sql(&scripts, previous.as_ref(), &limit, &mut line))
            }
            Ask::Fence => answer(database.fence()),
            Ask::Unfence => answer(database.unfence()),
            Ask::Dump { by } => {
                let by = file_of(&by);
                dump::dump(&file, &by, &limit, &mut progress)?;
                answer(peer.hand_over(&by))
            }
            Ask::Load { called, length, scratch } => {
                let scratch = file_of(&scratch);
                let incoming = place::beside(&scratch, place::INCOMING);
                message::pass(&mut &peer.stream, &mut place::make_file(&incoming)?, length)?;
                answer(dump::load_through(&incoming, &called, &file, &scratch, &limit))
            }
            Ask::Shell { access } => answer(Shell::open(&file, access).map(|shell| self.shell = Some(shell))),
            Ask::Statement { sql } => {
                let shell = self.shell.as_ref().ok_or_else(|| Error::new("there is no shell"))?;
                let mut output = BufWriter::new(Output { peer });
                answer(shell.run(&sql, &mut output))
            }
            Ask::CloseShell => answer(self.shell.take().map_or(Ok(()), Shell::close)),
            Ask::Tables => answer(database.tables()),
            Ask::Capture { peer } => answer(database.capture(&peer, &limit)),
            Ask::Captured => answer(database.captured()),
            Ask::EndCapture => answer(database.end_capture()),
            Ask::Changes => answer(database.changes(&limit)),
            Ask::Foresee { target, way } => answer(database.foresee(&target, &way, &limit)),
            Ask::Merge { left, way } => answer(database.merge(&left, &way, &limit)),
            Ask::StillHeld => answer(self.hold()?.check()),
            Ask::Hold => answer(database.hold(&limit).map(|hold| self.held = Some(hold))),
            Ask::Carry { target, way, on_conflict } => {
                answer(self.hold()?.carry_to(&target, &way, on_conflict, &limit))
            }
            Ask::Retire { why } => {
                self.hold()?;
                answer(self.held.take().map_or(Ok(()), |held| held.fence(&why)))
            }
        }
    }

    fn hold(&self) -> Result<&dyn Hold> {
        self.held.as_deref().ok_or_else(|| Error::new("nothing is held"))
    }
}

fn answer(done: Result<impl Serialize>) -> Result<Value> {
    serde_json::to_value(done?).context(|| "cannot write down what came of it")
}

/// So many bytes that come after a message.
fn content(mut stream: &UnixStream, length: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    message::pass(&mut stream, &mut content, length).map(|()| content)
}

/// What a shell prints.
struct Output<'a> {
    peer: &'a Peer,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let told = Told::Output(String::from_utf8_lossy(bytes).into_owned());
        self.peer.tell(&told).map_err(io::Error::other).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
