use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, Mutex};

use super::*;
use crate::data::Fence;

const TABLES: &str = "CREATE TABLE t (n int PRIMARY KEY); CREATE TABLE c (n int REFERENCES t ON DELETE CASCADE); INSERT INTO t VALUES (0);
    CREATE TABLE p (n int) PARTITION BY LIST (n); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE SCHEMA s; CREATE TABLE s.\"o'dd\" (n int)";

#[test]
fn a_retired_database_refuses_every_write_of_everyone_and_can_be_read() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("retired_v1", TABLES);
    let mut postgres = sandbox.server.postgres("retired_v1");
    postgres.batch_execute("CREATE ROLE writer LOGIN PASSWORD 'x'; GRANT CONNECT ON DATABASE retired_v1 TO writer; GRANT ALL ON ALL TABLES IN SCHEMA public TO writer").unwrap();
    let mut app = sandbox.app("retired_v1");
    let mut reader = sandbox.reader("retired_v1");
    let mut writer = sandbox.server.connect("retired_v1", "writer", "x");
    let prepared = writer.prepare("INSERT INTO t VALUES ($1)").unwrap();
    writer.execute(&prepared, &[&1]).unwrap();
    assert_eq!(database.fence().unwrap(), Fence::Open);
    retire(&database);
    assert_eq!(database.fence().unwrap(), Fence::Whole);
    assert!(app.batch_execute("INSERT INTO t VALUES (5)").is_err(), "the owner's connection was ended");
    let refused = sandbox.try_app("retired_v1", Access::Write).map(drop).unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("not permitted to log in"));
    for (role, client) in [("writer", &mut writer), ("superuser", &mut postgres)] {
        for write in [
            "INSERT INTO t VALUES (9)",
            "UPDATE t SET n = 8",
            "DELETE FROM t",
            "TRUNCATE t, c",
            "INSERT INTO p VALUES (1)",
            "INSERT INTO p1 VALUES (1)",
            "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
            "COPY t FROM PROGRAM 'echo 3'",
            "MERGE INTO t USING (VALUES (4)) v (n) ON t.n = v.n WHEN NOT MATCHED THEN INSERT VALUES (v.n)",
        ] {
            let is_known = version(sandbox.server) >= 150_000 || !write.starts_with("MERGE");
            if role == "writer" && write.starts_with("COPY") || !is_known {
                continue;
            }
            let error = client.batch_execute(write).unwrap_err();
            let said = error.as_db_error().unwrap();
            assert_eq!(said.message(), "receiver: version 3 of shop is retired", "{role}: {write}");
            assert_eq!(said.code().code(), "25006");
        }
    }
    postgres.batch_execute("SET session_replication_role = replica").unwrap();
    assert!(postgres.batch_execute("DELETE FROM t").is_err());
    assert!(postgres.batch_execute("INSERT INTO s.\"o'dd\" VALUES (1)").is_err());
    let error = writer.execute(&prepared, &[&2]).unwrap_err();
    assert!(
        error.as_db_error().unwrap().message().contains("is retired"),
        "a statement that was prepared before"
    );
    assert_eq!(number(&mut reader, "SELECT count(*) FROM t"), 2);
    assert_eq!(number(&mut sandbox.reader("retired_v1"), "SELECT count(*) FROM t"), 2);
    let schema = database.schema().unwrap();
    database.unfence().unwrap();
    assert_eq!(database.fence().unwrap(), Fence::Open);
    assert_eq!(schema, database.schema().unwrap(), "the fence is not part of the schema");
    writer.execute(&prepared, &[&2]).unwrap();
    sandbox.app("retired_v1").batch_execute("DELETE FROM t").unwrap();
    database.unfence().unwrap();
    retire(&database);
    assert_eq!(database.fence().unwrap(), Fence::Whole);
}

#[test]
fn who_waits_for_the_lock_meets_the_fence_however_it_writes() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("waiting_v1", "CREATE TABLE t (n bigint); CREATE TABLE u (n bigint)");
    sandbox.server.postgres("waiting_v1").batch_execute(
        "CREATE ROLE around LOGIN PASSWORD 'x'; GRANT CONNECT ON DATABASE waiting_v1 TO around; GRANT ALL ON t, u TO around",
    ).unwrap();
    // To prepare a statement takes the lock, too.
    let (ready, held) = (Barrier::new(25), Barrier::new(25));
    let (succeeded, said) = (AtomicU32::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for kind in 0..24 {
            let (succeeded, said, sandbox, ready, held) = (&succeeded, &said, &sandbox, &ready, &held);
            scope.spawn(move || {
                // The app's own role, and one that no connection of is ended.
                let mut client = if kind % 2 == 0 { sandbox.app("waiting_v1") } else { sandbox.server.connect("waiting_v1", "around", "x") };
                let prepared = client.prepare("INSERT INTO t VALUES ($1)").unwrap();
                ready.wait();
                held.wait();
                let n = i64::from(kind);
                let wrote = match kind / 2 % 4 {
                    0 => client.execute(&prepared, &[&n]).map(drop),
                    1 => client.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM u; INSERT INTO u VALUES (1); COMMIT"),
                    2 => client.batch_execute("WITH x AS (INSERT INTO t VALUES (1) RETURNING n) INSERT INTO u SELECT n FROM x"),
                    _ => client.batch_execute("BEGIN; DO $$ BEGIN UPDATE t SET n = 1; DELETE FROM u; END $$; COMMIT"),
                };
                match wrote {
                    Ok(()) => drop(succeeded.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => said.lock().unwrap().push((kind % 2, error.as_db_error().map(|said| said.message().to_owned()))),
                }
            });
        }
        ready.wait();
        let hold = database.hold(&patience()).unwrap();
        held.wait();
        let mut postgres = sandbox.server.postgres("waiting_v1");
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'waiting_v1' AND wait_event_type = 'Lock'";
        until("all writers wait", || number(&mut postgres, waiting) == 24);
        hold.fence("version 3 of shop is retired").unwrap();
    });
    assert_eq!(succeeded.into_inner(), 0);
    let said = said.into_inner().unwrap();
    let told =
        said.iter().filter(|(_, said)| said.as_deref() == Some("receiver: version 3 of shop is retired"));
    assert_eq!(told.filter(|(around, _)| *around == 1).count(), 12, "{said:?}");
    let rows = database.rows(&patience()).unwrap();
    assert!(rows.values().all(|&count| count == 0), "{rows:?}");
}

#[test]
fn what_comes_after_the_fence_is_a_gap_that_is_named() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("gaps_v1", "CREATE TABLE t (n int); CREATE TABLE u (n int)");
    retire(&database);
    let mut postgres = sandbox.server.postgres("gaps_v1");
    postgres
        .batch_execute(
            "CREATE TABLE late (n int); DROP TRIGGER receiver_fence ON t; ALTER ROLE gaps_v1 LOGIN",
        )
        .unwrap();
    let Fence::Gaps(gaps) = database.fence().unwrap() else { panic!("no gaps") };
    assert_eq!(gaps, ["late", "t", "the role 'gaps_v1' can log in"]);
    postgres.batch_execute("DROP TABLE late").unwrap();
    database.unfence().unwrap();
    assert_eq!(database.fence().unwrap(), Fence::Open);
}

#[test]
fn a_table_that_is_made_during_the_hold_stops_the_fence_and_writers_go_on() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("during_v1", "CREATE TABLE t (n int)");
    let hold = database.hold(&patience()).unwrap();
    let mut app = sandbox.app("during_v1");
    app.batch_execute("CREATE TABLE late (n int); INSERT INTO late VALUES (1)").unwrap();
    let error = hold.fence("version 3 is retired").unwrap_err();
    assert!(error.one_line().contains("the table 'late' was made during the hold"), "{}", error.one_line());
    assert_eq!(database.fence().unwrap(), Fence::Open);
    app.batch_execute("INSERT INTO t VALUES (1)").unwrap();
}

#[test]
fn no_reader_keeps_the_fence_from_being_taken_down_and_raised_again() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("busy_v1", "CREATE TABLE t (n int)");
    retire(&database);
    let mut reader = sandbox.reader("busy_v1");
    reader.batch_execute("BEGIN; SELECT * FROM t").unwrap();
    database.unfence().unwrap();
    assert_eq!(database.fence().unwrap(), Fence::Open);
    sandbox.app("busy_v1").batch_execute("INSERT INTO t VALUES (1)").unwrap();
    retire(&database);
    assert_eq!(database.fence().unwrap(), Fence::Whole);
    assert!(sandbox.server.postgres("busy_v1").batch_execute("INSERT INTO t VALUES (1)").is_err());
    reader.batch_execute("COMMIT").unwrap();
    database.unfence().unwrap();
    let left = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'receiver%'";
    assert_eq!(number(&mut sandbox.app("busy_v1"), left), 0);
}

#[test]
fn a_copy_of_a_retired_database_is_none_and_has_nothing_of_receivers() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("source_v1", TABLES);
    retire(&database);
    let copy = sandbox.at("source_v2");
    database.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
    assert_eq!(copy.fence().unwrap(), Fence::Open);
    let mut app = sandbox.app("source_v2");
    app.batch_execute("INSERT INTO t VALUES (9)").unwrap();
    let ours = "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'receiver%') + (SELECT count(*) FROM pg_namespace WHERE nspname = 'receiver')";
    assert_eq!(number(&mut app, ours), 0);
    copy.freeze().unwrap();
    assert!(
        sandbox.try_app("source_v2", Access::Write).is_err() && app.batch_execute("DELETE FROM t").is_err()
    );
    assert_eq!(number(&mut sandbox.reader("source_v2"), "SELECT count(*) FROM t"), 2);
    copy.sync().unwrap();
}
