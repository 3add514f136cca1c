//! Somebody is told of what goes wrong, and figures are written.

use serde_json::Value;

use crate::shapes::differs;
use crate::world::World;

/// A site whose events go to the file `told`.
fn world() -> World {
    let world = World::with_site();
    let told = world.place().join("told");
    let command = format!("cat >> {0}; echo >> {0}", told.display());
    world.receiver(&["config", "app", "notify.command", &command]).ok();
    world
}

/// What was told so far.
fn told(world: &World) -> Vec<Value> {
    let text = std::fs::read_to_string(world.place().join("told")).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All that waited was delivered.
#[track_caller]
fn until_told(world: &World, count: usize) -> Vec<Value> {
    world.until(20, &format!("{count} events"), || {
        let waiting = world.names("receiver/notices").iter().any(|name| name.contains(".json"));
        told(world).len() >= count && !waiting
    });
    let told = told(world);
    assert_eq!(told.len(), count, "{told:#?}");
    told
}

/// The look of each minute.
fn look(world: &World) {
    world.receiver(&["cron", "app", ".watch"]).ok();
}

/// An event has the shape that the document promises.
#[track_caller]
fn has_its_shape(event: &Value) {
    let text = std::fs::read_to_string(format!("{}/docs/format.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let section =
        text.split_once("### The event of `[notify]`, as a shape").expect("the event has a section").1;
    let shape = section.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
    assert_eq!(differs(&serde_json::from_str(shape).unwrap(), event, "event"), None);
}

#[test]
fn a_deploy_that_fails_is_told_once_and_one_that_succeeds_if_asked() {
    let world = world();
    world.file("index.html", "two\n").commit("two");
    world.push().ok();
    world.receiver_fed(&["env", "app", "set", "TOKEN"], b"a-secret-token\n").ok();
    world.file("receiver.toml", "[stages]\nbuild = \"echo $TOKEN; exit 7\"\n[database]\nengine = \"none\"\n");
    let revision = world.commit("broken");
    world.push().ok().says("NOT LIVE");
    let event = until_told(&world, 1).remove(0);
    has_its_shape(&event);
    assert_eq!((&event["event"], &event["app"]), (&"failed".into(), &"app".into()));
    assert_eq!(event["deploy"]["revision"], revision.as_str());
    assert_eq!(event["live"], world.live().unwrap().as_str());
    assert!(event["summary"].as_str().unwrap().starts_with("app: NOT LIVE: still 0/"), "{event}");
    assert!(!event.to_string().contains("secret"), "{event}");
    world.receiver(&["config", "app", "notify.on", "[\"live\"]"]).ok();
    world.receiver(&["deploy", "app"]).fails(1);
    world.remove("receiver.toml").commit("mended");
    world.push().ok();
    assert_eq!(until_told(&world, 2)[1]["event"], "live");
    world.receiver(&["config", "app", "notify.on", "[\"nonsense\"]"]).fails(2);
}

#[test]
fn a_command_that_hangs_or_fails_holds_nothing_up_and_is_noted() {
    let world = World::with_site();
    let pid = world.place().join("pid");
    let hangs = format!("echo $$ > {}; echo it began; exec sleep 600", pid.display());
    world.receiver(&["config", "app", "notify.command", &hangs]).ok();
    world
        .file("receiver.toml", "[stages]\nbuild = \"exit 7\"\n[database]\nengine = \"none\"\n")
        .commit("broken");
    world.push().ok().says("NOT LIVE");
    let read = || std::fs::read_to_string(&pid).unwrap_or_default();
    world.until(20, "it to be told", || read().ends_with('\n'));
    // It hangs, and deploys go on.
    world.remove("receiver.toml").file("index.html", "two\n").commit("mended");
    world.push().ok().says("=====> live:");
    world.run("kill", world.place(), &[read().trim()]).ok();
    world.until(20, "its end to be noted", || {
        world
            .receiver(&["status", "app", "--check"])
            .stderr
            .contains("[notify] failed: it was ended by signal 15")
    });
    world.receiver(&["logs", "app", "notify"]).ok().says("| it began").says("was ended by signal 15");
    world.receiver(&["config", "app", "notify.command", "exit 3"]).ok();
    world.receiver(&["config", "app", "notify.on", "[\"live\"]"]).ok();
    world.receiver(&["deploy", "app"]).ok();
    let check = || world.receiver(&["status", "app", "--check"]);
    world.until(20, "the failure", || check().stderr.contains("it exited with status 3"));
    world.receiver(&["config", "app", "notify.command", "true"]).ok();
    world.receiver(&["deploy", "app"]).ok();
    world.until(20, "it to be well again", || check().code == 0);
}

#[test]
fn a_process_that_ends_again_and_again_is_told_once() {
    let world = world();
    world.file(
        "receiver.toml",
        "[database]\nengine = \"none\"\n[process.mailer]\ncommand = \"sleep 0.2; exit 9\"\n",
    );
    world.commit("a mailer");
    world.push();
    let restarts = || world.status()["processes"][0]["restarts"].as_u64().unwrap_or(0);
    world.until(30, "three restarts", || restarts() >= 3);
    let before = told(&world).len();
    for _ in 0..3 {
        look(&world);
    }
    let events = until_told(&world, before + 1);
    let event = events.last().unwrap();
    has_its_shape(event);
    assert_eq!((&event["event"], &event["process"]["name"]), (&"crash-loop".into(), &"mailer".into()));
    world.receiver(&["status", "app", "--check"]).fails(1).says("process `mailer`");
}

/// A certificate of so many days.
fn certificate(world: &World, days: &str) {
    let (chain, key) = (world.place().join("chain.pem"), world.place().join("key.pem"));
    let (chain, key) = (chain.display().to_string(), key.display().to_string());
    let made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=app.example", "-days", days];
    world.run("openssl", world.place(), &[&made[..], &["-out", &chain, "-keyout", &key]].concat()).ok();
}

#[test]
fn a_certificate_is_told_of_before_it_ends_and_when_it_has() {
    let mut world = world();
    let told_of =
        |world: &World| told(world).into_iter().map(|event| event["summary"].clone()).collect::<Vec<_>>();
    certificate(&world, "90");
    let place = world.place().display().to_string();
    let file = world.app().join("receiver.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let nginx = format!(
        "{before}\n[nginx]\ncertificate = \"{place}/chain.pem\"\ncertificate_key = \"{place}/key.pem\"\n"
    );
    std::fs::write(&file, nginx).unwrap();
    look(&world);
    assert!(told(&world).is_empty());
    world.receiver(&["status", "app", "--check"]).ok();
    certificate(&world, "9");
    for _ in 0..2 {
        look(&world);
    }
    has_its_shape(&until_told(&world, 1)[0]);
    assert!(told_of(&world)[0].as_str().unwrap().contains("chain.pem ends in "), "{:?}", told_of(&world));
    world.receiver(&["status", "app", "--check"]).fails(1).says("the certificate");
    // Renewed, and in ten weeks again.
    certificate(&world, "90");
    look(&world);
    world.receiver(&["status", "app", "--check"]).ok();
    let day = 24 * 3600;
    for days in [80, 81, 91, 92] {
        world.env.insert("RECEIVER_TEST_CLOCK".into(), (days * day).to_string());
        look(&world);
    }
    world.env.clear();
    until_told(&world, 3);
    assert!(told_of(&world)[2].as_str().unwrap().contains("ended on"), "{:?}", told_of(&world));
    std::fs::write(world.place().join("chain.pem"), "no certificate").unwrap();
    world.receiver(&["status", "app", "--check"]).fails(1).says("is no certificate");
}

#[test]
fn somebody_looks_once_a_minute_while_it_is_wanted() {
    let world = world();
    let times =
        || std::fs::read_to_string(world.app().join("receiver/run/cron/.times.json")).unwrap_or_default();
    assert!(times().contains(".watch"), "{}", times());
    world.receiver(&["config", "app", "--unset", "notify.command"]).ok();
    assert!(!times().contains(".watch"), "{}", times());
    let file = world.place().join("app.prom").display().to_string();
    world.receiver(&["config", "app", "metrics.file", &file]).ok();
    assert!(times().contains(".watch"), "{}", times());
    world.receiver(&["down", "app"]).ok();
}

#[test]
fn figures_are_written_for_prometheus() {
    let world = World::with_web_and_notes();
    let file = world.place().join("app.prom");
    world.receiver(&["config", "app", "metrics.file", &file.display().to_string()]).ok();
    look(&world);
    let read = || std::fs::read_to_string(&file).unwrap();
    let figure = |name: &str| -> Option<f64> {
        let line = read().lines().find(|line| line.starts_with(&format!("receiver_{name} ")))?.to_owned();
        line.rsplit(' ').next()?.parse().ok()
    };
    for (name, value) in [
        ("live_version{app=\"app\"}", 0.0),
        ("in_sync{app=\"app\"}", 1.0),
        ("queue_length{app=\"app\"}", 0.0),
        ("deploys_total{app=\"app\",outcome=\"live\"}", 1.0),
        ("deploys_total{app=\"app\",outcome=\"failed\"}", 0.0),
        ("process_up{app=\"app\",process=\"web\"}", 1.0),
        ("process_restarts{app=\"app\",process=\"web\"}", 0.0),
        ("attention{app=\"app\"}", 0.0),
    ] {
        assert_eq!(figure(name), Some(value), "{name}\n{}", read());
    }
    assert!(figure("disk_bytes{app=\"app\"}").unwrap() > 1000.0);
    assert!(figure("live_since_timestamp_seconds{app=\"app\"}").unwrap() > 1.7e9);
    assert!(figure("database_bytes{app=\"app\"}").unwrap() > 1000.0);
    // The worker writes them anew, when all is done.
    world.next_page("two", true);
    world.push().ok();
    world.until(20, "the figures of version 1", || figure("live_version{app=\"app\"}") == Some(1.0));
    // Every name is in the document, and every line has its form.
    let document = std::fs::read_to_string(format!("{}/docs/format.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    for line in read().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap();
            assert!(document.contains(&format!("`{name}`")), "{name} is not in docs/format.md");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(
                name.starts_with("receiver_") && name.ends_with('}') && value.parse::<f64>().is_ok(),
                "{line}"
            );
        }
    }
    let status = world.receiver(&["status", "app", "--check"]);
    assert_eq!(status.code, 0, "{}", status.stderr);
}

#[test]
fn monitoring_is_told_the_cause() {
    let world = World::with_site();
    let check = || world.receiver(&["status", "--check"]);
    check().ok();
    let old = world.status()["revision"].as_str().unwrap()[..7].to_owned();
    world.file("index.html", "two\n");
    let new = world.commit("two")[..7].to_owned();
    world.push().ok();
    world.receiver(&["rollback", "app"]).ok();
    check().fails(1).says(&format!("app needs attention: main is at {new}, and {old} is live"));
    world.receiver(&["create", "second"]).ok();
    check().fails(1).says("app needs attention");
    world.receiver(&["deploy", "app"]).ok();
    world.until_idle();
    check().ok();
}

/// Runs an example of `examples/notify` on an event.
fn example(world: &World, name: &str, event: &str, env: &[(&str, String)]) -> (i32, String) {
    use std::io::Write as _;
    let program = format!("{}/examples/notify/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut command = world.command(&program, world.place());
    command.envs(env.iter().map(|(name, value)| (*name, value.as_str())));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(event.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

const EVENT: &str = r#"{"format":1,"event":"failed","app":"app","time":"2026-11-28T14:00:00Z","summary":"app: NOT LIVE; \"$(touch broken)\" `x` it's \\ bad\nBcc: all@example.org","live":null}"#;

#[test]
fn the_examples_send_a_mail_and_a_chat_message_whatever_the_event_says() {
    let world = World::new();
    let sent = world.place().join("sent");
    let sendmail = world.place().join("sendmail");
    std::fs::write(&sendmail, format!("#!/bin/sh\ncat > {}\n", sent.display())).unwrap();
    world.run("chmod", world.place(), &["755", &sendmail.display().to_string()]).ok();
    let env = [("SENDMAIL", sendmail.display().to_string()), ("TO", "ops@example.org".to_owned())];
    assert_eq!(example(&world, "mail", EVENT, &env), (0, String::new()));
    let mail = std::fs::read_to_string(&sent).unwrap();
    let (head, body) = mail.split_once("\n\n").unwrap();
    assert!(head.contains("To: ops@example.org") && head.contains("Subject: "), "{mail}");
    assert!(!head.contains("\nBcc:") && body.contains("NOT LIVE"), "{mail}");
    // A server that takes one request, and keeps it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&text).contains("\r\n\r\n") || !text.ends_with(b"}") {
            let read = stream.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
        String::from_utf8(text).unwrap()
    });
    assert_eq!(example(&world, "chat-webhook", EVENT, &[("WEBHOOK", url)]), (0, String::new()));
    let request = server.join().unwrap();
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    let event: Value = serde_json::from_str(EVENT).unwrap();
    assert_eq!(body["text"], event["summary"]);
    assert!(!world.place().join("broken").exists());
    assert_ne!(example(&world, "chat-webhook", EVENT, &[("WEBHOOK", "http://127.0.0.1:1/".to_owned())]).0, 0);
}
