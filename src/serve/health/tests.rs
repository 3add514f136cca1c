//! What bad servers answer. Real ones are asked in `tests/suite/health.rs`.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A server that does one thing with every connection; what it was sent is not looked at.
fn server(act: impl Fn(UnixStream) + Send + Sync + Clone + 'static) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("web.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let act = act.clone();
            std::thread::spawn(move || act(stream));
        }
    });
    (place, path)
}

fn ask(socket: &Path, protocol: Protocol, timeout: Duration) -> Result<Answer, Unanswered> {
    Probe { socket, protocol, host: "app.example", path: "/", timeout }.ask()
}

const ALL: [Protocol; 3] = [Protocol::Http, Protocol::Fastcgi, Protocol::Uwsgi];
const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

/// Sends an answer after it read something, as every real server does.
fn answering(bytes: impl Into<Vec<u8>>) -> impl Fn(UnixStream) + Send + Sync + Clone + 'static {
    let bytes = bytes.into();
    move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // What a client still sends is read: an unread byte would make the close a reset.
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut record = vec![1, kind, 0, 1, length[0], length[1], 0, 0];
    record.extend_from_slice(content);
    record
}

#[test]
fn a_socket_that_is_not_there_yet_may_come_up() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("web.sock");
    for protocol in ALL {
        let error = ask(&path, protocol, LONG).unwrap_err();
        assert_eq!(error.why, Why::NotThere);
        assert!(error.why.may_come_up());
        assert!(error.error.to_string().contains(&path.display().to_string()));
    }
    drop(UnixListener::bind(&path).unwrap());
    let error = ask(&path, Protocol::Http, LONG).unwrap_err();
    assert_eq!(error.why, Why::Refused);
    assert!(error.why.may_come_up());
    std::fs::write(place.path().join("file"), "").unwrap();
    assert_eq!(ask(&place.path().join("file"), Protocol::Http, LONG).unwrap_err().why, Why::Refused);
    let long = place.path().join("x".repeat(120));
    assert_eq!(ask(&long, Protocol::Http, LONG).unwrap_err().why, Why::NotThere);
}

#[test]
fn who_never_answers_is_too_slow() {
    let (_place, path) = server(|stream| {
        std::thread::sleep(LONG);
        drop(stream);
    });
    for protocol in ALL {
        let error = ask(&path, protocol, SHORT).unwrap_err();
        assert_eq!(
            (error.why, error.error.to_string().as_str()),
            (Why::TooSlow, "it took too long: not a byte of an answer came")
        );
    }
}

#[test]
fn who_takes_no_connection_is_too_slow() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("web.sock");
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let error = ask(&path, Protocol::Http, SHORT).unwrap_err();
    assert_eq!(error.why, Why::TooSlow, "{}", error.error);
    assert!(error.error.to_string().starts_with("nobody takes a connection of "));
}

#[test]
fn who_answers_byte_by_byte_for_ever_is_too_slow() {
    let (_place, path) = server(|mut stream| {
        while stream.write_all(b"H").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let error = ask(&path, Protocol::Fastcgi, SHORT).unwrap_err();
    assert!(matches!(error.why, Why::TooSlow | Why::Garbage), "{:?}", error.why);
    let (_place, path) = server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nX: ");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(ask(&path, Protocol::Http, SHORT).unwrap_err().why, Why::TooSlow);
}

#[test]
fn a_head_without_an_end_is_no_answer() {
    let endless = |mut stream: UnixStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X-Header: value\r\n").is_ok() {}
    };
    let (_place, path) = server(endless);
    for protocol in [Protocol::Http, Protocol::Uwsgi] {
        assert_eq!(ask(&path, protocol, LONG).unwrap_err().why, Why::Garbage);
    }
    let (_place, path) = server(
        |mut stream: UnixStream| {
            while stream.write_all(&record(6, b"X-Header: value\r\n")).is_ok() {}
        },
    );
    assert_eq!(ask(&path, Protocol::Fastcgi, LONG).unwrap_err().why, Why::Garbage);
}

#[test]
fn a_head_is_read_no_longer_than_its_limit() {
    let (_place, path) = server(|mut stream: UnixStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
        while stream.write_all(&[b'x'; 1000]).is_ok() {}
    });
    let error = ask(&path, Protocol::Http, LONG).unwrap_err();
    assert_eq!(error.error.to_string(), "the head of the answer is longer than 65536 bytes");
}

#[test]
fn a_body_without_an_end_is_an_answer() {
    let (_place, path) = server(|mut stream: UnixStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n");
        while stream.write_all(&[b'x'; 1000]).is_ok() {}
    });
    assert_eq!(ask(&path, Protocol::Http, LONG).unwrap().status, 200);
    let (_place, path) = server(|mut stream: UnixStream| {
        let _ = stream.write_all(&record(6, b"Status: 503 Busy\r\n\r\n"));
        std::thread::sleep(LONG);
    });
    assert_eq!(ask(&path, Protocol::Fastcgi, LONG).unwrap().status, 503);
}

#[test]
fn who_closes_at_once_gave_no_answer() {
    let (_place, path) = server(drop);
    for protocol in ALL {
        assert_eq!(ask(&path, protocol, LONG).unwrap_err().why, Why::Ended);
    }
    let (_place, path) = server(answering("HTTP/1.1 200 O"));
    assert_eq!(ask(&path, Protocol::Http, LONG).unwrap_err().why, Why::Ended);
}

#[test]
fn garbage_is_shown_tamed() {
    let (_place, path) = server(answering("\x1b[31mwhat?\r\n\r\n"));
    for protocol in [Protocol::Http, Protocol::Uwsgi] {
        let error = ask(&path, protocol, LONG).unwrap_err();
        assert_eq!(error.why, Why::Garbage);
        assert!(error.error.to_string().ends_with(": \\u{1b}[31mwhat?"), "{}", error.error);
    }
    // HTTP where FastCGI is wanted, and a last record without its content.
    for bytes in [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), record(3, b""), record(3, b"123")] {
        let (_place, path) = server(answering(bytes));
        let error = ask(&path, Protocol::Fastcgi, LONG).unwrap_err();
        assert!(matches!(error.why, Why::Garbage | Why::Ended), "{:?}", error.why);
    }
}

#[test]
fn a_status_is_an_answer_whatever_it_is() {
    let (_place, path) = server(answering("HTTP/1.1 500 Oh\r\nServer: x\r\n\r\nTrace\u{7}back\nmore\n"));
    let answer = ask(&path, Protocol::Http, LONG).unwrap();
    assert_eq!(answer.status, 500);
    assert_eq!(answer.head, ["HTTP/1.1 500 Oh", "Server: x", "", "Trace\\u{7}back", "more"]);
    for (head, status) in [
        ("Status: 404 Not Found\r\nX: y\r\n\r\n", 404),
        ("Content-Type: text/plain\n\n", 200),
        ("location: /x\r\n\r\n", 302),
        ("HTTP/1.1 201 Made\r\n\r\n", 201),
    ] {
        let mut bytes = record(6, head.as_bytes());
        bytes.extend(record(6, b"body"));
        bytes.extend(record(3, &[0; 8]));
        let (_place, path) = server(answering(bytes));
        assert_eq!(ask(&path, Protocol::Fastcgi, LONG).unwrap().status, status, "{head}");
    }
}

#[test]
fn a_complaint_of_fastcgi_is_told() {
    let mut bytes = record(7, b"Primary script unknown\n");
    bytes.extend(record(3, &[0; 8]));
    let (_place, path) = server(answering(bytes));
    let error = ask(&path, Protocol::Fastcgi, LONG).unwrap_err();
    assert_eq!(error.error.to_string(), "it gave no answer, and complained: Primary script unknown");
}

#[test]
fn a_packet_of_uwsgi_is_what_its_description_says() {
    let packet = uwsgi::packet(&[("A", "bc".to_owned()), ("D", String::new())]).unwrap();
    assert_eq!(packet, b"\x00\x0c\x00\x00\x01\x00A\x02\x00bc\x01\x00D\x00\x00");
    assert!(uwsgi::packet(&[("A", "b".repeat(70_000))]).is_none());
}

proptest! {
    #[test]
    fn no_bytes_of_a_server_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = head::of_http(&bytes);
        let _ = head::of_cgi(&bytes);
        for line in head::first_lines(&bytes) {
            prop_assert!(!line.chars().any(char::is_control));
        }
    }

    #[test]
    fn a_head_that_grows_is_complete_once(tail in "[ -~\r\n]{0,80}") {
        let whole = format!("HTTP/1.1 204 Fine\r\nA: b\r\n\r\n{tail}");
        for length in 0..27 {
            prop_assert!(matches!(head::of_http(&whole.as_bytes()[..length]), Ok(None)));
        }
        prop_assert!(matches!(head::of_http(whole.as_bytes()), Ok(Some(204))));
    }
}
