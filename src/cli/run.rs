//! `receiver run`: a command in a release's environment, with the terminal that is there.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGQUIT};

use super::terminal::{self, Terminal};
use super::{Global, app};
use crate::app::App;
use crate::app::record::Record;
use crate::deploy::environment::Environment;
use crate::deploy::hand::{self, Foreign};
use crate::deploy::look::{self, Scene};
use crate::deploy::rollback;
use crate::support::lock::DirectoryLock;
use crate::support::{Context, Error, Result};

/// Arguments of `run`.
#[derive(Args)]
pub struct Run {
    /// The app
    app: Option<String>,
    /// The release to run in; the live one where none is named
    #[arg(long, value_name = "RELEASE")]
    release: Option<String>,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Run {
    /// Runs it, and passes its exit code on.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, self.app.as_deref())?;
        let scene = Scene::read(&app)?;
        let id = match &self.release {
            Some(part) => rollback::find(&scene, part)?,
            None => scene.live.clone().ok_or_else(|| Error::new("nothing is live yet"))?,
        };
        let record = scene
            .releases
            .sealed(&id)
            .ok_or_else(|| Error::new(format!("{id} is not a complete release")))?;
        let mut environment = Environment::beside(&app, record)?;
        for (name, value) in terminal(global) {
            environment.set(name, value);
        }
        if app.user().is_some() {
            return as_the_apps_user(&app, record, &environment, self.command);
        }
        let directory = app.release(&id);
        // Handed down to the command: prune leaves the release alone for as long as it runs.
        let lock =
            DirectoryLock::share(&directory)?.ok_or_else(|| Error::new(format!("{id} is being removed")))?;
        lock.inherit()?;
        // Ctrl-C is the command's: whoever interrupts a line in a console wants to stay in it.
        for signal in [SIGINT, SIGQUIT] {
            signal_hook::flag::register(signal, Arc::default()).context(|| "cannot leave signals alone")?;
        }
        let (program, arguments) = (&self.command[0], &self.command[1..]);
        let status = Command::new("/usr/bin/env")
            .arg("--")
            .arg(program)
            .args(arguments)
            .current_dir(&directory)
            .env_clear()
            .envs(environment.pairs())
            .status()
            .context(|| format!("cannot run '{}'", program.escape_default()))?;
        Ok(code(status))
    }
}

/// What is known of the terminal: here by the environment, over ssh by what came along.
fn terminal(global: &Global) -> Vec<(&'static str, String)> {
    match &global.visitor {
        Some(visitor) => visitor.terminal.iter().map(|kind| ("TERM", kind.clone())).collect(),
        None => ["TERM", "COLUMNS", "LINES"]
            .into_iter()
            .filter_map(|name| Some((name, std::env::var(name).ok()?)))
            .collect(),
    }
}

/// The same where the app has a user of its own: root does it, and it ends with us at the latest.
fn as_the_apps_user(app: &App, record: &Record, environment: &Environment, words: Vec<String>) -> Result<u8> {
    let settings = look::settings_of(app, record)?;
    let terminal = terminal::is_ours();
    let foreign =
        Foreign { app, release: &record.id, words, environment, limits: &settings.limits, terminal };
    let ended = if terminal {
        let (mut joined, other) = Terminal::open()?;
        let mut running = foreign.start(&other, &other, &other)?;
        drop(other);
        joined.join()?;
        hand::wait(&mut running)?
    } else {
        let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        hand::wait(&mut foreign.start(&input, &output, &errors)?)?
    };
    Ok(code(hand::status(ended)))
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}
