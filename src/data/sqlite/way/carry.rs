//! One way, gone in one transaction of the target.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::Value as Cell;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::super::open::Listed;
use super::capture::Proof;
use super::links::{Found, Links};
use super::log::Log;
use super::stage::Stage;
use super::{between, capture, open, stays, tables};
use crate::data::Limit;
use crate::data::way::{self, Attempt, Carried, OnConflict, Row, Settled, Stages, Way};
use crate::support::{Context, Error, Result, death};

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
            death::point("rows-carried");
            transaction.commit().context(|| "cannot commit what was carried")?;
        }
        Ok(carried)
    })
}

/// Does all of it in the transaction that `connection` is in.
fn bring(connection: &Connection, which: Which<'_>, whole: &Way, on_conflict: OnConflict) -> Result<Carried> {
    let cannot = || "cannot look at what is to be carried";
    let logs = match which {
        Which::Noted(peer) => Some(proved(connection, peer)?),
        Which::All => None,
    };
    let way = &part(connection, logs.as_ref(), whole)?;
    let [here, there] = ["main", "peer"].map(|schema| listed(connection, schema));
    let (here, there) = (here.context(cannot)?, there.context(cannot)?);
    let mut stages = Stages::default();
    for passage in &way.passages {
        let (Some(source), Some(target)) = (here.get(&passage.table), there.get(&passage.table)) else {
            return Err(Error::new(format!("table '{}' is gone", passage.table.escape_debug())));
        };
        let mut stage = Stage::new(connection, stages.count(), passage, source, target).context(cannot)?;
        match logs.as_ref().and_then(|logs| logs.get(&passage.table)) {
            Some(log) => stage.take_noted(connection, log),
            None => stage.take_all(connection),
        }
        .context(cannot)?;
        stage.fill(connection)?;
        stages.push(stage);
    }
    let source = tables::tables(connection, "main").context(cannot)?;
    let left = stays::count(connection, &way.left, &source, logs.as_ref(), &stages);
    let links = Links::new(connection, way, &source);
    let mut journey = Journey { connection, stages, links };
    let settled = way::settle(&mut journey, on_conflict)?;
    let mut carried = Carried { dangling: settled.dangling, left, ..Carried::default() };
    journey.account(&settled, &mut carried)?;
    Ok(carried)
}

/// The tables of one side, by their names in lower case.
fn listed(connection: &Connection, schema: &str) -> rusqlite::Result<BTreeMap<String, Listed>> {
    let all = open::tables_of(connection, schema)?.into_iter();
    Ok(all.map(|listed| (listed.name.to_ascii_lowercase(), listed)).collect())
}

/// What of the way has to be gone: where keys were noted, that of the tables in which any were.
fn part(connection: &Connection, logs: Option<&BTreeMap<String, Log>>, way: &Way) -> Result<Way> {
    let Some(logs) = logs else { return Ok(way.clone()) };
    if let Some(passage) = way.passages.iter().find(|passage| !logs.contains_key(&passage.table)) {
        let table = passage.table.escape_debug();
        return Err(Error::new(format!("the changes of table '{table}' were not noted")));
    }
    let noted = capture::noted(connection, logs).context(|| "cannot look at what was noted")?;
    Ok(way.of_changed(&noted.iter().map(String::as_str).collect()))
}

/// The logs of the source's tables, once it is proved that they are whole, and meant for this way.
fn proved(connection: &Connection, peer: &str) -> Result<BTreeMap<String, Log>> {
    let proof = capture::proof(connection).context(|| "cannot prove that no change is missing")?;
    let Some(Proof { capture, logs }) = proof else {
        return Err(Error::new("no changes were noted"));
    };
    if let Some(gap) = capture.gaps.first() {
        return Err(Error::new(format!("not every change was noted: {gap}")));
    }
    if capture.peer != peer {
        let noted = capture.peer.escape_debug();
        return Err(Error::new(format!("changes were noted for the way to {noted}, not to {peer}")));
    }
    Ok(logs)
}

/// Everything on its way.
struct Journey<'a> {
    connection: &'a Connection,
    stages: Stages<'a, Stage<'a>>,
    links: Links<'a>,
}

impl Journey<'_> {
    fn go_through(&self) -> rusqlite::Result<Found> {
        self.connection.execute_batch("SAVEPOINT receiver_pass")?;
        self.links.before(&self.stages)?;
        for stage in self.stages.used().rev() {
            stage.delete(self.connection)?;
        }
        let mut found = Found::default();
        for stage in self.stages.used() {
            let refused = stage.insert(self.connection)?;
            found.refused.extend(refused.into_iter().map(|(n, why)| ((stage.at, n), why)));
        }
        if found.refused.is_empty() { self.links.after(&self.stages) } else { Ok(found) }
    }

    fn name(&self, (at, n): Row) -> Result<(String, String)> {
        let stage = self.stages.at(at);
        let key = stage.told(self.connection, n).context(|| "cannot read a key")?;
        Ok((stage.passage.table.clone(), key))
    }

    fn account(&self, settled: &Settled, carried: &mut Carried) -> Result<()> {
        let cannot = || "cannot count what was carried";
        for stage in self.stages.used() {
            stage.count_on(self.connection).context(cannot)?;
            let moved = stage.moved(self.connection).context(cannot)?;
            if moved.written + moved.deleted > 0 {
                carried.moved.insert(stage.passage.table.clone(), moved);
            }
        }
        for (row, why) in &settled.refused {
            let (table, key) = self.name(*row)?;
            carried.refused.entry(table).or_default().add(key, why.clone());
        }
        Ok(())
    }
}

impl Attempt for Journey<'_> {
    type Key = Vec<Cell>;

    fn pass(&mut self) -> Result<Found> {
        for stage in self.stages.iter_mut() {
            stage.fill(self.connection)?;
        }
        self.go_through().context(|| "cannot write what is carried")
    }

    fn undo(&mut self) -> Result<()> {
        self.connection
            .execute_batch("ROLLBACK TO receiver_pass; RELEASE receiver_pass")
            .context(|| "cannot take back what was tried")
    }

    fn last(&mut self, at: usize) -> Result<i64> {
        self.stages.at(at).last(self.connection).context(|| "cannot count the keys")
    }

    fn take_along(&mut self, at: usize, key: &Vec<Cell>) -> Result<i64> {
        self.stages.at_mut(at).take(self.connection, key).context(|| "cannot take a row along")
    }

    fn leave(&mut self, (at, n): Row) -> Result<()> {
        self.stages.at(at).leave(self.connection, n).context(|| "cannot leave a row out")
    }

    fn told(&mut self, row: Row) -> Result<(String, String)> {
        self.name(row)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::data::way::Expressions;

    #[test]
    fn a_way_makes_nothing_for_tables_of_which_no_row_goes() {
        let root = tempfile::tempdir().unwrap();
        let chain = (1..30).map(|n| {
            format!("CREATE TABLE m{n} (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES m{} (id));", n - 1)
        });
        let sql: String =
            std::iter::once("CREATE TABLE m0 (id INTEGER PRIMARY KEY);".to_owned()).chain(chain).collect();
        let [new, old] = ["new", "old"].map(|name| root.path().join(name).join("app.sqlite3"));
        for path in [&new, &old] {
            super::super::place::create(path).unwrap();
            open::writer(path).unwrap().execute_batch(&sql).unwrap();
        }
        super::super::capture(&new, "old", &Limit::within(Duration::from_secs(60))).unwrap();
        let write = "INSERT INTO m29 VALUES (1, NULL); INSERT INTO m7 VALUES (1, NULL)";
        open::writer(&new).unwrap().execute_batch(write).unwrap();
        let [source, target] = [&new, &old].map(|path| super::super::tables(path).unwrap());
        let way = Way::plan(&source, &target, &Expressions::new());
        let connection = between(&new, &old).unwrap();
        let carried = bring(&connection, Which::Noted("old"), &way, OnConflict::Abort).unwrap();
        assert_eq!(carried.moved.len(), 2);
        // The keys and the rows of each, and what may have referred to those of m7.
        let made = "SELECT count(*) FROM temp.sqlite_schema WHERE type = 'table'";
        let made: u32 = connection.query_row(made, [], |row| row.get(0)).unwrap();
        assert_eq!(made, 2 * 2 + 1);
    }
}
