//! An app out of a backup, on a server that setup makes: the same as anywhere, and then whose each part is.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::rc::Rc;

use super::act::{Act, run};
use super::apps::Owned;
use super::certificate;
use super::plan::Engine;
use crate::app::server::Server;
use crate::app::settings::{server_config_change, server_config_get};
use crate::app::{App, AppName, Root, Vcs};
use crate::deploy::backup::{self, Head, Incoming};
use crate::deploy::found;
use crate::server::place::Place;
use crate::server::{carried, identity};
use crate::support::{Error, Result, files};

/// A backup that an app is made of.
pub struct Backup {
    head: Head,
    stream: RefCell<Incoming>,
    say: Box<dyn Fn(&str)>,
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Backup {
    /// That of an app; one of another is refused. `say` is told how far it is read.
    pub fn of(name: &AppName, stream: Incoming, say: Box<dyn Fn(&str)>) -> Result<Backup> {
        backup::refuse_other(stream.head(), name)
            .map_err(|error| error.hint("it is made by the name that it has in the backup"))?;
        Ok(Backup { head: stream.head().clone(), stream: RefCell::new(stream), say })
    }

    /// What the app is pushed to with.
    pub fn vcs(&self) -> Result<Vcs> {
        backup::vcs_of(&self.head)
    }

    /// What keeps the data that is in it; `None` where there is none.
    pub fn engine(&self) -> Result<Option<Engine>> {
        let Some(database) = self.head.databases.iter().find(|database| database.live) else {
            return Ok(None);
        };
        Engine::of_word(&database.engine).map(Some).ok_or_else(|| {
            Error::new(format!(
                "the backup has data of '{}', which is not known",
                database.engine.escape_default()
            ))
        })
    }
}

/// The app, as the backup has it.
pub struct Restored {
    /// The root that it lies in.
    pub root: Root,
    /// Its name.
    pub name: AppName,
    /// Whose it is to be.
    pub server: Server,
    /// Who restores it.
    pub by: String,
    /// What it is made of.
    pub backup: Rc<Backup>,
}

impl Act for Restored {
    fn what(&self) -> String {
        let Head { taken, live, .. } = &self.backup.head;
        let live = match live {
            Some(live) => format!("{} is built and deployed anew", live.revision.short()),
            None => "nothing was live".to_owned(),
        };
        format!(
            "app        {}, of the backup of {taken}: {live}",
            self.root.place(&self.name).directory().display()
        )
    }

    /// An app that is there is never touched. It is this one where it was made in the same moment.
    fn is_done(&self) -> Result<bool> {
        let app = self.root.place(&self.name);
        if !app.is_created() {
            found::refuse_taken(app.directory())?;
            return Ok(false);
        }
        if app.user().is_some() && found::created(&app)? == self.backup.head.created {
            return Ok(true);
        }
        Err(Error::new(format!("{} is there already, and it is not the one of the backup", self.name))
            .hint("nothing is overwritten by a restore: move it away first, or restore on another server"))
    }

    fn perform(&self) -> Result<()> {
        let server = &self.server;
        let stream = &mut *self.backup.stream.borrow_mut();
        let say = &mut |line: &str| (self.backup.say)(line);
        let own = &mut |made: &App| {
            without_lost_certificate(made)?;
            Owned::new(made.clone(), made.vcs(), server).own_contents()
        };
        let restored = backup::restore_of(&self.root, &self.name, &self.by, stream, say, own)?;
        for branch in restored.without {
            log::warn!("{branch} was not in the backup; its branch is");
        }
        Ok(())
    }

    fn undo(&self) -> Result<bool> {
        Ok(false)
    }
}

/// nginx refuses a site whose certificate is not there: it comes back by http, until there is one.
fn without_lost_certificate(made: &App) -> Result<()> {
    let path = made.server_config();
    let Some(text) = files::read_text(&path)? else { return Ok(()) };
    let mut lost = Vec::new();
    for key in certificate::SETTINGS {
        lost.extend(server_config_get(&text, key)?.filter(|file| !Path::new(file).exists()));
    }
    if lost.is_empty() {
        return Ok(());
    }
    let text = server_config_change(&text, &certificate::SETTINGS.map(|key| (key, None)))?;
    files::write_atomic(&path, text.as_bytes(), 0o600)?;
    log::warn!(
        "{} is not on this server, so the site comes back by http; the same command with --domain and --email gets a \
         certificate",
        lost.join(", ")
    );
    Ok(())
}

/// The keys that name a restored app, and came with its backup.
pub struct Carried(pub App);

impl Act for Carried {
    fn what(&self) -> String {
        format!("keys       those of the backup that name {}", self.0.name())
    }

    fn is_done(&self) -> Result<bool> {
        Ok(self.0.is_created() && !files::exists(&self.0.carried_keys()))
    }

    fn perform(&self) -> Result<()> {
        let app = self.0.clone();
        let lines = identity::as_receiver(move || carried::bring(&Place::of_server()?, &app))?;
        for line in lines {
            match line {
                Ok(line) => log::info!("{line}"),
                Err(line) => log::warn!("{line}"),
            }
        }
        Ok(())
    }
}

/// Has a restored app deploy what was live, where nothing is yet: its first deploy waits, or failed and is ordered again.
/// Follows it to its end; the answer is its exit code.
pub fn first_deploy(app: &App, by: &str) -> Result<u8> {
    let (waiting, by) = (app.clone(), by.to_owned());
    if identity::as_receiver(move || backup::resume(&waiting, &by))?.is_none() {
        return Ok(0);
    }
    // What starts it is the unit that looks at the queue; it may have given up, where there was nothing to be done for it.
    run("systemctl", &["start", "--", &crate::serve::systemd::queue_unit(app)])?;
    let root = app.root().display().to_string();
    let words = ["--root", &root, "attach", app.name().as_str()];
    identity::run_as_receiver(words.iter().map(Into::into).collect())
}
