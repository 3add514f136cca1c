//! What is to be there, out of what is wanted: the list, and what has to be right before anything is made.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::ValueEnum;

use super::accounts::{Circle, Member, User};
use super::act::{Act, is_there};
use super::apps::{Founded, Owned, Queue, Setting};
use super::branch;
use super::certificate::{Certificate, Tls};
use super::databases::{MariaDb, PostgresLogin, PostgresRole};
use super::keys::{Door, FirstKey};
use super::packages::{Packages, refuse_other_systems};
use super::places::{Directory, End, File, Owner, Unit};
use super::restored::{Backup, Carried, Restored};
use crate::app::server::{self, HOME, PLACE, RECEIVER, Server};
use crate::app::settings::{BranchName, Domain};
use crate::app::{App, AppName, Root, Vcs};
use crate::serve::systemd::{self, Manager};
use crate::server::keys::KeyName;
use crate::server::pubkey::PublicKey;
use crate::support::{Error, Result, program};

/// nginx's user on Debian and Ubuntu.
const NGINX: &str = "www-data";

/// What keeps the data of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// MariaDB
    Mysql,
    /// PostgreSQL
    Postgres,
    /// a file for each version
    Sqlite,
    /// the app's own affair
    None,
}

impl Engine {
    /// The one that is written down so.
    pub fn of_word(word: &str) -> Option<Engine> {
        Engine::value_variants().iter().copied().find(|engine| engine.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Engine::Mysql => "mysql",
            Engine::Postgres => "postgres",
            Engine::Sqlite => "sqlite",
            Engine::None => "none",
        }
    }
}

/// What is wanted of a server.
#[derive(Debug)]
pub struct Wanted {
    /// The server.
    pub server: Server,
    /// The app; none for the server alone.
    pub app: Option<AppName>,
    /// The host that it answers for.
    pub domain: Option<Domain>,
    /// What keeps its data.
    pub engine: Option<Engine>,
    /// What it is pushed to with, where that is said.
    pub vcs: Option<Vcs>,
    /// The branch that is deployed.
    pub branch: Option<BranchName>,
    /// Where a certificate is wanted, whom its authority writes to.
    pub email: Option<String>,
    /// The keys that open everything, by name.
    pub keys: Vec<(KeyName, PublicKey)>,
    /// What the app is made of, where it was there before.
    pub backup: Option<Rc<Backup>>,
    /// Who wants it.
    pub by: String,
}

impl Wanted {
    /// What an app is pushed to with: what it was made for, or else what its backup or whoever wants it says.
    pub fn vcs_of(&self, app: &AppName) -> Result<Vcs> {
        let there = Root::find(Some(&self.server.root))?.place(app);
        let said = self.vcs.filter(|_| self.app.as_ref() == Some(app));
        match self.backup.as_ref().filter(|_| self.app.as_ref() == Some(app)) {
            _ if there.is_created() => Ok(there.vcs()),
            Some(backup) => backup.vcs(),
            None => Ok(said.unwrap_or(Vcs::Git)),
        }
    }

    /// Refuses what could not be made, before anything is.
    pub fn refuse_impossible(&self) -> Result<()> {
        refuse_other_systems()?;
        refuse_program()?;
        let engine = self.engine()?;
        if engine == Some(Engine::Mysql) {
            MariaDb::refuse_mysql()?;
        }
        let reserved = |name: &AppName| name.as_str() == "pg" || name.as_str().starts_with("pg-");
        if engine == Some(Engine::Postgres) && self.app.as_ref().is_some_and(reserved) {
            return Err(Error::usage("PostgreSQL keeps names that begin with pg_ for itself")
                .hint("choose another name for the app"));
        }
        self.door().refuse_foreign().map_err(|error| {
            error.hint(format!(
                "name another that pushes go to: `receiver setup --account NAME`, such as {}-push",
                self.server.account
            ))
        })?;
        Wanted::receiver().refuse_foreign()?;
        if !is_there("nginx") && port_is_taken() {
            return Err(Error::new("port 80 is another program's, and nginx could not start beside it")
                .hint(
                    "`ss -ltnp 'sport = :80'` names it; end it, or install nginx yourself as you want it",
                ));
        }
        Ok(())
    }

    /// What keeps the data: as it is said, or as it is in the backup.
    fn engine(&self) -> Result<Option<Engine>> {
        let kept = self.backup.as_ref().map(|backup| backup.engine()).transpose()?.flatten();
        match (self.engine, kept) {
            (Some(said), Some(kept)) if said != kept => Err(Error::usage(format!(
                "the backup has data of {}, and --database says {}",
                kept.word(),
                said.word()
            ))
            .hint("leave --database out: the backup says it")),
            (said, kept) => Ok(said.or(kept)),
        }
    }

    fn receiver() -> User {
        User {
            name: RECEIVER.into(),
            home: PathBuf::from(HOME),
            shell: "/usr/sbin/nologin",
            runs_code: false,
        }
    }

    fn door(&self) -> User {
        let home = self.server.door_home();
        User { name: self.server.account.clone(), home, shell: "/bin/sh", runs_code: false }
    }
}

/// The list.
pub fn plan(wanted: &Wanted) -> Result<Vec<Box<dyn Act>>> {
    let mut acts: Vec<Box<dyn Act>> = Vec::new();
    of_server(wanted, &mut acts)?;
    match wanted.engine()? {
        Some(Engine::Mysql) => {
            acts.push(Box::new(Unit { name: "mariadb.service".into(), now: true }));
            acts.push(Box::new(MariaDb));
        }
        Some(Engine::Postgres) => {
            acts.push(Box::new(Unit { name: "postgresql.service".into(), now: true }));
            acts.push(Box::new(PostgresRole));
            acts.push(Box::new(PostgresLogin));
        }
        Some(Engine::Sqlite | Engine::None) | None => {}
    }
    if let Some(name) = &wanted.app {
        of_app(wanted, name, &mut acts)?;
        // One that is half there is made, or taken back, by the root service.
        for app in branch::of_parent(&wanted.server, name)?.iter().filter(|app| app.is_created()) {
            acts.extend(branch::of_app(&wanted.server, app));
        }
    }
    Ok(acts)
}

/// What there is to be taken back: of one app, or of the server with all its apps.
pub fn made(wanted: &Wanted) -> Result<Vec<Box<dyn Act>>> {
    let mut acts: Vec<Box<dyn Act>> = Vec::new();
    if let Some(name) = &wanted.app {
        made_of(wanted, name, &mut acts)?;
        return Ok(acts);
    }
    of_server(wanted, &mut acts)?;
    acts.push(Box::new(MariaDb));
    acts.push(Box::new(PostgresRole));
    acts.push(Box::new(PostgresLogin));
    let apps = Root::find(Some(&wanted.server.root))?.apps()?;
    for app in apps.iter().filter(|app| app.user().is_some() && app.name().parent().is_none()) {
        made_of(wanted, app.name(), &mut acts)?;
    }
    Ok(acts)
}

/// What there is of an app, and of those of its branches.
fn made_of(wanted: &Wanted, name: &AppName, acts: &mut Vec<Box<dyn Act>>) -> Result<()> {
    of_app(wanted, name, acts)?;
    for app in branch::of_parent(&wanted.server, name)? {
        acts.extend(branch::of_app(&wanted.server, &app));
    }
    Ok(())
}

fn packages(wanted: &Wanted) -> Result<Packages> {
    let mut all = vec![("git", "git"), ("nginx", "nginx")];
    match wanted.engine()? {
        Some(Engine::Mysql) => {
            all.extend([("mariadbd", "mariadb-server"), ("mariadb-dump", "mariadb-client")])
        }
        Some(Engine::Postgres) => {
            all.extend([("/usr/lib/postgresql", "postgresql"), ("pg_dump", "postgresql-client")]);
        }
        Some(Engine::Sqlite | Engine::None) | None => {}
    }
    if wanted.email.is_some() {
        all.push(("certbot", "certbot"));
    }
    if let Some(app) = &wanted.app
        && wanted.vcs_of(app)? == Vcs::Mercurial
    {
        all.push(("hg", "mercurial"));
    }
    Ok(Packages(all))
}

fn of_server(wanted: &Wanted, acts: &mut Vec<Box<dyn Act>>) -> Result<()> {
    let server = &wanted.server;
    acts.push(Box::new(packages(wanted)?));
    acts.push(Box::new(Wanted::receiver()));
    acts.push(Box::new(wanted.door()));
    for group in [server.account.as_str(), "systemd-journal"] {
        acts.push(Box::new(Member { user: RECEIVER.into(), group: group.into() }));
    }
    let home = Path::new(HOME);
    for (path, mode, end) in [
        (home.to_owned(), 0o755, End::Empty),
        (home.join("home"), 0o711, End::Empty),
        (server.door_home(), 0o755, End::Empty),
        (server.door_home().join(".ssh"), 0o755, End::Whole),
        (PathBuf::from("/etc/receiver"), 0o755, End::Empty),
    ] {
        acts.push(Box::new(Directory::of_root(path, mode, end)));
    }
    // Who may come over ssh is receiver's to write down, and the door's to read.
    let door = &server.account;
    for (path, mode) in [(home.join("keys"), 0o2750), (home.join("keys/used"), 0o2770)] {
        acts.push(Box::new(Directory { path, owner: Owner::of(RECEIVER, door), mode, end: End::Data }));
    }
    // Repositories are the account's that is pushed to; receiver, and root for it, read and hold their refs. Of what
    // lies in Mercurial's either may have made it.
    let git = "# Written by `receiver setup`.\n[safe]\n\tdirectory = *\n";
    for place in [home.to_owned(), server.door_home()] {
        acts.push(Box::new(File { path: place.join(".gitconfig"), text: git.to_owned() }));
    }
    acts.push(Box::new(File { path: PathBuf::from(PLACE), text: server.text()? }));
    // What jobs said is kept for a year; processes print to the journal, which sees to itself, as nginx does.
    let logs =
        format!("# Written by `receiver setup`.\ne {}/*/receiver/logs - - - 365d\n", server.root.display());
    acts.push(Box::new(File { path: PathBuf::from("/etc/tmpfiles.d/receiver.conf"), text: logs }));
    for file in unit_files(server)? {
        acts.push(Box::new(file));
    }
    for name in ["receiver-root.socket", "receiver-command.socket"] {
        acts.push(Box::new(Unit { name: name.into(), now: true }));
    }
    acts.push(Box::new(Unit { name: systemd::boot_unit(&server.root), now: false }));
    acts.push(Box::new(Door { server: server.clone() }));
    for key in &wanted.keys {
        acts.push(Box::new(FirstKey { name: key.0.clone(), public: key.1.clone() }));
    }
    Ok(())
}

/// The units of a server.
pub fn unit_files(server: &Server) -> Result<Vec<File>> {
    let place = Manager::System.units()?;
    let units = Manager::System.units_of_a_server(&server.account)?;
    Ok(units.into_iter().map(|(name, text)| File { path: place.join(name), text }).collect())
}

fn of_app(wanted: &Wanted, name: &AppName, acts: &mut Vec<Box<dyn Act>>) -> Result<()> {
    let server = &wanted.server;
    let root = Root::find(Some(&server.root))?;
    let app: App = root.place(name);
    people(server, name, acts);
    let vcs = wanted.vcs_of(name)?;
    match &wanted.backup {
        Some(backup) => acts.push(Box::new(Restored {
            root,
            name: name.clone(),
            server: server.clone(),
            by: wanted.by.clone(),
            backup: Rc::clone(backup),
        })),
        None => acts.push(Box::new(Founded {
            root,
            name: name.clone(),
            vcs: wanted.vcs.unwrap_or(vcs),
            branch: wanted.branch.clone(),
        })),
    }
    acts.push(Box::new(Owned::new(app.clone(), vcs, server)));
    if wanted.backup.is_some() {
        acts.push(Box::new(Carried(app.clone())));
    }
    let mut set = |key: &'static str, value: String| {
        acts.push(Box::new(Setting { app: app.clone(), key, value }));
    };
    if let Some(branch) = &wanted.branch {
        set("branch", branch.as_str().to_owned());
    }
    if let Some(domain) = &wanted.domain {
        set("domain", domain.as_str().to_owned());
    }
    if let Some(engine) = wanted.engine {
        set("database.engine", engine.word().to_owned());
    }
    acts.push(Box::new(Queue::of(&app)));
    if let (Some(email), Some(domain)) = (&wanted.email, &wanted.domain) {
        let (certificate, key) = Certificate::files(domain);
        acts.push(Box::new(Certificate { domain: domain.clone(), email: email.clone() }));
        acts.push(Box::new(Tls { app: app.clone(), files: [certificate, key] }));
    }
    Ok(())
}

/// The users and groups of an app: its own, and who gets into its directory.
pub(super) fn people(server: &Server, name: &AppName, acts: &mut Vec<Box<dyn Act>>) {
    let (user, group, home) = (server::user_of(name), server::group_of(name), server::home_of(name));
    let account =
        User { name: user.clone(), home: home.clone(), shell: "/usr/sbin/nologin", runs_code: true };
    acts.push(Box::new(account));
    acts.push(Box::new(Circle { name: group.clone() }));
    for member in [user.as_str(), server.account.as_str(), NGINX] {
        acts.push(Box::new(Member { user: member.into(), group: group.clone() }));
    }
    acts.push(Box::new(Member { user: RECEIVER.into(), group: user.clone() }));
    acts.push(Box::new(Directory {
        path: home,
        owner: Owner::of(&user, &user),
        mode: 0o700,
        end: End::Data,
    }));
}

/// What runs as root must be root's alone, and where everybody finds it.
fn refuse_program() -> Result<()> {
    let path = program::program()?;
    let sound = path.ancestors().all(|part| {
        std::fs::metadata(part).is_ok_and(|about| {
            let mode = about.permissions().mode();
            about.uid() == 0 && mode & 0o022 == 0 && mode & 0o005 == 0o005
        })
    });
    if sound {
        return Ok(());
    }
    Err(Error::new(format!(
        "{} is not a place that only root can write to, and everybody can read",
        path.display()
    ))
    .hint(format!(
        "`sudo install -m 755 {} /usr/local/bin/receiver`, then `sudo receiver setup …`",
        path.display()
    )))
}

fn port_is_taken() -> bool {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
    TcpListener::bind(address).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}
