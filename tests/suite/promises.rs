//! The promises that have no theme of their own, and the table that leads from each to its tests.

use crate::plumbing::snapshot;
use crate::world::World;

#[test]
fn every_promise_of_the_documents_leads_to_a_test_of_its_name() {
    let design = include_str!("../../docs/design.md");
    let start = design.find("## Promises").unwrap();
    let table = &design[start..start + design[start..].find("## Decisions").unwrap()];
    let mut found = 0;
    for part in table.split('`').collect::<Vec<_>>().windows(3) {
        let (file, name) = (part[0], part[2]);
        if std::path::Path::new(file).extension().is_none_or(|end| end != "rs") || part[1] != " " {
            continue;
        }
        let path = format!("{}/tests/suite/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.contains(&format!("fn {name}(")), "{file} has no test {name}");
        found += 1;
    }
    assert!(found >= 20, "only {found} tests are named");
}

/// An application on SQLite that is live with two rows, and whose stages can be made to fail.
fn app() -> World {
    let world = World::with_sql();
    world.sql("INSERT INTO note (text) VALUES ('bread'), ('milk');");
    world
}

fn settings(more: &str) -> String {
    format!(
        "[stages]\nsyncdb = {{ sql = [\"schema.sql\"] }}\nmigration = {{ sql = [\"from-previous.sql\"] }}\n{more}\n\
         [database]\nengine = \"sqlite\"\ncarry = \"empty\"\n"
    )
}

#[test]
pub fn nothing_before_the_switch_changes_what_is_live() {
    let world = app();
    let live = world.live().unwrap();
    world.until_idle();
    let files = snapshot(&world.app().join("versions").join(&live));
    let schema = "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL, done INTEGER);\n";
    let broken_schema =
        "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL, owner TEXT NOT NULL);\n";
    let failures = [
        ("build", settings("build = \"echo x > made; exit 1\""), None),
        ("assets", settings("assets = \"exit 1\""), None),
        ("check", settings("check = \"exit 1\""), None),
        ("syncdb", settings(""), Some("CREATE TABLE note (\n")),
        ("migration", settings(""), Some(broken_schema)),
        ("check", settings("check = \"exit 1\""), Some(schema)),
    ];
    for (stage, settings, schema) in failures {
        world.file("receiver.toml", &settings).file("index.html", stage);
        if let Some(schema) = schema {
            world.file("schema.sql", schema);
        }
        world.commit(stage);
        world.push().ok().says(&format!("NOT LIVE: still {live}; stage `{stage}` failed"));
        world.until_idle();
        assert_eq!(world.live().unwrap(), live, "{stage}");
        assert_eq!(snapshot(&world.app().join("versions").join(&live)), files, "{stage}");
        // Its database has its rows, and takes writes.
        world.sql("INSERT INTO note (text) VALUES ('more'); DELETE FROM note WHERE text = 'more';");
        assert_eq!(world.sql("SELECT text FROM note;"), "text\nbread\nmilk\n", "{stage}");
        assert_eq!(world.receiver(&["doctor", "app"]).ok().code, 0);
    }
}

#[test]
pub fn rollback_is_always_possible_to_every_kept_release() {
    let world = app();
    for (page, column) in [
        ("two", ""),
        ("three", ", done INTEGER"),
        ("four", ", done INTEGER"),
        ("five", ", done INTEGER, late INTEGER"),
    ] {
        world.file(
            "schema.sql",
            &format!("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL{column});\n"),
        );
        world.file("index.html", &format!("{page}\n"));
        world.commit(page);
        world.push().ok().says("=====> live: ");
    }
    let releases = world.list()["releases"].as_array().unwrap().clone();
    assert_eq!(releases.len(), 5, "all of them are kept");
    // A broken push in between, a lock, a withdrawn target: none of it matters.
    world.file("receiver.toml", &settings("build = \"exit 1\"")).commit("broken");
    world.push().ok().says("NOT LIVE");
    world.receiver(&["lock", "app", "-m", "no deploys"]).ok();
    let oldest_first: Vec<_> = releases.iter().rev().chain(&releases).collect();
    for release in oldest_first {
        let id = release["id"].as_str().unwrap();
        if world.live().unwrap() == id {
            continue;
        }
        world
            .receiver(&["rollback", "app", id, "--without-new-data"])
            .ok()
            .says(&format!("=====> live: {id}"));
        assert_eq!(world.live().unwrap(), id);
        let page = release["subject"].as_str().unwrap();
        assert_eq!(world.live_file("index.html"), format!("{page}\n"));
        world.sql("INSERT INTO note (text) VALUES ('x');");
    }
}

#[test]
fn a_copy_that_a_process_could_write_never_becomes_live() {
    let world = World::with_app();
    let syncdb = "sqlite3 \"$RECEIVER_DATABASE_NAME\" < schema.sql; \
                  if [ \"$RECEIVER_REHEARSAL\" = 1 ]; then \
                  sqlite3 \"$RECEIVER_DATABASE_NAME\" \"INSERT INTO note (text) VALUES ('rehearsed')\"; \
                  echo \"$RECEIVER_DATABASE_NAME\" > \"$RECEIVER_SHARED_DIR/rehearsed\"; fi";
    let settings = format!("[stages]\nsyncdb = '''{syncdb}'''\n[database]\nengine = \"sqlite\"\n");
    world.file("receiver.toml", &settings);
    world.file("schema.sql", "CREATE TABLE IF NOT EXISTS note (text TEXT);\n").commit("one");
    world.push().ok().says("=====> live: 0/");
    world.sql("INSERT INTO note (text) VALUES ('bread');");
    world.file("schema.sql", "CREATE TABLE IF NOT EXISTS more (text TEXT);\n").commit("two");
    world.push().ok().says("=====> live: 1/");
    let copy = std::fs::read_to_string(world.app().join("shared/rehearsed")).expect("it was rehearsed");
    assert!(!std::path::Path::new(copy.trim()).exists());
    assert_ne!(copy.trim(), world.database(1).display().to_string());
    assert_eq!(world.sql("SELECT text FROM note;"), "text\nbread\n");
}
