//! What roles of others may do in a database: brought along to the version that comes after it, and taken back
//! with it.

use super::quote;
use super::roles;
use super::session::Session;
use crate::support::Result;

/// One right of somebody: `SELECT (a, b) ON ` what it is granted on, and to whom.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    grantee: String,
    object: Object,
    privilege: String,
    grantable: bool,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Database,
    Table(String),
    Column(String, String),
    Routine(String, String),
}

impl Right {
    fn statement(&self, verb: &str, way: &str, place: &str, database: &str) -> String {
        let (columns, object) = match &self.object {
            Object::Database => (String::new(), format!("{place}.*")),
            Object::Table(table) => (String::new(), quote::table(database, table)),
            Object::Column(table, column) => {
                (format!(" ({})", quote::name(column)), quote::table(database, table))
            }
            Object::Routine(kind, name) => {
                (String::new(), format!("{kind} {}", quote::table(database, name)))
            }
        };
        format!("{verb} {}{columns} ON {object} {way} {}", self.privilege, account(&self.grantee))
    }
}

/// A grantee as statements name it: information_schema quotes it already, but for roles, which have no host.
fn account(grantee: &str) -> &str {
    grantee.strip_suffix("@''").unwrap_or(grantee)
}

/// The rights on this database, its own roles' left out. A right on a pattern that is like more than this one
/// name needs nobody to bring it along.
fn on(session: &mut Session, database: &str) -> Result<Vec<Right>> {
    let mut rights = Vec::new();
    let own = [format!("'{database}'@'localhost'"), format!("'{}'@'localhost'", roles::reader(database)?)];
    let mut add = |grantee: String, object, privilege: String, grantable: &str| {
        if !own.contains(&grantee) && privilege != "USAGE" {
            rights.push(Right { grantee, object, privilege, grantable: grantable == "YES" });
        }
    };
    let (pattern, name) = (roles::pattern(database), database);
    let rows: Vec<(String, String, String)> = session.rows(
        "SELECT GRANTEE, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES \
         WHERE BINARY TABLE_SCHEMA IN (?, ?)",
        (&pattern, name),
    )?;
    for (who, what, grantable) in rows {
        add(who, Object::Database, what, &grantable);
    }
    let rows: Vec<(String, String, String, String)> = session.rows(
        "SELECT GRANTEE, TABLE_NAME, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.TABLE_PRIVILEGES \
         WHERE BINARY TABLE_SCHEMA = ?",
        (name,),
    )?;
    for (who, table, what, grantable) in rows {
        add(who, Object::Table(table), what, &grantable);
    }
    let rows: Vec<(String, String, String, String, String)> = session.rows(
        "SELECT GRANTEE, TABLE_NAME, COLUMN_NAME, PRIVILEGE_TYPE, IS_GRANTABLE \
         FROM information_schema.COLUMN_PRIVILEGES WHERE BINARY TABLE_SCHEMA = ?",
        (name,),
    )?;
    for (who, table, column, what, grantable) in rows {
        add(who, Object::Column(table, column), what, &grantable);
    }
    let rows: Vec<(String, String, String, String, String)> = session.rows(
        "SELECT User, Host, Routine_type, Routine_name, Proc_priv FROM mysql.procs_priv WHERE BINARY Db = ?",
        (name,),
    )?;
    for (user, host, kind, routine, rights) in rows {
        let grantee = format!("{}@{}", quote::text(&user), quote::text(&host));
        let grantable = if rights.contains("Grant") { "YES" } else { "NO" };
        for right in rights.split(',').filter(|right| *right != "Grant" && !right.is_empty()) {
            add(grantee.clone(), Object::Routine(kind.clone(), routine.clone()), right.to_owned(), grantable);
        }
    }
    rights.sort();
    Ok(rights)
}

/// Grants the roles of others on `to` what they may do on `from`.
pub(super) fn carry(session: &mut Session, from: &str, to: &str) -> Result<()> {
    let place = roles::place(session, to)?;
    for right in on(session, from)? {
        let grantable = if right.grantable { " WITH GRANT OPTION" } else { "" };
        session.run(&format!("{}{grantable}", right.statement("GRANT", "TO", &place, to)))?;
    }
    Ok(())
}

/// Takes the rights of others on a database back: a server keeps them when it is dropped, and they would hold for
/// the next one of its name.
pub(super) fn forget(session: &mut Session, database: &str) -> Result<()> {
    let place = roles::place(session, database)?;
    for right in on(session, database)? {
        // One on the unescaped name is a pattern that somebody meant for more than this.
        let _ = session.raw(&right.statement("REVOKE", "FROM", &place, database));
        if right.grantable && !matches!(right.object, Object::Column(..)) {
            let option = Right { privilege: "GRANT OPTION".to_owned(), ..right };
            let _ = session.raw(&option.statement("REVOKE", "FROM", &place, database));
        }
    }
    Ok(())
}

/// Who may write besides the database's own role: `'report'@'localhost'`.
pub(super) fn writers(session: &mut Session, database: &str) -> Result<Vec<String>> {
    let writes = ["INSERT", "UPDATE", "DELETE", "DROP", "ALTER", "CREATE", "TRIGGER", "EXECUTE", "Execute"];
    let mut who: Vec<String> = on(session, database)?
        .into_iter()
        .filter(|right| writes.contains(&right.privilege.as_str()))
        .map(|right| right.grantee)
        .collect();
    who.dedup();
    Ok(who)
}
