//! What follows from a change of the server's settings, beside the file itself.

use std::path::PathBuf;

use serde_json::json;

use super::request::{Reply, Streams};
use super::{branches, cron, password, processes, site, waking};
use crate::app::guard::Guard;
use crate::app::journal::Event;
use crate::app::settings::{self, Settings, Urls};
use crate::app::{App, record};
use crate::serve::nginx::Installed;
use crate::support::{Error, Result, files};
use crate::vcs::Repository;

/// Sets a key, or with no value takes it back to its default. It is kept, whatever nginx says to it.
pub fn change(
    guard: &mut Guard,
    key: &str,
    value: Option<&str>,
    by: &str,
    streams: &mut Streams,
) -> Result<Reply> {
    let app = guard.app().clone();
    let (path, after) = change_text(&app, key, value)?;
    let load = || Settings::load(None, Some(after.as_bytes()), &path.display().to_string());
    if key == PUSH_BYTES {
        Repository::open(&app.repository())?.limit_pushes(load()?.limits.push_bytes)?;
    }
    let protected = key == URLS && load()?.versions.urls == Urls::Password;
    // Who must not see is shut out before the setting holds, and nobody has the password before it does.
    let password = if protected { Some(password::renew(guard)?) } else { None };
    guard.write(&path, after.as_bytes(), 0o600)?;
    let words = if value.is_some() { format!("{key} is set") } else { format!("{key} is as by default") };
    guard.append(Some(by), Event::Change { what: format!("config {key}") })?;
    // Whether versions are somebody's to see may have changed just now; the waker ends by itself.
    waking::ensure(&app);
    arrange(&app, key, streams);
    let loaded = follow(&app, key, streams);
    if key == URLS && !protected {
        password::forget(guard)?;
    }
    let mut data = json!({ "key": key, "value": value });
    if let Some(loaded) = loaded {
        data["site"] = loaded.into();
    }
    let Some(password) = password else { return Ok(Reply::said(words, data)) };
    data["user"] = app.name().as_str().into();
    data["password"] = password.as_str().into();
    let told = format!("{words}; the password of the user `{}`, which is shown only now:", app.name());
    let _ = writeln!(streams.talk, "{told}");
    Ok(Reply::data(password, data))
}

/// Sets keys that go together. Where nginx does not take what comes of them all is as it was before.
///
/// # Errors
/// Where they are not sound, or nginx refuses the site.
pub fn change_together(guard: &mut Guard, values: &[(String, String)], by: &str) -> Result<Reply> {
    let app = guard.app().clone();
    let (path, before, after) = text_together(&app, values)?;
    guard.write(&path, after.as_bytes(), 0o600)?;
    if record::live(&app)?.is_some()
        && let Err(error) = site::follow(&app)
    {
        guard.write(&path, before.as_bytes(), 0o600)?;
        return Err(error);
    }
    let keys: Vec<&str> = values.iter().map(|(key, _)| key.as_str()).collect();
    guard.append(Some(by), Event::Change { what: format!("config {}", keys.join(" ")) })?;
    let words = format!("{} are set", keys.join(" and "));
    Ok(Reply::said(words, json!({ "keys": keys })))
}

/// The server's file, before and with several settings changed.
pub fn text_together(app: &App, values: &[(String, String)]) -> Result<(PathBuf, String, String)> {
    // All else has more to it than its line.
    if let Some((key, _)) = values.iter().find(|(key, _)| !key.starts_with("nginx.") && key != "domain") {
        return Err(Error::usage(format!("'{}' is set by itself", key.escape_default()))
            .hint("only what nginx has to know goes together: nginx.* and domain"));
    }
    let path = app.server_config();
    let before = files::read_text(&path)?.unwrap_or_default();
    let changes: Vec<_> = values.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))).collect();
    let after = settings::server_config_change(&before, &changes)?;
    Ok((path, before, after))
}

const URLS: &str = "versions.urls";

const PUSH_BYTES: &str = "limits.push_bytes";

/// Has somebody look at the app once a minute, or nobody any more, where the key says so.
fn arrange(app: &App, key: &str, streams: &mut Streams) {
    if !key.starts_with("notify.") && !key.starts_with("metrics.") {
        return;
    }
    let arranged = site::live_settings(app)
        .and_then(|settings| if processes::is_down(app) { Ok(()) } else { cron::arrange(app, &settings) });
    match arranged {
        Ok(()) => {}
        // The first deploy does it.
        Err(_) if record::live(app).is_ok_and(|live| live.is_none()) => {}
        Err(error) => {
            let _ = writeln!(
                streams.talk,
                "{key} is kept; it holds from the next deploy on: {}",
                error.one_line()
            );
        }
    }
}

/// Brings nginx's site up to date, where the key may have to do with it; how that went, in a word.
fn follow(app: &App, key: &str, streams: &mut Streams) -> Option<&'static str> {
    let concerned = ["versions.", "nginx.", "domain"].iter().any(|start| key.starts_with(start));
    if !concerned {
        return None;
    }
    match site::follow(app) {
        Ok(None) => None,
        Ok(Some(Installed::Unchanged)) => Some("unchanged"),
        Ok(Some(Installed::Loaded)) => Some("loaded"),
        Ok(Some(Installed::NotRunning)) => Some("not-running"),
        Err(error) => {
            let text = error.render();
            let _ = writeln!(
                streams.talk,
                "{key} is kept, and nginx does not know of it yet:\n{}",
                text.lines().map(crate::support::text::printable).collect::<Vec<_>>().join("\n")
            );
            Some("failed")
        }
    }
}

/// The server's file with one setting changed. A person wrote it by hand: their comments stay.
pub fn change_text(app: &App, key: &str, value: Option<&str>) -> Result<(PathBuf, String)> {
    let path = app.server_config();
    let before = files::read_text(&path)?.unwrap_or_default();
    let after = match value {
        Some(value) => settings::server_config_set(&before, key, value)?,
        None => settings::server_config_unset(&before, key)?,
    };
    if key.starts_with("branch") {
        let settings = Settings::load(None, Some(after.as_bytes()), &path.display().to_string())?;
        branches::refuse(app, &settings)?;
    }
    Ok((path, after))
}
