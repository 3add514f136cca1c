//! `receiver setup`: a server from zero, in one step.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;
use serde_json::json;

use super::create::incoming;
use super::{Global, talk};
use crate::app::server::Server;
use crate::app::settings::{BranchName, Domain};
use crate::app::{AppName, Root, Vcs};
use crate::deploy::look;
use crate::server::keys::KeyName;
use crate::server::pubkey::PublicKey;
use crate::server::setup::{self, Engine, State, Wanted};
use crate::support::{Error, Result, user_name};

/// Arguments of `setup`.
#[derive(Args)]
#[command(after_help = "\
It may be called again and again: what is there is left alone, and said to be. Whatever others made is never altered.
--undo takes back what it made, of the app that is named or of the whole server, and leaves all data; with --data, too,
it takes that.

Example: sudo receiver setup agroguia --domain agroguia.example --database mysql")]
pub struct Setup {
    /// The app; without one, the server alone
    app: Option<String>,
    /// The host that the app answers for
    #[arg(long, value_name = "D", requires = "app")]
    domain: Option<String>,
    /// What keeps its data
    #[arg(long, value_name = "E", value_enum, requires = "app")]
    database: Option<Engine>,
    /// The branch that is deployed
    #[arg(long, value_name = "B", requires = "app")]
    branch: Option<String>,
    /// Get a certificate for the domain, and tell its authority this address
    #[arg(long, value_name = "E", requires = "domain")]
    email: Option<String>,
    /// The public keys that open everything [default: those by which who runs sudo came in]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The account that is pushed to [default: deploy]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Make the app as it was: what `receiver backup` wrote, from a file or, by -, from stdin
    #[arg(long, value_name = "FILE", requires = "app", conflicts_with_all = ["branch", "undo", "vcs"])]
    restore: Option<PathBuf>,
    /// What is pushed with [default: what the app has; git for a new one]
    #[arg(long, value_name = "VCS", requires = "app")]
    vcs: Option<Vcs>,
    /// Take back what setup made; data stays
    #[arg(long)]
    undo: bool,
    /// With --undo: take the data, too
    #[arg(long, requires = "undo")]
    data: bool,
    /// List what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
}

impl Setup {
    /// Makes what is missing, or lists it.
    pub fn run(self, global: &Global) -> Result<u8> {
        self.refuse_others()?;
        let wanted = self.wanted(global)?;
        let acts = if self.undo { setup::made(&wanted)? } else { setup::plan(&wanted)? };
        let tell = &mut |state, what: &str| tell(global, self.dry_run, state, what);
        if self.undo {
            return self.undo(global, &acts, tell);
        }
        let possible = wanted.refuse_impossible();
        if self.dry_run {
            let account = setup::run(&acts, true, tell, &|_| {})?;
            self.sum(global, &account)?;
            // What would stop the run is said after the list, which may be of use all the same.
            return possible.map(|()| 0);
        }
        possible?;
        let slow = |what: &str| talk::say(global, &format!("{:<9} {what}", "making"));
        let account = setup::run(&acts, false, tell, &slow)?;
        self.sum(global, &account)?;
        if account.count(State::Made) == 0 {
            talk::say(global, "everything is there already: nothing was changed");
        }
        let code = if wanted.backup.is_some() { first_deploy(&wanted)? } else { 0 };
        if code == 1 {
            talk::say(
                global,
                "its data is there, and nothing is live yet: mend what failed, and the same command goes on",
            );
            return Ok(code);
        }
        say_how_to_push(global, &wanted)?;
        Ok(code)
    }

    /// Only root can, and only root is told more than the list.
    fn refuse_others(&self) -> Result<()> {
        if rustix::process::geteuid().is_root() || self.dry_run {
            return Ok(());
        }
        let words: Vec<String> = std::env::args().skip(1).map(|word| quoted(&word)).collect();
        Err(Error::usage("setup makes accounts, units and grants, and needs root for it")
            .hint(format!("`sudo receiver {}`; with --dry-run it lists what it would make", words.join(" "))))
    }

    fn wanted(&self, global: &Global) -> Result<Wanted> {
        let refuse = |what: &str, why: String| Error::usage(format!("this cannot be {what}: {why}"));
        let app = self.app.as_deref().map(str::parse::<AppName>).transpose()?;
        app.as_ref().map_or(Ok(()), AppName::refuse_branch)?;
        let branch = self.branch.as_deref().map(str::parse::<BranchName>).transpose();
        let domain = self.domain.as_deref().map(str::parse::<Domain>).transpose();
        if let Some(email) = &self.email {
            setup::refuse_strange_address(email)?;
        }
        let backup = match (&self.restore, &app) {
            (Some(from), Some(app)) => {
                let said = global.clone();
                let say = Box::new(move |line: &str| talk::say(&said, line));
                Some(Rc::new(setup::Backup::of(app, incoming(from)?, say)?))
            }
            _ => None,
        };
        Ok(Wanted {
            server: self.server(global)?,
            app,
            backup,
            by: std::env::var("SUDO_USER").unwrap_or_else(|_| user_name()),
            domain: domain.map_err(|why| refuse("a host", why))?,
            engine: self.database,
            vcs: self.vcs,
            branch: branch.map_err(|why| refuse("a branch", why))?,
            email: self.email.clone(),
            keys: if self.undo { Vec::new() } else { self.keys()? },
        })
    }

    fn keys(&self) -> Result<Vec<(KeyName, PublicKey)>> {
        let user = std::env::var("SUDO_USER").ok().filter(|user| user != "root");
        match setup::of_administrator(self.key.as_deref(), user.as_deref()) {
            // A list can be made all the same.
            Err(_) if self.dry_run && self.key.is_none() => Ok(Vec::new()),
            keys => keys,
        }
    }

    /// As it was set up before, or as it is to be.
    fn server(&self, global: &Global) -> Result<Server> {
        let root = global.root()?;
        let account = self.account.as_deref().unwrap_or("deploy");
        refuse_account(account)?;
        let Some(there) = Server::read()? else { return Ok(Server::new(root.path(), account)) };
        if self.account.as_ref().is_some_and(|wanted| *wanted != there.account) {
            return Err(Error::usage(format!("this server is pushed to as {}", there.account))
                .hint("one server has one such account; leave --account out"));
        }
        let said = global.root.is_some() || std::env::var_os("RECEIVER_ROOT").is_some();
        if said && Root::find(Some(&there.root))?.path() != root.path() {
            return Err(Error::usage(format!("the apps of this server lie in {}", there.root.display())));
        }
        Ok(there)
    }

    fn undo(
        &self,
        global: &Global,
        acts: &[Box<dyn setup::Act>],
        tell: &mut dyn FnMut(State, &str),
    ) -> Result<u8> {
        let account = setup::undo(acts, self.data, self.dry_run, tell)?;
        self.sum(global, &account)?;
        if !self.dry_run {
            let taken = account.count(State::TakenBack);
            let stays =
                if self.data { "" } else { "; apps, accounts and data stay, until it is said with --data" };
            talk::say(global, &format!("{taken} were taken back{stays}"));
        }
        Ok(0)
    }

    fn sum(&self, global: &Global, account: &setup::Account) -> Result<()> {
        if !global.json {
            return Ok(());
        }
        let all: Vec<_> = account
            .lines
            .iter()
            .map(|(state, what)| json!({ "what": words(what), "state": word(*state) }))
            .collect();
        talk::data(global, &json!({ "app": self.app, "dry_run": self.dry_run, "list": all }), &[])
    }
}

/// The name of an account becomes an argument of programs, and a line of files.
fn refuse_account(name: &str) -> Result<()> {
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let sound = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let own = name == "root" || name == "home" || name.starts_with("receiver") || name.starts_with("app-");
    if begins && !own && name.len() <= 24 && name.bytes().all(sound) {
        return Ok(());
    }
    Err(Error::usage(format!("'{}' cannot be the account that is pushed to", name.escape_default())))
}

fn words(what: &str) -> String {
    what.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn word(state: State) -> &'static str {
    match state {
        State::There => "there",
        State::Made => "made",
        State::Missing => "missing",
        State::TakenBack => "taken back",
        State::Stays => "stays",
    }
}

fn tell(global: &Global, look: bool, state: State, what: &str) {
    let mark = match state {
        State::There => "is there",
        State::Made => "made",
        State::Missing => "to make",
        State::TakenBack if look => "goes",
        State::TakenBack => "gone",
        State::Stays => "stays",
    };
    let line = format!("{mark:<9} {what}");
    // A list that was asked for is data.
    if look && !global.json { println!("{line}") } else { talk::say(global, &line) }
}

fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./@=:".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Deploys what was live, where it is not yet, to its end.
fn first_deploy(wanted: &Wanted) -> Result<u8> {
    let Some(name) = &wanted.app else { return Ok(0) };
    let app = Root::find(Some(&wanted.server.root))?.open(name)?;
    setup::first_deploy(&app, &wanted.by)
}

fn say_how_to_push(global: &Global, wanted: &Wanted) -> Result<()> {
    let Some(app) = &wanted.app else { return Ok(()) };
    let (vcs, account) = (wanted.vcs_of(app)?, &wanted.server.account);
    let app_there = Root::find(Some(&wanted.server.root)).map(|root| root.place(app));
    // A restored app brings its own settings.
    let there = app_there.and_then(|app| look::server_settings(&app)).ok();
    let domain = wanted.domain.clone().or_else(|| there.as_ref()?.domain.clone());
    let host = domain.map_or_else(host_name, |domain| domain.as_str().to_owned());
    let branch = there.as_ref().map_or(vcs.first_branch(), |there| there.branch.as_str());
    talk::say(global, &format!("{app} is ready; on the laptop:"));
    match vcs {
        Vcs::Git => {
            talk::say(global, &format!("  git remote add production {account}@{host}:{app}"));
            talk::say(global, &format!("  git push production {branch}"));
        }
        Vcs::Mercurial => {
            talk::say(global, "  in .hg/hgrc, below [paths]:");
            talk::say(global, &format!("  production = ssh://{account}@{host}/{app}"));
            talk::say(global, &format!("  hg push -b {branch} production"));
        }
    }
    Ok(())
}

fn host_name() -> String {
    let name = std::fs::read_to_string(Path::new("/etc/hostname")).unwrap_or_default();
    name.trim().to_owned()
}
