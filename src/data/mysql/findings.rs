//! What a server lacks for a version to open, each with the statement that mends it; and who is connected.

use super::database::Mysql;
use super::fence;
use super::quote;
use super::session::{self, Session};
use crate::data::Finding;
use crate::support::{Result, text};

/// What is needed in every database that receiver makes, with the right to pass it on.
pub(super) const IN_DATABASES: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
    "CREATE VIEW",
    "SHOW VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EXECUTE",
    "EVENT",
    "TRIGGER",
];

/// What is needed once for the server: accounts, and to see and end the connections of others.
const MARIADB: &[&str] = &["CREATE USER", "PROCESS", "CONNECTION ADMIN", "SET USER"];

/// Everything that receiver's own account needs on MariaDB.
pub(super) fn on_mariadb() -> Vec<&'static str> {
    // SELECT is among them, so that it reads who may do what.
    IN_DATABASES.iter().chain(MARIADB).copied().collect()
}

/// The same on MySQL, where the right to make what another role defines has two names: [`definer`].
const MYSQL: &[&str] = &["CREATE USER", "PROCESS", "CONNECTION_ADMIN"];

/// Everything that is found.
pub(super) fn all(database: &Mysql) -> Result<Vec<Finding>> {
    let mut session = database.server.connect()?;
    let mut found = Vec::new();
    rights(&mut session, database.name(), &mut found)?;
    log(&mut session, &mut found)?;
    durability(&mut session, &mut found)?;
    engines(&mut session, database.name(), &mut found)?;
    Ok(found)
}

/// The rights of whoever the session is.
fn rights(session: &mut Session, database: &str, found: &mut Vec<Finding>) -> Result<()> {
    let me: String = session.value("SELECT CURRENT_USER()", ())?;
    let (user, host) = me.rsplit_once('@').unwrap_or((&me, ""));
    let grantee = format!("{}@{}", quote::text(user), quote::text(host));
    let global: Vec<(String, String)> = session.rows(
        "SELECT PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = ?",
        (&grantee,),
    )?;
    let local: Vec<(String, String)> = session.rows(
        "SELECT PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES \
         WHERE GRANTEE = ? AND ? LIKE TABLE_SCHEMA",
        (&grantee, database),
    )?;
    let has = |right: &str, all: &[(String, String)]| all.iter().any(|(name, _)| name == right);
    let missing: Vec<&str> =
        IN_DATABASES.iter().copied().filter(|right| !has(right, &global) && !has(right, &local)).collect();
    let passes_on = global.iter().chain(&local).any(|(_, grantable)| grantable == "YES");
    let me = text::printable(&grantee);
    if !missing.is_empty() || !passes_on {
        found.push(Finding {
            what: format!("the role {me} may not make and grant databases: it lacks {}", list(&missing)),
            cure: format!("GRANT {} ON *.* TO {me} WITH GRANT OPTION", IN_DATABASES.join(", ")),
        });
    }
    let mut needed = if session.is_mariadb() { MARIADB } else { MYSQL }.to_vec();
    if !session.is_mariadb() {
        needed.push(definer(session)?);
    }
    let missing: Vec<&str> = needed.into_iter().filter(|right| !has(right, &global)).collect();
    if !missing.is_empty() {
        found.push(Finding {
            what: format!(
                "the role {me} lacks {}: no role can be made, or no connection ended",
                list(&missing)
            ),
            cure: format!("GRANT {} ON *.* TO {me}", missing.join(", ")),
        });
    }
    if session.raw("SELECT 1 FROM mysql.user LIMIT 0").is_err() {
        found.push(Finding {
            what: format!("the role {me} cannot read who may do what"),
            cure: format!("GRANT SELECT ON mysql.* TO {me}"),
        });
    }
    Ok(())
}

/// What MySQL calls the right to make triggers, views and routines that another role defines: since 8.2 by a name of its own.
fn definer(session: &mut Session) -> Result<&'static str> {
    let rights: Vec<(String, String, String)> = session.rows("SHOW PRIVILEGES", ())?;
    let knows = rights.iter().any(|(name, ..)| name.eq_ignore_ascii_case("SET_ANY_DEFINER"));
    Ok(if knows { "SET_ANY_DEFINER" } else { "SET_USER_ID" })
}

fn list(rights: &[&str]) -> String {
    if rights.is_empty() { "WITH GRANT OPTION".to_owned() } else { rights.join(", ") }
}

/// A binary log changes what may be made, and how rows are read.
fn log(session: &mut Session, found: &mut Vec<Finding>) -> Result<()> {
    if !fence::may_make_triggers(session)? {
        found.push(Finding {
            what: "the server writes a binary log and lets nobody but SUPER make triggers and functions: no snapshot \
                   can be made, and a retired database is fenced by its role alone"
                .to_owned(),
            cure: "SET GLOBAL log_bin_trust_function_creators = 1 (and in the server's settings)".to_owned(),
        });
    }
    let (log, format): (u8, String) = session.value("SELECT @@log_bin, @@binlog_format", ())?;
    if log == 1 && format != "ROW" && session.raw("SET SESSION binlog_format = 'ROW'").is_err() {
        found.push(Finding {
            what: format!("the server's binary log has the format {format}: copies would lock the rows that they read"),
            cure: "SET GLOBAL binlog_format = 'ROW' (and in the server's settings), or GRANT BINLOG ADMIN (MySQL: \
                   SYSTEM_VARIABLES_ADMIN) ON *.* to receiver's role"
                .to_owned(),
        });
    }
    Ok(())
}

fn durability(session: &mut Session, found: &mut Vec<Finding>) -> Result<()> {
    let each: u8 = session.value("SELECT @@innodb_flush_log_at_trx_commit", ())?;
    if each != 1 {
        found.push(Finding {
            what: format!(
                "innodb_flush_log_at_trx_commit is {each}: a power cut loses what was acknowledged a second before"
            ),
            cure: "SET GLOBAL innodb_flush_log_at_trx_commit = 1 (and in the server's settings)".to_owned(),
        });
    }
    Ok(())
}

fn engines(session: &mut Session, database: &str, found: &mut Vec<Finding>) -> Result<()> {
    let tables: Vec<(String, Option<String>)> = session.rows(
        &format!(
            "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} \
             AND TABLE_TYPE = 'BASE TABLE' AND COALESCE(ENGINE, '') <> 'InnoDB' ORDER BY TABLE_NAME",
            quote::text(database)
        ),
        (),
    )?;
    for (table, engine) in tables {
        found.push(Finding {
            what: format!(
                "table '{}' of {database} is {}, which knows no transactions: a snapshot of it is not of one moment",
                text::printable(&table),
                engine.as_deref().unwrap_or("of no engine that is there")
            ),
            cure: format!("ALTER TABLE {} ENGINE=InnoDB", quote::table(database, &table)),
        });
    }
    Ok(())
}

/// Who is connected to a database, or as its roles, besides receiver itself.
pub(super) fn connected(database: &Mysql) -> Result<Vec<String>> {
    let mut session = database.server.connect()?;
    let rows: Vec<(u32, String, String, String, i64)> = session.rows(
        "SELECT ID, USER, COALESCE(HOST, ''), COMMAND, TIME FROM information_schema.PROCESSLIST \
         WHERE (DB = ? OR USER = ?) AND USER <> ? AND COALESCE(IS_USED_LOCK(CONCAT(?, ID)), 0) <> ID ORDER BY ID",
        (database.name(), database.name(), super::roles::reader(database.name())?, session::MARK),
    )?;
    let others = rows.into_iter().filter(|(id, ..)| !session::is_own(&database.server.socket, *id));
    Ok(others
        .map(|(id, user, host, command, seconds)| {
            let who = text::printable(&format!("'{user}' from {host}"));
            format!("connection {id} of {who} ({}, {seconds} s)", command.to_lowercase())
        })
        .collect())
}
