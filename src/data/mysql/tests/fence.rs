use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mysql::prelude::Queryable;

use super::super::session;
use super::hold::{until, waiting};
use super::proof::EVERYTHING;
use super::server::TestServer;
use super::*;
use crate::data::Fence;

const WHY: &str = "version 3 of shop is retired";

fn retire(database: &Mysql) {
    database.prepare_hold(&soon()).unwrap();
    database.hold(&soon()).unwrap().fence(WHY).unwrap();
}

#[test]
fn whoever_waited_for_the_lock_meets_the_fence() {
    let world = World::new();
    let database = world.filled(EVERYTHING);
    let before = database.schema().unwrap();
    database.prepare_hold(&soon()).unwrap();
    assert_eq!(database.schema().unwrap(), before, "gates are no part of the schema");
    assert_eq!(database.fence().unwrap(), Fence::Open);
    // An old view, taken before the flag is up, sees the fence all the same.
    let mut root = world.root();
    root.query_drop(format!(
        "USE {}; SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        database.name()
    ))
    .unwrap();
    root.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").unwrap();
    let hold = database.hold(&soon()).unwrap();
    let (tell, told) = mpsc::channel();
    for _ in 0..3 {
        let (mut app, tell) = (world.role(&database, Access::Write), tell.clone());
        thread::spawn(move || tell.send(app.query_drop("INSERT INTO parent (name) VALUES (UUID())")));
    }
    let mut other = world.root();
    let (name, tell_root) = (database.name().to_owned(), tell.clone());
    thread::spawn(move || tell_root.send(root.query_drop("UPDATE parent SET name = 'late' WHERE id = 1")));
    thread::spawn(move || {
        other.query_drop(format!("USE {name}")).unwrap();
        tell.send(other.query_drop("INSERT IGNORE INTO parent (name) VALUES ('ignored')"))
    });
    until("five writers wait", || waiting(&world, &database) == 5);
    hold.fence(WHY).unwrap();
    let mut refused = 0;
    for _ in 0..5 {
        let error = told.recv_timeout(Duration::from_secs(30)).unwrap().unwrap_err().to_string();
        refused += u32::from(error.contains("receiver: version 3 of shop is retired"));
    }
    assert_eq!(refused, 2, "root met the gates, the app's own connections were ended");
    assert_eq!(database.fence().unwrap(), Fence::Whole);
    let mut reader = world.role(&database, Access::Read);
    assert_eq!(one::<u32>(&mut reader, "SELECT COUNT(*) FROM parent"), 4);
    assert_eq!(one::<u32>(&mut reader, "SELECT COUNT(*) FROM names"), 2, "views of the locked role work");
    assert!(world.try_role(&database, Access::Write).is_err());
    database.remove().unwrap();
}

#[test]
fn every_way_of_writing_is_refused_and_the_fence_comes_down_again() {
    let world = World::new();
    let database = world.filled(EVERYTHING);
    retire(&database);
    retire_again_is_harmless(&database);
    let mut root = world.root();
    root.query_drop(format!("USE {}", database.name())).unwrap();
    for write in [
        "INSERT INTO parent (name) VALUES ('x')",
        "REPLACE INTO parent (id, name) VALUES (1, 'x')",
        "INSERT INTO parent (id) VALUES (1) ON DUPLICATE KEY UPDATE name = 'x'",
        "UPDATE IGNORE parent SET name = 'x'",
        "DELETE FROM parent WHERE id = 1",
        "DELETE parent, child FROM parent JOIN child ON child.parent_id = parent.id",
        "INSERT INTO `we``ird \"t' x` (`a b`, `from`) VALUES (1, 'x')",
        "INSERT INTO parts VALUES (1, NULL)",
        "CALL add_one('x')",
    ] {
        let error = root.query_drop(write).unwrap_err().to_string();
        assert!(
            error.contains("ERROR 1644 (45000): receiver: version 3 of shop is retired"),
            "{write}: {error}"
        );
    }
    assert_eq!(one::<u32>(&mut root, "SELECT COUNT(*) FROM parent"), 4);
    // A table that was made behind the fence has no gates, and is named.
    root.query_drop("CREATE TABLE behind (a int)").unwrap();
    assert_eq!(database.fence().unwrap(), Fence::Gaps(vec!["behind".into()]));
    root.query_drop("DROP TABLE behind").unwrap();
    root.query_drop(format!("ALTER USER {}@localhost ACCOUNT UNLOCK", database.name())).unwrap();
    let Fence::Gaps(gaps) = database.fence().unwrap() else { panic!("the role may log in") };
    assert_eq!(gaps, [format!("the role {}, which may log in", database.name())]);
    for _ in 0..2 {
        database.unfence().unwrap();
        assert_eq!(database.fence().unwrap(), Fence::Open);
    }
    world.role(&database, Access::Write).query_drop("INSERT INTO parent (name) VALUES ('again')").unwrap();
    let left: u32 = one(
        &mut root,
        &format!(
            "SELECT (SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_NAME LIKE 'receiver%'
               AND TRIGGER_SCHEMA = '{0}') + (SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{0}_log')",
            database.name()
        ),
    );
    assert_eq!(left, 0);
    database.remove().unwrap();
}

fn retire_again_is_harmless(database: &Mysql) {
    database.prepare_hold(&soon()).unwrap();
    assert_eq!(database.fence().unwrap(), Fence::Whole);
}

#[test]
fn the_app_can_neither_see_nor_change_the_flag_and_a_copy_has_no_gates() {
    let world = World::new();
    let database = world.filled("CREATE TABLE t (a int)");
    database.prepare_hold(&soon()).unwrap();
    let mut app = world.role(&database, Access::Write);
    app.query_drop("INSERT INTO t VALUES (1)").unwrap();
    let flag = format!("{}_log.fence", database.name());
    for look in [
        format!("SELECT * FROM {flag}"),
        format!("UPDATE {flag} SET why = NULL"),
        format!("DROP TABLE {flag}"),
    ] {
        assert!(app.query_drop(&look).is_err(), "{look}");
    }
    let to = world.at(&format!("{}_x", database.name()));
    database.hold(&soon()).unwrap().copy_to(to.spot(), &soon(), &mut |_| {}).unwrap();
    let gates: u32 = one(
        &mut world.root(),
        &format!("SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{}'", to.name()),
    );
    assert_eq!(gates, 0);
    assert_eq!(to.fence().unwrap(), Fence::Open);
    to.remove().unwrap();
    database.remove().unwrap();
    let own: u32 = one(
        &mut world.root(),
        &format!(
            "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{}_log'",
            database.name()
        ),
    );
    assert_eq!(own, 0);
}

#[test]
fn gates_wait_for_a_reader_and_name_one_that_stays() {
    let world = World::new();
    let database = world.filled("CREATE TABLE t (a int)");
    let mut reader = world.role(&database, Access::Read);
    reader.query_drop("BEGIN; SELECT * FROM t").unwrap();
    let error = database.prepare_hold(&Limit::within(Duration::from_secs(2))).unwrap_err().render();
    assert!(error.contains(&format!("connection {} of", reader.connection_id())), "{error}");
    drop(reader);
    database.prepare_hold(&soon()).unwrap();
    // Nor does one keep a fence up: gates that cannot be dropped let writers pass.
    let mut reader = world.role(&database, Access::Read);
    database.hold(&soon()).unwrap().fence(WHY).unwrap();
    reader.query_drop("BEGIN; SELECT * FROM t").unwrap();
    database.unfence().unwrap();
    world.role(&database, Access::Write).query_drop("INSERT INTO t VALUES (1)").unwrap();
    drop(reader);
    database.unfence().unwrap();
    assert_eq!(database.fence().unwrap(), Fence::Open);
    database.remove().unwrap();
}

#[test]
fn no_acknowledged_write_is_lost_between_copy_and_fence() {
    let world = World::new();
    let database = world
        .filled("CREATE TABLE t (id bigint AUTO_INCREMENT PRIMARY KEY, who int, n int, UNIQUE (who, n))");
    let to = world.at(&format!("{}_x", database.name()));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|who| {
                let (stop, world, database) = (&stop, &world, &database);
                scope.spawn(move || {
                    let mut acknowledged = 0_u32;
                    // Half of them are the app's, the others go around it.
                    let mut connection =
                        if who % 2 == 0 { world.role(database, Access::Write) } else { world.root() };
                    let insert =
                        |n| format!("INSERT INTO {}.t (who, n) VALUES ({who}, {n})", database.name());
                    while !stop.load(Ordering::Relaxed) && connection.query_drop(insert(acknowledged)).is_ok()
                    {
                        acknowledged += 1;
                    }
                    (who, acknowledged)
                })
            })
            .collect();
        database.prepare_hold(&soon()).unwrap();
        let count = || one::<u32>(&mut world.root(), &format!("SELECT COUNT(*) FROM {}.t", database.name()));
        until("some were written", || count() > 200);
        let hold = database.hold(&soon()).unwrap();
        hold.copy_to(to.spot(), &soon(), &mut |_| {}).unwrap();
        to.verify(database.spot(), &soon()).unwrap();
        hold.fence(WHY).unwrap();
        for writer in writers {
            let (who, acknowledged) = writer.join().unwrap();
            let query = format!("SELECT COUNT(*) FROM t WHERE who = {who}");
            assert_eq!(one::<u32>(&mut world.role(&to, Access::Read), &query), acknowledged, "writer {who}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    database.remove().unwrap();
    to.remove().unwrap();
}

#[test]
fn where_no_trigger_may_be_made_the_account_alone_is_the_fence() {
    let server: &'static TestServer = Box::leak(Box::new(TestServer::start(&[
        "--log-bin=binlog",
        "--server-id=1",
        "--log-bin-trust-function-creators=0",
    ])));
    let world = World { server, ..World::new() };
    let mut root = world.root();
    root.query_drop("CREATE USER small@localhost").unwrap();
    // Every right on tables that the server has.
    let more = if is_mysql() { "" } else { "DELETE HISTORY, " };
    root.query_drop(format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES,
         CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, EVENT, TRIGGER, {more}CREATE USER
         ON *.* TO small@localhost WITH GRANT OPTION",
    ))
    .unwrap();
    let ground = Ground { admin: Some("small".into()), ..world.ground() };
    let spot = Spot { directory: world.place.path().into(), name: "small_v1".into() };
    let database = Mysql::at(&ground, spot);
    let cures = |database: &Mysql| -> Vec<String> {
        database.findings().unwrap().into_iter().map(|finding| finding.cure).collect()
    };
    let found = cures(&database);
    let rights = if is_mysql() { "CONNECTION_ADMIN, SET_ANY_DEFINER" } else { "CONNECTION ADMIN, SET USER" };
    assert!(found.contains(&format!("GRANT PROCESS, {rights} ON *.* TO 'small'@'localhost'")), "{found:?}");
    assert!(
        found.iter().any(|cure| cure.starts_with("SET GLOBAL log_bin_trust_function_creators = 1")),
        "{found:?}"
    );
    let log = if is_mysql() { "" } else { ", BINLOG ADMIN" };
    root.query_drop(format!("GRANT PROCESS, {rights}{log} ON *.* TO small@localhost")).unwrap();
    assert_eq!(cures(&database).len(), 2, "the log, and commits that do not wait: {:?}", cures(&database));
    database.create().unwrap();
    world.role(&database, Access::Write).query_drop("CREATE TABLE t (a int PRIMARY KEY)").unwrap();
    root.query_drop("CREATE USER report@localhost; GRANT INSERT ON `small\\_v1`.* TO report@localhost")
        .unwrap();
    retire(&database);
    assert!(world.try_role(&database, Access::Write).is_err());
    assert_eq!(database.fence().unwrap(), Fence::Gaps(vec!["the role 'report'@'localhost'".into()]));
    root.query_drop("DROP USER report@localhost").unwrap();
    assert_eq!(database.fence().unwrap(), Fence::Whole);
    let error = database.snapshot(world.at("small_v2").spot(), &soon(), &mut |_| {}).unwrap_err();
    assert!(error.render().contains("a right is missing"), "{}", error.render());
    let to = Mysql::at(&ground, world.at("small_v2").spot().clone());
    database.hold(&soon()).unwrap().copy_to(to.spot(), &soon(), &mut |_| {}).unwrap();
    to.verify(database.spot(), &soon()).unwrap();
}

#[test]
fn a_frozen_copy_can_only_be_read_and_who_is_connected_is_named() {
    let world = World::new();
    let database = world.filled("CREATE TABLE t (a int)");
    let app = world.role(&database, Access::Write);
    let found = database.connected().unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(&format!(
        "connection {} of '{}' from localhost",
        app.connection_id(),
        database.name()
    )));
    // A process of a version that is looked at reads, and is nobody to be ended.
    let reads = world.role(&database, Access::Read);
    assert_eq!(database.connected().unwrap().len(), 1);
    drop(reads);
    // What another of receiver's processes does there for a moment concerns nobody.
    let other = database.server.connect_to(database.name()).unwrap();
    session::forget(&database.server.socket, other.id());
    assert_eq!(database.connected().unwrap().len(), 1);
    drop(other);
    database.freeze().unwrap();
    assert!(database.connected().unwrap().is_empty());
    assert!(world.try_role(&database, Access::Write).is_err());
    let mut reader = world.role(&database, Access::Read);
    assert_eq!(one::<u32>(&mut reader, "SELECT COUNT(*) FROM t"), 0);
    assert!(reader.query_drop("INSERT INTO t VALUES (1)").is_err());
    database.remove().unwrap();
}
