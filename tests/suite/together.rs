//! Many push, roll back and cancel at once: one at a time for each app, one verdict for each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::world::{PROGRAM, Said, World};

impl World {
    /// A build that waits until the test opens the gate, or ends.
    pub fn gated(&self) -> PathBuf {
        let gate = self.place().join("gate");
        self.file(
            "receiver.toml",
            &format!(
                "[stages]\nbuild = \"echo before; while [ -d {} ] && [ ! -e {} ]; do sleep 0.02; done; echo after\"\n\
                 [database]\nengine = \"none\"\n",
                self.place().display(),
                gate.display()
            ),
        );
        gate
    }

    pub fn until_deploying(&self) {
        self.until(30, "a deploy to be under way", || !self.status()["deploying"].is_null());
    }
}

fn verdict_lines(said: &Said) -> Vec<String> {
    said.talk().lines().filter(|line| line.starts_with("=====> ")).map(str::to_owned).collect()
}

#[test]
fn two_pushes_never_mix_of_twenty_the_tip_wins_and_each_gets_one_verdict() {
    let world = World::with_site();
    world.file("receiver.toml", "[stages]\nbuild = \"sleep 0.1\"\n[database]\nengine = \"none\"\n");
    world.commit("slower");
    world.push().ok();
    let before = world.verdicts().len();
    let laptop = world.laptop().display().to_string();
    let url = world.app().join("repo.git").display().to_string();
    let clones: Vec<PathBuf> = (0..20)
        .map(|n| {
            let clone = world.place().join(format!("clone{n}"));
            let path = clone.display().to_string();
            world.run("git", world.place(), &["clone", "--quiet", &laptop, &path]).ok();
            std::fs::write(clone.join("index.html"), format!("from clone {n}\n")).unwrap();
            world
                .run("git", &clone, &["commit", "--quiet", "--all", "--message", &format!("clone {n}")])
                .ok();
            clone
        })
        .collect();
    let pushes: Vec<_> = clones
        .iter()
        .map(|clone| {
            let mut command = world.command("git", clone);
            command.args(["push", "--quiet", "--force", &url, "main"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let said: Vec<Said> = pushes.into_iter().map(|push| world.end(push, 120)).collect();
    world.until_idle();
    world.nothing_is_left_over();
    // git itself refuses a push that lost the race for the ref; such a one never arrived.
    let arrived: Vec<&Said> = said.iter().filter(|said| said.code == 0).collect();
    assert!(!arrived.is_empty());
    for said in &arrived {
        assert_eq!(verdict_lines(said).len(), 1, "{}", said.talk());
    }
    let verdicts = world.verdicts().split_off(before);
    let mut jobs: BTreeMap<String, u32> = BTreeMap::new();
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for verdict in &verdicts {
        *jobs.entry(verdict["job"].to_string()).or_default() += 1;
        *outcomes.entry(verdict["outcome"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(jobs.values().all(|times| *times == 1), "{verdicts:#?}");
    assert!(jobs.len() >= arrived.len(), "{} of {}", jobs.len(), arrived.len());
    assert!(!outcomes.contains_key("failed"), "{outcomes:?}");
    let status = world.status();
    assert_eq!(status["in_sync"], true, "{status:#}");
    let tip = world.run("git", &world.app().join("repo.git"), &["show", "main:index.html"]).ok().stdout;
    assert_eq!(world.live_file("index.html"), tip);
}

#[test]
fn five_apps_deploy_at_once() {
    let world = World::new();
    world.file("index.html", "one\n");
    world.commit("one");
    let names = ["ann", "bob", "cleo", "dan", "eve"];
    for name in names {
        world.receiver(&["create", name]).ok();
    }
    let pushes: Vec<_> = names
        .iter()
        .map(|name| {
            let url = world.root().join(name).join("repo.git").display().to_string();
            world.start("git", &["push", "--quiet", &url, "main"])
        })
        .collect();
    for (push, name) in pushes.into_iter().zip(names) {
        world.end(push, 60).ok().says("=====> live: 0/");
        let page = world.root().join(name).join("current/index.html");
        assert_eq!(std::fs::read_to_string(page).unwrap(), "one\n");
    }
}

#[test]
pub fn a_second_push_waits_for_the_first() {
    let world = World::with_app();
    let gate = world.gated();
    world.file("index.html", "one\n");
    world.commit("one");
    let first = world.push_in_background();
    world.until_deploying();
    world.file("index.html", "two\n");
    world.commit("two");
    let second = world.push_in_background();
    world.until(30, "the second to wait", || world.status()["waiting"] == 1);
    assert_eq!(world.live(), None);
    std::fs::write(&gate, "").unwrap();
    world.end(first, 60).ok().says("=====> live: ");
    world.end(second, 60).ok().says("=====> live: ");
    assert_eq!(world.live_file("index.html"), "two\n");
    assert_eq!(world.states(), ["live", "good"]);
}

#[test]
pub fn a_push_that_is_overtaken_while_it_waits_is_superseded() {
    let world = World::with_app();
    let gate = world.gated();
    let mut pushes = Vec::new();
    for text in ["one", "two", "three"] {
        world.file("index.html", text);
        world.commit(text);
        pushes.push(world.push_in_background());
        world.until_deploying();
        world.until(30, "the push to wait", || {
            world.status()["waiting"].as_u64() == Some(pushes.len() as u64 - 1)
        });
    }
    std::fs::write(&gate, "").unwrap();
    let mut said = pushes.into_iter().map(|push| world.end(push, 60).ok());
    said.next().unwrap().says("=====> live: ");
    said.next().unwrap().says("=====> NOT LIVE: still 0/").says("a newer push took its place");
    said.next().unwrap().says("=====> live: ");
    assert_eq!(world.live_file("index.html"), "three");
    let outcomes: Vec<String> = world.verdicts().iter().map(|v| v["outcome"].to_string()).collect();
    assert_eq!(outcomes, ["\"live\"", "\"superseded\"", "\"live\""]);
}

#[test]
pub fn a_rollback_goes_before_everything_that_waits_and_cancels_a_deploy_that_has_not_reached_its_hold() {
    let world = World::with_site();
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok();
    let gate = world.gated();
    world.file("index.html", "three\n");
    world.commit("three");
    let third = world.push_in_background();
    world.until_deploying();
    world.file("index.html", "four\n");
    world.commit("four");
    let fourth = world.push_in_background();
    world.until(30, "the fourth to wait", || world.status()["waiting"] == 1);
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    assert_eq!(world.live_file("index.html"), "one\n");
    world.end(third, 60).ok().says("=====> NOT LIVE: still 0/").says("a rollback goes before it");
    std::fs::write(&gate, "").unwrap();
    world.end(fourth, 60).ok().says("=====> live: ");
    assert_eq!(world.live_file("index.html"), "four\n");
    world.nothing_is_left_over();
}

#[test]
pub fn cancel_stops_what_runs_and_what_waits_and_changes_nothing() {
    let world = World::with_site();
    world.receiver(&["cancel", "app"]).ok().says("nothing runs or waits");
    world.gated();
    world.file("index.html", "two\n");
    world.commit("two");
    let second = world.push_in_background();
    world.until_deploying();
    world.file("index.html", "three\n");
    world.commit("three");
    let third = world.push_in_background();
    world.until(30, "the third to wait", || world.status()["waiting"] == 1);
    world.receiver(&["cancel", "app"]).ok().says("=====> cancelled");
    for push in [second, third] {
        world.end(push, 60).ok().says("=====> NOT LIVE: still 0/").says("it was cancelled");
    }
    assert_eq!(world.live_file("index.html"), "one\n");
    world.until_idle();
    world.nothing_is_left_over();
    // Nobody tries it again unasked.
    world.receiver(&["unlock", "app"]).ok();
    world.until_idle();
    assert_eq!(world.live_file("index.html"), "one\n");
}

#[test]
pub fn while_an_app_is_locked_a_push_is_refused_and_told_why_and_a_rollback_is_possible() {
    let world = World::with_site();
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok();
    world.receiver(&["lock", "app", "-m", "holidays"]).ok().says("=====> locked: holidays");
    assert_eq!(world.status()["locked"], "holidays");
    world.file("index.html", "three\n");
    world.commit("three");
    world.push().fails(1).says("=====> refused: main: app is locked: holidays");
    world.receiver(&["deploy", "app"]).fails(1).says("app is locked: holidays");
    world.receiver(&["rollback", "app"]).ok();
    assert_eq!(world.live_file("index.html"), "one\n");
    world.receiver(&["unlock", "app"]).ok();
    world.push().ok().says("=====> live: ");
    assert_eq!(world.live_file("index.html"), "three\n");
}

#[test]
pub fn attach_joins_a_running_deploy_and_returns_its_exit_code() {
    let world = World::with_app();
    world.receiver(&["attach", "app"]).fails(1).says("app was never deployed");
    let gate = world.gated();
    world.file("index.html", "one\n");
    world.commit("one");
    let push = world.push_in_background();
    world.until_deploying();
    let attached = world.start(PROGRAM, &["attach", "app"]);
    std::fs::write(&gate, "").unwrap();
    world.end(push, 60).ok();
    world.end(attached, 60).ok().says("     | before").says("     | after").says("=====> live: 0/");
    world.file("receiver.toml", "[stages]\ncheck = \"false\"\n[database]\nengine = \"none\"\n");
    world.commit("fails");
    world.push().ok().says("=====> NOT LIVE: still 0/");
    world.until_idle();
    world.receiver(&["attach", "app"]).fails(1).says("=====> NOT LIVE: still 0/");
    // The last deploy's end, whatever orders came after it.
    world.receiver(&["lock", "app", "-m", "x"]).ok();
    world.receiver(&["attach", "app"]).fails(1).says("=====> NOT LIVE: still 0/");
}

#[test]
fn no_order_is_forgotten_that_comes_just_as_the_worker_ends() {
    let world = World::with_site();
    let order = |word: &str| {
        let begun = Instant::now();
        world.receiver(&[word, "app"]).ok();
        begun.elapsed()
    };
    let mut slow = Vec::new();
    for wait in 0..80 {
        let times = std::thread::scope(|scope| {
            let first = scope.spawn(|| order("unlock"));
            std::thread::sleep(Duration::from_millis(wait));
            [order("cancel"), first.join().unwrap()]
        });
        slow.extend(times.iter().any(|time| *time > Duration::from_millis(1100)).then_some(wait));
    }
    world.until_idle();
    // Its follower starts a worker for a forgotten order after a second: that would hide it.
    assert!(
        slow.len() <= 1,
        "after these milliseconds an order waited until its follower woke somebody: {slow:?}"
    );
}
