//! What prune removes, and what it never does.

use std::collections::BTreeSet;

use crate::world::{PROGRAM, World};

/// A site that keeps one release besides what must be kept.
fn frugal() -> World {
    let world = World::with_app();
    world.receiver(&["config", "app", "keep.releases", "1"]).ok();
    world.receiver(&["config", "app", "keep.versions", "1"]).ok();
    world.deploy("one");
    world
}

impl World {
    /// Pushes a page with this text; answers the release's id.
    fn deploy(&self, text: &str) -> String {
        self.file("index.html", text);
        self.commit(text);
        self.push().ok().says("=====> live: ");
        self.until_idle();
        self.live().unwrap()
    }

    fn kept(&self) -> BTreeSet<String> {
        let releases = self.list()["releases"].as_array().unwrap().clone();
        let kept = releases.iter().filter(|release| !release["path"].is_null());
        let kept: Vec<&serde_json::Value> = kept.collect();
        for release in &kept {
            assert!(std::path::Path::new(release["path"].as_str().unwrap()).is_dir(), "{release}");
        }
        kept.iter().map(|release| release["id"].as_str().unwrap().to_owned()).collect()
    }

    fn prune(&self) {
        self.receiver(&["prune", "app"]).ok();
        self.nothing_is_left_over();
    }

    fn clock(&mut self, hours: i64) {
        self.env.insert("RECEIVER_TEST_CLOCK".into(), (hours * 3600).to_string());
    }
}

fn set<const N: usize>(ids: [&String; N]) -> BTreeSet<String> {
    ids.into_iter().cloned().collect()
}

#[test]
pub fn prune_never_removes_the_live_release_or_the_one_before_it() {
    let world = frugal();
    let ids: Vec<String> = ["two", "three", "four"].iter().map(|text| world.deploy(text)).collect();
    world.prune();
    assert_eq!(world.kept(), set([&ids[1], &ids[2]]));
    // The one before is what was live before, not what is older by name or number.
    world.receiver(&["rollback", "app"]).ok();
    world.prune();
    assert!(world.kept().contains(&ids[1]));
    assert_eq!(world.live_file("index.html"), "three");
    let five = world.deploy("five");
    world.prune();
    assert_eq!(world.kept(), set([&ids[1], &five]));
    assert!(world.receiver(&["rollback", "app"]).ok().talk().contains("=====> live: 0/"));
}

#[test]
fn prune_never_removes_a_pinned_release_until_it_is_unpinned() {
    let world = frugal();
    let pinned = world.live().unwrap();
    world.receiver(&["pin", "app", &pinned]).ok();
    let ids: Vec<String> = ["two", "three", "four"].iter().map(|text| world.deploy(text)).collect();
    world.prune();
    assert_eq!(world.kept(), set([&pinned, &ids[1], &ids[2]]));
    world.receiver(&["unpin", "app", &pinned]).ok();
    world.prune();
    assert_eq!(world.kept(), set([&ids[1], &ids[2]]));
}

#[test]
fn prune_never_removes_a_release_in_which_something_runs() {
    let world = frugal();
    let used = world.live().unwrap();
    let mut running = world
        .start(PROGRAM, &["run", "app", "--", "sh", "-c", "cd /; touch $RECEIVER_SHARED_DIR/on; sleep 60"]);
    world.until(20, "the command to run", || world.app().join("shared/on").exists());
    let ids: Vec<String> = ["two", "three", "four"].iter().map(|text| world.deploy(text)).collect();
    world.prune();
    assert_eq!(world.kept(), set([&used, &ids[1], &ids[2]]));
    // Its child inherits the lock: the release is in use as long as anything of it runs.
    running.kill().unwrap();
    running.wait().unwrap();
    world.prune();
    assert!(world.kept().contains(&used), "the command outlived `receiver run`, and its release went");
    let holder = holders(&world.app().join("versions").join(&used));
    for pid in holder {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    world.until(20, "the release to go", || {
        world.prune();
        world.kept() == set([&ids[1], &ids[2]])
    });
}

/// The processes that have this directory open.
fn holders(directory: &std::path::Path) -> Vec<rustix::process::Pid> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(open) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let has = |file: std::fs::DirEntry| std::fs::read_link(file.path()).is_ok_and(|to| to == directory);
        if open.flatten().any(has) {
            found.extend(rustix::process::Pid::from_raw(pid));
        }
    }
    found
}

#[test]
fn prune_never_removes_the_last_good_release_after_several_failed_ones() {
    let world = frugal();
    let (before, good) = (world.live().unwrap(), world.deploy("good"));
    world.file("receiver.toml", "[stages]\ncheck = \"false\"\n[database]\nengine = \"none\"\n");
    for at in 0..4 {
        world.file("index.html", &format!("bad {at}"));
        world.commit("bad");
        world.push().ok().says("=====> NOT LIVE: still 0/");
        world.until_idle();
    }
    world.prune();
    assert_eq!(world.kept(), set([&before, &good]));
    assert_eq!(world.live_file("index.html"), "good");
}

#[test]
fn prune_never_removes_what_it_does_not_know() {
    let world = frugal();
    let strange = [
        "versions/0/notes.txt",
        "versions/readme",
        "versions/0/20200101T000000Z-aaaaaaaaaaaa/x",
        "versions/77/y",
    ];
    for name in strange {
        let path = world.app().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }
    for text in ["two", "three", "four"] {
        world.file("index.html", text);
        world.commit(text);
        world.push().ok();
        world.until_idle();
    }
    world.receiver(&["prune", "app"]).ok();
    for name in strange {
        assert_eq!(std::fs::read_to_string(world.app().join(name)).unwrap(), name);
    }
    world
        .receiver(&["doctor", "app"])
        .fails(1)
        .says("notes.txt has no record")
        .says("aaaaaaaaaaaa has no record");
}

fn with_versions() -> World {
    let mut world = World::with_sql();
    world.receiver(&["config", "app", "keep.versions", "1"]).ok();
    world.receiver(&["config", "app", "keep.releases", "1"]).ok();
    world.sql("INSERT INTO note (text) VALUES ('bread');");
    world.clock(0);
    world
}

fn open_version(world: &World, table: &str) -> String {
    let schema = std::fs::read_to_string(world.laptop().join("schema.sql")).unwrap();
    world.file("schema.sql", &format!("{schema}CREATE TABLE {table} (x INTEGER);\n"));
    world.deploy(table)
}

#[test]
fn prune_never_removes_a_version_in_its_rollback_window() {
    let mut world = with_versions();
    let first = world.live().unwrap();
    open_version(&world, "a");
    world.clock(1);
    open_version(&world, "b");
    world.clock(23);
    world.prune();
    assert_eq!(world.names("versions"), ["0", "1", "2"]);
    assert!(world.kept().contains(&first));
    // Left for a day: the window of version 0 is over, that of version 1 ends an hour later.
    world.clock(25);
    world.prune();
    assert_eq!(world.names("versions"), ["1", "2"]);
    world.clock(27);
    world.prune();
    // The one before the live one stays, its window over or not.
    assert_eq!(world.names("versions"), ["1", "2"]);
    // A clock that went back closes no window, and opens none.
    world.clock(-48);
    world.prune();
    assert_eq!(world.names("versions"), ["1", "2"]);
}

#[test]
fn a_versions_database_is_dumped_before_it_is_dropped_and_the_dump_can_be_loaded() {
    let mut world = with_versions();
    open_version(&world, "a");
    open_version(&world, "b");
    world.sql("DELETE FROM note;");
    assert!(world.database(0).exists());
    world.clock(25);
    world.prune();
    assert_eq!(world.names("versions"), ["1", "2"]);
    assert!(!world.app().join("receiver/databases/0").exists());
    let dumps = world.names("receiver/dumps");
    assert_eq!(dumps.len(), 1, "{dumps:?}");
    assert!(dumps[0].starts_with("app_v0-"), "{dumps:?}");
    let dump = std::fs::read(world.app().join("receiver/dumps").join(&dumps[0])).unwrap();
    assert_eq!(world.sql("SELECT text FROM note;"), "");
    world.receiver_fed(&["db", "app", "load"], &dump).ok();
    assert_eq!(world.sql("SELECT text FROM note;").trim(), "text\nbread");
    // It takes writes: a dump carries no fence.
    world.sql("INSERT INTO note (text) VALUES ('milk');");
}

#[test]
fn prune_never_removes_what_a_lost_journal_does_not_know() {
    let world = World::with_site();
    for page in ["two", "three"] {
        world.file("index.html", page).commit(page);
        world.push().ok();
    }
    world.until_idle();
    std::fs::remove_file(world.app().join("receiver/journal.jsonl")).unwrap();
    world.receiver(&["config", "app", "keep.releases", "1"]).ok();
    for page in ["four", "five", "six"] {
        world.file("index.html", page).commit(page);
        world.push().ok();
    }
    world.until_idle();
    let subjects: Vec<String> = world.list()["releases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|release| release["subject"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(subjects, ["six", "five", "three", "two", "one"]);
}

#[test]
fn prune_never_removes_a_version_that_holds_a_damaged_record() {
    let mut world = World::with_sql();
    world.file("index.html", "two\n").commit("two");
    world.push().ok();
    let damaged = world.app().join("versions").join(format!("{}.toml", world.live().unwrap()));
    for (number, column) in ["", ", a", ", a, b"].iter().enumerate().skip(1) {
        let schema = format!("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL{column});\n");
        world.file("schema.sql", &schema).commit(&format!("version {number}"));
        world.push().ok().says(&format!("=====> live: {number}/"));
    }
    world.until_idle();
    std::fs::write(&damaged, "format = 1\n").unwrap();
    world.receiver(&["config", "app", "keep.versions", "1"]).ok();
    world.env.insert("RECEIVER_TEST_CLOCK".into(), "864000".into());
    world.receiver(&["prune", "app"]).ok();
    assert!(world.database(0).is_file(), "{}", world.picture());
    assert!(damaged.is_file());
}

#[test]
fn prune_removes_old_logs_of_deploys_and_leaves_those_of_processes() {
    let mut world = World::with_web();
    world.next_page("two", false);
    world.push().ok();
    world.until_running(&["web"]);
    let logs = world.names("receiver/logs");
    assert!(logs.len() >= 3 && logs.contains(&"processes".to_owned()), "{logs:?}");
    std::fs::write(world.app().join("receiver/logs/20200101T000000Z-000000000-1.jsonl"), "").unwrap();
    // Older than any log is kept, the directory that the processes' logs are in, too.
    world.clock(24 * 40);
    world.prune();
    assert_eq!(world.names("receiver/logs"), logs);
    assert_eq!(world.names("receiver/logs/processes").len(), 2);
}
