//! `authorized_keys` of the account that is pushed to, which is root's: made anew out of the file of keys.

use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::app::server::Server;
use crate::server::keys::{self, Keys};
use crate::server::place::Place;
use crate::support::{Context, Error, Result, files, program};

/// Its text. Nothing is taken over as it stands: each key was read as the value that it is, and is made into text.
pub fn text(server: &Server) -> Result<String> {
    let program = program::program()?;
    let mut text = String::from("# Written by receiver: `receiver key` says who may come in.\n");
    for key in Keys::read(&Place::of_server()?)?.all() {
        text.push_str(&keys::line(key, &program, &server.root)?);
        text.push('\n');
    }
    Ok(text)
}

/// Makes it.
pub fn put_in_force() -> Result<bool> {
    let server = Server::read()?.ok_or_else(|| Error::new("this server was not set up"))?;
    let text = text(&server)?;
    let directory = server.door_home().join(".ssh");
    let cannot = || format!("cannot open {}", directory.display());
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open("/", flags, Mode::empty()).context(cannot)?;
    let beneath = directory.strip_prefix("/").unwrap_or(&directory);
    let opened = rustix::fs::openat2(&top, beneath, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .context(cannot)?;
    if rustix::fs::fstat(&opened).context(cannot)?.st_uid != 0 {
        return Err(Error::new(format!("{} is not root's", directory.display()))
            .hint("`sudo receiver setup` makes it so"));
    }
    let file = Path::new("/proc/self/fd").join(opened.as_raw_fd().to_string()).join("authorized_keys");
    if files::read_text(&file)?.as_deref() == Some(&text) {
        return Ok(false);
    }
    files::write_atomic(&file, text.as_bytes(), 0o644).map(|()| true)
}
