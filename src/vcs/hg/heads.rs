//! Where the branches are: the open heads of named branches, and bookmarks.
//!
//! A branch, for receiver, is either: a bookmark is its changeset; a named branch is its open head. A head
//! that a bookmark is on belongs to the bookmark, as long as the branch has another one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::changelog::End;
use super::server::Server;
use crate::app::Revision;
use crate::app::layout::FORMAT;
use crate::support::{Context, Error, Result, files};

/// Where the branches are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// The open heads of each named branch, the newest last.
    named: BTreeMap<String, Vec<Revision>>,
    /// The bookmarks.
    bookmarks: BTreeMap<String, Revision>,
}

/// A branch that a transaction moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its name.
    pub name: String,
    /// Its tip before; absent where it is new.
    pub old: Option<Revision>,
    /// Its tip after; absent where it was closed or deleted.
    pub new: Option<Revision>,
    /// Whether the old one is no ancestor of the new one.
    pub forced: bool,
}

impl Heads {
    /// Asks Mercurial; answers where its history ends, too.
    pub(super) fn ask(server: &mut Server) -> Result<(Heads, End)> {
        let end = server.ask(&[b"log", b"-r", b"tip", b"-T", b"{rev} {node}"])?;
        let end = match String::from_utf8_lossy(&end).split_once(' ') {
            Some((rev, node)) if rev != "-1" => {
                let rev: u64 = rev.parse().context(|| "Mercurial counts strangely")?;
                End { count: rev + 1, tip: Some(node.parse()?) }
            }
            _ => End { count: 0, tip: None },
        };
        let mut heads = Heads::default();
        let open = server.ask(&[
            b"log",
            b"-r",
            b"sort(head() and not closed(), rev)",
            b"-T",
            b"{node} {branch}\\n",
        ])?;
        for (node, name) in lines(&open) {
            heads.named.entry(name).or_default().push(node.parse()?);
        }
        let marks = server.ask(&[b"bookmarks", b"-T", b"{node} {bookmark}\\n"])?;
        heads.bookmarks = bookmarks(&marks)?;
        Ok((heads, end))
    }

    /// The heads that count for a branch, the newest last.
    pub(super) fn of(&self, branch: &str) -> Vec<&Revision> {
        if let Some(bookmark) = self.bookmarks.get(branch) {
            return vec![bookmark];
        }
        let all: Vec<&Revision> = self.named.get(branch).into_iter().flatten().collect();
        let plain: Vec<&Revision> =
            all.iter().copied().filter(|head| !self.bookmarks.values().any(|mark| mark == *head)).collect();
        if plain.is_empty() { all } else { plain }
    }

    /// The newest head that counts for a branch.
    pub(super) fn tip(&self, branch: &str) -> Option<&Revision> {
        self.of(branch).last().copied()
    }

    /// The names of all branches.
    pub(super) fn names(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.named.keys().chain(self.bookmarks.keys()).collect();
        names.into_iter().cloned().collect()
    }

    /// What moved between `self` and `later`.
    pub(super) fn moved(&self, later: &Heads) -> Vec<Moved> {
        let names: BTreeSet<String> = self.names().into_iter().chain(later.names()).collect();
        let moved = names.into_iter().filter(|name| self.of(name) != later.of(name));
        moved
            .map(|name| Moved {
                old: self.tip(&name).cloned(),
                new: later.tip(&name).cloned(),
                forced: false,
                name,
            })
            .collect()
    }
}

/// `NODE NAME` in each line; a name that is no UTF-8 is nobody's branch.
fn lines(text: &[u8]) -> impl Iterator<Item = (&str, String)> {
    text.split(|b| *b == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok()?.split_once(' '))
        .map(|(node, name)| (node, name.to_owned()))
}

fn bookmarks(text: &[u8]) -> Result<BTreeMap<String, Revision>> {
    lines(text).map(|(node, name)| Ok((name, node.parse()?))).collect()
}

/// What Mercurial last said, kept in a file: the named branches, by where the history ended then.
///
/// Two states, since a hook asks for that after a push, and needs that before it again where it is refused.
/// Bookmarks move without a changeset, and are read from Mercurial's own file.
pub(super) struct Kept {
    file: PathBuf,
    repository: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
struct States {
    format: u32,
    states: Vec<State>,
}

#[derive(Serialize, Deserialize)]
struct State {
    end: End,
    named: BTreeMap<String, Vec<Revision>>,
}

impl Kept {
    pub(super) fn of(repository: &Path) -> Kept {
        Kept { file: super::place(repository).join("heads.json"), repository: repository.to_owned() }
    }

    fn read(&self) -> States {
        let text = files::read_text(&self.file).ok().flatten().unwrap_or_default();
        let states: Option<States> = serde_json::from_str(&text).ok();
        states.filter(|states| states.format == FORMAT).unwrap_or_default()
    }

    /// Where the branches are, if the history ends as it did when that was asked.
    pub(super) fn find(&self, end: &End) -> Option<Heads> {
        let named = self.read().states.into_iter().find(|state| state.end == *end)?.named;
        let requires = |file| files::read_text(&self.repository.join(file)).ok().flatten();
        let in_store = [".hg/requires", ".hg/store/requires"]
            .into_iter()
            .filter_map(requires)
            .any(|all| all.lines().any(|one| one == "bookmarksinstore"));
        let file = if in_store { ".hg/store/bookmarks" } else { ".hg/bookmarks" };
        let text = files::read_limited(&self.repository.join(file), 64 << 20).ok()?.unwrap_or_default();
        Some(Heads { named, bookmarks: bookmarks(&text).ok()? })
    }

    /// Keeps what was said. Where that cannot be, Mercurial is asked again.
    pub(super) fn keep(&self, end: End, heads: &Heads) {
        let mut states = self.read();
        states.format = FORMAT;
        states.states.retain(|state| state.end != end);
        states.states.insert(0, State { end, named: heads.named.clone() });
        states.states.truncate(2);
        let kept = serde_json::to_vec(&states)
            .map_err(|error| Error::new(error.to_string()))
            .and_then(|text| files::write_unsynced(&self.file, &text, 0o644));
        if let Err(error) = kept {
            log::debug!("cannot keep where the branches are: {}", error.one_line());
        }
    }
}
