use std::fs;

use super::*;

#[test]
fn a_dump_is_one_file_without_the_fence_and_can_be_loaded_again() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)");
    retire(&path);
    let to = sandbox.root.path().join("app_v3.sqlite3");
    let rows = super::dump(&path, &to, &patience(), &mut silent).unwrap();
    assert_eq!(rows["t"], 2);
    assert_eq!(fs::read_dir(sandbox.root.path()).unwrap().count(), 2, "the dump and version 3");
    assert_eq!(super::fence(&to).unwrap(), Fence::Open);
    read_back(&to, &rows, &patience()).unwrap();
    assert!(super::dump(&path, &to, &patience(), &mut silent).is_err(), "a dump is never written over");
    read_back(&to, &rows, &patience()).unwrap();

    let live = sandbox.database("4", "CREATE TABLE old (x)");
    let reader = connect(&live);
    reader.execute_batch("BEGIN; SELECT * FROM old").unwrap();
    load(&to, &live, &sandbox.path("4.load"), &patience()).unwrap();
    assert!(reader.execute_batch("SELECT * FROM old").is_ok(), "a reader sees the old content to its end");
    reader.execute_batch("COMMIT").unwrap();
    let count = |table: &str| {
        reader.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(count("t"), Ok(2));
    assert!(count("old").is_err());
    assert!(!sandbox.path("4.load").parent().unwrap().exists());

    let error = load(&to, &path, &sandbox.path("3.load"), &patience()).unwrap_err();
    assert!(error.to_string().contains("it is retired"), "{error}");
}

#[test]
fn a_dump_in_sql_is_loaded_whole_or_not_at_all() {
    let sandbox = Sandbox::new();
    let live = sandbox.database("4", "CREATE TABLE old (x)");
    let file = sandbox.root.path().join("dump.sql");
    fs::write(
        &file,
        "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t (x);\nINSERT INTO t VALUES(1);\nOOPS;",
    )
    .unwrap();
    let error = load(&file, &live, &sandbox.path("4.load"), &patience()).unwrap_err();
    assert!(error.one_line().contains("dump.sql:5: near \"OOPS\""), "{}", error.one_line());
    assert_eq!(number(&live, "SELECT count(*) FROM old"), 0);
    fs::write(&file, "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT);\nINSERT INTO t VALUES(1);\nDELETE FROM sqlite_sequence;\nINSERT INTO sqlite_sequence VALUES('t',7);\nCOMMIT;\n").unwrap();
    load(&file, &live, &sandbox.path("4.load"), &patience()).unwrap();
    assert_eq!(number(&live, "SELECT seq FROM sqlite_sequence"), 7);
}

#[test]
fn a_dump_with_other_pages_fits_as_well() {
    let sandbox = Sandbox::new();
    let live = sandbox.database("4", "CREATE TABLE old (x)");
    let other = sandbox.root.path().join("other.sqlite3");
    connect(&other)
        .execute_batch("PRAGMA page_size=1024; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        .unwrap();
    load(&other, &live, &sandbox.path("4.load"), &patience()).unwrap();
    assert_eq!(number(&live, "SELECT count(*) FROM t"), 1);
    assert_eq!(number(&live, "PRAGMA page_size"), 4096);
}
