//! What is noted, what is proved of it, and that nothing of it shows.

use super::*;
use crate::data::way::Changes;

const TABLES: &str = "CREATE TABLE shelf (id serial PRIMARY KEY, name text UNIQUE);
    CREATE TABLE book (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, shelf int REFERENCES shelf ON DELETE CASCADE, n int);
    CREATE TABLE part (a int, b date, v text, PRIMARY KEY (a, b)) PARTITION BY RANGE (b);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
    CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
    CREATE SCHEMA \"Geo\"; CREATE TABLE \"Geo\".\"Odd \"\" name\" (\"the \"\" Key\" uuid PRIMARY KEY, v bytea);
    CREATE TABLE loose (x int);
    INSERT INTO shelf (name) VALUES ('a'), ('b'); INSERT INTO book (shelf, n) VALUES (1, 1), (1, 2), (2, 3);
    INSERT INTO part VALUES (1, '2020-05-05', 'x'), (1, '2021-05-05', 'y')";

fn captured(database: &Postgres) -> Vec<String> {
    database.captured().unwrap().unwrap().gaps
}

#[test]
fn every_row_that_changes_is_noted_once_whatever_changed_it() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("noted_v4", TABLES);
    assert_eq!(database.captured().unwrap(), None);
    let before = database.schema().unwrap();
    let capture = database.capture("noted_v3", &patience()).unwrap();
    assert!(capture.is_whole(), "{capture:?}");
    assert_eq!(capture.peer, "noted_v3");
    assert_eq!(database.schema().unwrap(), before);
    let mut app = sandbox.app("noted_v4");
    app.batch_execute(
        "DELETE FROM shelf WHERE id = 1; UPDATE book SET n = 4; UPDATE shelf SET id = 7 WHERE false;
         INSERT INTO shelf VALUES (9, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y';
         INSERT INTO shelf VALUES (9, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y';
         UPDATE part SET b = '2021-06-06' WHERE b = '2020-05-05'; INSERT INTO loose VALUES (1);
         INSERT INTO \"Geo\".\"Odd \"\" name\" VALUES ('00000000-0000-0000-0000-000000000001', 'x')",
    )
    .unwrap();
    let changes = database.changes(&patience()).unwrap();
    let of = |written, deleted| Changes { written, deleted };
    assert_eq!(changes["shelf"], of(1, 1));
    assert_eq!(changes["book"], of(1, 2), "cascades are noted");
    assert_eq!(changes["part"], of(1, 1), "a row that went to another partition");
    assert_eq!(changes["Geo.Odd \" name"], of(1, 0));
    assert_eq!(changes.len(), 4);
    for refused in [
        "SELECT * FROM receiver.capture",
        "DELETE FROM receiver.noted",
        "CREATE TRIGGER t AFTER INSERT ON loose FOR EACH ROW EXECUTE FUNCTION receiver.note_1()",
    ] {
        let error = app.batch_execute(refused).unwrap_err();
        assert!(error.as_db_error().unwrap().message().contains("denied for schema receiver"), "{error:?}");
    }
    let again = database.capture("noted_v5", &patience()).unwrap();
    assert_eq!((again.peer.as_str(), again.is_whole()), ("noted_v5", true));
    assert!(database.changes(&patience()).unwrap().is_empty(), "it begins anew");
}

#[test]
fn what_lost_its_triggers_is_a_gap() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("gap_v4", TABLES);
    let gap = |sql: &str, says: &[&str]| {
        assert_eq!(database.capture("gap_v3", &patience()).unwrap().gaps, [] as [&str; 0]);
        sandbox.app("gap_v4").batch_execute(sql).unwrap();
        assert_eq!(captured(&database), says, "{sql}");
    };
    gap(
        "ALTER TABLE shelf DISABLE TRIGGER receiver_note",
        &["table 'shelf' was changed, and lost what watched it"],
    );
    gap(
        "ALTER TABLE shelf ENABLE TRIGGER receiver_note",
        &["table 'shelf' was changed, and lost what watched it"],
    );
    gap("DROP TRIGGER receiver_emptied ON part_2", &["table 'part' was changed, and lost what watched it"]);
    gap(
        "ALTER TABLE part_1 DISABLE TRIGGER receiver_note",
        &["table 'part' was changed, and lost what watched it"],
    );
    gap("CREATE TABLE new (id int PRIMARY KEY)", &["table 'new' came after it began"]);
    gap("ALTER TABLE loose ADD PRIMARY KEY (x)", &["table 'loose' came after it began"]);
    gap("DROP TABLE new", &["table 'new' is gone, or cannot be watched any more"]);
    gap("ALTER TABLE shelf RENAME TO board", &["table 'shelf' has the name 'board' now"]);
    gap(
        "ALTER TABLE board ALTER COLUMN id TYPE bigint",
        &["table 'board' was changed, and lost what watched it"],
    );
    gap(
        "ALTER TABLE part DETACH PARTITION part_1",
        &["table 'part' got or lost partitions", "table 'part_1' came after it began"],
    );
    gap("ALTER TABLE board ADD COLUMN more int", &[]);
}

#[test]
fn nothing_of_a_capture_is_in_a_copy_or_left_by_its_end() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("trace_v4", TABLES);
    let empty = database.census(&patience()).unwrap();
    database.capture("trace_v3", &patience()).unwrap();
    assert_eq!(database.census(&patience()).unwrap(), empty);
    assert_eq!(database.rows(&patience()).unwrap(), empty.rows);
    let copy = sandbox.at("trace_v5");
    database.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
    copy.verify(database.spot(), &patience()).unwrap();
    assert_eq!(copy.captured().unwrap(), None);
    let ours = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'receiver\\_%'";
    assert_eq!(number(&mut sandbox.app("trace_v5"), ours), 0);
    let mut reader = sandbox.app("trace_v4");
    reader.batch_execute("BEGIN; SELECT * FROM shelf").unwrap();
    database.end_capture().unwrap();
    assert_eq!(database.captured().unwrap(), None);
    assert_eq!(number(&mut sandbox.app("trace_v4"), ours), 2, "those that a reader keeps are off");
    sandbox.app("trace_v4").batch_execute("INSERT INTO shelf (name) VALUES ('z')").unwrap();
    assert!(database.changes(&patience()).unwrap().is_empty());
    assert!(database.capture("trace_v3", &patience()).unwrap().is_whole(), "and are taken up again");
    reader.batch_execute("COMMIT").unwrap();
    sandbox.app("trace_v4").batch_execute("DELETE FROM shelf WHERE name = 'z'").unwrap();
    assert_eq!(database.changes(&patience()).unwrap()["shelf"].deleted, 1);
    database.end_capture().unwrap();
    database.end_capture().unwrap();
    assert_eq!(number(&mut sandbox.app("trace_v4"), ours), 0);
    let left = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('receiver')";
    assert_eq!(number(&mut sandbox.app("trace_v4"), left), 0);
}

#[test]
fn a_dump_of_a_noted_database_is_loaded_again_also_one_made_by_hand() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("dumped_v4", TABLES);
    database.capture("dumped_v3", &patience()).unwrap();
    sandbox.app("dumped_v4").batch_execute("DELETE FROM shelf WHERE id = 1").unwrap();
    let place = tempfile::tempdir().unwrap();
    let other = sandbox.at("dumped_v5");
    other.create().unwrap();
    let ours = place.path().join("ours.pgdump");
    database.dump(&ours, &patience(), &mut silent).unwrap();
    let by_hand = place.path().join("by-hand.pgdump");
    let made = Command::new("pg_dump")
        .args(["-Fc", "-U", "postgres", "-h"])
        .arg(&sandbox.server.directory)
        .arg("-f")
        .arg(&by_hand)
        .arg("dumped_v4")
        .status();
    assert!(made.unwrap().success());
    for file in [ours, by_hand] {
        other.load(&file, sandbox.at("dumped_v5_load").spot(), &patience()).unwrap();
        assert_eq!(other.rows(&patience()).unwrap(), database.rows(&patience()).unwrap());
        assert_eq!(other.schema().unwrap(), database.schema().unwrap());
        assert_eq!(other.captured().unwrap(), None);
        other.capture("dumped_v3", &patience()).unwrap();
    }
}
