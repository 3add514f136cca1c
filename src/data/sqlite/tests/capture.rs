//! What is noted, and the proof that nothing is missing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use super::*;
use crate::data::way::Changes;

fn begin(path: &Path) {
    let capture = capture(path, "shop_v3", &patience()).unwrap();
    assert_eq!((capture.peer.as_str(), capture.gaps.as_slice()), ("shop_v3", &[][..]));
    assert!(capture.is_whole() && capture.since.ends_with('Z'));
}

/// The keys that were noted of one table, as SQL writes them.
fn noted(path: &Path, table: &str) -> Vec<String> {
    let connection = connect(path);
    let index: String = connection
        .query_row("SELECT name FROM sqlite_schema WHERE sql LIKE '%/* which */%'", [], |row| row.get(0))
        .unwrap();
    let find = format!("SELECT log, number FROM {index} WHERE name = ?1 AND log IS NOT NULL");
    let (log, number): (String, u32) =
        connection.query_row(&find, [table], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let mut query =
        connection.prepare(&format!("SELECT * FROM {log} WHERE t = {number} ORDER BY 2")).unwrap();
    let width = query.column_count();
    let mut rows = query.query([]).unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let cells = (1..width).map(|at| format!("{:?}", row.get::<_, rusqlite::types::Value>(at).unwrap()));
        found.push(cells.collect::<Vec<_>>().join(" "));
    }
    found
}

fn integers(keys: &[i64]) -> Vec<String> {
    keys.iter().map(|key| format!("Integer({key})")).collect()
}

#[test]
fn every_kind_of_write_is_noted_once_by_its_key() {
    let sandbox = Sandbox::new();
    let path = sandbox.database(
        "4",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')",
    );
    begin(&path);
    let open = connect(&path);
    for _ in 0..3 {
        open.execute_batch(
            "INSERT INTO t VALUES (9, 'x'); UPDATE t SET v = 'y' WHERE id = 9; DELETE FROM t WHERE id = 9;
             UPDATE t SET v = v || 'z' WHERE id = 1;",
        )
        .unwrap();
    }
    open.execute_batch(
        "UPDATE t SET id = 20 WHERE id = 2; DELETE FROM t WHERE id = 3;
        INSERT INTO t (id, v) VALUES (4, 'up') ON CONFLICT (id) DO UPDATE SET v = excluded.v;
        INSERT OR REPLACE INTO t VALUES (30, 'new')",
    )
    .unwrap();
    assert_eq!(noted(&path, "t"), integers(&[1, 2, 3, 4, 9, 20, 30]));
    let changes = changes(&path, &patience()).unwrap();
    assert_eq!(changes["t"], Changes { written: 4, deleted: 3 });
    capture(&path, "shop_v3", &patience()).unwrap();
    assert_eq!(noted(&path, "t"), integers(&[]), "it begins anew");
}

#[test]
fn no_clause_of_the_apps_own_makes_the_note_fail() {
    let sandbox = Sandbox::new();
    let path = sandbox
        .database("4", "CREATE TABLE t (id INTEGER PRIMARY KEY, v UNIQUE); INSERT INTO t VALUES (1, 1)");
    begin(&path);
    let open = connect(&path);
    open.execute_batch("UPDATE t SET v = 5").unwrap();
    for how in ["ABORT", "FAIL", "ROLLBACK", "IGNORE", "REPLACE"] {
        open.execute_batch(&format!(
            "UPDATE OR {how} t SET v = v + 1 WHERE id = 1; DELETE FROM t WHERE id = 7; INSERT OR {how} INTO t VALUES (7, 77)"
        )).unwrap_or_else(|error| panic!("{how}: {error}"));
    }
    assert_eq!(noted(&path, "t"), integers(&[1, 7]));
    assert_eq!(number(&path, "SELECT v FROM t WHERE id = 1"), 10);
}

#[test]
fn a_row_that_gives_way_to_another_is_noted() {
    for (name, index, gives_way) in [
        ("plain", "CREATE UNIQUE INDEX i ON t (mail)", true),
        ("nocase", "CREATE UNIQUE INDEX i ON t (upper COLLATE NOCASE)", true),
        ("expression", "CREATE UNIQUE INDEX i ON t (lower(mail || '@') COLLATE NOCASE DESC, n)", true),
        ("partial", "CREATE UNIQUE INDEX i ON t (mail) WHERE active = 1 AND n IN (1, 2)", true),
        ("generated", "CREATE UNIQUE INDEX i ON t (twice)", true),
        ("other", "CREATE UNIQUE INDEX i ON t (mail) WHERE active = 0", false),
        ("with the key", "CREATE UNIQUE INDEX i ON t (id, mail)", false),
    ] {
        let sandbox = Sandbox::new();
        let path = sandbox.database(
            "4",
            &format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, mail TEXT, \"upper\" TEXT, n INT, active INT,
                     twice AS (mail || mail));
                 {index};
                 INSERT INTO t VALUES (1, 'a', 'a', 1, 1), (2, 'b', 'b', 1, 1), (3, 'c', 'c', 1, 1);"
            ),
        );
        begin(&path);
        let open = connect(&path);
        open.execute_batch("INSERT OR REPLACE INTO t VALUES (10, 'a', 'A', 1, 1)").unwrap();
        let rows = number(&path, "SELECT count(*) FROM t");
        assert_eq!(rows, if gives_way { 3 } else { 4 }, "{name}");
        let expected: &[i64] = if gives_way { &[1, 10] } else { &[10] };
        assert_eq!(noted(&path, "t"), integers(expected), "{name}");
        if gives_way {
            open.execute_batch("UPDATE OR REPLACE t SET mail = 'b', \"upper\" = 'B' WHERE id = 3").unwrap();
            assert_eq!(number(&path, "SELECT count(*) FROM t"), 2, "{name}");
            assert_eq!(noted(&path, "t"), integers(&[1, 2, 3, 10]), "{name}");
        }
    }
}

#[test]
fn what_a_cascade_does_is_noted_also_when_a_row_gives_way() {
    let sandbox = Sandbox::new();
    let path = sandbox.database(
        "4",
        "CREATE TABLE p (id INTEGER PRIMARY KEY, u UNIQUE);
         CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE g (id INTEGER PRIMARY KEY, c REFERENCES c ON DELETE CASCADE);
         CREATE TABLE n (id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE SET NULL);
         CREATE TABLE d (id INTEGER PRIMARY KEY, p DEFAULT 9 REFERENCES p ON DELETE SET DEFAULT);
         INSERT INTO p VALUES (1, 1), (2, 2), (3, 3), (4, 4), (9, 9); INSERT INTO c VALUES (14, 4);
         INSERT INTO c VALUES (11, 1), (12, 2), (13, 3); INSERT INTO g VALUES (21, 11), (22, 12), (23, 13);
         INSERT INTO n VALUES (31, 1), (32, 2), (33, 3); INSERT INTO d VALUES (41, 1), (42, 2), (43, 3);",
    );
    begin(&path);
    let open = connect(&path);
    open.execute_batch("PRAGMA foreign_keys=ON; DELETE FROM p WHERE id = 1").unwrap();
    for (table, key) in [("p", 1), ("c", 11), ("g", 21), ("n", 31), ("d", 41)] {
        assert_eq!(noted(&path, table), integers(&[key]), "{table}");
    }
    open.execute_batch("INSERT OR REPLACE INTO p VALUES (5, 2)").unwrap();
    for (table, keys) in
        [("p", &[1, 2, 5][..]), ("c", &[11, 12]), ("g", &[21, 22]), ("n", &[31, 32]), ("d", &[41, 42])]
    {
        assert_eq!(noted(&path, table), integers(keys), "{table}");
    }
    open.execute_batch("UPDATE p SET id = 44 WHERE id = 4").unwrap();
    assert_eq!(noted(&path, "c"), integers(&[11, 12, 14]));
}

#[test]
fn keys_of_every_kind_are_noted_as_they_are() {
    let sandbox = Sandbox::new();
    let path = sandbox.database(
        "4",
        "CREATE TABLE two (a INT, b TEXT, v, PRIMARY KEY (b, a));
         CREATE TABLE folded (k TEXT COLLATE NOCASE PRIMARY KEY, v);
         CREATE TABLE bytes (k BLOB PRIMARY KEY, v) WITHOUT ROWID;
         CREATE TABLE real (k REAL PRIMARY KEY) STRICT;
         CREATE TABLE any (k ANY PRIMARY KEY) STRICT;
         CREATE TABLE loose (k PRIMARY KEY, v);
         CREATE TABLE \"odd \"\" name\" (\"the \"\" key\" INTEGER PRIMARY KEY);
         CREATE TABLE none (v);
         CREATE TABLE receiver_log_0 (id INTEGER PRIMARY KEY);
         CREATE TABLE receiver_log_2_insert (id INTEGER PRIMARY KEY);",
    );
    begin(&path);
    connect(&path).execute_batch(
        "INSERT INTO two VALUES (1, 'x', 0); INSERT INTO folded VALUES ('Key', 1); UPDATE folded SET k = 'KEY';
         INSERT INTO bytes VALUES (x'00ff', 1); INSERT INTO real VALUES (1); INSERT INTO any VALUES ('1'), (1);
         INSERT INTO loose VALUES (NULL, 1), (NULL, 2), ('1', 3), (1, 4); UPDATE loose SET k = NULL WHERE v = 4;
         UPDATE loose SET k = 5 WHERE v = 1; DELETE FROM loose WHERE k IS NULL;
         INSERT INTO \"odd \"\" name\" VALUES (7); INSERT INTO none VALUES (1);
         INSERT INTO receiver_log_0 VALUES (8); INSERT INTO receiver_log_2_insert VALUES (8)",
    ).unwrap();
    assert_eq!(noted(&path, "two"), ["Text(\"x\") Integer(1)"]);
    assert_eq!(noted(&path, "folded"), ["Text(\"Key\")"]);
    assert_eq!(noted(&path, "bytes"), ["Blob([0, 255])"]);
    assert_eq!(noted(&path, "real"), ["Real(1.0)"]);
    assert_eq!(noted(&path, "any"), ["Integer(1)", "Text(\"1\")"]);
    assert_eq!(noted(&path, "loose"), ["Integer(1)", "Integer(5)", "Text(\"1\")"]);
    assert_eq!(noted(&path, "odd \" name"), ["Integer(7)"]);
    assert_eq!(noted(&path, "receiver_log_0"), ["Integer(8)"], "a table of the app's own");
    let tables = super::tables(&path).unwrap();
    let keyless: Vec<_> =
        tables.iter().filter(|table| table.key.is_empty()).map(|table| &table.name).collect();
    assert_eq!(keyless, ["none"]);
    assert_eq!(tables.len(), 10);
}

#[test]
fn tables_with_the_same_kind_of_key_share_a_log() {
    let sandbox = Sandbox::new();
    let tables: String = (0..50)
        .map(|n| {
            format!(
                "CREATE TABLE number{n} (\"id {n}\" INTEGER PRIMARY KEY, v);
                 CREATE TABLE pair{n} (b INT, a TEXT, v, PRIMARY KEY (a, b));"
            )
        })
        .collect();
    let path = sandbox.database("4", &tables);
    begin(&path);
    let logs = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name GLOB 'receiver_log_*'";
    assert_eq!(number(&path, logs), 3, "one for each kind, and the list of them");
    connect(&path)
        .execute_batch(
            "INSERT INTO number7 VALUES (1, 'a'); INSERT INTO number8 VALUES (1, 'b'), (2, 'c');
             DELETE FROM number8 WHERE v = 'c'; INSERT INTO pair7 VALUES (1, 'x', 'a'), (2, 'y', 'b')",
        )
        .unwrap();
    assert_eq!(noted(&path, "number7"), integers(&[1]));
    assert_eq!(noted(&path, "number8"), integers(&[1, 2]));
    assert_eq!(noted(&path, "number9"), integers(&[]));
    assert_eq!(noted(&path, "pair7"), ["Text(\"x\") Integer(1)", "Text(\"y\") Integer(2)"]);
    let changes = changes(&path, &patience()).unwrap();
    let all: Vec<_> = changes.iter().map(|(name, c)| (name.as_str(), c.written, c.deleted)).collect();
    assert_eq!(all, [("number7", 1, 0), ("number8", 1, 1), ("pair7", 2, 0)]);
}

#[test]
fn a_capture_is_no_part_of_what_the_app_has() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("4", "CREATE TABLE receiver_log_0 (id INTEGER PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE);
        CREATE TRIGGER receiver_log_5_insert AFTER INSERT ON t BEGIN INSERT INTO \"receiver_log_0\" VALUES (new.id); END");
    let before = (schema(&path).unwrap(), rows(&path, &patience()).unwrap(), super::tables(&path).unwrap());
    let objects = "SELECT count(*) FROM sqlite_schema";
    let count = number(&path, objects);
    begin(&path);
    begin(&path);
    let after = (schema(&path).unwrap(), rows(&path, &patience()).unwrap(), super::tables(&path).unwrap());
    assert_eq!(before, after);
    assert_eq!(census(&path, &patience()).unwrap().schema, before.0);
    assert!(number(&path, objects) > count);

    let copy = sandbox.path("5");
    snapshot(&path, &copy, &patience(), &mut silent).unwrap();
    verify(&copy, &path, &patience()).unwrap();
    strip(&copy).unwrap();
    assert_eq!(number(&copy, objects), count);
    verify(&copy, &path, &patience()).unwrap();
    connect(&copy).execute_batch("INSERT INTO t VALUES (1, 1)").unwrap();
    assert_eq!(number(&copy, "SELECT count(*) FROM receiver_log_0"), 1, "the app's own trigger fires");
    let kept = sandbox.path("kept").with_file_name("dump");
    std::fs::create_dir(kept.parent().unwrap()).unwrap();
    dump(&path, &kept, &patience(), &mut silent).unwrap();
    assert_eq!(number(&kept, objects), count);

    retire(&path);
    assert_eq!(super::fence(&path).unwrap(), Fence::Whole);
    assert!(captured(&path).unwrap().unwrap().is_whole(), "fence and capture do not hinder each other");
    end_capture(&path).unwrap();
    end_capture(&path).unwrap();
    assert_eq!(captured(&path).unwrap(), None);
    assert_eq!(super::fence(&path).unwrap(), Fence::Whole);
    unfence(&path).unwrap();
    assert_eq!(number(&path, objects), count);
}

#[test]
fn a_capture_with_a_gap_is_not_whole() {
    for (name, sql, gaps) in [
        ("nothing", "UPDATE t SET v = 1; ALTER TABLE t ADD COLUMN w; CREATE TABLE loose (x)", &[][..]),
        ("renamed and back", "ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME TO t", &[]),
        ("new table", "CREATE TABLE fresh (id INTEGER PRIMARY KEY)", &["table 'fresh' came after it began"]),
        (
            "rebuilt",
            "CREATE TABLE new__t (id INTEGER PRIMARY KEY, v); INSERT INTO new__t SELECT id, v FROM t; DROP TABLE t;
             ALTER TABLE new__t RENAME TO t",
            &["table 't' was made anew or changed, and lost what watched it"],
        ),
        (
            "renamed",
            "ALTER TABLE t RENAME TO u",
            &["table 'u' came after it began", "table 't' is gone, or has another name now"],
        ),
        ("dropped", "DROP TABLE t", &["table 't' is gone, or has another name now"]),
        (
            "a new way to give way",
            "CREATE UNIQUE INDEX i ON t (v)",
            &["table 't' was made anew or changed, and lost what watched it"],
        ),
        (
            "no trigger",
            "DROP TRIGGER receiver_log_1_delete",
            &["table 't' was made anew or changed, and lost what watched it"],
        ),
        (
            "another trigger",
            "DROP TRIGGER receiver_log_1_delete; CREATE TRIGGER receiver_log_1_delete AFTER DELETE ON t BEGIN SELECT 1; END",
            &["table 't' was made anew or changed, and lost what watched it"],
        ),
    ] {
        let sandbox = Sandbox::new();
        let path = sandbox.database("4", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
        begin(&path);
        connect(&path).execute_batch(sql).unwrap();
        let capture = captured(&path).unwrap().unwrap();
        assert_eq!(capture.gaps, gaps, "{name}");
        begin(&path);
    }
}

#[test]
fn a_capture_that_a_receiver_of_before_began_is_not_whole_and_makes_room_for_another() {
    let sandbox = Sandbox::new();
    let path = sandbox.database(
        "4",
        "CREATE TABLE t (id INTEGER PRIMARY KEY);
         CREATE TABLE \"receiver_log_0\" (/* receiver: notes */ /* which */ name TEXT, log TEXT, why TEXT);
         INSERT INTO receiver_log_0 VALUES ('shop_v3', NULL, '2026-11-29T00:00:00Z'), ('t', 'receiver_log_1', NULL);
         CREATE TABLE \"receiver_log_1\" (/* receiver: notes */ \"id\" INTEGER, PRIMARY KEY (\"id\")) WITHOUT ROWID;
         CREATE TRIGGER \"receiver_log_1_insert\" AFTER INSERT ON \"t\" BEGIN /* receiver: notes */ INSERT INTO \"receiver_log_1\" VALUES (NEW.\"id\") ON CONFLICT DO NOTHING; END",
    );
    let old = captured(&path).unwrap().unwrap();
    assert_eq!(
        (old.peer.as_str(), old.gaps.as_slice()),
        ("shop_v3", &["a receiver of before began it".to_owned()][..])
    );
    assert!(changes(&path, &patience()).unwrap().is_empty());
    begin(&path);
    connect(&path).execute_batch("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(noted(&path, "t"), integers(&[1]));
}

#[test]
fn a_table_that_cannot_be_watched_is_named_and_the_others_are() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("4");
    create(&path).unwrap();
    let app = connect(&path);
    app.execute_batch(
        "CREATE TABLE own (k TEXT COLLATE NOCASE PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY);
         PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'alphabet');
         PRAGMA writable_schema=RESET",
    )
    .unwrap();
    let capture = capture(&path, "shop_v3", &patience()).unwrap();
    assert_eq!(capture.gaps.len(), 1);
    assert!(
        capture.gaps[0].starts_with("table 'own' could not be watched: no such collation"),
        "{:?}",
        capture.gaps
    );
    app.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(noted(&path, "t"), integers(&[1]));
}

/// A flag that goes up at the end, also of a test that fails.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn who_writes_while_a_capture_begins_is_noted_from_one_moment_on() {
    let sandbox = Sandbox::new();
    let path = sandbox
        .database("4", "CREATE TABLE a (n INTEGER PRIMARY KEY); CREATE TABLE b (n INTEGER PRIMARY KEY)");
    let (done, next) = (AtomicBool::new(false), AtomicI64::new(1));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let connection = connect(&path);
                while !done.load(Ordering::Relaxed) {
                    next.fetch_add(1, Ordering::Relaxed);
                    // The numbers are in the order of commits.
                    let write = "BEGIN IMMEDIATE; INSERT INTO a VALUES (NULL);
                                 INSERT INTO b VALUES (last_insert_rowid()); COMMIT";
                    if let Err(error) = connection.execute_batch(write) {
                        assert!(error.to_string().contains("locked"), "{error}");
                    }
                }
            });
        }
        let _end = Raised(&done);
        let wait = |more: i64| {
            let from = next.load(Ordering::Relaxed);
            while next.load(Ordering::Relaxed) < from + more {
                thread::yield_now();
            }
        };
        wait(50);
        let copy = sandbox.path("before");
        snapshot(&path, &copy, &patience(), &mut silent).unwrap();
        begin(&path);
        wait(100);
    });
    let both: BTreeSet<_> = noted(&path, "a").into_iter().collect();
    assert!(both.len() >= 90);
    assert_eq!(both, noted(&path, "b").into_iter().collect());
    let later = "SELECT count(*) FROM a WHERE n >= (SELECT min(k0) FROM receiver_log_2)";
    assert_eq!(number(&path, later), i64::try_from(both.len()).unwrap(), "all since the first one");
    assert_eq!(number(&path, "SELECT count(*) FROM a"), number(&path, "SELECT max(n) FROM b"));
}
