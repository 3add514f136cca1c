//! The door: the one socket path that nginx passes requests to, a link to what answers them.
//!
//! `receiver/door.sock` → `../current/.receiver/web.sock` → `../../../../receiver/run/app/ID.sock`: what
//! is live is found by the same link as its files, so one rename switches both. For the moment in which
//! nothing may answer, the door leads to a holder's socket instead (see [`super::hold`]).

use std::path::{Path, PathBuf};

use crate::app::App;
use crate::support::{Result, files};

/// Where an open door leads to, seen from where the door is.
const OPEN: &str = "../current/.receiver/web.sock";

/// Opens the door: requests go to what is live. Harmless where it is open already.
pub fn open(app: &App) -> Result<()> {
    if is_open(app) {
        return Ok(());
    }
    // Nobody waits for the disk: a boot opens the door whatever a power cut made of it.
    files::link_unsynced(Path::new(OPEN), &app.door())
}

/// Whether the door leads to what is live. One that was never made does not.
pub fn is_open(app: &App) -> bool {
    leads_to(app).is_some_and(|target| target == Path::new(OPEN))
}

/// Points the door to a holder's socket.
pub(super) fn close(app: &App, holder: &str) -> Result<()> {
    files::link_atomic(&held_by(holder), &app.door())
}

/// Whether the door leads to this holder.
pub(super) fn is_held_by(app: &App, holder: &str) -> bool {
    leads_to(app).is_some_and(|target| target == held_by(holder))
}

/// The name of the holder's socket, seen from where the door is.
fn held_by(holder: &str) -> PathBuf {
    Path::new("run").join("hold").join(format!("{holder}.sock"))
}

fn leads_to(app: &App) -> Option<PathBuf> {
    std::fs::read_link(app.door()).ok()
}
