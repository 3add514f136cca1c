//! The Debian package: made by one command, installed on a booted server, upgraded under load, removed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::booted::Booted;
use crate::keeping::Machine as _;
use crate::world::{PROGRAM, Said};

/// The package of the program that is tested, as this version.
fn package(version: &str, to: &Path) -> PathBuf {
    let script = format!("{}/packaging/deb", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(script);
    command.args(["--binary", PROGRAM, "--version", version, "--out"]).arg(to);
    PathBuf::from(Said::of(&command.output().unwrap()).ok().stdout.trim())
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
    let file = package("0.1.0", place.path()).display().to_string();
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
    let (one, two) = (package("0.1.0", place.path()), package("0.1.1", place.path()));
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
