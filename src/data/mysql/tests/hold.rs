use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::proof::EVERYTHING;
use super::server::TestServer;
use super::*;

/// Waits for `what`, with a limit.
pub(super) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// How many connections wait for a lock on this database's tables.
pub(super) fn waiting(world: &World, database: &Mysql) -> u32 {
    one(
        &mut world.root(),
        &format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = '{}' \
             AND STATE LIKE 'Waiting for table%lock'",
            database.name()
        ),
    )
}

#[test]
fn readers_go_on_and_writers_wait_until_the_hold_is_dropped() {
    let world = World::new();
    let database = world.filled(EVERYTHING);
    let hold = database.hold(&soon()).unwrap();
    hold.check().unwrap();
    let mut reader = world.role(&database, Access::Read);
    assert_eq!(one::<u32>(&mut reader, "SELECT COUNT(*) FROM parent"), 4);
    let (tell, told) = mpsc::channel();
    for write in ["INSERT INTO parent (name) VALUES ('late')", "UPDATE parts SET id = id", "DROP TABLE kinds"]
    {
        let (mut app, tell) = (world.role(&database, Access::Write), tell.clone());
        thread::spawn(move || tell.send(app.query_drop(write).map_err(|error| error.to_string())));
    }
    until("three writers wait", || waiting(&world, &database) == 3);
    assert_eq!(one::<u32>(&mut reader, "SELECT COUNT(*) FROM parent"), 4);
    hold.check().unwrap();
    drop(hold);
    for _ in 0..3 {
        told.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
    }
    assert_eq!(one::<u32>(&mut reader, "SELECT COUNT(*) FROM parent"), 5);
    database.remove().unwrap();
}

#[test]
fn a_hold_that_cannot_be_had_names_who_is_in_the_way() {
    let world = World::new();
    let database = world.filled("CREATE TABLE t (a int, b varchar(20)) ;; INSERT INTO t VALUES (1, 'x')");
    let mut idle = world.role(&database, Access::Write);
    idle.query_drop("BEGIN; UPDATE t SET b = 'secret' WHERE a = 1").unwrap();
    let id = idle.connection_id();
    let error = database.hold(&Limit::within(Duration::from_millis(1500))).err().unwrap();
    let text = error.render();
    let says = format!("connection {id} of '{}' is in the way, ", database.name());
    assert!(text.contains(&says) && text.contains("it is idle in a transaction"), "{text}");
    assert!(text.contains(&format!("KILL {id}")), "{text}");
    let runner =
        thread::spawn(move || idle.query_drop("UPDATE t SET b = 'hidden' WHERE a = 1 AND SLEEP(4) = 0"));
    until("it runs", || {
        one::<u32>(
            &mut world.root(),
            &format!(
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND STATE = 'User sleep'"
            ),
        ) == 1
    });
    let text = database.hold(&Limit::within(Duration::from_millis(300))).err().unwrap().render();
    assert!(text.contains("runs: UPDATE t SET b = ? WHERE a = ? AND SLEEP ( ? ) = ?"), "{text}");
    assert!(!text.contains("hidden"));
    runner.join().unwrap().unwrap();
    // Its transaction is over with its connection.
    database.hold(&soon()).unwrap().check().unwrap();
    let flag = std::sync::atomic::AtomicBool::new(true);
    let error = database.hold(&soon().unless(&flag)).err().unwrap();
    assert!(error.one_line().ends_with("it was cancelled"));
    database.remove().unwrap();
}

#[test]
fn a_database_without_tables_is_held_too() {
    let world = World::new();
    let database = world.fresh();
    let hold = database.hold(&soon()).unwrap();
    hold.check().unwrap();
    let to = world.at(&format!("{}_x", database.name()));
    hold.copy_to(to.spot(), &soon(), &mut |_| {}).unwrap();
    assert!(to.is_empty().unwrap());
    to.remove().unwrap();
    drop(hold);
    database.remove().unwrap();
}

#[test]
fn a_table_that_was_made_beside_the_hold_is_named() {
    let world = World::new();
    let database = world.filled("CREATE TABLE t (a int)");
    let hold = database.hold(&soon()).unwrap();
    world.role(&database, Access::Write).query_drop("CREATE TABLE late (a int)").unwrap();
    let to = world.at(&format!("{}_x", database.name()));
    let error = hold.copy_to(to.spot(), &soon(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().starts_with("table 'late' was made while"), "{error}");
    drop(hold);
    database.remove().unwrap();
}

#[test]
fn a_hold_ends_after_its_limit_also_where_the_server_comes_to_no_end() {
    // It hangs up for all sessions of this process, so it has a server of its own.
    let server: &'static TestServer = Box::leak(Box::new(TestServer::start(&[])));
    let world = World { server, ..World::new() };
    let database = world.filled("CREATE TABLE t (a int)");
    let to = world.at(&format!("{}_x", database.name()));
    let hold = database.hold(&soon()).unwrap();
    let limit = Limit::within(Duration::from_secs(3));
    hold.copy_to(to.spot(), &limit, &mut |_| {}).unwrap();
    let error = database.session().unwrap().run("SELECT SLEEP(600)").unwrap_err().render();
    assert!(limit.is_over());
    assert!(
        error.contains("held for as long as they may") && error.contains("let itself not be stopped"),
        "{error}"
    );
    hold.check().unwrap_err();
    let mut writer = world.role(&database, Access::Write);
    writer.query_drop("SET SESSION lock_wait_timeout = 20; INSERT INTO t VALUES (1)").unwrap();
    drop(hold);
    to.remove().unwrap();
    database.remove().unwrap();
}

#[test]
fn a_hold_knows_when_its_server_is_gone() {
    let server: &'static TestServer = Box::leak(Box::new(TestServer::start(&[])));
    let world = World { server, ..World::new() };
    let database = world.filled("CREATE TABLE t (a int)");
    let hold = database.hold(&soon()).unwrap();
    hold.check().unwrap();
    server.kill();
    let error = hold.check().unwrap_err();
    assert!(error.one_line().contains("are held no more: the database server at"), "{}", error.one_line());
    assert!(hold.fence("x").is_err());
}
