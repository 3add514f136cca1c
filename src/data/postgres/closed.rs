//! The hold that cuts everybody off, for the copy that the server makes of its own files (`CREATE DATABASE … TEMPLATE`): it
//! wants nobody connected, not even who holds the lock.
//!
//! So nothing holds the writers while it copies: the fence stands before it begins, raised in the transaction of the
//! usual hold, and whoever wrote until then is in the copy. From there on writes are refused, not held. Then no connection
//! is let in, those that there are end, readers' too, the files are copied, and readers may come in again.
//!
//! **A death** leaves the database as it is then, closed or fenced. [`reopen`] and the end of the fence bring it back:
//! they are what recovery does first, whoever starts it (the next command that writes, the holder of the door, the boot).
//! A server that goes on with a copy whose client died is waited for there.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use super::names::{ident, literal};
use super::place::{self, LOBBY, reader_of};
use super::server::Server;
use super::session::{Session, text};
use super::{fence, grants, hold};
use crate::data::way::{Carried, OnConflict, Way};
use crate::data::{Fence, Hold, Limit, Progress, Spot};
use crate::support::{Context, Error, Result, death};

/// How long connections may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A database that is fenced, and copied by the server itself.
pub(super) struct Closed {
    server: Server,
    name: String,
    /// Whether the fence is to stay.
    retired: Cell<bool>,
}

/// Takes the hold, and raises the fence in it, which says `why`.
pub(super) fn take(server: &Server, name: &str, why: &str, limit: &Limit<'_>) -> Result<Closed> {
    let closed = Closed { server: server.clone(), name: name.to_owned(), retired: Cell::new(false) };
    Box::new(hold::take(server, name, limit)?).fence(why)?;
    Ok(closed)
}

impl Hold for Closed {
    fn check(&self) -> Result<()> {
        match fence::fence(&self.server, &self.name)? {
            Fence::Whole => Ok(()),
            Fence::Open => Err(Error::new(format!("the fence of '{}' is down", self.name.escape_debug()))),
            Fence::Gaps(gaps) => Err(Error::new(format!(
                "the fence of '{}' has gaps: {}",
                self.name.escape_debug(),
                gaps.join(", ").escape_debug()
            ))),
        }
    }

    fn copy_to(&self, to: &Spot, limit: &Limit<'_>, _: &mut dyn FnMut(Progress)) -> Result<()> {
        let name = &self.name;
        let cannot = || format!("cannot copy the database '{}'", name.escape_debug());
        copy(&self.server, name, to, limit)
            .context(cannot)
            .inspect_err(|_| place::abandon(&self.server, &to.name))?;
        self.check()
    }

    fn carry_to(
        &self,
        target: &Spot,
        way: &Way,
        on_conflict: OnConflict,
        limit: &Limit<'_>,
    ) -> Result<Carried> {
        super::database::secret_of(&self.server, &target.name)?;
        super::way::carry(&self.server, [&self.name, &target.name], way, on_conflict, limit, &|| self.check())
    }

    fn fence(self: Box<Self>, _: &str) -> Result<()> {
        self.check()?;
        self.retired.set(true);
        Ok(())
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if self.retired.get() {
            return;
        }
        let back = reopen(&self.server, &self.name).and_then(|()| fence::unfence(&self.server, &self.name));
        if let Err(error) = back {
            log::warn!("{}", error.one_line());
        }
    }
}

/// Lets connections in again where a death left a database closed. Cheap where it is open.
pub(super) fn reopen(server: &Server, name: &str) -> Result<()> {
    let mut lobby = server.session(LOBBY)?;
    if lobby.any("SELECT FROM pg_database WHERE datname = $1 AND NOT datallowconn", &[&name])? {
        allow(&mut lobby, name, true)?;
    }
    Ok(())
}

fn allow(lobby: &mut Session, name: &str, connections: bool) -> Result<()> {
    lobby.run(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS {connections}", ident(name)))
}

/// Copies the files, and gives the copy to its own roles.
fn copy(server: &Server, original: &str, to: &Spot, limit: &Limit<'_>) -> Result<()> {
    let (mut lobby, secret) = place::claim(server, to)?;
    let copy = to.name.as_str();
    place::drop_database(&mut lobby, copy)?;
    let copied = copy_files(&mut lobby, original, copy, limit);
    // Whatever became of it, the original is looked into again.
    reopen(server, original)?;
    copied?;
    drop(lobby);
    own(server, original, copy)?;
    place::settle(server, copy, copy, &secret)?;
    let mut source = server.session(original)?;
    let mut owner = server.session_of(copy, copy, &secret.password, false)?;
    grants::carry(&mut source, original, &mut owner, copy)
}

fn copy_files(lobby: &mut Session, original: &str, copy: &str, limit: &Limit<'_>) -> Result<()> {
    allow(lobby, original, false)?;
    death::point("database-closed");
    end_all(lobby, original, limit)?;
    let version = lobby.version()? / 10_000;
    if version >= 18 {
        // Where the filesystem can share blocks it is done in no time; where it cannot, they are copied all the same.
        if let Err(error) = lobby.run("SET file_copy_method = clone") {
            log::debug!("the server does not clone files: {error}");
        }
    }
    let strategy = if version >= 15 { " STRATEGY FILE_COPY" } else { "" };
    let (from, name) = (ident(original), ident(copy));
    lobby.within(limit, |lobby| {
        lobby.run(&format!(
            "CREATE DATABASE {name} OWNER {name} TEMPLATE {from}{strategy} ALLOW_CONNECTIONS false"
        ))
    })?;
    lobby.run(&format!("REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC"))?;
    lobby.run(&format!("GRANT CONNECT ON DATABASE {name} TO {}", ident(&reader_of(copy)?)))?;
    allow(lobby, copy, true)
}

/// Ends every connection to a database that lets no new one in.
fn end_all(lobby: &mut Session, name: &str, limit: &Limit<'_>) -> Result<()> {
    let began = Instant::now();
    loop {
        limit.check()?;
        let left =
            lobby.query("SELECT pid, usename::text FROM pg_stat_activity WHERE datname = $1", &[&name])?;
        if left.is_empty() {
            return Ok(());
        }
        for row in &left {
            let pid: i32 = row.get(0);
            if let Err(error) = lobby.query("SELECT pg_terminate_backend($1)", &[&pid]) {
                let role = text(row, 1)?.escape_debug().to_string();
                return Err(Error::new(format!("process {pid} of the role '{role}' cannot be disconnected"))
                    .caused_by(error)
                    .hint(
                        "`GRANT pg_signal_backend TO` receiver's role, as a superuser; or let it disconnect",
                    ));
            }
        }
        if began.elapsed() > PATIENCE {
            return Err(Error::new(format!(
                "{} connections to '{}' do not end",
                left.len(),
                name.escape_debug()
            )));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Everything in the copy is its own role's, and nothing of receiver's is left in it.
///
/// Both statements also reach what the whole cluster shares, so in the same transaction the original gets back what
/// is its own: its owner, and that its reader may connect.
fn own(server: &Server, original: &str, copy: &str) -> Result<()> {
    let mut session = server.session(copy)?;
    let (from, reader, to) = (ident(original), ident(&reader_of(original)?), ident(copy));
    session.run("DROP SCHEMA IF EXISTS receiver CASCADE")?;
    session.run(&format!(
        "BEGIN; REASSIGN OWNED BY {from} TO {to}; ALTER DATABASE {from} OWNER TO {from};
         DROP OWNED BY {reader}; DROP OWNED BY {from}; GRANT CONNECT ON DATABASE {from} TO {reader}; COMMIT"
    ))?;
    // A trigger that was switched off, as somebody read, has gone with its function.
    let left = "SELECT FROM pg_trigger WHERE tgname = 'receiver_fence'";
    if session.any(left, &[])? {
        return Err(Error::new(format!("the fence is still in the copy {}", literal(copy))));
    }
    Ok(())
}
