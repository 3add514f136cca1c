//! The question in FastCGI, by the crate `fastcgi-client`.
//!
//! The crate speaks through `futures`' traits and needs no runtime: our stream never says that it is not
//! ready, since it waits, so each future is done when it is asked the first time.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use fastcgi_client::io::{AsyncRead, AsyncWrite};
use fastcgi_client::response::Content;
use fastcgi_client::{Client, ClientError, Params, Request, StreamExt};

use super::head::{self, Raw};
use super::stream::{Stream, broken};
use super::{BODY_TIME, Probe, Unanswered, Why};

/// Asks in FastCGI.
pub(super) fn ask(stream: Stream, probe: &Probe) -> Result<Raw, Unanswered> {
    // The crate (0.12) panics where the last record is shorter than its format says, and what is at the
    // other end is not ours.
    catch_unwind(AssertUnwindSafe(|| converse(stream, probe)))
        .unwrap_or_else(|_| Err(Unanswered::new(Why::Garbage, "what it answers is not FastCGI")))
}

fn converse(stream: Stream, probe: &Probe) -> Result<Raw, Unanswered> {
    let mut params = Params::default();
    for (name, value) in probe.variables() {
        params = params.custom(name, value);
    }
    let stream = Shared(Rc::new(RefCell::new(stream)));
    let request = Request::new(params, fastcgi_client::io::empty());
    let mut answer = at_once(Client::new(stream.clone()).execute_once_stream(request))
        .unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::WouldBlock).into()))
        .map_err(|error| unanswered(error, 0))?;
    let (mut bytes, mut complaint) = (Vec::new(), Vec::new());
    let mut complete = None;
    loop {
        match (at_once(answer.next()).flatten(), complete) {
            (Some(Ok(Content::Stdout(more))), _) => bytes.extend_from_slice(&more),
            (Some(Ok(Content::Stderr(more))), _) => complaint.extend_from_slice(&more),
            (_, Some((status, complete))) => return Ok(Raw { status, bytes, complete }),
            (Some(Err(error)), None) => return Err(unanswered(error, bytes.len())),
            (None, None) => return Err(silent(&bytes, &complaint)),
        }
        if complete.is_none()
            && let Some(status) = head::of_cgi(&bytes)?
        {
            complete = Some((status, Instant::now()));
            stream.0.borrow_mut().hurry(BODY_TIME);
        }
    }
}

/// It ended without an answer; it may have said why.
fn silent(bytes: &[u8], complaint: &[u8]) -> Unanswered {
    match head::first_lines(complaint).first() {
        Some(line) => Unanswered::new(Why::Ended, format!("it gave no answer, and complained: {line}")),
        None => broken(&io::ErrorKind::UnexpectedEof.into(), bytes.len()),
    }
}

fn unanswered(error: ClientError, so_far: usize) -> Unanswered {
    match error {
        ClientError::Io(error) => broken(&error, so_far),
        other => Unanswered::new(Why::Garbage, format!("what it answers is not FastCGI: {other}")),
    }
}

/// What a future gives that never has to wait.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The stream, which the crate takes and we still hurry.
#[derive(Clone)]
struct Shared(Rc<RefCell<Stream>>);

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.borrow_mut().read(buffer))
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(match self.0.borrow_mut().write(bytes) {
            // A server may answer and close before it read the end of the question (uwsgi does, where the
            // application does not read its input): what it answered is there to be read all the same.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                Ok(bytes.len())
            }
            other => other,
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
