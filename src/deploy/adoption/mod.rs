//! An application that is there already, with its data, becomes an app.
//!
//! It goes in two steps, and up to the second the old application goes on as if nothing were. First the app is made: a
//! copy of the database, read in one moment, and of the files that outlive releases; the first push deploys on them,
//! and is looked at beside what is live. Then, with `--go`, a deploy of the same revision opens a version with fresh
//! data: when all is built the old application is stopped, the data is copied once more, and goes live with it. Where
//! that fails what was tried stays live, and the old application is started again.
//!
//! Where the app has a user of its own nothing that stands in its state is run, or read, by root: there the original is
//! stopped, copied and started by the process of whoever takes over ([`attended`]), out of what that one was told.

pub mod attended;
mod files_of;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::beginning::{Beginning, Dumped};
use super::joblog::{JobLog, Line};
use super::plan::Brought;
use super::{databases, found};
use crate::app::guard::Guard;
use crate::app::journal::{Event, refuse_newer};
use crate::app::layout::FORMAT;
use crate::app::settings::BranchName;
use crate::app::{App, AppName, Root, Vcs, Version, record};
use crate::data::{Limit, foreign};
use crate::support::accounts::Account;
use crate::support::text::{self, grouped};
use crate::support::{Context, Error, Result, beneath, clock, death, files};

/// How long a copy may take.
const PATIENT: Duration = Duration::from_secs(24 * 3600);

/// What is adopted, and how its own application is stopped and started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Adoption {
    format: u32,
    /// The database's address, without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The directory of what outlives releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<PathBuf>,
    /// What stops the old application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
    /// What starts it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Whether it was stopped by us.
    #[serde(default)]
    pub stopped: bool,
}

/// What is wanted of an adoption.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The database's address.
    pub database: Option<foreign::Foreign>,
    /// The password that goes with it.
    pub password: Option<String>,
    /// The directory of what outlives releases.
    pub shared: Option<&'a Path>,
    /// The branch that is deployed.
    pub branch: Option<&'a BranchName>,
}

impl Adoption {
    /// What an app adopts; `None` where nothing is left to be.
    pub fn read(app: &App) -> Result<Option<Adoption>> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let path = file(app);
        let Some(text) = files::read_text(&path)? else { return Ok(None) };
        let damaged = || Error::new(format!("{} is damaged", path.display()));
        let format: Format = toml::from_str(&text).map_err(|_| damaged())?;
        refuse_newer(format.format, &path)?;
        toml::from_str(&text).map(Some).map_err(|_| damaged())
    }

    fn write(&self, app: &App) -> Result<()> {
        let text = toml::to_string(self).context(|| "cannot write down what is adopted")?;
        files::write_atomic(&file(app), text.as_bytes(), 0o600)
    }

    /// The old application is stopped, or nobody has to stop it: how it is started again.
    pub fn way_back(&self) -> &str {
        self.start.as_deref().unwrap_or("start it as you did before")
    }
}

fn file(app: &App) -> PathBuf {
    app.state("adoption.toml")
}

/// The password of the database, 0600, until the adoption is over.
fn secret(app: &App) -> PathBuf {
    app.state("secrets").join("adoption")
}

/// Makes an app that begins with a copy of what is there. Nothing of the original is changed.
pub fn begin(
    root: &Root,
    name: &AppName,
    wanted: &Wanted,
    by: &str,
    say: &mut dyn FnMut(&str),
) -> Result<App> {
    let place = root.place(name);
    if place.is_created() {
        let error = Error::new(format!("{name} is there already, in {}", place.directory().display()));
        return Err(match Adoption::read(&place)? {
            Some(_) => {
                error.hint(format!("push to it, try it, then `receiver adopt {name} --go --stop CMD`"))
            }
            None => error.hint("an adoption makes an app: choose another name"),
        });
    }
    found::filled(root, name, &mut |made| {
        found::make_repository(made, Vcs::Git, wanted.branch.map_or("main", BranchName::as_str))?;
        let branch = wanted.branch.map_or("main", BranchName::as_str);
        let line = format!("branch = {}\n", toml::Value::from(branch));
        files::write_atomic(&made.server_config(), line.as_bytes(), 0o600)?;
        if let Some(password) = &wanted.password {
            files::write_atomic(&secret(made), password.as_bytes(), 0o600)?;
        }
        let adoption = Adoption {
            format: FORMAT,
            database: wanted.database.as_ref().map(foreign::Foreign::url),
            shared: wanted.shared.map(Path::to_owned),
            ..Adoption::default()
        };
        adoption.write(made)?;
        Beginning::make_place(made)?;
        copy(made, &adoption, say)?;
        begin_with(made, wanted.database.as_ref())?;
        found::write_marker(made, Vcs::Git, clock::now(), root.path(), "")?;
        let mut guard = Guard::wait(made, "an adoption", |_| {})?;
        guard.append(Some(by), adopted(&adoption)).map(drop)
    })
}

/// The first release begins with the dump that was made.
fn begin_with(app: &App, database: Option<&foreign::Foreign>) -> Result<()> {
    let engine = database.map(foreign::Foreign::engine);
    let data = engine.map(|engine| Dumped { engine: engine.to_owned(), home: Version(0) });
    let from = database.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    Beginning::new(from, Version(0), None, data).write(app)
}

fn adopted(adoption: &Adoption) -> Event {
    Event::Change { what: format!("adopted: {}", words(adoption)) }
}

/// Refuses an app that has something already, which its data could not replace.
pub fn refuse_begun(app: &App) -> Result<()> {
    let name = app.name();
    if Adoption::read(app)?.is_some() {
        return Err(Error::new(format!("{name} adopts something already"))
            .hint(format!("push to it, try it, then `sudo receiver adopt {name} --go --stop CMD`")));
    }
    if Beginning::read(app)?.is_some() {
        return Err(Error::new(format!("{name} was restored, and begins with the data of its backup")));
    }
    if record::live(app)?.is_none() {
        return Ok(());
    }
    Err(Error::new(format!(
        "something is live in {name} already: what is adopted is there before the first push"
    ))
    .hint("make another app with `sudo receiver setup`, and adopt with that one"))
}

/// An app that is there, and has a user of its own, begins with a dump that lies in its place.
pub fn begin_there(
    app: &App,
    database: Option<&foreign::Foreign>,
    shared: Option<&Path>,
    by: &str,
) -> Result<()> {
    let mut guard = Guard::wait(app, "an adoption", |_| {})?;
    refuse_begun(app)?;
    let adoption = Adoption {
        format: FORMAT,
        database: database.map(foreign::Foreign::url),
        shared: shared.map(Path::to_owned),
        ..Adoption::default()
    };
    Beginning::make_place(app)?;
    begin_with(app, database)?;
    adoption.write(app)?;
    guard.append(Some(by), adopted(&adoption)).map(drop)
}

/// A dump takes the place that the next version reads it in.
pub fn place_dump(app: &App, dump: &mut dyn std::io::Read) -> Result<()> {
    Beginning::make_place(app)?;
    let (place, name) = (app.beginning(), Beginning::dump(app));
    let name = name.strip_prefix(&place).unwrap_or(&name);
    beneath::write(&place, name, dump, 0o600).map(drop)
}

/// Whether something is adopted that has not taken over yet: until then another site of nginx is left alone.
pub fn is_pending(app: &App) -> bool {
    files::exists(&file(app))
}

/// What is adopted, without a secret.
fn words(adoption: &Adoption) -> String {
    let shared = adoption.shared.as_ref().map(|shared| shared.display().to_string());
    let database = adoption.database.as_ref().and_then(|url| url.parse::<foreign::Foreign>().ok());
    let all: Vec<String> = database.map(|database| database.to_string()).into_iter().chain(shared).collect();
    all.join(" and ")
}

/// Copies all that is adopted: the database to the dump that the next version begins with, files to `shared/`.
fn copy(app: &App, adoption: &Adoption, say: &mut dyn FnMut(&str)) -> Result<()> {
    if let Some(url) = &adoption.database {
        Beginning::make_place(app)?;
        let password = files::read_text(&secret(app))?;
        let desk = app.beginning().join("desk");
        copy_database(&url.parse()?, password.as_deref(), &desk, &Beginning::dump(app), say)?;
    }
    match &adoption.shared {
        Some(from) => copy_files(from, &app.shared(), None, say),
        None => Ok(()),
    }
}

/// Copies a database, as it is at one moment, to a new dump. `desk` is made meanwhile, for us alone.
pub fn copy_database(
    database: &foreign::Foreign,
    password: Option<&str>,
    desk: &Path,
    dump: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    let begun = Instant::now();
    files::remove_tree(desk)?;
    files::make_directory(desk, 0o700)?;
    files::remove_file(dump)?;
    let dumped = database.dump(password, desk, dump, &Limit::within(PATIENT));
    files::remove_tree(desk)?;
    dumped?;
    let length = std::fs::metadata(dump).map_or(0, |about| about.len());
    say(&format!("{database}: copied, {} in {:.1} s", text::bytes(length), begun.elapsed().as_secs_f32()));
    Ok(())
}

/// Copies the files of `from` that are new or have changed, as this user or as ourselves.
pub fn copy_files(from: &Path, to: &Path, by: Option<&Account>, say: &mut dyn FnMut(&str)) -> Result<()> {
    let (count, bytes) = files_of::copy(from, to, by)?;
    let noun = text::plural(usize::try_from(count).unwrap_or(usize::MAX), "file", "files");
    say(&format!("{}: {} {noun} copied, {}", from.display(), grouped(count), text::bytes(bytes)));
    Ok(())
}

/// The data that the version begins with which the adoption opens.
pub fn brought(app: &App, version: Version) -> Result<Option<Brought>> {
    let Some(url) = Adoption::read(app)?.and_then(|adoption| adoption.database) else { return Ok(None) };
    let engine = url.parse::<foreign::Foreign>()?.engine();
    Ok(Some(Brought { database: databases::record_for(app, engine, version)?, fits: false }))
}

/// Writes down how the old application is stopped, and started again; nothing of it where somebody else does that.
pub fn prepare(app: &App, by: &str, stop: Option<&str>, start: Option<&str>) -> Result<()> {
    let mut adoption = of(app)?;
    adoption.stop = stop.map(str::to_owned);
    adoption.start = start.map(str::to_owned);
    adoption.stopped = false;
    let mut guard = Guard::wait(app, "an adoption", |_| {})?;
    adoption.write(app)?;
    guard.append(Some(by), Event::Change { what: "adoption: it goes live with fresh data".to_owned() })?;
    Ok(())
}

/// What is adopted.
///
/// # Errors
/// Where nothing is.
pub fn of(app: &App) -> Result<Adoption> {
    let nothing = || {
        Error::new(format!("{} adopts nothing", app.name())).hint(format!(
            "`receiver adopt {} --database-from URL --shared-from DIR` begins, with an app that is not there yet",
            app.name()
        ))
    };
    Adoption::read(app)?.ok_or_else(nothing)
}

/// Stops the old application and copies its data once more.
fn fetch(app: &App, log: &JobLog) -> Result<()> {
    let adoption = of(app)?;
    if let Some(stop) = &adoption.stop {
        let begun = Instant::now();
        note_stopped(app, true)?;
        run(stop, log).context(|| "the old application cannot be stopped")?;
        log.timed("stop", "the old application is stopped", begun);
    }
    death::point("adoption-stopped");
    copy(app, &adoption, &mut |line| log.step("copy", line))
}

/// The deploy failed: what was copied for it goes. Answers what is adopted, where the old application was stopped.
fn give_up(app: &App, log: &JobLog) -> Option<Adoption> {
    let adoption = Adoption::read(app).ok()??;
    if let Err(error) = files::remove_tree(&app.beginning()) {
        log.note(error.one_line());
    }
    adoption.stopped.then_some(adoption)
}

/// The old application is started again, or it is said that it is not.
fn started(app: &App, adoption: &Adoption, started: Result<()>, log: &JobLog) {
    match started {
        Ok(()) => {
            if let Err(error) = note_stopped(app, false) {
                log.note(error.one_line());
            }
            log.note("the old application is started again");
        }
        Err(error) => {
            log.note(format!("THE OLD APPLICATION IS STOPPED: {}; {}", adoption.way_back(), error.one_line()))
        }
    }
}

/// Writes down whether the old application is stopped, for `status` and for whoever comes after a death.
pub fn note_stopped(app: &App, stopped: bool) -> Result<()> {
    let mut adoption = of(app)?;
    adoption.stopped = stopped;
    adoption.write(app)
}

/// It is live with its data: nothing is left to be adopted.
pub fn finish(app: &App) -> Result<()> {
    files::remove_file(&secret(app))?;
    files::remove_tree(&app.beginning())?;
    files::remove_file(&file(app))
}

/// That an old application was stopped for a deploy that did not end; for `status`.
pub fn attention(app: &App) -> Option<String> {
    let adoption = Adoption::read(app).ok()??;
    adoption.stopped.then(|| {
        format!(
            "the old application was stopped for `adopt --go`, which did not end: {}",
            adoption.way_back()
        )
    })
}

/// Runs a command of the administrator's, its output to the log.
fn run(command: &str, log: &JobLog) -> Result<()> {
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .context(|| "cannot start it")?;
    for bytes in [&output.stdout, &output.stderr] {
        for line in String::from_utf8_lossy(bytes).lines() {
            log.write(&Line::Output(text::printable_output(line)));
        }
    }
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format!("`{command}` exited with {}", output.status.code().unwrap_or(128))))
}
