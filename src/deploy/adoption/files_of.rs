//! The files of an old application, copied to where the new one has them.
//!
//! Who reads them may be another than who writes: root reads what only root can, and writes nothing itself below a
//! directory that pushed code may write to.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::fs::FileType;

use crate::support::accounts::Account;
use crate::support::beneath::{self, Found};
use crate::support::{Error, Result, files};

/// How many files are open at once between reading and writing.
const OPEN: usize = 16;

/// Something that is copied.
struct Item {
    found: Found,
    holds: Holds,
}

enum Holds {
    Directory,
    Link(PathBuf),
    File(File),
}

/// Copies what is new or has changed, links as links. Nothing is deleted; a link that leads out is refused, before
/// anything is copied. Answers how many files, and bytes, were copied.
pub fn copy(from: &Path, to: &Path, by: Option<&Account>) -> Result<(u64, u64)> {
    let all = below(from)?;
    refuse_outside(from, &all)?;
    let (sender, receiver) = sync_channel(OPEN);
    let (read, written) = std::thread::scope(|scope| {
        // Only this thread is the other user.
        let writer = scope.spawn(move || {
            by.map_or(Ok(()), Account::assume)?;
            write(to, &receiver)
        });
        let read = read(from, all, &sender);
        drop(sender);
        (read, writer.join())
    });
    let written = written.map_err(|_| Error::new("the thread that writes files died"))?;
    // Where nobody writes any more, why not is what counts.
    written.and_then(|account| read.map(|()| account))
}

fn below(from: &Path) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        for found in beneath::list(from, &directory)? {
            if found.kind == FileType::Directory {
                waiting.push(found.path.clone());
            }
            all.push(found);
        }
    }
    Ok(all)
}

fn refuse_outside(from: &Path, all: &[Found]) -> Result<()> {
    let mut outside = Vec::new();
    for found in all {
        let depth = found.path.components().count() - 1;
        match found.kind {
            FileType::Symlink if !beneath::stays_within(depth, &beneath::target(from, &found.path)?) => {
                outside.push(format!("{} leads out of it", found.path.display()));
            }
            FileType::Directory | FileType::RegularFile | FileType::Symlink => {}
            _ => outside.push(format!("{} is neither a file nor a directory", found.path.display())),
        }
    }
    if outside.is_empty() {
        return Ok(());
    }
    let more = if outside.len() > 5 { format!(" and {} more", outside.len() - 5) } else { String::new() };
    outside.truncate(5);
    Err(Error::new(format!("{} cannot be copied: {}{more}", from.display(), outside.join("; ")))
        .hint("take such things out, or copy the rest by hand to shared/ afterwards"))
}

fn read(from: &Path, all: Vec<Found>, to: &SyncSender<Item>) -> Result<()> {
    for found in all {
        let holds = match found.kind {
            FileType::Directory => Holds::Directory,
            FileType::Symlink => Holds::Link(beneath::target(from, &found.path)?),
            _ => Holds::File(beneath::read(from, &found.path)?),
        };
        if to.send(Item { found, holds }).is_err() {
            return Err(Error::new("the copying of files ended early"));
        }
    }
    Ok(())
}

fn write(to: &Path, items: &Receiver<Item>) -> Result<(u64, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for Item { found, holds } in items {
        match holds {
            Holds::Directory => beneath::make_directory(to, &found.path, found.mode | 0o700)?,
            Holds::Link(target) => {
                if !files::exists(&to.join(&found.path)) {
                    files::link_new(&target, &to.join(&found.path))?;
                }
            }
            Holds::File(_) if beneath::size_and_time(to, &found.path)? == Some((found.size, found.mtime)) => {
            }
            Holds::File(mut file) => {
                bytes += beneath::replace(to, &found.path, &mut file, found.mode, found.mtime)?;
                count += 1;
            }
        }
    }
    files::sync_filesystem(to)?;
    Ok((count, bytes))
}
