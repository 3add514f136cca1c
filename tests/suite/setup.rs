//! `receiver setup` on a fresh Debian server that has sshd and nothing else, and what comes of it over a real cable: a
//! developer's push by ssh, nginx's answer, a schema change, a rollback, a reboot, and the way back to nothing.

use std::path::Path;
use std::time::Instant;

use crate::booted::Booted;
use crate::keeping::Machine;
use crate::world::Said;

/// A server that was set up, and a developer's repository on the other end of its cable.
pub struct Site {
    pub server: Booted,
    pub laptop: tempfile::TempDir,
}

const WEB: &str = include_str!("../fixtures/rows/web.py");
const DATABASE: &str = include_str!("../fixtures/rows/database.py");
const MIGRATE: &str = include_str!("../fixtures/rows/migrate.py");

impl Site {
    /// A fresh server, and a laptop with an application that keeps its entries in a database.
    pub fn new() -> Site {
        let site = Site { server: Booted::bare(), laptop: tempfile::tempdir().unwrap() };
        site.dev("ssh-keygen -q -t ed25519 -N '' -f key").ok();
        std::fs::copy(site.laptop.path().join("key.pub"), site.server.disk().join("root/key.pub")).unwrap();
        site.dev("git init --quiet --initial-branch=main app").ok();
        for (name, text) in [("web.py", WEB), ("database.py", DATABASE), ("migrate.py", MIGRATE)] {
            site.file(name, text);
        }
        site.file("index.html", "first\n");
        site.file(
            "steps/1.sql",
            "CREATE TABLE entry (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, text VARCHAR(100) NOT NULL)",
        );
        site
    }

    /// What `receiver.toml` says, for an engine.
    pub fn for_engine(&self, engine: &str) {
        self.file(
            "receiver.toml",
            &format!(
                "[stages]\nbuild = \"id -un; touch built\"\nsyncdb = \"python3 migrate.py\"\n\
                 [schema]\npaths = [\"steps/*.sql\"]\n[database]\nengine = \"{engine}\"\n\
                 [web]\ncommand = \"exec python3 web.py\"\nsettle = \"100ms\"\n"
            ),
        );
    }

    pub fn file(&self, name: &str, text: &str) {
        let path = self.laptop.path().join("app").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.laptop.path().join("app").join(name)).unwrap()
    }

    /// A shell on the developer's side of the cable.
    pub fn dev(&self, script: &str) -> Said {
        let home = self.laptop.path().display();
        let ssh = format!(
            "ssh -F none -i {home}/key -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o HostName=192.0.2.2 -o UserKnownHostsFile={home}/known \
             -o BatchMode=yes -o LogLevel=ERROR"
        );
        let script = format!(
            "export HOME={home} GIT_CONFIG_NOSYSTEM=1 GIT_SSH_COMMAND='{ssh}' GIT_AUTHOR_NAME=Ada GIT_AUTHOR_EMAIL=a@b.c \
             GIT_COMMITTER_NAME=Ada GIT_COMMITTER_EMAIL=a@b.c\ncd {home}\n{script}"
        );
        self.server.dev(&["sh", "-c", &script])
    }

    pub fn ssh(&self, words: &str) -> Said {
        self.dev(&format!("$GIT_SSH_COMMAND deploy@app.example '{words}'"))
    }

    pub fn push(&self, subject: &str) -> Said {
        self.dev(&format!("cd app; git add .; git commit --quiet -m '{subject}'; git push production main"))
    }

    /// What nginx answers, over the cable.
    pub fn page(&self, path: &str) -> String {
        let ask = format!(
            "curl --silent --max-time 10 --resolve app.example:80:192.0.2.2 http://app.example{path}"
        );
        self.dev(&ask).stdout
    }

    pub fn until_page(&self, path: &str, wanted: &str) {
        self.until(&format!("{path} to be {wanted:?}"), || self.page(path) == wanted);
    }

    pub fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed().as_secs() < 60, "{what} was waited for\n{}", self.server.picture());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    pub fn sh(&self, script: &str) -> Said {
        self.server.sh(script)
    }

    /// Types on the laptop what setup said to type there, as it stands.
    pub fn paste(&self, said: &Said) {
        let all = format!("{}{}", said.stdout, said.stderr);
        let remote = all.lines().find(|line| line.starts_with("  git remote add ")).expect("what to type");
        self.dev(&format!("cd app; {remote}")).ok();
    }
}

/// The lines of a list, without how each stands.
fn things(list: &str) -> Vec<String> {
    let lines = list.lines().filter(|line| line.len() > 10);
    lines.map(|line| line[10..].split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_bare_server_is_set_up_in_one_step_and_a_push_over_ssh_is_live_behind_nginx() {
    let site = Site::new();
    let setup = "receiver setup app --domain app.example --database sqlite --key /root/key.pub";
    // What is listed is what is made, and nothing was made by listing it.
    let listed = site.sh(&format!("{setup} --dry-run")).ok();
    assert!(!listed.stdout.contains("is there"), "{}", listed.stdout);
    site.sh(
        "! id receiver && ! id deploy && [ ! -e /srv/app ] && [ ! -e /etc/receiver ] && ! command -v nginx",
    )
    .ok();
    let made = site.sh(&format!("{setup} 2>&1")).ok();
    let made: Vec<&str> = made.stdout.lines().filter(|line| line.starts_with("made ")).collect();
    assert_eq!(things(&made.join("\n")), things(&listed.stdout));
    let again = site.sh(&format!("{setup} 2>&1")).ok().says("nothing was changed");
    assert!(!again.stdout.contains("\nmade "), "{}", again.stdout);
    assert_eq!(things(&again.stdout)[..made.len()], things(&listed.stdout));

    site.sh("apt-get install -qq -y --no-install-recommends python3 >/dev/null 2>&1").ok();
    // What it says to type works as it stands, but for the name service that a test has not.
    site.paste(&again);
    site.for_engine("sqlite");
    site.push("one").ok().says("     | app-app").says("=====> live: 0/");
    site.until_page("/", "first\n");
    site.sh("receiver doctor app").ok();

    // A schema change opens a version, with its data; a rollback leaves it.
    site.file("steps/2.sql", "ALTER TABLE entry ADD COLUMN note VARCHAR(100)");
    site.file("index.html", "second\n");
    site.push("two").ok().says("=====> live: 1/");
    site.until_page("/version", "1");
    site.ssh("rollback app").ok().says("=====> live: 0/");
    site.until_page("/version", "0");
    let status = site.ssh("status app --json").ok().json();
    assert_eq!(status["apps"][0]["database"]["version"], 0, "{status}");
    site.ssh("run app -- id -un").ok().says("app-app");
    site.ssh("run app -- sh -c \"exit 7\"").fails(7);
    assert!(site.ssh("history app").ok().stdout.contains("admin"), "the journal names the key");

    // After a boot it is live again, with nobody typing, and setup still has nothing to do.
    site.server.reboot();
    site.until_page("/version", "0");
    site.push_again();
    site.until_page("/version", "1");
    site.sh(&format!("{setup} 2>&1")).ok().says("nothing was changed");
    the_ways_back(&site);
}

impl Site {
    fn push_again(&self) {
        self.dev("cd app; git commit --quiet --allow-empty -m again; git push production main")
            .ok()
            .says("live: 1/");
    }
}

/// What setup made is taken back; data only where that is said, too.
fn the_ways_back(site: &Site) {
    site.sh("receiver setup --undo --dry-run").ok().says("goes      unit       receiver-root.socket");
    site.sh("systemctl is-active --quiet receiver-root.socket").ok();
    site.sh("receiver setup --undo 2>&1").ok().says("apps, accounts and data stay");
    site.sh("[ -d /srv/app/versions ] && id app-app && ! systemctl is-enabled receiver-root.socket").ok();
    site.sh("[ ! -e /etc/receiver/server.toml ] && [ ! -e /etc/nginx/conf.d/receiver-app.conf ]").ok();
    assert_eq!(site.sh("pgrep -u app-app").stdout, "", "something of the app runs still");
    // The same again sets up the same server, with what was live.
    site.sh("receiver setup app --domain app.example --database sqlite 2>&1").ok();
    site.ssh("status app").ok();
    site.sh("receiver up app 2>&1").ok();
    site.until_page("/version", "1");
    site.sh("receiver setup --undo --data 2>&1").ok();
    site.sh("[ ! -e /srv/app ] && ! id app-app && ! id receiver && ! id deploy && ! getent group site-app")
        .ok();
    let left = site.sh("find /etc /var/lib -name '*receiver*' -print").stdout;
    assert_eq!(left, "", "something is left");
}

#[test]
fn what_is_somebody_elses_is_never_altered() {
    let site = Site::new();
    let server = &site.server;
    // Who is not root, and a system that is not known.
    site.sh("receiver setup app 2>&1")
        .fails(2)
        .says("no key of an administrator is known")
        .says("--key FILE");
    let refused = site.sh("runuser -u nobody -- receiver setup app 2>&1").fails(2);
    refused.says("sudo receiver setup app");
    site.sh("runuser -u nobody -- receiver setup app --dry-run").ok();
    site.sh("cp /etc/os-release /tmp/os; rm /etc/os-release; echo 'ID=plan9\nPRETTY_NAME=\"Plan 9\"' > /etc/os-release").ok();
    let other = site
        .sh("receiver setup app --key /root/key.pub 2>&1")
        .fails(1)
        .says("setup knows Debian and Ubuntu, and this is Plan 9");
    other.never_says("made   ");
    site.sh("receiver setup app --dry-run").fails(1).says("to make   user       receiver");
    site.sh("cp /tmp/os /etc/os-release").ok();
    // An account of the same name.
    site.sh("useradd --create-home --shell /bin/bash deploy; getent passwd deploy > /tmp/before").ok();
    let refused = site
        .sh("receiver setup app --key /root/key.pub 2>&1")
        .fails(1)
        .says("that receiver did not make")
        .says("--account");
    refused.never_says("made   ");
    site.sh("getent passwd deploy | cmp - /tmp/before && [ -z \"$(ls -A /home/deploy/.ssh 2>/dev/null)\" ]")
        .ok();
    // A port that is taken, by what is no nginx.
    site.sh("apt-get update -qq; apt-get install -qq -y --no-install-recommends python3 >/dev/null 2>&1")
        .ok();
    site.sh("setsid python3 -m http.server 80 >/dev/null 2>&1 </dev/null & sleep 0; until ss -ltn | grep -q ':80 '; do :; done").ok();
    site.sh("receiver setup app --account pushes --key /root/key.pub 2>&1")
        .fails(1)
        .says("port 80 is another program's");
    site.sh("kill $(ss -ltnp 'sport = :80' | grep -o 'pid=[0-9]*' | cut -d= -f2)").ok();
    // A directory of the app's name.
    site.sh("mkdir /srv/app; echo theirs > /srv/app/file").ok();
    let stopped = site.sh("receiver setup app --account pushes --key /root/key.pub 2>&1").fails(1);
    let stopped =
        stopped.says("setup stopped at: app /srv/app").says("holds something that receiver did not make");
    stopped.says("the same command goes on from here");
    site.sh("[ \"$(cat /srv/app/file)\" = theirs ]; rm -r /srv/app").ok();
    // And on it goes, from there.
    site.sh("receiver setup app --account pushes --key /root/key.pub 2>&1")
        .ok()
        .says("git remote add production pushes@")
        .says("is there  user       pushes");
    site.sh("receiver setup app --account others --key /root/key.pub 2>&1")
        .fails(2)
        .says("this server is pushed to as pushes");
    assert!(Path::new(&server.disk()).join("home/deploy").exists());
}

#[test]
fn on_each_database_server_a_version_opens_and_a_deploy_that_a_reboot_interrupts_is_made_again() {
    let site = Site::new();
    site.sh("apt-get update -qq; apt-get install -qq -y --no-install-recommends python3 python3-mysqldb python3-psycopg2 \
             >/dev/null 2>&1")
        .ok();
    for (app, engine) in [("my", "mysql"), ("po", "postgres")] {
        let setup = format!(
            "receiver setup {app} --domain {app}.example --database {engine} --key /root/key.pub 2>&1"
        );
        site.sh(&setup).ok().says("made      grant");
        site.sh(&setup).ok().says("nothing was changed");
        site.sh(&format!("receiver doctor {app} 2>&1")).ok().never_says("trouble");
        let push = |subject: &str| {
            site.dev(&format!(
                "cd app; git add .; git commit --quiet --allow-empty -m '{subject}'; git push deploy@app.example:{app} main"
            ))
        };
        // Which engine it is, the server says.
        site.file(
            "receiver.toml",
            "[stages]\nsyncdb = \"python3 migrate.py\"\n[schema]\npaths = [\"steps/*.sql\"]\n\
             [web]\ncommand = \"exec python3 web.py\"\nsettle = \"100ms\"\n",
        );
        std::fs::remove_file(site.laptop.path().join("app/steps/2.sql")).ok();
        push("one").ok().says("=====> live: 0/");
        site.sh(&format!("receiver doctor {app} 2>&1")).ok();
        let page = |path: &str| {
            let host = format!("{app}.example");
            site.dev(&format!(
                "curl --silent --max-time 10 --resolve {host}:80:192.0.2.2 http://{host}{path}"
            ))
            .stdout
        };
        site.until("the first page", || page("/version") == "0");
        assert_eq!(page("/entries"), "");
        site.file("steps/2.sql", "ALTER TABLE entry ADD COLUMN note VARCHAR(100)");
        push("two").ok().says("=====> live: 1/");
        site.until("the second page", || page("/version") == "1" && page("/entries").is_empty());
        site.ssh(&format!("rollback {app}")).ok().says("=====> live: 0/");
        site.until("the first page again", || page("/version") == "0" && page("/entries").is_empty());
        interrupted_by_a_reboot(&site, app, || page("/version") == "0");
        // The identity that makes databases is receiver's alone, and so are the passwords.
        site.sh(&format!("runuser -u app-{app} -- ls /srv/{app}/receiver/secrets/databases")).fails(2);
        site.sh(&format!("receiver setup {app} --undo --data 2>&1")).ok();
    }
    site.sh("receiver setup --undo --data 2>&1").ok();
    assert_eq!(site.sh("mariadb -Ne \"SELECT user FROM mysql.user WHERE user LIKE 'receiver%'\"").stdout, "");
    let left = "mariadb -Ne 'SHOW DATABASES' | grep -E '^(my|po)_v'; runuser -u postgres -- psql -XAtc \
                \"SELECT datname FROM pg_database WHERE datname ~ '_v[0-9]'\"";
    assert_eq!(site.sh(left).stdout, "");
}

/// A deploy of an app with a database server is in its `check` when the machine goes down: nobody types anything.
/// MariaDB is not there at first, and what was live is up without it.
fn interrupted_by_a_reboot(site: &Site, app: &str, is_up: impl Fn() -> bool) {
    let checking = site.server.disk().join(format!("srv/{app}/shared/checking"));
    let check =
        "test -e $RECEIVER_SHARED_DIR/checking || { touch $RECEIVER_SHARED_DIR/checking; sleep 600; }";
    let settings =
        site.read("receiver.toml").replace("[stages]\n", &format!("[stages]\ncheck = \"{check}\"\n"));
    site.file("receiver.toml", &settings);
    std::fs::remove_file(site.laptop.path().join("app/steps/2.sql")).unwrap();
    let current = || std::fs::read_link(site.server.disk().join(format!("srv/{app}/current"))).unwrap();
    let before = current();
    site.dev(&format!(
        "cd app; git add .; git commit --quiet --all -m three
         setsid git push --quiet deploy@app.example:{app} main >/dev/null 2>&1 </dev/null &"
    ))
    .ok();
    site.until("the check", || checking.exists());
    let is_late = app == "my";
    if is_late {
        site.sh("systemctl mask mariadb 2>&1").ok();
    }
    site.server.reboot();
    site.until("the page after a reboot", &is_up);
    if is_late {
        assert_eq!(current(), before);
        site.sh("systemctl unmask mariadb 2>&1; systemctl start mariadb").ok();
    }
    site.until("the deploy to be made again", || current() != before);
    site.until("the page of it", &is_up);
    site.until("the doctor to find nothing", || site.sh(&format!("receiver doctor {app}")).code == 0);
    let failed = site.sh("systemctl --failed --plain --no-legend").stdout;
    assert!(!failed.contains("receiver"), "{failed}");
}

#[test]
fn what_keeps_an_app_over_the_years_works_where_setup_made_it() {
    let site = Site::new();
    site.dev("ssh-keygen -q -t ed25519 -N '' -f alice").ok();
    std::fs::copy(site.laptop.path().join("alice.pub"), site.server.disk().join("root/alice.pub")).unwrap();
    let said = site.sh("receiver setup app --domain app.example --key /root/key.pub --database sqlite").ok();
    site.paste(&said);
    site.file("index.html", "one\n");
    site.push("one").ok();
    // What a first process said that never went live is there to be read, and the way to it is one from the laptop.
    site.file("receiver.toml", "[web]\ncommand = \"echo it lacks something; exit 3\"\n");
    let said = site.push("a process that ends").says("NOT LIVE").says("it lacks something");
    said.says("push a fix, or `ssh deploy@app.example deploy app` to try again");
    site.ssh("logs app web").ok().says("it lacks something");
    std::fs::remove_file(site.laptop.path().join("app/receiver.toml")).unwrap();
    site.push("without it").ok();
    site.sh("receiver backup app > /root/app.tar && tar -tf /root/app.tar")
        .ok()
        .says("dumps/app_v0.sqlite3")
        .says("end.json");
    site.sh("echo hi > /root/x; receiver put app a.txt < /root/x && receiver get app a.txt").ok().says("hi");
    assert_eq!(site.sh("stat -c %U:%a /srv/app/shared/a.txt").ok().stdout, "app-app:640\n");
    // Who may not look into it is not told that it is not there.
    for command in ["status", "status app", "deploy app"] {
        let refused = site.sh(&format!("runuser -u nobody -- receiver {command} 2>&1")).fails(1);
        refused.says("this account may not look into /srv/app").says("`sudo receiver");
    }
    let watched = site.sh("receiver config app notify.command 'cat >> /tmp/events'").ok();
    watched.says("notify.command is set").never_says("it holds from the next deploy on");
    site.sh("receiver verify app; receiver prune app; receiver status app --check").ok();
    site.sh("receiver maintenance app on; receiver maintenance app off").ok();
    // Its databases are an app's user's to write: root looks into none.
    site.sh("receiver remove app").fails(2).says("setup made app").says("receiver setup app --undo");
    // What git is told by a setting is no reason to set anything up again, nor does it keep a push from coming.
    site.sh("receiver config app limits.push_bytes 100M 2>&1").ok();
    site.sh("receiver setup app --domain app.example --database sqlite 2>&1")
        .ok()
        .says("nothing was changed");
    site.file("index.html", "two\n");
    site.push("two").ok().says("=====> live: 0/");
    // A key that names it ends with it: an app of that name may be another's, later.
    site.sh("receiver key add alice --app app --role deploy < /root/alice.pub; receiver key list")
        .ok()
        .says("alice");
    site.sh("receiver setup app --undo --data").ok();
    site.sh("receiver key list").ok().says("admin").never_says("alice");
    site.sh("test ! -e /srv/app && ! id app-app").ok();
}
