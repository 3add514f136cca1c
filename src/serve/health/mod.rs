//! Whether a web process answers: one real request over its own socket, in the protocol that it speaks.
//!
//! Everything is bounded, whoever is at the other end: the whole question has one time limit, an answer
//! is read up to [`MOST_BYTES`], and its body no longer than [`BODY_TIME`] after its head was complete.

mod fastcgi;
mod head;
mod http;
mod stream;
#[cfg(test)]
mod tests;
mod uwsgi;

use std::path::Path;
use std::time::{Duration, Instant};

pub use crate::app::settings::Protocol;
use crate::support::Error;
use stream::Stream;

/// The most that is read of an answer, in bytes.
const MOST_BYTES: usize = 64 << 10;

/// How long the body is waited for when the head is complete: nothing depends on it any more.
const BODY_TIME: Duration = Duration::from_secs(1);

/// A question to a web process.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// The socket that it listens on.
    pub socket: &'a Path,
    /// What it speaks.
    pub protocol: Protocol,
    /// The `Host` that it is asked as.
    pub host: &'a str,
    /// The path, and the query if there is one.
    pub path: &'a str,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// What a web process answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status: 200.
    pub status: u16,
    /// Its first lines, made safe for a terminal: status, headers, body.
    pub head: Vec<String>,
    /// How long it took until the head was complete.
    pub took: Duration,
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No socket is there (yet).
    NotThere,
    /// A socket is there, and nobody listens on it (yet).
    Refused,
    /// The time was over: nobody took the connection, or no whole answer came.
    TooSlow,
    /// It closed the connection before its answer was whole.
    Ended,
    /// What came is no answer in this protocol.
    Garbage,
}

impl Why {
    /// Whether it may only not be up yet.
    pub fn may_come_up(self) -> bool {
        matches!(self, Why::NotThere | Why::Refused)
    }
}

/// That there was no answer, and why.
#[derive(Debug)]
pub struct Unanswered {
    /// For whoever decides whether to ask again.
    pub why: Why,
    /// For a person.
    pub error: Error,
}

impl From<Unanswered> for Error {
    fn from(unanswered: Unanswered) -> Error {
        unanswered.error
    }
}

impl Unanswered {
    fn new(why: Why, message: impl Into<String>) -> Unanswered {
        Unanswered { why, error: Error::new(message) }
    }
}

impl Probe<'_> {
    /// Asks once.
    ///
    /// # Errors
    /// Where no whole answer came in time. An answer of any status is an answer.
    pub fn ask(&self) -> Result<Answer, Unanswered> {
        let begun = Instant::now();
        let stream = Stream::connect(self.socket, begun + self.timeout)?;
        let raw = match self.protocol {
            Protocol::Http => http::ask(stream, self),
            Protocol::Fastcgi => fastcgi::ask(stream, self),
            Protocol::Uwsgi => uwsgi::ask(stream, self),
        }?;
        Ok(Answer { status: raw.status, head: raw.lines(), took: raw.complete.duration_since(begun) })
    }

    /// The variables that a CGI-like protocol hands a request over in.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let (path, query) = self.path.split_once('?').unwrap_or((self.path, ""));
        let name = self.host.split(':').next().unwrap_or_default();
        vec![
            ("REQUEST_METHOD", "GET".to_owned()),
            ("REQUEST_URI", self.path.to_owned()),
            ("SCRIPT_NAME", String::new()),
            ("PATH_INFO", path.to_owned()),
            ("QUERY_STRING", query.to_owned()),
            ("DOCUMENT_ROOT", "/".to_owned()),
            ("SERVER_NAME", name.to_owned()),
            ("SERVER_PORT", "80".to_owned()),
            ("SERVER_PROTOCOL", "HTTP/1.0".to_owned()),
            ("REMOTE_ADDR", "127.0.0.1".to_owned()),
            ("CONTENT_LENGTH", String::new()),
            ("HTTP_HOST", self.host.to_owned()),
            ("HTTP_USER_AGENT", user_agent()),
        ]
    }
}

/// Who asks.
fn user_agent() -> String {
    format!("receiver/{}", env!("CARGO_PKG_VERSION"))
}
