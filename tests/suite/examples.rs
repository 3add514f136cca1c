//! The examples, as a reader would use them: the folder becomes a repository, is pushed, changed, pushed
//! again, and rolled back.

use std::path::Path;
use std::process::Command;

use crate::data::value;
use crate::world::World;

/// A world whose laptop holds an example, committed.
fn with_example(name: &str) -> World {
    let world = World::with_app();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let files = Command::new("cp").arg("-R").arg(source.join(".")).arg(world.laptop()).status();
    assert!(files.is_ok_and(|status| status.success()), "the example {name} could not be copied");
    assert!(world.laptop().join("README.md").is_file() && world.laptop().join("receiver.toml").is_file());
    world.commit("the example");
    world
}

fn replace(world: &World, file: &str, old: &str, new: &str) {
    let text = std::fs::read_to_string(world.laptop().join(file)).unwrap();
    assert!(text.contains(old), "{file}: {text}");
    world.file(file, &text.replace(old, new));
}

#[test]
fn the_static_example_is_pushed_changed_and_rolled_back() {
    let world = with_example("static");
    world.push().ok().says("=====> live: 0/");
    replace(&world, "public/index.html", "Pushed, and live.", "Pushed again.");
    world.commit("again");
    world.push().ok().says("=====> live: 0/");
    assert!(world.live_file("public/index.html").contains("Pushed again."));
    world.receiver(&["rollback"]).ok();
    assert!(world.live_file("public/index.html").contains("Pushed, and live."));
}

#[test]
fn the_static_example_needs_no_settings_as_it_says() {
    let world = with_example("static");
    world.remove("receiver.toml");
    world.commit("without");
    world.push().ok().says("=====> live: 0/");
}

#[test]
fn the_plain_sql_example_is_pushed_changed_as_it_says_and_rolled_back() {
    let world = with_example("plain-sql");
    world.push().ok().says("=====> live: 0/");
    world.sql("INSERT INTO customer VALUES (1, 'Ada Lovelace'); INSERT INTO purchase VALUES (1, 1, 250);");
    replace(&world, "schema.sql", "as it is today.", "as it is now.");
    world.commit("a comment");
    world.push().ok().says("=====> live: 0/");

    // The statements of its README.
    let readme = std::fs::read_to_string(world.laptop().join("README.md")).unwrap();
    let statement = |start: &str| {
        let from = readme.find(start).unwrap_or_else(|| panic!("{start} is not in the README"));
        readme[from..=from + readme[from..].find(';').unwrap()].to_owned()
    };
    let table = statement("CREATE TABLE customer");
    let rows = statement("INSERT INTO customer");
    replace(
        &world,
        "schema.sql",
        "CREATE TABLE customer (\n    id   INTEGER PRIMARY KEY,\n    name TEXT NOT NULL\n);",
        &table,
    );
    let old = "INSERT INTO customer (id, name) SELECT id, name FROM previous.customer;";
    replace(&world, "from-previous.sql", old, &rows);
    world.commit("first and last names");
    world.push().ok().says("→ version 1").says("=====> live: 1/");
    assert_eq!(value(&world, "SELECT last || ', ' || first FROM customer;"), "Lovelace, Ada");
    assert_eq!(value(&world, "SELECT sum(cents) FROM purchase;"), "250");

    world.receiver(&["rollback"]).fails(1).says("--without-new-data");
    world.receiver(&["rollback", "--without-new-data"]).ok();
    assert_eq!(value(&world, "SELECT name FROM customer;"), "Ada Lovelace");
    world.sql("INSERT INTO customer VALUES (2, 'Grace Hopper');");
}

#[test]
fn the_django_example_is_pushed_migrated_and_rolled_back() {
    let world = with_example("django");
    // Its own build stage asks a package index. Here there is no network: the server's file overrules that one
    // stage, and the environment takes Debian's Django.
    let build = "/usr/bin/python3 -m venv --without-pip --system-site-packages .venv";
    world.receiver(&["config", "app", "stages.build", build]).ok();
    world.receiver_fed(&["env", "app", "set", "SECRET_KEY"], b"a long secret of this test").ok();
    world.push().ok().says("=====> live: 0/");
    let shell = |code: &str| {
        world
            .receiver(&["run", "app", "--", ".venv/bin/python", "manage.py", "shell", "-c", code])
            .ok()
            .stdout
    };
    shell("from notes.models import Note; Note.objects.create(text='the first')");
    let page =
        "from django.test import Client; print(Client(HTTP_HOST='localhost').get('/').content.decode())";
    assert_eq!(shell(page).trim(), "the first");
    assert_eq!(shell("from django.conf import settings; print(settings.DEBUG)").trim(), "False");

    replace(
        &world,
        "notes/models.py",
        "    written",
        "    stars = models.IntegerField(default=3)\n    written",
    );
    world.run("/usr/bin/python3", &world.laptop(), &["manage.py", "makemigrations", "--name", "stars"]).ok();
    world.commit("Stars");
    world.push().ok().says("notes/migrations/0002_stars.py → version 1").says("=====> live: 1/");
    assert_eq!(shell(page).trim(), "the first");
    assert_eq!(shell("from notes.models import Note; print(Note.objects.get().stars)").trim(), "3");

    world.receiver(&["rollback", "--without-new-data"]).ok();
    assert_eq!(shell(page).trim(), "the first");
    shell("from notes.models import Note; Note.objects.create(text='the second')");
}
