//! `receiver setup`: a server from zero, as a list of what is to be there.
//!
//! The list is made first, out of what is wanted and nothing else; `--dry-run` prints it, and a run goes through it:
//! what is there already is left alone, and the rest is made, one after the other. So it may be interrupted
//! anywhere, and the same command goes on. It stops at the first thing that cannot be made. What others made is
//! never altered: an account, a directory or a configuration of theirs that is in the way is an error that names it.

mod accounts;
mod act;
mod apps;
pub mod branch;
mod certificate;
mod databases;
mod keys;
mod leftovers;
mod packages;
mod places;
mod plan;
mod restored;

pub use act::Act;
pub use keys::of_administrator;
pub use plan::{Engine, Wanted, made, plan};
pub use restored::{Backup, first_deploy};

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::app::server::Server;
use crate::support::{Error, Result, death};

/// Refuses what is no address for mail.
pub fn refuse_strange_address(email: &str) -> Result<()> {
    certificate::Certificate::refuse_strange(email)
}

/// How something on the list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there.
    There,
    /// It was made just now.
    Made,
    /// It is to be made.
    Missing,
    /// It was taken back.
    TakenBack,
    /// It stays: it is data, or nobody's to take.
    Stays,
}

/// What a list came to.
#[derive(Debug, Default)]
pub struct Account {
    /// Each thing, and how it stands.
    pub lines: Vec<(State, String)>,
}

impl Account {
    /// How many stand so.
    pub fn count(&self, state: State) -> usize {
        self.lines.iter().filter(|(how, _)| *how == state).count()
    }
}

/// How long something may be made in silence.
const SILENCE: Duration = Duration::from_secs(1);

/// Goes through the list, and tells each thing as it stands. With `look` nothing is made. `slow` is told of a thing whose
/// making takes its time, before that is over.
///
/// # Errors
/// At the first thing that cannot be made.
pub fn run(
    acts: &[Box<dyn Act>],
    look: bool,
    tell: &mut dyn FnMut(State, &str),
    slow: &(dyn Fn(&str) + Sync),
) -> Result<Account> {
    let mut account = Account::default();
    for act in acts {
        let what = act.what();
        let state = stand(&**act, look, &|| slow(&what))
            .map_err(|error| stopped(&what, account.count(State::Made), error))?;
        tell(state, &what);
        account.lines.push((state, what));
    }
    Ok(account)
}

/// Brings the units of a server up to those of this program, after an upgrade.
pub fn bring_units_up(server: &Server) -> Result<()> {
    let mut written = false;
    for file in plan::unit_files(server)? {
        if !file.is_done()? {
            file.perform()?;
            written = true;
        }
    }
    if written { act::run("systemctl", &["daemon-reload"]).map(drop) } else { Ok(()) }
}

fn stand(act: &dyn Act, look: bool, slow: &(dyn Fn() + Sync)) -> Result<State> {
    if act.is_done()? {
        return Ok(State::There);
    }
    if look {
        return Ok(State::Missing);
    }
    perform(act, slow)?;
    death::point("act-made");
    // What was made and is not there would be made again and again.
    if act.is_done()? { Ok(State::Made) } else { Err(Error::new("it was made, and is not as it should be")) }
}

fn perform(act: &dyn Act, slow: &(dyn Fn() + Sync)) -> Result<()> {
    std::thread::scope(|scope| {
        let (made, is_made) = mpsc::channel::<()>();
        scope.spawn(move || {
            if is_made.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                slow();
            }
        });
        let performed = act.perform();
        drop(made);
        performed
    })
}

fn stopped(what: &str, made: usize, error: Error) -> Error {
    let what: Vec<&str> = what.split_whitespace().collect();
    let before = if made > 0 { format!("; {made} before it were made, and stay") } else { String::new() };
    let what = what.join(" ");
    let error = if error.one_line().contains(act::NO_ROOM) {
        error.or_hint("make room, and the same command goes on; `df -h` and `df -i` say where there is none")
    } else {
        error
    };
    Error::new(format!("setup stopped at: {what}{before}; the same command goes on from here"))
        .caused_by(error)
}

/// Takes everything on the list back, the last first; with `data` also what data hangs on.
///
/// # Errors
/// At the first thing that cannot be taken back.
pub fn undo(
    acts: &[Box<dyn Act>],
    data: bool,
    look: bool,
    tell: &mut dyn FnMut(State, &str),
) -> Result<Account> {
    let mut account = Account::default();
    for act in acts.iter().rev() {
        let what = act.what();
        let stays = act.is_data() && !data;
        let goes = !stays && (look || act.undo()?);
        if goes && !look {
            death::point("act-undone");
        }
        let state = if goes { State::TakenBack } else { State::Stays };
        tell(state, &what);
        account.lines.push((state, what));
    }
    if !look {
        act::run("systemctl", &["daemon-reload"])?;
    }
    Ok(account)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Mutex;

    use super::*;

    /// Made as soon as somebody was told that it takes its time.
    struct Slow {
        told: Mutex<mpsc::Receiver<()>>,
        made: Cell<bool>,
    }

    impl Act for Slow {
        fn what(&self) -> String {
            "something large".to_owned()
        }

        fn is_done(&self) -> Result<bool> {
            Ok(self.made.get())
        }

        fn perform(&self) -> Result<()> {
            self.made.set(self.told.lock().unwrap().recv_timeout(Duration::from_secs(60)).is_ok());
            Ok(())
        }
    }

    #[test]
    fn what_takes_its_time_is_said_before_it_is_over() {
        let (sender, told) = mpsc::channel();
        let sender = Mutex::new(sender);
        let acts: Vec<Box<dyn Act>> = vec![Box::new(Slow { told: Mutex::new(told), made: Cell::new(false) })];
        let slow = |what: &str| {
            assert_eq!(what, "something large");
            sender.lock().unwrap().send(()).unwrap();
        };
        assert_eq!(run(&acts, true, &mut |_, _| {}, &slow).unwrap().count(State::Missing), 1);
        assert_eq!(run(&acts, false, &mut |_, _| {}, &slow).unwrap().count(State::Made), 1);
        assert_eq!(run(&acts, false, &mut |_, _| {}, &slow).unwrap().count(State::There), 1);
    }
}
