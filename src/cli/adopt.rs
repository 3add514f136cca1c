//! `receiver adopt`: an application that is there already, with its data.

use std::io::{IsTerminal, Read};
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
use crate::support::{Context, Error, Exit, Result, files, user_name};

/// Arguments of `adopt`.
#[derive(Args)]
#[command(
    override_usage = "receiver adopt APP --database-from URL --shared-from DIR\n       receiver adopt APP --go --stop CMD [--start CMD]",
    after_help = "\
The first makes an app that begins with a copy of the database and the files; the old application goes on, and
nothing of it is changed. Push to it, and try it. The second takes over: what is live is built once more, CMD stops
the old application, its data is copied afresh, and goes live; where that fails it is started again by --start.

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
        refuse_at_server(&global.root()?, &name)?;
        if self.go { self.take_over(global, &name) } else { self.begin(global, &name) }
    }

    fn begin(self, global: &Global, name: &AppName) -> Result<u8> {
        if self.database_from.is_none() && self.shared_from.is_none() {
            return Err(Error::usage("nothing is adopted: name --database-from, --shared-from, or both"));
        }
        let (database, password) = self.database()?;
        let branch = self.branch.as_deref().map(str::parse::<BranchName>).transpose();
        let branch = branch.map_err(|why| Error::usage(format!("this cannot be a branch: {why}")))?;
        let shared = self.shared_from.as_deref().map(std::fs::canonicalize).transpose();
        let shared = shared.context(|| "cannot find the directory of --shared-from")?;
        let root = global.root()?;
        if self.dry.dry_run {
            let what: Vec<String> = database.iter().map(ToString::to_string).collect();
            let what = what.into_iter().chain(shared.iter().map(|shared| shared.display().to_string()));
            let words = format!("would make {name} of {}", what.collect::<Vec<_>>().join(" and "));
            talk::data(global, &json!({ "dry_run": words }), std::slice::from_ref(&words))?;
            return Ok(0);
        }
        let wanted = Wanted { database, password, shared: shared.as_deref(), branch: branch.as_ref() };
        let app = adoption::begin(&root, name, &wanted, &user_name(), &mut |line| talk::say(global, line))?;
        let remote = app.repository().display().to_string();
        let branch = branch.as_ref().map_or("main", BranchName::as_str);
        for line in [
            format!("{name} is made in {}; the old application goes on. Now:", app.directory().display()),
            format!("  git remote add production {remote}"),
            format!("  git push production {branch}"),
            format!("  receiver serve {name} --version 0 --port 8080    # to look at it"),
            format!("  receiver adopt {name} --go --stop CMD --start CMD   # to take over"),
        ] {
            talk::say(global, &line);
        }
        talk::data(global, &json!({ "app": name, "remote": remote }), &[remote])?;
        Ok(0)
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
        adoption::prepare(&app, &user_name(), &stop, self.start.as_deref())?;
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
}

/// On a server that setup made an app has a user of its own; one that is adopted would be whose command it is, and its
/// pushed code would run as that: root's.
fn refuse_at_server(root: &Root, name: &AppName) -> Result<()> {
    if Server::read()?.is_none_or(|server| server.root != root.path()) {
        return Ok(());
    }
    let what = "this server was set up, and adopt makes an app that has no user of its own: nothing was done";
    Err(Error::usage(what).hint(format!(
        "`sudo receiver setup {name} --database E`, push, then bring the data: `mariadb-dump … | sudo receiver db {name} \
         load`; INSTALL.md has all of it in step 26"
    )))
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
