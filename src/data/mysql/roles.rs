//! The roles of a database: one of its name that may do everything in it, one that can only read, both on
//! this machine alone; and who is connected.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use super::session::{Session, code, codes};
use super::{findings, lookout, quote};
use crate::data::{Credentials, derived_name};
use crate::support::{Error, Result};

/// How long the server may take to end connections. They end when their statement notices; one that has much
/// to undo needs longer than that, and then nothing was changed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The role that can only read.
pub(super) fn reader(database: &str) -> Result<String> {
    derived_name(database, "ro")
}

/// Whether an account of this name is there, from whatever host.
pub(super) fn is_there(session: &mut Session, role: &str) -> Result<bool> {
    let found: u64 = session.value("SELECT COUNT(*) FROM mysql.user WHERE BINARY User = ?", (role,))?;
    Ok(found > 0)
}

/// Makes both roles, with the passwords that are written down, and grants them what they may do. Those that
/// are there get the same passwords and rights, and are unlocked.
pub(super) fn make(session: &mut Session, database: &str, credentials: &Credentials) -> Result<()> {
    let place = place(session, database)?;
    // One by one: who grants ALL has to have what the next release of the server adds, too.
    let all = findings::IN_DATABASES.join(", ");
    let roles = [
        (database.to_owned(), &credentials.password, all.as_str()),
        (reader(database)?, &credentials.reader, "SELECT, SHOW VIEW"),
    ];
    for (role, password, rights) in roles {
        let account = quote::account(&role);
        let by = if session.is_mariadb() {
            format!("IDENTIFIED VIA mysql_native_password USING '{}'", native_hash(password))
        } else {
            // MySQL has no mysql_native_password since 9.0, and keeps passwords out of its logs.
            format!("IDENTIFIED BY '{password}'")
        };
        for verb in ["CREATE USER IF NOT EXISTS", "ALTER USER"] {
            session.secret(&format!("{verb} {account} {by} ACCOUNT UNLOCK"))?;
        }
        session.run(&format!("GRANT {rights} ON {place}.* TO {account}"))?;
    }
    Ok(())
}

/// Drops both roles, with all that they were granted.
pub(super) fn drop_all(session: &mut Session, database: &str) -> Result<()> {
    for role in [database.to_owned(), reader(database)?] {
        session.run(&format!("DROP USER IF EXISTS {}", quote::account(&role)))?;
    }
    Ok(())
}

/// A database as GRANT names it. There it is a pattern: unescaped, `shop_v1` would also open `shopXv1`.
pub(super) fn place(session: &mut Session, database: &str) -> Result<String> {
    // As MySQL's manual is known to say (not tried here): with partial_revokes (MySQL) it is a name like any other.
    let literal: Option<(String, String)> =
        session.first("SHOW GLOBAL VARIABLES LIKE 'partial_revokes'", ())?;
    let literal = literal.is_some_and(|(_, value)| value.eq_ignore_ascii_case("on"));
    Ok(quote::name(&if literal { database.to_owned() } else { pattern(database) }))
}

/// A pattern that only this name is like.
pub(super) fn pattern(database: &str) -> String {
    database.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%")
}

/// Whether the role of a database is kept from logging in.
pub(super) fn is_locked(session: &mut Session, role: &str) -> Result<bool> {
    let how: Option<String> = session.first(&format!("SHOW CREATE USER {}", quote::account(role)), ())?;
    Ok(how.is_some_and(|how| how.contains("ACCOUNT LOCK")))
}

/// Keeps a role from logging in, or lets it again.
pub(super) fn lock(session: &mut Session, role: &str, locked: bool) -> Result<()> {
    if is_locked(session, role)? == locked {
        return Ok(());
    }
    lookout::has_room(session)?;
    let how = if locked { "LOCK" } else { "UNLOCK" };
    session.run(&format!("ALTER USER {} ACCOUNT {how}", quote::account(role)))
}

/// Ends every connection of these roles, and those that chose this database; returns when none is left.
///
/// `KILL USER` would do nothing, silently, where the right to it is missing (seen on MariaDB 10.11): each
/// connection is ended by its number, and the list is read again.
pub(super) fn end(session: &mut Session, roles: &[&str], database: Option<&str>) -> Result<()> {
    let (first, second) = (roles.first().unwrap_or(&""), roles.get(1).unwrap_or(&""));
    let began = Instant::now();
    loop {
        let left: Vec<u64> = session.rows(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() \
             AND (BINARY USER IN (?, ?) OR BINARY DB = ?)",
            (first, second, database),
        )?;
        if left.is_empty() {
            return Ok(());
        }
        for id in &left {
            match session.raw(&format!("KILL CONNECTION {id}")) {
                Err(error) if code(&error) != Some(codes::NO_SESSION) => return Err(session.told(&error)),
                _ => {}
            }
        }
        if began.elapsed() > PATIENCE {
            return Err(Error::new(format!("{} connections did not end within {PATIENCE:?}", left.len()))
                .hint(
                    "SHOW PROCESSLIST says what they do; a large transaction that is undone takes its time",
                ));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// What `mysql_native_password` keeps of a password: with it in place of the password itself no statement has
/// a secret, whoever logs statements.
fn native_hash(password: &str) -> String {
    let twice = Sha1::digest(Sha1::digest(password.as_bytes()));
    twice.iter().fold(String::from("*"), |mut hash, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{byte:02X}");
        hash
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hashed_as_the_server_does() {
        // SELECT PASSWORD('password'), MariaDB 10.11.
        assert_eq!(native_hash("password"), "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19");
    }

    #[test]
    fn a_pattern_is_like_one_name() {
        assert_eq!(pattern("shop_v1"), r"shop\_v1");
        assert_eq!(pattern(r"a%b\c"), r"a\%b\\c");
    }
}
