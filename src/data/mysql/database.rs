//! A database on MariaDB or MySQL as [`Database`] has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::canon;
use super::copy;
use super::dump;
use super::events;
use super::fence;
use super::findings;
use super::hold::Held;
use super::place;
use super::proof;
use super::roles;
use super::script;
use super::server::Server;
use super::session::Session;
use super::tables;
use super::way;
use crate::data::database::forgotten;
use crate::data::way::{Capture, Carried, Changes, For, Table, Way};
use crate::data::{
    Access, Census, Database, Fence, Finding, Ground, Hold, Limit, Progress, Rows, Schema, Script, Spot, Talk,
};
use crate::support::Result;

/// A version's database on a server.
#[derive(Clone, Debug)]
pub struct Mysql {
    pub(super) server: Server,
    pub(super) spot: Spot,
}

impl Mysql {
    /// The database at this spot of the server that `ground` names.
    pub fn at(ground: &Ground, spot: Spot) -> Mysql {
        Mysql { server: Server::of(ground), spot }
    }

    /// Another one on the same server.
    pub(super) fn other(&self, spot: &Spot) -> Mysql {
        Mysql { server: self.server.clone(), spot: spot.clone() }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.spot.name
    }

    /// A session of the administrator's in it.
    pub(super) fn session(&self) -> Result<Session> {
        place::known(&self.server, self.name())?;
        self.server.connect_to(self.name())
    }

    /// The same, once the triggers are there again that one who died had put aside.
    pub(super) fn whole(&self) -> Result<Session> {
        let mut session = self.session()?;
        way::aside::mend(&mut session, self.name())?;
        Ok(session)
    }

    /// The role for this access, and its password.
    pub(super) fn role(&self, access: Access) -> Result<(String, String)> {
        let credentials = place::known(&self.server, self.name())?;
        Ok(match access {
            Access::Write => (self.spot.name.clone(), credentials.password),
            Access::Read => (roles::reader(self.name())?, credentials.reader),
        })
    }
}

impl Database for Mysql {
    fn spot(&self) -> &Spot {
        &self.spot
    }

    fn engine(&self) -> &'static str {
        "mysql"
    }

    fn place(&self) -> String {
        self.server.socket.display().to_string()
    }

    fn beside(&self, spot: Spot) -> Box<dyn Database> {
        Box::new(self.other(&spot))
    }

    fn variables(&self, access: Access) -> Result<Vec<(&'static str, String)>> {
        let (role, password) = self.role(access)?;
        Ok(vec![
            ("DATABASE_URL", place::url(&self.server.socket, self.name(), &role, &password)),
            ("RECEIVER_DATABASE_ENGINE", place::ENGINE.to_owned()),
            ("RECEIVER_DATABASE_NAME", self.spot.name.clone()),
            ("RECEIVER_DATABASE_USER", role),
            ("RECEIVER_DATABASE_PASSWORD", password),
            ("RECEIVER_DATABASE_SOCKET", self.server.socket.display().to_string()),
        ])
    }

    fn url(&self, access: Access) -> Result<String> {
        let (role, password) = self.role(access)?;
        Ok(place::url(&self.server.socket, self.name(), &role, &password))
    }

    fn exists(&self) -> Result<bool> {
        Ok(place::credentials(&self.server, self.name())?.is_some()
            && place::is_there(&mut self.server.connect()?, self.name())?)
    }

    fn has_reader(&self) -> bool {
        true
    }

    fn create(&self) -> Result<()> {
        place::create(&self.server, &self.spot)
    }

    fn remove(&self) -> Result<()> {
        place::remove(&self.server, self.name())
    }

    fn snapshot(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        self.whole()?;
        copy::snapshot(self, &self.other(to), limit, on_progress)
    }

    fn freeze(&self) -> Result<()> {
        fence::freeze(self)
    }

    fn sync(&self) -> Result<()> {
        place::sync(&mut self.session()?)
    }

    fn schema(&self) -> Result<Schema> {
        Ok(canon::read(&mut self.whole()?, self.name())?.without_bookkeeping())
    }

    fn census(&self, limit: &Limit<'_>) -> Result<Census> {
        let mut session = self.whole()?;
        self.server.within(&mut session, limit, |session| proof::census(session, self.name()))
    }

    fn rows(&self, limit: &Limit<'_>) -> Result<Rows> {
        let mut session = self.session()?;
        self.server.within(&mut session, limit, |session| proof::count(session, self.name()))
    }

    fn is_empty(&self) -> Result<bool> {
        Ok(tables::names(&mut self.session()?, self.name())?.is_empty())
    }

    fn size(&self) -> Result<u64> {
        place::size(&mut self.session()?, self.name())
    }

    fn directory(&self) -> Result<Option<PathBuf>> {
        place::directory(&mut self.server.connect()?)
    }

    fn verify(&self, original: &Spot, limit: &Limit<'_>) -> Result<u64> {
        proof::verify(self, &self.other(original), limit)
    }

    fn examine(&self, broken: u64, limit: &Limit<'_>) -> Result<()> {
        proof::examine(self, broken, limit)
    }

    fn run_sql(
        &self,
        scripts: &[Script<'_>],
        previous: Option<&Spot>,
        limit: &Limit<'_>,
        _: &mut dyn FnMut(&str),
    ) -> Result<()> {
        script::run(self, scripts, previous, limit)
    }

    fn prepare_hold(&self, limit: &Limit<'_>) -> Result<()> {
        self.whole()?;
        fence::prepare(self, limit)
    }

    fn copies_ahead(&self) -> Result<bool> {
        way::behind::copies_ahead(self)
    }

    fn copy_ahead(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        self.whole()?;
        way::behind::copy_ahead(self, &self.other(to), limit, on_progress)
    }

    fn forget_copy(&self) -> Result<()> {
        way::behind::forget_copy(self)
    }

    fn hold(&self, limit: &Limit<'_>) -> Result<Box<dyn Hold>> {
        self.whole()?;
        Ok(Box::new(Held::take(self, limit)?))
    }

    fn fence(&self) -> Result<Fence> {
        self.whole()?;
        fence::state(self)
    }

    fn unfence(&self) -> Result<()> {
        self.whole()?;
        fence::unfence(self)?;
        forgotten(self);
        Ok(())
    }

    fn connected(&self) -> Result<Vec<String>> {
        findings::connected(self)
    }

    fn findings(&self) -> Result<Vec<Finding>> {
        findings::all(self)
    }

    fn dump_suffix(&self) -> &'static str {
        "sql"
    }

    fn dump(&self, to: &Path, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        self.whole()?;
        dump::dump(self, to, limit, on_progress)
    }

    fn load(&self, from: &Path, scratch: &Spot, limit: &Limit<'_>) -> Result<()> {
        dump::load(from, self, scratch, limit)
    }

    fn shell(&self, access: Access, talk: Talk<'_>) -> Result<bool> {
        script::shell(self, access, talk)
    }

    fn tables(&self) -> Result<Vec<Table>> {
        way::tables(self)
    }

    fn capture(&self, peer: &str, limit: &Limit<'_>) -> Result<Capture> {
        self.whole()?;
        way::capture::capture(self, For::Rollback, peer, limit)
    }

    fn captured(&self) -> Result<Option<Capture>> {
        self.whole()?;
        way::capture::captured(self)
    }

    fn end_capture(&self) -> Result<()> {
        way::capture::end_capture(self, For::Rollback)
    }

    fn changes(&self, limit: &Limit<'_>) -> Result<BTreeMap<String, Changes>> {
        way::capture::changes(self, limit)
    }

    fn foresee(&self, target: &Spot, way: &Way, limit: &Limit<'_>) -> Result<Carried> {
        way::carry::foresee(self, &self.other(target), way, limit)
    }

    fn merge(&self, left: &Spot, way: &Way, limit: &Limit<'_>) -> Result<Carried> {
        way::carry::merge(self, &self.other(left), way, limit)
    }

    fn begin_events(&self) -> Result<()> {
        events::begin(&mut self.session()?, self.name(), None)
    }
}
