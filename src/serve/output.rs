//! What processes print, where no journal keeps it: a file for each process of an app, with rotation.
//!
//! A line is `TIME START MARK TEXT`: the time in UTC, the start's name, `|` before what the process
//! printed and `-` before what receiver says of it, and the text as it came. Several starts of one
//! process write to one file, each line whole.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::FlockOperation;

use super::start::StartId;
use crate::app::App;
use crate::support::{Context, Result, files};

/// The longest line; what is longer is broken. In bytes.
pub const LONGEST_LINE: usize = 16 << 10;

/// How much of the end of a log is looked through for the last lines. In bytes.
const GLIMPSE: u64 = 4 << 20;

/// Who says a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// The process itself.
    Process,
    /// Receiver, about the process.
    Receiver,
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was read, in UTC.
    pub time: Timestamp,
    /// The start that printed it.
    pub start: String,
    /// Who says it.
    pub voice: Voice,
    /// What it says, as it came: not to be printed as it stands.
    pub text: Vec<u8>,
}

impl Line {
    /// Reads a line of a log; `None` where it is none.
    pub fn read(line: &[u8]) -> Option<Line> {
        let mut fields = line.splitn(4, |b| *b == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let start = std::str::from_utf8(fields.next()?).ok()?.to_owned();
        let voice = match fields.next()? {
            b"|" => Voice::Process,
            b"-" => Voice::Receiver,
            _ => return None,
        };
        Some(Line { time, start, voice, text: fields.next()?.to_vec() })
    }
}

/// The log of a process, to write to.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    start: StartId,
    lock: File,
    file: Option<File>,
    most: u64,
}

impl Log {
    /// Opens the log of a process, for one start of it; both its files together keep `most` bytes.
    pub fn open(app: &App, process: &str, start: &StartId, most: u64) -> Result<Log> {
        files::make_directory(&app.process_logs(), 0o700)?;
        let lock = app.process_logs().join(format!("{process}.lock"));
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock);
        Ok(Log {
            path: app.process_log(process),
            start: start.clone(),
            lock: lock.context(|| format!("cannot write what {process} prints"))?,
            file: None,
            most,
        })
    }

    /// Writes lines. What cannot be written (a full disk) is lost: the process goes on.
    pub fn write<'a>(&mut self, voice: Voice, lines: impl IntoIterator<Item = &'a [u8]>) {
        let now = Timestamp::now();
        let mark = if voice == Voice::Process { '|' } else { '-' };
        let mut text = Vec::new();
        for line in lines {
            let _ = write!(text, "{now:.3} {} {mark} ", self.start);
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        if text.is_empty() || rustix::fs::flock(&self.lock, FlockOperation::LockExclusive).is_err() {
            return;
        }
        if let Err(error) = self.append(&text) {
            log::warn!("{}", error.one_line());
        }
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }

    /// Both files together keep at most what is granted: each gets half of it.
    fn append(&mut self, text: &[u8]) -> Result<()> {
        let (path, most) = (self.path.clone(), self.most);
        let trouble = || format!("cannot write to {}", path.display());
        let mut file = self.current()?;
        let size = file.metadata().context(trouble)?.len();
        if size > 0 && size + text.len() as u64 > most / 2 {
            files::rotate(&path, &older(&path))?;
            file = self.current()?;
        }
        file.write_all(text).context(trouble)
    }

    /// The file that is at the path now: another start may have rotated it.
    fn current(&mut self) -> Result<&File> {
        let there = std::fs::symlink_metadata(&self.path).ok().map(|about| (about.dev(), about.ino()));
        let ours = self.file.as_ref().and_then(|file| file.metadata().ok());
        if there.is_none() || there != ours.map(|about| (about.dev(), about.ino())) {
            self.file = None;
        }
        match &mut self.file {
            Some(file) => Ok(file),
            none => {
                let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
                Ok(none.insert(opened.context(|| format!("cannot open {}", self.path.display()))?))
            }
        }
    }
}

/// Where a log is moved to when it is full.
pub fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

/// The last lines of a process's log, at most `lines`, oldest first; of one start, where it is named.
pub fn last(app: &App, process: &str, start: Option<&StartId>, lines: usize) -> Result<Vec<Line>> {
    let path = app.process_log(process);
    let mut found = Vec::new();
    for file in [path.clone(), older(&path)] {
        let mut read: Vec<Line> = end_of(&file)?
            .split(|b| *b == b'\n')
            .filter_map(Line::read)
            .filter(|line| start.is_none_or(|start| start.as_str() == line.start))
            .collect();
        read.append(&mut found);
        found = read;
        if found.len() >= lines {
            break;
        }
    }
    Ok(found.split_off(found.len().saturating_sub(lines)))
}

fn end_of(path: &Path) -> Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.context(|| format!("cannot read {}", path.display()))?,
    };
    let mut text = Vec::new();
    let read = file.metadata().and_then(|about| {
        let from = about.len().saturating_sub(GLIMPSE);
        file.seek(SeekFrom::Start(from))?;
        file.take(GLIMPSE).read_to_end(&mut text)?;
        Ok(from)
    });
    // The first line may have been cut: it is none then, but for what a process printed itself.
    if read.context(|| format!("cannot read {}", path.display()))? > 0 {
        let first = text.iter().position(|b| *b == b'\n').map_or(text.len(), |at| at + 1);
        text.drain(..first);
    }
    Ok(text)
}

/// Reads lines until nobody can write any more, and hands them on as they come; a line that is too
/// long is broken.
pub fn read_lines(mut from: impl Read, mut hand_on: impl FnMut(&[&[u8]])) {
    let mut pending = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        pending.extend_from_slice(&buffer[..length]);
        let whole = pending.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        // An unfinished line waits for its end, but not for ever.
        let ready = if pending.len() - whole >= LONGEST_LINE { pending.len() } else { whole };
        hand_on(&broken(&pending[..ready]));
        pending.drain(..ready);
    }
    hand_on(&broken(&pending));
}

fn broken(text: &[u8]) -> Vec<&[u8]> {
    if text.is_empty() {
        return Vec::new();
    }
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let lines = text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.flat_map(|line| line.chunks(LONGEST_LINE).chain(line.is_empty().then_some(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        read_lines(text, |lines| all.extend(lines.iter().map(|line| line.to_vec())));
        all
    }

    #[test]
    fn output_is_handed_on_line_by_line_and_long_lines_are_broken() {
        assert_eq!(lines_of(b"a\n\nb\r\nc"), [&b"a"[..], b"", b"b", b"c"]);
        assert_eq!(lines_of(b""), Vec::<Vec<u8>>::new());
        let long = vec![b'x'; LONGEST_LINE * 2 + 5];
        let broken = lines_of(&long);
        assert!(broken.iter().all(|line| line.len() <= LONGEST_LINE));
        assert_eq!(broken.concat(), long);
    }

    #[test]
    fn a_line_of_a_log_is_read_as_it_was_written() {
        let line = Line::read(b"2026-11-22T19:05:01.250Z web-0a1b2c3d | a b  \x1b[1m").unwrap();
        assert_eq!((line.start.as_str(), line.voice), ("web-0a1b2c3d", Voice::Process));
        assert_eq!(line.text, b"a b  \x1b[1m");
        assert_eq!(
            Line::read(b"2026-11-22T19:05:01.250Z web-0a1b2c3d - ended").unwrap().voice,
            Voice::Receiver
        );
        for bad in ["", "now web | x", "2026-11-22T19:05:01Z web ? x", "2026-11-22T19:05:01Z web |"] {
            assert!(Line::read(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}
