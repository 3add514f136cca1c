//! What roles may do in a database, and what is set for it, carried into a copy of it.
//!
//! A dump would name the roles of the version that it comes from; here they become the copy's own.

use std::collections::BTreeMap;

use super::catalog::RELATIONS;
use super::names::{ident, literal};
use super::place::reader_of;
use super::session::{Session, text};
use crate::support::{Error, Result};

/// Rights that were granted or revoked: the object as GRANT says it, grantee (none: PUBLIC), right, its
/// column, and whether it may be passed on.
const RIGHTS: &str = "
    , theirs AS (SELECT n.oid, n.nspname FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'receiver')),
    acl AS (
        SELECT 'SCHEMA ' || quote_ident(nspname) AS object, NULL AS part, x.nspacl AS list FROM pg_namespace x JOIN theirs USING (oid, nspname)
        UNION ALL SELECT CASE kind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || quote_ident(schema) || '.' || quote_ident(rel.relname), NULL, c.relacl
            FROM rel JOIN pg_class c USING (oid) WHERE kind IN ('r', 'p', 'v', 'm', 'f', 'S')
        UNION ALL SELECT 'TABLE ' || quote_ident(schema) || '.' || quote_ident(rel.relname), quote_ident(a.attname), a.attacl
            FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid WHERE NOT a.attisdropped
        UNION ALL SELECT 'ROUTINE ' || x.oid::regprocedure, NULL, x.proacl FROM pg_proc x JOIN theirs ON theirs.oid = x.pronamespace
            WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = x.tableoid AND e.objid = x.oid AND e.deptype = 'e')
        UNION ALL SELECT 'TYPE ' || x.oid::regtype, NULL, x.typacl FROM pg_type x JOIN theirs ON theirs.oid = x.typnamespace
            WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = x.tableoid AND e.objid = x.oid AND e.deptype = 'e')
    )
    SELECT object, part, CASE WHEN e.grantee <> 0 THEN pg_get_userbyid(e.grantee)::text END, e.privilege_type, e.is_grantable
    FROM acl, LATERAL aclexplode(list) AS e WHERE list IS NOT NULL ORDER BY object, part NULLS FIRST";

/// What the owner's new objects are granted.
const DEFAULTS: &str = "SELECT coalesce((SELECT quote_ident(n.nspname) FROM pg_namespace n WHERE n.oid = d.defaclnamespace), ''),
        CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END,
        CASE WHEN e.grantee <> 0 THEN pg_get_userbyid(e.grantee)::text END, e.privilege_type, e.is_grantable
    FROM pg_default_acl d, LATERAL aclexplode(d.defaclacl) AS e WHERE pg_get_userbyid(d.defaclrole) = $1 ORDER BY 1, 2";

/// What is set for the database, for all or for its owner: `name=value`.
const SETTINGS: &str = "SELECT unnest(s.setconfig), s.setrole <> 0 FROM pg_db_role_setting s
    WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = $1)
      AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = $1))";

/// The copy's name for a role of the original's.
struct Roles {
    names: BTreeMap<String, String>,
}

impl Roles {
    fn of(original: &str, copy: &str) -> Result<Roles> {
        let pairs = [(original.to_owned(), copy.to_owned()), (reader_of(original)?, reader_of(copy)?)];
        Ok(Roles { names: pairs.into() })
    }

    fn sql(&self, role: Option<&str>) -> String {
        role.map_or_else(
            || "PUBLIC".to_owned(),
            |role| ident(self.names.get(role).map_or(role, String::as_str)),
        )
    }
}

/// Gives the copy, through a session of its owner's, what `from` says of its original.
pub(super) fn carry(from: &mut Session, original: &str, to: &mut Session, copy: &str) -> Result<()> {
    // Until 14 that right cannot be given.
    let can_be_granted = to.version()? >= 150_000;
    for statement in statements(from, original, copy)? {
        to.run(&statement).map_err(|error| {
            let error = Error::new(format!("cannot carry `{}`", statement.escape_debug())).caused_by(error);
            match parameter(&statement) {
                Some(name) if !can_be_granted => error.hint(format!(
                    "before PostgreSQL 15 only a superuser may: `ALTER DATABASE {} RESET {name}`, and set it for its role",
                    ident(original)
                )),
                Some(name) => {
                    error.hint(format!("`GRANT SET ON PARAMETER {name} TO PUBLIC`, as a superuser"))
                }
                None => error,
            }
        })?;
    }
    Ok(())
}

/// The parameter that a statement sets, if it sets one.
fn parameter(statement: &str) -> Option<&str> {
    statement
        .starts_with("ALTER ")
        .then(|| statement.split_once(" SET ")?.1.split_once(" TO "))
        .flatten()
        .map(|it| it.0)
}

/// The statements that give all of it.
pub(super) fn statements(from: &mut Session, original: &str, copy: &str) -> Result<Vec<String>> {
    let roles = Roles::of(original, copy)?;
    let mut statements = rights(from, &roles, copy)?;
    statements.extend(defaults(from, &roles, original, copy)?);
    statements.extend(of_database(from, &roles, original, copy)?);
    statements.extend(settings(from, original, copy)?);
    Ok(statements)
}

fn rights(from: &mut Session, roles: &Roles, copy: &str) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    let mut begun = String::new();
    for row in from.query(&format!("{RELATIONS} {RIGHTS}"), &[])? {
        let (object, only) = (text(&row, 0)?, row.get::<_, Option<String>>(1));
        if begun != object && only.is_none() {
            // What PostgreSQL grants by itself goes first: it may have been revoked.
            statements.push(format!("REVOKE ALL ON {object} FROM PUBLIC, {}", ident(copy)));
            begun.clone_from(&object);
        }
        let column = only.map(|name| format!(" ({name})")).unwrap_or_default();
        let to = roles.sql(row.get::<_, Option<String>>(2).as_deref());
        let pass = if row.get(4) { " WITH GRANT OPTION" } else { "" };
        statements.push(format!("GRANT {}{column} ON {object} TO {to}{pass}", text(&row, 3)?));
    }
    Ok(statements)
}

fn defaults(from: &mut Session, roles: &Roles, original: &str, copy: &str) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    let mut begun = String::new();
    for row in from.query(DEFAULTS, &[&original])? {
        let (schema, kind) = (text(&row, 0)?, text(&row, 1)?);
        let within = if schema.is_empty() { String::new() } else { format!(" IN SCHEMA {schema}") };
        let alter = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {}{within}", ident(copy));
        if schema.is_empty() && begun != kind {
            statements.push(format!("{alter} REVOKE ALL ON {kind} FROM PUBLIC, {}", ident(copy)));
            begun.clone_from(&kind);
        }
        let to = roles.sql(row.get::<_, Option<String>>(2).as_deref());
        let pass = if row.get(4) { " WITH GRANT OPTION" } else { "" };
        statements.push(format!("{alter} GRANT {} ON {kind} TO {to}{pass}", text(&row, 3)?));
    }
    Ok(statements)
}

fn of_database(from: &mut Session, roles: &Roles, original: &str, copy: &str) -> Result<Vec<String>> {
    let ask = "SELECT CASE WHEN e.grantee <> 0 THEN pg_get_userbyid(e.grantee)::text END, e.privilege_type
               FROM pg_database d, LATERAL aclexplode(d.datacl) AS e WHERE d.datname = $1 AND e.grantee <> d.datdba";
    let rows = from.query(ask, &[&original])?;
    let grant = |row: &postgres::Row| -> Result<String> {
        let to = roles.sql(row.get::<_, Option<String>>(0).as_deref());
        Ok(format!("GRANT {} ON DATABASE {} TO {to}", text(row, 1)?, ident(copy)))
    };
    rows.iter().map(grant).collect()
}

fn settings(from: &mut Session, original: &str, copy: &str) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    for row in from.query(SETTINGS, &[&original])? {
        let setting = text(&row, 0)?;
        let Some((name, value)) = setting.split_once('=') else { continue };
        // A list is kept as its items stand in a statement; all else is one text.
        let list =
            ["search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"];
        let value = if list.contains(&name) && !value.is_empty() { value.to_owned() } else { literal(value) };
        let whose = if row.get(1) {
            format!("ROLE {0} IN DATABASE {0}", ident(copy))
        } else {
            format!("DATABASE {}", ident(copy))
        };
        let name = name.split('.').map(ident).collect::<Vec<_>>().join(".");
        statements.push(format!("ALTER {whose} SET {name} TO {value}"));
    }
    Ok(statements)
}
