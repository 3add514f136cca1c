//! The end of an app: everything that receiver made for it is taken back.
//!
//! What is seen goes first (nginx's site, processes, times of `[cron]`), then databases on servers, each after a
//! dump, then the directory, by one rename: to `ROOT/.removed-APP-…`, which has its repository, `shared/`, settings,
//! secrets, journal and dumps, or, where the data is to go too, to where it is deleted. Up to that rename it is an
//! app that is down. Each step is harmless when done again, so that after a death the same command ends it. Where the
//! app has a user of its own, the site, the rename and the user are the root service's.

use std::path::PathBuf;
use std::time::Duration;

use super::look;
use super::underway::Underway;
use super::{databases, hand, preview, processes, site};
use crate::app::guard::{self, Guard};
use crate::app::journal::Event;
use crate::app::{App, AppName, Root, record};
use crate::data::Limit;
use crate::support::{Error, Result, clock, death, files};
use crate::vcs::Repository;

/// What becomes of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// It is kept, beside its place.
    Kept,
    /// It goes, too.
    Removed,
}

/// What becomes of a deploy that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// The app is not removed.
    Refuses,
    /// It is cancelled.
    Cancelled,
}

/// How the directories begin that are on their way out; the rest is the app's name and a moment.
const LEAVING: &str = ".receiver-removes-";
/// The same, of what is kept.
const KEPT: &str = ".removed-";
/// How long a dump may take.
const PATIENT: Duration = Duration::from_secs(24 * 3600);

/// What removing an app does, a line each, in its order. Nothing is changed.
pub fn foresee(app: &App, data: Data) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for branch in branches(app)? {
        lines.extend(foresee(&branch, data)?);
    }
    let name = app.name();
    let settings = look::server_settings(app)?;
    if site::is_in(app, &settings)? {
        lines.push(format!("take {} out of nginx", site::file(app, &settings).display()));
    }
    let started = processes::list(app)?;
    lines.extend(started.iter().map(|one| format!("end {} of {name}", one.name)));
    if files::exists(&app.cron()) {
        lines.push(format!("end what [cron] of {name} runs"));
    }
    for database in databases::on_servers(app)? {
        let database = &database.spot().name;
        lines.push(match data {
            Data::Kept => format!("dump the database {database}, and drop it"),
            Data::Removed => format!("drop the database {database}, without a dump"),
        });
    }
    let place = app.directory().display();
    lines.push(match data {
        Data::Kept => format!("move {place} to {KEPT}{name}-… beside it, without its releases"),
        Data::Removed => format!("delete {place}, with repository, shared/ and databases"),
    });
    Ok(lines)
}

/// Removes an app with the apps of its branches. Answers where what is kept of it lies.
pub fn remove(
    app: &App,
    by: &str,
    data: Data,
    running: Running,
    say: &mut dyn FnMut(&str),
) -> Result<Option<PathBuf>> {
    if app.user().is_none() {
        sweep(app)?;
    }
    for branch in branches(app)? {
        if let Some(place) = remove(&branch, by, data, running, say)? {
            say(&format!("{} is removed; what is kept of it is in {}", branch.name(), place.display()));
        }
    }
    // After its verdict a worker only tidies up: that is waited for.
    let deploys = Underway::read(app).is_ok_and(|underway| underway.is_some());
    if let Some(holder) = guard::holder(app).filter(|_| deploys && running == Running::Refuses) {
        return Err(Error::new(format!("{} is busy: {} is under way", app.name(), holder.doing))
            .hint("wait for its end, or let it be cancelled: --cancel"));
    }
    let stay = || Ok(false);
    let why = Error::new("the app is removed");
    let Some(guard) = preview::silence(app, by, &why, &stay)? else {
        return Err(Error::new(format!("{} cannot be removed now", app.name())));
    };
    take_back(guard, by, data, say)
}

/// The apps of its branches, which have no repository without it.
fn branches(app: &App) -> Result<Vec<App>> {
    Ok(app.branch_apps()?.into_iter().map(|(branch, _)| branch).collect())
}

fn take_back(mut guard: Guard, by: &str, data: Data, say: &mut dyn FnMut(&str)) -> Result<Option<PathBuf>> {
    let app = guard.app().clone();
    let name = app.name().clone();
    guard.append(Some(by), Event::Change { what: format!("{name} is being removed") })?;
    // Where the app has a user of its own that is root's, at the end.
    if app.user().is_none() && site::is_in(&app, &look::server_settings(&app)?)? {
        site::take_back(&app)?;
        say("nginx       its site is taken out");
    }
    death::point("site-taken-back");
    processes::down(&guard)?;
    processes::end_everything(&app)?;
    say("processes   ended");
    death::point("removal-silent");
    for database in databases::on_servers(&app)? {
        let database_name = database.spot().name.clone();
        if data == Data::Kept && database.exists()? {
            let dump = app.dumps().join(format!("{database_name}-removed.{}", database.dump_suffix()));
            // What a death left may be cut.
            files::remove_file(&dump)?;
            database.dump(&dump, &Limit::within(PATIENT), &mut |_| {})?;
            say(&format!("database    {database_name} is dumped"));
        }
        death::point("removal-dumped");
        database.remove()?;
        say(&format!("database    {database_name} is dropped"));
    }
    if app.name().parent().is_some() {
        Repository::open(&app.repository())?.release_all(name.as_str())?;
    }
    if data == Data::Kept {
        // What is made of a revision can be made again.
        delete_releases(&app)?;
        death::point("removal-emptied");
    }
    if app.user().is_none() {
        return leave(&app, data);
    }
    // Its place, its user and its site are root's to take back.
    hand::end_branch(&app, data == Data::Kept)?;
    Ok(if data == Data::Kept { kept(&app)?.pop() } else { None })
}

/// Takes an app's directory out of its place by one rename. Answers where it is kept.
pub fn leave(app: &App, data: Data) -> Result<Option<PathBuf>> {
    let (name, stamp) = (app.name(), clock::now().strftime("%Y%m%dT%H%M%SZ").to_string());
    let place = match data {
        Data::Removed => app.root().join(format!("{LEAVING}{name}-{stamp}-{}", std::process::id())),
        Data::Kept => free(app, &stamp),
    };
    files::move_new(app.directory(), &place)?;
    death::point("removal-moved");
    if data == Data::Kept {
        return Ok(Some(place));
    }
    files::remove_tree(&place).map(|()| None)
}

/// What is kept of apps of this name that were removed, the oldest first.
pub fn kept(app: &App) -> Result<Vec<PathBuf>> {
    let begin = format!("{KEPT}{}-", app.name());
    let names = files::names_in(app.root())?.into_iter();
    let ours = names.filter(|name| name.strip_prefix(&begin).is_some_and(is_stamp));
    Ok(ours.map(|name| app.root().join(name)).filter(|place| files::is_directory(place)).collect())
}

/// `shop-2-…` is nothing of `shop`.
fn is_stamp(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('Z') && rest.len() >= 16
}

/// The trees of all releases; their records stay.
fn delete_releases(app: &App) -> Result<()> {
    for version in record::versions(app)? {
        for name in files::names_in(&app.version(version))? {
            let release = app.version(version).join(name);
            if files::is_directory(&release) {
                files::remove_tree(&release)?;
            }
        }
    }
    files::remove_tree(&app.trash())
}

/// A place that nothing has: an app of one name may be removed twice in a second.
fn free(app: &App, stamp: &str) -> PathBuf {
    let place = |more: &str| app.root().join(format!("{KEPT}{}-{stamp}{more}", app.name()));
    let first = place("");
    if !files::exists(&first) {
        return first;
    }
    place(&format!("-{}", std::process::id()))
}

/// What a death left of apps whose data was to go.
pub fn sweep(app: &App) -> Result<bool> {
    let begin = format!("{LEAVING}{}-", app.name());
    let mut found = false;
    for name in files::names_in(app.root())? {
        let Some(rest) = name.strip_prefix(&begin) else { continue };
        if is_stamp(rest) && rest.contains("Z-") {
            files::remove_tree(&app.root().join(&name))?;
            found = true;
        }
    }
    Ok(found)
}

/// Ends what a death left of the removal of an app that is not there any more; whether there was any.
pub fn end(root: &Root, name: &AppName) -> Result<bool> {
    let app = root.place(name);
    if app.is_created() { Ok(false) } else { sweep(&app) }
}
