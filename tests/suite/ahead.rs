//! A version whose data is copied ahead (`database.copy_ahead`): nobody waits for the copy, and what is written
//! meanwhile comes behind, under a hold that costs what changed.

use crate::backed::{Backed, SQL, WEB};
use crate::servers::{Engine, on_servers};

on_servers! {
    what_is_written_while_the_data_is_copied_ahead_comes_behind
    a_copy_that_was_made_ahead_goes_with_a_deploy_that_fails_or_dies
    a_copy_that_cannot_come_behind_is_made_again_under_the_hold
    whoever_keeps_a_copy_from_being_made_ahead_is_named_and_nobody_is_held
    a_database_that_is_copied_in_less_time_than_copy_ahead_is_copied_under_the_hold
}

/// Died at on the servers, in `deaths.rs`, too.
pub const POINTS: [&str; 1] = ["copied-ahead"];

/// Where the copy is there and nothing is held yet, this is done; then the version opens.
fn opens(world: &mut Backed, meanwhile: impl FnOnce(&Backed)) -> crate::world::Said {
    let (ticket, go) = (world.place().join("ticket"), world.place().join("ticket.go"));
    std::fs::write(&ticket, "").unwrap();
    world.env.insert("RECEIVER_TEST_STOP_AT".into(), POINTS[0].into());
    world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
    let push = world.push_in_background();
    world.until(60, "the copy that is made ahead", || !ticket.exists());
    meanwhile(world);
    std::fs::write(&go, "").unwrap();
    let said = world.end(push, 120);
    std::fs::remove_file(go).unwrap();
    world.env.remove("RECEIVER_TEST_STOP_AT");
    said
}

/// What receiver left in a database to note changes for a copy.
fn noting(world: &Backed, database: &str) -> String {
    if world.engine == Engine::Postgres {
        return world.query(
            database,
            "SELECT relname FROM pg_class WHERE relname LIKE 'copy\\_%' AND relnamespace = to_regnamespace('receiver')
             UNION ALL SELECT tgname FROM pg_trigger WHERE tgname LIKE 'receiver\\_copy\\_%'",
        );
    }
    let triggers = "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_NAME LIKE 'receiver\\_copy\\_note\\_%'";
    let logs =
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_NAME LIKE 'copy\\_%' AND TABLE_SCHEMA";
    let mut said = world.query(database, &format!("{triggers} AND TRIGGER_SCHEMA = '{database}'"));
    said.push_str(&world.query(database, &format!("{logs} = '{database}_log'")));
    said
}

pub fn what_is_written_while_the_data_is_copied_ahead_comes_behind(engine: Engine) {
    let mut world = Backed::live_with(engine, SQL, "copy_ahead = \"0s\"\n");
    let make = "CREATE TABLE keyless (n int); CREATE TABLE emptied (n int PRIMARY KEY); INSERT INTO keyless VALUES (1); \
                INSERT INTO emptied VALUES (1)";
    world.by(&world.url(None), make).unwrap();
    world.add_table("tag");
    let said = opens(&mut world, |world| {
        assert_ne!(noting(world, "app_v0"), "");
        assert_eq!(world.databases(), ["app_v0", "app_v1"], "the copy is there, and nobody is held");
        world.enter(&[(4, "four")]);
        world.by(&world.url(None), "UPDATE entry SET text = 'TWO' WHERE number = 2").unwrap();
        world.by(&world.url(None), "DELETE FROM entry WHERE number = 3").unwrap();
        world.by(&world.url(None), "INSERT INTO keyless VALUES (2)").unwrap();
        world.by(&world.url(None), "TRUNCATE TABLE emptied").unwrap();
    });
    said.ok().says("the data is copied; what changes meanwhile comes behind").says("=====> live: 1/");
    assert_eq!(world.entries(), "one TWO four");
    let remarks = world.by(&world.url(None), "SELECT text FROM remark ORDER BY text").unwrap();
    assert_eq!(remarks, "four\none\ntwo\n", "what cascaded came behind as well");
    assert_eq!(world.by(&world.url(None), "SELECT n FROM keyless ORDER BY n").unwrap(), "1\n2\n");
    assert_eq!(world.by(&world.url(None), "SELECT n FROM emptied").unwrap(), "");
    for database in ["app_v0", "app_v1"] {
        assert_eq!(noting(&world, database), "", "{database}");
    }
    // The way back is as ever.
    world.enter(&[(5, "five")]);
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    assert_eq!(world.entries(), "one TWO four five");
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    assert_eq!(world.entries(), "one TWO four five");
    world.nothing_is_left_over();
}

fn a_copy_that_was_made_ahead_goes_with_a_deploy_that_fails_or_dies(engine: Engine) {
    let mut world = Backed::live_with(engine, SQL, "copy_ahead = \"0s\"\n");
    world
        .settings(&format!("{SQL}migration = 'test \"$RECEIVER_REHEARSAL\" = 1'\n"), "copy_ahead = \"0s\"\n");
    world.add_table("tag");
    world.push().ok().says("comes behind").says("NOT LIVE: still 0/");
    world.settings(SQL, "copy_ahead = \"0s\"\n");
    assert_eq!(noting(&world, "app_v0"), "");
    world.only(&["app_v0"]);
    let ticket = world.place().join("ticket");
    std::fs::write(&ticket, "").unwrap();
    std::fs::write(world.place().join("ticket.2"), "").unwrap();
    world.env.insert("RECEIVER_TEST_DIE_AT".into(), POINTS[0].into());
    world.commit("again");
    world.push().says("the worker died for the second time").says("NOT LIVE: still 0/");
    world.env.remove("RECEIVER_TEST_DIE_AT");
    assert_eq!(noting(&world, "app_v0"), "");
    world.only(&["app_v0"]);
    world.receiver(&["deploy", "app"]).ok().says("comes behind").says("=====> live: 1/");
    assert_eq!(world.entries(), "one two three");
}

fn a_copy_that_cannot_come_behind_is_made_again_under_the_hold(engine: Engine) {
    let mut world = Backed::live_with(engine, SQL, "copy_ahead = \"0s\"\n");
    world.add_table("tag");
    let said = opens(&mut world, |world| {
        world.by(&world.url(None), "CREATE TABLE fresh (n int PRIMARY KEY)").unwrap();
        world.enter(&[(4, "four")]);
    });
    said.ok().says("the data is copied again: ").says("while the data was copied").says("=====> live: 1/");
    assert_eq!(world.entries(), "one two three four");
    assert_eq!(world.by(&world.url(None), "SELECT count(*) FROM fresh").unwrap(), "0\n");
    assert_eq!(noting(&world, "app_v0"), "");
    // Nor one that only the comparison of all rows finds out.
    world.add_table("tag_2");
    let said = opens(&mut world, |world| {
        world.query("app_v2", "UPDATE entry SET text = 'not so' WHERE number = 1");
    });
    said.ok().says("the data is copied again: the copy ").says("=====> live: 2/");
    assert_eq!(world.entries(), "one two three four");
}

fn whoever_keeps_a_copy_from_being_made_ahead_is_named_and_nobody_is_held(engine: Engine) {
    let mut world = Backed::live_with(engine, SQL, &format!("copy_ahead = \"0s\"\n{WEB}"));
    let mut long = world.talk(&world.url(None));
    long.says("begin").unwrap();
    long.says("UPDATE entry SET text = 'ONE' WHERE number = 1").unwrap();
    world.add_table("tag");
    // Whoever came to the hold would die there, and take the verdict along.
    let ticket = world.place().join("ticket");
    std::fs::write(&ticket, "").unwrap();
    world.env.insert("RECEIVER_TEST_DIE_AT".into(), "door-closed".into());
    world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
    world.push().ok().says("cannot hold the writers").says("NOT LIVE: still 0/");
    assert!(ticket.exists(), "somebody was held");
    world.env.remove("RECEIVER_TEST_DIE_AT");
    long.says("commit").unwrap();
    assert_eq!(world.entries(), "ONE two three");
    assert_eq!(noting(&world, "app_v0"), "");
    world.only(&["app_v0"]);
    world.receiver(&["deploy", "app"]).ok().says("comes behind").says("=====> live: 1/");
    assert_eq!(world.entries(), "ONE two three");
}

fn a_database_that_is_copied_in_less_time_than_copy_ahead_is_copied_under_the_hold(engine: Engine) {
    let world = Backed::live_with(engine, SQL, "copy_ahead = \"1m\"\n");
    world.add_table("tag");
    let said = world.push().ok().says("=====> live: 1/").talk();
    assert!(!said.contains("comes behind"), "{said}");
}
