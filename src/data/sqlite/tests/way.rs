//! Rows on their way back, and forward again.

use super::two::{Two, content, dump_of, map, run};
use super::*;
use crate::data::Database;
use crate::data::way::{Expressions, Moved, OnConflict, Refusal, Way};

const USERS: &str = "CREATE TABLE user (id INTEGER PRIMARY KEY, fullname TEXT NOT NULL, n INT, old TEXT DEFAULT 'kept');
    INSERT INTO user VALUES (1, 'Ada Lovelace', 1, 'a'), (2, 'Alan Turing', 2, 'b'), (3, 'Grace Hopper', 3, 'c');";

const SPLIT: &str = "CREATE TABLE new__user (id INTEGER PRIMARY KEY, first TEXT NOT NULL, last TEXT NOT NULL, n INT, mail TEXT DEFAULT '-');
    INSERT INTO new__user (id, first, last, n) SELECT id, substr(fullname, 1, instr(fullname, ' ') - 1),
        substr(fullname, instr(fullname, ' ') + 1), n FROM user;
    DROP TABLE user; ALTER TABLE new__user RENAME TO user;";

fn down() -> Expressions {
    map("user", &[("fullname", "user.first || ' ' || \"last\"")])
}

fn up() -> Expressions {
    map(
        "user",
        &[
            ("first", "substr(fullname, 1, instr(fullname, ' ') - 1)"),
            ("last", "substr(fullname, instr(fullname, ' ') + 1)"),
        ],
    )
}

#[test]
fn what_changed_goes_back_by_the_inverse_mapping_and_forward_again() {
    let two = Two::new(USERS, SPLIT);
    run(
        &two.new,
        "UPDATE user SET last = 'King', mail = 'ada@x' WHERE id = 1; DELETE FROM user WHERE id = 2;
        INSERT INTO user (first, last, n) VALUES ('Edsger', 'Dijkstra', 4)",
    );
    let carried = two.back_by(&down(), OnConflict::Abort);
    assert_eq!(carried.moved["user"], Moved { written: 2, deleted: 1, along: 0 });
    let left: Vec<_> = carried.left.0.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["table 'user': the other version has no column 'mail' (1 row)"]);
    let all = "SELECT * FROM user ORDER BY id";
    assert_eq!(
        content(&two.old, all),
        ["1|Ada King|1|a", "3|Grace Hopper|3|c", "4|Edsger Dijkstra|4|kept"],
        "what only the older one has stays, or takes its default"
    );

    two.turn();
    run(
        &two.old,
        "UPDATE user SET n = 10 WHERE id = 1; INSERT INTO user (fullname, n) VALUES ('Barbara Liskov', 5);
        DELETE FROM user WHERE id = 3",
    );
    let carried = two.forward(&up());
    assert_eq!(carried.moved["user"], Moved { written: 2, deleted: 1, along: 0 });
    assert_eq!(
        content(&two.new, all),
        ["1|Ada|King|10|ada@x", "4|Edsger|Dijkstra|4|-", "5|Barbara|Liskov|5|-"]
    );
}

#[test]
fn rows_that_changed_places_do_not_meet_and_the_apps_triggers_do_not_fire() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, u TEXT UNIQUE ON CONFLICT REPLACE, v);
        CREATE TABLE log (id INTEGER PRIMARY KEY, what);
        CREATE TRIGGER tell AFTER INSERT ON t BEGIN INSERT INTO log (what) VALUES ('new ' || NEW.id); END;
        CREATE TRIGGER never BEFORE DELETE ON t WHEN OLD.id = 1 BEGIN SELECT RAISE(ABORT, 'never'); END;
        INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0);";
    let two = Two::new(sql, "");
    run(
        &two.new,
        "UPDATE t SET u = 'x' WHERE id = 1; UPDATE t SET u = 'a' WHERE id = 2; UPDATE t SET u = 'b' WHERE id = 1;
         DELETE FROM t WHERE id = 3; INSERT INTO t (u) VALUES ('c'), ('gone'); DELETE FROM t WHERE u = 'gone'",
    );
    let schema = "SELECT name, sql FROM sqlite_schema ORDER BY name";
    let before = content(&two.old, schema);
    two.back();
    let all = "SELECT * FROM t ORDER BY id";
    assert_eq!(content(&two.old, all), ["1|b|0", "2|a|0", "4|c|NULL"]);
    assert_eq!(content(&two.old, all), content(&two.new, all));
    assert_eq!(content(&two.old, "SELECT what FROM log"), content(&two.new, "SELECT what FROM log"));
    assert_eq!(content(&two.old, schema), before);
    assert_eq!(
        content(&two.old, "SELECT seq FROM sqlite_sequence WHERE name = 't'"),
        ["5"],
        "no key comes twice"
    );
}

#[test]
fn keys_of_every_kind_go_back() {
    let sql = "CREATE TABLE two (a INT, b TEXT, v, PRIMARY KEY (b, a));
        CREATE TABLE folded (k TEXT COLLATE NOCASE PRIMARY KEY, v);
        CREATE TABLE bytes (k BLOB PRIMARY KEY, v) WITHOUT ROWID;
        CREATE TABLE strict (k ANY PRIMARY KEY, i INT, twice INT AS (i * 2) STORED) STRICT;
        CREATE TABLE loose (k PRIMARY KEY, v, rowid);
        CREATE TABLE \"odd \"\" name\" (\"the \"\" key\" INTEGER PRIMARY KEY, \"a \"\"b\" TEXT);
        CREATE TABLE receiver_thing (id INTEGER PRIMARY KEY, receiver_x);
        CREATE TABLE numbered (k TEXT PRIMARY KEY, v); INSERT INTO numbered VALUES ('a', 1), ('b', 2), ('c', 3);
        INSERT INTO two VALUES (1, 'x', 0), (2, 'x', 0), (1, 'y', 0); INSERT INTO folded VALUES ('Key', 1), ('other', 2);
        INSERT INTO bytes VALUES (x'00', 1), (x'01', 2); INSERT INTO strict (k, i) VALUES (1, 1), ('1', 2), (x'31', 3);
        INSERT INTO loose VALUES (1, 1, 1), ('1', 2, 2), (NULL, 3, 3); INSERT INTO \"odd \"\" name\" VALUES (1, 'a'), (2, 'b')";
    let two = Two::new(sql, "");
    run(
        &two.new,
        "UPDATE two SET a = 9 WHERE b = 'x' AND a = 1; DELETE FROM two WHERE b = 'y';
         UPDATE folded SET k = 'KEY', v = 5 WHERE k = 'key'; DELETE FROM folded WHERE k = 'OTHER'; INSERT INTO folded VALUES ('OTHER', 6);
         DELETE FROM bytes WHERE k = x'00'; INSERT INTO bytes VALUES (x'ff', 7); UPDATE bytes SET v = 8 WHERE k = x'01';
         UPDATE strict SET i = i + 10; DELETE FROM strict WHERE k = '1';
         UPDATE loose SET v = 10 WHERE k = '1'; INSERT INTO loose VALUES (2, 4, 4);
         UPDATE \"odd \"\" name\" SET \"a \"\"b\" = 'c' WHERE \"the \"\" key\" = 2; INSERT INTO \"odd \"\" name\" VALUES (3, 'd');
         INSERT INTO receiver_thing VALUES (1, 2);
         INSERT INTO numbered VALUES ('0', 0); UPDATE numbered SET v = 9 WHERE k = 'c'",
    );
    let carried = two.back();
    let numbers = "SELECT k, rowid FROM numbered ORDER BY k";
    assert_eq!(content(&two.old, numbers), ["0|4", "a|1", "b|2", "c|3"], "a row keeps its number");
    assert_eq!(carried.moved["folded"], Moved { written: 2, deleted: 0, along: 0 });
    assert_eq!(carried.moved["two"], Moved { written: 1, deleted: 2, along: 0 });
    for table in ["two", "folded", "bytes", "strict", "loose", "\"odd \"\" name\"", "receiver_thing"] {
        let all = format!("SELECT * FROM {table} ORDER BY 1, 2, 3");
        let all = if table.starts_with(['r', 'b', '"', 'f']) { all.replace(", 3", "") } else { all };
        assert_eq!(content(&two.old, &all), content(&two.new, &all), "{table}");
        assert!(!content(&two.old, &all).is_empty());
    }
}

#[test]
fn what_the_migration_made_comes_along_where_it_is_needed() {
    let sql = "CREATE TABLE kind (id INTEGER PRIMARY KEY, name UNIQUE);
        CREATE TABLE part (id INTEGER PRIMARY KEY, kind REFERENCES kind (name), up REFERENCES part);
        INSERT INTO kind VALUES (1, 'one'); INSERT INTO part VALUES (1, 'one', NULL)";
    let migration = "INSERT INTO kind VALUES (2, 'two'), (3, 'three'); INSERT INTO part VALUES (5, 'two', 1), (6, 'three', NULL)";
    let two = Two::new(sql, migration);
    run(&two.new, "INSERT INTO part VALUES (7, 'one', 5)");
    let carried = two.back();
    assert_eq!(carried.moved["part"], Moved { written: 2, deleted: 0, along: 1 });
    assert_eq!(carried.moved["kind"], Moved { written: 1, deleted: 0, along: 1 });
    assert_eq!(content(&two.old, "SELECT * FROM part ORDER BY id"), ["1|one|NULL", "5|two|1", "7|one|5"]);
    assert_eq!(content(&two.old, "SELECT name FROM kind ORDER BY id"), ["one", "two"]);
}

#[test]
fn a_circle_of_references_goes_back_and_what_leads_nowhere_stays_so() {
    let sql = "CREATE TABLE a (id INTEGER PRIMARY KEY, b REFERENCES b); CREATE TABLE b (id INTEGER PRIMARY KEY, a REFERENCES a);
        CREATE TABLE self (id INTEGER PRIMARY KEY, up REFERENCES self ON DELETE CASCADE);
        PRAGMA foreign_keys=OFF; INSERT INTO a VALUES (1, 1), (2, 99), (5, 5); INSERT INTO b VALUES (5, NULL); INSERT INTO b VALUES (1, 1); INSERT INTO self VALUES (1, NULL), (2, 1), (3, 2)";
    let two = Two::new(sql, "");
    run(
        &two.new,
        "PRAGMA foreign_keys=ON; PRAGMA defer_foreign_keys=ON; BEGIN; PRAGMA defer_foreign_keys=ON;
         INSERT INTO a VALUES (10, 10); INSERT INTO b VALUES (10, 10); DELETE FROM a WHERE id = 1; DELETE FROM b WHERE id = 1; COMMIT;
         DELETE FROM self WHERE id = 1; PRAGMA foreign_keys=OFF; INSERT INTO a VALUES (11, 77); DELETE FROM b WHERE id = 5",
    );
    assert_eq!(two.way(&Expressions::new()).cycles, [["a", "b"]]);
    let carried = two.back_with(&Expressions::new(), OnConflict::Abort, 1);
    assert_eq!(carried.dangling, 2);
    assert_eq!(content(&two.old, "SELECT * FROM a ORDER BY id"), ["2|99", "5|5", "10|10", "11|77"]);
    assert_eq!(content(&two.old, "SELECT * FROM b"), ["10|10"]);
    assert_eq!(content(&two.old, "SELECT count(*) FROM self"), ["0"]);
}

const STRICTER: &str = "CREATE TABLE u (id INTEGER PRIMARY KEY, mail TEXT UNIQUE, age INT CHECK (age < 200), name TEXT NOT NULL);
    CREATE TABLE c (id INTEGER PRIMARY KEY, u REFERENCES u (id), s REFERENCES s (id));
    CREATE TABLE s (id INTEGER PRIMARY KEY, n INT) STRICT;
    INSERT INTO u VALUES (1, 'a', 1, 'A'), (2, 'b', 2, 'B'); INSERT INTO c VALUES (1, 1, NULL), (2, 2, NULL); INSERT INTO s VALUES (1, 1);
    CREATE TABLE r (id INTEGER PRIMARY KEY, k UNIQUE ON CONFLICT REPLACE); INSERT INTO r VALUES (1, 'x');";

const LOOSER: &str = "CREATE TABLE new_u (id INTEGER PRIMARY KEY, mail TEXT, age INT, name TEXT); INSERT INTO new_u SELECT * FROM u;
    DROP TABLE u; ALTER TABLE new_u RENAME TO u; CREATE TABLE new_s (id INTEGER PRIMARY KEY, n); INSERT INTO new_s SELECT * FROM s;
    DROP TABLE s; ALTER TABLE new_s RENAME TO s;
    DROP TABLE r; CREATE TABLE r (id INTEGER PRIMARY KEY, k); DELETE FROM c WHERE id = 2;";

#[test]
fn one_refused_row_keeps_all_back_and_is_named() {
    for (sql, refusal) in [
        (
            "INSERT INTO u VALUES (7, 'b', 1, 'X')",
            "the row of table 'u' with id = 7 is refused: UNIQUE constraint failed: u.mail",
        ),
        (
            "INSERT INTO u VALUES (7, 'x', 1, NULL)",
            "the row of table 'u' with id = 7 is refused: NOT NULL constraint failed: u.name",
        ),
        (
            "UPDATE u SET age = 200 WHERE id = 2",
            "the row of table 'u' with id = 2 is refused: CHECK constraint failed: age < 200",
        ),
        (
            "UPDATE s SET n = 'x'",
            "the row of table 's' with id = 1 is refused: cannot store TEXT value in INT column s.n",
        ),
        (
            "INSERT INTO r VALUES (7, 'x')",
            "the row of table 'r' with id = 7 is refused: UNIQUE constraint failed: r.k",
        ),
        (
            "DELETE FROM u WHERE id = 2",
            "the row of table 'u' with id = 2 is refused: a row of 'c' with id = 2 still refers to it",
        ),
    ] {
        let two = Two::new(STRICTER, &format!("PRAGMA foreign_keys=OFF; {LOOSER}"));
        run(&two.new, &format!("PRAGMA foreign_keys=OFF; INSERT INTO c VALUES (8, 1, NULL); {sql}"));
        let before = dump_of(&two.old);
        let error = two.try_back(&Expressions::new(), OnConflict::Abort).unwrap_err();
        assert!(error.one_line().ends_with(refusal), "{}", error.one_line());
        assert_eq!(Refusal::of(&error).unwrap().to_string(), refusal);
        assert_eq!(dump_of(&two.old), before, "nothing changed");
    }
}

#[test]
fn refused_rows_are_left_out_with_what_refers_to_them_and_stay_in_the_newer_one() {
    let two = Two::new(STRICTER, &format!("PRAGMA foreign_keys=OFF; {LOOSER}"));
    run(
        &two.new,
        "PRAGMA foreign_keys=OFF;
         INSERT INTO u VALUES (3, 'c', 3, 'C'), (7, 'b', 1, 'X'); UPDATE u SET age = 500, mail = 'A' WHERE id = 1;
         INSERT INTO c VALUES (3, 3, NULL), (7, 7, NULL); INSERT INTO s VALUES (2, 'text'); INSERT INTO c VALUES (8, NULL, 2);
         DELETE FROM u WHERE id = 2; UPDATE c SET u = 3 WHERE id = 1;",
    );
    let before = dump_of(&two.new);
    let carried = two.back_by(&Expressions::new(), OnConflict::Quarantine);
    assert_eq!(dump_of(&two.new), before);
    let refused = |table: &str| {
        carried.refused[table].first.iter().map(|(key, why)| format!("{key}: {why}")).collect::<Vec<_>>()
    };
    assert_eq!(
        refused("u"),
        [
            "id = 1: CHECK constraint failed: age < 200",
            "id = 2: a row of 'c' with id = 2 still refers to it",
            "id = 7: UNIQUE constraint failed: u.mail",
        ]
    );
    assert_eq!(
        refused("c"),
        [
            "id = 7: it refers to a row of 'u' that the other version does not have",
            "id = 8: it refers to a row of 's' that the other version does not have"
        ]
    );
    assert_eq!(carried.refused["s"].rows, 1);
    assert_eq!(content(&two.old, "SELECT * FROM u"), ["1|a|1|A", "2|b|2|B", "3|c|3|C"]);
    assert_eq!(content(&two.old, "SELECT * FROM c"), ["1|3|NULL", "2|2|NULL", "3|3|NULL"]);
    assert_eq!(carried.moved["u"].written, 1);
}

#[test]
fn what_has_no_place_is_counted() {
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, v); CREATE TABLE k (id INTEGER PRIMARY KEY, o); CREATE TABLE none (v);
        CREATE TABLE django_migrations (id INTEGER PRIMARY KEY); CREATE VIRTUAL TABLE words USING fts5 (w);
        INSERT INTO t VALUES (1, 1), (2, 2)";
    let migration = "ALTER TABLE t ADD COLUMN w DEFAULT 'd'; CREATE TABLE more (id INTEGER PRIMARY KEY); INSERT INTO more VALUES (1), (2);
        DROP TABLE k; CREATE TABLE k (id INTEGER, o PRIMARY KEY); INSERT INTO none VALUES (1)";
    let two = Two::new(sql, migration);
    run(
        &two.new,
        "INSERT INTO more VALUES (3), (4); DELETE FROM more WHERE id = 4; UPDATE t SET v = 5; INSERT INTO t VALUES (3, 3, 'x'), (4, 4, NULL);
         INSERT INTO k VALUES (1, 1), (2, 2); INSERT INTO django_migrations VALUES (1); INSERT INTO words VALUES ('a')",
    );
    let carried = two.back();
    let left: Vec<_> = carried.left.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        left,
        [
            "table 'k': its primary key is another one in the other version (2 rows)",
            "table 'more': the other version has none of this name (1 row)",
            "table 'none': it has no primary key (1 row)",
            "table 't': the other version has no column 'w' (1 row)",
            "table 'words': it is a virtual table (1 row)",
        ]
    );
    assert_eq!(content(&two.old, "SELECT count(*) FROM django_migrations"), ["0"]);
    assert_eq!(content(&two.old, "SELECT * FROM t"), ["1|5", "2|5", "3|3", "4|4"]);
}

#[test]
fn an_expression_sees_the_source_alone_and_stays_an_expression() {
    let word = "CREATE TABLE word (w); INSERT INTO word VALUES ('from the target')";
    let two = Two::new(&format!("{USERS} {word}"), &format!("{SPLIT} UPDATE word SET w = 'from the source'"));
    run(&two.new, "UPDATE user SET n = 9 WHERE id < 3");
    for (text, ending) in [
        ("count(*)", "the expressions for table 'user' do not make one row of each"),
        ("absent", "the rows of table 'user': no such column: absent"),
        ("no_function(first)", "no such function: no_function"),
    ] {
        let error = two.try_back(&map("user", &[("fullname", text)]), OnConflict::Quarantine).unwrap_err();
        assert!(error.one_line().contains(ending), "{}", error.one_line());
    }
    two.back_by(&map("user", &[("fullname", "(SELECT w FROM word WHERE n = 9)")]), OnConflict::Abort);
    assert_eq!(content(&two.old, "SELECT fullname FROM user WHERE id = 1"), ["from the source"]);
}

#[test]
fn a_way_that_was_not_noted_whole_or_for_another_is_not_gone() {
    let two = Two::new(USERS, SPLIT);
    run(&two.new, "UPDATE user SET n = 9");
    let refused = |ending: &str| {
        let error = two.try_back(&down(), OnConflict::Quarantine).unwrap_err();
        assert!(error.one_line().ends_with(ending), "{}", error.one_line());
        assert!(two.new.foresee(two.old.spot(), &two.way(&down()), &patience()).is_err());
        assert_eq!(content(&two.old, "SELECT n FROM user"), ["1", "2", "3"]);
    };
    run(&two.new, "CREATE TABLE fresh (id INTEGER PRIMARY KEY)");
    refused("not every change was noted: table 'fresh' came after it began");
    two.new.capture("shop_v2", &patience()).unwrap();
    refused("changes were noted for the way to shop_v2, not to shop_v3");
    two.new.end_capture().unwrap();
    refused("no changes were noted");
}

#[test]
fn the_left_version_is_merged_into_the_next_one() {
    let two = Two::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
        "ALTER TABLE t ADD COLUMN tag DEFAULT 'none'; ALTER TABLE t ADD COLUMN lost; ALTER TABLE t ADD COLUMN twice AS (v * 2);
         CREATE TABLE note (id INTEGER PRIMARY KEY, t REFERENCES t (id), text); CREATE TABLE odd (id INTEGER PRIMARY KEY)",
    );
    run(
        &two.new,
        "UPDATE t SET tag = 'red', v = 10 WHERE id = 1; UPDATE t SET tag = NULL, lost = 'x' WHERE id = 2; INSERT INTO t (id, v, tag) VALUES (4, 4, 'blue');
         INSERT INTO note VALUES (1, 1, 'one'), (2, 3, 'three'), (3, NULL, 'none'); INSERT INTO odd VALUES (1)",
    );
    two.back();
    two.turn();
    run(
        &two.old,
        "DELETE FROM t WHERE id = 3; UPDATE t SET v = 20 WHERE id = 1; INSERT INTO t VALUES (5, 5)",
    );
    let next = two.another("shop_v5");
    let base = two.old.tables().unwrap();
    let hold = two.old.hold(&patience()).unwrap();
    hold.copy_to(next.spot(), &patience(), &mut silent).unwrap();
    run(
        &next,
        "ALTER TABLE t ADD COLUMN tag DEFAULT 'none'; ALTER TABLE t ADD COLUMN fresh DEFAULT 'f';
         CREATE TABLE note (id INTEGER PRIMARY KEY, t REFERENCES t (id), text, stars INT DEFAULT 3); INSERT INTO note VALUES (1, NULL, 'seed', 5)",
    );
    let way = Way::merge(&two.new.tables().unwrap(), &base, &next.tables().unwrap());
    let merged = next.merge(two.new.spot(), &way, &patience()).unwrap();
    assert_eq!(
        content(&next, "SELECT * FROM t"),
        ["1|20|red|f", "2|2|none|f", "4|4|blue|f", "5|5|none|f"],
        "columns that the version between lacked"
    );
    assert_eq!(content(&next, "SELECT * FROM note"), ["1|1|one|5", "3|NULL|none|3"], "and tables");
    assert_eq!(merged.moved["note"], Moved { written: 2, deleted: 0, along: 0 });
    let (key, why) = &merged.refused["note"].first[0];
    assert_eq!(
        (key.as_str(), why.as_str()),
        ("id = 2", "it refers to a row of 't' that the other version does not have")
    );
    let left: Vec<_> = merged.left.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        left,
        [
            "table 'odd': the other version has none of this name (1 row)",
            "table 't': the other version has no column 'lost' (1 row)"
        ]
    );
}
