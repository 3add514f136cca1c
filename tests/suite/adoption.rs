//! An application that is there already, with its data, becomes an app.

use std::path::{Path, PathBuf};

use crate::backed::Backed;
use crate::servers::Engine;
use crate::world::{Said, World};

/// Where a take-over can die.
pub const POINTS: [&str; 1] = ["adoption-stopped"];

/// The statements of the old application, by whichever program its engine has.
fn sqlite(world: &World, file: &Path, statements: &str) -> String {
    world.run("sqlite3", world.place(), &[&file.display().to_string(), statements]).ok().stdout
}

/// An old application: a database in a file that is written to, and files; it runs while `runs` is there.
struct Old {
    database: PathBuf,
    files: PathBuf,
    runs: PathBuf,
}

impl Old {
    fn new(world: &World) -> Old {
        let place = world.place().join("old");
        let files = place.join("media");
        std::fs::create_dir_all(files.join("2020")).unwrap();
        std::fs::write(files.join("2020/a"), "a picture").unwrap();
        std::os::unix::fs::symlink("2020/a", files.join("newest")).unwrap();
        let old = Old { database: place.join("db.sqlite3"), files, runs: place.join("runs") };
        sqlite(
            world,
            &old.database,
            "PRAGMA journal_mode=WAL; CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL); INSERT INTO note (text) VALUES ('old');",
        );
        std::fs::write(&old.runs, "").unwrap();
        old
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.database.display())
    }

    fn stop(&self) -> String {
        format!("rm {}", self.runs.display())
    }

    fn start(&self) -> String {
        format!("touch {}", self.runs.display())
    }

    fn adopt(&self, world: &World) -> Said {
        let files = self.files.display().to_string();
        world.receiver(&["adopt", "app", "--database-from", &self.url(), "--shared-from", &files])
    }
}

/// The code of the new application, on the laptop; its check fails while `broken` is there.
fn code(world: &World) -> PathBuf {
    let broken = world.place().join("broken");
    world.file(
        "receiver.toml",
        &format!(
            "[stages]\nsyncdb = {{ sql = [\"schema.sql\"] }}\ncheck = \"test ! -e {}\"\n[database]\nengine = \"sqlite\"\n\
             [shared]\ndirs = [\"2020\"]\n",
            broken.display()
        ),
    );
    world.file("schema.sql", "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\nCREATE TABLE IF NOT EXISTS more (id INTEGER PRIMARY KEY);\n");
    world.file("index.html", "one\n").commit("one");
    broken
}

#[test]
fn an_application_is_adopted_tried_and_taken_over_with_fresh_data() {
    let world = World::new();
    let old = Old::new(&world);
    let before = std::fs::read(&old.database).unwrap();
    let words = world.receiver(&["adopt", "app", "--database-from", &old.url(), "--dry-run"]).ok().stdout;
    assert!(words.starts_with("would make app of sqlite /"), "{words}");
    assert!(!world.app().exists());
    let said = old.adopt(&world).ok().says("copied").says("1 file copied").says("--go --stop CMD");
    assert!(said.stdout.ends_with("app/repo.git\n"), "{}", said.stdout);
    assert_eq!(std::fs::read(&old.database).unwrap(), before);
    world.receiver(&["adopt", "app", "--go", "--stop", "true"]).fails(1).says("nothing is live yet");
    // The first release is tried on the copy, while the old application goes on.
    let broken = code(&world);
    world.remote("app");
    world.push().ok().says("from sqlite").says("=====> live: 0/");
    assert_eq!(world.sql("SELECT text FROM note;"), "text\nold\n");
    world.sql("INSERT INTO note (text) VALUES ('only tried');");
    assert_eq!(world.live_file("2020/a"), "a picture");
    sqlite(&world, &old.database, "INSERT INTO note (text) VALUES ('meanwhile');");
    std::fs::write(old.files.join("2020/b"), "another").unwrap();
    assert!(old.runs.exists());
    // What fails changes nothing, and the old application runs again.
    std::fs::write(&broken, "").unwrap();
    let (stop, start) = (old.stop(), old.start());
    let go = ["adopt", "app", "--go", "--stop", &stop, "--start", &start];
    world.receiver(&go).fails(1).says("NOT LIVE: still 0/").says("the old application is started again");
    assert!(old.runs.exists());
    world.receiver(&["status", "app", "--check"]).ok();
    std::fs::remove_file(&broken).unwrap();
    world.receiver(&[&go[..], &["--dry-run"]].concat()).ok().says("would build");
    assert!(old.runs.exists());
    world
        .receiver(&go)
        .ok()
        .says("the old application is stopped")
        .says("=====> live: 1/")
        .says("the way back");
    assert!(!old.runs.exists());
    assert_eq!(world.sql("SELECT text FROM note ORDER BY id;"), "text\nold\nmeanwhile\n");
    assert_eq!(world.sql("SELECT count(*) AS n FROM more;"), "n\n0\n");
    assert_eq!(world.live_file("2020/b"), "another");
    world.receiver(&go).fails(1).says("adopts nothing");
    // It is an app like any other from here on.
    world.file("index.html", "two\n").commit("two");
    world.push().ok().says("=====> live: 1/");
    world.nothing_is_left_over();
    assert!(!world.app().join("receiver/adoption.toml").exists());
}

#[test]
fn a_take_over_that_dies_with_the_old_application_stopped_is_begun_again() {
    let mut world = World::new();
    let old = Old::new(&world);
    old.adopt(&world).ok();
    code(&world);
    world.remote("app");
    world.push().ok();
    let ticket = world.place().join("ticket");
    std::fs::write(&ticket, "").unwrap();
    world.env.insert("RECEIVER_TEST_DIE_AT".into(), POINTS[0].into());
    world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
    let stop = format!("rm -f {}", old.runs.display());
    world.receiver(&["adopt", "app", "--go", "--stop", &stop]).ok().says("=====> live: 1/");
    assert!(!ticket.exists());
    assert_eq!(world.sql("SELECT text FROM note;"), "text\nold\n");
    world.receiver(&["status", "app", "--check"]).ok();
}

#[test]
fn a_stopped_application_is_said_until_somebody_starts_it() {
    let world = World::new();
    let old = Old::new(&world);
    old.adopt(&world).ok();
    let broken = code(&world);
    world.remote("app");
    world.push().ok();
    std::fs::write(&broken, "").unwrap();
    let said = world.receiver(&["adopt", "app", "--go", "--stop", &old.stop()]).fails(1);
    said.says("THE OLD APPLICATION IS STOPPED");
    world.receiver(&["status", "app", "--check"]).fails(1).says("the old application was stopped");
}

#[test]
fn an_adoption_refuses_passwords_in_arguments_and_links_that_lead_out() {
    let world = World::new();
    let old = Old::new(&world);
    let url = "mysql://shop:a-secret-word@localhost/shop";
    let said = world.receiver(&["adopt", "app", "--database-from", url]).fails(2);
    assert!(!said.stderr.contains("secret-word"), "{}", said.stderr);
    world.receiver(&["adopt", "app"]).fails(2).says("nothing is adopted");
    world.receiver(&["adopt", "app", "--go"]).fails(2);
    std::os::unix::fs::symlink("/etc", old.files.join("out")).unwrap();
    old.adopt(&world).fails(1).says("out leads out of it");
    assert!(!world.app().exists());
    std::fs::remove_file(old.files.join("out")).unwrap();
    world
        .receiver(&["adopt", "app", "--database-from", "sqlite:///nowhere/db.sqlite3"])
        .fails(1)
        .says("cannot read the database sqlite /nowhere/db.sqlite3");
    assert!(!world.app().exists());
    old.adopt(&world).ok();
    old.adopt(&world).fails(1).says("app is there already");
}

/// Everything that was written below a directory.
fn all_text(place: &Path, except: &str) -> String {
    let mut text = String::new();
    let mut waiting = vec![place.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(path);
            } else if entry.file_type().unwrap().is_file() && !path.ends_with(except) {
                text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
            }
        }
    }
    text
}

#[test]
fn a_database_on_a_server_is_adopted_and_its_password_is_nobodys() {
    const PASSWORD: &str = "p@ss: \"word\"";
    for engine in [Engine::Mysql, Engine::Postgres] {
        let backed = Backed::new(engine);
        let socket = backed.server().socket().display().to_string();
        let url = if engine == Engine::Mysql {
            backed.query(
                "mysql",
                &format!(
                    "CREATE DATABASE old; CREATE USER old@localhost IDENTIFIED BY '{PASSWORD}'; \
                     GRANT ALL ON old.* TO old@localhost;"
                ),
            );
            format!("mysql://old@localhost/old?socket={socket}")
        } else {
            backed.query("postgres", &format!("CREATE ROLE old LOGIN PASSWORD '{PASSWORD}'"));
            backed.query("postgres", "CREATE DATABASE old OWNER old");
            format!("postgres:///old?user=old&host={}", socket_directory(&socket))
        };
        let rows = "CREATE TABLE entry (id BIGINT PRIMARY KEY, writer INTEGER NOT NULL, number INTEGER NOT NULL, \
                    turn INTEGER NOT NULL DEFAULT 0, text VARCHAR(200) NOT NULL, UNIQUE (writer, number)); \
                    INSERT INTO entry (id, writer, number, text) VALUES (1, 0, 1, 'old')";
        let rows = if engine == Engine::Postgres { format!("SET ROLE old; {rows}") } else { rows.to_owned() };
        backed.query("old", &rows);
        backed.receiver(&["remove", "app", "--data", "--yes", "app"]).ok();
        let wrong = backed.place().join("wrong");
        std::fs::write(&wrong, "no").unwrap();
        let with = |file: &Path| {
            let file = file.display().to_string();
            backed.receiver(&["adopt", "app", "--database-from", &url, "--password-file", &file])
        };
        with(&wrong).fails(1).says("cannot read the database");
        let right = backed.place().join("right");
        std::fs::write(&right, format!("{PASSWORD}\n")).unwrap();
        with(&right).ok();
        backed.grant("app");
        backed.settings("syncdb = { sql = [\"schema.sql\"] }\n", "");
        backed.commit("one");
        backed.push().ok().says("=====> live: 0/");
        assert_eq!(backed.entries(), "old", "{engine:?}");
        backed.query("old", "INSERT INTO entry (id, writer, number, text) VALUES (2, 0, 2, 'later')");
        assert!(!all_text(&backed.app(), "secrets/adoption").contains(PASSWORD));
        backed.receiver(&["adopt", "app", "--go", "--stop", "true"]).ok().says("=====> live: 1/");
        assert_eq!(backed.entries(), "old later", "{engine:?}");
        assert!(!all_text(&backed.app(), "").contains(PASSWORD));
    }
}

fn socket_directory(socket: &str) -> &str {
    socket.split_once("/.s.PGSQL").map_or(socket, |(directory, _)| directory)
}
