//! What a server lacks for versions to open, each with the statement that mends it.

use super::catalog::{self, RELATIONS};
use super::names::{self, ident};
use super::place::{self, LOBBY, reader_of};
use super::program;
use super::server::{self, Server};
use super::session::Session;
use crate::data::{Finding, LOGINS};
use crate::support::Result;

/// What an administrator should know of the server, and of one database on it.
pub(super) fn findings(server: &Server, name: &str) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let mut session = match server.session(LOBBY) {
        Ok(session) => session,
        Err(error) => {
            let cure = error.innermost_hint().unwrap_or("look at the server's log").to_owned();
            return Ok(vec![Finding { what: error.one_line(), cure }]);
        }
    };
    rights(&mut session, server, &mut found)?;
    let version = session.version()?;
    for name in ["pg_dump", "pg_restore"] {
        if let Err(error) = program::find(name, version) {
            let cure = error.innermost_hint().unwrap_or_default().to_owned();
            found.push(Finding { what: error.one_line(), cure });
        }
    }
    if can_be_asked(&mut session, name)? && !server::knows_by_password(server, names::checked(name)?) {
        found.push(Finding {
            what: "the server lets no role log in by its password through its socket".to_owned(),
            cure: server::login_cure(&server.admin),
        });
    }
    if place::is_there(&mut session, name)? {
        of_database(&mut session, server, name, &mut found)?;
    }
    Ok(found)
}

/// Whether a login of `name` would meet the line that it is to meet. Where the server knows receiver's roles by a group
/// of theirs, one that is not made yet is in no group, and would meet the line for all others.
fn can_be_asked(session: &mut Session, name: &str) -> Result<bool> {
    let role = "SELECT FROM pg_roles WHERE rolname = $1";
    Ok(session.any(role, &[&name])? || !session.any(role, &[&LOGINS])?)
}

/// What the administrator may not do.
fn rights(session: &mut Session, server: &Server, found: &mut Vec<Finding>) -> Result<()> {
    let admin = ident(&server.admin);
    for (column, right, what) in
        [("rolcreatedb", "CREATEDB", "make databases"), ("rolcreaterole", "CREATEROLE", "make roles")]
    {
        let ask = format!("SELECT FROM pg_roles WHERE rolname = current_user AND ({column} OR rolsuper)");
        if !session.any(&ask, &[])? {
            found.push(Finding {
                what: format!("the role {admin} may not {what}"),
                cure: format!("ALTER ROLE {admin} {right}"),
            });
        }
    }
    Ok(())
}

fn of_database(session: &mut Session, server: &Server, name: &str, found: &mut Vec<Finding>) -> Result<()> {
    let admin = ident(&server.admin);
    for role in [name, &reader_of(name)?] {
        let ask = "SELECT FROM pg_roles WHERE rolname = $1 AND NOT pg_has_role(current_user, oid, 'USAGE')";
        if session.any(ask, &[&role])? {
            found.push(Finding {
                what: format!("the role {admin} is no member of {}", ident(role)),
                cure: format!("GRANT {} TO {admin}", ident(role)),
            });
        }
    }
    let mut inside = match server.session(name) {
        Ok(inside) => inside,
        Err(error) => {
            let cure = error.innermost_hint().unwrap_or("look at the server's log").to_owned();
            found.push(Finding { what: error.one_line(), cure });
            return Ok(());
        }
    };
    locks(&mut inside, found)?;
    tables(&mut inside, name, found)
}

/// Whether all tables can be locked, and dumped, at once. Each lock takes a place in a table that all share.
fn locks(session: &mut Session, found: &mut Vec<Finding>) -> Result<()> {
    let relations = session.number(
        &format!("{RELATIONS} SELECT count(*) FROM rel WHERE kind IN ('r', 'p', 'v', 'm', 'S', 'f')"),
        &[],
    )?;
    let ask = "SELECT current_setting('max_locks_per_transaction')::bigint
               * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)";
    let places = session.number(ask, &[])?;
    // The hold and its copy have one each; others need some, too.
    if relations * 3 > places {
        found.push(Finding {
            what: format!(
                "{relations} tables and views are too many to be locked: there is room for {places} locks"
            ),
            cure: "ALTER SYSTEM SET max_locks_per_transaction = 1024, then restart the server".to_owned(),
        });
    }
    Ok(())
}

/// Tables that cannot be held, copied or fenced.
fn tables(session: &mut Session, name: &str, found: &mut Vec<Finding>) -> Result<()> {
    let strangers = session.query(
        &format!(
            "{RELATIONS} SELECT rel.name, pg_get_userbyid(c.relowner)::text, quote_ident(schema) || '.' || quote_ident(rel.relname)
             FROM rel JOIN pg_class c USING (oid) WHERE kind IN ('r', 'p') AND pg_get_userbyid(c.relowner) <> $1 ORDER BY 1 LIMIT 20"
        ),
        &[&name],
    )?;
    for row in &strangers {
        let (table, owner, sql): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        found.push(Finding {
            what: format!("the table {table} belongs to {}", ident(&owner)),
            cure: format!("ALTER TABLE {sql} OWNER TO {}", ident(name)),
        });
    }
    let forced = session.texts(
        &format!(
            "{RELATIONS} SELECT quote_ident(schema) || '.' || quote_ident(rel.relname) FROM rel JOIN pg_class c USING (oid)
             WHERE kind IN ('r', 'p') AND c.relforcerowsecurity
               AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls)) LIMIT 20"
        ),
        &[],
    )?;
    for table in forced {
        found.push(Finding {
            what: format!(
                "the rows of {table} are hidden from whoever copies them, by its forced row security"
            ),
            cure: "let the administrator see them: ALTER ROLE … BYPASSRLS, as a superuser".to_owned(),
        });
    }
    let outside = session.number(&format!("{RELATIONS} SELECT count(*) FROM rel WHERE kind = 'f'"), &[])?;
    if outside > 0 {
        found.push(Finding {
            what: format!(
                "{outside} foreign tables have their rows elsewhere: they are neither held nor fenced"
            ),
            cure: "keep what they hold in tables, or use `carry = \"shared\"`".to_owned(),
        });
    }
    debug_assert_eq!(catalog::OURS, "receiver");
    Ok(())
}
