//! What a request would do: looked at as far as it can be without doing it.

use serde_json::json;

use super::configuring::{change_text, text_together};
use super::environment::Kept;
use super::look::Scene;
use super::maintenance;
use super::request::{Reply, Request};
use super::{db, processes};
use crate::app::App;
use crate::support::{Error, Result, files};

/// Says what a request would change. What would refuse it refuses this, too; nothing is changed.
pub fn foresee(app: &App, request: &Request) -> Result<Reply> {
    let words = match request {
        Request::Pin { release } | Request::Unpin { release } => {
            if Scene::read(app)?.releases.sealed(release).is_none() {
                return Err(Error::usage(format!("{release} is not a complete release")));
            }
            let verb = if matches!(request, Request::Pin { .. }) { "pin" } else { "unpin" };
            format!("would {verb} {release}")
        }
        Request::EnvSet { name } => {
            Kept::refuse_name(name)?;
            let known = Kept::read(app)?.values.contains_key(name);
            format!("would {} {name}", if known { "replace" } else { "set" })
        }
        Request::EnvUnset { name } if Kept::read(app)?.values.contains_key(name) => {
            format!("would forget {name}")
        }
        Request::EnvUnset { name } => return Err(Error::usage(format!("there is no variable {name}"))),
        Request::ConfigSet { key, value } => {
            let (_, after) = change_text(app, key, Some(value))?;
            format!("would make {} this:\n{after}", app.server_config().display())
        }
        Request::ConfigTogether { values } => {
            format!("would make {} this:\n{}", app.server_config().display(), text_together(app, values)?.2)
        }
        Request::ConfigUnset { key } => {
            let (_, after) = change_text(app, key, None)?;
            format!("would make {} this:\n{after}", app.server_config().display())
        }
        Request::Maintenance { on } => maintenance::foresee(app, *on)?,
        Request::Put { path } => {
            let there = files::exists(&app.shared().join(path.as_path()));
            format!("would {} shared/{path}", if there { "replace" } else { "make" })
        }
        Request::DbLoad { version } => {
            format!("would replace what {} holds, and keep a dump of that", db::name(app, *version)?)
        }
        Request::Boot if processes::is_down(app) => format!("{} is down, and would stay so", app.name()),
        Request::Boot if Scene::read(app)?.live.is_none() => format!("nothing of {} is live yet", app.name()),
        Request::Up | Request::Boot | Request::Down => {
            let verb = if matches!(request, Request::Down) { "end" } else { "start what does not run of" };
            format!("would {verb} {}", listed(&processes::names(app)?))
        }
        Request::Restart { process } => {
            let names = processes::names(app)?;
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            match process {
                Some(name) if known.contains(&name.as_str()) => format!("would restart {name}"),
                Some(name) => return Err(processes::unknown(name, &known)),
                None => format!("would restart {}", listed(&names)),
            }
        }
        Request::Prune
        | Request::EnvList
        | Request::Get { .. }
        | Request::DbDump { .. }
        | Request::DbShell { .. }
        | Request::DbUrl { .. } => return Err(Error::usage("this has no dry run")),
    };
    Ok(Reply::said(words.clone(), json!({ "dry_run": words })))
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing: what is live has no processes".to_owned() } else { names.join(", ") }
}
