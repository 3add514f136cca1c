//! The question and its answer as HTTP.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use super::head::{self, Raw};
use super::stream::{Stream, broken};
use super::{BODY_TIME, Probe, Unanswered, user_agent};

/// Asks in HTTP. As version 1.0 the answer has no chunks, and ends with the connection.
pub(super) fn ask(mut stream: Stream, probe: &Probe) -> Result<Raw, Unanswered> {
    let request = format!(
        "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: {}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        probe.path,
        probe.host,
        user_agent()
    );
    stream.write_all(request.as_bytes()).map_err(|error| broken(&error, 0))?;
    answer(stream)
}

/// Reads an answer that begins as HTTP does: its head, and of its body what comes at once.
pub(super) fn answer(mut stream: Stream) -> Result<Raw, Unanswered> {
    let mut bytes = Vec::new();
    let mut complete = None;
    let mut chunk = [0; 4096];
    loop {
        let read = match stream.read(&mut chunk) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result,
        };
        match (read, complete) {
            (Ok(read), _) => bytes.extend_from_slice(&chunk[..read]),
            (Err(_), Some((status, complete))) => return Ok(Raw { status, bytes, complete }),
            (Err(error), None) => return Err(broken(&error, bytes.len())),
        }
        if complete.is_none()
            && let Some(status) = head::of_http(&bytes)?
        {
            complete = Some((status, Instant::now()));
            stream.hurry(BODY_TIME);
        }
    }
}
