//! A copy of one moment: what PostgreSQL's own programs know of a schema, and rows as they stand.
//!
//! `pg_dump` writes the schema, as one exported snapshot sees it; `pg_restore` makes the tables; the rows go by
//! `COPY` from server to server through us, several tables at once, each into a table that its own transaction
//! made anew (`FREEZE`: nobody has to look at them twice); then come indexes, keys and triggers, so that
//! none of the app's triggers fires. Rows are not decoded by us; they are text where the binary format (a quarter
//! faster here) would name types by their numbers, which differ in the copy.
//!
//! Measured on two shared processors, 261 MB of which 180 MB are rows (`tests/speed.rs`): with text 3.8 to 4.2 s,
//! statistics included; `pg_dump -Fd -j 2` and `pg_restore -j 2` 3.8 s, with statistics 4.1 s, and a second
//! copy on a disk.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::sync::atomic::Ordering;

use super::catalog::{self, OURS, RELATIONS, Table};
use super::names::{ident, literal};
use super::parallel::{self, Shared};
use super::program::{self, Desk, Who};
use super::server::Server;
use super::session::{Session, text};
use super::{grants, place};
use crate::data::{Credentials, Limit, Progress, Spot};
use crate::support::{Context, Error, Result, death, files};

/// Both ends of a copy.
struct Transfer<'a> {
    server: &'a Server,
    original: &'a str,
    copy: &'a str,
    secret: Credentials,
    desk: Desk,
    /// The snapshot that every reader of the original imports.
    snapshot: String,
    /// How the original's text is encoded.
    encoding: String,
}

/// Copies the database `original` into a new one, at `to`, as it is at one moment. One that fails leaves nothing.
pub(super) fn copy(
    server: &Server,
    original: &str,
    to: &Spot,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let copy = to.name.as_str();
    let cannot = || format!("cannot copy the database '{}'", original.escape_debug());
    let mut source = server.session(original).context(cannot)?;
    refuse(&mut source).context(cannot)?;
    let making = place::making_of(&mut source, original).context(cannot)?;
    let secret = place::create(server, to, Some(&making))?;
    let made = fill(server, &mut source, [original, copy], secret, limit, on_progress);
    made.context(cannot).inspect_err(|_| place::abandon(server, copy))
}

/// Refuses what could not be carried without a loss.
fn refuse(source: &mut Session) -> Result<()> {
    let objects = source.number("SELECT count(*) FROM pg_largeobject_metadata", &[])?;
    if objects > 0 {
        return Err(Error::new(format!(
            "it has {objects} large objects, whose writers no lock holds: receiver does not carry them"
        ))
        .hint(
            "keep them as bytea: `ALTER TABLE … ALTER COLUMN … TYPE bytea USING lo_get(…)`, then `vacuumlo`",
        ));
    }
    let theirs = "SELECT FROM pg_namespace n JOIN pg_database d ON d.datdba = n.nspowner
                  WHERE n.nspname = 'receiver' AND d.datname = current_database()";
    if source.any(theirs, &[])? {
        return Err(Error::new("it has a schema 'receiver', which is the name of receiver's own")
            .hint("`ALTER SCHEMA receiver RENAME TO …`"));
    }
    Ok(())
}

fn fill(
    server: &Server,
    source: &mut Session,
    [original, copy]: [&str; 2],
    secret: Credentials,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    source.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let snapshot = source.text("SELECT pg_export_snapshot()", &[])?.unwrap_or_default();
    let encoding = source.text("SELECT getdatabaseencoding()::text", &[])?.unwrap_or_default();
    let desk = Desk::new(server, copy)?;
    let transfer = Transfer { server, original, copy, secret, desk, snapshot, encoding };
    let made = extensions(source, server, copy)?;
    transfer.dump_schema(limit)?;
    transfer.choose(source, &made, limit)?;
    transfer.restore("pre-data", limit)?;
    transfer.rows(catalog::tables(source)?, limit, on_progress)?;
    death::point("copying");
    transfer.restore("post-data", limit)?;
    transfer.finish(source, limit)?;
    source.run("COMMIT")
}

impl Transfer<'_> {
    fn owner(&self) -> Result<Session> {
        let mut session = self.server.session_of(self.copy, self.copy, &self.secret.password, false)?;
        // Whoever dies here leaves a copy that nobody uses.
        session.run("SET synchronous_commit = off")?;
        Ok(session)
    }

    /// The schema, without what is receiver's, owners and rights.
    fn dump_schema(&self, limit: &Limit<'_>) -> Result<()> {
        let version = self.server.session(place::LOBBY)?.version()?;
        let password = self.server.password()?;
        let who = Who { role: &self.server.admin, password: password.as_deref(), database: self.original };
        let mut command = self.desk.command(self.server, &program::find("pg_dump", version)?, &who)?;
        command.args(["--format=custom", "--compress=0", "--schema-only", "--no-owner", "--no-acl"]);
        command.args(["--no-publications", "--no-subscriptions", "--no-tablespaces", "--no-security-labels"]);
        command.arg(format!("--exclude-schema={OURS}")).arg(format!("--snapshot={}", self.snapshot));
        command.arg("--file").arg(self.desk.file("schema"));
        program::run(command, limit)
    }

    /// Writes down which parts of the schema are restored: receiver's triggers are not, nor what is made already.
    fn choose(&self, source: &mut Session, made: &[String], limit: &Limit<'_>) -> Result<()> {
        let mut command = self.restorer(limit)?;
        command.arg("--list").arg("--file").arg(self.desk.file("all")).arg(self.desk.file("schema"));
        program::run(command, limit)?;
        let mut without: BTreeSet<String> = ours(source)?;
        for schema in made {
            without.extend(
                source.texts("SELECT '2615 ' || oid FROM pg_namespace WHERE nspname = $1", &[schema])?,
            );
        }
        let list = files::read_text(&self.desk.file("all"))?.unwrap_or_default();
        let chosen = chosen(&list, &without);
        files::write_unsynced(&self.desk.file("chosen"), chosen.as_bytes(), 0o600)
    }

    fn restorer(&self, _: &Limit<'_>) -> Result<std::process::Command> {
        let version = self.server.session(place::LOBBY)?.version()?;
        let who = Who { role: self.copy, password: Some(&self.secret.password), database: self.copy };
        self.desk.command(self.server, &program::find("pg_restore", version)?, &who)
    }

    /// Restores a part of the schema as the copy's owner.
    fn restore(&self, section: &str, limit: &Limit<'_>) -> Result<()> {
        let mut command = self.restorer(limit)?;
        command.arg(format!("--section={section}")).arg("--exit-on-error").args(["--no-owner", "--no-acl"]);
        if section == "pre-data" {
            command.arg("--single-transaction");
        } else {
            command.env("PGOPTIONS", "-c synchronous_commit=off -c statement_timeout=0 -c lock_timeout=0");
            command.arg(format!("--jobs={}", parallel::width()));
        }
        command.arg("--use-list").arg(self.desk.file("chosen")).arg("--dbname").arg(conninfo(self.copy));
        command.arg(self.desk.file("schema"));
        program::run(command, limit)
    }

    /// The rows of all tables.
    fn rows(
        &self,
        tables: Vec<Table>,
        limit: &Limit<'_>,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let tables: Vec<_> =
            tables.into_iter().filter(|table| !table.partitioned && !table.is_empty).collect();
        let begin = || {
            let mut from = self.server.session(self.original)?;
            from.run(&format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
                literal(&self.snapshot)
            ))?;
            Ok((from, self.owner()?))
        };
        let work = |(from, to): &mut (Session, Session), table: Table, shared: &Shared<'_>| {
            self.table(from, to, &table, shared, limit)
                .context(|| format!("cannot copy the table '{}'", table.name.escape_debug()))
        };
        parallel::over(tables, limit, begin, work, on_progress)
    }

    fn table(
        &self,
        from: &mut Session,
        to: &mut Session,
        table: &Table,
        shared: &Shared<'_>,
        limit: &Limit<'_>,
    ) -> Result<()> {
        let (columns, plain) = columns(from, table)?;
        let how = if self.encoding == "UTF8" && plain {
            "FORMAT binary".to_owned()
        } else {
            format!("ENCODING {}", literal(&self.encoding))
        };
        to.run(&format!("BEGIN; TRUNCATE ONLY {}", table.sql))?;
        let copied = {
            let out = format!("COPY {} {columns} TO STDOUT ({how})", table.sql);
            let into = format!("COPY {} {columns} FROM STDIN (FREEZE, {how})", table.sql);
            let mut on_moved = |bytes| {
                shared.moved.fetch_add(bytes, Ordering::Relaxed);
                shared.check()
            };
            to.within(limit, |to| pour(from, &out, to, &into, &mut on_moved))?
        };
        to.run("COMMIT")?;
        if copied > 0 {
            // A database without statistics answers the first requests by reading whole tables.
            to.within(limit, |to| to.run(&format!("ANALYZE {}", table.sql)))?;
        }
        Ok(())
    }

    /// What is not in rows: where sequences stand, materialized views, rights, settings.
    fn finish(&self, source: &mut Session, limit: &Limit<'_>) -> Result<()> {
        let mut to = self.owner()?;
        for some in catalog::sequences(source)?.chunks(200) {
            let set = some
                .iter()
                .map(|one| format!("setval({}::regclass, {}, {})", literal(&one.sql), one.last, one.called));
            to.run(&format!("SELECT {}", set.collect::<Vec<_>>().join(", ")))?;
        }
        refresh(source, &mut to, limit)?;
        if !source.any("SELECT FROM pg_namespace WHERE nspname = 'public'", &[])? {
            to.run("DROP SCHEMA public")?;
        }
        to.run("SET synchronous_commit = on")?;
        grants::carry(source, self.original, &mut to, self.copy)
    }
}

/// What is in no row of a copy that was made ahead: materialized views, rights, settings.
pub(super) fn what_else(server: &Server, [original, copy]: [&str; 2], limit: &Limit<'_>) -> Result<()> {
    let secret = super::database::secret_of(server, copy)?;
    let (mut source, mut to) =
        (server.session(original)?, server.session_of(copy, copy, &secret.password, false)?);
    refresh(&mut source, &mut to, limit)?;
    grants::carry(&mut source, original, &mut to, copy)
}

/// Sends what one server gives to the other, and tells of each of its megabytes. Answers how many rows there were.
pub(super) fn pour(
    from: &mut Session,
    out: &str,
    to: &mut Session,
    into: &str,
    on_moved: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let (here, there) = (from.socket().to_owned(), to.socket().to_owned());
    let told = |error: &postgres::Error| super::server::told(error, &here);
    let mut reader = from.client.copy_out(out).map_err(|error| told(&error))?;
    let mut writer = to.client.copy_in(into).map_err(|error| super::server::told(&error, &there))?;
    let broken = |error: std::io::Error, socket: &std::path::Path| match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<postgres::Error>())
    {
        Some(said) => super::server::told(said, socket),
        None => Error::new(error.to_string()),
    };
    let mut unsaid = 0;
    loop {
        let some = reader.fill_buf().map_err(|error| broken(error, &here))?;
        if some.is_empty() {
            break;
        }
        let length = some.len();
        writer.write_all(some).map_err(|error| broken(error, &there))?;
        reader.consume(length);
        unsaid += length as u64;
        if unsaid > 1 << 20 {
            on_moved(unsaid)?;
            unsaid = 0;
        }
    }
    on_moved(unsaid)?;
    writer.finish().map_err(|error| super::server::told(&error, &there))
}

/// The columns of a table that are not computed, in parentheses (nothing where it has none); and whether the binary
/// format of all of them means the same in the copy: it names enums, composites, domains' arrays and `regclass` by
/// numbers that differ there, and the encoding of text is the connection's.
fn columns(session: &mut Session, table: &Table) -> Result<(String, bool)> {
    let rows = session.query(
        "SELECT quote_ident(a.attname), t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typsend <> 0
                AND t.typreceive <> 0 AND t.typname !~ '^_?(reg|xml|acl|pg_|any)'
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum",
        &[&table.oid],
    )?;
    let names = rows.iter().map(|row| text(row, 0)).collect::<Result<Vec<_>>>()?;
    let plain = rows.iter().all(|row| row.get(1));
    Ok((if names.is_empty() { String::new() } else { format!("({})", names.join(", ")) }, plain))
}

/// The triggers that are receiver's, as a list of a dump's parts names them: catalog and number.
pub(super) fn ours(session: &mut Session) -> Result<BTreeSet<String>> {
    let found = session.texts(
        "SELECT '2620 ' || t.oid FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_namespace n ON n.oid = f.pronamespace
         WHERE n.nspname = 'receiver' AND NOT t.tgisinternal",
        &[],
    )?;
    Ok(found.into_iter().collect())
}

/// The lines of a list of parts (`12; 2620 16398 TRIGGER …`) but for those `without`; nor the comments of
/// extensions, which only their owner may make.
fn chosen(list: &str, without: &BTreeSet<String>) -> String {
    let keeps = |line: &&str| {
        let Some((_, part)) = line.split_once("; ") else { return true };
        let mut words = part.splitn(3, ' ');
        let number = format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default());
        !without.contains(&number) && !words.next().unwrap_or_default().starts_with("COMMENT - EXTENSION ")
    };
    list.lines().filter(keeps).map(|line| format!("{line}\n")).collect()
}

/// Makes the extensions that only a superuser may make, if the administrator is one. Answers the schemas that
/// were made for them.
fn extensions(source: &mut Session, server: &Server, copy: &str) -> Result<Vec<String>> {
    let wanted = source.query(
        "SELECT e.extname::text, n.nspname::text, e.extversion FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
         LEFT JOIN pg_available_extension_versions a ON a.name = e.extname AND a.version = e.extversion
         WHERE e.extname <> 'plpgsql' AND coalesce(a.superuser AND NOT a.trusted, true) ORDER BY e.oid",
        &[],
    )?;
    let mut schemas = Vec::new();
    let superuser = source.any("SELECT FROM pg_roles WHERE rolname = current_user AND rolsuper", &[])?;
    for row in wanted {
        let (name, schema) = (text(&row, 0)?, text(&row, 1)?);
        if !superuser {
            return Err(Error::new(format!("only a superuser may make its extension '{}'", name.escape_debug()))
                .hint(format!("trust it, as root: `echo 'trusted = true' >> $(pg_config --sharedir)/extension/{name}.control`")));
        }
        let mut admin = server.session(copy)?;
        if !schema.starts_with("pg_") && schema != "public" && !schemas.contains(&schema) {
            admin.run(&format!("CREATE SCHEMA {} AUTHORIZATION {}", ident(&schema), ident(copy)))?;
            schemas.push(schema.clone());
        }
        admin.run(&format!("CREATE EXTENSION {} WITH SCHEMA {}", ident(&name), ident(&schema)))?;
    }
    Ok(schemas)
}

/// Fills the materialized views that are filled in the original. One may read another: what cannot be filled yet is
/// tried again, as long as some can.
fn refresh(source: &mut Session, to: &mut Session, limit: &Limit<'_>) -> Result<()> {
    let mut waiting = source.texts(
        &format!(
            "{RELATIONS} SELECT quote_ident(schema) || '.' || quote_ident(rel.relname) FROM rel JOIN pg_class c USING (oid)
             WHERE kind = 'm' AND c.relispopulated ORDER BY oid"
        ),
        &[],
    )?;
    while !waiting.is_empty() {
        let (mut left, mut failed) = (Vec::new(), None);
        let before = waiting.len();
        for view in waiting {
            if let Err(error) = to.within(limit, |to| to.run(&format!("REFRESH MATERIALIZED VIEW {view}"))) {
                failed = Some(error);
                left.push(view);
            }
        }
        match failed {
            Some(error) if left.len() == before => {
                let view = left[0].escape_debug();
                return Err(error).context(|| format!("cannot fill the materialized view {view}"));
            }
            _ => waiting = left,
        }
    }
    Ok(())
}

/// A database's name where a program takes a connection string for it.
pub(super) fn conninfo(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn what_is_receivers_is_left_out_of_a_list_of_parts() {
        let list = "; Archive\n1; 2620 16398 TRIGGER public t receiver_fence o\n2; 2620 163981 TRIGGER public t x o\n3; 0 0 COMMENT - EXTENSION a b\n";
        let without = BTreeSet::from(["2620 16398".to_owned()]);
        assert_eq!(chosen(list, &without), "; Archive\n2; 2620 163981 TRIGGER public t x o\n");
        assert_eq!(conninfo("a'b\\"), "dbname='a\\'b\\\\'");
    }
}
