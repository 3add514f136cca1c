//! A 503 in the protocol that was spoken.

use std::io::{Read, Write};

use mio::net::UnixStream;

use crate::app::settings::Protocol;

/// How many seconds whoever is refused is asked to wait.
const RETRY_AFTER: u32 = 10;

/// Tells a connection that its version cannot be woken now, and closes it.
pub(super) fn refuse(mut stream: UnixStream, protocol: Protocol) {
    // What it sent is taken first: a close over unread bytes would be a reset.
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
    let _ = stream.write_all(&answer(protocol));
}

fn answer(protocol: Protocol) -> Vec<u8> {
    let text = "this version sleeps, and cannot be woken just now\n";
    let rest = format!(
        "503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: {RETRY_AFTER}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    match protocol {
        Protocol::Http | Protocol::Uwsgi => format!("HTTP/1.1 {rest}").into_bytes(),
        // Request 1 is the one that a connection begins with, for nginx as for others: FCGI_STDOUT with the
        // answer, and FCGI_END_REQUEST with zeros, complete (FastCGI 1.0, 3.3 and 5.5).
        Protocol::Fastcgi => {
            let answer = format!("Status: {rest}").into_bytes();
            let length = u16::try_from(answer.len()).unwrap_or_default().to_be_bytes();
            let mut records = vec![1, 6, 0, 1, length[0], length[1], 0, 0];
            records.extend(answer);
            records.extend([1, 3, 0, 1, 0, 8, 0, 0]);
            records.extend([0; 8]);
            records
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;
    use crate::serve::health::Probe;

    #[test]
    fn a_refusal_is_understood_in_every_protocol() {
        for protocol in [Protocol::Http, Protocol::Fastcgi, Protocol::Uwsgi] {
            let place = tempfile::tempdir().unwrap();
            let socket = place.path().join("s");
            let listener = UnixListener::bind(&socket).unwrap();
            let refusing = std::thread::spawn(move || {
                let stream = listener.accept().unwrap().0;
                std::thread::sleep(Duration::from_millis(20));
                stream.set_nonblocking(true).unwrap();
                refuse(UnixStream::from_std(stream), protocol);
            });
            let timeout = Duration::from_secs(20);
            let probe = Probe { socket: &socket, protocol, host: "v1.app.example", path: "/", timeout };
            let answer = probe.ask().unwrap_or_else(|error| panic!("{protocol:?}: {}", error.error));
            assert_eq!(answer.status, 503);
            assert!(answer.head.iter().any(|line| line == "Retry-After: 10"), "{:?}", answer.head);
            refusing.join().unwrap();
        }
    }
}
