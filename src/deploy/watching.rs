//! A look at an app once a minute: whether a process ends again and again, whether its certificate ends soon, and the
//! figures for monitoring.
//!
//! It runs beside `[cron]`, where `[notify]` or `[metrics]` ask for it, and takes no lock. Each trouble is told once,
//! until it is over: what was told stands in `receiver/notices/told`.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::notice::{self, Expiring, Looping, Notice};
use super::{certificate, look, metrics, processes};
use crate::app::App;
use crate::app::settings::{Occasion, Settings};
use crate::support::{Result, clock, files};

/// The name that it has among the commands of `[cron]`; none of those can be called so.
pub const NAME: &str = ".watch";

/// When it runs, as [cron] says times.
pub const AT: &str = "* * * * *";

/// From then on a certificate is one that ends soon: certbot renews it 30 days before its end.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A process that was started again so often, and is not steady now, does not come up.
const OFTEN: u32 = 3;

/// Whether somebody wants it.
pub fn is_wanted(settings: &Settings) -> bool {
    settings.notify.command.is_some() || settings.metrics.file.is_some()
}

/// Looks once, tells what is new, and writes the figures.
pub fn look(app: &App) -> Result<()> {
    let settings = look::server_settings(app)?;
    let told = told(app)?;
    let mut now = BTreeSet::new();
    let mut new = Vec::new();
    for (name, notice) in troubles(app, &settings)? {
        if !told.contains(&name) && settings.notify.wants(notice.event) {
            new.push((name.clone(), notice));
        }
        now.insert(name);
    }
    for (name, notice) in &new {
        notice.put(app, &format!("{}-{name}", notice.time.strftime("%Y%m%dT%H%M%SZ")))?;
    }
    if now != told {
        files::make_directory(&app.notices(), 0o700)?;
        let text: String = now.iter().map(|name| format!("{name}\n")).collect();
        files::write_atomic(&app.notices().join(TOLD), text.as_bytes(), 0o600)?;
    }
    if !new.is_empty() {
        notice::deliver(app)?;
    }
    metrics::write(app)
}

const TOLD: &str = "told";

fn told(app: &App) -> Result<BTreeSet<String>> {
    let text = files::read_text(&app.notices().join(TOLD))?.unwrap_or_default();
    Ok(text.lines().map(str::to_owned).collect())
}

/// What is wrong now, each by the name that it has as long as it lasts.
fn troubles(app: &App, settings: &Settings) -> Result<Vec<(String, Notice)>> {
    let mut found = Vec::new();
    for one in processes::list(app)? {
        if !one.loops(OFTEN) {
            continue;
        }
        let summary = format!(
            "{}: process `{}` does not stay up: it was started again {} times, and {}",
            app.name(),
            one.name,
            one.restarts,
            one.last_end.as_deref().unwrap_or("ended")
        );
        let mut notice = Notice::new(app, Occasion::CrashLoop, summary);
        notice.process =
            Some(Looping { name: one.name.clone(), restarts: one.restarts, last_end: one.last_end });
        found.push((format!("loop-{}", one.name), notice));
    }
    if let Some(expiry) = expiry(app, settings) {
        let Expiry { file, expires, words } = expiry?;
        let mut notice = Notice::new(app, Occasion::Certificate, format!("{}: {words}", app.name()));
        let over = if expires <= clock::now() { "over" } else { "soon" };
        notice.certificate = Some(Expiring { file, expires });
        found.push((format!("certificate-{over}"), notice));
    }
    Ok(found)
}

/// A certificate that ends soon, or has ended.
pub struct Expiry {
    /// Its file.
    pub file: String,
    /// Its end.
    pub expires: Timestamp,
    /// What is to be said of it.
    pub words: String,
}

/// The app's certificate, where it ends soon. One that is not there, or is none, is an error: nginx needs it.
pub fn expiry(app: &App, settings: &Settings) -> Option<Result<Expiry>> {
    let chain = &settings.nginx.certificate.as_ref()?.chain;
    let expires = match certificate::expires(app, chain).transpose()? {
        Ok(expires) => expires,
        Err(error) => return Some(Err(error)),
    };
    let left = expires.duration_since(clock::now());
    if left > SOON {
        return None;
    }
    let day = expires.strftime("%Y-%m-%d");
    let file = chain.display().to_string();
    let words = if left.is_positive() {
        let days = left.as_hours() / 24;
        format!("the certificate {file} ends in {days} days, on {day}: look whether it is renewed")
    } else {
        format!("the certificate {file} ended on {day}: browsers refuse the site")
    };
    Some(Ok(Expiry { file, expires, words }))
}
