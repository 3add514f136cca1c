//! A repository as one file, and back: what `git bundle` or `hg bundle` writes, which `git clone` or `hg clone` reads, too.
//!
//! The system itself does it: it streams, and keeps deltas as they are. It finds nothing of the machine's configuration
//! and runs no hook.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use super::hg;
use crate::app::Vcs;
use crate::support::{Context, Error, Result};

/// The branch that a repository begins with, whether it is there or not: what its HEAD names.
pub fn head(repository: &Path) -> Result<String> {
    if Vcs::of(repository) == Vcs::Mercurial {
        return Ok(Vcs::Mercurial.first_branch().to_owned());
    }
    let opened = git2::Repository::open_bare(repository);
    let opened = opened.context(|| format!("cannot open {}", repository.display()))?;
    let head = opened.find_reference("HEAD").ok();
    let target = head.and_then(|head| head.symbolic_target().ok().flatten().map(str::to_owned));
    let branch = target.and_then(|name| name.strip_prefix("refs/heads/").map(str::to_owned));
    Ok(branch.unwrap_or_else(|| "main".to_owned()))
}

/// Writes all refs of a repository, the hidden ones too, and what they hold, to a new file. Answers `false`, and writes
/// nothing, where there are none.
pub fn write(repository: &Path, to: &Path) -> Result<bool> {
    if Vcs::of(repository) == Vcs::Mercurial {
        return hg::bundle::write(repository, to);
    }
    let opened = git2::Repository::open_bare(repository);
    let opened = opened.context(|| format!("cannot open {}", repository.display()))?;
    let mut refs = opened.references().context(|| "cannot list the refs")?;
    if refs.next().is_none() {
        return Ok(false);
    }
    let mut command = git(repository);
    command.args(["bundle", "create", "--quiet"]).arg(to).arg("--all");
    run(command).context(|| format!("cannot write down {}", repository.display()))?;
    Ok(true)
}

/// Brings all refs of a bundle, and what they hold, into a new repository.
pub fn read(from: &Path, repository: &Path) -> Result<()> {
    if Vcs::of(repository) == Vcs::Mercurial {
        return hg::bundle::read(from, repository);
    }
    let mut command = git(repository);
    command.args(["-c", "fetch.fsckObjects=true", "-c", "gc.auto=0", "-c", "maintenance.auto=false"]);
    command.args(["fetch", "--quiet", "--no-tags", "--update-head-ok", "--no-write-fetch-head"]);
    command.arg(from).arg("+refs/*:refs/*");
    run(command).context(|| "the repository in the backup cannot be read")
}

/// What a bundle has not: the bookmarks of Mercurial's repository, as a text.
pub fn bookmarks(repository: &Path) -> Result<Option<Vec<u8>>> {
    match Vcs::of(repository) {
        Vcs::Git => Ok(None),
        Vcs::Mercurial => hg::bundle::bookmarks(repository).map(Some),
    }
}

/// Sets the bookmarks of such a text.
pub fn set_bookmarks(repository: &Path, text: &[u8]) -> Result<()> {
    match Vcs::of(repository) {
        Vcs::Git => Ok(()),
        Vcs::Mercurial => hg::bundle::set_bookmarks(repository, text),
    }
}

fn git(repository: &Path) -> Command {
    let mut safe = OsString::from("safe.directory=");
    safe.push(repository);
    let mut command = Command::new("git");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", "/nonexistent").env("LC_ALL", "C").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_TERMINAL_PROMPT", "0");
    command.arg("-c").arg(safe).args(["-c", "core.hooksPath=/dev/null"]).arg("-C").arg(repository);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn run(mut command: Command) -> Result<()> {
    let output = command.output().context(|| "cannot start git")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::new(format!("git: {said}")))
}
