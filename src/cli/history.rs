//! `receiver history`: the journal.

use clap::Args;
use serde_json::json;

use super::{Global, app, talk};
use crate::app::journal::{Entry, Event, History as Journal};
use crate::support::Result;
use crate::support::text::printable;

/// Arguments of `history`.
#[derive(Args)]
pub struct History {
    /// The app
    app: Option<String>,
    /// Only the newest N entries
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
}

impl History {
    /// Prints the journal, oldest first.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, self.app.as_deref())?;
        let journal = Journal::read_whole(&app)?;
        let entries = journal.entries();
        let entries = &entries[entries.len().saturating_sub(self.last.unwrap_or(usize::MAX))..];
        if let Some(damage) = journal.damage(&app) {
            talk::say(global, &format!("note: {damage}"));
        }
        let words: Vec<String> = entries.iter().map(words).collect();
        talk::data(global, &json!({ "app": app.name(), "entries": entries }), &words)?;
        Ok(0)
    }
}

fn words(entry: &Entry) -> String {
    let what = match &entry.event {
        Event::Push { branch, new, forced, .. } => {
            format!(
                "push       {} to {}{}",
                printable(branch),
                new.short(),
                if *forced { ", forced" } else { "" }
            )
        }
        Event::Verdict { outcome, revision, release, why, .. } => {
            let outcome = format!("{outcome:?}").to_lowercase();
            let what = release
                .as_ref()
                .map(ToString::to_string)
                .or_else(|| revision.as_ref().map(|r| r.short().to_owned()));
            format!(
                "{outcome:<10} {}{}",
                what.unwrap_or_default(),
                why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
            )
        }
        Event::Live { release, rollback, .. } => {
            format!("switch     {release}{}", if *rollback { ", by rollback" } else { "" })
        }
        Event::Withdraw { release } => format!("withdraw   {release}"),
        Event::Pin { release } => format!("pin        {release}"),
        Event::Unpin { release } => format!("unpin      {release}"),
        Event::Lock { why } => format!("lock       {why}"),
        Event::Unlock => "unlock".to_owned(),
        Event::Prune { releases, versions } => {
            format!("prune      {} releases, {} versions", releases.len(), versions.len())
        }
        Event::Recover { what } => format!("recover    {what}"),
        Event::Change { what } => format!("change     {what}"),
        Event::Other => "something that a newer receiver wrote".to_owned(),
    };
    let by = entry.by.as_deref().unwrap_or("receiver");
    format!("{:>5}  {}  {:<10}  {}", entry.seq, entry.time, printable(by), printable(&what))
}
