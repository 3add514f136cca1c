//! How a job ended, in the words that the pusher, the journal and `attach` get.

use super::look;
use crate::app::journal::{Event, History, Outcome};
use crate::app::server::Server;
use crate::app::{App, ReleaseId, record};
use crate::support::{Error, Result};

/// The end of a job.
#[derive(Debug)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// The release that it made or went to.
    pub release: Option<ReleaseId>,
    /// Why, for the journal; absent where it is live.
    pub why: Option<String>,
    /// What is said before the last line.
    pub notes: Vec<String>,
    /// The last line.
    pub line: String,
    /// The exit code.
    pub code: u8,
}

impl Verdict {
    /// A release is live.
    pub fn live(id: &ReleaseId) -> Verdict {
        Verdict {
            outcome: Outcome::Live,
            release: Some(id.clone()),
            why: None,
            notes: Vec::new(),
            line: format!("live: {id}"),
            code: 0,
        }
    }

    /// The same, with how to go back from it; `leaves_data` where another database would then be live.
    #[must_use]
    pub fn undo_by(mut self, app: &App, leaves_data: bool) -> Verdict {
        let flag = if leaves_data { " --without-new-data" } else { "" };
        let program = program(app);
        self.notes.push(format!("undo: {program} rollback {}{flag}", app.name()));
        self
    }

    /// There was nothing to do.
    pub fn skipped(release: Option<ReleaseId>, why: &str) -> Verdict {
        let why = Some(why.to_owned());
        let line = format!("nothing to do: {}", why.as_deref().unwrap_or_default());
        Verdict { outcome: Outcome::Skipped, release, why, notes: Vec::new(), line, code: 0 }
    }

    /// An order that is no deploy was carried out.
    pub fn done(line: impl Into<String>) -> Verdict {
        let line = line.into();
        Verdict { outcome: Outcome::Skipped, release: None, why: None, notes: Vec::new(), line, code: 0 }
    }

    /// It did not become live: what is live now, why, and what to type.
    pub fn not_live(app: &App, live: Option<&ReleaseId>, outcome: Outcome, error: &Error) -> Verdict {
        let still = live.map_or_else(|| "nothing is live yet".to_owned(), |id| format!("still {id}"));
        let why = error.to_string();
        let next = match outcome {
            Outcome::Superseded => "nothing to type".to_owned(),
            Outcome::Cancelled => format!("`{} deploy {}` begins again", program(app), app.name()),
            _ => format!("push a fix, or `{} deploy {}` to try again", program(app), app.name()),
        };
        let notes = error.causes().into_iter().map(|cause| format!("caused by: {cause}"));
        let hint = error.innermost_hint().map(|hint| format!("hint: {hint}"));
        Verdict {
            outcome,
            release: None,
            why: Some(error.one_line()),
            notes: notes.chain(hint).collect(),
            line: format!("NOT LIVE: {still}; {why}; {next}"),
            code: error.exit_code(),
        }
    }

    /// The same, with what is to be looked at after the switch; exit code 3.
    #[must_use]
    pub fn attention(mut self, error: &Error) -> Verdict {
        self.notes.push(format!("needs attention: {}", error.one_line()));
        self.notes.extend(error.innermost_hint().map(|hint| format!("hint: {hint}")));
        self.code = 3;
        self
    }

    /// The verdict on a job that the journal has already, for who did not get to hear it.
    pub fn written(app: &App, job: &str) -> Result<Option<Verdict>> {
        let live = record::live(app)?;
        let history = History::read_whole(app)?;
        Ok(history.entries().iter().find_map(|entry| match &entry.event {
            Event::Verdict { job: ended, outcome, release, why, .. } if *ended == job => {
                Some(Verdict::told(app, live.as_ref(), *outcome, release.as_ref(), why.as_deref()))
            }
            _ => None,
        }))
    }

    fn told(
        app: &App,
        live: Option<&ReleaseId>,
        outcome: Outcome,
        release: Option<&ReleaseId>,
        why: Option<&str>,
    ) -> Verdict {
        match (outcome, release) {
            (Outcome::Live, Some(id)) => Verdict::live(id),
            (Outcome::Skipped, _) => Verdict::skipped(release.cloned(), why.unwrap_or("it was done")),
            _ => Verdict::not_live(app, live, outcome, &Error::new(why.unwrap_or("it failed"))),
        }
    }
}

/// What is typed on the laptop instead of `receiver`, on a server that was set up.
fn program(app: &App) -> String {
    over_ssh(app).unwrap_or_else(|| "receiver".to_owned())
}

fn over_ssh(app: &App) -> Option<String> {
    app.user()?;
    let account = Server::read().ok()??.account;
    let domain = look::server_settings(app).ok()?.domain?;
    Some(format!("ssh {account}@{domain}"))
}
