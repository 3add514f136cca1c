//! `receiver show`: all about one release, or the configuration that holds.

use clap::Args;
use serde_json::json;

use super::{Global, app, talk};
use crate::app::{App, ReleaseId};
use crate::deploy::joblog;
use crate::deploy::look::{self, Scene};
use crate::deploy::rollback;
use crate::support::text::{bytes, grouped, printable};
use crate::support::{Error, Result};

/// Arguments of `show`.
#[derive(Args)]
pub struct Show {
    /// The app, and a release (any part of its name that fits only one); the live one where none is named
    #[arg(value_name = "APP] [RELEASE", num_args = 0..=2)]
    words: Vec<String>,
    /// Print the configuration that holds, and where each value came from
    #[arg(long)]
    config: bool,
}

impl Show {
    /// Prints it.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        let scene = Scene::read(&app)?;
        let id = match rest.first() {
            Some(part) => Some(find(&scene, part)?),
            None => scene.live.clone(),
        };
        if self.config {
            return config(global, &app, &scene, id.as_ref());
        }
        let Some(id) = id else { return Err(Error::new("nothing is live yet")) };
        release(global, &app, &scene, &id)
    }
}

/// A release that is kept, or one that failed.
fn find(scene: &Scene, part: &str) -> Result<ReleaseId> {
    rollback::find(scene, part).or_else(|error| {
        let failed: Vec<_> =
            scene.releases.failed.iter().filter(|record| record.id.to_string().contains(part)).collect();
        match failed.as_slice() {
            [.., last] if part.len() >= 3 => Ok(last.id.clone()),
            _ => Err(error),
        }
    })
}

fn release(global: &Global, app: &App, scene: &Scene, id: &ReleaseId) -> Result<u8> {
    let record = scene.releases.find(id).ok_or_else(|| Error::new(format!("{id} has no record")))?;
    let lines: Vec<String> = joblog::read(app, &record.job).iter().filter_map(joblog::Line::render).collect();
    let mut words = vec![
        format!("release    {id}{}", if scene.live.as_ref() == Some(id) { ", live" } else { "" }),
        format!("revision   {} ({})", record.revision, printable(&record.branch)),
        format!("subject    {}", printable(&record.subject)),
        format!("pushed by  {}, {}", printable(&record.pusher), record.created),
        format!("files      {}, {}", grouped(record.files), bytes(record.bytes)),
    ];
    if let Some(database) = &record.database {
        words.push(format!("database   {} ({})", database.name, database.engine));
    }
    if let Some(failure) = &record.failure {
        words.push(format!("failed     {}", printable(failure)));
    }
    words.extend(
        record.stages.iter().map(|stage| format!("stage      {:<10} {:.2} s", stage.name, stage.seconds)),
    );
    words.push(String::new());
    words.extend(lines.iter().cloned());
    talk::data(
        global,
        &json!({ "app": app.name(), "release": record, "live": scene.live.as_ref() == Some(id), "output": lines }),
        &words,
    )?;
    Ok(0)
}

/// What holds for a release, or where there is none for the branch's tip.
fn config(global: &Global, app: &App, scene: &Scene, id: Option<&ReleaseId>) -> Result<u8> {
    let settings = match id.and_then(|id| scene.releases.find(id)) {
        Some(record) => look::settings_of(app, record)?,
        None => look::server_settings(app)?,
    };
    let explained = settings.explain();
    let words: Vec<String> = explained
        .iter()
        .map(|line| format!("{:<28} {:<40} # {}", line.key, line.value, line.origin))
        .collect();
    talk::data(global, &json!({ "app": app.name(), "config": explained }), &words)?;
    Ok(0)
}
