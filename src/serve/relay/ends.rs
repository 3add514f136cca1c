//! What every process needs that keeps many connections.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mio::net::UnixListener;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit};

use crate::support::{Context, Result};

/// As many files as may be: each held connection is one, each joined one two. Answers what it was before.
pub(in crate::serve) fn raise_files() -> Rlimit {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let most = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, most) {
        log::warn!("cannot have more files: {error}");
    }
    before
}

/// Listens, with the longest backlog that the kernel gives.
pub(in crate::serve) fn listen(path: &Path, mode: u32) -> Result<UnixListener> {
    let cannot = || format!("cannot listen on {}", path.display());
    let address = SocketAddrUnix::new(path).context(cannot)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).context(cannot)?;
    rustix::net::bind(&socket, &address).context(cannot)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).context(cannot)?;
    rustix::net::listen(&socket, i32::from(u16::MAX)).context(cannot)?;
    Ok(UnixListener::from_std(socket.into()))
}
