//! The fence: what makes every write to a retired database fail.
//!
//! Every table has one statement trigger for insert, update, delete and truncate (also for what a foreign key
//! cascades, for `COPY`, `MERGE`, and with `session_replication_role = replica`). It is made in the
//! transaction of the hold: a writer that waited for its lock looks at the table again once it has it, prepared
//! statements too, and meets the trigger. The owner, who could drop it, cannot log in any more from the
//! same commit on, and its connections are ended.
//!
//! The function and its schema are the administrator's, so that the owner cannot replace them.
//!
//! **What goes past the fence**: a superuser who means to; `nextval` and `setval`; large objects; rows of
//! foreign tables; what a logical replication's apply worker writes; another role's own tables and schemas.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::catalog::{self, RELATIONS};
use super::names::{ident, literal};
use super::server::Server;
use super::session::Session;
use crate::data::Fence;
use crate::support::{Context, Error, Result};

/// What every trigger of the fence is called.
const NAME: &str = "receiver_fence";

/// How long connections may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where everything of receiver's own is: the administrator's, and nobody else's.
pub(super) const SCHEMA: &str =
    "CREATE SCHEMA IF NOT EXISTS receiver; REVOKE ALL ON SCHEMA receiver FROM PUBLIC";

/// The function refuses with the words that its trigger was made with. 25006 (`read_only_sql_transaction`)
/// is what pools and drivers know as a server that takes no writes.
const FUNCTION: &str = "CREATE OR REPLACE FUNCTION receiver.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
    $$ BEGIN RAISE EXCEPTION USING ERRCODE = '25006', MESSAGE = 'receiver: ' || TG_ARGV[0]; END $$";

/// The triggers of the fence that are up: tables by number.
const UP: &str = "SELECT t.tgrelid FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_namespace n ON n.oid = f.pronamespace
    WHERE t.tgname = 'receiver_fence' AND n.nspname = 'receiver' AND NOT t.tgisinternal";

/// Raises the fence in the transaction of a hold, commits it, and ends the owner's connections.
pub(super) fn raise(
    mut session: Session,
    server: &Server,
    name: &str,
    held: &BTreeSet<u32>,
    why: &str,
) -> Result<()> {
    let tables = catalog::tables(&mut session)?;
    if let Some(new) = tables.iter().find(|table| !held.contains(&table.oid)) {
        return Err(Error::new(format!("the table '{}' was made during the hold", new.name.escape_debug()))
            .hint("nothing may change the schema while a version opens; then try again"));
    }
    session.run(SCHEMA)?;
    session.run(FUNCTION)?;
    // One that unfence could not drop, as somebody read, is there, and switched off.
    let there: BTreeSet<u32> = session.query(UP, &[])?.iter().map(|row| row.get(0)).collect();
    let statements = tables.iter().map(|table| {
        let make = format!(
            "CREATE TRIGGER {NAME} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {} FOR EACH STATEMENT \
             EXECUTE FUNCTION receiver.refuse({}); ",
            table.sql,
            literal(why)
        );
        let make = if there.contains(&table.oid) { String::new() } else { make };
        format!("{make}ALTER TABLE ONLY {} ENABLE ALWAYS TRIGGER {NAME};\n", table.sql)
    });
    let statements: Vec<_> = statements.collect();
    for some in statements.chunks(200) {
        session.run(&some.concat())?;
    }
    session.run(&format!("ALTER ROLE {} NOLOGIN", ident(name)))?;
    session.run("COMMIT").map_err(|error| {
        error.hint(format!("whether '{}' is fenced is not known: recovery asks", name.escape_debug()))
    })?;
    // It is fenced: what follows is the belt.
    if let Err(error) = end_all(server, name) {
        log::warn!("{}", error.one_line());
    }
    Ok(())
}

/// Ends the connections of the database's owner, until none is left.
pub(super) fn end_all(server: &Server, name: &str) -> Result<()> {
    let mut session = server.session(super::place::LOBBY)?;
    let since = Instant::now();
    loop {
        let left = session.query(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND pid <> pg_backend_pid()",
            &[&name],
        )?;
        if left.is_empty() {
            return Ok(());
        }
        if since.elapsed() > PATIENCE {
            return Err(Error::new(format!(
                "{} connections of '{}' do not end",
                left.len(),
                name.escape_debug()
            )));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// How far a database is fenced.
pub(super) fn fence(server: &Server, name: &str) -> Result<Fence> {
    let mut session = server.session(name)?;
    let logs_in = session.any("SELECT FROM pg_roles WHERE rolname = $1 AND rolcanlogin", &[&name])?;
    let up: BTreeSet<u32> =
        session.query(&format!("{UP} AND t.tgenabled <> 'D'"), &[])?.iter().map(|row| row.get(0)).collect();
    if up.is_empty() && logs_in {
        return Ok(Fence::Open);
    }
    let mut gaps: Vec<String> = catalog::tables(&mut session)?
        .into_iter()
        .filter(|table| !up.contains(&table.oid))
        .map(|table| table.name)
        .collect();
    if logs_in {
        gaps.push(format!("the role '{name}' can log in"));
    }
    Ok(if gaps.is_empty() { Fence::Whole } else { Fence::Gaps(gaps) })
}

/// Takes the fence down; where there is none, nothing happens.
///
/// The triggers are switched off, for which no reader is in the way, in one transaction with the owner's right
/// to log in. Then they are dropped, but for those of tables that somebody reads: they do nothing.
pub(super) fn unfence(server: &Server, name: &str) -> Result<()> {
    let mut session = server.session(name)?;
    let cannot = || format!("cannot take down the fence of '{}'", name.escape_debug());
    let fenced = session.texts(
        &format!("{RELATIONS} SELECT quote_ident(schema) || '.' || quote_ident(rel.relname) FROM rel WHERE oid IN ({UP})"),
        &[],
    )?;
    let locked_out = !session.any("SELECT FROM pg_roles WHERE rolname = $1 AND rolcanlogin", &[&name])?;
    if fenced.is_empty() && !locked_out {
        return Ok(());
    }
    let mut open = || -> Result<()> {
        session.run("BEGIN")?;
        for some in fenced.chunks(200) {
            let off = some.iter().map(|table| format!("ALTER TABLE ONLY {table} DISABLE TRIGGER {NAME};"));
            session.run(&off.collect::<String>())?;
        }
        session.run(&format!("ALTER ROLE {} LOGIN", ident(name)))?;
        session.run("COMMIT")
    };
    open().context(cannot)?;
    session.run("SET lock_timeout = '100ms'")?;
    for some in fenced.chunks(50) {
        let drop = some.iter().map(|table| format!("DROP TRIGGER IF EXISTS {NAME} ON {table};"));
        if let Err(error) = session.run(&drop.collect::<String>()) {
            log::debug!("some triggers of the fence of {name} stay, switched off: {error}");
        }
    }
    Ok(())
}
