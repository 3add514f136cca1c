//! An app with years of releases in its journal: as quick as a young one, and the same answers.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::world::{PROGRAM, World};

/// A site whose journal has so many deploys more in it, as after years, and a push after that.
fn aged(deploys: u32) -> World {
    let world = World::with_site();
    for text in ["one", "two"] {
        push(&world, text);
    }
    let journal = journal(&world);
    let text = std::fs::read_to_string(&journal).unwrap();
    let (head, lately) = text.split_once('\n').unwrap();
    let mut long = format!("{head}\n");
    let mut seq = 0;
    let mut add = |event: String| {
        seq += 1;
        writeln!(long, r#"{{"seq":{seq},"time":"2024-01-01T00:00:00Z",{event}}}"#).unwrap();
    };
    for number in 0..deploys {
        let release = format!("0/20240101T{number:06}Z-aaaaaaaaaaaa");
        let revision = format!("{number:040x}");
        add(format!(
            r#""event":"push","job":"job{number}","branch":"main","new":"{revision}","forced":false"#
        ));
        add(format!(r#""event":"live","release":"{release}","rollback":false"#));
        add(format!(
            r#""event":"verdict","job":"job{number}","outcome":"live","revision":"{revision}","branch":"main","release":"{release}""#
        ));
        add(format!(r#""event":"prune","releases":["{release}"]"#));
    }
    for line in lately.lines() {
        // Each begins with its number.
        add(line.split_once("Z\",").unwrap().1.strip_suffix('}').unwrap().to_owned());
    }
    std::fs::write(&journal, long).unwrap();
    push(&world, "three");
    world.until_idle();
    world
}

fn push(world: &World, text: &str) {
    world.file("index.html", text).commit(text);
    world.push().ok();
}

fn journal(world: &World) -> PathBuf {
    world.app().join("receiver/journal.jsonl")
}

/// What the commands answer that ask the journal.
fn answers(world: &World) -> Vec<String> {
    let mut status: Value =
        serde_json::from_str(&world.receiver(&["status", "app", "--json"]).ok().stdout).unwrap();
    // The gist itself is among them.
    status["apps"][0]["bytes"] = Value::Null;
    let mut answers = vec![status.to_string()];
    for command in [
        &["list", "app", "--json"][..],
        &["plan", "app", "--json"],
        &["prune", "app", "--dry-run"],
        &["rollback", "app", "--dry-run"],
        &["history", "app", "-n", "7"],
    ] {
        let said = world.receiver(command);
        answers.push(format!("{command:?}: {}{}", said.stdout, said.stderr));
    }
    answers
}

#[test]
fn what_is_asked_of_an_old_app_is_answered_the_same_with_its_gist_and_without() {
    let world = aged(500);
    let gist = world.app().join("receiver/journal.gist");
    for step in ["begin", "pin", "rollback", "push", "lock"] {
        match step {
            "pin" => drop(world.receiver(&["pin", "app", &world.live().unwrap()]).ok()),
            "rollback" => drop(world.receiver(&["rollback", "app"]).ok()),
            "push" => push(&world, "four"),
            "lock" => drop(world.receiver(&["lock", "app", "-m", "holidays"]).ok()),
            _ => {}
        }
        world.until_idle();
        assert!(gist.exists(), "{step}");
        let with = answers(&world);
        std::fs::rename(&gist, gist.with_extension("aside")).unwrap();
        for (with, without) in with.iter().zip(answers(&world)) {
            assert_eq!(*with, without, "{step}");
        }
        std::fs::rename(gist.with_extension("aside"), &gist).unwrap();
    }
}

#[test]
fn a_gist_that_says_something_else_is_not_believed_once_the_journal_was_touched() {
    let world = aged(500);
    let gist = world.app().join("receiver/journal.gist");
    let before = std::fs::read(&gist).unwrap();
    world.receiver(&["lock", "app", "-m", "holidays"]).ok();
    // What it said before, as a backup of the directory might bring it back.
    std::fs::write(&gist, before).unwrap();
    assert_eq!(world.status()["locked"], "holidays");
    world.receiver(&["unlock", "app"]).ok();
    assert_eq!(world.status()["locked"], Value::Null);
    // Junk and what a newer receiver wrote are as none, and are written over.
    for junk in ["", "junk", "{\"gist\":2}\n{}\n"] {
        std::fs::write(&gist, junk).unwrap();
        world.receiver(&["lock", "app", "-m", "again"]).ok();
        assert_eq!(world.status()["locked"], "again", "{junk}");
        world.receiver(&["unlock", "app"]).ok();
        assert!(std::fs::read_to_string(&gist).unwrap().starts_with("{\"gist\":1,"), "{junk}");
    }
}

/// How many bytes of the journal a program and all that it starts read.
fn bytes_read(world: &World, program: &str, arguments: &[&str]) -> u64 {
    let log = world.place().join("calls");
    let (path, name) = (journal(world), log.display().to_string());
    let traced =
        ["-f", "-qq", "-o", &name, "-P", path.to_str().unwrap(), "-e", "trace=read,pread64,readv", program];
    world.end(world.start("strace", &[&traced[..], arguments].concat()), 120).ok();
    world.until_idle();
    let calls = std::fs::read_to_string(log).unwrap();
    calls.lines().filter_map(|line| line.rsplit_once("= ")?.1.trim().parse::<u64>().ok()).sum()
}

#[test]
fn the_cost_of_a_command_does_not_grow_with_the_length_of_the_journal() {
    let world = aged(1000);
    let length = std::fs::metadata(journal(&world)).unwrap().len();
    for command in [&["list", "app"][..], &["status", "app"], &["plan", "app"], &["pin", "app", "three"]] {
        let said = world.live().unwrap();
        let command: Vec<&str> =
            command.iter().map(|word| if *word == "three" { said.as_str() } else { word }).collect();
        let read = bytes_read(&world, PROGRAM, &command);
        assert!(read < 4096, "{command:?} read {read} of {length} bytes");
    }
    world.file("index.html", "five").commit("five");
    let (laptop, repository) = (world.laptop(), world.app().join("repo.git"));
    let push = ["-C", laptop.to_str().unwrap(), "push", "--quiet", repository.to_str().unwrap(), "main"];
    let read = bytes_read(&world, "git", &push);
    assert_eq!(world.live_file("index.html"), "five");
    assert!(read < 4096, "a push read {read} of {length} bytes");
}
