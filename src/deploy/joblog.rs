//! The log of a job: what was said and printed, and how it ended. One JSON object a line.
//!
//! The worker writes it; the pusher's hook, `attach` and `show` read it. What a stage printed stands
//! apart from what receiver says, so that no stage can speak in receiver's name.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::app::layout::FORMAT;
use crate::support::{Context, Result, text};

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The first line.
    Format(u32),
    /// A headline: what begins.
    Begin(String),
    /// A step, with its time in seconds where it took some.
    Step {
        /// Its name, in one word.
        name: String,
        /// What was done.
        text: String,
        /// How long it took, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
    },
    /// What a stage printed.
    Output(String),
    /// More about the end: causes, hints.
    Note(String),
    /// The verdict: its line, and the exit code. Nothing comes after it.
    End {
        /// The verdict line.
        text: String,
        /// What `attach` exits with.
        code: u8,
    },
}

impl Line {
    /// The line as a person reads it.
    pub fn render(&self) -> Option<String> {
        Some(match self {
            Line::Format(_) => return None,
            Line::Begin(text) => format!("-----> {text}"),
            Line::Step { name, text, seconds: None } => format!("       {name:<10} {text}"),
            Line::Step { name, text, seconds: Some(seconds) } => {
                format!("       {name:<10} {text:<58} {seconds:.2} s")
            }
            Line::Output(text) => format!("     | {text}"),
            Line::Note(text) => format!("       {text}"),
            // Another log goes on where this one ends.
            Line::End { text, .. } if text.is_empty() => return None,
            Line::End { text, .. } => format!("=====> {text}"),
        })
    }
}

/// A log that is being written.
#[derive(Clone, Debug)]
pub struct JobLog(Arc<Mutex<Writing>>);

#[derive(Debug)]
struct Writing {
    file: File,
    /// The last line has no end: a death, or a full disk, came in the middle of it.
    torn: bool,
}

impl JobLog {
    /// Opens the log of a job for appending, and begins it where it is new.
    pub fn open(app: &App, job: &str) -> Result<JobLog> {
        let path = app.log(job);
        let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        let file = opened.context(|| format!("cannot open the log {}", path.display()))?;
        let length = file.metadata().map_or(0, |about| about.len());
        // A hook begins it and the worker goes on, or the other way round; whatever the umask of either.
        if length == 0 && app.user().is_some() {
            let _ = file.set_permissions(std::fs::Permissions::from_mode(0o660));
        }
        let mut last = [b'\n'];
        let torn = length > 0 && file.read_exact_at(&mut last, length - 1).is_ok() && last != [b'\n'];
        let log = JobLog(Arc::new(Mutex::new(Writing { file, torn })));
        if length == 0 {
            log.write(&Line::Format(FORMAT));
        }
        Ok(log)
    }

    /// Appends a line. A log that cannot be written (a full disk) stops no deploy.
    pub fn write(&self, line: &Line) {
        let Ok(mut text) = serde_json::to_string(line) else { return };
        text.push('\n');
        let Ok(mut writing) = self.0.lock() else { return };
        if writing.torn {
            text.insert(0, '\n');
        }
        let written = writing.file.write_all(text.as_bytes());
        writing.torn = written.is_err();
        if let Err(error) = written {
            log::warn!("cannot write to a job's log: {error}");
        }
    }

    /// A headline.
    pub fn begin(&self, text: impl Into<String>) {
        self.write(&Line::Begin(text::printable(&text.into())));
    }

    /// A step that was done, or begins.
    pub fn step(&self, name: &str, text: impl Into<String>) {
        self.write(&Line::Step { name: name.to_owned(), text: text::printable(&text.into()), seconds: None });
    }

    /// A step that took some time.
    pub fn timed(&self, name: &str, text: impl Into<String>, since: std::time::Instant) {
        let seconds = Some(since.elapsed().as_secs_f64());
        self.write(&Line::Step { name: name.to_owned(), text: text::printable(&text.into()), seconds });
    }

    /// More about the end.
    pub fn note(&self, text: impl Into<String>) {
        for line in text.into().lines() {
            self.write(&Line::Note(text::printable(line)));
        }
    }

    /// The verdict; the last line.
    pub fn end(&self, text: impl Into<String>, code: u8) {
        self.write(&Line::End { text: text::printable(&text.into()), code });
    }
}

/// All lines of a job's log so far; none where there is no such log.
pub fn read(app: &App, job: &str) -> Vec<Line> {
    let Ok(file) = File::open(app.log(job)) else { return Vec::new() };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    lines.filter_map(|line| serde_json::from_str(&line).ok()).collect()
}

/// The verdict of a job that ended.
pub fn end(app: &App, job: &str) -> Option<(String, u8)> {
    match read(app, job).pop()? {
        Line::End { text, code } => Some((text, code)),
        _ => None,
    }
}
