//! The stream of a backup: a tar whose first part says what it is, and whose last has the sum of every other.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::parts::{self, HEAD, Kind, TAIL};
use crate::app::journal::refuse_newer;
use crate::app::{AppName, ReleaseId, Revision, Version};
use crate::support::{Context, Error, Result, beneath, clock, files};

/// The number of the stream's format.
pub const FORMAT: u32 = 1;

/// What a stream is: its first part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The format of all of it.
    pub format: u32,
    /// The app.
    pub app: AppName,
    /// What is pushed with.
    pub vcs: String,
    /// When the app was made.
    pub created: Timestamp,
    /// The moment that it is a picture of.
    pub taken: Timestamp,
    /// The receiver that wrote it.
    pub by: String,
    /// The branch that the repository's HEAD names.
    pub branch: String,
    /// What was live; `None` where nothing was.
    pub live: Option<Live>,
    /// The databases that it has dumps of.
    pub databases: Vec<Database>,
    /// The apps of branches, which it does not have.
    pub branches: Vec<BranchApp>,
}

/// What was live.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Live {
    /// The release.
    pub release: ReleaseId,
    /// Its revision.
    pub revision: Revision,
    /// The branch that it came by.
    pub branch: String,
}

/// A database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Database {
    /// The engine.
    pub engine: String,
    /// Its name.
    pub name: String,
    /// The version that it was made for.
    pub home: Version,
    /// Whether it is the live release's.
    pub live: bool,
    /// The part that is its dump.
    pub dump: String,
}

/// The app of a branch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BranchApp {
    /// Its name.
    pub app: AppName,
    /// The branch.
    pub branch: String,
    /// Whether it goes with its branch.
    pub preview: bool,
}

/// The last part.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tail {
    /// The format.
    pub format: u32,
    /// Every part before it, in order.
    pub parts: Vec<Sum>,
    /// Files that changed while they were read.
    pub changed: Vec<String>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// The sum of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Its path.
    pub path: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// Their SHA-256; of a symlink, that of what it leads to.
    pub sha256: String,
}

fn sum(path: &Path, bytes: u64, hash: Sha256) -> Sum {
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Sum { path: path.to_string_lossy().into_owned(), bytes, sha256 }
}

/// A stream that is being written.
pub struct Writer<W: Write> {
    tar: tar::Builder<W>,
    tail: Tail,
}

impl<W: Write> Writer<W> {
    /// Begins one with its head.
    pub fn begin(output: W, head: &Head) -> Result<Writer<W>> {
        let tail = Tail { format: FORMAT, parts: Vec::new(), changed: Vec::new(), left_out: Vec::new() };
        let mut writer = Writer { tar: tar::Builder::new(output), tail };
        let text = serde_json::to_vec(head).context(|| "cannot write the head of the backup")?;
        writer.bytes(HEAD, &text)?;
        Ok(writer)
    }

    /// A part that is in memory.
    pub fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        let about = About::own();
        self.part(Path::new(path), about, length, &mut &bytes[..], &mut |_| {}).map(drop)
    }

    /// A file, as long as it is now. One that becomes shorter meanwhile is filled up, and named as changed.
    pub fn file(
        &mut self,
        path: &Path,
        file: &mut File,
        about: About,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let length = file.metadata().context(|| format!("cannot read {}", path.display()))?.len();
        if !self.part(path, about, length, file, on_bytes)? {
            self.tail.changed.push(path.to_string_lossy().into_owned());
        }
        Ok(())
    }

    /// A directory.
    pub fn directory(&mut self, path: &Path, about: About) -> Result<()> {
        let mut header = header(tar::EntryType::Directory, about, 0);
        let written = self.tar.append_data(&mut header, path, std::io::empty());
        written.context(|| cannot(path))?;
        self.tail.parts.push(sum(path, 0, Sha256::new()));
        Ok(())
    }

    /// A symlink.
    pub fn link(&mut self, path: &Path, target: &Path, about: About) -> Result<()> {
        let mut header = header(tar::EntryType::Symlink, about, 0);
        self.tar.append_link(&mut header, path, target).context(|| cannot(path))?;
        self.tail.parts.push(sum(path, 0, Sha256::new_with_prefix(target.as_os_str().as_bytes())));
        Ok(())
    }

    /// Notes what is not in it.
    pub fn left_out(&mut self, what: String) {
        self.tail.left_out.push(what);
    }

    /// Ends it with the sums of all, and answers what is wrong with it.
    pub fn finish(mut self) -> Result<Tail> {
        let text = serde_json::to_vec(&self.tail).context(|| "cannot write the end of the backup")?;
        let mut header = header(tar::EntryType::Regular, About::own(), text.len() as u64);
        self.tar.append_data(&mut header, TAIL, &text[..]).context(|| cannot(Path::new(TAIL)))?;
        let mut output = self.tar.into_inner().context(|| cannot(Path::new(TAIL)))?;
        output.flush().context(|| cannot(Path::new(TAIL)))?;
        Ok(self.tail)
    }

    /// Whether the input had as many bytes as it was to have.
    fn part(
        &mut self,
        path: &Path,
        about: About,
        length: u64,
        input: &mut dyn Read,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<bool> {
        let mut exactly =
            Exactly { input, left: length, hash: Sha256::new(), whole: true, fills: true, on_bytes };
        let mut header = header(tar::EntryType::Regular, about, length);
        self.tar.append_data(&mut header, path, &mut exactly).context(|| cannot(path))?;
        let Exactly { hash, whole, .. } = exactly;
        self.tail.parts.push(sum(path, length, hash));
        Ok(whole)
    }
}

fn cannot(path: &Path) -> String {
    format!("cannot write {} into the backup", path.display())
}

/// What is kept of a file besides its content.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its permission bits.
    pub mode: u32,
    /// Its modification time, in seconds.
    pub mtime: u64,
}

impl About {
    /// Of what is made for the backup.
    pub fn own() -> About {
        About { mode: 0o600, mtime: u64::try_from(clock::now().as_second()).unwrap_or(0) }
    }
}

fn header(kind: tar::EntryType, about: About, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(about.mode & 0o777);
    header.set_mtime(about.mtime);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// So many bytes of an input, and their sum. Where it ends before, it is not `whole`.
struct Exactly<'a> {
    input: &'a mut dyn Read,
    left: u64,
    hash: Sha256,
    whole: bool,
    /// Whether zeros stand for what is missing: a length that was announced has to be kept.
    fills: bool,
    on_bytes: &'a mut dyn FnMut(u64),
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..most];
        let mut read = if self.whole { self.input.read(buffer)? } else { 0 };
        if read == 0 && most > 0 {
            self.whole = false;
            if !self.fills {
                return Ok(0);
            }
            buffer.fill(0);
            read = most;
        }
        self.hash.update(&buffer[..read]);
        self.left -= read as u64;
        (self.on_bytes)(read as u64);
        Ok(read)
    }
}

/// A stream whose head was read already: what it is of is known before anything is made. Read, it begins at its
/// beginning.
pub struct Incoming {
    head: Head,
    seen: std::io::Cursor<Vec<u8>>,
    rest: Box<dyn Read>,
}

impl Incoming {
    /// Reads the head of a stream.
    pub fn begin(mut input: Box<dyn Read>) -> Result<Incoming> {
        let mut seen = Vec::new();
        let mut archive = tar::Archive::new(Noting { input: &mut *input, seen: &mut seen });
        let (head, _) = first(&mut archive.entries().context(|| "cannot read the backup")?)?;
        Ok(Incoming { head, seen: std::io::Cursor::new(seen), rest: input })
    }

    /// What it is.
    pub fn head(&self) -> &Head {
        &self.head
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.seen.read(buffer)? {
            0 => self.rest.read(buffer),
            read => Ok(read),
        }
    }
}

/// Keeps what is read, so that it can be read again.
struct Noting<'a> {
    input: &'a mut dyn Read,
    seen: &'a mut Vec<u8>,
}

impl Read for Noting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.seen.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

/// The head, which is the first part.
fn first<R: Read>(parts: &mut tar::Entries<R>) -> Result<(Head, Sum)> {
    let first = parts.next().and_then(Result::ok).filter(|first| *first.path_bytes() == *HEAD.as_bytes());
    read_head(&mut first.ok_or_else(foreign)?)
}

/// Unpacks a stream into a directory that is ours alone, each part at its path, and proves that it is whole. Its
/// head is given to `judge` before anything else is read.
///
/// # Errors
/// Where it is no backup, of a newer format, cut, damaged, or has a part that no backup has.
pub fn unpack(
    input: &mut dyn Read,
    into: &Path,
    judge: &mut dyn FnMut(&Head) -> Result<()>,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<Head> {
    let mut archive = tar::Archive::new(input);
    let mut parts = archive.entries().context(|| "cannot read the backup")?;
    let (head, head_sum) = first(&mut parts)?;
    judge(&head)?;
    let mut sums = vec![head_sum];
    let tail = loop {
        let part = parts.next().ok_or_else(cut)?;
        let mut part = part.map_err(|error| cut().caused_by(error))?;
        let path = PathBuf::from(os(&part.path_bytes()).to_owned());
        let kind = kind_of(&part, &path)?;
        parts::refuse_strange(&path, &kind)?;
        if path == Path::new(TAIL) {
            let mut text = Vec::new();
            (&mut part).take(MOST_TEXT).read_to_end(&mut text).map_err(|error| cut().caused_by(error))?;
            if (text.len() as u64) < part.header().size().unwrap_or(0) {
                return Err(cut());
            }
            break serde_json::from_slice::<Tail>(&text).map_err(|_| damaged(TAIL))?;
        }
        let (bytes, hash) = place(&mut part, &path, &kind, into, on_bytes)?;
        sums.push(sum(&path, bytes, hash));
    };
    if let Some(wrong) = differs(&sums, &tail.parts) {
        return Err(damaged(&wrong));
    }
    if parts.next().is_some() {
        return Err(Error::new("the backup goes on after its end"));
    }
    Ok(head)
}

/// How long the head or the tail may be.
const MOST_TEXT: u64 = 1 << 30;

fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::ffi::OsStr::from_bytes(bytes)
}

fn foreign() -> Error {
    Error::new("this is no backup of receiver's").hint(
        "`receiver backup APP > FILE` writes one; what was packed since is unpacked first: \
         `zstd -dc FILE | receiver create APP --restore -`",
    )
}

fn cut() -> Error {
    Error::new("the backup is cut: it ends before its end")
}

fn damaged(part: &str) -> Error {
    Error::new(format!("the backup is damaged: {part} is not what was written"))
}

fn read_head(first: &mut impl Read) -> Result<(Head, Sum)> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let mut text = Vec::new();
    first.take(MOST_TEXT).read_to_end(&mut text).map_err(|error| cut().caused_by(error))?;
    let format: Format = serde_json::from_slice(&text).map_err(|_| foreign())?;
    refuse_newer(format.format, Path::new("the backup"))?;
    let head = serde_json::from_slice(&text).map_err(|_| damaged(HEAD))?;
    Ok((head, sum(Path::new(HEAD), text.len() as u64, Sha256::new_with_prefix(&text))))
}

fn kind_of<R: Read>(part: &tar::Entry<R>, path: &Path) -> Result<Kind> {
    match part.header().entry_type() {
        tar::EntryType::Regular => Ok(Kind::File),
        tar::EntryType::Directory => Ok(Kind::Directory),
        tar::EntryType::Symlink => {
            let target = part.link_name_bytes().ok_or_else(|| damaged(&path.to_string_lossy()))?;
            Ok(Kind::Link(os(&target).into()))
        }
        _ => Err(Error::new(format!("the backup has a part that cannot be: {}", path.display()))),
    }
}

/// Writes one part below `into`. What is there already is never replaced, nor gone through where it is a link.
fn place<R: Read>(
    part: &mut tar::Entry<R>,
    path: &Path,
    kind: &Kind,
    into: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<(u64, Sha256)> {
    let mode = part.header().mode().unwrap_or(0o600) & 0o777;
    let mtime = part.header().mtime().unwrap_or(0);
    match kind {
        Kind::Directory => {
            beneath::make_directory(into, path, mode | 0o700)?;
            Ok((0, Sha256::new()))
        }
        Kind::Link(target) => {
            let parent = path.parent().unwrap_or(Path::new(""));
            beneath::make_directory(into, parent, 0o755)?;
            files::link_new(target, &into.join(path))?;
            Ok((0, Sha256::new_with_prefix(target.as_os_str().as_bytes())))
        }
        Kind::File => {
            let length = part.header().size().map_err(|error| cut().caused_by(error))?;
            let mut exactly = Exactly {
                input: part,
                left: length,
                hash: Sha256::new(),
                whole: true,
                fills: false,
                on_bytes,
            };
            beneath::place(into, path, &mut exactly, mode, mtime)?;
            let Exactly { hash, whole, left, .. } = exactly;
            if whole && left == 0 { Ok((length, hash)) } else { Err(cut()) }
        }
    }
}

/// The first part in which what was read is not what was written.
fn differs(read: &[Sum], written: &[Sum]) -> Option<String> {
    let wrong = read.iter().zip(written).find(|(read, written)| read != written);
    match wrong {
        Some((read, _)) => Some(read.path.clone()),
        None if read.len() != written.len() => Some(TAIL.to_owned()),
        None => None,
    }
}
