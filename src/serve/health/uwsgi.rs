//! The question in the uwsgi protocol: one packet of variables; the answer is HTTP.
//!
//! <https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html>: modifier1 (0: WSGI), the length of the
//! variables as 16 bits, modifier2 (0); then for each variable the lengths, little end first, and the bytes.

use std::io::Write;

use super::head::Raw;
use super::stream::{Stream, broken};
use super::{Probe, Unanswered, Why, http};

/// Asks in the uwsgi protocol.
pub(super) fn ask(mut stream: Stream, probe: &Probe) -> Result<Raw, Unanswered> {
    let packet = packet(&probe.variables())
        .ok_or_else(|| Unanswered::new(Why::Garbage, "the path of the health check is too long"))?;
    stream.write_all(&packet).map_err(|error| broken(&error, 0))?;
    http::answer(stream)
}

/// The packet; `None` where it would be longer than the protocol can say.
pub(super) fn packet(variables: &[(&str, String)]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    for (name, value) in variables {
        for part in [name.as_bytes(), value.as_bytes()] {
            body.extend_from_slice(&u16::try_from(part.len()).ok()?.to_le_bytes());
            body.extend_from_slice(part);
        }
    }
    let mut packet = vec![0];
    packet.extend_from_slice(&u16::try_from(body.len()).ok()?.to_le_bytes());
    packet.push(0);
    packet.append(&mut body);
    Some(packet)
}
