//! A server with systemd, nginx and an application: what its users see after a crash, a reboot and a power
//! cut, also in mid-hold, with nobody typing.

use std::time::Instant;

use crate::booted::Booted;
use crate::keeping::Machine;
use crate::web::WEB;

/// An application of the fixtures, live behind nginx on port 80 of the server. While the file
/// `/root/slow` is there, a version that opens takes its time under the hold.
fn served() -> Booted {
    let server = Booted::new();
    server.sh("mkdir -p /root/site").ok();
    let site = server.disk().join("root/site");
    let file = |name: &str, text: &str| std::fs::write(site.join(name), text).unwrap();
    file("web.py", include_str!("../fixtures/web.py"));
    file("index.html", "one\n");
    file("schema.sql", "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n");
    file(
        "migrate.sh",
        "set -e\nif [ -e /root/slow ] && [ -z \"$RECEIVER_REHEARSAL\" ]; then touch /root/held; sleep 30; fi\n\
         python3 -c 'import os, sqlite3\nsqlite3.connect(os.environ[\"RECEIVER_DATABASE_NAME\"]).executescript(open(\"schema.sql\").read())'\n",
    );
    file(
        "receiver.toml",
        &format!(
            "{WEB}[stages]\nsyncdb = \"sh migrate.sh\"\n[schema]\npaths = [\"schema.sql\"]\n\
             [database]\nengine = \"sqlite\"\nmax_pause = \"120s\"\n"
        ),
    );
    server
        .sh("set -e
            rm -f /etc/nginx/sites-enabled/default
            systemctl enable --now nginx 2>&1
            receiver create app
            receiver config app domain app.test
            git config --global user.name Ada; git config --global user.email ada@example.org
            cd /root/site; git init --quiet --initial-branch=main
            git add .; git commit --quiet -m one
            git push --quiet /srv/app/repo.git main 2>&1
            receiver config app --site --install")
        .ok()
        .says("live: 0/");
    server
}

fn get(server: &Booted, path: &str) -> String {
    server
        .sh(&format!("curl --silent --fail --max-time 20 -H 'Host: app.test' http://127.0.0.1{path}"))
        .stdout
}

fn post(server: &Booted, text: &str) -> bool {
    let post =
        format!("curl --silent --fail --max-time 20 -H 'Host: app.test' -d '{text}' http://127.0.0.1/");
    server.sh(&post).code == 0
}

/// Waits until a write is acknowledged, and prints how long that took.
#[track_caller]
fn until_written(server: &Booted, text: &str, since: Instant) {
    until(server, &format!("the write of {text}"), || post(server, text));
    eprintln!("{text}: {:.1} s until the first write", since.elapsed().as_secs_f64());
}

#[track_caller]
fn until(server: &Booted, what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed().as_secs() < 90, "waited 90 s for {what}\n{}", server.picture());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// A push that opens version 1 and is caught in mid-hold.
fn caught_in_mid_hold() -> Booted {
    let server = served();
    assert!(post(&server, "before"));
    server
        .sh("set -e
            cd /root/site; touch /root/slow; echo two > index.html
            echo 'CREATE TABLE IF NOT EXISTS more (id INTEGER PRIMARY KEY);' >> schema.sql
            git commit --quiet -am two
            setsid git push --quiet /srv/app/repo.git main >/root/push.log 2>&1 </dev/null &")
        .ok();
    until(&server, "the hold", || server.disk().join("root/held").exists());
    std::fs::remove_file(server.disk().join("root/slow")).unwrap();
    server
}

#[track_caller]
fn the_deploy_is_made_again(server: &Booted) {
    until(server, "the deploy to be made again", || get(server, "/") == "two\n");
    assert_eq!(get(server, "/notes").lines().filter(|note| *note == "before").count(), 1);
    let status = server.receiver(&["status", "app", "--json"]).ok().json();
    assert_eq!(status["apps"][0]["current"].as_str().unwrap().split('/').next(), Some("1"), "{status}");
    until(server, "the doctor to find nothing", || server.receiver(&["doctor", "app"]).code == 0);
}

#[test]
fn after_a_crash_a_reboot_and_a_power_cut_what_was_live_is_live_again_with_nobody_typing() {
    let server = served();
    assert_eq!(get(&server, "/"), "one\n");
    assert!(post(&server, "first"));
    let status = server.receiver(&["status", "app", "--json"]).ok().json();
    let pid = status["apps"][0]["processes"][0]["pid"].as_u64().unwrap();
    let since = Instant::now();
    server.sh(&format!("kill -9 {pid}")).ok();
    until_written(&server, "after the process was killed", since);
    let since = Instant::now();
    server.reboot();
    until_written(&server, "after the reboot", since);
    let since = Instant::now();
    server.power_cut();
    until_written(&server, "after the power cut", since);
    assert_eq!(get(&server, "/"), "one\n");
    assert_eq!(get(&server, "/count"), "4");
    // What somebody put down stays down.
    server.receiver(&["down", "app"]).ok();
    server.reboot();
    until(&server, "the boot", || {
        server.sh("systemctl is-active receiver-up@srv.service nginx").stdout.contains("active")
    });
    assert!(!post(&server, "while it is down"));
    server.receiver(&["up", "app"]).ok();
    assert!(post(&server, "after up"));
}

#[test]
fn a_power_cut_in_mid_hold_loses_no_write_and_needs_nobody() {
    let server = caught_in_mid_hold();
    let since = Instant::now();
    server.power_cut();
    until_written(&server, "after a power cut in mid-hold", since);
    the_deploy_is_made_again(&server);
}

#[test]
fn a_reboot_in_mid_hold_loses_no_write_and_needs_nobody() {
    let server = caught_in_mid_hold();
    let since = Instant::now();
    server.reboot();
    until_written(&server, "after a reboot in mid-hold", since);
    the_deploy_is_made_again(&server);
}

#[test]
fn a_worker_that_is_killed_in_mid_hold_loses_no_write_and_needs_nobody() {
    let server = caught_in_mid_hold();
    let since = Instant::now();
    server.sh("pkill -9 -f '[r]eceiver --root /srv work app'").ok();
    until_written(&server, "after the worker was killed in mid-hold", since);
    the_deploy_is_made_again(&server);
}

#[test]
fn a_version_that_sleeps_is_woken_under_systemd_also_after_its_waker_was_killed_and_after_a_boot() {
    let server = served();
    assert!(post(&server, "of version 0"));
    server
        .sh("set -e
            cd /root/site; echo two > index.html
            echo 'CREATE TABLE IF NOT EXISTS more (id INTEGER PRIMARY KEY);' >> schema.sql
            git commit --quiet -am two; git push --quiet /srv/app/repo.git main 2>&1
            receiver config app versions.urls public")
        .ok()
        .says("live: 1/");
    assert!(post(&server, "of version 1"));
    let old = |path: &str| {
        server
            .sh(&format!("curl --silent --fail --max-time 20 -H 'Host: v0.app.test' http://127.0.0.1{path}"))
            .stdout
    };
    until(&server, "version 0 to wake", || old("/") == "one\n");
    assert_eq!(old("/notes"), "of version 0");
    assert_eq!(get(&server, "/notes"), "of version 0\nof version 1");
    server.sh("pkill -9 -f '[r]eceiver --root /srv wake app'").ok();
    until(&server, "another waker", || old("/") == "one\n");
    server.reboot();
    until(&server, "version 0 to wake after a boot", || old("/") == "one\n");
    assert_eq!(get(&server, "/"), "two\n");
}
