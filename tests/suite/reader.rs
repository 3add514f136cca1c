//! Somebody reads through `current` while it is switched, all the time.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::world::World;

/// Reads `a` and `b` through one opened directory: what a reader sees of one release.
fn pair(current: &Path) -> Result<(String, String), String> {
    let open = |error: rustix::io::Errno| format!("current is missing or dangling: {error}");
    let directory = openat(CWD, current, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(open)?;
    let read = |name: &str| {
        let file = openat(&directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut text = String::new();
        let file = file.map_err(|error| format!("{name} is missing: {error}"))?;
        File::from(file).read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok::<_, String>(text)
    };
    Ok((read("a")?, read("b")?))
}

#[test]
fn a_reader_never_sees_current_missing_dangling_or_half_made_in_200_switches() {
    // In memory, where there is such a place: here it is not the disk that is tested.
    let memory = tempfile::TempDir::with_prefix_in("receiver-test-", "/dev/shm");
    let world = memory.map_or_else(|_| World::new(), World::at);
    world.receiver(&["create", "app"]).ok();
    world.remote("app");
    for text in ["first", "second"] {
        world.file("index.html", text).file("a", text).file("b", text);
        world.commit(text);
        world.push().ok();
    }
    let current = world.app().join("current");
    let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = std::thread::spawn({
        let (stop, reads, current) = (Arc::clone(&stop), Arc::clone(&reads), current.clone());
        move || {
            let mut seen = std::collections::BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                let (a, b) = pair(&current)?;
                if a != b {
                    return Err(format!("unequal: {a:?} and {b:?}"));
                }
                // The naive reader, by path: it may see two releases, but never nothing.
                std::fs::read(current.join("a")).map_err(|error| format!("by path: {error}"))?;
                seen.insert(a);
                reads.fetch_add(1, Ordering::Relaxed);
            }
            Ok(seen)
        }
    });
    let ids: Vec<String> = ["good", "live"]
        .iter()
        .map(|state| {
            let list = world.list();
            let all = list["releases"].as_array().unwrap().clone();
            all.iter().find(|release| release["state"] == *state).unwrap()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let before = switches(&world);
    for at in 0..200 {
        world.receiver(&["rollback", "app", &ids[at % 2]]).ok();
        assert_eq!(world.live().as_ref(), Some(&ids[at % 2]));
    }
    stop.store(true, Ordering::Relaxed);
    let seen = reader.join().unwrap().unwrap();
    assert_eq!(switches(&world) - before, 200);
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["first", "second"]);
    assert!(reads.load(Ordering::Relaxed) > 200);
}

fn switches(world: &World) -> usize {
    let journal = std::fs::read_to_string(world.app().join("receiver/journal.jsonl")).unwrap();
    journal.matches("\"event\":\"live\"").count()
}
