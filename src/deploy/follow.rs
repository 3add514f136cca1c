//! Follows a job's log to its end, for a pusher's hook or `attach`.
//!
//! Whoever follows only watches: it holds no lock, and its own end changes nothing.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher};

use super::joblog::Line;
use super::verdict::Verdict;
use super::{queue, spawn};
use crate::app::{App, AppName, guard};
use crate::support::{Context, Error, Result};

/// How often workers that die are followed by another one, for one follower.
const STARTS: u32 = 5;

/// Prints a job's log to `output` as it grows, and returns the exit code of its end.
///
/// Where nobody works on the job and it has no verdict, its worker died: another one is started, which
/// finishes or undoes what the first left.
///
/// # Errors
/// Where the workers die one after the other, or the reader of `output` is gone.
pub fn follow(app: &App, job: &str, output: &mut dyn Write) -> Result<u8> {
    let path = app.log(job);
    let mut file = File::open(&path).context(|| format!("cannot read the log {}", path.display()))?;
    let (sender, changes) = mpsc::channel();
    // Held here as well: a channel that nobody can send to would not let us wait.
    let _alive = sender.clone();
    let watcher = watch(&path, sender);
    // Where the kernel tells nothing (too many watch already), looking often has to do.
    let tick = Duration::from_millis(if watcher.is_ok() { 250 } else { 50 });
    let mut reader = Tail::default();
    let mut patience = Patience { quiet: Instant::now(), idle: None, told: false, starts: 0 };
    loop {
        let (read, end) = print_new(&mut reader, &mut file, output)?;
        if let Some(code) = end {
            return Ok(code);
        }
        if read {
            patience.quiet = Instant::now();
        }
        if changes.recv_timeout(tick).is_ok() {
            while changes.try_recv().is_ok() {}
        } else if patience.is_over(app, job, output)? {
            // It may have ended since the log was read.
            return match print_new(&mut reader, &mut file, output)?.1 {
                Some(code) => Ok(code),
                None => print_verdict(app, job, output),
            };
        }
    }
}

fn watch(path: &Path, sender: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |_| {
        let _ = sender.send(());
    })?;
    watcher.watch(path, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Prints what is new in the log. Answers whether there was anything, and the exit code of the end.
fn print_new(reader: &mut Tail, file: &mut File, output: &mut dyn Write) -> Result<(bool, Option<u8>)> {
    let mut read = false;
    while let Some(line) = reader.next(file)? {
        read = true;
        if let Some(text) = line.render() {
            print(output, &text)?;
        }
        if let Line::End { code, .. } = line {
            return Ok((read, Some(code)));
        }
    }
    Ok((read, None))
}

/// A log that could not be written (a full disk) has no end, and the journal has the verdict.
fn print_verdict(app: &App, job: &str, output: &mut dyn Write) -> Result<u8> {
    let Some(verdict) = Verdict::written(app, job)? else {
        return Err(Error::new("the worker ended without a verdict").hint(format!(
            "`receiver status {}` says what is live; `receiver deploy {0}` tries again",
            app.name()
        )));
    };
    print(output, &format!("=====> {}", verdict.line))?;
    Ok(verdict.code)
}

fn print(output: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(output, "{text}").and_then(|()| output.flush()).context(|| "nobody reads what is said here")
}

/// What to do when a log does not grow.
struct Patience {
    /// Since when it has not.
    quiet: Instant,
    /// Since when nobody holds the app's lock, as far as we saw.
    idle: Option<Instant>,
    /// Whether we said what is waited for.
    told: bool,
    /// How many workers we started.
    starts: u32,
}

impl Patience {
    /// Whether nothing is left to wait for. While somebody works there is no limit: stages have theirs.
    fn is_over(&mut self, app: &App, job: &str, output: &mut dyn Write) -> Result<bool> {
        let second = Duration::from_secs(1);
        if let Some(holder) = guard::holder(app) {
            self.idle = None;
            if !self.told && self.quiet.elapsed() > second && !holder.doing.contains(job) {
                self.told = true;
                print(output, &format!("       waiting    {} is under way", holder.doing))?;
            }
            return Ok(false);
        }
        // A worker that was started needs a moment to take the lock.
        if self.idle.get_or_insert_with(Instant::now).elapsed() < second {
            return Ok(false);
        }
        let queued = queue::waiting(app)?.iter().any(|waiting| waiting.id == job);
        if !queued || self.starts == STARTS {
            return Ok(true);
        }
        self.starts += 1;
        self.idle = None;
        spawn::worker(app)?;
        Ok(false)
    }
}

/// Puts the app's name into every line, behind the mark that says what the line is.
pub struct Named<'a> {
    name: String,
    line: Vec<u8>,
    output: &'a mut dyn Write,
}

impl<'a> Named<'a> {
    /// Writes to `output`.
    pub fn new(name: &AppName, output: &'a mut dyn Write) -> Self {
        Named { name: format!("{name}: "), line: Vec::new(), output }
    }
}

impl Write for Named<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                let (mark, text) = line.split_at(line.len().min(7));
                self.output.write_all(mark)?;
                if !text.starts_with(self.name.as_bytes()) {
                    self.output.write_all(self.name.as_bytes())?;
                }
                self.output.write_all(text)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}

/// Reads whole lines from the end of a growing file.
#[derive(Default)]
struct Tail {
    pending: Vec<u8>,
    offset: u64,
}

impl Tail {
    fn next(&mut self, file: &mut File) -> Result<Option<Line>> {
        loop {
            if let Some(end) = self.pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                if let Ok(line) = serde_json::from_slice(&line) {
                    return Ok(Some(line));
                }
                continue;
            }
            let mut buffer = [0; 8 << 10];
            file.seek(SeekFrom::Start(self.offset)).context(|| "cannot read a log")?;
            let length = match file.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.context(|| "cannot read a log")?,
            };
            if length == 0 {
                return Ok(None);
            }
            self.offset += length as u64;
            self.pending.extend_from_slice(&buffer[..length]);
        }
    }
}
