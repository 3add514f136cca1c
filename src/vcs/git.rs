//! A git repository, read through git2, and its objects through [`Source`]: nothing that was pushed runs, no work
//! tree is needed.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Once;

use git2::{ConfigLevel, ObjectType, RepositoryOpenFlags};

use super::objects::{Reader, Source};
use super::tree::{Kind, ObjectId, Tree};
use super::walk;
use crate::app::Revision;
use crate::support::{Context, Error, Result, files, text};

/// What has a name at the top of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtTop {
    /// A file.
    File(ObjectId),
    /// A directory.
    Directory,
    /// A symlink or a submodule.
    Other,
}

/// A bare git repository.
pub struct Repository {
    inner: git2::Repository,
    path: PathBuf,
    source: Source,
}

fn set_up_library() {
    static ONCE: Once = Once::new();
    // What is in the repository was hashed when it came in; to hash it again on every read costs
    // more than to write it (field notes, "numbers to beat").
    ONCE.call_once(|| git2::opts::strict_hash_verification(false));
}

/// What git calls the limit of one push, in bytes (git-config(1)).
const PUSH_LIMIT: &str = "receive.maxInputSize";

impl Repository {
    /// Opens the repository of an app.
    pub fn open(path: &Path) -> Result<Repository> {
        set_up_library();
        let inner =
            git2::Repository::open_bare(path).context(|| format!("cannot open {}", path.display()))?;
        let source = Source::open(path, &[inner.commondir().join("objects")])?;
        Ok(Repository { inner, path: path.to_owned(), source })
    }

    /// Opens the repository as a hook of git finds it: with the objects that are still in quarantine.
    pub fn open_in_hook(path: &Path) -> Result<Repository> {
        set_up_library();
        let flags = RepositoryOpenFlags::FROM_ENV;
        let none: [&Path; 0] = [];
        let inner = git2::Repository::open_ext(path, flags, none)
            .context(|| format!("cannot open {} with what is being pushed", path.display()))?;
        // git-receive-pack(1), "QUARANTINE ENVIRONMENT".
        let quarantine = std::env::var_os("GIT_OBJECT_DIRECTORY").map(PathBuf::from);
        let directories: Vec<_> = quarantine.into_iter().chain([inner.commondir().join("objects")]).collect();
        let source = Source::open(path, &directories)?;
        Ok(Repository { inner, path: path.to_owned(), source })
    }

    /// The library's view of it.
    pub(super) fn raw(&self) -> &git2::Repository {
        &self.inner
    }

    /// Where its objects are read from.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// A reader of its objects.
    pub fn reader(&self) -> Reader<'_> {
        self.source.reader()
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has git refuse a push that sends more than so many bytes, while it arrives.
    pub fn limit_pushes(&self, bytes: Option<u64>) -> Result<()> {
        let cannot = || "cannot limit what is pushed";
        let mut config =
            self.inner.config().and_then(|all| all.open_level(ConfigLevel::Local)).context(cannot)?;
        let said = config.get_string(PUSH_LIMIT).ok();
        let wanted = bytes.map(|bytes| bytes.to_string());
        match wanted {
            wanted if wanted == said => Ok(()),
            Some(wanted) => config.set_str(PUSH_LIMIT, &wanted).context(cannot),
            None => config.remove(PUSH_LIMIT).context(cannot),
        }
    }

    /// The commit that a branch points to.
    pub fn tip(&self, branch: &str) -> Result<Option<Revision>> {
        match self.inner.find_reference(&format!("refs/heads/{branch}")) {
            Ok(reference) => reference.target().map(|id| id.to_string().parse()).transpose(),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error).context(|| format!("cannot read the branch {branch}")),
        }
    }

    /// The names of all branches.
    pub fn branches(&self) -> Vec<String> {
        let Ok(references) = self.inner.references_glob("refs/heads/*") else { return Vec::new() };
        let names = references.flatten().filter_map(|reference| reference.name().map(str::to_owned).ok());
        names.map(|name| name["refs/heads/".len()..].to_owned()).collect()
    }

    /// The commit that a person means: a branch, a tag, a full or a short hash.
    pub fn resolve(&self, name: &str) -> Result<Revision> {
        let nobody =
            || Error::usage(format!("there is no revision '{}' in the repository", text::printable(name)));
        let object = self.inner.revparse_single(name).map_err(|_| nobody())?;
        let commit = object.peel_to_commit().map_err(|_| nobody())?;
        commit.id().to_string().parse()
    }

    /// Why a revision is no commit, or `None` where it is one.
    pub fn refuse_non_commit(&self, revision: &Revision) -> Option<String> {
        let id = ObjectId::from_str(revision.as_str()).ok()?;
        match self.inner.find_object(id, None) {
            Ok(object) if object.kind() == Some(ObjectType::Commit) => None,
            Ok(object) if object.kind() == Some(ObjectType::Tag) => Some(format!(
                "it is an annotated tag; push the commit: `git push REMOTE {}^{{commit}}:BRANCH`",
                revision.short()
            )),
            Ok(_) => Some("it is no commit".to_owned()),
            Err(_) => Some("it is not in the repository".to_owned()),
        }
    }

    fn commit(&self, revision: &Revision) -> Result<git2::Commit<'_>> {
        ObjectId::from_str(revision.as_str())
            .and_then(|id| self.inner.find_commit(id))
            .context(|| format!("cannot read the commit {revision}"))
    }

    /// The first line of a commit's message, safe for a terminal.
    pub fn subject(&self, revision: &Revision) -> Result<String> {
        let commit = self.commit(revision)?;
        let subject = commit.summary_bytes().unwrap_or_default();
        Ok(text::printable_bytes(subject).chars().take(200).collect())
    }

    /// Whether `old` is among the ancestors of `new`: then a push from one to the other forced nothing.
    pub fn is_ancestor(&self, old: &Revision, new: &Revision) -> bool {
        let (Ok(old), Ok(new)) = (ObjectId::from_str(old.as_str()), ObjectId::from_str(new.as_str())) else {
            return false;
        };
        old == new || self.inner.graph_descendant_of(new, old).unwrap_or(false)
    }

    /// Whether commits of `new` that no branch has yet lack their parents: it comes from a shallow clone.
    pub fn lacks_history(&self, new: &Revision) -> Result<bool> {
        let walk = (|| {
            let mut walk = self.inner.revwalk()?;
            walk.push(ObjectId::from_str(new.as_str())?)?;
            walk.hide_glob("refs/heads/*")?;
            walk.collect::<Result<Vec<_>, _>>()
        })();
        match walk {
            Ok(_) => Ok(false),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(true),
            Err(error) => Err(error).context(|| "cannot read the history of what is pushed"),
        }
    }

    /// Everything in a revision, with what is wrong about its names.
    pub fn tree(&self, revision: &Revision) -> Result<Tree> {
        let top = self.commit(revision)?.tree_id();
        walk::tree(&self.source, top, b"")
    }

    /// What has this name at the top of a revision; the rest of it is not looked at.
    pub fn at_top(&self, revision: &Revision, name: &str) -> Result<Option<AtTop>> {
        let tree = self.commit(revision)?.tree().context(|| format!("cannot read the tree of {revision}"))?;
        let kind = |entry: &git2::TreeEntry| Kind::of_mode(entry.filemode().cast_unsigned());
        Ok(tree.get_name(name).map(|entry| match kind(&entry) {
            None => AtTop::Directory,
            Some(Kind::File { .. }) => AtTop::File(entry.id()),
            Some(Kind::Link | Kind::Submodule) => AtTop::Other,
        }))
    }

    /// The tree of a submodule's commit, its paths below `at`.
    pub fn tree_at(&self, commit: ObjectId, at: &[u8]) -> Result<Tree> {
        let top =
            self.inner.find_commit(commit).context(|| format!("cannot read the commit {commit}"))?.tree_id();
        walk::tree(&self.source, top, at)
    }

    /// Whether an object is there.
    pub fn has(&self, id: ObjectId) -> bool {
        self.inner.odb().is_ok_and(|objects| objects.exists(id))
    }

    /// The targets of all symlinks of a tree, by path.
    pub fn link_targets(&self, tree: &Tree) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let links = tree.entries.iter().filter(|entry| entry.kind == Kind::Link);
        let (reader, mut targets) = (self.reader(), BTreeMap::new());
        for link in links {
            let size = reader.size(link.id)?;
            if size > 4095 {
                return Err(Error::new(format!("{} is a symlink of {size} bytes", link.shown())));
            }
            targets.insert(link.path.clone(), reader.read(link.id)?);
        }
        Ok(targets)
    }

    /// The paths in which two revisions differ, those of submodules that moved among them.
    pub fn changed_paths(&self, old: &Revision, new: &Revision) -> Result<HashSet<Vec<u8>>> {
        let (old, new) = (self.commit(old)?, self.commit(new)?);
        let (old, new) =
            (old.tree().context(|| "cannot read a tree")?, new.tree().context(|| "cannot read a tree")?);
        let diff = self.inner.diff_tree_to_tree(Some(&old), Some(&new), None);
        let diff = diff.context(|| "cannot compare two revisions")?;
        let paths = diff.deltas().filter_map(|delta| {
            delta.new_file().path_bytes().or_else(|| delta.old_file().path_bytes()).map(<[u8]>::to_vec)
        });
        Ok(paths.collect())
    }

    /// Keeps a revision from garbage collection for as long as `name` is held.
    pub fn hold(&self, name: &str, revision: &Revision) -> Result<()> {
        let id = ObjectId::from_str(revision.as_str()).context(|| format!("cannot hold {revision}"))?;
        self.remove_dead_lock(name)?;
        self.inner
            .reference(&held(name), id, true, "receiver: a release")
            .map(drop)
            .context(|| format!("cannot hold {revision}"))
    }

    /// Lets a revision go.
    pub fn release(&self, name: &str) -> Result<()> {
        self.remove_dead_lock(name)?;
        match self.inner.find_reference(&held(name)).and_then(|mut reference| reference.delete()) {
            Err(error) if error.code() != git2::ErrorCode::NotFound => {
                Err(error).context(|| format!("cannot let the ref {} go", held(name)))
            }
            _ => Ok(()),
        }
    }

    /// Lets go of all that is held below `group`.
    pub fn release_all(&self, group: &str) -> Result<()> {
        let begin = format!("{group}/");
        self.holds().iter().filter(|name| name.starts_with(&begin)).try_for_each(|name| self.release(name))
    }

    /// Only who has the app's lock writes these refs: a lock file here was left by a worker that died in
    /// the middle of it, and nobody else would ever take it away.
    fn remove_dead_lock(&self, name: &str) -> Result<()> {
        files::remove_file(&self.inner.path().join(format!("{}.lock", held(name))))
    }

    /// The names that revisions are held by.
    pub fn holds(&self) -> Vec<String> {
        let Ok(references) = self.inner.references_glob("refs/receiver/*") else { return Vec::new() };
        let names = references.flatten().filter_map(|reference| reference.name().map(str::to_owned).ok());
        names.map(|name| name["refs/receiver/".len()..].to_owned()).collect()
    }
}

fn held(name: &str) -> String {
    format!("refs/receiver/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(repository: &git2::Repository, bytes: &[u8]) -> ObjectId {
        repository.blob(bytes).unwrap()
    }

    #[test]
    fn the_settings_of_a_revision_are_found_without_the_rest_of_its_tree() {
        let place = tempfile::tempdir().unwrap();
        let raw = git2::Repository::init_bare(place.path()).unwrap();
        let tree = |entries: &[(&str, ObjectId, i32)]| {
            let mut builder = raw.treebuilder(None).unwrap();
            for (name, id, mode) in entries {
                builder.insert(name, *id, *mode).unwrap();
            }
            builder.write().unwrap()
        };
        let (file, link) = (blob(&raw, b"text"), blob(&raw, b"../target"));
        let below = tree(&[("more.txt", file, 0o100_644)]);
        let top = tree(&[
            ("below", below, 0o040_000),
            ("receiver.toml", file, 0o100_644),
            ("link", link, 0o120_000),
        ]);
        let somebody = git2::Signature::new("Ada", "ada@example.org", &git2::Time::new(0, 0)).unwrap();
        let commit =
            raw.commit(None, &somebody, &somebody, "one", &raw.find_tree(top).unwrap(), &[]).unwrap();
        let hex = below.to_string();
        std::fs::remove_file(place.path().join("objects").join(&hex[..2]).join(&hex[2..])).unwrap();
        let repository = Repository::open(place.path()).unwrap();
        let revision: Revision = commit.to_string().parse().unwrap();
        assert!(repository.tree(&revision).is_err(), "what is below cannot be read");
        let found = |name| repository.at_top(&revision, name).unwrap();
        assert_eq!(found("receiver.toml"), Some(AtTop::File(file)));
        assert_eq!([found("below"), found("link")], [Some(AtTop::Directory), Some(AtTop::Other)]);
        assert_eq!(found("more.txt"), None);
    }
}
