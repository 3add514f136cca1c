//! A page for everyone, while something is done that nobody should see.
//!
//! nginx looks for one file at each request: it is on while the file is there, and nothing is reloaded.

use serde_json::json;

use super::request::Reply;
use crate::app::App;
use crate::app::guard::Guard;
use crate::app::journal::Event;
use crate::support::{Result, beneath, files};

/// What is shown where the release brings no `maintenance.html` of its own.
const PLAIN: &str = include_str!("maintenance.html");

/// The file of a release that is shown instead.
const OWN: &str = "maintenance.html";

/// The largest page of a release that is taken, in bytes.
const MOST: u64 = 1 << 20;

/// Whether it is on.
pub fn is_on(app: &App) -> bool {
    files::exists(&app.maintenance())
}

/// Puts the page up, or takes it down.
pub fn set(guard: &mut Guard, on: bool, by: &str) -> Result<Reply> {
    let app = guard.app().clone();
    let word = if on { "on" } else { "off" };
    let data = json!({ "app": app.name(), "maintenance": on });
    if !on && !is_on(&app) {
        return Ok(Reply::said("maintenance is off already", data));
    }
    let (page, whose) = if on { page(&app)? } else { (Vec::new(), "") };
    let was = is_on(&app);
    if on {
        // nginx's workers read it, as whoever they are.
        guard.write(&app.maintenance(), &page, 0o644)?;
    } else {
        files::remove_file(&app.maintenance())?;
    }
    if was != on {
        guard.append(Some(by), Event::Change { what: format!("maintenance {word}") })?;
    }
    let words = match (on, was) {
        (true, true) => format!("maintenance is on already; the page is now {whose}"),
        (true, false) => format!("maintenance is on: everyone gets 503 and {whose}"),
        (false, _) => "maintenance is off".to_owned(),
    };
    Ok(Reply::said(words, data))
}

/// What would be done.
pub fn foresee(app: &App, on: bool) -> Result<String> {
    Ok(match (on, is_on(app)) {
        (true, _) => format!("would answer everyone with 503 and {}", page(app)?.1),
        (false, true) => "would let requests through again".to_owned(),
        (false, false) => "maintenance is off already".to_owned(),
    })
}

/// The page, and whose it is. What was pushed is read beneath the release: a symlink that leads elsewhere
/// shows nothing of what is there.
fn page(app: &App) -> Result<(Vec<u8>, &'static str)> {
    let Some(live) = crate::app::record::live(app)? else { return Ok((PLAIN.into(), "a plain page")) };
    let release = app.release(&live);
    if !files::exists(&release.join(OWN)) {
        return Ok((PLAIN.into(), "a plain page"));
    }
    let mut bytes = Vec::new();
    let file = beneath::read(&release, OWN.as_ref())?;
    let read = std::io::Read::read_to_end(&mut std::io::Read::take(file, MOST + 1), &mut bytes);
    crate::support::Context::context(read, || format!("cannot read the {OWN} of {live}"))?;
    if bytes.len() as u64 > MOST {
        return Err(crate::support::Error::new(format!("the {OWN} of {live} has more than {MOST} bytes")));
    }
    Ok((bytes, "the release's own page"))
}
