use std::sync::atomic::AtomicBool;

use super::*;
use crate::data::Fence;

#[test]
fn writers_wait_for_a_hold_and_go_on_when_it_is_dropped() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("held_v1", "CREATE TABLE t (n int)");
    let hold = database.hold(&patience()).unwrap();
    let mut app = sandbox.app("held_v1");
    assert_eq!(number(&mut app, "SELECT count(*) FROM t"), 0, "readers go on");
    app.batch_execute("SET lock_timeout = '10ms'").unwrap();
    for write in
        ["INSERT INTO t VALUES (1)", "TRUNCATE t", "ALTER TABLE t ADD c int", "SELECT * FROM t FOR UPDATE"]
    {
        assert!(app.batch_execute(write).is_err(), "{write}");
    }
    thread::scope(|scope| {
        let writer = scope.spawn(|| sandbox.app("held_v1").batch_execute("INSERT INTO t VALUES (2)"));
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'held_v1' AND wait_event_type = 'Lock'";
        until("the writer waits", || number(&mut app, waiting) == 1);
        hold.check().unwrap();
        drop(hold);
        writer.join().unwrap().unwrap();
    });
    assert_eq!(number(&mut app, "SELECT count(*) FROM t"), 1);
    assert_eq!(database.fence().unwrap(), Fence::Open);
}

#[test]
fn a_hold_that_cannot_be_taken_names_who_is_in_the_way() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("way_v1", "CREATE TABLE t (n int); CREATE TABLE u (n int)");
    let mut idle = sandbox.app("way_v1");
    idle.batch_execute("SET application_name = 'a console'; BEGIN; INSERT INTO u VALUES (1)").unwrap();
    let mut other = sandbox.app("way_v1");
    let short = Limit::within(Duration::from_millis(700));
    let error = database.hold(&short).map(drop).unwrap_err();
    let said = error.one_line();
    assert!(
        said.contains("process ") && said.contains("of the role 'way_v1' (idle in transaction for"),
        "{said}"
    );
    assert!(said.contains("'a console') still has the lock"), "{said}");
    other.batch_execute("SET lock_timeout = '5s'; INSERT INTO t VALUES (1)").unwrap();
    idle.batch_execute("COMMIT").unwrap();
    let hold = database.hold(&patience()).unwrap();
    let error = database.hold(&Limit::within(Duration::from_millis(300))).map(drop).unwrap_err();
    assert!(error.one_line().contains("of the role 'receiver'"), "{}", error.one_line());
    let flag = AtomicBool::new(true);
    let error = database.hold(&patience().unless(&flag)).map(drop).unwrap_err();
    assert!(error.one_line().ends_with("it was cancelled"), "{}", error.one_line());
    drop(hold);
}

#[test]
fn a_long_transaction_that_ends_in_time_is_waited_for() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("long_v1", "CREATE TABLE t (n int)");
    let mut idle = sandbox.app("long_v1");
    idle.batch_execute("BEGIN; INSERT INTO t VALUES (1)").unwrap();
    thread::scope(|scope| {
        let holder = scope.spawn(|| database.hold(&patience()).map(|hold| hold.check()).unwrap());
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'long_v1' AND usename = 'receiver' AND wait_event_type = 'Lock'";
        let mut postgres = sandbox.server.postgres("postgres");
        until("the holder waits", || number(&mut postgres, waits) == 1);
        idle.batch_execute("COMMIT").unwrap();
        holder.join().unwrap().unwrap();
    });
}

/// Set for the process that a test starts: this test binary again.
const HELD: &str = "RECEIVER_TEST_PG_HOLD";

/// What it finds there: the socket's directory, then the secrets.
pub(super) fn as_told(value: &std::ffi::OsStr, name: &str) -> Postgres {
    let value = value.to_string_lossy().into_owned();
    let (server, secrets) = value.split_once('|').unwrap();
    let ground = Ground {
        agent: None,
        lender: None,
        server: Some(server.into()),
        secrets: secrets.into(),
        admin: Some(ADMIN.into()),
        password_file: None,
    };
    Postgres::at(&ground, spot(name))
}

pub(super) fn told(sandbox: &Sandbox) -> PathBuf {
    format!("{}|{}", sandbox.server.directory.display(), sandbox.ground.secrets.display()).into()
}

#[test]
fn a_hold_dies_with_its_process() {
    if let Some(value) = std::env::var_os(HELD) {
        let _hold = as_told(&value, "dying_v1").hold(&patience()).unwrap();
        thread::sleep(Duration::from_secs(60));
        return;
    }
    let sandbox = Sandbox::new();
    let database = sandbox.database("dying_v1", "CREATE TABLE t (n int)");
    let mut holder =
        again("data::postgres::tests::hold::a_hold_dies_with_its_process", HELD, &told(&sandbox));
    let mut postgres = sandbox.server.postgres("dying_v1");
    let held =
        "SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation = 't'::regclass AND granted";
    until("the other process holds", || number(&mut postgres, held) == 1);
    holder.kill().unwrap();
    holder.wait().unwrap();
    sandbox.app("dying_v1").batch_execute("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(database.fence().unwrap(), Fence::Open);
}

const COPIED: &str = "RECEIVER_TEST_PG_COPY";

#[test]
fn a_copy_whose_process_is_killed_leaves_what_remove_takes_away() {
    if let Some(value) = std::env::var_os(COPIED) {
        as_told(&value, "killed_v1").snapshot(&spot("killed_v2"), &patience(), &mut silent).unwrap();
        return;
    }
    let sandbox = Sandbox::new();
    let sql = "CREATE TABLE t (n int, s text); INSERT INTO t SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 100000) g; CREATE INDEX ON t (s, n)";
    let database = sandbox.database("killed_v1", sql);
    let copy = sandbox.at("killed_v2");
    let mut postgres = sandbox.server.postgres("postgres");
    for state in ["COPY%FROM STDIN%", "CREATE INDEX%", "CREATE DATABASE \"killed_v2\"%"] {
        let mut copier = again(
            "data::postgres::tests::hold::a_copy_whose_process_is_killed_leaves_what_remove_takes_away",
            COPIED,
            &told(&sandbox),
        );
        let seen = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '{state}' AND state = 'active' AND (datname = 'killed_v2' OR query LIKE '%killed\\_v2%') AND pid <> pg_backend_pid()"
        );
        until(state, || number(&mut postgres, &seen) > 0);
        copier.kill().unwrap();
        copier.wait().unwrap();
        assert!(sandbox.ground.secrets.join("killed_v2").exists(), "what was begun is known as receiver's");
        copy.remove().unwrap();
        assert!(!copy.exists().unwrap());
        let left = "SELECT (SELECT count(*) FROM pg_database WHERE datname = 'killed_v2') + (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'killed\\_v2%')";
        assert_eq!(number(&mut postgres, left), 0);
        assert_eq!(
            fs::read_dir(&sandbox.ground.secrets).unwrap().count(),
            1,
            "only the original's password is left"
        );
    }
    database.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
    copy.verify(database.spot(), &patience()).unwrap();
}

#[test]
fn a_server_that_dies_ends_hold_and_copy_with_a_sentence_and_loses_nothing() {
    let mut own = Server::start("-c max_connections=12");
    // One that the test may kill; it lives as long as the process, which is not long.
    let server: &'static Server =
        Box::leak(Box::new(Server { directory: own.directory.clone(), watchdog: again_nothing() }));
    let sandbox = Sandbox::on(server);
    let sql = "CREATE TABLE t (n int, s text); INSERT INTO t SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 100000) g";
    let database = sandbox.database("crashed_v1", sql);
    let copy = sandbox.at("crashed_v2");
    let hold = database.hold(&patience()).unwrap();
    thread::scope(|scope| {
        let copying = scope.spawn(|| database.snapshot(copy.spot(), &patience(), &mut silent));
        let mut postgres = sandbox.server.postgres("postgres");
        until("the copy runs", || {
            number(
                &mut postgres,
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%STDIN%' AND state = 'active'",
            ) > 0
        });
        own.kill();
        let error = copying.join().unwrap().unwrap_err();
        assert!(error.one_line().contains("the PostgreSQL server at "), "{}", error.one_line());
    });
    let error = hold.check().unwrap_err();
    assert!(error.one_line().contains("the hold of 'crashed_v1' is lost"), "{}", error.one_line());
    assert!(hold.fence("it is retired").is_err());
    own.start_again();
    assert_eq!(database.fence().unwrap(), Fence::Open);
    sandbox.app("crashed_v1").batch_execute("INSERT INTO t VALUES (0, '')").unwrap();
    copy.remove().unwrap();
    assert!(!copy.exists().unwrap());
    full(&sandbox, &database);
    own.kill();
}

/// The server has no connection left.
fn full(sandbox: &Sandbox, database: &Postgres) {
    let mut taken = Vec::new();
    let refused = loop {
        match sandbox.try_app("crashed_v1", Access::Write) {
            Ok(client) => taken.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code().map(|code| code.code()), Some("53300"));
    let error = database.hold(&patience()).map(drop).unwrap_err();
    assert!(error.one_line().contains("has no connection left"), "{}", error.one_line());
    assert!(error.innermost_hint().unwrap().contains("max_connections"));
}

fn again_nothing() -> Child {
    Command::new("true").spawn().unwrap()
}

fn make_tables(sandbox: &Sandbox, name: &str, count: usize) {
    let mut app = sandbox.app(name);
    for some in (0..count).step_by(100) {
        let end = some + 99;
        app.batch_execute(&format!(
            "DO $$ BEGIN FOR i IN {some}..{end} LOOP EXECUTE 'CREATE TABLE t' || i || ' (n int)'; END LOOP; END $$"
        ))
        .unwrap();
    }
}

#[test]
fn thousands_of_tables_are_held_fenced_and_opened() {
    let sandbox = Sandbox::new();
    let database = sandbox.at("many_v1");
    database.create().unwrap();
    make_tables(&sandbox, "many_v1", 2000);
    assert_eq!(database.findings().unwrap(), []);
    retire(&database);
    assert_eq!(database.fence().unwrap(), Fence::Whole);
    database.unfence().unwrap();
    assert_eq!(database.fence().unwrap(), Fence::Open);
}

#[test]
fn too_many_tables_for_the_servers_locks_are_refused_with_the_setting() {
    let server: &'static Server =
        Box::leak(Box::new(Server::start("-c max_connections=20 -c max_locks_per_transaction=10")));
    let sandbox = Sandbox::on(server);
    let database = sandbox.at("toomany_v1");
    database.create().unwrap();
    make_tables(&sandbox, "toomany_v1", 6000);
    let error = database.hold(&patience()).map(drop).unwrap_err();
    assert!(error.one_line().contains("no room for so many locks"), "{}", error.one_line());
    assert!(error.innermost_hint().unwrap().contains("max_locks_per_transaction"));
    assert!(database.findings().unwrap()[0].cure.contains("max_locks_per_transaction"));
}
