//! What Mercurial's hooks do: the same as git's, told otherwise.
//!
//! `pretxnclose` sees the transaction that is about to be closed, bookmarks too; it finds out which branches
//! move, refuses what cannot be deployed, and leaves an account of the push. `txnclose` takes the account,
//! queues and watches. Both end at once, and say nothing, where no branch moved.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::hook::{self, Asked, Update};
use super::queue::Options;
use crate::app::App;
use crate::app::layout::FORMAT;
use crate::support::{Context, Error, Result, clock, files};
use crate::vcs::{Repository, hg};

/// A push as `pretxnclose` found it, for `txnclose`.
#[derive(Serialize, Deserialize)]
struct Account {
    format: u32,
    updates: Vec<Update>,
    options: Options,
}

/// The variable that says that whoever came may look, and change nothing.
pub const READ_ONLY: &str = "RECEIVER_READ_ONLY";

/// The variables of the environment that Mercurial tells a hook something by.
pub type Told<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Whether the transaction is closed: `false` takes all of it back, with a verdict line for each branch.
pub fn before(app: &App, told: Told, asked: Result<Asked>, output: &mut dyn Write) -> Result<bool> {
    if told(READ_ONLY).is_some() {
        return Err(Error::new("this key may not push"));
    }
    // Most transactions of a repository are none of ours: phases, caches.
    let moves = ["HG_NODE", "HG_BOOKMARK_MOVED", "HG_NEW_OBSMARKERS"];
    if !moves.iter().any(|name| told(name).is_some()) {
        return Ok(true);
    }
    let repository = hg::Repository::open_in_hook(&app.repository())?;
    let updates: Vec<Update> = repository.moves()?.into_iter().map(update).collect();
    if updates.is_empty() {
        return Ok(true);
    }
    let options = asked.as_ref().map(|asked| asked.options.clone()).unwrap_or_default();
    if !hook::pre_receive(app, &updates, asked, Some(Repository::Mercurial(repository)), output)? {
        return Ok(false);
    }
    let account = Account { format: FORMAT, updates, options };
    let text = serde_json::to_vec(&account).context(|| "cannot write down what was pushed")?;
    sweep(app)?;
    files::write_unsynced(&place(app, told)?, &text, 0o600)?;
    Ok(true)
}

/// Queues what the closed transaction brought, and follows it. Returns the exit code.
pub fn after(app: &App, told: Told, by: &str, output: &mut dyn Write) -> Result<u8> {
    let place = place(app, told)?;
    let Some(text) = files::read_limited(&place, 64 << 20)? else { return Ok(0) };
    let account: Account =
        serde_json::from_slice(&text).context(|| format!("{} is damaged", place.display()))?;
    let asked = Asked { plan: false, options: account.options };
    // Removed when it is queued: whoever dies in between leaves a branch without a verdict, which is found.
    files::remove_file(&place)?;
    hook::post_receive(app, &account.updates, &asked, by, output)
}

fn update(moved: hg::Moved) -> Update {
    let name = format!("refs/heads/{}", moved.name);
    Update { name, old: moved.old, new: moved.new, forced: Some(moved.forced) }
}

/// Where the account of a transaction lies.
fn place(app: &App, told: Told) -> Result<PathBuf> {
    let id = told("HG_TXNID").unwrap_or_default();
    let id = id.strip_prefix("TXN:").unwrap_or(&id);
    if id.is_empty() || id.len() > 100 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(Error::new("this hook is called by Mercurial, with HG_TXNID"));
    }
    let directory = hg::place(&app.repository()).join("pushes");
    if !directory.is_dir() {
        files::make_directory(&directory, 0o755)?;
    }
    Ok(directory.join(id))
}

/// What transactions left that were taken back after we saw them.
fn sweep(app: &App) -> Result<()> {
    let directory = hg::place(&app.repository()).join("pushes");
    let old = clock::now().as_second() - 3600;
    for name in files::names_in(&directory)? {
        let file = directory.join(name);
        if std::fs::symlink_metadata(&file).is_ok_and(|about| about.mtime() < old) {
            files::remove_file(&file)?;
        }
    }
    Ok(())
}

/// Reads what `hg push --pushvars RECEIVER_SCHEMA=new` asks for.
pub fn asked(environment: impl Iterator<Item = (OsString, OsString)>) -> Result<Asked> {
    let mut asked = Asked::default();
    for (name, value) in environment {
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix("HG_USERVAR_RECEIVER_")) else {
            continue;
        };
        let value = value.to_string_lossy();
        let name = name.to_ascii_lowercase().replace('_', "-");
        match (name.as_str(), &*value) {
            ("plan", "0" | "") => {}
            ("plan", _) => asked.plan = true,
            _ => asked.options.take(&format!("{name}={value}"))?,
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_variables_are_read_strictly() {
        let given = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.into(), value.into())).collect();
            asked(pairs.into_iter())
        };
        assert!(
            given(&[("HG_USERVAR_RECEIVER_PLAN", "1"), ("HG_USERVAR_OTHER", "x"), ("PATH", "/")])
                .unwrap()
                .plan
        );
        assert!(!given(&[("HG_USERVAR_RECEIVER_PLAN", "0")]).unwrap().plan);
        assert_eq!(
            given(&[("HG_USERVAR_RECEIVER_MAX_PAUSE", "1m")]).unwrap().options.max_pause_ms,
            Some(60_000)
        );
        for (name, value) in [("SCHEMA", "maybe"), ("CARRY", "copy"), ("SAUSAGE", "1"), ("MAX_PAUSE", "")] {
            assert!(given(&[(&format!("HG_USERVAR_RECEIVER_{name}"), value)]).is_err(), "{name}");
        }
    }
}
