//! What a plan is made from, and what the statements of a way need besides.

use std::collections::BTreeMap;

use super::super::catalog::RELATIONS;
use super::super::names::ident;
use super::super::session::{Session, text};
use crate::data::way::{Action, Column, Reference, Table};
use crate::support::Result;

/// A table, as a way goes through it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// What a plan is made from.
    pub(super) table: Table,
    /// Its name in a statement, with its schema.
    pub(super) sql: String,
    /// Its own name, without: what an expression may call it by.
    pub(super) bare: String,
    pub(super) oid: u32,
    /// Whether its rows are in its partitions.
    partitioned: bool,
    /// Its partitions, however deep, as numbers and names in a statement.
    pub(super) partitions: Vec<(u32, String)>,
    types: BTreeMap<String, Type>,
}

/// What is to be known of a column's type.
#[derive(Clone, Debug, Default)]
pub(super) struct Type {
    /// Its name, which does not cut: `character varying`, without a length.
    pub(super) name: String,
    /// The type under a domain: no check of the app's is called by who keeps a value of it.
    pub(super) base: String,
    /// ` COLLATE …`, where the type has a collation.
    pub(super) collate: String,
    /// The operator by which two values are the same.
    pub(super) equal: String,
    /// Whether it is `GENERATED ALWAYS AS IDENTITY`.
    pub(super) always: bool,
}

impl Known {
    /// The table in a FROM, without those that inherit from it.
    pub(super) fn rows(&self) -> String {
        if self.partitioned { self.sql.clone() } else { format!("ONLY {}", self.sql) }
    }

    /// The type of a column.
    pub(super) fn of(&self, column: &str) -> Type {
        self.types.get(column).cloned().unwrap_or_default()
    }

    /// The operator that compares a column.
    pub(super) fn equal(&self, column: &str) -> String {
        self.types.get(column).map_or_else(|| PLAIN.to_owned(), |known| known.equal.clone())
    }

    /// The operator that compares a column with one that refers to it, which may be of another type.
    pub(super) fn across(&self, column: &str) -> String {
        let own = self.equal(column);
        // PostgreSQL's own are there for each pair of types.
        if own.starts_with("OPERATOR(pg_catalog.") { PLAIN.to_owned() } else { own }
    }

    /// All that has rows or triggers of its own: itself, and its partitions.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &str)> {
        let parts = self.partitions.iter().map(|(oid, sql)| (*oid, sql.as_str()));
        std::iter::once((self.oid, self.sql.as_str())).chain(parts)
    }
}

const PLAIN: &str = "OPERATOR(pg_catalog.=)";

/// The tables: those that are partitions of another are parts of it. Two are spoken of alike only where the
/// name of one has a dot; it is quoted then.
const TABLES: &str = "
    SELECT rel.oid, rel.schema, rel.relname::text, rel.kind = 'p',
        CASE WHEN EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = rel.oid) THEN 'it has rules'
             WHEN c.relforcerowsecurity THEN 'row security is forced on it' END,
        ARRAY(SELECT a.attname::text FROM pg_index x, unnest(x.indkey) WITH ORDINALITY k (n, i)
              JOIN pg_attribute a ON a.attrelid = rel.oid AND a.attnum = k.n
              WHERE x.indrelid = rel.oid AND x.indisprimary AND k.i <= x.indnkeyatts ORDER BY k.i),
        ARRAY(SELECT t.relid::oid FROM pg_partition_tree(rel.oid) t WHERE t.level > 0 ORDER BY 1),
        ARRAY(SELECT quote_ident(n.nspname) || '.' || quote_ident(p.relname) FROM pg_partition_tree(rel.oid) t
              JOIN pg_class p ON p.oid = t.relid JOIN pg_namespace n ON n.oid = p.relnamespace WHERE t.level > 0 ORDER BY t.relid::oid)
    FROM rel JOIN pg_class c ON c.oid = rel.oid WHERE kind IN ('r', 'p') AND NOT c.relispartition ORDER BY rel.name";

/// Their columns. A domain is followed to its end, and a type's own operator is the one of its index.
const COLUMNS: &str = "
    SELECT a.attrelid, a.attname::text, format_type(a.atttypid, -1), format_type(b.oid, -1),
        CASE WHEN a.attcollation <> 0 THEN ' COLLATE ' || a.attcollation::regcollation END,
        a.attnotnull OR t.typnotnull, a.attidentity = 'a', a.attgenerated <> '',
        CASE WHEN a.attidentity <> '' THEN 'identity' ELSE coalesce(pg_get_expr(d.adbin, d.adrelid), t.typdefault) END,
        (SELECT 'OPERATOR(' || quote_ident(n.nspname) || '.' || o.oprname || ')' FROM pg_opclass c
         JOIN pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
         JOIN pg_amop p ON p.amopfamily = c.opcfamily AND p.amoplefttype = b.oid AND p.amoprighttype = b.oid AND p.amopstrategy = 3
         JOIN pg_operator o ON o.oid = p.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
         WHERE c.opcintype = b.oid AND c.opcdefault LIMIT 1)
    FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid JOIN pg_type t ON t.oid = a.atttypid
    CROSS JOIN LATERAL (WITH RECURSIVE under (oid, next) AS (
            SELECT t.oid, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE 0 END
            UNION ALL SELECT y.oid, CASE WHEN y.typtype = 'd' THEN y.typbasetype ELSE 0 END FROM under JOIN pg_type y ON y.oid = under.next)
        SELECT oid FROM under WHERE next = 0) b
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE kind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum";

const REFERENCES: &str = "
    SELECT x.conrelid, x.confrelid, x.confdeltype::text, x.confupdtype::text,
        ARRAY(SELECT a.attname::text FROM unnest(x.conkey) WITH ORDINALITY k (n, i) JOIN pg_attribute a ON a.attrelid = x.conrelid AND a.attnum = k.n ORDER BY k.i),
        ARRAY(SELECT a.attname::text FROM unnest(x.confkey) WITH ORDINALITY k (n, i) JOIN pg_attribute a ON a.attrelid = x.confrelid AND a.attnum = k.n ORDER BY k.i)
    FROM rel JOIN pg_constraint x ON x.conrelid = rel.oid WHERE x.contype = 'f' AND x.conparentid = 0 ORDER BY x.conname";

/// Every table that is the app's.
pub(super) fn tables(session: &mut Session) -> Result<Vec<Known>> {
    let mut found: Vec<Known> = Vec::new();
    for row in session.query(&format!("{RELATIONS} {TABLES}"), &[])? {
        let (schema, name) = (text(&row, 1)?, text(&row, 2)?);
        let (oids, names): (Vec<u32>, Vec<String>) = (row.get(6), row.get(7));
        let own = if name.contains('.') { ident(&name) } else { name.clone() };
        found.push(Known {
            table: Table {
                name: if schema == "public" { own } else { format!("{schema}.{own}") },
                key: row.get(5),
                apart: row.get(4),
                ..Table::default()
            },
            sql: format!("{}.{}", ident(&schema), ident(&name)),
            bare: ident(&name),
            oid: row.get(0),
            partitioned: row.get(3),
            partitions: oids.into_iter().zip(names).collect(),
            types: BTreeMap::new(),
        });
    }
    let places: BTreeMap<u32, usize> = found.iter().enumerate().map(|(at, table)| (table.oid, at)).collect();
    for row in session.query(&format!("{RELATIONS} {COLUMNS}"), &[])? {
        let Some(at) = places.get(&row.get(0)) else { continue };
        let column = Column {
            name: text(&row, 1)?,
            kind: family(&text(&row, 3)?),
            nullable: !row.get::<_, bool>(5),
            default: row.get(8),
            generated: row.get(7),
        };
        let known = Type {
            name: text(&row, 2)?,
            base: text(&row, 3)?,
            collate: text(&row, 4)?,
            equal: row.get::<_, Option<String>>(9).unwrap_or_else(|| PLAIN.to_owned()),
            always: row.get(6),
        };
        found[*at].types.insert(column.name.clone(), known);
        found[*at].table.columns.push(column);
    }
    for row in session.query(&format!("{RELATIONS} {REFERENCES}"), &[])? {
        let Some((at, other)) = places.get(&row.get(0)).zip(places.get(&row.get(1))) else { continue };
        let reference = Reference {
            columns: row.get(4),
            table: found[*other].table.name.clone(),
            to: row.get(5),
            on_delete: action(&text(&row, 2)?),
            on_update: action(&text(&row, 3)?),
        };
        found[*at].table.references.push(reference);
    }
    Ok(found)
}

/// Types whose values can be equal have one name here.
fn family(base: &str) -> String {
    match base {
        "smallint" | "integer" | "bigint" => "integer".to_owned(),
        "text" | "character varying" => "text".to_owned(),
        "real" | "double precision" => "float".to_owned(),
        other => other.to_owned(),
    }
}

fn action(letter: &str) -> Action {
    match letter {
        "c" => Action::Cascade,
        "n" => Action::SetNull,
        "d" => Action::SetDefault,
        _ => Action::None,
    }
}
