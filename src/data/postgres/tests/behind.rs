use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

/// Copies, lets something happen, comes behind, and compares every row.
fn follows(database: &Postgres, to: &Postgres, meanwhile: impl FnOnce()) {
    assert!(database.copies_ahead().unwrap());
    database.copy_ahead(to.spot(), &patience(), &mut silent).unwrap();
    meanwhile();
    let hold = database.hold(&patience()).unwrap();
    hold.catch_up(to.spot(), &patience()).unwrap();
    to.verify(database.spot(), &patience()).unwrap();
    drop(hold);
    assert_eq!(to.schema().unwrap().diff(&database.schema().unwrap()), [""; 0]);
    database.forget_copy().unwrap();
}

/// What receiver has in a database to note changes.
fn left(sandbox: &Sandbox, database: &Postgres) -> i64 {
    let ours = "SELECT (SELECT count(*) FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
                        WHERE f.pronamespace = to_regnamespace('receiver') AND NOT t.tgisinternal)
                     + (SELECT count(*) FROM pg_class c WHERE c.relnamespace = to_regnamespace('receiver') AND c.relkind = 'r')";
    number(&mut sandbox.server.postgres(&database.spot().name), ours)
}

#[test]
fn a_copy_comes_behind_whatever_was_done_to_a_table_meanwhile() {
    let sandbox = Sandbox::new();
    let database = sandbox.database(
        "behind_v1",
        r#"CREATE TABLE plain (id serial PRIMARY KEY, n int UNIQUE); INSERT INTO plain (n) VALUES (1), (2), (3), (4);
        CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);
        INSERT INTO always (n) VALUES (1), (2);
        CREATE TABLE text (k text PRIMARY KEY, n int); INSERT INTO text VALUES ('a', 1), ('b', 2);
        CREATE TABLE keyless (n int); INSERT INTO keyless VALUES (1), (1); CREATE TABLE nobody (n int);
        CREATE TABLE emptied (id serial PRIMARY KEY); INSERT INTO emptied VALUES (7), (8);
        CREATE TABLE pair (a int, b int, PRIMARY KEY (a, b)); INSERT INTO pair VALUES (1, 2);
        CREATE TABLE part (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10); CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20);
        INSERT INTO part VALUES (1, 1), (12, 2);
        CREATE TABLE top (id int PRIMARY KEY); INSERT INTO top VALUES (1), (2);
        CREATE TABLE below (id int PRIMARY KEY, top int REFERENCES top ON DELETE CASCADE); INSERT INTO below VALUES (10, 1), (11, 1), (12, 2);
        CREATE TABLE lowest (id int PRIMARY KEY, below int REFERENCES below ON DELETE SET NULL); INSERT INTO lowest VALUES (20, 10), (21, 12);
        CREATE TABLE "odd "" name" ("key """ int PRIMARY KEY, t text); INSERT INTO "odd "" name" VALUES (1, 'x'), (2, 'y');
        CREATE TABLE told (n int); CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO told VALUES (NEW.n); RETURN NULL; END $$;
        CREATE TRIGGER tells AFTER INSERT ON plain FOR EACH ROW EXECUTE FUNCTION tell();
        CREATE TABLE django_migrations (id serial PRIMARY KEY, name text); INSERT INTO django_migrations (name) VALUES ('0001');
        CREATE MATERIALIZED VIEW many AS SELECT count(*) FROM plain; CREATE SEQUENCE numbers;
        CREATE TABLE grown (id int PRIMARY KEY, pad text); INSERT INTO grown SELECT n, repeat('x', 200) FROM generate_series(1, 3000) n"#,
    );
    let to = sandbox.at("behind_v1_x");
    let mut app = sandbox.app("behind_v1");
    follows(&database, &to, || {
        app.batch_execute(
            r#"UPDATE plain SET n = 0 WHERE id = 1; UPDATE plain SET n = 1 WHERE id = 2; UPDATE plain SET n = 2 WHERE id = 1;
            INSERT INTO plain (n) VALUES (99); DELETE FROM plain WHERE n = 99; DELETE FROM plain WHERE id = 3; INSERT INTO plain VALUES (3, 33);
            UPDATE plain SET id = 40 WHERE id = 4; INSERT INTO always (n) VALUES (3); UPDATE always SET n = 9 WHERE id = 1;
            UPDATE text SET k = 'A' WHERE k = 'a'; INSERT INTO text VALUES ('b', 5) ON CONFLICT (k) DO UPDATE SET n = 6;
            INSERT INTO keyless VALUES (1); TRUNCATE emptied; INSERT INTO emptied DEFAULT VALUES; INSERT INTO pair VALUES (2, 3);
            UPDATE pair SET b = 9 WHERE a = 1; UPDATE part SET id = 15 WHERE id = 1; INSERT INTO part VALUES (5, 5); DELETE FROM top WHERE id = 1;
            UPDATE "odd "" name" SET t = 'z' WHERE "key """ = 1; INSERT INTO django_migrations (name) VALUES ('0002');
            REFRESH MATERIALIZED VIEW many; SELECT nextval('numbers'), nextval('numbers');
            UPDATE grown SET pad = pad || 'y' WHERE id % 3 = 0; DELETE FROM grown WHERE id % 7 = 0"#,
        )
        .unwrap();
    });
    let mut copy = sandbox.app("behind_v1_x");
    assert_eq!(number(&mut copy, "SELECT count(*) FROM below"), 1);
    assert_eq!(number(&mut copy, "SELECT count(*) FROM django_migrations"), 2);
    assert_eq!(number(&mut copy, "SELECT last_value FROM numbers"), 2);
    assert_eq!(number(&mut copy, "SELECT count FROM many"), 4);
    assert!(copy.batch_execute("INSERT INTO always VALUES (77, 1)").is_err(), "its identity is as it was");
    assert!(copy.batch_execute("INSERT INTO lowest VALUES (1, 4711)").is_err(), "references hold");
    copy.batch_execute("INSERT INTO plain (n) VALUES (1000)").unwrap();
    assert_eq!(number(&mut copy, "SELECT count(*) FROM told WHERE n = 1000"), 1, "triggers fire again");
    assert_eq!(left(&sandbox, &database), 0);
    assert_eq!(left(&sandbox, &to), 0);
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
    let sandbox = Sandbox::new();
    let database = sandbox.database(
        "stirred_v1",
        "CREATE TABLE a (id int PRIMARY KEY, n int, pad text DEFAULT repeat('x', 200)); CREATE TABLE b (LIKE a INCLUDING ALL);
         INSERT INTO a (id, n) SELECT g, 0 FROM generate_series(1, 20000) g; INSERT INTO b (id, n) SELECT g, 0 FROM generate_series(1, 20000) g",
    );
    let to = sandbox.at("stirred_v1_x");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = Stop(&stop);
        for who in 0..4_u32 {
            let (sandbox, stop) = (&sandbox, &stop);
            scope.spawn(move || {
                let mut app = sandbox.app("stirred_v1");
                let mut n = who;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let (id, new) = (1 + n / 7 % 20_000, 30_000 + n % 1_000_000);
                    // One that meets another in the other order is ended as a deadlock.
                    let _ = app.batch_execute(&format!(
                        "BEGIN; UPDATE a SET n = n - 1 WHERE id = {id}; UPDATE b SET n = n + 1 WHERE id = {id};
                         INSERT INTO a (id, n) VALUES ({new}, 0) ON CONFLICT DO NOTHING; DELETE FROM b WHERE id = {id} AND n > 3; COMMIT"
                    ));
                    let _ = app.batch_execute("ROLLBACK");
                }
            });
        }
        for _ in 0..3 {
            follows(&database, &to, || {});
        }
    });
    assert_eq!(left(&sandbox, &database), 0);
}

#[test]
fn what_is_noted_for_a_copy_and_for_a_rollback_are_two_things() {
    let sandbox = Sandbox::new();
    let database =
        sandbox.database("apart_v1", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let to = sandbox.at("apart_v1_x");
    assert!(database.capture("apart_v0", &patience()).unwrap().is_whole());
    let schema = database.schema().unwrap();
    follows(&database, &to, || {
        assert_eq!(database.schema().unwrap(), schema, "what notes is no part of the schema");
        sandbox.app("apart_v1").batch_execute("INSERT INTO t VALUES (2)").unwrap();
    });
    assert_eq!(
        database.changes(&patience()).unwrap()["t"].written,
        1,
        "what a rollback carries is noted still"
    );
    database.copy_ahead(to.spot(), &patience(), &mut silent).unwrap();
    database.end_capture().unwrap();
    assert_ne!(left(&sandbox, &database), 0, "and the other way round");
    database.unfence().unwrap();
    assert_eq!(left(&sandbox, &database), 0, "recovery takes it away");
}

#[test]
fn a_copy_that_cannot_come_behind_is_refused() {
    let sandbox = Sandbox::new();
    let database = sandbox
        .database("late_v1", "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)");
    let to = sandbox.at("late_v1_x");
    let mut app = sandbox.app("late_v1");
    let mut refused = |meanwhile: &str, why: &str| {
        database.copy_ahead(to.spot(), &patience(), &mut silent).unwrap();
        app.batch_execute(meanwhile).unwrap();
        let hold = database.hold(&patience()).unwrap();
        let error = hold.catch_up(to.spot(), &patience()).unwrap_err().one_line();
        assert!(error.contains(why), "{meanwhile}: {error}");
    };
    refused(
        "CREATE TABLE fresh (id int PRIMARY KEY)",
        "table 'fresh' was made or changed while the data was copied",
    );
    refused("ALTER TABLE t ADD COLUMN m int", "table 't' was made or changed while the data was copied");
    refused("CREATE INDEX named ON t (n)", "the original differs: + index named on t");
    database.forget_copy().unwrap();
    let hold = database.hold(&patience()).unwrap();
    let error = hold.catch_up(to.spot(), &patience()).unwrap_err().one_line();
    assert!(error.ends_with("it was not noted which rows changed"), "{error}");
    drop(hold);
    for (make, drop) in [
        ("CREATE RULE quiet AS ON INSERT TO t DO ALSO NOTHING", "DROP RULE quiet ON t"),
        ("CREATE TABLE nothing ()", "DROP TABLE nothing"),
    ] {
        assert!(database.copies_ahead().unwrap());
        app.batch_execute(make).unwrap();
        assert!(!database.copies_ahead().unwrap(), "{make}: its rows can go no way");
        app.batch_execute(drop).unwrap();
    }
}
