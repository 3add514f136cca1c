//! The worker dies at its N-th system call: between any two of its writes, named point or not.
//!
//! A few of them are tried each time. `RECEIVER_LONG=1` tries every single one.

use std::collections::BTreeMap;

use crate::world::{PROGRAM, Said, World};

const CALLS: &str = "rename,renameat,renameat2,fsync,fdatasync,syncfs,unlink,unlinkat,openat,mkdir,mkdirat,rmdir,\
                     symlink,symlinkat,linkat,ftruncate,fchmod,pwrite64,write,flock";

fn strace(world: &World, expressions: &[&str]) -> Said {
    let found = std::process::Command::new("strace").arg("-V").output().is_ok();
    assert!(found, "this test needs strace: `apt install strace`");
    let log = world.place().join("strace.log").display().to_string();
    let mut arguments = vec!["-qq", "-o", &log];
    for expression in expressions {
        arguments.extend(["-e", expression]);
    }
    arguments.extend([PROGRAM, "work", "app"]);
    world.end(world.start("strace", &arguments), 120)
}

/// A tip that opens a version, which the next worker will deploy; no hook runs, so nobody follows.
fn lost_tip(world: &World, text: &str) {
    let schema = std::fs::read_to_string(world.laptop().join("schema.sql")).unwrap();
    world
        .file("schema.sql", &format!("{schema}CREATE TABLE t{text} (x INTEGER);\n"))
        .file("index.html", text);
    lost(world, &world.commit(text));
}

fn many_files(world: &World, count: usize) {
    for number in 0..count {
        world.file(&format!("{}/{number}.txt", number % 20), "a file of many\n");
    }
}

/// The branch is at a revision that no worker was told of.
fn lost(world: &World, hash: &str) {
    let (repository, laptop) = (world.app().join("repo.git"), world.laptop().display().to_string());
    world.run("git", &repository, &["fetch", "--quiet", &laptop, "main"]).ok();
    world.run("git", &repository, &["update-ref", "refs/heads/main", hash]).ok();
}

/// Lets a worker work; answers how often it, with all its threads, began to sync a whole filesystem.
fn syncs(world: &World, inject: &[&str]) -> (Said, usize) {
    let log = world.place().join("strace.log").display().to_string();
    let common = ["-f", "--seccomp-bpf", "-qq", "-o", &log, "-e", "trace=syncfs"];
    let said = world.end(world.start("strace", &[&common, inject, &[PROGRAM, "work", "app"]].concat()), 120);
    let log = std::fs::read_to_string(&log).unwrap();
    (said, log.lines().filter(|line| line.contains("syncfs(")).count())
}

/// Every call that a deploy which opens a version makes: its name, and its number among those of that
/// name, as strace counts them.
fn calls(world: &World) -> Vec<(String, usize)> {
    lost_tip(world, "counted");
    strace(world, &[&format!("trace={CALLS}")]).ok();
    assert_eq!(world.live_file("index.html"), "counted");
    let log = std::fs::read_to_string(world.place().join("strace.log")).unwrap();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for name in log.lines().filter_map(|line| line.split_once('(').map(|(name, _)| name)) {
        let number = seen.entry(name).or_default();
        *number += 1;
        calls.push((name.to_owned(), *number));
    }
    calls
}

/// Answers whether it died: another worker may make a few calls less than the one that was counted.
fn die_at(world: &World, name: &str, number: usize) -> bool {
    let old = world.live_file("index.html");
    let new = format!("{name}{number}");
    world.sql(&format!("INSERT INTO note (text) VALUES ('row {new}');"));
    lost_tip(world, &new);
    let said =
        strace(world, &[&format!("trace={name}"), &format!("inject={name}:signal=KILL:when={number}")]);
    // Dead, and nobody has mended anything.
    let seen = world.live_file("index.html");
    assert!(seen == old || seen == new, "{new}: {seen}");
    world.live_is_complete();
    world.receiver(&["status", "app"]).ok();
    // The next order's worker finishes it, or begins it again.
    world.receiver(&["unlock", "app"]).ok();
    world.until_idle();
    assert_eq!(world.live_file("index.html"), new, "{new}\n{}", world.picture());
    world.receiver(&["prune", "app"]).ok();
    world.nothing_is_left_over();
    world.receiver(&["doctor", "app"]).ok();
    assert!(world.sql("SELECT text FROM note;").contains(&format!("row {new}")), "{new}");
    world.sql("INSERT INTO note (text) VALUES ('it takes writes');");
    said.code == 128 + 9
}

#[test]
fn current_always_points_to_a_complete_release_at_whatever_system_call_the_worker_dies() {
    let world = World::with_sql();
    let calls = calls(&world);
    assert!(calls.len() > 100, "{calls:?}");
    let step = if std::env::var_os("RECEIVER_LONG").is_some() { 1 } else { calls.len() / 40 };
    let tried: Vec<_> = calls.iter().rev().step_by(step).collect();
    let died: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|at| {
                let mine = tried.iter().skip(at).step_by(4);
                scope.spawn(move || {
                    // A world gets slower with each version in it.
                    let mut world = World::with_sql();
                    mine.enumerate()
                        .filter(|(done, (name, number))| {
                            if done % 20 == 19 {
                                world = World::with_sql();
                            }
                            die_at(&world, name, *number)
                        })
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(died * 10 >= tried.len() * 8, "only {died} of {} deaths came", tried.len());
}

#[test]
fn a_deploy_is_followed_where_the_kernel_lets_nobody_watch() {
    let world = World::with_site();
    let inject = "inject=inotify_init1,inotify_init:error=EMFILE";
    let arguments = ["-qq", "-o", "/dev/null", "-e", inject, PROGRAM, "deploy", "app"];
    world.end(world.start("strace", &arguments), 60).ok().says("=====> live: 0/");
}

#[test]
fn what_cannot_be_brought_to_disk_while_more_is_written_never_goes_live() {
    let world = World::with_site();
    let live = world.live();
    // Each counts for what it takes besides its bytes, too.
    many_files(&world, 3000);
    let work = |tip: &str, inject: &[&str]| {
        lost(&world, &world.commit(tip));
        syncs(&world, inject)
    };
    let (_, begun) = work("fails", &["-e", "inject=syncfs:error=EIO:when=1"]);
    assert_eq!(begun, 1, "that beside the export; the one at its end would come too late");
    assert_eq!(world.live(), live);
    let verdict = world.receiver(&["attach", "app"]);
    verdict.fails(1).says("cannot sync the filesystem of ").says("Input/output error");
    world.nothing_is_left_over();
    world.file("index.html", "all is on disk");
    let (said, begun) = work("comes", &[]);
    said.ok();
    assert!(begun >= 2, "{begun}: anew, and some of it before the end");
    assert_eq!(world.live_file("index.html"), "all is on disk");
}

#[test]
fn an_export_that_takes_long_says_how_far_it_is_and_ends_where_it_is_cancelled() {
    let world = World::with_site();
    let live = world.live();
    many_files(&world, 2000);
    lost(&world, &world.commit("many"));
    let slow = ["-e", "trace=write", "-e", "inject=write:delay_exit=10ms"];
    let strace = ["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"];
    let worker = world.start("strace", &[&strace, &slow[..], &[PROGRAM, "work", "app"]].concat());
    // Another deploy's log would not speak of so many.
    let logs = world.app().join("receiver/logs");
    let says =
        |name: &String| std::fs::read_to_string(logs.join(name)).is_ok_and(|log| log.contains(" of 2,00"));
    world.until(60, "the export to say how far it is", || world.names("receiver/logs").iter().any(says));
    world.receiver(&["cancel", "app"]).ok().says("=====> cancelled");
    world.end(worker, 60).ok();
    // What says how many files there were, and how many changed, comes at the end of an export.
    world.receiver(&["attach", "app"]).fails(1).says("it was cancelled").never_says("2,000 changed");
    assert_eq!(world.live(), live);
    world.nothing_is_left_over();
}

#[test]
fn what_could_not_be_brought_to_disk_never_becomes_the_spare() {
    let world = World::with_site();
    for number in 0..50 {
        world.file(&format!("{number}.txt"), "a file of some\n");
    }
    lost(&world, &world.commit("fails"));
    let live = world.live();
    // So few are synced at the seal alone, and once more by whoever would make a spare of them: to that the kernel says nothing.
    let (_, synced) = syncs(&world, &["-e", "inject=syncfs:error=EIO:when=1"]);
    assert_eq!((synced, world.live()), (1, live.clone()));
    world.receiver(&["attach", "app"]).fails(1).says("Input/output error");
    assert_eq!(world.names("receiver/spare"), [""; 0]);
    // One that died before it synced is of no use, either, where that fails.
    world.file("index.html", "dies");
    lost(&world, &world.commit("dies"));
    let mut dies = world.command("env", world.place());
    dies.args(["RECEIVER_TEST_DIE_AT=exported", PROGRAM, "work", "app"]);
    assert!(!dies.status().unwrap().success());
    let (_, synced) = syncs(&world, &["-e", "inject=syncfs:error=EIO"]);
    assert_eq!((synced, world.live()), (2, live), "for the spare, and at the seal of what was made anew");
    assert_eq!(world.names("receiver/spare"), [""; 0]);
}

#[test]
fn what_is_made_of_what_a_dead_worker_wrote_is_brought_to_disk_before_it_goes_live() {
    let mut world = World::with_site();
    for number in 0..50 {
        world.file(&format!("{number}.txt"), "a file of some\n");
    }
    lost(&world, &world.commit("dies"));
    world.env.insert("RECEIVER_TEST_DIE_AT".into(), "exported".into());
    assert_eq!(world.receiver(&["work", "app"]).code, 128 + 9);
    world.env.clear();
    // Whoever comes next finishes what it had to do.
    let (said, synced) = syncs(&world, &[]);
    said.ok();
    assert_eq!(world.live_file("49.txt"), "a file of some\n");
    assert!(synced > 0, "only what it wrote itself");
}

#[test]
fn what_is_said_after_a_death_in_the_middle_of_a_line_stands_on_a_line_of_its_own() {
    let mut world = World::with_sql();
    lost_tip(&world, "torn");
    world.env.insert("RECEIVER_TEST_DIE_AT".into(), "exported".into());
    assert_eq!(world.receiver(&["work", "app"]).code, 128 + 9);
    world.env.clear();
    let log = std::fs::read_dir(world.app().join("receiver/logs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .max();
    let log = log.unwrap();
    let before = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, format!("{before}{{\"output\":\"half a li")).unwrap();
    world.receiver(&["unlock", "app"]).ok();
    world.until_idle();
    world
        .receiver(&["attach", "app"])
        .ok()
        .says("the worker died; what it had done is undone")
        .says("=====> live: 1/");
}

#[test]
fn a_lock_on_a_ref_that_a_dead_worker_left_stops_nobody() {
    let mut world = World::with_sql();
    lost_tip(&world, "locked");
    world.env.insert("RECEIVER_TEST_DIE_AT".into(), "begun".into());
    assert_eq!(world.receiver(&["work", "app"]).code, 128 + 9);
    world.env.clear();
    let holds = world.app().join("repo.git/refs/receiver");
    let names =
        std::fs::read_dir(&holds).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let live = world.live().unwrap();
    let newest = names.into_iter().find(|name| !live.ends_with(name.as_str())).unwrap();
    std::fs::write(holds.join(format!("{newest}.lock")), "").unwrap();
    world.receiver(&["unlock", "app"]).ok();
    world.until_idle();
    assert_eq!(world.live_file("index.html"), "locked");
    assert!(!holds.join(format!("{newest}.lock")).exists());
}
