//! One way, gone in one transaction of the target.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::links::{Found, Links};
use super::stage::Stage;
use super::{between, capture, open, stays, tables};
use crate::data::Limit;
use crate::data::way::{Carried, OnConflict, Refusal, Way};
use crate::support::{Context, Error, Result};

/// Which rows go.
#[derive(Clone, Copy)]
enum Which<'a> {
    /// Those that were noted for the way to this database.
    Noted(&'a str),
    /// All.
    All,
}

/// Carries what was noted from `source`, which is held, into `target`, whose name is `peer`.
pub fn carry(
    source: &Path,
    target: &Path,
    peer: &str,
    way: &Way,
    on_conflict: OnConflict,
    limit: &Limit<'_>,
) -> Result<Carried> {
    go(source, target, Which::Noted(peer), way, on_conflict, true, limit)
        .context(|| format!("cannot carry what changed in {} to {}", source.display(), target.display()))
}

/// What that would do now: it is done, with everything left out that is refused, and undone.
pub fn foresee(source: &Path, target: &Path, peer: &str, way: &Way, limit: &Limit<'_>) -> Result<Carried> {
    go(source, target, Which::Noted(peer), way, OnConflict::Quarantine, false, limit)
        .context(|| format!("cannot foresee what goes from {} to {}", source.display(), target.display()))
}

/// Takes from `left` what it alone holds, as `way` says.
pub fn merge(own: &Path, left: &Path, way: &Way, limit: &Limit<'_>) -> Result<Carried> {
    go(left, own, Which::All, way, OnConflict::Quarantine, true, limit)
        .context(|| format!("cannot merge {} into {}", left.display(), own.display()))
}

fn go(
    source: &Path,
    target: &Path,
    which: Which<'_>,
    way: &Way,
    on_conflict: OnConflict,
    keep: bool,
    limit: &Limit<'_>,
) -> Result<Carried> {
    let connection = between(source, target)?;
    open::within(&connection, limit, || {
        let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)
            .context(|| "cannot begin to write to the target")?;
        let carried = bring(&transaction, which, way, on_conflict)?;
        if keep {
            transaction.commit().context(|| "cannot commit what was carried")?;
        }
        Ok(carried)
    })
}

/// Does all of it in the transaction that `connection` is in.
fn bring(connection: &Connection, which: Which<'_>, way: &Way, on_conflict: OnConflict) -> Result<Carried> {
    let cannot = || "cannot look at what is to be carried";
    let logs = match which {
        Which::Noted(peer) => Some(proved(connection, peer)?),
        Which::All => None,
    };
    let mut stages = Vec::new();
    for passage in &way.passages {
        let log = logs.as_ref().map(|logs| logs.get(&passage.table));
        if log == Some(None) {
            let table = passage.table.escape_debug();
            return Err(Error::new(format!("the changes of table '{table}' were not noted")));
        }
        let mut stage = Stage::new(connection, stages.len(), passage).context(cannot)?;
        match log.flatten() {
            Some(log) => stage.take_noted(connection, log),
            None => stage.take_all(connection),
        }
        .context(cannot)?;
        stage.fill(connection)?;
        stages.push(stage);
    }
    let source = tables::tables(connection, "main").context(cannot)?;
    let left = stays::count(connection, &way.left, &source, logs.as_ref(), &stages);
    let links = Links::new(connection, way).context(cannot)?;
    let mut settling = Settling { connection, stages, links, on_conflict, refused: BTreeMap::new() };
    let dangling = settling.settle()?;
    let mut carried = Carried { dangling, left, ..Carried::default() };
    settling.account(&mut carried).context(|| "cannot count what was carried")?;
    Ok(carried)
}

/// The logs of the source's tables, once it is proved that they are whole, and meant for this way.
fn proved(connection: &Connection, peer: &str) -> Result<BTreeMap<String, String>> {
    let proof = capture::proof(connection).context(|| "cannot prove that no change is missing")?;
    let Some((state, capture)) = proof else {
        return Err(Error::new("no changes were noted"));
    };
    if let Some(gap) = capture.gaps.first() {
        return Err(Error::new(format!("not every change was noted: {gap}")));
    }
    if capture.peer != peer {
        let noted = capture.peer.escape_debug();
        return Err(Error::new(format!("changes were noted for the way to {noted}, not to {peer}")));
    }
    Ok(state.logs())
}

/// Everything on its way, tried until it stands.
struct Settling<'a> {
    connection: &'a Connection,
    stages: Vec<Stage<'a>>,
    links: Links<'a>,
    on_conflict: OnConflict,
    /// What is left out, and why.
    refused: BTreeMap<(usize, i64), String>,
}

impl Settling<'_> {
    /// Goes until nothing is refused any more. Each time something is left out, or a parent taken along, so
    /// it ends. Answers how many references lead nowhere in both.
    fn settle(&mut self) -> Result<u64> {
        let cannot = || "cannot write what is carried";
        let connection = self.connection;
        loop {
            connection.execute_batch("SAVEPOINT receiver_pass").context(cannot)?;
            let found = self.pass().context(cannot)?;
            if found.refused.is_empty() && found.wanted.is_empty() {
                connection.execute_batch("RELEASE receiver_pass").context(cannot)?;
                return Ok(found.dangling);
            }
            connection.execute_batch("ROLLBACK TO receiver_pass; RELEASE receiver_pass").context(cannot)?;
            let missing = self.take_along(&found).context(cannot)?;
            let refused: Vec<_> = found.refused.into_iter().chain(missing).collect();
            if let (OnConflict::Abort, Some((at, n, why))) = (self.on_conflict, refused.first()) {
                return Err(self.refusal(*at, *n, why));
            }
            for (at, n, why) in refused {
                self.stages[at].leave(connection, n).context(cannot)?;
                self.refused.entry((at, n)).or_insert(why);
            }
            for stage in &mut self.stages {
                stage.fill(connection)?;
            }
        }
    }

    fn pass(&self) -> rusqlite::Result<Found> {
        self.links.before(&self.stages)?;
        for stage in self.stages.iter().rev() {
            stage.delete(self.connection)?;
        }
        let mut found = Found::default();
        for stage in &self.stages {
            let refused = stage.insert(self.connection)?;
            found.refused.extend(refused.into_iter().map(|(n, why)| (stage.at, n, why)));
        }
        if found.refused.is_empty() { self.links.after(&self.stages) } else { Ok(found) }
    }

    /// Takes parents along. Answers the rows that refer to one that was on its way already, and did not
    /// arrive.
    fn take_along(&self, found: &Found) -> rusqlite::Result<Vec<(usize, i64, String)>> {
        let before: Vec<i64> =
            self.stages.iter().map(|stage| stage.last(self.connection)).collect::<rusqlite::Result<_>>()?;
        let mut missing = Vec::new();
        for wanted in &found.wanted {
            let n = self.stages[wanted.at].take(self.connection, &wanted.key)?;
            if n <= before[wanted.at] {
                missing.push((wanted.child.0, wanted.child.1, wanted.why.clone()));
            }
        }
        Ok(missing)
    }

    fn refusal(&self, at: usize, n: i64, why: &str) -> Error {
        let stage = &self.stages[at];
        let key = stage.told(self.connection, n).unwrap_or_default();
        let refusal = Refusal { table: stage.passage.table.clone(), key, why: why.to_owned() };
        Error::new("the other version cannot hold a row").caused_by(refusal)
    }

    fn account(&self, carried: &mut Carried) -> rusqlite::Result<()> {
        for stage in &self.stages {
            stage.count_on(self.connection)?;
            let moved = stage.moved(self.connection)?;
            if moved.written + moved.deleted > 0 {
                carried.moved.insert(stage.passage.table.clone(), moved);
            }
        }
        for ((at, n), why) in &self.refused {
            let stage = &self.stages[*at];
            let key = stage.told(self.connection, *n)?;
            carried.refused.entry(stage.passage.table.clone()).or_default().add(key, why.clone());
        }
        Ok(())
    }
}
