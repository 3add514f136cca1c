//! The app of a branch, on a server that was set up: made because somebody pushed, with all that setup makes for an app,
//! and taken back with it.
//!
//! What decides is root's own or the parent's file on the server: the parent is an app that setup made, its `[branches]`
//! wants an app for the branch, its name follows from the branch, and there are not too many of them. One at a time is
//! made or taken back, so that what is half there is nobody's work under way: it is made good by who comes next.

use std::path::PathBuf;

use super::act::Act;
use super::apps::{Owned, Queue};
use super::places::{Unit, own};
use super::plan::people;
use super::{State, run, undo};
use crate::app::server::{self, COMMENT, HOME, Server};
use crate::app::{App, AppName, Root};
use crate::deploy::branches::{self, Claim, Neighbours};
use crate::deploy::removal::{self, Data};
use crate::deploy::{db, found, look, site};
use crate::serve::systemd;
use crate::server::identity;
use crate::support::accounts::Account;
use crate::support::lock::DirectoryLock;
use crate::support::{Error, Result};

/// How many apps of branches a server may have, whatever the settings of its apps say: each costs three numbers of the
/// few that a system has for its own accounts.
const MOST: usize = 100;

/// The app itself.
struct Branched {
    app: App,
    /// What it is made for; absent where it is there, and only to be taken back.
    claim: Option<Claim>,
    server: Server,
}

impl Act for Branched {
    fn what(&self) -> String {
        format!("app        {}", self.app.directory().display())
    }

    fn is_done(&self) -> Result<bool> {
        if self.app.is_created() {
            return match self.app.user() {
                Some(_) => self.app.lineage().map(|_| true),
                None => Err(Error::new(format!(
                    "{} is there already, and belongs to one user: it was not touched",
                    self.app.name()
                ))),
            };
        }
        found::refuse_taken(self.app.directory()).map(|()| false)
    }

    fn perform(&self) -> Result<()> {
        let Some(claim) = &self.claim else {
            return Err(Error::new(format!("nobody wants the app {}", self.app.name())));
        };
        let vcs = self.app.vcs();
        let give = &mut |made: &App| Owned::new(made.clone(), vcs, &self.server).perform();
        found::branch_app_of(&self.app, &claim.lineage, claim.beginning(), give)
    }

    fn undo(&self) -> Result<bool> {
        if self.app.user().is_none() {
            return Ok(false);
        }
        let ended = self.app.clone();
        identity::as_receiver(move || db::remove_all(&ended))?;
        removal::leave(&self.app, Data::Removed).map(|_| true)
    }

    fn is_data(&self) -> bool {
        true
    }
}

/// What there is to be for an app of a branch. Its user comes first, and goes last: who has one is known by it. The app
/// comes after the unit that looks at its queue: once it is there, it is there wholly.
fn acts(server: &Server, app: &App, claim: Option<Claim>, queue: Box<dyn Act>) -> Vec<Box<dyn Act>> {
    let mut acts: Vec<Box<dyn Act>> = Vec::new();
    people(server, app.name(), &mut acts);
    let branched = Branched { app: app.clone(), claim, server: server.clone() };
    let owned = Owned::new(app.clone(), app.vcs(), server);
    // What runs of it ends before all else.
    if branched.claim.is_some() {
        acts.extend([queue, Box::new(branched), Box::new(owned)]);
    } else {
        acts.extend([Box::new(branched) as Box<dyn Act>, Box::new(owned), queue]);
    }
    acts
}

fn queue(app: &App) -> Unit {
    Unit { name: systemd::queue_unit(app), now: true }
}

/// Nobody else makes or takes back an app of a branch meanwhile.
fn alone() -> Result<DirectoryLock> {
    DirectoryLock::wait(&PathBuf::from(HOME).join("home"))
}

/// Makes the app of a branch of `parent`, or what of it is missing; whether anything was.
pub fn make(server: &Server, parent: &App, branch: &str) -> Result<bool> {
    let _alone = alone()?;
    if parent.name().parent().is_some() {
        return Err(Error::new(format!("{} is the app of a branch itself, and has none", parent.name())));
    }
    let settings = look::server_settings(parent)?;
    let claim = branches::claim(parent, &settings, &mut Neighbours::read(parent)?, branch)?
        .ok_or_else(|| Error::new(format!("[branches] of {} says nothing of that branch", parent.name())))?;
    let app = claim.app.clone();
    let others = accounts()?.into_iter().filter(|name| name != app.name()).count();
    if claim.is_new && others >= MOST {
        return Err(Error::new(format!("this server has {others} apps of branches, and no more may be"))
            .hint("delete branches that have one, of this or of another app"));
    }
    let all = acts(server, &app, Some(claim), Box::new(queue(&app)));
    let slow = |what: &str| log::info!("making {what}");
    Ok(run(&all, false, &mut |_, _| {}, &slow)?.count(State::Made) > 0)
}

/// Takes the app of a branch back, whose processes have ended and whose databases are gone; whether anything was there.
pub fn end(server: &Server, app: &App, data: Data) -> Result<bool> {
    let _alone = alone()?;
    take_back(server, app, data)
}

fn take_back(server: &Server, app: &App, data: Data) -> Result<bool> {
    if app.name().parent().is_none() {
        return Err(Error::new(format!("{} is not the app of a branch", app.name())));
    }
    let is_there = app.is_created();
    if is_there {
        if app.user().is_none() {
            return Err(Error::new(format!("setup did not make {}", app.name())));
        }
        app.lineage()?;
        site::take_back(app)?;
    }
    queue(app).undo()?;
    if is_there {
        removal::leave(app, data)?;
    }
    // Whoever gets the numbers of its user and groups finds what is kept of it closed.
    for place in removal::kept(app)? {
        own(&place, 0, 0, 0o700)?;
    }
    removal::sweep(app)?;
    let gone = undo(&acts(server, app, None, Box::new(queue(app))), true, false, &mut |_, _| {})?;
    Ok(is_there || gone.count(State::TakenBack) > 0)
}

/// Takes back what is there of apps of branches of `parent` that were never wholly made, or not wholly taken back.
pub fn sweep(server: &Server, parent: &AppName) -> Result<bool> {
    let _alone = alone()?;
    let mut any = false;
    for app in of_parent(server, parent)?.iter().filter(|app| !app.is_created()) {
        any |= take_back(server, app, Data::Removed)?;
    }
    Ok(any)
}

/// The apps of `parent`'s branches of which there is anything.
pub fn of_parent(server: &Server, parent: &AppName) -> Result<Vec<App>> {
    let root = Root::find(Some(&server.root))?;
    let ours = accounts()?.into_iter().filter(|name| name.parent().as_ref() == Some(parent));
    Ok(ours.map(|name| root.place(&name)).collect())
}

/// What there is of one that is there, for setup to look after, and to take back.
pub fn of_app(server: &Server, app: &App) -> Vec<Box<dyn Act>> {
    acts(server, app, None, Box::new(Queue::of(app)))
}

/// The apps of branches that have a user of their own, by these users.
fn accounts() -> Result<Vec<AppName>> {
    let name = |account: Account| {
        let name: AppName = account.name.strip_prefix("app-")?.parse().ok()?;
        let ours = account.comment == COMMENT && account.home == server::home_of(&name);
        (ours && name.parent().is_some()).then_some(name)
    };
    Ok(Account::all()?.into_iter().filter_map(name).collect())
}
