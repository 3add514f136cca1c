//! The requests and replies. Both are a line of JSON.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::app::settings::{BranchName, RelativePath};
use crate::app::{AppName, ReleaseId};
use crate::support::{Error, Result};

/// What is wanted of root.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Run something in a release as the app's user. Its input, output and errors go beside the request, as
    /// descriptors. When the connection ends, it and all that it started are ended.
    Run(Run),
    /// Run what works on the app's databases in files, as the app's user. The socket over which that is asked for goes
    /// beside the request. When the connection ends, it is ended.
    Agent {
        /// The app.
        app: AppName,
    },
    /// A release becomes the app's user's, who builds it.
    Give {
        /// The app.
        app: AppName,
        /// The release.
        release: ReleaseId,
    },
    /// A release becomes receiver's again, and the app's user's to read.
    TakeBack {
        /// The app.
        app: AppName,
        /// The release.
        release: ReleaseId,
    },
    /// What receiver brought into `shared/` becomes the app's user's.
    GiveShared {
        /// The app.
        app: AppName,
        /// The file or directory, below `shared/`.
        path: RelativePath,
    },
    /// A release that nobody can take back goes.
    RemoveRelease {
        /// The app.
        app: AppName,
        /// The release.
        release: ReleaseId,
    },
    /// A directory of `receiver/databases/` goes, with what the app's user put there.
    Remove {
        /// The app.
        app: AppName,
        /// Its name.
        directory: String,
    },
    /// Start what is written down under `receiver/run/processes/`. With `tether` it ends with the connection.
    Start {
        /// The app.
        app: AppName,
        /// The start's name.
        start: String,
        /// Whether it is to end with the connection.
        tether: bool,
    },
    /// End it.
    Stop {
        /// The app.
        app: AppName,
        /// The start's name.
        start: String,
    },
    /// Have the commands of the live release's `[cron]` run at their times, and no others.
    Timers {
        /// The app.
        app: AppName,
        /// The times by name, as `[cron]` writes them.
        at: BTreeMap<String, String>,
    },
    /// The same, and end what runs.
    EndTimers {
        /// The app.
        app: AppName,
    },
    /// Make the app of a branch, where `[branches]` of its parent wants one; or what of it is missing.
    MakeBranch {
        /// The parent.
        app: AppName,
        /// The branch.
        branch: BranchName,
    },
    /// Take the app of a branch back, of which nothing runs, and whose databases on servers are gone.
    EndBranch {
        /// The app of the branch.
        app: AppName,
        /// Whether its directory is kept, beside its place.
        keep: bool,
    },
    /// Take back what is there of apps of branches that are not wholly made, or not wholly gone.
    SweepBranches {
        /// The parent.
        app: AppName,
    },
    /// Have sshd let in whom the file of keys names, and nobody else.
    Keys,
    /// Say when the certificate of an app's site ends.
    CertificateEnd {
        /// The app.
        app: AppName,
    },
    /// Bring nginx's site up to date, where it was brought in.
    Site {
        /// The app.
        app: AppName,
    },
}

/// A command in a release, as the app's user.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The app.
    pub app: AppName,
    /// The release that it runs in.
    pub release: ReleaseId,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// What it may use.
    pub bounds: Bounds,
    /// Whether its input is a terminal of its own, which it is to have as its controlling one.
    pub terminal: bool,
}

/// What something may use.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u32>,
    /// Percent of one processor.
    pub cpu: Option<u32>,
}

/// How something that ran has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exited(status) => write!(f, "it ended with status {status}"),
            Ended::Signalled(signal) => write!(f, "it was ended by signal {signal}"),
        }
    }
}

/// What became of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is done; whether anything changed.
    Done(bool),
    /// It ran.
    Ended(Ended),
    /// It ends then.
    Ends(Timestamp),
    /// It was not done.
    Refused {
        /// Why, with its causes.
        why: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

impl Reply {
    /// The reply to what failed.
    pub fn refusal(error: &Error) -> Reply {
        Reply::Refused { why: error.one_line(), hint: error.innermost_hint().map(str::to_owned) }
    }

    /// What was done, or why not.
    pub fn result(self) -> Result<Reply> {
        match self {
            Reply::Refused { why, hint: Some(hint) } => Err(Error::new(why).hint(hint)),
            Reply::Refused { why, hint: None } => Err(Error::new(why)),
            reply => Ok(reply),
        }
    }
}
