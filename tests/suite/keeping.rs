//! What keeps a process running: the same on receiver's own supervisor and, in a booted server, on systemd.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{PROGRAM, Said, World};

/// A machine with an app called `app` on it that is live.
pub trait Machine {
    /// `receiver …` there.
    fn receiver(&self, arguments: &[&str]) -> Said;
    /// A shell script there.
    fn sh(&self, script: &str) -> Said;
    /// What helps when a test fails.
    fn picture(&self) -> String;
}

impl Machine for World {
    fn receiver(&self, arguments: &[&str]) -> Said {
        World::receiver(self, arguments)
    }

    fn sh(&self, script: &str) -> Said {
        self.run("sh", self.place(), &["-c", script])
    }

    fn picture(&self) -> String {
        let logs = self.app().join("receiver/logs/processes");
        let logs = self.run("sh", self.place(), &["-c", &format!("tail -n 30 {}/*.log", logs.display())]);
        format!("{}\n{}", logs.stdout, World::picture(self))
    }
}

/// One start of one process; it is stopped with the test.
pub struct Kept<'a> {
    machine: &'a dyn Machine,
    pub file: String,
}

impl Kept<'_> {
    pub fn begin<'a>(machine: &'a dyn Machine, command: &str, more: &[&str]) -> Kept<'a> {
        let mut arguments = vec!["process", "begin", "app", "mailer", command];
        arguments.extend(more);
        let file = machine.receiver(&arguments).ok().stdout.trim().to_owned();
        Kept { machine, file }
    }

    pub fn start<'a>(machine: &'a dyn Machine, command: &str, more: &[&str]) -> Kept<'a> {
        let kept = Kept::begin(machine, command, more);
        machine.receiver(&["process", "start", &kept.file]).ok();
        kept
    }

    pub fn condition(&self) -> Value {
        self.machine.receiver(&["process", "condition", &self.file, "--json"]).ok().json()
    }

    pub fn output(&self) -> String {
        self.machine.receiver(&["process", "output", &self.file]).ok().stdout
    }

    pub fn stop(&self) {
        self.machine.receiver(&["process", "stop", &self.file]).ok();
    }

    #[track_caller]
    pub fn until(&self, seconds: u64, what: &str, mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(
                begun.elapsed() < Duration::from_secs(seconds),
                "waited {seconds} s for {what}\n{}\n{}",
                self.condition(),
                self.machine.picture()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub fn until_state(&self, state: &str) -> Value {
        self.until(20, state, || self.condition()["state"] == state);
        self.condition()
    }

    /// All that has this start's name in its environment.
    pub fn alive(&self) -> String {
        let id = self.file.rsplit('/').next().unwrap().strip_suffix(".json").unwrap();
        let script = format!(
            "for e in /proc/[0-9]*/environ; do tr '\\0' '\\n' < $e 2>/dev/null | grep -qx 'RECEIVER_START={id}' \
             && ps -o pid=,args= -p $(basename $(dirname $e)); done; true"
        );
        self.machine.sh(&script).stdout
    }

    #[track_caller]
    pub fn nothing_is_left(&self) {
        self.until(10, "all of it to be gone", || self.alive().is_empty());
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let said = self.machine.receiver(&["process", "stop", &self.file]);
        if !std::thread::panicking() {
            said.ok();
            self.nothing_is_left();
        }
    }
}

pub fn it_is_kept_running_until_it_is_stopped(machine: &dyn Machine) {
    let kept = Kept::start(machine, "echo up; exec sleep 600", &[]);
    let running = kept.until_state("running");
    kept.until(10, "its output", || kept.output() == "up\n");
    assert!(running["memory"].as_u64().is_some(), "{running}");
    // A second start of what is looked after is none.
    machine.receiver(&["process", "start", &kept.file]).ok();
    assert_eq!(kept.condition()["pid"], running["pid"]);
    kept.stop();
    let stopped = kept.condition();
    assert_eq!(stopped["state"], "stopped");
    assert_eq!((&stopped["pid"], &stopped["restarts"]), (&Value::Null, &Value::from(0)));
    kept.nothing_is_left();
}

pub fn a_process_that_dies_is_started_again(machine: &dyn Machine) {
    let kept = Kept::start(machine, "echo up; exec sleep 600", &[]);
    let first = kept.until_state("running")["pid"].clone();
    kept.until(10, "it to be what it is to be", || kept.output() == "up\n");
    machine.sh(&format!("kill -9 {first}")).ok();
    kept.until(20, "another process", || {
        let condition = kept.condition();
        condition["state"] == "running" && condition["pid"] != first
    });
    let again = kept.condition();
    assert_eq!(again["restarts"], 1, "{again}");
    assert_eq!(again["last_end"], "was ended by signal 9", "{again}");
}

pub fn a_command_that_does_not_exist_is_tried_with_growing_pauses(machine: &dyn Machine) {
    let kept = Kept::start(machine, "no-such-command-anywhere", &[]);
    kept.until(20, "another try", || kept.condition()["restarts"].as_u64() >= Some(2));
    let condition = kept.until_state("restarting");
    assert_eq!(condition["last_end"], "exited with status 127", "{condition}");
    assert!(kept.output().contains("no-such-command-anywhere: not found"), "{}", kept.output());
    kept.stop();
    assert_eq!(kept.condition()["state"], "stopped");
}

pub fn a_command_that_exits_0_at_once_is_no_running_process(machine: &dyn Machine) {
    let kept = Kept::start(machine, "exit 0", &[]);
    kept.until(20, "another try", || kept.condition()["restarts"].as_u64() >= Some(1));
    assert_eq!(kept.condition()["last_end"], "exited with status 0");
}

pub fn what_forks_into_the_background_is_ended_with_its_command(machine: &dyn Machine) {
    let kept = Kept::start(machine, "setsid sleep 600 & exit 0", &[]);
    kept.until(20, "another try", || kept.condition()["restarts"].as_u64() >= Some(2));
    kept.until_state("restarting");
    kept.stop();
    assert_eq!(kept.alive(), "");
}

pub fn a_process_that_ignores_sigterm_is_killed_when_patience_is_over(machine: &dyn Machine) {
    let command = "trap '' TERM; echo deaf; while :; do sleep 600; done";
    let kept = Kept::start(machine, command, &["--patience", "0.5"]);
    kept.until(10, "it to be deaf", || kept.output() == "deaf\n");
    kept.stop();
    assert_eq!(kept.condition()["state"], "stopped");
    assert_eq!(kept.alive(), "");
}

pub fn a_process_may_end_in_order_within_its_patience(machine: &dyn Machine) {
    let command =
        "trap 'echo going; sleep 0.3; echo gone; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    let kept = Kept::start(machine, command, &[]);
    kept.until(10, "it to be up", || kept.output() == "up\n");
    kept.stop();
    assert_eq!(kept.output(), "up\ngoing\ngone\n");
    assert_eq!(kept.condition()["last_end"], "exited with status 0");
}

pub fn it_survives_the_session_of_whoever_started_it(machine: &dyn Machine) {
    let kept = Kept::begin(machine, "echo up; exec sleep 600", &[]);
    // A session with a terminal's end: a hang-up to all that is left in it.
    let program = machine.sh("command -v receiver || true").stdout;
    let program = if program.trim().is_empty() { PROGRAM } else { program.trim() };
    machine.sh(&format!("script -qec '{program} process start {}' /dev/null </dev/null", kept.file)).ok();
    kept.until(10, "its output", || kept.output() == "up\n");
    assert_eq!(kept.condition()["state"], "running");
    assert_eq!(kept.condition()["restarts"], 0);
}

/// A sentence, and what shows it.
type Case = (&'static str, fn(&dyn Machine));

/// Every case that holds for both.
pub const CASES: &[Case] = &[
    ("it is kept running until it is stopped", it_is_kept_running_until_it_is_stopped),
    ("a process that dies is started again", a_process_that_dies_is_started_again),
    (
        "a command that does not exist is tried with growing pauses",
        a_command_that_does_not_exist_is_tried_with_growing_pauses,
    ),
    (
        "a command that exits 0 at once is no running process",
        a_command_that_exits_0_at_once_is_no_running_process,
    ),
    (
        "what forks into the background is ended with its command",
        what_forks_into_the_background_is_ended_with_its_command,
    ),
    (
        "a process that ignores sigterm is killed when patience is over",
        a_process_that_ignores_sigterm_is_killed_when_patience_is_over,
    ),
    ("a process may end in order within its patience", a_process_may_end_in_order_within_its_patience),
    ("it survives the session of whoever started it", it_survives_the_session_of_whoever_started_it),
];

#[test]
fn receivers_own_supervisor_keeps_processes_running() {
    let world = World::with_site();
    for (name, case) in CASES {
        eprintln!("{name}");
        case(&world);
    }
}

#[test]
fn a_process_that_prints_without_end_fills_no_disk() {
    let world = World::with_site();
    world.server_config("[limits]\nlog_bytes = \"1M\"\n");
    let kept = Kept::start(&world, "yes 'a line, again and again'", &[]);
    let logs = world.app().join("receiver/logs/processes");
    let size = || -> u64 {
        let all = std::fs::read_dir(&logs).unwrap().flatten();
        all.map(|file| file.metadata().map_or(0, |about| about.len())).sum()
    };
    kept.until(20, "the log to be rotated", || logs.join("mailer.log.1").exists());
    let mut most = 0;
    for _ in 0..200 {
        most = most.max(size());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(most <= 1 << 20, "{most} bytes are kept");
    assert!(kept.output().lines().all(|line| line == "a line, again and again"));
}

#[test]
fn what_a_process_prints_reaches_no_terminal_as_a_control_sequence() {
    let world = World::with_site();
    let kept = Kept::start(&world, "printf 'a\\033]0;title\\007b\\n'; exec sleep 600", &[]);
    kept.until(10, "its output", || !kept.output().is_empty());
    assert_eq!(kept.output(), "a\\u{1b}]0;title\\u{7}b\n");
}

fn supervisor_of(kept: &Kept, world: &World) -> u32 {
    let account = kept.file.replace(".json", ".state");
    let account =
        std::fs::read_to_string(account).unwrap_or_else(|error| panic!("{error}: {}", world.picture()));
    let account: Value = serde_json::from_str(&account).unwrap();
    u32::try_from(account["keeper"].as_u64().unwrap()).unwrap()
}

#[test]
fn a_supervisor_that_is_killed_takes_its_process_along_and_stop_ends_the_rest() {
    let world = World::with_site();
    let cleared = format!("{}.602", std::process::id() % 100_000 + 600);
    let command = format!("sh -c 'setsid sleep 601 & setsid env -i sleep {cleared} & exec sleep 600' & wait");
    let kept = Kept::start(&world, &command, &[]);
    let pid = kept.until_state("running")["pid"].clone();
    let has_cleared = || !world.sh(&format!("pgrep -fx 'sleep {cleared}'")).stdout.is_empty();
    kept.until(10, "its children", || kept.alive().lines().count() >= 3 && has_cleared());
    let supervisor = supervisor_of(&kept, &world);
    world.sh(&format!("kill -9 {supervisor}")).ok();
    kept.until(10, "the command to die with it", || {
        world.sh(&format!("ps -o stat= -p {pid} | grep -v Z")).stdout.is_empty()
    });
    assert_eq!(kept.condition()["state"], "stopped");
    // It may be started again at once: what is left of the first is not in the way.
    kept.stop();
    kept.nothing_is_left();
    assert!(!has_cleared(), "what had cleared its environment is left");
}

#[test]
fn what_runs_beside_ends_with_whoever_started_it() {
    let world = World::with_site();
    let kept = Kept::begin(&world, "setsid sleep 600 & exec sleep 600", &["--purpose", "beside"]);
    let mut command = world.command(PROGRAM, world.place());
    command.args(["process", "start", &kept.file]).stdin(std::process::Stdio::piped());
    let mut starter = command.spawn().unwrap();
    kept.until_state("running");
    starter.kill().unwrap();
    starter.wait().unwrap();
    kept.until_state("stopped");
    assert_eq!(kept.alive(), "");
}

#[test]
fn a_release_in_which_something_is_kept_running_is_locked() {
    let world = World::with_site();
    let kept = Kept::start(&world, "exec sleep 600", &[]);
    kept.until_state("running");
    let lock = std::fs::File::open(world.app().join("current")).unwrap();
    let take = || rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    assert!(take().is_err());
    // Also when nobody looks after it any more.
    world.sh(&format!("kill -9 {}", supervisor_of(&kept, &world))).ok();
    kept.stop();
    assert!(take().is_ok());
}

#[test]
fn a_start_that_is_not_an_apps_is_refused() {
    let world = World::with_site();
    let place = world.place().join("start.json");
    std::fs::write(&place, "{}").unwrap();
    let file = place.display().to_string();
    world.receiver(&["process", "keep", &file]).fails(1).says("is not the start of a process of an app");
    world.receiver(&["process", "start", &file]).fails(1);
    let kept = Kept::begin(&world, "exec sleep 600", &[]);
    let text = std::fs::read_to_string(&kept.file).unwrap();
    std::fs::write(&kept.file, text.replace("\"format\": 1", "\"format\": 99")).unwrap();
    world.receiver(&["process", "keep", &kept.file]).fails(1).says("newer");
    std::fs::write(&kept.file, text).unwrap();
}

#[test]
fn who_only_reads_what_is_written_of_a_start_does_not_end_with_it() {
    let world = World::with_web();
    world.until_idle();
    let mut names = world.names("receiver/run/processes").into_iter();
    let name = names.find(|name| std::path::Path::new(name).extension().is_some_and(|end| end == "json"));
    let name = name.unwrap();
    let file = std::fs::File::open(world.app().join("receiver/run/processes").join(&name)).unwrap();
    let mut reader = std::process::Command::new("sleep").arg("60").stdin(file).spawn().unwrap();
    world.receiver(&["restart", "app"]).ok();
    world.until(30, "the start before to be forgotten", || {
        !world.names("receiver/run/processes").contains(&name)
    });
    let ended = reader.try_wait().unwrap();
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert_eq!(ended, None);
}
