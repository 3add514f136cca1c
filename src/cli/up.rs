//! `receiver up`, `down` and `restart`: the processes of what is live.

use std::ffi::OsString;

use clap::Args;
use serde_json::json;

use super::request::DryRun;
use super::{Global, app, identity, request, talk};
use crate::app::App;
use crate::app::server::Server;
use crate::deploy::foresight::foresee;
use crate::deploy::request::{Reply, Request};
use crate::server::identity::run_as_receiver;
use crate::server::setup;
use crate::support::{Error, Result};

/// Arguments of `up`.
#[derive(Args)]
pub struct Up {
    /// The app
    #[arg(conflicts_with = "all")]
    app: Option<String>,
    /// All apps but those that somebody put down: what a boot calls. Finishes or undoes what the end of
    /// the machine interrupted
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Arguments of `down`.
#[derive(Args)]
pub struct Down {
    /// The app
    app: Option<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

/// Arguments of `restart`.
#[derive(Args)]
pub struct Restart {
    /// The app, and one of its processes: `web`, or a name from [process.NAME]; all where none is named
    #[arg(value_name = "APP] [PROCESS", num_args = 0..=2)]
    names: Vec<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

impl Up {
    /// Starts them.
    pub fn run(self, global: &Global) -> Result<u8> {
        if !self.all {
            let app = app::pick(global, self.app.as_deref())?;
            return self.dry_run.send(global, &app, &Request::Up);
        }
        self.bring_units_up(global)?;
        let (mut replies, mut failed) = (Vec::new(), Vec::new());
        let (theirs, apps) = identity::divide(global.root()?.apps()?);
        let code = if theirs.is_empty() { 0 } else { self.as_receiver(global)? };
        // One app that does not come up, or is slow, keeps no other from it.
        let booted: Vec<Result<Reply>> = std::thread::scope(|scope| {
            let booting: Vec<_> = apps.iter().map(|app| scope.spawn(|| self.boot(global, app))).collect();
            let lost = |_| Err(Error::new("the thread that started it died"));
            booting.into_iter().map(|thread| thread.join().unwrap_or_else(lost)).collect()
        });
        for (app, booted) in apps.iter().zip(booted) {
            match booted {
                Ok(reply) => {
                    reply.words.iter().for_each(|line| talk::say(global, line));
                    replies.push(reply.data);
                }
                Err(error) => {
                    talk::error(global, &error);
                    failed.push(app.name().to_string());
                }
            }
        }
        if global.json {
            talk::data(global, &json!({ "apps": replies, "failed": failed }), &[])?;
        }
        if failed.is_empty() { Ok(code) } else { Err(Error::new(format!("not up: {}", failed.join(", ")))) }
    }

    /// On a server that setup made the units may be those of the program before an upgrade.
    fn bring_units_up(&self, global: &Global) -> Result<()> {
        let there = Server::read()?.filter(|_| rustix::process::geteuid().is_root() && !self.dry_run.dry_run);
        match there {
            Some(server) if server.root == global.root()?.path() => setup::bring_units_up(&server),
            _ => Ok(()),
        }
    }

    /// Those that setup made are receiver's to start.
    fn as_receiver(&self, global: &Global) -> Result<u8> {
        let mut arguments: Vec<OsString> = vec!["--root".into(), global.root()?.path().into()];
        arguments.extend(["up".into(), "--all".into()]);
        arguments.extend(self.dry_run.dry_run.then(|| "--dry-run".into()));
        run_as_receiver(arguments)
    }

    fn boot(&self, global: &Global, app: &App) -> Result<Reply> {
        if self.dry_run.dry_run {
            foresee(app, &Request::Boot)
        } else {
            request::ask(global, app, &Request::Boot)
        }
    }
}

impl Down {
    /// Ends them.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, self.app.as_deref())?;
        self.dry_run.send(global, &app, &Request::Down)
    }
}

impl Restart {
    /// Starts them anew.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.names)?;
        let process = match rest.as_slice() {
            [] => None,
            [name] => Some(name.clone()),
            _ => return Err(Error::usage("name one process, or none")),
        };
        self.dry_run.send(global, &app, &Request::Restart { process })
    }
}
