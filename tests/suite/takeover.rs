//! An application that runs on a server already, behind its nginx, with its data: on a server that `receiver setup` made it
//! becomes an app with a user of its own, is tried at a private port, and taken over; and where that fails it goes on.

use crate::setup::Site;
use crate::world::Said;

const UNIT: &str = "[Service]\nUser=www-data\nWorkingDirectory=/opt/old\nEnvironmentFile=/opt/old/env\nRuntimeDirectory=old\n\
                    ExecStart=/usr/bin/python3 web.py\n";
const OLD_SITE: &str = "server { listen 80; server_name app.example www.app.example;\n  location / { proxy_pass http://unix:/run/old/old.sock; } }\n";
const GO: &str = "receiver adopt app --go --stop 'systemctl stop old' --start 'systemctl start old'";
const OLD: &str = "--old-site /etc/nginx/sites-enabled/old";

/// An engine, and what an old application on it is.
struct Kind {
    engine: &'static str,
    /// Makes the old database, with `SCHEMA` in it.
    make: &'static str,
    /// The address that the old application has.
    url: &'static str,
    /// The address that is adopted.
    adopted: &'static str,
    identity: &'static str,
}

const SQLITE: Kind = Kind {
    engine: "sqlite",
    make: "python3 -c 'import sqlite3, sys; c = sqlite3.connect(\"/var/lib/old/db.sqlite3\"); c.execute(\"PRAGMA journal_mode=WAL\"); \
           c.executescript(sys.stdin.read())' < /opt/old/schema.sql; chown -R www-data: /var/lib/old",
    url: "sqlite:////var/lib/old/db.sqlite3",
    adopted: "sqlite:///var/lib/old/db.sqlite3",
    identity: "",
};

const MARIADB: Kind = Kind {
    engine: "mysql",
    make: "apt-get install -qq -y --no-install-recommends mariadb-server mariadb-client >/dev/null 2>&1; systemctl start mariadb
           mariadb -e \"CREATE DATABASE old; CREATE USER old@localhost IDENTIFIED BY 'word'; GRANT ALL ON old.* TO old@localhost\"
           mariadb old < /opt/old/schema.sql",
    url: "mysql://old:word@localhost/old?socket=/run/mysqld/mysqld.sock",
    // Root is let in by the socket, and reads what only the application's own role could.
    adopted: "mysql:///old",
    identity: " AUTO_INCREMENT",
};

impl Site {
    /// A server on which an old application runs, and an app that setup made for it.
    fn with_old(kind: &Kind) -> Site {
        let site = Site::new();
        site.sh("apt-get update -qq; apt-get install -qq -y --no-install-recommends nginx python3 python3-mysqldb >/dev/null 2>&1")
            .ok();
        let schema = format!(
            "CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY{}, writer INTEGER NOT NULL, number INTEGER NOT NULL, \
             turn INTEGER NOT NULL, text VARCHAR(100) NOT NULL);\n\
             CREATE TABLE IF NOT EXISTS remark (entry INTEGER NOT NULL, text VARCHAR(100) NOT NULL)",
            kind.identity
        );
        let disk = site.server.disk();
        std::fs::create_dir_all(disk.join("opt/old")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(disk.join(name), text).unwrap();
        for name in ["web.py", "database.py"] {
            write(&format!("opt/old/{name}"), &site.read(name));
        }
        write("opt/old/index.html", "old\n");
        write("opt/old/schema.sql", &format!("{schema};\n"));
        write(
            "opt/old/env",
            &format!("DATABASE_URL={}\nRECEIVER_SOCKET=/run/old/old.sock\nRECEIVER_VERSION=old\n", kind.url),
        );
        write("etc/systemd/system/old.service", UNIT);
        write("etc/nginx/sites-available/old", OLD_SITE);
        site.sh(&format!(
            "set -e; mkdir -p /var/lib/old/media/2020; echo picture > /var/lib/old/media/2020/a; {}
             chown -R www-data: /var/lib/old; chmod 700 /var/lib/old
             ln -s ../sites-available/old /etc/nginx/sites-enabled/old; rm /etc/nginx/sites-enabled/default
             systemctl daemon-reload; systemctl start old; nginx -t && systemctl restart nginx",
            kind.make
        ))
        .ok();
        site.until_page("/", "old\n");
        site.write_entry(0).ok();
        let setup = format!(
            "receiver setup app --domain app.example --database {} --key /root/key.pub 2>&1",
            kind.engine
        );
        site.paste(&site.sh(&setup).ok());
        site.for_engine(kind.engine);
        site.file("steps/1.sql", &schema);
        let toml = site.read("receiver.toml").replace(
            "[schema]",
            "check = \"until [ ! -e $RECEIVER_SHARED_DIR/2020/wait ]; do sleep 0.1; done; test ! -e $RECEIVER_SHARED_DIR/2020/broken\"\n[shared]\ndirs = [\"2020\"]\n[schema]",
        );
        site.file("receiver.toml", &toml);
        site
    }

    /// One entry more, through nginx, with whichever application answers there.
    fn write_entry(&self, number: u32) -> Said {
        self.dev(&format!(
            "printf 'insert\\t1\\t{number}\\t1\\tt{number}' | curl --silent --fail --max-time 10 --resolve app.example:80:192.0.2.2 \
             --data-binary @- http://app.example/"
        ))
    }

    fn adopt(&self, kind: &Kind) -> Said {
        self.sh(&format!(
            "receiver adopt app --database-from {} --shared-from /var/lib/old/media 2>&1",
            kind.adopted
        ))
    }

    /// The old application runs, and nginx leads to it.
    #[track_caller]
    fn old_goes_on(&self) {
        self.sh("systemctl is-active old; [ -L /etc/nginx/sites-enabled/old ] && [ ! -e /etc/nginx/conf.d/receiver-app.conf ]")
            .ok();
        self.until_page("/", "old\n");
    }
}

fn is_taken_over(kind: &Kind) {
    let site = Site::with_old(kind);
    // Only root can, and only with an app that setup made.
    site.sh(&format!("runuser -u nobody -- {GO} 2>&1")).fails(2).says("`sudo receiver adopt app");
    site.sh("receiver adopt other --shared-from /var/lib/old/media 2>&1")
        .fails(2)
        .says("sudo receiver setup other");
    site.sh(&format!("{GO} 2>&1")).fails(1).says("app adopts nothing");
    let other = if kind.engine == "mysql" { "postgres:///old" } else { "mysql:///old" };
    site.sh(&format!("receiver adopt app --database-from {other} 2>&1")).fails(1).says("is another engine's");
    site.sh(&format!("receiver adopt app --database-from {} --dry-run", kind.adopted))
        .ok()
        .says("would have app begin with a copy of");
    site.adopt(kind).ok().says("copied").says("1 file copied").says("sudo receiver adopt app --go");
    site.adopt(kind).fails(1).says("app adopts something already");
    site.sh(&format!("{GO} 2>&1")).fails(1).says("nothing is live yet");
    // What is adopted, with a password, is root's to read.
    site.sh("[ \"$(stat -c '%U %a' /var/lib/receiver/adoptions)\" = 'root 700' ]").ok();
    let dump = "/srv/app/receiver/beginning/dump";
    site.sh(&format!("[ -e {dump} ] && for user in deploy app-app www-data; do ! runuser -u $user -- cat {dump} || exit 1; done"))
        .ok();

    // It is tried at a port of its own, while the old one goes on.
    site.push("one").ok().says("from ").says("=====> live: 0/");
    site.old_goes_on();
    site.sh("setsid receiver serve app --version 0 --port 8083 >/root/serve 2>&1 </dev/null &").ok();
    let tried =
        |path: &str| site.sh(&format!("curl --silent --max-time 5 http://127.0.0.1:8083{path}")).stdout;
    site.until("the tried release", || tried("/") == "first\n");
    assert_eq!(tried("/entries"), "0\tt0\n");
    site.sh("runuser -u app-app -- cat /srv/app/current/2020/a").ok().says("picture");
    site.sh("pkill -TERM -f '[s]erve app --version'").ok();
    site.sh("runuser -u www-data -- sh -c 'echo another > /var/lib/old/media/2020/b'").ok();

    // Somebody writes all the time.
    let writer = "n=0; while [ -e app ] && [ ! -e end ]; do n=$((n + 1)); printf \"insert\\t1\\t$n\\t1\\tt$n\" | curl --silent --fail --max-time 10 \
                  --resolve app.example:80:192.0.2.2 --data-binary @- http://app.example/ >/dev/null && echo $n >> written; done; echo > ended";
    std::fs::write(site.laptop.path().join("writer"), writer).unwrap();
    site.dev("setsid sh writer >/dev/null 2>&1 </dev/null &").ok();
    let written =
        || site.dev("cat written 2>/dev/null").stdout.lines().map(str::to_owned).collect::<Vec<_>>();
    site.until("something to be written", || written().len() > 3);

    // Two sites of one name there never are.
    site.sh(&format!("{GO} 2>&1")).fails(1).says("nginx has a site of app.example already").says(OLD);
    site.sh(&format!("{GO} --old-site /etc/nginx/nginx.conf 2>&1"))
        .fails(2)
        .says("it has: /etc/nginx/sites-enabled/old");
    let dry = site.sh(&format!("{GO} {OLD} --dry-run 2>&1")).ok();
    dry.says("would build").says("put /etc/nginx/sites-enabled/old aside").says("www.app.example, too");
    site.old_goes_on();

    // What does not come up leaves the old one running.
    site.sh("runuser -u app-app -- touch /srv/app/shared/2020/broken").ok();
    let failed = site.sh(&format!("{GO} {OLD} 2>&1")).fails(1);
    failed
        .says("1 file copied")
        .says("the old application is stopped")
        .says("NOT LIVE: still 0/")
        .says("the old application is started again");
    site.old_goes_on();
    site.sh("receiver status app --check 2>&1; [ ! -e /run/receiver/adopt-app.sock ]").ok();
    let before = written().len();
    site.until("more to be written", || written().len() > before);

    // And what does is live, with all that was acknowledged.
    site.sh("rm /srv/app/shared/2020/broken").ok();
    let gone = site.sh(&format!("{GO} {OLD} 2>&1")).ok();
    let gone = gone.says("=====> live: 1/").says("the way back");
    assert_eq!(site.page("/version"), "1");
    site.sh("! systemctl is-active old && [ ! -e /etc/nginx/sites-enabled/old ] && [ -e /etc/nginx/conf.d/receiver-app.conf ]").ok();
    let before = written().len();
    site.until("more to be written", || written().len() > before);
    site.dev("touch end").ok();
    site.until("the writer to end", || site.laptop.path().join("ended").exists());
    let entries = site.page("/entries");
    let kept: std::collections::BTreeSet<&str> =
        entries.lines().filter_map(|line| line.split('\t').next()).collect();
    let lost: Vec<String> = written().into_iter().filter(|number| !kept.contains(number.as_str())).collect();
    assert!(lost.is_empty() && kept.contains("0"), "lost: {lost:?} of {}", kept.len());
    site.sh(
        "runuser -u app-app -- sh -c 'cat /srv/app/current/2020/b && echo more >> /srv/app/current/2020/b'",
    )
    .ok()
    .says("another");

    // It is an app like any other from here on, and nothing of it is root's.
    site.sh("[ ! -e /var/lib/receiver/adoptions ] && [ ! -e /srv/app/receiver/adoption.toml ] && [ ! -e /srv/app/receiver/beginning ]")
        .ok();
    let strange = "find /srv/app ! -user receiver ! -user deploy ! -user app-app -print";
    assert_eq!(site.sh(strange).ok().stdout, "", "something is root's");
    site.sh("receiver doctor app 2>&1; receiver setup app 2>&1").ok().says("nothing was changed");
    site.file("index.html", "second\n");
    site.push("two").ok().says("=====> live: 1/");
    site.until_page("/", "second\n");
    site.sh(&format!("{GO} {OLD} 2>&1")).fails(1).says("app adopts nothing");
    // The way back, as it stands.
    let back: String = gone
        .stdout
        .lines()
        .skip_while(|line| !line.starts_with("the way back"))
        .filter_map(|line| line.strip_prefix("  "))
        .map(|line| format!("{}\n", line.replace("sudo ", "")))
        .collect();
    site.sh(&format!("set -e; cd /root; {back} grep -qi entry since.dump")).ok();
    site.until_page("/", "old\n");
}

#[test]
fn an_application_on_sqlite_is_adopted_where_setup_made_the_server_and_taken_over() {
    is_taken_over(&SQLITE);
}

#[test]
fn an_application_on_mariadb_is_adopted_where_setup_made_the_server_and_taken_over() {
    is_taken_over(&MARIADB);
}

#[test]
fn whoever_dies_in_a_take_over_the_old_application_runs_or_the_new_one_is_live() {
    let site = Site::with_old(&SQLITE);
    site.adopt(&SQLITE).ok();
    site.push("one").ok().says("=====> live: 0/");
    // The worker dies each time that the old application is stopped.
    site.dies_at("receiver-work@.service", "adoption-stopped", false);
    let said = site.sh(&format!("{GO} {OLD} 2>&1")).fails(1);
    said.says("the worker is gone").says("the old application is started again").says("NOT LIVE: still 0/");
    site.lives_on();
    site.old_goes_on();
    site.sh("receiver status app --check 2>&1").ok();

    // Whoever typed it is killed in the middle: nothing goes live, and what was tried stays.
    let waiting = "receiver adopt app --go --stop 'systemctl stop old; touch /root/asked; while [ -e /root/asked ]; do sleep 0.1; done' \
                   --start 'systemctl start old' --old-site /etc/nginx/sites-enabled/old";
    let go = |end: &str| {
        site.sh(&format!("setsid {waiting} >/root/go 2>&1 </dev/null & echo $! > /root/pid")).ok();
        site.until("the stop", || site.sh("[ -e /root/asked ]").code == 0);
        // Nobody but receiver may ask whoever waits.
        for user in ["nobody", "deploy", "app-app", "www-data"] {
            let connect =
                "import socket; socket.socket(socket.AF_UNIX).connect('/run/receiver/adopt-app.sock')";
            site.sh(&format!("runuser -u {user} -- python3 -c \"{connect}\" 2>&1"))
                .fails(1)
                .says("PermissionError");
        }
        site.sh(&format!("kill -{end} $(pgrep -f '^receiver adopt app --go')")).ok();
    };
    go("KILL");
    site.sh("receiver attach app 2>&1")
        .fails(1)
        .says("`receiver adopt --go` has ended")
        .says("THE OLD APPLICATION IS STOPPED");
    site.sh("receiver status app --check 2>&1").fails(1).says("the old application was stopped");
    site.sh("rm /root/asked; systemctl start old").ok();
    site.old_goes_on();

    // The same when all is copied, and only the switch is left.
    site.sh("runuser -u app-app -- touch /srv/app/shared/2020/wait").ok();
    site.sh(&format!("setsid {GO} {OLD} >/root/go 2>&1 </dev/null &")).ok();
    site.until("the copy", || site.sh("grep 'its data is here' /root/go").code == 0);
    site.sh("kill -KILL $(pgrep -f '^receiver adopt app --go'); rm /srv/app/shared/2020/wait").ok();
    site.sh("receiver attach app 2>&1")
        .fails(1)
        .says("ended before the switch")
        .says("THE OLD APPLICATION IS STOPPED");
    // What was put aside is put back by the next one that fails.
    site.sh("systemctl start old; [ ! -e /etc/nginx/sites-enabled/old ]; touch /srv/app/shared/2020/broken")
        .ok();
    site.sh(&format!("{GO} {OLD} 2>&1")).fails(1).says("the old application is started again");
    site.sh("rm /srv/app/shared/2020/broken").ok();
    site.old_goes_on();

    // The terminal is gone: it is taken back, as soon as the command has ended.
    go("HUP");
    site.sh("rm /root/asked").ok();
    site.until("the end", || site.sh("pgrep -f '^receiver adopt app --go'").code != 0);
    site.sh("cat /root/go")
        .ok()
        .says("it is cancelled")
        .says("NOT LIVE: still 0/")
        .says("the old application is started again");
    site.old_goes_on();
    site.sh("receiver status app --check 2>&1").ok();

    // A worker that dies once: the old one is started, and stopped again.
    site.write_entry(7).ok();
    site.dies_at("receiver-work@.service", "adoption-stopped", true);
    let said = site.sh(&format!("{GO} {OLD} 2>&1")).ok();
    said.says("the worker is gone").says("the old application is started again").says("=====> live: 1/");
    site.lives_on();
    assert_eq!((site.page("/version"), site.page("/entries")), ("1".into(), "0\tt0\n7\tt7\n".into()));
    // And one that dies after the switch: what is live stays so.
    site.sh("! systemctl is-active old; receiver status app --check 2>&1").ok();
}
