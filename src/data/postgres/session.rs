//! One connection to one database, whose statements end when a [`Limit`] is over.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use postgres::types::ToSql;
use postgres::{CancelToken, Client, NoTls, Row};

use super::server::told;
use crate::data::Limit;
use crate::support::{Error, Result};

/// How often a statement that runs is asked whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// A connection, and what to speak of it by.
pub(super) struct Session {
    pub(super) client: Client,
    socket: PathBuf,
}

impl Session {
    pub(super) fn new(client: Client, socket: PathBuf) -> Session {
        Session { client, socket }
    }

    /// The socket that it goes through.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the server said, in our words.
    pub(super) fn told(&self, error: &postgres::Error) -> Error {
        told(error, &self.socket)
    }

    /// Runs statements without parameters.
    pub(super) fn run(&mut self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).map_err(|error| told(&error, &self.socket))
    }

    /// The rows that a statement answers.
    pub(super) fn query(&mut self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.client.query(sql, with).map_err(|error| told(&error, &self.socket))
    }

    /// The first column of every row, as text.
    pub(super) fn texts(&mut self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<Vec<String>> {
        self.query(sql, with)?.iter().map(|row| text(row, 0)).collect()
    }

    /// The first column of the first row, as text; none where there is no row, or NULL.
    pub(super) fn text(&mut self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<Option<String>> {
        let rows = self.query(sql, with)?;
        match rows.first() {
            Some(row) => row.try_get(0).map_err(|error| told(&error, &self.socket)),
            None => Ok(None),
        }
    }

    /// The same as a number; 0 where there is none.
    pub(super) fn number(&mut self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<i64> {
        let rows = self.query(sql, with)?;
        let Some(row) = rows.first() else { return Ok(0) };
        let number: Option<i64> = row.try_get(0).map_err(|error| told(&error, &self.socket))?;
        Ok(number.unwrap_or(0))
    }

    /// Whether a statement answers a row.
    pub(super) fn any(&mut self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<bool> {
        Ok(!self.query(sql, with)?.is_empty())
    }

    /// Which PostgreSQL it is: `150018`.
    pub(super) fn version(&mut self) -> Result<u32> {
        let text = self.text("SELECT current_setting('server_version_num')", &[])?;
        let number = text.and_then(|text| text.parse().ok());
        number.ok_or_else(|| Error::new("the server does not say which PostgreSQL it is"))
    }

    /// Runs `work`, and cancels the statement that it is in when the limit is over.
    pub(super) fn within<T>(
        &mut self,
        limit: &Limit<'_>,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let canceller = [self.canceller()];
        within_all(&canceller, limit, || work(self))
    }

    /// What ends the statement that it is in.
    pub(super) fn canceller(&self) -> CancelToken {
        self.client.cancel_token()
    }
}

/// Runs `work`, and cancels the statements that sessions are in when the limit is over.
pub(super) fn within_all<T>(
    tokens: &[CancelToken],
    limit: &Limit<'_>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    limit.check()?;
    let (done, ended) = channel::<()>();
    let result = thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if limit.check().is_err() {
                    // A cancel that comes too early is lost: it is sent again.
                    for token in tokens {
                        let _ = token.cancel_query(NoTls);
                    }
                }
            }
        });
        let result = work();
        drop(done);
        result
    });
    // The limit is the better reason than the statement that it cancelled.
    result.map_err(|error| limit.check().err().unwrap_or(error))
}

/// A column as text that is not NULL.
pub(super) fn text(row: &Row, column: usize) -> Result<String> {
    let text: Option<String> =
        row.try_get(column).map_err(|_| Error::new(format!("column {column} of a catalog is no text")))?;
    Ok(text.unwrap_or_default())
}
