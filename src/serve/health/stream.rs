//! A connection that is bounded in time and bytes, whoever is at its other end.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{MOST_BYTES, Unanswered, Why};

/// How long a full backlog is left alone before the next attempt.
const PAUSE: Duration = Duration::from_millis(5);

/// A connection with its end.
#[derive(Debug)]
pub(super) struct Stream {
    socket: UnixStream,
    deadline: Instant,
    left: usize,
}

impl Stream {
    /// Connects before `deadline`. A full backlog is waited for: without being asked not to, the kernel
    /// would wait for it as long as it takes.
    pub(super) fn connect(path: &Path, deadline: Instant) -> Result<Stream, Unanswered> {
        let shown = path.display();
        let refuse = |why, what: &str| Unanswered::new(why, format!("{what} {shown}"));
        let address = SocketAddrUnix::new(path).map_err(|_| refuse(Why::NotThere, "no socket can be at"))?;
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                .map_err(|error| {
                    Unanswered::new(Why::TooSlow, format!("cannot make a socket: {}", io::Error::from(error)))
                })?;
            match rustix::net::connect(&socket, &address) {
                Ok(()) => {
                    let socket = UnixStream::from(socket);
                    socket
                        .set_nonblocking(false)
                        .map_err(|_| refuse(Why::Refused, "cannot wait for an answer of"))?;
                    return Ok(Stream { socket, deadline, left: MOST_BYTES });
                }
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(Errno::AGAIN) => return Err(refuse(Why::TooSlow, "nobody takes a connection of")),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    return Err(refuse(Why::NotThere, "no socket is at"));
                }
                Err(Errno::CONNREFUSED) => return Err(refuse(Why::Refused, "nobody listens on")),
                Err(error) => {
                    let why = io::Error::from(error);
                    return Err(Unanswered::new(Why::Refused, format!("cannot connect to {shown}: {why}")));
                }
            }
        }
    }

    /// The head is complete: what comes now is waited for no longer than `time`.
    pub(super) fn hurry(&mut self, time: Duration) {
        self.deadline = self.deadline.min(Instant::now() + time);
    }

    fn time_left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// One word for the time that is over: sockets call it `WouldBlock`.
fn in_time<T>(result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    })
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.socket.set_read_timeout(Some(self.time_left()?))?;
        let most = buffer.len().min(self.left);
        let read = in_time(self.socket.read(&mut buffer[..most]))?;
        self.left -= read;
        Ok(read)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.time_left()?))?;
        in_time(self.socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why an answer is not whole, in words.
pub(super) fn broken(error: &io::Error, so_far: usize) -> Unanswered {
    let came = match so_far {
        0 => "not a byte of an answer came".to_owned(),
        count => format!("the head of the answer was not complete after {count} bytes"),
    };
    match error.kind() {
        ErrorKind::TimedOut => Unanswered::new(Why::TooSlow, format!("it took too long: {came}")),
        ErrorKind::FileTooLarge => {
            Unanswered::new(Why::Garbage, format!("the head of the answer is longer than {MOST_BYTES} bytes"))
        }
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            Unanswered::new(Why::Ended, format!("it closed the connection: {came}"))
        }
        _ => Unanswered::new(Why::Ended, format!("{came}: {error}")),
    }
}
