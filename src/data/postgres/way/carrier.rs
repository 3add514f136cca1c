//! Whoever carries rows calls what is the app's: checks, defaults, expressions of the pushed repository. So it is
//! neither the administrator, who could be got back by `RESET ROLE`, nor the database's own role, which cannot log
//! in when it is retired: it is a role that is made for this, with a password that nobody else knows, may do
//! what the database's own may, and is gone afterwards.

use super::super::names::{ident, literal};
use super::super::place::{LOBBY, carrier_of};
use super::super::server::Server;
use super::super::session::Session;
use crate::data::credentials::password;
use crate::support::{Error, Result};

/// A session of such a role.
pub(super) struct Carrier {
    pub(super) session: Session,
    /// Has a lock, so that nobody else makes or drops the role.
    lobby: Session,
    role: String,
}

impl Carrier {
    /// Makes the role of one database, and logs in.
    pub(super) fn new(server: &Server, name: &str) -> Result<Carrier> {
        let role = carrier_of(name)?;
        let mut lobby = server.session(LOBBY)?;
        lobby.run("SET lock_timeout = '1min'")?;
        lobby.query("SELECT pg_advisory_lock(hashtextextended($1, 7235422))", &[&role])?;
        let stranger =
            "SELECT FROM pg_roles WHERE rolname = $1 AND NOT pg_has_role(rolname, $2::text::name, 'MEMBER')";
        if lobby.any(stranger, &[&role, &name])? {
            let role = role.escape_debug();
            return Err(Error::new(format!("a role '{role}' is there, and receiver did not make it"))
                .hint("rename or drop it by hand, if it is nobody's"));
        }
        let password = password()?;
        let proof = literal(&postgres_protocol::password::scram_sha_256(password.as_bytes()));
        lobby.run(&format!(
            "BEGIN; DROP ROLE IF EXISTS {0}; CREATE ROLE {0} LOGIN PASSWORD {proof} IN ROLE {1}; COMMIT",
            ident(&role),
            ident(name)
        ))?;
        let session = server.session_of(name, &role, &password, false);
        let mut carrier = match session {
            Ok(session) => Carrier { session, lobby, role },
            Err(error) => {
                drop_role(&mut lobby, &role);
                return Err(error);
            }
        };
        carrier.session.run(&format!("SET ROLE {}", ident(name)))?;
        Ok(carrier)
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        drop_role(&mut self.lobby, &self.role);
    }
}

/// It can do nothing that its database's own role cannot: whoever comes next drops what stays.
fn drop_role(lobby: &mut Session, role: &str) {
    if let Err(error) = lobby.run(&format!("DROP ROLE IF EXISTS {}", ident(role))) {
        log::warn!("the role '{role}' stays: {}", error.one_line());
    }
}
