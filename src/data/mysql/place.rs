//! Databases that are made and removed, and what says whose they are.

use std::path::{Path, PathBuf};

use super::lookout;
use super::quote;
use super::roles;
use super::server::Server;
use super::session::Session;
use crate::data::{Credentials, Spot, derived_name};
use crate::support::{Error, Result, files};

/// The engine's name, also in the file of passwords.
pub(super) const ENGINE: &str = "mysql";

/// The database of what is receiver's own beside one of an app's: the flag of its fence.
pub(super) fn own(database: &str) -> Result<String> {
    derived_name(database, "log")
}

/// The passwords of a database, if it is receiver's.
pub(super) fn credentials(server: &Server, database: &str) -> Result<Option<Credentials>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if database.is_empty() || database.len() > 32 || !database.chars().all(plain) {
        return Err(Error::new(format!("'{}' is no name for a database", database.escape_debug())));
    }
    match Credentials::read(&server.secrets, database)? {
        Some(known) if known.engine != ENGINE => {
            Err(Error::new(format!("the database {database} is kept by {}", known.engine)))
        }
        known => Ok(known),
    }
}

/// The passwords of a database that must be receiver's.
pub(super) fn known(server: &Server, database: &str) -> Result<Credentials> {
    credentials(server, database)?;
    Credentials::lent(&server.secrets, server.lender.as_deref(), database)?.ok_or_else(|| {
        Error::new(format!("the database {database} is not one of receiver's"))
            .hint(format!("its passwords would be in {}", server.secrets.join(database).display()))
    })
}

/// Whether a schema of this name is there.
pub(super) fn is_there(session: &mut Session, database: &str) -> Result<bool> {
    let query = "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE BINARY SCHEMA_NAME = ?";
    let found: u64 = session.value(query, (database,))?;
    Ok(found > 0)
}

/// Makes a database, empty, with its roles. One of receiver's own that is there is begun anew; another's
/// is refused.
pub(super) fn create(server: &Server, spot: &Spot) -> Result<()> {
    let name = &spot.name;
    let begun = credentials(server, name)?.is_some();
    let mut session = server.connect()?;
    lookout::has_room(&mut session)?;
    if begun {
        empty(&mut session, name)?;
    } else {
        unclaimed(&mut session, name)?;
    }
    let credentials = Credentials::make(&server.secrets, ENGINE, spot)?;
    let mut make = || {
        // The collation is the server's own choice for it, as where the app makes its database by hand.
        session.run(&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", quote::name(name)))?;
        roles::make(&mut session, name, &credentials)
    };
    make().inspect_err(|_| {
        // What was there before and failed to be made anew is called for again, with the same passwords.
        if !begun {
            let _ = remove(server, name);
        }
    })
}

/// Refuses a name that anything has which is not receiver's.
fn unclaimed(session: &mut Session, name: &str) -> Result<()> {
    for database in [name.to_owned(), own(name)?] {
        if is_there(session, &database)? {
            return Err(taken("a database", &database));
        }
    }
    for role in [name.to_owned(), roles::reader(name)?] {
        if roles::is_there(session, &role)? {
            return Err(taken("a role", &role));
        }
    }
    Ok(())
}

fn taken(what: &str, name: &str) -> Error {
    Error::new(format!("{what} {name} is on the server already, and receiver did not make it"))
        .hint("rename it, or drop it if nobody needs it")
}

/// Drops the database, and receiver's own beside it; ends who uses them.
fn empty(session: &mut Session, name: &str) -> Result<()> {
    let (own, reader) = (own(name)?, roles::reader(name)?);
    // Locked, or a client that connects again and again would always be in the way. Where there is no room, what
    // is dropped may make some.
    for role in [name, &reader] {
        if lookout::has_room(session).is_ok() && roles::is_there(session, role)? {
            roles::lock(session, role, true)?;
        }
    }
    for database in [name, &own] {
        roles::end(session, &[name, &reader], Some(database))?;
        session.run(&format!("DROP DATABASE IF EXISTS {}", quote::name(database)))?;
    }
    Ok(())
}

/// Removes a database with all that is its own. What receiver did not make is left alone.
pub(super) fn remove(server: &Server, name: &str) -> Result<()> {
    if credentials(server, name)?.is_none() {
        return Ok(());
    }
    let mut session = server.connect()?;
    empty(&mut session, name)?;
    lookout::has_room(&mut session)?;
    super::rights::forget(&mut session, name)?;
    roles::drop_all(&mut session, name)?;
    Credentials::forget(&server.secrets, name)
}

/// Drops receiver's own database beside an app's, once nothing is in it.
pub(super) fn drop_own_if_empty(session: &mut Session, database: &str) -> Result<()> {
    let own = own(database)?;
    if is_there(session, &own)? && super::tables::all(session, &own)?.is_empty() {
        session.run(&format!("DROP DATABASE {}", quote::name(&own)))?;
    }
    Ok(())
}

/// The address of a database for one of its roles.
pub(super) fn url(socket: &Path, database: &str, role: &str, password: &str) -> String {
    let name = |name: &str| quote::percent_encoded(name.as_bytes(), b"");
    format!(
        "mysql://{}:{}@localhost/{}?unix_socket={}",
        name(role),
        name(password),
        name(database),
        quote::path(socket)
    )
}

/// The bytes that a database takes on disk.
pub(super) fn size(session: &mut Session, database: &str) -> Result<u64> {
    let tables = "SELECT CAST(COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0) AS UNSIGNED) \
                  FROM information_schema.TABLES WHERE BINARY TABLE_SCHEMA = ?";
    let reckoned: u64 = session.value(tables, (database,))?;
    // Files where they can be seen: the figures of a table lag behind what was written to it.
    let files = if session.is_mariadb() { "INNODB_SYS_TABLESPACES" } else { "INNODB_TABLESPACES" };
    let like = format!("{}/%", roles::pattern(database));
    let query = format!(
        "SELECT CAST(COALESCE(SUM(FILE_SIZE), 0) AS UNSIGNED) FROM information_schema.{files} WHERE NAME LIKE ?"
    );
    let seen: u64 = session.value(&query, (like,)).unwrap_or(0);
    Ok(reckoned.max(seen))
}

/// Where the server keeps its data, if that is on this machine and can be seen.
pub(super) fn directory(session: &mut Session) -> Result<Option<PathBuf>> {
    let directory: String = session.value("SELECT @@datadir", ())?;
    let directory = PathBuf::from(directory);
    Ok(files::is_directory(&directory).then_some(directory))
}

/// Everything that was committed is on the disk when this returns.
pub(super) fn sync(session: &mut Session) -> Result<()> {
    let each: u8 = session.value("SELECT @@innodb_flush_log_at_trx_commit", ())?;
    if each == 1 {
        // Each commit waits for the disk already, with all that came before it.
        return Ok(());
    }
    session.run("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")
}
