//! What the waker is told: which versions there are, and how each is started beside what is live.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use super::beside::{self, Beside, Data};
use super::look::{self, Scene};
use super::{processes, queue, shown};
use crate::app::record;
use crate::app::settings::Urls;
use crate::app::{App, Version};
use crate::serve::waker::{self, Terms, Wake};
use crate::support::{Error, Result};

/// Starts versions of one app.
#[derive(Debug)]
pub struct Sleepers {
    app: App,
    awake: Mutex<BTreeMap<Version, Beside>>,
}

impl Sleepers {
    /// Those of an app; all sleep.
    pub fn of(app: &App) -> Sleepers {
        Sleepers { app: app.clone(), awake: Mutex::new(BTreeMap::new()) }
    }
}

/// What the unit of a worker has in its environment.
const IN_WORKER: &str = "RECEIVER_WORKER";

/// Starts the app's waker where versions that are not live are somebody's to see. Whatever is wrong with
/// that, what is live is not touched by it.
pub fn ensure(app: &App) {
    let granted = look::server_settings(app).is_ok_and(|settings| settings.versions.urls != Urls::Off);
    if !granted || processes::is_down(app) {
        return;
    }
    // A unit that carries one command out ends with what it started: the worker's does not.
    if app.user().is_some() && std::env::var_os(IN_WORKER).is_none() {
        if let Err(error) = queue::wake(app) {
            log::warn!("{}", error.one_line());
        }
        return;
    }
    if let Err(error) = waker::ensure(app) {
        log::warn!("{}", error.one_line());
    }
}

impl Wake for Sleepers {
    fn terms(&self) -> Result<Option<Terms>> {
        let settings = look::server_settings(&self.app)?;
        let wanted = settings.versions.urls != Urls::Off && !processes::is_down(&self.app);
        if !wanted || !self.app.is_created() {
            return Ok(None);
        }
        let answering = shown::all(&self.app)?.into_iter().filter(|one| one.settings.web.command.is_some());
        let versions = answering.map(|one| (one.version(), one.settings.web.protocol)).collect();
        let live = record::live(&self.app)?.map(|id| id.version);
        let awake = usize::try_from(settings.versions.awake).unwrap_or(1);
        Ok(Some(Terms { versions, live, awake, idle: settings.versions.idle }))
    }

    fn start(&self, version: Version) -> Result<PathBuf> {
        beside::sweep(&self.app)?;
        let record = shown::standing_for(&Scene::read(&self.app)?, version)?;
        let report = |line: &super::joblog::Line| log::info!("version {version}: {line:?}");
        let beside = Beside::start(&self.app, &record, Data::Own, &report, &|| Ok(()))?;
        let socket = beside.socket().map(PathBuf::from);
        let mut awake = self.awake.lock().map_err(|_| Error::new("the waker is in disorder"))?;
        awake.insert(version, beside);
        socket.ok_or_else(|| Error::new(format!("{} has no socket", record.id)))
    }

    fn stop(&self, version: Version) -> Result<()> {
        let beside = self.awake.lock().ok().and_then(|mut awake| awake.remove(&version));
        beside.map_or(Ok(()), Beside::end)
    }
}
