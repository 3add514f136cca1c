//! What a listening socket still has to do, as the kernel tells it in /proc/net/unix.
//!
//! An accepted connection stands there under the path that its listener was bound to in state 03; one
//! that waits to be accepted in state 02 with inode 0, and will be served, too (unix(7), and tried on
//! Linux 6). The clients' own ends have no path.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::support::{Context, Result};

/// What a listener still has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Connections that it accepted and that are still open: running requests.
    pub running: usize,
    /// Connections that nobody accepted yet.
    pub waiting: usize,
    /// Whether somebody listens.
    pub listens: bool,
}

impl Backlog {
    /// Requests that are not answered yet.
    pub fn total(self) -> usize {
        self.running + self.waiting
    }
}

/// Looks at the socket that was bound to `path`, by exactly this path.
pub fn on(path: &Path) -> Result<Backlog> {
    let table = std::fs::read("/proc/net/unix").context(|| "cannot read /proc/net/unix")?;
    Ok(count(&table, path.as_os_str().as_bytes()))
}

fn count(table: &[u8], path: &[u8]) -> Backlog {
    let mut backlog = Backlog::default();
    for line in table.split(|byte| *byte == b'\n') {
        let Some((state, bound)) = state_and_path(line) else { continue };
        if bound != path {
            continue;
        }
        match state {
            b"01" => backlog.listens = true,
            b"02" => backlog.waiting += 1,
            b"03" => backlog.running += 1,
            _ => {}
        }
    }
    backlog
}

/// `Num RefCount Protocol Flags Type St Inode Path`: the inode is padded with blanks on its left, and
/// one blank comes before the path, which may hold others.
fn state_and_path(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = line;
    let mut state: &[u8] = b"";
    for column in 0..7 {
        let begin = rest.iter().position(|byte| *byte != b' ')?;
        let end = begin + rest[begin..].iter().position(|byte| *byte == b' ')?;
        if column == 5 {
            state = &rest[begin..end];
        }
        rest = &rest[end..];
    }
    Some((state, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn what_waits_and_what_runs_is_counted_apart_on_a_path_with_blanks() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a  socket ");
        let other = place.path().join("a");
        assert_eq!(on(&path).unwrap(), Backlog::default());
        let _other = UnixListener::bind(&other).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(on(&path).unwrap(), Backlog { running: 0, waiting: 0, listens: true });
        let mut clients: Vec<_> = (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
        clients[0].write_all(b"x").unwrap();
        assert_eq!(on(&path).unwrap(), Backlog { running: 0, waiting: 5, listens: true });
        let accepted: Vec<_> = (0..2).map(|_| listener.accept().unwrap()).collect();
        assert_eq!(on(&path).unwrap(), Backlog { running: 2, waiting: 3, listens: true });
        // Running requests are there as long as the server has them, whoever listens.
        drop(listener);
        let left = on(&path).unwrap();
        assert_eq!((left.running, left.listens), (2, false));
        drop(accepted);
        assert_eq!(on(&path).unwrap().total(), 0);
        assert_eq!(on(&other).unwrap(), Backlog { running: 0, waiting: 0, listens: true });
    }

    #[test]
    fn lines_that_are_no_sockets_count_nothing() {
        assert_eq!(
            count(b"Num       RefCount Protocol Flags    Type St Inode Path\n\nx\n", b"Path"),
            Backlog::default()
        );
    }
}
