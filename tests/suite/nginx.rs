//! nginx before the door: a real one, the real template, real applications.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::browser::{Answer, ECHO, FASTCGI, GUNICORN, HOST, UWSGI, Web, ask, get, send};
use crate::world::World;

/// A world with an application that speaks `protocol`, live behind nginx. What it counts are requests
/// that the test makes, not those for its health.
fn behind(protocol: &str, command: &str) -> (World, Web) {
    let world = World::with_app();
    let count = world.place().join("count").display().to_string();
    world.receiver_fed(&["env", "app", "set", "COUNT"], count.as_bytes()).ok();
    world.file(
        "receiver.toml",
        &format!(
            "[web]\ncommand = '{command}'\nprotocol = \"{protocol}\"\nsettle = \"10ms\"\ndrain = \"5s\"\n\
             health = {{ path = \"/health\" }}\nstatic = {{ \"/assets\" = \"assets\" }}\n"
        ),
    );
    world
        .file("assets/site.css", "body { color: black }\n")
        .file("assets/.secret", "x")
        .file("echo.py", ECHO);
    world.file("ws.py", WEBSOCKET).file("keeps.py", KEEPS_OPEN);
    world.file("assets/receiver.toml", "x").file("assets/down/page.html", "down\n");
    world.commit("one");
    world.push().ok().says("live: 0/");
    let web = Web::with_site(&world);
    (world, web)
}

fn count(world: &World) -> usize {
    std::fs::read_to_string(world.place().join("count"))
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.ends_with(" /health"))
        .count()
}

fn said(answer: Answer) -> Value {
    serde_json::from_slice(&answer.is(200).body).unwrap()
}

#[test]
fn nginx_passes_requests_through_the_door_by_http_fastcgi_and_uwsgi() {
    for (protocol, command) in [("http", GUNICORN), ("fastcgi", FASTCGI), ("uwsgi", UWSGI)] {
        let (world, web) = behind(protocol, command);
        let headers = [
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-Proto: gopher",
            "X-Real-IP: 6.6.6.6",
            "Proxy: evil",
            "Forwarded: for=6.6.6.6",
        ];
        let told = said(ask(web.port, "POST", "/a%20b/c?d=e%20f", &headers, b"four"));
        assert_eq!(told["REQUEST_METHOD"], "POST", "{protocol}: {told}");
        assert_eq!(told["SCRIPT_NAME"].as_str().unwrap_or(""), "", "{protocol}");
        assert_eq!(told["PATH_INFO"], "/a b/c", "{protocol}");
        assert_eq!(told["QUERY_STRING"], "d=e%20f", "{protocol}");
        assert_eq!(told["HTTP_HOST"], HOST, "{protocol}");
        assert_eq!(told["HTTP_X_FORWARDED_FOR"], "127.0.0.1", "{protocol}");
        assert_eq!(told["HTTP_X_REAL_IP"], "127.0.0.1", "{protocol}");
        assert_eq!(told["HTTP_X_FORWARDED_PROTO"], "http", "{protocol}");
        for name in ["HTTP_PROXY", "HTTP_FORWARDED"] {
            assert_eq!(told[name].as_str().unwrap_or(""), "", "{protocol}: {name}");
        }
        assert_eq!(told["body"], 4, "{protocol}");
        assert_eq!(get(web.port, "/busy").is(503).text(), "the application is busy", "{protocol}");
        // Where nobody answers at the door, the live socket is asked.
        std::fs::remove_file(world.app().join("receiver/door.sock")).unwrap();
        said(ask(web.port, "POST", "/", &[], b"x"));
    }
}

#[test]
fn static_files_come_straight_from_the_release_with_a_tag_that_new_content_changes() {
    let (world, web) = behind("http", GUNICORN);
    let before = count(&world);
    let first = get(web.port, "/assets/site.css").is(200);
    assert_eq!(first.header("content-type").as_deref(), Some("text/css"));
    let tag = first.header("etag").unwrap();
    assert!(first.header("last-modified").is_some());
    ask(web.port, "GET", "/assets/site.css", &[&format!("If-None-Match: {tag}")], b"").is(304);
    world.file("assets/new.css", "new\n");
    world.commit("two");
    world.push().ok();
    // The tag is of time and size: it stays with the file's modification time.
    let same = get(web.port, "/assets/site.css").is(200);
    let time = std::fs::metadata(world.live_directory().join("assets/site.css")).unwrap().mtime();
    assert_eq!(same.header("etag"), Some(format!("\"{time:x}-16\"")));
    get(web.port, "/assets/new.css").is(200);
    world.file("assets/site.css", "body { color: white; }\n");
    world.commit("three");
    world.push().ok();
    // Another size: a tag is of whole seconds, and this deploy may come in the same one.
    let third = get(web.port, "/assets/site.css").is(200);
    assert_eq!(third.text(), "body { color: white; }\n");
    assert_ne!(third.header("etag"), Some(tag));
    get(web.port, "/assets/none.css").is(404);
    assert_eq!(count(&world), before, "the application was asked for a file");
}

#[test]
fn assets_of_the_release_before_are_still_answered_after_a_switch() {
    let (world, web) = behind("http", GUNICORN);
    world.remove("assets/site.css");
    world.file("assets/site-2.css", "two\n");
    world.commit("two");
    world.push().ok();
    assert_eq!(get(web.port, "/assets/site-2.css").is(200).text(), "two\n");
    assert_eq!(get(web.port, "/assets/site.css").is(200).text(), "body { color: black }\n");
    world.commit("three");
    world.push().ok();
    get(web.port, "/assets/site.css").is(404);
}

#[test]
fn a_tree_that_has_sources_is_never_served_whole() {
    let world = World::with_app();
    world.file("receiver.toml", "[database]\nengine = \"none\"\n");
    world.file("index.html", "home\n").file("package.json", "{}\n").file("src/secret.js", "x\n");
    world.commit("sources");
    world.push().ok();
    let web = Web::with_site(&world);
    for path in ["/", "/index.html", "/package.json", "/src/secret.js"] {
        get(web.port, path).is(404);
    }
    // What is named is served; and all of it, where it is nothing but a site.
    world.file("receiver.toml", "[database]\nengine = \"none\"\n[web]\nstatic = { \"/\" = \"dist\" }\n");
    world.file("dist/index.html", "built\n");
    world.commit("named");
    world.push().ok();
    assert_eq!(get(web.port, "/").is(200).text(), "built\n");
    get(web.port, "/package.json").is(404);
    world.remove("package.json").remove("receiver.toml");
    world.commit("a site");
    world.push().ok();
    assert_eq!(get(web.port, "/").is(200).text(), "home\n");
}

#[test]
fn nginx_never_serves_dotfiles_or_receiver_toml() {
    let (_world, web) = behind("http", GUNICORN);
    for path in [
        "/assets/.secret",
        "/assets/%2esecret",
        "/assets/x/../.secret",
        "/assets/receiver.toml",
        "/assets//.secret",
        "/assets/down/",
        "/assets/down",
        "/assets/../receiver.toml",
    ] {
        let answer = get(web.port, path);
        // The last leaves /assets, and is the application's to answer.
        assert!(answer.status == 404 || answer.text().contains("PATH_INFO"), "{path}: {answer:?}");
        assert!(!answer.text().starts_with('x') && !answer.text().contains("[web]"), "{path}: {answer:?}");
    }
    let site = World::with_app();
    site.file("index.html", "home\n").file(".env", "secret\n").file(".well/x", "secret\n");
    site.file("a/.b/c", "secret\n")
        .file("receiver.toml", "[stages]\nbuild = \"true\"\n")
        .file("a/index.html", "a\n");
    site.commit("one");
    site.push().ok();
    let web = Web::with_site(&site);
    assert_eq!(get(web.port, "/").is(200).text(), "home\n");
    assert_eq!(get(web.port, "/a/").is(200).text(), "a\n");
    for path in ["/.env", "/%2eenv", "/.well/x", "/a/.b/c", "/receiver.toml", "/.receiver/web.sock", "/none"]
    {
        assert!(!get(web.port, path).is(404).text().contains("secret"), "{path}");
    }
}

#[test]
fn a_static_site_is_served_wholly_from_what_is_live() {
    let world = World::with_app();
    world.file("public/index.html", "one\n").file("public/about.html", "about\n");
    world.file("public/404.html", "not here\n").file("private.txt", "no\n");
    world.commit("one");
    world.push().ok();
    let web = Web::with_site(&world);
    assert_eq!(get(web.port, "/").is(200).text(), "one\n");
    assert_eq!(get(web.port, "/about").is(200).text(), "about\n");
    assert_eq!(get(web.port, "/private.txt").is(404).text(), "not here\n");
    world.file("public/index.html", "two\n");
    world.commit("two");
    world.push().ok();
    assert_eq!(get(web.port, "/").is(200).text(), "two\n");
    world.receiver(&["rollback"]).ok();
    assert_eq!(get(web.port, "/").is(200).text(), "one\n");
}

#[test]
fn a_symlink_that_leads_to_what_is_somebody_elses_is_not_served() {
    let (world, web) = behind("http", GUNICORN);
    let assets = world.live_directory().join("assets");
    symlink("/etc/passwd", assets.join("passwd")).unwrap();
    symlink("site.css", assets.join("same.css")).unwrap();
    symlink("/etc", assets.join("etc")).unwrap();
    for link in ["passwd", "etc"] {
        lchown(assets.join(link), Some(65534), Some(65534)).unwrap();
    }
    get(web.port, "/assets/same.css").is(200);
    for path in ["/assets/passwd", "/assets/etc/passwd"] {
        let answer = get(web.port, path);
        assert!([403, 404].contains(&answer.status), "{path}: {answer:?}");
    }
}

#[test]
fn a_slow_client_never_holds_the_application() {
    let (world, web) = behind("http", GUNICORN);
    let before = count(&world);
    // Ten clients, one worker: each sends its body byte by byte and does not end.
    let mut slow = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(("127.0.0.1", web.port)).unwrap();
        write!(
            stream,
            "POST /slow HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: 5\r\n\r\n"
        )
        .unwrap();
        for byte in b"slow" {
            stream.write_all(&[*byte]).unwrap();
        }
        slow.push(stream);
    }
    for n in 0..5 {
        said(get(web.port, &format!("/quick/{n}")));
    }
    assert_eq!(count(&world), before + 5, "the application heard of what is not whole");
    for mut stream in slow {
        stream.write_all(b"!").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(said(Answer::of(&answer))["body"], 5);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_and_the_application_does_not_hear_of_it() {
    let (world, web) = behind("http", GUNICORN);
    let before = count(&world);
    ask(web.port, "POST", "/", &["Content-Length: 10485761"], b"").is(413);
    assert_eq!(count(&world), before);
    world.receiver(&["config", "app", "nginx.max_body", "100B"]).ok();
    world.receiver(&["config", "app", "--site", "--install"]).ok();
    ask(web.port, "POST", "/", &[], &[b'x'; 101]).is(413);
    said(ask(web.port, "POST", "/", &[], &[b'x'; 100]));
    let long = format!("X: {}", "x".repeat(70_000));
    ask(web.port, "GET", "/", &[&long], b"").is(400);
}

#[test]
fn a_request_that_is_not_idempotent_is_never_sent_twice() {
    let (world, web) = behind("http", GUNICORN);
    let before = count(&world);
    ask(web.port, "POST", "/die", &[], b"x").is(502);
    assert_eq!(count(&world), before + 1);
}

const WEBSOCKET: &str = r"
import base64, hashlib, os, socket
server = socket.socket(socket.AF_UNIX)
server.bind(os.environ['RECEIVER_SOCKET'])
server.listen(8)
while True:
    connection, _ = server.accept()
    head = b''
    while b'\r\n\r\n' not in head:
        more = connection.recv(4096)
        if not more: break
        head += more
    if not head:
        connection.close()
        continue
    lines = dict(line.split(': ', 1) for line in head.decode().split('\r\n')[1:] if ': ' in line)
    if lines.get('Upgrade') != 'websocket' or lines.get('Connection') != 'upgrade':
        connection.sendall(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n' + repr(sorted(lines)).encode())
        connection.close()
        continue
    key = lines['Sec-WebSocket-Key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest())
    connection.sendall(b'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
                       b'Sec-WebSocket-Accept: ' + accept + b'\r\n\r\n')
    while True:
        frame = connection.recv(4096)
        if not frame: break
        connection.sendall(b'back:' + frame)
";

#[test]
fn a_websocket_goes_through_and_no_other_upgrade() {
    let (_world, web) = behind("http", "exec python3 ws.py");
    let mut stream = TcpStream::connect(("127.0.0.1", web.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        stream,
        "GET /ws HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .unwrap();
    let mut bytes = [0; 4096];
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let length = stream.read(&mut bytes).unwrap();
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&head));
        head.extend_from_slice(&bytes[..length]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // RFC 6455, section 1.3: the answer to this key.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    stream.write_all(b"frame").unwrap();
    let mut back = [0; 10];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"back:frame");
    drop(stream);
    let other = ask(web.port, "GET", "/", &["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"], b"").is(200);
    assert!(!other.text().contains("'Upgrade'"), "{}", other.text());
}

#[test]
fn maintenance_answers_everyone_with_503_and_no_reload() {
    let (world, web) = behind("http", GUNICORN);
    world.receiver(&["maintenance", "on", "--dry-run"]).ok().says("would answer everyone with 503");
    said(get(web.port, "/"));
    world.receiver(&["maintenance", "on"]).ok().says("maintenance is on: everyone gets 503 and a plain page");
    for answer in
        [get(web.port, "/x"), ask(web.port, "POST", "/", &[], b"x"), ask(web.port, "PUT", "/", &[], b"x")]
    {
        let answer = answer.is(503);
        assert!(answer.text().contains("Back in a moment"), "{answer:?}");
        assert_eq!(answer.header("retry-after").as_deref(), Some("120"));
        assert_eq!(answer.header("content-type").as_deref(), Some("text/html; charset=utf-8"));
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    }
    get(web.port, "/assets/site.css").is(200);
    std::fs::create_dir_all(web.place.join("challenge/.well-known/acme-challenge")).unwrap();
    std::fs::write(web.place.join("challenge/.well-known/acme-challenge/token"), "answer").unwrap();
    assert_eq!(get(web.port, "/.well-known/acme-challenge/token").is(200).text(), "answer");
    get(web.port, "/.receiver-maintenance").is(404);
    world.file("maintenance.html", "ours\n");
    world.commit("a page of our own");
    world.push().ok();
    world
        .receiver(&["maintenance", "app", "on"])
        .ok()
        .says("on already; the page is now the release's own page");
    assert_eq!(get(web.port, "/").is(503).text(), "ours\n");
    world.receiver(&["maintenance", "app", "off"]).ok().says("maintenance is off");
    world.receiver(&["maintenance", "app", "off"]).ok().says("maintenance is off already");
    world.receiver(&["maintenance", "app", "maybe"]).fails(2).says("say on or off");
    get(web.port, "/assets/site.css").is(200);
    let journal = world.receiver(&["history", "app"]).ok().stdout;
    for what in ["maintenance on", "maintenance off"] {
        assert_eq!(journal.matches(what).count(), 1, "{journal}");
    }
}

#[test]
fn a_page_for_maintenance_that_leads_elsewhere_shows_nothing_of_it() {
    let world = World::with_site();
    std::fs::remove_file(world.live_directory().join("index.html")).unwrap();
    symlink("/etc/passwd", world.live_directory().join("maintenance.html")).unwrap();
    world.receiver(&["maintenance", "on"]).fails(1).says("maintenance.html");
    assert!(!world.app().join("receiver/maintenance.html").exists());
}

/// The newest nginx that tests/run brings.
fn newest() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/newest-nginx/nginx");
    assert!(path.is_file(), "{} is missing: tests/run brings it", path.display());
    path
}

const KEEPS_OPEN: &str = r"
import os, socket, threading
server = socket.socket(socket.AF_UNIX)
server.bind(os.environ['RECEIVER_SOCKET'])
server.listen(64)
def serve(connection, n):
    head = b''
    while True:
        more = connection.recv(4096)
        if not more: return
        head += more
        while b'\r\n\r\n' in head:
            head = head.split(b'\r\n\r\n', 1)[1]
            body = str(n).encode()
            connection.sendall(b'HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n%s' % (len(body), body))
n = 0
while True:
    connection, _ = server.accept()
    n += 1
    threading.Thread(target=serve, args=(connection, n), daemon=True).start()
";

#[test]
fn nginx_makes_one_connection_a_request_also_the_newest_which_keeps_them_open_by_default() {
    for program in [PathBuf::from("/usr/sbin/nginx"), newest()] {
        let (world, mut web) = behind("http", "exec python3 keeps.py");
        web.stop();
        web.program.clone_from(&program);
        web.start(&world);
        world.until(10, "nginx to answer", || TcpStream::connect(("127.0.0.1", web.port)).is_ok());
        let numbers: Vec<u32> = (0..20).map(|_| get(web.port, "/").is(200).text().parse().unwrap()).collect();
        let all: std::collections::BTreeSet<u32> = numbers.iter().copied().collect();
        assert_eq!(all.len(), 20, "{}: connections {numbers:?}", program.display());
        send(web.port, format!("GET /assets/site.css HTTP/1.0\r\nHost: {HOST}\r\n\r\n").as_bytes()).is(200);
    }
}

#[test]
fn the_newest_nginx_takes_every_site_that_the_template_makes() {
    let mut world = World::new();
    let path = format!("{}:{}", newest().parent().unwrap().display(), std::env::var("PATH").unwrap());
    world.env.insert("PATH".into(), path);
    world.receiver(&["create", "app"]).ok();
    world.remote("app");
    world.file("echo.py", ECHO);
    world.receiver_fed(&["env", "app", "set", "COUNT"], b"/dev/null").ok();
    for (protocol, command) in [("http", GUNICORN), ("fastcgi", FASTCGI), ("uwsgi", UWSGI)] {
        world.file("receiver.toml", &format!(
            "[web]\ncommand = '{command}'\nprotocol = \"{protocol}\"\nstatic = {{ \"/assets\" = \"assets\", \"/\" = \"public\" }}\n"
        ));
        world.commit(protocol);
        world.push().ok();
        let web = Web::prepare(&world);
        world.receiver(&["config", "app", "versions.urls", "password"]).ok();
        // What the setting brought up to date already is to be judged as new.
        let _ = std::fs::remove_file(web.site());
        world.receiver(&["config", "app", "--site", "--install"]).ok().says("nginx does not run");
        assert!(
            std::fs::read_to_string(web.site())
                .unwrap()
                .contains(&format!("{}_pass ", if protocol == "http" { "proxy" } else { protocol }))
        );
    }
}
