use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use super::*;
use crate::app::Version;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_database_is_its_owners_alone() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "CREATE TABLE t (x)");
    let open = connect(&path);
    open.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    assert!(size(&path).unwrap() > 4096, "what is in the WAL counts");
    assert!(create(&path).is_err(), "what is there is never made again");
    drop(open);
    checkpoint_and_sync(&path).unwrap();
    assert_eq!(size(&path).unwrap(), 8192);
}

#[test]
fn names_and_addresses_are_what_the_design_says() {
    let app = "shop-videos".parse().unwrap();
    assert_eq!(file_name(&app, Version(4)).unwrap(), "shop_videos_v4.sqlite3");
    assert_eq!(url(Path::new("/srv/a b/%/4.sqlite3")), "sqlite:////srv/a%20b/%25/4.sqlite3");
}

#[test]
fn remove_takes_a_database_and_nothing_else() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "CREATE TABLE t (x)");
    let dir = path.parent().unwrap();
    fs::write(dir.join("notes.txt"), "mine").unwrap();
    let error = remove(&path).unwrap_err();
    assert!(error.to_string().ends_with("'notes.txt' is not receiver's"), "{error}");
    assert_eq!(number(&path, "SELECT count(*) FROM t"), 0);
    fs::remove_file(dir.join("notes.txt")).unwrap();
    fs::rename(&path, dir.join("real")).unwrap();
    symlink("real", &path).unwrap();
    assert!(remove(&path).is_err(), "a link is not the database");
    fs::remove_file(&path).unwrap();
    fs::rename(dir.join("real"), &path).unwrap();
    remove(&path).unwrap();
    assert!(!dir.exists());
    remove(&path).unwrap();
}

#[test]
fn what_is_no_database_is_an_error_and_never_a_wait() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "");
    let refused = |why: &str| {
        let copy = sandbox.path("copy");
        let errors = [
            snapshot(&path, &copy, &patience(), &mut silent).unwrap_err(),
            Hold::take(&path, &patience()).unwrap_err(),
            schema(&path).unwrap_err(),
            census(&path, &patience()).unwrap_err(),
        ];
        for error in errors {
            assert!(error.one_line().contains(why), "{}", error.one_line());
        }
        assert!(!copy.parent().unwrap().exists());
    };
    fs::write(&path, "this is no database, however long one may read in it ".repeat(50)).unwrap();
    refused("file is not a database");
    fs::remove_file(&path).unwrap();
    refused("No such file");
    symlink("/etc/passwd", &path).unwrap();
    refused("is not a regular file");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    refused("is not a regular file");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert!(is_empty(&path).unwrap(), "nothing is an empty database");
    let wal = path.with_file_name("app.sqlite3-wal");
    assert!(Command::new("mkfifo").arg(&wal).status().unwrap().success());
    refused("app.sqlite3-wal is not a regular file");
}

#[test]
fn a_damaged_or_hostile_database_is_an_error_and_never_a_wait() {
    let sandbox = Sandbox::new();
    let path = sandbox.database(
        "3",
        "CREATE TABLE t (x); INSERT INTO t SELECT zeroblob(3000) FROM (VALUES (1), (2), (3), (4), (5));
         CREATE VIEW v AS WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i FROM s) SELECT * FROM s;
         CREATE VIEW broken AS SELECT unknown(x) FROM nowhere;
         CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT load_extension('x'); END;",
    );
    let copy = sandbox.path("4");
    snapshot(&path, &copy, &patience(), &mut silent).unwrap();
    schema(&copy).unwrap();
    census(&copy, &patience()).unwrap();
    retire(&copy);
    checkpoint_and_sync(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[4096 + 8..length].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let error = examine(&path, 0, &patience()).unwrap_err();
    assert!(error.to_string().contains("is not sound"), "{}", error.one_line());
}

#[test]
fn a_place_beneath_a_link_is_found_and_a_link_itself_is_not() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "CREATE TABLE t (x)");
    let link = sandbox.root.path().join("link");
    symlink(path.parent().unwrap(), &link).unwrap();
    assert!(!is_empty(&link.join("app.sqlite3")).unwrap());
}

#[test]
fn what_only_the_app_can_compute_is_not_held_against_it() {
    let sandbox = Sandbox::new();
    let path = sandbox.database(
        "3",
        "PRAGMA foreign_keys=OFF; CREATE TABLE t (a CHECK (abs(a) > 0), b); CREATE INDEX i ON t (b COLLATE NOCASE);
         CREATE TABLE u (a REFERENCES t (b)); CREATE INDEX j ON u (abs(a));
         INSERT INTO t VALUES (1, 'x'), (2, 'y');
         INSERT INTO u VALUES (7);
         PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql = replace(replace(sql, 'abs(', 'its_own('), 'NOCASE', 'theirs');",
    );
    let copy = sandbox.path("4");
    snapshot(&path, &copy, &patience(), &mut silent).unwrap();
    verify(&copy, &path, &patience()).unwrap();
    examine(&copy, 1, &patience()).unwrap();
    census(&copy, &patience()).unwrap();
    retire(&copy);
    let to = sandbox.root.path().join("dump");
    assert_eq!(super::dump(&copy, &to, &patience(), &mut silent).unwrap()["t"], 2);
}
