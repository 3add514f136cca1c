//! Looks at a revision and at what is there, and changes nothing: what a plan is decided on.
//!
//! A hook, `receiver plan` and the worker look through the same eyes. Nothing that was pushed runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::adoption;
use super::beginning::Beginning;
use super::branches::{self, Unborn};
use super::plan::{self, Brought, Facts, LeftVersion, Plan};
use super::queue::Options;
use super::{crossing, databases};
use crate::app::init::{self, Framework};
use crate::app::journal::History;
use crate::app::record::{self, Record, Releases};
use crate::app::settings::{Action as StageAction, Engine, Settings, StageName};
use crate::app::{App, Lineage, ReleaseId, Revision, Version};
use crate::data;
use crate::schema::{self, Fingerprint, Question, Said, TreeFile};
use crate::serve::start;
use crate::support::{Context, Error, Result, files};
use crate::vcs::export::{self, Size};
use crate::vcs::manifest::Manifest;
use crate::vcs::submodules::{self, Part};
use crate::vcs::{AtTop, Kind, Objects, Repository, Tree};

/// What is there of an app.
#[derive(Debug)]
pub struct Scene {
    /// Its releases.
    pub releases: Releases,
    /// Its journal.
    pub history: History,
    /// What is live.
    pub live: Option<ReleaseId>,
}

impl Scene {
    /// Reads it.
    pub fn read(app: &App) -> Result<Scene> {
        // What is live first: its record was sealed before, so that it is among those that are read then.
        let live = record::live(app)?;
        let releases = Releases::read(app)?;
        let history = History::read_about(app, releases.standing.iter().map(|record| &record.id))?;
        Ok(Scene { releases, history, live })
    }

    /// The record of what is live.
    ///
    /// # Errors
    /// Where it is damaged: what its schema and its database are is then unknown.
    pub fn live_record(&self, app: &App) -> Result<Option<&Record>> {
        let Some(live) = &self.live else { return Ok(None) };
        self.releases.sealed(live).map(Some).ok_or_else(|| {
            Error::new(format!("the record of the live release {live} is missing or damaged"))
                .hint(format!("put back {}, for instance from a backup", app.record(live).display()))
        })
    }
}

/// A revision that was looked at.
pub struct Look {
    /// What holds for it.
    pub settings: Settings,
    /// What its schema is kept in, and how that looks.
    pub fingerprint: Fingerprint,
    /// Its trees, submodules' included where they were asked for.
    pub parts: Vec<Part>,
    /// What a deploy of it does.
    pub plan: Plan,
    /// How large it is.
    pub size: Size,
    /// How the framework is asked whether something is pending.
    pub question: Option<Question>,
    /// What the export of the live release wrote.
    pub exported: Option<Arc<Manifest>>,
}

/// Whether submodules are fetched: never by a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submodules {
    /// Only whether they are granted.
    Judge,
    /// Fetched into their mirrors, too.
    Fetch,
}

/// How a revision is looked at.
pub struct Request<'a> {
    /// What to look at.
    pub revision: &'a Revision,
    /// What the push asked for.
    pub options: &'a Options,
    /// Whether it is deployed also where it is live already.
    pub again: bool,
    /// What to do about submodules.
    pub submodules: Submodules,
    /// What will hold, where the app is not made yet.
    pub unborn: Option<Unborn<'a>>,
}

/// Looks at a revision. What cannot be deployed is an error that names every reason.
pub fn at(app: &App, repository: &Repository, scene: &Scene, request: &Request) -> Result<Look> {
    let sealed = scene.live.as_ref().and_then(|live| scene.releases.sealed(live));
    // What the live release wrote is read while the revision is: each has a word on every file.
    let (inspected, exported) = std::thread::scope(|threads| {
        let exported = sealed.map(|live| threads.spawn(|| exported(app, live)));
        let inspected = inspect(app, repository, request);
        (inspected, exported.and_then(|read| read.join().unwrap_or_default()))
    });
    let Inspected { lineage, settings, said, fingerprint, mut parts } = inspected?;
    let live = scene.live_record(app)?;
    let size = export::measure(repository.objects(), &mut parts, exported.as_ref())?;
    let difference =
        live.map(|live| difference(repository.objects(), live, &fingerprint, &said)).transpose()?;
    let changed_files = live
        .and_then(|live| changed_files(repository, request.revision, live, &parts, exported.as_ref()))
        .unwrap_or(parts[0].tree.entries.len());
    let question = schema::question(fingerprint.detector, &said.said());
    let left = left(app, repository, scene, &settings, &fingerprint, &said);
    let (next_version, brought) = brought(app, scene, request)?;
    let plan = plan::decide(&Facts {
        app: app.name(),
        revision: request.revision,
        settings: &settings,
        options: request.options,
        live,
        seed: branches::seed(app, lineage.as_ref(), scene)?,
        brought,
        next_version,
        left,
        detector: fingerprint.detector.to_string(),
        difference,
        size,
        changed_files,
        again: request.again,
    })?;
    Ok(Look { settings, fingerprint, parts, plan, size, question, exported: exported.map(Arc::new) })
}

/// What a revision says, whatever is live.
struct Inspected {
    lineage: Option<Lineage>,
    settings: Settings,
    said: Words,
    fingerprint: Fingerprint,
    parts: Vec<Part>,
}

fn inspect(app: &App, repository: &Repository, request: &Request) -> Result<Inspected> {
    let tree = repository.tree(request.revision)?;
    refuse(&tree.complaints)?;
    let lineage = lineage(app, request.unborn)?;
    let settings = settings(app, repository, request.revision, request.unborn)?;
    let said = Words::of(&settings);
    let fingerprint = fingerprint(&tree, &said)?;
    refuse_unsaid(app, &tree, &settings, &fingerprint)?;
    if settings.web.command.is_some() {
        start::refuse_long(&start::socket_of(app))?;
    }
    let mut links = repository.link_targets(&tree)?;
    refuse_links(&tree, &links, &settings)?;
    refuse_lfs(repository.objects(), &tree)?;
    refuse(&submodules::refusals(repository.objects(), &tree, &settings.export.submodules)?)?;
    let mut parts = Vec::new();
    if request.submodules == Submodules::Fetch {
        parts =
            submodules::expand(repository.objects(), &tree, &settings.export.submodules, &app.submodules())?;
        for part in &parts {
            refuse(&part.tree.complaints)?;
            links.extend(Objects::open(&part.repository)?.link_targets(&part.tree)?);
        }
        // All together: a link of one part may lead through a link of another.
        refuse_links(&tree, &links, &settings)?;
    }
    parts.insert(0, Part::new(repository.objects().path().to_owned(), tree));
    Ok(Inspected { lineage, settings, said, fingerprint, parts })
}

/// The number of a version that opens now, and the data that it begins with, where some was brought along.
fn brought(app: &App, scene: &Scene, request: &Request) -> Result<(Version, Option<Brought>)> {
    if let Some(beginning) = Beginning::read(app)? {
        let brought = beginning.brought(app, request.revision)?;
        return Ok((beginning.version, brought));
    }
    let next = scene.releases.next_version();
    let brought = if request.options.adopts { adoption::brought(app, next)? } else { None };
    Ok((next, brought))
}

fn refuse(complaints: &[String]) -> Result<()> {
    match complaints {
        [] => Ok(()),
        [one] => Err(Error::new(format!("the revision cannot be deployed: {one}"))),
        many => {
            let shown = many.iter().take(20).map(|one| format!("\n  {one}")).collect::<String>();
            let more =
                if many.len() > 20 { format!("\n  and {} more", many.len() - 20) } else { String::new() };
            Err(Error::new(format!(
                "the revision cannot be deployed, for {} reasons:{shown}{more}",
                many.len()
            )))
        }
    }
}

/// What the export of a release wrote. One that cannot be read only makes more work.
fn exported(app: &App, record: &Record) -> Option<Manifest> {
    Manifest::read(&app.manifest(&record.id.name)).unwrap_or_else(|error| {
        log::debug!("{}", error.one_line());
        None
    })
}

/// In how many files a revision differs from what is live; `None` where nobody knows any more what that has.
fn changed_files(
    repository: &Repository,
    revision: &Revision,
    live: &Record,
    parts: &[Part],
    exported: Option<&Manifest>,
) -> Option<usize> {
    // A hook does not look into submodules, of whose files the manifest speaks.
    let is_whole = parts.len() > 1 || parts[0].tree.submodules().next().is_none();
    match exported.filter(|_| is_whole) {
        Some(exported) => Some(export::changes(parts, exported)),
        // The revision of a release is held by a ref.
        None => repository.changed_paths(&live.revision, revision).ok().map(|changed| changed.len()),
    }
}

/// The settings of a revision, with the server's.
fn settings(
    app: &App,
    repository: &Repository,
    revision: &Revision,
    unborn: Option<Unborn>,
) -> Result<Settings> {
    const MOST: u64 = 1 << 20;
    let from_code = match repository.at_top(revision, "receiver.toml")? {
        Some(AtTop::File(id)) => {
            let reader = repository.objects().reader();
            let size = reader.size(id)?;
            if size > MOST {
                return Err(Error::new(format!(
                    "receiver.toml has {size} bytes; nobody writes that many settings"
                )));
            }
            Some(reader.read(id)?)
        }
        Some(AtTop::Other) => {
            return Err(Error::new("receiver.toml is a symlink or a submodule; a file is wanted"));
        }
        Some(AtTop::Directory) => {
            return Err(Error::new("receiver.toml is a directory; a file is wanted"));
        }
        None => None,
    };
    load(app, from_code.as_deref(), unborn)
}

fn load(app: &App, from_code: Option<&[u8]>, unborn: Option<Unborn>) -> Result<Settings> {
    let from_server = match unborn {
        Some(unborn) => Some(unborn.server_file.as_bytes().to_owned()),
        None => server_file(app)?,
    };
    let name = app.server_config().display().to_string();
    let mut settings = Settings::load(from_code, from_server.as_deref(), &name)?;
    branches::hold_to(app, lineage(app, unborn)?.as_ref(), &mut settings)?;
    Ok(settings)
}

fn lineage(app: &App, unborn: Option<Unborn>) -> Result<Option<Lineage>> {
    unborn.map_or_else(|| app.lineage(), |unborn| Ok(Some(unborn.lineage.clone())))
}

/// The settings of a release that stands, with the server's as they are now.
pub fn settings_of(app: &App, record: &Record) -> Result<Settings> {
    settings(app, &Repository::open(&app.repository())?, &record.revision, None)
}

fn server_file(app: &App) -> Result<Option<Vec<u8>>> {
    files::read_limited(&app.server_config(), 1 << 20)
}

/// What the server alone says: the branch, what is kept.
pub fn server_settings(app: &App) -> Result<Settings> {
    load(app, None, None)
}

/// What the settings say about the schema, kept where [`Said`] can borrow it.
struct Words {
    paths: Option<Vec<String>>,
    command: Option<String>,
    syncdb: Option<String>,
    sql: Vec<String>,
}

impl Words {
    fn of(settings: &Settings) -> Words {
        let mut sql = Vec::new();
        let mut syncdb = None;
        for (name, stage) in settings.stages() {
            match &stage.action {
                StageAction::Sql(files) => sql.extend(files.iter().map(|file| file.as_str().to_owned())),
                StageAction::Run(command) if name == StageName::Syncdb => syncdb = Some(command.clone()),
                StageAction::Run(_) => {}
            }
        }
        Words {
            paths: settings.schema.paths.as_ref().map(|globs| globs.patterns().to_vec()),
            command: settings.schema.command.clone(),
            syncdb,
            sql,
        }
    }

    fn said(&self) -> Said<'_> {
        Said {
            paths: self.paths.as_deref(),
            command: self.command.as_deref(),
            syncdb: self.syncdb.as_deref(),
            sql: &self.sql,
        }
    }
}

fn fingerprint(tree: &Tree, words: &Words) -> Result<Fingerprint> {
    let files = tree.entries.iter().filter(|entry| entry.kind != Kind::Submodule).map(|entry| TreeFile {
        path: &entry.path,
        oid: &entry.id,
        is_link: entry.kind == Kind::Link,
    });
    schema::fingerprint(files, &words.said())
}

/// Without a word on what to do, only a static site is deployed; a schema wants a word on its engine.
fn refuse_unsaid(app: &App, tree: &Tree, settings: &Settings, fingerprint: &Fingerprint) -> Result<()> {
    let facts = init::detect(&|directory| tree.names_in(directory));
    let none_said = settings.database.engine_said && settings.database.engine == Engine::None;
    let said = tree.has("receiver.toml") || settings.has_stages() || none_said;
    if !said && facts.framework != Framework::Static {
        let what = match facts.framework {
            Framework::Unknown => "nothing says how this tree becomes a running application".to_owned(),
            other => format!("this looks like {other}, and nothing says how it is deployed"),
        };
        return Err(Error::new(format!("{what}: there is no receiver.toml in it")).hint(format!(
            "add this file as receiver.toml (`receiver init` writes it, too):\n\n{}",
            init::missing_file_advice(&facts)
        )));
    }
    if settings.database.engine != Engine::None {
        data::require(plan::engine_name(settings.database.engine))?;
    }
    if !fingerprint.files.is_empty() && !settings.database.engine_said {
        return Err(Error::new(format!(
            "there is a schema ({}), and nothing says what keeps its data",
            fingerprint.detector
        ))
        .hint(format!(
            "add to receiver.toml: [database] engine = \"sqlite\"; or \"none\" where the application looks after \
             its data itself; on the server, `receiver config {} database.engine none` says it for good",
            app.name()
        )));
    }
    Ok(())
}

fn refuse_links(tree: &Tree, targets: &BTreeMap<Vec<u8>, Vec<u8>>, settings: &Settings) -> Result<()> {
    if settings.export.outside_links {
        return Ok(());
    }
    let shared = &settings.shared;
    let shared: Vec<&str> = shared.files.iter().chain(&shared.dirs).map(|path| path.as_str()).collect();
    refuse(&tree.outside_links(targets, &shared))
}

/// Where attributes speak of LFS, its pointers are looked for.
fn refuse_lfs(objects: &Objects, tree: &Tree) -> Result<()> {
    let attributes = tree.entries.iter().filter(|entry| entry.path.ends_with(b".gitattributes"));
    let (reader, mut speaks_of_lfs) = (objects.reader(), false);
    for entry in attributes {
        let small = reader.size(entry.id)? < 1 << 20;
        speaks_of_lfs |= small && reader.read(entry.id)?.windows(10).any(|word| word == b"filter=lfs");
    }
    if !speaks_of_lfs {
        return Ok(());
    }
    for entry in tree.entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })) {
        if reader.size(entry.id)? < 1024 && export::is_lfs_pointer(&reader.read(entry.id)?) {
            return Err(export::lfs_refusal(entry));
        }
    }
    Ok(())
}

/// The version that a rollback left, and whether what was written since can be carried into it.
fn left(
    app: &App,
    repository: &Repository,
    scene: &Scene,
    settings: &Settings,
    fingerprint: &Fingerprint,
    said: &Words,
) -> Option<LeftVersion> {
    let version = scene.history.left_version()?.version;
    let live = scene.live.as_ref().and_then(|live| scene.releases.database(live))?;
    let of_it = |record: &&Record| record.id.version == version && record.sealed.is_some();
    let record = scene.releases.standing.iter().rev().find(of_it)?;
    let database = record.database.clone()?;
    let window = settings.database.rollback_window;
    let look = || -> Result<Option<String>> {
        let capture = databases::of(app, live)?.captured()?;
        Ok(crossing::hindrance(capture.as_ref(), (&live.name, &database.name), window))
    };
    let hindrance = look().unwrap_or_else(|error| Some(error.one_line()));
    let same = difference(repository.objects(), record, fingerprint, said).map(|found| found.changed);
    let same_schema = same.is_ok_and(|changed| changed == schema::Changed::No);
    let fits = || crossing::fits(app, live, &database, &settings.database);
    let returns = same_schema && hindrance.is_none() && fits().unwrap_or(false);
    Some(LeftVersion { version, database, returns, hindrance })
}

fn difference(
    objects: &Objects,
    live: &Record,
    new: &Fingerprint,
    words: &Words,
) -> Result<schema::Difference> {
    let recorded: Fingerprint = live
        .schema
        .clone()
        .try_into()
        .context(|| format!("the record of {} does not say what its schema was", live.id))?;
    let reader = objects.reader();
    schema::compare(&recorded, new, &words.said(), &mut |id| {
        let id = id.parse().context(|| format!("'{}' is not an object", id.escape_default()))?;
        reader.read(id)
    })
}
