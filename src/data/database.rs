//! What a deploy asks of a version's database, whichever engine keeps it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::way::{Capture, Carried, Changes, OnConflict, Table, Way};
use super::{Census, Limit, Progress, Rows, Schema};
use crate::support::Result;

/// Where a database is: its name, and the directory of an engine that keeps it in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    /// The directory, which is the database's alone. Engines that are servers make nothing there.
    pub directory: PathBuf,
    /// The name: `agroguia_v4`.
    pub name: String,
}

/// How somebody may use a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Look.
    Read,
    /// Look and write.
    Write,
}

/// How far a database is fenced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fence {
    /// Not at all.
    Open,
    /// It refuses writes.
    Whole,
    /// It refuses writes, but not these: tables that were made, or lost their triggers, after the fence, or
    /// roles that may write.
    Gaps(Vec<String>),
}

/// One file of SQL.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// The name to speak of it by: its path in the repository.
    pub name: &'a str,
    /// Its content, in UTF-8.
    pub text: &'a [u8],
}

/// Where those who talk to a shell listen.
pub struct Talk<'a> {
    /// The statements, each ended by `;`.
    pub input: &'a mut dyn BufRead,
    /// The rows, separated by tabs under the names of their columns.
    pub output: &'a mut dyn Write,
    /// What failed.
    pub errors: &'a mut dyn Write,
}

/// What an administrator should know of a database or its server, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub what: String,
    /// What to type.
    pub cure: String,
}

/// A database of one version: there already, or to be made.
///
/// **Whose it is.** [`create`](Database::create) and [`snapshot`](Database::snapshot) make databases,
/// [`remove`](Database::remove) removes what they made, and nothing else: a database of the same name that
/// receiver did not make is refused by the first two and left alone by the last, also after a death in the
/// middle of any of them. On a server each has a role of its own, of its name, and one that can only read.
/// Where one of receiver's own is there already, it is begun anew: what it held is gone, and its roles and
/// their passwords stay, as a stage may have written them down.
///
/// **Interruptions.** Each verb may be killed anywhere, and is then called again, or followed by `remove`.
/// Those that take a [`Limit`] end soon after it is over, with an error, and without effect.
pub trait Database: fmt::Debug + Send + Sync {
    /// Where it is.
    fn spot(&self) -> &Spot;

    /// The engine that keeps it: `sqlite`, `mysql`, `postgres`.
    fn engine(&self) -> &'static str;

    /// Where it lies, for people: its file, or its server's socket.
    fn place(&self) -> String;

    /// Another database on the same server.
    fn beside(&self, spot: Spot) -> Box<dyn Database>;

    /// What stages and processes find: `DATABASE_URL`, `RECEIVER_DATABASE_ENGINE`, `…_NAME`, `…_USER`,
    /// `…_PASSWORD` and `…_SOCKET`.
    fn variables(&self, access: Access) -> Result<Vec<(&'static str, String)>>;

    /// The address, percent-encoded, with the password: `DATABASE_URL` of [`variables`](Database::variables).
    fn url(&self, access: Access) -> Result<String>;

    /// Whether it is there, and receiver's.
    fn exists(&self) -> Result<bool>;

    /// Whether [`Access::Read`] is a role that cannot write. Where it is not, who may only read gets a copy.
    fn has_reader(&self) -> bool;

    /// Makes it, empty, with its roles.
    fn create(&self) -> Result<()>;

    /// Removes it with its roles, and ends who is connected. What is not there is fine.
    fn remove(&self) -> Result<()>;

    /// Makes `to` a copy of one moment of it, without receiver's own objects, while nobody waits.
    fn snapshot(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()>;

    /// Makes a copy one that can only be read, from now on, through [`Access::Read`].
    fn freeze(&self) -> Result<()>;

    /// Everything that was written is on the disk when this returns.
    fn sync(&self) -> Result<()>;

    /// Its schema, without the framework's bookkeeping and receiver's own.
    fn schema(&self) -> Result<Schema>;

    /// Schema, rows and a stamp that moves with every write.
    fn census(&self, limit: &Limit<'_>) -> Result<Census>;

    /// How many rows each table has.
    fn rows(&self, limit: &Limit<'_>) -> Result<Rows>;

    /// Whether it has no table.
    fn is_empty(&self) -> Result<bool>;

    /// Its bytes on disk.
    fn size(&self) -> Result<u64>;

    /// The directory that its bytes lie in; `None` where that cannot be known.
    fn directory(&self) -> Result<Option<PathBuf>>;

    /// Proves that it, made by [`Hold::copy_to`], is `original`: tables, rows, content, sequences. Answers
    /// how many references lead nowhere in both.
    fn verify(&self, original: &Spot, limit: &Limit<'_>) -> Result<u64>;

    /// Proves that it is sound after a migration, and has not more than `broken` references that lead nowhere.
    fn examine(&self, broken: u64, limit: &Limit<'_>) -> Result<()>;

    /// Runs files of SQL, in their order, all of it or (where the engine can) nothing. `previous` can be
    /// read, and not written.
    fn run_sql(
        &self,
        scripts: &[Script<'_>],
        previous: Option<&Spot>,
        limit: &Limit<'_>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<()>;

    /// Does all for a later hold and fence that can be done while nobody waits; [`unfence`](Database::unfence)
    /// takes it back.
    fn prepare_hold(&self, limit: &Limit<'_>) -> Result<()>;

    /// Whether [`copy_ahead`](Database::copy_ahead) is another copy than that of [`Hold::copy_to`].
    fn copies_ahead(&self) -> Result<bool> {
        Ok(false)
    }

    /// Makes `to` while nobody waits, and notes from before it begins which rows change: [`Hold::catch_up`] makes it whole.
    /// What notes them goes by [`forget_copy`](Database::forget_copy), and by [`unfence`](Database::unfence). Where
    /// the engine copies nothing ahead nothing is done.
    fn copy_ahead(
        &self,
        _to: &Spot,
        _limit: &Limit<'_>,
        _on_progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        Ok(())
    }

    /// Notes no longer what changes for a copy. Cheap where nothing is noted.
    fn forget_copy(&self) -> Result<()> {
        Ok(())
    }

    /// Lets readers go on and writers wait. The error names who is in the way.
    fn hold(&self, limit: &Limit<'_>) -> Result<Box<dyn Hold>>;

    /// Whether [`disconnect`](Database::disconnect) is another hold than [`hold`](Database::hold).
    fn disconnects(&self) -> bool {
        false
    }

    /// A hold for a copy of files, for which nobody may be connected: from now on writers are refused, who are told
    /// `why`, and [`Hold::copy_to`] ends all connections, readers' too. Dropped, it takes that back; its death does not, but
    /// [`unfence`](Database::unfence). Where the engine copies in no such way it is the usual one.
    fn disconnect(&self, _why: &str, limit: &Limit<'_>) -> Result<Box<dyn Hold>> {
        self.hold(limit)
    }

    /// How far it is fenced.
    fn fence(&self) -> Result<Fence>;

    /// Takes the fence down: it takes writes again. Cheap where there is none.
    fn unfence(&self) -> Result<()>;

    /// Who is connected to it and could write there, besides receiver, a line each.
    fn connected(&self) -> Result<Vec<String>>;

    /// What the server lacks, or would refuse, for a version to open.
    fn findings(&self) -> Result<Vec<Finding>>;

    /// How the name of a dump's file ends: `sqlite3`, `sql`, `pgdump`.
    fn dump_suffix(&self) -> &'static str;

    /// Writes what it holds at one moment to a new file (0600), without receiver's own objects, synced and read
    /// back. One that fails leaves nothing.
    fn dump(&self, to: &Path, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()>;

    /// Puts what a dump holds, or a file of SQL makes, in the place of what it holds. First made and proved in
    /// a database of its own at `scratch`, gone afterwards. A retired one is refused.
    fn load(&self, from: &Path, scratch: &Spot, limit: &Limit<'_>) -> Result<()>;

    /// Statements in, rows out; whether all of them succeeded.
    fn shell(&self, access: Access, talk: Talk<'_>) -> Result<bool>;

    /// Lets what the database does by itself begin (MySQL's events), as far as it was on in the original: in a copy
    /// it is off, and off again in a retired one. For the version that is live now.
    fn begin_events(&self) -> Result<()> {
        Ok(())
    }

    /// Its tables, as a [`Way`] is planned from them: the app's and its framework's, never receiver's own.
    fn tables(&self) -> Result<Vec<Table>>;

    /// Notes from now on the key of every row that changes, for the way to the database of the name `peer`. It
    /// begins anew: what was noted before is forgotten. Nobody writes meanwhile: it is not live yet, or fenced. What it
    /// installs is no part of the schema, the census, the rows, a copy or a dump.
    fn capture(&self, peer: &str, limit: &Limit<'_>) -> Result<Capture>;

    /// Whether changes are noted, and the proof, afresh, that none is missing.
    fn captured(&self) -> Result<Option<Capture>>;

    /// Notes nothing any more, and forgets what was noted. Cheap where nothing is.
    fn end_capture(&self) -> Result<()>;

    /// How many rows changed since the capture began, for each table in which any did.
    fn changes(&self, limit: &Limit<'_>) -> Result<BTreeMap<String, Changes>>;

    /// What [`Hold::carry_to`] would answer now, and leave out by [`OnConflict::Quarantine`]: it is done, and
    /// undone. Nobody waits for it: it sees one moment of this database, and the target is retired.
    fn foresee(&self, target: &Spot, way: &Way, limit: &Limit<'_>) -> Result<Carried>;

    /// Takes from `left`, a retired database, what `way` ([`Way::merge`]) says that it alone holds. All rows
    /// are looked at, not only those that were noted. What is refused, or refers to what is gone, is left out
    /// and said. All of it or nothing; nobody may write to this one meanwhile.
    fn merge(&self, left: &Spot, way: &Way, limit: &Limit<'_>) -> Result<Carried>;
}

/// Forgets what was noted for a copy. What notes it costs a little and harms nobody: where it cannot go now, somebody reads
/// that table for long, and the next copy takes it away.
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(super) fn forgotten(database: &dyn Database) {
    if let Err(error) = database.forget_copy() {
        log::warn!(
            "what changes in {} is still noted for a copy: {}",
            database.spot().name,
            error.one_line()
        );
    }
}

/// A lock on one database that lets readers through and makes writers wait. Dropped, or ended by the death
/// of its process, it lets them go on as if nothing had been.
pub trait Hold {
    /// Proves that it still holds.
    fn check(&self) -> Result<()>;

    /// Makes `to` an exact copy, without receiver's own objects, the fastest way that the lock allows. Roles of
    /// others, and what they may do, come along.
    fn copy_to(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()>;

    /// Makes `to`, which [`Database::copy_ahead`] made, the exact copy that [`copy_to`](Hold::copy_to) would make, by what
    /// changed since.
    fn catch_up(&self, to: &Spot, limit: &Limit<'_>) -> Result<()> {
        self.copy_to(to, limit, &mut |_| {})
    }

    /// Carries what changed since the capture began into `target`, which is retired, by `way`: what is there
    /// is written, what is gone is deleted. All of it or nothing, in one transaction of the target.
    ///
    /// The app's triggers there do not fire, its fence neither hinders nor falls, references are as whole as
    /// in the source, and counters of keys never go back. Nothing is forgotten here: it may be done again.
    ///
    /// It is refused when the capture is not whole, or was meant for another database.
    fn carry_to(
        &self,
        target: &Spot,
        way: &Way,
        on_conflict: OnConflict,
        limit: &Limit<'_>,
    ) -> Result<Carried>;

    /// Makes the database refuse every write, also on connections that were open before, and lets go. Who
    /// waited for the lock meets the refusal, which says `why`, as `version 3 of shop is retired`. When it
    /// fails nothing is fenced, and the writers go on.
    fn fence(self: Box<Self>, why: &str) -> Result<()>;
}
