//! Where Mercurial's history ends, read from its own file: whether anything came since we asked.
//!
//! `hg` takes a quarter of a second to say where its branches are, and says the same as long as its changelog
//! has as many changesets and ends in the same one. That is also how it keeps its own cache of branches. What
//! is not the one format that we know is not read at all: then `hg` is asked.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::app::Revision;

/// The end of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// How many changesets there are.
    pub count: u64,
    /// The last one; none in an empty history.
    pub tip: Option<Revision>,
}

/// An entry of the index of version 1, as Mercurial's `revlogv1` has it since 2006.
///
/// Source: mercurial/revlogutils/constants.py, `INDEX_ENTRY_V1 = struct.Struct(b">Qiiiiii20s12x")`.
const ENTRY: usize = 64;

/// In the header of a small history: each entry is followed by its data.
const INLINE: u32 = 1 << 16;

/// The end of the history of a repository; `None` where it cannot be told without Mercurial.
pub(super) fn end(repository: &Path) -> Option<End> {
    let store = repository.join(".hg/store");
    // Changesets may be hidden, and what is hidden may change without a new one.
    if std::fs::metadata(store.join("obsstore")).is_ok_and(|about| about.len() > 0) {
        return None;
    }
    let mut file = match File::open(store.join("00changelog.i")) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound && store.is_dir() => {
            return Some(End { count: 0, tip: None });
        }
        Err(_) => return None,
    };
    let length = file.metadata().ok()?.len();
    if length == 0 {
        return Some(End { count: 0, tip: None });
    }
    let mut header = [0; 4];
    file.read_exact_at(&mut header, 0).ok()?;
    match u32::from_be_bytes(header) {
        header if header & 0xffff != 1 => None,
        header if header & INLINE != 0 => walk(&mut file, length),
        _ => {
            let entry = ENTRY as u64;
            let mut last = [0; ENTRY];
            file.read_exact_at(&mut last, length.checked_sub(entry)?).ok()?;
            (length % entry == 0).then_some(())?;
            Some(End { count: length / entry, tip: Some(node(&last)?) })
        }
    }
}

/// Goes from entry to entry, over the data between them.
fn walk(file: &mut File, length: u64) -> Option<End> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(length).read_to_end(&mut bytes).ok()?;
    let (mut at, mut count, mut tip) = (0, 0, None);
    while at < bytes.len() {
        let entry = bytes.get(at..at + ENTRY)?;
        let data = u32::from_be_bytes(entry[8..12].try_into().ok()?) as usize;
        tip = Some(node(entry)?);
        count += 1;
        at += ENTRY + data;
    }
    (at == bytes.len()).then_some(End { count, tip })
}

fn node(entry: &[u8]) -> Option<Revision> {
    let hex: String = entry[32..52].iter().map(|byte| format!("{byte:02x}")).collect();
    hex.parse().ok()
}
