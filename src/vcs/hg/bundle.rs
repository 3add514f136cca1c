//! A repository as one file, and back: what `hg bundle` writes, which `hg clone` reads, too.
//!
//! It has the changesets with their phases, the hidden ones, and what hides them. It has no bookmarks: those are a text of
//! their own, read before it, so that each names a changeset that is in it.

use std::path::Path;

use super::{Repository, server};
use crate::app::Revision;
use crate::support::{Context, Error, Result, text};

/// Writes all changesets to a new file. Answers `false`, and writes nothing, where there are none.
pub fn write(repository: &Path, to: &Path) -> Result<bool> {
    let any = Repository::open(repository)?
        .server(|server| server.ask(&[b"--hidden", b"log", b"--limit", b"1", b"-T", b"{node}"]))?;
    if any.is_empty() {
        return Ok(false);
    }
    let mut command = server::command();
    command.arg("-R").arg(repository).args(["--hidden", "bundle", "--quiet", "--all", "--type", "none-v2"]);
    // Named by Mercurial so since 4.6 and 5.0; its own tests of bundles use them.
    command.args(["--config", "experimental.bundle-phases=yes"]);
    command.args(["--config", "experimental.evolution.bundle-obsmarker=yes"]);
    run(command.arg("--").arg(to)).context(|| format!("cannot write down {}", repository.display()))?;
    Ok(true)
}

/// Brings all changesets of a bundle into a new repository. No hook runs.
pub fn read(from: &Path, repository: &Path) -> Result<()> {
    let mut command = server::command();
    command.arg("-R").arg(repository).args(["unbundle", "--quiet"]);
    command.args(["--config", "server.validate=yes", "--config", "experimental.evolution=all"]);
    run(command.arg("--").arg(from)).context(|| "the repository in the backup cannot be read")
}

/// The bookmarks, `HASH NAME` in each line.
pub fn bookmarks(repository: &Path) -> Result<Vec<u8>> {
    let repository = Repository::open(repository)?;
    repository.server(|server| server.ask(&[b"bookmarks", b"-T", b"{node} {bookmark}\\n"]))
}

/// Sets the bookmarks of such a text.
pub fn set_bookmarks(repository: &Path, listed: &[u8]) -> Result<()> {
    let repository = Repository::open(repository)?;
    for line in listed.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let (revision, name) = parsed(line).ok_or_else(|| {
            Error::new(format!("the backup has a strange bookmark: {}", text::printable_bytes(line)))
        })?;
        let words =
            [b"bookmark", b"--inactive".as_slice(), b"--force", b"--rev", revision.as_str().as_bytes()];
        let words = [&words[..], &[b"--", name]].concat();
        repository
            .server(|server| server.ask(&words))
            .context(|| "a bookmark of the backup cannot be set")?;
    }
    Ok(())
}

fn parsed(line: &[u8]) -> Option<(Revision, &[u8])> {
    let at = line.iter().position(|b| *b == b' ')?;
    let revision = std::str::from_utf8(&line[..at]).ok()?.parse().ok()?;
    Some((revision, &line[at + 1..]))
}

fn run(command: &mut std::process::Command) -> Result<()> {
    let output = command.output().map_err(server::not_started)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!("hg: {}", server::first_line(&output.stderr))))
}
