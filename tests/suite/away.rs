//! The pusher goes away, in every way that there is: a deploy that has begun ends all the same.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::sshd::{Sshd, let_in_wholly};
use crate::system::System;
use crate::world::World;

/// A push in a process group of its own, with what it prints thrown away or never read.
fn push_in_a_group(world: &World, output: impl Fn() -> Stdio, remote: &str) -> Child {
    let push = world.push_command(&[remote, "main"]);
    // Whoever runs the tests in the background of a shell ignores INT, and so would what they start.
    let mut command = world.command("env", push.get_current_dir().unwrap());
    command.arg("--default-signal").arg(push.get_program()).args(push.get_args());
    for (name, value) in push.get_envs() {
        value.map(|value| command.env(name, value));
    }
    command.process_group(0).stdout(output()).stderr(output());
    command.spawn().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// A site whose second page waits at a gate while it is built.
fn waiting_at_the_gate() -> (World, std::path::PathBuf) {
    let world = World::with_site();
    let gate = world.gated();
    world.file("index.html", "two\n");
    world.commit("two");
    (world, gate)
}

#[track_caller]
fn it_goes_on_and_ends(world: &World, gate: &std::path::Path) {
    assert_eq!(world.live_file("index.html"), "one\n");
    std::fs::write(gate, "").unwrap();
    world.until_idle();
    assert_eq!(world.live_file("index.html"), "two\n");
    assert_eq!(world.verdicts().len(), 2);
    assert_eq!(world.verdicts()[1]["outcome"], "live");
    world.receiver(&["attach", "app"]).ok().says("     | after").says("=====> live: ");
    world.nothing_is_left_over();
}

#[test]
pub fn a_deploy_that_has_begun_ends_whatever_happens_to_the_pusher_and_its_hook() {
    for signal in [Signal::KILL, Signal::HUP, Signal::TERM, Signal::INT] {
        let (world, gate) = waiting_at_the_gate();
        let mut push = push_in_a_group(&world, Stdio::null, "production");
        world.until_deploying();
        kill_process_group(pid(&push), signal).unwrap();
        push.wait().unwrap();
        it_goes_on_and_ends(&world, &gate);
    }
}

/// The children of a process, and theirs.
fn descendants(of: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.rsplit_once(')') else { continue };
        if rest.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()) == Some(of) {
            found.push((pid, name.split('(').nth(1).unwrap_or_default().to_owned()));
            found.extend(descendants(pid));
        }
    }
    found
}

#[test]
pub fn a_deploy_that_has_begun_ends_when_the_push_is_killed_under_its_hook() {
    let (world, gate) = waiting_at_the_gate();
    let mut push = push_in_a_group(&world, Stdio::null, "production");
    world.until_deploying();
    let family = descendants(push.id());
    assert!(family.iter().any(|(_, name)| name == "receiver"), "{family:?}");
    for (member, _) in family.iter().filter(|(_, name)| name.starts_with(world.system.program())) {
        let _ = kill_process(Pid::from_raw(i32::try_from(*member).unwrap()).unwrap(), Signal::KILL);
    }
    push.kill().unwrap();
    push.wait().unwrap();
    it_goes_on_and_ends(&world, &gate);
}

#[test]
pub fn a_deploy_that_has_begun_ends_when_nobody_reads_what_it_prints() {
    let world = World::with_site();
    let print = "yes 'a line that is long enough to fill a pipe' | head -n 60000";
    let toml = format!("[stages]\nbuild = \"{print}\"\n[database]\nengine = \"none\"\n");
    world.file("receiver.toml", &toml).file("index.html", "two\n");
    world.commit("two");
    let mut push = push_in_a_group(&world, Stdio::piped, "production");
    world.until(60, "the deploy to end", || world.live_file("index.html") == "two\n");
    world.until_idle();
    assert!(push.try_wait().unwrap().is_none(), "the push ended: its pipe was not full");
    kill_process_group(pid(&push), Signal::KILL).unwrap();
    push.wait().unwrap();
    world.nothing_is_left_over();
}

#[test]
pub fn a_deploy_that_has_begun_ends_when_the_ssh_connection_drops() {
    let (mut world, gate) = waiting_at_the_gate();
    let_in_wholly(&world, "user");
    let sshd = Sshd::start(&world);
    let ssh = format!("ssh {} -p {}", sshd.plain_options("user").join(" "), sshd.port);
    world.ssh_command(&ssh);
    // To Mercurial, a path of the server's own begins with two slashes.
    let slash = if world.system == System::Git { "" } else { "/" };
    let host = sshd.remote(&sshd.port.to_string());
    let url = format!("ssh://{host}{slash}{}", world.repository().display());
    let log = world.place().join("push.log");
    let output = || Stdio::from(std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap());
    let mut push = push_in_a_group(&world, output, &url);
    world.until(30, "a deploy by ssh", || {
        let ended = push.try_wait().unwrap();
        let told = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(ended.is_none(), "the push ended: {}\n{}", told(), sshd.log());
        !world.status()["deploying"].is_null()
    });
    // The session's server side dies, then the client: no side says goodbye.
    for (session, _) in descendants(sshd.daemon.id()).iter().take(1) {
        kill_process(Pid::from_raw(i32::try_from(*session).unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    kill_process_group(pid(&push), Signal::KILL).unwrap();
    push.wait().unwrap();
    it_goes_on_and_ends(&world, &gate);
}

/// The ref moves, and no hook runs: the pusher died before it.
fn lost_push(world: &World, text: &str) {
    world.file("index.html", text);
    let hash = world.commit(text);
    world.arrive_without_a_hook(&hash);
}

#[test]
pub fn a_push_whose_hook_was_lost_is_named_by_reading_commands_and_deployed_by_the_others() {
    let world = World::with_site();
    let ways: [&[&str]; 3] = [&["watch", "app", "--once"], &["unlock", "app"], &["deploy", "app"]];
    for (at, way) in ways.iter().enumerate() {
        let (old, new) = (world.live_file("index.html"), format!("lost {at}\n"));
        lost_push(&world, &new);
        world.receiver(&["status", "app"]).ok().says("was never deployed: `receiver deploy app`");
        world.receiver(&["list", "app"]).ok().says("was never deployed");
        world.receiver(&["plan", "app"]).ok();
        world.until_idle();
        assert_eq!(world.live_file("index.html"), old, "a reading command deployed it");
        world.receiver(way).ok();
        world.until_idle();
        assert_eq!(world.live_file("index.html"), new, "{way:?} did not deploy it");
        world.receiver(&["status", "app"]).ok().never_says("never deployed");
        world.receiver(&["doctor", "app"]).ok();
    }
}

#[test]
pub fn what_failed_or_was_withdrawn_is_not_tried_again_unasked() {
    let world = World::with_site();
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok();
    world.receiver(&["rollback", "app"]).ok();
    let unasked: [&[&str]; 4] =
        [&["watch", "app", "--once"], &["unlock", "app"], &["prune", "app"], &["cancel", "app"]];
    for way in unasked {
        world.receiver(way).ok();
        world.until_idle();
        assert_eq!(world.live_file("index.html"), "one\n", "{way:?} deployed what was withdrawn");
    }
    world.file(
        "receiver.toml",
        "[stages]\nbuild = \"echo x >> $RECEIVER_SHARED_DIR/tries; false\"\n[database]\nengine = \"none\"\n",
    );
    world.commit("fails");
    world.push().ok().says("=====> NOT LIVE: still 0/");
    for way in unasked {
        world.receiver(way).ok();
        world.until_idle();
        assert_eq!(std::fs::read_to_string(world.app().join("shared/tries")).unwrap(), "x\n", "{way:?}");
    }
    world.receiver(&["deploy", "app"]).fails(1);
    assert_eq!(std::fs::read_to_string(world.app().join("shared/tries")).unwrap(), "x\nx\n");
}
