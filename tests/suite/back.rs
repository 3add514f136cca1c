//! Back over a version with what was written since, and forward again, on SQLite. Where a worker dies on the way
//! stands in `kill.rs`, what it is like on a server of databases in `engines.rs`.

use rusqlite::Connection;

use crate::data::{add_table, notes, value, with_notes, write_into};
use crate::web::WEB;
use crate::world::World;
use crate::writes::under_writers;

const SQL: &str = "syncdb = { sql = [\"schema.sql\"] }";
/// A day and an hour: the window is over.
const LATER: &str = "90000";

/// It is later for whatever is begun from now on; a worker that is at its end must not do it by its own clock.
fn later(world: &mut World) {
    world.until_idle();
    world.env.insert("RECEIVER_TEST_CLOCK".into(), LATER.into());
}

/// Version 1 is live, with a table more than version 0 has, and a note that was written since.
fn two_versions() -> World {
    let world = with_notes(SQL, "copy");
    add_table(&world, "tag");
    world.push().ok().says("undo: receiver rollback app\n").says("=====> live: 1/");
    world.sql("INSERT INTO note (text) VALUES ('four');");
    world
}

/// The texts of all notes in the live database.
fn texts(world: &World) -> String {
    value(world, "SELECT group_concat(text) FROM (SELECT text FROM note ORDER BY id);")
}

/// How many of the things that note changes a version's database has.
fn noting(world: &World, version: u32) -> i64 {
    let query = "SELECT count(*) FROM sqlite_schema WHERE name GLOB 'receiver_log_*'";
    Connection::open(world.database(version)).unwrap().query_row(query, [], |row| row.get(0)).unwrap()
}

/// Nothing went back: the newer version is live and takes writes, the older one is retired and as it was.
#[track_caller]
fn still_the_newer(world: &World, live: &str, older: i64) {
    assert_eq!(world.live().as_deref(), Some(live));
    write_into(&world.database(1)).unwrap();
    assert_eq!(write_into(&world.database(0)).unwrap_err(), "receiver: version 0 of app is retired");
    assert_eq!(notes(&world.database(0)), older);
    world.nothing_is_left_over();
    world.receiver(&["doctor", "app"]).ok();
}

#[test]
fn no_acknowledged_write_is_lost_when_a_version_is_left_and_comes_back_and_is_left_again() {
    let world = two_versions();
    under_writers(&world, |more_rows| {
        for _ in 0..2 {
            world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
            more_rows();
            let said = world.receiver(&["deploy", "app"]).ok();
            said.says("carry      app_v0 → app_v1").says("=====> live: 1/");
            more_rows();
        }
        world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    });
    assert_eq!(value(&world, "SELECT count(*) FROM note WHERE id < 1000000;"), "4");
    assert_eq!(world.names("versions"), ["0", "1"]);
    world.nothing_is_left_over();
}

#[test]
fn what_was_written_changed_and_deleted_since_is_so_after_the_way_back_and_forward() {
    let world = two_versions();
    world.sql("UPDATE note SET text = 'ONE' WHERE text = 'one'; DELETE FROM note WHERE text = 'two';");
    world.sql("INSERT INTO tag VALUES (1);");
    let said = world.receiver(&["rollback", "app", "--dry-run"]).ok().says("what comes along:");
    let said = said.says("note: 2 rows written, 1 row deleted").says("what stays behind:");
    said.says("table 'tag': the other version has none of this name (1 row)");
    assert_eq!(world.live().unwrap().split('/').next(), Some("1"));
    let said = world.receiver(&["rollback", "app"]).ok().says("note: 2 rows written, 1 row deleted");
    said.says("stays in app_v1: table 'tag'").says("=====> live: 0/");
    assert_eq!(texts(&world), "ONE,three,four");
    world.sql("INSERT INTO note (text) VALUES ('five'); DELETE FROM note WHERE text = 'ONE';");
    world.receiver(&["plan", "app"]).ok().says("app_v1, which a rollback left");
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    assert_eq!(texts(&world), "three,four,five");
    // What it alone holds is there still.
    assert_eq!(value(&world, "SELECT count(*) FROM tag;"), "1");
    assert_eq!(write_into(&world.database(0)).unwrap_err(), "receiver: version 0 of app is retired");
}

#[test]
fn a_row_that_the_older_version_refuses_stops_the_rollback_which_prints_the_command_that_goes() {
    let world = World::with_sql();
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT);\n");
    world.commit("a note may be empty");
    world.push().ok().says("=====> live: 1/");
    world.sql("INSERT INTO note VALUES (1, 'good'), (2, NULL), (3, 'as good');");
    let live = world.live().unwrap();
    let said = world.receiver(&["rollback", "app"]).fails(1).says("NOT ROLLED BACK: still 1/");
    let said = said.says("the row of table 'note' with id = 2 is refused: NOT NULL constraint failed");
    still_the_newer(&world, &live, 0);
    let talk = said.talk();
    let typed = talk.split('`').find(|part| part.ends_with(" --quarantine")).expect("a command").to_owned();
    let words: Vec<&str> = typed.split(' ').skip(1).collect();
    world.receiver(&[&words[..], &["--dry-run"]].concat()).ok().says("id = 2");
    let said = world.receiver(&words).ok().says("=====> live: 0/").says("stays in app_v1: note, id = 2");
    said.says("note: 3 rows written");
    assert_eq!(texts(&world), "good,as good,late");
    // It is not lost.
    let left = Connection::open(world.database(1)).unwrap();
    let kept: i64 =
        left.query_row("SELECT count(*) FROM note WHERE text IS NULL", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 1);
}

#[test]
fn the_settings_may_say_once_for_all_that_such_rows_stay_behind() {
    let world = World::with_sql();
    world.receiver(&["config", "app", "database.on_conflict", "quarantine"]).ok();
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT);\n");
    world.commit("a note may be empty");
    world.push().ok().says("=====> live: 1/");
    world.sql("INSERT INTO note VALUES (1, 'good'), (2, NULL);");
    world.receiver(&["rollback", "app"]).ok().says("stays in app_v1: note, id = 2").says("=====> live: 0/");
    assert_eq!(texts(&world), "good");
}

#[test]
fn a_rollback_after_its_window_says_so_and_a_deploy_then_opens_a_version() {
    let mut world = two_versions();
    let live = world.live().unwrap();
    later(&mut world);
    let said = world.receiver(&["rollback", "app"]).fails(1).says("leaves new data behind");
    said.says("it is longer than 24 h (database.rollback_window) since").says("--without-new-data");
    still_the_newer(&world, &live, 3);
    world.until_idle();
    world.env.remove("RECEIVER_TEST_CLOCK");
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    later(&mut world);
    let said = world.receiver(&["deploy", "app"]).ok().says("=====> live: 2/");
    said.says("what app_v1 alone holds, which a rollback left, stays there");
    assert_eq!(texts(&world), "one,two,three,four,late");
}

#[test]
fn a_rollback_over_two_versions_brings_nothing_along_and_says_why() {
    let world = two_versions();
    add_table(&world, "other");
    world.push().ok().says("=====> live: 2/");
    let live = world.live();
    let back = ["rollback", "app", "--version", "0"];
    let said = world.receiver(&back).fails(1).says("--without-new-data");
    said.says("what changes in app_v2 is noted for app_v1, not for app_v0");
    assert_eq!(world.live(), live);
    world.receiver(&[&back[..], &["--dry-run"]].concat()).ok().says("nothing comes along");
    // One after the other they go.
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 1/");
    assert_eq!(texts(&world), "one,two,three,four");
}

#[test]
fn a_table_that_was_made_by_hand_makes_a_rollback_say_that_not_every_change_was_noted() {
    let world = two_versions();
    let live = world.live().unwrap();
    world.sql("CREATE TABLE handmade (id INTEGER PRIMARY KEY);");
    let said = world.receiver(&["rollback", "app"]).fails(1).says("--without-new-data");
    said.says("it is not certain that every change was noted").says("handmade");
    still_the_newer(&world, &live, 3);
    world.sql("DROP TABLE handmade;");
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    assert_eq!(texts(&world), "one,two,three,four,late");
}

#[test]
fn prune_ends_what_notes_changes_once_the_window_is_over_and_not_before() {
    let mut world = two_versions();
    assert!(noting(&world, 1) > 0);
    world.receiver(&["prune", "app"]).ok();
    assert!(noting(&world, 1) > 0);
    later(&mut world);
    world.receiver(&["prune", "app"]).ok();
    assert_eq!(noting(&world, 1), 0);
    write_into(&world.database(1)).unwrap();
    world.receiver(&["rollback", "app"]).fails(1).says("it was not noted what changes in app_v1");
}

#[test]
fn without_a_window_nothing_is_noted_and_the_way_back_is_said_with_its_price() {
    let world = with_notes(SQL, "copy");
    world.receiver(&["config", "app", "database.rollback_window", "0s"]).ok();
    add_table(&world, "tag");
    world.push().ok().says("undo: receiver rollback app --without-new-data").says("=====> live: 1/");
    assert_eq!(noting(&world, 1), 0);
    world.receiver(&["rollback", "app"]).fails(1).says("it was not noted what changes in app_v1");
    world.receiver(&["rollback", "app", "--without-new-data"]).ok().says("=====> live: 0/");
    assert_eq!((noting(&world, 0), noting(&world, 1)), (0, 0));
}

#[test]
fn a_column_that_changed_its_name_goes_back_and_forward_by_the_expressions_of_the_settings() {
    let world = World::with_sql();
    world.sql("INSERT INTO note (text) VALUES ('one');");
    let settings = std::fs::read_to_string(world.laptop().join("receiver.toml")).unwrap();
    let map = "[map.note.down]\ntext = \"substr(body, 2)\"\n[map.note.up]\nbody = \"'>' || text\"\n";
    world.file("receiver.toml", &format!("{settings}{map}"));
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT NOT NULL);\n");
    world.file("from-previous.sql", "INSERT INTO note SELECT id, '>' || text FROM previous.note;\n");
    world.commit("a body");
    world.push().ok().says("=====> live: 1/");
    world.sql("INSERT INTO note (body) VALUES ('>two');");
    world.receiver(&["rollback", "app"]).ok().says("note: 1 row written").says("=====> live: 0/");
    assert_eq!(texts(&world), "one,two");
    world.sql("INSERT INTO note (text) VALUES ('three');");
    world.receiver(&["deploy", "app"]).ok().says("carry      app_v0 → app_v1").says("=====> live: 1/");
    assert_eq!(value(&world, "SELECT group_concat(body) FROM note;"), ">one,>two,>three");
}

#[test]
fn an_older_release_that_does_not_start_leaves_the_newer_one_live_and_the_older_one_retired() {
    let world = World::with_app();
    let starts = "command = \"test ! -e ../../../shared/broken && exec /usr/bin/python3 web.py\"";
    let web = WEB.replace("command = \"exec /usr/bin/python3 web.py\"", starts);
    assert_ne!(web, WEB);
    world.file("web.py", include_str!("../fixtures/web.py"));
    world.file("receiver.toml", &format!("{web}{}", crate::web::SQL));
    let schema = "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n";
    world.file("schema.sql", schema).file("index.html", "one\n");
    world.commit("one");
    world.push().ok().says("live: 0/");
    world.next_page("two", true);
    world.push().ok().says("live: 1/");
    let live = world.live().unwrap();
    world.post("/", "before");
    std::fs::write(world.app().join("shared/broken"), "").unwrap();
    world.receiver(&["rollback", "app"]).fails(1).says("NOT ROLLED BACK: still 1/");
    assert_eq!(world.get("/").body, "two\n");
    assert_eq!(world.post("/", "after").status, 201);
    assert_eq!(world.get("/count").body, "2");
    world.until_running(&["web"]);
    std::fs::remove_file(world.app().join("shared/broken")).unwrap();
    // What it was about to be given is there once, whenever it starts.
    let count = notes(&world.database(0));
    still_the_newer(&world, &live, count);
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    assert_eq!((world.get("/").body.as_str(), world.get("/count").body.as_str()), ("one\n", "3"));
    assert_eq!(world.post("/", "again").status, 201);
    world.until_running(&["web"]);
    world.nothing_is_left_over();
}
