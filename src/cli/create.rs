//! `receiver create`: a new app, without root.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::request::DryRun;
use super::{Global, attach, talk};
use crate::app::settings::BranchName;
use crate::app::{AppName, Root, Vcs};
use crate::deploy::backup::{self, Incoming};
use crate::deploy::{found, look, spawn};
use crate::serve::start;
use crate::server::carried;
use crate::server::place::Place;
use crate::support::{Context, Error, Result, user_name};

/// Arguments of `create`.
#[derive(Args)]
pub struct Create {
    /// The app's name: a-z, 0-9 and -, at most 24 of them
    #[arg(allow_hyphen_values = true)]
    app: String,
    /// What is pushed with
    #[arg(long, value_name = "VCS", default_value = "git")]
    vcs: Vcs,
    /// The branch that is deployed; main for git, default for Mercurial where nothing is said
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// Make it as it was: what `receiver backup` wrote, from a file or, by -, from stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vcs", "branch"])]
    restore: Option<PathBuf>,
    #[command(flatten)]
    dry: DryRun,
}

#[derive(Serialize)]
struct Created {
    app: AppName,
    #[serde(rename = "created")]
    is_new: bool,
    remote: String,
}

impl Create {
    /// Makes the app, and prints its remote.
    pub fn run(self, global: &Global) -> Result<u8> {
        let vcs = self.vcs;
        let name: AppName = self.app.parse()?;
        name.refuse_branch()?;
        let branch = self.branch.as_deref().map(str::parse::<BranchName>).transpose();
        let branch = branch.map_err(|why| Error::usage(format!("this cannot be a branch: {why}")))?;
        let root = global.root()?;
        if let Some(from) = self.restore.as_deref().filter(|_| !self.dry.dry_run) {
            return restore(global, &root, &name, from);
        }
        if self.dry.dry_run {
            let place = root.place(&name);
            let verb = if place.is_created() { "is there already, in" } else { "would be made in" };
            let words = format!("{name} {verb} {}", place.directory().display());
            talk::data(global, &json!({ "dry_run": words }), std::slice::from_ref(&words))?;
            return Ok(0);
        }
        let (app, created) = found::app(&root, &name, vcs, branch.as_ref())?;
        let remote = app.repository().display().to_string();
        let words = [remote.clone()];
        if created {
            talk::say(
                global,
                &format!("{name} is made in {}; on the laptop, or here:", app.directory().display()),
            );
            let branch = branch.as_ref().map_or(vcs.first_branch(), BranchName::as_str);
            match vcs {
                Vcs::Git => {
                    talk::say(global, &format!("  git remote add production {remote}"));
                    talk::say(global, &format!("  git push production {branch}"));
                }
                Vcs::Mercurial => {
                    talk::say(global, "  in .hg/hgrc, below [paths]:");
                    talk::say(global, &format!("  production = {remote}"));
                    talk::say(global, &format!("  hg push -b {branch} production"));
                }
            }
        } else {
            talk::say(
                global,
                &format!("{name} is there already, in {}: nothing was changed", app.directory().display()),
            );
        }
        if let Err(error) = start::refuse_long(&start::socket_of(&app)) {
            talk::say(global, &format!("warning: no web process can run here: {}", error.one_line()));
        }
        talk::data(global, &Created { app: name, is_new: created, remote }, &words)?;
        Ok(0)
    }
}

/// The stream of a backup, from a file or from stdin.
fn stream(from: &Path) -> Result<Box<dyn Read>> {
    if from != Path::new("-") {
        let file = File::open(from).context(|| format!("cannot read {}", from.display()))?;
        return Ok(Box::new(file));
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Error::usage("a backup is not typed").hint("feed it: `… --restore - < FILE`"));
    }
    Ok(Box::new(stdin))
}

/// The same, its head being read.
pub fn incoming(from: &Path) -> Result<Incoming> {
    Incoming::begin(stream(from)?)
}

/// Makes an app of a backup, and follows its first deploy to its end.
fn restore(global: &Global, root: &Root, name: &AppName, from: &Path) -> Result<u8> {
    let mut say = |line: &str| talk::say(global, line);
    let restored = backup::restore(root, name, &user_name(), &mut *stream(from)?, &mut say)?;
    let app = restored.app;
    for Ok(line) | Err(line) in carried::bring(&Place::of(root)?, &app)? {
        talk::say(global, &line);
    }
    for branch in restored.without {
        talk::say(global, &format!("note: {branch} was not in the backup; its branch is, and makes it anew"));
    }
    let code = match restored.job {
        Some(job) => {
            spawn::worker(&app)?;
            attach::follow_to_end(global, &app, &job)?
        }
        None => 0,
    };
    if look::server_settings(&app)?.domain.is_some() {
        talk::say(
            global,
            &format!("to bring its site into nginx: `receiver config {name} --site --install`"),
        );
    }
    Ok(code)
}
