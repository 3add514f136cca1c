//! Subrepositories: what `.hgsub` and `.hgsubstate` say, as git's submodules.

use std::collections::BTreeMap;

use git2::{Oid, Tree};

use crate::support::{Context, Error, Result, text};

/// The revision of each subrepository of a tree, by its path.
pub(super) fn states(git: &git2::Repository, top: &Tree) -> Result<BTreeMap<Vec<u8>, Oid>> {
    let mut states = BTreeMap::new();
    if top.get_name(".hgsub").is_none() {
        return Ok(states);
    }
    let Some(entry) = top.get_name(".hgsubstate") else { return Ok(states) };
    let blob = git.find_blob(entry.id()).context(|| "cannot read .hgsubstate")?;
    for line in blob.content().split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let parted = line.iter().position(|b| *b == b' ').map(|at| (&line[..at], &line[at + 1..]));
        let Some((revision, path)) = parted else {
            return Err(Error::new(format!(
                ".hgsubstate has a strange line: {}",
                text::printable_bytes(line)
            )));
        };
        let revision = std::str::from_utf8(revision).ok().and_then(|hex| Oid::from_str(hex).ok());
        let revision = revision.ok_or_else(|| {
            let path = text::printable_bytes(path);
            Error::new(format!("the subrepository {path} is neither Mercurial's nor git's"))
        })?;
        states.insert(path.to_owned(), revision);
    }
    Ok(states)
}

/// The address of each subrepository, by its path, as a `.hgsub` has it.
pub fn addresses(file: &[u8]) -> BTreeMap<Vec<u8>, String> {
    let mut addresses = BTreeMap::new();
    for line in file.split(|b| *b == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        // What comes below [subpaths] rewrites addresses; none is granted by it.
        if line.trim_start().starts_with('[') && !line.contains('=') {
            break;
        }
        if let Some((path, address)) = line.split_once('=')
            && !line.starts_with(['#', ';'])
        {
            let path = path.trim().trim_end_matches('/').as_bytes().to_vec();
            addresses.insert(path, address.trim().to_owned());
        }
    }
    addresses
}
