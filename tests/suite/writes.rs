//! Promise 4 on SQLite: writers go on while versions open, and while a rollback goes back over one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::data::{add_table, notes, value, with_notes, write_into};
use crate::world::World;

const SQL: &str = "syncdb = { sql = [\"schema.sql\"] }";

/// The live database, as an application's start finds it.
fn live_database(world: &World) -> PathBuf {
    let url = world.receiver(&["db", "app", "url"]).ok().stdout;
    PathBuf::from(url.trim().strip_prefix("sqlite:///").unwrap())
}

fn open(path: &Path, patience: Duration) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(patience).unwrap();
    connection
}

/// What the writers did.
#[derive(Default)]
struct Account {
    acknowledged: Vec<i64>,
    refused: u64,
    longest: Duration,
}

/// One writer: rows with numbers of its own, each until it is acknowledged. After a refusal it looks
/// afresh for what is live, as a process does that is started again.
fn write_until(world: &World, writer: i64, stop: &AtomicBool, rows: &AtomicU64) -> Account {
    let mut account = Account::default();
    let mut connection = open(&live_database(world), Duration::from_secs(5));
    let mut number = writer * 1_000_000;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        match connection.execute("INSERT INTO note (id, text) VALUES (?1, 'a row')", [number]) {
            Ok(_) => {
                account.acknowledged.push(number);
                rows.fetch_add(1, Ordering::Relaxed);
                number += 1;
            }
            Err(error) => {
                // A row that is there already would be one that was refused and written all the same.
                let said = error.to_string();
                assert!(said.contains("is retired") || said.contains("is locked"), "{said}");
                account.refused += 1;
                connection = open(&live_database(world), Duration::from_secs(5));
            }
        }
        account.longest = account.longest.max(begun.elapsed());
    }
    account
}

/// Ends the writers, also when the work panics.
struct Stop<'a>(&'a AtomicBool);
impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// While eight writers write, `work` is done; then every acknowledged row is in the live database, and
/// nothing else is.
pub fn under_writers(world: &World, work: impl FnOnce(&dyn Fn())) {
    let (stop, rows) = (AtomicBool::new(false), AtomicU64::new(0));
    let more_rows = || {
        let before = rows.load(Ordering::Relaxed);
        world.until(30, "the writers to go on", || rows.load(Ordering::Relaxed) > before + 40);
    };
    let accounts: Vec<Account> = std::thread::scope(|scope| {
        let ends = Stop(&stop);
        let (stop, rows) = (&stop, &rows);
        let writers: Vec<_> =
            (1..=8).map(|writer| scope.spawn(move || write_until(world, writer, stop, rows))).collect();
        more_rows();
        work(&more_rows);
        more_rows();
        drop(ends);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let live = Connection::open(live_database(world)).unwrap();
    let mut query = live.prepare("SELECT id FROM note WHERE id >= 1000000").unwrap();
    let found: Vec<i64> = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let found: std::collections::BTreeSet<i64> = found.into_iter().collect();
    let acknowledged: Vec<i64> = accounts.iter().flat_map(|account| account.acknowledged.clone()).collect();
    let lost = acknowledged.iter().filter(|row| !found.contains(*row)).count();
    let refused: u64 = accounts.iter().map(|account| account.refused).sum();
    let longest = accounts.iter().map(|account| account.longest).max().unwrap();
    println!(
        "8 writers: {} rows acknowledged, {lost} lost, {refused} refused and written again, longest wait {} ms",
        acknowledged.len(),
        longest.as_millis()
    );
    assert_eq!(lost, 0);
    assert_eq!(found.len(), acknowledged.len(), "rows that nobody acknowledged are there");
    assert!(acknowledged.len() > 100, "too few rows to say anything");
}

#[test]
fn no_acknowledged_write_is_lost_while_versions_open() {
    let world = with_notes(SQL, "copy");
    under_writers(&world, |more_rows| {
        for number in 1..=7 {
            add_table(&world, &format!("tag_{number}"));
            world.push().ok().says(&format!("=====> live: {number}/"));
            more_rows();
        }
    });
    assert_eq!(world.live().unwrap().split('/').next(), Some("7"));
}

#[test]
fn no_acknowledged_write_is_lost_when_a_version_fails_under_the_hold() {
    let stage = "migration = \"test \\\"$RECEIVER_REHEARSAL\\\" = 1\"";
    let world = with_notes(&format!("{SQL}\n{stage}"), "copy");
    under_writers(&world, |more_rows| {
        for number in 1..=3 {
            add_table(&world, &format!("tag_{number}"));
            world.push().ok().says("NOT LIVE: still 0/");
            more_rows();
        }
    });
}

#[test]
fn no_acknowledged_write_is_lost_by_a_migration_from_an_empty_database() {
    let world = World::with_sql();
    under_writers(&world, |more_rows| {
        for number in 1..=3 {
            add_table(&world, &format!("tag_{number}"));
            world.push().ok().says(&format!("=====> live: {number}/"));
            more_rows();
        }
    });
}

#[test]
fn a_process_with_the_old_database_open_cannot_write_to_it_after_the_switch_and_is_told_plainly() {
    let world = with_notes(SQL, "copy");
    let old = open(&world.database(0), Duration::ZERO);
    let mut prepared = old.prepare("INSERT INTO note (text) VALUES ('x')").unwrap();
    prepared.execute([]).unwrap();
    add_table(&world, "tag");
    world.push().ok();
    for statement in
        ["INSERT INTO note (text) VALUES ('x')", "UPDATE note SET text = 'x'", "DELETE FROM note"]
    {
        let said = old.execute(statement, []).unwrap_err().to_string();
        assert_eq!(said, "receiver: version 0 of app is retired");
    }
    assert_eq!(prepared.execute([]).unwrap_err().to_string(), "receiver: version 0 of app is retired");
    assert_eq!(notes(&world.database(0)), 4);
    assert_eq!(notes(&world.database(1)), 4);
    // Reading goes on.
    let read: i64 = old.query_row("SELECT count(*) FROM note", [], |row| row.get(0)).unwrap();
    assert_eq!(read, 4);
    world
        .receiver_fed(&["db", "app", "shell", "--version", "0"], b"DELETE FROM note;")
        .fails(1)
        .says("is retired");
}

#[test]
fn a_rollback_that_can_bring_nothing_is_refused_unless_new_data_may_stay_behind_and_says_what_does() {
    let world = with_notes(SQL, "copy");
    world.receiver(&["config", "app", "database.rollback_window", "0s"]).ok();
    let old = world.live().unwrap();
    add_table(&world, "tag");
    world.push().ok();
    world.sql("INSERT INTO note (text) VALUES ('four'), ('five'); INSERT INTO tag VALUES (1);");
    let new = world.live().unwrap();
    let said = world.receiver(&["rollback"]).fails(1).says("leaves new data behind");
    said.says(&format!("`receiver rollback app {old} --without-new-data` goes all the same"));
    let said = world.receiver(&["rollback", "--dry-run"]).ok().says("nothing comes along");
    let said = said.says("note: 5 rows in the newer, 3 in the older");
    said.says("tag: a table of the newer version, with 1 rows");
    assert_eq!(world.live().as_deref(), Some(&*new));
    write_into(&world.database(1)).unwrap();
    let said = world.receiver(&["rollback", "--without-new-data"]).ok().says("=====> live: 0/");
    said.says("app_v0 is as it was left; what was written since stays in app_v1");
    assert_eq!(world.live().as_deref(), Some(&*old));
    // The old one takes writes again, and the one that was left refuses them.
    write_into(&world.database(0)).unwrap();
    assert_eq!(write_into(&world.database(1)).unwrap_err(), "receiver: version 1 of app is retired");
    assert_eq!((notes(&world.database(0)), notes(&world.database(1))), (4, 6));
    // A push of the same schema opens a version from what is live now.
    world.file("page.html", "x");
    world.commit("a page");
    world.push().ok().says("=====> live: 2/");
    assert_eq!(notes(&world.database(2)), 4);
}

#[test]
fn writers_go_on_over_a_rollback_and_every_row_is_in_one_of_the_two_databases() {
    let world = with_notes(SQL, "copy");
    add_table(&world, "tag");
    world.push().ok();
    let (stop, rows) = (AtomicBool::new(false), AtomicU64::new(0));
    let acknowledged: Vec<i64> = std::thread::scope(|scope| {
        let (world, stop, rows) = (&world, &stop, &rows);
        let writers: Vec<_> =
            (1..=4).map(|writer| scope.spawn(move || write_until(world, writer, stop, rows))).collect();
        let some = |most: u64| world.until(30, "some rows", || rows.load(Ordering::Relaxed) > most);
        some(50);
        let said = world.receiver(&["rollback", "--without-new-data"]);
        some(rows.load(Ordering::Relaxed) + 50);
        stop.store(true, Ordering::Relaxed);
        said.ok();
        writers.into_iter().flat_map(|writer| writer.join().unwrap().acknowledged).collect()
    });
    let count = |version: u32| -> i64 {
        let connection = Connection::open(world.database(version)).unwrap();
        connection.query_row("SELECT count(*) FROM note WHERE id >= 1000000", [], |row| row.get(0)).unwrap()
    };
    let (old, new) = (count(0), count(1));
    println!("{} acknowledged over a rollback: {new} before it, {old} after it", acknowledged.len());
    assert!(old > 0 && new > 0);
    assert_eq!(i64::try_from(acknowledged.len()).unwrap(), old + new);
}

#[test]
fn a_pause_that_the_rehearsal_finds_too_long_is_refused_before_anybody_waits() {
    let world = with_notes(&format!("{SQL}\nmigration = \"sleep 1\""), "copy");
    world.receiver(&["config", "app", "database.max_pause", "500ms"]).ok();
    add_table(&world, "tag");
    world.push().ok().says("NOT LIVE: still 0/").says("nobody was held").says("max-pause=");
    write_into(&world.database(0)).unwrap();
    // The push may allow more, once.
    add_table(&world, "other");
    world.push_with(&["-o", "max-pause=8s"]).ok().says("=====> live: 1/");
    assert_eq!(value(&world, "SELECT count(*) FROM note;"), "4");
}

#[test]
fn the_proof_after_a_migration_is_part_of_the_pause_that_the_rehearsal_finds() {
    let world = with_notes(SQL, "copy");
    // With many indexes that proof takes much longer than all the rest together.
    let rows = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30000)";
    let indexes: String =
        (1..=20).map(|n| format!("CREATE INDEX i{n} ON note (text DESC, id * {n} % 7919);")).collect();
    let live = open(&world.database(0), Duration::from_secs(20));
    live.execute_batch(&format!("{rows} INSERT INTO note (text) SELECT n * 7919 % 30011 FROM n; {indexes}"))
        .unwrap();
    let proof = || {
        let begun = Instant::now();
        live.query_row("PRAGMA integrity_check", [], |_| Ok(())).unwrap();
        begun.elapsed()
    };
    let proof = (0..3).map(|_| proof()).min().unwrap();
    drop(live);
    world.receiver(&["config", "app", "database.max_pause", &format!("{}ms", proof.as_millis() / 2)]).ok();
    add_table(&world, "tag");
    world.push().ok().says("NOT LIVE: still 0/").says("(max_pause): nobody was held");
    world.receiver(&["deploy", "app", "-o", "max-pause=60s"]).ok().says("=====> live: 1/");
}

#[test]
fn a_stage_that_hangs_under_the_hold_ends_at_max_pause_and_writers_go_on() {
    let stage = "migration = \"test \\\"$RECEIVER_REHEARSAL\\\" = 1 || sleep 600\"";
    let world = with_notes(&format!("{SQL}\n{stage}"), "copy");
    world.receiver(&["config", "app", "database.max_pause", "2s"]).ok();
    add_table(&world, "tag");
    let begun = Instant::now();
    let child = world.push_in_background();
    // A writer that comes while it hangs waits, and then writes.
    world.until(20, "the hold", || {
        let busy = open(&world.database(0), Duration::ZERO).execute_batch("BEGIN IMMEDIATE; ROLLBACK");
        busy.is_err()
    });
    let waiting = open(&world.database(0), Duration::from_secs(20));
    waiting.execute("INSERT INTO note (text) VALUES ('waited')", []).unwrap();
    let said = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("NOT LIVE: still 0/"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(notes(&world.database(0)), 4);
    assert!(!world.app().join("versions/1").exists() && !world.database(1).exists());
}

#[test]
fn a_hold_that_cannot_be_had_in_time_is_a_clean_failure_that_names_the_writer() {
    let world = with_notes(SQL, "copy");
    world.receiver(&["config", "app", "database.max_pause", "1s"]).ok();
    add_table(&world, "tag");
    let long = open(&world.database(0), Duration::ZERO);
    long.execute_batch("BEGIN IMMEDIATE; INSERT INTO note (text) VALUES ('long')").unwrap();
    let said = world.push().ok().says("NOT LIVE: still 0/");
    said.says("cannot hold the writers").says(&format!("process {}", std::process::id()));
    long.execute_batch("COMMIT").unwrap();
    assert_eq!(notes(&world.database(0)), 4);
    assert!(!world.app().join("versions/1").exists() && !world.database(1).exists());
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    assert_eq!(notes(&world.database(1)), 4);
}
