//! The Debian package: made by one command, installed on a booted server, upgraded under load, removed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::booted::Booted;
use crate::keeping::Machine as _;
use crate::setup::Site;
use crate::world::{PROGRAM, Said};

/// The package of the program that is tested.
fn package(to: &Path) -> PathBuf {
    package_of(PROGRAM, "0.1.0", to)
}

fn package_of(program: &str, version: &str, to: &Path) -> PathBuf {
    let script = format!("{}/packaging/deb", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(script);
    command.args(["--binary", program, "--version", version, "--out"]).arg(to);
    PathBuf::from(Said::of(&command.output().unwrap()).ok().stdout.trim())
}

/// That of the next version, which is really another program.
fn next_package(to: &Path) -> PathBuf {
    let script = format!("{}/tests/server/make-other", env!("CARGO_MANIFEST_DIR"));
    let program = Said::of(&Command::new(script).output().unwrap()).ok().stdout;
    package_of(program.trim(), "0.1.1", to)
}

#[track_caller]
fn until(server: &Booted, what: &str, script: &str) {
    let begun = Instant::now();
    while server.sh(script).code != 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited for {what}\n{}", server.picture());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_package_has_the_program_its_manual_completions_and_scripts_that_are_sound() {
    let place = tempfile::tempdir().unwrap();
    let file = package(place.path()).display().to_string();
    let ask = |arguments: &[&str]| {
        Said::of(&Command::new("dpkg-deb").args(arguments).arg(&file).output().unwrap()).ok().stdout
    };
    let contents = ask(&["--contents"]);
    for path in [
        "./usr/bin/receiver",
        "./usr/share/man/man1/receiver.1.gz",
        "./usr/share/bash-completion/completions/receiver",
        "./usr/share/zsh/vendor-completions/_receiver",
        "./usr/share/fish/vendor_completions.d/receiver.fish",
        "./usr/share/doc/receiver/copyright",
        "./usr/share/doc/receiver/examples/server-receiver.toml",
        "./usr/lib/receiver/notify/mail",
    ] {
        let line = contents.lines().find(|line| line.ends_with(path));
        let line = line.unwrap_or_else(|| panic!("{path} is not in\n{contents}"));
        assert!(line.contains(" root/root "), "{line}");
    }
    let control = ask(&["--field"]);
    assert!(control.contains("Depends: libc6 (>= ") && control.contains("Version: 0.1.0\n"), "{control}");
    for script in ["preinst", "postinst", "prerm", "postrm"] {
        let path = format!("{}/packaging/debian/{script}", env!("CARGO_MANIFEST_DIR"));
        Said::of(&Command::new("sh").args(["-n", &path]).output().unwrap()).ok();
    }
}

/// An application that waits in its build, where it is told to.
const APP: &str = r#"set -e
git config --global user.name Ada; git config --global user.email ada@example.org
systemctl start nginx
receiver create hello
receiver config hello domain hello.example
git init --quiet --initial-branch=main /root/hello; cd /root/hello
cat > wsgi.py <<'END'
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]
END
cat > receiver.toml <<'END'
[stages]
build = "touch /root/building; until [ -e /root/gate ]; do sleep 0.05; done"
[database]
engine = "none"
[web]
command = "exec gunicorn --bind unix:$RECEIVER_SOCKET wsgi"
settle = "100ms"
END
git add .; git commit --quiet -m one
touch /root/gate
git push --quiet /srv/hello/repo.git main 2>&1
receiver config hello --site --install 2>&1
"#;

#[test]
fn the_package_is_upgraded_under_load_waits_for_a_deploy_and_leaves_apps_when_it_is_removed() {
    let place = tempfile::tempdir().unwrap();
    let (one, two) = (package(place.path()), next_package(place.path()));
    let server = Booted::new();
    for (file, name) in [(&one, "one.deb"), (&two, "two.deb")] {
        std::fs::copy(file, server.disk().join("root").join(name)).unwrap();
    }
    server.sh("rm /usr/local/bin/receiver; dpkg -i /root/one.deb 2>&1").ok();
    server.sh(APP).ok().says("live: 0/");
    server.sh("readlink /srv/hello/repo.git/hooks/receiver").ok().says("/usr/bin/receiver");
    let load = "while [ ! -e /root/stop ]; do curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}\\n' \
                -H 'Host: hello.example' http://127.0.0.1/ >> /root/codes; done; touch /root/stopped";
    server.sh(&format!("setsid sh -c \"{load}\" >/dev/null 2>&1 </dev/null &")).ok();
    until(&server, "requests", "[ $(wc -l < /root/codes) -gt 20 ]");
    // A deploy runs when the upgrade comes, and ends before it.
    server.sh("rm /root/gate /root/building; cd /root/hello; git commit --quiet --allow-empty -m two").ok();
    server.sh("cd /root/hello; setsid git push /srv/hello/repo.git main >/root/push 2>&1 </dev/null &").ok();
    until(&server, "the deploy", "[ -e /root/building ]");
    server.sh("setsid dpkg -i /root/two.deb >/root/upgrade 2>&1 </dev/null &").ok();
    until(&server, "the upgrade to wait", "grep -q 'waiting for what runs in /srv/hello' /root/upgrade");
    server.sh("dpkg -s receiver").ok().says("Version: 0.1.0");
    server.sh("touch /root/gate").ok();
    until(&server, "the deploy to end", "grep -q '=====> live: 0/' /root/push");
    until(
        &server,
        "the upgrade",
        "dpkg -s receiver | grep -q 'Version: 0.1.1' && dpkg -s receiver | grep -q 'ok installed'",
    );
    until(
        &server,
        "what comes after it",
        "systemctl show --property=ActiveState receiver-up@srv.service | grep -q inactive",
    );
    server.sh("systemctl show --property=Result receiver-up@srv.service").ok().says("Result=success");
    server.receiver(&["--version"]).ok().says("receiver 0.1.1");
    server.receiver(&["status", "hello", "--check"]).ok();
    // The next deploy is the new one's.
    server.sh("cd /root/hello; git commit --quiet --allow-empty -m three; git push /srv/hello/repo.git main 2>&1").ok().says("live: 0/");
    let more =
        "n=$(wc -l < /root/codes); until [ $(wc -l < /root/codes) -gt $((n + 20)) ]; do sleep 0.02; done";
    server.sh(more).ok();
    server.sh("dpkg -r receiver 2>&1").ok().says("apps that run go on");
    assert_ne!(server.sh("command -v receiver").code, 0);
    server.sh(more).ok();
    server.sh("touch /root/stop").ok();
    until(&server, "the load to end", "[ -e /root/stopped ]");
    assert_eq!(server.sh("sort /root/codes | uniq -c | grep -v ' 200$'").stdout, "", "requests failed");
    // Installed again, it goes on as before, over a boot, too.
    server.sh("dpkg -i /root/two.deb 2>&1 && receiver up hello 2>&1").ok();
    server.receiver(&["status", "hello", "--check"]).ok();
    server.sh("dpkg --purge receiver 2>&1; ls /srv/hello/current/wsgi.py").ok();
}

/// Has requests come over the cable, one after the other, as long as there is no `stop`.
fn load(site: &Site) {
    let ask = "curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}\\n' --resolve app.example:80:192.0.2.2";
    site.dev(&format!(
        "setsid sh -c \"while [ -d $PWD ] && [ ! -e stop ]; do {ask} http://app.example/ >> codes; done; touch stopped\" >/dev/null 2>&1 </dev/null &"
    ))
    .ok();
    more(site);
}

/// Some more requests have been answered.
fn more(site: &Site) {
    let answered =
        || std::fs::read_to_string(site.laptop.path().join("codes")).unwrap_or_default().lines().count();
    let before = answered();
    site.until("requests", || answered() > before + 20);
}

#[test]
fn a_server_that_was_set_up_is_upgraded_to_another_program_under_load_and_no_request_fails() {
    let place = tempfile::tempdir().unwrap();
    let (one, two) = (package(place.path()), next_package(place.path()));
    let site = Site::new();
    for (file, name) in [(&one, "one.deb"), (&two, "two.deb")] {
        std::fs::copy(file, site.server.disk().join("root").join(name)).unwrap();
    }
    site.sh("apt-get update -qq; apt-get install -qq -y --no-install-recommends python3 >/dev/null 2>&1")
        .ok();
    site.sh("rm /usr/local/bin/receiver; apt-get install -qq -y --no-install-recommends /root/one.deb >/dev/null 2>&1; receiver --version")
        .ok()
        .says("receiver 0.1.0");
    let setup = "receiver setup app --domain app.example --database sqlite --key /root/key.pub 2>&1";
    site.paste(&site.sh(setup).ok());
    site.for_engine("sqlite");
    // It waits in its build, where it is told to.
    let gate = "touch shared/building; while [ -e shared/gate ]; do sleep 0.05; done";
    let toml = site.read("receiver.toml").replace("id -un; touch built", gate);
    site.file("receiver.toml", &format!("{toml}[shared]\ndirs = [\"shared\"]\n"));
    site.push("one").ok().says("=====> live: 0/");
    load(&site);

    // A deploy that opens a version runs when the upgrade comes, and ends before it.
    let shared = "/srv/app/shared/shared";
    site.sh(&format!("rm {shared}/building; touch {shared}/gate")).ok();
    site.file("steps/2.sql", "ALTER TABLE entry ADD COLUMN note VARCHAR(100)");
    site.dev("cd app; git add .; git commit --quiet -m two; setsid git push production main >../pushed 2>&1 </dev/null &").ok();
    until(&site.server, "the build", &format!("[ -e {shared}/building ]"));
    site.sh("setsid dpkg -i /root/two.deb >/root/upgrade 2>&1 </dev/null &").ok();
    until(&site.server, "the upgrade to wait", "grep -q 'waiting for what runs in /srv/app' /root/upgrade");
    site.sh("receiver --version").ok().says("receiver 0.1.0");
    site.sh(&format!("rm {shared}/gate")).ok();
    let pushed = || std::fs::read_to_string(site.laptop.path().join("pushed")).unwrap_or_default();
    site.until("the deploy to end", || pushed().contains("=====> live: 1/"));
    until(
        &site.server,
        "the upgrade",
        "dpkg -s receiver | grep -q 'Version: 0.1.1' && dpkg -s receiver | grep -q 'ok installed'",
    );
    site.sh("receiver --version").ok().says("receiver 0.1.1");
    // Its units are those of the new program, and all is as setup would have it.
    until(
        &site.server,
        "the units",
        "grep -q '^# As 0.1.1 has it' /etc/systemd/system/receiver-work@.service",
    );
    site.sh(setup).ok().says("nothing was changed");
    more(&site);

    // What comes next is the new one's: a deploy, a rollback with its data, keys.
    site.file("index.html", "third\n");
    site.push("three").ok().says("=====> live: 1/");
    site.until_page("/", "third\n");
    site.ssh("rollback app --version 0").ok().says("=====> live: 0/");
    site.until_page("/version", "0");
    site.ssh("status app").ok().says("running in 0/");
    more(&site);
    site.dev("touch stop").ok();
    site.until("the load to end", || site.laptop.path().join("stopped").exists());
    let codes = std::fs::read_to_string(site.laptop.path().join("codes")).unwrap();
    let bad: Vec<_> = codes.lines().filter(|code| *code != "200").collect();
    assert!(bad.is_empty(), "{} of {} requests failed: {bad:?}", bad.len(), codes.lines().count());
}
