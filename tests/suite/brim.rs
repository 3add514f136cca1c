//! The disk of a database server is full in the middle: after it was looked at, and before it was needed. Whatever is on its
//! way ends, nobody is held any longer than `max_pause`, and once there is room again it goes.

use std::path::PathBuf;

use crate::backed::{Backed, SQL};
use crate::servers::Engine;
use crate::world::{PROGRAM, Said};

/// A file that takes all that is left.
fn fill(world: &Backed) -> PathBuf {
    let filler = world.disk().join("filler");
    let file = std::fs::File::create(&filler).unwrap();
    let mut size = world.disk_free();
    while size > 0 {
        let all = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size);
        if all.is_ok() {
            break;
        }
        size -= 4096;
    }
    filler
}

/// Live with some megabytes, on a disk of its own.
fn live(engine: Engine) -> Backed {
    let world = Backed::on_a_disk_of(engine, 300);
    world.settings(SQL, "max_pause = \"12s\"\n");
    world.commit("one");
    world.push().ok().says("=====> live: 0/");
    world.enter(&[(1, "one"), (2, "two")]);
    let url = world.url(None);
    let text = "x".repeat(190);
    world.by(&url, &format!("INSERT INTO entry (writer, number, text) VALUES (1, 1, '{text}')")).unwrap();
    for power in 0..14 {
        let half = 1 << power;
        let twice = format!(
            "INSERT INTO entry (writer, number, text) SELECT 1, number + {half}, text FROM entry WHERE writer = 1"
        );
        world.by(&url, &twice).unwrap();
    }
    world
}

/// `command` passes `point`, where the disk fills up, and ends. Answers what it said.
fn with_a_full_disk(world: &mut Backed, point: &str, passes: u32, command: &[&str]) -> (Said, PathBuf) {
    let (ticket, go) = (world.place().join("ticket"), world.place().join("ticket.go"));
    world.env.insert("RECEIVER_TEST_STOP_AT".into(), point.into());
    world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
    std::fs::write(&ticket, passes.to_string()).unwrap();
    let child = match command {
        [] => world.push_in_background(),
        arguments => world.start(PROGRAM, arguments),
    };
    world.until(60, &format!("the stop at {point}"), || !ticket.exists());
    let filler = fill(world);
    std::fs::write(&go, "").unwrap();
    let said = world.end(child, 120);
    world.env.remove("RECEIVER_TEST_STOP_AT");
    std::fs::remove_file(&go).unwrap();
    println!("{}, full at {point}: {}", world.engine.name(), said.talk());
    (said, filler)
}

fn a_disk_that_is_full_in_the_middle(engine: Engine, point: &str, passes: u32) {
    let mut world = live(engine);
    let (live, rows) =
        (world.live(), world.by(&world.url(None), "SELECT count(*), sum(number) FROM entry").unwrap());
    world.add_table("tag");
    let (said, filler) = with_a_full_disk(&mut world, point, passes, &[]);
    said.says("NOT LIVE: still 0/").says("room");
    assert_eq!(world.live(), live);
    std::fs::remove_file(filler).unwrap();
    // PostgreSQL ends where it cannot write its log.
    if world.server().try_sql("", "SELECT 1").is_err() {
        world.server_mut().restart();
    }
    world.enter(&[(3, "three")]);
    world.by(&world.url(None), "DELETE FROM entry WHERE writer = 0 AND number = 3").unwrap();
    assert_eq!(world.by(&world.url(None), "SELECT count(*), sum(number) FROM entry").unwrap(), rows);
    world.receiver(&["prune", "app"]).ok();
    world.only(&["app_v0"]);
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    assert_eq!(world.entries(), "one two");
    assert_eq!(world.by(&world.url(None), "SELECT count(*), sum(number) FROM entry").unwrap(), rows);
    world.only(&["app_v0", "app_v1"]);
    world.nothing_is_left_over();
}

macro_rules! on_servers {
    ($($case:ident $point:literal $passes:literal)*) => {$(
        mod $case {
            use crate::servers::Engine;
            #[test]
            fn on_mysql() {
                super::a_disk_that_is_full_in_the_middle(Engine::Mysql, $point, $passes);
            }
            #[test]
            fn on_postgres() {
                super::a_disk_that_is_full_in_the_middle(Engine::Postgres, $point, $passes);
            }
        }
    )*};
}

on_servers! {
    a_disk_that_is_full_before_the_rehearsal_holds_nobody "exported" 0
    a_disk_that_is_full_under_the_hold_lets_everybody_go "held" 0
    a_disk_that_is_full_when_changes_are_to_be_noted_lets_everybody_go "carried" 0
}
