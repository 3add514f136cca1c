//! One start of one process of a release: all that is needed to run it, on disk before it runs.
//!
//! Whoever has to find out after a death, or a reboot, what ran for which release reads these files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::supervision::Keeper;
use crate::app::journal::refuse_newer;
use crate::app::layout::FORMAT;
use crate::app::{App, ReleaseId};
use crate::support::{Context, Error, Result, clock, files};

/// The web process's name; every other comes from `[process.NAME]`.
pub const WEB: &str = "web";

/// What everything that belongs to a start has in its environment: the start's name.
pub const START_VARIABLE: &str = "RECEIVER_START";

/// The longest socket path that the kernel takes, in bytes (`sun_path` without its closing zero,
/// unix(7)).
pub const LONGEST_SOCKET: usize = 107;

/// The name of one start, `PROCESS-` and eight hex digits: a new one each time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartId(String);

impl StartId {
    /// A name that no start has: the clock's nanoseconds, one further where somebody was as quick.
    pub fn free(app: &App, process: &str) -> Result<StartId> {
        let mut number = u64::try_from(jiff::Timestamp::now().as_nanosecond() >> 16).unwrap_or_default();
        loop {
            let id = format!("{process}-{:08x}", number & 0xFFFF_FFFF);
            if !files::exists(&app.process(&id)) && !files::exists(&app.socket(&id)) {
                files::make_directory(&app.processes(), 0o711)?;
                return Ok(StartId(id));
            }
            number = number.wrapping_add(1);
        }
    }

    /// The process that a start of this name is one of.
    pub fn process_of(text: &str) -> Option<&str> {
        let (process, number) = text.rsplit_once('-')?;
        let sound = number.len() == 8 && number.bytes().all(|b| b.is_ascii_hexdigit());
        (sound && !process.is_empty()).then_some(process)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for StartId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a start is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// To be live, now or after the next switch.
    Live,
    /// To prove that it comes up on a copy that is thrown away.
    Rehearsal,
    /// To be looked at beside what is live.
    Beside,
}

/// One start of one process of a release.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    format: u32,
    /// Its name.
    pub id: StartId,
    /// The process: `web`, or a name from `[process.NAME]`.
    pub process: String,
    /// The release that it runs in.
    pub release: ReleaseId,
    /// What it is for.
    pub purpose: Purpose,
    /// Who keeps it running.
    #[serde(default)]
    pub keeper: Keeper,
    /// Whether it only ends its work: something newer took its place.
    pub retired: bool,
    /// Where it runs: the release's own directory, by no symlink.
    pub directory: PathBuf,
    /// What `/bin/sh -c` is given.
    pub command: String,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// The socket that it is to listen on (`RECEIVER_SOCKET`); none but for the web process.
    pub socket: Option<PathBuf>,
    /// How long it has to end after SIGTERM, before it is killed.
    pub patience: Duration,
    /// Bytes of its output that are kept, where no journal keeps them.
    pub log_bytes: u64,
    /// Bytes of memory that it may use.
    pub memory: Option<u64>,
    /// Processes and threads that it may have.
    pub tasks: Option<u32>,
    /// Percent of one processor that it may use.
    pub cpu: Option<u32>,
    /// When it was written down, in UTC.
    pub created: jiff::Timestamp,
}

/// What a start is made of.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The process.
    pub process: &'a str,
    /// The release that it runs in.
    pub release: &'a ReleaseId,
    /// What it is for.
    pub purpose: Purpose,
    /// Its command.
    pub command: &'a str,
    /// Its environment, without `RECEIVER_SOCKET`.
    pub environment: BTreeMap<String, String>,
    /// How long it has to end.
    pub patience: Duration,
    /// What it may use.
    pub limits: &'a crate::app::settings::Limits,
}

impl Start {
    /// Writes down a start that is to happen; nothing runs yet.
    pub fn begin(app: &App, wanted: Wanted) -> Result<Start> {
        let id = StartId::free(app, wanted.process)?;
        let socket = (wanted.process == WEB).then(|| app.socket(&id.0));
        let mut environment = wanted.environment;
        environment.insert(START_VARIABLE.to_owned(), id.0.clone());
        if let Some(socket) = &socket {
            refuse_long(socket)?;
            environment.insert("RECEIVER_SOCKET".to_owned(), socket.display().to_string());
        }
        let start = Start {
            format: FORMAT,
            id: id.clone(),
            process: wanted.process.to_owned(),
            release: wanted.release.clone(),
            purpose: wanted.purpose,
            keeper: Keeper::here(app, wanted.purpose, &id),
            retired: false,
            directory: app.release(wanted.release),
            command: wanted.command.to_owned(),
            environment,
            socket,
            patience: wanted.patience,
            log_bytes: wanted.limits.log_bytes,
            memory: wanted.limits.memory,
            tasks: wanted.limits.tasks,
            cpu: wanted.limits.cpu,
            created: clock::now(),
        };
        start.write(app)?;
        Ok(start)
    }

    /// Writes it down; only its owner may read it, since secrets are in its environment.
    pub fn write(&self, app: &App) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context(|| "cannot write down a start")?;
        files::write_atomic(&self.file(app), &text, 0o600)
    }

    /// Writes down that something newer took its place.
    pub fn retire(&self, app: &App) -> Result<()> {
        Start { retired: true, ..self.clone() }.write(app)
    }

    /// Where it is written down.
    pub fn file(&self, app: &App) -> PathBuf {
        app.process(&self.id.0)
    }

    /// Reads the one at `path`; `None` where it is gone.
    pub fn read(path: &Path) -> Result<Option<Start>> {
        let Some(text) = files::read_text(path)? else { return Ok(None) };
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|_| Error::new(format!("{} is damaged", path.display())))?;
        let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        refuse_newer(u32::try_from(format).unwrap_or(u32::MAX), path)?;
        let start = serde_json::from_value(value)
            .map_err(|_| Error::new(format!("{} is damaged", path.display())))?;
        Ok(Some(start))
    }

    /// Refuses one that names a place or a socket other than its own: who runs it for somebody else must not be led
    /// anywhere by it.
    pub fn refuse_foreign(&self, app: &App) -> Result<()> {
        let own = self.socket.as_ref().is_none_or(|socket| *socket == app.socket(&self.id.0));
        if own && self.directory == app.release(&self.release) {
            return Ok(());
        }
        Err(Error::new(format!("the start {} names places that are not its own", self.id)))
    }

    /// All starts of an app that are written down, the oldest first. What cannot be read is left out,
    /// with a warning.
    pub fn all(app: &App) -> Result<Vec<Start>> {
        let mut starts = Vec::new();
        for name in files::names_in(&app.processes())? {
            let path = app.processes().join(&name);
            if name.starts_with('.') || path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            match Start::read(&path) {
                Ok(start) => starts.extend(start),
                Err(error) => log::warn!("{}", error.one_line()),
            }
        }
        starts.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        Ok(starts)
    }

    /// Forgets a start that has ended, with its socket.
    pub fn forget(&self, app: &App) -> Result<()> {
        if let Some(socket) = &self.socket {
            files::remove_file(socket)?;
        }
        files::remove_file(&app.process_account(&self.id.0))?;
        files::remove_file(&app.process_lock(&self.id.0))?;
        files::remove_file(&self.file(app))
    }
}

/// Refuses a socket path that the kernel does not take.
pub fn refuse_long(socket: &Path) -> Result<()> {
    let length = socket.as_os_str().len();
    if length <= LONGEST_SOCKET {
        return Ok(());
    }
    Err(Error::new(format!(
        "the path of a socket may have {LONGEST_SOCKET} bytes, and {} has {length}",
        socket.display()
    ))
    .hint("give the app a shorter name, or keep it in a shorter directory: `receiver --root DIR create …`"))
}

/// The socket path that a start of the web process of this app will have, for judging its length.
pub fn socket_of(app: &App) -> PathBuf {
    app.socket(&format!("{WEB}-00000000"))
}
