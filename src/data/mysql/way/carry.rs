//! One way, gone in one transaction of the target.
//!
//! It reads committed rows (`READ COMMITTED`): no row of the source is locked, whoever writes there. Under a hold that
//! is one moment; [`foresee`] has no hold, and sees each table at a moment of its own.

use std::collections::BTreeMap;

use super::aside::Aside;
use super::links::{Found, Links};
use super::stage::{Between, Stage};
use super::tables::Tables;
use super::{capture, stays};
use crate::data::Limit;
use crate::data::mysql::database::Mysql;
use crate::data::mysql::session::Session;
use crate::data::mysql::{copy, fence, place, quote, tables as listed};
use crate::data::way::{Carried, OnConflict, Refusal, Way};
use crate::support::{Error, Result};

/// Which rows go.
#[derive(Clone, Copy)]
enum Which {
    /// Those that were noted for the way to this database.
    Noted,
    /// All.
    All,
}

/// Carries what was noted from `source`, which is held, into `target`.
pub(in crate::data::mysql) fn carry(
    source: &Mysql,
    target: &Mysql,
    way: &Way,
    on_conflict: OnConflict,
    limit: &Limit<'_>,
) -> Result<Carried> {
    go(source, target, Which::Noted, way, on_conflict, true, limit).map_err(|why| {
        Error::new(format!("cannot carry what changed in {} to {}", source.name(), target.name()))
            .caused_by(why)
    })
}

/// What that would do now: it is done, with everything left out that is refused, and undone.
pub(in crate::data::mysql) fn foresee(
    source: &Mysql,
    target: &Mysql,
    way: &Way,
    limit: &Limit<'_>,
) -> Result<Carried> {
    go(source, target, Which::Noted, way, OnConflict::Quarantine, false, limit).map_err(|why| {
        Error::new(format!("cannot foresee what goes from {} to {}", source.name(), target.name()))
            .caused_by(why)
    })
}

/// Takes from `left` what it alone holds, as `way` says.
pub(in crate::data::mysql) fn merge(
    own: &Mysql,
    left: &Mysql,
    way: &Way,
    limit: &Limit<'_>,
) -> Result<Carried> {
    go(left, own, Which::All, way, OnConflict::Quarantine, true, limit)
        .map_err(|why| Error::new(format!("cannot merge {} into {}", left.name(), own.name())).caused_by(why))
}

fn go(
    source: &Mysql,
    target: &Mysql,
    which: Which,
    way: &Way,
    on_conflict: OnConflict,
    keep: bool,
    limit: &Limit<'_>,
) -> Result<Carried> {
    let mut session = target.session()?;
    settings(&mut session)?;
    let logs = match which {
        Which::Noted => Some(proved(&mut session, source.name(), target.name())?),
        Which::All => None,
    };
    let between = Between {
        source: source.name().to_owned(),
        target: target.name().to_owned(),
        own: place::own(target.name())?,
        from: Tables::read(&mut session, source.name())?,
        to: Tables::read(&mut session, target.name())?,
    };
    let names: Vec<&str> = way.passages.iter().map(|passage| passage.table.as_str()).collect();
    let mut aside = Aside::put(target, &names, limit)?;
    let work = |session: &mut Session| -> Result<Carried> {
        session.run("START TRANSACTION")?;
        let flag = fence::lower(session, target.name())?;
        let carried = bring(session, logs.as_ref(), way, &between, on_conflict)?;
        fence::lift(session, target.name(), flag)?;
        session.run(if keep { "COMMIT" } else { "ROLLBACK" })?;
        Ok(carried)
    };
    let counted = if keep { count_on(target, aside.session(), way, &between, limit) } else { Ok(()) };
    let carried = counted.and_then(|()| target.server.within(&mut session, limit, work));
    // What was not committed is undone before anybody's triggers are there again.
    drop(session);
    aside.end()?;
    carried
}

fn settings(session: &mut Session) -> Result<()> {
    copy::write_rows(session)?;
    session.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")?;
    session.run("SET SESSION foreign_key_checks = 0, unique_checks = 1, innodb_strict_mode = 0")
}

/// A counter of keys never goes back: the target's is as far as the source's. Before the transaction, as a change of a
/// table ends one: a counter that is ahead harms nobody.
fn count_on(
    target: &Mysql,
    session: &mut Session,
    way: &Way,
    between: &Between,
    limit: &Limit<'_>,
) -> Result<()> {
    let counters = |session: &mut Session, name: &str| -> Result<BTreeMap<String, u64>> {
        let tables = listed::base(session, name)?.into_iter();
        Ok(tables.filter_map(|table| Some((table.name, table.auto_increment?))).collect())
    };
    let (from, to) = (counters(session, &between.source)?, counters(session, &between.target)?);
    for passage in &way.passages {
        let (Some(from), Some(to)) = (from.get(&passage.table), to.get(&passage.table)) else { continue };
        if from > to {
            let table = quote::table(&between.target, &passage.table);
            let on = format!("ALTER TABLE {table} AUTO_INCREMENT = {from}");
            let done = fence::patiently(target, session, &on, limit);
            done.map_err(|why| why.unwrap_or_else(|| Error::new("a counter cannot be set")))?;
        }
    }
    Ok(())
}

/// The logs of the source's tables, once it is proved that they are whole, and meant for this way.
fn proved(session: &mut Session, source: &str, peer: &str) -> Result<BTreeMap<String, String>> {
    let proof = capture::proof(session, source)
        .map_err(|why| Error::new("cannot prove that no change is missing").caused_by(why))?;
    let Some(proof) = proof else { return Err(Error::new("no changes were noted")) };
    if let Some(gap) = proof.capture.gaps.first() {
        return Err(Error::new(format!("not every change was noted: {gap}")));
    }
    if proof.capture.peer != peer {
        let noted = proof.capture.peer.escape_debug();
        return Err(Error::new(format!("changes were noted for the way to {noted}, not to {peer}")));
    }
    let own = place::own(source)?;
    Ok(proof.logs.into_iter().map(|(table, log)| (table, quote::table(&own, &log))).collect())
}

/// Does all of it in the transaction that the session is in.
fn bring(
    session: &mut Session,
    logs: Option<&BTreeMap<String, String>>,
    way: &Way,
    between: &Between,
    on_conflict: OnConflict,
) -> Result<Carried> {
    let mut stages = Vec::new();
    for passage in &way.passages {
        let log = logs.map(|logs| logs.get(&passage.table));
        if log == Some(None) {
            let table = passage.table.escape_debug();
            return Err(Error::new(format!("the changes of table '{table}' were not noted")));
        }
        let mut stage = Stage::new(session, stages.len(), passage, between)?;
        match log.flatten() {
            Some(log) => stage.take_noted(session, log),
            None => stage.take_all(session),
        }?;
        stage.fill(session)?;
        stages.push(stage);
    }
    let left = stays::count(session, &way.left, between, logs, &stages);
    let links = Links::new(session, way, between)?;
    let mut settling = Settling { session, stages, links, on_conflict, refused: BTreeMap::new() };
    let dangling = settling.settle()?;
    let mut carried = Carried { dangling, left, ..Carried::default() };
    settling.account(&mut carried)?;
    Ok(carried)
}

/// Everything on its way, tried until it stands.
struct Settling<'s, 'a> {
    session: &'s mut Session,
    stages: Vec<Stage<'a>>,
    links: Links<'a>,
    on_conflict: OnConflict,
    /// What is left out, and why.
    refused: BTreeMap<(usize, u64), String>,
}

impl Settling<'_, '_> {
    /// Goes until nothing is refused any more. Each time something is left out, or a parent taken along, so
    /// it ends. Answers how many references lead nowhere in both.
    fn settle(&mut self) -> Result<u64> {
        loop {
            self.session.run("SAVEPOINT receiver_pass")?;
            let found = self.pass()?;
            if found.refused.is_empty() && found.wanted.is_empty() {
                self.session.run("RELEASE SAVEPOINT receiver_pass")?;
                return Ok(found.dangling);
            }
            self.session.run("ROLLBACK TO SAVEPOINT receiver_pass")?;
            let missing = self.take_along(&found)?;
            let refused: Vec<_> = found.refused.into_iter().chain(missing).collect();
            if let (OnConflict::Abort, Some((at, n, why))) = (self.on_conflict, refused.first()) {
                return Err(self.refusal(*at, *n, why));
            }
            for (at, n, why) in refused {
                self.stages[at].leave(self.session, n)?;
                self.refused.entry((at, n)).or_insert(why);
            }
            for stage in &mut self.stages {
                stage.fill(self.session)?;
            }
        }
    }

    fn pass(&mut self) -> Result<Found> {
        self.links.before(self.session, &self.stages)?;
        for stage in self.stages.iter().rev() {
            stage.delete(self.session)?;
        }
        let mut found = Found::default();
        for stage in &self.stages {
            let refused = stage.insert(self.session)?;
            found.refused.extend(refused.into_iter().map(|(n, why)| (stage.at, n, why)));
        }
        if found.refused.is_empty() { self.links.after(self.session, &self.stages) } else { Ok(found) }
    }

    /// Takes parents along. Answers the rows that refer to one that was on its way already, and did not
    /// arrive.
    fn take_along(&mut self, found: &Found) -> Result<Vec<(usize, u64, String)>> {
        let mut before = Vec::new();
        for stage in &self.stages {
            before.push(stage.last(self.session)?);
        }
        let mut missing = Vec::new();
        for wanted in &found.wanted {
            let n = self.stages[wanted.at].take(self.session, &wanted.key)?;
            if n <= before[wanted.at] {
                missing.push((wanted.child.0, wanted.child.1, wanted.why.clone()));
            }
        }
        Ok(missing)
    }

    fn refusal(&mut self, at: usize, n: u64, why: &str) -> Error {
        let stage = &self.stages[at];
        let key = stage.told(self.session, n).unwrap_or_default();
        let refusal = Refusal { table: stage.passage.table.clone(), key, why: why.to_owned() };
        Error::new("the other version cannot hold a row").caused_by(refusal)
    }

    fn account(&mut self, carried: &mut Carried) -> Result<()> {
        for stage in &self.stages {
            let moved = stage.moved(self.session)?;
            if moved.written + moved.deleted > 0 {
                carried.moved.insert(stage.passage.table.clone(), moved);
            }
        }
        for ((at, n), why) in &self.refused {
            let stage = &self.stages[*at];
            let key = stage.told(self.session, *n)?;
            carried.refused.entry(stage.passage.table.clone()).or_default().add(key, why.clone());
        }
        Ok(())
    }
}
