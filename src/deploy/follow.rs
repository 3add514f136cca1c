//! Follows a job's log to its end, for a pusher's hook or `attach`.
//!
//! Whoever follows only watches: it holds no lock, and its own end changes nothing.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher};

use super::joblog::Line;
use super::{queue, spawn};
use crate::app::{App, guard};
use crate::support::{Context, Error, Result};

/// Prints a job's log to `output` as it grows, and returns the exit code of its end.
///
/// # Errors
/// Where nobody works on the job any more, or the reader of `output` is gone.
pub fn follow(app: &App, job: &str, output: &mut dyn Write) -> Result<u8> {
    let path = app.log(job);
    let (sender, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |_| {
        let _ = sender.send(());
    })
    .context(|| "cannot watch a log")?;
    let mut file = File::open(&path).context(|| format!("cannot read the log {}", path.display()))?;
    watcher
        .watch(&path, RecursiveMode::NonRecursive)
        .context(|| format!("cannot watch {}", path.display()))?;
    let mut reader = Tail::default();
    let mut patience = Patience::new();
    loop {
        while let Some(line) = reader.next(&mut file)? {
            if let Some(text) = line.render() {
                print(output, &text)?;
            }
            if let Line::End { code, .. } = line {
                return Ok(code);
            }
            patience = Patience::new();
        }
        // The timeout is for filesystems that tell nobody, and for workers that died.
        if changes.recv_timeout(Duration::from_millis(250)).is_ok() {
            while changes.try_recv().is_ok() {}
        } else {
            patience.check(app, job, output)?;
        }
    }
}

fn print(output: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(output, "{text}").and_then(|()| output.flush()).context(|| "nobody reads what is said here")
}

/// What to do when a log does not grow.
struct Patience {
    since: Instant,
    told: bool,
    started: bool,
}

impl Patience {
    fn new() -> Patience {
        Patience { since: Instant::now(), told: false, started: false }
    }

    fn check(&mut self, app: &App, job: &str, output: &mut dyn Write) -> Result<()> {
        let waited = self.since.elapsed();
        if let Some(holder) = guard::holder(app) {
            let other = !holder.doing.contains(job);
            if other && !self.told && waited > Duration::from_secs(1) {
                self.told = true;
                print(output, &format!("       waiting    {} is under way", holder.doing))?;
            }
            self.since = if self.told { self.since } else { self.since.min(Instant::now()) };
            return Ok(());
        }
        let queued = queue::waiting(app)?.iter().any(|waiting| waiting.id == job);
        // Nobody works. Its worker may have died: another one finishes or undoes what it left.
        if queued && !self.started && waited > Duration::from_secs(1) {
            self.started = true;
            spawn::worker(app)?;
        } else if waited > Duration::from_secs(15) {
            return Err(Error::new("the worker ended without a verdict").hint(format!(
                "`receiver status {}` says what is live; `receiver deploy {0}` tries again",
                app.name()
            )));
        }
        Ok(())
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
