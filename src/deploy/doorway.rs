//! The door while a deploy goes through it: closed with requests held behind it, and opened again.

use std::time::Duration;

use super::joblog::JobLog;
use super::processes;
use crate::app::App;
use crate::serve::door;
use crate::serve::hold::Hold;
use crate::support::text::{grouped, plural};
use crate::support::{Result, death, files};

/// Closes the door, and waits until what ran through it has ended, for half of `most`. What still runs
/// then is told, and will be cut off from writing. Nothing is held where nobody answers requests.
pub fn close(app: &App, most: Duration, log: &JobLog, into: &mut Option<Hold>) -> Result<()> {
    let Some(socket) = processes::live_socket(app).filter(|_| files::exists(&app.door())) else {
        return Ok(());
    };
    let hold = into.insert(Hold::close(app, most)?);
    death::point("door-closed");
    let running = hold.wait_for_running(&socket, most / 2)?;
    if running > 0 {
        let noun = plural(running, "request", "requests");
        log.step(
            "carry",
            format!("{running} {noun} did not end in time: what they write from now on is refused"),
        );
    }
    Ok(())
}

/// Lets those who were held go on, to what is live now.
pub fn open(hold: Hold, log: &JobLog) {
    match hold.open() {
        Ok(released) if released.held == 0 => {
            log.step("carry", "requests would have waited, and there were none")
        }
        Ok(released) => {
            let noun = plural(usize::try_from(released.held).unwrap_or(usize::MAX), "request", "requests");
            let longest = released.longest.as_secs_f64();
            log.step(
                "carry",
                format!("{} {noun} held, the longest for {longest:.1} s", grouped(released.held)),
            );
        }
        Err(error) => log.note(format!("those who held requests died: {}", error.one_line())),
    }
}

/// The door leads to what is live, where there is a door.
pub fn open_link(app: &App) -> Result<()> {
    if files::exists(&app.door()) { door::open(app) } else { Ok(()) }
}
