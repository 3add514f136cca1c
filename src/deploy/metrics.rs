//! Figures for monitoring, as node_exporter's textfile collector reads them (the Prometheus text format).
//!
//! The file is replaced by one rename, so that nobody reads half of it. Times are moments (`…_timestamp_seconds`): how
//! long ago that is, who asks can tell.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::certificate;
use super::listing::AppStatus;
use super::look::{self, Scene};
use crate::app::App;
use crate::app::journal::{History, Outcome};
use crate::app::record::Record;
use crate::support::{Result, clock, files};

/// Writes the figures of an app where `[metrics] file` says; nothing where it says nothing.
pub fn write(app: &App) -> Result<()> {
    let settings = look::server_settings(app)?;
    let Some(file) = &settings.metrics.file else { return Ok(()) };
    let status = AppStatus::read(app)?;
    let scene = Scene::read(app)?;
    let certificate = settings.nginx.certificate.as_ref();
    let figures = Figures {
        status: &status,
        history: &scene.history,
        live: scene.live_record(app)?,
        certificate: certificate.and_then(|one| certificate::expires(app, &one.chain).ok().flatten()),
        now: clock::now(),
    };
    files::write_atomic(file, figures.text().as_bytes(), 0o644)
}

/// All that is written, as values.
struct Figures<'a> {
    status: &'a AppStatus,
    history: &'a History,
    live: Option<&'a Record>,
    certificate: Option<Timestamp>,
    now: Timestamp,
}

impl Figures<'_> {
    fn text(&self) -> String {
        let status = self.status;
        let mut page = Page { app: status.app.as_str().to_owned(), text: String::new() };
        let one = |is: bool| u64::from(is);
        page.one("live_version", "The version that is live.", self.live.map(|live| live.id.version.0.into()));
        page.one("in_sync", "Whether what is live is the tip of its branch.", Some(one(status.in_sync)));
        page.one("deploying", "Whether a deploy is under way.", Some(one(status.deploying.is_some())));
        page.one("queue_length", "Jobs that wait.", Some(status.waiting as u64));
        page.one(
            "locked",
            "Whether there are no deploys until further notice.",
            Some(one(status.locked.is_some())),
        );
        page.one(
            "maintenance",
            "Whether everyone gets the page for maintenance.",
            Some(one(status.maintenance)),
        );
        page.one("attention", "How many things need attention.", Some(status.attention.len() as u64));
        page.one("disk_bytes", "Bytes on disk, all in all.", Some(status.bytes));
        let database = status.database.as_ref().and_then(|database| database.bytes);
        page.one("database_bytes", "Bytes of the live database.", database);
        page.one("live_since_timestamp_seconds", "When what is live went live.", self.live_since());
        page.one("last_deploy_duration_seconds", "How long the making of what is live took.", self.took());
        let expires = self.certificate.map(seconds);
        page.one("certificate_expiry_timestamp_seconds", "When the certificate ends.", expires);
        self.outcomes(&mut page);
        self.processes(&mut page);
        page.one("written_timestamp_seconds", "When these figures were written.", Some(seconds(self.now)));
        page.text
    }

    fn live_since(&self) -> Option<u64> {
        self.history.live_since(self.status.current.as_ref()?).map(seconds)
    }

    fn took(&self) -> Option<u64> {
        let live = self.live?;
        u64::try_from(live.sealed?.duration_since(live.created).as_secs()).ok()
    }

    fn outcomes(&self, page: &mut Page) {
        let mut counts: BTreeMap<&str, u64> = ["live", "failed", "cancelled", "superseded", "skipped"]
            .into_iter()
            .map(|one| (one, 0))
            .collect();
        for (outcome, count) in self.history.outcomes() {
            let word = match outcome {
                Outcome::Live => "live",
                Outcome::Failed => "failed",
                Outcome::Cancelled => "cancelled",
                Outcome::Superseded => "superseded",
                Outcome::Skipped => "skipped",
            };
            counts.insert(word, *count);
        }
        page.head("deploys_total", "counter", "Deploys that ended, by how they did.");
        for (outcome, count) in counts {
            page.line("deploys_total", &[("outcome", outcome)], count);
        }
    }

    fn processes(&self, page: &mut Page) {
        // Of a name that drains and its successor the newest counts.
        let newest: BTreeMap<&str, _> =
            self.status.processes.iter().map(|one| (one.name.as_str(), one)).collect();
        page.head("process_up", "gauge", "Whether a process of what is live runs.");
        for (name, one) in &newest {
            page.line("process_up", &[("process", name)], u64::from(one.state == "running"));
        }
        page.head("process_restarts", "gauge", "How often it was started again since its start.");
        for (name, one) in &newest {
            page.line("process_restarts", &[("process", name)], one.restarts.into());
        }
    }
}

fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or(0)
}

/// The text of the figures of one app.
struct Page {
    app: String,
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP receiver_{name} {help}\n# TYPE receiver_{name} {kind}");
    }

    /// A line; nothing of it needs an escape: names of apps, processes and outcomes are words.
    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let more: String = labels.iter().map(|(key, value)| format!(",{key}=\"{value}\"")).collect();
        let _ = writeln!(self.text, "receiver_{name}{{app=\"{}\"{more}}} {value}", self.app);
    }

    /// A figure of the app; one that there is not is left out.
    fn one(&mut self, name: &str, help: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.head(name, "gauge", help);
            self.line(name, &[], value);
        }
    }
}
