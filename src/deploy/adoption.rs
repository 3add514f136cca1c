//! An application that is there already, with its data, becomes an app.
//!
//! It goes in two steps, and up to the second the old application goes on as if nothing were. First the app is made: a
//! copy of the database, read in one moment, and of the files that outlive releases; the first push deploys on them,
//! and is looked at beside what is live. Then, with `--go`, a deploy of the same revision opens a version with fresh
//! data: when all is built the old application is stopped, the data is copied once more, and goes live with it. Where
//! that fails what was tried stays live, and the old application is started again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::beginning::{Beginning, Dumped};
use super::joblog::{JobLog, Line};
use super::plan::Brought;
use super::{databases, found};
use crate::app::guard::Guard;
use crate::app::journal::{Event, refuse_newer};
use crate::app::layout::FORMAT;
use crate::app::settings::BranchName;
use crate::app::{App, AppName, Root, Vcs, Version};
use crate::data::{Limit, foreign};
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
        files::make_directory(&made.beginning(), 0o700)?;
        copy(made, &adoption, say)?;
        let engine = wanted.database.as_ref().map(foreign::Foreign::engine);
        let data = engine.map(|engine| Dumped { engine: engine.to_owned(), home: Version(0) });
        let from = wanted.database.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
        Beginning::new(from, Version(0), None, data).write(made)?;
        found::write_marker(made, Vcs::Git, clock::now(), root.path(), "")?;
        let what = format!("adopted: {}", words(&adoption));
        Guard::wait(made, "an adoption", |_| {})?.append(Some(by), Event::Change { what }).map(drop)
    })
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
        let database: foreign::Foreign = url.parse()?;
        let begun = Instant::now();
        files::make_directory(&app.beginning(), 0o700)?;
        let desk = app.beginning().join("desk");
        files::remove_tree(&desk)?;
        files::make_directory(&desk, 0o700)?;
        let dump = Beginning::dump(app);
        files::remove_file(&dump)?;
        let password = files::read_text(&secret(app))?;
        let dumped = database.dump(password.as_deref(), &desk, &dump, &Limit::within(PATIENT));
        files::remove_tree(&desk)?;
        dumped?;
        let length = std::fs::metadata(&dump).map_or(0, |about| about.len());
        say(&format!(
            "{database}: copied, {} in {:.1} s",
            text::bytes(length),
            begun.elapsed().as_secs_f32()
        ));
    }
    if let Some(from) = &adoption.shared {
        let (count, bytes) = copy_files(from, &app.shared())?;
        let noun = text::plural(usize::try_from(count).unwrap_or(usize::MAX), "file", "files");
        say(&format!("{}: {} {noun} copied, {}", from.display(), grouped(count), text::bytes(bytes)));
    }
    Ok(())
}

/// Copies what is new or has changed, links as links. Nothing is deleted; a link that leads out is refused, before
/// anything is copied. Answers how many files, and bytes, were copied.
fn copy_files(from: &Path, to: &Path) -> Result<(u64, u64)> {
    let mut all = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        for found in beneath::list(from, &directory)? {
            if found.kind == FileType::Directory {
                waiting.push(found.path.clone());
            }
            all.push(found);
        }
    }
    let mut outside = Vec::new();
    for found in &all {
        let depth = found.path.components().count() - 1;
        match found.kind {
            FileType::Symlink if !beneath::stays_within(depth, &beneath::target(from, &found.path)?) => {
                outside.push(format!("{} leads out of it", found.path.display()));
            }
            FileType::Directory | FileType::RegularFile | FileType::Symlink => {}
            _ => outside.push(format!("{} is neither a file nor a directory", found.path.display())),
        }
    }
    if !outside.is_empty() {
        let more = if outside.len() > 5 { format!(" and {} more", outside.len() - 5) } else { String::new() };
        outside.truncate(5);
        return Err(Error::new(format!("{} cannot be copied: {}{more}", from.display(), outside.join("; ")))
            .hint("take such things out, or copy the rest by hand to shared/ afterwards"));
    }
    let (mut count, mut bytes) = (0, 0);
    for found in &all {
        match found.kind {
            FileType::Directory => beneath::make_directory(to, &found.path, found.mode | 0o700)?,
            FileType::Symlink => {
                if !files::exists(&to.join(&found.path)) {
                    files::link_new(&beneath::target(from, &found.path)?, &to.join(&found.path))?;
                }
            }
            _ if beneath::size_and_time(to, &found.path)? == Some((found.size, found.mtime)) => {}
            _ => {
                let mut file = beneath::read(from, &found.path)?;
                bytes += beneath::replace(to, &found.path, &mut file, found.mode, found.mtime)?;
                count += 1;
            }
        }
    }
    files::sync_filesystem(to)?;
    Ok((count, bytes))
}

/// The data that the version begins with which the adoption opens.
pub fn brought(app: &App, version: Version) -> Result<Option<Brought>> {
    let Some(url) = Adoption::read(app)?.and_then(|adoption| adoption.database) else { return Ok(None) };
    let engine = url.parse::<foreign::Foreign>()?.engine();
    Ok(Some(Brought { database: databases::record_for(app, engine, version)?, fits: false }))
}

/// Writes down how the old application is stopped, and started again.
pub fn prepare(app: &App, by: &str, stop: &str, start: Option<&str>) -> Result<()> {
    let mut adoption = of(app)?;
    adoption.stop = Some(stop.to_owned());
    adoption.start = start.map(str::to_owned);
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

/// Stops the old application and copies its data once more: what is built goes live with it.
pub fn fetch(app: &App, log: &JobLog) -> Result<()> {
    let mut adoption = of(app)?;
    if let Some(stop) = adoption.stop.clone() {
        let begun = Instant::now();
        adoption.stopped = true;
        adoption.write(app)?;
        run(&stop, log).context(|| "the old application cannot be stopped")?;
        log.timed("stop", "the old application is stopped", begun);
    }
    death::point("adoption-stopped");
    copy(app, &adoption, &mut |line| log.step("copy", line))
}

/// The deploy failed: the old application is started again, where somebody said how.
pub fn resume(app: &App, log: &JobLog) {
    let Ok(Some(mut adoption)) = Adoption::read(app) else { return };
    if let Err(error) = files::remove_tree(&app.beginning()) {
        log.note(error.one_line());
    }
    if !adoption.stopped {
        return;
    }
    let started = match &adoption.start {
        Some(start) => run(start, log),
        None => Err(Error::new("nobody said how (--start)")),
    };
    match started {
        Ok(()) => {
            adoption.stopped = false;
            if let Err(error) = adoption.write(app) {
                log.note(error.one_line());
            }
            log.note("the old application is started again");
        }
        Err(error) => {
            log.note(format!("THE OLD APPLICATION IS STOPPED: {}; {}", adoption.way_back(), error.one_line()))
        }
    }
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
