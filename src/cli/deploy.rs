//! `receiver deploy`: a push with another messenger.

use clap::Args;

use super::{Global, app, attach, plan};
use crate::app::Vcs;
use crate::deploy::look;
use crate::deploy::queue::{Options, Order};
use crate::support::{Error, Result};
use crate::vcs::Repository;

/// Arguments of `deploy`.
#[derive(Args)]
pub struct Deploy {
    /// The app, and what to deploy: a branch, a tag, a hash; the deployed branch's tip where none is named
    #[arg(value_name = "APP] [REV", num_args = 0..=2)]
    words: Vec<String>,
    /// What a push may ask for, too: schema=same|new, carry=shared, max-pause=10s
    #[arg(short, long = "option", value_name = "OPTION")]
    option: Vec<String>,
    /// Print the plan, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Deploy {
    /// Deploys, and follows it to its end.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        let options = Options::read(&self.option)?;
        let branch = look::server_settings(&app)?.branch.as_str().to_owned();
        let repository = Repository::open(&app.repository())?;
        let revision = match rest.as_slice() {
            [] => repository.tip(&branch)?.ok_or_else(|| {
                Error::new(format!("nothing was pushed to {branch} yet")).hint(match app.vcs() {
                    Vcs::Git => format!("`git push REMOTE {branch}`"),
                    Vcs::Mercurial => format!("`hg push -b {branch} REMOTE`"),
                })
            })?,
            [revision] => repository.resolve(revision)?,
            _ => return Err(Error::usage("one revision is deployed at a time")),
        };
        if self.dry_run {
            return plan::print(global, &app, &revision, &options, true);
        }
        attach::order(global, &app, Order::Deploy { branch, revision, reconcile: false }, options)
    }
}
