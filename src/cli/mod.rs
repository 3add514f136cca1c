//! The commands: one file each. Arguments, one call into the library, print.
//!
//! stdout is data, stderr is talk. The exit codes are those of design.md, section 6.

mod adopt;
mod answer;
mod app;
mod attach;
mod backup;
mod completions;
mod config;
mod create;
mod cron;
mod db;
mod demo;
mod deploy;
mod doctor;
mod env;
mod files;
mod history;
mod hold;
mod hook;
mod identity;
mod init;
mod key;
mod list;
mod logs;
mod maintenance;
mod man;
mod notify;
mod pin;
mod plan;
mod process;
mod prune;
mod remove;
mod request;
mod rights;
mod rollback;
mod root_service;
mod run;
mod serve;
mod setup;
mod shell;
mod show;
mod status;
mod talk;
mod terminal;
mod tethered;
mod up;
mod verify;
mod visit;
mod wake;
mod watch;
mod work;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::app::{Root, Sight};
use crate::server::visitor::Visitor;
use crate::support::Result;

/// `git push` to your own server: a live release, a database for each schema version, and a way back.
#[derive(Parser)]
#[command(name = "receiver", version, max_term_width = 100, after_help = AFTER, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Begin with `receiver demo`: the whole story in a temporary directory, in seconds.
Then: `receiver create APP`, add the remote that it prints, and `git push`.

Exit: 0 done, or nothing to do; 1 failed (what is live is unchanged), or something found;
2 wrong usage; 3 live, but something after the switch needs attention.";

/// What every command understands.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// The directory that the apps lie in [default: $RECEIVER_ROOT, or /srv]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print data as one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// Say only what went wrong
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more; twice: everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Who came over ssh; nobody, where it is typed on the server.
    #[arg(skip)]
    visitor: Option<Visitor>,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Global {
    /// The root that all apps lie in, as far as they are seen.
    pub fn root(&self) -> Result<Root> {
        Root::find(self.root.as_deref()).map(|root| root.seen_by(&self.sight()))
    }

    /// The apps that are seen.
    pub fn sight(&self) -> Sight {
        self.visitor.as_ref().map_or(Sight::All, |visitor| visitor.sight.clone())
    }

    /// Who it is, for the journal: a key, or the user.
    pub fn by(&self) -> String {
        self.visitor.as_ref().map_or_else(identity::who, |visitor| visitor.by().to_owned())
    }
}

#[derive(Subcommand)]
enum Command {
    /// A server from zero, in one step (as root); a second app is a second setup
    Setup(setup::Setup),
    /// Make a new app, no root needed; prints the remote to push to
    Create(create::Create),
    /// Write a receiver.toml for the framework that is found here (on the laptop)
    Init(init::Init),
    /// Deploy a revision as if it were pushed; without one, the branch's tip
    Deploy(deploy::Deploy),
    /// What a deploy would do: version, schema, stages, bytes
    Plan(plan::Plan),
    /// Back to the release that was live before, or to the one named
    Rollback(rollback::Rollback),
    /// Releases by version
    List(list::List),
    /// What is live, running, waiting, drifted
    Status(status::Status),
    /// All about one release, its output, or the configuration that holds
    Show(show::Show),
    /// The journal: every push, deploy, rollback, pin, removal
    History(history::History),
    /// What the processes print
    Logs(logs::Logs),
    /// Join a running deploy, or read the last one's end, with its exit code
    Attach(attach::Attach),
    /// Stop a running deploy cleanly
    Cancel(attach::Cancel),
    /// No deploys until further notice; every push is told why
    Lock(attach::Lock),
    /// Let deploys through again
    Unlock(attach::Unlock),
    /// Run a command in a release's environment: a console, a manage.py task
    Run(run::Run),
    /// Start what does not run of the live release
    Up(up::Up),
    /// End all processes, until `up` or the next deploy
    Down(up::Down),
    /// Start processes anew: the web process beside its older self, so that no request fails
    Restart(up::Restart),
    /// Databases, the live one's where no version is named
    Db(db::Db),
    /// Settings and secrets of stages and processes, kept on the server
    Env(env::Env),
    /// The server's own settings of an app
    Config(config::Config),
    /// A kept release beside the live one, at a port of its own, until Ctrl-C
    Serve(serve::Serve),
    /// A page for everyone, while something is done that nobody should see
    Maintenance(maintenance::Maintenance),
    /// Who may come over ssh, to which apps, and as what
    Key(key::Key),
    /// Bring a file into shared/, from stdin
    Put(files::Put),
    /// Read a file of shared/ to stdout
    Get(files::Get),
    /// All of an app as one stream: repository, settings, secrets, shared/, journal, live data
    Backup(backup::Backup),
    /// An application that is there already, with its data: a copy first, then the take-over
    Adopt(adopt::Adopt),
    /// The end of an app: all that receiver made for it; its data is kept unless told twice
    Remove(remove::Remove),
    /// Keep a release, whatever prune would do
    Pin(pin::Pin),
    /// Keep it no longer
    Unpin(pin::Unpin),
    /// Remove what is no longer kept
    Prune(prune::Prune),
    /// Compare a release with its revision, byte for byte
    Verify(verify::Verify),
    /// Look for the traps that others fell into, each with its cure
    Doctor(doctor::Doctor),
    /// Deploy what arrives by other ways than a hook
    Watch(watch::Watch),
    /// The whole story in a temporary directory, in seconds
    Demo(demo::Demo),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Print the manual page
    Man(man::Man),
    /// What ssh calls
    #[command(hide = true)]
    Shell(shell::Shell),
    /// What carries out what came over ssh
    #[command(hide = true)]
    Answer(answer::Answer),
    /// What git's hooks call
    #[command(hide = true)]
    Hook(hook::Hook),
    /// What keeps requests while the door is closed
    #[command(hide = true)]
    Hold(hold::Hold),
    /// What wakes versions that are not live
    #[command(hide = true)]
    Wake(wake::Wake),
    /// What does for receiver what only root can
    #[command(hide = true)]
    RootService(root_service::RootService),
    /// Becomes an app's user, and a command
    #[command(hide = true)]
    Become(root_service::Become),
    /// What works on an app's databases in files, as its user
    #[command(hide = true)]
    DatabaseAgent(root_service::DatabaseAgent),
    /// What does what is queued
    #[command(hide = true)]
    Work(work::Work),
    /// What runs the commands of [cron] at their times
    #[command(hide = true)]
    Cron(cron::Cron),
    /// What tells somebody of what went wrong
    #[command(hide = true)]
    Notify(notify::Notify),
    /// What keeps one process of a release running
    #[command(hide = true)]
    Process(process::Process),
    /// Becomes a program that ends when this one's parent does
    #[command(hide = true)]
    Tethered(tethered::Tethered),
}

/// Parses, starts the logger, dispatches, prints one error.
pub fn main() -> ExitCode {
    main_with(std::env::args_os())
}

fn main_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    start_logger(&cli.global);
    let global = cli.global.clone();
    ExitCode::from(finish(&global, cli.command.run(&global)))
}

/// Sees the output out, and prints the error, if it is one. Returns the exit code.
///
/// What is left for the end of the process may be lost without a word: a full disk is told to nobody then, and whoever
/// came over ssh may hang up as soon as he has the code.
fn finish(global: &Global, result: Result<u8>) -> u8 {
    result.and_then(|code| talk::flushed().map(|()| code)).unwrap_or_else(|error| {
        talk::error(global, &error);
        error.exit_code()
    })
}

fn start_logger(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let environment = env_logger::Env::new().filter_or("RUST_LOG", level);
    let style = match global.color {
        Color::Auto => env_logger::WriteStyle::Auto,
        Color::Always => env_logger::WriteStyle::Always,
        Color::Never => env_logger::WriteStyle::Never,
    };
    let _ = env_logger::Builder::from_env(environment).write_style(style).format_target(false).try_init();
}

impl Command {
    fn run(self, global: &Global) -> Result<u8> {
        match self {
            Command::Setup(args) => args.run(global),
            Command::RootService(root_service::RootService {}) => root_service::RootService::run(),
            Command::Become(args) => args.run(),
            Command::DatabaseAgent(root_service::DatabaseAgent {}) => root_service::DatabaseAgent::run(),
            Command::Create(args) => args.run(global),
            Command::Init(args) => args.run(global),
            Command::Deploy(args) => args.run(global),
            Command::Plan(args) => args.run(global),
            Command::Rollback(args) => args.run(global),
            Command::List(args) => args.run(global),
            Command::Status(args) => args.run(global),
            Command::Show(args) => args.run(global),
            Command::History(args) => args.run(global),
            Command::Logs(args) => args.run(global),
            Command::Attach(args) => args.run(global),
            Command::Cancel(args) => args.run(global),
            Command::Lock(args) => args.run(global),
            Command::Unlock(args) => args.run(global),
            Command::Run(args) => args.run(global),
            Command::Up(args) => args.run(global),
            Command::Down(args) => args.run(global),
            Command::Restart(args) => args.run(global),
            Command::Db(args) => args.run(global),
            Command::Env(args) => args.run(global),
            Command::Config(args) => args.run(global),
            Command::Serve(args) => args.run(global),
            Command::Maintenance(args) => args.run(global),
            Command::Key(args) => args.run(global),
            Command::Put(args) => args.run(global),
            Command::Get(args) => args.run(global),
            Command::Backup(args) => args.run(global),
            Command::Adopt(args) => args.run(global),
            Command::Remove(args) => args.run(global),
            Command::Pin(args) => args.run(global),
            Command::Unpin(args) => args.run(global),
            Command::Prune(args) => args.run(global),
            Command::Verify(args) => args.run(global),
            Command::Doctor(args) => args.run(global),
            Command::Watch(args) => args.run(global),
            Command::Demo(args) => args.run(global),
            Command::Completions(args) => args.run(&mut Cli::command()),
            Command::Man(man::Man {}) => man::Man::print(&Cli::command()),
            Command::Shell(args) => args.run(global),
            Command::Answer(answer::Answer {}) => answer::Answer::run(),
            Command::Hook(args) => args.run(global),
            Command::Hold(args) => args.run(global),
            Command::Wake(args) => args.run(global),
            Command::Work(args) => args.run(global),
            Command::Cron(args) => args.run(global),
            Command::Notify(args) => args.run(global),
            Command::Process(args) => args.run(global),
            Command::Tethered(args) => args.run(),
        }
    }
}
