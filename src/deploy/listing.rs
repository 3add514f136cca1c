//! What `list`, `status` and `show` tell: read without the lock, and never changed.

use jiff::Timestamp;
use serde::Serialize;

use super::databases;
use super::look::{self, Scene};
use super::underway::Underway;
use super::{adoption, branches, maintenance, notice, processes, queue, watching, worker};
use crate::app::record::{DatabaseRecord, Record};
use crate::app::{App, AppName, ReleaseId, Revision, Version, guard};
use crate::support::text::printable;
use crate::support::{Result, files};
use crate::vcs::Repository;

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// `current` points to it.
    Live,
    /// It is complete.
    Good,
    /// It is not, and never will be.
    Failed,
    /// A rollback left it.
    Withdrawn,
    /// It is being made.
    Deploying,
}

/// A release, as `list` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Its id.
    pub id: ReleaseId,
    /// Its version.
    pub version: Version,
    /// Its name.
    pub name: String,
    /// Its revision, in full.
    pub revision: Revision,
    /// What became of it.
    pub state: State,
    /// When it began, in UTC.
    pub created: Timestamp,
    /// Who pushed it.
    pub pusher: String,
    /// The first line of its revision's message.
    pub subject: String,
    /// Where it lies; null for one that failed.
    pub path: Option<String>,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// All releases of an app, newest first: the shape of `list --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    /// The app.
    pub app: AppName,
    /// What is live.
    pub current: Option<ReleaseId>,
    /// The releases.
    pub releases: Vec<Listed>,
    /// What cannot be made sense of.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

impl Listing {
    /// Reads it.
    pub fn read(app: &App) -> Result<Listing> {
        let scene = Scene::read(app)?;
        let (withdrawn, pinned) = (scene.history.withdrawn(), scene.history.pinned());
        let mut records: Vec<&Record> =
            scene.releases.standing.iter().chain(&scene.releases.failed).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.seq));
        let state = |record: &Record| match &record.sealed {
            _ if record.failure.is_some() => State::Failed,
            None => State::Deploying,
            Some(_) if scene.live.as_ref() == Some(&record.id) => State::Live,
            Some(_) if withdrawn.contains(&record.id) => State::Withdrawn,
            Some(_) => State::Good,
        };
        let releases = records.iter().map(|record| Listed {
            id: record.id.clone(),
            version: record.id.version,
            name: record.id.name.to_string(),
            revision: record.revision.clone(),
            state: state(record),
            created: record.created,
            pusher: record.pusher.clone(),
            subject: record.subject.clone(),
            path: record.failure.is_none().then(|| app.release(&record.id).display().to_string()),
            pinned: pinned.contains(&record.id),
            failure: record.failure.clone(),
        });
        let mut warnings = scene.releases.unknown.clone();
        warnings.extend(scene.history.damage(app));
        Ok(Listing {
            app: app.name().clone(),
            current: scene.live.clone(),
            releases: releases.collect(),
            warnings,
        })
    }

    /// A line for each release, below its version.
    pub fn words(&self) -> Vec<String> {
        let mut versions: Vec<Version> = self.releases.iter().map(|release| release.version).collect();
        versions.sort_by_key(|version| std::cmp::Reverse(*version));
        versions.dedup();
        let mut lines = Vec::new();
        for version in versions {
            lines.push(format!("version {version}"));
            for release in self.releases.iter().filter(|release| release.version == version) {
                let mark = if release.state == State::Live { '*' } else { ' ' };
                let state = format!("{:?}", release.state).to_lowercase();
                let pinned = if release.pinned { " (pinned)" } else { "" };
                lines.push(format!(
                    "{mark} {}  {state:<9}  {}{pinned}",
                    release.name,
                    printable(&release.subject)
                ));
            }
        }
        if lines.is_empty() {
            lines.push(format!("{} has no release yet", self.app));
        }
        lines
    }
}

/// The live database, as `status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct LiveDatabase {
    /// The engine.
    pub engine: String,
    /// Its name; null where receiver keeps none.
    pub name: Option<String>,
    /// The version that it belongs to.
    pub version: Version,
    /// Its bytes on disk; null where nobody can tell, as its server is away.
    pub bytes: Option<u64>,
}

/// An app, as `status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct AppStatus {
    /// Its name.
    pub app: AppName,
    /// What is live.
    pub current: Option<ReleaseId>,
    /// Its revision.
    pub revision: Option<Revision>,
    /// The branch that is deployed.
    pub branch: String,
    /// That branch's tip.
    pub tip: Option<Revision>,
    /// Whether what is live is the tip.
    pub in_sync: bool,
    /// The release that is being made.
    pub deploying: Option<ReleaseId>,
    /// How many jobs wait.
    pub waiting: usize,
    /// Why there are no deploys.
    pub locked: Option<String>,
    /// Whether everyone gets the page for maintenance.
    pub maintenance: bool,
    /// Its processes, the oldest start first.
    pub processes: Vec<processes::Listed>,
    /// The live database.
    pub database: Option<LiveDatabase>,
    /// Bytes on disk, all in all.
    pub bytes: u64,
    /// What needs attention, as sentences.
    pub attention: Vec<String>,
}

impl AppStatus {
    /// Reads it.
    pub fn read(app: &App) -> Result<AppStatus> {
        let scene = Scene::read(app)?;
        let settings = look::server_settings(app)?;
        let branch = settings.branch.as_str().to_owned();
        let tip = Repository::open(&app.repository())?.tip(&branch)?;
        let live = scene.live.as_ref().and_then(|live| scene.releases.sealed(live));
        let revision = live.map(|record| record.revision.clone());
        let works = guard::holder(app).is_some();
        let underway = Underway::read(app).ok().flatten();
        let jobs = queue::waiting(app)?;
        let running = underway.as_ref().filter(|_| works).map(|underway| underway.job.id.clone());
        let waiting = jobs.iter().filter(|job| Some(&job.id) != running.as_ref()).count();
        let deploying = underway.as_ref().filter(|_| works).and_then(Underway::release).cloned();
        let mut attention = scene.releases.unknown.clone();
        attention.extend(scene.history.damage(app));
        attention.extend(queue::strange(app)?);
        if !works {
            attention.extend(super::recovery::foresee(app).unwrap_or_else(|error| vec![error.one_line()]));
            let lost = worker::undeployed_tip(app);
            attention.extend(lost.map(|tip| {
                format!("the tip {} was never deployed: `receiver deploy {}`", tip.short(), app.name())
            }));
            let never = branches::never_made(app).unwrap_or_default();
            let cure = branches::see_to(app);
            attention.extend(never.iter().map(|branch| format!("{branch} was never deployed: {cure}")));
        }
        attention.extend(notice::failure(app));
        if !works {
            attention.extend(adoption::attention(app));
        }
        attention.extend(watching::expiry(app, &settings).map(|found| match found {
            Ok(expiry) => expiry.words,
            Err(error) => error.one_line(),
        }));
        let processes = processes::list(app)?;
        if !works {
            attention.extend(processes::attention(app, &processes));
        }
        Ok(AppStatus {
            app: app.name().clone(),
            current: scene.live.clone(),
            in_sync: tip.is_some() && tip == revision,
            revision,
            branch,
            tip,
            deploying,
            waiting,
            locked: scene.history.locked().map(str::to_owned),
            maintenance: maintenance::is_on(app),
            processes,
            database: live.map(|record| database(app, record.id.version, record.database.as_ref())),
            bytes: files::disk_usage(app.directory()),
            attention,
        })
    }

    /// Why `--check` says no, as sentences; none where all is well.
    pub fn troubles(&self) -> Vec<String> {
        let mut all = self.attention.clone();
        if let Some(tip) = self.tip.as_ref().filter(|_| !self.in_sync && self.deploying.is_none())
            // That it was never deployed is said already.
            && !all.iter().any(|what| what.contains(tip.short()))
        {
            let live = self.revision.as_ref().map_or("nothing", Revision::short);
            all.push(format!("{} is at {}, and {live} is live", self.branch, tip.short()));
        }
        all
    }

    /// A few lines for people.
    pub fn words(&self) -> Vec<String> {
        let none = || "nothing yet".to_owned();
        let mut lines = vec![format!("{}", self.app)];
        lines.push(format!("  live       {}", self.current.as_ref().map_or_else(none, ToString::to_string)));
        let tip = self.tip.as_ref().map_or("nothing was pushed", Revision::short);
        let sync = if self.in_sync { "is live" } else { "is not live" };
        lines.push(format!(
            "  branch     {} at {tip}{}",
            self.branch,
            if self.tip.is_some() { format!(", which {sync}") } else { String::new() }
        ));
        if let Some(deploying) = &self.deploying {
            lines.push(format!("  deploying  {deploying}"));
        }
        if self.waiting > 0 {
            lines.push(format!("  waiting    {}", self.waiting));
        }
        if let Some(why) = &self.locked {
            lines.push(format!("  locked     {}", printable(why)));
        }
        if self.maintenance {
            lines.push("  maintenance is on: everyone gets 503".to_owned());
        }
        lines.extend(self.processes.iter().map(processes::Listed::words));
        if let Some(database) = &self.database {
            let name = database.name.as_deref().unwrap_or("the application's own affair");
            let size = database.bytes.map(|bytes| format!(", {}", crate::support::text::bytes(bytes)));
            lines.push(format!("  database   {name} ({}{})", database.engine, size.unwrap_or_default()));
        }
        lines.push(format!("  disk       {}", crate::support::text::bytes(self.bytes)));
        lines.extend(self.attention.iter().map(|what| format!("  attention  {}", printable(what))));
        lines
    }
}

fn database(app: &App, version: Version, record: Option<&DatabaseRecord>) -> LiveDatabase {
    match record {
        Some(record) => LiveDatabase {
            engine: record.engine.clone(),
            name: Some(record.name.clone()),
            version: record.home,
            bytes: databases::of(app, record).and_then(|database| database.size()).ok(),
        },
        None => LiveDatabase { engine: "none".to_owned(), name: None, version, bytes: None },
    }
}
