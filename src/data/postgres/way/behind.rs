//! A copy that was made ahead, and comes behind: brought to the moment of a hold by the rows that changed meanwhile.
//!
//! From before the copy begins triggers of the original note the key of each row that changes ([`For::Copy`]). Under the
//! hold those rows go the way that a rollback's go, into the same columns of the same tables. A table of which not all was
//! noted (it has no primary key, or lost its triggers) is copied anew, as are the frameworks' own accounts, which go no
//! way. Materialized views are filled again, and rights carried again.
//!
//! Whatever is forgotten here is found by [`verify`](crate::data::Database::verify), which compares every row, and by the
//! comparison of the two schemas.

use std::time::Duration;

use super::super::canon;
use super::super::copy::{self, pour};
use super::super::names::ident;
use super::super::server::Server;
use super::super::session::within_all;
use super::capture;
use super::carry;
use super::source::{Source, Which};
use super::tables::{self, Known};
use super::target::Target;
use crate::data::way::{Expressions, For, OnConflict, Table, Way};
use crate::data::{Limit, Progress, Spot};
use crate::support::{Context, Error, Result, death};

/// How long the tables are asked for that are to be watched.
const PATIENCE: Duration = Duration::from_secs(20);

/// Over more tables than that all triggers are not made in a moment, for which writers wait.
const MOST: usize = 1000;

/// Whether a copy can be made ahead: not where rows can go no way, or have no column to be told by.
pub(in super::super) fn copies_ahead(server: &Server, name: &str) -> Result<bool> {
    let mut session = server.session(name)?;
    let known = tables::tables(&mut session)?;
    let goes = |known: &Known| known.table.apart.is_none() && !known.table.columns.is_empty();
    Ok(known.len() <= MOST && known.iter().all(goes))
}

/// Makes a copy while nobody waits, and notes what changes from before it begins.
pub(in super::super) fn copy_ahead(
    server: &Server,
    name: &str,
    to: &Spot,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    capture::capture(server, name, For::Copy, &to.name, &Limit::within(PATIENCE))?;
    copy::copy(server, name, to, limit, on_progress)?;
    death::point("copied-ahead");
    Ok(())
}

/// Makes a copy that was made ahead the same as `source`, whose writers are held. `still` proves that they are, before
/// anything is committed.
pub(in super::super) fn catch_up(
    server: &Server,
    [source, target]: [&str; 2],
    limit: &Limit<'_>,
    still: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let cannot =
        || format!("cannot bring '{}' to where '{}' is", target.escape_debug(), source.escape_debug());
    let all = || {
        rows(server, [source, target], limit, still)?;
        copy::what_else(server, [source, target], limit)?;
        let schema = |name: &str| canon::read(&mut server.session(name)?);
        match schema(target)?.diff(&schema(source)?).into_iter().next() {
            Some(line) => Err(Error::new(format!("the original differs: {line}"))),
            None => Ok(()),
        }
    };
    all().context(cannot)
}

fn rows(
    server: &Server,
    [from, to]: [&str; 2],
    limit: &Limit<'_>,
    still: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let mut source = Source::open(server, from, Which::Behind(to))?;
    let changed = source.changed()?.unwrap_or_default();
    let shape = |known: &[Known]| known.iter().map(|known| known.table.clone()).collect::<Vec<Table>>();
    let theirs = shape(&source.known);
    // From the source's tables alone: the copy's are the same, or it is refused below.
    let mut way = Way::plan(&theirs, &theirs, &Expressions::new());
    let (mut target, known) = Target::open(server, to, &way)?;
    if let Some(table) = theirs.iter().find(|table| !known.iter().any(|known| known.table == **table)) {
        let name = table.name.escape_debug();
        return Err(Error::new(format!("table '{name}' was made or changed while the data was copied"))
            .hint("let no migration run beside a deploy, then try again"));
    }
    let is_noted =
        |source: &Source, table: &str| source.logs.as_ref().is_some_and(|logs| logs.contains_key(table));
    way.passages.retain(|passage| is_noted(&source, &passage.table));
    let goes = |table: &str| way.passages.iter().any(|passage| passage.table == table);
    let anew: Vec<Known> = known
        .iter()
        .filter(|known| !goes(&known.table.name))
        .filter(|known| changed.contains(&known.table.name) || !is_noted(&source, &known.table.name))
        .cloned()
        .collect();
    let canceller = [source.session().canceller(), target.session().canceller()];
    within_all(&canceller, limit, || {
        anew.iter().try_for_each(|known| copy_anew(&mut source, &mut target, known, limit))?;
        carry::bring(&mut source, &mut target, &known, &way, OnConflict::Abort, limit).map(drop)
    })?;
    target.count_on(source.session())?;
    still()?;
    target.commit()
}

/// Copies all rows of one table, in the transaction that the target is in.
fn copy_anew(source: &mut Source, target: &mut Target, known: &Known, limit: &Limit<'_>) -> Result<()> {
    let cannot = || format!("cannot copy table '{}'", known.table.name.escape_debug());
    if target.acts(known) {
        return Err(Error::new("rows of others would go with its own")).context(cannot);
    }
    let columns = known.table.columns.iter().filter(|column| !column.generated);
    let columns = columns.map(|column| ident(&column.name)).collect::<Vec<_>>().join(", ");
    let mut all = || {
        target.session().run(&format!("DELETE FROM {}", known.rows()))?;
        let out = format!("COPY (SELECT {columns} FROM {}) TO STDOUT", known.rows());
        let into = format!("COPY {} ({columns}) FROM STDIN", known.sql);
        pour(source.session(), &out, target.session(), &into, &mut |_| limit.check())
    };
    all().map(drop).context(cannot)
}
