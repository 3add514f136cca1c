//! Where everything of an app lies. Every path of it has its one home here; nobody else joins strings.

use std::path::PathBuf;

use super::layout::App;
use super::names::{ReleaseId, ReleaseName, Version};

impl App {
    /// The directory of all versions.
    pub fn versions(&self) -> PathBuf {
        self.directory().join("versions")
    }

    /// The directory of one version.
    pub fn version(&self, version: Version) -> PathBuf {
        self.versions().join(version.to_string())
    }

    /// The directory of a release.
    pub fn release(&self, id: &ReleaseId) -> PathBuf {
        self.version(id.version).join(id.name.as_str())
    }

    /// The record of a release, beside it.
    pub fn record(&self, id: &ReleaseId) -> PathBuf {
        self.version(id.version).join(format!("{}.toml", id.name))
    }

    /// The record that a failed release leaves.
    pub fn failed_record(&self, name: &ReleaseName) -> PathBuf {
        self.failed().join(format!("{name}.toml"))
    }

    /// The records of failed releases.
    pub fn failed(&self) -> PathBuf {
        self.state("failed")
    }

    /// The symlink to the live release.
    pub fn current(&self) -> PathBuf {
        self.directory().join("current")
    }

    /// The symlink to the release that was live before: pages that were loaded from it ask for its assets.
    pub fn previous(&self) -> PathBuf {
        self.state("previous")
    }

    /// The times of `[cron]` that hold, and the locks of what runs at them.
    pub fn cron(&self) -> PathBuf {
        self.state("run").join("cron")
    }

    /// Locked for as long as one of the app's previews is deployed: the others wait.
    pub fn turn(&self) -> PathBuf {
        self.state("run").join("previews")
    }

    /// The symlink in a version to its newest good release.
    pub fn last(&self, version: Version) -> PathBuf {
        self.version(version).join("last")
    }

    /// What outlives releases: uploads, `.env`.
    pub fn shared(&self) -> PathBuf {
        self.directory().join("shared")
    }

    /// What the server grants.
    pub fn server_config(&self) -> PathBuf {
        self.directory().join("receiver.toml")
    }

    /// A file or directory of receiver's own state.
    pub fn state(&self, name: &str) -> PathBuf {
        self.directory().join("receiver").join(name)
    }

    /// The lock: one permanent file, never unlinked.
    pub fn lock_file(&self) -> PathBuf {
        self.state("lock")
    }

    /// The append-only account of all that happened.
    pub fn journal(&self) -> PathBuf {
        self.state("journal.jsonl")
    }

    /// What follows from a long journal: only so that it need not be read.
    pub fn gist(&self) -> PathBuf {
        self.state("journal.gist")
    }

    /// Jobs that wait.
    pub fn queue(&self) -> PathBuf {
        self.state("queue")
    }

    /// The log of a job.
    pub fn log(&self, job: &str) -> PathBuf {
        self.state("logs").join(format!("{job}.jsonl"))
    }

    /// What is being done just now, for whoever has to finish or undo it after a death.
    pub fn underway(&self) -> PathBuf {
        self.state("underway.json")
    }

    /// Settings and secrets of the app's processes; 0600.
    pub fn environment_file(&self) -> PathBuf {
        self.state("secrets").join("env.json")
    }

    /// Last dumps of databases that were pruned.
    pub fn dumps(&self) -> PathBuf {
        self.state("dumps")
    }

    /// The sockets of what runs.
    pub fn run_app(&self) -> PathBuf {
        self.state("run").join("app")
    }

    /// The socket that one start of a web process listens on.
    pub fn socket(&self, start: &str) -> PathBuf {
        self.run_app().join(format!("{start}.sock"))
    }

    /// What is kept running, a file for each start; not the app's to write.
    pub fn processes(&self) -> PathBuf {
        self.state("run").join("processes")
    }

    /// What one start is, see `serve::start`.
    pub fn process(&self, start: &str) -> PathBuf {
        self.processes().join(format!("{start}.json"))
    }

    /// How a start fares, as receiver's own supervisor last wrote down.
    pub fn process_account(&self, start: &str) -> PathBuf {
        self.processes().join(format!("{start}.state"))
    }

    /// Locked for as long as receiver's own supervisor looks after a start.
    pub fn process_lock(&self, start: &str) -> PathBuf {
        self.processes().join(format!("{start}.lock"))
    }

    /// What processes print, a file for each name, where no journal keeps it.
    pub fn process_logs(&self) -> PathBuf {
        self.state("logs").join("processes")
    }

    /// What one process printed; what was there before stands beside it, its name ending in `.1`.
    pub fn process_log(&self, process: &str) -> PathBuf {
        self.process_logs().join(format!("{process}.log"))
    }

    /// The socket that nginx passes requests to: a link to what answers them.
    pub fn door(&self) -> PathBuf {
        self.state("door.sock")
    }

    /// In a release, the link to the socket of its web process.
    pub fn web_socket(&self, id: &ReleaseId) -> PathBuf {
        self.release(id).join(".receiver").join("web.sock")
    }

    /// Says that nothing is to run, until somebody wants it up.
    pub fn down(&self) -> PathBuf {
        self.state("down")
    }

    /// While it is there, nginx answers everything but files with it, and 503.
    pub fn maintenance(&self) -> PathBuf {
        self.state("maintenance.html")
    }

    /// The sockets at which versions that are not live are asked for: `N.sock`.
    pub fn version_sockets(&self) -> PathBuf {
        self.state("run").join("versions")
    }

    /// The socket at which a version is asked for.
    pub fn version_socket(&self, version: Version) -> PathBuf {
        self.version_sockets().join(format!("{version}.sock"))
    }

    /// Who may see versions that are not live; nginx's workers read it, so only hashes of long random
    /// passwords may be in it.
    pub fn version_passwords(&self) -> PathBuf {
        self.state("versions.htpasswd")
    }

    /// The sockets and accounts of those who hold requests at the door.
    pub fn holds(&self) -> PathBuf {
        self.state("run").join("hold")
    }

    /// The socket that one holder keeps requests on.
    pub fn hold_socket(&self, holder: &str) -> PathBuf {
        self.holds().join(format!("{holder}.sock"))
    }

    /// The socket that one holder and the worker speak over.
    pub fn hold_control(&self, holder: &str) -> PathBuf {
        self.holds().join(format!("{holder}.ctl"))
    }

    /// The directory of a version's own database (SQLite).
    pub fn database(&self, version: Version) -> PathBuf {
        self.state("databases").join(version.to_string())
    }

    /// The directory of the copy that a version is rehearsed on.
    pub fn rehearsal(&self, version: Version) -> PathBuf {
        self.state("databases").join(format!("{version}.rehearsal"))
    }

    /// The directory of the read-only snapshot that a migration reads the version before from.
    pub fn previous_snapshot(&self, version: Version) -> PathBuf {
        self.state("databases").join(format!("{version}.previous"))
    }

    /// The directory of what a framework is asked on.
    pub fn question(&self, version: Version) -> PathBuf {
        self.state("databases").join(format!("{version}.question"))
    }

    /// What somebody is to be told of.
    pub fn notices(&self) -> PathBuf {
        self.state("notices")
    }

    /// The keys that came with a restored app, until they are brought.
    pub fn carried_keys(&self) -> PathBuf {
        self.state("secrets").join("carried-keys.toml")
    }

    /// What the first release begins with, where the app was restored or adopted.
    pub fn beginning(&self) -> PathBuf {
        self.state("beginning")
    }

    /// The directory of what a dump is loaded into first.
    pub fn loading(&self, version: Version) -> PathBuf {
        self.state("databases").join(format!("{version}.loading"))
    }

    /// The passwords of the roles of databases on a server, a file for each; 0700.
    pub fn database_secrets(&self) -> PathBuf {
        self.state("secrets").join("databases")
    }

    /// The directory of a throw-away copy for what the process `pid` runs beside what is live.
    pub fn beside(&self, version: Version, pid: u32) -> PathBuf {
        self.state("databases").join(format!("{version}.beside-{pid}"))
    }

    /// Where the spare lies, under the name of the release that it was: a tree that the next deploy takes over.
    pub fn spare(&self) -> PathBuf {
        self.state("spare")
    }

    /// What the exports of releases and of the spare wrote, a file for each; no application may write here.
    pub fn manifests(&self) -> PathBuf {
        self.state("manifests")
    }

    /// What the export of a release wrote.
    pub fn manifest(&self, release: &ReleaseName) -> PathBuf {
        self.manifests().join(release.as_str())
    }

    /// What was renamed out of `versions/` and is deleted when nobody waits.
    pub fn trash(&self) -> PathBuf {
        self.state("trash")
    }

    /// Mirrors of the repositories that are granted as submodules.
    pub fn submodules(&self) -> PathBuf {
        self.state("submodules")
    }

    /// The directories that every app has, with their permission bits.
    pub fn directories(&self) -> Vec<(PathBuf, u32)> {
        vec![
            (self.versions(), 0o755),
            (self.shared(), 0o755),
            (self.directory().join("receiver"), 0o711),
            (self.queue(), 0o700),
            (self.state("logs"), 0o700),
            (self.failed(), 0o700),
            (self.state("secrets"), 0o700),
            (self.dumps(), 0o700),
            (self.state("run"), 0o711),
            (self.run_app(), 0o711),
            (self.processes(), 0o711),
            (self.holds(), 0o711),
            (self.state("databases"), 0o711),
            (self.spare(), 0o700),
            (self.manifests(), 0o700),
            (self.trash(), 0o700),
        ]
    }
}
