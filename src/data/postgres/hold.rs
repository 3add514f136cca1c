//! The hold: readers go on, writers wait, and a death of the holder lets them go on.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::catalog::{self, Table};
use super::server::Server;
use super::session::{Session, text};
use super::{copy, fence};
use crate::data::way::{Carried, OnConflict, Way};
use crate::data::{Hold, Limit, Progress, Spot};
use crate::support::{Context, Error, Result};

/// How long one attempt may make others wait behind it.
const ATTEMPT: &str = "SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '2s'";

/// How long writers have the tables to themselves between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// What makes two holds of one database exclude each other, also where it has no table: any number.
const ADVISORY: i64 = 0x7265_6365_6976_6572;

/// A transaction that has every table locked in `EXCLUSIVE MODE`.
pub(super) struct Held {
    /// Given away by the fence.
    session: Mutex<Session>,
    server: Server,
    name: String,
    /// The tables that are locked, by number.
    tables: BTreeSet<u32>,
}

/// Takes the hold, trying again until the limit. The error names who is in the way.
pub(super) fn take(server: &Server, name: &str, limit: &Limit<'_>) -> Result<Held> {
    let cannot = || format!("cannot hold the writers of '{}'", name.escape_debug());
    let mut session = server.session(name).context(cannot)?;
    loop {
        limit.check().context(cannot)?;
        match attempt(&mut session, limit).context(cannot)? {
            Some(tables) => {
                return Ok(Held {
                    session: Mutex::new(session),
                    server: server.clone(),
                    name: name.to_owned(),
                    tables,
                });
            }
            None if limit.is_over() => {}
            None => thread::sleep(PAUSE),
        }
        if limit.is_over() {
            let spent = limit.spent().as_secs_f32();
            let who = in_the_way(&mut session).context(cannot)?;
            return Err(Error::new(format!("{}: after {spent:.1} s {who}", cannot()))
                .hint("end the long transaction (`SELECT pg_terminate_backend(PID)`), then try again"));
        }
    }
}

/// One attempt: the numbers of the tables that are locked now, or nothing, and nobody is held.
fn attempt(session: &mut Session, limit: &Limit<'_>) -> Result<Option<BTreeSet<u32>>> {
    session.run(&format!("BEGIN ISOLATION LEVEL READ COMMITTED; {ATTEMPT}"))?;
    let locked = session.within(limit, lock);
    match locked {
        Ok(Some(tables)) => {
            session.run("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")?;
            Ok(Some(tables))
        }
        Ok(None) => session.run("ROLLBACK").map(|()| None),
        // The limit is over, or something is wrong: who is in the way is only asked in the first case.
        Err(error) => {
            let _ = session.run("ROLLBACK");
            if limit.is_over() { Ok(None) } else { Err(error) }
        }
    }
}

/// Locks all tables that there are, and those that came while it waited.
fn lock(session: &mut Session) -> Result<Option<BTreeSet<u32>>> {
    if !session.any("SELECT WHERE pg_try_advisory_xact_lock($1)", &[&ADVISORY])? {
        return Ok(None);
    }
    let mut locked = BTreeSet::new();
    loop {
        let new: Vec<Table> =
            catalog::tables(session)?.into_iter().filter(|table| !locked.contains(&table.oid)).collect();
        if new.is_empty() {
            return Ok(Some(locked));
        }
        // The partitions are in the list themselves.
        let names: Vec<_> = new.iter().map(|table| format!("ONLY {}", table.sql)).collect();
        let lock = format!("LOCK TABLE {} IN EXCLUSIVE MODE", names.join(", "));
        if let Err(error) = session.client.batch_execute(&lock) {
            return if is_patience(&error) { Ok(None) } else { Err(whose(session.told(&error))) };
        }
        locked.extend(new.iter().map(|table| table.oid));
    }
}

/// Whether somebody was in the way, or the table went away meanwhile: then it is tried again.
fn is_patience(error: &postgres::Error) -> bool {
    use postgres::error::SqlState;
    let again = [
        &SqlState::LOCK_NOT_AVAILABLE,
        &SqlState::QUERY_CANCELED,
        &SqlState::T_R_DEADLOCK_DETECTED,
        &SqlState::UNDEFINED_TABLE,
    ];
    error.code().is_some_and(|code| again.contains(&code))
}

/// Whoever may not lock a table does not own it.
fn whose(error: Error) -> Error {
    if error.to_string().starts_with("a right is missing") {
        error.hint(
            "give the table to the version's role: `ALTER TABLE … OWNER TO …`, as its owner or a superuser",
        )
    } else {
        error
    }
}

/// Who holds what keeps the lock away: a line of processes, roles, states and seconds.
pub(super) fn in_the_way(session: &mut Session) -> Result<String> {
    let rows = session.query(
        "SELECT DISTINCT l.pid, coalesce(a.usename::text, ''), coalesce(a.state, 'a state that only a superuser sees'),
                coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::bigint,
                coalesce(nullif(a.application_name, ''), ''), l.locktype
         FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
         WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.granted
           AND l.pid IS DISTINCT FROM pg_backend_pid()
           AND (l.locktype = 'advisory' AND (l.classid::bigint << 32 | l.objid::bigint) = $1
                OR l.locktype = 'relation' AND l.mode <> 'AccessShareLock' AND l.relation >= 16384)
         ORDER BY 4 DESC",
        &[&ADVISORY],
    )?;
    let mut who = Vec::new();
    for row in rows.iter().take(3) {
        let Some(pid) = row.get::<_, Option<i32>>(0) else {
            who.push("a prepared transaction (`SELECT * FROM pg_prepared_xacts`)".to_owned());
            continue;
        };
        let (role, state, seconds, what) =
            (text(row, 1)?, text(row, 2)?, row.get::<_, i64>(3), text(row, 4)?);
        let what = if what.is_empty() { String::new() } else { format!(", '{}'", what.escape_debug()) };
        let role = role.escape_debug().to_string();
        who.push(format!("process {pid} of the role '{role}' ({state} for {seconds} s{what})"));
    }
    if who.is_empty() {
        return Ok("writers left no gap".to_owned());
    }
    Ok(format!("{} still has the lock", who.join(" and ")))
}

impl Held {
    /// The session whose transaction is the hold, for what is to be committed with it.
    pub(super) fn into_session(self) -> Session {
        self.session.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold for Held {
    fn check(&self) -> Result<()> {
        let answered = self.session().any("SELECT 1", &[]);
        answered.map(drop).context(|| format!("the hold of '{}' is lost", self.name.escape_debug()))
    }

    fn copy_to(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        copy::copy(&self.server, &self.name, to, limit, on_progress)?;
        // Only what was held to its end is exact.
        self.check()
    }

    fn catch_up(&self, to: &Spot, limit: &Limit<'_>) -> Result<()> {
        super::database::secret_of(&self.server, &to.name)?;
        super::way::catch_up(&self.server, [self.name.as_str(), &to.name], limit, &|| self.check())
    }

    fn carry_to(
        &self,
        target: &Spot,
        way: &Way,
        on_conflict: OnConflict,
        limit: &Limit<'_>,
    ) -> Result<Carried> {
        super::database::secret_of(&self.server, &target.name)?;
        let names = [self.name.as_str(), &target.name];
        super::way::carry(&self.server, names, way, on_conflict, limit, &|| self.check())
    }

    fn fence(self: Box<Self>, why: &str) -> Result<()> {
        let session = self.session.into_inner().unwrap_or_else(PoisonError::into_inner);
        fence::raise(session, &self.server, &self.name, &self.tables, why)
            .context(|| format!("cannot fence the database '{}'", self.name.escape_debug()))
    }
}
