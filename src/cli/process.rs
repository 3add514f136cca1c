//! `receiver process …`: what keeps one process of a release running, and a look at it by hand.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Global, app, talk};
use crate::app::App;
use crate::app::server::RECEIVER;
use crate::deploy::environment::{Environment, Subject};
use crate::deploy::look::{self, Scene};
use crate::serve::start::{Purpose, Start, Wanted};
use crate::serve::{exec, keep, supervision, systemd};
use crate::support::accounts::Account;
use crate::support::text::printable;
use crate::support::{Error, Result};

/// Arguments of `process`.
#[derive(Args)]
pub struct Process {
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Receiver's own supervisor of a start
    Keep {
        /// What is written down of the start
        file: PathBuf,
    },
    /// Becomes the command of a start
    Run {
        /// What is written down of the start
        file: PathBuf,
        /// Whose death is to be its own
        #[arg(long)]
        parent: Option<u32>,
    },
    /// Lets nginx in where it listens, as soon as it does; returns at once
    Admit {
        /// The socket
        socket: PathBuf,
        /// It is the one who waits
        #[arg(long)]
        wait: bool,
    },
    /// Writes down how it ended: what systemd calls then
    Ended {
        /// What is written down of the start
        file: PathBuf,
    },
    /// Writes down a start of a command in the live release, and prints where
    Begin(Begin),
    /// Starts it
    Start {
        /// What is written down of the start
        file: PathBuf,
    },
    /// How it fares
    Condition {
        /// What is written down of the start
        file: PathBuf,
    },
    /// What it printed last
    Output {
        /// What is written down of the start
        file: PathBuf,
    },
    /// Ends it
    Stop {
        /// What is written down of the start
        file: PathBuf,
    },
}

#[derive(Args)]
struct Begin {
    /// The app
    app: String,
    /// The process
    process: String,
    /// Its command
    command: String,
    /// How long it has to end
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    patience: f64,
    /// What it is for
    #[arg(long, value_enum, default_value = "live")]
    purpose: WantedPurpose,
}

#[derive(Clone, Copy, ValueEnum)]
enum WantedPurpose {
    /// To be live.
    Live,
    /// For as long as whoever starts it lives.
    Beside,
}

impl Process {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<u8> {
        match self.act {
            Act::Keep { file } => keep::keep(&file).map(|()| 0),
            Act::Run { file, parent } => match exec::run(&file, parent)? {},
            Act::Admit { socket, wait: true } => exec::admit(&socket).map(|()| 0),
            Act::Admit { socket, wait: false } => exec::wait_to_admit(&socket).map(|()| 0),
            Act::Ended { file } => {
                let (app, start) = read(&file)?;
                // What systemd calls is root, and what is written is receiver's.
                if app.user().is_some() && rustix::process::geteuid().is_root() {
                    Account::want(RECEIVER)?.assume()?;
                }
                let said = |name| std::env::var(name).unwrap_or_default();
                systemd::ended(&app, &start, &said("EXIT_CODE"), &said("EXIT_STATUS")).map(|()| 0)
            }
            Act::Begin(begin) => begin.run(global),
            Act::Start { file } => {
                let (app, start) = read(&file)?;
                supervision::of(&app).start(&start)?;
                if start.purpose == Purpose::Beside {
                    // Until somebody ends us.
                    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
                }
                Ok(0)
            }
            Act::Condition { file } => {
                let (app, start) = read(&file)?;
                let condition = supervision::of(&app).condition(&start)?;
                talk::data(global, &condition, &[format!("{condition:?}")]).map(|()| 0)
            }
            Act::Output { file } => {
                let (app, start) = read(&file)?;
                let lines = supervision::of(&app).last_output(&start, 20)?;
                let words: Vec<String> = lines.iter().map(|line| printable(line)).collect();
                talk::data(global, &lines, &words).map(|()| 0)
            }
            Act::Stop { file } => {
                let (app, start) = read(&file)?;
                supervision::of(&app).stop(&start).map(|()| 0)
            }
        }
    }
}

fn read(file: &std::path::Path) -> Result<(App, Start)> {
    let app = App::of_process(file)?;
    let start = Start::read(file)?.ok_or_else(|| Error::new(format!("there is no {}", file.display())))?;
    Ok((app, start))
}

impl Begin {
    fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, Some(&self.app))?;
        let scene = Scene::read(&app)?;
        let id = scene.live.clone().ok_or_else(|| Error::new("nothing is live yet"))?;
        let record = scene.releases.sealed(&id).ok_or_else(|| Error::new(format!("{id} is not complete")))?;
        let subject = Subject { id: &id, revision: &record.revision, branch: &record.branch, previous: None };
        let start = Start::begin(
            &app,
            Wanted {
                process: &self.process,
                release: &id,
                purpose: match self.purpose {
                    WantedPurpose::Live => Purpose::Live,
                    WantedPurpose::Beside => Purpose::Beside,
                },
                command: &self.command,
                environment: Environment::of(&app, &subject)?.pairs(),
                patience: Duration::try_from_secs_f64(self.patience).unwrap_or_default(),
                limits: &look::server_settings(&app)?.limits,
            },
        )?;
        let file = start.file(&app).display().to_string();
        talk::data(global, &file, std::slice::from_ref(&file)).map(|()| 0)
    }
}
