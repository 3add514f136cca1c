//! Third step: the validated settings, the only thing that the rest of the program sees.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::agreement::{contradictions, incomplete};
use super::complaint::refusal;
use super::database::{Database, DatabaseServer, Engine};
use super::fragments::{File, Fragment};
use super::inputs::Inputs;
use super::keys::Owner;
use super::names::{
    BranchApp, BranchName, CronTime, Domain, Globs, Statuses, UrlPath, VariableValue, branch_matches,
};
use super::nginx::Nginx;
use super::stage::{Stage, StageName, WrittenStage};
use super::values::{Bytes, Count, Limit, Percent, Period, RelativePath, ServedPath, Text};
use super::watching::{Metrics, Notify};
use crate::app::AppName;
use crate::support::{Error, Result};

/// What a person calls the repository's file.
const REPOSITORY_FILE: &str = "receiver.toml";

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$case_doc])* $case,)* }
    };
}
pub(super) use choice;

choice! {
    /// What the web process speaks.
    Protocol {
        /// HTTP.
        Http,
        /// FastCGI.
        Fastcgi,
        /// uwsgi.
        Uwsgi,
    }
}
choice! {
    /// What a preview begins with.
    BranchData {
        /// Nothing.
        Empty,
        /// A copy of the data of the app that it is a branch of.
        Copy,
    }
}
choice! {
    /// What files of a new release share with those of the live one that are the same.
    Link {
        /// Their blocks, where the filesystem can do that; else nothing.
        Blocks,
        /// Everything: they are one file with two names.
        Hard,
    }
}
choice! {
    /// Who sees versions that are not live, at `vN.DOMAIN`.
    Urls {
        /// Nobody.
        Off,
        /// Who has the password.
        Password,
        /// Everybody.
        Public,
    }
}

/// All that holds for an app: defaults, the repository's file and the server's, in this order.
#[derive(Clone, Debug)]
pub struct Settings {
    stages: BTreeMap<StageName, Stage>,
    /// When the schema has changed.
    pub schema: Schema,
    /// The database of each version.
    pub database: Database,
    /// The server that keeps them, where the engine has one.
    pub database_server: DatabaseServer,
    /// The process behind the door.
    pub web: Web,
    /// The processes beside it, by name.
    pub processes: BTreeMap<String, Process>,
    /// Commands at their times, by name.
    pub cron: BTreeMap<String, Cron>,
    /// What outlives releases.
    pub shared: Shared,
    /// What is kept from release to release while the files that it depends on are the same.
    pub cache: BTreeMap<RelativePath, Vec<RelativePath>>,
    /// The branch that is deployed.
    pub branch: BranchName,
    /// The host that the app answers for.
    pub domain: Option<Domain>,
    /// The web server before the door.
    pub nginx: Nginx,
    /// Other branches, side by side, by their pattern.
    pub branches: BTreeMap<String, Branch>,
    /// What previews find in their environment.
    pub preview_env: BTreeMap<String, String>,
    /// How many previews there may be.
    pub preview_most: u32,
    /// Versions that are not live.
    pub versions: Versions,
    /// What prune leaves.
    pub keep: Keep,
    /// What stages and processes may use.
    pub limits: Limits,
    /// How a revision becomes a tree.
    pub export: Export,
    /// Who is told when something goes wrong.
    pub notify: Notify,
    /// Figures for monitoring.
    pub metrics: Metrics,
    pub(super) inputs: Inputs,
}

/// When the schema has changed; where neither is said, it is found from the tree.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The files that the schema is kept in.
    pub paths: Option<Globs>,
    /// What this command prints in the built release is the schema.
    pub command: Option<String>,
}

/// The process behind the door.
#[derive(Clone, Debug)]
pub struct Web {
    /// Its command; there is no such process without one.
    pub command: Option<String>,
    /// What it speaks.
    pub protocol: Protocol,
    /// The path that is asked for health; where none is named, `/` is, and 404 may count.
    pub health_path: Option<String>,
    /// The statuses that are health.
    pub health_expect: Statuses,
    /// How long it may take to be healthy.
    pub start_timeout: Duration,
    /// How long it must stay so.
    pub settle: Duration,
    /// Directories of the release that are served as files, by path on the web.
    pub static_files: BTreeMap<String, RelativePath>,
    /// How long the old one may finish its requests.
    pub drain: Duration,
}

/// A process beside the web process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its command.
    pub command: String,
    /// Whether the old and the new one may run at once.
    pub overlap: bool,
}

/// A command at its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    /// `hourly`, `daily`, `weekly`, `monthly`, or the five fields of crontab(5).
    pub at: String,
    /// The command.
    pub command: String,
}

/// What is linked from `shared/` into every release; none lies in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Files, which must be there.
    pub files: Vec<RelativePath>,
    /// Directories.
    pub dirs: Vec<RelativePath>,
}

/// A branch, or a pattern of branches, that becomes an app of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The app, `APP--BRANCH`; none for previews, which are named after their branch.
    pub app: Option<AppName>,
    /// The host that it answers for.
    pub domain: Option<Domain>,
    /// Whether it is one app for each branch, gone with it.
    pub preview: bool,
    /// What a preview begins with.
    pub data: BranchData,
    /// Whether the processes beside the web process run in a preview.
    pub process: bool,
}

/// Versions that are not live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Who sees them.
    pub urls: Urls,
    /// How many run at once.
    pub awake: u32,
    /// After how long without a connection one goes to sleep.
    pub idle: Duration,
}

/// What prune leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Good releases in the live version, at least 1.
    pub releases: u32,
    /// Versions, at least 1.
    pub versions: u32,
    /// How long the last dump of a dropped database stays.
    pub dumps: Duration,
}

/// What stages and processes may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u32>,
    /// Percent of one processor: 200 is two.
    pub cpu: Option<u32>,
    /// The time of a stage that does not name its own; where a file says it, also the most that a stage
    /// may name.
    pub time: Duration,
    /// Bytes that one stage or process may print.
    pub log_bytes: u64,
    /// Bytes of one push.
    pub push_bytes: Option<u64>,
}

/// How a revision becomes a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Whether symlinks may lead out of the release.
    pub outside_links: bool,
    /// Repositories that may be read as submodules.
    pub submodules: Vec<String>,
    /// How files are shared with the release before.
    pub link: Link,
}

impl Settings {
    /// What holds where the repository's file has the bytes `repo_file` and the server's has
    /// `server_file`, which a person calls `server_name`; `None` for a file that is not there.
    ///
    /// The error lists everything that is wrong in either file, one complaint a line, safe to print.
    pub fn load(repo_file: Option<&[u8]>, server_file: Option<&[u8]>, server_name: &str) -> Result<Settings> {
        let mut inputs = Inputs::defaults();
        let mut complaints = Vec::new();
        let mut all_known = true;
        let repo = (File { owner: Owner::Code, name: REPOSITORY_FILE }, repo_file);
        let server = (File { owner: Owner::Server, name: server_name }, server_file);
        for (file, bytes) in [repo, server] {
            let Some(bytes) = bytes else { continue };
            let mut fragment = Fragment::read(file, bytes);
            complaints.append(&mut fragment.complaints);
            all_known &= fragment.is_toml;
            inputs.overlay(file, fragment);
        }
        if all_known {
            complaints.extend(incomplete(&inputs));
        }
        complaints.extend(contradictions(&inputs)?);
        if complaints.is_empty() { Settings::from_inputs(inputs) } else { Err(refusal(&complaints)) }
    }

    /// Whether anything is run in a release that could write to its files.
    pub fn runs_something(&self) -> bool {
        let command = |stage: &Stage| matches!(stage.action, super::Action::Run(_));
        self.stages.values().any(command)
            || self.schema.command.is_some()
            || self.web.command.is_some()
            || !self.processes.is_empty()
            || !self.cron.is_empty()
    }

    /// One stage, if there is a command or SQL for it.
    pub fn stage(&self, name: StageName) -> Option<&Stage> {
        self.stages.get(&name)
    }

    /// The stages that there are, in the order in which they run.
    pub fn stages(&self) -> impl Iterator<Item = (StageName, &Stage)> {
        self.stages.iter().map(|(name, stage)| (*name, stage))
    }

    /// Whether there is any stage.
    pub fn has_stages(&self) -> bool {
        !self.stages.is_empty()
    }

    /// What is said about a branch that is not the app's own: an exact name wins over a pattern, the
    /// longest pattern over the others.
    pub fn branch_for(&self, name: &str) -> Option<(&str, &Branch)> {
        let exact = self.branches.get_key_value(name).filter(|(pattern, _)| !pattern.contains('*'));
        let by_pattern = || {
            let fitting = self.branches.iter().filter(|(pattern, _)| branch_matches(pattern, name));
            fitting.max_by_key(|(pattern, _)| pattern.len())
        };
        exact.or_else(by_pattern).map(|(pattern, branch)| (pattern.as_str(), branch))
    }

    fn from_inputs(mut inputs: Inputs) -> Result<Settings> {
        let engine = inputs.want(&["database", "engine"])?;
        let max_pause = if engine == Engine::Sqlite { "4s" } else { "20s" };
        inputs.fill(&["database", "max_pause"], max_pause.into());
        let from = &inputs;
        let limits = limits(from)?;
        Ok(Settings {
            stages: stages(from, limits.time)?,
            schema: Schema {
                paths: from.get(&["schema", "paths"])?,
                command: text(from, &["schema", "command"])?,
            },
            database: Database::from(from, engine)?,
            database_server: DatabaseServer::from(from)?,
            web: web(from)?,
            processes: processes(from)?,
            cron: cron(from)?,
            shared: Shared { files: from.want(&["shared", "files"])?, dirs: from.want(&["shared", "dirs"])? },
            cache: cache(from)?,
            branch: from.want(&["branch"])?,
            domain: from.get(&["domain"])?,
            nginx: Nginx::from(from)?,
            branches: branches(from)?,
            preview_env: collect(from, &["preview", "env"], |VariableValue(value)| value)?,
            preview_most: from.want::<Count>(&["preview", "most"])?.0,
            versions: Versions {
                urls: from.want(&["versions", "urls"])?,
                awake: from.want::<Count>(&["versions", "awake"])?.0,
                idle: from.want::<Limit>(&["versions", "idle"])?.0,
            },
            keep: Keep {
                releases: from.want::<Count>(&["keep", "releases"])?.0,
                versions: from.want::<Count>(&["keep", "versions"])?.0,
                dumps: from.want::<Period>(&["keep", "dumps"])?.0,
            },
            limits,
            export: Export {
                outside_links: from.want(&["export", "outside_links"])?,
                submodules: from
                    .want::<Vec<Text>>(&["export", "submodules"])?
                    .into_iter()
                    .map(|Text(url)| url)
                    .collect(),
                link: from.want(&["export", "link"])?,
            },
            notify: Notify::from(from)?,
            metrics: Metrics::from(from)?,
            inputs,
        })
    }
}

pub(super) fn text(from: &Inputs, path: &[&str]) -> Result<Option<String>> {
    Ok(from.get::<Text>(path)?.map(|Text(text)| text))
}

/// The values below a table whose keys the files chose.
pub(super) fn collect<T: serde::de::DeserializeOwned, V>(
    from: &Inputs,
    table: &[&str],
    open: fn(T) -> V,
) -> Result<BTreeMap<String, V>> {
    let read = |name: &str| Ok((name.to_owned(), open(from.want(&[table, &[name]].concat())?)));
    from.names(table).into_iter().map(read).collect()
}

fn stages(from: &Inputs, time: Duration) -> Result<BTreeMap<StageName, Stage>> {
    let most = if from.said(&["limits", "time"]) { time } else { Duration::MAX };
    let mut stages = BTreeMap::new();
    for name in StageName::ALL {
        if let Some(WrittenStage { action, timeout, env }) = from.get(&["stages", name.as_str()])? {
            stages.insert(name, Stage { action, timeout: timeout.unwrap_or(time).min(most), env });
        }
    }
    Ok(stages)
}

fn web(from: &Inputs) -> Result<Web> {
    Ok(Web {
        command: text(from, &["web", "command"])?,
        protocol: from.want(&["web", "protocol"])?,
        health_path: from.get::<UrlPath>(&["web", "health", "path"])?.map(|UrlPath(path)| path),
        health_expect: from.want(&["web", "health", "expect"])?,
        start_timeout: from.want::<Limit>(&["web", "start_timeout"])?.0,
        settle: from.want::<Period>(&["web", "settle"])?.0,
        static_files: collect(from, &["web", "static"], |ServedPath(path)| path)?,
        drain: from.want::<Period>(&["web", "drain"])?.0,
    })
}

fn processes(from: &Inputs) -> Result<BTreeMap<String, Process>> {
    let read = |name: &str| {
        let Text(command) = from.want(&["process", name, "command"])?;
        let overlap = from.get(&["process", name, "overlap"])?.unwrap_or(false);
        Ok((name.to_owned(), Process { command, overlap }))
    };
    from.names(&["process"]).into_iter().map(read).collect()
}

fn cron(from: &Inputs) -> Result<BTreeMap<String, Cron>> {
    let read = |name: &str| {
        let CronTime(at) = from.want(&["cron", name, "at"])?;
        let Text(command) = from.want(&["cron", name, "command"])?;
        Ok((name.to_owned(), Cron { at, command }))
    };
    from.names(&["cron"]).into_iter().map(read).collect()
}

fn branches(from: &Inputs) -> Result<BTreeMap<String, Branch>> {
    let read = |name: &str| {
        let key = |key| ["branches", name, key];
        let branch = Branch {
            app: from.get::<BranchApp>(&key("app"))?.map(|BranchApp(app)| app),
            domain: from.get(&key("domain"))?,
            preview: from.get(&key("preview"))?.unwrap_or(false),
            data: from.get(&key("data"))?.unwrap_or(BranchData::Empty),
            process: from.get(&key("process"))?.unwrap_or(false),
        };
        Ok((name.to_owned(), branch))
    };
    from.names(&["branches"]).into_iter().map(read).collect()
}

fn cache(from: &Inputs) -> Result<BTreeMap<RelativePath, Vec<RelativePath>>> {
    let kept: BTreeMap<String, Vec<RelativePath>> = collect(from, &["cache"], |files| files)?;
    let path = |name: &str| {
        let refuse = |why| Error::new(format!("cannot read the cache of '{}': {why}", name.escape_debug()));
        name.parse().map_err(refuse)
    };
    kept.into_iter().map(|(name, files)| Ok((path(&name)?, files))).collect()
}

fn limits(from: &Inputs) -> Result<Limits> {
    Ok(Limits {
        memory: from.get::<Bytes>(&["limits", "memory"])?.map(|Bytes(bytes)| bytes),
        tasks: from.get::<Count>(&["limits", "tasks"])?.map(|Count(tasks)| tasks),
        cpu: from.get::<Percent>(&["limits", "cpu"])?.map(|Percent(share)| share),
        time: from.want::<Limit>(&["limits", "time"])?.0,
        log_bytes: from.want::<Bytes>(&["limits", "log_bytes"])?.0,
        push_bytes: from.get::<Bytes>(&["limits", "push_bytes"])?.map(|Bytes(bytes)| bytes),
    })
}
