//! The asking side.

use std::io::Read;
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::request::{Ended, Reply, Request, Run};
use super::wire;
use crate::app::AppName;
use crate::app::server::ROOT_SOCKET;
use crate::support::{Context, Error, Result};

fn connect() -> Result<UnixStream> {
    UnixStream::connect(ROOT_SOCKET)
        .context(|| format!("cannot reach the root service at {ROOT_SOCKET}"))
        .map_err(|error| {
            error.hint("as root: `systemctl start receiver-root.socket`; `receiver setup` made it")
        })
}

fn answer(stream: &UnixStream) -> Result<Reply> {
    let reply = wire::receive::<Reply>(stream)?;
    reply.ok_or_else(|| Error::new("the root service gave no answer")).and_then(|(reply, _)| reply.result())
}

/// Asks for something, and waits until it is done; whether anything changed.
pub fn ask(request: &Request) -> Result<bool> {
    Ok(matches!(find_out(request)?, Reply::Done(true)))
}

/// Asks for what is more than done or not.
pub fn find_out(request: &Request) -> Result<Reply> {
    let stream = connect()?;
    wire::send(&stream, request, &[])?;
    answer(&stream)
}

/// Something that lasts as long as this value.
#[derive(Debug)]
pub struct Tether(#[allow(dead_code, reason = "held")] UnixStream);

/// Asks for something that lasts as long as what is returned, or this process.
pub fn tether(request: &Request) -> Result<Tether> {
    let stream = connect()?;
    wire::send(&stream, request, &[])?;
    answer(&stream).map(|_| Tether(stream))
}

/// What runs as an app's user; its end is this value's end at the latest.
#[derive(Debug)]
pub struct Running {
    stream: UnixStream,
    heard: Vec<u8>,
}

/// Runs something with this input, output and errors.
pub fn run(run: Run, beside: [BorrowedFd<'_>; 3]) -> Result<Running> {
    let stream = connect()?;
    wire::send(&stream, &Request::Run(run), &beside)?;
    Ok(Running { stream, heard: Vec::new() })
}

/// Runs what works on an app's databases in files, as its user, which is asked over `socket`.
pub fn agent(app: &AppName, socket: BorrowedFd<'_>) -> Result<Running> {
    let stream = connect()?;
    wire::send(&stream, &Request::Agent { app: app.clone() }, &[socket])?;
    Ok(Running { stream, heard: Vec::new() })
}

impl Running {
    /// Waits at most so long for its end.
    pub fn wait(&mut self, most: Duration) -> Result<Option<Ended>> {
        let cannot = || "cannot hear how a command ended";
        self.stream.set_read_timeout(Some(most.max(Duration::from_millis(1)))).context(cannot)?;
        loop {
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Error::new("the root service ended before the command did")),
                Ok(read) => self.heard.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error).context(cannot),
            }
            let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') else {
                if self.heard.len() > wire::MOST {
                    return Err(Error::new(cannot()));
                }
                continue;
            };
            let reply: Reply = serde_json::from_slice(&self.heard[..end]).context(cannot)?;
            return match reply.result()? {
                Reply::Ended(ended) => Ok(Some(ended)),
                _ => Err(Error::new(cannot())),
            };
        }
    }

    /// Asks it to end; what has not ended some seconds later is killed.
    pub fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
