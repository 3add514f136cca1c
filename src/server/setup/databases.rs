//! The identity by which receiver makes databases: a role of the server's own, which the socket knows by its user, so
//! that there is no password.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::act::{Act, is_there, run, run_with};
use super::places::own;
use crate::app::server::RECEIVER;
use crate::data;
use crate::support::{Context, Error, Result, files};

/// Receiver's account on MariaDB.
pub struct MariaDb;

impl MariaDb {
    fn account() -> String {
        format!("'{RECEIVER}'@'localhost'")
    }

    /// Refuses a server that these statements are not for.
    pub fn refuse_mysql() -> Result<()> {
        if is_there("mysqld") && !is_there("mariadbd") {
            return Err(Error::new("MySQL is installed here, and setup knows MariaDB: it was not touched")
                .hint("`receiver doctor` prints the statements that MySQL needs, once an app is there"));
        }
        Ok(())
    }
}

impl Act for MariaDb {
    fn what(&self) -> String {
        format!(
            "grant      MariaDB: {} makes databases and accounts (known by the socket)",
            MariaDb::account()
        )
    }

    fn is_done(&self) -> Result<bool> {
        if !is_there("mariadb") {
            return Ok(false);
        }
        let ask = format!("SHOW GRANTS FOR {}", MariaDb::account());
        let Ok(granted) = run("mariadb", &["--batch", "--skip-column-names", "--execute", &ask]) else {
            return Ok(false);
        };
        let rights = data::administrator_rights();
        let has = |right: &&str| granted.contains(*right);
        Ok(rights.iter().all(has) && granted.contains("unix_socket") && granted.contains("WITH GRANT OPTION"))
    }

    fn perform(&self) -> Result<()> {
        let account = MariaDb::account();
        let rights = data::administrator_rights().join(", ");
        let text = format!(
            "CREATE USER IF NOT EXISTS {account} IDENTIFIED VIA unix_socket;\n\
             ALTER USER {account} IDENTIFIED VIA unix_socket;\n\
             GRANT {rights} ON *.* TO {account} WITH GRANT OPTION;\n"
        );
        run_with("mariadb", &["--batch"], &text).map(drop)
    }

    fn undo(&self) -> Result<bool> {
        if !is_there("mariadb") || !self.is_done()? {
            return Ok(false);
        }
        run_with("mariadb", &["--batch"], &format!("DROP USER IF EXISTS {};\n", MariaDb::account()))
            .map(|_| true)
    }

    fn is_data(&self) -> bool {
        true
    }
}

fn psql(statements: &str) -> Result<String> {
    run_with("runuser", &["-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1"], statements)
}

/// Receiver's role on PostgreSQL, and the group of the roles that it makes.
pub struct PostgresRole;

impl Act for PostgresRole {
    fn what(&self) -> String {
        format!(
            "grant      PostgreSQL: {RECEIVER} CREATEDB CREATEROLE (known by the socket), group {}",
            data::LOGINS
        )
    }

    fn is_done(&self) -> Result<bool> {
        let ask = format!(
            "SELECT count(*) FROM pg_roles r JOIN pg_auth_members m ON m.member = r.oid JOIN pg_roles g ON g.oid = m.roleid \
             WHERE r.rolname = '{RECEIVER}' AND r.rolcreatedb AND r.rolcreaterole AND r.rolcanlogin AND NOT r.rolsuper \
             AND g.rolname = '{}' AND m.admin_option;\n",
            data::LOGINS
        );
        Ok(is_there("psql") && psql(&ask).is_ok_and(|count| count.trim() == "1"))
    }

    fn perform(&self) -> Result<()> {
        let group = data::LOGINS;
        let make = |name: &str, rights: &str| {
            format!(
                "SELECT 'CREATE ROLE {name}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') \\gexec\n\
                 ALTER ROLE {name} {rights};\n"
            )
        };
        let statements = format!(
            "{}{}GRANT {group} TO {RECEIVER} WITH ADMIN OPTION;\n",
            make(group, "NOLOGIN"),
            make(RECEIVER, "LOGIN CREATEDB CREATEROLE NOSUPERUSER")
        );
        psql(&statements).map(drop)
    }

    fn undo(&self) -> Result<bool> {
        if !self.is_done()? {
            return Ok(false);
        }
        psql(&format!("DROP ROLE {}; DROP ROLE {RECEIVER};\n", data::LOGINS)).map(|_| true)
    }

    fn is_data(&self) -> bool {
        true
    }
}

/// The lines of `pg_hba.conf` by which receiver is known by its user, and the roles that it makes by their passwords.
/// Nobody else's way in changes.
pub struct PostgresLogin;

const BEGIN: &str =
    "# receiver begins (written by `receiver setup`; above all others, since the first that fits counts)\n";
const END: &str = "# receiver ends\n";

impl PostgresLogin {
    fn lines() -> String {
        format!("{BEGIN}local all {RECEIVER} peer\nlocal all +{} scram-sha-256\n{END}", data::LOGINS)
    }

    fn file() -> Result<PathBuf> {
        let name = psql("SHOW hba_file;\n")?;
        let path = PathBuf::from(name.trim());
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(Error::new("PostgreSQL does not say where its pg_hba.conf is"))
        }
    }

    fn write(path: &Path, text: &str) -> Result<()> {
        let about = std::fs::metadata(path).context(|| format!("cannot read {}", path.display()))?;
        files::write_atomic(path, text.as_bytes(), 0o600)?;
        own(path, about.uid(), about.gid(), about.permissions().mode() & 0o7777)?;
        psql("SELECT pg_reload_conf();\n").map(drop)
    }

    fn without(text: &str) -> String {
        match (text.find(BEGIN), text.find(END)) {
            (Some(begin), Some(end)) if begin < end => {
                format!("{}{}", &text[..begin], &text[end + END.len()..])
            }
            _ => text.to_owned(),
        }
    }
}

impl Act for PostgresLogin {
    fn what(&self) -> String {
        format!(
            "lines      pg_hba.conf: `local all {RECEIVER} peer`, `local all +{} scram-sha-256`",
            data::LOGINS
        )
    }

    fn is_done(&self) -> Result<bool> {
        if !is_there("psql") {
            return Ok(false);
        }
        let Ok(path) = PostgresLogin::file() else { return Ok(false) };
        Ok(files::read_text(&path)?.is_some_and(|text| text.contains(&PostgresLogin::lines())))
    }

    fn perform(&self) -> Result<()> {
        let path = PostgresLogin::file()?;
        let text = files::read_text(&path)?.unwrap_or_default();
        PostgresLogin::write(&path, &format!("{}{}", PostgresLogin::lines(), PostgresLogin::without(&text)))
    }

    fn undo(&self) -> Result<bool> {
        if !self.is_done()? {
            return Ok(false);
        }
        let path = PostgresLogin::file()?;
        let text = files::read_text(&path)?.unwrap_or_default();
        PostgresLogin::write(&path, &PostgresLogin::without(&text)).map(|()| true)
    }

    fn is_data(&self) -> bool {
        true
    }
}
