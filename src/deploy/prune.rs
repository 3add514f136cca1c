//! Removes what is no longer kept. Deciding what goes is pure, and knows only releases that are
//! complete: what it does not know, it never touches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::look::Scene;
use super::{crossing, databases, look, preview, site, spare};
use crate::app::guard::Guard;
use crate::app::journal::Event;
use crate::app::record::{DatabaseRecord, Record};
use crate::app::settings::{Keep, Link};
use crate::app::{App, AppName, ReleaseId, Version};
use crate::data::Limit;
use crate::support::lock::DirectoryLock;
use crate::support::{Result, clock, files};
use crate::vcs::Repository;

/// What a selection depends on.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The complete releases, oldest first.
    pub releases: Vec<&'a Record>,
    /// What is live.
    pub live: Option<&'a ReleaseId>,
    /// What became live, in order.
    pub lives: Vec<&'a ReleaseId>,
    /// When a release of each version was last left.
    pub left: BTreeMap<Version, Timestamp>,
    /// Withdrawn by rollbacks.
    pub withdrawn: BTreeSet<ReleaseId>,
    /// Pinned.
    pub pinned: BTreeSet<ReleaseId>,
    /// What somebody runs in.
    pub in_use: BTreeSet<ReleaseId>,
    /// How much is kept.
    pub keep: &'a Keep,
    /// How long a version can be rolled back to with its data, after it was left.
    pub window: Duration,
    /// Now.
    pub now: Timestamp,
}

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Selection {
    /// These releases.
    pub releases: Vec<ReleaseId>,
    /// These versions, with the databases that are theirs alone.
    pub versions: Vec<Version>,
    /// These previews, with all that is theirs: their branches are gone.
    pub previews: Vec<AppName>,
}

/// Decides what goes.
///
/// Never the live release, the one before it, a pinned one, one in which something runs, the newest
/// good one, or a version in its rollback window.
pub fn select(facts: &Facts) -> Selection {
    let Some(live) = facts.live else { return Selection::default() };
    let good: Vec<&Record> =
        facts.releases.iter().filter(|record| !facts.withdrawn.contains(&record.id)).copied().collect();
    let before =
        facts.lives.iter().rev().find(|id| ***id != *live && good.iter().any(|record| record.id == ***id));
    let mut kept: BTreeSet<&ReleaseId> = BTreeSet::from([live]);
    kept.extend(before);
    kept.extend(good.last().map(|record| &record.id));
    kept.extend(&facts.pinned);
    kept.extend(&facts.in_use);
    // What the journal does not know, since it was lost, may have been pinned, or live just before.
    let known: BTreeSet<&ReleaseId> = facts.lives.iter().copied().collect();
    kept.extend(facts.releases.iter().map(|record| &record.id).filter(|id| !known.contains(id)));
    let in_live: Vec<&&Record> = good.iter().filter(|record| record.id.version == live.version).collect();
    kept.extend(in_live.iter().rev().take(facts.keep.releases as usize).map(|record| &record.id));
    let recent = recent_versions(facts);
    for version in kept_versions(facts, live, &kept, &recent) {
        // Of a version that is not live, the newest good one, or the newest there is; as many as of
        // the live one while it is in its window.
        let most = if recent.contains(&version) { facts.keep.releases as usize } else { 1 };
        let of_it = |record: &&&Record| record.id.version == version;
        kept.extend(good.iter().rev().filter(of_it).take(most).map(|record| &record.id));
        if !good.iter().any(|record| record.id.version == version) {
            kept.extend(facts.releases.iter().rev().find(of_it).map(|record| &record.id));
        }
    }
    let goes: Vec<ReleaseId> =
        facts.releases.iter().map(|record| &record.id).filter(|id| !kept.contains(id)).cloned().collect();
    let staying: BTreeSet<Version> = kept.iter().map(|id| id.version).collect();
    let versions: BTreeSet<Version> =
        goes.iter().map(|id| id.version).filter(|version| !staying.contains(version)).collect();
    Selection { releases: goes, versions: versions.into_iter().collect(), previews: Vec::new() }
}

/// The live version, the newest others as many as are kept, those in their window, and those of which
/// something is kept anyway.
fn kept_versions(
    facts: &Facts,
    live: &ReleaseId,
    kept: &BTreeSet<&ReleaseId>,
    recent: &BTreeSet<Version>,
) -> BTreeSet<Version> {
    let all: BTreeSet<Version> = facts.releases.iter().map(|record| record.id.version).collect();
    let mut versions: BTreeSet<Version> = BTreeSet::from([live.version]);
    versions.extend(kept.iter().map(|id| id.version));
    let others = all.iter().rev().filter(|version| **version != live.version);
    versions.extend(others.take((facts.keep.versions as usize).saturating_sub(1)));
    versions.extend(recent.iter().filter(|version| all.contains(version)));
    versions
}

/// The versions that were left so lately that they can be rolled back to with their data.
fn recent_versions(facts: &Facts) -> BTreeSet<Version> {
    let window = jiff::SignedDuration::try_from(facts.window).unwrap_or(jiff::SignedDuration::MAX);
    // A clock that was set back makes `now` earlier than `left`: then the window is not over.
    let lately = facts.left.iter().filter(|(_, left)| facts.now.duration_since(**left) < window);
    lately.map(|(version, _)| *version).collect()
}

/// What would go now.
pub fn selection(app: &App, keep: &Keep, window: Duration) -> Result<(Selection, Scene)> {
    let scene = Scene::read(app)?;
    let releases: Vec<&Record> =
        scene.releases.standing.iter().filter(|record| record.sealed.is_some()).collect();
    let mut in_use = BTreeSet::new();
    let places = working_directories();
    for record in &releases {
        let place = app.release(&record.id);
        let runs_there = places.iter().any(|directory| directory.starts_with(&place));
        if runs_there || DirectoryLock::try_take(&place).is_ok_and(|lock| lock.is_none()) {
            in_use.insert(record.id.clone());
        }
    }
    let mut selection = select(&Facts {
        live: scene.live.as_ref(),
        lives: scene.history.lives(),
        left: scene.history.versions_left(),
        withdrawn: scene.history.withdrawn(),
        pinned: scene.history.pinned(),
        in_use,
        keep,
        window,
        now: clock::now(),
        releases,
    });
    if !scene.releases.unknown.is_empty() {
        // What cannot be made sense of may be a release of a version that would go, with its database.
        let whole = std::mem::take(&mut selection.versions);
        selection.releases.retain(|id| !whole.contains(&id.version));
    }
    selection.previews = preview::orphans(app)?.iter().map(|app| app.name().clone()).collect();
    Ok((selection, scene))
}

/// How long a rollback over the live version carries what was written since.
pub fn window(app: &App) -> Result<Duration> {
    let scene = Scene::read(app)?;
    let live = scene.live.as_ref().and_then(|live| scene.releases.sealed(live));
    let settings = match live {
        Some(live) => look::settings_of(app, live)?,
        None => look::server_settings(app)?,
    };
    Ok(settings.database.rollback_window)
}

/// Once its window is over, nothing needs to note any more which rows change. It costs writes a little; where
/// it cannot be ended now, the next prune does.
fn end_old_capture(app: &App, scene: &Scene, window: Duration) {
    let end = || -> Result<()> {
        let Some(live) = scene.live.as_ref().and_then(|live| scene.releases.database(live)) else {
            return Ok(());
        };
        let live = databases::of(app, live)?;
        match live.captured()? {
            Some(capture) if crossing::is_over(&capture, window) => live.end_capture(),
            _ => Ok(()),
        }
    };
    if let Err(error) = end() {
        log::warn!("it is still noted which rows change: {}", error.one_line());
    }
}

/// Prunes, under the lock: the journal's line first, then one rename for each release.
pub fn run(guard: &mut Guard, keep: &Keep) -> Result<Selection> {
    let app = guard.app().clone();
    old_accounts(&app)?;
    old_dumps(&app, keep)?;
    let window = window(&app)?;
    let (mut selection, scene) = selection(&app, keep, window)?;
    end_old_capture(&app, &scene, window);
    selection.previews = preview::prune(guard, std::mem::take(&mut selection.previews))?;
    if selection.releases.is_empty() && selection.versions.is_empty() {
        return Ok(selection);
    }
    for version in &selection.versions {
        last_dump(&app, *version, &scene)?;
    }
    let versions = selection.versions.iter().map(|version| version.0).collect();
    guard.append(None, Event::Prune { releases: selection.releases.clone(), versions })?;
    for id in &selection.releases {
        // The newest of them: it differs least from what comes next.
        discard(guard, id, selection.releases.last() == Some(id) && keeps_spare(&app))?;
    }
    for version in &selection.versions {
        // Something may have begun to run in one of its releases since the selection: then it stays.
        let stays = |id: &ReleaseId| id.version == *version && files::exists(&app.release(id));
        if !selection.releases.iter().any(stays) {
            drop_version(guard, *version, &scene)?;
        }
    }
    // Their hosts go with them. What is pruned is pruned, whatever nginx says.
    if !selection.versions.is_empty()
        && let Err(error) = site::follow(&app)
    {
        log::warn!("versions are gone, and nginx still knows them: {}", error.one_line());
    }
    Ok(selection)
}

/// Takes one release out of `versions/`, unless something began to run in it meanwhile. It may become the spare.
fn discard(guard: &Guard, id: &ReleaseId, may_be_spare: bool) -> Result<()> {
    let app = guard.app();
    let place = app.release(id);
    // Kept until it is gone: nothing begins to run in it meanwhile.
    let lock = if files::is_directory(&place) { Some(DirectoryLock::try_take(&place)?) } else { None };
    if matches!(lock, Some(None)) {
        return Ok(());
    }
    if may_be_spare {
        drop(lock);
        spare::retire(guard, id)?;
        guard.forget(id)?;
    } else {
        guard.discard(id)?;
    }
    Repository::open(&app.repository())?.release(&app.hold_name(&id.name))
}

/// Files that have several names cannot make a spare: each is another release's, too.
fn keeps_spare(app: &App) -> bool {
    look::server_settings(app).is_ok_and(|settings| settings.export.link != Link::Hard)
}

/// The database that is a version's own, unless one that stays shares it.
fn own_database(version: Version, scene: &Scene) -> Option<DatabaseRecord> {
    let of = |record: &&Record| record.database.as_ref().is_some_and(|database| database.home == version);
    let users: Vec<&Record> = scene.releases.standing.iter().filter(of).collect();
    let shared = users.iter().any(|record| record.id.version != version);
    users
        .iter()
        .find(|record| record.id.version == version && !shared)
        .and_then(|record| record.database.clone())
}

/// A version's database is dropped only after a last dump of it, synced and read back.
fn last_dump(app: &App, version: Version, scene: &Scene) -> Result<()> {
    let Some(database) = own_database(version, scene) else { return Ok(()) };
    let database = databases::of(app, &database)?;
    if !database.exists()? {
        return Ok(());
    }
    let stamp = clock::now().strftime("%Y%m%dT%H%M%SZ");
    let dump = app.dumps().join(format!("{}-{stamp}.{}", database.spot().name, database.dump_suffix()));
    if files::exists(&dump) {
        files::remove_file(&dump)?;
    }
    database.dump(&dump, &Limit::within(Duration::from_secs(24 * 3600)), &mut |_| {})
}

fn drop_version(guard: &Guard, version: Version, scene: &Scene) -> Result<()> {
    let app = guard.app();
    if let Some(database) = own_database(version, scene) {
        databases::of(app, &database)?.remove()?;
    }
    files::remove_file(&app.last(version))?;
    files::remove_empty_directory(&app.version(version))
}

/// How the names of dumps end.
const DUMPS: [&str; 3] = ["sqlite3", "sql", "pgdump"];

/// Dumps that are older than `keep.dumps` go.
fn old_dumps(app: &App, keep: &Keep) -> Result<()> {
    for name in files::names_in(&app.dumps())? {
        let path = app.dumps().join(&name);
        let is_dump = path.extension().is_some_and(|end| DUMPS.iter().any(|known| end == *known));
        if is_dump && is_older(&path, keep.dumps) {
            files::remove_file(&path)?;
        }
    }
    Ok(())
}

/// How many failed releases keep their record, and for how long a log stays that no record names.
const FAILED: usize = 20;
const LOGS: Duration = Duration::from_secs(30 * 24 * 3600);

/// Accounts of what failed long ago, and logs that no record names any more.
fn old_accounts(app: &App) -> Result<()> {
    let scene = Scene::read(app)?;
    let failed = &scene.releases.failed;
    for record in &failed[..failed.len().saturating_sub(FAILED)] {
        files::remove_file(&app.failed_record(&record.id.name))?;
    }
    let named: BTreeSet<&str> = scene
        .releases
        .standing
        .iter()
        .chain(failed)
        .map(|record| record.job.as_str())
        .chain(scene.history.last_deploy())
        .collect();
    let logs = app.state("logs");
    for name in files::names_in(&logs)? {
        // What is not a deploy's is left alone: the directory of the processes' logs is here, too.
        let Some(job) = name.strip_suffix(".jsonl") else { continue };
        if !named.contains(job) && is_older(&logs.join(&name), LOGS) {
            files::remove_file(&logs.join(&name))?;
        }
    }
    Ok(())
}

/// Whether a file was written longer ago than `age`.
fn is_older(path: &std::path::Path, age: Duration) -> bool {
    let written = std::fs::symlink_metadata(path).and_then(|about| about.modified());
    let Some(written) = written.ok().and_then(|written| Timestamp::try_from(written).ok()) else {
        return false;
    };
    clock::now().duration_since(written)
        > jiff::SignedDuration::try_from(age).unwrap_or(jiff::SignedDuration::MAX)
}

/// Deletes what was renamed away. Nobody waits for it, and nobody minds if two do it at once.
pub fn empty_trash(app: &App) {
    for name in files::names_in(&app.trash()).unwrap_or_default() {
        if let Err(error) = files::remove_tree(&app.trash().join(name)) {
            log::warn!("{}", error.one_line());
        }
    }
}

/// The working directories of all processes that we may ask.
pub(super) fn working_directories() -> BTreeSet<std::path::PathBuf> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
    processes.flatten().filter_map(|process| std::fs::read_link(process.path().join("cwd")).ok()).collect()
}

/// What goes, a line each.
pub fn words(selection: &Selection) -> Vec<String> {
    if *selection == Selection::default() {
        return vec!["nothing to remove".to_owned()];
    }
    let releases = selection.releases.iter().map(|id| format!("release {id}"));
    let versions = selection
        .versions
        .iter()
        .map(|version| format!("version {version}, with its database (dumped first)"));
    let previews =
        selection.previews.iter().map(|app| format!("preview {app}, with its data: its branch is gone"));
    releases.chain(versions).chain(previews).collect()
}
