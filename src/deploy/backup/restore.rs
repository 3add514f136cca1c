//! The same app again, from the stream of a backup.
//!
//! All of the stream is unpacked in the workshop beside the app's place, and proved, before anything is made of it; the
//! app then takes its place by one rename, with the deploy that makes it live already in its queue. So a death
//! leaves either nothing, which the next attempt sweeps away, or an app whose deploy goes on like any other.

use std::io::Read;
use std::path::Path;

use super::parts::{self, Kind, SHARED};
use super::stream::{self, Head};
use super::taking::{Meter, Say};
use crate::app::guard::Guard;
use crate::app::journal::{Event, History};
use crate::app::settings::BranchName;
use crate::app::{App, AppName, Root, Vcs};
use crate::deploy::beginning::{Beginning, Dumped};
use crate::deploy::environment::Kept;
use crate::deploy::joblog::JobLog;
use crate::deploy::queue::{self, Job, Order};
use crate::deploy::{found, look};
use crate::support::text::printable;
use crate::support::{Context, Error, Result, death, files};
use crate::vcs::{Repository, bundle};

/// What became of a restore.
#[derive(Debug)]
pub struct Restored {
    /// The app.
    pub app: App,
    /// The deploy that makes it live; `None` where nothing was live in the backup.
    pub job: Option<String>,
    /// The apps of branches that the backup does not have.
    pub without: Vec<AppName>,
}

/// Makes the app of a backup. Nothing is overwritten, and nothing is made of a stream that is not whole.
///
/// Where an earlier restore of it was interrupted, it goes on with what that one brought, and `input` is not read.
/// The caller starts a worker for the app, and brings the keys that came along ([`App::carried_keys`]).
pub fn restore(
    root: &Root,
    name: &AppName,
    by: &str,
    input: &mut dyn Read,
    say: &mut Say,
) -> Result<Restored> {
    let place = root.place(name);
    if place.is_created() {
        return go_on(place, by, say);
    }
    made(root, name, by, input, say, "", &mut |_| Ok(()))
}

/// The same for an app with a user of its own. `own` gives what is in it to whom it belongs, before it takes its place:
/// until then nobody gets in but root. One that is there already is the caller's affair.
pub fn restore_of(
    root: &Root,
    name: &AppName,
    by: &str,
    input: &mut dyn Read,
    say: &mut Say,
    own: &mut dyn FnMut(&App) -> Result<()>,
) -> Result<Restored> {
    made(root, name, by, input, say, &found::about_user(name), own)
}

fn made(
    root: &Root,
    name: &AppName,
    by: &str,
    input: &mut dyn Read,
    say: &mut Say,
    about: &str,
    own: &mut dyn FnMut(&App) -> Result<()>,
) -> Result<Restored> {
    found::refuse_taken(root.place(name).directory())?;
    let (mut job, mut without) = (None, Vec::new());
    let app = found::filled(root, name, &mut |made| {
        let incoming = made.state("incoming");
        files::make_directory(&incoming, 0o700)?;
        let mut meter = Meter::new("reading".to_owned(), 0);
        let judge = &mut |head: &Head| refuse_other(head, name);
        let head = stream::unpack(input, &incoming, judge, &mut |bytes| meter.count(bytes, say))?;
        say(&format!("read        the backup of {}, whole and undamaged", head.taken));
        assemble(made, &incoming, &head)?;
        found::write_marker(made, vcs_of(&head)?, head.created, root.path(), about)?;
        job = begin(made, &incoming, &head, by)?;
        files::remove_tree(&incoming)?;
        without = head.branches.iter().map(|branch| branch.app.clone()).collect();
        let what = format!("restored from the backup of {}", head.taken);
        Guard::wait(made, "a restore", |_| {})?.append(Some(by), Event::Change { what })?;
        own(made)?;
        files::sync_filesystem(made.directory())
    })?;
    death::point("app-restored");
    Ok(Restored { app, job, without })
}

/// An app that is there is never touched, but for one that waits for its first release.
fn go_on(app: App, by: &str, say: &mut Say) -> Result<Restored> {
    let name = app.name().clone();
    let there = || Error::new(format!("{name} is there already, in {}", app.directory().display()));
    let Some(job) = resume(&app, by)? else {
        return Err(
            there().hint(format!("nothing is overwritten: `receiver remove {name}` takes it away first"))
        );
    };
    say(&format!("{name} was brought before: its first deploy goes on"));
    Ok(Restored { app, job: Some(job), without: Vec::new() })
}

/// The first deploy of a restored app, which waits, or is ordered again after it failed; `None` where one is live, or
/// was not in the backup.
pub fn resume(app: &App, by: &str) -> Result<Option<String>> {
    let Some(revision) = Beginning::read(app)?.and_then(|beginning| beginning.revision) else {
        return Ok(None);
    };
    let waiting = queue::waiting(app)?.into_iter().find(|job| job.revision().is_some());
    waiting.map_or_else(|| deploy(app, revision, by), |job| Ok(job.id)).map(Some)
}

/// Refuses a backup that is of another app, or of what cannot be restored.
pub fn refuse_other(head: &Head, name: &AppName) -> Result<()> {
    vcs_of(head)?;
    if head.app == *name {
        return Ok(());
    }
    Err(Error::new(format!("the backup is of {}, and not of {name}", head.app))
        .hint(format!("`receiver create {} --restore …` makes it", head.app)))
}

/// What the app is pushed to with.
pub fn vcs_of(head: &Head) -> Result<Vcs> {
    let named = [Vcs::Git, Vcs::Mercurial].into_iter().find(|vcs| vcs.to_string() == head.vcs);
    named.ok_or_else(|| Error::new(format!("the backup is of an app with {}", printable(&head.vcs))))
}

/// Makes an app of the parts. What cannot be read is an error here, and not later.
fn assemble(made: &App, incoming: &Path, head: &Head) -> Result<()> {
    for (part, path, mode) in [
        (parts::SETTINGS, made.server_config(), 0o600),
        (parts::ENVIRONMENT, made.environment_file(), 0o600),
        (parts::JOURNAL, made.journal(), 0o644),
        (parts::PASSWORDS, made.version_passwords(), 0o644),
        (parts::MAINTENANCE, made.maintenance(), 0o644),
        (parts::DOWN, made.down(), 0o644),
        (parts::KEYS, made.carried_keys(), 0o600),
    ] {
        if let Some(bytes) = files::read_limited(&incoming.join(part), 1 << 30)? {
            files::write_atomic(&path, &bytes, mode)?;
        }
    }
    for record in files::names_in(&incoming.join(parts::FAILED))? {
        files::move_new(&incoming.join(parts::FAILED).join(&record), &made.failed().join(&record))?;
    }
    if files::exists(&incoming.join(SHARED)) {
        files::remove_empty_directory(&made.shared())?;
        files::move_new(&incoming.join(SHARED), &made.shared())?;
        files::make_directory(&made.shared(), 0o755)?;
    }
    repository(made, incoming, head)?;
    look::server_settings(made)?;
    Kept::read(made)?;
    History::read_whole(made).map(drop)
}

/// Makes the repository of what the backup has of it.
fn repository(made: &App, incoming: &Path, head: &Head) -> Result<()> {
    let vcs = vcs_of(head)?;
    let branch: std::result::Result<BranchName, String> = head.branch.parse();
    found::make_repository(made, vcs, branch.as_ref().map_or(vcs.first_branch(), BranchName::as_str))?;
    let bundle = incoming.join(parts::REPOSITORY);
    if files::exists(&bundle) {
        bundle::read(&bundle, &made.repository())?;
    }
    match files::read_limited(&incoming.join(parts::BOOKMARKS), 64 << 20)? {
        Some(text) => bundle::set_bookmarks(&made.repository(), &text),
        None => Ok(()),
    }
}

/// Puts down what the first release begins with, and the order to make it.
fn begin(made: &App, incoming: &Path, head: &Head, by: &str) -> Result<Option<String>> {
    let Some(live) = &head.live else { return Ok(None) };
    Repository::open(&made.repository())?
        .tree(&live.revision)
        .context(|| format!("the backup lacks the live revision {}", live.revision.short()))?;
    for database in &head.databases {
        // It is a part that was read, and nothing else.
        let dump = Path::new(&database.dump);
        parts::refuse_strange(dump, &Kind::File)?;
        if !dump.starts_with(parts::DUMPS) {
            return Err(Error::new(format!("the backup says that {} is a dump", dump.display())));
        }
    }
    Beginning::make_place(made)?;
    let database = head.databases.iter().find(|database| database.live);
    if let Some(database) = database {
        files::move_new(&incoming.join(&database.dump), &Beginning::dump(made))?;
    }
    let data = database.map(|database| Dumped { engine: database.engine.clone(), home: database.home });
    let from = format!("the backup of {}", head.taken);
    Beginning::new(from, live.release.version, Some(live.revision.clone()), data).write(made)?;
    // What other versions held is kept as it is when a version is pruned.
    for other in head.databases.iter().filter(|database| !database.live) {
        let name = Path::new(&other.dump).file_name().unwrap_or_default();
        files::move_new(&incoming.join(&other.dump), &made.dumps().join(name))?;
    }
    deploy(made, live.revision.clone(), by).map(Some)
}

fn deploy(app: &App, revision: crate::app::Revision, by: &str) -> Result<String> {
    let branch = look::server_settings(app)?.branch.as_str().to_owned();
    let job = Job::new(Order::Deploy { branch, revision, reconcile: false }, by);
    JobLog::open(app, &job.id)?;
    job.put(app)?;
    Ok(job.id)
}
