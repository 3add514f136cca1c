//! `receiver logs`: what an app's processes print, from files and from systemd's journal, as one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};

use super::journald;
use super::output::{self, Line, older};
use super::start::Start;
use super::systemd::Manager;
use crate::app::App;
use crate::support::{Context, Result, files};

/// One line of one process.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The process that it is of.
    pub process: String,
    /// The line.
    pub line: Line,
}

/// The processes that something is known of, by name: those that run, and those that left output.
pub fn processes(app: &App) -> Result<BTreeSet<String>> {
    let mut names: BTreeSet<String> = Start::all(app)?.into_iter().map(|start| start.process).collect();
    names.extend(logged(app)?);
    Ok(names)
}

fn logged(app: &App) -> Result<Vec<String>> {
    let names = files::names_in(&app.process_logs())?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".log")).map(str::to_owned).collect())
}

/// The last lines of a process, or of all, at most `lines`, oldest first.
pub fn last(app: &App, process: Option<&str>, lines: usize) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    for name in logged(app)?.into_iter().filter(|name| process.is_none_or(|wanted| wanted == name)) {
        let own = output::last(app, &name, None, lines)?;
        found.extend(own.into_iter().map(|line| Entry { process: name.clone(), line }));
    }
    if let Some(manager) = Manager::of(app) {
        found.extend(journald::last(manager, app, process, lines)?);
    }
    found.sort_by_key(|entry| entry.line.time);
    Ok(found.split_off(found.len().saturating_sub(lines)))
}

/// Hands on the last lines and then what is printed from now on, until `print` has enough.
pub fn follow(
    app: &App,
    process: Option<&str>,
    lines: usize,
    mut print: impl FnMut(&Entry) -> bool,
) -> Result<()> {
    let mut tails = Tails::at_the_end(app)?;
    let (sender, entries) = mpsc::channel();
    let journal = match Manager::of(app) {
        Some(manager) => Some(Ended(journald::follow(manager, app, sender)?)),
        None => None,
    };
    let (notice, changes) = mpsc::channel();
    files::make_directory(&app.process_logs(), 0o700)?;
    let watcher = watch(&app.process_logs(), notice);
    // The journal tells us nothing: it is looked at often.
    let tick = if watcher.is_ok() && journal.is_none() { 250 } else { 50 };
    // What came between the two looks is in both: the tails begin before the last lines are read.
    let shown = last(app, process, lines)?;
    let newest = shown.last().map(|entry| entry.line.time);
    for entry in &shown {
        if !print(entry) {
            return Ok(());
        }
    }
    let mut seen: Vec<Line> = shown.into_iter().map(|entry| entry.line).collect();
    loop {
        let mut new: Vec<Entry> = tails.read(app)?;
        new.extend(entries.try_iter());
        new.sort_by_key(|entry| entry.line.time);
        for entry in new {
            let again = newest.is_some_and(|newest| entry.line.time <= newest) && seen.contains(&entry.line);
            if process.is_none_or(|process| process == entry.process) && !again && !print(&entry) {
                return Ok(());
            }
        }
        if tails.turns > 100 {
            seen.clear();
        }
        match changes.recv_timeout(Duration::from_millis(tick)) {
            Ok(()) => while changes.try_recv().is_ok() {},
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            // Nobody tells us of changes: looking often has to do.
            Err(mpsc::RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A child that ends with us.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(path: &Path, sender: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |_| {
        let _ = sender.send(());
    })?;
    watcher.watch(path, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// The ends of all logs, also of those that begin later.
struct Tails {
    of: BTreeMap<String, Tail>,
    turns: u64,
}

impl Tails {
    fn at_the_end(app: &App) -> Result<Tails> {
        let mut of = BTreeMap::new();
        for name in logged(app)? {
            of.insert(name.clone(), Tail::open(&app.process_log(&name), true)?);
        }
        Ok(Tails { of, turns: 0 })
    }

    fn read(&mut self, app: &App) -> Result<Vec<Entry>> {
        self.turns += 1;
        let mut found = Vec::new();
        for name in logged(app)? {
            let tail = match self.of.remove(&name) {
                Some(tail) => tail,
                None => Tail::open(&app.process_log(&name), false)?,
            };
            let tail = self.of.entry(name.clone()).or_insert(tail);
            let lines = tail.read()?;
            found.extend(lines.into_iter().map(|line| Entry { process: name.clone(), line }));
        }
        Ok(found)
    }
}

/// The end of one log, which is rotated now and then.
struct Tail {
    path: PathBuf,
    file: Option<File>,
    pending: Vec<u8>,
}

impl Tail {
    fn open(path: &Path, at_the_end: bool) -> Result<Tail> {
        let mut tail = Tail { path: path.to_owned(), file: open(path)?, pending: Vec::new() };
        if at_the_end && let Some(file) = &mut tail.file {
            file.seek(SeekFrom::End(0)).context(|| format!("cannot read {}", path.display()))?;
        }
        Ok(tail)
    }

    fn read(&mut self) -> Result<Vec<Line>> {
        let now = open(&self.path)?;
        let rotated = now.is_some() && place(now.as_ref()) != place(self.file.as_ref());
        let mut lines = self.rest()?;
        if rotated {
            // What was written to the old one after it was read, or to one between the two.
            let before = open(&older(&self.path))?;
            if place(before.as_ref()) != place(self.file.as_ref()) {
                self.file = before;
            }
            lines.extend(self.rest()?);
            self.file = now;
            lines.extend(self.rest()?);
        }
        Ok(lines)
    }

    fn rest(&mut self) -> Result<Vec<Line>> {
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        file.read_to_end(&mut self.pending).context(|| format!("cannot read {}", self.path.display()))?;
        let whole = self.pending.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let text: Vec<u8> = self.pending.drain(..whole).collect();
        Ok(text.split(|b| *b == b'\n').filter_map(Line::read).collect())
    }
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some).context(|| format!("cannot read {}", path.display())),
    }
}

fn place(file: Option<&File>) -> Option<(u64, u64)> {
    file.and_then(|file| file.metadata().ok()).map(|about| (about.dev(), about.ino()))
}
