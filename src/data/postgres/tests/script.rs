use super::*;
use crate::data::{Script, Talk};

fn script<'a>(name: &'a str, text: &'a str) -> Script<'a> {
    Script { name, text: text.as_bytes() }
}

fn run(database: &Postgres, scripts: &[Script<'_>]) -> (crate::support::Result<()>, Vec<String>) {
    let mut lines = Vec::new();
    let previous = spot("script_v0");
    let ran =
        database.run_sql(scripts, Some(&previous), &patience(), &mut |line| lines.push(line.to_owned()));
    (ran, lines)
}

#[test]
fn all_files_are_run_as_the_versions_role_or_none() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("script_v1", "");
    let good = script(
        "db/schema.sql",
        "BEGIN;\nCREATE TABLE t (n int);\nCREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := 1; RETURN NEW; END; $$;\nINSERT INTO t VALUES (4);\nSAVEPOINT a; DELETE FROM t; ROLLBACK TO a;\nCOMMIT;\n",
    );
    let bad = script("db/more.sql", "-- é\nINSERT INTO t VALUES (1);\nINSERT INTO\n  nowhere VALUES (1);");
    let (ran, lines) = run(&database, &[good, bad]);
    let error = ran.unwrap_err();
    assert!(error.one_line().contains("db/more.sql failed, and nothing of the stage is kept: db/more.sql:4: relation \"nowhere\" does not exist"), "{}", error.one_line());
    assert_eq!(lines[0], "db/schema.sql:1: passed over, as all files are one transaction: BEGIN;");
    assert_eq!(lines.len(), 2);
    assert!(database.is_empty().unwrap());
    run(&database, &[good]).0.unwrap();
    assert_eq!(number(&mut sandbox.app("script_v1"), "SELECT sum(n) FROM t"), 4);
    for (text, why) in [
        ("SELECT 1; ROLLBACK;", "may not be ended here"),
        ("COMMIT AND CHAIN;", "one transaction"),
        ("SELECT * FROM previous.t;", "cannot read the previous one"),
        ("COPY t FROM stdin;\n1\n\\.\n", "use INSERT, or a dump in custom format"),
        ("\\connect postgres\n", "commands of psql"),
        ("SET ROLE receiver;", "permission denied to set role"),
        ("CREATE ROLE x;", "permission denied"),
    ] {
        let error = run(&database, &[script("x.sql", text)]).0.unwrap_err();
        assert!(
            error.one_line().contains(&format!("x.sql:1: {why}")) || error.one_line().contains(why),
            "{}",
            error.one_line()
        );
    }
    let short = Limit::within(Duration::from_millis(300));
    let error = database
        .run_sql(&[script("slow.sql", "SELECT pg_sleep(60)")], None, &short, &mut |_| {})
        .unwrap_err();
    assert!(error.one_line().contains("it took longer than 300ms"), "{}", error.one_line());
}

#[test]
fn a_shell_answers_rows_and_goes_on_after_an_error() {
    let sandbox = Sandbox::new();
    let database = sandbox.database(
        "shell_v1",
        "CREATE TABLE t (n int, s text); INSERT INTO t VALUES (1, E'a\\tb\\033'), (2, NULL)",
    );
    let ask = |access, input: &str| {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let talk = Talk { input: &mut input.as_bytes(), output: &mut output, errors: &mut errors };
        let succeeded = database.shell(access, talk).unwrap();
        (succeeded, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
    };
    let (succeeded, output, errors) = ask(
        Access::Write,
        "SELECT *\n FROM t ORDER BY n;\nSELECT nope;\nINSERT INTO t VALUES (3, ';');SELECT count(*) FROM t",
    );
    assert!(!succeeded);
    assert_eq!(output, "n\ts\n1\ta\\tb\\u{1b}\n2\tNULL\ncount\n3\n");
    assert_eq!(errors, "error: column \"nope\" does not exist\n");
    let (succeeded, _, errors) = ask(Access::Read, "DELETE FROM t;");
    assert!(!succeeded && errors.contains("read-only"), "{errors}");
    let (succeeded, _, errors) = ask(Access::Write, "BEGIN; DELETE FROM t;");
    assert!(!succeeded && errors.contains("was not committed"), "{errors}");
    assert_eq!(number(&mut sandbox.app("shell_v1"), "SELECT count(*) FROM t"), 3);
    assert_eq!(ask(Access::Read, "SELECT 1 AS one;"), (true, "one\n1\n".into(), String::new()));
}

#[test]
fn who_is_connected_is_told_without_power_over_a_terminal() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("talks_v1", "");
    let mut app = sandbox.app("talks_v1");
    app.batch_execute("SET application_name = 'gunicorn'").unwrap();
    // A process of a version that is looked at reads, and is nobody to be ended.
    let _reads = sandbox.reader("talks_v1");
    let lines = database.connected().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("as talks_v1 gunicorn (idle)"), "{lines:?}");
    assert!(database.size().unwrap() > 1 << 20);
    assert_eq!(database.directory().unwrap(), None, "the administrator is no superuser");
}
