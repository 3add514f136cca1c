use std::time::Duration;

use mysql::prelude::Queryable;

use super::*;
use crate::data::{Script, Talk};

fn run(database: &Mysql, text: &str, previous: Option<&Mysql>) -> crate::support::Result<()> {
    let scripts = [Script { name: "db/schema.sql", text: text.as_bytes() }];
    database.run_sql(&scripts, previous.map(|database| database.spot()), &soon(), &mut |_| {})
}

#[test]
fn files_of_sql_are_run_by_the_role_and_may_read_what_was_before() {
    let world = World::new();
    let (old, new) = (world.filled("CREATE TABLE t (a int);; INSERT INTO t VALUES (1), (2)"), world.fresh());
    let text = "CREATE TABLE t (a int); -- the same\nINSERT INTO t SELECT a + 10 FROM previous.t;\nDELIMITER //\n\
                CREATE TRIGGER one BEFORE INSERT ON t FOR EACH ROW BEGIN SET NEW.a = 1; END//\nDELIMITER ;\n";
    run(&new, text, Some(&old)).unwrap();
    let mut app = world.role(&new, Access::Write);
    assert_eq!(app.query::<u32, _>("SELECT a FROM t ORDER BY a").unwrap(), [11, 12]);
    assert!(
        app.query_drop(format!("SELECT * FROM {}.t", old.name())).is_err(),
        "only for the time of the run"
    );
    for (text, line, why) in [
        ("INSERT INTO previous.t VALUES (1)", 1, "INSERT command denied"),
        ("SELECT 1;\n\nSELEKT 2;", 3, "You have an error in your SQL syntax"),
        ("SELECT 1;\nSELECT * FROM mysql.user", 2, "SELECT command denied"),
        ("SELECT (SELECT 1 UNION SELECT 2)", 1, "more than 1 row"),
    ] {
        let error = run(&new, text, Some(&old)).unwrap_err().one_line();
        assert!(
            error.starts_with(&format!("db/schema.sql:{line} failed: ")) && error.contains(why),
            "{error}"
        );
        assert!(app.query_drop(format!("SELECT * FROM {}.t", old.name())).is_err());
    }
    let scripts = [Script { name: "slow.sql", text: b"DO SLEEP(0); SELECT COUNT(*) FROM information_schema.COLUMNS a, information_schema.COLUMNS b, information_schema.COLUMNS c" }];
    let error =
        new.run_sql(&scripts, None, &Limit::within(Duration::from_millis(100)), &mut |_| {}).unwrap_err();
    assert!(error.one_line().contains("it took longer"), "{}", error.one_line());
    old.remove().unwrap();
    new.remove().unwrap();
}

#[test]
fn a_shell_answers_rows_and_goes_on_after_an_error() {
    let world = World::new();
    let database = world.fresh();
    let talk = |access, input: &str| -> (bool, String, String) {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let mut input = input.as_bytes();
        let talk = Talk { input: &mut input, output: &mut output, errors: &mut errors };
        let succeeded = database.shell(access, talk).unwrap();
        (succeeded, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
    };
    let (succeeded, output, errors) = talk(
        Access::Write,
        "CREATE TABLE t (a int, b varchar(20), c blob);\nINSERT INTO t VALUES (1, 'x\\ty\\\\', NULL), (2, '\\n', x'ff00');\nSELECT * FROM t",
    );
    assert!(succeeded, "{errors}");
    assert_eq!(output, "a\tb\tc\n1\tx\\ty\\\\\tNULL\n2\t\\n\tX'FF00'\n");
    let (succeeded, output, errors) =
        talk(Access::Read, "INSERT INTO t VALUES (1, '', '');\nSELECT COUNT(*) FROM t;\n");
    assert!(!succeeded);
    assert!(errors.contains("INSERT command denied"), "{errors}");
    assert_eq!(output, "COUNT(*)\n2\n");
    database.remove().unwrap();
}
