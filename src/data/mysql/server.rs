//! The server: where it listens, and as whom receiver speaks to it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::lookout;
use super::session::{Session, code, codes};
use crate::data::{Ground, Limit};
use crate::support::{Error, Result, files, user_name};

/// Where Debian, Ubuntu and Fedora's MariaDB listen; MySQL's own packages, too.
const SOCKET: &str = "/run/mysqld/mysqld.sock";

/// How often a limit is looked at while the server works.
const LOOK: Duration = Duration::from_millis(20);

/// A server, and who receiver is there.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) socket: PathBuf,
    pub(super) secrets: PathBuf,
    pub(super) lender: Option<PathBuf>,
    admin: String,
    password_file: Option<PathBuf>,
}

impl Server {
    pub(super) fn of(ground: &Ground) -> Server {
        Server {
            socket: ground.server.clone().unwrap_or_else(|| PathBuf::from(SOCKET)),
            secrets: ground.secrets.clone(),
            lender: ground.lender.as_ref().map(|lender| lender.secrets.clone()),
            admin: ground.admin.clone().unwrap_or_else(user_name),
            password_file: ground.password_file.clone(),
        }
    }

    /// A session of the administrator's, with no database chosen.
    pub(super) fn connect(&self) -> Result<Session> {
        let mut session = Session::open(&self.socket, &self.admin, self.password()?)?;
        check_version(&mut session, &self.socket)?;
        lookout::watch(self, &mut session)?;
        Ok(session)
    }

    /// A session of the administrator's in a database.
    pub(super) fn connect_to(&self, database: &str) -> Result<Session> {
        let mut session = self.connect()?;
        session.run(&format!("USE {}", super::quote::name(database)))?;
        Ok(session)
    }

    /// Who receiver is there, and with which password.
    pub(super) fn login(&self) -> Result<(&str, Option<String>)> {
        Ok((&self.admin, self.password()?))
    }

    fn password(&self) -> Result<Option<String>> {
        let Some(file) = &self.password_file else { return Ok(None) };
        let text = files::read_text(file)?.ok_or_else(|| {
            Error::new(format!("the password file {} is not there", file.display()))
                .hint("make it (0600), or take the setting out where the socket tells who somebody is")
        })?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Ends a statement that another session runs. One that is gone is fine.
    pub(super) fn stop(&self, id: u32) -> Result<()> {
        let mut session = self.connect()?;
        match session.raw(&format!("KILL QUERY {id}")) {
            Err(error) if code(&error) != Some(codes::NO_SESSION) => Err(session.told(&error)),
            _ => Ok(()),
        }
    }

    /// Runs `work` on a session, and ends what it runs when the limit is over.
    pub(super) fn within<T: Send>(
        &self,
        session: &mut Session,
        limit: &Limit<'_>,
        work: impl FnOnce(&mut Session) -> Result<T> + Send,
    ) -> Result<T> {
        self.within_watched(session, limit, &mut || {}, work)
    }

    /// The same, with `tick` called again and again meanwhile.
    pub(super) fn within_watched<T: Send>(
        &self,
        session: &mut Session,
        limit: &Limit<'_>,
        tick: &mut dyn FnMut(),
        work: impl FnOnce(&mut Session) -> Result<T> + Send,
    ) -> Result<T> {
        limit.check()?;
        let id = session.id();
        thread::scope(|scope| {
            let (working, ended) = mpsc::channel::<()>();
            let worker = scope.spawn(move || {
                let result = work(session);
                drop(working);
                result
            });
            let mut over = None;
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                tick();
                if let Err(why) = limit.check() {
                    over = Some(why);
                    // Again and again: between two statements there is nothing to stop. That it cannot be
                    // stopped shows in its going on.
                    let _ = self.stop(id);
                }
            }
            let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (result, over) {
                (Err(_), Some(why)) => Err(why),
                (result, _) => result,
            }
        })
    }
}

fn check_version(session: &mut Session, socket: &Path) -> Result<()> {
    let version: String = session.value("SELECT VERSION()", ())?;
    let mut numbers =
        version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // MariaDB 10.5 split SUPER into the rights that receiver asks for; MySQL 8.0 has roles, checks and
    // transactional DDL.
    let oldest = if session.is_mariadb() { (10, 5) } else { (8, 0) };
    if (major, minor) >= oldest {
        return Ok(());
    }
    Err(Error::new(format!(
        "the database server at {} is version {}, and receiver needs {}.{} at least",
        socket.display(),
        version.escape_debug(),
        oldest.0,
        oldest.1
    )))
}
