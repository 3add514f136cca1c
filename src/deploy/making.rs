//! A release in the making: from its name to the seal on its record.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::adoption::attended::Old;
use super::cache::Carrying;
use super::crew::{Crew, Upbringing};
use super::environment::{Environment, Subject};
use super::exporting::{self, Exporting};
use super::joblog::{JobLog, Line};
use super::look::{Look, Scene};
use super::opening::Opening;
use super::queue::Job;
use super::spare::Spare;
use super::stage::Stage;
use super::stop::Stopper;
use super::underway::{Step, Underway};
use super::{databases, hand, plan, room, sharing};
use crate::app::guard::Guard;
use crate::app::record::{DatabaseRecord, Record, StageRun};
use crate::app::settings::{Action, Settings, StageName};
use crate::app::{App, ReleaseId, ReleaseName, Version};
use crate::data::Access;
use crate::schema::{Answer, Detector, Pending};
use crate::serve::hold::Hold;
use crate::serve::start::Purpose;
use crate::support::syncer::Syncer;
use crate::support::{Context, Error, Result, clock, death, files, text};
use crate::vcs::Repository;
use crate::vcs::export::Exported;
use crate::vcs::times::Older;

/// A release that is being made, under the app's lock.
pub struct Making<'a> {
    /// The lock.
    pub guard: &'a mut Guard,
    /// Where everything is said.
    pub log: JobLog,
    /// What the stages find.
    pub environment: Environment,
    /// Whether it is noted which rows change, so that a rollback can carry them back.
    pub captured: bool,
    /// Whether the migration changed the schema when it was rehearsed: that it does so again is what shows, while writers
    /// wait, that the app uses the database that it is given.
    pub changes_schema: bool,
    /// When to end early.
    pub stopper: &'a Stopper<'a>,
    /// Those who are held at the door, from when it is closed until it opens.
    pub hold: &'a mut Option<Hold>,
    look: &'a Look,
    record: Record,
    previous: Option<Record>,
    directory: PathBuf,
    max_pause: Duration,
    older: Option<Older>,
    exported: Option<Exported>,
    syncer: Syncer,
}

/// An attempt to deploy what a job asks for.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// The job.
    pub job: &'a Job,
    /// Where everything is said.
    pub log: &'a JobLog,
    /// The revision, and what is to be done with it.
    pub look: &'a Look,
    /// What was there before.
    pub scene: &'a Scene,
    /// When to end early.
    pub stopper: &'a Stopper<'a>,
    /// The old application that it takes over, where it does.
    pub old: Option<&'a Old>,
}

impl<'a> Making<'a> {
    /// Gives the release its name and writes down that it begins.
    pub fn begin(
        guard: &'a mut Guard,
        underway: &mut Underway,
        attempt: Attempt<'a>,
        hold: &'a mut Option<Hold>,
    ) -> Result<Making<'a>> {
        let Attempt { job, log, look, scene, stopper, .. } = attempt;
        let app = guard.app().clone();
        let revision = job.revision().ok_or_else(|| Error::new("this job deploys nothing"))?;
        let branch = job.branch().unwrap_or_default();
        let name = free_name(&app, revision, scene)?;
        let id = ReleaseId { version: look.plan.version, name };
        let returns = matches!(look.plan.data, plan::Data::Returned { .. });
        underway.step = Step::Release { id: id.clone(), opens: look.plan.opens, returns };
        underway.write(guard)?;
        let repository = Repository::open(&app.repository())?;
        let schema = toml::Table::try_from(&look.fingerprint).context(|| "cannot write down the schema")?;
        let record = Record {
            format: crate::app::layout::FORMAT,
            id: id.clone(),
            revision: revision.clone(),
            branch: branch.to_owned(),
            subject: repository.subject(revision)?,
            pusher: job.by.clone(),
            created: clock::now(),
            seq: guard.next_seq(),
            job: job.id.clone(),
            opens: look.plan.opens,
            exported: None,
            sealed: None,
            failure: None,
            files: look.size.files,
            bytes: look.size.bytes,
            stages: Vec::new(),
            // Known from the start: whoever undoes it has to know what it may have made.
            database: Opening::of(&app, look)?.database,
            schema,
        };
        guard.begin(&record)?;
        repository.hold(&app.hold_name(&id.name), revision)?;
        death::point("begun");
        let previous = scene.live.as_ref().and_then(|live| scene.releases.sealed(live)).cloned();
        let subject = Subject { id: &id, revision, branch, previous: scene.live.as_ref() };
        let environment = Environment::of(&app, &subject)?;
        let max_pause =
            job.options.max_pause_ms.map_or(look.settings.database.max_pause, Duration::from_millis);
        let directory = app.release(&id);
        let syncer = Syncer::open(&app.version(id.version))?;
        let older = exporting::older(&app, look, scene, previous.as_ref());
        Ok(Making {
            guard,
            log: log.clone(),
            environment,
            captured: false,
            changes_schema: false,
            stopper,
            hold,
            look,
            record,
            previous,
            directory,
            max_pause,
            older,
            exported: None,
            syncer,
        })
    }

    /// The app.
    pub fn app(&self) -> &App {
        self.guard.app()
    }

    /// The release.
    pub fn id(&self) -> &ReleaseId {
        &self.record.id
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.record.id.version
    }

    /// The version of what is live.
    pub fn previous_version(&self) -> Version {
        self.previous.as_ref().map_or(self.version(), |previous| previous.id.version)
    }

    /// The database of a version that a rollback left, which may alone hold what this one can hold.
    pub fn merges(&self) -> Option<&DatabaseRecord> {
        self.look.plan.merges.as_ref()
    }

    /// What is not brought along from a version that a rollback left.
    pub fn stays(&self) -> Option<&str> {
        self.look.plan.stays.as_deref()
    }

    /// What there is to do for its data.
    pub fn opening(&self) -> Result<Opening> {
        Opening::of(self.app(), self.look)
    }

    /// Whether a rollback from it would leave data behind: another database would be live then.
    pub fn leaves_data(&self) -> bool {
        let before = self.previous.as_ref().and_then(|previous| previous.database.as_ref());
        self.record.database.is_some()
            && before.is_some_and(|before| Some(before) != self.record.database.as_ref())
            && !self.captured
    }

    /// Whether something is live that data can be brought over from.
    pub fn has_previous(&self) -> bool {
        self.previous.is_some()
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What holds for it.
    pub fn settings(&self) -> &Settings {
        &self.look.settings
    }

    /// What its schema is kept in.
    pub fn detector(&self) -> Detector {
        self.look.fingerprint.detector
    }

    /// How long writers may be held.
    pub fn max_pause(&self) -> Duration {
        self.max_pause
    }

    /// Writes down that something ran, with its time.
    pub fn ran(&mut self, name: &str, begun: Instant) {
        let seconds = (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        self.record.stages.push(StageRun { name: name.to_owned(), seconds });
    }

    /// Writes the tree of the revision, after a look at the space that is left.
    pub fn export(&mut self, spare: Option<Spare>) -> Result<()> {
        room::make(self.guard, self.look, &self.log)?;
        let exporting = Exporting {
            guard: self.guard,
            log: &self.log,
            stopper: self.stopper,
            syncer: &self.syncer,
            look: self.look,
            id: &self.record.id,
            older: self.older.as_ref(),
        };
        self.exported = Some(exporting.run(spare)?);
        self.record.exported = Some(Timestamp::now());
        death::point("exported");
        Ok(())
    }

    /// Links what outlives releases into this one.
    pub fn link_shared(&self) -> Result<()> {
        sharing::link(self.app(), &self.directory, &self.look.settings.shared)?;
        death::point("linked");
        Ok(())
    }

    /// Runs a stage in this release, at most for as long as `most`; none is fine.
    pub fn stage(&mut self, name: StageName, environment: &Environment, most: Duration) -> Result<()> {
        let Some(stage) = self.look.settings.stage(name) else { return Ok(()) };
        let Action::Run(command) = &stage.action else { return Ok(()) };
        let begun = Instant::now();
        self.log.step(name.as_str(), environment.mask(command));
        let environment =
            environment.with(stage.env.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let run = Stage {
            name: name.as_str(),
            command,
            app: self.guard.app(),
            release: &self.record.id,
            environment: &environment,
            timeout: stage.timeout.min(most),
            limits: &self.look.settings.limits,
            log_bytes: self.look.settings.limits.log_bytes,
        };
        run.run(&self.log, &|| self.stopper.check())?;
        self.log.timed(name.as_str(), "done", begun);
        self.ran(name.as_str(), begun);
        Ok(())
    }

    /// Carries what `[cache]` names over from the live release.
    pub fn carry_cache(&self) -> Result<()> {
        let (Some(previous), Some(older), Some(exported)) = (&self.previous, &self.older, &self.exported)
        else {
            return Ok(());
        };
        let carrying = Carrying {
            guard: self.guard,
            settings: &self.look.settings,
            from: (&previous.id, older.manifest()),
            to: (&self.record.id, &exported.manifest),
            log: &self.log,
        };
        carrying.run()
    }

    /// Runs the stages that make the release itself.
    pub fn build(&mut self) -> Result<()> {
        let environment = self.environment.clone();
        let stages = [StageName::Build, StageName::Assets];
        if stages.iter().any(|name| self.look.settings.stage(*name).is_some()) {
            hand::give(self.app(), self.id())?;
            for name in stages {
                self.stage(name, &environment, Duration::MAX)?;
            }
            hand::take_back(self.app(), self.id())?;
        }
        self.refuse_own_directory()?;
        death::point("build");
        Ok(())
    }

    /// Whether nothing but the export wrote to the release, or to a database of its version.
    fn is_only_exported(&self) -> bool {
        let settings = &self.look.settings;
        let alone =
            !self.look.plan.opens && matches!(self.look.plan.data, plan::Data::None | plan::Data::Join(_));
        let shares = !settings.shared.files.is_empty() || !settings.shared.dirs.is_empty();
        alone && !shares && !settings.runs_something() && !settings.has_stages()
    }

    /// A stage must not have put anything where receiver's own files of a release lie.
    fn refuse_own_directory(&self) -> Result<()> {
        if files::exists(&self.directory.join(".receiver")) {
            return Err(Error::new("a stage made .receiver in the release, which belongs to receiver"));
        }
        Ok(())
    }

    /// What the framework, asked on a database, says of what is pending.
    pub fn pending(&self, environment: &Environment, most: Duration) -> Result<Pending> {
        let Some(question) = self.look.question.as_ref().filter(|question| question.answer == Answer::Status)
        else {
            return Ok(Pending::Unknown("nobody can be asked".to_owned()));
        };
        let run = Stage {
            name: "question",
            command: &question.command,
            app: self.guard.app(),
            release: &self.record.id,
            environment,
            timeout: most.min(Duration::from_secs(300)),
            limits: &self.look.settings.limits,
            log_bytes: 64 << 10,
        };
        let answer = run.ask(&|| self.stopper.check());
        self.stopper.check()?;
        let (status, output) = match answer {
            Ok(answer) => answer,
            Err(error) => return Ok(Pending::Unknown(error.one_line())),
        };
        let output = environment.mask(&String::from_utf8_lossy(&output));
        let end = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it prints nothing");
        let end: String = text::printable(end.trim()).chars().take(200).collect();
        Ok(Pending::of(status.code(), format!("`{}`: {end}", text::printable(&question.command))))
    }

    /// Whether the framework can be asked whether something is pending.
    pub fn can_be_asked(&self) -> bool {
        self.look.question.as_ref().is_some_and(|question| question.answer == Answer::Status)
    }

    /// What the command that [schema] names prints in this release.
    pub fn schema_output(&self, command: &str) -> Result<Vec<u8>> {
        let run = Stage {
            name: "schema",
            command,
            app: self.guard.app(),
            release: &self.record.id,
            environment: &self.environment,
            timeout: self.look.settings.limits.time,
            limits: &self.look.settings.limits,
            log_bytes: 64 << 20,
        };
        run.output(&|| self.stopper.check())
    }

    /// Writes down a schema that was only known after the build.
    pub fn set_schema(&mut self, schema: toml::Table) {
        self.record.schema = schema;
    }

    /// What the live release's schema was written down as.
    pub fn previous_schema(&self) -> Option<&toml::Table> {
        self.previous.as_ref().map(|previous| &previous.schema)
    }

    /// Takes the database over into the record and the environment.
    pub fn use_database(&mut self, opening: &Opening) -> Result<()> {
        if let Some(database) = &opening.database {
            let database = databases::of(self.app(), database)?;
            self.environment = self.environment.with_database(&*database, Access::Write)?;
        }
        Ok(())
    }

    /// The crew of this release, to run in `environment`.
    pub fn crew<'c>(&'c self, environment: &'c Environment, purpose: Purpose) -> Crew<'c> {
        Crew::new(self.guard.app(), &self.record.id, &self.look.settings, environment, purpose)
    }

    /// Starts these processes of the release, proves them, and links the release to the web process.
    pub fn bring_up(&mut self, environment: &Environment, names: &[&str]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let report = |line: &Line| self.log.write(line);
        let stop = || self.stopper.check();
        let how = Upbringing { report: &report, stop: &stop, most: Duration::MAX, settle: true };
        let mut crew = self.crew(environment, Purpose::Live);
        crew.bring_up(names, &how)?;
        crew.link()?;
        drop(crew);
        self.ran("start", begun);
        death::point("started");
        Ok(())
    }

    /// Everything to disk, then the seal: from now on the release is complete. What the seal says goes to disk with the
    /// rest: one wait less.
    pub fn seal(&mut self) -> Result<()> {
        let seal = self.guard.prepare_seal(&mut self.record)?;
        let begun = Instant::now();
        let manifest = self.app().manifest(&self.record.id.name);
        let synced = match &self.exported {
            Some(exported) if self.is_only_exported() => {
                exported.sync(&self.directory, &[&manifest, seal.lies_at()], &self.syncer)
            }
            _ => self.syncer.sync(),
        };
        if let Err(error) = synced {
            // The kernel says so once, and takes what it lost for written: nothing may ever be taken from this tree.
            files::remove_file(&manifest)?;
            return Err(error);
        }
        // bench/export reads this.
        log::debug!("the release is on disk: synced in {:.6} s", begun.elapsed().as_secs_f64());
        death::point("synced");
        seal.put()?;
        death::point("sealed");
        Ok(())
    }
}

/// A name that no release has or had: that of now, or of the next second that is free.
fn free_name(app: &App, revision: &crate::app::Revision, scene: &Scene) -> Result<ReleaseName> {
    let mut second = clock::now();
    loop {
        let name = ReleaseName::new(second, revision);
        let known =
            scene.releases.standing.iter().chain(&scene.releases.failed).any(|record| record.id.name == name);
        if !known && !scene.history.was_live(app, &name)? && !on_disk(app, &name)? {
            return Ok(name);
        }
        second = second
            .checked_add(jiff::SignedDuration::from_secs(1))
            .map_err(|_| Error::new("there is no free second left"))?;
    }
}

fn on_disk(app: &App, name: &ReleaseName) -> Result<bool> {
    let versions = crate::app::record::versions(app)?;
    Ok(versions.iter().any(|version| {
        let id = ReleaseId { version: *version, name: name.clone() };
        files::exists(&app.release(&id)) || files::exists(&app.record(&id))
    }))
}
