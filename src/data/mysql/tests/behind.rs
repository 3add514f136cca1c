use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mysql::prelude::Queryable;

use super::proof::EVERYTHING;
use super::*;

fn beside(world: &World, database: &Mysql) -> Mysql {
    world.at(&format!("{}_x", database.name()))
}

/// The triggers of receiver's own that a database has, and the tables beside it.
fn left(world: &World, database: &Mysql) -> (u32, u32) {
    let name = database.name();
    let triggers = format!(
        "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{name}' AND TRIGGER_NAME LIKE 'receiver%'"
    );
    let tables = format!("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{name}_log'");
    (one(&mut world.root(), &triggers), one(&mut world.root(), &tables))
}

/// Copies, lets some SQL be run, comes behind, and compares every row.
fn follows(database: &Mysql, to: &Mysql, meanwhile: impl FnOnce()) {
    assert!(database.copies_ahead().unwrap());
    database.copy_ahead(to.spot(), &soon(), &mut |_| {}).unwrap();
    meanwhile();
    let hold = database.hold(&soon()).unwrap();
    hold.catch_up(to.spot(), &soon()).unwrap();
    to.verify(database.spot(), &soon()).unwrap();
    drop(hold);
    database.forget_copy().unwrap();
}

#[test]
fn a_copy_that_was_made_ahead_comes_behind_by_the_rows_that_changed() {
    let world = World::new();
    let database = world.filled(EVERYTHING);
    let to = beside(&world, &database);
    let mut app = world.role(&database, Access::Write);
    follows(&database, &to, || {
        for change in [
            "INSERT INTO parent (name) VALUES ('young')",
            "INSERT INTO child (parent_id) VALUES (1)",
            "DELETE FROM child WHERE id = 1",
            "UPDATE parent SET name = 'other' WHERE id = 0",
            "UPDATE kinds SET t = t",
        ] {
            app.query_drop(change).unwrap_or_else(|error| panic!("{change}: {error}"));
        }
    });
    let mut copy = world.role(&to, Access::Write);
    assert_eq!(one::<u32>(&mut copy, "SELECT COUNT(*) FROM parent WHERE name IN ('young', 'other')"), 2);
    to.remove().unwrap();
    database.remove().unwrap();
}

#[test]
fn a_copy_comes_behind_whatever_was_done_to_a_table_meanwhile() {
    let world = World::new();
    let database = world.filled(
        "CREATE TABLE plain (id int AUTO_INCREMENT PRIMARY KEY, n int UNIQUE);; INSERT INTO plain (n) VALUES (1), (2), (3), (4);;
         CREATE TABLE text (k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, n int);;
         INSERT INTO text VALUES ('a', 1), ('b', 2);;
         CREATE TABLE keyless (n int);; INSERT INTO keyless VALUES (1), (1);;
         CREATE TABLE emptied (id int AUTO_INCREMENT PRIMARY KEY);; INSERT INTO emptied VALUES (7), (8);;
         CREATE TABLE pair (a int, b int, sum int AS (a + b) STORED, PRIMARY KEY (a, b));; INSERT INTO pair (a, b) VALUES (1, 2);;
         CREATE TABLE part (id int PRIMARY KEY, n int) PARTITION BY HASH (id) PARTITIONS 3;; INSERT INTO part VALUES (1, 1), (2, 2);;
         CREATE TABLE top (id int PRIMARY KEY);; INSERT INTO top VALUES (1), (2);;
         CREATE TABLE below (id int PRIMARY KEY, top int, FOREIGN KEY (top) REFERENCES top (id) ON DELETE CASCADE);;
         INSERT INTO below VALUES (10, 1), (11, 1), (12, 2);;
         CREATE TABLE lowest (id int PRIMARY KEY, below int, FOREIGN KEY (below) REFERENCES below (id) ON DELETE SET NULL);;
         INSERT INTO lowest VALUES (20, 10), (21, 12);;
         CREATE TABLE `odd ``name'` (`key ``` int PRIMARY KEY, stamp timestamp(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6));;
         INSERT INTO `odd ``name'` (`key ```) VALUES (1), (2);;
         CREATE TABLE told (n int);; CREATE TRIGGER tells AFTER INSERT ON plain FOR EACH ROW INSERT INTO told VALUES (NEW.n);;
         CREATE SEQUENCE numbers;; CREATE TABLE grown (id int PRIMARY KEY, pad longtext);;
         INSERT INTO grown SELECT seq, REPEAT('x', 200) FROM seq_1_to_3000",
    );
    let to = beside(&world, &database);
    let mut app = world.role(&database, Access::Write);
    let mut changes = vec![
        // Two rows change places, one comes and goes, one goes and comes back.
        "UPDATE plain SET n = 0 WHERE id = 1",
        "UPDATE plain SET n = 1 WHERE id = 2",
        "UPDATE plain SET n = 2 WHERE id = 1",
        "INSERT INTO plain (n) VALUES (99)",
        "DELETE FROM plain WHERE n = 99",
        "DELETE FROM plain WHERE id = 3",
        "INSERT INTO plain VALUES (3, 33)",
        "REPLACE INTO plain VALUES (4, 44)",
        "UPDATE plain SET id = 40 WHERE id = 4",
        "UPDATE text SET k = 'A' WHERE k = 'a'",
        "INSERT INTO text VALUES ('B', 5) ON DUPLICATE KEY UPDATE n = 6",
        "INSERT INTO keyless VALUES (1)",
        "TRUNCATE TABLE emptied",
        "INSERT INTO emptied VALUES (NULL)",
        "INSERT INTO pair (a, b) VALUES (2, 3)",
        "UPDATE pair SET b = 9 WHERE a = 1",
        "DELETE FROM part WHERE id = 1",
        "INSERT INTO part VALUES (5, 5)",
        "DELETE FROM top WHERE id = 1",
        "UPDATE `odd ``name'` SET stamp = NOW(6) WHERE `key ``` = 1",
        "UPDATE grown SET pad = CONCAT(pad, 'y') WHERE id % 3 = 0",
        "DELETE FROM grown WHERE id % 7 = 0",
    ];
    if !is_mysql() {
        changes.push("DO NEXTVAL(numbers)");
    }
    follows(&database, &to, || {
        for change in changes {
            app.query_drop(change).unwrap_or_else(|error| panic!("{change}: {error}"));
        }
    });
    assert_eq!(one::<u32>(&mut world.role(&to, Access::Read), "SELECT COUNT(*) FROM below"), 1);
    assert_eq!(left(&world, &database), (0, 0));
    to.remove().unwrap();
    database.remove().unwrap();
}

/// Ends the writers, also where the test fails: the scope waits for them.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_copy_comes_behind_writers_who_never_stop() {
    let world = World::new();
    let database = world.filled(
        "CREATE TABLE a (id int PRIMARY KEY, n int, pad char(200) DEFAULT 'x');;
         CREATE TABLE b (id int PRIMARY KEY, n int, pad char(200) DEFAULT 'x');;
         INSERT INTO a (id, n) SELECT seq, 0 FROM seq_1_to_20000;; INSERT INTO b (id, n) SELECT seq, 0 FROM seq_1_to_20000",
    );
    let to = beside(&world, &database);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = Stop(&stop);
        for who in 0..4_u32 {
            let (world, database, stop) = (&world, &database, &stop);
            scope.spawn(move || {
                let mut app = world.role(database, Access::Write);
                let mut n = who;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let (id, new) = (1 + n / 7 % 20_000, 30_000 + n % 1_000_000);
                    let write = format!(
                        "BEGIN; UPDATE a SET n = n - 1 WHERE id = {id}; UPDATE b SET n = n + 1 WHERE id = {id}; \
                         INSERT IGNORE INTO a (id, n) VALUES ({new}, 0); DELETE FROM b WHERE id = {id} AND n > 3; COMMIT"
                    );
                    // One that meets the hold in the other order is ended as a deadlock.
                    if app.query_drop(write).is_err() {
                        app.query_drop("ROLLBACK").unwrap();
                    }
                }
            });
        }
        for _ in 0..4 {
            follows(&database, &to, || {});
        }
    });
    assert_eq!(left(&world, &database), (0, 0));
    to.remove().unwrap();
    database.remove().unwrap();
}

#[test]
fn what_is_noted_for_a_copy_and_for_a_rollback_are_two_things() {
    let world = World::new();
    let database = world.filled("CREATE TABLE t (id int PRIMARY KEY);; INSERT INTO t VALUES (1)");
    let to = beside(&world, &database);
    assert!(database.capture("shop_v0", &soon()).unwrap().is_whole());
    let schema = database.schema().unwrap();
    follows(&database, &to, || {
        assert_eq!(database.schema().unwrap(), schema, "what notes is no part of the schema");
        world.role(&database, Access::Write).query_drop("INSERT INTO t VALUES (2)").unwrap();
    });
    assert_eq!(left(&world, &to), (0, 0));
    let changes = database.changes(&soon()).unwrap();
    assert_eq!(changes["t"].written, 1, "what a rollback carries is noted still");
    database.copy_ahead(to.spot(), &soon(), &mut |_| {}).unwrap();
    database.end_capture().unwrap();
    assert_eq!(left(&world, &database).0, 3, "and the other way round");
    database.unfence().unwrap();
    assert_eq!(left(&world, &database), (0, 0), "recovery takes it away");
    to.remove().unwrap();
    database.remove().unwrap();
}

#[test]
fn a_copy_that_cannot_come_behind_is_refused() {
    let world = World::new();
    let database = world.filled("CREATE TABLE t (id int PRIMARY KEY);; INSERT INTO t VALUES (1)");
    let to = beside(&world, &database);
    let mut app = world.role(&database, Access::Write);
    let mut refused = |meanwhile: &str, why: &str| {
        database.copy_ahead(to.spot(), &soon(), &mut |_| {}).unwrap();
        app.query_drop(meanwhile).unwrap();
        let hold = database.hold(&soon()).unwrap();
        let error =
            hold.catch_up(to.spot(), &soon()).and_then(|()| to.verify(database.spot(), &soon()).map(drop));
        let error = error.unwrap_err().one_line();
        assert!(error.contains(why), "{meanwhile}: {error}");
    };
    refused("CREATE TABLE fresh (id int PRIMARY KEY)", "table 'fresh' was made while the data was copied");
    refused("ALTER TABLE t ADD COLUMN n int", "the original differs: + t.n");
    refused("DROP TABLE fresh", "the original differs: - table fresh");
    database.forget_copy().unwrap();
    let hold = database.hold(&soon()).unwrap();
    let error = hold.catch_up(to.spot(), &soon()).unwrap_err().one_line();
    assert!(error.ends_with("it was not noted which rows changed"), "{error}");
    drop(hold);
    app.query_drop("CREATE TABLE m (a int) ENGINE=MyISAM").unwrap();
    assert!(!database.copies_ahead().unwrap(), "its writers would wait while it is read");
    app.query_drop("DROP TABLE m").unwrap();
    assert!(database.copies_ahead().unwrap());
    for circle in [
        "CREATE TABLE egg (id int PRIMARY KEY, hen int)",
        "CREATE TABLE hen (id int PRIMARY KEY, egg int, FOREIGN KEY (egg) REFERENCES egg (id) ON DELETE CASCADE)",
        "ALTER TABLE egg ADD FOREIGN KEY (hen) REFERENCES hen (id) ON DELETE CASCADE",
    ] {
        app.query_drop(circle).unwrap();
    }
    assert!(!database.copies_ahead().unwrap(), "rows would go that no trigger sees");
    to.remove().unwrap();
    database.remove().unwrap();
}
