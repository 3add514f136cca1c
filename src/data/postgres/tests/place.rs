use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_database_has_an_owner_and_a_reader_and_nobody_else_may_connect() {
    let sandbox = Sandbox::new();
    let database = sandbox.at("place_v1");
    assert!(!database.exists().unwrap());
    database.create().unwrap();
    assert!(database.exists().unwrap() && database.is_empty().unwrap());
    let mut app = sandbox.app("place_v1");
    app.batch_execute("CREATE SCHEMA more; CREATE TABLE t (n serial); CREATE TABLE more.u (n int); INSERT INTO t VALUES (7)").unwrap();
    let mut reader = sandbox.reader("place_v1");
    assert_eq!(number(&mut reader, "SELECT sum(n) FROM t"), 7);
    assert_eq!(number(&mut reader, "SELECT count(*) FROM more.u"), 0, "what comes later can be read, too");
    assert_eq!(number(&mut reader, "SELECT last_value FROM t_n_seq"), 1);
    reader.batch_execute("SET default_transaction_read_only = off").unwrap();
    for refused in [
        "INSERT INTO t VALUES (1)",
        "CREATE TABLE x (n int)",
        "CREATE TEMP TABLE x (n int)",
        "SELECT nextval('t_n_seq')",
    ] {
        // Until 14 the schema public is the superuser's, who alone can close it.
        if version(sandbox.server) >= 150_000 || !refused.starts_with("CREATE TABLE") {
            assert!(reader.batch_execute(refused).is_err(), "{refused}");
        }
    }
    sandbox.server.postgres("postgres").batch_execute("CREATE ROLE stranger LOGIN PASSWORD 'x'").unwrap();
    let refused = sandbox.server.try_connect("place_v1", "stranger", "x").map(drop).unwrap_err();
    assert!(refused.to_string().contains("db error"), "{refused}");
    assert!(refused.as_db_error().unwrap().message().contains("permission denied for database"));
    drop((app, reader));
    database.remove().unwrap();
    assert!(!database.exists().unwrap());
    let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'place\\_v1%'";
    assert_eq!(number(&mut sandbox.server.postgres("postgres"), left), 0);
    database.remove().unwrap();
}

#[test]
fn the_address_is_one_that_psql_and_psycopg_understand() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("address_v1", "CREATE TABLE t (n int); INSERT INTO t VALUES (42)");
    for access in [Access::Write, Access::Read] {
        let url = database.url(access).unwrap();
        let psql = Command::new("psql").args([&url, "-Atc", "SELECT n FROM t"]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&psql.stdout).trim(),
            "42",
            "{}",
            String::from_utf8_lossy(&psql.stderr)
        );
        let program = "import sys, psycopg2\nc = psycopg2.connect(sys.argv[1]).cursor()\nc.execute('SELECT n FROM t')\nprint(c.fetchone()[0])";
        let python = Command::new("/usr/bin/python3").args(["-c", program, &url]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&python.stdout).trim(),
            "42",
            "{}",
            String::from_utf8_lossy(&python.stderr)
        );
    }
    assert!(database.url(Access::Write).unwrap().starts_with("postgres://address_v1:"));
    assert!(database.url(Access::Write).unwrap().contains("@/address_v1?host=/tmp/receiver-pg-"));
    let secret = fs::metadata(sandbox.ground.secrets.join("address_v1")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);
}

#[test]
fn names_of_every_kind_are_names() {
    let sandbox = Sandbox::new();
    let long = "x".repeat(63);
    for name in ["quo\"te'd \\v1", "Upper Case_V1", "a=b?&%", &long] {
        let database = sandbox.database(
            name,
            "CREATE TABLE \"we\"\"ird T\" (\"a b\" int); INSERT INTO \"we\"\"ird T\" VALUES (1)",
        );
        let copy = sandbox.at("names_copy_v1");
        database.snapshot(&spot("names_copy_v1"), &patience(), &mut silent).unwrap();
        assert_eq!(copy.verify(database.spot(), &patience()).unwrap(), 0);
        let url = database.url(Access::Write).unwrap();
        let psql = Command::new("psql").args([&url, "-Atc", "SELECT 42"]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&psql.stdout).trim(),
            "42",
            "{name}: {}",
            String::from_utf8_lossy(&psql.stderr)
        );
        retire(&database);
        database.unfence().unwrap();
        copy.remove().unwrap();
        database.remove().unwrap();
        assert!(!database.exists().unwrap());
    }
    for bad in ["a/b", "", &"x".repeat(64)] {
        assert!(sandbox.at(bad).create().is_err(), "{bad}");
    }
}

#[test]
fn what_is_not_receivers_is_neither_made_over_nor_removed() {
    let sandbox = Sandbox::new();
    let mut postgres = sandbox.server.postgres("postgres");
    postgres.batch_execute("CREATE DATABASE theirs_v1").unwrap();
    postgres.batch_execute("CREATE ROLE theirs_v2").unwrap();
    for (name, why) in
        [("theirs_v1", "a database of that name"), ("theirs_v2", "a role 'theirs_v2' is there")]
    {
        let error = sandbox.at(name).create().unwrap_err();
        assert!(error.one_line().contains(why), "{}", error.one_line());
        assert!(!sandbox.at(name).exists().unwrap());
        sandbox.at(name).remove().unwrap();
        assert!(sandbox.at(name).schema().unwrap_err().one_line().contains("is not receiver's"));
    }
    assert_eq!(number(&mut postgres, "SELECT count(*) FROM pg_database WHERE datname = 'theirs_v1'"), 1);
    assert_eq!(number(&mut postgres, "SELECT count(*) FROM pg_roles WHERE rolname = 'theirs_v2'"), 1);
    postgres.batch_execute("DROP DATABASE theirs_v1").unwrap();
}

#[test]
fn what_is_receivers_is_begun_anew_with_the_passwords_that_it_had() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("anew_v1", "CREATE TABLE t (n int)");
    let url = database.url(Access::Write).unwrap();
    let _connected = sandbox.app("anew_v1");
    database.create().unwrap();
    assert!(database.is_empty().unwrap());
    assert_eq!(database.url(Access::Write).unwrap(), url);
    sandbox.app("anew_v1");
    // A death between the roles and the database.
    sandbox.server.postgres("postgres").batch_execute("DROP DATABASE anew_v1 WITH (FORCE); ").unwrap();
    assert!(!database.exists().unwrap());
    database.create().unwrap();
    sandbox.app("anew_v1");
}

#[test]
fn a_server_that_is_not_there_or_does_not_know_us_is_told_in_a_sentence() {
    let place = tempfile::tempdir().unwrap();
    let ground = Ground {
        server: Some(place.path().to_owned()),
        secrets: place.path().join("s"),
        ..Ground::default()
    };
    let error = Postgres::at(&ground, spot("nobody_v1")).create().unwrap_err();
    assert!(error.one_line().contains("no PostgreSQL server answers at /"), "{}", error.one_line());
    assert!(error.innermost_hint().is_some());
    assert!(!place.path().join("s/nobody_v1").exists());
    let sandbox = Sandbox::new();
    let ground = Ground { admin: Some("nobody".into()), ..sandbox.ground.clone() };
    let error = Postgres::at(&ground, spot("nobody_v1")).create().unwrap_err();
    assert!(error.one_line().contains("as 'nobody'"), "{}", error.one_line());
    assert!(error.innermost_hint().unwrap().contains("CREATE ROLE"), "{:?}", error.innermost_hint());
}

#[test]
fn findings_name_what_is_missing_and_the_statement_that_grants_it() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("found_v1", "CREATE TABLE t (n int)");
    assert_eq!(database.findings().unwrap(), []);
    let mut postgres = sandbox.server.postgres("found_v1");
    postgres.batch_execute("CREATE TABLE theirs (n int); CREATE ROLE weak LOGIN PASSWORD 'x'; GRANT weak TO receiver; ALTER TABLE t FORCE ROW LEVEL SECURITY").unwrap();
    let found = |database: &Postgres| {
        let found = database.findings().unwrap();
        found.iter().map(|one| format!("{} → {}", one.what, one.cure)).collect::<Vec<_>>().join("\n")
    };
    let said = found(&database);
    assert!(
        said.contains("ALTER TABLE public.theirs OWNER TO \"found_v1\"") && said.contains("row security"),
        "{said}"
    );
    let error = database.hold(&patience()).map(drop).unwrap_err();
    assert!(
        error.one_line().contains("a right is missing: permission denied for table theirs"),
        "{}",
        error.one_line()
    );
    let file = sandbox.ground.secrets.join("weak-password");
    fs::write(&file, "x\n").unwrap();
    let weak = Ground { admin: Some("weak".into()), password_file: Some(file), ..sandbox.ground.clone() };
    let said = found(&Postgres::at(&weak, spot("found_v1")));
    for cure in
        ["ALTER ROLE \"weak\" CREATEDB", "ALTER ROLE \"weak\" CREATEROLE", "GRANT \"found_v1\" TO \"weak\""]
    {
        assert!(said.contains(cure), "{said}");
    }
    let error = Postgres::at(&weak, spot("found_v2")).create().unwrap_err();
    assert!(error.one_line().contains("permission denied to create role"), "{}", error.one_line());
    let said = found(&sandbox.at("peered_v1"));
    assert!(said.contains("scram-sha-256"), "{said}");
    let error = sandbox.at("peered_v1").create().unwrap_err();
    assert!(error.innermost_hint().unwrap().contains("scram-sha-256"), "{}", error.render());
    assert!(!sandbox.at("peered_v1").exists().unwrap());
}

#[test]
fn no_password_is_in_the_servers_log() {
    let server: &'static Server = Box::leak(Box::new(Server::start(
        "-c max_connections=20 -c log_statement=all -c log_min_error_statement=error -c log_connections=on",
    )));
    let sandbox = Sandbox::on(server);
    let database = sandbox.database("logged_v1", "CREATE TABLE t (n int PRIMARY KEY)");
    let copy = sandbox.at("logged_v2");
    database.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
    let log = fs::read_to_string(sandbox.server.directory.join("log")).unwrap();
    assert!(log.contains("CREATE ROLE \"logged_v1\" LOGIN PASSWORD"), "statements are in it");
    for database in [&database, &copy] {
        for access in [Access::Write, Access::Read] {
            for (key, value) in database.variables(access).unwrap() {
                assert!(!key.ends_with("PASSWORD") || !log.contains(&value));
            }
        }
    }
}
