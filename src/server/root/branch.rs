//! Apps of branches, made and taken back because somebody pushed: by the same acts as setup's, and as few as setup says.

use super::Ground;
use crate::app::server::Server;
use crate::app::{AppName, Root};
use crate::deploy::removal::Data;
use crate::server::setup::branch;
use crate::support::{Error, Result};

fn server() -> Result<Server> {
    Server::read()?.ok_or_else(|| Error::new("this server was not set up"))
}

pub(super) fn make(parent: &Ground, branch: &str) -> Result<bool> {
    branch::make(&server()?, &parent.app, branch)
}

/// What of it is there may be its user alone, after a death.
pub(super) fn end(app: &AppName, keep: bool) -> Result<bool> {
    let parent = app.parent().ok_or_else(|| Error::new(format!("{app} is not the app of a branch")))?;
    Ground::of(&parent)?;
    let server = server()?;
    let data = if keep { Data::Kept } else { Data::Removed };
    branch::end(&server, &Root::find(Some(&server.root))?.place(app), data)
}

pub(super) fn sweep(parent: &Ground) -> Result<bool> {
    branch::sweep(&server()?, parent.app.name())
}
