use super::*;

const TABLES: &str = r#"
    CREATE TABLE t (id INTEGER PRIMARY KEY, v UNIQUE);
    CREATE TABLE c (id INTEGER PRIMARY KEY, t REFERENCES t (id) ON DELETE CASCADE);
    CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, v);
    CREATE TABLE django_migrations (id INTEGER PRIMARY KEY, app);
    CREATE TABLE "o'clock "" `tick` naïve 日本" (x);
    CREATE TABLE "a_name_of_more_than_sixty_four_characters_that_some_engines_would_cut_off" (x);
    CREATE TABLE log (x);
    CREATE TRIGGER mine BEFORE INSERT ON t BEGIN INSERT INTO log VALUES (new.id); END;
    CREATE VIEW v AS SELECT * FROM w;
    CREATE TRIGGER through INSTEAD OF INSERT ON v BEGIN INSERT INTO w VALUES (new.k, new.v); END;
    CREATE VIRTUAL TABLE f5 USING fts5 (x);
    CREATE VIRTUAL TABLE bare USING fts5 (x, content='');
    CREATE VIRTUAL TABLE f4 USING fts4 (x);
    CREATE VIRTUAL TABLE r USING rtree (id, a, b);
    INSERT INTO t VALUES (1, 'a'), (2, 'b');
    INSERT INTO c VALUES (1, 1);
    INSERT INTO w VALUES ('k', 1);
    INSERT INTO f5 (rowid, x) VALUES (1, 'hello'), (2, 'two');
    INSERT INTO f4 (rowid, x) VALUES (1, 'hello'), (2, 'two');
    INSERT INTO r VALUES (1, 1, 2);
    INSERT INTO bare (rowid, x) VALUES (1, 'hello');
"#;

const WRITES: &[&str] = &[
    "INSERT INTO t VALUES (3, 'c')",
    "INSERT OR IGNORE INTO t VALUES (1, 'a')",
    "INSERT OR IGNORE INTO t VALUES (4, 'd')",
    "INSERT OR REPLACE INTO t VALUES (1, 'z')",
    "INSERT OR FAIL INTO t VALUES (9, 'z')",
    "INSERT OR ROLLBACK INTO t VALUES (9, 'z')",
    "REPLACE INTO t VALUES (1, 'z')",
    "UPDATE OR IGNORE t SET v = 'q'",
    "UPDATE OR REPLACE t SET v = 'q'",
    "INSERT INTO t VALUES (1, 'z') ON CONFLICT (id) DO UPDATE SET v = 'z'",
    "INSERT INTO t VALUES (1, 'z') ON CONFLICT DO NOTHING",
    "DELETE FROM t",
    "DELETE FROM t WHERE id = 1",
    "DELETE FROM w",
    "INSERT INTO v VALUES ('through', 1)",
    "INSERT INTO a (v) VALUES (1)",
    "INSERT INTO django_migrations (app) VALUES ('x')",
    "INSERT INTO \"o'clock \"\" `tick` naïve 日本\" VALUES (1)",
    "INSERT INTO a_name_of_more_than_sixty_four_characters_that_some_engines_would_cut_off VALUES (1)",
    "INSERT INTO f5 (x) VALUES ('x')",
    "INSERT OR REPLACE INTO f5 (rowid, x) VALUES (1, 'x')",
    "UPDATE f5 SET x = 'n'",
    "DELETE FROM f5",
    "INSERT INTO f5 (f5) VALUES ('rebuild')",
    "INSERT INTO f5 (f5, rank) VALUES ('pgsz', 100)",
    "INSERT INTO bare (rowid, x) VALUES (2, 'x')",
    "INSERT INTO bare (bare) VALUES ('delete-all')",
    "INSERT INTO f4 (x) VALUES ('x')",
    "UPDATE f4 SET x = 'n'",
    "DELETE FROM f4",
    "INSERT INTO r VALUES (9, 1, 2)",
    "UPDATE r SET a = 0",
    "DELETE FROM r",
];

#[test]
fn every_write_to_a_fenced_database_is_refused() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", TABLES);
    let open = connect(&path);
    let mut prepared = open.prepare("INSERT INTO t (v) VALUES (?1)").unwrap();
    prepared.execute(["before"]).unwrap();
    open.execute_batch("DELETE FROM t WHERE v = 'before'; DELETE FROM log").unwrap();
    let before = rows(&path, &patience()).unwrap();
    retire(&path);

    let error = prepared.execute(["after"]).unwrap_err();
    assert_eq!(error.to_string(), "receiver: version 3 is retired");
    let recursive = connect(&path);
    recursive.execute_batch("PRAGMA recursive_triggers=ON; PRAGMA foreign_keys=ON").unwrap();
    for connection in [&open, &recursive, &connect(&path)] {
        for write in WRITES {
            assert!(connection.execute_batch(write).is_err(), "{write}");
            assert!(connection.is_autocommit(), "{write}");
        }
    }
    drop(prepared);
    assert_eq!(rows(&path, &patience()).unwrap(), before);
    assert_eq!(fence(&path).unwrap(), Fence::Whole);
    assert_eq!(open.query_row("SELECT count(*) FROM t", [], |row| row.get(0)), Ok(2));
    sound(&path);
}

#[test]
fn a_transaction_of_several_writes_to_fenced_virtual_tables_neither_crashes_nor_commits() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", TABLES);
    retire(&path);
    for script in [
        "BEGIN; INSERT INTO f5 (x) VALUES ('x'); INSERT INTO f5 (x) VALUES ('y'); DELETE FROM f5 WHERE rowid = 1; COMMIT",
        "BEGIN; INSERT INTO bare (rowid, x) VALUES (6, 'x'); INSERT INTO bare (bare, rowid, x) VALUES ('delete', 1, 'hello'); COMMIT",
        "BEGIN; INSERT INTO f4 (x) VALUES ('x'); SAVEPOINT s; DELETE FROM f4; ROLLBACK TO s; COMMIT",
        "BEGIN; SAVEPOINT s; DELETE FROM r; ROLLBACK TO s; INSERT INTO r VALUES (99, 1, 2); RELEASE s; COMMIT",
    ] {
        let connection = connect(&path);
        let mut refused = 0;
        for statement in script.split(';') {
            refused += u32::from(connection.execute_batch(statement).is_err());
        }
        assert!(refused > 0, "{script}");
    }
    for (table, rows) in [("f5_content", 2), ("bare_docsize", 1), ("f4_content", 2), ("r", 1)] {
        assert_eq!(number(&path, &format!("SELECT count(*) FROM {table}")), rows, "{table}");
    }
    unfence(&path).unwrap();
    connect(&path).execute_batch("INSERT INTO f5 (f5) VALUES ('rebuild')").unwrap();
    assert_eq!(number(&path, "SELECT count(*) FROM f5 WHERE f5 MATCH 'hello'"), 1);
}

#[test]
fn what_goes_past_the_fence_is_what_the_module_says() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", TABLES);
    let open = connect(&path);
    open.execute_batch("PRAGMA foreign_keys=ON; SELECT * FROM t").unwrap();
    retire(&path);
    for refused in ["DROP TABLE t", "CREATE TABLE t (x)"] {
        assert!(open.execute_batch(refused).is_err(), "{refused}");
    }
    for passed in [
        "CREATE TABLE fresh (x)",
        "INSERT INTO fresh VALUES (1)",
        "CREATE TABLE copied AS SELECT * FROM c",
        "ALTER TABLE w ADD COLUMN z",
        "CREATE INDEX i ON c (t)",
        "PRAGMA user_version = 7",
        "UPDATE sqlite_sequence SET seq = 99",
        "DROP TABLE a",
        "INSERT OR IGNORE INTO r VALUES (99, 1, 2)",
        "INSERT OR IGNORE INTO f4 (rowid, x) VALUES (99, 'x')",
        "INSERT OR IGNORE INTO f5 (rowid, x) VALUES (99, 'x')",
        "INSERT INTO f5 (f5) VALUES ('optimize')",
        "VACUUM",
        "DROP TRIGGER receiver_fence_1_insert",
    ] {
        assert!(open.execute_batch(passed).is_ok(), "{passed}");
    }
    for (table, rows) in [("r", 1), ("f4", 2), ("f5", 2)] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(number(&path, &count), rows, "what was ignored was not written either");
    }
    let Fence::Gaps(gaps) = super::fence(&path).unwrap() else { panic!("the fence has gaps") };
    assert!(gaps.contains(&"fresh".to_owned()) && gaps.contains(&"copied".to_owned()), "{gaps:?}");
    retire(&path);
    assert_eq!(super::fence(&path).unwrap(), Fence::Whole, "a second fence closes them");
}

#[test]
fn without_the_fence_a_database_is_as_it_was() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", TABLES);
    let before = schema(&path).unwrap();
    assert_eq!(super::fence(&path).unwrap(), Fence::Open);
    retire(&path);
    assert_eq!(schema(&path).unwrap(), before, "the fence is no part of the schema");
    unfence(&path).unwrap();
    unfence(&path).unwrap();
    assert_eq!(super::fence(&path).unwrap(), Fence::Open);
    let connection = connect(&path);
    for write in WRITES.iter().filter(|write| !write.contains("(9, ")) {
        connection.execute_batch(write).unwrap_or_else(|error| panic!("{write}: {error}"));
    }
}

#[test]
fn strip_takes_the_fence_off_a_copy_and_nothing_of_the_apps() {
    let sandbox = Sandbox::new();
    let path = sandbox.database(
        "3",
        "CREATE TABLE receiver_fence_log (x);
         CREATE TABLE receiver_message (x);
         CREATE TRIGGER receiver_fence_mine AFTER INSERT ON receiver_message BEGIN
             INSERT INTO receiver_fence_log VALUES (new.x); END;",
    );
    let before = schema(&path).unwrap();
    retire(&path);
    let copy = sandbox.path("4");
    snapshot(&path, &copy, &patience(), &mut silent).unwrap();
    assert!(connect(&copy).execute_batch("INSERT INTO receiver_message VALUES (1)").is_err());
    strip(&copy).unwrap();
    connect(&copy).execute_batch("INSERT INTO receiver_message VALUES (1)").unwrap();
    assert_eq!(number(&copy, "SELECT count(*) FROM receiver_fence_log"), 1);
    assert_eq!(schema(&copy).unwrap(), before);
    assert_eq!(number(&copy, "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'"), 1);
}

#[test]
fn a_database_in_rollback_mode_is_fenced_as_well() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "CREATE TABLE t (x); PRAGMA journal_mode=DELETE");
    let open = connect(&path);
    open.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    retire(&path);
    assert!(open.execute_batch("INSERT INTO t VALUES (2)").is_err());
}

fn sound(path: &Path) {
    examine(path, 0, &patience()).unwrap();
}
