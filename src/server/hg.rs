//! Mercurial's other end: becomes `hg serve --stdio` of an app's repository.
//!
//! Nobody's configuration is read but the repository's own, and receiver's hooks are set here once more: Mercurial
//! reads no `hgrc` of another owner, and says nothing of it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::git::KEY_VARIABLE;
use super::keys::Role;
use super::visitor::Visitor;
use crate::app::{AppName, Root, Vcs};
use crate::deploy::found;
use crate::support::{Error, Result, program};
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
    let mut command = Command::new("hg");
    command.env_clear().envs(program::environment()).env(KEY_VARIABLE, visitor.by());
    command.envs([("HGRCPATH", ""), ("HGENCODING", "UTF-8"), ("HGPLAIN", "1")]);
    for setting in settings(found::HGRC) {
        command.args(["--config", &setting]);
    }
    // A pull and a push speak to the same program: who may not push is stopped where a transaction begins.
    if visitor.refuse_below(Role::Deploy, "a push").is_err() {
        command.args(["--config", "hooks.pretxnopen.receiver=echo 'this key may not push' >&2; false"]);
    }
    let error = command.arg("-R").arg(app.repository()).args(["serve", "--stdio"]).current_dir("/").exec();
    Err(hg::not_started(error))
}

/// `SECTION.KEY=VALUE` for each line of a file of settings that receiver wrote.
fn settings(file: &str) -> Vec<String> {
    let mut section = "";
    let mut settings = Vec::new();
    for line in file.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once(" = ") {
            settings.push(format!("{section}.{key}={value}"));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_repository_is_set_up_with_is_said_again() {
        let said = settings(found::HGRC);
        assert!(
            said.contains(&"hooks.txnclose.receiver=.hg/hooks/receiver hook txnclose".to_owned()),
            "{said:?}"
        );
        assert!(said.contains(&"push.pushvars.server=yes".to_owned()));
        assert_eq!(said.len(), found::HGRC.matches(" = ").count());
    }
}
