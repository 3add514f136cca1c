//! Many tables: what is done for each is done once, whatever their number, and a version opens over thousands of them.

use crate::backed::{Backed, SQL};
use crate::servers::Engine;

/// As many tables beside those of the fixture, each with a key, a unique name and a reference to the one before it.
fn tables(count: usize) -> String {
    let table = |n: usize| {
        let parent =
            if n == 0 { String::new() } else { format!(", FOREIGN KEY (parent) REFERENCES m{} (id)", n - 1) };
        format!(
            "CREATE TABLE IF NOT EXISTS m{n} (id INTEGER PRIMARY KEY, name VARCHAR(40) UNIQUE, parent INTEGER{parent});\n"
        )
    };
    (0..count).map(table).collect()
}

/// Live with so many tables; nobody minds how long writers wait.
fn live(engine: Engine, count: usize) -> Backed {
    // PostgreSQL keeps a place for each lock, and MariaDB a table open for each.
    let more: &[&str] = match engine {
        Engine::Sqlite => &[],
        Engine::Mysql => &["--table-open-cache=20000", "--table-definition-cache=20000"],
        Engine::Postgres => &["-c", "max_locks_per_transaction=1024", "-c", "log_statement=all"],
    };
    let world = Backed::with_options(engine, more);
    world.receiver(&["config", "app", "database.max_pause", "20m"]).ok();
    world.settings(SQL, "");
    let schema = std::fs::read_to_string(world.laptop().join("schema.sql")).unwrap();
    world.file("schema.sql", &format!("{schema}{}", tables(count)));
    world.commit("many tables");
    world.push().ok().says("=====> live: 0/");
    world.enter(&[(1, "one")]);
    world.by(&world.url(None), "INSERT INTO m0 (id, name) VALUES (1, 'first')").unwrap();
    world
}

/// A version opens, a rollback carries rows back, and forward again.
fn there_and_back(world: &Backed, count: usize) {
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    let last = count - 1;
    world.by(&world.url(None), &format!("INSERT INTO m{last} (id, name) VALUES (7, 'seven')")).unwrap();
    world.by(&world.url(None), "INSERT INTO m1 (id, name, parent) VALUES (2, 'second', 1)").unwrap();
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    let ask = format!(
        "SELECT (SELECT count(*) FROM m{last}), (SELECT count(*) FROM m1), (SELECT count(*) FROM m0)"
    );
    assert_eq!(world.by(&world.url(None), &ask).unwrap().trim(), "1\t1\t1");
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    assert_eq!(world.by(&world.url(None), &ask).unwrap().trim(), "1\t1\t1");
    world.receiver(&["doctor", "app"]).ok();
    world.nothing_is_left_over();
}

/// `RECEIVER_LONG=1` takes three thousand on every engine, and any other number as many.
fn many(engine: Engine, usual: usize) {
    let long = std::env::var("RECEIVER_LONG").ok().and_then(|count| count.parse().ok());
    let count = long.map_or(usual, |count| if count == 1 { 3000 } else { count });
    let mut world = live(engine, count);
    too_many(&mut world);
    there_and_back(&world, count);
}

/// In no time at all they cannot be carried: that is known before anybody waits, and said with what to type.
fn too_many(world: &mut Backed) {
    let ticket = world.place().join("ticket");
    std::fs::write(&ticket, "").unwrap();
    world.receiver(&["config", "app", "database.max_pause", "20ms"]).ok();
    world.add_table("one_more");
    world.env.insert("RECEIVER_TEST_STOP_AT".into(), "held".into());
    world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
    let said = world.push().ok().says("(max_pause): nobody was held").says("NOT LIVE: still 0/");
    said.says("`receiver deploy app -o max-pause=").says("-o carry=shared");
    assert!(ticket.exists(), "it came to the hold");
    world.env.remove("RECEIVER_TEST_STOP_AT");
    world.only(&["app_v0"]);
    assert_eq!(world.entries(), "one");
    world.receiver(&["config", "app", "database.max_pause", "20m"]).ok();
}

#[test]
fn a_version_opens_over_many_tables_on_sqlite() {
    many(Engine::Sqlite, 600);
}

#[test]
fn a_version_opens_over_many_tables_on_mysql() {
    // Each definition waits for the server's own log: most of the time is its.
    many(Engine::Mysql, 80);
}

#[test]
fn a_version_opens_over_many_tables_on_postgres() {
    many(Engine::Postgres, 400);
}

/// How many statements the server was given so far: those that read, and all of them.
fn statements(world: &Backed) -> [usize; 2] {
    if world.engine == Engine::Postgres {
        let log = world.server().log();
        let all: Vec<&str> =
            log.lines().filter(|line| line.contains("statement: ") || line.contains("execute ")).collect();
        let reads = all.iter().filter(|line| line.to_uppercase().contains("SELECT ")).count();
        return [reads, all.len()];
    }
    let said =
        world.server().sql("", "SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_select', 'Questions')");
    let value = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name)).unwrap();
        line.split('\t').nth(1).unwrap().parse().unwrap()
    };
    [value("Com_select"), value("Questions")]
}

/// What a version that opens asks for each table more.
fn for_each_table(engine: Engine, ahead: bool) -> [usize; 2] {
    let [few, more] = [20, 120].map(|count| {
        let world = live(engine, count);
        let from = if ahead { "0s" } else { "1h" };
        world.receiver(&["config", "app", "database.copy_ahead", from]).ok();
        world.add_table("tag");
        let before = statements(&world);
        world.push().ok().says("=====> live: 1/");
        let after = statements(&world);
        [after[0] - before[0], after[1] - before[1]]
    });
    println!("{}: with 20 tables {few:?}, with 120 {more:?} (reads, all)", engine.name());
    [(more[0] - few[0]) / 100, (more[1] - few[1]) / 100]
}

/// What a rollback asks for each table more, where each of them could be needed for a row that changed, and none is.
fn for_each_table_of_a_rollback(engine: Engine) -> [usize; 2] {
    let [few, more] = [20, 120].map(|count| {
        let world = live(engine, count);
        world.add_table("tag");
        world.push().ok().says("=====> live: 1/");
        let insert = format!("INSERT INTO m{} (id, name) VALUES (7, 'seven')", count - 1);
        world.by(&world.url(None), &insert).unwrap();
        let before = statements(&world);
        world.receiver(&["rollback", "app"]).ok().says("1 row written");
        let after = statements(&world);
        [after[0] - before[0], after[1] - before[1]]
    });
    println!("{}: with 20 tables {few:?}, with 120 {more:?} (reads, all), back", engine.name());
    [(more[0] - few[0]) / 100, (more[1] - few[1]) / 100]
}

#[test]
fn a_rollback_makes_nothing_for_tables_of_which_no_row_goes_on_mysql() {
    let [reads, all] = for_each_table_of_a_rollback(Engine::Mysql);
    assert!(reads <= 2 && all <= 20, "{reads} reads and {all} statements for each table");
}

#[test]
fn a_rollback_makes_nothing_for_tables_of_which_no_row_goes_on_postgres() {
    let [reads, all] = for_each_table_of_a_rollback(Engine::Postgres);
    assert!(reads <= 1 && all <= 2, "{reads} reads and {all} statements for each table");
}

#[test]
fn what_is_asked_of_a_server_for_each_table_does_not_grow_with_their_number() {
    for (ahead, most) in [(false, [8, 60]), (true, [9, 80])] {
        let [reads, all] = for_each_table(Engine::Mysql, ahead);
        assert!(
            reads <= most[0] && all <= most[1],
            "MariaDB: {reads} reads and {all} statements for each table"
        );
    }
    for (ahead, most) in [(false, [30, 90]), (true, [30, 90])] {
        let [reads, all] = for_each_table(Engine::Postgres, ahead);
        assert!(
            reads <= most[0] && all <= most[1],
            "PostgreSQL: {reads} reads and {all} statements for each table"
        );
    }
}
