//! A world of its own for each test: a root, a laptop with a repository, and the program.
//!
//! Nothing of the machine's own git configuration or environment reaches it. When a test fails, the
//! tree on disk is printed with the last output.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::system::{self, System};

/// The program that is tested.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_receiver");

/// What a program did.
#[derive(Debug, Clone)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn of(output: &Output) -> Said {
        use std::os::unix::process::ExitStatusExt;
        Said {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Everything that was said.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Everything that was said on stderr, without git's `remote: ` and the blanks that it adds.
    pub fn talk(&self) -> String {
        let lines = self.stderr.lines().map(|line| line.strip_prefix("remote: ").unwrap_or(line).trim_end());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The same with times, hashes and temporary paths made equal, so that whole output can be compared.
    pub fn plain(&self, world: &World) -> String {
        plain(&self.talk(), world)
    }

    #[track_caller]
    pub fn ok(self) -> Said {
        assert_eq!(self.code, 0, "\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn fails(self, code: i32) -> Said {
        assert_eq!(self.code, code, "\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn says(self, part: &str) -> Said {
        let all = format!("{}{}", self.stdout, self.talk());
        assert!(all.contains(part), "it does not say {part:?}:\n{all}");
        self
    }

    #[track_caller]
    pub fn never_says(self, part: &str) -> Said {
        let all = format!("{}{}", self.stdout, self.talk());
        assert!(!all.contains(part), "it says {part:?}:\n{all}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// `text` with release names as `RELEASE`, short and long hashes as `HASH`, seconds as `N s`, paths as `ROOT`.
pub fn plain(text: &str, world: &World) -> String {
    let text = text.replace(&world.root().display().to_string(), "ROOT");
    let mut out = String::new();
    for line in text.lines() {
        let mut words = Vec::new();
        for word in line.split(' ') {
            words.push(plain_word(word));
        }
        let line = words.join(" ");
        // `   0.04 s` at the end, with the blanks before it.
        let line = match line.strip_suffix(" s").and_then(|rest| rest.rsplit_once(' ')) {
            Some((before, figure)) if figure.parse::<f64>().is_ok() => format!("{} N s", before.trim_end()),
            _ => line,
        };
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn plain_word(word: &str) -> String {
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let core = word.trim_end_matches([';', ',', ':', '`']);
    let tail = &word[core.len()..];
    if let Some((version, name)) = core.split_once('/')
        && name.len() == 29
        && name.as_bytes()[8] == b'T'
    {
        return format!("{version}/RELEASE{tail}");
    }
    if core.len() == 29 && core.as_bytes()[8] == b'T' && core.as_bytes()[15] == b'Z' {
        return format!("RELEASE{tail}");
    }
    if let Some((old, new)) = core.split_once("..")
        && is_hex(new)
        && new.len() == 7
    {
        let old = if is_hex(old) && old.len() == 7 { "HASH" } else { old };
        return format!("{old}..HASH{tail}");
    }
    if is_hex(core)
        && [7, 12, 40].contains(&core.len())
        && core.bytes().any(|b| b.is_ascii_alphabetic() || b.is_ascii_digit())
    {
        return format!("HASH{tail}");
    }
    word.to_owned()
}

pub struct World {
    place: TempDir,
    /// Added to the environment of everything that is started.
    pub env: BTreeMap<String, String>,
    /// What its laptop pushes with.
    pub system: System,
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}

impl World {
    /// An empty root, and a laptop with an empty repository on `main`.
    pub fn new() -> World {
        World::at(TempDir::with_prefix("receiver-test-").unwrap())
    }

    pub fn at(place: TempDir) -> World {
        let world = World { place, env: BTreeMap::new(), system: System::now() };
        std::fs::create_dir(world.laptop()).unwrap();
        std::fs::create_dir(world.place.path().join("home")).unwrap();
        world.make_laptop();
        world
    }

    /// The same, with an app called `app` and the laptop's remote `production`.
    pub fn with_app() -> World {
        let world = World::new();
        world.create_app();
        world.remote("app");
        world
    }

    /// With a static site that is pushed and live.
    pub fn with_site() -> World {
        let world = World::with_app();
        world.file("index.html", "one\n");
        world.commit("one");
        world.push().ok();
        world
    }

    /// With plain SQL stages on SQLite, pushed and live: `schema.sql` makes, `from-previous.sql` carries.
    pub fn with_sql() -> World {
        let world = World::with_app();
        world.file(
            "receiver.toml",
            "[stages]\nsyncdb = { sql = [\"schema.sql\"] }\nmigration = { sql = [\"from-previous.sql\"] }\n\
             [database]\nengine = \"sqlite\"\ncarry = \"empty\"\n",
        );
        world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n");
        world.file("from-previous.sql", "INSERT INTO note (id, text) SELECT id, text FROM previous.note;\n");
        world.file("index.html", "one\n");
        world.commit("one");
        world.push().ok();
        world
    }

    pub fn place(&self) -> &Path {
        self.place.path()
    }

    pub fn laptop(&self) -> PathBuf {
        self.place.path().join("laptop")
    }

    pub fn root(&self) -> PathBuf {
        self.place.path().join("srv")
    }

    /// The directory of the app called `app`.
    pub fn app(&self) -> PathBuf {
        self.root().join("app")
    }

    /// A command in this world: its own home, no configuration of the machine's.
    pub fn command(&self, program: &str, place: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(place);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.place.path().join("home")).env("LANG", "C.UTF-8").env("USER", "ada");
        command.env("RECEIVER_ROOT", self.root());
        system::environment(&mut command);
        command.envs(&self.env).stdin(Stdio::null());
        command
    }

    pub fn run(&self, program: &str, place: &Path, arguments: &[&str]) -> Said {
        Said::of(&self.command(program, place).args(arguments).output().unwrap())
    }

    /// `receiver …`, with stdout and stderr apart.
    pub fn receiver(&self, arguments: &[&str]) -> Said {
        self.run(PROGRAM, self.place.path(), arguments)
    }

    /// `receiver … < input`.
    pub fn receiver_fed(&self, arguments: &[&str], input: &[u8]) -> Said {
        use std::io::Write;
        let mut command = self.command(PROGRAM, self.place.path());
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        Said::of(&output)
    }

    /// `git …` on the laptop.
    pub fn git(&self, arguments: &[&str]) -> Said {
        self.run("git", &self.laptop(), arguments)
    }

    pub fn file(&self, name: &str, text: &str) -> &World {
        self.bytes(name, text.as_bytes())
    }

    pub fn bytes(&self, name: &str, bytes: &[u8]) -> &World {
        let path = self.laptop().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    pub fn remove(&self, name: &str) -> &World {
        std::fs::remove_file(self.laptop().join(name)).unwrap();
        self
    }

    /// A push that goes on in the background.
    pub fn push_in_background(&self) -> Child {
        let mut command = self.push_command(&[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// A program that goes on in the background, its output kept for [`World::end`].
    pub fn start(&self, program: &str, arguments: &[&str]) -> Child {
        let mut command = match (program, arguments) {
            ("git", ["push", "--quiet", what @ ..]) => self.push_command(what),
            ("git", _) => self.command(program, &self.laptop()),
            _ => self.command(program, self.place()),
        };
        if !arguments.starts_with(&["push"]) {
            command.args(arguments);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// What a program in the background did; fails where it does not end in time.
    #[track_caller]
    pub fn end(&self, child: Child, seconds: u64) -> Said {
        let (sender, ended) = std::sync::mpsc::channel();
        let pid = child.id();
        std::thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = ended.recv_timeout(Duration::from_secs(seconds)) else {
            panic!("process {pid} did not end within {seconds} s\n{}", self.picture());
        };
        self.understood(Said::of(&output.unwrap()))
    }

    /// The journal's verdicts, oldest first: job, outcome, why.
    pub fn verdicts(&self) -> Vec<Value> {
        let journal = std::fs::read_to_string(self.app().join("receiver/journal.jsonl")).unwrap();
        let entries = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        entries.filter(|entry| entry["event"] == "verdict").collect()
    }

    /// Names in a directory of the app, sorted; none where it is not there.
    pub fn names(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.app().join(directory)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Nothing is left over: no job, no account of one, nothing half made, no database without a version.
    #[track_caller]
    pub fn nothing_is_left_over(&self) {
        // Prune comes after the verdict.
        self.until_idle();
        let none: [String; 0] = [];
        assert_eq!(self.names("receiver/queue"), none, "the queue\n{}", self.picture());
        assert!(!self.app().join("receiver/underway.json").exists(), "{}", self.picture());
        let mut versions = self.names("versions");
        for version in &versions {
            for name in self.names(&format!("versions/{version}")) {
                let release = name.strip_suffix(".toml").unwrap_or(&name);
                let place = self.app().join("versions").join(version);
                let whole = place.join(release).is_dir() && place.join(format!("{release}.toml")).is_file();
                assert!(whole || name == "last", "{version}/{name}\n{}", self.picture());
            }
        }
        let mut databases = self.names("receiver/databases");
        databases.retain(|name| !versions.contains(name));
        assert_eq!(databases, none, "databases without a version\n{}", self.picture());
        versions.push("..".to_owned());
        let places = [".", "receiver", "receiver/failed"].map(str::to_owned);
        for place in versions.iter().map(|version| format!("versions/{version}")).chain(places) {
            let half: Vec<String> =
                self.names(&place).into_iter().filter(|name| name.starts_with(".receiver-new-")).collect();
            assert_eq!(half, none, "{place}\n{}", self.picture());
        }
        self.until(20, "the trash to be emptied", || self.names("receiver/trash").is_empty());
    }

    pub fn list(&self) -> Value {
        self.receiver(&["list", "app", "--json"]).ok().json()
    }

    pub fn status(&self) -> Value {
        self.receiver(&["status", "app", "--json"]).ok().json()["apps"][0].clone()
    }

    /// The id of what is live, by the symlink itself.
    pub fn live(&self) -> Option<String> {
        let target = std::fs::read_link(self.app().join("current")).ok()?;
        Some(target.strip_prefix("versions").unwrap().display().to_string())
    }

    /// What is live is a complete release, as its record says, and the link leads to it.
    #[track_caller]
    pub fn live_is_complete(&self) {
        let list = self.list();
        let all = list["releases"].as_array().unwrap();
        let live = all.iter().find(|release| release["id"] == list["current"]).expect("current is listed");
        assert_eq!(live["state"], "live", "{}", self.picture());
        assert!(Path::new(live["path"].as_str().unwrap()).join("index.html").is_file());
    }

    /// The states of all releases, newest first: `["live", "good"]`.
    pub fn states(&self) -> Vec<String> {
        let releases = self.list()["releases"].as_array().unwrap().clone();
        releases.iter().map(|release| release["state"].as_str().unwrap().to_owned()).collect()
    }

    /// The text of a file of the live release.
    pub fn live_file(&self, name: &str) -> String {
        std::fs::read_to_string(self.app().join("current").join(name)).unwrap()
    }

    /// The path of a version's database.
    pub fn database(&self, version: u32) -> PathBuf {
        self.app().join(format!("receiver/databases/{version}/app_v{version}.sqlite3"))
    }

    /// Statements by `receiver db app shell`, and what they print.
    pub fn sql(&self, statements: &str) -> String {
        self.receiver_fed(&["db", "app", "shell"], statements.as_bytes()).ok().stdout
    }

    /// Waits until `done` is true; fails after `seconds`.
    #[track_caller]
    pub fn until(&self, seconds: u64, what: &str, mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(
                begun.elapsed() < Duration::from_secs(seconds),
                "waited {seconds} s for {what}\n{}",
                self.picture()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until nobody works and nothing waits.
    #[track_caller]
    pub fn until_idle(&self) {
        self.until(60, "the worker to end", || {
            let status = self.status();
            let empty = std::fs::read_dir(self.app().join("receiver/queue"))
                .is_ok_and(|mut all| all.next().is_none());
            let lock = std::fs::File::open(self.app().join("receiver/lock")).unwrap();
            status["deploying"].is_null()
                && empty
                && !self.app().join("receiver/underway.json").exists()
                && rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared).is_ok()
        });
    }

    /// All that is in the app's directory but the repository, for when a test fails.
    pub fn picture(&self) -> String {
        let output = Command::new("find")
            .arg(self.root())
            .args(["-path", "*/repo.*/*", "-prune", "-o", "-print"])
            .output();
        let tree =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let journal = std::fs::read_to_string(self.app().join("receiver/journal.jsonl")).unwrap_or_default();
        format!("{tree}\n{journal}")
    }
}

impl World {
    /// Everything that was started in this world dies at once, as by a power cut.
    pub fn kill_everything(&self) {
        let place = self.place.path().as_os_str().as_bytes();
        let me = std::process::id();
        for _ in 0..200 {
            let mut found = false;
            for process in std::fs::read_dir("/proc").unwrap().flatten() {
                let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                    continue;
                };
                let names = |file: &str| {
                    std::fs::read(process.path().join(file))
                        .is_ok_and(|text| text.windows(place.len()).any(|part| part == place))
                };
                if pid != me && (names("environ") || names("cmdline")) {
                    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
                    found |= rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok();
                }
            }
            if !found {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("what was killed does not end");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let apps = std::fs::read_dir(self.root()).into_iter().flatten().flatten();
        let runs = |place: PathBuf| std::fs::read_dir(place).is_ok_and(|mut all| all.next().is_some());
        if apps
            .map(|app| app.path().join("receiver/run"))
            .any(|run| runs(run.join("processes")) || runs(run.join("cron")))
        {
            self.kill_everything();
        }
        if std::thread::panicking() {
            eprintln!("the world when it failed:\n{}", self.picture());
        }
    }
}
