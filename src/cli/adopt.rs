//! `receiver adopt`: an application that is there already, with its data.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::request::DryRun;
use super::{Global, attach, talk};
use crate::app::server::Server;
use crate::app::settings::BranchName;
use crate::app::{App, AppName, Root};
use crate::data::foreign;
use crate::deploy::adoption::{self, Wanted};
use crate::deploy::look::{self, Scene};
use crate::deploy::queue::{Options, Order};
use crate::deploy::site;
use crate::serve::nginx::Installed;
use crate::server::adoption as server_adoption;
use crate::server::takeover::{Ended, TakeOver, Wish};
use crate::support::{Context, Error, Exit, Result, files, user_name};

/// Arguments of `adopt`.
#[derive(Args)]
#[command(
    override_usage = "receiver adopt APP --database-from URL --shared-from DIR\n       receiver adopt APP --go --stop CMD [--start CMD] [--old-site FILE]",
    after_help = "\
The first makes an app that begins with a copy of the database and the files; the old application goes on, and
nothing of it is changed. Push to it, and try it. The second takes over: what is live is built once more, CMD stops
the old application, its data is copied afresh, and goes live; where that fails it is started again by --start.

On a server that `receiver setup` made the app is one that setup made, and that nothing was pushed to; its site comes into
nginx with the take-over, in the place of --old-site. Both are root's: the commands run in this terminal, which waits.

URL: mysql://USER@HOST/NAME, postgres://USER@HOST/NAME (?socket=PATH for one on this machine), sqlite:///PATH.
A password is never an argument: --password-file, $RECEIVER_PASSWORD, or the whole URL by stdin (-)."
)]
pub struct Adopt {
    /// The app
    app: String,
    /// The database that it begins as a copy of; - reads the address from stdin
    #[arg(long, value_name = "URL", conflicts_with = "go")]
    database_from: Option<String>,
    /// A file with the password of that database
    #[arg(long, value_name = "FILE", requires = "database_from")]
    password_file: Option<PathBuf>,
    /// The directory of what outlives releases, copied to shared/
    #[arg(long, value_name = "DIR", conflicts_with = "go")]
    shared_from: Option<PathBuf>,
    /// The branch that is deployed
    #[arg(long, value_name = "BRANCH", conflicts_with = "go")]
    branch: Option<String>,
    /// Take over: fresh data, and the site
    #[arg(long, requires = "stop")]
    go: bool,
    /// What stops the old application; `true` where it is stopped already
    #[arg(long, value_name = "CMD", requires = "go")]
    stop: Option<String>,
    /// What starts it again, where the take-over fails
    #[arg(long, value_name = "CMD", requires = "go")]
    start: Option<String>,
    /// The file of nginx's configuration with its site, to be put aside when the new one comes; may be repeated
    #[arg(long, value_name = "FILE", requires = "go")]
    old_site: Vec<PathBuf>,
    #[command(flatten)]
    dry: DryRun,
}

/// Where a password may come from besides a file.
const PASSWORD: &str = "RECEIVER_PASSWORD";

impl Adopt {
    /// Makes the app, or lets it take over.
    pub fn run(self, global: &Global) -> Result<u8> {
        let name: AppName = self.app.parse()?;
        name.refuse_branch()?;
        match (is_set_up(&global.root()?)?, self.go) {
            (true, go) => {
                let app = made_by_setup(global, &name)?;
                if go { self.take_over_there(global, &app) } else { self.begin(global, &name, Some(&app)) }
            }
            (false, true) => self.take_over(global, &name),
            (false, false) => self.begin(global, &name, None),
        }
    }

    /// Makes the app, or has one that setup made begin so.
    fn begin(self, global: &Global, name: &AppName, there: Option<&App>) -> Result<u8> {
        if self.database_from.is_none() && self.shared_from.is_none() {
            return Err(Error::usage("nothing is adopted: name --database-from, --shared-from, or both"));
        }
        let (database, password) = self.database()?;
        let branch = self.branch.as_deref().map(str::parse::<BranchName>).transpose();
        let branch = branch.map_err(|why| Error::usage(format!("this cannot be a branch: {why}")))?;
        let shared = self.shared_from.as_deref().map(std::fs::canonicalize).transpose();
        let shared = shared.context(|| "cannot find the directory of --shared-from")?;
        if there.is_some() && branch.is_some() {
            return Err(Error::usage(format!("{name} is there, and has its branch"))
                .hint(format!("`sudo receiver config {name} branch BRANCH`")));
        }
        if self.dry.dry_run {
            let what: Vec<String> = database.iter().map(ToString::to_string).collect();
            let what = what.into_iter().chain(shared.iter().map(|shared| shared.display().to_string()));
            let verb = if there.is_some() { "have" } else { "make" };
            let begin = if there.is_some() { " begin with a copy" } else { "" };
            let words = format!("would {verb} {name}{begin} of {}", what.collect::<Vec<_>>().join(" and "));
            talk::data(global, &json!({ "dry_run": words }), std::slice::from_ref(&words))?;
            return Ok(0);
        }
        let wanted = Wanted { database, password, shared: shared.as_deref(), branch: branch.as_ref() };
        let say = &mut |line: &str| talk::say(global, line);
        if let Some(app) = there {
            server_adoption::begin(app, &wanted, &by(), say)?;
            return say_how_to_go_on(global, app, None);
        }
        let app = adoption::begin(&global.root()?, name, &wanted, &user_name(), say)?;
        let branch = branch.as_ref().map_or("main", BranchName::as_str);
        say_how_to_go_on(global, &app, Some(branch))
    }

    /// The database that is adopted, and its password, from wherever it was said.
    fn database(&self) -> Result<(Option<foreign::Foreign>, Option<String>)> {
        let (url, by_stdin) = match self.database_from.as_deref() {
            None => return Ok((None, None)),
            Some("-") => (stdin()?, true),
            Some(url) => (url.to_owned(), false),
        };
        let (database, in_url) = foreign::read(url.trim())?;
        if in_url.is_some() && !by_stdin {
            return Err(Error::usage("a password in an argument is everybody's to read")
                .hint("--password-file FILE, $RECEIVER_PASSWORD, or `--database-from - < FILE`"));
        }
        let in_file = match &self.password_file {
            Some(file) => {
                let text = files::read_text(file)?;
                let text = text.ok_or_else(|| Error::new(format!("{} is not there", file.display())))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            None => None,
        };
        let password = in_file.or(in_url).or_else(|| std::env::var(PASSWORD).ok());
        Ok((Some(database), password))
    }

    fn take_over(self, global: &Global, name: &AppName) -> Result<u8> {
        let app = global.root()?.open(name)?;
        if !self.old_site.is_empty() {
            return Err(Error::usage("--old-site is for a server that `receiver setup` made")
                .hint("let the command of --stop take the old site away"));
        }
        let stop = self.stop.unwrap_or_default();
        let adopted = adoption::of(&app)?;
        let scene = Scene::read(&app)?;
        let live = scene.live_record(&app)?.cloned().ok_or_else(|| {
            Error::new("nothing is live yet: the first release is tried before it takes over")
                .hint("push, and look at it")
        })?;
        if self.dry.dry_run {
            let words = format!(
                "would build {} again, run `{stop}`, copy {} afresh, and go live with it",
                live.revision.short(),
                adopted.database.as_deref().unwrap_or("the files")
            );
            talk::data(global, &json!({ "dry_run": words }), std::slice::from_ref(&words))?;
            return Ok(0);
        }
        adoption::prepare(&app, &user_name(), Some(&stop), self.start.as_deref())?;
        let branch = look::server_settings(&app)?.branch.as_str().to_owned();
        let order = Order::Deploy { branch, revision: live.revision, reconcile: false };
        let code = attach::order(global, &app, order, Options { adopts: true, ..Options::default() })?;
        if code != 0 && code != Exit::Attention.code() {
            return Ok(code);
        }
        let taken = take_site(global, &app);
        let start = self.start.as_deref().unwrap_or("start the old application as you did before");
        for line in [
            "the way back, should it be needed:".to_owned(),
            format!("  receiver db {name} dump > since.dump    # what was written since"),
            format!("  rm {} && nginx -s reload", site::file(&app, &look::server_settings(&app)?).display()),
            format!("  receiver down {name}"),
            format!("  {start}"),
        ] {
            talk::say(global, &line);
        }
        taken.map(|()| code)
    }

    /// The same where setup made the app: what is typed stays with this process, and nothing of it in the app's state.
    fn take_over_there(self, global: &Global, app: &App) -> Result<u8> {
        let wish =
            Wish { stop: self.stop.unwrap_or_default(), start: self.start, sites: self.old_site, by: by() };
        let start = wish.start.clone();
        let plan = TakeOver::plan(app, wish, &mut |line| talk::say(global, line))?;
        if self.dry.dry_run {
            let words = plan.words();
            talk::data(global, &json!({ "dry_run": words }), std::slice::from_ref(&words))?;
            return Ok(0);
        }
        let back: Vec<String> = plan
            .sites()
            .iter()
            .map(|site| format!("  sudo mv {} {}", site.hidden.display(), site.file.display()))
            .collect();
        let output: Box<dyn Write + Send> =
            if global.quiet { Box::new(std::io::sink()) } else { Box::new(std::io::stderr()) };
        let Ended { job, verdict, code } = plan.run(output, &|line| talk::say(global, line))?;
        if global.json {
            let object = json!({ "app": app.name(), "job": job, "verdict": verdict, "code": code });
            talk::data(global, &object, &[])?;
        }
        if code == 0 || code == Exit::Attention.code() {
            say_way_back(global, app, &back, start.as_deref());
        }
        Ok(code)
    }
}

/// What comes next; where setup made the app that one has said how to push.
fn say_how_to_go_on(global: &Global, app: &App, branch: Option<&str>) -> Result<u8> {
    let name = app.name();
    let remote = app.repository().display().to_string();
    let mut lines = Vec::new();
    if let Some(branch) = branch {
        lines.push(format!(
            "{name} is made in {}; the old application goes on. Now:",
            app.directory().display()
        ));
        lines.push(format!("  git remote add production {remote}"));
        lines.push(format!("  git push production {branch}"));
    } else {
        lines.push(format!(
            "{name} begins with that; the old application goes on. Now push, as setup said, and:"
        ));
    }
    let sudo = if branch.is_some() { "" } else { "sudo " };
    lines.push(format!("  {sudo}receiver serve {name} --version 0 --port 8080    # to look at it"));
    lines.push(format!("  {sudo}receiver adopt {name} --go --stop CMD --start CMD   # to take over"));
    for line in &lines {
        talk::say(global, line);
    }
    talk::data(global, &json!({ "app": name, "remote": remote }), &[remote])?;
    Ok(0)
}

/// How what was taken over is given back.
fn say_way_back(global: &Global, app: &App, sites: &[String], start: Option<&str>) {
    let name = app.name();
    talk::say(global, "the way back, should it be needed:");
    talk::say(global, &format!("  sudo receiver db {name} dump > since.dump    # what was written since"));
    talk::say(global, &format!("  sudo rm -f /etc/nginx/conf.d/receiver-{name}.conf"));
    for line in sites {
        talk::say(global, line);
    }
    talk::say(global, &format!("  sudo nginx -s reload; sudo receiver down {name}"));
    talk::say(global, &format!("  {}", start.unwrap_or("start the old application as you did before")));
}

/// Who it is, for the journal.
fn by() -> String {
    std::env::var("SUDO_USER").unwrap_or_else(|_| user_name())
}

/// The app, where setup made it and we are root.
fn made_by_setup(global: &Global, name: &AppName) -> Result<App> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::usage(
            "on a server that was set up root reads the old application's data, and stops it",
        )
        .hint(format!("`sudo receiver adopt {name} …`")));
    }
    let root = global.root()?;
    let app = root.place(name);
    if app.is_created() && app.user().is_some() {
        return Ok(app);
    }
    let what = if app.is_created() { "has no user of its own" } else { "is not there yet" };
    Err(Error::usage(format!(
        "{name} {what}: on this server setup makes apps, and adopt brings the data of one"
    ))
    .hint(format!("`sudo receiver setup {name} --domain D --database E`, then the same command again")))
}

/// Whether this server is one that setup made, where an app has a user of its own and is made by setup.
fn is_set_up(root: &Root) -> Result<bool> {
    Ok(Server::read()?.is_some_and(|server| server.root == root.path()))
}

/// Brings the site in, where the app has a domain.
fn take_site(global: &Global, app: &App) -> Result<()> {
    let name = app.name();
    let settings = site::live_settings(app)?;
    let Some(domain) = &settings.domain else {
        talk::say(
            global,
            &format!(
                "no domain is said, so nginx is left alone: `receiver config {name} domain …`, then --site --install"
            ),
        );
        return Ok(());
    };
    let brought = site::bring(app, &settings).map_err(|error| {
        error
            .exit(Exit::Attention)
            .hint(format!("it is live; `sudo receiver config {name} --site --install`"))
    })?;
    talk::say(
        global,
        &match brought {
            Installed::NotRunning => format!("{domain} is {name}'s when nginx starts"),
            _ => format!("{domain} is {name}'s now, unless an older site of nginx has the same server_name"),
        },
    );
    Ok(())
}

fn stdin() -> Result<String> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        return Err(Error::usage("an address with a password is not typed").hint("feed it: `… - < FILE`"));
    }
    let mut text = String::new();
    input.by_ref().take(1 << 16).read_to_string(&mut text).context(|| "the address has to be UTF-8 text")?;
    Ok(text)
}
