//! The site of an app in nginx: made of what is live and what the server grants, brought in once by hand,
//! and kept up to date by deploys from then on.

use std::path::PathBuf;

use super::look::{self, Scene};
use super::{adoption, hand, shown};
use crate::app::App;
use crate::app::settings::Settings;
use crate::serve::nginx::check::Machine;
use crate::serve::nginx::{Installed, Nginx, Site, install};
use crate::support::{Error, Result, files};

/// The file of nginx's configuration that is this app's.
pub fn file(app: &App, settings: &Settings) -> PathBuf {
    let usual = || PathBuf::from(format!("/etc/nginx/conf.d/receiver-{}.conf", app.name()));
    settings.nginx.site.clone().unwrap_or_else(usual)
}

/// Whether the app's site was brought in. One of the same name that leads elsewhere is another's: that of an app
/// in another root, from whose backup this one was made.
pub fn is_in(app: &App, settings: &Settings) -> Result<bool> {
    let text = files::read_text(&file(app, settings))?.unwrap_or_default();
    Ok(names(&text, &format!("{}/", app.directory().display())))
}

/// Whether a text has a path that begins so; one that only goes through such a place is another.
fn names(text: &str, path: &str) -> bool {
    let inside = |before: char| before.is_alphanumeric() || "._-/".contains(before);
    text.match_indices(path).any(|(at, _)| !text[..at].ends_with(inside))
}

/// Refuses to write over what is not this app's: a copy that was restored names the same file as its original.
fn refuse_foreign(app: &App, settings: &Settings) -> Result<()> {
    let file = file(app, settings);
    let text = files::read_text(&file)?.unwrap_or_default();
    if text.trim().is_empty() || is_in(app, settings)? {
        return Ok(());
    }
    let name = app.name();
    Err(Error::new(format!("{} is the site of something else: nothing was changed", file.display())).hint(format!(
        "give {name} a file and a host of its own: `receiver config {name} nginx.site FILE`, `receiver config {name} domain \
         HOST`; or move that one away, where nobody needs it"
    )))
}

/// What holds for what is live.
pub fn live_settings(app: &App) -> Result<Settings> {
    let scene = Scene::read(app)?;
    let record = scene.live_record(app)?.ok_or_else(|| {
        Error::new("nothing is live yet, so there is nothing that nginx could serve").hint("push first")
    })?;
    look::settings_of(app, record)
}

/// The text of the site, for this machine's nginx.
pub fn text(app: &App, settings: &Settings) -> Result<String> {
    let nginx = Nginx::find(settings.nginx.config.as_deref())?;
    render(app, settings, &nginx)
}

fn render(app: &App, settings: &Settings, nginx: &Nginx) -> Result<String> {
    if settings.domain.is_none() {
        return Err(Error::new("nobody said which host the app answers for")
            .hint(format!("`receiver config {} domain app.example.org`", app.name())));
    }
    let versions = shown::for_nginx(app, settings.versions.urls)?;
    Site::live(app, settings, versions).render(Machine::here(nginx)?)
}

/// Brings the site in, or brings it up to date.
pub fn bring(app: &App, settings: &Settings) -> Result<Installed> {
    refuse_foreign(app, settings)?;
    let nginx = Nginx::find(settings.nginx.config.as_deref())?;
    install(&nginx, &file(app, settings), &render(app, settings, &nginx)?)
}

/// Brings a site up to date that was brought in before; `None` where there is none. For after a switch:
/// whatever it says, the release is live.
pub fn refresh(app: &App, settings: &Settings) -> Result<Option<Installed>> {
    // Where setup made the app, nginx is its to bring the site to, as soon as there is something to serve; but the
    // site of an old application stays as long as that one has not been taken over.
    let ours = app.user().is_some() && settings.domain.is_some() && !adoption::is_pending(app);
    if !ours && !is_in(app, settings)? {
        return Ok(None);
    }
    if hand::must_ask(app) {
        let changed = hand::refresh_site(app)?;
        return Ok(Some(if changed { Installed::Loaded } else { Installed::Unchanged }));
    }
    bring(app, settings).map(Some)
}

/// The same for whatever is live, where a setting or what is kept has changed. What fails here undoes nothing: it
/// is told, and the next deploy or `up` tries again.
///
/// # Errors
/// Where nginx goes on with the site as it was.
pub fn follow(app: &App) -> Result<Option<Installed>> {
    let scene = Scene::read(app)?;
    let Some(record) = scene.live_record(app)? else { return Ok(None) };
    let settings = look::settings_of(app, record)?;
    refresh(app, &settings)
        .map_err(|error| error.hint(format!("`sudo receiver config {} --site --install`", app.name())))
}

/// Takes the site of an app that is removed out of nginx's configuration, where it was brought in.
pub fn take_back(app: &App) -> Result<()> {
    let settings = look::server_settings(app)?;
    if !is_in(app, &settings)? {
        return Ok(());
    }
    install::remove(&Nginx::find(settings.nginx.config.as_deref())?, &file(app, &settings)).map(drop)
}
