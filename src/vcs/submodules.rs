//! Submodules, and Mercurial's subrepositories: revisions of other repositories, read only where the server's
//! file grants them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::git::Repository;
use super::hg;
use super::tree::{Entry, Kind, Tree, join};
use crate::app::Vcs;
use crate::support::{Context, Error, Result, files, text};

/// A tree and the repository that its objects are in.
pub struct Part {
    /// The repository.
    pub repository: PathBuf,
    /// What of it is exported.
    pub tree: Tree,
    /// The size of each of the tree's entries, where it was measured.
    pub sizes: Vec<u64>,
}

impl Part {
    /// What a repository has of a revision; not measured yet.
    pub fn new(repository: PathBuf, tree: Tree) -> Part {
        Part { repository, tree, sizes: Vec::new() }
    }
}

/// Why some submodules of a tree cannot be deployed, one sentence each; nothing is fetched.
pub fn refusals(repository: &Repository, tree: &Tree, granted: &[String]) -> Result<Vec<String>> {
    if tree.submodules().next().is_none() {
        return Ok(Vec::new());
    }
    let urls = urls(repository, tree, b"")?;
    Ok(tree
        .submodules()
        .filter_map(|entry| grant(entry, &urls, granted).err())
        .map(|error| error.to_string())
        .collect())
}

/// The trees of all submodules, theirs included, fetched into mirrors below `mirrors`.
pub fn expand(repository: &Repository, tree: &Tree, granted: &[String], mirrors: &Path) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    expand_below(repository, (tree, b""), granted, mirrors, 0, &mut parts)?;
    Ok(parts)
}

fn expand_below(
    repository: &Repository,
    (tree, at): (&Tree, &[u8]),
    granted: &[String],
    mirrors: &Path,
    depth: u32,
    parts: &mut Vec<Part>,
) -> Result<()> {
    if tree.submodules().next().is_none() {
        return Ok(());
    }
    if depth > 8 {
        return Err(Error::new("submodules lie in submodules more than 8 deep"));
    }
    let urls = urls(repository, tree, at)?;
    for entry in tree.submodules() {
        let (url, by) = grant(entry, &urls, granted)?;
        let name = git2::Oid::hash_object(git2::ObjectType::Blob, url.as_bytes());
        let name = name.context(|| "cannot name a mirror")?;
        let (mirror, commit) = match by {
            Vcs::Git => (mirrors.join(format!("{name}.git")), entry.id),
            Vcs::Mercurial => {
                hg::mirror(&mirrors.join(format!("{name}.hg")), url, &entry.id.to_string(), &entry.shown())?
            }
        };
        if by == Vcs::Git {
            fetch(&mirror, url, entry)?;
        }
        let inner = Repository::open(&mirror)?;
        let below = inner.tree_at(commit, &entry.path)?;
        let mut inner_parts = Vec::new();
        expand_below(&inner, (&below, &entry.path), granted, mirrors, depth + 1, &mut inner_parts)?;
        // The outer one first: it makes the directory that the inner one lies in.
        parts.push(Part::new(mirror, below));
        parts.append(&mut inner_parts);
    }
    Ok(())
}

/// Where the revision of a submodule is found: the address, and what the repository there is.
type Address = (String, Vcs);

/// The granted repository that a submodule may be read from.
fn grant<'a>(
    entry: &Entry,
    urls: &BTreeMap<Vec<u8>, Address>,
    granted: &'a [String],
) -> Result<(&'a str, Vcs)> {
    let path = entry.shown();
    let Some((url, by)) = urls.get(&entry.path) else {
        return Err(Error::new(format!("{path} is a submodule that neither .gitmodules nor .hgsub names")));
    };
    let relative = url.strip_prefix("../").or_else(|| url.strip_prefix("./"));
    let found = granted.iter().find(|grant| match relative {
        Some(relative) => ends_with(grant, relative.trim_start_matches("../")),
        None => *grant == url,
    });
    found.map(|url| (url.as_str(), *by)).ok_or_else(|| {
        Error::new(format!(
            "{path} is a submodule of {}, which the server does not grant",
            text::printable(url)
        ))
        .hint(format!("in the server's receiver.toml: [export] submodules = [{:?}]", text::printable(url)))
    })
}

/// Whether `whole` is `end`, or ends in `/end`.
fn ends_with(whole: &str, end: &str) -> bool {
    whole.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

/// The address of each submodule, by its path, as the `.gitmodules` or `.hgsub` of the tree that begins `at` has it.
fn urls(repository: &Repository, tree: &Tree, at: &[u8]) -> Result<BTreeMap<Vec<u8>, Address>> {
    let file =
        |name: &[u8]| tree.find(&join(at, name)).filter(|entry| matches!(entry.kind, Kind::File { .. }));
    let Some(file) = file(b".gitmodules") else {
        let Some(file) = file(b".hgsub") else { return Ok(BTreeMap::new()) };
        let addresses = hg::subrepositories::addresses(&repository.reader().read(file.id)?);
        let whole = |(path, address): (Vec<u8>, String)| match address.strip_prefix("[git]") {
            Some(url) => (join(at, &path), (url.to_owned(), Vcs::Git)),
            None => (join(at, &path), (address, Vcs::Mercurial)),
        };
        return Ok(addresses.into_iter().map(whole).collect());
    };
    // git reads its own format best; only the blob's id, which is hexadecimal, reaches it.
    let listing = duct::cmd!("git", "config", "--null", "--list", format!("--blob={}", file.id))
        .dir(repository.path())
        .env("GIT_DIR", repository.path())
        .stderr_null()
        .read()
        .context(|| "cannot read .gitmodules")?;
    let (mut paths, mut urls) = (BTreeMap::new(), BTreeMap::new());
    for pair in listing.split('\0') {
        let Some((key, value)) = pair.split_once('\n') else { continue };
        let Some((name, field)) = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.'))
        else {
            continue;
        };
        match field {
            "path" => paths.insert(name.to_owned(), value.to_owned()),
            "url" => urls.insert(name.to_owned(), value.to_owned()),
            _ => continue,
        };
    }
    let whole = |path: String| join(at, path.trim_end_matches('/').as_bytes());
    Ok(paths
        .into_iter()
        .filter_map(|(name, path)| Some((whole(path), (urls.get(&name)?.clone(), Vcs::Git))))
        .collect())
}

/// Brings the commit of a submodule into its mirror.
fn fetch(mirror: &Path, url: &str, entry: &Entry) -> Result<()> {
    let git = |arguments: &[&str]| {
        let environment = [
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("HOME", std::env::var("HOME").unwrap_or_default()),
            ("GIT_TERMINAL_PROMPT", "0".to_owned()),
            ("GIT_ALLOW_PROTOCOL", "file:https:http:ssh:git".to_owned()),
            ("GIT_SSH_COMMAND", "ssh -oBatchMode=yes".to_owned()),
        ];
        let command = duct::cmd("git", arguments).dir(mirror).full_env(environment);
        command.stdin_null().stdout_null().stderr_capture().unchecked().run()
    };
    let path = entry.shown();
    if !mirror.is_dir() {
        files::make_directory(mirror, 0o700)?;
        git(&["init", "--quiet", "--bare", "."]).context(|| "cannot start git")?;
    }
    let commit = entry.id.to_string();
    let mut said = String::new();
    // Some servers give a commit by its hash; the others give everything.
    for wanted in [commit.as_str(), "+refs/*:refs/remote/*"] {
        if Repository::open(mirror)?.has(entry.id) {
            return Ok(());
        }
        let fetched = git(&["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--", url, wanted]);
        let fetched = fetched.context(|| "cannot start git")?;
        said = text::printable_bytes(fetched.stderr.split(|b| *b == b'\n').next().unwrap_or_default());
    }
    if Repository::open(mirror)?.has(entry.id) {
        return Ok(());
    }
    let why = if said.is_empty() { String::new() } else { format!(" ({said})") };
    Err(Error::new(format!(
        "the submodule {path} needs the commit {commit}, which {} does not have{why}",
        text::printable(url)
    ))
    .hint("push the submodule's commit to its repository first"))
}
