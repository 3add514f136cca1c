//! The apps of a server: which there are, whose they are, and what each is.
//!
//! Where an app's own files lie is said in [`paths`](super::paths).

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::journal::refuse_newer;
use super::names::{AppName, list_names};
use super::server;
use super::sight::Sight;
use crate::support::{Context, Error, Result, files};

/// The number that every file of state begins with. An older one is read and brought up; a newer
/// one is refused and not written.
pub const FORMAT: u32 = 1;

/// The directory that all apps of a server lie in: `--root`, or `$RECEIVER_ROOT`, or `/srv`; and which of them
/// are seen.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    sight: Sight,
}

impl Root {
    /// The root that `flag` or the environment names. A relative one is taken from where we stand.
    pub fn find(flag: Option<&Path>) -> Result<Root> {
        let named = flag.map(Path::to_owned).or_else(|| {
            std::env::var_os("RECEIVER_ROOT").filter(|value| !value.is_empty()).map(PathBuf::from)
        });
        let path = named.unwrap_or_else(|| PathBuf::from("/srv"));
        let path = std::path::absolute(&path).context(|| format!("cannot use {} as root", path.display()))?;
        // Where it is there already, by its real name: hooks and commands then speak of the same place.
        Ok(Root { path: path.canonicalize().unwrap_or(path), sight: Sight::All })
    }

    /// The same for somebody who sees these apps only: no other can be opened, or is listed.
    #[must_use]
    pub fn seen_by(self, sight: &Sight) -> Root {
        Root { sight: sight.clone(), ..self }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the keys lie of whoever has this root to himself, and what belongs to them.
    pub fn keys(&self) -> PathBuf {
        self.path.join(".receiver")
    }

    /// The place of an app that may not be there yet.
    pub fn place(&self, name: &AppName) -> App {
        App { name: name.clone(), directory: self.path.join(name.as_str()) }
    }

    /// An app that is there.
    pub fn open(&self, name: &AppName) -> Result<App> {
        let app = self.place(name);
        if self.has(name) {
            app.refuse_newer()?;
            return Ok(app);
        }
        let is_seen = self.sight.shows(name);
        if is_seen && files::is_directory(&app.directory) && files::exists(&app.marker()) {
            return Err(Error::new(format!("{} is not a regular file", app.marker().display()))
                .hint("put it back, for instance from a backup"));
        }
        if is_seen {
            self.refuse_closed(name)?;
        }
        let hint = match (&self.sight, self.apps()?.as_slice()) {
            (Sight::Only(names), []) => format!("the apps of this key: {}", list_names(names)),
            (Sight::All, []) => format!("`receiver create {name}` makes it"),
            (_, apps) => format!("the apps here: {}", list_names(apps.iter().map(App::name))),
        };
        Err(Error::usage(format!("there is no app '{name}' in {}", self.path.display())).hint(hint))
    }

    /// An app that this account may not look into is not one that is not there.
    fn refuse_closed(&self, name: &AppName) -> Result<()> {
        let app = self.place(name);
        match std::fs::symlink_metadata(app.marker()) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(Error::new(format!("this account may not look into {}", app.directory().display()))
                    .hint("`sudo receiver …` may, or `ssh ACCOUNT@SERVER …` with a key of the app"))
            }
            _ => Ok(()),
        }
    }

    /// Says so where there are apps, and this account may look into none of them.
    pub fn refuse_all_closed(&self) -> Result<()> {
        let names = files::names_in(&self.path)?;
        names.iter().filter_map(|name| name.parse().ok()).try_for_each(|name| self.refuse_closed(&name))
    }

    /// Whether an app is there, and seen.
    pub fn has(&self, name: &AppName) -> bool {
        self.sight.shows(name) && self.place(name).is_created()
    }

    /// All apps, by name.
    pub fn apps(&self) -> Result<Vec<App>> {
        let names = files::names_in(&self.path)?;
        let seen = names.iter().filter_map(|name| name.parse().ok()).filter(|name| self.sight.shows(name));
        let apps = seen.map(|name| self.place(&name));
        // What looks like a branch's app, and was not made as one, is nobody's: `doctor` names it.
        Ok(apps.filter(|app| app.is_created() && app.lineage().is_ok()).collect())
    }

    /// The app of the directory `place`, or of one above it.
    pub fn app_around(&self, place: &Path) -> Option<App> {
        let place = place.canonicalize().ok()?;
        let name = place.strip_prefix(&self.path).ok()?.components().next()?;
        let name = name.as_os_str().to_str()?.parse().ok()?;
        self.has(&name).then(|| self.place(&name))
    }
}

/// What the app of a branch was made for, as its marker says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Lineage {
    /// The app that it is a branch of.
    pub parent: AppName,
    /// The branch.
    pub branch: String,
    /// Whether it goes with its branch.
    pub preview: bool,
}

/// An app and its directory `ROOT/APP`.
#[derive(Clone, Debug)]
pub struct App {
    name: AppName,
    directory: PathBuf,
}

impl App {
    /// The app whose repository is at `repository`: its directory's name is the app's.
    pub fn of_repository(repository: &Path) -> Result<App> {
        let place = repository.canonicalize().context(|| format!("cannot find {}", repository.display()))?;
        let directory = place.parent().unwrap_or(Path::new("/")).to_owned();
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default().parse()?;
        let app = App { name, directory };
        if place == app.repository() && app.is_created() {
            app.refuse_newer()?;
            return Ok(app);
        }
        Err(Error::new(format!("{} is not the repository of an app", place.display())))
    }

    /// The app that a file of [`App::process`] is one of.
    pub fn of_process(file: &Path) -> Result<App> {
        let refuse = || Error::new(format!("{} is not the start of a process of an app", file.display()));
        let place = file.canonicalize().context(|| format!("cannot find {}", file.display()))?;
        let directory = place.ancestors().nth(4).ok_or_else(refuse)?.to_owned();
        let name = directory.file_name().and_then(|name| name.to_str()).ok_or_else(refuse)?.parse()?;
        let app = App { name, directory };
        if place.parent() == Some(&app.processes()) && app.is_created() {
            app.refuse_newer()?;
            return Ok(app);
        }
        Err(refuse())
    }

    /// Its name.
    pub fn name(&self) -> &AppName {
        &self.name
    }

    /// `ROOT/APP`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The root that it lies in.
    pub fn root(&self) -> &Path {
        self.directory.parent().unwrap_or(Path::new("/"))
    }

    /// Whether `receiver create` made it, wholly. A link to an app would be the same app by a second name.
    pub fn is_created(&self) -> bool {
        files::is_directory(&self.directory) && self.marker().is_file()
    }

    /// The user that its stages and processes run as, where setup gave it one of its own; `None` where everything of
    /// it is one user's.
    pub fn user(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Owned {
            user: String,
        }
        let text = files::read_text(&self.marker()).ok()??;
        let owned: Owned = toml::from_str(&text).ok()?;
        // No other name counts: the marker must not make anybody else an app's user.
        (owned.user == server::user_of(&self.name)).then_some(owned.user)
    }

    /// The group of the account that is pushed to, which reads of receiver's state what a push is judged by; `None`
    /// where everything is one user's.
    pub fn door_group(&self) -> Option<u32> {
        self.user()?;
        std::fs::symlink_metadata(self.directory.join("receiver")).ok().map(|about| about.gid())
    }

    /// The mode of a file of state that hooks read, which are another user where setup made the app.
    pub fn state_mode(&self) -> u32 {
        if self.user().is_some() { 0o640 } else { 0o600 }
    }

    /// Refuses an app that a newer receiver made.
    fn refuse_newer(&self) -> Result<()> {
        match self.marker_format() {
            Ok(format) => refuse_newer(format, &self.marker()),
            // What cannot be read says nothing about it; `doctor` names it.
            Err(_) => Ok(()),
        }
    }

    /// The format's number in the app's marker.
    ///
    /// # Errors
    /// Where it is damaged.
    pub fn marker_format(&self) -> Result<u32> {
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        let path = self.marker();
        let text = files::read_text(&path)?.unwrap_or_default();
        let format: Option<Format> = toml::from_str(&text).ok();
        format.map(|there| there.format).ok_or_else(|| Error::new(format!("{} is damaged", path.display())))
    }

    /// What says that receiver made this directory.
    pub fn marker(&self) -> PathBuf {
        self.state("app.toml")
    }

    /// Another app of the same root, which may not be there.
    #[must_use]
    pub fn sibling(&self, name: &AppName) -> App {
        App { name: name.clone(), directory: self.root().join(name.as_str()) }
    }

    /// What the app of a branch was made for; `None` for any other app.
    ///
    /// # Errors
    /// Where its marker is damaged, or was not written for a branch of the app that its name says.
    pub fn lineage(&self) -> Result<Option<Lineage>> {
        let Some(parent) = self.name.parent() else { return Ok(None) };
        let path = self.marker();
        let text = files::read_text(&path)?.unwrap_or_default();
        let lineage: Option<Lineage> = toml::from_str(&text).ok();
        match lineage.filter(|lineage| lineage.parent == parent) {
            Some(lineage) => Ok(Some(lineage)),
            None => Err(Error::new(format!("{parent} did not make the app {}", self.name))
                .hint(format!("choose another name, or move {} away", self.directory.display()))),
        }
    }

    /// All apps of the same root, this one too.
    pub fn neighbours(&self) -> Result<Vec<App>> {
        Root { path: self.root().to_owned(), sight: Sight::All }.apps()
    }

    /// The apps of this one's branches that are there, by name, each with what it was made for. One that
    /// this app did not make is none of them.
    pub fn branch_apps(&self) -> Result<Vec<(App, Lineage)>> {
        let ours =
            self.neighbours()?.into_iter().filter(|app| app.name.parent().as_ref() == Some(&self.name));
        Ok(ours.filter_map(|app| Some((app.clone(), app.lineage().ok()??))).collect())
    }
}
