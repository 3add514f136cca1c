//! What a database has besides tables with rows: sequences, routines, views, triggers and events, brought into a
//! copy after its rows, so that no trigger fires while it is filled.
//!
//! A definer that is a role of the original becomes the copy's; any other stays. Statements that name their own
//! database name the copy. **Events come disabled**: a copy that is no version yet must do nothing by itself.

use super::events;
use super::fence::is_ours;
use super::lexer::{self, Token};
use super::quote;
use super::roles;
use super::session::Session;
use super::tables;
use crate::data::Limit;
use crate::support::{Error, Result, text};

/// How an object was made: its statement, and the settings that it was made under.
pub(super) struct Made {
    what: String,
    pub(super) statement: String,
    pub(super) sql_mode: Option<String>,
    time_zone: Option<String>,
    pub(super) client: String,
    pub(super) collation: String,
}

impl Made {
    /// A trigger that was written down.
    pub(super) fn trigger(
        name: &str,
        statement: String,
        sql_mode: Option<String>,
        client: String,
        collation: String,
    ) -> Made {
        Made { what: format!("the trigger {name}"), statement, sql_mode, time_zone: None, client, collation }
    }
}

/// What SHOW CREATE PROCEDURE and FUNCTION answer: name, mode, statement, character set, two collations.
type Routine = (String, String, Option<String>, String, String, String);

/// What SHOW CREATE EVENT answers: name, mode, time zone, statement, character set, two collations.
type Event = (String, String, String, String, String, String, String);

/// Makes the sequences of `from` in `to`, each going on where the original is.
pub(super) fn sequences(session: &mut Session, from: &str, to: &str) -> Result<()> {
    if !session.is_mariadb() {
        return Ok(());
    }
    let names: Vec<String> = session.rows(
        &format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_TYPE = 'SEQUENCE'",
            quote::text(from)
        ),
        (),
    )?;
    for name in names {
        let (source, copy) = (quote::table(from, &name), quote::table(to, &name));
        let (_, statement): (String, String) =
            session.value(&format!("SHOW CREATE SEQUENCE {source}"), ())?;
        session.run(&statement)?;
        go_on(session, &source, &copy)?;
    }
    Ok(())
}

/// Lets each sequence of `to` go on where that of `from` is by now.
pub(super) fn sequences_on(session: &mut Session, from: &str, to: &str) -> Result<()> {
    for table in tables::all(session, from)?.into_iter().filter(|table| table.is_sequence) {
        go_on(session, &quote::table(from, &table.name), &quote::table(to, &table.name))?;
    }
    Ok(())
}

fn go_on(session: &mut Session, source: &str, copy: &str) -> Result<()> {
    let query = format!("SELECT next_not_cached_value, cycle_count FROM {source}");
    let (next, round): (i64, i64) = session.value(&query, ())?;
    session.run(&format!("SELECT SETVAL({copy}, {next}, 0, {round})"))
}

/// All that a database has besides tables, in the order in which it can be made.
pub(super) fn all(session: &mut Session, database: &str) -> Result<Vec<Made>> {
    let mut made = routines(session, database)?;
    made.extend(views(session, database)?);
    made.extend(triggers(session, database)?);
    made.extend(events(session, database)?);
    Ok(made)
}

/// Makes all else of `from` in `to`, which the session uses.
pub(super) fn carry(session: &mut Session, from: &str, to: &str, limit: &Limit<'_>) -> Result<()> {
    let made = all(session, from)?;
    limit.check()?;
    make_all(session, &made, from, to)?;
    events::of_copy(session, from, to)
}

/// Makes what was read of `from` in `to`, which the session uses.
///
/// Views may need each other, in any order: each round makes those whose own are there.
pub(super) fn make_all(session: &mut Session, made: &[Made], from: &str, to: &str) -> Result<()> {
    let mut waiting: Vec<&Made> = made.iter().collect();
    while !waiting.is_empty() {
        let (mut left, mut first) = (Vec::new(), None);
        let before = waiting.len();
        for object in waiting {
            if let Err(error) = make(session, object, from, to) {
                first = first.or_else(|| Some(cannot(object, &session.told(&error))));
                left.push(object);
            }
        }
        match first {
            Some(error) if left.len() == before => return Err(error),
            _ => waiting = left,
        }
    }
    settings(session)
}

/// Drops all that a database has besides tables.
pub(super) fn drop_all(session: &mut Session, database: &str) -> Result<()> {
    let kinds = [
        ("TRIGGER", "TRIGGER_NAME", "TRIGGERS WHERE TRIGGER_SCHEMA"),
        ("EVENT", "EVENT_NAME", "EVENTS WHERE EVENT_SCHEMA"),
        ("VIEW", "TABLE_NAME", "VIEWS WHERE TABLE_SCHEMA"),
        ("PROCEDURE", "ROUTINE_NAME", "ROUTINES WHERE ROUTINE_TYPE = 'PROCEDURE' AND ROUTINE_SCHEMA"),
        ("FUNCTION", "ROUTINE_NAME", "ROUTINES WHERE ROUTINE_TYPE = 'FUNCTION' AND ROUTINE_SCHEMA"),
    ];
    for (kind, column, of) in kinds {
        for name in names(session, database, column, of)? {
            session.run(&format!("DROP {kind} {}", quote::table(database, &name)))?;
        }
    }
    Ok(())
}

/// The app's triggers as a dump has them.
pub(super) fn triggers_as_sql(session: &mut Session, database: &str) -> Result<String> {
    let triggers = triggers(session, database)?;
    let is_free = |sign: &&&str| triggers.iter().all(|trigger| !trigger.statement.contains(**sign));
    let end = ["//", "$$", ";;", "@@", "!!//"].iter().find(is_free);
    let end = end.ok_or_else(|| Error::new("the triggers hold every sign that could end one in a dump"))?;
    let mut sql = String::new();
    for trigger in &triggers {
        let mode = quote::text(trigger.sql_mode.as_deref().unwrap_or(""));
        let statement = &trigger.statement;
        sql = format!("{sql}SET sql_mode = {mode};\nDELIMITER {end}\n{statement}{end}\nDELIMITER ;\n");
    }
    Ok(sql)
}

fn cannot(object: &Made, why: &Error) -> Error {
    let cause = Error::new(why.to_string());
    let error = Error::new(format!("cannot make {}", text::printable(&object.what))).caused_by(cause);
    match why.innermost_hint() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn views(session: &mut Session, from: &str) -> Result<Vec<Made>> {
    let mut made = Vec::new();
    for name in names(session, from, "TABLE_NAME", "VIEWS WHERE TABLE_SCHEMA")? {
        let show = format!("SHOW CREATE VIEW {}", quote::table(from, &name));
        let (_, statement, client, collation): (String, String, String, String) = session.value(&show, ())?;
        let what = format!("the view {name}");
        made.push(Made { what, statement, sql_mode: None, time_zone: None, client, collation });
    }
    Ok(made)
}

fn names(session: &mut Session, database: &str, column: &str, of: &str) -> Result<Vec<String>> {
    let query =
        format!("SELECT {column} FROM information_schema.{of} = {} ORDER BY 1", quote::text(database));
    session.rows(&query, ())
}

fn routines(session: &mut Session, from: &str) -> Result<Vec<Made>> {
    let routines: Vec<(String, String)> = session.rows(
        &format!(
            "SELECT ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {} \
             ORDER BY ROUTINE_TYPE, ROUTINE_NAME",
            quote::text(from)
        ),
        (),
    )?;
    let mut made = Vec::new();
    for (kind, name) in routines {
        // A package (MariaDB, Oracle's mode) has its body apart, and comes before it.
        let show = format!("SHOW CREATE {kind} {}", quote::table(from, &name));
        let (_, mode, statement, client, collation, _): Routine = session.value(&show, ())?;
        let what = format!("the {} {name}", kind.to_lowercase());
        let statement = statement.ok_or_else(|| {
            Error::new(format!("cannot read {}", text::printable(&what)))
                .hint("the administrator's role needs SELECT on mysql.* (MySQL: SHOW_ROUTINE)")
        })?;
        made.push(Made { what, statement, sql_mode: Some(mode), time_zone: None, client, collation });
    }
    Ok(made)
}

fn triggers(session: &mut Session, from: &str) -> Result<Vec<Made>> {
    Ok(triggers_by_name(session, from)?.into_iter().map(|(_, _, made)| made).collect())
}

/// The app's triggers: name and table of each.
pub(super) fn triggers_by_name(session: &mut Session, from: &str) -> Result<Vec<(String, String, Made)>> {
    // Several of one table and event fire in the order in which they are made.
    let names: Vec<(String, String)> = session.rows(
        &format!(
            "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {} \
             ORDER BY BINARY EVENT_OBJECT_TABLE, EVENT_MANIPULATION, ACTION_TIMING, ACTION_ORDER",
            quote::text(from)
        ),
        (),
    )?;
    let mut made = Vec::new();
    for (name, table) in names.into_iter().filter(|(name, _)| !is_ours(name)) {
        let row: Option<mysql::Row> =
            session.first(&format!("SHOW CREATE TRIGGER {}", quote::table(from, &name)), ())?;
        let mut cells = row.map(mysql::Row::unwrap).unwrap_or_default().into_iter().skip(1).map(cell);
        let mut next = || cells.next().unwrap_or_default();
        let (mode, statement, client, collation) = (next(), next(), next(), next());
        let trigger = Made::trigger(&name, statement, Some(mode), client, collation);
        made.push((name, table, trigger));
    }
    Ok(made)
}

fn cell(value: mysql::Value) -> String {
    mysql::from_value_opt(value).unwrap_or_default()
}

fn events(session: &mut Session, from: &str) -> Result<Vec<Made>> {
    let mut made = Vec::new();
    for name in names(session, from, "EVENT_NAME", "EVENTS WHERE EVENT_SCHEMA")? {
        let show = format!("SHOW CREATE EVENT {}", quote::table(from, &name));
        let (_, mode, zone, statement, client, collation, _): Event = session.value(&show, ())?;
        let (what, statement) = (format!("the event {name}"), disabled(&statement));
        made.push(Made { what, statement, sql_mode: Some(mode), time_zone: Some(zone), client, collation });
    }
    Ok(made)
}

/// An event's statement with `DISABLE` in the place of `ENABLE`.
fn disabled(statement: &str) -> String {
    let tokens = lexer::tokens(statement);
    let found = tokens.windows(2).find(|pair| pair[0].is("preserve") && pair[1].is("enable"));
    match found {
        Some(pair) => format!("{}DISABLE{}", &statement[..pair[1].at], &statement[pair[1].end()..]),
        None => statement.to_owned(),
    }
}

/// Makes one object in the database that the session uses, under the settings that the original was made under.
pub(super) fn make(session: &mut Session, object: &Made, from: &str, to: &str) -> mysql::Result<()> {
    let statement = with_definer(&object.statement, from, to);
    let statement = lexer::requalified(&statement, from, to);
    let mut set = vec![format!("sql_mode = {}", quote::text(object.sql_mode.as_deref().unwrap_or("")))];
    if let Some(zone) = &object.time_zone {
        set.push(format!("time_zone = {}", quote::text(zone)));
    }
    // The statement comes and goes as UTF-8; in another character set only its own literals would be read otherwise.
    let utf8 = object.client.starts_with("utf8mb4")
        || object.client.starts_with("utf8") && statement.chars().all(|c| c.len_utf8() < 4);
    if utf8 {
        set.push(format!(
            "character_set_client = {}, collation_connection = {}",
            object.client, object.collation
        ));
    }
    session.raw(&format!("SET SESSION {}", set.join(", ")))?;
    let made = session.raw(&statement);
    session.raw("SET NAMES utf8mb4")?;
    made
}

/// Back to what a session of receiver's has.
fn settings(session: &mut Session) -> Result<()> {
    session.run(super::session::COMMON)?;
    session.run("SET SESSION time_zone = DEFAULT")
}

/// The statement with the copy's role as its definer, where it was the original's.
fn with_definer(statement: &str, from: &str, to: &str) -> String {
    let tokens: Vec<Token<'_>> = lexer::tokens(statement).into_iter().take(16).collect();
    let Some(at) = tokens.windows(2).position(|pair| pair[0].is("definer") && pair[1].is("=")) else {
        return statement.to_owned();
    };
    let Some(user) = tokens.get(at + 2) else { return statement.to_owned() };
    let names = [(from.to_owned(), to.to_owned()), (reader(from), reader(to))];
    // Made under ANSI_QUOTES, it has the other quotes.
    let named = |was: &str| user.names(was) || user.text == format!("\"{was}\"");
    match names.iter().find(|(was, _)| named(was)) {
        Some((_, is)) => {
            format!("{}{}{}", &statement[..user.at], quote::name(is), &statement[user.end()..])
        }
        None => statement.to_owned(),
    }
}

fn reader(database: &str) -> String {
    roles::reader(database).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copys_role_takes_the_place_of_the_originals() {
        let made = with_definer("CREATE DEFINER=`a_v1`@`localhost` TRIGGER `a_v1` x", "a_v1", "a_v2");
        assert_eq!(made, "CREATE DEFINER=`a_v2`@`localhost` TRIGGER `a_v1` x");
        let other = "CREATE DEFINER=`root`@`localhost` VIEW v AS SELECT 'DEFINER=a_v1'";
        assert_eq!(with_definer(other, "a_v1", "a_v2"), other);
    }

    #[test]
    fn an_event_comes_disabled() {
        let event = "CREATE EVENT `enable` ON SCHEDULE EVERY 1 DAY ON COMPLETION NOT PRESERVE ENABLE DO SELECT 'ENABLE'";
        assert_eq!(disabled(event), event.replacen("PRESERVE ENABLE", "PRESERVE DISABLE", 1));
    }
}
