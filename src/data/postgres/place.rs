//! A database's place on the server: made with its roles, measured, removed; nothing else is touched.

use super::names::{self, ident, literal};
use super::program::Desk;
use super::server::Server;
use super::session::Session;
use crate::data::{Credentials, LOGINS, Spot, derived_name};
use crate::support::{Context, Error, Result};

/// The database that everyone can connect to, from where others are made.
pub(super) const LOBBY: &str = "postgres";

/// The role of a database that can only read.
pub(super) fn reader_of(name: &str) -> Result<String> {
    derived_name(name, "ro")
}

/// The role that rows go through, while they do: one that may what the database's own role may, and has nothing else
/// to go back to.
pub(super) fn carrier_of(name: &str) -> Result<String> {
    derived_name(name, "way")
}

/// Whether a database of that name is there.
pub(super) fn is_there(session: &mut Session, name: &str) -> Result<bool> {
    session.any("SELECT FROM pg_database WHERE datname = $1", &[&name])
}

/// How a database was made, as the end of `CREATE DATABASE` says it: encoding, collation, locale.
pub(super) fn making_of(session: &mut Session, name: &str) -> Result<String> {
    let version = session.version()?;
    // The columns came with 15 and 16, and were renamed with 17.
    let (provider, locale, rules) = match version / 10_000 {
        ..=14 => ("'c'", "NULL", "NULL"),
        15 => ("datlocprovider::text", "daticulocale", "NULL"),
        16 => ("datlocprovider::text", "daticulocale", "daticurules"),
        _ => ("datlocprovider::text", "datlocale", "daticurules"),
    };
    let rows = session.query(
        &format!(
            "SELECT pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text, {provider}, ({locale})::text, ({rules})::text
             FROM pg_database WHERE datname = $1"
        ),
        &[&name],
    )?;
    let row =
        rows.first().ok_or_else(|| Error::new(format!("there is no database '{}'", name.escape_debug())))?;
    let cell = |at: usize| row.get::<_, Option<String>>(at);
    let mut says: Vec<String> = Vec::new();
    let mut say = |word: &str, value: Option<String>| {
        says.extend(value.map(|value| format!(" {word} {}", literal(&value))));
    };
    for (at, word) in ["ENCODING", "LC_COLLATE", "LC_CTYPE"].into_iter().enumerate() {
        say(word, cell(at));
    }
    match cell(3).as_deref() {
        Some("i") => {
            say("LOCALE_PROVIDER", Some("icu".to_owned()));
            say("ICU_LOCALE", cell(4));
            say("ICU_RULES", cell(5));
        }
        Some("b") => {
            say("LOCALE_PROVIDER", Some("builtin".to_owned()));
            say("BUILTIN_LOCALE", cell(4));
        }
        _ => {}
    }
    Ok(says.concat())
}

/// How a database of a new app is made: in UTF-8, sorted as the server does.
pub(super) fn usual_making(session: &mut Session) -> Result<String> {
    let plain =
        "SELECT FROM pg_database WHERE datname = 'template0' AND encoding = pg_char_to_encoding('UTF8')";
    Ok(if session.any(plain, &[])? { String::new() } else { " ENCODING 'UTF8' LOCALE 'C'".to_owned() })
}

/// Makes a database with its roles: `making` is the end of `CREATE DATABASE`. One of receiver's own that is there
/// is begun anew, with the passwords that it had.
///
/// The file of passwords is on the disk before anything is made, and after the check that nothing of that name
/// is there: it alone says that the database is receiver's.
pub(super) fn create(server: &Server, spot: &Spot, making: Option<&str>) -> Result<Credentials> {
    let name = names::checked(&spot.name)?;
    let cannot = || format!("cannot make the database '{}'", name.escape_debug());
    let reader = reader_of(name)?;
    let (mut session, secret) = claim(server, spot)?;
    let mut made = || -> Result<()> {
        let fresh = making.is_some_and(|making| is_fresh(server, &mut session, name, making));
        if !fresh {
            drop_database(&mut session, name)?;
            let making = match making {
                Some(making) => making.to_owned(),
                None => usual_making(&mut session)?,
            };
            make(&mut session, name, &reader, &making)?;
        }
        settle(server, name, name, &secret)
    };
    let made = made().context(cannot);
    // Whoever removes it waits for whoever makes it.
    drop(session);
    made.inspect_err(|_| abandon(server, name))?;
    Ok(secret)
}

/// Makes the roles of a database that is to be made, and what says that they are receiver's. Answers a session beside it,
/// in whose life nobody else makes or removes it.
pub(super) fn claim(server: &Server, spot: &Spot) -> Result<(Session, Credentials)> {
    let name = names::checked(&spot.name)?;
    let cannot = || format!("cannot make the database '{}'", name.escape_debug());
    let mut session = server.session(LOBBY).context(cannot)?;
    let reader = reader_of(name)?;
    if Credentials::read(&server.secrets, name)?.is_none() {
        refuse_strangers(&mut session, name, &reader).context(cannot)?;
    }
    let secret = Credentials::make(&server.secrets, "postgres", spot)?;
    let made = alone(&mut session, name)
        .and_then(|()| make_roles(&mut session, &server.admin, name, &reader, &secret))
        .context(cannot);
    if let Err(error) = made {
        drop(session);
        abandon(server, name);
        return Err(error);
    }
    Ok((session, secret))
}

/// Waits until no other session makes or removes this database, as long as this one lives: the server goes on with
/// a `CREATE DATABASE` whose client was killed.
fn alone(session: &mut Session, name: &str) -> Result<()> {
    session.run("SET lock_timeout = '2min'")?;
    session.query("SELECT pg_advisory_lock(hashtextextended($1, 7235421))", &[&name])?;
    session.run("SET lock_timeout = 0")
}

/// Drops a database that is receiver's; who is connected to it is not asked.
pub(super) fn drop_database(session: &mut Session, name: &str) -> Result<()> {
    let drop_it = format!("DROP DATABASE IF EXISTS {}", ident(name));
    match session.run(&format!("{drop_it} WITH (FORCE)")) {
        Ok(()) => Ok(()),
        // Until 14 the server takes its own worker that cleans the database for somebody whom we may not end. Without the
        // word it ends that one itself, and waits for it; where it was somebody, the first answer is the right one.
        Err(why) => session.run(&drop_it).map_err(|_| why),
    }
}

fn refuse_strangers(session: &mut Session, name: &str, reader: &str) -> Result<()> {
    if is_there(session, name)? {
        return Err(Error::new("a database of that name is there, and receiver did not make it")
            .hint("rename or drop it by hand, if it is nobody's"));
    }
    let role =
        session.text("SELECT rolname::text FROM pg_roles WHERE rolname IN ($1, $2)", &[&name, &reader])?;
    match role {
        Some(role) => Err(Error::new(format!(
            "a role '{}' is there, and receiver did not make it",
            role.escape_debug()
        ))
        .hint(format!("`DROP ROLE {}`, if it is nobody's", ident(&role)))),
        None => Ok(()),
    }
}

/// Whether a database is as it was made: to drop it, and make it again, would be a checkpoint twice, which writers
/// who are held would wait for. What cannot be known is no.
fn is_fresh(server: &Server, lobby: &mut Session, name: &str, making: &str) -> bool {
    let used = "SELECT FROM pg_database d WHERE d.datname = $1 AND (NOT d.datallowconn OR pg_get_userbyid(d.datdba) <> $1
                    OR EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)
                    OR EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid))";
    // Numbers of objects that a database has not from its template begin here.
    let kinds = [
        "class",
        "proc",
        "type",
        "namespace",
        "extension",
        "collation",
        "operator",
        "opclass",
        "cast",
        "conversion",
        "event_trigger",
        "publication",
        "foreign_data_wrapper",
        "language",
        "largeobject_metadata",
        "ts_config",
    ];
    let any = kinds.map(|kind| format!("SELECT FROM pg_{kind} WHERE oid >= 16384")).join(" UNION ALL ");
    let mut look = || -> Result<bool> {
        let alike = is_there(lobby, name)? && making_of(lobby, name)? == making;
        if !alike || lobby.any(used, &[&name])? {
            return Ok(false);
        }
        Ok(!server.session(name)?.any(&any, &[])?)
    };
    look().unwrap_or(false)
}

/// The roles. The server sees no password, only what proves one.
fn make_roles(
    session: &mut Session,
    admin: &str,
    name: &str,
    reader: &str,
    secret: &Credentials,
) -> Result<()> {
    for (role, password) in [(name, &secret.password), (reader, &secret.reader)] {
        let proof = literal(&postgres_protocol::password::scram_sha_256(password.as_bytes()));
        let there = session.any("SELECT FROM pg_roles WHERE rolname = $1", &[&role])?;
        let verb = if there { "ALTER" } else { "CREATE" };
        session.run(&format!("{verb} ROLE {} LOGIN PASSWORD {proof}", ident(role)))?;
    }
    // Where setup made it, the server knows by this group who logs in by a password.
    let known = session.any("SELECT FROM pg_roles WHERE rolname = $1", &[&LOGINS])?;
    let (name, reader) = (ident(name), ident(reader));
    if known {
        session.run(&format!("GRANT {LOGINS} TO {name}, {reader}"))?;
    }
    session.run(&format!("ALTER ROLE {reader} SET default_transaction_read_only = on"))?;
    // A write is refused only once it has its lock: under a hold it would wait for whoever waits for it.
    session.run(&format!("ALTER ROLE {reader} SET lock_timeout = '5s'"))?;
    for role in [&name, &reader] {
        session.run(&format!("GRANT {role} TO {}", ident(admin)))?;
    }
    Ok(())
}

/// The database, which nobody else ever could connect to.
fn make(session: &mut Session, name: &str, reader: &str, making: &str) -> Result<()> {
    let (name, reader) = (ident(name), ident(reader));
    session.run(&format!(
        "CREATE DATABASE {name} OWNER {name} TEMPLATE template0{making} ALLOW_CONNECTIONS false"
    ))?;
    session.run(&format!("REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC"))?;
    session.run(&format!("GRANT CONNECT ON DATABASE {name} TO {reader}"))?;
    session.run(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
}

/// What is done inside a new database, as its owner, which proves that it can log in.
pub(super) fn settle(server: &Server, database: &str, name: &str, secret: &Credentials) -> Result<()> {
    let mut session = server.session_of(database, name, &secret.password, false)?;
    let (role, reader) = (ident(name), ident(&reader_of(name)?));
    let own = "ALTER SCHEMA public OWNER TO CURRENT_USER; REVOKE CREATE ON SCHEMA public FROM PUBLIC";
    if session.version()? >= 150_000 {
        session.run(own)?;
    } else {
        // Until 14 the schema is the superuser's; everyone may create in it, and nobody else can connect.
        let mut admin = server.session(database)?;
        if admin.run(&own.replace("CURRENT_USER", &role)).is_err() {
            log::debug!("the schema public of {name} stays the superuser's");
        }
    }
    session.run(&format!(
        "GRANT USAGE ON SCHEMA public TO {reader};
         ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT SELECT ON TABLES TO {reader};
         ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT SELECT ON SEQUENCES TO {reader};
         ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT USAGE ON SCHEMAS TO {reader}"
    ))
}

/// Removes a database, its roles and what says that they are receiver's, in this order; what is not receiver's
/// stays as it is.
pub(super) fn remove(server: &Server, name: &str) -> Result<()> {
    let name = names::checked(name)?;
    if Credentials::read(&server.secrets, name)?.is_none() {
        return Desk::clear(server, name);
    }
    let drop = || -> Result<()> {
        let mut session = server.session(LOBBY)?;
        alone(&mut session, name)?;
        drop_database(&mut session, name)?;
        for role in [carrier_of(name)?.as_str(), reader_of(name)?.as_str(), name] {
            // Who may drop none is refused also where there is none.
            if session.any("SELECT FROM pg_roles WHERE rolname = $1", &[&role])? {
                session.run(&format!("DROP ROLE IF EXISTS {}", ident(role)))?;
            }
        }
        Ok(())
    };
    drop().context(|| format!("cannot remove the database '{}'", name.escape_debug()))?;
    Desk::clear(server, name)?;
    Credentials::forget(&server.secrets, name)
}

/// Takes back what was made, after a failure that is the one to report.
pub(super) fn abandon(server: &Server, name: &str) {
    if let Err(error) = remove(server, name) {
        log::warn!("{}", error.one_line());
    }
}
