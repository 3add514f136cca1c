//! Events: disabled in a copy, which must do nothing by itself, and in a retired version. Which of them were enabled
//! is remembered in receiver's own database, until they are again.

use super::place;
use super::quote;
use super::session::Session;
use crate::support::Result;

/// The table of those that were enabled.
const EVENTS: &str = "events";

/// Why an event is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// It is in a copy.
    Copy,
    /// Its version is retired.
    Fence,
}

impl Because {
    fn word(self) -> &'static str {
        match self {
            Because::Copy => "copy",
            Because::Fence => "fence",
        }
    }
}

fn table(database: &str) -> Result<String> {
    Ok(quote::table(&place::own(database)?, EVENTS))
}

fn has(session: &mut Session, database: &str) -> Result<bool> {
    let query = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
    Ok(session.value::<u64>(query, (place::own(database)?, EVENTS))? > 0)
}

/// Those that are enabled, or will be once this database is live.
fn enabled(session: &mut Session, database: &str) -> Result<Vec<String>> {
    let query =
        "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ? AND STATUS = 'ENABLED'";
    let mut events: Vec<String> = session.rows(query, (database,))?;
    if has(session, database)? {
        let remembered: Vec<String> = session.rows(&format!("SELECT name FROM {}", table(database)?), ())?;
        events.extend(remembered);
    }
    Ok(events)
}

fn remember(session: &mut Session, database: &str, events: &[String], because: Because) -> Result<()> {
    let own = quote::name(&place::own(database)?);
    session.run(&format!("CREATE DATABASE IF NOT EXISTS {own} CHARACTER SET utf8mb4"))?;
    session.run(&format!(
        "CREATE TABLE IF NOT EXISTS {} (name varchar(64) NOT NULL PRIMARY KEY, because varchar(8) NOT NULL) ENGINE=InnoDB",
        table(database)?
    ))?;
    for event in events {
        let enter = format!("INSERT IGNORE INTO {} VALUES (?, ?)", table(database)?);
        session.rows::<mysql::Row>(&enter, (event, because.word()))?;
    }
    Ok(())
}

/// Remembers of a copy which of its events were enabled in the original.
pub(super) fn of_copy(session: &mut Session, from: &str, to: &str) -> Result<()> {
    let events = enabled(session, from)?;
    if events.is_empty() { Ok(()) } else { remember(session, to, &events, Because::Copy) }
}

/// Disables the events of a version that retires.
pub(super) fn end(session: &mut Session, database: &str) -> Result<()> {
    let query =
        "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ? AND STATUS = 'ENABLED'";
    let events: Vec<String> = session.rows(query, (database,))?;
    if events.is_empty() {
        return Ok(());
    }
    remember(session, database, &events, Because::Fence)?;
    for event in events {
        turn(session, database, &event, "DISABLE")?;
    }
    Ok(())
}

/// Enables again what was disabled for one reason, or for any.
pub(super) fn begin(session: &mut Session, database: &str, because: Option<Because>) -> Result<()> {
    if !has(session, database)? {
        return Ok(());
    }
    let table = table(database)?;
    let rows: Vec<(String, String)> = session.rows(&format!("SELECT name, because FROM {table}"), ())?;
    for (event, why) in rows {
        if because.is_some_and(|because| because.word() != why) {
            continue;
        }
        turn(session, database, &event, "ENABLE")?;
        session.rows::<mysql::Row>(&format!("DELETE FROM {table} WHERE name = ?"), (&event,))?;
    }
    if session.value::<u64>(&format!("SELECT COUNT(*) FROM {table}"), ())? == 0 {
        session.run(&format!("DROP TABLE {table}"))?;
        place::drop_own_if_empty(session, database)?;
    }
    Ok(())
}

/// Enables or disables one that is there.
fn turn(session: &mut Session, database: &str, event: &str, how: &str) -> Result<()> {
    let query = "SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ? AND EVENT_NAME = ?";
    let definer: Option<String> = session.first(query, (database, event))?;
    let Some(definer) = definer else { return Ok(()) };
    let (user, host) = definer.rsplit_once('@').unwrap_or((&definer, "%"));
    // Whoever alters an event becomes its definer, unless it is said who is.
    session.run(&format!(
        "ALTER DEFINER = {}@{} EVENT {} {how}",
        quote::text(user),
        quote::text(host),
        quote::table(database, event)
    ))
}
