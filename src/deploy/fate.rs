//! What becomes of each ref of a push: it is deployed, by this app or by another, it takes a preview with
//! it, or nothing happens, or it cannot be.

use super::branches::{self, Claim, Neighbours};
use super::hook::Update;
use crate::app::settings::Settings;
use crate::app::{App, Revision};
use crate::support::{Error, Result};

/// What becomes of a ref.
#[derive(Debug)]
pub enum Fate {
    /// An app deploys it.
    Deploy(Target),
    /// It is deleted, and its preview goes with it.
    Remove(App),
    /// No app deploys it.
    Ignored,
    /// It would be deployed, and its app cannot be. This hinders no other ref.
    Unclaimed(Error),
    /// It must not be deleted.
    Undeletable(Error),
}

/// Who deploys a revision.
#[derive(Debug)]
pub struct Target {
    /// The app.
    pub app: App,
    /// The branch.
    pub branch: String,
    /// What is deployed.
    pub revision: Revision,
    /// Why another app than that of the repository.
    pub claim: Option<Claim>,
}

/// The fates of all refs of a push, in their order. Nothing is changed, and no revision looked at.
pub fn of(app: &App, settings: &Settings, updates: &[Update]) -> Result<Vec<Fate>> {
    let mut neighbours = None;
    let mut fates = Vec::new();
    for update in updates {
        let fate = match (update.name.strip_prefix("refs/heads/"), &update.new) {
            (None, _) => Fate::Ignored,
            (Some(branch), None) => deleted(app, settings, branch)?,
            (Some(branch), Some(revision)) if branch == settings.branch.as_str() => Fate::Deploy(Target {
                app: app.clone(),
                branch: branch.to_owned(),
                revision: revision.clone(),
                claim: None,
            }),
            // Most apps have none, and need no look at their neighbours.
            (Some(_), Some(_)) if settings.branches.is_empty() => Fate::Ignored,
            (Some(branch), Some(revision)) => {
                let there = match &mut neighbours {
                    Some(there) => there,
                    none => none.insert(Neighbours::read(app)?),
                };
                match branches::claim(app, settings, there, branch) {
                    Ok(None) => Fate::Ignored,
                    Ok(Some(claim)) => Fate::Deploy(Target {
                        app: claim.app.clone(),
                        branch: branch.to_owned(),
                        revision: revision.clone(),
                        claim: Some(claim),
                    }),
                    Err(error) => Fate::Unclaimed(error),
                }
            }
        };
        fates.push(fate);
    }
    Ok(fates)
}

/// A preview goes with its branch; a branch that an app deploys for good stays.
fn deleted(app: &App, settings: &Settings, branch: &str) -> Result<Fate> {
    let stays = |name: &dyn std::fmt::Display, cure: String| {
        Fate::Undeletable(Error::new(format!("{name} deploys {branch}, which cannot be deleted")).hint(cure))
    };
    if branch == settings.branch.as_str() {
        let cure =
            format!("on the server, `receiver config {} branch OTHER` deploys another one", app.name());
        return Ok(stays(app.name(), cure));
    }
    let of_branch = app.branch_apps()?.into_iter().find(|(_, lineage)| lineage.branch == branch);
    Ok(match of_branch {
        Some((preview, lineage)) if lineage.preview => Fate::Remove(preview),
        Some((other, _)) if settings.branch_for(branch).is_some_and(|(_, wanted)| wanted.app.is_some()) => {
            let cure = format!(
                "on the server, take it out of [branches] in {} first",
                app.server_config().display()
            );
            stays(other.name(), cure)
        }
        _ => Fate::Ignored,
    })
}
