//! The way back in: a dump, or a file of SQL, in the place of what a database holds.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::copy::conninfo;
use super::database::secret_of;
use super::names::ident;
use super::place::{self, LOBBY, reader_of};
use super::program::{self, Desk, Who};
use super::server::Server;
use super::{fence, grants, parallel, proof, script};
use crate::data::{Credentials, Fence, Limit, Script, Spot};
use crate::support::{Context, Error, Result, files};

/// What every dump in custom format begins with.
const MAGIC: &[u8] = b"PGDMP";

/// Puts what a dump holds, or what a file of SQL makes, in the place of what `name` holds.
///
/// It is made and proved in a database of its own, `scratch`; then the two change names, in one transaction, for
/// which everyone's connections to `name` are ended. Who connects again finds the new content.
pub(super) fn load(server: &Server, name: &str, from: &Path, spot: &Spot, limit: &Limit<'_>) -> Result<()> {
    let scratch = spot.name.as_str();
    let cannot = || format!("cannot load {} into '{}'", from.display(), name.escape_debug());
    let secret = secret_of(server, name)?;
    if fence::fence(server, name)? != Fence::Open {
        return Err(Error::new(format!("{}: it is retired, and takes no writes", cannot())));
    }
    let making = place::making_of(&mut server.session(LOBBY)?, name).context(cannot)?;
    let own = place::create(server, spot, Some(&making)).context(cannot)?;
    let made = prepare(server, from, scratch, &own, limit)
        .and_then(|()| give(server, scratch, name, &secret))
        .and_then(|()| swap(server, name, scratch, limit));
    // What is of that name now is the old content, or what failed.
    place::abandon(server, scratch);
    made.context(cannot)
}

/// Makes the new content, as the scratch database's own role, and proves it.
fn prepare(server: &Server, from: &Path, scratch: &str, own: &Credentials, limit: &Limit<'_>) -> Result<()> {
    let cannot = || format!("cannot read {}", from.display());
    let mut start = Vec::new();
    let mut file = std::fs::File::open(from).context(cannot)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(&mut file, 5), &mut start).context(cannot)?;
    if start == MAGIC {
        restore(server, from, scratch, own, limit)?;
    } else {
        let text = std::fs::read(from).context(cannot)?;
        let name = from.display().to_string();
        let session = server.session_of(scratch, scratch, &own.password, true)?;
        script::run_sql(session, &[Script { name: &name, text: &text }], false, limit, &mut |_| {})?;
    }
    let mut session = server.session(scratch)?;
    session.run("DROP SCHEMA IF EXISTS receiver CASCADE")?;
    proof::examine(&mut session, u64::MAX, limit)
}

fn restore(server: &Server, from: &Path, scratch: &str, own: &Credentials, limit: &Limit<'_>) -> Result<()> {
    let program = program::find("pg_restore", server.session(LOBBY)?.version()?)?;
    let desk = Desk::new(server, scratch)?;
    let who = Who { role: scratch, password: Some(&own.password), database: scratch };
    let from = std::path::absolute(from).context(|| format!("cannot find {}", from.display()))?;
    let mut list = desk.command(server, &program, &who)?;
    list.arg("--list").arg("--file").arg(desk.file("all")).arg(&from);
    program::run(list, limit)?;
    let all = files::read_text(&desk.file("all"))?.unwrap_or_default();
    let theirs: String = all.lines().filter(|line| !is_ours(line)).map(|line| format!("{line}\n")).collect();
    files::write_unsynced(&desk.file("chosen"), theirs.as_bytes(), 0o600)?;
    let mut command = desk.command(server, &program, &who)?;
    command.args(["--exit-on-error", "--no-owner", "--no-acl"]).arg(format!("--jobs={}", parallel::width()));
    command.arg("--use-list").arg(desk.file("chosen")).arg("--dbname").arg(conninfo(scratch)).arg(&from);
    program::run(command, limit)
}

/// Whether a line of a dump's list is one of receiver's triggers (`… TRIGGER public t receiver_fence owner`), or
/// a comment that only the owner of an extension may make.
fn is_ours(line: &str) -> bool {
    let trigger = line.contains(" TRIGGER ")
        && line.split_whitespace().rev().nth(1).is_some_and(|name| name.starts_with("receiver_"));
    trigger || line.contains(" COMMENT - EXTENSION ")
}

/// Makes everything in the scratch database the live one's roles' own.
fn give(server: &Server, scratch: &str, name: &str, secret: &Credentials) -> Result<()> {
    let mut session = server.session(scratch)?;
    let reader = ident(&reader_of(name)?);
    session.run(&format!("REASSIGN OWNED BY {} TO {}", ident(scratch), ident(name)))?;
    // Both at once makes the server trip over the rights by default that the one gave the other.
    for role in [scratch, &reader_of(scratch)?] {
        session.run(&format!("DROP OWNED BY {}", ident(role)))?;
    }
    session.run(&format!("GRANT CONNECT ON DATABASE {} TO {reader}", ident(scratch)))?;
    place::settle(server, scratch, name, secret)?;
    let schemas = session.texts(
        "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'",
        &[],
    )?;
    for schema in schemas {
        session.run(&format!(
            "GRANT USAGE ON SCHEMA {schema} TO {reader}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader};
             GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {reader}"
        ))?;
    }
    // What others may do with what is gone is nothing to keep.
    let mut live = server.session(name)?;
    let mut owner = server.session_of(scratch, name, &secret.password, false)?;
    for statement in grants::statements(&mut live, name, name)? {
        let on_database = statement.contains(" ON DATABASE ") || statement.starts_with("ALTER DATABASE ");
        let statement =
            if on_database { statement.replace(&ident(name), &ident(scratch)) } else { statement };
        if let Err(error) = owner.run(&statement) {
            log::debug!("a right is not carried: {statement}: {error}");
        }
    }
    Ok(())
}

/// Lets the two databases change names: who renames one waits until nobody is connected to it, and
/// keeps others from connecting; meanwhile the connections are ended.
fn swap(server: &Server, name: &str, scratch: &str, limit: &Limit<'_>) -> Result<()> {
    let (mut renaming, mut ending) = (server.session(LOBBY)?, server.session(LOBBY)?);
    let aside = format!("{}~", &scratch[..scratch.len().min(62)]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ($1, $2)";
                if let Err(error) = ending.query(end, &[&name, &scratch]) {
                    log::debug!("cannot end connections: {error}");
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        let renamed = renaming.within(limit, |session| {
            let [live, new, aside] = [name, scratch, &aside].map(ident);
            let rename = |from: &str, to: &str| format!("ALTER DATABASE {from} RENAME TO {to};");
            session.run(&format!(
                "BEGIN; {} {} {} COMMIT",
                rename(&live, &aside),
                rename(&new, &live),
                rename(&aside, &new)
            ))
        });
        done.store(true, Ordering::Relaxed);
        renamed
    })
}
