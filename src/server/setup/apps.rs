//! An app with a user of its own: its directory, whose each part is, and what the server's file says of it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::act::{Act, run};
use super::places::{Owner, Unit, own};
use crate::app::server::{self, RECEIVER, Server};
use crate::app::settings::BranchName;
use crate::app::{App, AppName, Root, Vcs};
use crate::deploy::{self, found};
use crate::serve::systemd;
use crate::server::place::Place;
use crate::server::{adoption, carried, identity};
use crate::support::accounts::Account;
use crate::support::{Context, Error, Result, acl, death, files};
use crate::vcs::hg;

/// The app itself.
pub struct Founded {
    /// The root that it lies in.
    pub root: Root,
    /// Its name.
    pub name: AppName,
    /// What it is pushed to with.
    pub vcs: Vcs,
    /// The branch that is deployed.
    pub branch: Option<BranchName>,
}

impl Act for Founded {
    fn what(&self) -> String {
        format!("app        {}", self.root.place(&self.name).directory().display())
    }

    fn is_done(&self) -> Result<bool> {
        let app = self.root.place(&self.name);
        if !app.is_created() {
            found::refuse_taken(app.directory())?;
            return Ok(false);
        }
        if app.vcs() != self.vcs {
            return Err(Error::new(format!(
                "{} is there already, and is pushed to with {}",
                self.name,
                app.vcs()
            ))
            .hint("leave --vcs out, or choose another name"));
        }
        if app.user().is_some() {
            return Ok(true);
        }
        Err(Error::new(format!(
            "{} is there already, and belongs to one user: it was not touched",
            self.name
        ))
        .hint("choose another name; what it holds can be pushed to that"))
    }

    fn perform(&self) -> Result<()> {
        found::app_of(&self.root, &self.name, self.vcs, self.branch.as_ref()).map(drop)
    }

    fn undo(&self) -> Result<bool> {
        let app = self.root.place(&self.name);
        if app.user().is_none() {
            return Ok(false);
        }
        let ended = app.clone();
        identity::as_receiver(move || {
            deploy::db::remove_all(&ended)?;
            // Whoever makes an app of that name later has not let them in. Where the server was taken back before, its
            // keys open nothing.
            if let Ok(place) = Place::of_server()
                && let Err(error) = carried::end(&place, ended.name())
            {
                log::warn!("{}", error.one_line());
            }
            Ok(())
        })?;
        adoption::forget(&self.name)?;
        files::remove_tree(app.directory()).map(|()| true)
    }

    fn is_data(&self) -> bool {
        true
    }
}

/// Whose each part of an app is.
pub struct Owned {
    app: App,
    vcs: Vcs,
    parts: Vec<(PathBuf, Owner, u32)>,
    door: String,
}

impl Owned {
    /// As the users of `server` have it.
    pub fn new(app: App, vcs: Vcs, server: &Server) -> Owned {
        let (user, door) = (server::user_of(app.name()), server.account.as_str());
        let own = Owner::of(RECEIVER, RECEIVER);
        let read_by_door = Owner::of(RECEIVER, door);
        let users = Owner::of(&user, &user);
        let state = |name: &str| app.state(name);
        let parts = vec![
            (app.versions(), own.clone(), 0o755),
            (app.shared(), users.clone(), 0o2771),
            (app.queue(), read_by_door.clone(), 0o2770),
            (state("logs"), read_by_door.clone(), 0o2770),
            (app.failed(), read_by_door.clone(), 0o2750),
            (state("secrets"), own.clone(), 0o700),
            (app.dumps(), own.clone(), 0o700),
            (app.trash(), own.clone(), 0o700),
            (app.spare(), own.clone(), 0o700),
            (app.manifests(), own.clone(), 0o700),
            (state("run"), own.clone(), 0o711),
            (app.run_app(), users, 0o2771),
            (app.processes(), own.clone(), 0o711),
            (app.holds(), own, 0o711),
            // What receiver makes there is the app's group's, too.
            (state("databases"), Owner::of(RECEIVER, &user), 0o2711),
            (app.marker(), read_by_door.clone(), 0o644),
            (app.server_config(), read_by_door.clone(), 0o640),
            (state(""), read_by_door, 0o2751),
            // Last: until then nobody but root gets in.
            (app.directory().to_owned(), Owner::of(RECEIVER, &server::group_of(app.name())), 0o750),
        ];
        Owned { app, vcs, parts, door: server.account.clone() }
    }

    /// Whoever is logged in as the account that is pushed to gets in, also where he was before the app was made.
    fn door_is_open(&self) -> Result<bool> {
        match Account::named(&self.door)? {
            Some(door) => acl::lets_in(self.app.directory(), door.uid),
            None => Ok(false),
        }
    }

    /// The repository is the account's that is pushed to; receiver holds its refs there, by the group. The app of a
    /// branch has none.
    fn repository_is_done(&self) -> Result<bool> {
        if self.app.name().parent().is_some() {
            return Ok(true);
        }
        let Some((uid, gid)) = Owner::of(&self.door, &self.door).numbers()? else { return Ok(false) };
        let repository = self.app.repository_of(self.vcs);
        let about = |part: &&str| std::fs::symlink_metadata(repository.join(part));
        let parts = match self.vcs {
            Vcs::Git => &["", "objects", "refs", "refs/receiver", "hooks"][..],
            Vcs::Mercurial => &["", ".hg", ".hg/store", ".hg/receiver", ".hg/hooks", ".hg/hgrc"],
        };
        let owned =
            parts.iter().all(|part| about(part).is_ok_and(|about| about.uid() == uid && about.gid() == gid));
        let shared = match self.vcs {
            // Receiver writes there, too, what a setting says to git.
            Vcs::Git => {
                about(&"config").is_ok_and(|about| about.gid() == gid)
                    && std::fs::read_to_string(repository.join("config"))
                        .is_ok_and(|config| config.contains("sharedRepository"))
            }
            // Mercurial makes each file as the store is.
            Vcs::Mercurial => [".hg", ".hg/store", ".hg/receiver"]
                .iter()
                .all(|part| about(part).is_ok_and(|about| about.mode() & 0o2070 == 0o2070)),
        };
        Ok(owned && shared)
    }

    /// Gives what is in each part to whom the part belongs. Only for an app that is not in its place yet: there nobody
    /// but root gets in, and what is named stays what it is. Until its parts are given, too, nobody else does.
    pub fn own_contents(&self) -> Result<()> {
        // What lies in another part comes after it.
        for (path, owner, _) in self.parts.iter().rev().filter(|(path, ..)| path != self.app.directory()) {
            if files::exists(path) {
                let owner = format!("{}:{}", owner.user, owner.group);
                run("chown", &["-R", "-h", "--", &owner, &path.display().to_string()])?;
            }
        }
        if self.vcs == Vcs::Mercurial {
            hg::Repository::give_to_group(&self.app.repository_of(self.vcs))?;
        }
        for place in [self.app.queue(), self.app.state("logs")] {
            run("chmod", &["-R", "g+rwX", "--", &place.display().to_string()])?;
        }
        std::fs::set_permissions(self.app.directory(), std::fs::Permissions::from_mode(0o700))
            .context(|| format!("cannot close {}", self.app.directory().display()))
    }

    fn own_repository(&self) -> Result<()> {
        let repository = self.app.repository_of(self.vcs);
        let shown = repository.display().to_string();
        if self.vcs == Vcs::Git {
            files::make_directory(&repository.join("refs/receiver"), 0o775)?;
            let config = format!("{shown}/config");
            run("git", &["config", "--file", &config, "core.sharedRepository", "group"])?;
        }
        run("chown", &["-R", "-h", &format!("{0}:{0}", self.door), "--", &shown])?;
        run("chmod", &["-R", "g+rwX", "--", &shown])?;
        run("find", &[&shown, "-type", "d", "-exec", "chmod", "g+s", "{}", "+"]).map(drop)
    }
}

impl Act for Owned {
    fn what(&self) -> String {
        let repository = self.app.repository_of(self.vcs);
        let doors = match self.app.name().parent() {
            Some(_) => "queue, logs".into(),
            None => repository.file_name().unwrap_or_default().to_string_lossy(),
        };
        format!(
            "owners     in {}: {} (releases, state), {} ({}), {} (shared, sockets, SQLite)",
            self.app.directory().display(),
            RECEIVER,
            self.door,
            doors,
            server::user_of(self.app.name())
        )
    }

    fn is_done(&self) -> Result<bool> {
        for (path, owner, mode) in &self.parts {
            let Some((uid, gid)) = owner.numbers()? else { return Ok(false) };
            let done = match std::fs::symlink_metadata(path) {
                Ok(there) => {
                    there.uid() == uid && there.gid() == gid && there.permissions().mode() & 0o7777 == *mode
                }
                Err(_) => *path == self.app.server_config(),
            };
            if !done {
                return Ok(false);
            }
        }
        Ok(self.repository_is_done()? && self.door_is_open()?)
    }

    fn perform(&self) -> Result<()> {
        // What a death left beside the app's place.
        found::sweep(self.app.root())?;
        if self.app.name().parent().is_none() {
            self.own_repository()?;
        }
        death::point("owners-given");
        for (path, owner, mode) in &self.parts {
            let (uid, gid) =
                owner.numbers()?.ok_or_else(|| Error::new(format!("there is no {}", owner.user)))?;
            let there = std::fs::symlink_metadata(path);
            match there {
                Ok(about) if about.is_symlink() => {
                    return Err(Error::new(format!("{} is a symlink", path.display())));
                }
                Ok(_) => own(path, uid, gid, *mode)?,
                Err(_) if *path == self.app.server_config() => {}
                Err(error) => return Err(error).context(|| format!("cannot look at {}", path.display())),
            }
        }
        acl::let_in(self.app.directory(), Account::want(&self.door)?.uid)
    }
}

/// What the server's file of an app says for a dotted key, where it is text.
pub(super) fn said(app: &App, key: &str) -> Result<Option<String>> {
    let text = files::read_text(&app.server_config())?.unwrap_or_default();
    let table: toml::Value = toml::from_str(&text)
        .map_err(|_| Error::new(format!("{} is damaged", app.server_config().display())))?;
    let value = key.split('.').try_fold(&table, |place, part| place.get(part));
    Ok(value.and_then(toml::Value::as_str).map(str::to_owned))
}

/// A setting in the server's file of an app.
pub struct Setting {
    /// The app.
    pub app: App,
    /// The key, dotted.
    pub key: &'static str,
    /// What it is to be.
    pub value: String,
}

impl Act for Setting {
    fn what(&self) -> String {
        format!("setting    {} {} = {}", self.app.name(), self.key, self.value)
    }

    fn is_done(&self) -> Result<bool> {
        Ok(said(&self.app, self.key)?.as_ref() == Some(&self.value))
    }

    fn perform(&self) -> Result<()> {
        let root = self.app.root().display().to_string();
        let words = ["--quiet", "--root", &root, "config", self.app.name().as_str(), self.key, &self.value];
        match identity::run_as_receiver(words.iter().map(Into::into).collect())? {
            0 => Ok(()),
            _ => Err(Error::new(format!("cannot set {}", self.key))),
        }
    }
}

/// The unit that looks at an app's queue: from then on it can be pushed to.
pub struct Queue {
    app: App,
    unit: Unit,
}

impl Queue {
    /// That of an app.
    pub fn of(app: &App) -> Queue {
        Queue { app: app.clone(), unit: Unit { name: systemd::queue_unit(app), now: true } }
    }
}

impl Act for Queue {
    fn what(&self) -> String {
        self.unit.what()
    }

    fn is_done(&self) -> Result<bool> {
        self.unit.is_done()
    }

    fn perform(&self) -> Result<()> {
        self.unit.perform()
    }

    /// What runs of it ends first, and nginx forgets it.
    fn undo(&self) -> Result<bool> {
        if self.app.user().is_some() {
            deploy::site::take_back(&self.app)?;
            let root = self.app.root().display().to_string();
            let words = ["--quiet", "--root", &root, "down", self.app.name().as_str()];
            if identity::run_as_receiver(words.iter().map(Into::into).collect())? != 0 {
                return Err(Error::new(format!("cannot end what runs of {}", self.app.name())));
            }
        }
        self.unit.undo()
    }
}
