//! Processes under systemd: the system's own manager where we are root, else this user's, which outlives
//! logins.
//!
//! The units are constant templates; what differs between starts stands in the file of the start, or
//! is a number.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::geteuid;

use super::builtin::Account;
use super::start::{Purpose, Start, StartId};
use super::supervision::{Condition, GLANCE, State, Supervisor};
use super::{family, journald};
use crate::app::App;
use crate::root::{self, Request, Tether};
use crate::support::{Context, Error, Result, files, program};

/// The first systemd that lets pauses grow (`RestartSteps=`, systemd.service(5)).
const GROWING_PAUSES: u32 = 254;

/// The longest name of a unit, in bytes (`UNIT_NAME_MAX`).
const LONGEST_UNIT: usize = 255;

/// Whose systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// The system's.
    System,
    /// This user's.
    User,
}

impl Manager {
    /// The one that keeps what this user starts, where there is one that outlives logins.
    pub fn here() -> Option<Manager> {
        if !Path::new("/run/systemd/system").is_dir() {
            return None;
        }
        if geteuid().is_root() {
            return Some(Manager::System);
        }
        lingering().then_some(Manager::User)
    }

    /// The one that keeps what this app starts. An app with a user of its own has the system's, by way of root.
    pub fn of(app: &App) -> Option<Manager> {
        if app.user().is_some() { Some(Manager::System) } else { Manager::here() }
    }

    /// `systemctl`, `journalctl` or `systemd-run` for it.
    pub fn command(self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.stdin(Stdio::null()).env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "");
        if self == Manager::User {
            command.arg("--user").env("XDG_RUNTIME_DIR", runtime());
        }
        command
    }

    /// Runs `systemctl` and returns what it printed.
    pub(super) fn ask(self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command("systemctl");
        let output = command.args(arguments).output().context(|| "cannot start systemctl")?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        Err(Error::new(format!("systemctl {}: {said}", arguments[0])))
    }

    /// Where its units are written.
    pub fn units(self) -> Result<PathBuf> {
        if self == Manager::System {
            return Ok(PathBuf::from("/etc/systemd/system"));
        }
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
        let config = config.or(home).filter(|path| path.is_absolute());
        Ok(config.ok_or_else(|| Error::new("HOME is not set"))?.join("systemd/user"))
    }

    /// Where `set-property --runtime` writes to.
    fn control(self) -> PathBuf {
        match self {
            Manager::System => PathBuf::from("/run/systemd/system.control"),
            Manager::User => PathBuf::from(runtime()).join("systemd/user.control"),
        }
    }

    /// The journal's field with the unit that a process belongs to, written by journald itself.
    pub fn unit_field(self) -> &'static str {
        match self {
            Manager::System => "_SYSTEMD_UNIT",
            Manager::User => "_SYSTEMD_USER_UNIT",
        }
    }

    /// Writes our units where they are missing or differ, and has what was live under `root` come up with
    /// the machine.
    pub fn prepare(self, root: &Path) -> Result<()> {
        let units = self.units()?;
        let program = program::program()?;
        let version = self.version()?;
        let mut changed = false;
        let process = include_str!("units/receiver-process@.service");
        let up = include_str!("units/receiver-up@.service");
        for (name, text) in [("receiver-process@.service", process), ("receiver-up@.service", up)] {
            let text = self.fill(text, &program, version)?;
            let path = units.join(name);
            if files::read_text(&path).ok().flatten().as_deref() != Some(&text) {
                files::make_directory(&units, 0o755)?;
                files::write_atomic(&path, text.as_bytes(), 0o644)?;
                changed = true;
            }
        }
        if changed {
            self.ask(&["daemon-reload"])?;
        }
        let up = boot_unit(root);
        if !files::exists(&units.join(format!("{}.wants", self.boot())).join(&up)) {
            self.ask(&["enable", "--quiet", &up])?;
        }
        Ok(())
    }

    /// The units of a server that setup made, and that is pushed to as `door`: their names and texts.
    pub fn units_of_a_server(self, door: &str) -> Result<Vec<(&'static str, String)>> {
        let texts = [
            ("receiver-command.socket", include_str!("units/receiver-command.socket")),
            ("receiver-command@.service", include_str!("units/receiver-command@.service")),
            ("receiver-root.socket", include_str!("units/receiver-root.socket")),
            ("receiver-root@.service", include_str!("units/receiver-root@.service")),
            ("receiver-work@.path", include_str!("units/receiver-work@.path")),
            ("receiver-work@.service", include_str!("units/receiver-work@.service")),
            ("receiver-process@.service", include_str!("units/receiver-process@.service")),
            ("receiver-up@.service", include_str!("units/receiver-up@.service")),
        ];
        let program = program::program()?;
        // Where there is no systemd to be asked, the oldest that we know of.
        let version = self.version().unwrap_or(0);
        let filled = |text: &str| self.fill(text, &program, version).map(|text| text.replace("@DOOR@", door));
        texts.into_iter().map(|(name, text)| Ok((name, filled(text)?))).collect()
    }

    fn boot(self) -> &'static str {
        if self == Manager::System { "multi-user.target" } else { "default.target" }
    }

    fn fill(self, template: &str, program: &Path, version: u32) -> Result<String> {
        let program = program
            .to_str()
            .filter(|path| path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+@".contains(&b)));
        let program = program
            .ok_or_else(|| Error::new("the path of this program cannot stand in a unit of systemd"))
            .map_err(|error| error.hint("install it at /usr/local/bin/receiver"))?;
        let pauses = if version >= GROWING_PAUSES {
            "RestartSec=100ms\nRestartSteps=9\nRestartMaxDelaySec=30s"
        } else {
            "RestartSec=1s"
        };
        let text = template.replace("@RECEIVER@", program).replace("@PAUSES@", pauses);
        let text = text.replace("@BOOT@", self.boot());
        Ok(match text.split_once("# What only the system's own manager can do:") {
            Some((all, _)) if self == Manager::User => all.to_owned(),
            _ => text,
        })
    }

    fn version(self) -> Result<u32> {
        let text = self.ask(&["--version"])?;
        let number = text.split_whitespace().nth(1).and_then(|number| {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        number.ok_or_else(|| Error::new("systemctl does not say which version it is"))
    }
}

/// Whether this user has a systemd of its own that outlives logins.
pub fn lingering() -> bool {
    Path::new("/var/lib/systemd/linger").join(crate::support::user_name()).exists()
        && Path::new(&runtime()).join("systemd/private").exists()
}

fn runtime() -> String {
    format!("/run/user/{}", geteuid().as_raw())
}

/// A path as the instance of a unit, as `systemd-escape --path` writes it (systemd.unit(5)).
pub fn escape(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let bytes = bytes.strip_prefix(b"/").unwrap_or(bytes);
    let mut name = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b if b.is_ascii_alphanumeric() || b":_.".contains(b) => name.push(char::from(*b)),
            b => drop(write!(name, "\\x{b:02x}")),
        }
    }
    if name.is_empty() { "-".to_owned() } else { name }
}

/// The unit of a start, by its file.
pub fn unit(file: &Path) -> String {
    format!("receiver-process@{}.service", escape(file))
}

/// The unit that looks at an app's queue.
pub fn queue_unit(app: &App) -> String {
    format!("receiver-work@{}.path", escape(app.directory()))
}

/// The unit that starts at boot what was live under a root.
pub fn boot_unit(root: &Path) -> String {
    format!("receiver-up@{}.service", escape(root))
}

/// Whether systemd takes the name of a start's unit.
pub fn takes(file: &Path) -> bool {
    unit(file).len() <= LONGEST_UNIT
}

/// Whether what root does for an app has to be asked for: it has a user of its own, and we are not root.
pub fn must_ask(app: &App) -> bool {
    !geteuid().is_root() && app.user().is_some()
}

/// What ties the starts that run beside what is live to this process.
static TETHERS: Mutex<BTreeMap<StartId, Tether>> = Mutex::new(BTreeMap::new());

/// Systemd, for the processes of one app.
#[derive(Debug)]
pub struct Systemd {
    app: App,
    manager: Manager,
}

impl Systemd {
    /// One of its managers, for an app.
    pub fn of(app: &App, manager: Manager) -> Systemd {
        Systemd { app: app.clone(), manager }
    }

    fn unit(&self, start: &Start) -> String {
        unit(&start.file(&self.app))
    }

    /// Whether units are another's to start and stop.
    fn asks_root(&self) -> bool {
        must_ask(&self.app)
    }

    /// Has root start it. What runs beside what is live ends with this process, or when it is stopped.
    fn ask_to_start(&self, start: &Start) -> Result<()> {
        let (app, name) = (self.app.name().clone(), start.id.to_string());
        if start.purpose != Purpose::Beside {
            return root::ask(&Request::Start { app, start: name, tether: false }).map(drop);
        }
        let tether = root::tether(&Request::Start { app, start: name, tether: true })?;
        if let Ok(mut tethers) = TETHERS.lock() {
            tethers.insert(start.id.clone(), tether);
        }
        Ok(())
    }

    fn show(&self, start: &Start) -> Result<Shown> {
        let properties =
            "--property=ActiveState,SubState,MainPID,MemoryCurrent,NRestarts,StateChangeTimestamp";
        let text = self.manager.ask(&["show", properties, "--timestamp=unix", "--", &self.unit(start)])?;
        Ok(Shown(text))
    }

    fn limit(&self, start: &Start) -> Result<()> {
        let mut properties = Vec::new();
        properties.extend(start.memory.map(|bytes| format!("MemoryMax={bytes}")));
        properties.extend(start.tasks.map(|tasks| format!("TasksMax={tasks}")));
        properties.extend(start.cpu.map(|percent| format!("CPUQuota={percent}%")));
        if properties.is_empty() {
            return Ok(());
        }
        let unit = self.unit(start);
        let mut arguments = vec!["set-property", "--runtime", "--", unit.as_str()];
        arguments.extend(properties.iter().map(String::as_str));
        self.manager.ask(&arguments).map(drop)
    }
}

struct Shown(String);

impl Shown {
    fn get(&self, name: &str) -> &str {
        let of = |line: &'_ str| line.split_once('=').is_some_and(|(key, _)| key == name);
        self.0.lines().find(|line| of(line)).map_or("", |line| &line[name.len() + 1..])
    }

    fn state(&self) -> State {
        match (self.get("ActiveState"), self.get("SubState")) {
            ("active" | "reloading", _) | ("activating", "start") => State::Running,
            ("activating", _) => State::Restarting,
            ("deactivating", _) => State::Stopping,
            _ => State::Stopped,
        }
    }
}

impl Supervisor for Systemd {
    fn start(&self, start: &Start) -> Result<()> {
        if self.asks_root() {
            return self.ask_to_start(start);
        }
        self.manager.prepare(self.app.root())?;
        self.limit(start)?;
        self.manager
            .ask(&["start", "--", &self.unit(start)])
            .map(drop)
            .map_err(|error| Error::new(format!("cannot start {}", start.process)).caused_by(error))
    }

    fn condition(&self, start: &Start) -> Result<Condition> {
        let shown = self.show(start)?;
        let number = |name: &str| shown.get(name).parse::<u64>().ok();
        let pid = number("MainPID").and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let since = shown.get("StateChangeTimestamp").strip_prefix('@').and_then(|text| text.parse().ok());
        Ok(Condition {
            state: shown.state(),
            pid,
            // Where nothing is counted for the unit, as in many containers, its processes are asked.
            memory: number("MemoryCurrent")
                .filter(|bytes| *bytes < u64::MAX && shown.state() == State::Running)
                .or_else(|| pid.and_then(family::memory)),
            restarts: number("NRestarts").and_then(|number| u32::try_from(number).ok()).unwrap_or(0),
            since: since.and_then(|seconds| Timestamp::from_second(seconds).ok()),
            last_end: Account::read(&self.app, start).and_then(|account| account.last_end),
        })
    }

    fn stop(&self, start: &Start) -> Result<()> {
        if self.asks_root() {
            let request = Request::Stop { app: self.app.name().clone(), start: start.id.to_string() };
            // Whoever drains what is retired may have ended it meanwhile, and forgotten it.
            let stopped = match root::ask(&request) {
                Err(_) if !files::exists(&self.app.process(start.id.as_str())) => Ok(()),
                stopped => stopped.map(drop),
            };
            if let Ok(mut tethers) = TETHERS.lock() {
                tethers.remove(&start.id);
            }
            return stopped;
        }
        let unit = self.unit(start);
        if self.show(start)?.state() != State::Stopped {
            self.manager.ask(&["stop", "--no-block", "--", &unit])?;
        }
        let begun = Instant::now();
        let mut killed = false;
        while self.show(start)?.state() != State::Stopped {
            if !killed && begun.elapsed() > start.patience {
                killed = true;
                // It may end just now.
                let _ = self.manager.ask(&["kill", "--signal=SIGKILL", "--", &unit]);
            }
            if begun.elapsed() > start.patience + Duration::from_secs(60) {
                return Err(Error::new(format!("systemd does not end {}", start.id))
                    .hint(format!("look at it: `systemctl status '{unit}'`")));
            }
            std::thread::sleep(GLANCE);
        }
        files::remove_tree(&self.manager.control().join(format!("{unit}.d")))
    }

    fn last_output(&self, start: &Start, lines: usize) -> Result<Vec<String>> {
        journald::last_of(self.manager, &self.app, start, lines)
    }
}

/// Writes down how a process ended, as systemd tells whoever it runs then (`EXIT_CODE` and
/// `EXIT_STATUS`, systemd.exec(5)).
pub fn ended(app: &App, start: &Start, code: &str, status: &str) -> Result<()> {
    let how = match code {
        "exited" => format!("exited with status {status}"),
        _ => format!("was ended by signal {}", signal_number(status)),
    };
    Account { last_end: Some(how), ..Account::begin() }.write(app, start)
}

fn signal_number(name: &str) -> i32 {
    let named = |number: &i32| {
        signal_hook::low_level::signal_name(*number).and_then(|full| full.strip_prefix("SIG")) == Some(name)
    };
    name.parse().ok().or_else(|| (1..65).find(named)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_escaped_as_systemd_does() {
        for (path, name) in [
            (
                "/srv/app/receiver/run/processes/web-0a1b2c3d.json",
                "srv-app-receiver-run-processes-web\\x2d0a1b2c3d.json",
            ),
            ("/", "-"),
            ("/.a b/ü", "\\x2ea\\x20b-\\xc3\\xbc"),
        ] {
            assert_eq!(escape(Path::new(path)), name);
        }
    }

    #[test]
    fn signals_are_known_by_the_names_that_systemd_has_for_them() {
        assert_eq!((signal_number("KILL"), signal_number("TERM"), signal_number("SEGV")), (9, 15, 11));
    }

    #[test]
    fn a_users_unit_asks_for_nothing_that_only_the_systems_manager_can_do() {
        let text = include_str!("units/receiver-process@.service");
        let program = Path::new("/usr/local/bin/receiver");
        let system = Manager::System.fill(text, program, 252).unwrap();
        let user = Manager::User.fill(text, program, 254).unwrap();
        assert!(system.contains("ProtectSystem=full") && !user.contains("Protect"));
        assert!(system.contains("RestartSec=1s\n") && user.contains("RestartSteps=9"));
        assert!(!system.contains('@') || !system.replace("receiver-process@", "").contains("@PAUSES"));
        assert!(Manager::System.fill(text, Path::new("/opt/a b/receiver"), 252).is_err());
    }
}
