use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Barrier, Mutex};

use super::*;

/// All that an app may have.
const EVERYTHING: &str = r#"
CREATE SCHEMA "Other S"; CREATE EXTENSION hstore; CREATE EXTENSION citext WITH SCHEMA "Other S";
CREATE TYPE mood AS ENUM ('sad', 'it''s fine'); CREATE DOMAIN email AS text COLLATE "C" CHECK (VALUE LIKE '%@%');
CREATE TYPE pair AS (a int, m mood); CREATE TYPE span AS RANGE (subtype = float8);
CREATE SEQUENCE lone START 5 INCREMENT -3 MINVALUE -1000 MAXVALUE 1000; SELECT nextval('lone'), nextval('lone');
CREATE SEQUENCE set_back; SELECT setval('set_back', 77, false);
CREATE FUNCTION double(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE TABLE p (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL DEFAULT 'x', twice int GENERATED ALWAYS AS (double(3)) STORED,
    best int, UNIQUE (name, best));
CREATE TABLE "Other S".c (id serial PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE, at timestamptz DEFAULT now(), CHECK (id > 0));
ALTER TABLE p ADD FOREIGN KEY (best) REFERENCES "Other S".c DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE kinds (m mood, ms mood[], e email, pr pair, prs pair[], s span, j jsonb, b bytea, u uuid, r int4range, i interval, n numeric, f float8,
    ts timestamp, h hstore, c "Other S".citext, re regclass, t text, x bit(3), o inet, xm xml, "select" "char");
INSERT INTO kinds VALUES ('sad', '{"it''s fine",NULL}', 'a@b', '(1,sad)', '{"(1,sad)","(2,)"}', '[1,2)', '{"a": [1, null]}', '\x00ff5c0a', gen_random_uuid(), '[1,5)', '1 mon 2 days', 12345678901234567890.123,
    'NaN', 'infinity', 'a=>1', 'Ci', 'kinds', E'tab\t\\N new\nline \\.', '101', '10.0.0.1/8', '<a/>', 'q'); INSERT INTO kinds DEFAULT VALUES;
CREATE TABLE nopk (a int, b text); INSERT INTO nopk SELECT g % 7, repeat('z', g % 90) FROM generate_series(1, 5000) g;
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; CREATE UNLOGGED TABLE quick (n int); INSERT INTO quick VALUES (1);
CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent); INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 3);
CREATE TABLE part (n int, t text) PARTITION BY RANGE (n); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20); INSERT INTO part SELECT g, g FROM generate_series(0, 19) g;
CREATE INDEX ON part (n); CREATE UNIQUE INDEX odd ON nopk (a, b) WHERE a > 100; CREATE INDEX expr ON nopk (double(a), b DESC);
CREATE VIEW v AS SELECT a FROM nopk; CREATE MATERIALIZED VIEW mv AS SELECT a, count(*) FROM v GROUP BY a; CREATE UNIQUE INDEX ON mv (a);
CREATE MATERIALIZED VIEW mv2 AS SELECT sum(count) FROM mv; CREATE MATERIALIZED VIEW mv3 AS SELECT 1 WITH NO DATA;
CREATE TABLE log (what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (TG_OP || TG_TABLE_NAME); RETURN NEW; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON p FOR EACH ROW EXECUTE FUNCTION note(); CREATE TRIGGER off BEFORE DELETE ON p EXECUTE FUNCTION note();
ALTER TABLE p DISABLE TRIGGER off;
INSERT INTO p (name, best) VALUES ('one', NULL), ('two', NULL); INSERT INTO "Other S".c (p) VALUES (1), (2); UPDATE p SET best = id;
DELETE FROM p WHERE id = 2; SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE p ADD COLUMN gone int; ALTER TABLE p DROP COLUMN gone; ALTER TABLE p ADD COLUMN later text DEFAULT 'l';
ALTER TABLE nopk ENABLE ROW LEVEL SECURITY; CREATE POLICY visible ON nopk USING (a < 3);
CREATE RULE quiet AS ON INSERT TO nothing DO ALSO NOTHING; COMMENT ON TABLE p IS 'a comment'; CREATE STATISTICS st ON a, b FROM nopk;
CREATE TABLE django_migrations (id int); INSERT INTO django_migrations VALUES (1);
CREATE TABLE loose (p int); INSERT INTO loose VALUES (1), (99); CREATE TABLE ci (c "Other S".citext PRIMARY KEY); CREATE TABLE cj (c "Other S".citext);
INSERT INTO ci VALUES ('Ab'); INSERT INTO cj VALUES ('aB'); ALTER TABLE cj ADD FOREIGN KEY (c) REFERENCES ci NOT VALID; ALTER TABLE loose ADD FOREIGN KEY (p) REFERENCES p NOT VALID;
ALTER DATABASE everything_v1 SET search_path = "$user", public, "Other S";
"#;

#[test]
fn a_copy_has_all_that_an_app_may_have() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("everything_v1", EVERYTHING);
    let mut postgres = sandbox.server.postgres("everything_v1");
    postgres.batch_execute("CREATE ROLE report LOGIN PASSWORD 'x'").unwrap();
    // Until 14 a setting of the app's own is a superuser's to give, and nobody else can carry it.
    let (may, setting) = if version(sandbox.server) < 150_000 {
        ("", "application_name")
    } else {
        ("GRANT SET ON PARAMETER app.word TO PUBLIC", "app.word")
    };
    postgres
        .batch_execute(&format!("{may}; ALTER DATABASE everything_v1 SET {setting} = 'it''s, b'"))
        .unwrap();
    let mut app = sandbox.app("everything_v1");
    app.batch_execute(
        "GRANT SELECT, UPDATE (name) ON p TO report WITH GRANT OPTION; GRANT CONNECT ON DATABASE everything_v1 TO report;
         GRANT USAGE ON SCHEMA \"Other S\" TO report; REVOKE EXECUTE ON FUNCTION double(int) FROM PUBLIC; REVOKE TRUNCATE ON log FROM everything_v1;
         ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO report",
    )
    .unwrap();
    let copy = sandbox.at("everything_v2");
    let hold = database.hold(&patience()).unwrap();
    hold.copy_to(copy.spot(), &patience(), &mut silent).unwrap();
    assert_eq!(copy.verify(database.spot(), &patience()).unwrap(), 1, "one reference leads nowhere in both");
    hold.check().unwrap();
    drop(hold);
    assert_eq!(database.schema().unwrap().diff(&copy.schema().unwrap()), [""; 0]);
    assert_eq!(database.schema().unwrap().hash().unwrap(), copy.schema().unwrap().hash().unwrap());
    assert_eq!(database.rows(&patience()).unwrap(), copy.rows(&patience()).unwrap());
    copy.examine(1, &patience()).unwrap();
    assert!(
        copy.examine(0, &patience())
            .unwrap_err()
            .one_line()
            .contains("1 references lead nowhere, and 0 did before")
    );
    let mut owner = sandbox.app("everything_v2");
    let rights = "SELECT count(*) FROM pg_class WHERE relname = 'p' AND has_table_privilege('report', oid, 'SELECT WITH GRANT OPTION')
        AND has_column_privilege('report', oid, 'name', 'UPDATE') AND NOT has_table_privilege('report', oid, 'UPDATE')
        AND has_schema_privilege('report', 'Other S', 'USAGE') AND NOT has_function_privilege('report', 'double(int)', 'EXECUTE')
        AND NOT has_table_privilege('everything_v2', 'log', 'TRUNCATE') AND has_database_privilege('report', 'everything_v2', 'CONNECT')
        AND NOT has_table_privilege('everything_v1', oid, 'SELECT') AND NOT has_table_privilege('everything_v1_ro', oid, 'SELECT')";
    assert_eq!(number(&mut owner, rights), 1);
    owner.batch_execute("CREATE TABLE fresh (n int)").unwrap();
    assert_eq!(number(&mut owner, "SELECT has_table_privilege('report', 'fresh', 'INSERT')::int::bigint"), 1);
    let theirs = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('public', 'Other S')
        AND pg_get_userbyid(relowner) <> 'everything_v2'";
    assert_eq!(number(&mut owner, theirs), 0);
    assert_eq!(
        number(&mut owner, &format!("SELECT (current_setting('{setting}') = 'it''s, b')::int::bigint")),
        1,
        "settings come along"
    );
    assert_eq!(number(&mut owner, "SELECT nextval('lone')"), -1);
    assert_eq!(number(&mut owner, "SELECT nextval('set_back')"), 77);
    assert_eq!(number(&mut owner, "SELECT sum(sum)::bigint FROM mv2"), 5000);
    assert!(owner.batch_execute("SELECT * FROM mv3").is_err(), "what was not filled is not filled");
    assert_eq!(number(&mut owner, "INSERT INTO p (name) VALUES ('new') RETURNING id::bigint"), 3);
    assert_eq!(number(&mut sandbox.reader("everything_v2"), "SELECT count(*) FROM \"Other S\".c"), 1);
}

#[test]
fn encoding_and_collation_come_along() {
    let sandbox = Sandbox::new();
    let database = sandbox.at("latin_v1");
    let making = " ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'";
    super::super::place::create(
        &super::super::server::Server::of(&sandbox.ground),
        database.spot(),
        Some(making),
    )
    .unwrap();
    sandbox.app("latin_v1").batch_execute("CREATE TABLE t (s text); INSERT INTO t VALUES ('é\\t')").unwrap();
    let copy = sandbox.at("latin_v2");
    database.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
    copy.verify(database.spot(), &patience()).unwrap();
    let ask = "SELECT count(*) FROM pg_database WHERE datname LIKE 'latin%' AND pg_encoding_to_char(encoding) = 'LATIN1' AND datcollate = 'C'";
    assert_eq!(number(&mut sandbox.app("latin_v2"), ask), 2);
}

#[test]
fn a_snapshot_is_one_moment_while_four_writers_commit() {
    let sandbox = Sandbox::new();
    let database = sandbox.database(
        "moment_v1",
        "CREATE TABLE a (n int, pad text); CREATE TABLE b (n int, pad text); INSERT INTO a SELECT 0, repeat('x', 400) FROM generate_series(1, 20000)",
    );
    let (done, written) = (AtomicBool::new(false), AtomicI64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut app = sandbox.app("moment_v1");
                while !done.load(Ordering::Relaxed) {
                    app.batch_execute(
                        "BEGIN; INSERT INTO a VALUES (1, ''); INSERT INTO b VALUES (1, ''); COMMIT",
                    )
                    .unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let copy = sandbox.at("moment_v2");
        for _ in 0..2 {
            let before = written.load(Ordering::Relaxed);
            database.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
            assert!(written.load(Ordering::Relaxed) > before, "nobody wrote meanwhile");
            let sums = "SELECT (SELECT sum(n) FROM a) - (SELECT coalesce(sum(n), 0) FROM b)";
            assert_eq!(number(&mut sandbox.app("moment_v2"), sums), 0);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_copy_that_lacks_something_is_not_its_original() {
    let sandbox = Sandbox::new();
    let sql = "CREATE TABLE p (id serial PRIMARY KEY, t text); INSERT INTO p (t) VALUES ('a'), ('b'); CREATE TABLE c (n int)";
    let database = sandbox.database("lacks_v1", sql);
    let copy = sandbox.at("lacks_v2");
    for (sql, why) in [
        ("DELETE FROM p WHERE id = 2", "table 'p' has 1 rows instead of 2"),
        ("DROP TABLE c", "table 'c' is missing"),
        ("CREATE TABLE x (y int)", "table 'x' is in the copy alone"),
        ("UPDATE p SET t = 'B' WHERE t = 'b'", "table 'p' has other content"),
        ("SELECT setval('p_id_seq', 1, false)", "sequence 'p_id_seq' is at 1 instead of 2"),
    ] {
        database.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
        assert_eq!(copy.verify(database.spot(), &patience()).unwrap(), 0);
        sandbox.app("lacks_v2").batch_execute(sql).unwrap();
        let error = copy.verify(database.spot(), &patience()).unwrap_err();
        assert!(error.one_line().ends_with(why), "{}", error.one_line());
    }
}

#[test]
fn whatever_an_app_writes_shows_in_the_census() {
    let sandbox = Sandbox::new();
    let database = sandbox.database(
        "census_v1",
        "CREATE TABLE t (n int); CREATE TABLE django_migrations (n int); INSERT INTO t VALUES (1), (2); CREATE SEQUENCE s",
    );
    for (sql, used) in [
        (
            "SELECT * FROM t; CREATE TABLE IF NOT EXISTS t (n int); BEGIN; INSERT INTO t VALUES (3); ROLLBACK; ANALYZE t",
            false,
        ),
        ("INSERT INTO django_migrations VALUES (2)", true),
        ("UPDATE t SET n = 5 WHERE n = 1", true),
        ("UPDATE t SET n = n", true),
        ("BEGIN; DELETE FROM t WHERE n = 5; INSERT INTO t VALUES (5); COMMIT", true),
        ("SELECT nextval('s')", true),
        ("CREATE TABLE u (n int)", true),
        ("DELETE FROM t", true),
    ] {
        let before = database.census(&patience()).unwrap();
        sandbox.app("census_v1").batch_execute(sql).unwrap();
        let after = database.census(&patience()).unwrap();
        assert_eq!(before.used_since(&after), used, "{sql}\n{before:?}\n{after:?}");
    }
}

#[test]
fn what_cannot_be_carried_is_refused_by_name_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("refused_v1", "CREATE TABLE t (n int)");
    let copy = sandbox.at("refused_v2");
    let refuse = |make: &str, why: &str, undo: &str| {
        sandbox.server.postgres("refused_v1").batch_execute(make).unwrap();
        let error = database.snapshot(copy.spot(), &patience(), &mut silent).unwrap_err();
        assert!(error.one_line().contains(why), "{}", error.one_line());
        assert!(!copy.exists().unwrap());
        sandbox.server.postgres("refused_v1").batch_execute(undo).unwrap();
    };
    refuse("SELECT lo_create(4711)", "1 large objects", "SELECT lo_unlink(4711)");
    refuse(
        "CREATE EXTENSION file_fdw",
        "only a superuser may make its extension 'file_fdw'",
        "DROP EXTENSION file_fdw",
    );
    refuse("CREATE SCHEMA receiver AUTHORIZATION refused_v1", "a schema 'receiver'", "DROP SCHEMA receiver");
    let flag = AtomicBool::new(true);
    let error = database.snapshot(copy.spot(), &patience().unless(&flag), &mut silent).unwrap_err();
    assert!(error.one_line().ends_with("it was cancelled"), "{}", error.one_line());
    assert!(!copy.exists().unwrap());
    assert!(!sandbox.ground.secrets.join("refused_v2").exists());
}

#[test]
fn every_acknowledged_write_is_in_the_copy_and_every_later_one_is_refused() {
    let sandbox = Sandbox::new();
    let database =
        sandbox.database("acked_v1", "CREATE TABLE t (n bigint PRIMARY KEY); CREATE TABLE u (n bigint)");
    let copy = sandbox.at("acked_v2");
    let next = AtomicI64::new(1);
    let (acknowledged, refused) = (Mutex::new(Vec::new()), AtomicI64::new(0));
    // Who has not even come in would be let in no more.
    let all_in = Barrier::new(9);
    thread::scope(|scope| {
        for kind in 0..8 {
            let (next, acknowledged, refused, sandbox) = (&next, &acknowledged, &refused, &sandbox);
            let all_in = &all_in;
            scope.spawn(move || {
                let mut app = sandbox.app("acked_v1");
                let prepared = app.prepare("INSERT INTO t VALUES ($1)").unwrap();
                all_in.wait();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let written = match kind % 3 {
                        0 => app.execute(&prepared, &[&n]).map(drop),
                        1 => app.batch_execute(&format!("BEGIN; INSERT INTO t VALUES ({n}); INSERT INTO u VALUES ({n}); COMMIT")),
                        _ => app.batch_execute(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; INSERT INTO u VALUES ({n}); INSERT INTO t VALUES ({n}); COMMIT")),
                    };
                    if written.is_err() {
                        refused.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    acknowledged.lock().unwrap().push(n);
                }
            });
        }
        all_in.wait();
        until("fifty writes", || acknowledged.lock().unwrap().len() > 50);
        let hold = database.hold(&patience()).unwrap();
        hold.copy_to(copy.spot(), &patience(), &mut silent).unwrap();
        copy.verify(database.spot(), &patience()).unwrap();
        hold.fence("version 3 of shop is retired").unwrap();
    });
    assert_eq!(refused.into_inner(), 8, "those who waited met the fence");
    let mut acknowledged = acknowledged.into_inner().unwrap();
    acknowledged.sort_unstable();
    let numbers = |name: &str| -> Vec<i64> {
        let rows = sandbox.server.postgres(name).query("SELECT n FROM t ORDER BY n", &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(numbers("acked_v2"), acknowledged);
    assert_eq!(numbers("acked_v1"), acknowledged);
}

#[test]
fn a_superuser_carries_extensions_that_only_a_superuser_may_make() {
    let sandbox = Sandbox::new();
    let ground = Ground { admin: Some("postgres".into()), ..sandbox.ground.clone() };
    let (database, copy) = (sandbox.at("super_v1"), sandbox.at("super_v2"));
    let [database, copy] = [&database, &copy].map(|one| Postgres::at(&ground, one.spot().clone()));
    database.create().unwrap();
    let make = "CREATE SCHEMA ext AUTHORIZATION super_v1; CREATE EXTENSION file_fdw WITH SCHEMA ext; CREATE EXTENSION pageinspect";
    sandbox.server.postgres("super_v1").batch_execute(make).unwrap();
    sandbox.app("super_v1").batch_execute("CREATE TABLE t (n int); CREATE TABLE ext.u (n int)").unwrap();
    database.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
    copy.verify(database.spot(), &patience()).unwrap();
    assert_eq!(database.schema().unwrap().diff(&copy.schema().unwrap()), [""; 0]);
    copy.remove().unwrap();
    database.remove().unwrap();
}

#[test]
fn a_view_in_the_place_of_a_table_calls_nothing_as_the_administrator() {
    let sandbox = Sandbox::new();
    let database = sandbox.database(
        "trojan_v1",
        "CREATE TABLE seen (who text); GRANT INSERT ON seen TO PUBLIC;
         CREATE FUNCTION see() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN 1; END $$;
         CREATE VIEW v AS SELECT see(); CREATE TABLE t (n int)",
    );
    let mut admin = super::super::server::Server::of(&sandbox.ground).session("trojan_v1").unwrap();
    let error = admin.run("SELECT * FROM ONLY public.v").unwrap_err();
    assert!(error.one_line().contains("non-system view"), "{}", error.one_line());
    database.census(&patience()).unwrap();
    database
        .hold(&patience())
        .unwrap()
        .copy_to(sandbox.at("trojan_v2").spot(), &patience(), &mut silent)
        .unwrap();
    assert_eq!(number(&mut sandbox.app("trojan_v1"), "SELECT count(*) FROM seen"), 0);
}

#[test]
fn a_database_that_was_just_made_is_filled_as_it_is_and_any_other_is_made_anew() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("fresh_v1", "CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
    let copy = sandbox.at("fresh_v2");
    copy.create().unwrap();
    let mut postgres = sandbox.server.postgres("postgres");
    let mut which =
        || number(&mut postgres, "SELECT oid::bigint FROM pg_database WHERE datname = 'fresh_v2'");
    let first = which();
    database.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
    copy.verify(database.spot(), &patience()).unwrap();
    assert_eq!(which(), first, "it was empty");
    database.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
    copy.verify(database.spot(), &patience()).unwrap();
    let second = which();
    assert_ne!(second, first, "it had a table");
    sandbox.app("fresh_v2").batch_execute("DROP TABLE t; CREATE TYPE mood AS ENUM ()").unwrap();
    database.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
    assert_ne!(which(), second, "it had a type");
}
