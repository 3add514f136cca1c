//! Nobody waits for a server that waits for itself.
//!
//! Where its disk is full MariaDB waits for room with some of its files (the log of Aria, which its own tables are
//! in, that of roles for instance): it tries again each minute, and says so in its log alone. Who asked for it waits as
//! long. `KILL` is no way out: it lets the server fail in the middle of writing, and leaves its table of roles corrupt (seen on
//! 10.11.19). So nobody asks for a role where there is no room ([`has_room`]); and for whoever asked a moment too early
//! this side hangs up: the server ends what it does when there is room again.
//!
//! A thread looks at the disk once a second, where it can be seen from here, and hangs up where this process waits for a
//! server that has no room. And while writers are held, another one hangs up all of this process's connections, that of
//! the hold too, if the time is over and still nothing came to its end: whatever the server waits for, writers do not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::place;
use super::server::Server;
use super::session::{self, Session};
use crate::data::Limit;
use crate::support::{Error, Result, files};

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A disk with less is full.
const ROOM: u64 = 1 << 20;
/// How many looks in a row it is full, and for how many seconds a statement runs, before nobody waits for it any more.
const FULL: u32 = 3;
/// How much longer than its limit a hold may last: who can be stopped is by then.
const GRACE: Duration = Duration::from_secs(5);

/// Why this side hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The server has no room.
    Full,
    /// Writers were held for as long as they may.
    Over,
}

/// The servers whose disks are looked at.
static WATCHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// The connections that were hung up.
static ENDED: Mutex<BTreeMap<(PathBuf, u32), Why>> = Mutex::new(BTreeMap::new());

/// Why this side hung up, if it did.
pub(super) fn ended(socket: &Path, id: u32) -> Option<Why> {
    ENDED.lock().ok()?.get(&(socket.to_owned(), id)).copied()
}

/// Begins to look at the disk of a server, if it can be seen and nobody in this process does yet.
pub(super) fn watch(server: &Server, session: &mut Session) -> Result<()> {
    let is_new = WATCHED.lock().is_ok_and(|mut watched| watched.insert(server.socket.clone()));
    let Some(directory) = is_new.then(|| place::directory(session)).transpose()?.flatten() else {
        return Ok(());
    };
    let server = server.clone();
    thread::spawn(move || {
        let mut full = 0;
        loop {
            thread::sleep(LOOK);
            let free = files::free_space(&directory).map_or(u64::MAX, |(bytes, _)| bytes);
            full = if free < ROOM { full + 1 } else { 0 };
            if full >= FULL {
                // One that cannot be looked for now is a second later.
                let _ = end(&server, Why::Full);
            }
        }
    });
    Ok(())
}

/// An error where the server has no room for what it waits for.
pub(super) fn has_room(session: &mut Session) -> Result<()> {
    let Some(directory) = place::directory(session)? else { return Ok(()) };
    if files::free_space(&directory)?.0 >= ROOM {
        return Ok(());
    }
    Err(Error::new(format!("the database server has no room left in {}", directory.display()))
        .hint("make room on that filesystem, then try again"))
}

/// Hangs up connections of this process: those that wait for seconds already, or all.
fn end(server: &Server, why: Why) -> Result<()> {
    let mut session = server.connect()?;
    // The view of the same needs a temporary table, for which there may be no room.
    for row in session.rows::<mysql::Row>("SHOW PROCESSLIST", ())? {
        let cell = |at: usize| row.as_ref(at).cloned().unwrap_or(mysql::Value::NULL);
        let number = |at: usize| mysql::from_value_opt::<u32>(cell(at)).unwrap_or(0);
        let command: String = mysql::from_value_opt(cell(4)).unwrap_or_default();
        let (id, waits) = (number(0), command != "Sleep" && number(5) >= FULL);
        if id == session.id() || !session::is_own(&server.socket, id) || (why == Why::Full && !waits) {
            continue;
        }
        if let Ok(mut ended) = ENDED.lock() {
            ended.entry((server.socket.clone(), id)).or_insert(why);
        }
        session::hang_up(&server.socket, id);
    }
    Ok(())
}

/// Hangs up all connections of this process when a limit has been over for a while, unless it is dropped before.
#[derive(Debug)]
pub(super) struct Until {
    _alive: Sender<()>,
}

impl Until {
    pub(super) fn over(server: &Server, limit: &Limit<'_>) -> Until {
        let (alive, dropped) = mpsc::channel();
        let (server, most) = (server.clone(), limit.left().saturating_add(GRACE));
        thread::spawn(move || {
            let mut most = most;
            while dropped.recv_timeout(most) == Err(RecvTimeoutError::Timeout) {
                let _ = end(&server, Why::Over);
                most = LOOK;
            }
        });
        Until { _alive: alive }
    }
}
