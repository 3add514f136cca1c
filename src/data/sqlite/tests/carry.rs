use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Instant;

use super::*;

#[test]
fn a_snapshot_is_one_moment_while_four_writers_commit() {
    let sandbox = Sandbox::new();
    let path = sandbox.database(
        "3",
        "CREATE TABLE a (n, pad); CREATE TABLE b (n, pad);
         WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 20000)
         INSERT INTO a SELECT 0, zeroblob(400) FROM s;",
    );
    let (done, written) = (AtomicBool::new(false), AtomicI64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let connection = connect(&path);
                while !done.load(Ordering::Relaxed) {
                    connection
                        .execute_batch(
                            "BEGIN IMMEDIATE; INSERT INTO a VALUES (1, zeroblob(900));
                             INSERT INTO b VALUES (1, zeroblob(900)); COMMIT",
                        )
                        .unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut during = 0;
        for name in ["one", "two", "three"] {
            let copy = sandbox.path(name);
            let before = written.load(Ordering::Relaxed);
            snapshot(&path, &copy, &patience(), &mut silent).unwrap();
            during += written.load(Ordering::Relaxed) - before;
            let sums = "SELECT (SELECT sum(n) FROM a) - (SELECT coalesce(sum(n), 0) FROM b)";
            assert_eq!(number(&copy, sums), 0);
            examine(&copy, 0, &patience()).unwrap();
            let mode: String = connect(&copy).query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
            assert_eq!(mode, "wal");
        }
        done.store(true, Ordering::Relaxed);
        assert!(during > 0, "nobody wrote meanwhile");
    });
}

#[test]
fn every_acknowledged_write_is_in_the_copy_and_every_later_one_is_refused() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "CREATE TABLE t (n INTEGER PRIMARY KEY)");
    let copy = sandbox.path("4");
    let next = AtomicI64::new(1);
    let (acknowledged, refused) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let connection = connect(&path);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    match connection.execute("INSERT INTO t VALUES (?1)", [n]) {
                        Ok(_) => acknowledged.lock().unwrap().push(n),
                        Err(error) if error.to_string().contains("version 3 is retired") => {
                            refused.lock().unwrap().push(n);
                            break;
                        }
                        Err(error) => assert!(error.to_string().contains("locked"), "{error}"),
                    }
                }
            });
        }
        while acknowledged.lock().unwrap().len() < 50 {
            thread::yield_now();
        }
        let hold = Hold::take(&path, &patience()).unwrap();
        hold.copy_to(&copy, &patience(), &mut silent).unwrap();
        verify(&copy, &path, &patience()).unwrap();
        hold.fence("version 3 is retired").unwrap();
    });
    assert_eq!(refused.into_inner().unwrap().len(), 8, "those who waited met the fence");
    let mut acknowledged = acknowledged.into_inner().unwrap();
    acknowledged.sort_unstable();
    let copied: Vec<i64> = connect(&copy)
        .prepare("SELECT n FROM t ORDER BY n")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(copied, acknowledged);
    assert_eq!(number(&path, "SELECT count(*) FROM t"), i64::try_from(copied.len()).unwrap());
}

#[test]
fn writers_wait_for_a_hold_and_go_on_when_it_is_dropped() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "CREATE TABLE t (n)");
    let hold = Hold::take(&path, &patience()).unwrap();
    assert_eq!(number(&path, "SELECT count(*) FROM t"), 0, "readers go on");
    let impatient = Connection::open(&path).unwrap();
    impatient.busy_timeout(Duration::ZERO).unwrap();
    assert!(impatient.execute_batch("INSERT INTO t VALUES (1)").is_err());
    thread::scope(|scope| {
        let writer = scope.spawn(|| connect(&path).execute_batch("INSERT INTO t VALUES (2)"));
        thread::sleep(Duration::from_millis(50));
        drop(hold);
        writer.join().unwrap().unwrap();
    });
    assert_eq!(number(&path, "SELECT count(*) FROM t"), 1);
}

#[test]
fn a_hold_that_cannot_be_taken_names_who_has_the_lock() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "CREATE TABLE t (n)");
    let other = connect(&path);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let error = Hold::take(&path, &Limit::within(Duration::from_millis(100))).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(2));
    let pid = format!("process {} (", std::process::id());
    assert!(error.to_string().contains(&pid), "{error}");
    let flag = AtomicBool::new(true);
    let error = Hold::take(&path, &patience().unless(&flag)).unwrap_err();
    assert!(error.one_line().ends_with("it was cancelled"), "{}", error.one_line());
}

/// Set for the process that [`a_hold_dies_with_its_process`] starts: this test binary again.
const HOLD: &str = "RECEIVER_TEST_HOLD";

#[test]
fn a_hold_dies_with_its_process() {
    if let Some(path) = std::env::var_os(HOLD) {
        let _hold = Hold::take(Path::new(&path), &patience()).unwrap();
        println!("held");
        thread::sleep(Duration::from_secs(60));
        return;
    }
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "CREATE TABLE t (n)");
    let mut holder = holder(&path);
    let impatient = Connection::open(&path).unwrap();
    impatient.busy_timeout(Duration::ZERO).unwrap();
    let began = Instant::now();
    while impatient.execute_batch("INSERT INTO t VALUES (1)").is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "the other process never held");
        thread::sleep(Duration::from_millis(5));
    }
    let error = Hold::take(&path, &Limit::within(Duration::from_millis(50))).unwrap_err();
    assert!(error.to_string().contains(&format!("process {}", holder.id())), "{error}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    connect(&path).execute_batch("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(super::fence(&path).unwrap(), Fence::Open);
}

fn holder(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "data::sqlite::tests::carry::a_hold_dies_with_its_process", "--nocapture"])
        .env(HOLD, path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_copy_can_be_cancelled_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "CREATE TABLE t (n)");
    let copy = sandbox.path("4");
    let flag = AtomicBool::new(true);
    let error = snapshot(&path, &copy, &patience().unless(&flag), &mut silent).unwrap_err();
    assert!(error.one_line().ends_with("it was cancelled"), "{}", error.one_line());
    assert!(!copy.parent().unwrap().exists());
}

#[test]
fn a_copy_that_lacks_something_is_not_its_original() {
    let sandbox = Sandbox::new();
    let sql = "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id));
               CREATE TABLE n (id INTEGER PRIMARY KEY AUTOINCREMENT, t); INSERT INTO n (t) VALUES ('a');
               INSERT INTO p VALUES (1), (2); PRAGMA foreign_keys=OFF; INSERT INTO c VALUES (7);";
    let original = sandbox.database("3", sql);
    for (name, sql, why) in [
        ("rows", "DELETE FROM p WHERE id = 2", "table 'p' has 1 rows instead of 2"),
        ("less", "DROP TABLE c", "table 'c' is missing"),
        ("more", "CREATE TABLE x (y)", "table 'x' is in the copy alone"),
        ("value", "PRAGMA foreign_keys=OFF; UPDATE c SET p = 8", "table 'c' has other content"),
        ("key", "UPDATE p SET id = 3 WHERE id = 2", "table 'p' has other content"),
        ("kind", "UPDATE n SET t = CAST(t AS BLOB)", "table 'n' has other content"),
        ("column", "ALTER TABLE n ADD COLUMN u", "table 'n' has other content"),
        (
            "sequence",
            "INSERT INTO n (t) VALUES ('x'); DELETE FROM n WHERE t = 'x'",
            "the sequences have other content",
        ),
    ] {
        let copy = sandbox.path(name);
        snapshot(&original, &copy, &patience(), &mut silent).unwrap();
        assert_eq!(verify(&copy, &original, &patience()).unwrap(), 1);
        connect(&copy).execute_batch(sql).unwrap();
        let error = verify(&copy, &original, &patience()).unwrap_err();
        assert!(error.one_line().ends_with(why), "{name}: {}", error.one_line());
    }
    examine(&original, 1, &patience()).unwrap();
    let error = examine(&original, 0, &patience()).unwrap_err();
    assert!(error.one_line().contains("1 references lead nowhere, and 0 did before"), "{}", error.one_line());
}

#[test]
fn a_copy_is_proved_by_its_pages_but_for_what_is_receivers() {
    let sandbox = Sandbox::new();
    let rows = "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 3000)";
    let sql = format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, n, pad); CREATE INDEX by_n ON t (n);
         CREATE TABLE gone (pad); PRAGMA user_version = 7; CREATE VIRTUAL TABLE words USING fts5 (word);
         INSERT INTO words VALUES ('word'); {rows} INSERT INTO t (n, pad) SELECT i, zeroblob(300) FROM s;
         {rows} INSERT INTO gone SELECT zeroblob(2000) FROM s; DROP TABLE gone;"
    );
    let original = sandbox.database("3", &sql);
    let are_same = |copy: &Path| pages::are_same(&connect(copy), &connect(&original)).unwrap();
    let copied = |name: &str| {
        let copy = sandbox.path(name);
        snapshot(&original, &copy, &patience(), &mut silent).unwrap();
        copy
    };
    assert!(are_same(&copied("plain")));
    // Notes on many pages, among pages that were free, and a fence that came and went: all of it is stripped.
    capture(&original, "2", &patience()).unwrap();
    connect(&original).execute_batch("UPDATE t SET n = n + 1").unwrap();
    Hold::take(&original, &patience()).unwrap().fence("a rehearsal").unwrap();
    let stripped = copied("stripped");
    strip(&stripped).unwrap();
    assert!(are_same(&stripped));
    assert_eq!(verify(&stripped, &original, &patience()).unwrap(), 0);
    unfence(&original).unwrap();
    for (name, sql, same_rows) in [
        ("value", "UPDATE t SET n = 0 WHERE id = 3000", false),
        ("indexed", "DROP INDEX by_n; CREATE INDEX by_n ON t (n DESC)", true),
        ("sequence", "INSERT INTO t (n) VALUES (1); DELETE FROM t WHERE id = 3001", false),
        ("version", "PRAGMA user_version = 8", true),
        ("word", "INSERT INTO words VALUES ('another')", false),
        ("view", "CREATE VIEW v AS SELECT n FROM t", true),
        ("vacuum", "VACUUM", true),
    ] {
        let copy = copied(name);
        strip(&copy).unwrap();
        assert!(are_same(&copy), "{name}");
        connect(&copy).execute_batch(sql).unwrap();
        assert!(!are_same(&copy), "{name}");
        assert_eq!(verify(&copy, &original, &patience()).is_ok(), same_rows, "{name}");
    }
}

#[test]
fn a_copy_with_a_damaged_page_is_not_its_original() {
    let sandbox = Sandbox::new();
    let sql = "CREATE TABLE t (n, pad); CREATE INDEX by_n ON t (n, pad);
               WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 2000)
               INSERT INTO t SELECT i, printf('%0100d', i) FROM s;";
    let original = sandbox.database("3", sql);
    let copy = sandbox.path("4");
    snapshot(&original, &copy, &patience(), &mut silent).unwrap();
    verify(&copy, &original, &patience()).unwrap();
    let (page, size): (u32, u32) = connect(&copy)
        .query_row(
            "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'by_n'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    // No row is in it: the table itself is whole.
    let file = std::fs::OpenOptions::new().write(true).open(&copy).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], u64::from(page - 1) * u64::from(size))
        .unwrap();
    let error = verify(&copy, &original, &patience()).unwrap_err().one_line();
    assert!(error.contains("do not hold together") || error.contains("malformed"), "{error}");
}

#[test]
fn time_that_is_over_is_no_fault_of_a_database() {
    let sandbox = Sandbox::new();
    let original = sandbox.database("3", "CREATE TABLE t (n)");
    let over = Limit::within(Duration::ZERO);
    for error in [examine(&original, 0, &over).unwrap_err(), verify(&original, &original, &over).unwrap_err()]
    {
        assert_eq!(error.one_line(), "it took longer than 0ns");
    }
}

#[test]
fn whatever_an_app_writes_shows_in_the_census() {
    let sandbox = Sandbox::new();
    let empty = sandbox.database("4", "");
    assert!(is_empty(&empty).unwrap());
    let path = sandbox.database(
        "3",
        "CREATE TABLE t (n); CREATE TABLE django_migrations (n); INSERT INTO t VALUES (1);
         INSERT INTO django_migrations VALUES (1)",
    );
    assert!(!is_empty(&path).unwrap());
    for (sql, used) in [
        ("SELECT * FROM t; PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t (n)", false),
        ("INSERT INTO django_migrations VALUES (2)", true),
        ("UPDATE t SET n = 5", true),
        ("CREATE TABLE u (n)", true),
        ("DELETE FROM t", true),
    ] {
        let before = census(&path, &patience()).unwrap();
        thread::sleep(Duration::from_millis(15)); // the clock of the file system ticks this seldom
        connect(&path).execute_batch(sql).unwrap();
        let after = census(&path, &patience()).unwrap();
        assert_eq!(before.used_since(&after), used, "{sql}\n{before:?}\n{after:?}");
    }
}
