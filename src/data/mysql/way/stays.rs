//! What stays behind, counted.

use std::collections::BTreeMap;

use super::stage::{Between, Stage};
use crate::data::mysql::quote;
use crate::data::mysql::session::Session;
use crate::data::way::{Left, Stages, Stay, Table, What};

/// Counts the rows that each entry concerns. `logs` says which rows were noted; `None`: all of them count.
/// What cannot be counted stays without a number.
pub(super) fn count(
    session: &mut Session,
    left: &Left,
    between: &Between,
    logs: Option<&BTreeMap<String, String>>,
    stages: &Stages<'_, Stage<'_>>,
) -> Left {
    let mut left = left.clone();
    for stay in &mut left.0 {
        let table = between.from.find(&stay.table);
        let question = table.and_then(|table| question(stay, table, between, logs, stages));
        stay.rows = question.and_then(|sql| session.value(&sql, ()).ok());
    }
    left.that_matters()
}

fn question(
    stay: &Stay,
    table: &Table,
    between: &Between,
    logs: Option<&BTreeMap<String, String>>,
    stages: &Stages<'_, Stage<'_>>,
) -> Option<String> {
    let name = quote::table(&between.source, &table.name);
    let all = format!("SELECT COUNT(*) FROM {name} s WHERE true");
    let written = match logs.map(|logs| logs.get(&table.name)) {
        Some(Some(log)) => {
            let same = table.key.iter().map(|name| quote::name(name));
            let same = same.map(|name| format!("s.{name} = l.{name}")).collect::<Vec<_>>().join(" AND ");
            format!("SELECT COUNT(*) FROM {log} l JOIN {name} s ON {same} WHERE true")
        }
        _ => all.clone(),
    };
    match &stay.what {
        What::Table | What::Key => Some(written),
        What::Keyless | What::Apart(_) => Some(all),
        What::Column(column) => {
            let default = table.column(column).and_then(|column| column.default.as_deref());
            // A number from a counter is nobody's default, and asking for it would take one.
            let fixed =
                |text: &&str| !text.contains("AUTO_INCREMENT") && !text.to_lowercase().contains("nextval");
            let column = format!("s.{}", quote::name(column));
            let other = default.filter(fixed).map(|default| format!(" AND NOT ({column} <=> ({default}))"));
            Some(format!("{written} AND {column} IS NOT NULL{}", other.unwrap_or_default()))
        }
        What::Required(_) => {
            let Some(stage) = stages.used_of(&table.name) else {
                // Nothing was noted in it, and so nothing is new.
                return logs.map(|_| "SELECT 0".to_owned());
            };
            Some(format!("SELECT COUNT(*) FROM {} WHERE live AND NOT there", stage.keys))
        }
        What::Expression { .. } => None,
    }
}
