//! `vN.DOMAIN`: versions side by side, each at a host of its own, behind a real nginx.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::browser::{Answer, ECHO, FASTCGI, UWSGI, Web, ask_host, get};
use crate::web::{SQL, WEB};
use crate::world::World;

fn at(web: &Web, version: u32, path: &str) -> Answer {
    with(web, version, path, &[])
}

fn with(web: &Web, version: u32, path: &str, headers: &[&str]) -> Answer {
    ask_host(web.port, &format!("v{version}.app.example"), "GET", path, headers, b"")
}

/// The header of a user who knows a password; `printf app:PASSWORD | base64` makes it.
fn basic(world: &World, password: &str) -> String {
    let said = world.fed("base64", world.place(), &["-w0"], format!("app:{password}").as_bytes()).ok();
    format!("Authorization: Basic {}", said.stdout.trim())
}

fn config(static_files: &str) -> String {
    format!("{WEB}static = {{ {static_files} }}\n{SQL}")
}

/// Versions 0, 1 and 2 (which is live) behind nginx, each with a note and a style sheet of its own time.
fn three_versions() -> (World, Web) {
    three_versions_with(|_| {})
}

fn three_versions_with(prepare: impl Fn(&Web)) -> (World, Web) {
    let world = World::with_app();
    world.file("web.py", include_str!("../fixtures/web.py"));
    world.file(
        "schema.sql",
        "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n",
    );
    world.file("receiver.toml", &config("\"/assets\" = \"assets\""));
    world.file("assets/site.css", "zero").file("index.html", "one\n");
    world.commit("one");
    let mut web = Web::prepare(&world);
    prepare(&web);
    web.start(&world);
    world.push().ok().says("live: 0/");
    assert_eq!(world.post("/", "in 0").status, 201);
    world.receiver(&["config", "app", "--site", "--install"]).ok();
    for (version, page) in [(1, "two"), (2, "three")] {
        // Where it lies is another directory in every version.
        std::fs::remove_dir_all(world.laptop().join("assets")).unwrap_or_default();
        world.file(&format!("assets{version}/site.css"), page);
        world.file("receiver.toml", &config(&format!("\"/assets\" = \"assets{version}\"")));
        world.next_page(page, true);
        world.push().ok().says(&format!("live: {version}/"));
        assert_eq!(world.post("/", &format!("in {version}")).status, 201);
    }
    world.until_idle();
    (world, web)
}

fn grant(world: &World, urls: &str) -> String {
    let said = world.receiver(&["config", "app", "versions.urls", urls]).ok();
    until_asked(world, &[0, 1, 2]);
    said.stdout.trim_end().to_owned()
}

fn until_asked(world: &World, versions: &[u32]) {
    let socket = |version: &u32| world.app().join(format!("receiver/run/versions/{version}.sock"));
    world.until(20, "the sockets of versions", || versions.iter().all(|version| socket(version).exists()));
}

#[track_caller]
fn is_nobodys(answer: Answer) {
    let answer = answer.is(404);
    assert!(answer.text().contains("<center>nginx"), "not nginx's own: {}", answer.text());
}

/// Every file below a directory that has these bytes.
fn files_with(directory: &std::path::Path, bytes: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if kind.is_file()
            && std::fs::read(&path).is_ok_and(|all| String::from_utf8_lossy(&all).contains(bytes))
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn versions_answer_at_their_urls_each_with_its_own_data_and_files() {
    let (world, web) = three_versions();
    for version in 0..4 {
        is_nobodys(at(&web, version, "/"));
    }
    grant(&world, "public");
    assert_eq!(at(&web, 0, "/notes").is(200).text(), "in 0");
    assert_eq!(at(&web, 1, "/notes").is(200).text(), "in 0\nin 1");
    assert_eq!(at(&web, 2, "/notes").is(200).text(), "in 0\nin 1\nin 2");
    for (version, page, style) in [(0, "one\n", "zero"), (1, "two\n", "two"), (2, "three\n", "three")] {
        let answer = at(&web, version, "/").is(200);
        assert_eq!(answer.text(), page);
        assert_eq!(answer.header("x-robots-tag").as_deref(), Some("noindex, nofollow"));
        let file = at(&web, version, "/assets/site.css").is(200);
        assert_eq!(file.text(), style);
        assert_eq!(file.header("x-robots-tag").as_deref(), Some("noindex, nofollow"));
        at(&web, version, "/assets/none.css").is(404);
    }
    // What the application itself asks for goes through where nginx asks for nothing.
    assert_eq!(with(&web, 0, "/authorization", &["Authorization: Bearer x"]).text(), "Bearer x");
    assert_eq!(at(&web, 0, "/host").text(), "v0.app.example");
    // What is not live is read, and cannot be written.
    let refused = ask_host(web.port, "v0.app.example", "POST", "/", &[], b"too late").is(503);
    assert!(refused.text().contains("version 0 of app is retired"), "{}", refused.text());
    assert_eq!(at(&web, 0, "/count").text(), "1");
    // What is live is what it was.
    let live = get(web.port, "/").is(200);
    assert_eq!((live.text().as_str(), live.header("x-robots-tag")), ("three\n", None));
    is_nobodys(at(&web, 3, "/"));
    is_nobodys(at(&web, 4_000_000_000, "/"));
    // A version that opens has its host; what was live goes on at its own.
    world.next_page("four", true);
    world.push().ok().says("live: 3/").says("nginx");
    until_asked(&world, &[3]);
    assert_eq!(at(&web, 3, "/").is(200).text(), "four\n");
    assert_eq!(at(&web, 2, "/").is(200).text(), "three\n");
    // A release that joins its version changes nothing for nginx.
    let site = || std::fs::metadata(web.site()).unwrap().ino();
    let before = site();
    world.next_page("five", false);
    world.push().ok().says("live: 3/");
    assert_eq!(at(&web, 3, "/").is(200).text(), "five\n");
    assert_eq!(site(), before);
    world.receiver(&["config", "app", "versions.urls", "off"]).ok();
    for version in 0..4 {
        is_nobodys(at(&web, version, "/"));
    }
}

#[test]
fn a_password_is_asked_for_printed_once_and_never_reaches_the_application() {
    let (world, web) = three_versions();
    let first = grant(&world, "password");
    assert!(first.len() == 26 && first.bytes().all(|b| b.is_ascii_alphanumeric()), "{first:?}");
    let asked = at(&web, 0, "/").is(401);
    assert_eq!(asked.header("www-authenticate").as_deref(), Some("Basic realm=\"versions of app\""));
    at(&web, 2, "/assets/site.css").is(401);
    with(&web, 0, "/", &[&basic(&world, "guess")]).is(401);
    let known = basic(&world, &first);
    assert_eq!(with(&web, 0, "/notes", &[&known]).is(200).text(), "in 0");
    assert_eq!(with(&web, 0, "/authorization", &[&known]).is(200).text(), "none");
    // Other settings leave it, another one takes its place, and what is live asks for none.
    world.receiver(&["config", "app", "versions.idle", "5m"]).ok();
    with(&web, 0, "/", &[&known]).is(200);
    let said = world.receiver(&["config", "app", "versions.urls", "password", "--json"]).ok().json();
    let second = said["password"].as_str().unwrap();
    assert_eq!((said["user"].as_str(), said["site"].as_str()), (Some("app"), Some("unchanged")));
    assert_ne!(first, second);
    with(&web, 0, "/", &[&known]).is(401);
    with(&web, 0, "/", &[&basic(&world, second)]).is(200);
    get(web.port, "/").is(200);
    for password in [first.as_str(), second] {
        assert_eq!(files_with(world.place(), password), [""; 0].map(std::path::PathBuf::from));
    }
    let secret = world.app().join("receiver/versions.htpasswd");
    assert_eq!(std::fs::metadata(&secret).unwrap().mode() & 0o777, 0o644);
    grant(&world, "public");
    assert!(!secret.exists());
    at(&web, 0, "/").is(200);
    // Where somebody wrote the setting into the file, nobody has a password, and nobody sees anything.
    let text = std::fs::read_to_string(world.app().join("receiver.toml")).unwrap();
    world.server_config(&text.replace("\"public\"", "\"password\""));
    world.receiver(&["config", "app", "--site", "--install"]).ok().says(
        "nobody has a password for versions yet: `receiver config app versions.urls password` makes one",
    );
    at(&web, 0, "/").is(401);
    with(&web, 0, "/", &[&basic(&world, second)]).is(403);
}

#[test]
fn versions_of_other_protocols_are_asked_in_their_own() {
    let world = World::with_app();
    let count = world.place().join("count").display().to_string();
    world.receiver_fed(&["env", "app", "set", "COUNT"], count.as_bytes()).ok();
    world.file("web.py", include_str!("../fixtures/web.py")).file("echo.py", ECHO);
    world.file("schema.sql", "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY);\n");
    world.file("receiver.toml", &format!("{WEB}{SQL}")).file("index.html", "one\n");
    world.commit("one");
    let web = {
        world.push().ok().says("live: 0/");
        Web::with_site(&world)
    };
    let password = world.receiver(&["config", "app", "versions.urls", "password"]).ok();
    let known = basic(&world, password.stdout.trim());
    for (page, protocol, command) in [("two", "fastcgi", FASTCGI), ("three", "uwsgi", UWSGI)] {
        world.file(
            "receiver.toml",
            &format!("[web]\ncommand = '{command}'\nprotocol = \"{protocol}\"\nsettle = \"10ms\"\n{SQL}"),
        );
        world.next_page(page, true);
        world.push().ok();
    }
    world.file("receiver.toml", &format!("{WEB}{SQL}"));
    world.next_page("four", true);
    world.push().ok().says("live: 3/");
    until_asked(&world, &[0, 1, 2, 3]);
    assert_eq!(with(&web, 0, "/", &[&known]).is(200).text(), "one\n");
    for version in [1, 2] {
        let told: serde_json::Value =
            serde_json::from_slice(&with(&web, version, "/a%20b?c=d", &[&known]).is(200).body).unwrap();
        assert_eq!(told["PATH_INFO"], "/a b");
        assert_eq!(told["QUERY_STRING"], "c=d");
        assert_eq!(told["HTTP_HOST"], format!("v{version}.app.example"));
        assert_eq!(told["HTTP_AUTHORIZATION"].as_str().unwrap_or(""), "", "{told}");
        at(&web, version, "/").is(401);
    }
    assert_eq!(with(&web, 3, "/", &[&known]).is(200).text(), "four\n");
    // One that does not come up says so in its protocol, through nginx.
    let place = world.app().join("versions/1");
    for release in std::fs::read_dir(&place).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        std::fs::write(release.path().join("echo.py"), "raise SystemExit(3)\n").unwrap();
    }
    let refused = with(&web, 1, "/", &[&known]).is(503);
    assert!(refused.text().contains("cannot be woken"), "{}", refused.text());
    assert_eq!(with(&web, 0, "/", &[&known]).is(200).text(), "one\n");
}

#[test]
fn a_version_that_is_awake_is_not_pruned_and_one_that_is_pruned_is_nobodys() {
    let (mut world, web) = three_versions();
    world.receiver(&["config", "app", "versions.idle", "1s"]).ok();
    grant(&world, "public");
    assert_eq!(at(&web, 0, "/").is(200).text(), "one\n");
    world.receiver(&["config", "app", "keep.versions", "1"]).ok();
    // Past every window in which somebody could roll back with the data.
    world.env.insert("RECEIVER_TEST_CLOCK".into(), (100 * 3600).to_string());
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| at(&web, 0, "/slow?3"));
        world.until(20, "the slow request to begin", || {
            world.receiver(&["logs", "app"]).stdout.contains("slow begins")
        });
        world.receiver(&["prune", "app"]).ok();
        assert_eq!(world.names("versions/0").len(), 3, "{:?}", world.names("versions/0"));
        assert_eq!(at(&web, 0, "/notes").is(200).text(), "in 0");
        slow.join().unwrap().is(200);
    });
    // It sleeps in the end, and then nothing keeps it.
    world.until(30, "version 0 to go", || {
        world.receiver(&["prune", "app"]).ok();
        !world.app().join("versions/0").exists()
    });
    is_nobodys(at(&web, 0, "/"));
    is_nobodys(at(&web, 0, "/assets/site.css"));
    assert_eq!(at(&web, 2, "/").is(200).text(), "three\n");
    let socket = world.app().join("receiver/run/versions/0.sock");
    world.until(20, "its socket to go", || !socket.exists());
}

#[test]
fn an_nginx_without_rights_sees_versions_their_files_and_who_may_look() {
    let (world, web) = three_versions_with(|web| {
        let text = std::fs::read_to_string(web.config()).unwrap();
        std::fs::write(web.config(), text.replace("user root;", "user www-data;")).unwrap();
        let place = web.place.parent().unwrap();
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o711)).unwrap();
    });
    let password = grant(&world, "password");
    let known = basic(&world, &password);
    at(&web, 0, "/").is(401);
    assert_eq!(with(&web, 0, "/notes", &[&known]).is(200).text(), "in 0", "{}", web.log());
    assert_eq!(with(&web, 1, "/assets/site.css", &[&known]).is(200).text(), "two");
    assert_eq!(with(&web, 2, "/", &[&known]).is(200).text(), "three\n");
    assert_eq!(get(web.port, "/assets/site.css").is(200).text(), "three");
    assert_eq!(get(web.port, "/").is(200).text(), "three\n");
    // It was one without rights.
    let said = world.run("ps", world.place(), &["-o", "user=,args=", "-u", "www-data"]);
    assert!(said.stdout.contains("nginx: worker process"), "{said:?}");
}

#[test]
fn what_a_rollback_left_or_went_back_to_is_what_its_host_shows() {
    let (world, web) = three_versions();
    world.file("assets2/site.css", "later");
    world.next_page("later", false);
    world.push().ok().says("live: 2/");
    grant(&world, "public");
    assert_eq!(at(&web, 2, "/assets/site.css").text(), "later");
    let before = world.list()["releases"][1]["id"].as_str().unwrap().to_owned();
    world.receiver(&["rollback", "app", &before]).ok();
    assert_eq!(at(&web, 2, "/").text(), "three\n");
    assert_eq!(at(&web, 2, "/assets/site.css").text(), "three");
}

#[test]
fn a_site_that_cannot_be_brought_up_to_date_costs_no_setting_and_no_deploy() {
    let (world, web) = three_versions();
    let broken = web.place.join("conf.d/broken.conf");
    std::fs::write(&broken, "server { lisen 80; }\n").unwrap();
    let said = world.receiver(&["config", "app", "versions.urls", "public", "--json"]).ok();
    assert_eq!(said.json()["site"], "failed");
    said.says("versions.urls is kept, and nginx does not know of it yet")
        .says("nginx's configuration is broken already, and not by this app");
    assert!(world.receiver(&["config", "app", "versions.urls"]).ok().stdout.contains("public"));
    is_nobodys(at(&web, 0, "/"));
    world.next_page("four", true);
    world.push().says("live: 3/").says("broken already");
    assert_eq!(get(web.port, "/").is(200).text(), "four\n");
    std::fs::remove_file(&broken).unwrap();
    world.receiver(&["up", "app"]).ok();
    until_asked(&world, &[0, 3]);
    assert_eq!(at(&web, 0, "/").is(200).text(), "one\n");
    assert_eq!(at(&web, 3, "/").is(200).text(), "four\n");
}
