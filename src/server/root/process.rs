//! Processes of a release, and the times of `[cron]`: units of systemd whose text is the same for every app.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use super::Ground;
use crate::app::App;
use crate::deploy::watching;
use crate::serve::calendar::Calendar;
use crate::serve::start::{Start, StartId};
use crate::serve::supervision::{Keeper, Supervisor};
use crate::serve::systemd::{Manager, Systemd};
use crate::serve::timers::Timers;
use crate::support::{Context, Error, Result};

/// What is to end with the connection.
static TETHERED: Mutex<Option<(App, Start)>> = Mutex::new(None);

/// What receiver wrote down of a start, and is as it would write it.
fn read(ground: &Ground, name: &str) -> Result<Start> {
    let sound = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) && name.len() < 100;
    if !sound || StartId::process_of(name).is_none() {
        return Err(Error::new("that is not the name of a start"));
    }
    let file = ground.app.process(name);
    let start = Start::read(&file)?.ok_or_else(|| Error::new(format!("there is no {}", file.display())))?;
    start.refuse_foreign(&ground.app)?;
    if start.id.as_str() != name || start.keeper != Keeper::System {
        return Err(Error::new(format!("{} is not a start of systemd's", file.display())));
    }
    Ok(start)
}

pub(super) fn start(ground: &Ground, name: &str, tether: bool) -> Result<()> {
    let start = read(ground, name)?;
    Systemd::of(&ground.app, Manager::System).start(&start)?;
    if tether && let Ok(mut tethered) = TETHERED.lock() {
        *tethered = Some((ground.app.clone(), start));
    }
    Ok(())
}

pub(super) fn stop(ground: &Ground, name: &str) -> Result<()> {
    Systemd::of(&ground.app, Manager::System).stop(&read(ground, name)?)
}

/// Ends what is to end with the connection, when that has ended.
pub(super) fn wait_for_tethered(stream: &UnixStream) {
    let Some((app, start)) = TETHERED.lock().ok().and_then(|mut tethered| tethered.take()) else { return };
    let _ = stream.set_read_timeout(None);
    let mut one = [0];
    while matches!((&mut &*stream).read(&mut one), Ok(read) if read > 0) {}
    if let Err(error) = Systemd::of(&app, Manager::System).stop(&start) {
        log::warn!("{}", error.one_line());
    }
}

/// The times come as `[cron]` has them, and are read again: what systemd is told is made of numbers.
pub(super) fn timers(ground: &Ground, at: &BTreeMap<String, String>) -> Result<()> {
    let mut calendars = Vec::new();
    for (name, at) in at {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        let sound = !name.is_empty() && name.len() <= 60 && name.bytes().all(plain);
        // What looks after the app once a minute has a name that nobody's command has.
        if !sound && name != watching::NAME {
            return Err(Error::new("that cannot be a name in [cron]"));
        }
        let calendar: Calendar = at.parse().map_err(|why| Error::new(format!("a time of [cron] {why}")))?;
        calendars.push((name, calendar.on_calendar()));
    }
    let timers = Timers::of(&ground.app, Manager::System);
    timers.clear()?;
    calendars.iter().try_for_each(|(name, times)| timers.set(name, times))
}

pub(super) fn end_timers(ground: &Ground) -> Result<()> {
    Timers::of(&ground.app, Manager::System).end().context(|| "cannot end what runs at its times")
}
