//! Writes the backup of an app, while it goes on.
//!
//! Why it agrees with itself: what is live, the journal, the records and the settings are read under the app's lock,
//! when no deploy is under way. The lock is let go before anything long begins; from then on a lock on the live
//! release's directory, which many may hold, keeps prune from it and its database. A deploy meanwhile only adds to the
//! repository; the dump is one moment of the version that was live, which a version that opens leaves as it is.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use super::parts;
use super::stream::{About, BranchApp, Database, FORMAT, Head, Live, Tail, Writer};
use crate::app::guard::Guard;
use crate::app::record::{DatabaseRecord, Record};
use crate::app::{App, ReleaseId, record};
use crate::data::Limit;
use crate::deploy::look::Scene;
use crate::deploy::{databases, found, recovery};
use crate::support::lock::DirectoryLock;
use crate::support::{Context, Error, Result, beneath, clock, files, text};
use crate::vcs::bundle;

/// What is wanted in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The live version's database.
    Live,
    /// That of every kept version.
    AllVersions,
}

/// Says how far it is.
pub type Say<'a> = dyn FnMut(&str) + 'a;

/// How long a dump may take.
const PATIENT: Duration = Duration::from_secs(24 * 3600);

/// How the directories begin that a backup is prepared in; the rest is who prepares it.
const DESK: &str = ".backup-";

/// What was read in one moment, under the lock.
struct Moment {
    head: Head,
    small: Vec<(String, Vec<u8>)>,
    dumps: Vec<(DatabaseRecord, String)>,
    /// Keeps the live release, and so its version and its database.
    _kept: Option<DirectoryLock>,
}

/// Writes all of an app to `output`. Answers what it could not have as it is.
///
/// `keys` are those that name it; who may come in is known to the caller.
pub fn write(
    app: &App,
    wanted: Wanted,
    keys: Option<Vec<u8>>,
    output: impl Write,
    say: &mut Say,
) -> Result<Tail> {
    if let Some(parent) = app.name().parent() {
        return Err(Error::new(format!(
            "{} is a branch of {parent}, and has no repository of its own",
            app.name()
        ))
        .hint(format!(
            "`receiver backup {parent}` has its branch; `receiver db {} dump` its data",
            app.name()
        )));
    }
    let mut moment = look(app, wanted, say)?;
    moment.small.extend(keys.map(|keys| (parts::KEYS.to_owned(), keys)));
    let desk = desk(app)?;
    let written = fill(app, &moment, &desk, output, say);
    files::remove_tree(&desk)?;
    let tail = written?;
    let live = record::live(app)?;
    if live != moment.head.live.as_ref().map(|live| live.release.clone()) {
        let now = live.map_or_else(|| "nothing".to_owned(), |live| live.to_string());
        say(&format!("note: {now} is live meanwhile; the backup is of {}", moment.head.taken));
    }
    tail.changed.iter().for_each(|path| say(&format!("note: {path} changed while it was read")));
    tail.left_out.iter().for_each(|what| say(&format!("note: left out: {what}")));
    Ok(tail)
}

/// Reads what has to agree, under the lock.
fn look(app: &App, wanted: Wanted, say: &mut Say) -> Result<Moment> {
    let mut guard = Guard::wait(app, "a backup", |holder| {
        let doing = holder.map_or_else(|| "somebody else".to_owned(), |holder| holder.doing);
        say(&format!("waiting for {doing} to end"));
    })?;
    recovery::recover(&mut guard)?.iter().for_each(|told| say(&format!("recovered: {told}")));
    let scene = Scene::read(app)?;
    let live = scene.live_record(app)?;
    let kept = match &scene.live {
        Some(live) => DirectoryLock::share(&app.release(live))?,
        None => None,
    };
    if scene.live.is_some() && kept.is_none() {
        return Err(Error::new("the live release is about to be taken away").hint("try again"));
    }
    let dumps = dumps(app, &scene, live, wanted)?;
    let head = Head {
        format: FORMAT,
        app: app.name().clone(),
        vcs: app.vcs().to_string(),
        created: found::created(app)?,
        taken: clock::now(),
        by: env!("CARGO_PKG_VERSION").to_owned(),
        branch: bundle::head(&app.repository())?,
        live: live.map(|live| Live {
            release: live.id.clone(),
            revision: live.revision.clone(),
            branch: live.branch.clone(),
        }),
        databases: dumps
            .iter()
            .map(|(database, dump)| Database {
                engine: database.engine.clone(),
                name: database.name.clone(),
                home: database.home,
                live: live.and_then(|live| live.database.as_ref()) == Some(database),
                dump: dump.clone(),
            })
            .collect(),
        branches: app
            .branch_apps()?
            .into_iter()
            .map(|(branch, about)| BranchApp {
                app: branch.name().clone(),
                branch: about.branch,
                preview: about.preview,
            })
            .collect(),
    };
    Ok(Moment { head, small: small(app, &scene)?, dumps, _kept: kept })
}

/// The databases that are dumped, each with the part that its dump becomes; the live one's first.
fn dumps(
    app: &App,
    scene: &Scene,
    live: Option<&Record>,
    wanted: Wanted,
) -> Result<Vec<(DatabaseRecord, String)>> {
    let mut all: Vec<DatabaseRecord> = live.and_then(|live| live.database.clone()).into_iter().collect();
    if wanted == Wanted::AllVersions {
        let kept = scene.releases.standing.iter().rev().filter(|record| record.sealed.is_some());
        for database in kept.filter_map(|record| record.database.clone()) {
            if !all.contains(&database) {
                all.push(database);
            }
        }
    }
    all.into_iter()
        .map(|database| {
            let suffix = databases::of(app, &database)?.dump_suffix();
            let part = format!("{}/{}.{suffix}", parts::DUMPS, database.name);
            Ok((database, part))
        })
        .collect()
}

/// What is small: settings, secrets, journal, records.
fn small(app: &App, scene: &Scene) -> Result<Vec<(String, Vec<u8>)>> {
    const MOST: u64 = 1 << 30;
    let mut small = Vec::new();
    for (part, path) in [
        (parts::SETTINGS, app.server_config()),
        (parts::ENVIRONMENT, app.environment_file()),
        (parts::JOURNAL, app.journal()),
        (parts::PASSWORDS, app.version_passwords()),
        (parts::MAINTENANCE, app.maintenance()),
        (parts::DOWN, app.down()),
    ] {
        if let Some(bytes) = files::read_limited(&path, MOST)? {
            small.push((part.to_owned(), bytes));
        }
    }
    small.extend(bundle::bookmarks(&app.repository())?.map(|text| (parts::BOOKMARKS.to_owned(), text)));
    let sealed = scene.releases.standing.iter().filter(|record| record.sealed.is_some());
    let place = |id: &ReleaseId| format!("{}/{}/{}.toml", parts::RECORDS, id.version, id.name);
    let of_sealed = sealed.map(|record| (place(&record.id), app.record(&record.id)));
    let failed = scene.releases.failed.iter().map(|record| {
        (format!("{}/{}.toml", parts::FAILED, record.id.name), app.failed_record(&record.id.name))
    });
    for (part, path) in of_sealed.chain(failed) {
        small.extend(files::read_limited(&path, MOST)?.map(|bytes| (part, bytes)));
    }
    Ok(small)
}

/// A place for what has to lie on the disk before it can be streamed: 0700, ours alone. What a death left of
/// another one goes.
fn desk(app: &App) -> Result<PathBuf> {
    for name in files::names_in(&app.dumps())? {
        let Some(pid) = name.strip_prefix(DESK) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            files::remove_tree(&app.dumps().join(name))?;
        }
    }
    let desk = app.dumps().join(format!("{DESK}{}", std::process::id()));
    files::remove_tree(&desk)?;
    files::make_directory(&desk, 0o700)?;
    Ok(desk)
}

fn fill(app: &App, moment: &Moment, desk: &Path, output: impl Write, say: &mut Say) -> Result<Tail> {
    let mut writer = Writer::begin(output, &moment.head)?;
    for (part, bytes) in &moment.small {
        writer.bytes(part, bytes)?;
    }
    let packed = desk.join("repository");
    if bundle::write(&app.repository(), &packed)? {
        let length = stream(&mut writer, Path::new(parts::REPOSITORY), &packed, say)?;
        say(&format!("repository  {}", text::bytes(length)));
    }
    for (database, part) in &moment.dumps {
        let dump = desk.join("dump");
        let mut told = Instant::now();
        databases::of(app, database)?.dump(&dump, &Limit::within(PATIENT), &mut |progress| {
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                let (done, total) = (text::bytes(progress.done), text::bytes(progress.total));
                say(&format!("database    {}: {done} of {total}", database.name));
            }
        })?;
        let length = stream(&mut writer, Path::new(part), &dump, say)?;
        files::remove_file(&dump)?;
        say(&format!("database    {}, a dump of {}", database.name, text::bytes(length)));
    }
    shared(app, &mut writer, say)?;
    writer.finish()
}

/// Streams a file that lies on the desk.
fn stream<W: Write>(writer: &mut Writer<W>, part: &Path, from: &Path, say: &mut Say) -> Result<u64> {
    let mut file = File::open(from).context(|| format!("cannot read {}", from.display()))?;
    let length = file.metadata().map_or(0, |about| about.len());
    let mut meter = Meter::new(part.display().to_string(), length);
    writer.file(part, &mut file, About::own(), &mut |bytes| meter.count(bytes, say))?;
    Ok(length)
}

/// All of `shared/`, which others may write to meanwhile: nothing is followed, and nothing waited for.
fn shared<W: Write>(app: &App, writer: &mut Writer<W>, say: &mut Say) -> Result<()> {
    let top = app.shared();
    let mut waiting = vec![PathBuf::new()];
    let (mut count, mut total) = (0u64, 0u64);
    let mut meter = Meter::new("shared".to_owned(), 0);
    while let Some(directory) = waiting.pop() {
        for found in beneath::list(&top, &directory)? {
            let part = Path::new(parts::SHARED).join(&found.path);
            let about = About { mode: found.mode, mtime: found.mtime };
            match found.kind {
                FileType::Directory => {
                    writer.directory(&part, about)?;
                    waiting.push(found.path);
                }
                FileType::RegularFile => {
                    // It may be gone, or be something else by now.
                    let Ok(mut file) = beneath::read(&top, &found.path) else {
                        writer.left_out(format!("{}: it cannot be read", part.display()));
                        continue;
                    };
                    writer.file(&part, &mut file, about, &mut |bytes| meter.count(bytes, say))?;
                    (count, total) = (count + 1, total + found.size);
                }
                FileType::Symlink => {
                    let target = beneath::target(&top, &found.path)?;
                    if beneath::stays_within(directory.components().count(), &target) {
                        writer.link(&part, &target, about)?;
                    } else {
                        writer.left_out(format!(
                            "{} leads out of shared/, to {}",
                            part.display(),
                            target.display()
                        ));
                    }
                }
                _ => writer.left_out(format!("{} is neither a file nor a directory", part.display())),
            }
        }
    }
    let noun = text::plural(usize::try_from(count).unwrap_or(usize::MAX), "file", "files");
    say(&format!("shared      {} {noun}, {}", text::grouped(count), text::bytes(total)));
    Ok(())
}

/// Says once a second how far something is.
pub(super) struct Meter {
    what: String,
    total: u64,
    done: u64,
    told: Instant,
}

impl Meter {
    /// One for so many bytes; 0 where nobody knows.
    pub(super) fn new(what: String, total: u64) -> Meter {
        Meter { what, total, done: 0, told: Instant::now() }
    }

    /// Counts some more.
    pub(super) fn count(&mut self, bytes: u64, say: &mut Say) {
        self.done += bytes;
        if self.told.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.told = Instant::now();
        let of = if self.total > 0 { format!(" of {}", text::bytes(self.total)) } else { String::new() };
        say(&format!("{}: {}{of}", self.what, text::bytes(self.done)));
    }
}
