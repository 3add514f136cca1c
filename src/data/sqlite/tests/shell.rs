use super::*;

fn talk(path: &Path, access: Access, input: &str) -> (bool, String, String) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let succeeded = super::shell(path, access, input.as_bytes(), &mut output, &mut errors).unwrap();
    (succeeded, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
}

#[test]
fn rows_are_printed_and_errors_do_not_end_the_shell() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "");
    let input = "CREATE TABLE t (a, b);\nINSERT INTO t VALUES (1, 'x\ty\u{1b}'), (NULL,\n  x'0aff');\nSELECT *\nFROM t; SELECT absent;\nSELECT 1.5 AS half";
    let (succeeded, output, errors) = talk(&path, Access::Write, input);
    assert!(!succeeded);
    assert_eq!(output, "a\tb\n1\tx\\ty\\u{1b}\nNULL\tX'0AFF'\nhalf\n1.5\n");
    assert_eq!(errors, "error: no such column: absent\n");
}

#[test]
fn a_shell_stays_within_its_database() {
    let sandbox = Sandbox::new();
    let path = sandbox.database("3", "CREATE TABLE t (a)");
    let other = sandbox.root.path().join("other");
    for sql in [format!("ATTACH '{}' AS x;", other.display()), format!("VACUUM INTO '{}';", other.display())]
    {
        let (succeeded, _, errors) = talk(&path, Access::Write, &sql);
        assert!(!succeeded);
        assert_eq!(errors, "error: other files may not be attached or written\n");
        assert!(!other.exists());
    }
    assert!(talk(&path, Access::Write, "VACUUM;").0);
    let (succeeded, _, errors) = talk(&path, Access::Write, "BEGIN; INSERT INTO t VALUES (1);");
    assert!(!succeeded && errors.contains("is undone"));
    assert_eq!(
        talk(&path, Access::Read, "INSERT INTO t VALUES (1);").2,
        "error: attempt to write a readonly database\n"
    );
    assert_eq!(talk(&path, Access::Read, "PRAGMA query_only=OFF; INSERT INTO t VALUES (1);").1, "");
    assert_eq!(number(&path, "SELECT count(*) FROM t"), 0);
}
