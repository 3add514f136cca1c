//! Rows on their way back, and forward again.

use super::two::{Two, map};
use super::*;
use crate::data::way::{Expressions, Moved, OnConflict, Refusal, Way};

const USERS: &str = "CREATE TABLE \"user\" (id serial PRIMARY KEY, fullname text NOT NULL, n int, old text DEFAULT 'kept');
    INSERT INTO \"user\" (fullname, n, old) VALUES ('Ada Lovelace', 1, 'a'), ('Alan Turing', 2, 'b'), ('Grace Hopper', 3, 'c');";

const SPLIT: &str = "ALTER TABLE \"user\" ADD first text, ADD last text, ADD mail text DEFAULT '-', DROP old;
    UPDATE \"user\" SET first = split_part(fullname, ' ', 1), last = split_part(fullname, ' ', 2);
    ALTER TABLE \"user\" DROP fullname, ALTER first SET NOT NULL, ALTER last SET NOT NULL;
    CREATE FUNCTION joined(a text, b text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN RESET ROLE; IF pg_has_role(session_user, 'receiver', 'MEMBER') THEN RAISE 'the administrator called me'; END IF; RETURN a || ' ' || b; END $$";

#[test]
fn what_changed_goes_back_by_the_inverse_mapping_and_forward_again() {
    let two = Two::new("split", USERS, SPLIT);
    two.run(
        "UPDATE \"user\" SET last = 'King', mail = 'ada@x' WHERE id = 1; DELETE FROM \"user\" WHERE id = 2;
         INSERT INTO \"user\" (first, last, n) VALUES ('Edsger', 'Dijkstra', 4)",
    );
    let down = map("user", &[("fullname", "joined(\"user\".first, \"last\")")]);
    let carried = two.back_by(&down, OnConflict::Abort);
    assert_eq!(carried.moved["user"], Moved { written: 2, deleted: 1, along: 0 });
    let left: Vec<_> = carried.left.0.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["table 'user': the other version has no column 'mail' (1 row)"]);
    let all = "SELECT * FROM \"user\" ORDER BY id";
    assert_eq!(
        two.content(&two.old, all),
        ["1|Ada King|1|a", "3|Grace Hopper|3|c", "4|Edsger Dijkstra|4|kept"],
        "what only the older one has stays, or takes its default"
    );
    two.turn();
    two.run_in(
        &two.old,
        "UPDATE \"user\" SET n = 10 WHERE id = 1; INSERT INTO \"user\" (fullname, n) VALUES ('Barbara Liskov', 5);
         DELETE FROM \"user\" WHERE id = 3",
    );
    let up = [("first", "split_part(fullname, ' ', 1)"), ("last", "split_part(fullname, ' ', 2)")];
    let carried = two.forward(&map("user", &up));
    assert_eq!(carried.moved["user"], Moved { written: 2, deleted: 1, along: 0 });
    assert_eq!(
        two.content(&two.new, "SELECT id, n, first, last, mail FROM \"user\" ORDER BY id"),
        ["1|10|Ada|King|ada@x", "4|4|Edsger|Dijkstra|-", "5|5|Barbara|Liskov|-"]
    );
}

#[test]
fn keys_and_values_of_every_kind_go_back() {
    let sql = "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN short AS varchar(5) CHECK (VALUE <> 'no');
        CREATE TABLE two (a int, b text COLLATE \"C\", v bit(3), PRIMARY KEY (b, a));
        CREATE TABLE folds (k text COLLATE folded PRIMARY KEY, v int);
        CREATE TABLE uuids (k uuid PRIMARY KEY, v bytea, j jsonb, r int4range, m mood[], t timestamptz, f float8, c char(4));
        CREATE TABLE bytes (k bytea PRIMARY KEY, i int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (length(k) * 2) STORED);
        CREATE TABLE shorts (k short PRIMARY KEY, v int); CREATE TABLE moods (k mood PRIMARY KEY, d numeric(8,2), iv interval);
        CREATE TABLE ident (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
        CREATE SCHEMA \"Geo x\";
        CREATE TABLE \"Geo x\".\"Odd \"\" nameäaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" (\"the \"\" Key\" int PRIMARY KEY, \"a \"\"B\" text);
        CREATE TABLE part (a int, b date, v text, PRIMARY KEY (a, b)) PARTITION BY RANGE (b);
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
        CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
        INSERT INTO two VALUES (1, 'x', '101'), (2, 'x', '101'), (1, 'y', '101'); INSERT INTO folds VALUES ('Key', 1), ('other', 2);
        INSERT INTO uuids (k, v) VALUES ('00000000-0000-0000-0000-000000000001', '\\x00'); INSERT INTO bytes VALUES ('\\x00'), ('\\x01');
        INSERT INTO shorts VALUES ('a', 1), ('b', 2); INSERT INTO moods VALUES ('sad', 1.5, '1 day'); INSERT INTO ident (v) VALUES ('a'), ('b');
        INSERT INTO part VALUES (1, '2020-05-05', 'x'), (2, '2021-05-05', 'y');
        INSERT INTO \"Geo x\".\"Odd \"\" nameäaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" VALUES (1, 'a'), (2, 'b')";
    let has_icu = "SELECT count(*) FROM pg_collation WHERE collname = 'und-x-icu'";
    let sql = if number(&mut server().postgres("postgres"), has_icu) > 0 {
        sql.to_owned()
    } else {
        // A server that was built without ICU has another way to fold.
        let (icu, rest) = sql.split_once(';').unwrap();
        assert!(icu.starts_with("CREATE COLLATION folded"));
        format!("CREATE EXTENSION citext;{}", rest.replace("text COLLATE folded", "citext"))
    };
    let two = Two::new("kinds", &sql, "");
    two.run(
        "UPDATE two SET a = 9, v = '010' WHERE b = 'x' AND a = 1; DELETE FROM two WHERE b = 'y';
         UPDATE folds SET k = 'KEY', v = 5 WHERE k = 'key'; DELETE FROM folds WHERE k = 'OTHER'; INSERT INTO folds VALUES ('OTHER', 6);
         UPDATE uuids SET v = '\\xff5c', j = '{\"a\": [1, null, \"\\u00e4|\"]}', r = '[1,5)', m = '{sad,glad}', t = '2020-01-01 10:00+03', f = 0.1, c = 'ab';
         INSERT INTO uuids (k) VALUES ('00000000-0000-0000-0000-000000000002');
         DELETE FROM bytes WHERE k = '\\x00'; INSERT INTO bytes VALUES ('\\xffff'); UPDATE bytes SET k = '\\x0102' WHERE k = '\\x01';
         UPDATE shorts SET k = 'c' WHERE k = 'b'; DELETE FROM shorts WHERE k = 'a'; INSERT INTO shorts VALUES ('a', 3);
         INSERT INTO moods VALUES ('glad', 123456.78, '1 mon 2 days 03:04:05.6'); UPDATE ident SET v = 'c' WHERE id = 2; INSERT INTO ident (v) VALUES ('d');
         INSERT INTO ident (v) VALUES ('gone'); DELETE FROM ident WHERE v = 'gone';
         UPDATE part SET b = '2021-06-06' WHERE a = 1; UPDATE part SET v = E'a\\n|\\\\.\\t' WHERE a = 2; INSERT INTO part VALUES (3, '2020-01-01', NULL);
         UPDATE \"Geo x\".\"Odd \"\" nameäaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" SET \"a \"\"B\" = 'c' WHERE \"the \"\" Key\" = 2;
         INSERT INTO \"Geo x\".\"Odd \"\" nameäaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" VALUES (3, 'd')",
    );
    let carried = two.back();
    assert_eq!(carried.moved["folds"], Moved { written: 2, deleted: 0, along: 0 });
    assert_eq!(carried.moved["two"], Moved { written: 1, deleted: 2, along: 0 });
    assert_eq!(carried.moved["part"], Moved { written: 3, deleted: 1, along: 0 });
    let rows = two.old.rows(&patience()).unwrap();
    assert_eq!(rows, two.new.rows(&patience()).unwrap());
    for table in [
        "two",
        "folds",
        "uuids",
        "bytes",
        "shorts",
        "moods",
        "ident",
        "part",
        "part_1",
        "\"Geo x\".\"Odd \"\" nameäaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
    ] {
        two.same(&format!("SELECT t::text FROM {table} t ORDER BY 1"));
    }
    two.same("SELECT last_value FROM ident_id_seq");
}

#[test]
fn rows_that_changed_places_do_not_meet_and_the_apps_triggers_do_not_fire() {
    let sql = "CREATE TABLE t (id serial PRIMARY KEY, u text UNIQUE, v int);
        CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE, u text REFERENCES t (u) ON UPDATE CASCADE);
        COMMENT ON CONSTRAINT child_t_fkey ON child IS 'it is';
        CREATE TABLE log (id serial PRIMARY KEY, what text);
        CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (what) VALUES (TG_OP); RETURN NEW; END $$;
        CREATE TRIGGER tell BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION tell();
        CREATE TRIGGER quiet BEFORE DELETE ON t EXECUTE FUNCTION tell(); ALTER TABLE t DISABLE TRIGGER quiet;
        INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0), (4, 'd', 0); INSERT INTO child VALUES (1, 1), (2, 2), (3, 4)";
    let two = Two::new("swap", sql, "");
    two.run(
        "UPDATE t SET u = 'x' WHERE id = 1; UPDATE t SET u = 'a' WHERE id = 2; UPDATE t SET u = 'b' WHERE id = 1;
         DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (5, 'c'), (6, 'gone'); DELETE FROM t WHERE u = 'gone';
         UPDATE child SET t = 1 WHERE id = 3; DELETE FROM t WHERE id = 4",
    );
    two.back();
    for table in ["t", "child", "log"] {
        two.same(&format!("SELECT * FROM {table} ORDER BY id"));
    }
}

#[test]
fn cascades_circles_truncates_and_references_to_oneself_go_back() {
    let sql = "CREATE TABLE a (id int PRIMARY KEY, b int NOT NULL); CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL REFERENCES a DEFERRABLE INITIALLY DEFERRED);
        ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED;
        CREATE TABLE node (id int PRIMARY KEY, up int REFERENCES node ON DELETE RESTRICT);
        CREATE TABLE owner (id int PRIMARY KEY); CREATE TABLE thing (id int PRIMARY KEY, o int REFERENCES owner ON DELETE CASCADE);
        CREATE TABLE loose (o int REFERENCES owner ON DELETE SET NULL);
        CREATE TABLE flat (id int PRIMARY KEY, v int);
        BEGIN; INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1); COMMIT;
        INSERT INTO node VALUES (1, NULL), (2, 1), (3, 2); INSERT INTO owner VALUES (1), (2), (3); INSERT INTO thing VALUES (1, 1), (2, 2), (3, 2);
        INSERT INTO flat VALUES (1, 1), (2, 2), (3, 3)";
    let two = Two::new("circle", sql, "");
    two.run(
        "BEGIN; INSERT INTO a VALUES (2, 2); INSERT INTO b VALUES (2, 2); COMMIT; BEGIN; DELETE FROM a WHERE id = 1; DELETE FROM b; INSERT INTO b VALUES (2, 2); COMMIT;
         UPDATE node SET up = NULL WHERE id = 3; DELETE FROM node WHERE id = 2; INSERT INTO node VALUES (4, 3), (5, 4); UPDATE node SET up = 5 WHERE id = 1;
         UPDATE thing SET o = 3 WHERE id = 3; DELETE FROM owner WHERE id = 2; TRUNCATE flat; INSERT INTO flat VALUES (2, 20), (9, 9)",
    );
    let carried = two.back();
    assert_eq!(carried.moved["thing"], Moved { written: 1, deleted: 1, along: 0 });
    assert_eq!(carried.moved["flat"], Moved { written: 2, deleted: 2, along: 0 });
    for table in ["a", "b", "node", "owner", "thing", "flat"] {
        two.same(&format!("SELECT * FROM {table} ORDER BY id"));
    }
}

#[test]
fn what_the_older_one_cannot_hold_ends_it_or_is_left_out_with_what_refers_to_it() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, u varchar(5) UNIQUE, n int NOT NULL, must int); CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t);
        INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (9, 'z', 9); INSERT INTO child VALUES (1, 1); UPDATE t SET must = 1; ALTER TABLE t ALTER must SET NOT NULL";
    let migration = "ALTER TABLE t DROP CONSTRAINT t_u_key, ALTER u TYPE text, ALTER n DROP NOT NULL, ALTER n TYPE bigint, DROP must, ALTER id TYPE bigint;
        ALTER TABLE child ALTER t TYPE bigint; CREATE TABLE made (id int PRIMARY KEY)";
    let two = Two::new("refused", sql, migration);
    two.run(
        "INSERT INTO made VALUES (1), (2); UPDATE t SET n = NULL WHERE id = 1; UPDATE t SET u = 'a' WHERE id = 2; UPDATE t SET n = 5000000000 WHERE id = 9;
         INSERT INTO t VALUES (3, 'c', 3), (5000000000, 'e', 1); INSERT INTO child VALUES (2, 3), (3, 5000000000), (4, 2)",
    );
    // Nothing gives a new row `must`; what is there keeps it.
    let before = two.dump_of(&two.old);
    let error = two.try_back(&Expressions::new(), OnConflict::Abort).unwrap_err();
    let refusal = Refusal::of(&error).unwrap_or_else(|| panic!("{}", error.one_line()));
    assert_eq!(refusal.table, "t");
    assert_eq!(two.dump_of(&two.old), before, "all or nothing");
    let carried = two.back_by(&Expressions::new(), OnConflict::Quarantine);
    let told: Vec<_> = carried.refused["t"].first.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(carried.refused["t"].rows, 5, "{told:?} {:?}", carried.refused);
    let told: Vec<_> = carried.refused["child"].first.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(told, ["id = 2", "id = 3"], "{:?}", carried.refused["child"]);
    assert_eq!(two.content(&two.old, "SELECT * FROM child ORDER BY id"), ["1|1", "4|2"]);
    assert_eq!(two.content(&two.old, "SELECT * FROM t ORDER BY id"), ["1|a|1|1", "2|b|2|1", "9|z|9|1"]);
    let left: Vec<_> = carried.left.0.iter().map(ToString::to_string).collect();
    assert!(
        left.contains(&"table 'made': the other version has none of this name (2 rows)".to_owned()),
        "{left:?}"
    );
}

#[test]
fn a_parent_that_a_migration_made_comes_along_and_one_that_is_needed_stays() {
    let sql = "CREATE TABLE kind (id int PRIMARY KEY, name text); CREATE TABLE t (id int PRIMARY KEY, kind int REFERENCES kind);
        CREATE TABLE only_old (k int REFERENCES kind); INSERT INTO kind VALUES (1, 'a'), (2, 'b'); INSERT INTO only_old VALUES (2)";
    let two = Two::new("along", sql, "INSERT INTO kind VALUES (7, 'made'); DROP TABLE only_old");
    two.run("INSERT INTO t VALUES (1, 7); DELETE FROM kind WHERE id = 2");
    let error = two.try_back(&Expressions::new(), OnConflict::Abort).unwrap_err();
    assert_eq!(Refusal::of(&error).unwrap().why, "a row of 'only_old' still refers to it");
    let carried = two.back_by(&Expressions::new(), OnConflict::Quarantine);
    assert_eq!(carried.moved["kind"], Moved { written: 1, deleted: 0, along: 1 });
    assert_eq!(two.content(&two.old, "SELECT * FROM kind ORDER BY id"), ["1|a", "2|b", "7|made"]);
}

#[test]
fn what_the_left_version_alone_holds_is_merged() {
    let two = Two::new(
        "merge",
        "CREATE TABLE t (id int PRIMARY KEY, x int); INSERT INTO t VALUES (1, 1), (2, 2)",
        "ALTER TABLE t ADD tag text; CREATE TABLE extra (id serial PRIMARY KEY, t int REFERENCES t)",
    );
    let base = two.old.tables().unwrap();
    two.run("UPDATE t SET tag = 'a' WHERE id = 1; INSERT INTO t VALUES (3, 3, 'c'); INSERT INTO extra (t) VALUES (1), (3)");
    let own = two.sandbox.at("merge_v5");
    two.old.snapshot(own.spot(), &patience(), &mut silent).unwrap();
    two.run_in(&own, "ALTER TABLE t ADD tag text DEFAULT '-'; CREATE TABLE extra (id serial PRIMARY KEY, t int REFERENCES t)");
    retire(&two.new);
    let way = Way::merge(&two.new.tables().unwrap(), &base, &own.tables().unwrap());
    let carried = own.merge(two.new.spot(), &way, &patience()).unwrap();
    assert_eq!(carried.moved["extra"], Moved { written: 1, deleted: 0, along: 0 });
    assert_eq!(carried.refused["extra"].rows, 1);
    assert_eq!(two.content(&own, "SELECT * FROM t ORDER BY id"), ["1|1|a", "2|2|-"]);
    assert_eq!(two.content(&own, "SELECT * FROM extra"), ["1|1"]);
}

#[test]
fn a_way_that_is_not_whole_or_meant_for_another_is_refused() {
    let two = Two::new("unfit", "CREATE TABLE t (id int PRIMARY KEY)", "");
    let says = |two: &Two| two.try_back(&Expressions::new(), OnConflict::Quarantine).unwrap_err().one_line();
    two.new.capture("unfit_v1", &patience()).unwrap();
    assert!(says(&two).contains("for the way to unfit_v1, not to unfit_v3"), "{}", says(&two));
    two.new.capture("unfit_v3", &patience()).unwrap();
    two.run("ALTER TABLE t DISABLE TRIGGER receiver_note; ALTER TABLE t ENABLE TRIGGER receiver_note");
    assert!(says(&two).contains("not every change was noted: table 't'"), "{}", says(&two));
    two.new.end_capture().unwrap();
    assert!(says(&two).contains("no changes were noted"), "{}", says(&two));
}

/// Set for the process that a test starts: this test binary again.
const KILLED: &str = "RECEIVER_TEST_PG_WAY";

#[test]
fn a_way_whose_process_is_killed_changed_nothing_and_can_be_gone_again() {
    if let Some(value) = std::env::var_os(KILLED) {
        let new = super::hold::as_told(&value, "slain_v4");
        let old = new.beside(spot("slain_v3"));
        let way = Way::plan(&new.tables().unwrap(), &old.tables().unwrap(), &Expressions::new());
        let hold = new.hold(&patience()).unwrap();
        hold.carry_to(old.spot(), &way, OnConflict::Abort, &patience()).unwrap();
        return;
    }
    let two = Two::new("slain", "CREATE TABLE t (id int PRIMARY KEY, v text UNIQUE)", "");
    two.run("INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 50000) g");
    let before = two.dump_of(&two.old);
    let mut postgres = two.sandbox.server.postgres("slain_v3");
    for state in
        ["COPY pg_temp.receiver_keys%", "COPY pg_temp.receiver_rows%", "%INSERT INTO \"public\".\"t\"%"]
    {
        let mut carrier = again(
            "data::postgres::tests::way::a_way_whose_process_is_killed_changed_nothing_and_can_be_gone_again",
            KILLED,
            &super::hold::told(&two.sandbox),
        );
        let seen = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'slain_v3_way' AND state = 'active' AND query LIKE '{state}'"
        );
        until(state, || number(&mut postgres, &seen) > 0);
        carrier.kill().unwrap();
        carrier.wait().unwrap();
        let ended = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'slain_v3_way'";
        until("the server noticed", || number(&mut postgres, ended) == 0);
        assert_eq!(two.dump_of(&two.old), before, "{state}");
        two.run("UPDATE t SET v = v WHERE id = 1");
    }
    let carried = two.back();
    assert_eq!(carried.moved["t"].written, 50_000);
    two.same("SELECT * FROM t ORDER BY id");
}

#[test]
fn whoever_writes_while_a_capture_begins_is_noted_from_one_moment_on_in_all_tables() {
    let sandbox = Sandbox::new();
    let database = sandbox.database(
        "begun_v4",
        "CREATE TABLE t (id serial PRIMARY KEY, n int); CREATE TABLE u (id serial PRIMARY KEY)",
    );
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut app = sandbox.app("begun_v4");
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    app.batch_execute(
                        "BEGIN; INSERT INTO t (n) VALUES (1); INSERT INTO u DEFAULT VALUES; COMMIT",
                    )
                    .unwrap();
                }
            });
        }
        let mut app = sandbox.app("begun_v4");
        until("they write", || number(&mut app, "SELECT count(*) FROM u") > 50);
        database.capture("begun_v3", &patience()).unwrap();
        let then = number(&mut app, "SELECT count(*) FROM u");
        until("they go on", || number(&mut app, "SELECT count(*) FROM u") > then + 50);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let changes = database.changes(&patience()).unwrap();
    assert_eq!(changes["t"], changes["u"], "one moment for all tables");
    let mut postgres = sandbox.server.postgres("begun_v4");
    let log = |postgres: &mut Client, table: &str| {
        let oid = number(postgres, &format!("SELECT '{table}'::regclass::oid::bigint"));
        number(postgres, &format!("SELECT count(*) FROM receiver.log_{oid} l JOIN t ON t.id = l.k0"))
    };
    assert_eq!(log(&mut postgres, "t").unsigned_abs(), changes["t"].written);
    let early = "SELECT count(*) FROM t WHERE xmin::text::bigint > (SELECT min(xmin::text::bigint) FROM receiver.noted)
                 AND NOT EXISTS (SELECT FROM receiver.log_{oid} l WHERE l.k0 = t.id)";
    let oid = number(&mut postgres, "SELECT 't'::regclass::oid::bigint");
    // Who began after the capture was committed is noted; who began before it waited, or was done.
    let late = number(&mut postgres, &early.replace("{oid}", &oid.to_string()));
    assert_eq!(late, 0);
}
