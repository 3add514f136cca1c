//! A PostgreSQL database as [`Database`] has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::names::{self, ident};
use super::place::{self, LOBBY, reader_of};
use super::server::Server;
use super::session::{Session, text};
use super::{canon, closed, copy, dump, fence, findings, hold, load, proof, script, shell, way};
use crate::data::database::forgotten;
use crate::data::way::{Capture, Carried, Changes, For, Table, Way};
use crate::data::{
    Access, Census, Credentials, Database, Fence, Finding, Ground, Hold, Limit, Progress, Rows, Schema,
    Script, Spot, Talk,
};
use crate::support::{Context, Error, Result};

/// A version's database on a PostgreSQL server.
#[derive(Clone, Debug)]
pub struct Postgres {
    server: Server,
    spot: Spot,
}

impl Postgres {
    /// The database at this spot.
    pub fn at(ground: &Ground, spot: Spot) -> Postgres {
        Postgres { server: Server::of(ground), spot }
    }

    fn name(&self) -> &str {
        &self.spot.name
    }

    /// A session of the administrator's in it, once it is proved to be receiver's.
    fn session(&self) -> Result<Session> {
        self.secret()?;
        self.server.session(self.name())
    }

    fn secret(&self) -> Result<Credentials> {
        secret_of(&self.server, self.name())
    }

    /// A sentence around what went wrong with this database.
    fn cannot<'a>(&'a self, what: &'a str) -> impl Fn() -> String + 'a {
        move || format!("cannot {what} the database '{}'", self.name().escape_debug())
    }
}

/// The passwords of a database; one that has none is not receiver's.
pub(super) fn secret_of(server: &Server, name: &str) -> Result<Credentials> {
    Credentials::lent(&server.secrets, server.lender.as_deref(), names::checked(name)?)?.ok_or_else(|| {
        let file = server.secrets.join(name);
        Error::new(format!(
            "the database '{}' is not receiver's: there is no {}",
            name.escape_debug(),
            file.display()
        ))
    })
}

impl Database for Postgres {
    fn spot(&self) -> &Spot {
        &self.spot
    }

    fn engine(&self) -> &'static str {
        "postgres"
    }

    fn place(&self) -> String {
        self.server.socket().display().to_string()
    }

    fn beside(&self, spot: Spot) -> Box<dyn Database> {
        Box::new(Postgres { server: self.server.clone(), spot })
    }

    fn variables(&self, access: Access) -> Result<Vec<(&'static str, String)>> {
        let secret = self.secret()?;
        let (user, password) = match access {
            Access::Write => (self.name().to_owned(), secret.password),
            Access::Read => (reader_of(self.name())?, secret.reader),
        };
        Ok(vec![
            ("DATABASE_URL", self.url(access)?),
            ("RECEIVER_DATABASE_ENGINE", "postgres".to_owned()),
            ("RECEIVER_DATABASE_NAME", self.name().to_owned()),
            ("RECEIVER_DATABASE_USER", user),
            ("RECEIVER_DATABASE_PASSWORD", password),
            ("RECEIVER_DATABASE_SOCKET", self.server.directory().display().to_string()),
        ])
    }

    fn url(&self, access: Access) -> Result<String> {
        let secret = self.secret()?;
        let (user, password) = match access {
            Access::Write => (self.name().to_owned(), secret.password),
            Access::Read => (reader_of(self.name())?, secret.reader),
        };
        let coded = names::percent_encoded;
        // A slash would end the name of the role, and of the database.
        let [user, name] = [&user, self.name()].map(|text| coded(text).replace('/', "%2F"));
        let host = coded(&self.server.directory().display().to_string());
        let port =
            if self.server.port() == 5432 { String::new() } else { format!("&port={}", self.server.port()) };
        Ok(format!("postgres://{user}:{password}@/{name}?host={host}{port}"))
    }

    fn exists(&self) -> Result<bool> {
        let name = names::checked(self.name())?;
        if Credentials::read(&self.server.secrets, name)?.is_none() {
            return Ok(false);
        }
        place::is_there(&mut self.server.session(LOBBY)?, name)
    }

    fn has_reader(&self) -> bool {
        true
    }

    fn create(&self) -> Result<()> {
        place::create(&self.server, &self.spot, None).map(drop)
    }

    fn remove(&self) -> Result<()> {
        place::remove(&self.server, self.name())
    }

    fn snapshot(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        self.secret()?;
        copy::copy(&self.server, self.name(), to, limit, on_progress)
    }

    /// Its role that can only read is there already; its owner is not let in any more.
    fn freeze(&self) -> Result<()> {
        let mut session = self.session()?;
        let frozen = session.run(&format!("ALTER ROLE {} NOLOGIN", ident(self.name())));
        frozen.and_then(|()| fence::end_all(&self.server, self.name())).context(self.cannot("freeze"))
    }

    /// Every commit before this one that waits for the disk is on it, too: the log is one.
    fn sync(&self) -> Result<()> {
        let mut session = self.session()?;
        let write = "SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'receiver', 'sync')";
        session.run(write).context(self.cannot("sync"))
    }

    fn schema(&self) -> Result<Schema> {
        let schema = canon::read(&mut self.session()?).context(self.cannot("read the schema of"))?;
        Ok(schema.without_bookkeeping())
    }

    fn census(&self, limit: &Limit<'_>) -> Result<Census> {
        proof::census(&mut self.session()?, limit).context(self.cannot("take the census of"))
    }

    fn rows(&self, limit: &Limit<'_>) -> Result<Rows> {
        proof::rows(&mut self.session()?, limit).context(self.cannot("count the rows of"))
    }

    fn is_empty(&self) -> Result<bool> {
        proof::is_empty(&mut self.session()?).context(self.cannot("read the schema of"))
    }

    fn size(&self) -> Result<u64> {
        let mut session = self.server.session(LOBBY)?;
        let size = session
            .number("SELECT pg_database_size(datname) FROM pg_database WHERE datname = $1", &[&self.name()]);
        size.map(i64::unsigned_abs).context(self.cannot("measure"))
    }

    /// The server tells where its data is only to those with `pg_read_all_settings`.
    fn directory(&self) -> Result<Option<PathBuf>> {
        let mut session = self.server.session(LOBBY)?;
        let place = session.text("SELECT setting FROM pg_settings WHERE name = 'data_directory'", &[])?;
        Ok(place.map(PathBuf::from))
    }

    fn verify(&self, original: &Spot, limit: &Limit<'_>) -> Result<u64> {
        let ours = || self.server.session(self.name());
        let theirs = || self.server.session(&original.name);
        proof::verify(&ours, &theirs, limit)
            .context(|| format!("the copy '{}' is not its original", self.name().escape_debug()))
    }

    fn examine(&self, broken: u64, limit: &Limit<'_>) -> Result<()> {
        proof::examine(&mut self.session()?, broken, limit)
            .context(|| format!("the database '{}' is not sound", self.name().escape_debug()))
    }

    fn run_sql(
        &self,
        scripts: &[Script<'_>],
        previous: Option<&Spot>,
        limit: &Limit<'_>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let session = self.server.session_of(self.name(), self.name(), &self.secret()?.password, true)?;
        script::run_sql(session, scripts, previous.is_some(), limit, on_line)
    }

    fn prepare_hold(&self, _: &Limit<'_>) -> Result<()> {
        Ok(())
    }

    fn copies_ahead(&self) -> Result<bool> {
        way::copies_ahead(&self.server, self.name())
    }

    fn copy_ahead(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        self.secret()?;
        way::copy_ahead(&self.server, self.name(), to, limit, on_progress)
    }

    fn forget_copy(&self) -> Result<()> {
        self.secret()?;
        way::end_capture(&self.server, self.name(), For::Copy)
    }

    fn hold(&self, limit: &Limit<'_>) -> Result<Box<dyn Hold>> {
        self.secret()?;
        Ok(Box::new(hold::take(&self.server, self.name(), limit)?))
    }

    fn disconnects(&self) -> bool {
        true
    }

    fn disconnect(&self, why: &str, limit: &Limit<'_>) -> Result<Box<dyn Hold>> {
        self.secret()?;
        Ok(Box::new(closed::take(&self.server, self.name(), why, limit)?))
    }

    fn fence(&self) -> Result<Fence> {
        self.secret()?;
        fence::fence(&self.server, self.name()).context(self.cannot("read the fence of"))
    }

    fn unfence(&self) -> Result<()> {
        self.secret()?;
        closed::reopen(&self.server, self.name())?;
        fence::unfence(&self.server, self.name())?;
        forgotten(self);
        Ok(())
    }

    fn connected(&self) -> Result<Vec<String>> {
        let reader = super::place::reader_of(self.name())?;
        let rows = self.server.session(LOBBY)?.query(
            "SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), coalesce(state, 'state not shown')
             FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend' AND application_name <> 'receiver'
               AND usename IS DISTINCT FROM $2 ORDER BY backend_start",
            &[&self.name(), &reader.as_str()],
        )?;
        let line = |row: &postgres::Row| -> Result<String> {
            let (pid, role, program, state): (i32, _, _, _) =
                (row.get(0), text(row, 1)?, text(row, 2)?, text(row, 3)?);
            let line = format!("process {pid} as {role} {program} ({state})");
            Ok(crate::support::text::printable(&line))
        };
        rows.iter().map(line).collect()
    }

    fn findings(&self) -> Result<Vec<Finding>> {
        findings::findings(&self.server, self.name())
    }

    fn dump_suffix(&self) -> &'static str {
        "pgdump"
    }

    fn dump(&self, to: &Path, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        self.secret()?;
        dump::dump(&self.server, self.name(), to, limit, on_progress)
    }

    fn load(&self, from: &Path, scratch: &Spot, limit: &Limit<'_>) -> Result<()> {
        load::load(&self.server, self.name(), from, scratch, limit)
    }

    fn shell(&self, access: Access, talk: Talk<'_>) -> Result<bool> {
        let secret = self.secret()?;
        let session = match access {
            Access::Write => self.server.session_of(self.name(), self.name(), &secret.password, true),
            Access::Read => {
                self.server.session_of(self.name(), &reader_of(self.name())?, &secret.reader, true)
            }
        };
        shell::shell(session?, talk)
    }

    fn tables(&self) -> Result<Vec<Table>> {
        self.secret()?;
        way::tables(&self.server, self.name()).context(self.cannot("read the tables of"))
    }

    fn capture(&self, peer: &str, limit: &Limit<'_>) -> Result<Capture> {
        self.secret()?;
        way::capture(&self.server, self.name(), For::Rollback, peer, limit)
    }

    fn captured(&self) -> Result<Option<Capture>> {
        self.secret()?;
        way::captured(&self.server, self.name(), For::Rollback)
    }

    fn end_capture(&self) -> Result<()> {
        self.secret()?;
        way::end_capture(&self.server, self.name(), For::Rollback)
    }

    fn changes(&self, limit: &Limit<'_>) -> Result<BTreeMap<String, Changes>> {
        self.secret()?;
        way::changes(&self.server, self.name(), limit)
    }

    fn foresee(&self, target: &Spot, way: &Way, limit: &Limit<'_>) -> Result<Carried> {
        self.secret()?;
        secret_of(&self.server, &target.name)?;
        way::foresee(&self.server, [self.name(), &target.name], way, limit)
    }

    fn merge(&self, left: &Spot, way: &Way, limit: &Limit<'_>) -> Result<Carried> {
        self.secret()?;
        secret_of(&self.server, &left.name)?;
        way::merge(&self.server, self.name(), &left.name, way, limit)
    }
}
