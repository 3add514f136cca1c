//! One message over a socket of this machine: a line of JSON, and descriptors beside it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::support::{Context, Error, Result, beside as descriptors};

/// The most bytes that a message may have: an environment with its secrets is the longest.
pub const MOST: usize = 8 << 20;

/// Sends a message.
pub fn send(socket: impl AsFd, message: &impl Serialize, beside: &[BorrowedFd<'_>]) -> Result<()> {
    let mut text = serde_json::to_vec(message).context(|| "cannot write down a message")?;
    text.push(b'\n');
    let mut rest = text.as_slice();
    let mut beside = beside;
    while !rest.is_empty() {
        let sent = descriptors::send(&socket, rest, beside).context(|| "the other side is gone")?;
        rest = &rest[sent..];
        beside = &[];
    }
    Ok(())
}

/// Receives a message, with what came beside it; `None` where the other side said nothing more.
///
/// # Errors
/// Where it is longer than [`MOST`], has more descriptors than belong to it, is not what is expected, or does not
/// come in the time that the socket has.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let mut text = Vec::new();
    let mut beside = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = descriptors::receive(&socket, &mut buffer).context(|| "cannot read a message")?;
        beside.extend(read.beside);
        if read.cut || beside.len() > descriptors::MOST {
            return Err(Error::new("more descriptors than belong to a message"));
        }
        if read.bytes == 0 {
            return if text.is_empty() { Ok(None) } else { Err(Error::new("a message that has no end")) };
        }
        text.extend_from_slice(&buffer[..read.bytes]);
        if text.len() > MOST {
            return Err(Error::new(format!("a message of more than {MOST} bytes")));
        }
        if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            // One message, and nothing after it.
            if end + 1 != text.len() {
                return Err(Error::new("more than one message"));
            }
            // What is in it may be a secret: no error quotes it.
            let message =
                serde_json::from_slice(&text[..end]).map_err(|_| Error::new("not a message that is known"));
            return message.map(|message| Some((message, beside)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::super::{Reply, Request};
    use super::*;
    use crate::app::AppName;

    fn heard(bytes: &[u8]) -> Result<Option<(Request, Vec<OwnedFd>)>> {
        let (mut here, there) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            // What is too long is not read to its end: whoever writes it finds the other side gone.
            scope.spawn(move || here.write_all(bytes));
            let heard = receive(&there);
            drop(there);
            heard
        })
    }

    #[test]
    fn a_message_comes_through_with_its_descriptors() {
        let (here, there) = UnixStream::pair().unwrap();
        let request = Request::Stop { app: "shop".parse().unwrap(), start: "web-0".into() };
        send(&here, &request, &[here.as_fd(), there.as_fd()]).unwrap();
        let (heard, beside) = receive::<Request>(&there).unwrap().unwrap();
        assert!(matches!(heard, Request::Stop { start, .. } if start == "web-0"));
        assert_eq!(beside.len(), 2);
        send(&there, &Reply::Done(true), &[]).unwrap();
        assert!(matches!(receive::<Reply>(&here).unwrap().unwrap().0, Reply::Done(true)));
    }

    proptest! {
        // Few of them are of the kind that has a path, or a branch, and that one unsound and all else sound.
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Whatever a request says, an app, a branch and a path in it are sound names, and it is the same when it is sent on.
        #[test]
        fn a_request_that_is_understood_names_sound_things(text in spoilt()) {
            let Ok(request) = serde_json::from_str::<Request>(&text) else { return Ok(()) };
            let again: serde_json::Value = serde_json::to_value(&request).unwrap();
            for (key, value) in again.as_object().unwrap() {
                let Some(value) = value.as_str() else { continue };
                match key.as_str() {
                    "app" => prop_assert!(value.parse::<AppName>().is_ok() && !value.contains(['/', '.'])),
                    "branch" => {
                        prop_assert!(!value.contains("..") && !value.contains(char::is_control));
                        prop_assert!(!value.starts_with(['-', '/', '.']) && !value.is_empty());
                    }
                    "path" => prop_assert!(!value.starts_with('/') && !value.split('/').any(|part| part == "..")),
                    _ => {}
                }
            }
            let back = serde_json::to_string(&request).unwrap();
            prop_assert_eq!(serde_json::to_value(serde_json::from_str::<Request>(&back).unwrap()).unwrap(), again);
        }
    }

    /// A request whose fields may be right, almost right, or anything, perhaps with a byte changed or cut off.
    fn spoilt() -> impl Strategy<Value = String> {
        let kind = prop_oneof![
            Just("give"),
            Just("take-back"),
            Just("give-shared"),
            Just("remove"),
            Just("start"),
            Just("stop"),
            Just("agent"),
            Just("keys"),
            Just("site"),
            Just("certificate-end"),
            Just("end-timers"),
            Just("make-branch"),
            Just("end-branch"),
            Just("sweep-branches"),
            Just("reboot"),
        ];
        let app = prop_oneof![
            Just("shop".to_owned()),
            "[a-z]{1,9}(--)?[a-z0-9-]{0,12}",
            "[./a-z-]{0,12}",
            "\\PC{0,12}"
        ];
        let branch = prop_oneof![
            "feature/[a-z]{1,8}",
            "[-./a-z@{~^: ]{0,12}",
            "[-/.]?[a-z]{1,2}(\\.\\.?|/|@\\{)[a-z]{1,2}",
            "\\PC{0,12}"
        ];
        let release =
            prop_oneof![Just("0/20260101T000000Z-0123456789ab".to_owned()), "[0-9]/[0-9A-Za-z./-]{0,30}"];
        let path = prop_oneof![
            "[a-z]{1,6}(/[a-z.]{1,6}){0,3}",
            "[./a-z]{0,12}",
            "/?(\\.{1,2}/|[a-z]/){0,2}(\\.{1,2}|[a-z])"
        ];
        let fields = (kind, app, branch, release, path, any::<bool>(), any::<[bool; 6]>());
        let whole = fields.prop_map(|(kind, app, branch, release, path, flag, has)| {
            let all = serde_json::json!({
                "app": app, "branch": branch, "release": release, "path": path, "keep": flag, "tether": flag,
                "directory": path, "start": branch,
            });
            let wants = |key: &str| match kind {
                "give" | "take-back" => key == "release",
                "give-shared" => key == "path",
                "remove" => key == "directory",
                "start" => key == "start" || key == "tether",
                "stop" => key == "start",
                "make-branch" => key == "branch",
                "end-branch" => key == "keep",
                _ => false,
            };
            let mut request = serde_json::Map::new();
            request.insert("request".into(), kind.into());
            for (key, value) in all.as_object().unwrap() {
                let is_app = key == "app" && kind != "keys";
                // Now and then a field is missing, or one too many.
                if (is_app || wants(key)) != (has.iter().all(|it| *it) && key == "path") {
                    request.insert(key.clone(), value.clone());
                }
            }
            serde_json::Value::from(request).to_string()
        });
        (whole, any::<prop::sample::Index>(), prop_oneof![3 => Just(None), 1 => "[\"{}:,a-z]".prop_map(Some)])
            .prop_map(|(text, at, spoils)| {
                let Some(spoils) = spoils else { return text };
                let mut all: Vec<char> = text.chars().collect();
                let at = at.index(all.len());
                all.splice(at..=at, spoils.chars());
                all.into_iter().collect()
            })
    }

    #[test]
    fn what_is_no_request_is_refused_and_not_quoted() {
        assert!(heard(b"").unwrap().is_none());
        let release = "\"release\":\"0/20260101T000000Z-0123456789ab\"";
        for bad in [
            "{\"request\":\"give\",\"app\":\"shop\"".to_owned(),
            "\n".to_owned(),
            "{}\n".to_owned(),
            "[]\n".to_owned(),
            format!("{{\"request\":\"reboot\",\"app\":\"shop\",{release}}}\n"),
            format!("{{\"request\":\"give\",\"app\":\"../etc\",{release}}}\n"),
            format!("{{\"request\":\"give\",\"app\":\"shop\",{release},\"path\":\"/etc\"}}\n"),
            "{\"request\":\"give\",\"app\":\"shop\",\"release\":\"../../etc\"}\n".to_owned(),
            "{\"request\":\"give-shared\",\"app\":\"shop\",\"path\":\"../../etc\"}\n".to_owned(),
            "{\"request\":\"make-branch\",\"app\":\"shop\",\"branch\":\"../x\"}\n".to_owned(),
            "{\"request\":\"end-branch\",\"app\":\"shop--../x\",\"keep\":true}\n".to_owned(),
            format!("{{\"request\":\"give\",\"app\":\"shop\",{release}}}\n{{}}\n"),
            "secret".repeat(MOST / 6 + 1),
        ] {
            let error = heard(bad.as_bytes()).unwrap_err();
            assert!(!error.one_line().contains("secret"), "{}", error.one_line());
        }
    }
}
