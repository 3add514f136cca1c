//! A kept release that runs beside what is live: to be looked at, on its own version's data.
//!
//! The database of a version that is not live is fenced: it is read, and refuses to be written. Where
//! somebody wants to write, there is a throw-away copy. A release of the live version has the live
//! database, as a rollback to it would. What runs beside ends with whoever started it.

use std::path::Path;
use std::time::Duration;

use super::crew::{Crew, Report, Upbringing};
use super::databases::{self, Passing};
use super::environment::Environment;
use super::{hand, look};
use crate::app::App;
use crate::app::record::Record;
use crate::app::settings::Settings;
use crate::data::{Access, Database, Limit};
use crate::serve::start::{Purpose, Start, WEB};
use crate::serve::supervision::{self, State};
use crate::support::{Error, Result, files};

/// What it finds as its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Its version's own.
    Own,
    /// A copy of that, which it may write, and which is thrown away when it ends.
    Copy,
}

/// How long a copy may take: nobody is held up by it.
const COPYING: Duration = Duration::from_secs(24 * 3600);

/// A release that runs beside what is live.
#[derive(Debug)]
pub struct Beside {
    app: App,
    /// The settings that hold for it.
    pub settings: Settings,
    starts: Vec<Start>,
    copy: Option<Box<dyn Database>>,
}

impl Beside {
    /// Starts its web process, and returns when that is healthy. `stop` fails where nobody wants it any more.
    ///
    /// # Errors
    /// Where the release has no web process, or it does not come up; nothing of it runs then.
    pub fn start(
        app: &App,
        record: &Record,
        data: Data,
        report: &Report,
        stop: &dyn Fn() -> Result<()>,
    ) -> Result<Beside> {
        let settings = look::settings_of(app, record)?;
        if settings.web.command.is_none() {
            return Err(Error::new(format!("{} has no process that could answer", record.id))
                .hint("its files are all there is: [web] command says what runs"));
        }
        let mut environment = Environment::beside(app, record)?;
        let mut beside = Beside { app: app.clone(), settings, starts: Vec::new(), copy: None };
        if data == Data::Copy {
            beside.copy = copy(app, record)?;
            if let Some(copy) = &beside.copy {
                environment = environment.with_database(&**copy, Access::Write)?;
            }
        }
        let mut crew = Crew::new(app, &record.id, &beside.settings, &environment, Purpose::Beside);
        let how = Upbringing { report, stop, most: Duration::MAX, settle: false };
        crew.bring_up(&[WEB], &how)?;
        beside.starts = crew.leave();
        Ok(beside)
    }

    /// The socket that it answers on.
    pub fn socket(&self) -> Option<&Path> {
        self.starts.iter().find_map(|start| start.socket.as_deref())
    }

    /// Its database, where it is a copy.
    pub fn copy(&self) -> Option<&str> {
        self.copy.as_ref().map(|copy| copy.spot().name.as_str())
    }

    /// Ends it. Returns when nothing of it runs, and its copy is gone.
    pub fn end(mut self) -> Result<()> {
        self.clear()
    }

    fn clear(&mut self) -> Result<()> {
        let supervisor = supervision::of(&self.app);
        let mut result = Ok(());
        for start in self.starts.drain(..) {
            let ended = supervisor.stop(&start).and_then(|()| start.forget(&self.app));
            result = result.and(ended);
        }
        if let Some(copy) = self.copy.take() {
            result = result.and(databases::discard(&self.app, &*copy));
        }
        result
    }
}

/// Forgets what ended with its starter, and was never forgotten by it.
pub fn sweep(app: &App) -> Result<()> {
    let supervisor = supervision::of(app);
    for start in Start::all(app)?.iter().filter(|start| start.purpose == Purpose::Beside) {
        let condition = supervisor.condition(start)?;
        // One that was written down a moment ago, and is to start now, has no past yet.
        if condition.state == State::Stopped && condition.since.is_some() {
            supervisor.stop(start)?;
            start.forget(app)?;
        }
    }
    for database in databases::on_servers(app)? {
        if is_left(&database.spot().directory) {
            database.remove()?;
        }
    }
    let place = app.state("databases");
    for name in files::names_in(&place)? {
        if is_left(&place.join(&name)) {
            hand::remove_databases(app, &place.join(name))?;
        }
    }
    Ok(())
}

/// Whether a directory is that of a copy whose process is dead, and which was that process's alone.
fn is_left(directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let after = |what: &str| name.split_once(what).and_then(|(_, pid)| pid.parse::<u32>().ok());
    let pid = after(".beside-").or_else(|| after(".handing-out-"));
    pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            log::warn!("{}", error.one_line());
        }
    }
}

/// A copy of the release's database, free of receiver's own; `None` where receiver keeps none for it.
fn copy(app: &App, record: &Record) -> Result<Option<Box<dyn Database>>> {
    let Some(database) = databases::of_release(app, record)? else { return Ok(None) };
    // The number of a process that died may come again: what it left is begun anew.
    let copy = database.beside(Passing::Beside(std::process::id()).spot(app, record.id.version)?);
    database.snapshot(copy.spot(), &Limit::within(COPYING), &mut |_| {})?;
    Ok(Some(copy))
}
