//! What goes over the socket between the account for ssh and receiver's own: a message in a packet, JSON, with its
//! format's number. The three streams go along with the first.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::keys::KeyName;
use super::words;
use crate::app::layout::FORMAT;
use crate::support::{Context, Error, Result, beside};

/// The longest message: a command, every character of it escaped.
const MOST_BYTES: usize = 2 * words::MOST_BYTES + 4096;

/// What is asked first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The number of the format.
    pub format: u32,
    /// By whom; nobody is root himself.
    pub key: Option<KeyName>,
    /// The command.
    pub words: Vec<String>,
    /// What kind of terminal there is, if any.
    pub terminal: Option<String>,
}

impl Ask {
    /// A command, of today's format.
    pub fn new(key: Option<KeyName>, words: Vec<String>, terminal: Option<String>) -> Ask {
        Ask { format: FORMAT, key, words, terminal }
    }
}

/// What is said after that, by whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// A signal that came from the terminal.
    pub signal: i32,
}

/// The last thing that is said, by who carried it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The command's exit code.
    pub code: u8,
}

/// Input, output and errors.
pub type Streams<T> = [T; 3];

/// Connects to the socket at `path`.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let cannot = || format!("cannot reach receiver at {}", path.display());
    let hint = "`systemctl status receiver-command.socket` says why";
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context(cannot)?;
    let address = SocketAddrUnix::new(path).context(cannot)?;
    rustix::net::connect(&socket, &address).context(cannot).map_err(|error| error.hint(hint))?;
    Ok(socket)
}

/// Sends a message, and with it streams where there are any.
pub fn send(
    socket: &impl AsFd,
    message: &impl Serialize,
    streams: Option<Streams<BorrowedFd>>,
) -> Result<()> {
    let text = serde_json::to_vec(message).context(|| "cannot write down what is sent")?;
    if text.len() > MOST_BYTES {
        return Err(Error::usage("the command is too long"));
    }
    let streams = streams.as_ref().map_or(&[][..], |streams| &streams[..]);
    // A packet goes whole or not at all.
    beside::send(socket, &text, streams).context(|| "nobody takes what is sent")?;
    Ok(())
}

/// Waits for a message; `None` where the other end is gone.
pub fn receive<T: DeserializeOwned>(socket: &impl AsFd) -> Result<Option<T>> {
    receive_with_streams(socket).map(|received| received.map(|(message, _)| message))
}

/// The same, with the streams that came along: three, or none.
pub fn receive_with_streams<T: DeserializeOwned>(
    socket: &impl AsFd,
) -> Result<Option<(T, Option<Streams<OwnedFd>>)>> {
    let mut text = vec![0; MOST_BYTES];
    let received = beside::receive(socket, &mut text);
    // Gone, with something unread of ours.
    if received.as_ref().is_err_and(|error| *error == rustix::io::Errno::CONNRESET) {
        return Ok(None);
    }
    let received = received.context(|| "cannot read what was sent")?;
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.cut {
        return Err(Error::new("what was sent is too long"));
    }
    let message = read(&text[..received.bytes])?;
    match <Streams<OwnedFd>>::try_from(received.beside) {
        Ok(streams) => Ok(Some((message, Some(streams)))),
        Err(none) if none.is_empty() => Ok(Some((message, None))),
        Err(_) => Err(Error::new("what was sent has not three streams")),
    }
}

/// Reads the text of a message.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).context(|| "what was sent is not understood")
}
