//! A version opens with its data: plain SQL and small shell stages, no framework.
//!
//! What is proved of writers that go on meanwhile stands in `writes.rs`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::world::{Said, World};

/// An app whose stages are these lines of `[stages]`, on SQLite with this carry, live with three notes.
pub fn with_notes(stages: &str, carry: &str) -> World {
    let world = World::with_app();
    world.file(
        "schema.sql",
        "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n",
    );
    world.file(
        "receiver.toml",
        &format!("[stages]\n{stages}\n[database]\nengine = \"sqlite\"\ncarry = \"{carry}\"\n"),
    );
    world.commit("notes");
    world.push().ok();
    world.sql("INSERT INTO note (text) VALUES ('one'), ('two'), ('three');");
    world
}

/// `schema.sql` gets one table more: the next push opens a version.
pub fn add_table(world: &World, name: &str) {
    let before = std::fs::read_to_string(world.laptop().join("schema.sql")).unwrap();
    world.file(
        "schema.sql",
        &format!("{before}CREATE TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY);\n"),
    );
    world.commit(name);
}

/// How many notes a database has, seen past receiver.
pub fn notes(path: &Path) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.query_row("SELECT count(*) FROM note", [], |row| row.get(0)).unwrap()
}

/// What a write into a database is answered.
pub fn write_into(path: &Path) -> Result<(), String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let written = connection.execute("INSERT INTO note (text) VALUES ('late')", []);
    written.map(drop).map_err(|error| error.to_string())
}

/// What is in a directory, by name, sorted; nothing where it is not there.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The only value that a query has, by `receiver db app shell`.
pub fn value(world: &World, query: &str) -> String {
    world.sql(query).lines().last().unwrap_or_default().to_owned()
}

const SQL: &str = "syncdb = { sql = [\"schema.sql\"] }";

/// Everything of the version that was to open is gone, and what was live is as it was.
#[track_caller]
fn nothing_but_the_new_version_is_gone(world: &World, live: &str, said: Said) {
    said.ok().says(&format!("NOT LIVE: still {live}"));
    assert_eq!(world.live().as_deref(), Some(live));
    assert_eq!(names(&world.app().join("versions")), ["0"], "{}", world.picture());
    assert_eq!(names(&world.app().join("receiver/databases")), ["0"], "{}", world.picture());
    assert_eq!(names(&world.app().join("receiver/databases/0")), ["app_v0.sqlite3"], "{}", world.picture());
    write_into(&world.database(0)).unwrap();
}

#[test]
fn rows_that_were_there_before_a_version_opens_are_there_after_it_by_copy() {
    let world = with_notes(SQL, "copy");
    add_table(&world, "tag");
    world.push().ok().says("changed: schema.sql → version 1").says("=====> live: 1/");
    assert_eq!(value(&world, "SELECT group_concat(text) FROM note;"), "one,two,three");
    assert_eq!(notes(&world.database(1)), 3);
    world.sql("INSERT INTO tag VALUES (1);");
}

#[test]
pub fn rows_that_were_there_before_a_version_opens_are_there_after_it_by_a_migration() {
    let world = World::with_sql();
    world.sql("INSERT INTO note (text) VALUES ('one'), ('two');");
    world.file(
        "schema.sql",
        "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT NOT NULL, stars INTEGER);\n",
    );
    world.file("from-previous.sql", "INSERT INTO note SELECT id, upper(text), 5 FROM previous.note;\n");
    world.commit("another schema");
    world.push().ok().says("=====> live: 1/");
    assert_eq!(value(&world, "SELECT group_concat(body || stars) FROM note;"), "ONE5,TWO5");
}

#[test]
fn a_shared_database_is_rehearsed_and_then_changed_in_place() {
    let world = with_notes(SQL, "shared");
    add_table(&world, "tag");
    world.push().ok().says("is shared").says("=====> live: 1/");
    assert!(!world.database(1).exists());
    world.sql("INSERT INTO tag VALUES (1);");
    assert_eq!(notes(&world.database(0)), 3);
    // A rollback changes no database: nothing stays behind.
    world.receiver(&["rollback"]).ok();
    write_into(&world.database(0)).unwrap();
    assert_eq!(notes(&world.database(0)), 4);
}

#[test]
fn a_shared_database_is_as_it_was_when_the_rehearsal_fails() {
    let world = with_notes(SQL, "shared");
    let live = world.live().unwrap();
    let before = value(&world, "SELECT group_concat(name) FROM sqlite_schema;");
    // What syncdb does is committed when the migration fails: only the rehearsal's copy may have it.
    let stages = format!("[stages]\n{SQL}\nmigration = \"exit 3\"\n");
    let database = "[database]\nengine = \"sqlite\"\ncarry = \"shared\"\n";
    world.file("receiver.toml", &format!("{stages}{database}"));
    add_table(&world, "tag");
    let said = world.push();
    assert_eq!(value(&world, "SELECT group_concat(name) FROM sqlite_schema;"), before);
    assert_eq!(notes(&world.database(0)), 3);
    nothing_but_the_new_version_is_gone(&world, &live, said);
}

#[test]
fn carry_shared_may_be_asked_for_once_by_the_push() {
    let world = with_notes(SQL, "copy");
    add_table(&world, "tag");
    world.push_with(&["-o", "carry=shared"]).ok().says("is shared").says("=====> live: 1/");
    assert!(!world.database(1).exists());
    add_table(&world, "other");
    world.push().ok().says("=====> live: 2/");
    assert_eq!(notes(&world.database(2)), 3);
    assert!(write_into(&world.database(0)).unwrap_err().contains("is retired"));
}

#[test]
fn the_shared_database_outlives_the_version_that_made_it() {
    let world = with_notes(SQL, "shared");
    world.receiver(&["config", "app", "keep.versions", "1"]).ok();
    world.receiver(&["config", "app", "keep.releases", "1"]).ok();
    for name in ["a", "b", "c", "d"] {
        add_table(&world, name);
        world.push().ok();
    }
    world.receiver(&["prune"]).ok();
    world.until_idle();
    assert_eq!(world.live().unwrap().split('/').next(), Some("4"));
    assert_eq!(notes(&world.database(0)), 3);
}

#[test]
fn a_failed_syncdb_removes_the_new_version_and_nothing_else_and_its_number_is_used_again() {
    let world = with_notes(SQL, "copy");
    let live = world.live().unwrap();
    let good = std::fs::read_to_string(world.laptop().join("schema.sql")).unwrap();
    world.file("schema.sql", &format!("{good}CREATE TABEL oops;\n"));
    world.commit("a typo");
    let said = world.push().says("schema.sql").says("TABEL");
    nothing_but_the_new_version_is_gone(&world, &live, said);
    assert_eq!(world.states(), ["failed", "live"]);
    world.file("schema.sql", &good);
    add_table(&world, "tag");
    world.push().ok().says("=====> live: 1/");
    assert_eq!(notes(&world.database(1)), 4);
}

#[test]
fn a_failed_migration_in_the_rehearsal_removes_the_new_version_and_nothing_else() {
    let world = with_notes(&format!("{SQL}\nmigration = \"echo no rows for you; exit 3\""), "copy");
    let live = world.live().unwrap();
    add_table(&world, "tag");
    let said = world.push().says("no rows for you").says("migration");
    nothing_but_the_new_version_is_gone(&world, &live, said);
}

#[test]
fn a_migration_that_fails_only_in_the_real_run_removes_the_new_version_and_nothing_else() {
    let stage = "migration = \"test \\\"$RECEIVER_REHEARSAL\\\" = 1 || { touch real-run; exit 3; }\"";
    let world = with_notes(&format!("{SQL}\n{stage}"), "copy");
    let live = world.live().unwrap();
    add_table(&world, "tag");
    let said = world.push().says("migration");
    nothing_but_the_new_version_is_gone(&world, &live, said);
    add_table(&world, "other");
    world.file("receiver.toml", &format!("[stages]\n{SQL}\n[database]\nengine = \"sqlite\"\n"));
    world.commit("without it");
    world.push().ok().says("=====> live: 1/");
}

#[test]
fn a_check_that_fails_in_the_first_version_leaves_nothing() {
    let world = World::with_app();
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY);\n");
    world.file(
        "receiver.toml",
        "[stages]\nsyncdb = { sql = [\"schema.sql\"] }\ncheck = \"exit 1\"\n[database]\nengine = \"sqlite\"\n",
    );
    world.commit("one");
    world.push().ok().says("NOT LIVE: nothing is live");
    assert_eq!(names(&world.app().join("versions")), Vec::<String>::new());
    assert_eq!(names(&world.app().join("receiver/databases")), Vec::<String>::new());
    assert_eq!(world.live(), None);
}

/// The shell's way to run SQL in a stage: Python's sqlite3, on the file that the variable names.
fn python(variable: &str, statement: &str) -> String {
    format!(
        "/usr/bin/python3 -c 'import os, sqlite3; c = sqlite3.connect({variable}); \
         c.execute(\\\"{statement}\\\"); c.commit()'"
    )
}

#[test]
fn the_previous_database_can_be_read_and_not_written_and_is_gone_afterwards() {
    let script = "import os, sqlite3, sys\n\
        path = os.environ['PREVIOUS_DATABASE_URL'][len('sqlite:///'):]\n\
        previous = sqlite3.connect('file:' + path + '?mode=ro', uri=True)\n\
        rows = previous.execute('SELECT id, text FROM note').fetchall()\n\
        try:\n    sqlite3.connect(path).execute('DELETE FROM note')\n    sys.exit('it could be written')\n\
        except sqlite3.OperationalError as error:\n    print('refused:', error)\n\
        own = sqlite3.connect(os.environ['RECEIVER_DATABASE_NAME'])\n\
        own.executemany('INSERT INTO note VALUES (?, ?)', rows)\nown.commit()\n\
        print(len(rows), 'rows from', path)\n";
    // Root may write whatever a file's mode is, unless it gives that right away first.
    let root = rustix::process::geteuid().is_root();
    let without = "setpriv --bounding-set=-dac_override --inh-caps=-dac_override ";
    let python = format!("{}/usr/bin/python3 -u migrate.py", if root { without } else { "" });
    let world = with_notes(&format!("{SQL}\nmigration = \"{python}\""), "empty");
    world.file("migrate.py", script);
    add_table(&world, "tag");
    let said = world.push().ok();
    let said = said.says("refused:").says("=====> live: 1/").says("3 rows from");
    assert_eq!(notes(&world.database(1)), 3);
    let talk = said.talk();
    let path = talk.lines().find_map(|line| line.split("3 rows from ").nth(1)).unwrap();
    assert!(!Path::new(path.trim()).exists(), "{path} is still there");
    assert_eq!(names(&world.app().join("receiver/databases")), ["0", "1"], "{}", world.picture());
}

#[test]
fn a_migration_in_sql_cannot_write_the_previous_database() {
    let world = World::with_sql();
    let live = world.live().unwrap();
    for statement in ["DELETE FROM previous.note", "CREATE TABLE previous.x (y)", "DROP TABLE previous.note"]
    {
        world.file("from-previous.sql", &format!("{statement};\n"));
        world.commit(statement);
        world.push().ok().says("NOT LIVE: still").says("from-previous.sql");
        assert_eq!(world.live().as_deref(), Some(&*live));
    }
}

#[test]
fn a_syncdb_that_changes_the_live_database_by_its_path_is_caught() {
    let world = with_notes(SQL, "copy");
    let live = world.live().unwrap();
    let path = format!("\\\"{}\\\"", world.database(0).display());
    let stage = python(&path, "CREATE TABLE sneaky (id INTEGER)");
    world
        .file("receiver.toml", &format!("[stages]\nsyncdb = \"{stage}\"\n[database]\nengine = \"sqlite\"\n"));
    add_table(&world, "tag");
    world.push().ok().says("NOT LIVE: still").says("live database");
    assert_eq!(world.live().as_deref(), Some(&*live));
    assert_eq!(names(&world.app().join("versions")), ["0"]);
}

#[test]
fn a_syncdb_that_uses_its_database_in_the_rehearsal_alone_is_caught_while_writers_wait() {
    let world = with_notes(SQL, "copy");
    let live = world.live().unwrap();
    world.file(
        "sync.py",
        "import os, sqlite3\nif os.environ.get('RECEIVER_REHEARSAL'):\n    \
         c = sqlite3.connect(os.environ['RECEIVER_DATABASE_NAME'])\n    \
         c.execute('CREATE TABLE tag (id INTEGER)')\n    c.commit()\n",
    );
    world.file(
        "receiver.toml",
        "[stages]\nsyncdb = \"/usr/bin/python3 sync.py\"\n[database]\nengine = \"sqlite\"\n",
    );
    add_table(&world, "tag");
    let said = world.push().ok().says("did not touch the database of this version");
    said.says("rehearse ").says("NOT LIVE: still");
    assert_eq!(world.live().as_deref(), Some(&*live));
    assert_eq!(names(&world.app().join("versions")), ["0"]);
    world.sql("INSERT INTO note (text) VALUES ('written after it');");
}

#[test]
fn a_syncdb_that_touches_no_database_of_its_own_is_told_so() {
    let world = with_notes(SQL, "copy");
    world.file("receiver.toml", "[stages]\nsyncdb = \"true\"\n[database]\nengine = \"sqlite\"\n");
    add_table(&world, "tag");
    let live = world.live().unwrap();
    let said = world.push().says("did not touch the database of this version").says("RECEIVER_DATABASE_NAME");
    nothing_but_the_new_version_is_gone(&world, &live, said);
}

#[test]
fn a_syncdb_that_makes_a_database_in_the_release_is_told_so() {
    let own = python("os.environ[\\\"RECEIVER_DATABASE_NAME\\\"]", "CREATE TABLE tag (id INTEGER)");
    let stray = python("\\\"db.sqlite3\\\"", "CREATE TABLE tag (id INTEGER)");
    let world = with_notes(SQL, "copy");
    world.file(
        "receiver.toml",
        &format!("[stages]\nsyncdb = \"{own} && {stray}\"\n[database]\nengine = \"sqlite\"\n"),
    );
    add_table(&world, "tag");
    let live = world.live().unwrap();
    let said = world.push().says("made a database of its own in the release: db.sqlite3");
    nothing_but_the_new_version_is_gone(&world, &live, said);
}

#[test]
fn build_finds_the_own_still_empty_database_of_a_version_that_opens() {
    let world = with_notes(SQL, "copy");
    let script = "import os, sqlite3\n\
        path = os.environ['RECEIVER_DATABASE_NAME']\n\
        assert os.environ['DATABASE_URL'] == 'sqlite:///' + path, os.environ['DATABASE_URL']\n\
        tables = sqlite3.connect('file:' + path + '?mode=ro', uri=True)\
        .execute(\"SELECT name FROM sqlite_master WHERE name NOT GLOB 'receiver_log_*'\").fetchall()\n\
        print('built with', os.path.basename(path), tables)\n";
    world.file("build.py", script);
    world.file(
        "receiver.toml",
        &format!("[stages]\nbuild = \"/usr/bin/python3 build.py\"\n{SQL}\n[database]\nengine = \"sqlite\"\n"),
    );
    add_table(&world, "tag");
    world.push().ok().says("built with app_v1.sqlite3 []").says("=====> live: 1/");
    // In the version that is open already it is the live one's.
    world.file("page.html", "x");
    world.commit("a page");
    world.push().ok().says("built with app_v1.sqlite3 [('note',), ('tag',)]");
}

#[test]
fn a_version_opens_without_a_database_all_the_same() {
    let world = World::with_app();
    world.file("receiver.toml", "[stages]\nsyncdb = \"echo made\"\n[database]\nengine = \"none\"\n");
    world.file("schema.sql", "CREATE TABLE a (b);\n");
    world.commit("one");
    world.push().ok().says("=====> live: 0/");
    world.file("schema.sql", "CREATE TABLE a (b, c);\n");
    world.commit("two");
    world.push().ok().says("changed: schema.sql → version 1").says("made").says("=====> live: 1/");
    assert_eq!(names(&world.app().join("receiver/databases")), Vec::<String>::new());
    world.receiver(&["rollback"]).ok().says("=====> live: 0/");
    world.receiver(&["db", "app", "url"]).fails(1).says("keeps no database for version 0");
}

#[test]
fn the_engine_may_change_from_none_to_sqlite_and_back() {
    let world = World::with_app();
    let engine = |engine: &str| {
        let text = format!("[stages]\n{SQL}\n[database]\nengine = \"{engine}\"\n");
        let sql = engine == "sqlite";
        world.file("receiver.toml", if sql { &text } else { "[database]\nengine = \"none\"\n" });
        world.commit(engine);
        world.push().ok()
    };
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT);\n");
    engine("none").says("=====> live: 0/");
    engine("sqlite").says("=====> live: 1/");
    world.sql("INSERT INTO note (text) VALUES ('one');");
    engine("none").says("=====> live: 2/");
    assert_eq!(world.status()["database"]["engine"], "none");
    assert_eq!(notes(&world.database(1)), 1);
    world.receiver(&["rollback"]).ok().says("=====> live: 1/");
    world.sql("INSERT INTO note (text) VALUES ('two');");
    assert_eq!(notes(&world.database(1)), 2);
    // From SQLite to none over a version leaves the rows behind: somebody has to say that they may.
    let first =
        world.list()["releases"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    world
        .receiver(&["rollback", "app", &first])
        .fails(1)
        .says("--without-new-data")
        .says("keeps no database for version 0");
    let said = world.receiver(&["rollback", "app", &first, "--dry-run"]).ok();
    said.says("everything in app_v1 stays there");
    world.receiver(&["rollback", "app", &first, "--without-new-data"]).ok();
    assert_eq!(world.live(), Some(first));
    let listed = world.receiver(&["db", "app", "list", "--json"]).ok().json();
    assert_eq!(listed["databases"][0]["retired"], true, "{listed}");
}

#[test]
fn databases_are_for_the_owner_alone() {
    let world = with_notes(SQL, "copy");
    add_table(&world, "tag");
    world.push().ok();
    world.sql("INSERT INTO note (text) VALUES ('x');");
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for version in [0, 1] {
        let file = world.database(version);
        assert_eq!(mode(file.clone()), 0o600);
        assert_eq!(mode(file.parent().unwrap().to_owned()), 0o700);
    }
}

#[test]
fn a_dump_that_is_loaded_brings_everything_back() {
    let world = with_notes(SQL, "copy");
    let output =
        world.command(crate::world::PROGRAM, world.place()).args(["db", "app", "dump"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.starts_with(b"SQLite format 3\0"));
    world.sql("DELETE FROM note; INSERT INTO note (text) VALUES ('other');");
    let said = world.receiver_fed(&["db", "app", "load", "--json"], &output.stdout).ok();
    assert_eq!(notes(&world.database(0)), 3);
    // What it held before can be brought back, too.
    let before = said.json()["before"].as_str().unwrap().to_owned();
    assert_eq!(notes(Path::new(&before)), 1);
    world
        .receiver_fed(&["db", "app", "load"], b"CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT);")
        .ok();
    assert_eq!(notes(&world.database(0)), 0);
    world.receiver_fed(&["db", "app", "load"], b"CREATE TABEL").fails(1);
    assert_eq!(notes(&world.database(0)), 0);
}
