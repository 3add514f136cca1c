//! The hold: `LOCK TABLES … READ` in a session of its own. Readers go on, writers wait, and a death of the
//! holder ends its session, which lets them go on.
//!
//! The lock is asked for with a short patience, again and again: a lock that waits makes every writer behind it
//! wait as well. While it is collected table by table, a transaction of the app's may meet it in the other order;
//! the server then ends that transaction with its error for a deadlock (1213), as it does between two of the app's own.
//!
//! `NEXTVAL` of a sequence (MariaDB) goes on under the lock, as its numbers are handed out from memory. A copy begins
//! behind all of them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use super::copy;
use super::database::Mysql;
use super::fence;
use super::lexer;
use super::lookout::Until;
use super::quote;
use super::session::{Session, code, codes};
use super::way;
use crate::data::way::{Carried, OnConflict, Way};
use crate::data::{Hold, Limit, Progress, Spot};
use crate::support::{Error, Result, text};

/// How long writers may go on before the lock is asked for again.
const PAUSE: Duration = Duration::from_millis(50);

/// A lock on all tables of a database.
#[derive(Debug)]
pub(super) struct Held {
    database: Mysql,
    session: RefCell<Session>,
    tables: BTreeSet<String>,
    /// What ends it if the server does not let what is done meanwhile come to an end.
    until: RefCell<Option<Until>>,
}

impl Held {
    /// Takes the hold, trying again until the limit. The error names who is in the way.
    pub(super) fn take(database: &Mysql, limit: &Limit<'_>) -> Result<Held> {
        let cannot = || format!("cannot hold the writers of {}", database.name());
        let mut session = database.session()?;
        // In seconds; a second is the least that MySQL and MariaDB both take as a time to wait.
        session.run("SET SESSION lock_wait_timeout = 1")?;
        loop {
            if let Err(why) = limit.check() {
                // That it was cancelled is told as that; who is in the way says more than that time is over.
                let over = limit.is_over();
                let cancelled = || Error::new(cannot()).caused_by(why);
                return Err(if over { in_the_way(database, &mut session, limit) } else { cancelled() });
            }
            let tables = lockable(&mut session, database.name())?;
            let statement = statement(&tables);
            let taken = database.server.within(&mut session, limit, |session| Ok(session.raw(&statement)));
            match taken {
                Ok(Ok(())) => {
                    if lockable(&mut session, database.name())? == tables {
                        return Ok(Held {
                            database: database.clone(),
                            session: RefCell::new(session),
                            tables,
                            until: RefCell::new(None),
                        });
                    }
                    session.run("UNLOCK TABLES")?;
                }
                Ok(Err(error)) => match code(&error) {
                    Some(codes::LOCK_WAIT | codes::DEADLOCK | codes::NO_TABLE | codes::STOPPED) => {}
                    _ => return Err(Error::new(cannot()).caused_by(session.told(&error))),
                },
                Err(_) => {}
            }
            thread::sleep(PAUSE);
        }
    }

    /// From now on it does not last longer, whatever the server does.
    fn ends_with(&self, limit: &Limit<'_>) {
        self.until.replace(Some(Until::over(&self.database.server, limit)));
    }

    /// Proves that no table was made since: `LOCK TABLES` does not hold up who makes one.
    fn no_table_came(&self) -> Result<()> {
        let now = lockable(&mut self.session.borrow_mut(), self.database.name())?;
        match now.iter().find(|table| !self.tables.contains(table.as_str())) {
            Some(table) => Err(Error::new(format!(
                "table '{}' was made while the writers of {} were held",
                text::printable(table),
                self.database.name()
            ))
            .hint("let no migration run beside a deploy, then try again")),
            None => Ok(()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The end of the session would do, a little later. One that is broken holds nothing any more.
        let _ = self.session.get_mut().raw("UNLOCK TABLES");
    }
}

impl Hold for Held {
    fn check(&self) -> Result<()> {
        let mut session = self.session.borrow_mut();
        let answer = session.connection().ping();
        answer.map_err(|error| {
            Error::new(format!("the writers of {} are held no more", self.database.name()))
                .caused_by(session.told(&error))
        })
    }

    fn copy_to(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        self.check()?;
        self.no_table_came()?;
        self.ends_with(limit);
        copy::under_hold(&self.database, &self.database.other(to), limit, on_progress)?;
        self.check()
    }

    fn catch_up(&self, to: &Spot, limit: &Limit<'_>) -> Result<()> {
        self.check()?;
        self.no_table_came()?;
        self.ends_with(limit);
        way::behind::catch_up(&self.database, &self.database.other(to), limit)?;
        self.check()
    }

    fn carry_to(
        &self,
        target: &Spot,
        way: &Way,
        on_conflict: OnConflict,
        limit: &Limit<'_>,
    ) -> Result<Carried> {
        self.check()?;
        self.no_table_came()?;
        self.ends_with(limit);
        let carried =
            way::carry::carry(&self.database, &self.database.other(target), way, on_conflict, limit)?;
        self.check()?;
        Ok(carried)
    }

    fn fence(self: Box<Self>, why: &str) -> Result<()> {
        self.check()?;
        self.no_table_came()?;
        fence::raise(&self.database, why)?;
        // What the fence says holds only for who was held until it stood.
        self.check().inspect_err(|_| {
            let _ = fence::unfence(&self.database);
        })
    }
}

/// The tables and sequences of a database.
fn lockable(session: &mut Session, database: &str) -> Result<BTreeSet<String>> {
    let names: Vec<String> = session.rows(
        &format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} \
             AND TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW') ORDER BY BINARY TABLE_NAME",
            quote::text(database)
        ),
        (),
    )?;
    Ok(names.into_iter().collect())
}

fn statement(tables: &BTreeSet<String>) -> String {
    if tables.is_empty() {
        return "UNLOCK TABLES".to_owned();
    }
    let locks: Vec<String> = tables.iter().map(|table| format!("{} READ", quote::name(table))).collect();
    format!("LOCK TABLES {}", locks.join(", "))
}

/// Who keeps the lock from us: the oldest transaction in this database, else the oldest of all.
pub(super) fn in_the_way(database: &Mysql, session: &mut Session, limit: &Limit<'_>) -> Error {
    let who = blocker(session, database.name()).ok().flatten();
    let spent = limit.spent().as_secs_f32();
    let says = format!("cannot hold the writers of {}: after {spent:.1} s", database.name());
    match who {
        Some((id, who)) => Error::new(format!("{says} {who}"))
            .hint(format!("let it end, or end it (KILL {id}), then try again")),
        None => Error::new(format!("{says} there is no lock on all of its tables")).hint(
            "another connection has one, which SHOW PROCESSLIST shows, or there are too many tables for that time: \
             a longer max_pause lets more of it pass",
        ),
    }
}

/// The number of a connection that has a transaction open, and a sentence about it.
///
/// Which of several has the lock neither server says without a plugin or `performance_schema`, which MariaDB
/// has off; who wrote comes first, then who is longest at it.
fn blocker(session: &mut Session, database: &str) -> Result<Option<(u64, String)>> {
    type Told = (u64, String, Option<i64>, String, Option<String>);
    let found: Option<Told> = session.first(
        "SELECT p.ID, p.USER, TIMESTAMPDIFF(SECOND, t.trx_started, NOW()), p.COMMAND, p.INFO \
         FROM information_schema.PROCESSLIST p LEFT JOIN information_schema.INNODB_TRX t ON t.trx_mysql_thread_id = p.ID \
         WHERE p.ID <> CONNECTION_ID() AND (t.trx_id IS NOT NULL OR (p.DB = ? AND p.COMMAND <> 'Sleep')) \
         AND COALESCE(p.STATE, '') NOT LIKE 'Waiting for table%' \
         ORDER BY p.DB <=> ? DESC, t.trx_rows_modified > 0 DESC, t.trx_started IS NULL, t.trx_started LIMIT 1",
        (database, database),
    )?;
    Ok(found.map(|(id, user, seconds, command, info)| {
        let does = match info {
            Some(statement) if command != "Sleep" => format!("runs: {}", lexer::masked(&statement)),
            _ => "is idle in a transaction".to_owned(),
        };
        let since = seconds.map_or_else(String::new, |seconds| format!(", {seconds} s old"));
        (id, format!("connection {id} of '{}' is in the way{since}: it {does}", text::printable(&user)))
    }))
}
