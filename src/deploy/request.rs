//! Requests: everything that changes an app, or reads its secrets, without being a deploy.
//!
//! Each is a value that says what is wanted. Today it is carried out in the same process; where an
//! app has several users it will be sent, as it stands, to the side that owns the lock. Streams go
//! beside it: what is long or secret is in no request.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::environment::Kept;
use super::joblog::Line;
use super::look::{self, Scene};
use super::{configuring, db, hand, maintenance, processes, prune, queue, recovery, spawn};
use crate::app::guard::Guard;
use crate::app::journal::Event;
use crate::app::settings::RelativePath;
use crate::app::{App, ReleaseId, Version};
use crate::support::{Context, Error, Result, beneath};

/// What is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Keep a release.
    Pin {
        /// The release.
        release: ReleaseId,
    },
    /// Keep it no longer.
    Unpin {
        /// The release.
        release: ReleaseId,
    },
    /// Remove what is no longer kept.
    Prune,
    /// The variables of stages and processes.
    EnvList,
    /// Set one; its value comes by the input.
    EnvSet {
        /// Its name.
        name: String,
    },
    /// Forget one.
    EnvUnset {
        /// Its name.
        name: String,
    },
    /// Set one of the server's settings.
    ConfigSet {
        /// Its key, dotted.
        key: String,
        /// Its value, as TOML or as plain text.
        value: String,
    },
    /// Set several that go together. Where nginx does not take what comes of them all is as it was before.
    ConfigTogether {
        /// Each key, dotted, and its value, as plain text.
        values: Vec<(String, String)>,
    },
    /// Back to the default.
    ConfigUnset {
        /// Its key, dotted.
        key: String,
    },
    /// A page for everyone, instead of what is live.
    Maintenance {
        /// Whether it is to be there.
        on: bool,
    },
    /// Bring a file into `shared/`; its content comes by the input.
    Put {
        /// Where, below `shared/`.
        path: RelativePath,
    },
    /// Read a file of `shared/` to the output.
    Get {
        /// Where, below `shared/`.
        path: RelativePath,
    },
    /// A database to the output.
    DbDump {
        /// The version; the live one where none is named.
        version: Option<Version>,
    },
    /// A database from the input.
    DbLoad {
        /// The version; the live one where none is named.
        version: Option<Version>,
    },
    /// Statements by the input, rows to the output.
    DbShell {
        /// The version; the live one where none is named.
        version: Option<Version>,
        /// Whether it only looks.
        read_only: bool,
    },
    /// The address of a database.
    DbUrl {
        /// The version; the live one where none is named.
        version: Option<Version>,
    },
    /// Start what does not run of the live release.
    Up,
    /// The same at boot, where nobody put the app down.
    Boot,
    /// End all processes, until `up` or the next deploy.
    Down,
    /// Start processes anew.
    Restart {
        /// The one; all where none is named.
        process: Option<String>,
    },
}

/// What goes beside a request.
pub struct Streams<'a> {
    /// What comes in.
    pub input: &'a mut dyn Read,
    /// Data that goes out.
    pub output: &'a mut dyn Write,
    /// Talk.
    pub talk: &'a mut dyn Write,
}

/// The answer: for people, and for scripts.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// A line each.
    pub words: Vec<String>,
    /// Whether they are talk about what was done, and not what was asked for.
    pub talk: bool,
    /// The same as an object.
    pub data: Value,
}

impl Reply {
    /// What was asked for.
    pub fn data(words: impl Into<String>, data: Value) -> Reply {
        Reply { words: vec![words.into()], talk: false, data }
    }

    /// What was done.
    pub fn said(words: impl Into<String>, data: Value) -> Reply {
        Reply { talk: true, ..Reply::data(words, data) }
    }
}

/// Carries out a request for `by`. What changes the app waits for its lock first.
pub fn carry_out(app: &App, request: &Request, by: &str, streams: &mut Streams) -> Result<Reply> {
    match request {
        Request::EnvList => env_list(app),
        Request::Get { path } => get(app, path, streams),
        Request::DbDump { version } => db::dump(app, *version, streams),
        Request::DbShell { version, read_only } => db::shell(app, *version, *read_only, streams),
        Request::DbUrl { version } => db::url(app, *version),
        Request::Prune => run_prune(app, streams),
        Request::Pin { release } | Request::Unpin { release } => {
            let pins = matches!(request, Request::Pin { .. });
            pin(&mut lock(app, streams)?, release, pins, by)
        }
        Request::EnvSet { name } => {
            let value = read_value(streams)?;
            let more = if processes::any(app)? {
                format!(": `receiver restart {}`", app.name())
            } else {
                String::new()
            };
            let words = format!("{name} is set; what starts from now on finds it{more}");
            change_env(&mut lock(app, streams)?, name, Some(value), by)
                .map(|()| Reply::said(words, json!({ "set": name })))
        }
        Request::EnvUnset { name } => {
            let words = format!("{name} is forgotten");
            change_env(&mut lock(app, streams)?, name, None, by)
                .map(|()| Reply::said(words, json!({ "unset": name })))
        }
        Request::ConfigSet { key, value } => {
            configuring::change(&mut lock(app, streams)?, key, Some(value), by, streams)
        }
        Request::ConfigTogether { values } => {
            configuring::change_together(&mut lock(app, streams)?, values, by)
        }
        Request::ConfigUnset { key } => configuring::change(&mut lock(app, streams)?, key, None, by, streams),
        Request::Maintenance { on } => maintenance::set(&mut lock(app, streams)?, *on, by),
        Request::Put { path } => put(app, path, by, streams),
        Request::DbLoad { version } => {
            let mut guard = lock(app, streams)?;
            db::load(&mut guard, *version, by, streams)
        }
        Request::Up | Request::Boot | Request::Down | Request::Restart { .. } => {
            change_processes(app, request, by, streams)
        }
    }
}

/// Starts and ends processes; what is retired by it drains with nobody waiting.
fn change_processes(app: &App, request: &Request, by: &str, streams: &mut Streams) -> Result<Reply> {
    let mut guard =
        if matches!(request, Request::Boot) { lock_at_boot(app, streams) } else { lock(app, streams) }?;
    let talk = RefCell::new(&mut *streams.talk);
    let report = |line: &Line| {
        if let Some(line) = line.render() {
            let _ = writeln!(talk.borrow_mut(), "{line}");
        }
    };
    let name = app.name();
    let reply = match request {
        Request::Boot if processes::is_down(app) => {
            return Ok(Reply::said(
                format!("{name} is down, and stays so"),
                json!({ "app": name, "down": true }),
            ));
        }
        Request::Down => {
            processes::down(&guard)?;
            guard.append(Some(by), Event::Change { what: "down".to_owned() })?;
            Reply::said(
                format!("{name} is down: `receiver up {name}` starts it"),
                json!({ "app": name, "down": true }),
            )
        }
        Request::Restart { process } => {
            processes::restart(&guard, process.as_deref(), &report)?;
            let what =
                process.as_ref().map_or_else(|| "restart".to_owned(), |name| format!("restart {name}"));
            guard.append(Some(by), Event::Change { what })?;
            Reply::said(format!("{name} is restarted"), json!({ "app": name, "down": false }))
        }
        _ => {
            let was_down = processes::is_down(app);
            processes::up(&guard, &report)?;
            if was_down {
                guard.append(Some(by), Event::Change { what: "up".to_owned() })?;
            }
            Reply::said(format!("{name} is up"), json!({ "app": name, "down": false }))
        }
    };
    drop(guard);
    if processes::any_retired(app)? || !queue::waiting(app)?.is_empty() {
        spawn::worker(app)?;
    }
    Ok(reply)
}

/// Takes the lock, and mends what a death left; says so when that takes a while.
pub fn lock(app: &App, streams: &mut Streams) -> Result<Guard> {
    let mut guard = wait(app, streams)?;
    let told = recovery::recover(&mut guard)?;
    tell_recovered(app, &told, streams)?;
    Ok(guard)
}

/// The same where nobody types it again: what is live starts also where the database server is not there yet, without which
/// nothing can be mended. A worker waits for it.
fn lock_at_boot(app: &App, streams: &mut Streams) -> Result<Guard> {
    let mut guard = wait(app, streams)?;
    match recovery::recover(&mut guard) {
        Err(error) if error.is_away() => {
            let _ = writeln!(streams.talk, "what was interrupted waits: {}", error.one_line());
        }
        told => tell_recovered(app, &told?, streams)?,
    }
    Ok(guard)
}

fn wait(app: &App, streams: &mut Streams) -> Result<Guard> {
    Guard::wait(app, "a command", |holder| {
        let doing = holder.map_or_else(|| "somebody else".to_owned(), |holder| holder.doing);
        let _ = writeln!(streams.talk, "waiting for {doing} to end");
    })
}

fn tell_recovered(app: &App, told: &[String], streams: &mut Streams) -> Result<()> {
    for told in told {
        let _ = writeln!(streams.talk, "recovered: {told}");
    }
    // What recovery put back into the queue is for a worker, which waits until we are done.
    if !told.is_empty() && !queue::waiting(app)?.is_empty() {
        spawn::worker(app)?;
    }
    Ok(())
}

fn pin(guard: &mut Guard, release: &ReleaseId, pins: bool, by: &str) -> Result<Reply> {
    let scene = Scene::read(guard.app())?;
    if pins && scene.releases.sealed(release).is_none() {
        return Err(Error::usage(format!("{release} is not a complete release")));
    }
    let release_is_pinned = scene.history.pinned().contains(release);
    let word = if pins { "pinned" } else { "not pinned" };
    if release_is_pinned == pins {
        return Ok(Reply::said(
            format!("{release} is {word} already"),
            json!({ "release": release, "pinned": pins }),
        ));
    }
    let release_name = release.clone();
    let event =
        if pins { Event::Pin { release: release_name } } else { Event::Unpin { release: release_name } };
    guard.append(Some(by), event)?;
    Ok(Reply::said(format!("{release} is {word}"), json!({ "release": release, "pinned": pins })))
}

fn run_prune(app: &App, streams: &mut Streams) -> Result<Reply> {
    let mut guard = lock(app, streams)?;
    let keep = look::server_settings(app)?.keep;
    let gone = prune::run(&mut guard, &keep)?;
    let spare = guard.discard_spare()?;
    drop(guard);
    prune::empty_trash(app);
    let data = serde_json::to_value(&gone).context(|| "cannot write down what went")?;
    let mut words = prune::words(&gone);
    if spare {
        words.push("the spare, which the next deploy would have begun with".to_owned());
    }
    Ok(Reply { words, talk: false, data })
}

fn env_list(app: &App) -> Result<Reply> {
    let kept = Kept::read(app)?.values;
    let words = kept
        .iter()
        .map(|(name, value)| format!("{name}={}", crate::support::text::printable(value)))
        .collect();
    Ok(Reply { words, talk: false, data: json!({ "app": app.name(), "env": kept }) })
}

fn read_value(streams: &mut Streams) -> Result<String> {
    const MOST: u64 = 1 << 20;
    let mut value = String::new();
    streams.input.take(MOST + 1).read_to_string(&mut value).context(|| "the value has to be UTF-8 text")?;
    if value.len() as u64 > MOST {
        return Err(Error::usage("the value is longer than 1 MB; `receiver put` brings a file"));
    }
    // The line's end belongs to `echo`, not to the value.
    if value.ends_with('\n') {
        value.pop();
    }
    if value.contains('\0') {
        return Err(Error::usage("a value cannot have a zero byte"));
    }
    Ok(value)
}

fn change_env(guard: &mut Guard, name: &str, value: Option<String>, by: &str) -> Result<()> {
    Kept::refuse_name(name)?;
    let mut kept = Kept::read(guard.app())?;
    let what = match value {
        Some(value) => {
            kept.values.insert(name.to_owned(), value);
            format!("env {name} set")
        }
        None if kept.values.remove(name).is_some() => format!("env {name} unset"),
        None => return Err(Error::usage(format!("there is no variable {name}"))),
    };
    kept.write(guard)?;
    guard.append(Some(by), Event::Change { what }).map(drop)
}

fn put(app: &App, path: &RelativePath, by: &str, streams: &mut Streams) -> Result<Reply> {
    // Without the lock: whoever sends slowly must hold up no deploy, and the file takes its place at once.
    let bytes = beneath::write(&app.shared(), path.as_path(), streams.input, 0o640)?;
    hand::give_shared(app, path)?;
    lock(app, streams)?.append(Some(by), Event::Change { what: format!("shared/{path}") })?;
    Ok(Reply::said(format!("shared/{path} has {bytes} bytes now"), json!({ "path": path, "bytes": bytes })))
}

fn get(app: &App, path: &RelativePath, streams: &mut Streams) -> Result<Reply> {
    let mut file = beneath::read(&app.shared(), path.as_path())?;
    std::io::copy(&mut file, streams.output).context(|| format!("cannot hand out shared/{path}"))?;
    Ok(Reply::default())
}

/// A place for what a stream brings, before it is looked at: 0700, ours alone.
pub fn scratch(app: &App, name: &str) -> PathBuf {
    app.dumps().join(format!(".{name}-{}", std::process::id()))
}

/// How long a command may take that a person started.
pub const PATIENT: Duration = Duration::from_secs(24 * 3600);
