//! The hold: for the moment in which nothing may answer, requests wait at the door, and none is refused.
//!
//! A small process of its own, the holder, accepts connections and keeps them unread; the door leads to it.
//! When the door leads elsewhere again, it joins each to what is current then. Why nobody waits for ever:
//!
//! - The worker dies: the control connection between the two ends. The holder waits for the app's lock to
//!   be free, starts a new worker, whose recovery finishes or undoes and opens the door, and opens the door
//!   itself where that does not happen.
//! - The worker hangs: past its time and a grace the holder kills it, and the same follows.
//! - The holder dies: [`Hold::check`] says so, and the deploy is undone; nginx goes by its `backup` server.
//! - The holder hangs: every answer of it is waited for no longer than [`PATIENCE`]. The kernel keeps
//!   connections meanwhile (its backlog). It is let go on, then killed.
//! - Both die: `backup`, and whoever takes the app's lock next recovers, and opens the door.

mod control;
mod holder;
mod spawn;

use std::path::Path;
use std::time::{Duration, Instant};

pub use holder::{Orders, hold};

use super::{backlog, door, start};
use crate::app::App;
use crate::support::{Error, Result, files, program};
use control::Control;

/// How much longer than its time a worker may take, and how long recovery may take.
const GRACE: Duration = Duration::from_secs(10);

/// How long an answer of the holder is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the holder has to join what it held, before the worker goes on.
const JOINING: Duration = Duration::from_secs(5);

/// How long a look at running requests waits before the next.
const GLANCE: Duration = Duration::from_millis(5);

/// The door is closed: requests wait.
#[derive(Debug)]
pub struct Hold {
    app: App,
    control: Control,
}

/// What became of the requests that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// How many connections were held.
    pub held: u64,
    /// How long the one that waited longest did.
    pub longest: Duration,
    /// How many had to be cut off, since nothing took them in time.
    pub lost: u64,
    /// How many still wait for their turn at the new socket.
    pub waiting: u64,
}

impl Hold {
    /// Closes the door: starts a holder, and points the door to it. `most` is how long the door is to be
    /// closed at the most; a grace after it the holder kills who forgot to open it.
    pub fn close(app: &App, most: Duration) -> Result<Hold> {
        Hold::close_by(&program::program()?, app, most, GRACE)
    }

    /// The same, with another file of the program, and another grace.
    pub fn close_by(program: &Path, app: &App, most: Duration, grace: Duration) -> Result<Hold> {
        files::make_directory(&app.holds(), 0o711)?;
        sweep(app)?;
        let id = free_id(app);
        start::refuse_long(&app.hold_socket(&id))?;
        let control = spawn::holder(program, app, &id, (most, grace))?;
        // From here on an error must not leave the door closed.
        if let Err(error) = door::close(app, &id) {
            let _ = door::open(app);
            return Err(error);
        }
        log::info!(
            "the door of {} is held by {id}, process {}",
            app.name(),
            control.pid().unwrap_or_default()
        );
        Ok(Hold { app: app.clone(), control })
    }

    /// Waits until the requests that `socket` runs, backlog included, have ended, at most `within`. Answers
    /// how many run still.
    pub fn wait_for_running(&self, socket: &Path, within: Duration) -> Result<usize> {
        let deadline = Instant::now() + within;
        let mut quiet = false;
        loop {
            let running = backlog::on(socket)?.total();
            // A connection between backlog and acceptance is seen by the second look.
            if running == 0 && quiet || Instant::now() >= deadline {
                return Ok(running);
            }
            quiet = running == 0;
            self.check()?;
            std::thread::sleep(GLANCE);
        }
    }

    /// The holder's process.
    pub fn pid(&self) -> Option<u32> {
        self.control.pid()
    }

    /// Whether the holder still holds.
    ///
    /// # Errors
    /// Where it died, or does not answer: the hold is worth nothing, and the deploy is to be undone.
    pub fn check(&self) -> Result<()> {
        self.control.ask("ping", "pong", PATIENCE).map(drop)
    }

    /// Opens the door: the connections that were held go on to what is current now.
    ///
    /// # Errors
    /// The door is open also where this fails, unless the error is the door's own; then the connections that
    /// a dead holder had are lost.
    pub fn open(self) -> Result<Released> {
        door::open(&self.app)?;
        let answer = match self.control.ask("open", "released ", JOINING + PATIENCE) {
            Err(error) if !self.control.has_ended() => {
                log::warn!("{}: it is let go on", error.one_line());
                self.control.let_go_on();
                self.control.wait_for("released ", PATIENCE)
            }
            answer => answer,
        };
        let released = answer.and_then(|line| {
            control::parse_released(&line)
                .ok_or_else(|| Error::new("the holder at the door answers nonsense"))
        });
        released.inspect_err(|_| self.control.kill())
    }
}

/// Removes the sockets that dead holders left.
pub fn sweep(app: &App) -> Result<()> {
    for name in files::names_in(&app.holds())? {
        let path = app.holds().join(&name);
        let ours =
            name.starts_with("h-") && path.extension().is_some_and(|end| end == "sock" || end == "ctl");
        if ours && !backlog::on(&path)?.listens {
            files::remove_file(&path)?;
        }
    }
    Ok(())
}

/// A name that no holder has: the clock's nanoseconds, one further where somebody was as quick.
fn free_id(app: &App) -> String {
    let mut number = u64::try_from(jiff::Timestamp::now().as_nanosecond() >> 16).unwrap_or_default();
    loop {
        let id = format!("h-{:08x}", number & 0xFFFF_FFFF);
        if !files::exists(&app.hold_socket(&id)) && !files::exists(&app.hold_control(&id)) {
            return id;
        }
        number = number.wrapping_add(1);
    }
}
