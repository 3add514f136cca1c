//! What stays behind, counted.

use super::super::names::ident;
use super::super::session::Session;
use super::source::Source;
use super::stage::Stage;
use crate::data::Limit;
use crate::data::way::{Left, Passage, Stages, Stay, What};

/// Counts the rows that each entry concerns. What cannot be counted stays without a number.
pub(super) fn count(
    source: &mut Source,
    target: &mut Session,
    left: &Left,
    stages: &Stages<'_, Stage<'_>>,
) -> Left {
    let mut left = left.clone();
    let mut more = stages.count();
    for stay in &mut left.0 {
        stay.rows = rows(stay, source, target, stages, &mut more);
    }
    left.that_matters()
}

fn rows(
    stay: &Stay,
    source: &mut Source,
    target: &mut Session,
    stages: &Stages<'_, Stage<'_>>,
    more: &mut usize,
) -> Option<u64> {
    let table = source.table(&stay.table)?.clone();
    let stage = stages.used_of(&stay.table);
    match &stay.what {
        What::Keyless | What::Apart(_) => source.count(&stay.table, None, ""),
        What::Table | What::Key => {
            if source.logs.as_ref().is_none_or(|logs| !logs.contains_key(&stay.table)) {
                return source.count(&stay.table, None, "");
            }
            // It is on no way: its keys are nowhere yet.
            let passage =
                Passage { table: stay.table.clone(), key: table.table.key.clone(), ..Passage::default() };
            let at = *more;
            *more += 1;
            source.take(at, &passage, &Limit::within(std::time::Duration::MAX)).ok()?;
            source.count_by(&stay.table, at, &passage.key, "")
        }
        What::Column(column) => {
            let known = table.table.column(column)?;
            let name = format!("{}.{}", table.bare, ident(column));
            let default = known.default.as_deref().filter(|default| !default.contains("nextval("));
            let other = default.map(|default| {
                format!(" AND {name}::text IS DISTINCT FROM (({default})::{})::text", table.of(column).name)
            });
            let condition = format!("AND {name} IS NOT NULL{}", other.unwrap_or_default());
            match (stage, source.logs.is_some()) {
                (Some(stage), true) => source.count_by(&stay.table, stage.at, &stage.passage.key, &condition),
                // Nothing was noted in it.
                (None, true) => Some(0),
                (_, false) => source.count(&stay.table, None, &condition),
            }
        }
        What::Required(_) => match stage {
            Some(stage) => stage.new_rows(target).ok(),
            None => (source.logs.is_some() || stages.of(&stay.table).is_some()).then_some(0),
        },
        What::Expression { .. } => None,
    }
}
