//! Files of state that are cut short, empty, junk, of another kind, or of a newer format.
//!
//! Whatever was done to a file: a clear sentence, no panic, an exit code as designed, nothing lost and
//! nothing outside of the app touched; reading commands go on where they can; a newer format is refused
//! and not written; doctor names it.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::world::{PROGRAM, Said, World};

/// What was done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Cut,
    Empty,
    Junk,
    Directory,
    Symlink,
    Fifo,
    Newer,
}

use Way::{Cut, Directory, Empty, Fifo, Junk, Newer, Symlink};
const WAYS: [Way; 7] = [Cut, Empty, Junk, Directory, Symlink, Fifo, Newer];

/// What happens to a push while the file is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Push {
    /// It deploys: the damage was mended, or does not matter.
    Deploys,
    /// It does not, and says so; with the file put back the next one does.
    Stops,
}
use Push::{Deploys, Stops};

/// A file of state, and what a push does in each of the [`WAYS`].
struct Row {
    name: &'static str,
    find: fn(&World) -> PathBuf,
    push: [Push; 7],
}

const TABLE: [Row; 8] = [
    // Cut, empty and junk are mended, what was there is kept aside.
    Row { name: "journal", find: journal, push: [Deploys, Deploys, Deploys, Stops, Stops, Stops, Stops] },
    // What its schema and database are nobody can tell.
    Row { name: "live record", find: |world| record(world, "live"), push: [Stops; 7] },
    Row { name: "other record", find: |world| record(world, "good"), push: [Deploys; 7] },
    // The lock is the kernel's: what stands in the file does not matter.
    Row {
        name: "lock",
        find: |world| world.app().join("receiver/lock"),
        push: [Deploys, Deploys, Deploys, Stops, Stops, Stops, Stops],
    },
    Row {
        name: "underway",
        find: underway,
        push: [Deploys, Deploys, Deploys, Deploys, Deploys, Deploys, Stops],
    },
    Row { name: "queue", find: job, push: [Deploys; 7] },
    // Secrets are not guessed.
    Row { name: "env", find: environment, push: [Stops; 7] },
    Row {
        name: "app.toml",
        find: |world| world.app().join("receiver/app.toml"),
        push: [Deploys, Deploys, Deploys, Stops, Deploys, Stops, Stops],
    },
];

fn journal(world: &World) -> PathBuf {
    world.app().join("receiver/journal.jsonl")
}

fn record(world: &World, state: &str) -> PathBuf {
    let list = world.list();
    let all = list["releases"].as_array().unwrap();
    let path = all.iter().find(|release| release["state"] == state).unwrap()["path"].as_str().unwrap();
    PathBuf::from(format!("{path}.toml"))
}

fn underway(world: &World) -> PathBuf {
    let path = world.app().join("receiver/underway.json");
    let job = "{\"format\":1,\"id\":\"20200101T000000Z-1-1\",\"asked\":\"2020-01-01T00:00:00Z\",\"by\":\"ada\",\"order\":{\"kind\":\"unlock\"}}";
    std::fs::write(
        &path,
        format!("{{\"format\":1,\"job\":{job},\"seq\":1,\"before\":null,\"step\":{{\"step\":\"taken\"}}}}"),
    )
    .unwrap();
    path
}

fn job(world: &World) -> PathBuf {
    let path = world.app().join("receiver/queue/20200101T000000Z-1-1.json");
    std::fs::write(&path, "{\"format\":1,\"id\":\"20200101T000000Z-1-1\",\"asked\":\"2020-01-01T00:00:00Z\",\"by\":\"ada\",\"order\":{\"kind\":\"unlock\"}}").unwrap();
    path
}

fn environment(world: &World) -> PathBuf {
    world.receiver_fed(&["env", "app", "set", "COLOUR"], b"green\n").ok();
    world.app().join("receiver/secrets/env.json")
}

impl Way {
    fn apply(self, path: &Path, outside: &Path) {
        let bytes = std::fs::read(path).unwrap();
        if !matches!(self, Cut | Empty | Junk | Newer) {
            std::fs::remove_file(path).unwrap();
        }
        match self {
            Cut => std::fs::write(path, &bytes[..bytes.len() - bytes.len().min(9)]).unwrap(),
            Empty => std::fs::write(path, "").unwrap(),
            Junk => std::fs::write(path, b"\x00\xff\x1b[31mjunk\nmore { junk \x80\n").unwrap(),
            Directory => std::fs::create_dir(path).unwrap(),
            Symlink => symlink(outside, path).unwrap(),
            Fifo => {
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::RWXU, 0).unwrap();
            }
            Newer => {
                let text = String::from_utf8(bytes).unwrap();
                let newer = text.replacen("\"format\":1", "\"format\":2", 1);
                let newer = newer.replacen("\"format\": 1", "\"format\": 2", 1).replacen(
                    "format = 1",
                    "format = 2",
                    1,
                );
                assert_ne!(newer, text, "{}", path.display());
                std::fs::write(path, newer).unwrap();
            }
        }
    }
}

/// What `path` is, so that it can be compared later: its kind, and its bytes or target.
fn what_is(path: &Path) -> String {
    let Ok(about) = std::fs::symlink_metadata(path) else { return "nothing".to_owned() };
    if about.is_file() {
        return format!("file {:?}", std::fs::read(path).unwrap());
    }
    format!("{:?} {:?}", about.file_type(), std::fs::read_link(path).ok())
}

/// Whether what was there lies somewhere in receiver's state, as it was, or as the beginning of a file.
fn is_kept(world: &World, path: &Path, was: &str) -> bool {
    let place = path.parent().unwrap().to_owned();
    [place, world.app().join("receiver")].iter().any(|place| {
        let entries = std::fs::read_dir(place).unwrap().flatten();
        entries.map(|entry| entry.path()).any(|path| what_is(&path) == was)
    })
}

/// Runs a command that must come to an end, with a code of the design's, and without a panic.
fn sane(world: &World, program: &str, arguments: &[&str]) -> Said {
    let said = world.end(world.start(program, arguments), 60);
    let all = format!("{}{}", said.stdout, said.stderr);
    for bad in ["panicked", "RUST_BACKTRACE", "stack backtrace", "\u{1b}[31m"] {
        assert!(!all.contains(bad), "{arguments:?} says {bad}: {all}");
    }
    assert!(
        (0..=3).contains(&said.code) || program == "git",
        "{arguments:?} ended with {}: {all}",
        said.code
    );
    if said.code == 1 && program == PROGRAM {
        assert!(
            all.contains("error: ") || all.contains("trouble") || all.contains("=====> "),
            "{arguments:?}: {all}"
        );
    }
    said
}

fn try_one(row: &Row, way: Way, push: Push) {
    let world = World::with_site();
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok();
    world.until_idle();
    let outside = world.place().join("outside");
    std::fs::write(&outside, "{\"format\":1}\n").unwrap();
    let path = (row.find)(&world);
    let whole = std::fs::read(&path).unwrap();
    way.apply(&path, &outside);
    let was = what_is(&path);
    // Reading.
    for command in ["list", "status", "history", "show", "plan"] {
        let said = sane(&world, PROGRAM, &[command, "app"]);
        if ["other record", "lock", "queue", "env", "underway"].contains(&row.name)
            && ["list", "status"].contains(&command)
        {
            said.ok();
        }
    }
    assert_eq!(what_is(&path), was, "a reading command wrote it");
    let doctor = sane(&world, PROGRAM, &["doctor", "app"]);
    let named = format!("{}{}", doctor.stdout, doctor.stderr);
    let matters = !(row.name == "lock" && matches!(way, Cut | Empty | Junk));
    if matters {
        assert_ne!(doctor.code, 0, "doctor saw nothing: {named}");
        let name = path.file_stem().and_then(OsStr::to_str).unwrap();
        assert!(named.contains(name), "doctor does not name {name}: {named}");
    }
    // Writing.
    world.file("index.html", "three\n");
    world.commit("three");
    let said = sane(&world, "git", &["push", "--quiet", "production", "main"]);
    world.until(60, "the worker to end", || {
        let path = world.app().join("receiver/lock");
        let shared = rustix::fs::FlockOperation::NonBlockingLockShared;
        !path.is_file() || rustix::fs::flock(std::fs::File::open(path).unwrap(), shared).is_ok()
    });
    let deployed = if world.live_file("index.html") == "three\n" { Deploys } else { Stops };
    assert_eq!(deployed, push, "{}", said.stderr);
    if push == Stops {
        assert!(
            said.talk().contains("NOT LIVE: ")
                || said.talk().contains("refused: ")
                || said.talk().contains("error: "),
            "{}",
            said.talk()
        );
        assert_eq!(what_is(&path), was, "it was written all the same");
    }
    if way == Newer {
        assert_eq!(what_is(&path), was, "a newer format was written");
    }
    // The lock says who holds it: what was junk there is nobody's loss.
    if row.name != "lock" {
        assert!(is_kept(&world, &path, &was), "what was there is lost: {was}\n{}", world.picture());
    }
    assert_eq!(
        std::fs::read_to_string(&outside).unwrap(),
        "{\"format\":1}\n",
        "something outside was written"
    );
    // Put back as it was, the next push deploys.
    if push == Stops {
        let _ = std::fs::remove_dir(&path);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, whole).unwrap();
        world.file("index.html", "four\n");
        world.commit("four");
        sane(&world, "git", &["push", "--quiet", "production", "main"]).ok().says("=====> live: ");
        assert_eq!(world.live_file("index.html"), "four\n");
    }
}

/// Runs all of it in a few threads, and tells everything that went wrong.
fn in_threads<T: Sync>(all: &[T], name: impl Fn(&T) -> String + Sync, run: impl Fn(&T) + Sync) {
    let (next, wrong) = (Mutex::new(all.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(one) = next.lock().unwrap().next() else { return };
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(one))).is_err() {
                        wrong.lock().unwrap().push(name(one));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "these went wrong, see above: {wrong:#?}");
}

#[test]
fn whatever_is_done_to_a_file_of_state_nothing_is_lost_and_a_clear_sentence_is_said() {
    let rows =
        TABLE.iter().flat_map(|row| WAYS.iter().zip(row.push).map(move |(way, push)| (row, *way, push)));
    let only = std::env::var("DAMAGE").unwrap_or_default();
    let rows: Vec<_> = rows.filter(|(row, way, _)| format!("{} {way:?}", row.name).contains(&only)).collect();
    in_threads(
        &rows,
        |(row, way, _)| format!("{} {way:?}", row.name),
        |(row, way, push)| try_one(row, *way, *push),
    );
}

#[test]
fn whatever_is_done_to_current_it_is_named_and_nothing_outside_is_touched() {
    type Damage = fn(&Path, &Path);
    let table: [(&str, Damage, Push); 5] = [
        ("missing", |_, _| (), Deploys),
        (
            "dangling",
            |current, _| symlink("versions/0/20200101T000000Z-aaaaaaaaaaaa", current).unwrap(),
            Stops,
        ),
        ("a directory", |current, _| std::fs::create_dir(current).unwrap(), Stops),
        ("a file", |current, _| std::fs::write(current, "x").unwrap(), Stops),
        ("pointing outside", |current, outside| symlink(outside, current).unwrap(), Stops),
    ];
    in_threads(
        &table,
        |(name, ..)| (*name).to_owned(),
        |(name, damage, push)| {
            let world = World::with_site();
            let outside = world.place().join("outside");
            std::fs::create_dir(&outside).unwrap();
            std::fs::write(outside.join("index.html"), "outside\n").unwrap();
            let current = world.app().join("current");
            std::fs::remove_file(&current).unwrap();
            damage(&current, &outside);
            let was = what_is(&current);
            for command in ["list", "status", "history", "show", "plan", "rollback"] {
                let said = sane(&world, PROGRAM, &[command, "app"]);
                if *name != "missing" && command != "history" {
                    said.fails(1).says("current").says("hint: ");
                }
            }
            let doctor = sane(&world, PROGRAM, &["doctor", "app"]);
            if *name != "missing" {
                doctor.fails(1).says("current");
            }
            world.file("index.html", "two\n");
            world.commit("two");
            let said = sane(&world, "git", &["push", "--quiet", "production", "main"]);
            if *push == Deploys {
                assert!(said.talk().contains("=====> live: "), "{}", said.talk());
            } else {
                assert!(said.talk().contains("current"), "{}", said.talk());
                assert_eq!(what_is(&current), was);
                // As the hint says.
                let _ = std::fs::remove_dir(&current);
                let _ = std::fs::remove_file(&current);
                world.push();
                world.receiver(&["deploy", "app"]).ok().says("=====> live: ");
            }
            assert_eq!(world.live_file("index.html"), "two\n");
            assert_eq!(std::fs::read_to_string(outside.join("index.html")).unwrap(), "outside\n");
        },
    );
}
