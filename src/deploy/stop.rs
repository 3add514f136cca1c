//! When a deploy that runs has to end early: somebody cancelled it, or a rollback goes before it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::queue::{self, Order};
use crate::app::App;
use crate::support::{Error, Result};

/// Looks into the queue for reasons to stop.
#[derive(Debug)]
pub struct Stopper<'a> {
    app: &'a App,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    looked: Option<Instant>,
    reason: Option<&'static str>,
    /// From the hold on nothing stops a deploy any more.
    past: bool,
}

impl<'a> Stopper<'a> {
    /// Watches the queue of an app.
    pub fn new(app: &'a App) -> Self {
        Stopper { app, state: Mutex::new(State { looked: None, reason: None, past: false }) }
    }

    /// Nothing stops the deploy any more.
    pub fn pass(&self) {
        if let Ok(mut state) = self.state.lock() {
            state.past = true;
        }
    }

    /// Why the deploy was stopped, if it was.
    pub fn reason(&self) -> Option<&'static str> {
        self.state.lock().ok().and_then(|state| state.reason)
    }

    /// An error where the deploy has to stop. Cheap: the queue is looked at ten times a second at most.
    pub fn check(&self) -> Result<()> {
        let Ok(mut state) = self.state.lock() else { return Ok(()) };
        if state.past {
            return Ok(());
        }
        let fresh = state.looked.is_some_and(|looked| looked.elapsed() < Duration::from_millis(100));
        if !fresh {
            state.looked = Some(Instant::now());
            let jobs = queue::waiting(self.app).unwrap_or_default();
            state.reason = state.reason.or_else(|| {
                jobs.iter().find_map(|job| match job.order {
                    Order::Cancel => Some("it was cancelled"),
                    Order::Rollback { .. } => Some("a rollback goes before it"),
                    _ => None,
                })
            });
        }
        match state.reason {
            Some(reason) => Err(Error::new(reason)),
            None => Ok(()),
        }
    }
}
