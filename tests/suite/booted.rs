//! A server of its own for a test: booted, with systemd as its PID 1, and the program installed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::keeping::{CASES, Kept, Machine};
use crate::world::{PROGRAM, Said};

/// A booted server; it goes away with the test.
pub struct Booted {
    name: String,
    bare: bool,
}

/// What the apt of a bare server finds.
const PACKAGES: &str = "git nginx mariadb-server mariadb-client postgresql postgresql-client python3 python3-mysqldb mercurial \
                        python3-psycopg2 python3-django gunicorn logrotate";

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/server").join(name)
}

impl Booted {
    /// Boots one with the program at `/usr/local/bin/receiver`.
    pub fn new() -> Booted {
        Booted::boot(false)
    }

    /// One that has sshd and nothing else, and an apt that finds packages without a network.
    pub fn bare() -> Booted {
        Booted::boot(true)
    }

    fn boot(bare: bool) -> Booted {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let server = Booted { name: format!("r{}-{number}", std::process::id()), bare };
        server.act(&["up"]).ok();
        std::fs::copy(PROGRAM, server.disk().join("usr/local/bin/receiver")).unwrap();
        server
    }

    /// The same with a static site called `app`, pushed and live.
    pub fn with_site() -> Booted {
        let server = Booted::new();
        server
            .sh("set -e
                receiver create app
                git config --global user.name Ada; git config --global user.email ada@example.org
                git init --quiet --initial-branch=main /root/site; cd /root/site
                echo one > index.html; git add .; git commit --quiet -m one
                git push --quiet /srv/app/repo.git main 2>&1")
            .ok();
        server
    }

    fn act(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(script("server"));
        command.arg(&self.name).args(arguments).stdin(Stdio::null());
        if self.bare {
            command.env("BARE", "1").env("PACKAGES", PACKAGES);
        }
        // What the server is started by must not keep our pipes open.
        if ["up", "reboot", "powercut"].contains(&arguments[0]) {
            let log = std::env::temp_dir().join(format!("{}.log", self.name));
            let file = std::fs::File::create(&log).unwrap();
            let status = command.stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
            let text = std::fs::read_to_string(&log).unwrap();
            std::fs::remove_file(log).unwrap();
            return Said { code: status.code().unwrap_or(128), stdout: text, stderr: String::new() };
        }
        Said::of(&command.output().unwrap())
    }

    /// Its disk, seen from outside.
    pub fn disk(&self) -> PathBuf {
        PathBuf::from(self.act(&["root"]).ok().stdout.trim())
    }

    /// A program inside, as root.
    pub fn exec(&self, arguments: &[&str]) -> Said {
        self.act(&[&["exec"], arguments].concat())
    }

    /// A program on the developer's side of its cable; the server is 192.0.2.2 there.
    pub fn dev(&self, arguments: &[&str]) -> Said {
        self.act(&[&["dev"], arguments].concat())
    }

    /// Restarts it; what is on its disk stays.
    pub fn reboot(&self) {
        self.act(&["reboot"]).ok();
    }

    /// Kills all of it at once, and boots it again.
    pub fn power_cut(&self) {
        self.act(&["powercut"]).ok();
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server when it failed:\n{}", self.picture());
        }
        self.act(&["down"]);
    }
}

impl Machine for Booted {
    fn receiver(&self, arguments: &[&str]) -> Said {
        self.exec(&[&["receiver"], arguments].concat())
    }

    fn sh(&self, script: &str) -> Said {
        self.exec(&["sh", "-c", script])
    }

    fn picture(&self) -> String {
        self.sh("systemctl --no-pager list-units 'receiver*' --all; journalctl --no-pager -n 60").stdout
    }
}

#[test]
fn systemd_keeps_processes_running() {
    let server = Booted::with_site();
    for (name, case) in CASES {
        eprintln!("{name}");
        case(&server);
    }
    let kept = Kept::begin(&server, "exec sleep 600", &[]);
    server.sh(&format!("grep -q '\"keeper\": \"system\"' {}", kept.file)).ok();
    drop(kept);
    let units = server.sh("systemctl list-units --all --plain --no-legend 'receiver-process@*'").ok().stdout;
    assert_eq!(units, "", "units are left");
}

#[test]
fn the_hardening_of_units_breaks_no_ordinary_application() {
    let server = Booted::with_site();
    let app =
        "def application(e, s):\n    s('200 OK', [('Content-Type', 'text/plain')])\n    return [b'well']\n";
    let write = format!("cat > /srv/app/current/wsgi.py <<'END'\n{app}END\n");
    server.sh(&write).ok();
    let socket = "/srv/app/receiver/run/app/x.sock";
    let commands = [
        format!("exec gunicorn --workers 2 --bind unix:{socket} wsgi"),
        format!(
            "exec uwsgi_python3 --http-socket {socket} --master --processes 2 --need-app --die-on-term \
             --module wsgi:application"
        ),
        format!(
            "exec uwsgi --plugin python3 --http-socket {socket} --master --need-app --module wsgi:application --die-on-term"
        ),
    ];
    for command in commands {
        let kept = Kept::start(&server, &command, &[]);
        let ask = format!("curl --silent --max-time 5 --unix-socket {socket} http://app/");
        kept.until(30, &command, || server.sh(&ask).stdout == "well");
        assert_eq!(kept.condition()["restarts"], 0, "{command}");
        kept.stop();
        server.sh(&format!("rm -f {socket}")).ok();
    }
}

#[test]
fn logs_come_from_the_journal_and_follow_starts_to_come() {
    let server = Booted::with_site();
    let log = "/tmp/followed";
    server.sh(&format!("setsid receiver logs app -f >{log} 2>&1 </dev/null &")).ok();
    let kept = Kept::start(&server, "echo one; printf 'a\\033[2Jb\\n'; exit 3", &[]);
    kept.until(20, "it to end", || kept.condition()["restarts"].as_u64() >= Some(1));
    let said = |script: &str| server.sh(script).stdout;
    kept.until(20, "the log", || said("receiver logs app mailer").contains("status=3"));
    let text = said("receiver logs app mailer");
    assert!(text.contains(" | one\n") && text.contains(" | a\\u{1b}[2Jb\n"), "{text}");
    kept.until(20, "the followed log", || {
        let text = said(&format!("cat {log}"));
        text.contains(" | one\n") && text.contains(" - Main process exited")
    });
    server.receiver(&["logs", "app", "mialer"]).fails(2).says("it has: mailer");
    server.sh("pkill -f '[l]ogs app -f'").ok();
}

#[test]
fn commands_at_their_times_are_timers_of_systemd() {
    let server = Booted::with_site();
    let push = |toml: &str| {
        server
            .sh(&format!(
                "cd /root/site; printf '%s' '{toml}' > receiver.toml; git add .; git commit --quiet -m cron
                 git push --quiet /srv/app/repo.git main 2>&1"
            ))
            .ok()
    };
    let toml = "[database]\nengine = \"none\"\n[cron]\n\
                slow-job = { at = \"30 4 * * 1\", command = \"echo at work in $PWD\" }\n";
    push(toml);
    let timers = "systemctl list-timers --all --no-legend --plain 'receiver-cron-*'";
    let first = server.sh(timers).ok().stdout;
    assert!(
        first.lines().count() == 1 && first.starts_with("Mon ") && first.contains(" 04:30:00 "),
        "{first}"
    );
    // The same again is the same.
    server.receiver(&["cron", "app", "--arrange"]).ok();
    let unit =
        |text: &str| text.split_whitespace().find(|word| word.ends_with(".service")).unwrap().to_owned();
    assert_eq!(unit(&server.sh(timers).ok().stdout), unit(&first));
    server.sh(&format!("systemctl start '{}'", unit(&first))).ok();
    // The journal writes down what a unit said a moment after the unit has ended.
    let begun = std::time::Instant::now();
    loop {
        let logs = server.receiver(&["logs", "app", "slow-job"]).ok().stdout;
        if logs.contains(" | at work in /srv/app/versions/0/") && logs.contains("exited with status 0") {
            break;
        }
        assert!(begun.elapsed().as_secs() < 20, "{logs}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // Another app, whose name systemd has to escape: each has its own, also after it was deployed again.
    server.sh("receiver create my-app; cd /root/site; git push --quiet /srv/my-app/repo.git main 2>&1").ok();
    server.receiver(&["deploy", "my-app"]).ok();
    assert_eq!(server.sh(timers).ok().stdout.lines().count(), 2);
    // A boot arranges them anew, with nobody typing.
    server.reboot();
    let two = || server.sh(timers).ok().stdout.lines().count() == 2;
    let begun = std::time::Instant::now();
    while !two() {
        assert!(begun.elapsed().as_secs() < 60, "no timers after a boot: {}", server.picture());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    push("[database]\nengine = \"none\"\n");
    server.sh("cd /root/site; git push --quiet /srv/my-app/repo.git main 2>&1").ok();
    assert_eq!(server.sh(timers).ok().stdout, "");
}

#[test]
fn what_was_live_is_to_come_up_with_the_machine() {
    let server = Booted::with_site();
    let kept = Kept::start(&server, "exec sleep 600", &[]);
    kept.until_state("running");
    assert_eq!(server.sh("systemctl is-enabled receiver-up@srv.service").ok().stdout, "enabled\n");
    server.sh("systemd-analyze verify receiver-up@srv.service receiver-process@x.service 2>&1").ok();
}
