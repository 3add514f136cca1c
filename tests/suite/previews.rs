//! Branches on a server that `receiver setup` made: a push over a real cable makes each an app with a user of its own, as
//! much apart from its parent as two apps are; and nothing of it is left when its branch is gone.

use crate::keeping::Machine;
use crate::setup::Site;
use crate::world::Said;

const TRIES: &str = include_str!("../fixtures/tries.sh");
const FILL: &str = include_str!("../fixtures/rows/fill.py");

/// Where making the app of a branch can die in the parent's worker; root dies after each of its acts.
pub const POINTS: [&str; 1] = ["branch-made"];

const PREVIEW: &str = "app--feature-x";
const GRANT: &str = "[branches]\n\"feature/*\" = { preview = true, data = \"copy\" }\n";
const ENTRIES: &str = "1\tone\n2\ttwo\n";

impl Site {
    /// A server with an app on `engine`, live with two entries, whose features get previews.
    fn with_previews(engine: &str) -> Site {
        let site = Site::new();
        let setup = format!("receiver setup app --domain app.example --database {engine} --key /root/key.pub 2>&1");
        site.paste(&site.sh(&setup).ok());
        site.sh("apt-get install -qq -y --no-install-recommends python3 python3-mysqldb python3-psycopg2 >/dev/null 2>&1")
            .ok();
        site.sh(&format!("cat >> /srv/app/receiver.toml <<'END'\n{GRANT}END")).ok();
        site.for_engine(engine);
        site.file("fill.py", FILL);
        site.push("one").ok().says("=====> live: 0/");
        site.until_page("/version", "0");
        site.ssh("run app -- python3 fill.py").ok();
        site.sh("echo hidden | receiver env app set SECRET; echo picture | receiver put app media/a.txt").ok();
        site
    }

    fn push_branch(&self, branch: &str, subject: &str) -> Said {
        self.dev(&format!(
            "cd app; git switch --quiet {branch} 2>/dev/null || git switch --quiet -c {branch}; git add .; \
             git commit --quiet --allow-empty -m '{subject}'; git push production {branch}"
        ))
    }

    fn delete_branch(&self, branch: &str) -> Said {
        self.dev(&format!("cd app; git push production :{branch}"))
    }

    /// What nginx answers for a host, over the cable.
    fn page_of(&self, host: &str, path: &str) -> String {
        let ask =
            format!("curl --silent --max-time 10 --resolve {host}:80:192.0.2.2 http://{host}{path}");
        self.dev(&ask).stdout
    }

    fn until_page_of(&self, host: &str, path: &str, wanted: &str) {
        self.until(&format!("{host}{path} to be {wanted:?}"), || self.page_of(host, path) == wanted);
    }

    /// Nothing of a preview is left, wherever setup makes anything for an app.
    #[track_caller]
    fn has_nothing_of(&self, app: &str) {
        let left = format!(
            "getent passwd app-{app}; getent group app-{app} site-{app}; ls -d /srv/{app} /srv/.receiver-* \
             /etc/nginx/conf.d/receiver-{app}.conf /var/lib/receiver/home/{app} 2>/dev/null; \
             systemctl list-units --all --plain --no-legend | grep '{}'; \
             find /etc/systemd -name '*{}*'; getent group | grep 'app-{app}'; \
             git -C /srv/app/repo.git for-each-ref refs/receiver/ | grep '{app}/'",
            app.replace('-', "\\\\x2d"),
            app.replace('-', "\\x2d"),
        );
        assert_eq!(self.sh(&left).stdout, "", "something of {app} is left");
    }
}

/// All of a preview's life on an engine; `databases` lists those of its server.
fn lives_and_dies_on(engine: &str, databases: &str) {
    let site = Site::with_previews(engine);
    let host = "feature-x.app.example";
    let databases = || site.sh(databases).stdout;
    let before = databases();
    let said = site.push_branch("feature/x", "x").ok();
    said.says("app--feature-x, with a user of its own, for feature/x")
        .says("     | app-app--feature-x")
        .says("url: http://feature-x.app.example/")
        .says("=====> live: 0/");
    site.until_page_of(host, "/entries", ENTRIES);

    // A schema change there opens a version there, and touches nothing of its parent.
    site.file("steps/2.sql", "ALTER TABLE entry ADD COLUMN note VARCHAR(100)");
    site.file("index.html", "of x\n");
    site.push_branch("feature/x", "the note").ok().says("=====> live: 1/").never_says("with a user of its own");
    site.until_page_of(host, "/version", "1");
    assert_eq!(site.page_of(host, "/entries"), ENTRIES);
    assert_eq!((site.page("/version"), site.page("/entries"), site.page("/")), ("0".into(), ENTRIES.into(), "first\n".into()));
    site.ssh("db app shell < /dev/null");
    let status = site.ssh("status app --json").ok().json();
    assert_eq!(status["apps"][0]["database"]["version"], 0, "{status}");
    site.ssh("rollback app--feature-x").ok().says("=====> live: 0/");
    site.until_page_of(host, "/version", "0");
    // Commands over ssh mean it, root's, and setup's, which finds nothing to do.
    site.ssh("list app--feature-x").ok().says("live");
    site.ssh("env app--feature-x list").ok().never_says("hidden");
    site.sh("receiver doctor app 2>&1; receiver doctor app--feature-x 2>&1").ok();
    site.sh("receiver setup app 2>&1").ok().says("is there  app        /srv/app--feature-x").says("nothing was changed");
    let strange = format!("find /srv/{PREVIEW} ! -user receiver ! -user deploy ! -user app-{PREVIEW} -print");
    assert_eq!(site.sh(&strange).ok().stdout, "", "something is root's, or its parent's");

    // It goes with its branch, and so does what it left where everybody may write.
    site.sh(&format!(
        "runuser -u app-{PREVIEW} -- sh -c 'mkdir /tmp/theirs; touch /tmp/theirs/a /var/tmp/b /dev/shm/c; ipcmk -M 100 >/dev/null'
         mkdir -m 1777 /tmp/open; runuser -u app-{PREVIEW} -- touch /tmp/open/d
         runuser -u app-{PREVIEW} -- setsid sleep 1000 >/dev/null 2>&1 </dev/null &
         until pgrep -u app-{PREVIEW} -x sleep; do :; done"
    ))
    .ok();
    let uid = site.sh(&format!("id -u app-{PREVIEW}")).ok().stdout.trim().to_owned();
    site.delete_branch("feature/x").ok().says("=====> removed: app--feature-x with its data");
    site.has_nothing_of(PREVIEW);
    assert_eq!(databases(), before);
    let left = format!(
        "find / -xdev \\( -path /proc -o -path /sys \\) -prune -o \\( -uid {uid} -o -nouser \\) -print; find /dev/shm -uid {uid}; \
         pgrep -u {uid}; grep -w {uid} /proc/sysvipc/shm"
    );
    assert_eq!(site.sh(&left).stdout, "", "something is left for who gets the number {uid} next");
    assert_eq!((site.page("/version"), site.page("/entries")), ("0".into(), ENTRIES.into()));
    assert_eq!(site.page_of(host, "/"), "", "its host is answered still");
    // The same again is a new one, and goes with all of the server.
    site.push_branch("feature/x", "again").ok().says("with a user of its own").says("=====> live: 0/");
    site.until_page_of(host, "/entries", ENTRIES);
    site.sh("receiver setup --undo --data 2>&1").ok();
    site.has_nothing_of(PREVIEW);
    site.sh("[ -z \"$(ls -A /srv)\" ] && ! getent group | grep -E 'receiver|app-|site-|deploy'").ok();
    assert_eq!(databases(), "");
}

#[test]
fn a_preview_on_mariadb_has_a_user_and_a_copy_of_the_data_and_goes_with_its_branch() {
    lives_and_dies_on("mysql", "mariadb -Ne 'SHOW DATABASES' | grep ^app; mariadb -Ne 'SELECT user FROM mysql.user' | grep ^app");
}

#[test]
fn a_preview_on_postgresql_has_a_user_and_a_copy_of_the_data_and_goes_with_its_branch() {
    lives_and_dies_on(
        "postgres",
        "runuser -u postgres -- psql -XAtc \"SELECT datname FROM pg_database WHERE datname ~ '^app'\" \
         -c \"SELECT rolname FROM pg_roles WHERE rolname ~ '^app'\"",
    );
}

#[test]
fn a_preview_on_sqlite_has_a_user_and_a_copy_of_the_data_and_goes_with_its_branch() {
    lives_and_dies_on("sqlite", "ls -d /srv/app*/receiver/databases/* 2>/dev/null");
}
