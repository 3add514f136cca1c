//! One way, gone in one transaction of the target.

use std::collections::{BTreeMap, BTreeSet};

use super::super::server::Server;
use super::links::{Found, Links};
use super::source::{Source, Which, not_noted};
use super::stage::Stage;
use super::stays;
use super::tables::Known;
use super::target::Target;
use crate::data::Limit;
use crate::data::way::{Carried, OnConflict, Refusal, Stages, Way};
use crate::support::{Context, Error, Result, death};

/// Carries what was noted in `source`, which is held, into `target`. `still` proves that the hold lasts, before
/// anything is committed.
pub(in super::super) fn carry(
    server: &Server,
    [source, target]: [&str; 2],
    way: &Way,
    on_conflict: OnConflict,
    limit: &Limit<'_>,
    still: &dyn Fn() -> Result<()>,
) -> Result<Carried> {
    let names = || format!("from '{}' to '{}'", source.escape_debug(), target.escape_debug());
    go(server, [source, target], Which::Noted(target), way, on_conflict, limit, Some(still))
        .context(|| format!("cannot carry what changed {}", names()))
}

/// What that would do now: it is done, with everything left out that is refused, and undone.
pub(in super::super) fn foresee(
    server: &Server,
    [source, target]: [&str; 2],
    way: &Way,
    limit: &Limit<'_>,
) -> Result<Carried> {
    let names = || format!("from '{}' to '{}'", source.escape_debug(), target.escape_debug());
    go(server, [source, target], Which::Noted(target), way, OnConflict::Quarantine, limit, None)
        .context(|| format!("cannot foresee what goes {}", names()))
}

/// Takes from `left` what it alone holds, as `way` says.
pub(in super::super) fn merge(
    server: &Server,
    own: &str,
    left: &str,
    way: &Way,
    limit: &Limit<'_>,
) -> Result<Carried> {
    go(server, [left, own], Which::All, way, OnConflict::Quarantine, limit, Some(&|| Ok(())))
        .context(|| format!("cannot merge '{}' into '{}'", left.escape_debug(), own.escape_debug()))
}

fn go(
    server: &Server,
    [source, target]: [&str; 2],
    which: Which<'_>,
    way: &Way,
    on_conflict: OnConflict,
    limit: &Limit<'_>,
    keep: Option<&dyn Fn() -> Result<()>>,
) -> Result<Carried> {
    limit.check()?;
    let mut source =
        Source::open(server, source, which).context(|| "cannot look at what is to be carried")?;
    let (mut target, known) =
        Target::open(server, target, way).context(|| "cannot begin to write to the target")?;
    let carried = {
        let canceller = [source.session().canceller(), target.session().canceller()];
        let work = || bring(&mut source, &mut target, &known, way, on_conflict, limit);
        super::super::session::within_all(&canceller, limit, work)?
    };
    if let Some(still) = keep {
        target.count_on(source.session()).context(|| "cannot move sequences on")?;
        still()?;
        death::point("rows-carried");
        target.commit()?;
    }
    Ok(carried)
}

/// Does all of it in the transaction that the target is in.
pub(super) fn bring(
    source: &mut Source,
    target: &mut Target,
    known: &[Known],
    whole: &Way,
    on_conflict: OnConflict,
    limit: &Limit<'_>,
) -> Result<Carried> {
    let cannot = || "cannot look at what is to be carried";
    let changed = source.changed().context(cannot)?;
    let way = &part(source, changed.as_ref(), whole).context(cannot)?;
    let mut stages = Stages::default();
    for passage in &way.passages {
        let to = known.iter().find(|known| known.table.name == passage.table).ok_or_else(|| {
            Error::new(format!("the target has no table '{}'", passage.table.escape_debug()))
        })?;
        if changed.as_ref().is_none_or(|changed| changed.contains(&passage.table)) {
            source.take(stages.count(), passage, limit).context(cannot)?;
        }
        stages.push(Stage::new(stages.count(), passage, to));
    }
    let links = Links { way, known };
    let mut settling =
        Settling { source, target, stages, links, on_conflict, limit, refused: BTreeMap::new() };
    settling.settle()?;
    let left = stays::count(settling.source, settling.target.session(), &way.left, &settling.stages);
    let mut carried = Carried { left, ..Carried::default() };
    settling.account(&mut carried).context(|| "cannot count what was carried")?;
    Ok(carried)
}

/// What of the way has to be gone: where keys were noted, that of the tables in which any were.
fn part(source: &Source, changed: Option<&BTreeSet<String>>, way: &Way) -> Result<Way> {
    let Some(changed) = changed else { return Ok(way.clone()) };
    let logs = source.logs.as_ref();
    let noted = |table: &String| logs.is_none_or(|logs| logs.contains_key(table));
    match way.passages.iter().find(|passage| !noted(&passage.table)) {
        Some(passage) => Err(not_noted(&passage.table)),
        None => Ok(way.of_changed(&changed.iter().map(String::as_str).collect())),
    }
}

/// Everything on its way, tried until it stands.
struct Settling<'a> {
    source: &'a mut Source,
    target: &'a mut Target,
    stages: Stages<'a, Stage<'a>>,
    links: Links<'a>,
    on_conflict: OnConflict,
    limit: &'a Limit<'a>,
    /// What is left out, and why.
    refused: BTreeMap<(usize, i64), String>,
}

impl Settling<'_> {
    /// Goes until nothing is refused any more. Each time something is left out, or a parent taken along, so
    /// it ends.
    fn settle(&mut self) -> Result<()> {
        let cannot = || "cannot write what is carried";
        loop {
            let keyless = self.fill()?;
            if !keyless.is_empty() {
                self.leave(keyless)?;
                continue;
            }
            self.target.session().run("SAVEPOINT receiver_pass").context(cannot)?;
            let (found, loosen) = self.pass().context(cannot)?;
            if found.refused.is_empty() && !found.along && loosen.is_empty() {
                self.target.session().run("RELEASE SAVEPOINT receiver_pass").context(cannot)?;
                return self.target.settle().context(cannot);
            }
            let back = "ROLLBACK TO SAVEPOINT receiver_pass; RELEASE SAVEPOINT receiver_pass";
            self.target.session().run(back).context(cannot)?;
            for at in &loosen {
                self.target.loosen(self.stages.at(*at).to).context(cannot)?;
            }
            if loosen.is_empty() {
                self.leave(found.refused)?;
            }
        }
    }

    fn fill(&mut self) -> Result<Vec<(usize, i64, String)>> {
        let mut refused = Vec::new();
        for stage in self.stages.iter_mut() {
            let at = stage.at;
            let found = stage.fill(self.source, self.target.session(), self.limit)?;
            refused.extend(found.into_iter().map(|(n, why)| (at, n, why)));
        }
        Ok(refused)
    }

    fn leave(&mut self, refused: Vec<(usize, i64, String)>) -> Result<()> {
        if let (OnConflict::Abort, Some((at, n, why))) = (self.on_conflict, refused.first()) {
            let stage = self.stages.at(*at);
            let key = stage.told(self.target.session(), *n).unwrap_or_default();
            let refusal = Refusal { table: stage.passage.table.clone(), key, why: why.clone() };
            return Err(Error::new("the other version cannot hold a row").caused_by(refusal));
        }
        for (at, n, why) in refused {
            self.stages.at(at).leave(self.target.session(), n).context(|| "cannot leave a row out")?;
            self.refused.entry((at, n)).or_insert(why);
        }
        Ok(())
    }

    /// Writes and deletes all of it once. Answers what is refused; or the tables whose rows must be replaced,
    /// while references to them would act.
    fn pass(&mut self) -> Result<(Found, Vec<usize>)> {
        let target = self.target.session();
        let found = self.links.before(target, &self.stages)?;
        if !found.refused.is_empty() {
            return Ok((found, Vec::new()));
        }
        let mut stuck = Vec::new();
        for stage in self.stages.iter() {
            stuck.push(stage.write(target)?);
        }
        // Some are in the way of others: those that go make room, and then those that moved.
        while stuck.iter().any(|stuck| !stuck.is_empty()) {
            let before: usize = stuck.iter().map(Vec::len).sum();
            for stage in self.stages.used().rev() {
                // A reference that does nothing by itself waits for the end, as what refers to it may find another.
                let acts = self.target.acts(stage.to);
                let unless = if acts { self.links.referred(stage, &self.stages) } else { String::new() };
                stage.delete(self.target.session(), &unless)?;
            }
            let target = self.target.session();
            for (stage, stuck) in self.stages.iter().zip(&mut stuck) {
                *stuck = stage.write_again(target, std::mem::take(stuck))?;
            }
            if before == stuck.iter().map(Vec::len).sum::<usize>() {
                break;
            }
        }
        let circling: Vec<_> = (0..stuck.len()).filter(|at| stuck[*at].len() > 1).collect();
        let mut loosen = Vec::new();
        for (at, stuck) in stuck.iter().enumerate() {
            // One alone may be kept out by a row that goes, and that is not let go for the sake of what refers to it.
            let stage = self.stages.at(at);
            let acts = !stuck.is_empty() && self.target.acts(stage.to);
            if acts && (stuck.len() > 1 || stage.has_doomed(self.target.session())?) {
                loosen.push(at);
            }
        }
        if !loosen.is_empty() {
            return Ok((Found::default(), loosen));
        }
        for at in circling {
            stuck[at] = self.stages.at(at).replace(self.target.session(), &stuck[at])?;
        }
        let mut found = Found::default();
        for (at, stuck) in stuck.into_iter().enumerate() {
            found.refused.extend(stuck.into_iter().map(|(n, why)| (at, n, why)));
        }
        if !found.refused.is_empty() {
            return Ok((found, Vec::new()));
        }
        let found = self.links.after(self.source, self.target.session(), &self.stages)?;
        if found.refused.is_empty() && !found.along {
            for stage in self.stages.used().rev() {
                stage.delete(self.target.session(), "")?;
            }
        }
        Ok((found, Vec::new()))
    }

    fn account(&mut self, carried: &mut Carried) -> Result<()> {
        let target = self.target.session();
        for stage in self.stages.used() {
            let moved = stage.moved(target)?;
            if moved.written + moved.deleted > 0 {
                carried.moved.insert(stage.passage.table.clone(), moved);
            }
        }
        for ((at, n), why) in &self.refused {
            let stage = self.stages.at(*at);
            let key = stage.told(target, *n)?;
            carried.refused.entry(stage.passage.table.clone()).or_default().add(key, why.clone());
        }
        Ok(())
    }
}
