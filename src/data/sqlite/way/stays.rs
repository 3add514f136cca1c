//! What stays behind, counted.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::log::Log;
use super::open;
use super::stage::Stage;
use crate::data::way::{Left, Stages, Stay, Table, What};

/// Counts the rows that each entry concerns. `logs` says which rows were noted; `None`: all of them count.
/// What cannot be counted (a virtual table whose module is the app's, say) stays without a number.
pub(super) fn count(
    connection: &Connection,
    left: &Left,
    source: &[Table],
    logs: Option<&BTreeMap<String, Log>>,
    stages: &Stages<'_, Stage<'_>>,
) -> Left {
    let mut left = left.clone();
    for stay in &mut left.0 {
        let table = source.iter().find(|table| table.name == stay.table);
        stay.rows = table.and_then(|table| question(stay, table, logs, stages)).and_then(|sql| {
            connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).ok().map(i64::unsigned_abs)
        });
    }
    left.that_matters()
}

fn question(
    stay: &Stay,
    table: &Table,
    logs: Option<&BTreeMap<String, Log>>,
    stages: &Stages<'_, Stage<'_>>,
) -> Option<String> {
    let name = open::quoted(&table.name);
    let all = format!("SELECT count(*) FROM main.{name} WHERE true");
    let written = match logs.map(|logs| logs.get(&table.name)) {
        Some(Some(log)) => {
            let key = table.key.iter().map(|name| open::quoted(name)).collect::<Vec<_>>().join(", ");
            format!("{all} AND ({key}) IN ({})", log.keys(&table.key))
        }
        _ => all.clone(),
    };
    match &stay.what {
        What::Table | What::Key => Some(written),
        What::Keyless | What::Apart(_) => Some(all),
        What::Column(column) => {
            let default = table.column(column).and_then(|column| column.default.as_deref());
            let column = open::quoted(column);
            let other =
                default.map(|default| format!(" AND {column} IS NOT ({default})")).unwrap_or_default();
            Some(format!("{written} AND {column} IS NOT NULL{other}"))
        }
        What::Required(_) => {
            let Some(stage) = stages.used_of(&table.name) else {
                // Nothing was noted in it, and so nothing is new.
                return logs.map(|_| "SELECT 0".to_owned());
            };
            Some(format!("SELECT count(*) FROM {} WHERE live AND NOT there", stage.keys))
        }
        What::Expression { .. } => None,
    }
}
