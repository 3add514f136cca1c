//! Mercurial's other end: becomes `hg serve --stdio` of an app's repository.
//!
//! Nobody's configuration is read but the repository's own, and that also where it has another owner: Mercurial
//! alone would pass over it, and say nothing.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::git::KEY_VARIABLE;
use super::keys::Role;
use super::visitor::Visitor;
use crate::app::{AppName, Root, Vcs};
use crate::deploy::found;
use crate::deploy::transaction::READ_ONLY;
use crate::support::{Error, Result, files, program};
use crate::vcs::hg;

/// Becomes Mercurial; returns only where the key does not open that, or it cannot be started.
///
/// # Errors
/// See above.
pub fn serve(root: &Root, visitor: &Visitor, app: &AppName) -> Result<()> {
    visitor.refuse_foreign(app)?;
    visitor.refuse_below(Role::Read, "a pull")?;
    let app = root.open(app)?;
    if app.vcs() != Vcs::Mercurial {
        return Err(Error::usage(format!("{} is pushed to with git", app.name())));
    }
    let settings = app.repository().join(".hg/hgrc");
    if !found::is_set_up(&files::read_text(&settings)?.unwrap_or_default()) {
        return Err(Error::new(format!("{} does not call receiver", settings.display()))
            .hint(format!("`receiver doctor {}` has the cure", app.name())));
    }
    let mut command = Command::new("hg");
    command.env_clear().envs(program::environment()).env(KEY_VARIABLE, visitor.by());
    // What is named here is trusted, whoever owns it; on its command line Mercurial takes no setting for this.
    command.env("HGRCPATH", &settings).envs([("HGENCODING", "UTF-8"), ("HGPLAIN", "1")]);
    // A pull and a push speak to the same program: who may not push is stopped where a transaction ends.
    if visitor.refuse_below(Role::Deploy, "a push").is_err() {
        command.env(READ_ONLY, "1");
    }
    let error = command.arg("-R").arg(app.repository()).args(["serve", "--stdio"]).current_dir("/").exec();
    Err(hg::not_started(error))
}
