//! The worker dies, as by `kill -9`, at every point between the lock and the last prune.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::system::{System, on};
use crate::world::{PROGRAM, Said, World};
use receiver::support::death::POINTS;

/// The points that are passed by a deploy which joins a version, after those that every job passes.
const JOINS: [&str; 16] = [
    "locked",
    "job-taken",
    "begun",
    "directory-made",
    "exported",
    "linked",
    "build",
    "checked",
    "synced",
    "sealed",
    "switched",
    "last-moved",
    "journaled",
    "verdict-written",
    "job-removed",
    "pruned",
];

/// Those of a deploy that opens one.
const OPENS: [&str; 21] = [
    "locked",
    "job-taken",
    "begun",
    "directory-made",
    "exported",
    "linked",
    "build",
    "copying",
    "rehearsed",
    "held",
    "carried",
    "migrated",
    "fenced",
    "synced",
    "sealed",
    "switched",
    "last-moved",
    "journaled",
    "verdict-written",
    "job-removed",
    "pruned",
];

/// Those of one that makes a version live again which a rollback left.
const RETURNS: [&str; 22] = [
    "locked",
    "job-taken",
    "begun",
    "directory-made",
    "exported",
    "linked",
    "build",
    "copying",
    "rehearsed",
    "held",
    "rows-carried",
    "carried",
    "started",
    "fenced",
    "synced",
    "sealed",
    "switched",
    "last-moved",
    "journaled",
    "verdict-written",
    "job-removed",
    "pruned",
];

/// Those of a rollback that changes the database.
const BACK: [&str; 11] = [
    "locked",
    "job-taken",
    "rollback-begun",
    "rollback-held",
    "rollback-opened",
    "rollback-fenced",
    "rollback-switched",
    "last-moved",
    "journaled",
    "verdict-written",
    "job-removed",
];

/// Whether the worker that mends the first death passes this point, too.
fn comes_again(point: &str) -> bool {
    !["switched", "rollback-switched", "verdict-written", "job-removed", "pruned"].contains(&point)
}

/// Whether a second death here leaves the job to be begun, or finished, once more.
fn never_fails(point: &str) -> bool {
    !comes_again(point) || ["locked", "last-moved", "journaled"].contains(&point)
}

/// Lets the worker die at `point`, so many times, while `act` is done; looks around while it is dead.
#[track_caller]
fn die(world: &mut World, point: &str, times: usize, program: &str, act: &[&str]) -> Said {
    let ticket = world.place().join("ticket");
    world.env.insert("RECEIVER_TEST_DIE_AT".into(), point.into());
    world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
    std::fs::write(&ticket, "").unwrap();
    let second = world.place().join("ticket.2");
    if times == 2 {
        std::fs::write(&second, "").unwrap();
    }
    let before = world.live();
    let child = world.start(program, act);
    world.until(30, &format!("the death at {point}"), || !ticket.exists());
    // Dead now, or being mended: a reader sees the old or the new all the same.
    let seen = world.live_file("index.html");
    assert!(seen.starts_with("page "), "{seen}");
    world.live_is_complete();
    world.receiver(&["status", "app"]).ok();
    let said = world.end(child, 60);
    world.until_mended();
    assert!(!second.exists(), "the second death at {point} did not come: {}", said.talk());
    assert!(before.is_some());
    world.nothing_is_left_over();
    world.receiver(&["doctor", "app"]).ok();
    let verdicts = world.verdicts();
    let jobs: BTreeSet<String> = verdicts.iter().map(|verdict| verdict["job"].to_string()).collect();
    assert_eq!(jobs.len(), verdicts.len(), "a job has two verdicts: {verdicts:#?}");
    said
}

impl World {
    /// Waits until nobody works; whatever a last death left is mended by the next writing command.
    fn until_mended(&self) {
        let dead = self.app().join("receiver/underway.json").exists();
        if dead || !self.names("receiver/trash").is_empty() {
            self.receiver(&["prune", "app"]).ok();
        }
        self.until_idle();
    }

    fn page(&self, text: &str) {
        self.file("index.html", &format!("page {text}\n"));
        self.commit(text);
    }

    fn page_is(&self, text: &str) -> bool {
        self.live_file("index.html") == format!("page {text}\n")
    }
}

/// Does `each` for all `points`, in several worlds at once: most of the time is spent waiting.
fn in_several_worlds(
    points: &'static [&'static str],
    make: fn() -> World,
    each: fn(&mut World, &str, usize),
) {
    const WORLDS: usize = 5;
    let system = System::now();
    let workers: Vec<_> = (0..WORLDS)
        .map(|at| {
            let work = move || {
                let mut world = make();
                for point in points.iter().skip(at).step_by(WORLDS) {
                    for times in 1..=1 + usize::from(comes_again(point)) {
                        eprintln!("{times} × {point}");
                        each(&mut world, point, times);
                    }
                }
            };
            std::thread::spawn(move || on(system, work))
        })
        .collect();
    let ended: Vec<_> = workers.into_iter().map(std::thread::JoinHandle::join).collect();
    assert!(ended.iter().all(Result::is_ok), "at a point that is named above");
}

fn site() -> World {
    let world = World::with_app();
    world.file("receiver.toml", "[stages]\nbuild = \"echo built > built\"\ncheck = \"test -s built\"\n[database]\nengine = \"none\"\n");
    world.page("first");
    world.push().ok();
    world
}

/// A push after a death deploys as if nothing had been.
#[track_caller]
fn next_push_deploys(world: &World, text: &str) {
    world.page(text);
    world.push().ok().says("=====> live: ");
    assert!(world.page_is(text), "{}", world.live_file("index.html"));
    world.until_idle();
    world.nothing_is_left_over();
}

#[track_caller]
fn judge(world: &World, said: &Said, point: &str, times: usize, old: &str, new: &str) {
    let talk = said.talk();
    if times == 2 && !never_fails(point) {
        let verdict = world.verdicts().pop().unwrap();
        assert_eq!(verdict["outcome"], "failed", "{point}: {talk}");
        assert!(
            talk.contains("NOT LIVE: still ") && talk.contains("the worker died for the second time"),
            "{point}: {talk}"
        );
        assert!(world.page_is(old), "{point}: {}", world.live_file("index.html"));
    } else {
        assert!(talk.contains("=====> live: "), "{point}: {talk}");
        assert!(world.page_is(new), "{point}: {}", world.live_file("index.html"));
    }
}

#[test]
fn every_point_is_died_at() {
    // Those of a release that serves are died at in `serving.rs`, those of branches in `branches.rs`, that of a spare in
    // `reuse.rs`, those of a restore in `backup.rs`, of a removal in `removal.rs`, of a take-over in `adoption.rs`.
    let elsewhere =
        crate::serving::POINTS.iter().chain(&crate::branches::POINTS).chain(&crate::reuse::POINTS);
    let elsewhere = elsewhere
        .chain(&crate::backup::POINTS)
        .chain(&crate::removal::POINTS)
        .chain(&crate::adoption::POINTS)
        .chain(&crate::interrupted::POINTS)
        .chain(&crate::previews::POINTS)
        .chain(&crate::disconnect::POINTS)
        .chain(&crate::ahead::POINTS);
    let passed: BTreeSet<&str> =
        JOINS.iter().chain(&OPENS).chain(&RETURNS).chain(&BACK).chain(elsewhere).copied().collect();
    assert_eq!(passed, POINTS.iter().copied().collect());
}

#[test]
pub fn current_always_points_to_a_complete_release_wherever_a_deploy_dies_and_a_deploy_that_has_begun_ends() {
    in_several_worlds(&JOINS, site, |world, point, times| {
        let old = format!("before {point} {times}");
        next_push_deploys(world, &old);
        let new = format!("at {point} {times}");
        world.page(&new);
        let said = die(world, point, times, "git", &["push", "--quiet", "production", "main"]);
        judge(world, &said, point, times, &old, &new);
    });
}

fn with_rows() -> World {
    let world = World::with_app();
    world.file(
        "receiver.toml",
        "[stages]\nsyncdb = { sql = [\"schema.sql\"] }\nmigration = { sql = [\"from-previous.sql\"] }\n\
         [database]\nengine = \"sqlite\"\ncarry = \"empty\"\n",
    );
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n");
    world.file("from-previous.sql", "INSERT INTO note (id, text) SELECT id, text FROM previous.note;\n");
    world.page("first");
    world.push().ok();
    world
}

fn copied() -> World {
    let world = World::with_app();
    world.file(
        "receiver.toml",
        "[stages]\nsyncdb = { sql = [\"schema.sql\"] }\n[database]\nengine = \"sqlite\"\ncarry = \"copy\"\n",
    );
    world.file(
        "schema.sql",
        "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n",
    );
    world.page("first");
    world.push().ok();
    world
}

/// The next push opens a version.
fn another_table(world: &World, text: &str) {
    let mut schema = std::fs::read_to_string(world.laptop().join("schema.sql")).unwrap();
    let name: String = text.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    schema.extend(["CREATE TABLE IF NOT EXISTS t_", &name, " (x INTEGER);\n"]);
    world.file("schema.sql", &schema);
}

/// Writes rows as fast as it can while something else is done; answers those that were acknowledged.
fn writing(world: &World) -> (Arc<AtomicBool>, std::thread::JoinHandle<Vec<String>>) {
    static NUMBER: Mutex<u32> = Mutex::new(0);
    let stop = Arc::new(AtomicBool::new(false));
    let (root, stopped) = (world.root(), Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            let number = {
                let mut number = NUMBER.lock().unwrap();
                *number += 1;
                *number
            };
            let text = format!("w{number}");
            let mut shell = std::process::Command::new(PROGRAM);
            shell.args(["db", "app", "shell"]).env("RECEIVER_ROOT", &root);
            if fed(shell, &format!("INSERT INTO note (text) VALUES ('{text}');")) {
                acknowledged.push(text);
            }
        }
        acknowledged
    });
    (stop, writer)
}

fn fed(mut command: std::process::Command, input: &str) -> bool {
    use std::io::Write;
    use std::process::Stdio;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait().unwrap().success()
}

fn dies_while_a_version_opens(world: &mut World, point: &str, times: usize) {
    let old = format!("before {point} {times}");
    next_push_deploys(world, &old);
    let new = format!("at {point} {times}");
    another_table(world, &new);
    world.page(&new);
    let before = world.live().unwrap();
    let (stop, writer) = writing(world);
    let said = die(world, point, times, "git", &["push", "--quiet", "production", "main"]);
    stop.store(true, Ordering::Relaxed);
    let acknowledged = writer.join().unwrap();
    judge(world, &said, point, times, &old, &new);
    let opened = before.split('/').next() != world.live().unwrap().split('/').next();
    assert_eq!(opened, world.page_is(&new));
    nothing_is_lost(world, &acknowledged, point);
}

/// The live database takes writes, and has all that was acknowledged.
#[track_caller]
fn nothing_is_lost(world: &World, acknowledged: &[String], point: &str) {
    world.sql(&format!("INSERT INTO note (text) VALUES ('after {point}');"));
    let rows = world.sql("SELECT text FROM note;");
    let rows: BTreeSet<&str> = rows.lines().collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|row| !rows.contains(row.as_str())).collect();
    assert!(lost.is_empty(), "{point}: lost {lost:?} of {}", acknowledged.len());
    assert!(!acknowledged.is_empty());
}

#[test]
fn no_acknowledged_write_is_lost_wherever_a_deploy_that_opens_a_version_dies() {
    in_several_worlds(&OPENS, with_rows, dies_while_a_version_opens);
}

#[test]
fn no_acknowledged_write_is_lost_wherever_a_deploy_that_copies_a_version_dies() {
    const OF_DATA: [&str; 7] = ["rehearsed", "held", "carried", "migrated", "fenced", "sealed", "switched"];
    in_several_worlds(&OF_DATA, copied, dies_while_a_version_opens);
}

/// What a rollback does with data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Data {
    /// Nothing: it stays within the version.
    Stays,
    /// What was written since stays behind.
    Behind,
    /// It comes along.
    Along,
}

fn dies_in_a_rollback(world: &mut World, point: &str, times: usize, data: Data) {
    let crosses = data != Data::Stays;
    let old = format!("old {point} {times}");
    next_push_deploys(world, &old);
    if crosses {
        world.sql(&format!("INSERT INTO note (text) VALUES ('{old}');"));
        another_table(world, &old);
    }
    let new = format!("new {point} {times}");
    next_push_deploys(world, &new);
    let journal = std::fs::read_to_string(world.app().join("receiver/journal.jsonl")).unwrap();
    let left = world.live().unwrap();
    let withdrawn = journal.matches("\"event\":\"withdraw\"").count();
    let fresh = format!("fresh {point} {times}");
    if crosses {
        world.sql(&format!("INSERT INTO note (text) VALUES ('{fresh}');"));
    }
    let act: &[&str] = match data {
        Data::Behind => &["rollback", "app", "--without-new-data"],
        Data::Along | Data::Stays => &["rollback", "app"],
    };
    let writers = (data == Data::Along).then(|| writing(world));
    let said = die(world, point, times, PROGRAM, act);
    if let Some((stop, writer)) = writers {
        stop.store(true, Ordering::Relaxed);
        nothing_is_lost(world, &writer.join().unwrap(), point);
    }
    if times == 2 && !never_fails(point) {
        assert!(said.talk().contains("the worker died for the second time"), "{point}: {}", said.talk());
        assert_eq!(said.code, 1);
        assert!(world.page_is(&new), "{point}");
    } else {
        said.ok().says("=====> live: ");
        assert!(world.page_is(&old), "{point}");
        let journal = std::fs::read_to_string(world.app().join("receiver/journal.jsonl")).unwrap();
        assert_eq!(journal.matches("\"event\":\"withdraw\"").count(), withdrawn + 1, "{point}\n{journal}");
        let live = world.live().unwrap();
        let last = |id: &str| {
            let version = id.split('/').next().unwrap();
            let target = std::fs::read_link(world.app().join("versions").join(version).join("last"));
            target.ok().map(|target| format!("{version}/{}", target.display()))
        };
        assert_eq!(last(&live), Some(live), "{point}: last");
        assert_ne!(last(&left), Some(left), "{point}: last of the version that was left");
    }
    if crosses {
        world.sql(&format!("INSERT INTO note (text) VALUES ('after {point}');"));
        let rows = world.sql("SELECT text FROM note;");
        assert!(rows.lines().any(|row| row == old), "{point}: {rows}");
        // All of it or nothing, in either database.
        let wanted = data == Data::Along || world.page_is(&new);
        assert_eq!(rows.lines().any(|row| row == fresh), wanted, "{point}: {rows}");
    }
}

#[test]
fn a_rollback_over_a_version_ends_wherever_it_dies() {
    in_several_worlds(&BACK, with_rows, |world, point, times| {
        dies_in_a_rollback(world, point, times, Data::Behind);
    });
}

#[test]
fn a_rollback_that_brings_the_data_along_ends_wherever_it_dies() {
    in_several_worlds(&BACK, with_rows, |world, point, times| {
        dies_in_a_rollback(world, point, times, Data::Along);
    });
}

#[test]
fn a_rollback_within_a_version_ends_wherever_it_dies() {
    const WITHIN: [&str; 8] = [
        "locked",
        "job-taken",
        "rollback-begun",
        "rollback-switched",
        "last-moved",
        "journaled",
        "verdict-written",
        "job-removed",
    ];
    in_several_worlds(&WITHIN, site, |world, point, times| {
        dies_in_a_rollback(world, point, times, Data::Stays)
    });
}

fn dies_while_a_left_version_comes_back(world: &mut World, point: &str, times: usize) {
    let old = format!("before {point} {times}");
    next_push_deploys(world, &old);
    let new = format!("at {point} {times}");
    another_table(world, &new);
    next_push_deploys(world, &new);
    let left = world.live().unwrap();
    world.receiver(&["rollback", "app"]).ok();
    world.until_idle();
    assert!(world.page_is(&old));
    let (stop, writer) = writing(world);
    let said = die(world, point, times, PROGRAM, &["deploy", "app"]);
    stop.store(true, Ordering::Relaxed);
    let acknowledged = writer.join().unwrap();
    judge(world, &said, point, times, &old, &new);
    let version = |id: &str| id.split('/').next().map(str::to_owned);
    let live = world.live().unwrap();
    assert_eq!(version(&live) == version(&left), world.page_is(&new), "{point}: {live}, and {left} was left");
    // What did not become live is retired, and keeps what it has.
    nothing_is_lost(world, &acknowledged, point);
    if !world.page_is(&new) {
        let left = world.database(version(&left).unwrap().parse().unwrap());
        let said = crate::data::write_into(&left).unwrap_err();
        assert!(said.contains("is retired"), "{point}: {said}");
    }
}

#[test]
fn no_acknowledged_write_is_lost_wherever_a_deploy_dies_that_brings_a_left_version_back() {
    in_several_worlds(&RETURNS, copied, dies_while_a_left_version_comes_back);
}
