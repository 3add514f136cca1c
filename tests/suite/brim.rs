//! The disk of a database is full in the middle: after it was looked at, and before it was needed. Whatever is on its
//! way ends, nobody is held any longer than `max_pause`, and once there is room again it goes.
//!
//! Where nothing at all is left MariaDB waits for room, with its own tables of roles and routines; where a little is, the copy
//! fills it up.

use std::path::PathBuf;

use crate::backed::{Backed, SQL};
use crate::servers::Engine;
use crate::world::{PROGRAM, Said};

/// Enough for what an app's own records and a server's log want, and not for a copy.
const LITTLE: u64 = 3 << 20;

/// A file that takes what is left, but for so much.
fn fill(world: &Backed, left: u64) -> PathBuf {
    let filler = world.disk().join("filler");
    let file = std::fs::File::create(&filler).unwrap();
    let mut size = world.disk_free().saturating_sub(left);
    while size > 0 && rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size).is_err() {
        size -= 4096;
    }
    filler
}

/// Where a copy that is made ahead is there, and nobody is held yet.
const AHEAD: &str = crate::ahead::POINTS[0];

/// Version 0 is live with some megabytes, on a disk of its own. Versions open by a copy that is made ahead, or not.
fn live(engine: Engine, more: &[&str], ahead: bool) -> Backed {
    let world = Backed::on_a_disk_of(engine, 300, more);
    let from = if ahead { "0s" } else { "1h" };
    world.settings(SQL, &format!("max_pause = \"12s\"\ncopy_ahead = \"{from}\"\n"));
    world.commit("one");
    world.push().ok().says("=====> live: 0/");
    world.enter(&[(1, "one"), (2, "two")]);
    let text = "x".repeat(190);
    let first = format!("INSERT INTO entry (writer, number, text) VALUES (1, 1, '{text}')");
    world.by(&world.url(None), &first).unwrap();
    for power in 0..15 {
        let half = 1 << power;
        let twice = format!(
            "INSERT INTO entry (writer, number, text) SELECT 1, number + {half}, text FROM entry WHERE writer = 1"
        );
        world.by(&world.url(None), &twice).unwrap();
    }
    world
}

/// What the live database holds, in short.
fn sum(world: &Backed) -> String {
    world.by(&world.url(None), "SELECT count(*), sum(number), sum(turn) FROM entry").unwrap()
}

/// `command`, or a push, comes to `point`, where the disk fills up, and ends. Answers what it said.
fn full_at(world: &mut Backed, point: &str, left: u64, command: &[&str]) -> (Said, PathBuf) {
    let (ticket, go) = (world.place().join("ticket"), world.place().join("ticket.go"));
    world.env.insert("RECEIVER_TEST_STOP_AT".into(), point.into());
    world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
    std::fs::write(&ticket, "").unwrap();
    let child = match command {
        [] => world.push_in_background(),
        arguments => world.start(PROGRAM, arguments),
    };
    world.until(60, &format!("the stop at {point}"), || !ticket.exists());
    let filler = fill(world, left);
    std::fs::write(&go, "").unwrap();
    let said = world.end(child, 120);
    world.env.remove("RECEIVER_TEST_STOP_AT");
    std::fs::remove_file(&go).unwrap();
    println!("{}, full at {point}: {}", world.engine.name(), said.talk());
    let talk = said.talk().to_lowercase();
    let says = ["no room left", "no space left", "disk is full"].iter().any(|words| talk.contains(words));
    assert!(says, "it does not say what is wrong: {talk}");
    (said, filler)
}

/// There is room again, and the live version takes writes.
fn room_again(world: &mut Backed, filler: PathBuf) {
    std::fs::remove_file(filler).unwrap();
    // PostgreSQL ends where it cannot write its log.
    if let Some(server) = world.server.as_mut().filter(|server| server.try_sql("", "SELECT 1").is_err()) {
        server.restart();
    }
    world.enter(&[(9, "nine")]);
    world.by(&world.url(None), "DELETE FROM entry WHERE writer = 0 AND number = 9").unwrap();
}

fn a_version_does_not_open(engine: Engine, point: &str, left: u64) {
    a_version_does_not_open_with(engine, &[], point, left);
}

fn a_version_does_not_open_with(engine: Engine, more: &[&str], point: &str, left: u64) {
    let mut world = live(engine, more, point == AHEAD);
    let (live, rows) = (world.live(), sum(&world));
    world.add_table("tag");
    let (said, filler) = full_at(&mut world, point, left, &[]);
    said.says("NOT LIVE: still 0/");
    assert_eq!(world.live(), live);
    room_again(&mut world, filler);
    assert_eq!(sum(&world), rows);
    world.receiver(&["prune", "app"]).ok();
    world.only(&["app_v0"]);
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    assert_eq!((world.entries().as_str(), sum(&world)), ("one two", rows));
    world.only(&["app_v0", "app_v1"]);
    world.nothing_is_left_over();
}

fn rows_do_not_go_back(engine: Engine, point: &str, left: u64) {
    let mut world = live(engine, &[], false);
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    world.by(&world.url(None), "UPDATE entry SET turn = 1, text = upper(text)").unwrap();
    let (live, rows) = (world.live(), sum(&world));
    let before = world.query("app_v0", "SELECT count(*), sum(turn) FROM entry");
    let (said, filler) = full_at(&mut world, point, left, &["rollback", "app"]);
    said.fails(1).says("NOT ROLLED BACK: still 1/");
    assert_eq!(world.live(), live);
    room_again(&mut world, filler);
    assert_eq!(sum(&world), rows);
    world.receiver(&["prune", "app"]).ok();
    assert_eq!(world.query("app_v0", "SELECT count(*), sum(turn) FROM entry"), before);
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    assert_eq!(sum(&world), rows);
    world.only(&["app_v0", "app_v1"]);
    world.receiver(&["doctor", "app"]).ok();
    world.nothing_is_left_over();
}

/// The case of this name: where the disk fills up, and what is left then.
macro_rules! on_every_engine {
    ($($case:ident: $body:ident at $point:literal)*) => {$(
        mod $case {
            use super::LITTLE;
            use crate::servers::Engine;
            #[test]
            fn on_sqlite() {
                super::$body(Engine::Sqlite, $point, LITTLE);
            }
            #[test]
            fn on_mysql() {
                super::$body(Engine::Mysql, $point, 0);
            }
            #[test]
            fn on_mysql_with_a_little_left() {
                super::$body(Engine::Mysql, $point, LITTLE);
            }
            #[test]
            fn on_postgres() {
                super::$body(Engine::Postgres, $point, 0);
            }
            #[test]
            fn on_postgres_with_a_little_left() {
                super::$body(Engine::Postgres, $point, LITTLE);
            }
        }
    )*};
}

on_every_engine! {
    a_disk_that_is_full_at_the_rehearsal_holds_nobody: a_version_does_not_open at "exported"
    a_disk_that_is_full_under_the_hold_lets_everybody_go: a_version_does_not_open at "held"
    a_disk_that_is_full_when_rows_go_back_leaves_the_newer_version_live: rows_do_not_go_back at "rollback-held"
}

/// A routine is dropped then, in a table of the server's own. With room for what is temporary nothing else is in the way.
#[test]
fn a_mariadb_that_waits_for_room_is_not_waited_for() {
    let elsewhere = tempfile::tempdir().unwrap();
    let option = format!("--tmpdir={}", elsewhere.path().display());
    for point in ["copying", "held", "carried"] {
        a_version_does_not_open_with(Engine::Mysql, &[&option], point, 0);
    }
}

#[test]
fn a_mariadb_without_room_once_the_data_is_copied_ahead_lets_everybody_go() {
    a_version_does_not_open(Engine::Mysql, AHEAD, 0);
}

#[test]
fn a_postgresql_without_room_once_the_data_is_copied_ahead_lets_everybody_go() {
    a_version_does_not_open(Engine::Postgres, AHEAD, 0);
}

#[test]
fn a_postgresql_that_cannot_write_when_changes_are_to_be_noted_lets_everybody_go() {
    a_version_does_not_open(Engine::Postgres, "carried", 0);
}

#[test]
fn a_mariadb_that_cannot_write_when_changes_are_to_be_noted_lets_everybody_go() {
    a_version_does_not_open(Engine::Mysql, "carried", 0);
}
