//! A SQLite database as [`Database`] has it: a file in a directory of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{canon, copy, dump, fence, place, proof, script, shell, way};
use crate::data::way::{Capture, Carried, Changes, OnConflict, Table, Way};
use crate::data::{
    Access, Census, Database, Fence, Finding, Hold, Limit, Progress, Rows, Schema, Script, Spot, Talk,
};
use crate::support::{Result, files};

/// A version's database in a file.
#[derive(Clone, Debug)]
pub struct Sqlite {
    spot: Spot,
    file: PathBuf,
}

/// The file of a database.
pub fn file_of(spot: &Spot) -> PathBuf {
    spot.directory.join(format!("{}.sqlite3", spot.name))
}

impl Sqlite {
    /// The database at this spot.
    pub fn at(spot: Spot) -> Sqlite {
        Sqlite { file: file_of(&spot), spot }
    }
}

impl Database for Sqlite {
    fn spot(&self) -> &Spot {
        &self.spot
    }

    fn engine(&self) -> &'static str {
        "sqlite"
    }

    fn place(&self) -> String {
        self.file.display().to_string()
    }

    fn beside(&self, spot: Spot) -> Box<dyn Database> {
        Box::new(Sqlite::at(spot))
    }

    fn variables(&self, access: Access) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![
            ("DATABASE_URL", self.url(access)?),
            ("RECEIVER_DATABASE_ENGINE", "sqlite".to_owned()),
            ("RECEIVER_DATABASE_NAME", self.file.display().to_string()),
            ("RECEIVER_DATABASE_USER", String::new()),
            ("RECEIVER_DATABASE_PASSWORD", String::new()),
            ("RECEIVER_DATABASE_SOCKET", String::new()),
        ])
    }

    fn url(&self, _: Access) -> Result<String> {
        Ok(place::url(&self.file))
    }

    fn exists(&self) -> Result<bool> {
        Ok(files::exists(&self.file))
    }

    fn has_reader(&self) -> bool {
        false
    }

    fn create(&self) -> Result<()> {
        place::remove(&self.file)?;
        place::create(&self.file)
    }

    fn remove(&self) -> Result<()> {
        place::remove(&self.file)
    }

    fn snapshot(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let to = file_of(to);
        place::remove(&to)?;
        copy::snapshot(&self.file, &to, limit, on_progress)?;
        fence::strip(&to).inspect_err(|_| place::abandon(&to))
    }

    fn freeze(&self) -> Result<()> {
        copy::freeze(&self.file)
    }

    fn sync(&self) -> Result<()> {
        copy::checkpoint_and_sync(&self.file)
    }

    fn schema(&self) -> Result<Schema> {
        canon::schema(&self.file)
    }

    fn census(&self, limit: &Limit<'_>) -> Result<Census> {
        proof::census(&self.file, limit)
    }

    fn rows(&self, limit: &Limit<'_>) -> Result<Rows> {
        proof::rows(&self.file, limit)
    }

    fn is_empty(&self) -> Result<bool> {
        proof::is_empty(&self.file)
    }

    fn size(&self) -> Result<u64> {
        place::size(&self.file)
    }

    fn directory(&self) -> Result<Option<PathBuf>> {
        Ok(Some(self.spot.directory.clone()))
    }

    fn verify(&self, original: &Spot, limit: &Limit<'_>) -> Result<u64> {
        proof::verify(&self.file, &file_of(original), limit)
    }

    fn examine(&self, broken: u64, limit: &Limit<'_>) -> Result<()> {
        proof::examine(&self.file, broken, limit)
    }

    fn run_sql(
        &self,
        scripts: &[Script<'_>],
        previous: Option<&Spot>,
        limit: &Limit<'_>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<()> {
        script::run_sql(&self.file, scripts, previous.map(file_of).as_deref(), limit, on_line)
    }

    fn prepare_hold(&self, _: &Limit<'_>) -> Result<()> {
        Ok(())
    }

    fn hold(&self, limit: &Limit<'_>) -> Result<Box<dyn Hold>> {
        let hold = super::Hold::take(&self.file, limit)?;
        Ok(Box::new(Held { hold, database: self.clone() }))
    }

    fn fence(&self) -> Result<Fence> {
        fence::fence(&self.file)
    }

    fn unfence(&self) -> Result<()> {
        fence::unfence(&self.file)
    }

    fn connected(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn findings(&self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    fn dump_suffix(&self) -> &'static str {
        "sqlite3"
    }

    fn dump(&self, to: &Path, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        dump::dump(&self.file, to, limit, on_progress).map(drop)
    }

    fn load(&self, from: &Path, scratch: &Spot, limit: &Limit<'_>) -> Result<()> {
        dump::load(from, &self.file, &file_of(scratch), limit)
    }

    fn shell(&self, access: Access, talk: Talk<'_>) -> Result<bool> {
        shell::shell(&self.file, access, talk.input, talk.output, talk.errors)
    }

    fn tables(&self) -> Result<Vec<Table>> {
        way::tables(&self.file)
    }

    fn capture(&self, peer: &str, limit: &Limit<'_>) -> Result<Capture> {
        way::capture(&self.file, peer, limit)
    }

    fn captured(&self) -> Result<Option<Capture>> {
        way::captured(&self.file)
    }

    fn end_capture(&self) -> Result<()> {
        way::end_capture(&self.file)
    }

    fn changes(&self, limit: &Limit<'_>) -> Result<BTreeMap<String, Changes>> {
        way::changes(&self.file, limit)
    }

    fn foresee(&self, target: &Spot, way: &Way, limit: &Limit<'_>) -> Result<Carried> {
        way::foresee(&self.file, &file_of(target), &target.name, way, limit)
    }

    fn merge(&self, left: &Spot, way: &Way, limit: &Limit<'_>) -> Result<Carried> {
        way::merge(&self.file, &file_of(left), way, limit)
    }
}

struct Held {
    hold: super::Hold,
    database: Sqlite,
}

impl Hold for Held {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn copy_to(&self, to: &Spot, limit: &Limit<'_>, on_progress: &mut dyn FnMut(Progress)) -> Result<()> {
        self.database.snapshot(to, limit, on_progress)
    }

    fn carry_to(
        &self,
        target: &Spot,
        way: &Way,
        on_conflict: OnConflict,
        limit: &Limit<'_>,
    ) -> Result<Carried> {
        way::carry(&self.database.file, &file_of(target), &target.name, way, on_conflict, limit)
    }

    fn fence(self: Box<Self>, why: &str) -> Result<()> {
        self.hold.fence(why)
    }
}
