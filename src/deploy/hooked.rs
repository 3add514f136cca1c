//! Whether pushes reach receiver: the system's program, its hooks, and who owns the repository.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::doctor::Finding;
use super::found;
use super::look::Scene;
use crate::app::server::{RECEIVER, Server};
use crate::app::{App, Vcs};
use crate::support::accounts::Account;
use crate::support::files;
use crate::vcs::hg;

/// The system's own program.
pub fn program(app: &App) -> Vec<Finding> {
    let (name, seen, install) = match app.vcs() {
        Vcs::Git => {
            let seen = duct::cmd!("git", "--version").stderr_null().read();
            ("git", seen.map_err(|_| "git is not installed".to_owned()), "install it: `apt install git`")
        }
        Vcs::Mercurial => {
            let seen = hg::version().map(|version| format!("Mercurial {version}"));
            ("hg", seen.map_err(|error| error.one_line()), "install it: `apt install mercurial`")
        }
    };
    match seen {
        Ok(version) => vec![Finding::fine(name, version)],
        Err(what) => vec![Finding::trouble(name, what, install)],
    }
}

/// A push does nothing at all where its hooks are not what they were made as.
pub fn hooks(app: &App) -> Vec<Finding> {
    let mut findings = match app.vcs() {
        Vcs::Git => git_hooks(app),
        Vcs::Mercurial => [mercurial_hooks(app), stripped(app)].concat(),
    };
    if findings.is_empty() {
        findings.push(Finding::fine("hooks", "in place"));
    }
    findings
}

/// The link to receiver that hooks are called by.
fn linked(place: &Path) -> Option<Finding> {
    let program = place.join("receiver");
    let runs = std::fs::metadata(&program).is_ok_and(|about| about.permissions().mode() & 0o111 != 0);
    let cure = format!("`ln -sfn $(command -v receiver) {}`", program.display());
    (!runs).then(|| Finding::trouble("hooks", format!("{} leads to no program", program.display()), cure))
}

fn git_hooks(app: &App) -> Vec<Finding> {
    let place = app.repository().join("hooks");
    let mut findings = Vec::new();
    let again = format!(
        "`receiver create {}` in another root shows how they are made; copy hooks/ from there",
        app.name().parent().unwrap_or_else(|| app.name().clone())
    );
    for (name, text) in found::HOOKS {
        let path = place.join(name);
        let same = files::read_text(&path).ok().flatten().is_some_and(|there| there == text);
        let runs = std::fs::metadata(&path).is_ok_and(|about| about.permissions().mode() & 0o111 != 0);
        if !same || !runs {
            findings.push(Finding::trouble(
                "hooks",
                format!("{} is not receiver's, or cannot run", path.display()),
                again.clone(),
            ));
        }
    }
    findings.extend(linked(&place));
    let effective =
        duct::cmd!("git", "config", "core.hooksPath").dir(app.repository()).env("GIT_DIR", ".").read();
    if effective.as_deref().ok() != Some("hooks") {
        let cure = format!("`git -C {} config core.hooksPath hooks`", app.repository().display());
        findings.push(Finding::trouble(
            "hooks",
            "the repository looks for its hooks elsewhere, so they never run",
            cure,
        ));
    }
    findings
}

/// Mercurial reads no settings of a repository that belong to somebody else, and says nothing of it.
fn mercurial_hooks(app: &App) -> Vec<Finding> {
    let repository = app.repository();
    let file = repository.join(".hg/hgrc");
    let mut findings: Vec<Finding> = linked(&repository.join(".hg/hooks")).into_iter().collect();
    let text = files::read_text(&file).ok().flatten().unwrap_or_default();
    if !found::is_set_up(&text) {
        findings.push(Finding::trouble(
            "hooks",
            format!("{} does not call receiver", file.display()),
            format!("write this into it:\n{}", found::HGRC),
        ));
    }
    let pushes = pushing(app);
    if std::fs::metadata(&file).is_ok_and(|about| about.uid() != pushes) {
        findings.push(Finding::trouble(
            "hooks",
            format!(
                "{} belongs to somebody else: Mercurial does not read it, and no hook runs",
                file.display()
            ),
            format!("as root: `chown {pushes} {}`", file.display()),
        ));
    }
    findings
}

/// Who runs the hooks: the account that is pushed to, where setup made one for it, or else we.
fn pushing(app: &App) -> u32 {
    let server = app.user().and_then(|_| Server::read().ok().flatten());
    let account = server.and_then(|server| Account::named(&server.account).ok().flatten());
    account.map_or_else(|| rustix::process::getuid().as_raw(), |account| account.uid)
}

/// Mercurial throws nothing away by itself; `hg strip` does.
fn stripped(app: &App) -> Vec<Finding> {
    let (Ok(scene), Ok(repository)) = (Scene::read(app), hg::Repository::open(&app.repository())) else {
        return Vec::new();
    };
    let gone = scene.releases.standing.iter().filter(|record| !repository.knows(&record.revision));
    gone.map(|record| {
        Finding::trouble(
            "revision",
            format!(
                "the changeset {} of {} is not in the repository any more",
                record.revision.short(),
                record.id
            ),
            "push it again; the release itself stays as it is, and so does what is kept of its files",
        )
    })
    .collect()
}

/// Who owns what pushes write to.
pub fn owner(app: &App) -> Vec<Finding> {
    if let Some(user) = app.user() {
        return owners(app, &user);
    }
    let me = rustix::process::getuid().as_raw();
    let other = [app.repository(), app.versions(), app.queue(), app.shared()]
        .into_iter()
        .find(|path| std::fs::symlink_metadata(path).is_ok_and(|about| about.uid() != me));
    match other {
        None => vec![Finding::fine("owner", "everything belongs to you")],
        Some(path) => vec![Finding::trouble(
            "owner",
            format!(
                "{} belongs to somebody else: git refuses it, or its files cannot be removed",
                path.display()
            ),
            format!("as root: `chown -R {me} {}`", app.directory().display()),
        )],
    }
}

/// On a server that setup made, each part has its own.
fn owners(app: &App, user: &str) -> Vec<Finding> {
    let uid = |name: &str| Account::named(name).ok().flatten().map(|account| account.uid);
    let (receiver, user) = (uid(RECEIVER), uid(user));
    let parts = [
        (app.versions(), receiver),
        (app.state("secrets"), receiver),
        (app.shared(), user),
        (app.run_app(), user),
    ];
    let belongs = |path: &Path| std::fs::symlink_metadata(path).ok().map(|about| about.uid());
    match parts.into_iter().find(|(path, uid)| uid.is_none() || belongs(path) != *uid) {
        None => vec![Finding::fine("owner", "each part belongs to whom setup gave it")],
        Some((path, _)) => vec![Finding::trouble(
            "owner",
            format!("{} belongs to somebody else than setup gave it to", path.display()),
            format!("`sudo receiver setup {}` gives it back", app.name()),
        )],
    }
}
