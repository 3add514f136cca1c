//! Whom a command is carried out as. What root types for an app that setup made is done as receiver, as all that
//! comes over ssh is: so no file of it becomes root's, and no code that was pushed is anywhere near root.

use std::os::unix::process::CommandExt;

use rustix::process::geteuid;

use super::Global;
use crate::app::App;
use crate::app::server::RECEIVER;
use crate::server::identity::again;
use crate::support::accounts::Account;
use crate::support::text::printable;
use crate::support::{Context, Result, user_name};

/// Who it is that goes on as receiver.
const BY: &str = "RECEIVER_BY";

/// Who it is, for the journal.
pub fn who() -> String {
    let me = user_name();
    let by = std::env::var(BY).ok().filter(|by| me == RECEIVER && !by.is_empty() && by.len() < 64);
    by.map_or(me, |by| printable(&by))
}

/// Goes on as receiver where we are root and the app has a user of its own; it does not return then.
pub fn settle(app: &App) -> Result<()> {
    if app.user().is_some() { settle_at_server() } else { Ok(()) }
}

/// The same for what is the server's as a whole.
pub fn settle_at_server() -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    Account::want(RECEIVER)?.assume()?;
    let who = std::env::var("SUDO_USER").unwrap_or_else(|_| "root".to_owned());
    let error = again(std::env::args_os().skip(1))?.env(BY, who).exec();
    Err(error).context(|| format!("cannot go on as {RECEIVER}"))
}

/// All apps that are ours to look at. Where setup made any of them that is those of receiver, as whom root goes on.
pub fn all(global: &Global) -> Result<Vec<App>> {
    let apps = global.root()?.apps()?;
    apps.iter().try_for_each(settle)?;
    Ok(apps.into_iter().filter(is_ours).collect())
}

/// Whether an app is this user's own, or one of receiver's, as we are it.
fn is_ours(app: &App) -> bool {
    let me = geteuid().as_raw();
    let owner =
        std::fs::symlink_metadata(app.lock_file()).or_else(|_| std::fs::symlink_metadata(app.marker()));
    app.user().is_some() || owner.is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == me)
}

/// Splits apps into those that receiver has to look after, and our own. Where we are not root all are our own.
pub fn divide(apps: Vec<App>) -> (Vec<App>, Vec<App>) {
    if geteuid().is_root() {
        return apps.into_iter().partition(|app| app.user().is_some());
    }
    (Vec::new(), apps.into_iter().filter(is_ours).collect())
}
