//! What processes print, where systemd keeps them: its journal.

use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::Sender;

use jiff::Timestamp;
use serde_json::Value;

use super::logs::Entry;
use super::output::{Line, Voice};
use super::start::{Start, StartId};
use super::systemd::{Manager, escape, unit};
use crate::app::App;
use crate::support::{Context, Result};

/// What receiver's units say they are, for a journal that is followed.
const IDENTIFIER: &str = "receiver-process";

/// The last lines that one start printed.
pub fn last_of(manager: Manager, app: &App, start: &Start, lines: usize) -> Result<Vec<String>> {
    let mut command = manager.command("journalctl");
    command.args(["--quiet", "--no-pager", "--all", "--output=json", "--output-fields=MESSAGE"]);
    command.arg(format!("--lines={lines}"));
    command.arg(format!("{}={}", manager.unit_field(), unit(&start.file(app))));
    let output = command.output().context(|| "cannot start journalctl")?;
    let entries = output.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    Ok(entries.map(|entry| String::from_utf8_lossy(&message(&entry)).into_owned()).collect())
}

/// The last lines of all processes of an app, or of one, oldest first.
pub fn last(manager: Manager, app: &App, process: Option<&str>, lines: usize) -> Result<Vec<Entry>> {
    let mut command = manager.command("journalctl");
    command.args(["--quiet", "--no-pager", "--all", "--output=json"]).arg(format!("--lines={lines}"));
    let name = process.map_or_else(|| "*".to_owned(), |process| escape(Path::new(process)) + "\\x2d*");
    let switch = if manager == Manager::User { "--user-unit" } else { "--unit" };
    command.arg(format!("{switch}=receiver-process@{}-{name}.service", escape(&app.processes())));
    command.stderr(Stdio::null());
    // Where no unit has that name it fails: nothing was printed yet.
    let output = command.output().context(|| "cannot start journalctl")?;
    let entries = output.stdout.split(|b| *b == b'\n').filter_map(|line| read(app, line));
    Ok(entries.filter(|entry| process.is_none_or(|process| entry.process == process)).collect())
}

/// Hands on what is printed from now on, until nobody listens; answers who does so.
pub fn follow(manager: Manager, app: &App, sender: Sender<Entry>) -> Result<Child> {
    let mut command = manager.command("journalctl");
    // Not by the names of units: those of starts to come are not known yet.
    command.args(["--quiet", "--no-pager", "--all", "--output=json", "--follow", "--lines=0"]);
    command.arg(format!("SYSLOG_IDENTIFIER={IDENTIFIER}")).arg("SYSLOG_IDENTIFIER=systemd");
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context(|| "cannot start journalctl")?;
    let app = app.clone();
    if let Some(output) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in std::io::BufReader::new(output).split(b'\n').map_while(std::result::Result::ok) {
                if let Some(entry) = read(&app, &line)
                    && sender.send(entry).is_err()
                {
                    break;
                }
            }
        });
    }
    Ok(child)
}

/// An entry of the journal that is about a process of this app.
fn read(app: &App, line: &[u8]) -> Option<Entry> {
    let entry: Value = serde_json::from_slice(line).ok()?;
    let field = |name: &str| entry[name].as_str();
    let prefix = format!("receiver-process@{}-", escape(&app.processes()));
    let start = |name: &str| -> Option<String> {
        let name = name.strip_prefix(&prefix)?.strip_suffix(".json.service")?;
        Some(name.replace("\\x2d", "-"))
    };
    // What a process prints has the unit in a field that only journald writes; what systemd says of a
    // unit comes from it.
    let own = field("_SYSTEMD_UNIT").and_then(start).or_else(|| field("_SYSTEMD_USER_UNIT").and_then(start));
    let (start, voice) = match own {
        Some(start) => (start, Voice::Process),
        None if field("SYSLOG_IDENTIFIER") == Some("systemd") => {
            let about = field("UNIT").or_else(|| field("USER_UNIT"))?;
            (start(about)?, Voice::Receiver)
        }
        None => return None,
    };
    let micros = field("__REALTIME_TIMESTAMP")?.parse().ok()?;
    let process = StartId::process_of(&start)?.to_owned();
    let mut text = message(&entry);
    if voice == Voice::Receiver
        && let Some(unit) = field("UNIT").or_else(|| field("USER_UNIT"))
        && let Some(rest) = text.strip_prefix(format!("{unit}: ").as_bytes())
    {
        text = rest.to_vec();
    }
    let time = Timestamp::from_microsecond(micros).ok()?;
    Some(Entry { process, line: Line { time, start, voice, text } })
}

/// The message of an entry: text, or the bytes of what is none.
fn message(entry: &Value) -> Vec<u8> {
    match &entry["MESSAGE"] {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(bytes) => {
            bytes.iter().filter_map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect()
        }
        _ => Vec::new(),
    }
}
