//! A copy that was made ahead, and comes behind: brought to the moment of a hold by the rows that changed meanwhile.
//!
//! From before the copy begins triggers of the original note the key of each row that changes ([`For::Copy`]). So it does
//! not matter at which moment each table was read. Under the hold each row that was noted is taken out of the copy, and put
//! in as the original has it, if it still has it. A table of which not all was noted (it has no primary key, it was
//! emptied) is copied anew.
//!
//! Whatever is forgotten here is found by [`verify`](crate::data::Database::verify), which compares every row, and then all
//! is copied again.

use std::collections::{BTreeMap, BTreeSet};

use super::capture::{self, Proof};
use super::tables::{Key, Tables};
use crate::data::mysql::copy::{self, Task};
use crate::data::mysql::database::Mysql;
use crate::data::mysql::session::Session;
use crate::data::mysql::{fence, objects, place, quote, tables as listed};
use crate::data::way::For;
use crate::data::{Limit, Progress};
use crate::support::{Error, Result, death, text};

/// Whether a copy can be made ahead: not where the server allows no triggers, nor where rows change that no trigger sees, and
/// not of tables without transactions, whose writers would wait while they are read.
pub(in crate::data::mysql) fn copies_ahead(from: &Mysql) -> Result<bool> {
    let mut session = from.session()?;
    let transactional = listed::base(&mut session, from.name())?.iter().all(|table| table.engine == "InnoDB");
    Ok(transactional
        && fence::may_make_triggers(&mut session)?
        && capture::notes_all(&mut session, from.name(), For::Copy)?)
}

/// Makes a copy while nobody waits, and notes what changes from before it begins.
pub(in crate::data::mysql) fn copy_ahead(
    from: &Mysql,
    to: &Mysql,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    capture::capture(from, For::Copy, to.name(), limit)?;
    copy::ahead(from, to, limit, on_progress)?;
    death::point("copied-ahead");
    Ok(())
}

/// Makes a copy that was made ahead the same as `from`, whose writers are held.
pub(in crate::data::mysql) fn catch_up(from: &Mysql, to: &Mysql, limit: &Limit<'_>) -> Result<()> {
    let mut session = to.session()?;
    let mut all = || {
        copy::settings(&mut session, "READ COMMITTED")?;
        copy::write_rows(&mut session)?;
        to.server.within(&mut session, limit, |session| rows(session, from.name(), to.name()))?;
        copy::what_else(&mut to.session()?, from, to, limit)
    };
    all().map_err(|why| {
        Error::new(format!("cannot bring {} to where {} is", to.name(), from.name())).caused_by(why)
    })
}

/// Notes nothing any more. Cheap where nothing is noted.
pub(in crate::data::mysql) fn forget_copy(from: &Mysql) -> Result<()> {
    if capture::is_begun(&mut from.session()?, from.name(), For::Copy)? {
        capture::end_capture(from, For::Copy)?;
    }
    Ok(())
}

fn rows(session: &mut Session, from: &str, to: &str) -> Result<()> {
    let proof = capture::proof(session, from, For::Copy)?.filter(|proof| proof.capture.peer == to);
    let proof = proof.ok_or_else(|| Error::new("it was not noted which rows changed"))?;
    let tables = Tables::read(session, from)?;
    let Stale { changed, anew } = stale(session, &proof, from, to)?;
    // To empty a table ends a transaction, so this comes first.
    for task in &anew {
        session.run(&format!("TRUNCATE TABLE {}", quote::table(to, &task.table)))?;
        session.run(&task.insert(from, to)).map_err(|why| cannot(task, why))?;
    }
    session.run("START TRANSACTION")?;
    for (task, log) in &changed {
        bring(session, task, log, tables.key(&task.table), from, to).map_err(|why| cannot(task, why))?;
    }
    session.run("COMMIT")?;
    count_on(session, from, to)?;
    objects::sequences_on(session, from, to)
}

/// The tables of a copy that are not as in the original.
struct Stale {
    /// Those with rows that were noted, each with its log.
    changed: Vec<(Task, String)>,
    /// Those that have to be copied anew.
    anew: Vec<Task>,
}

fn stale(session: &mut Session, proof: &Proof, from: &str, to: &str) -> Result<Stale> {
    let own = place::own(from)?;
    let sure = proof.logs.iter().filter(|(table, _)| !proof.unsure.contains(*table));
    let logs: BTreeMap<String, String> =
        sure.map(|(table, log)| (table.clone(), quote::table(&own, log))).collect();
    let noted = capture::noted(session, &logs)?;
    let there: BTreeSet<String> = listed::names(session, to)?.into_iter().collect();
    let (mut changed, mut anew) = (Vec::new(), Vec::new());
    for task in copy::tasks(session, from)? {
        if !there.contains(&task.table) {
            let table = text::printable(&task.table);
            return Err(Error::new(format!("table '{table}' was made while the data was copied"))
                .hint("let no migration run beside a deploy, then try again"));
        }
        match logs.get(&task.table) {
            Some(log) if noted.contains(&task.table) => changed.push((task, log.clone())),
            Some(_) => {}
            None => anew.push(task),
        }
    }
    Ok(Stale { changed, anew })
}

/// Brings the rows of one table that were noted. All are taken out before any is put in: two that changed places do not
/// meet in a unique index.
fn bring(session: &mut Session, task: &Task, log: &str, key: &[Key], from: &str, to: &str) -> Result<()> {
    let same = |row: &str| {
        let names = key.iter().map(|key| quote::name(&key.name));
        names.map(|key| format!("{row}.{key} = l.{key}")).collect::<Vec<_>>().join(" AND ")
    };
    let (source, copy) = (quote::table(from, &task.table), quote::table(to, &task.table));
    session.run(&format!("DELETE t FROM {log} l STRAIGHT_JOIN {copy} t ON {}", same("t")))?;
    let columns = task.columns.iter().map(|name| format!("s.{}", quote::name(name)));
    session.run(&format!(
        "INSERT INTO {copy} ({}) SELECT {} FROM {log} l STRAIGHT_JOIN {source} s ON {}",
        quote::names(&task.columns),
        columns.collect::<Vec<_>>().join(", "),
        same("s")
    ))
}

/// Each counter of keys goes on where the original's is: it may be further than any row that is left.
fn count_on(session: &mut Session, from: &str, to: &str) -> Result<()> {
    let mut counters = |name: &str| -> Result<BTreeMap<String, u64>> {
        let tables = listed::base(session, name)?.into_iter();
        Ok(tables.filter_map(|table| Some((table.name, table.auto_increment?))).collect())
    };
    let (was, is) = (counters(from)?, counters(to)?);
    for (table, next) in was.into_iter().filter(|(table, next)| is.get(table) != Some(next)) {
        session.run(&format!("ALTER TABLE {} AUTO_INCREMENT = {next}", quote::table(to, &table)))?;
    }
    Ok(())
}

fn cannot(task: &Task, why: Error) -> Error {
    Error::new(format!("cannot copy table '{}'", text::printable(&task.table))).caused_by(why)
}
