//! One way, gone in one transaction of the target.
//!
//! It reads committed rows (`READ COMMITTED`): no row of the source is locked, whoever writes there. Under a hold that
//! is one moment.
//!
//! [`foresee`] has no hold, and sees each table at a moment of its own: in a transaction with one view of all,
//! `INSERT … SELECT` would lock what it reads, and the writers would wait. What it foresees is right all the same, but for
//! what is written while it looks. Rows of one table are of one moment, so none is refused for two that never were there
//! together. Parents are read before children: a child whose parent came in between brings it along, as it does one that
//! nobody changed; and a parent that went in between, after its children, leaves them behind as gone.

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
use crate::data::way::{self, Attempt, Carried, For, OnConflict, Row, Settled, Stages, Way};
use crate::support::{Error, Result, death};

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
        if keep {
            death::point("rows-carried");
        }
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
    session.run("SET SESSION foreign_key_checks = 0, unique_checks = 1")?;
    session.take_tables_as_they_are()
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
    let proof = capture::proof(session, source, For::Rollback)
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
    whole: &Way,
    between: &Between,
    on_conflict: OnConflict,
) -> Result<Carried> {
    let way = &part(session, logs, whole)?;
    let mut stages = Stages::default();
    for passage in &way.passages {
        let mut stage = Stage::new(stages.count(), passage, between)?;
        match logs.and_then(|logs| logs.get(&passage.table)) {
            Some(log) => stage.take_noted(session, log),
            None => stage.take_all(session),
        }?;
        stage.fill(session)?;
        stages.push(stage);
    }
    let left = stays::count(session, &way.left, between, logs, &stages);
    let links = Links::new(way, between);
    let mut journey = Journey { session, stages, links };
    let settled = way::settle(&mut journey, on_conflict)?;
    let mut carried = Carried { dangling: settled.dangling, left, ..Carried::default() };
    journey.account(&settled, &mut carried)?;
    Ok(carried)
}

/// What of the way has to be gone: where keys were noted, that of the tables in which any were.
fn part(session: &mut Session, logs: Option<&BTreeMap<String, String>>, way: &Way) -> Result<Way> {
    let Some(logs) = logs else { return Ok(way.clone()) };
    if let Some(passage) = way.passages.iter().find(|passage| !logs.contains_key(&passage.table)) {
        let table = passage.table.escape_debug();
        return Err(Error::new(format!("the changes of table '{table}' were not noted")));
    }
    let noted = capture::noted(session, logs)?;
    Ok(way.of_changed(&noted.iter().map(String::as_str).collect()))
}

/// Everything on its way.
struct Journey<'s, 'a> {
    session: &'s mut Session,
    stages: Stages<'a, Stage<'a>>,
    links: Links<'a>,
}

impl Journey<'_, '_> {
    fn account(&mut self, settled: &Settled, carried: &mut Carried) -> Result<()> {
        for stage in self.stages.used() {
            let moved = stage.moved(self.session)?;
            if moved.written + moved.deleted > 0 {
                carried.moved.insert(stage.passage.table.clone(), moved);
            }
        }
        for (row, why) in &settled.refused {
            let (table, key) = self.told(*row)?;
            carried.refused.entry(table).or_default().add(key, why.clone());
        }
        Ok(())
    }
}

impl Attempt for Journey<'_, '_> {
    type Key = Vec<mysql::Value>;

    fn pass(&mut self) -> Result<Found> {
        for stage in self.stages.iter_mut() {
            stage.fill(self.session)?;
        }
        self.links.prepare(self.session, &self.stages)?;
        self.session.run("SAVEPOINT receiver_pass")?;
        self.links.before(self.session, &self.stages)?;
        for stage in self.stages.used().rev() {
            stage.delete(self.session)?;
        }
        let mut found = Found::default();
        for stage in self.stages.used() {
            let refused = stage.insert(self.session)?;
            found.refused.extend(refused.into_iter().map(|(n, why)| ((stage.at, n), why)));
        }
        if found.refused.is_empty() { self.links.after(self.session, &self.stages) } else { Ok(found) }
    }

    fn undo(&mut self) -> Result<()> {
        self.session.run("ROLLBACK TO SAVEPOINT receiver_pass")
    }

    fn last(&mut self, at: usize) -> Result<i64> {
        self.stages.at(at).last(self.session)
    }

    fn take_along(&mut self, at: usize, key: &Vec<mysql::Value>) -> Result<i64> {
        self.stages.at_mut(at).take(self.session, key)
    }

    fn leave(&mut self, (at, n): Row) -> Result<()> {
        self.stages.at(at).leave(self.session, n)
    }

    fn told(&mut self, (at, n): Row) -> Result<(String, String)> {
        let stage = self.stages.at(at);
        Ok((stage.passage.table.clone(), stage.told(self.session, n)?))
    }
}
