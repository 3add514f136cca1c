//! The examples, as a reader would use them: the folder becomes a repository, is pushed, changed, pushed
//! again, and rolled back.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::backed::Backed;
use crate::browser::{HOST, Web, get, submit};
use crate::data::value;
use crate::servers::Engine;
use crate::world::World;

/// A world whose laptop holds an example, committed.
pub fn with_example(name: &str) -> World {
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
fn the_static_example_is_served_by_nginx_changed_and_rolled_back() {
    let world = with_example("static");
    let mut web = Web::prepare(&world);
    world.push().ok().says("=====> live: 0/");
    web.open(&world);
    assert!(get(web.port, "/").is(200).text().contains("Pushed, and live."));
    assert!(get(web.port, "/style.css").is(200).text().contains("margin"));
    get(web.port, "/README.md").is(404);
    replace(&world, "public/index.html", "Pushed, and live.", "Pushed again.");
    world.commit("again");
    world.push().ok().says("=====> live: 0/");
    assert!(get(web.port, "/").is(200).text().contains("Pushed again."));
    world.receiver(&["rollback"]).ok();
    assert!(get(web.port, "/").is(200).text().contains("Pushed, and live."));
    assert!(world.processes().is_empty());
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
    let down =
        readme.split("    [map.customer.down]\n").nth(1).expect("the README says how a customer goes back");
    let settings = std::fs::read_to_string(world.laptop().join("receiver.toml")).unwrap();
    let down = down.split("\n\n").next().unwrap();
    world.file("receiver.toml", &format!("{settings}\n[map.customer.down]\n{down}\n"));
    world.commit("first and last names");
    world.push().ok().says("→ version 1").says("=====> live: 1/");
    assert_eq!(value(&world, "SELECT last || ', ' || first FROM customer;"), "Lovelace, Ada");
    assert_eq!(value(&world, "SELECT sum(cents) FROM purchase;"), "250");

    // What was written since comes along, a new customer by the expression of the README.
    world.sql("INSERT INTO customer VALUES (2, 'Grace', 'Hopper'); INSERT INTO purchase VALUES (2, 2, 100);");
    world.receiver(&["rollback"]).ok().says("=====> live: 0/");
    assert_eq!(value(&world, "SELECT group_concat(name) FROM customer;"), "Ada Lovelace,Grace Hopper");
    assert_eq!(value(&world, "SELECT sum(cents) FROM purchase;"), "350");
    world.sql("INSERT INTO customer VALUES (3, 'Annie Easley');");
}

/// The Django example, live behind nginx, by this file of its settings, on this engine.
fn with_django(settings: &str, engine: Engine) -> (Backed, Web) {
    let world = Backed::around(with_example("django"), engine);
    if engine != Engine::Sqlite {
        // The one line that its README says.
        replace(&world, settings, "engine = \"sqlite\"", &format!("engine = \"{}\"", engine.name()));
        world.commit("on a server");
    }
    if settings != "receiver.toml" {
        std::fs::rename(world.laptop().join(settings), world.laptop().join("receiver.toml")).unwrap();
        world.commit("the other settings");
    }
    // Its own build stage asks a package index. Here there is no network: the server's file overrules that one
    // stage, and the environment takes Debian's Django.
    let build = "/usr/bin/python3 -m venv --without-pip --system-site-packages .venv";
    world.receiver(&["config", "app", "stages.build", build]).ok();
    let mut web = Web::prepare(&world);
    world.receiver_fed(&["env", "app", "set", "ALLOWED_HOSTS"], format!("{HOST}\n").as_bytes()).ok();
    world.receiver_fed(&["env", "app", "set", "SECRET_KEY"], b"a long secret of this test").ok();
    world.push().ok().says("health").says("=====> live: 0/");
    web.open(&world);
    (world, web)
}

/// The notes of its page.
#[track_caller]
fn notes(web: &Web) -> Vec<String> {
    let page = get(web.port, "/").is(200).text();
    let items = page.split("<li>").skip(1).map(|item| item.split("</li>").next().unwrap().to_owned());
    items.collect()
}

/// Fills its form in and sends it.
#[track_caller]
fn write_note(web: &Web, text: &str) {
    let page = get(web.port, "/").is(200);
    let cookie = page.header("set-cookie").expect("Django sets the cookie of its form");
    let cookie = cookie.split(';').next().unwrap();
    let form = page.text();
    let token = form.split("name=\"csrfmiddlewaretoken\" value=\"").nth(1).expect("the form has a token");
    let token = token.split('"').next().unwrap();
    submit(web.port, "/", cookie, &format!("csrfmiddlewaretoken={token}&text={text}")).is(302);
}

/// What a reader of the Django example does, by whatever protocol it is served.
fn the_django_example_is_lived_with(world: &World, web: &Web) {
    let shell = |code: &str| {
        world
            .receiver(&["run", "app", "--", ".venv/bin/python", "manage.py", "shell", "-c", code])
            .ok()
            .stdout
    };
    write_note(web, "first");
    assert_eq!(notes(web), ["first"]);
    assert!(get(web.port, "/static/notes/notes.css").is(200).text().contains("margin"));
    assert_eq!(shell("from django.conf import settings; print(settings.DEBUG)").trim(), "False");
    // Of another site, without the token of the form.
    submit(web.port, "/", "", "text=forged").is(403);

    replace(
        world,
        "notes/models.py",
        "    written",
        "    stars = models.IntegerField(default=3)\n    written",
    );
    world.run("/usr/bin/python3", &world.laptop(), &["manage.py", "makemigrations", "--name", "stars"]).ok();
    world.commit("Stars");
    world.push().ok().says("notes/migrations/0002_stars.py → version 1").says("=====> live: 1/");
    assert_eq!(notes(web), ["first"]);
    assert_eq!(shell("from notes.models import Note; print(Note.objects.get().stars)").trim(), "3");
    write_note(web, "second");
    assert_eq!(notes(web), ["first", "second"]);

    world.receiver(&["rollback"]).ok().says("=====> live: 0/");
    assert_eq!(notes(web), ["first", "second"]);
    write_note(web, "third");
    assert_eq!(notes(web), ["first", "second", "third"]);
    world.until_running(&["web"]);
}

#[test]
fn the_django_example_is_served_by_http_migrated_and_rolled_back() {
    let (world, web) = with_django("receiver.toml", Engine::Sqlite);
    the_django_example_is_lived_with(&world, &web);
}

#[test]
fn the_django_example_is_served_by_fastcgi_over_a_unix_socket_migrated_and_rolled_back() {
    let (world, web) = with_django("receiver-fastcgi.toml", Engine::Sqlite);
    assert!(std::fs::read_to_string(web.site()).unwrap().contains("fastcgi_pass"));
    the_django_example_is_lived_with(&world, &web);
}

/// What it does on a server of databases, and every note comes along, whichever way the version goes.
fn the_django_example_loses_no_note(world: &Backed, web: &Web) {
    let shell = |code: &str| {
        let arguments = ["run", "app", "--", ".venv/bin/python", "manage.py", "shell", "-c", code];
        world.receiver(&arguments).ok().stdout.trim().to_owned()
    };
    // Of four bytes in UTF-8.
    write_note(web, "first+%F0%9F%8C%BE");
    let first = "first \u{1f33e}";
    replace(
        world,
        "notes/models.py",
        "    written",
        "    stars = models.IntegerField(default=3)\n    written",
    );
    world.run("/usr/bin/python3", &world.laptop(), &["manage.py", "makemigrations", "--name", "stars"]).ok();
    world.commit("Stars");
    world.push().ok().says("notes/migrations/0002_stars.py → version 1").says("=====> live: 1/");
    write_note(web, "second");
    assert_eq!(notes(web), [first, "second"]);
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    assert_eq!(notes(web), [first, "second"]);
    // What was left has no room for a note without stars, and Django keeps no default in the database: so the
    // migration runs again, in a version that opens.
    write_note(web, "third");
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 2/");
    assert_eq!(notes(web), [first, "second", "third"]);
    assert_eq!(
        shell("from notes.models import Note; print(sum(note.stars for note in Note.objects.all()))"),
        "9"
    );
    write_note(web, "fourth");
    // The framework sees nothing of what receiver has in its databases; SQLite's notes lie in the same file, though.
    assert_eq!(
        shell(
            "from django.db import connection; names = connection.introspection.table_names(); \
             print(*sorted(name for name in names if not name.startswith('receiver_log_')))"
        ),
        "auth_group auth_group_permissions auth_permission auth_user auth_user_groups auth_user_user_permissions \
         django_content_type django_migrations notes_note"
    );
    world.receiver(&["run", "app", "--", ".venv/bin/python", "manage.py", "migrate", "--check"]).ok();
    world.receiver(&["run", "app", "--", ".venv/bin/python", "manage.py", "makemigrations", "--check"]).ok();
    world.until_running(&["web"]);
    world.only(&["app_v0", "app_v1", "app_v2"]);
    world.receiver(&["doctor", "app"]).ok();
}

#[test]
fn the_django_example_loses_no_note_on_sqlite() {
    let (world, web) = with_django("receiver.toml", Engine::Sqlite);
    the_django_example_loses_no_note(&world, &web);
}

#[test]
fn the_django_example_loses_no_note_on_mariadb_behind_nginx_and_fastcgi() {
    let (world, web) = with_django("receiver-fastcgi.toml", Engine::Mysql);
    assert!(std::fs::read_to_string(web.site()).unwrap().contains("fastcgi_pass"));
    the_django_example_loses_no_note(&world, &web);
}

#[test]
fn the_django_example_loses_no_note_on_postgresql_behind_nginx_and_fastcgi() {
    let (world, web) = with_django("receiver-fastcgi.toml", Engine::Postgres);
    the_django_example_loses_no_note(&world, &web);
}

#[test]
fn the_django_example_goes_over_from_http_to_fastcgi_as_it_says() {
    let (world, web) = with_django("receiver.toml", Engine::Sqlite);
    write_note(&web, "first");
    std::fs::rename(world.laptop().join("receiver-fastcgi.toml"), world.laptop().join("receiver.toml"))
        .unwrap();
    world.commit("by FastCGI");
    world.push().ok().says("its site is up to date");
    assert_eq!(notes(&web), ["first"]);
    assert!(std::fs::read_to_string(web.site()).unwrap().contains("fastcgi_pass"));
    world.receiver(&["rollback"]).ok();
    assert_eq!(notes(&web), ["first"]);
    assert!(std::fs::read_to_string(web.site()).unwrap().contains("proxy_pass"));
}

#[test]
fn the_node_example_is_served_by_nginx_and_its_notes_outlive_releases() {
    let world = with_example("node");
    let mut web = Web::prepare(&world);
    world.push().ok().says("health").says("=====> live: 0/");
    web.open(&world);
    submit(web.port, "/", "", "text=a+%3Cb%3E").is(303);
    assert_eq!(notes(&web), ["a &#60;b&#62;"]);
    assert!(get(web.port, "/assets/notes.css").is(200).text().contains("margin"));
    replace(&world, "server.js", "<h1>Notes</h1>", "<h1>All notes</h1>");
    world.commit("all");
    world.push().ok();
    assert!(get(web.port, "/").is(200).text().contains("All notes"));
    submit(web.port, "/", "", "text=second").is(303);
    world.receiver(&["rollback"]).ok();
    assert!(get(web.port, "/").is(200).text().contains("<h1>Notes</h1>"));
    assert_eq!(notes(&web).len(), 2);
    world.until_running(&["web"]);
}

#[test]
fn the_node_example_ends_its_requests_when_it_is_asked_to_end() {
    let world = with_example("node");
    world.push().ok();
    let pid = world.processes()[0].3.unwrap();
    let mut half = UnixStream::connect(world.door()).unwrap();
    half.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9\r\n";
    write!(half, "{head}Expect: 100-continue\r\n\r\n").unwrap();
    // It has the request in hand when it says so.
    let mut heard = [0; 25];
    half.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"HTTP/1.1 100 Continue\r\n\r\n");
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    world.until(10, "it to listen no more", || {
        UnixStream::connect(world.app().join("current/.receiver/web.sock")).is_err()
    });
    half.write_all(b"text=last").unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 303 "), "{answer}");
    // It ended by itself and in order; whoever keeps it running starts it again.
    world.until(20, "it to run again", || world.status()["processes"][0]["restarts"] == 1);
    assert_eq!(world.status()["processes"][0]["last_end"], "exited with status 0");
}
