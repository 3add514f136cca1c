use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mysql::prelude::Queryable;

use super::proof::EVERYTHING;
use super::server::TestServer;
use super::*;

fn beside(world: &World, database: &Mysql, what: &str) -> Mysql {
    world.at(&format!("{}_{what}", database.name()))
}

fn copied(database: &Mysql, to: &Mysql) {
    let hold = database.hold(&soon()).unwrap();
    hold.copy_to(to.spot(), &soon(), &mut |_| {}).unwrap();
}

#[test]
fn a_copy_has_all_that_its_original_has_and_no_trigger_fired() {
    let world = World::new();
    let database = world.filled(EVERYTHING);
    world
        .root()
        .query_drop(format!("ALTER DATABASE {} COLLATE utf8mb4_unicode_ci", database.name()))
        .unwrap();
    let to = beside(&world, &database, "x");
    let hold = database.hold(&soon()).unwrap();
    hold.copy_to(to.spot(), &soon(), &mut |_| {}).unwrap();
    assert_eq!(to.verify(database.spot(), &soon()).unwrap(), 1, "one egg refers to no hen");
    drop(hold);
    let (schema, same) = (database.schema().unwrap(), to.schema().unwrap());
    assert_eq!(schema.diff(&same), [""; 0]);
    let mut app = world.role(&to, Access::Write);
    assert_eq!(one::<String>(&mut app, "SELECT @@collation_database"), "utf8mb4_unicode_ci");
    // What a copy may easily lose: zeros, moments, what is not valid, the next numbers.
    assert_eq!(one::<u32>(&mut app, "SELECT COUNT(*) FROM parent WHERE id = 0"), 1);
    let odd: (String, String, u8) =
        app.query_first("SELECT CAST(d AS CHAR), CAST(t AS CHAR), e + 0 FROM kinds").unwrap().unwrap();
    assert_eq!(odd, ("0000-00-00".into(), "2001-02-03 04:05:06".into(), 0));
    app.query_drop("INSERT INTO parent (name) VALUES ('next')").unwrap();
    assert_eq!(one::<u32>(&mut app, "SELECT id FROM parent WHERE name = 'next'"), 51);
    // The objects are the copy's own, also their definers, and work.
    app.query_drop("INSERT INTO child (parent_id) VALUES (1)").unwrap();
    assert_eq!(one::<u32>(&mut app, "SELECT @fired"), 1);
    app.query_drop("CALL add_one('called')").unwrap();
    assert_eq!(one::<u32>(&mut app, "SELECT COUNT(*) FROM aaa"), 3);
    assert!(app.query_drop("INSERT INTO child (parent_id) VALUES (4711)").is_err(), "keys hold");
    let definers: Vec<String> = app
        .query(
            "SELECT DISTINCT DEFINER FROM (SELECT DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = DATABASE()
             UNION SELECT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()
             UNION SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()
             UNION SELECT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE()) d",
        )
        .unwrap();
    assert_eq!(definers, [format!("{}@localhost", to.name())]);
    let status: String =
        one(&mut app, "SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()");
    assert_eq!(status, "DISABLED");
    // The original was not touched.
    let mut old = world.role(&database, Access::Write);
    assert_eq!(one::<u32>(&mut old, "SELECT COUNT(*) FROM parent"), 4);
    to.remove().unwrap();
    database.remove().unwrap();
}

#[test]
fn a_copy_that_is_not_its_original_is_refused() {
    let world = World::new();
    let database = world.filled(EVERYTHING);
    let to = beside(&world, &database, "x");
    for (change, why) in [
        ("UPDATE child SET parent_id = 0 WHERE id = 1", "'child' holds something else"),
        ("DELETE FROM hen", "table 'hen' has 0 rows instead of 1"),
        ("ALTER TABLE parent AUTO_INCREMENT = 900", "'parent' holds something else"),
        ("DROP TRIGGER count_up", "the original differs: + trigger count_up on child"),
        (
            "ALTER TABLE child DROP FOREIGN KEY child_of",
            "the original differs: + child foreign key (parent_id)",
        ),
        ("DROP VIEW aaa", "the original differs: + view aaa"),
        ("SELECT SETVAL(numbers, 99999)", "'numbers' holds something else"),
    ] {
        if is_mysql() && change.contains("SETVAL") {
            continue;
        }
        copied(&database, &to);
        to.verify(database.spot(), &soon()).unwrap();
        let mut app = world.role(&to, Access::Write);
        app.query_drop(format!("SET foreign_key_checks = 0; {change}")).unwrap();
        let error = to.verify(database.spot(), &soon()).unwrap_err().one_line();
        assert!(error.contains(why), "{change}: {error}");
    }
    to.remove().unwrap();
    database.remove().unwrap();
}

#[test]
fn a_snapshot_is_one_moment_while_writers_go_on() {
    let world = World::new();
    let database = world.filled(
        "CREATE TABLE a (id int PRIMARY KEY, n int, pad char(200) DEFAULT 'x');;
         CREATE TABLE b (id int PRIMARY KEY, n int, pad char(200) DEFAULT 'x');;
         INSERT INTO a (id, n) SELECT seq, 0 FROM seq_1_to_20000;; INSERT INTO b (id, n) SELECT seq, 0 FROM seq_1_to_20000",
    );
    let to = beside(&world, &database, "x");
    let stop = AtomicBool::new(false);
    let mut app = world.role(&database, Access::Write);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut moved = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                // One is taken here and given there, in rows at both ends of both tables.
                let id = if moved.is_multiple_of(2) { 1 } else { 20000 };
                app.query_drop(format!(
                    "BEGIN; UPDATE a SET n = n - 1 WHERE id = {id}; UPDATE b SET n = n + 1 WHERE id = {id}; COMMIT"
                ))
                .unwrap();
                moved += 1;
            }
            moved
        });
        for _ in 0..3 {
            database.snapshot(to.spot(), &soon(), &mut |_| {}).unwrap();
            let mut copy = world.role(&to, Access::Read);
            let sum: (i64, i64) =
                copy.query_first("SELECT (SELECT SUM(n) FROM a), (SELECT SUM(n) FROM b)").unwrap().unwrap();
            assert!(sum.0 < 0, "nobody waited for the copy");
            assert_eq!(sum.0 + sum.1, 0, "the copy is of one moment");
            let left: u32 = one(
                &mut copy,
                "SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE()",
            );
            assert_eq!(left, 0);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 3);
    });
    assert_eq!(to.schema().unwrap(), database.schema().unwrap());
    to.remove().unwrap();
    database.remove().unwrap();
}

#[test]
fn a_snapshot_has_all_that_its_original_has() {
    let world = World::new();
    let database = world.filled(EVERYTHING);
    let to = beside(&world, &database, "x");
    database.snapshot(to.spot(), &soon(), &mut |_| {}).unwrap();
    assert_eq!(to.verify(database.spot(), &soon()).unwrap(), 1);
    to.remove().unwrap();
    database.remove().unwrap();
}

#[test]
fn what_others_may_do_comes_along_and_goes_with_it() {
    let world = World::new();
    let database = world.filled(EVERYTHING);
    let (name, to) = (database.name().to_owned(), beside(&world, &database, "x"));
    let pattern = name.replace('_', "\\_");
    let mut root = world.root();
    root.query_drop("CREATE USER report@localhost; CREATE USER other@'%'; CREATE ROLE analysts").unwrap();
    for grant in [
        format!("GRANT SELECT, INSERT ON `{pattern}`.* TO report@localhost WITH GRANT OPTION"),
        format!("GRANT SELECT ON {name}.* TO other@'%'"),
        format!("GRANT UPDATE, SELECT (id, parent_id) ON {name}.child TO report@localhost"),
        format!("GRANT EXECUTE ON PROCEDURE {name}.add_one TO other@'%'"),
        format!("GRANT SELECT ON {name}.parent TO analysts"),
    ] {
        root.query_drop(grant).unwrap();
    }
    copied(&database, &to);
    let mut grants = |who: &str, of: &str| -> Vec<String> {
        let all: Vec<String> = root.query(format!("SHOW GRANTS FOR {who}")).unwrap();
        let of = [format!("`{}`.", of.replace('_', "\\_")), format!("`{of}`.")];
        all.into_iter().filter(|line| of.iter().any(|of| line.contains(of))).collect()
    };
    for who in ["report@localhost", "other@'%'", "analysts"] {
        let (old, new) = (grants(who, &name), grants(who, to.name()));
        assert!(!new.is_empty(), "{who}");
        let expected: Vec<String> =
            old.iter().map(|line| line.replace(&pattern, &name).replace(&name, to.name())).collect();
        let got: Vec<String> = new.iter().map(|line| line.replace("\\_", "_")).collect();
        assert_eq!(got, expected, "{who}");
    }
    to.remove().unwrap();
    for who in ["report@localhost", "other@'%'", "analysts"] {
        assert!(grants(who, to.name()).is_empty(), "{who}");
        assert!(!grants(who, &name).is_empty(), "{who}");
    }
    database.remove().unwrap();
    root.query_drop("DROP USER report@localhost; DROP USER other@'%'; DROP ROLE analysts").unwrap();
}

#[test]
fn what_cannot_be_copied_is_named_before_anything_is_made() {
    let world = World::new();
    let database = world.filled("CREATE TABLE t (id int PRIMARY KEY)");
    let to = beside(&world, &database, "x");
    let mut root = world.root();
    let name = database.name();
    for (make, drop_it, why) in [
        (
            format!("CREATE TABLE {name}.c (a int NOT NULL) ENGINE=CSV"),
            format!("DROP TABLE {name}.c"),
            "table 'c' of",
        ),
        (
            format!("CREATE TABLE {name}.v (a int) WITH SYSTEM VERSIONING"),
            format!("DROP TABLE {name}.v"),
            "system-versioned",
        ),
        (
            format!(
                "CREATE DATABASE away; CREATE TABLE away.p (id int PRIMARY KEY); CREATE TABLE {name}.k (a int, FOREIGN KEY (a) REFERENCES away.p (id))"
            ),
            format!("DROP TABLE {name}.k; DROP DATABASE away"),
            "leads to the database 'away'",
        ),
    ] {
        if is_mysql() && make.contains("VERSIONING") {
            continue;
        }
        root.query_drop(make).unwrap();
        let error = database.snapshot(to.spot(), &soon(), &mut |_| {}).unwrap_err().one_line();
        assert!(error.contains(why), "{error}");
        assert!(!to.exists().unwrap());
        root.query_drop(drop_it).unwrap();
    }
    // Without an engine for it a table is copied all the same, under the hold.
    root.query_drop(format!("CREATE TABLE {name}.m (a int) ENGINE=MyISAM; INSERT INTO {name}.m VALUES (1)"))
        .unwrap();
    copied(&database, &to);
    to.verify(database.spot(), &soon()).unwrap();
    to.remove().unwrap();
    database.remove().unwrap();
}

#[test]
fn a_copy_ends_with_its_limit_and_leaves_nothing() {
    let world = World::new();
    let database = world.filled(
        "CREATE TABLE big (id int PRIMARY KEY, pad varchar(200), KEY (pad));;
         INSERT INTO big SELECT seq, CONCAT(RAND(), REPEAT('x', 100)) FROM seq_1_to_100000",
    );
    let to = beside(&world, &database, "x");
    let hold = database.hold(&soon()).unwrap();
    for _ in 0..3 {
        let error =
            hold.copy_to(to.spot(), &Limit::within(Duration::from_millis(60)), &mut |_| {}).unwrap_err();
        assert!(error.one_line().contains("it took longer than"), "{}", error.one_line());
        assert!(!to.exists().unwrap());
    }
    hold.check().unwrap();
    let error =
        database.snapshot(to.spot(), &Limit::within(Duration::from_millis(60)), &mut |_| {}).unwrap_err();
    assert!(error.one_line().contains("it took longer than"), "{}", error.one_line());
    assert!(!to.exists().unwrap());
    drop(hold);
    database.remove().unwrap();
}

#[test]
fn a_server_that_dies_in_mid_copy_is_said_and_what_is_left_is_removed() {
    let server: &'static TestServer = Box::leak(Box::new(TestServer::start(&[])));
    let world = World { server, ..World::new() };
    let database = world.filled(
        "CREATE TABLE big (id int PRIMARY KEY, pad varchar(200), KEY (pad));;
         INSERT INTO big SELECT seq, CONCAT(RAND(), REPEAT('x', 100)) FROM seq_1_to_200000",
    );
    let to = beside(&world, &database, "x");
    let hold = database.hold(&soon()).unwrap();
    let killer = thread::spawn(move || {
        let mut root = server.root();
        let filling = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT INTO%'";
        while one::<u32>(&mut root, filling) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        server.kill();
    });
    let error = hold.copy_to(to.spot(), &soon(), &mut |_| {}).unwrap_err();
    killer.join().unwrap();
    assert!(error.one_line().contains("does not answer"), "{}", error.one_line());
    server.restart();
    assert!(hold.check().is_err(), "a hold does not come back with its server");
    to.remove().unwrap();
    assert!(!to.exists().unwrap());
    assert_eq!(one::<u32>(&mut world.role(&database, Access::Read), "SELECT COUNT(*) FROM big"), 200_000);
}

/// The process that the next test kills: it copies, and never comes to its end.
#[test]
fn copies_until_it_is_killed() {
    let Ok(told) = std::env::var("RECEIVER_TEST_COPY") else { return };
    let words: Vec<&str> = told.split(' ').collect();
    let [socket, secrets, name] = words[..] else { panic!("{told}") };
    let ground = Ground {
        agent: None,
        lender: None,
        secrets: secrets.into(),
        server: Some(socket.into()),
        admin: Some("root".into()),
        password_file: None,
    };
    let spot = |name: &str| Spot { directory: "/nowhere".into(), name: name.to_owned() };
    let database = Mysql::at(&ground, spot(name));
    let hold = database.hold(&soon()).unwrap();
    hold.copy_to(&spot(&format!("{name}_x")), &soon(), &mut |_| {}).unwrap();
}

#[test]
fn what_a_killed_copy_leaves_is_removed_and_writers_go_on() {
    let world = World::new();
    let database = world.filled(
        "CREATE TABLE big (id int PRIMARY KEY, pad varchar(200), KEY (pad));;
         INSERT INTO big SELECT seq, CONCAT(RAND(), REPEAT('x', 100)) FROM seq_1_to_200000",
    );
    let to = beside(&world, &database, "x");
    let told =
        format!("{} {} {}", world.server.socket.display(), world.ground().secrets.display(), database.name());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "data::mysql::tests::copy::copies_until_it_is_killed"])
        .env("RECEIVER_TEST_COPY", told)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let filling = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT INTO%' AND DB = '{}'",
        to.name()
    );
    super::hold::until("it copies", || one::<u32>(&mut world.root(), &filling) > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    // The hold died with it.
    world.role(&database, Access::Write).query_drop("INSERT INTO big VALUES (0, 'late')").unwrap();
    to.remove().unwrap();
    assert!(!to.exists().unwrap());
    // The next one begins as if nothing had been, also without the removal.
    copied(&database, &to);
    to.verify(database.spot(), &soon()).unwrap();
    copied(&database, &to);
    to.remove().unwrap();
    database.remove().unwrap();
}
