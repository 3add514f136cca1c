use std::os::unix::fs::PermissionsExt;

use super::*;

const SHOP: &str = "CREATE TABLE t (n serial PRIMARY KEY, s text); INSERT INTO t (s) SELECT g FROM generate_series(1, 1000) g; CREATE SCHEMA more;
    CREATE TABLE more.c (t int REFERENCES t); INSERT INTO more.c VALUES (1)";

#[test]
fn a_dump_can_be_loaded_again_and_readers_see_old_or_new() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("dump_v1", SHOP);
    sandbox
        .server
        .postgres("dump_v1")
        .batch_execute("CREATE ROLE grantee; GRANT SELECT ON t TO grantee")
        .unwrap();
    let before = database.schema().unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a dump.pgdump");
    retire(&database);
    database.dump(&file, &patience(), &mut silent).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(database.dump(&file, &patience(), &mut silent).unwrap_err().one_line().contains("cannot make"));
    let error = database.load(&file, &spot("dump_scratch"), &patience()).unwrap_err();
    assert!(error.one_line().contains("it is retired"), "{}", error.one_line());
    database.unfence().unwrap();
    sandbox
        .app("dump_v1")
        .batch_execute(
            "DELETE FROM more.c; DELETE FROM t WHERE n > 10; DROP TABLE more.c; CREATE TABLE junk (n int)",
        )
        .unwrap();
    let (mut connected, url) = (sandbox.app("dump_v1"), database.url(Access::Write).unwrap());
    database.load(&file, &spot("dump_scratch"), &patience()).unwrap();
    assert!(connected.batch_execute("SELECT 1").is_err(), "who was connected connects again");
    assert_eq!(database.url(Access::Write).unwrap(), url);
    assert_eq!(before.diff(&database.schema().unwrap()), [""; 0]);
    let mut app = sandbox.app("dump_v1");
    assert_eq!(number(&mut app, "SELECT count(*) FROM t"), 1000);
    assert_eq!(number(&mut app, "INSERT INTO t (s) VALUES ('x') RETURNING n::bigint"), 1001);
    app.batch_execute("ALTER TABLE more.c ADD COLUMN mine int; CREATE TABLE later (n int)").unwrap();
    assert_eq!(number(&mut app, "SELECT has_table_privilege('grantee', 't', 'SELECT')::int::bigint"), 1);
    let mut reader = sandbox.reader("dump_v1");
    assert_eq!(number(&mut reader, "SELECT count(*) FROM t, more.c, later"), 0);
    assert!(
        reader.batch_execute("SET default_transaction_read_only = off; INSERT INTO t VALUES (5000)").is_err()
    );
    assert!(!sandbox.at("dump_scratch").exists().unwrap());
    assert_eq!(database.findings().unwrap(), []);
    let error = sandbox.server.try_connect("dump_v1", "grantee", "").map(drop);
    assert!(error.is_err());
    retire(&database);
}

#[test]
fn sql_is_loaded_too_and_what_fails_changes_nothing() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("sql_v1", SHOP);
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let file = place.path().join(name);
        fs::write(&file, bytes).unwrap();
        file
    };
    let dump = place.path().join("whole");
    database.dump(&dump, &patience(), &mut silent).unwrap();
    let mut torn = fs::read(&dump).unwrap();
    torn.truncate(torn.len() - 300);
    for (file, why) in [
        (write("bad.sql", b"CREATE TABLE u (n int);\nnonsense;"), "bad.sql:2: syntax error"),
        (write("copy.sql", b"CREATE TABLE u (n int);\nCOPY u FROM stdin;\n1\n\\.\n"), "pg_dump -Fc"),
        (write("torn", &torn), "pg_restore"),
        (place.path().join("absent"), "cannot read"),
    ] {
        let error = database.load(&file, &spot("sql_scratch"), &patience()).unwrap_err();
        assert!(error.one_line().contains(why), "{}", error.one_line());
        assert!(!sandbox.at("sql_scratch").exists().unwrap());
        assert_eq!(number(&mut sandbox.app("sql_v1"), "SELECT count(*) FROM t"), 1000);
    }
    database
        .load(
            &write("good.sql", b"CREATE TABLE u (n int); INSERT INTO u VALUES (7);"),
            &spot("sql_scratch"),
            &patience(),
        )
        .unwrap();
    assert_eq!(database.rows(&patience()).unwrap(), [("u".to_owned(), 1)].into());
    assert_eq!(number(&mut sandbox.reader("sql_v1"), "SELECT sum(n) FROM u"), 7);
}
