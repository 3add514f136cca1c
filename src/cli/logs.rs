//! `receiver logs`: what an app's processes print.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::{Global, app, talk};
use crate::app::App;
use crate::deploy::look::{self, Scene};
use crate::serve::logs::{self, Entry};
use crate::serve::output::Voice;
use crate::support::text::printable_bytes;
use crate::support::{Error, Result};

/// Arguments of `logs`.
///
/// A line is the time in UTC, the start that printed it, and `|` with what it printed, or `-` with what is
/// said of it: how it ended, and when it is started again. Each start has a name of its own, such as web-1f3a09c2.
#[derive(Args)]
pub struct Logs {
    /// The app, and one of its processes: `web`, a name of [process] or of [cron]
    #[arg(value_name = "APP] [PROCESS", num_args = 0..=2)]
    words: Vec<String>,
    /// Go on with what is printed from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: usize,
}

impl Logs {
    /// Prints them, oldest first.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        let process = rest.first().map(String::as_str);
        if let Some(process) = process {
            refuse_unknown(&app, process)?;
        }
        if self.follow {
            let mut output = std::io::stdout().lock();
            logs::follow(&app, process, self.lines, |entry| {
                let line = if global.json { object(entry).to_string() } else { words(entry) };
                writeln!(output, "{line}").and_then(|()| output.flush()).is_ok()
            })?;
            return Ok(0);
        }
        let entries = logs::last(&app, process, self.lines)?;
        let lines: Vec<Value> = entries.iter().map(object).collect();
        let all: Vec<String> = entries.iter().map(words).collect();
        talk::data(global, &json!({ "app": app.name(), "lines": lines }), &all)?;
        Ok(0)
    }
}

/// A name of which nobody ever heard is a mistake, and no silence.
fn refuse_unknown(app: &App, process: &str) -> Result<()> {
    let mut known = logs::processes(app)?;
    let scene = Scene::read(app)?;
    if let Some(record) = scene.live_record(app)?
        && let Ok(settings) = look::settings_of(app, record)
    {
        known.extend(settings.web.command.is_some().then(|| "web".to_owned()));
        known.extend(settings.processes.into_keys().chain(settings.cron.into_keys()));
    }
    // One of a release that never went live left its words all the same.
    if known.contains(process) || !logs::last(app, Some(process), 1)?.is_empty() {
        return Ok(());
    }
    let error = Error::usage(format!("{} has no process '{}'", app.name(), process.escape_default()));
    Err(error.hint(match known.into_iter().collect::<Vec<_>>() {
        names if names.is_empty() => {
            "it has none: [web], [process] and [cron] in receiver.toml say what runs".to_owned()
        }
        names => format!("it has: {}", names.join(", ")),
    }))
}

fn words(entry: &Entry) -> String {
    let line = &entry.line;
    let mark = if line.voice == Voice::Process { '|' } else { '-' };
    format!("{:.3} {} {mark} {}", line.time, line.start, printable_bytes(&line.text))
}

fn object(entry: &Entry) -> Value {
    let line = &entry.line;
    json!({
        "time": format!("{:.3}", line.time),
        "process": entry.process,
        "start": line.start,
        "by": if line.voice == Voice::Process { "process" } else { "receiver" },
        "text": String::from_utf8_lossy(&line.text),
    })
}
