//! Starts an app's waker, where none runs.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::app::App;
use crate::serve::detached::{self, Killed};
use crate::support::{Context, Result, files, program};

/// Starts the app's waker, if none runs. It ends by itself when nothing is granted any more.
pub fn ensure(app: &App) -> Result<()> {
    ensure_by(&program::program()?, app)
}

/// The same, by another file of the program.
pub fn ensure_by(program: &Path, app: &App) -> Result<()> {
    if runs(app)? {
        return Ok(());
    }
    let arguments = ["--root".into(), app.root().into(), "wake".into(), app.name().as_str().into()];
    let what = format!("wakes versions of {}", app.name());
    let child = detached::start(program, &arguments, &what, Killed::ComesBack)?;
    if let Some(mut child) = child {
        std::thread::spawn(move || child.wait());
    }
    Ok(())
}

/// Whether the app's waker runs.
pub fn runs(app: &App) -> Result<bool> {
    Ok(take(app)?.is_none())
}

/// The lock of the app's waker, where nobody has it.
pub(super) fn take(app: &App) -> Result<Option<File>> {
    files::make_directory(&app.version_sockets(), 0o711)?;
    let path = app.version_sockets().join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).context(|| format!("cannot open {}", path.display()))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).context(|| format!("cannot lock {}", path.display())),
    }
}
