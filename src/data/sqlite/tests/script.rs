use super::*;

fn run(path: &Path, sql: &str, previous: Option<&Path>) -> Result<Vec<String>, String> {
    let scripts = [
        Script { name: "first.sql", text: b"CREATE TABLE IF NOT EXISTS made (x);" },
        Script { name: "db/schema.sql", text: sql.as_bytes() },
    ];
    let mut log = Vec::new();
    run_sql(path, &scripts, previous, &patience(), &mut |line| log.push(line.to_owned()))
        .map(|()| log)
        .map_err(|error| error.one_line())
}

#[test]
fn rows_are_brought_from_the_previous_database_which_stays_as_it_is() {
    let sandbox = Sandbox::new();
    let old = sandbox.database("3", "CREATE TABLE user (fullname); INSERT INTO user VALUES ('Ada Lovelace')");
    let new = sandbox.database("4", "");
    let hold = Hold::take(&old, &patience()).unwrap();
    let log = run(
        &new,
        "BEGIN;\nCREATE TABLE user (first, last);\nINSERT INTO user SELECT substr(fullname, 1, 3), \
         substr(fullname, 5) FROM previous.user;\nCREATE TRIGGER t AFTER INSERT ON user BEGIN SELECT 1; END;\nCOMMIT;",
        Some(&old),
    )
    .unwrap();
    assert_eq!(log.len(), 2);
    assert!(log[1].starts_with("db/schema.sql:5: passed over"), "{log:?}");
    assert_eq!(number(&new, "SELECT count(*) FROM user WHERE last = 'Lovelace'"), 1);
    drop(hold);
    for write in ["DELETE FROM previous.user", "CREATE TABLE previous.x (y)", "DROP TABLE previous.user"] {
        let why = run(&new, write, Some(&old)).unwrap_err();
        assert!(why.contains("readonly"), "{write}: {why}");
    }
    assert_eq!(number(&old, "SELECT count(*) FROM user"), 1);
}

#[test]
fn an_error_names_file_and_line_and_nothing_is_kept() {
    let sandbox = Sandbox::new();
    let cases = [
        ("SELECT 1;\n\nSELECT\n  absent;", "db/schema.sql:4: no such column: absent"),
        (
            "-- a comment; here\nCREATE TABLE a (x);\nCRATE TABLE b;",
            "db/schema.sql:3: near \"CRATE\": syntax error",
        ),
        (
            "CREATE TABLE a (x UNIQUE); INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (1)",
            "db/schema.sql:2: UNIQUE constraint failed: a.x",
        ),
        ("CREATE TABLE a (x);\nDELETE FROM a \0 WHERE x = 1", "db/schema.sql:2: nul byte found"),
        ("ROLLBACK", "db/schema.sql:1: all files are one transaction, which may not be ended here"),
        (
            "COMMIT;\nEND TRANSACTION; ATTACH '/tmp/x' AS x",
            "db/schema.sql:2: other files may not be attached or written",
        ),
        (
            "VACUUM INTO '/tmp/receiver-test-vacuum'",
            "db/schema.sql:1: cannot VACUUM from within a transaction",
        ),
        ("DETACH previous", "db/schema.sql:1: databases may not be detached"),
        ("PRAGMA journal_mode = DELETE", "db/schema.sql:1: the pragma 'journal_mode' is not allowed"),
        ("PRAGMA writable_schema = ON", "db/schema.sql:1: the pragma 'writable_schema' is not allowed"),
        ("SELECT load_extension('x')", "db/schema.sql:1: the function 'load_extension' is not allowed"),
        ("SELECT 'unclosed", "unrecognized token"),
        (
            "CREATE TABLE a (x UNIQUE); INSERT INTO a VALUES (1); INSERT OR ROLLBACK INTO a VALUES (1)",
            "db/schema.sql:1: UNIQUE constraint failed: a.x",
        ),
        (
            "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id)); INSERT INTO c VALUES (1)",
            "could not be committed: FOREIGN KEY constraint failed",
        ),
    ];
    for (number, (sql, why)) in cases.iter().enumerate() {
        let path = sandbox.database(&format!("case-{number}"), "");
        let error = run(&path, sql, None).unwrap_err();
        assert!(error.contains(why), "{sql}: {error}");
        assert!(is_empty(&path).unwrap(), "{sql}");
    }
    let path = sandbox.database("4", "");
    let latin = Script { name: "latin.sql", text: b"SELECT '\xe9';" };
    let error = run_sql(&path, &[latin], None, &patience(), &mut |_| {}).unwrap_err();
    assert!(error.one_line().contains("latin.sql: it is not UTF-8"), "{}", error.one_line());
}

#[test]
fn rows_may_come_before_what_they_refer_to() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("4", "");
    let sql = "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p REFERENCES p (id));
               INSERT INTO c VALUES (1); INSERT INTO p VALUES (1); CREATE VIRTUAL TABLE f USING fts5 (x);
               INSERT INTO f VALUES ('x'); CREATE VIRTUAL TABLE r USING rtree (i, a, b);";
    run(&path, sql, None).unwrap();
    examine(&path, 0, &patience()).unwrap();
}

#[test]
fn sql_that_never_ends_is_stopped() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("4", "");
    let endless = Script {
        name: "endless.sql",
        text: b"CREATE TABLE t (x); WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i FROM s) SELECT * FROM s;",
    };
    let limit = Limit::within(Duration::from_millis(200));
    let error = run_sql(&path, &[endless], None, &limit, &mut |_| {}).unwrap_err();
    assert!(error.one_line().ends_with("it took longer than 200ms"), "{}", error.one_line());
    assert!(is_empty(&path).unwrap());
}
