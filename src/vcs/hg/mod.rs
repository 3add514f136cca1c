//! A Mercurial repository: its history as `hg` tells it, its contents as git objects.
//!
//! Nothing that was pushed runs, and nothing that was pushed is an option of `hg`. What receiver keeps lies in
//! `.hg/receiver/`, where no changeset can put a file.

pub mod bundle;
mod changelog;
mod contents;
mod heads;
mod server;
mod store;
pub mod subrepositories;
mod upkeep;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use contents::Brought;
pub use heads::Moved;
use heads::{Heads, Kept};
use server::Server;
pub use server::not_started;

use super::git;
use super::tree::Tree;
use crate::app::Revision;
use crate::support::{Error, Result, files, text};

/// What receiver keeps in a repository.
pub fn place(repository: &Path) -> PathBuf {
    repository.join(".hg/receiver")
}

/// The oldest Mercurial that receiver speaks with: `hg cat` has templates that say all of a file since then.
const OLDEST: (u32, u32) = (5, 2);

/// The version of the `hg` that is installed.
///
/// # Errors
/// Where there is none, or it is too old.
pub fn version() -> Result<String> {
    let said = server::command().args(["version", "--quiet"]).output().map_err(server::not_started)?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said.rsplit_once("version ").map_or("", |(_, rest)| rest).trim().trim_end_matches(')');
    let mut numbers = version.split(['.', '+', 'r']).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        let shown =
            if version.is_empty() { "of no version that it says".to_owned() } else { version.to_owned() };
        let (major, minor) = OLDEST;
        return Err(Error::new(format!("Mercurial {} is too old", text::printable(&shown)))
            .hint(format!("install {major}.{minor} or newer")));
    }
    Ok(version.to_owned())
}

/// Brings one changeset of another repository into a mirror of it, for the subrepository `shown`; answers where
/// its objects are, and the commit there.
pub fn mirror(place: &Path, address: &str, revision: &str, shown: &str) -> Result<(PathBuf, git2::Oid)> {
    if !place.is_dir() {
        Repository::create(place)?;
    }
    let revision: Revision = revision.parse()?;
    if !Repository::open(place)?.knows(&revision) {
        let mut pull = server::command();
        pull.args(["--config", "ui.ssh=ssh -oBatchMode=yes", "-R"]).arg(place);
        pull.args(["pull", "--quiet", "--rev", revision.as_str(), "--", address]);
        let pulled = pull.output().map_err(server::not_started)?;
        if !pulled.status.success() {
            let (from, why) = (text::printable(address), server::first_line(&pulled.stderr));
            return Err(Error::new(format!(
                "the subrepository {shown} needs the changeset {revision}, which {from} does not have ({why})"
            ))
            .hint("push the subrepository's changeset to its repository first"));
        }
    }
    let mirror = Repository::open(place)?;
    match mirror.bring(&revision)? {
        Brought::Commit(commit) => Ok((mirror.objects.path().to_owned(), commit)),
        Brought::Complaints(complaints) => {
            let why = complaints.first().map_or("", String::as_str);
            Err(Error::new(format!("the subrepository {shown} cannot be deployed: {why}")))
        }
    }
}

/// A Mercurial repository.
pub struct Repository {
    path: PathBuf,
    objects: git::Repository,
    /// Whether what is being pushed is seen.
    pending: bool,
    /// Started when something is asked that no file tells.
    server: RefCell<Option<Server>>,
}

impl Repository {
    /// Opens the repository of an app.
    pub fn open(path: &Path) -> Result<Repository> {
        Repository::open_as(path, false)
    }

    /// Opens it as a hook of Mercurial finds it: with the transaction that is not closed yet.
    pub fn open_in_hook(path: &Path) -> Result<Repository> {
        Repository::open_as(path, true)
    }

    fn open_as(path: &Path, pending: bool) -> Result<Repository> {
        if !path.join(".hg").is_dir() {
            return Err(Error::new(format!("{} is no Mercurial repository", path.display())));
        }
        let objects = store::open(path)?;
        Ok(Repository { path: path.to_owned(), objects, pending, server: RefCell::new(None) })
    }

    /// Makes an empty one.
    pub fn create(path: &Path) -> Result<()> {
        version()?;
        let made = server::command().args(["init", "--"]).arg(path).output().map_err(server::not_started)?;
        if !made.status.success() {
            let why = server::first_line(&made.stderr);
            let error = Error::new(format!("cannot make {}", path.display()));
            return Err(error.caused_by(std::io::Error::other(why)));
        }
        files::make_directory(&place(path), 0o755)
    }

    /// Lets a group write to what is kept of its contents, which whoever made it has read already. Only where nobody else
    /// can write to it yet.
    pub fn give_to_group(path: &Path) -> Result<()> {
        store::give_to_group(path)
    }

    /// Where its contents are read from.
    pub fn objects(&self) -> &git::Repository {
        &self.objects
    }

    /// Asks the command server, which is started for it.
    fn server<T>(&self, ask: impl FnOnce(&mut Server) -> Result<T>) -> Result<T> {
        let mut kept = self.server.borrow_mut();
        let server = match &mut *kept {
            Some(server) => server,
            none => none.insert(Server::start(&self.path, self.pending)?),
        };
        ask(server)
    }

    fn heads(&self) -> Result<Heads> {
        let kept = Kept::of(&self.path);
        if !self.pending
            && let Some(end) = changelog::end(&self.path)
            && let Some(heads) = kept.find(&end)
        {
            return Ok(heads);
        }
        let (heads, end) = self.server(Heads::ask)?;
        kept.keep(end, &heads);
        Ok(heads)
    }

    /// What moves by the transaction that is not closed yet.
    pub fn moves(&self) -> Result<Vec<Moved>> {
        let before = Repository::open(&self.path)?.heads()?;
        let mut moved = before.moved(&self.heads()?);
        for one in &mut moved {
            if let (Some(old), Some(new)) = (&one.old, &one.new) {
                one.forced = !self.is_ancestor(old, new);
            }
        }
        Ok(moved)
    }

    /// The changeset that a branch points to: of several heads the newest.
    pub fn tip(&self, branch: &str) -> Result<Option<Revision>> {
        Ok(self.heads()?.tip(branch).cloned())
    }

    /// The names of all open branches, and of all bookmarks.
    pub fn branches(&self) -> Result<Vec<String>> {
        Ok(self.heads()?.names())
    }

    /// Why a branch cannot be deployed; `None` where it can be.
    pub fn refuse_branch(&self, branch: &str) -> Result<Option<Error>> {
        let heads = self.heads()?;
        let heads = heads.of(branch);
        if heads.len() < 2 {
            return Ok(None);
        }
        let named: Vec<&str> = heads.iter().map(|head| head.short()).collect();
        let error = format!("{branch} has {} heads: {}", heads.len(), named.join(", "));
        Ok(Some(Error::new(error).hint(format!(
            "leave one: `hg merge`, or close the other with `hg commit --close-branch`, then push again; or push it as a bookmark, \
             `hg push -B NAME`, and it counts no more for {branch}"
        ))))
    }

    /// The changeset that a person means: a branch, a bookmark, a tag, a full or a short hash.
    pub fn resolve(&self, name: &str) -> Result<Revision> {
        let nobody =
            || Error::usage(format!("there is no revision '{}' in the repository", text::printable(name)));
        if let Some(tip) = self.heads()?.tip(name) {
            return Ok(tip.clone());
        }
        // Not as a revset: those have functions, and this may be anything.
        let plain = |c: char| c.is_alphanumeric() || "._-+/ ".contains(c);
        if name.is_empty() || !name.chars().all(plain) || name.bytes().all(|b| b == b'f') {
            return Err(nobody());
        }
        let by_hash = name.len() >= 4 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let asked = [by_hash.then(|| format!("id('{name}')")), Some(format!("tag('literal:{name}')"))];
        for revset in asked.into_iter().flatten() {
            let found =
                self.server(|server| server.ask(&[b"log", b"-r", revset.as_bytes(), b"-T", b"{node}\\n"]));
            let found = match found {
                // That no tag has the name is Mercurial's word for it.
                Err(error) if !error.one_line().contains("does not exist") => return Err(error),
                found => String::from_utf8_lossy(&found.unwrap_or_default()).into_owned(),
            };
            if let Some(node) = found.lines().next() {
                return node.parse();
            }
        }
        Err(nobody())
    }

    /// Whether it has a changeset that may be deployed: neither hidden nor gone.
    pub fn knows(&self, revision: &Revision) -> bool {
        let revset = format!("id('{revision}')");
        let found = self.server(|server| server.ask(&[b"log", b"-r", revset.as_bytes(), b"-T", b"{node}"]));
        found.is_ok_and(|found| found == revision.as_str().as_bytes())
    }

    /// Whether `old` is among the ancestors of `new`.
    pub fn is_ancestor(&self, old: &Revision, new: &Revision) -> bool {
        let revset = format!("id('{old}') and ancestors(id('{new}'))");
        let found = self.server(|server| server.ask(&[b"log", b"-r", revset.as_bytes(), b"-T", b"{node}"]));
        found.is_ok_and(|found| found == old.as_str().as_bytes())
    }

    /// The commit that has exactly a changeset's files.
    pub fn commit(&self, revision: &Revision) -> Result<Revision> {
        match self.bring(revision)? {
            Brought::Commit(id) => id.to_string().parse(),
            Brought::Complaints(complaints) => Err(Error::new(format!(
                "{} cannot be read: {}",
                revision.short(),
                complaints.first().map_or("", String::as_str)
            ))),
        }
    }

    /// Everything in a changeset, with what is wrong about its names.
    pub fn tree(&self, revision: &Revision) -> Result<Tree> {
        match self.bring(revision)? {
            Brought::Commit(id) => self.objects.tree(&id.to_string().parse()?),
            Brought::Complaints(complaints) => Ok(Tree { complaints, ..Tree::default() }),
        }
    }
}
