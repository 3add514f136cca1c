//! Rows on their way back, and forward again.

use mysql::prelude::Queryable;

use super::two::{Two, map};
use super::*;
use crate::data::way::{Expressions, Moved, OnConflict, Refusal, Way};

const USERS: &str = "CREATE TABLE user (id int AUTO_INCREMENT PRIMARY KEY, fullname varchar(100) NOT NULL, n int, old varchar(9) DEFAULT 'kept');;
    INSERT INTO user VALUES (1, 'Ada Lovelace', 1, 'a'), (2, 'Alan Turing', 2, 'b'), (3, 'Grace Hopper', 3, 'c')";

const SPLIT: &str = "ALTER TABLE user ADD COLUMN first varchar(50) NOT NULL DEFAULT '', ADD COLUMN last varchar(50) NOT NULL DEFAULT '',
        ADD COLUMN mail varchar(20) DEFAULT '-';;
    UPDATE user SET first = substring_index(fullname, ' ', 1), last = substring_index(fullname, ' ', -1);;
    ALTER TABLE user DROP COLUMN fullname, DROP COLUMN old";

fn down() -> Expressions {
    map("user", &[("fullname", "concat(user.first, ' ', `last`)")])
}

#[test]
fn what_changed_goes_back_by_the_inverse_mapping_and_forward_again() {
    let two = Two::new(USERS, SPLIT);
    two.run(
        &two.new,
        "UPDATE user SET last = 'King', mail = 'ada@x' WHERE id = 1;; DELETE FROM user WHERE id = 2;;
        INSERT INTO user (first, last, n) VALUES ('Edsger', 'Dijkstra', 4);; INSERT INTO user (first) VALUES ('gone');;
        DELETE FROM user WHERE first = 'gone'",
    );
    let changes = two.new.changes(&soon()).unwrap();
    assert_eq!((changes["user"].written, changes["user"].deleted), (2, 2));
    let carried = two.back_by(&down(), OnConflict::Abort);
    assert_eq!(carried.moved["user"], Moved { written: 2, deleted: 1, along: 0 });
    let left: Vec<_> = carried.left.0.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["table 'user': the other version has no column 'mail' (1 row)"]);
    let all = "SELECT * FROM user ORDER BY id";
    assert_eq!(
        two.content(&two.old, all),
        ["1|Ada King|1|a", "3|Grace Hopper|3|c", "4|Edsger Dijkstra|4|kept"],
        "what only the older one has stays, or takes its default"
    );
    two.turn();
    two.run(
        &two.old,
        "UPDATE user SET n = 10 WHERE id = 1;; INSERT INTO user (fullname, n) VALUES ('Barbara Liskov', 5);;
        DELETE FROM user WHERE id = 3",
    );
    let up = [("first", "substring_index(fullname, ' ', 1)"), ("last", "substring_index(fullname, ' ', -1)")];
    let carried = two.forward(&map("user", &up));
    assert_eq!(carried.moved["user"], Moved { written: 2, deleted: 1, along: 0 });
    assert_eq!(
        two.content(&two.new, "SELECT id, first, last, n, mail FROM user ORDER BY id"),
        ["1|Ada|King|10|ada@x", "4|Edsger|Dijkstra|4|-", "6|Barbara|Liskov|5|-"],
        "no number of a key comes twice"
    );
}

#[test]
fn rows_that_changed_places_do_not_meet_and_the_apps_triggers_do_not_fire() {
    let sql = "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, u varchar(9) UNIQUE, v int);;
        CREATE TABLE log (id int AUTO_INCREMENT PRIMARY KEY, what varchar(20));;
        CREATE TRIGGER `te``ll` AFTER INSERT ON t FOR EACH ROW INSERT INTO log (what) VALUES (CONCAT('new ', NEW.id));;
        CREATE TRIGGER never BEFORE UPDATE ON t FOR EACH ROW BEGIN IF NEW.v = 99 THEN SIGNAL SQLSTATE '45000'; END IF; END;;
        SET sql_mode = 'ANSI_QUOTES';;
        CREATE TRIGGER second AFTER INSERT ON t FOR EACH ROW BEGIN SET @x = \"NEW\".id; END;;
        INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0)";
    let two = Two::new(sql, "");
    two.run(
        &two.new,
        "UPDATE t SET u = 'x' WHERE id = 1;; UPDATE t SET u = 'a' WHERE id = 2;; UPDATE t SET u = 'b' WHERE id = 1;;
         DELETE FROM t WHERE id = 3;; INSERT INTO t (u) VALUES ('c'), ('gone');; DELETE FROM t WHERE u = 'gone'",
    );
    let before = two.dump_of(&two.old);
    two.back();
    two.same(&["t", "log"]);
    assert_eq!(two.content(&two.old, "SELECT * FROM t ORDER BY id"), ["1|b|0", "2|a|0", "4|c|NULL"]);
    let triggers = |dump: &[String]| {
        dump.iter()
            .filter(|line| line.contains("BEFORE") || line.contains("AFTER"))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(triggers(&two.dump_of(&two.old)), triggers(&before));
}

#[test]
fn keys_and_columns_of_every_kind_go_back() {
    let long = "l".repeat(64);
    let sql = format!(
        "CREATE TABLE two (a int, b varchar(20), v int, PRIMARY KEY (b, a));;
        CREATE TABLE folded (k varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v int);;
        CREATE TABLE bytes (k varbinary(16) PRIMARY KEY, v int);; CREATE TABLE ids (k uuid PRIMARY KEY, v int);;
        CREATE TABLE `odd \"`` 'name` (`the `` key` int PRIMARY KEY, `a \"b` text);; CREATE TABLE {long} (id int PRIMARY KEY);;
        CREATE TABLE receiver_thing (id int PRIMARY KEY, receiver_x int);;
        CREATE TABLE kinds (id bigint unsigned PRIMARY KEY, e enum('a', 'b') NOT NULL, s set('x', 'y'), j json, b blob, g geometry,
            bits bit(9), d date NOT NULL, t timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, n decimal(30, 10),
            f float, twice decimal(30) AS (id * 2) STORED, half decimal(30) AS (id / 2) VIRTUAL, m datetime(6), y year);;
        INSERT INTO two VALUES (1, 'x', 0), (2, 'x', 0), (1, 'y', 0);; INSERT INTO folded VALUES ('Key', 1), ('other', 2);;
        INSERT INTO bytes VALUES (x'00', 1), (x'01', 2);; INSERT INTO ids VALUES (UUID(), 1), (UUID(), 2);;
        INSERT INTO `odd \"`` 'name` VALUES (1, 'a'), (2, 'b');; SET sql_mode = '';;
        INSERT INTO kinds (id, e, d, t) VALUES (1, 'a', '0000-00-00', '2001-02-03 04:05:06'), (2, 'b', '2001-02-31', '2001-02-03 04:05:06'),
            (8446744073709551615, 'b', 0, 0)"
    );
    let two = Two::new(&sql, "");
    two.run(
        &two.new,
        &format!(
            "UPDATE two SET a = 9 WHERE b = 'x' AND a = 1;; DELETE FROM two WHERE b = 'y';;
         UPDATE folded SET k = 'KEY', v = 5 WHERE k = 'key';; DELETE FROM folded WHERE k = 'OTHER';; INSERT INTO folded VALUES ('OTHER', 6);;
         DELETE FROM bytes WHERE k = x'00';; INSERT INTO bytes VALUES (x'ff80', 7);; REPLACE INTO bytes VALUES (x'01', 8);;
         UPDATE ids SET v = 9 WHERE v = 1;; INSERT INTO ids VALUES (UUID(), 3);; INSERT INTO {long} VALUES (1);;
         INSERT INTO `odd \"`` 'name` VALUES (2, 'x') ON DUPLICATE KEY UPDATE `a \"b` = 'c''\\\\';; INSERT INTO `odd \"`` 'name` VALUES (3, 'd');;
         INSERT INTO receiver_thing VALUES (1, 2);; SET sql_mode = 'ALLOW_INVALID_DATES';;
         UPDATE kinds SET s = 'x,y', j = '{{\"a\": [1, \"é\"]}}', b = x'00ff27', g = ST_GeomFromText('POINT(1 2)', 4326), bits = b'100000001',
            t = '1999-01-01 00:00:00', n = 12345678901234567890.123456789, f = 0.1, m = '2020-02-02 02:02:02.123456', y = 1999 WHERE id = 1;;
         UPDATE kinds SET e = '', t = t WHERE id = 2;; DELETE FROM kinds WHERE id > 2;;
         INSERT INTO kinds (id, e, d) VALUES (9223372036854775807, 'a', '2000-01-01')"
        ),
    );
    let carried = two.back();
    assert_eq!(carried.moved["folded"], Moved { written: 2, deleted: 0, along: 0 });
    assert_eq!(carried.moved["two"], Moved { written: 1, deleted: 2, along: 0 });
    two.same(&["two", "folded", "bytes", "ids", "`odd \"`` 'name`", &long, "receiver_thing", "kinds"]);
}

#[test]
fn what_a_cascade_changed_is_noted_and_goes_back() {
    let sql = "CREATE TABLE p (id int PRIMARY KEY, code int UNIQUE);;
        CREATE TABLE c (id int PRIMARY KEY, p int, code int, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE ON UPDATE CASCADE,
            FOREIGN KEY (code) REFERENCES p (code) ON DELETE SET NULL ON UPDATE SET NULL);;
        CREATE TABLE g (id int PRIMARY KEY, c int, FOREIGN KEY (c) REFERENCES c (id) ON DELETE CASCADE);;
        CREATE TABLE tree (id int PRIMARY KEY, up int, p int, FOREIGN KEY (up) REFERENCES tree (id) ON DELETE CASCADE,
            FOREIGN KEY (p) REFERENCES p (id) ON DELETE SET NULL);;
        INSERT INTO p VALUES (1, 10), (2, 20), (3, 30), (4, 40);;
        INSERT INTO c VALUES (1, 1, 20), (2, 2, NULL), (3, 3, 30), (4, 4, 20), (5, 4, 40);; INSERT INTO g VALUES (1, 1), (2, 2), (3, 3), (5, 5);;
        INSERT INTO tree VALUES (1, NULL, 1), (2, 1, NULL), (3, 2, NULL), (4, 3, NULL), (5, NULL, 3)";
    let two = Two::new(sql, "");
    two.run(
        &two.new,
        "DELETE FROM p WHERE id = 1;; UPDATE p SET id = 22 WHERE id = 2;; UPDATE p SET code = 31 WHERE id = 3;;
         DELETE FROM tree WHERE id = 1;; DELETE FROM p WHERE id = 3;; REPLACE INTO p VALUES (4, 41)",
    );
    // MySQL (9.7) replaces a row that others refer to by an update.
    let left: &[&str] = if is_mysql() { &["2", "5"] } else { &["2"] };
    assert_eq!(two.content(&two.new, "SELECT id FROM g"), left);
    assert_eq!(two.content(&two.new, "SELECT * FROM tree"), ["5|NULL|NULL"]);
    let carried = two.back();
    assert_eq!(carried.dangling, 0);
    two.same(&["p", "c", "g", "tree"]);
}

#[test]
fn what_the_migration_made_comes_along_where_it_is_needed() {
    let sql = "CREATE TABLE kind (id int PRIMARY KEY, name varchar(9) UNIQUE);;
        CREATE TABLE part (id int PRIMARY KEY, kind varchar(9), up int, FOREIGN KEY (kind) REFERENCES kind (name), FOREIGN KEY (up) REFERENCES part (id));;
        INSERT INTO kind VALUES (1, 'one');; INSERT INTO part VALUES (1, 'one', NULL)";
    let migration = "INSERT INTO kind VALUES (2, 'two'), (3, 'three');; INSERT INTO part VALUES (5, 'two', 1), (6, 'three', NULL)";
    let two = Two::new(sql, migration);
    two.run(&two.new, "INSERT INTO part VALUES (7, 'one', 5)");
    let carried = two.back();
    assert_eq!(carried.moved["part"], Moved { written: 2, deleted: 0, along: 1 });
    assert_eq!(carried.moved["kind"], Moved { written: 1, deleted: 0, along: 1 });
    assert_eq!(two.content(&two.old, "SELECT * FROM part ORDER BY id"), ["1|one|NULL", "5|two|1", "7|one|5"]);
}

const STRICTER: &str = "CREATE TABLE s (id int PRIMARY KEY, n tinyint);;
    CREATE TABLE u (id int PRIMARY KEY, mail varchar(20) UNIQUE, age int CHECK (age < 200), name varchar(5) NOT NULL);;
    CREATE TABLE c (id int PRIMARY KEY, u int, s int, FOREIGN KEY (u) REFERENCES u (id), FOREIGN KEY (s) REFERENCES s (id));;
    INSERT INTO u VALUES (1, 'a', 1, 'A'), (2, 'b', 2, 'B');; INSERT INTO c VALUES (1, 1, NULL), (2, 2, NULL);; INSERT INTO s VALUES (1, 1)";

const LOOSER: &str =
    "SET foreign_key_checks = 0;; ALTER TABLE u DROP INDEX mail, MODIFY age int, MODIFY name varchar(50);;
    ALTER TABLE s MODIFY n bigint;; DELETE FROM c WHERE id = 2";

#[test]
fn one_refused_row_keeps_all_back_and_is_named() {
    for (sql, refusal) in [
        (
            "INSERT INTO u VALUES (7, 'b', 1, 'X')",
            "the row of table 'u' with id = 7 is refused: Duplicate entry 'b' for key 'mail'",
        ),
        (
            "INSERT INTO u VALUES (7, 'x', 1, NULL)",
            "the row of table 'u' with id = 7 is refused: Column 'name' cannot be null",
        ),
        (
            "INSERT INTO u VALUES (7, 'x', 1, 'too long')",
            "the row of table 'u' with id = 7 is refused: Data too long for column 'name'",
        ),
        (
            "UPDATE u SET age = 200 WHERE id = 2",
            "the row of table 'u' with id = 2 is refused: CONSTRAINT `u.age` failed for",
        ),
        (
            "UPDATE s SET n = 1000",
            "the row of table 's' with id = 1 is refused: Out of range value for column 'n'",
        ),
        (
            "DELETE FROM u WHERE id = 2",
            "the row of table 'u' with id = 2 is refused: a row of 'c' with id = 2 still refers to it",
        ),
    ] {
        let two = Two::new(STRICTER, LOOSER);
        two.run(&two.new, &format!("SET foreign_key_checks = 0;; INSERT INTO c VALUES (8, 1, NULL);; {sql}"));
        let before = two.dump_of(&two.old);
        let error = two.try_back(&Expressions::new(), OnConflict::Abort).unwrap_err();
        // MySQL names its things otherwise.
        let refusal = if is_mysql() {
            let refusal = refusal.replace("key 'mail'", "key 'u.mail'");
            let refusal = refusal.replace("Data too long", "Data truncated");
            refusal.replace("CONSTRAINT `u.age` failed for", "Check constraint 'u_chk_1' is violated")
        } else {
            refusal.to_owned()
        };
        assert!(Refusal::of(&error).unwrap().to_string().starts_with(&refusal), "{}", error.one_line());
        assert_eq!(two.dump_of(&two.old), before, "nothing changed");
    }
}

#[test]
fn refused_rows_are_left_out_with_what_refers_to_them_and_stay_in_the_newer_one() {
    let two = Two::new(STRICTER, LOOSER);
    two.run(
        &two.new,
        "SET foreign_key_checks = 0;;
         INSERT INTO u VALUES (3, 'c', 3, 'C'), (7, 'b', 1, 'X');; UPDATE u SET age = 500, mail = 'A' WHERE id = 1;;
         INSERT INTO c VALUES (3, 3, NULL), (7, 7, NULL);; INSERT INTO s VALUES (2, 1000);; INSERT INTO c VALUES (8, NULL, 2);;
         DELETE FROM u WHERE id = 2;; UPDATE c SET u = 3 WHERE id = 1",
    );
    let before = two.dump_of(&two.new);
    let carried = two.back_by(&Expressions::new(), OnConflict::Quarantine);
    assert_eq!(two.dump_of(&two.new), before);
    let keys =
        |table: &str| carried.refused[table].first.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>();
    assert_eq!(keys("u"), ["id = 1", "id = 2", "id = 7"]);
    assert_eq!(keys("c"), ["id = 7", "id = 8"]);
    assert_eq!(carried.refused["s"].rows, 1);
    assert_eq!(two.content(&two.old, "SELECT * FROM u"), ["1|a|1|A", "2|b|2|B", "3|c|3|C"]);
    assert_eq!(two.content(&two.old, "SELECT * FROM c"), ["1|3|NULL", "2|2|NULL", "3|3|NULL"]);
}

#[test]
fn an_expression_that_is_not_harmless_is_refused() {
    let two = Two::new(USERS, SPLIT);
    two.run(&two.new, "UPDATE user SET n = 9");
    for bad in ["load_file('/etc/passwd')", "(SELECT first)", "sleep(9)"] {
        let error = two.try_back(&map("user", &[("fullname", bad)]), OnConflict::Quarantine).unwrap_err();
        assert!(
            error.one_line().contains("the expression for column 'fullname' of table 'user'"),
            "{}",
            error.one_line()
        );
    }
}

#[test]
fn a_way_that_was_not_noted_whole_or_for_another_is_not_gone() {
    let two = Two::new(USERS, SPLIT);
    two.run(&two.new, "UPDATE user SET n = 9");
    let refused = |ending: &str| {
        let error = two.try_back(&down(), OnConflict::Quarantine).unwrap_err();
        assert!(error.one_line().ends_with(ending), "{}", error.one_line());
        let error = two.new.foresee(two.old.spot(), &two.way(&down()), &soon()).unwrap_err();
        assert!(error.one_line().starts_with("cannot foresee what goes from "), "{}", error.one_line());
        assert!(error.one_line().ends_with(ending), "{}", error.one_line());
        assert_eq!(two.content(&two.old, "SELECT n FROM user"), ["1", "2", "3"]);
    };
    two.run(&two.new, "CREATE TABLE fresh (id int PRIMARY KEY)");
    refused("not every change was noted: table 'fresh' came after it began");
    two.new.capture("shop_v0", &soon()).unwrap();
    refused(&format!("changes were noted for the way to shop_v0, not to {}", two.old.name()));
    two.run(&two.new, "OPTIMIZE TABLE user");
    assert!(two.new.captured().unwrap().unwrap().is_whole(), "one that was rebuilt holds its rows");
    two.run(&two.new, "TRUNCATE TABLE user;; INSERT INTO user (first) VALUES ('x')");
    assert_eq!(
        two.new.captured().unwrap().unwrap().gaps,
        ["table 'user' was emptied by TRUNCATE, which no trigger sees"]
    );
    two.new.end_capture().unwrap();
    refused("no changes were noted");
    let left: u32 = one(
        &mut two.world.root(),
        &format!(
            "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{}'",
            two.new.name()
        ),
    );
    assert_eq!(left, 0);
}

#[test]
fn the_left_version_is_merged_into_the_next_one() {
    let two = Two::new(
        "CREATE TABLE t (id int PRIMARY KEY, v int);; INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
        "ALTER TABLE t ADD COLUMN tag varchar(9) DEFAULT 'none', ADD COLUMN lost int;;
         CREATE TABLE note (id int PRIMARY KEY, t int, text text, FOREIGN KEY (t) REFERENCES t (id))",
    );
    two.run(
        &two.new,
        "UPDATE t SET tag = 'red', v = 10 WHERE id = 1;; UPDATE t SET tag = NULL, lost = 5 WHERE id = 2;; INSERT INTO t (id, v, tag) VALUES (4, 4, 'blue');;
         INSERT INTO note VALUES (1, 1, 'one'), (2, 3, 'three'), (3, NULL, 'none')",
    );
    two.back();
    two.turn();
    two.run(
        &two.old,
        "DELETE FROM t WHERE id = 3;; UPDATE t SET v = 20 WHERE id = 1;; INSERT INTO t VALUES (5, 5)",
    );
    let next = two.world.at(&two.old.name().replace("_v1", "_v3"));
    let base = two.old.tables().unwrap();
    two.old.hold(&soon()).unwrap().copy_to(next.spot(), &soon(), &mut |_| {}).unwrap();
    two.run(
        &next,
        "ALTER TABLE t ADD COLUMN tag varchar(9) DEFAULT 'none';;
         CREATE TABLE note (id int PRIMARY KEY, t int, text text, stars int DEFAULT 3, FOREIGN KEY (t) REFERENCES t (id));; INSERT INTO note VALUES (1, NULL, 'seed', 5)",
    );
    let way = Way::merge(&two.new.tables().unwrap(), &base, &next.tables().unwrap());
    let merged = next.merge(two.new.spot(), &way, &soon()).unwrap();
    assert_eq!(two.content(&next, "SELECT * FROM t"), ["1|20|red", "2|2|none", "4|4|blue", "5|5|none"]);
    assert_eq!(two.content(&next, "SELECT * FROM note"), ["1|1|one|5", "3|NULL|none|3"]);
    assert_eq!(merged.refused["note"].first[0].0, "id = 2");
    next.remove().unwrap();
}

#[test]
fn triggers_that_a_dead_process_put_aside_are_there_again_for_whoever_looks_next() {
    let two = Two::new(
        "CREATE TABLE t (id int PRIMARY KEY);; CREATE TABLE log (id int);;
         CREATE TRIGGER one AFTER INSERT ON t FOR EACH ROW INSERT INTO log VALUES (NEW.id);;
         CREATE TRIGGER two AFTER INSERT ON t FOR EACH ROW FOLLOWS one INSERT INTO log VALUES (-NEW.id)",
        "",
    );
    let before = two.dump_of(&two.old);
    // The end of its connection is all that the server sees of a death.
    drop(crate::data::mysql::way::aside::Aside::put(&two.old, &["t"], &soon()).unwrap());
    let left = "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() AND TRIGGER_NAME IN ('one', 'two')";
    let count = || one::<u32>(two.world.root().select_db_of(&two.old), left);
    assert_eq!(count(), 0);
    super::hold::until("the lock of the dead one is free", || {
        two.old.schema().unwrap();
        count() == 2
    });
    assert_eq!(two.dump_of(&two.old), before);
    two.run(&two.new, "INSERT INTO t VALUES (1)");
    two.back();
    two.same(&["t"]);
}

/// A connection in a database.
trait In {
    fn select_db_of(&mut self, database: &Mysql) -> &mut Self;
}

impl In for Conn {
    fn select_db_of(&mut self, database: &Mysql) -> &mut Self {
        self.query_drop(format!("USE {}", database.name())).unwrap();
        self
    }
}

#[test]
fn events_begin_with_the_version_that_is_live_and_end_with_its_fence() {
    let two = Two::new(
        "CREATE TABLE t (id int PRIMARY KEY);; CREATE EVENT `swe ep` ON SCHEDULE EVERY 1 DAY DO DELETE FROM t;;
         CREATE EVENT off ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM t",
        "",
    );
    let events = |database: &Mysql| -> Vec<String> {
        let query = "SELECT CONCAT_WS('|', EVENT_NAME, STATUS, DEFINER) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE() ORDER BY 1";
        two.world.root().select_db_of(database).query(query).unwrap()
    };
    let are = |database: &Mysql, status: &str| {
        let definer = format!("{}@localhost", database.name());
        assert_eq!(
            events(database),
            [format!("off|DISABLED|{definer}"), format!("swe ep|{status}|{definer}")]
        );
    };
    are(&two.new, "DISABLED");
    are(&two.old, "DISABLED");
    two.new.begin_events().unwrap();
    are(&two.new, "ENABLED");
    two.old.unfence().unwrap();
    are(&two.old, "ENABLED");
}
