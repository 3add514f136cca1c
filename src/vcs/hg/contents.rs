//! Brings the files of a changeset into git objects, beside Mercurial's own store.
//!
//! Once there, a changeset is a tree whose ids are its contents' own hashes, and all that receiver does with a
//! revision (compare, measure, export, reuse, verify) is done by the code that does it for git. A file node of
//! Mercurial's would not serve: it is a hash of the content and of what came before it, so that a file that
//! went back to what it was would look new.
//!
//! Only what differs from a changeset that is there already is read: `hg status` names it, `hg cat` prints it.
//! The objects can be thrown away at any time; they are brought again.

use std::collections::{BTreeMap, HashMap};

use git2::build::TreeUpdateBuilder;
use git2::{FileMode, Oid, Signature, Time, Tree};
use rustix::fs::FlockOperation;

use super::Repository;
use crate::app::Revision;
use crate::support::text::printable_bytes;
use crate::support::{Context, Error, Result, files};
use crate::vcs::paths;

/// How many files are asked for at once.
const AT_ONCE: usize = 400;

/// No path is longer.
const LONGEST_PATH: usize = 3500;

/// A changeset as git objects.
pub(super) enum Brought {
    /// The commit that has its files.
    Commit(Oid),
    /// Why no such commit can be: names that may not be, one sentence each.
    Complaints(Vec<String>),
}

/// What is to be changed in a tree.
#[derive(Default)]
struct Changes {
    removed: Vec<Vec<u8>>,
    written: BTreeMap<Vec<u8>, Option<(Oid, FileMode)>>,
}

impl Repository {
    /// The commit that has exactly a changeset's files.
    pub(super) fn bring(&self, revision: &Revision) -> Result<Brought> {
        let git = self.objects.raw();
        let name = format!("refs/changesets/{revision}");
        if let Ok(reference) = git.find_reference(&name)
            && let Some(id) = reference.target()
            && git.find_commit(id).is_ok_and(|commit| commit.tree().is_ok())
        {
            return Ok(Brought::Commit(id));
        }
        let _lock = self.lock_objects(FlockOperation::LockShared)?;
        let base = self.latest().filter(|(base, _)| self.knows(base));
        let tree = match self.tree_of(revision, base.as_ref())? {
            Ok(tree) => tree,
            Err(complaints) => return Ok(Brought::Complaints(complaints)),
        };
        let tree = git.find_tree(tree).context(|| "cannot read a tree")?;
        let about = self
            .server(|server| server.ask(&[b"log", b"-r", revision.as_str().as_bytes(), b"-T", b"{desc}"]))?;
        let nobody = Signature::new("receiver", "receiver", &Time::new(0, 0));
        let nobody = nobody.context(|| "cannot sign a commit")?;
        let about = String::from_utf8_lossy(&about);
        let commit = git.commit(None, &nobody, &nobody, &about, &tree, &[]);
        let commit = commit.context(|| "cannot write a commit")?;
        // What a ref speaks of is there whole, also after a power cut.
        files::sync_filesystem(git.path())?;
        git.reference(&name, commit, true, "receiver: a changeset")
            .context(|| format!("cannot write {name}"))?;
        files::write_unsynced(&super::place(&self.path).join("latest"), revision.as_str().as_bytes(), 0o644)?;
        Ok(Brought::Commit(commit))
    }

    /// Whether the objects of a changeset are what Mercurial has, all of it read anew.
    pub fn prove(&self, revision: &Revision) -> Result<bool> {
        let Brought::Commit(commit) = self.bring(revision)? else { return Ok(false) };
        let kept = self.objects.raw().find_commit(commit).context(|| "cannot read a commit")?;
        Ok(self.tree_of(revision, None)?.is_ok_and(|tree| tree == kept.tree_id()))
    }

    /// The changeset that was brought last, and its tree.
    pub(super) fn latest(&self) -> Option<(Revision, Oid)> {
        let text = files::read_text(&super::place(&self.path).join("latest")).ok()??;
        let revision: Revision = text.parse().ok()?;
        let reference = self.objects.raw().find_reference(&format!("refs/changesets/{revision}")).ok()?;
        Some((revision, reference.peel_to_commit().ok()?.tree_id()))
    }

    /// The tree of a changeset, made from that of another one; or what is wrong with its names.
    fn tree_of(
        &self,
        revision: &Revision,
        base: Option<&(Revision, Oid)>,
    ) -> Result<std::result::Result<Oid, Vec<String>>> {
        let git = self.objects.raw();
        let trouble = || format!("cannot put the files of {} together", revision.short());
        let empty = git.treebuilder(None).and_then(|empty| empty.write()).context(trouble)?;
        let top = git.find_tree(base.map_or(empty, |(_, tree)| *tree)).context(trouble)?;
        let from = base.map_or("null", |(base, _)| base.as_str());
        let mut changes = self.status(from, revision)?;
        let complaints = complaints(changes.written.keys());
        if !complaints.is_empty() {
            return Ok(Err(complaints));
        }
        self.read_files(revision, &mut changes)?;
        let top = self.change(&top, &changes).context(trouble)?;
        let top = git.find_tree(top).context(trouble)?;
        if base.is_some() && !changes.touches_subrepositories() {
            return Ok(Ok(top.id()));
        }
        let mut links = Changes::default();
        let nested = super::subrepositories::states(git, &top)?;
        let complaints = self::complaints(nested.keys());
        if !complaints.is_empty() {
            return Ok(Err(complaints));
        }
        if let Some((_, base)) = base {
            let base = git.find_tree(*base).context(trouble)?;
            links.removed = super::subrepositories::states(git, &base)?.into_keys().collect();
        }
        links.written = nested.into_iter().map(|(path, id)| (path, Some((id, FileMode::Commit)))).collect();
        self.change(&top, &links).context(trouble).map(Ok)
    }

    /// What differs between two changesets.
    fn status(&self, from: &str, to: &Revision) -> Result<Changes> {
        let (from, to) = (from.as_bytes(), to.as_str().as_bytes());
        let listing = self.server(|server| {
            server.ask(&[b"status", b"-mar", b"--rev", from, b"--rev", to, b"-T", b"{status}{path}\\0"])
        })?;
        let mut changes = Changes::default();
        for line in listing.split(|b| *b == 0) {
            match line.split_first() {
                Some((b'R', path)) => changes.removed.push(path.to_owned()),
                Some((_, path)) => drop(changes.written.insert(path.to_owned(), None)),
                None => {}
            }
        }
        Ok(changes)
    }

    /// Reads the files that are new or other, into objects.
    fn read_files(&self, revision: &Revision, changes: &mut Changes) -> Result<()> {
        let paths: Vec<Vec<u8>> = changes.written.keys().cloned().collect();
        for some in paths.chunks(AT_ONCE) {
            let named: Vec<Vec<u8>> = some.iter().map(|path| [b"path:", path.as_slice()].concat()).collect();
            let about = |command: &'static [u8], template: &'static [u8]| {
                // Quietly: what it says of subrepositories would stand among the files.
                let head = [command, b"--quiet", b"-r", revision.as_str().as_bytes(), b"-T", template, b"--"];
                head.into_iter().chain(named.iter().map(Vec::as_slice)).collect::<Vec<&[u8]>>()
            };
            let flags = self.server(|server| server.ask(&about(b"files", b"{flags}\\0{path}\\0")))?;
            let modes = modes(&flags);
            let mut waiting = Vec::new();
            self.server(|server| {
                server.run(&about(b"cat", b"{path}\\0{data|count}\\0{data}"), &mut |bytes| {
                    waiting.extend_from_slice(bytes);
                    while let Some(length) = self.take_file(&waiting, &modes, changes)? {
                        waiting.drain(..length);
                    }
                    Ok(())
                })
            })?;
        }
        match changes.written.iter().find(|(_, found)| found.is_none()) {
            Some((path, _)) => {
                Err(Error::new(format!("Mercurial does not give the file {}", printable_bytes(path))))
            }
            None => Ok(()),
        }
    }

    /// Takes one whole file from what was printed; answers how long that was, or `None` where more has to come.
    fn take_file(
        &self,
        printed: &[u8],
        modes: &HashMap<&[u8], FileMode>,
        changes: &mut Changes,
    ) -> Result<Option<usize>> {
        let mut fields = printed.splitn(3, |b| *b == 0);
        let (Some(path), Some(length), Some(rest)) = (fields.next(), fields.next(), fields.next()) else {
            return Ok(None);
        };
        let length: usize = std::str::from_utf8(length)
            .ok()
            .and_then(|length| length.parse().ok())
            .ok_or_else(|| Error::new("Mercurial prints a file strangely"))?;
        let Some(bytes) = rest.get(..length) else { return Ok(None) };
        if let (Some(wanted), Some(mode)) = (changes.written.get_mut(path), modes.get(path)) {
            let id = self.objects.raw().blob(bytes).context(|| "cannot write an object")?;
            *wanted = Some((id, *mode));
        }
        Ok(Some(printed.len() - rest.len() + length))
    }

    /// First what goes, then what comes: a directory may take the place of a file.
    fn change(&self, top: &Tree, changes: &Changes) -> std::result::Result<Oid, git2::Error> {
        let git = self.objects.raw();
        let mut less = TreeUpdateBuilder::new();
        for path in &changes.removed {
            less.remove(path.as_slice());
        }
        let top = git.find_tree(less.create_updated(git, top)?)?;
        let mut more = TreeUpdateBuilder::new();
        for (path, found) in &changes.written {
            if let Some((id, mode)) = found {
                more.upsert(path.as_slice(), *id, *mode);
            }
        }
        more.create_updated(git, &top)
    }
}

impl Changes {
    fn touches_subrepositories(&self) -> bool {
        let names = [b".hgsub".as_slice(), b".hgsubstate"];
        self.removed.iter().chain(self.written.keys()).any(|path| names.contains(&path.as_slice()))
    }
}

/// What each file is, from `FLAGS\0PATH\0`.
fn modes(listing: &[u8]) -> HashMap<&[u8], FileMode> {
    let mut fields = listing.split(|b| *b == 0);
    let mut modes = HashMap::new();
    while let (Some(flags), Some(path)) = (fields.next(), fields.next()) {
        let mode = match flags {
            b"l" => FileMode::Link,
            b"x" => FileMode::BlobExecutable,
            _ => FileMode::Blob,
        };
        modes.insert(path, mode);
    }
    modes
}

/// What is wrong with paths, a sentence each.
fn complaints<'a>(paths: impl Iterator<Item = &'a Vec<u8>>) -> Vec<String> {
    let wrong = |path: &Vec<u8>| {
        let shown = printable_bytes(&path[..path.len().min(LONGEST_PATH)]);
        if path.len() > LONGEST_PATH {
            return Some(format!("{}… is too long a path", printable_bytes(&path[..100])));
        }
        if path.starts_with(b".hglf/") {
            return Some(format!("{shown} stands for a file of the extension largefiles, which is not read"));
        }
        let mut names = path.split(|b| *b == b'/').enumerate();
        names.find_map(|(at, name)| Some(format!("{shown} {}", paths::refuse_component(name, at == 0)?)))
    };
    paths.filter_map(wrong).take(1000).collect()
}
