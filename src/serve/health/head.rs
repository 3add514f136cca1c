//! What came, and its status.

use std::time::Instant;

use httparse::{EMPTY_HEADER, Response, Status};

use super::{Unanswered, Why};
use crate::support::text;

/// The most headers that an answer may have.
const MOST_HEADERS: usize = 200;

/// The lines that are kept for a person, and the characters of each.
const LINES: usize = 16;
const WIDTH: usize = 200;

/// An answer whose head is complete.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) status: u16,
    pub(super) bytes: Vec<u8>,
    /// When its head was complete.
    pub(super) complete: Instant,
}

impl Raw {
    /// Its first lines, for a person.
    pub(super) fn lines(&self) -> Vec<String> {
        first_lines(&self.bytes)
    }
}

/// The first lines of what came, for a person.
pub(super) fn first_lines(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split(|byte| *byte == b'\n').take(LINES);
    let mut lines: Vec<String> = lines
        .map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            text::printable_bytes(&line[..line.len().min(WIDTH)])
        })
        .collect();
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines
}

/// The status of an answer that begins as HTTP does; `None` while its head is not complete.
pub(super) fn of_http(bytes: &[u8]) -> Result<Option<u16>, Unanswered> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut response = Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(Status::Complete(_)) => match response.code {
            Some(code) if code >= 100 => Ok(Some(code)),
            _ => Err(garbage("its status is no status", bytes)),
        },
        Ok(Status::Partial) => Ok(None),
        Err(error) => Err(garbage(&error.to_string(), bytes)),
    }
}

/// The status of an answer that begins with headers, as CGI has it (RFC 3875, 6.2): `Status`, else 302
/// with a `Location`, else 200.
pub(super) fn of_cgi(bytes: &[u8]) -> Result<Option<u16>, Unanswered> {
    if bytes.starts_with(b"HTTP/") {
        return of_http(bytes);
    }
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let parsed = httparse::parse_headers(bytes, &mut headers);
    let headers = match parsed {
        Ok(Status::Complete((_, headers))) if !headers.is_empty() => headers,
        Ok(Status::Complete(_)) => return Err(garbage("it has no headers", bytes)),
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(garbage(&error.to_string(), bytes)),
    };
    let value = |name: &str| headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    match value("Status") {
        Some(header) => {
            let code = header.value.split(|byte| *byte == b' ').find(|word| !word.is_empty());
            let code = code.and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
            match code {
                Some(code) if (100..1000).contains(&code) => Ok(Some(code)),
                _ => Err(garbage("its status is no status", bytes)),
            }
        }
        None if value("Location").is_some() => Ok(Some(302)),
        None => Ok(Some(200)),
    }
}

/// That what came is no answer.
pub(super) fn garbage(why: &str, bytes: &[u8]) -> Unanswered {
    let begin = first_lines(bytes).into_iter().next().unwrap_or_default();
    Unanswered::new(Why::Garbage, format!("what it answers is not understood ({why}): {begin}"))
}
