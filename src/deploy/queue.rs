//! Jobs that wait: one file each in `receiver/queue/`, there whole or not at all.
//!
//! A hook writes its job, syncs it, and may then die: the job is done all the same. The file stays
//! until the job has its verdict, so that a worker's death loses none.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::app::journal::refuse_newer;
use crate::app::layout::FORMAT;
use crate::app::{App, AppName, ReleaseId, Revision};
use crate::support::{Context, Error, Result, clock, files};

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Order {
    /// The deployed branch moved.
    Push {
        /// The branch.
        branch: String,
        /// Its tip before; absent for a new branch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        old: Option<Revision>,
        /// Its tip after.
        new: Revision,
        /// Whether commits were left behind.
        forced: bool,
    },
    /// `receiver deploy`, or a tip that was never deployed.
    Deploy {
        /// The branch that the release is said to come by.
        branch: String,
        /// What to deploy.
        revision: Revision,
        /// Nobody asked: the tip had no verdict.
        reconcile: bool,
    },
    /// Back to a release.
    Rollback {
        /// The release; the one that was live before, where none is named.
        to: Option<ReleaseId>,
        /// Whether what was written since may stay behind.
        without_new_data: bool,
        /// Whether rows that the older database refuses may stay behind.
        #[serde(default)]
        quarantine: bool,
    },
    /// Stop what runs or waits.
    Cancel,
    /// No deploys until further notice.
    Lock {
        /// Why.
        why: String,
    },
    /// Deploys again.
    Unlock,
    /// The branch of an app that is not made yet moved: it is made, and deploys the push.
    Branch {
        /// The push, as that app is to find it in its own queue.
        push: Box<Order>,
    },
    /// The end of a preview: a push deleted its branch.
    RemovePreview {
        /// Its app.
        app: AppName,
        /// The branch.
        branch: String,
    },
}

/// What a push asked for besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// `-o schema=same|new`: overrules the detection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaSaid>,
    /// `-o carry=shared`: once without a database of its own.
    #[serde(default)]
    pub carry_shared: bool,
    /// `-o max-pause=…`, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pause_ms: Option<u64>,
    /// It goes live with fresh data of what the app adopts; no push asks for that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopts: bool,
}

impl Options {
    /// Reads several options.
    pub fn read(words: &[String]) -> Result<Options> {
        let mut options = Options::default();
        words.iter().try_for_each(|word| options.take(word))?;
        Ok(options)
    }

    /// Reads one option: `schema=same`, `schema=new`, `carry=shared`, `max-pause=10s`.
    pub fn take(&mut self, option: &str) -> Result<()> {
        match option.split_once('=') {
            Some(("schema", "same")) => self.schema = Some(SchemaSaid::Same),
            Some(("schema", "new")) => self.schema = Some(SchemaSaid::New),
            Some(("carry", "shared")) => self.carry_shared = true,
            Some(("max-pause", length)) => {
                let length: jiff::SignedDuration = length.parse().map_err(|_| Options::refuse(option))?;
                let pause = u64::try_from(length.as_millis()).map_err(|_| Options::refuse(option))?;
                self.max_pause_ms = Some(pause);
            }
            _ => return Err(Options::refuse(option)),
        }
        Ok(())
    }

    fn refuse(option: &str) -> Error {
        let shown: String = option.escape_default().take(80).collect();
        Error::usage(format!("'{shown}' is no option of a push"))
            .hint("there are: plan, schema=same, schema=new, carry=shared, max-pause=10s")
    }

    /// The options as they are written, for the journal.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        match self.schema {
            Some(SchemaSaid::Same) => words.push("schema=same".to_owned()),
            Some(SchemaSaid::New) => words.push("schema=new".to_owned()),
            None => {}
        }
        if self.carry_shared {
            words.push("carry=shared".to_owned());
        }
        words.extend(self.max_pause_ms.map(|pause| format!("max-pause={pause}ms")));
        words
    }
}

/// What a push says of its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemaSaid {
    /// It did not change, whatever the files say.
    Same,
    /// It did.
    New,
}

/// A job in the queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    format: u32,
    /// Its name: that of its file and of its log.
    pub id: String,
    /// When it was asked for.
    pub asked: Timestamp,
    /// Who asked.
    pub by: String,
    /// What is to be done.
    pub order: Order,
    /// What was asked for besides.
    #[serde(default)]
    pub options: Options,
    /// How often it was begun and not ended.
    #[serde(default)]
    pub deaths: u32,
}

impl Job {
    /// A new job, asked for now.
    pub fn new(order: Order, by: &str) -> Job {
        // Sorted by name they are in the order of their asking, as far as one clock can tell.
        let now = Timestamp::now();
        let id = format!(
            "{}-{:09}-{}",
            now.strftime("%Y%m%dT%H%M%SZ"),
            now.subsec_nanosecond(),
            std::process::id()
        );
        Job {
            format: FORMAT,
            id,
            asked: clock::now(),
            by: by.to_owned(),
            order,
            options: Options::default(),
            deaths: 0,
        }
    }

    /// The same job under the same name, for another app's queue, with what that one is to do.
    #[must_use]
    pub fn handing_on(&self, order: Order) -> Job {
        Job { order, deaths: 0, ..self.clone() }
    }

    fn path(&self, app: &App) -> PathBuf {
        app.queue().join(format!("{}.json", self.id))
    }

    /// Puts it into the queue, or writes down there that it was begun once more; synced.
    pub fn put(&self, app: &App) -> Result<()> {
        let text = serde_json::to_vec(self).context(|| "cannot write down a job")?;
        files::write_atomic(&self.path(app), &text, app.state_mode())
    }

    /// Takes it out of the queue: it has its verdict.
    pub fn remove(&self, app: &App) -> Result<()> {
        files::remove_file(&self.path(app))
    }

    /// Whether it deploys a revision.
    pub fn revision(&self) -> Option<&Revision> {
        match &self.order {
            Order::Push { new, .. } => Some(new),
            Order::Deploy { revision, .. } => Some(revision),
            _ => None,
        }
    }

    /// The branch that it deploys.
    pub fn branch(&self) -> Option<&str> {
        match &self.order {
            Order::Push { branch, .. } | Order::Deploy { branch, .. } => Some(branch),
            _ => None,
        }
    }
}

/// What starts a worker where a unit of systemd looks at the queue, and nothing waits in it.
const WAKE: &str = "wake";

/// Has a worker look at the app, where a unit of systemd starts it for whatever lies in the queue.
pub fn wake(app: &App) -> Result<()> {
    if !waiting(app)?.is_empty() {
        return Ok(());
    }
    files::write_atomic(&app.queue().join(WAKE), b"", 0o660)
}

/// The worker is there. What is no job of ours would start one for ever: it is put aside, under a name that systemd
/// does not look at.
pub fn woken(app: &App) -> Result<()> {
    files::remove_file(&app.queue().join(WAKE))?;
    for name in files::names_in(&app.queue())? {
        let path = app.queue().join(&name);
        if !name.starts_with('.') && read_job(app, &path).is_err() {
            files::move_new(&path, &app.queue().join(format!(".aside-{name}")))?;
        }
    }
    Ok(())
}

/// What waits, in the order of its asking. What is no job of ours is left alone.
pub fn waiting(app: &App) -> Result<Vec<Job>> {
    Ok(read(app)?.0)
}

/// What lies in the queue and is no job that this receiver knows, as sentences.
pub fn strange(app: &App) -> Result<Vec<String>> {
    Ok(read(app)?.1)
}

fn read(app: &App) -> Result<(Vec<Job>, Vec<String>)> {
    let (mut jobs, mut strange) = (Vec::new(), Vec::new());
    for name in files::names_in(&app.queue())? {
        let path = app.queue().join(&name);
        if name.starts_with(files::TEMPORARY) || name == WAKE {
            continue;
        }
        match read_job(app, &path) {
            Ok(job) => jobs.extend(job),
            Err(error) => strange.push(error.one_line()),
        }
    }
    Ok((jobs, strange))
}

fn read_job(app: &App, path: &Path) -> Result<Option<Job>> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    // It may be gone since the directory was read: another worker ended it.
    let Some(bytes) = files::read_limited(path, 1 << 20)? else { return Ok(None) };
    if let Ok(there) = serde_json::from_slice::<Format>(&bytes) {
        refuse_newer(there.format, path)?;
    }
    let job = serde_json::from_slice::<Job>(&bytes).ok().filter(|job| job.path(app) == path);
    job.map(Some).ok_or_else(|| Error::new(format!("{} is not a job", path.display())))
}
