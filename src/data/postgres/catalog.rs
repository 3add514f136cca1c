//! What is in a database, from its catalogs: without PostgreSQL's own, extensions' and receiver's.

use super::names::ident;
use super::session::{Session, text};
use crate::support::Result;

/// The schema of receiver's own objects.
pub(super) const OURS: &str = "receiver";

/// The relations that are the app's, as `rel (oid, kind, schema, relname, name)`: `name` is what it is
/// spoken of by, without `public`.
pub(super) const RELATIONS: &str = "WITH rel AS (
    SELECT c.oid, c.relkind::text AS kind, n.nspname AS schema, c.relname,
           (CASE WHEN n.nspname = 'public' THEN '' ELSE quote_ident(n.nspname) || '.' END) || quote_ident(c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'receiver') AND c.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))";

/// A table that has rows of its own, or (with partitions) none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Table {
    /// What it is spoken of by.
    pub(super) name: String,
    /// Its name in a statement.
    pub(super) sql: String,
    /// Its number, while it is not made anew.
    pub(super) oid: u32,
    /// Whether its rows are all in its partitions.
    pub(super) partitioned: bool,
    /// Its bytes, out-of-line values included, indexes not.
    pub(super) bytes: u64,
    /// Whether it has not a page: then it has no row either, in no snapshot that was there before this was asked.
    pub(super) is_empty: bool,
}

/// Every table, by name.
pub(super) fn tables(session: &mut Session) -> Result<Vec<Table>> {
    let rows = session.query(
        &format!(
            "{RELATIONS} SELECT name, schema::text, relname::text, oid, kind = 'p', pg_table_size(oid), pg_relation_size(oid) = 0
             FROM rel WHERE kind IN ('r', 'p') ORDER BY name"
        ),
        &[],
    )?;
    let table = |row: &postgres::Row| -> Result<Table> {
        let bytes: Option<i64> = row.get(5);
        Ok(Table {
            name: text(row, 0)?,
            sql: format!("{}.{}", ident(&text(row, 1)?), ident(&text(row, 2)?)),
            oid: row.get(3),
            partitioned: row.get(4),
            bytes: bytes.unwrap_or(0).unsigned_abs(),
            is_empty: row.get::<_, Option<bool>>(6).unwrap_or(true),
        })
    };
    rows.iter().map(table).collect()
}

/// A sequence, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) name: String,
    pub(super) sql: String,
    pub(super) last: i64,
    pub(super) called: bool,
}

/// Where every sequence stands now, whatever the transaction sees.
pub(super) fn sequences(session: &mut Session) -> Result<Vec<Sequence>> {
    let named = session.query(
        &format!(
            "{RELATIONS} SELECT name, schema::text, relname::text FROM rel WHERE kind = 'S' ORDER BY name"
        ),
        &[],
    )?;
    let mut found = Vec::with_capacity(named.len());
    // One statement for many: ten thousand round trips would be seconds.
    for some in named.chunks(200) {
        let mut names = Vec::new();
        let mut parts = Vec::new();
        for (at, row) in some.iter().enumerate() {
            let sql = format!("{}.{}", ident(&text(row, 1)?), ident(&text(row, 2)?));
            parts.push(format!("SELECT {at}, last_value, is_called FROM {sql}"));
            names.push((text(row, 0)?, sql));
        }
        let rows = session.query(&format!("{} ORDER BY 1", parts.join(" UNION ALL ")), &[])?;
        for ((name, sql), row) in names.into_iter().zip(&rows) {
            found.push(Sequence { name, sql, last: row.get(1), called: row.get(2) });
        }
    }
    Ok(found)
}
