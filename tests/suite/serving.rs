//! The application runs: what users see while it is deployed, rolled back, restarted, and fails.

use std::os::unix::fs::FileTypeExt;

use crate::web::{Answered, SQL, WEB, ask};
use crate::world::{PROGRAM, World};

fn gone(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

fn answered(status: u16, body: &str) -> Answered {
    Answered { status, body: body.to_owned() }
}

#[test]
fn a_deploy_is_what_users_see() {
    let world = World::with_web();
    assert_eq!(world.get("/"), answered(200, "one\n"));
    let first: u64 = world.get("/pid").body.parse().unwrap();
    world.next_page("two", false);
    world.push().ok().says("health").says("200 in");
    assert_eq!(world.get("/"), answered(200, "two\n"));
    assert_eq!(world.get("/release").body, world.live().unwrap());
    world.until_running(&["web"]);
    assert!(gone(first), "the old web process still runs");
    let sockets = world.names("receiver/run/app");
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    world.nothing_is_left_over();
    world.receiver(&["verify", "app"]).ok();
}

#[test]
fn processes_find_the_environment_of_stages_and_nothing_else() {
    let world = World::with_web();
    let environment = world.get("/env").body;
    let names: Vec<&str> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for wanted in
        ["RECEIVER_APP", "RECEIVER_RELEASE_DIR", "RECEIVER_SHARED_DIR", "RECEIVER_SOCKET", "PATH", "HOME"]
    {
        assert!(names.contains(&wanted), "{wanted}: {environment}");
    }
    for name in names {
        let known = name.starts_with("RECEIVER_")
            || ["PATH", "HOME", "LANG", "PWD", "LC_CTYPE", "_", "SHLVL", "OLDPWD"].contains(&name);
        let systemd = ["INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID"].contains(&name);
        assert!(known || systemd, "{name} is in the environment of a process");
        assert!(!name.starts_with("RECEIVER_TEST_"), "{name}");
    }
}

#[test]
fn nginx_may_connect_to_a_socket_that_was_made_as_the_umask_has_it() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::with_web();
    let mode = || {
        let name = world.names("receiver/run/app").into_iter().next().unwrap_or_default();
        std::fs::symlink_metadata(world.app().join("receiver/run/app").join(name))
            .map_or(0, |about| about.permissions().mode() & 0o777)
    };
    world.until(10, "the socket to be open to nginx", || mode() == 0o777);
    // Also the one that it makes after it died.
    let _ = ask(&world.door(), "GET", "/die", "");
    world.until(20, "another socket that is open", || {
        mode() == 0o777 && ask(&world.door(), "GET", "/", "").is_ok()
    });
    // One that is closed on purpose stays closed.
    let web = include_str!("../fixtures/web.py")
        .replace("print(\"web begins\"", "os.umask(0o007); print(\"web begins\"");
    world.file("web.py", &web);
    world.commit("closed on purpose");
    world.push().ok();
    world.until_running(&["web"]);
    assert_eq!(mode(), 0o770);
}

/// What comes up badly, the configuration that it takes, and what the pusher is told of it.
const BAD: [(&str, &str, &str); 9] = [
    ("exec /nonexistent/server", "", "process `web` exited with status 127"),
    ("true", "", "process `web` exited with status 0"),
    ("echo the last words; exit 3", "", "process `web` exited with status 3"),
    ("(sleep 300 &) ; exit 0", "", "a process has to stay in the foreground"),
    ("exec sleep 300", "start_timeout = \"1s\"\n", "process `web` gave no answer within 1 s"),
    (
        "exec /usr/bin/python3 bad.py mute",
        "start_timeout = \"1s\"\n",
        "process `web` gave no answer within 1 s",
    ),
    ("exec /usr/bin/python3 bad.py 500", "start_timeout = \"1s\"\n", "process `web` answers / with 500"),
    ("exec /usr/bin/python3 bad.py 400", "start_timeout = \"1s\"\n", "the application must allow that host"),
    ("exec /usr/bin/python3 bad.py dies", "settle = \"2s\"\n", "process `web` exited with status 9"),
];

const BAD_PY: &str = r#"
import os, socket, sys, threading, time
what = sys.argv[1]
server = socket.socket(socket.AF_UNIX)
server.bind(os.environ["RECEIVER_SOCKET"])
server.listen(16)
if what == "dies":
    threading.Timer(0.7, lambda: os._exit(9)).start()
while True:
    client, _ = server.accept()
    if what == "mute":
        time.sleep(60)
    client.recv(65536)
    status = "200 OK" if what == "dies" else f"{what} No"
    client.sendall(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\nthe reason is {what}\n".encode())
    client.close()
"#;

#[test]
fn a_release_that_does_not_come_up_never_goes_live() {
    let world = World::with_web();
    let (live, pid) = (world.live(), world.get("/pid"));
    world.file("bad.py", BAD_PY);
    for (command, more, told) in BAD {
        let settings = format!("[web]\ncommand = \"{command}\"\nsettle = \"100ms\"\n{more}");
        let settings =
            if more.contains("settle") { settings.replacen("settle = \"100ms\"\n", "", 1) } else { settings };
        world.file("receiver.toml", &settings);
        world.commit(command);
        let said = world.push();
        said.clone().says(told).says("NOT LIVE: still");
        if command.contains("last words") {
            said.clone().says("the last words");
        }
        if command.contains("500") {
            said.says("the reason is 500");
        }
        assert_eq!((world.live(), world.get("/pid")), (live.clone(), pid.clone()), "{command}");
        world.nothing_is_left_over();
        world.until_running(&["web"]);
    }
}

#[test]
fn a_request_that_runs_during_a_deploy_is_answered_by_the_old_release() {
    let world = World::with_web();
    let socket = world.door();
    let slow = std::thread::spawn(move || ask(&socket, "GET", "/slow?3", "").unwrap());
    world.until(10, "the request to run", || {
        world.receiver(&["logs", "app", "web"]).stdout.contains("slow begins")
    });
    world.next_page("two", false);
    world.push().ok();
    assert_eq!(world.get("/").body, "two\n");
    assert_eq!(slow.join().unwrap(), answered(200, "one\n"));
    world.until_running(&["web"]);
}

#[test]
fn no_request_is_refused_and_no_write_lost_while_versions_open_behind_the_door() {
    let world = World::with_web_and_notes();
    let door = world.door();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (door, stop) = (door.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut acknowledged = Vec::new();
                for at in 0.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    let text = format!("note {writer}.{at}");
                    let answer = ask(&door, "POST", "/", &text).expect("a connection broke");
                    assert_eq!(answer.status, 201, "a write was refused: {}", answer.body);
                    acknowledged.push(text);
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                acknowledged
            })
        })
        .collect();
    for at in 1..=3 {
        world.next_page(&format!("page{at}"), true);
        world.push().ok().says("carry").says(&format!("live: {at}/"));
        assert_eq!(world.get("/").body, format!("page{at}\n"));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let acknowledged: Vec<String> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    assert!(acknowledged.len() > 20, "only {} writes", acknowledged.len());
    let notes = world.get("/notes").body;
    let notes: std::collections::BTreeSet<&str> = notes.lines().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|text| !notes.contains(text.as_str())).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    world.until_running(&["web"]);
    world.nothing_is_left_over();
    world.until(10, "the holders to end", || world.names("receiver/run/hold").is_empty());
}

#[test]
fn a_rollback_brings_the_old_code_and_its_database_back_behind_the_door() {
    let world = World::with_web_and_notes();
    world.next_page("two", false);
    world.push().ok();
    world.receiver(&["rollback", "app"]).ok();
    assert_eq!(world.get("/").body, "one\n");
    world.until_running(&["web"]);
    world.next_page("three", true);
    world.push().ok().says("live: 1/");
    world.post("/", "written in version 1");
    assert_eq!(world.get("/count").body, "1");
    world.receiver(&["rollback", "app"]).ok().says("note: 1 row written");
    assert_eq!((world.get("/").body.as_str(), world.get("/count").body.as_str()), ("one\n", "1"));
    assert_eq!(world.post("/", "again in version 0").status, 201);
    world.until_running(&["web"]);
    // Where what was written since is to stay behind, the old database is as it was.
    world.next_page("four", true);
    world.push().ok().says("live: 2/");
    world.post("/", "only in version 2");
    assert_eq!(world.get("/count").body, "3");
    world.receiver(&["rollback", "app", "--without-new-data"]).ok();
    assert_eq!((world.get("/").body.as_str(), world.get("/count").body.as_str()), ("one\n", "2"));
    assert_eq!(world.post("/", "once more in version 0").status, 201);
    world.until_running(&["web"]);
    world.nothing_is_left_over();
}

/// How long processes have to stay up is nobody's affair where there are none.
#[test]
fn a_rollback_without_processes_waits_for_none() {
    let world = World::with_app();
    for page in ["one", "two"] {
        world.file("receiver.toml", "[database]\nengine = \"none\"\n[web]\nsettle = \"30m\"\n");
        world.file("index.html", page);
        world.commit(page);
        world.push().ok();
    }
    let back = world.start(PROGRAM, &["rollback", "app"]);
    world.end(back, 60).ok().says("=====> live: 0/");
    assert_eq!(world.live_file("index.html"), "one");
}

#[test]
fn a_version_that_shares_its_database_and_one_without_a_database_come_up_too() {
    let world = World::with_web_and_notes();
    world.post("/", "kept");
    world.next_page("two", true);
    world.push_with(&["-o", "carry=shared"]).ok().says("live: 1/");
    assert_eq!((world.get("/").body.as_str(), world.get("/notes").body.as_str()), ("two\n", "kept"));
    world.until_running(&["web"]);
    // Versions open without a database of receiver's, too.
    let world = World::with_web();
    world.file(
        "receiver.toml",
        &format!("{WEB}[schema]\npaths = [\"schema.sql\"]\n[database]\nengine = \"none\"\n"),
    );
    world.file("schema.sql", "CREATE TABLE one (id INTEGER);\n");
    world.next_page("two", false);
    world.push().ok().says("live: 1/");
    assert_eq!(world.get("/").body, "two\n");
    world.until_running(&["web"]);
}

fn with_workers(overlap: bool, command: &str) -> String {
    format!("{WEB}[process.mailer]\ncommand = \"{command}\"\noverlap = {overlap}\n")
}

/// A worker that says who it is, and when it begins and ends.
const WORKER: &str = "trap 'echo ends $RECEIVER_RELEASE >> $RECEIVER_SHARED_DIR/said; exit' TERM; \
                      echo begins $RECEIVER_RELEASE >> $RECEIVER_SHARED_DIR/said; while :; do sleep 0.05; done";

#[test]
fn a_worker_that_must_not_overlap_starts_after_the_older_one_has_ended() {
    let world = World::with_web();
    let said = || std::fs::read_to_string(world.app().join("shared/said")).unwrap_or_default();
    world.file("receiver.toml", &with_workers(false, WORKER));
    world.commit("a worker");
    world.push().ok();
    let first = world.live().unwrap();
    world.until_running(&["mailer", "web"]);
    world.next_page("two", false);
    world.push().ok();
    let second = world.live().unwrap();
    world.until_running(&["mailer", "web"]);
    assert_eq!(said(), format!("begins {first}\nends {first}\nbegins {second}\n"));
    // With overlap the new one begins first.
    world.file("receiver.toml", &with_workers(true, WORKER));
    world.commit("overlap");
    world.push().ok();
    let third = world.live().unwrap();
    world.until_running(&["mailer", "web"]);
    world.until(10, "the older one to end", || said().ends_with(&format!("begins {third}\nends {second}\n")));
}

#[test]
fn a_worker_that_fails_after_the_switch_is_exit_3_and_the_release_is_live() {
    let world = World::with_web();
    world.file("receiver.toml", &with_workers(false, "echo no mail today; exit 4"));
    world.commit("a worker that fails");
    world
        .push()
        .says("no mail today")
        .says("live: 0/")
        .says("needs attention: process `mailer` exited with status 4");
    world.receiver(&["attach", "app"]).fails(3);
    world.receiver(&["status", "app", "--check"]).fails(1);
    // One that starts before the switch keeps the release from going live.
    let live = world.live();
    world.file("receiver.toml", &with_workers(true, "echo no mail today; exit 4"));
    world.commit("the same, before the switch");
    world.push().says("NOT LIVE: still").says("process `mailer` exited with status 4");
    assert_eq!(world.live(), live);
}

#[test]
fn up_down_and_restart_do_what_they_say() {
    let world = World::with_web();
    world.file("receiver.toml", &with_workers(false, WORKER));
    world.commit("a worker");
    world.push().ok();
    world.until_running(&["mailer", "web"]);
    let pid = world.get("/pid").body;
    world.receiver(&["restart", "app", "web"]).ok().says("app is restarted");
    assert_ne!(world.get("/pid").body, pid);
    world.until_running(&["mailer", "web"]);
    world
        .receiver(&["restart", "app", "nobody"])
        .fails(2)
        .says("there is no process 'nobody'")
        .says("web, mailer");
    world.receiver(&["restart", "app", "--dry-run"]).ok().says("would restart web, mailer");
    world.receiver(&["down", "app"]).ok().says("app is down: `receiver up app` starts it");
    assert!(world.processes().is_empty());
    assert!(ask(&world.door(), "GET", "/", "").is_err());
    world.receiver(&["status", "app", "--check"]).fails(1).says("needs attention");
    // A boot leaves it down.
    world.receiver(&["up", "--all"]).ok().says("app is down, and stays so");
    assert!(world.processes().is_empty());
    world.receiver(&["up", "app"]).ok().says("app is up");
    world.until_running(&["mailer", "web"]);
    let pid = world.get("/pid").body;
    world.receiver(&["up", "app"]).ok();
    assert_eq!(world.get("/pid").body, pid, "what runs is left alone");
}

#[test]
fn a_process_that_dies_is_started_again_and_status_says_so() {
    let world = World::with_web();
    let pid = world.get("/pid").body;
    let _ = ask(&world.door(), "GET", "/die", "");
    world.until(20, "another web process", || {
        ask(&world.door(), "GET", "/pid", "").is_ok_and(|answer| answer.body != pid)
    });
    let status = world.status();
    assert_eq!(status["processes"][0]["restarts"], 1, "{status}");
    assert_eq!(status["processes"][0]["last_end"], "exited with status 7", "{status}");
}

#[test]
fn after_everything_was_killed_up_all_brings_back_what_was_live() {
    let world = World::with_web_and_notes();
    world.next_page("two", true);
    world.push().ok();
    world.post("/", "before");
    world.receiver(&["doctor", "app"]).ok().says("1 is up");
    world.kill_everything();
    assert!(ask(&world.door(), "GET", "/", "").is_err());
    world.receiver(&["doctor", "app"]).fails(1).says("process `web` is stopped").says("`receiver up app`");
    world.receiver(&["status", "app", "--check"]).fails(1);
    world.receiver(&["up", "--all"]).ok();
    assert_eq!((world.get("/").body.as_str(), world.get("/count").body.as_str()), ("two\n", "1"));
    assert_eq!(world.post("/", "after").status, 201);
    world.until_running(&["web"]);
}

#[test]
fn a_socket_path_that_is_too_long_is_told_at_create_and_refused_before_the_push() {
    let mut world = World::new();
    let long = world.place().join("a-directory-whose-name-is-long-enough-for-trouble/and-one-more-of-them");
    world.env.insert("RECEIVER_ROOT".into(), long.display().to_string());
    world
        .receiver(&["create", "app"])
        .ok()
        .says("warning: no web process can run here")
        .says("may have 107 bytes");
    world.git(&["remote", "add", "production", &long.join("app/repo.git").display().to_string()]).ok();
    world.file("receiver.toml", WEB);
    world.file("index.html", "one\n");
    world.commit("one");
    world
        .push()
        .fails(1)
        .says("=====> refused: main: the path of a socket may have 107 bytes")
        .says(" has 1");
    // A site without a process goes there all the same.
    world.remove("receiver.toml");
    world.commit("two");
    world.push().ok().says("live: 0/");
}

/// The points that a deploy passes when it serves and opens a version, from the first process on.
pub const POINTS: [&str; 7] = ["door-closed", "held", "started", "fenced", "sealed", "switched", "journaled"];

#[test]
fn nothing_that_serves_is_left_when_a_deploy_dies_at_any_point_of_serving() {
    for point in POINTS {
        let mut world = World::with_web_and_notes();
        world.post("/", "before");
        let ticket = world.place().join("ticket");
        std::fs::write(&ticket, "").unwrap();
        world.env.insert("RECEIVER_TEST_DIE_AT".into(), point.into());
        world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
        world.next_page("two", true);
        let push = world.push_in_background();
        world.until(30, &format!("the death at {point}"), || !ticket.exists());
        // Whoever asks while the worker is dead, or mends, gets an answer: of the old or of the new.
        let during = world.get("/");
        assert!(["one\n", "two\n"].contains(&during.body.as_str()), "{point}: {during:?}");
        world.end(push, 60).says("live: 1/");
        world.until_idle();
        assert_eq!(world.get("/").body, "two\n", "{point}");
        assert_eq!(world.post("/", "after").status, 201, "{point}");
        assert_eq!(world.get("/notes").body, "before\nafter", "{point}");
        world.until_running(&["web"]);
        world.nothing_is_left_over();
        let link = std::fs::read_link(world.door()).unwrap();
        assert_eq!(link.to_str().unwrap(), "../current/.receiver/web.sock", "{point}");
    }
}

#[test]
fn a_release_in_which_a_process_runs_is_never_pruned() {
    let world = World::with_web();
    let first = world.live().unwrap();
    let socket = world.door();
    let slow = std::thread::spawn(move || ask(&socket, "GET", "/slow?6", "").unwrap());
    world.until(10, "the request to run", || {
        world.receiver(&["logs", "app", "web"]).stdout.contains("slow begins")
    });
    world.receiver(&["config", "app", "keep.releases", "1"]).ok();
    for page in ["two", "three", "four"] {
        world.next_page(page, false);
        world.push().ok();
    }
    assert!(
        world.app().join("versions").join(&first).is_dir(),
        "the first release is gone under its process"
    );
    assert_eq!(slow.join().unwrap().body, "one\n");
    world.until_running(&["web"]);
    world.receiver(&["prune", "app"]).ok();
    assert!(!world.app().join("versions").join(&first).is_dir());
}

#[test]
fn sockets_of_the_dead_are_no_obstacle() {
    let world = World::with_web();
    world.kill_everything();
    let left: Vec<_> = std::fs::read_dir(world.app().join("receiver/run/app")).unwrap().flatten().collect();
    assert!(
        left.iter().any(|entry| entry.file_type().unwrap().is_socket()),
        "a killed process leaves its socket"
    );
    world.next_page("two", false);
    world.push().ok();
    assert_eq!(world.get("/").body, "two\n");
    world.until(20, "one socket to be left", || world.names("receiver/run/app").len() == 1);
    let _ = SQL;
}

#[test]
fn an_app_that_does_not_come_up_after_a_boot_keeps_no_other_from_it() {
    let world = World::with_web();
    let flag = world.place().join("flag");
    std::fs::write(&flag, "").unwrap();
    // One that comes before it, by name.
    world.receiver(&["create", "aaa"]).ok();
    world.remote("aaa");
    let command = format!("test -e {} && exec /usr/bin/python3 web.py", flag.display());
    world.file("receiver.toml", &WEB.replace("exec /usr/bin/python3 web.py", &command));
    world.commit("as long as there is a flag");
    world.push().ok().says("live: 0/");
    world.kill_everything();
    std::fs::remove_file(&flag).unwrap();
    world.receiver(&["up", "--all"]).fails(1).says("process `web` exited with status 1").says("not up: aaa");
    assert_eq!(world.get("/"), answered(200, "one\n"));
    // When what it waited for is there, it comes up with nobody typing.
    std::fs::write(&flag, "").unwrap();
    let door = world.root().join("aaa/receiver/door.sock");
    world.until(60, "it to come up by itself", || ask(&door, "GET", "/", "").is_ok());
}

/// The processes of this world whose command line has these words.
fn pids(world: &World, words: &[&str]) -> Vec<rustix::process::Pid> {
    let root = world.root().display().to_string();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let line = |entry: &std::fs::DirEntry| {
        String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).unwrap_or_default()).into_owned()
    };
    let ours = all.filter(|entry| {
        let line = line(entry);
        line.contains(&root) && words.iter().all(|word| line.split('\0').any(|one| one == *word))
    });
    ours.filter_map(|entry| rustix::process::Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

#[test]
fn holder_and_worker_killed_at_once_lose_nothing_and_the_next_command_recovers() {
    let world = World::with_web_and_notes();
    world.post("/", "before");
    world.file(
        "migrate.py",
        "import os, sqlite3, time\nif not os.environ.get('RECEIVER_REHEARSAL'):\n  \
        open(os.environ['RECEIVER_SHARED_DIR'] + '/held', 'w').close(); time.sleep(60)\n\
        sqlite3.connect(os.environ['RECEIVER_DATABASE_NAME']).executescript(open('schema.sql').read())\n",
    );
    world.file(
        "receiver.toml",
        &format!(
            "{WEB}[stages]\nsyncdb = \"/usr/bin/python3 migrate.py\"\n[schema]\npaths = [\"schema.sql\"]\n\
                  [database]\nengine = \"sqlite\"\nmax_pause = \"100s\"\n"
        ),
    );
    world.next_page("two", true);
    let mut push = world.push_in_background();
    world.until(30, "the hold", || world.app().join("shared/held").exists());
    // Nobody who follows may start another worker.
    for pid in pids(&world, &["hook", "post-receive"]) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    let both: Vec<_> = [pids(&world, &["work"]), pids(&world, &["hold"])].concat();
    assert_eq!(both.len(), 2, "{both:?}");
    // Stopped first: neither may see the other die.
    for signal in [rustix::process::Signal::STOP, rustix::process::Signal::KILL] {
        for pid in &both {
            rustix::process::kill_process(*pid, signal).unwrap();
        }
    }
    let _ = push.kill();
    let _ = push.wait();
    world.until(10, "the lock to be free", || {
        world.receiver(&["status", "app", "--json"]).ok().json()["apps"][0]["deploying"].is_null()
    });
    // The live release itself never stopped: nginx asks at its socket where the door is dead.
    let live = world.app().join("current/.receiver/web.sock");
    assert_eq!(ask(&live, "GET", "/", "").unwrap(), answered(200, "one\n"));
    world.receiver(&["doctor", "app"]).fails(1);
    world.receiver(&["cancel", "app"]).ok();
    world.receiver(&["up", "app"]).ok();
    world.until_idle();
    assert_eq!(world.get("/"), answered(200, "one\n"));
    assert_eq!(world.post("/", "after").status, 201);
    assert_eq!(world.get("/notes").body, "before\nafter");
    world.until_running(&["web"]);
}
