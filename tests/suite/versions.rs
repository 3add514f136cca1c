//! Versions that are not live, asked for at their own sockets: they wake, answer with their own data, and sleep.

use std::path::PathBuf;

use crate::web::{Answered, ask};
use crate::world::World;

fn socket(world: &World, version: u32) -> PathBuf {
    world.app().join(format!("receiver/run/versions/{version}.sock"))
}

#[track_caller]
fn get(world: &World, version: u32, path: &str) -> Answered {
    ask(&socket(world, version), "GET", path, "")
        .unwrap_or_else(|error| panic!("version {version}, GET {path}: {error}\n{}", world.picture()))
}

/// Versions 0, 1 and 2, each with a note of its own time; 2 is live.
fn three_versions() -> World {
    let world = World::with_web_and_notes();
    assert_eq!(world.post("/", "in 0").status, 201);
    for (version, page) in [(1, "two"), (2, "three")] {
        world.next_page(page, true);
        world.push().ok().says(&format!("live: {version}/"));
        assert_eq!(world.post("/", &format!("in {version}")).status, 201);
    }
    world.until_idle();
    world
}

/// The processes of versions that are awake.
fn awake(world: &World) -> usize {
    let files = world.names("receiver/run/processes");
    let text = |name: &String| std::fs::read_to_string(world.app().join("receiver/run/processes").join(name));
    let beside = |name: &&String| text(name).is_ok_and(|text| text.contains("\"purpose\": \"beside\""));
    files.iter().filter(beside).count()
}

fn grant(world: &World) {
    world.receiver(&["config", "app", "versions.urls", "public"]).ok();
    for version in 0..3 {
        world.until(20, "the socket of a version", || socket(world, version).exists());
    }
}

#[test]
fn versions_that_sleep_answer_with_their_own_data_when_they_are_asked() {
    let world = three_versions();
    assert_eq!(world.names("receiver/run/versions"), [""; 0]);
    world.receiver(&["config", "app", "versions.awake", "2"]).ok();
    grant(&world);
    assert_eq!(awake(&world), 0);
    assert_eq!(get(&world, 0, "/notes").body, "in 0");
    assert_eq!(get(&world, 1, "/notes").body, "in 0\nin 1");
    assert_eq!(get(&world, 0, "/").body, "one\n");
    assert_eq!(get(&world, 1, "/").body, "two\n");
    assert_eq!(awake(&world), 2);
    // The live one is as at the door, and nothing is started for it.
    assert_eq!(get(&world, 2, "/pid"), world.get("/pid"));
    assert_eq!(awake(&world), 2);
    // What is not live is read, and cannot be written.
    let refused = ask(&socket(&world, 0), "POST", "/", "too late").unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.body.contains("version 0 of app is retired"), "{refused:?}");
    assert_eq!(get(&world, 0, "/count").body, "1");
    // What is no longer granted is gone, with all that ran for it.
    world.receiver(&["config", "app", "versions.urls", "off"]).ok();
    world.until(30, "the versions to go", || awake(&world) == 0 && !socket(&world, 0).exists());
    world.until_running(&["web"]);
}

#[test]
fn no_more_versions_are_awake_than_are_granted_and_idle_ones_go_to_sleep() {
    let world = three_versions();
    world.receiver(&["config", "app", "versions.idle", "2s"]).ok();
    grant(&world);
    for _ in 0..3 {
        for version in 0..2 {
            let page = ["one\n", "two\n"][version as usize];
            assert_eq!(get(&world, version, "/").body, page);
            assert!(awake(&world) <= 1);
        }
    }
    // One with an open connection does not go to sleep for another, nor for its idle time.
    let slow = std::thread::scope(|scope| {
        let slow = scope.spawn(|| get(&world, 1, "/slow?4"));
        world.until(20, "the slow request to begin", || {
            world.receiver(&["logs", "app"]).stdout.contains("slow begins")
        });
        assert_eq!(get(&world, 0, "/").body, "one\n");
        slow.join().unwrap()
    });
    assert_eq!(slow.status, 200);
    world.until(30, "all to sleep", || awake(&world) == 0);
    assert_eq!(get(&world, 1, "/").body, "two\n");
}

#[test]
fn a_version_that_does_not_come_up_is_a_503_and_others_still_wake() {
    let world = three_versions();
    let release = world.app().join("versions/0").join(&world.names("versions/0")[0]);
    std::fs::write(release.join("web.py"), "raise SystemExit(3)\n").unwrap();
    grant(&world);
    let refused = get(&world, 0, "/");
    assert_eq!((refused.status, refused.body.contains("cannot be woken")), (503, true));
    assert_eq!(get(&world, 1, "/").body, "two\n");
    assert_eq!(world.get("/").body, "three\n");
}

#[test]
fn a_waker_that_was_killed_is_followed_by_another_and_leaves_nothing() {
    let world = three_versions();
    grant(&world);
    assert_eq!(get(&world, 0, "/").body, "one\n");
    let waker = std::fs::read_dir("/proc").unwrap().flatten().find_map(|process| {
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let ours = words.contains(&&b"wake"[..]) && words.contains(&world.root().to_str()?.as_bytes());
        ours.then(|| process.file_name().to_str()?.parse::<i32>().ok()).flatten()
    });
    let waker = rustix::process::Pid::from_raw(waker.expect("the waker runs")).unwrap();
    rustix::process::kill_process(waker, rustix::process::Signal::KILL).unwrap();
    // What it had woken ends with it; the next deploy starts another.
    world.next_page("four", false);
    world.push().ok();
    world.until(30, "another waker", || {
        ask(&socket(&world, 1), "GET", "/", "").is_ok_and(|a| a.body == "two\n")
    });
    world.until(30, "one to be awake", || awake(&world) == 1);
}
