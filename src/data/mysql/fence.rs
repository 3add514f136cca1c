//! The fence: the role of a retired database may not log in, its connections are ended, and gates refuse the
//! writes of everybody else.
//!
//! A gate is a trigger before insert, update or delete of a table. It reads a flag in receiver's own database
//! beside the app's, by a locking read: a transaction that began before the flag went up would not see it otherwise.
//! Gates are made before anybody waits ([`prepare`]): under `LOCK TABLES … READ` a trigger cannot be made. Until the
//! flag is up they let everything pass. They run with the rights of receiver's administrator, so that the app's
//! role can neither read nor change the flag. In another database, which an administrator's own dump was loaded into,
//! they let everything pass: that one is nobody's retired version.
//!
//! **What goes past the gates**, for roles other than the app's (which cannot log in): `TRUNCATE`, `DROP`, `ALTER` and
//! `CREATE TABLE`, and what a cascade does in a child's table (the delete of its parent is refused, though). The
//! app's role could drop the gates while it is not retired; it still cannot log in afterwards. Where the server
//! writes a binary log and does not trust who makes triggers (error 1419), there are none, and only the account keeps
//! writers out: [`state`] then names who else may write.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use super::database::Mysql;
use super::events::{self, Because};
use super::hold;
use super::lookout;
use super::place;
use super::quote;
use super::rights;
use super::roles;
use super::session::{Session, code, codes};
use super::tables;
use super::way;
use crate::data::{Fence, Limit, digest};
use crate::support::{Error, Result};

/// What the names of receiver's own triggers begin with.
const OURS: &str = "receiver_fence_";

/// The table with the flag, in receiver's own database.
const FLAG: &str = "fence";

/// What gates are before.
const EVENTS: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

/// How many characters a refusal may have.
const LONGEST: usize = 128;

/// How often a gate is asked for without waiting, which holds nobody up, before it is with waiting.
const AT_ONCE: u32 = 20;

/// How long the removal of a gate may wait for readers: it does no harm where it is.
const REMOVAL: Duration = Duration::from_secs(5);

/// For what comes after [`patiently`]: as every session of receiver's begins.
pub(super) const PATIENCE: &str = "SET SESSION lock_wait_timeout = 10";

/// Whether a trigger is receiver's own.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(OURS) || way::is_ours(name)
}

/// The gates that are there: the name of each, and its table.
fn gates(session: &mut Session, database: &str) -> Result<Vec<(String, String)>> {
    let query = format!(
        "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {} \
         AND TRIGGER_NAME LIKE 'receiver\\_fence\\_%'",
        quote::text(database)
    );
    session.rows(&query, ())
}

fn gate(table: &str, event: &str) -> Result<String> {
    Ok(format!("{OURS}{}_{}", &digest(table.as_bytes())?[..16], event.to_lowercase()))
}

/// The flag as statements name it.
fn flag(database: &str) -> Result<String> {
    Ok(quote::table(&place::own(database)?, FLAG))
}

fn has_flag(session: &mut Session, database: &str) -> Result<bool> {
    let query = format!(
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = '{FLAG}'",
        quote::text(&place::own(database)?)
    );
    Ok(session.value::<u64>(&query, ())? > 0)
}

fn make_flag(session: &mut Session, database: &str) -> Result<()> {
    let (own, flag) = (place::own(database)?, flag(database)?);
    session.run(&format!("CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4", quote::name(&own)))?;
    session.run(&format!(
        "CREATE TABLE IF NOT EXISTS {flag} (id tinyint NOT NULL PRIMARY KEY, why varchar({LONGEST})) ENGINE=InnoDB"
    ))?;
    session.run(&format!("INSERT IGNORE INTO {flag} VALUES (1, NULL)"))
}

/// Makes the gates of every table that lacks them, and the flag, down. A table in use is tried again until the limit.
pub(super) fn prepare(database: &Mysql, limit: &Limit<'_>) -> Result<()> {
    let name = database.name();
    let cannot = |why: Error| Error::new(format!("cannot prepare the fence of {name}")).caused_by(why);
    let mut session = database.session()?;
    make_flag(&mut session, name).map_err(cannot)?;
    // A dump has the statements as they are made: without the name of a database they fit into any.
    session.run(&format!("USE {}", quote::name(name))).map_err(cannot)?;
    let there: BTreeSet<(String, String)> = gates(&mut session, name)?.into_iter().collect();
    for table in tables::names(&mut session, name)? {
        for event in EVENTS {
            let gate = gate(&table, event)?;
            if there.contains(&(gate.clone(), table.clone())) {
                continue;
            }
            let statement = format!(
                "CREATE TRIGGER {} BEFORE {event} ON {} FOR EACH ROW IF DATABASE() <=> {} THEN BEGIN DECLARE said \
                 varchar({LONGEST}) CHARACTER SET utf8mb4 DEFAULT (SELECT why FROM {} WHERE id = 1 LOCK IN SHARE MODE); \
                 IF said IS NOT NULL THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = said; END IF; END; END IF",
                quote::name(&gate),
                quote::name(&table),
                quote::text(name),
                flag(name)?
            );
            match patiently(database, &mut session, &statement, limit) {
                Ok(()) => {}
                Err(None) => return Ok(()),
                Err(Some(why)) => return Err(why),
            }
        }
    }
    Ok(())
}

/// Runs a statement that needs a table for itself for a moment, and must hold nobody up for long. No error where
/// the server allows no triggers at all.
pub(super) fn patiently(
    database: &Mysql,
    session: &mut Session,
    statement: &str,
    limit: &Limit<'_>,
) -> std::result::Result<(), Option<Error>> {
    let mut tries = 0;
    loop {
        if let Err(why) = limit.check() {
            let over = limit.is_over();
            return Err(Some(if over { hold::in_the_way(database, session, limit) } else { why }));
        }
        tries += 1;
        // A statement that waits makes all behind it wait. MariaDB can ask without waiting; for MySQL a second
        // is the least.
        let at_once = tries <= AT_ONCE && session.is_mariadb();
        let patience = u8::from(!at_once);
        session.run(&format!("SET SESSION lock_wait_timeout = {patience}")).map_err(Some)?;
        match session.raw(statement) {
            Ok(()) => return Ok(()),
            Err(error) => match code(&error) {
                Some(codes::LOCK_WAIT | codes::DEADLOCK) => {}
                // Dropped since it was listed; or made by one that died.
                Some(codes::NO_TABLE | codes::TRIGGER_EXISTS) => return Ok(()),
                Some(codes::BINLOG_TRIGGER) => return Err(None),
                _ => return Err(Some(session.told(&error))),
            },
        }
        thread::sleep(Duration::from_millis(if at_once { 10 } else { 1000 }));
    }
}

/// Raises the fence of a database whose writers are held. When it fails nothing is fenced.
pub(super) fn raise(database: &Mysql, why: &str) -> Result<()> {
    let name = database.name();
    let mut session = database.session()?;
    let text: String = format!("receiver: {why}").chars().take(LONGEST).collect();
    let mut shut = || {
        make_flag(&mut session, name)?;
        session.run(&format!("UPDATE {} SET why = {} WHERE id = 1", flag(name)?, quote::text(&text)))?;
        roles::lock(&mut session, name, true)?;
        roles::end(&mut session, &[name], None)?;
        events::end(&mut session, name)
    };
    shut().map_err(|why| {
        let _ = open(database);
        Error::new(format!("cannot fence the database {name}")).caused_by(why)
    })
}

/// Lets the app's role log in, and everybody write.
fn open(database: &Mysql) -> Result<()> {
    let mut session = database.session()?;
    session.run(&format!("UPDATE {} SET why = NULL WHERE id = 1", flag(database.name())?))?;
    roles::lock(&mut session, database.name(), false)?;
    events::begin(&mut session, database.name(), Some(Because::Fence))
}

/// Takes the flag down inside the session's transaction, for who carries rows into a retired database. Answers what
/// it said, for [`lift`] to put it up again before the transaction ends: nobody else sees it down, they wait.
pub(super) fn lower(session: &mut Session, database: &str) -> Result<Option<String>> {
    if !has_flag(session, database)? {
        return Ok(None);
    }
    let flag = flag(database)?;
    let why: Option<Option<String>> =
        session.first(&format!("SELECT why FROM {flag} WHERE id = 1 FOR UPDATE"), ())?;
    session.run(&format!("UPDATE {flag} SET why = NULL WHERE id = 1"))?;
    Ok(why.flatten())
}

/// Puts the flag up again.
pub(super) fn lift(session: &mut Session, database: &str, why: Option<String>) -> Result<()> {
    let Some(why) = why else { return Ok(()) };
    session.run(&format!("UPDATE {} SET why = {} WHERE id = 1", flag(database)?, quote::text(&why)))
}

/// Takes the fence down, and its gates away. Where it was never prepared nothing is done.
pub(super) fn unfence(database: &Mysql) -> Result<()> {
    let name = database.name();
    let cannot = |why: Error| Error::new(format!("cannot take down the fence of {name}")).caused_by(why);
    let mut session = database.session()?;
    if !has_flag(&mut session, name)? {
        return Ok(());
    }
    open(database).map_err(cannot)?;
    // Without room MariaDB forgets a trigger's name and keeps the trigger (seen on 10.11.19).
    if lookout::has_room(&mut session).is_err() {
        return Ok(());
    }
    let limit = Limit::within(REMOVAL);
    let began = Instant::now();
    for (gate, _) in gates(&mut session, name)? {
        let drop_it = format!("DROP TRIGGER IF EXISTS {}", quote::table(name, &gate));
        if began.elapsed() > REMOVAL || patiently(database, &mut session, &drop_it, &limit).is_err() {
            // A long transaction reads that table. With the flag down a gate lets everything pass; the flag must
            // stay as long as one gate does, and the next call takes both away.
            return Ok(());
        }
    }
    if !gates(&mut session, name)?.is_empty() {
        return Ok(());
    }
    session.run(PATIENCE).map_err(cannot)?;
    // Whatever else is in receiver's own database stays.
    session.run(&format!("DROP TABLE {}", flag(name)?)).map_err(cannot)?;
    place::drop_own_if_empty(&mut session, name).map_err(cannot)
}

/// How far a database is fenced.
pub(super) fn state(database: &Mysql) -> Result<Fence> {
    let name = database.name();
    let mut session = database.session()?;
    if !has_flag(&mut session, name)? {
        return Ok(Fence::Open);
    }
    let why: Option<Option<String>> =
        session.first(&format!("SELECT why FROM {} WHERE id = 1", flag(name)?), ())?;
    if why.flatten().is_none() {
        return Ok(Fence::Open);
    }
    let mut gaps = Vec::new();
    if !roles::is_locked(&mut session, name)? {
        gaps.push(format!("the role {name}, which may log in"));
    }
    let there = gates(&mut session, name)?;
    if there.is_empty() && !may_make_triggers(&mut session)? {
        gaps.extend(rights::writers(&mut session, name)?.into_iter().map(|who| format!("the role {who}")));
    } else {
        let mut of_table: BTreeMap<&String, usize> = BTreeMap::new();
        for (_, table) in &there {
            *of_table.entry(table).or_default() += 1;
        }
        let tables = tables::names(&mut session, name)?.into_iter();
        gaps.extend(tables.filter(|table| of_table.get(table).is_none_or(|count| *count < EVENTS.len())));
    }
    Ok(if gaps.is_empty() { Fence::Whole } else { Fence::Gaps(gaps) })
}

/// Whether the server lets receiver make triggers and functions.
pub(super) fn may_make_triggers(session: &mut Session) -> Result<bool> {
    let (log, trust): (u8, u8) = session.value("SELECT @@log_bin, @@log_bin_trust_function_creators", ())?;
    if log == 0 || trust == 1 {
        return Ok(true);
    }
    let query = "SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'SUPER' \
                 AND GRANTEE = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')";
    Ok(session.value::<u64>(query, ())? > 0)
}

/// Makes a copy one that can only be read.
pub(super) fn freeze(database: &Mysql) -> Result<()> {
    let mut session = database.session()?;
    roles::lock(&mut session, database.name(), true)?;
    roles::end(&mut session, &[database.name()], None)
}
