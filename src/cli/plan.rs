//! `receiver plan`: what a deploy would do.

use clap::Args;

use super::{Global, app, talk};
use crate::app::{App, Revision};
use crate::deploy::look::{self, Scene, Submodules};
use crate::deploy::queue::Options;
use crate::support::{Error, Result};
use crate::vcs::Repository;

/// Arguments of `plan`.
#[derive(Args)]
pub struct Plan {
    /// The app, and a revision; the deployed branch's tip where none is named
    #[arg(value_name = "APP] [REV", num_args = 0..=2)]
    words: Vec<String>,
    /// What a push may ask for, too: schema=same|new, carry=shared, max-pause=10s
    #[arg(short, long = "option", value_name = "OPTION")]
    option: Vec<String>,
}

impl Plan {
    /// Prints the plan.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        let options = Options::read(&self.option)?;
        let branch = look::server_settings(&app)?.branch.as_str().to_owned();
        let repository = Repository::open(&app.repository())?;
        let revision = match rest.first() {
            Some(name) => repository.resolve(name)?,
            None => repository
                .tip(&branch)?
                .ok_or_else(|| Error::new(format!("nothing was pushed to {branch} yet")))?,
        };
        print(global, &app, &revision, &options, false)
    }
}

/// Prints what a deploy of a revision would do. Nothing is changed.
pub fn print(global: &Global, app: &App, revision: &Revision, options: &Options, again: bool) -> Result<u8> {
    let repository = Repository::open(&app.repository())?;
    let scene = Scene::read(app)?;
    let request = look::Request { revision, options, again, submodules: Submodules::Judge, unborn: None };
    let look = look::at(app, &repository, &scene, &request)?;
    talk::data(global, &look.plan, &look.plan.words())?;
    Ok(0)
}
