//! Branches on a server that `receiver setup` made: a push over a real cable makes each an app with a user of its own, as
//! much apart from its parent as two apps are; and nothing of it is left when its branch is gone.

use crate::setup::Site;
use crate::world::Said;

const TRIES: &str = include_str!("../fixtures/tries.sh");
const ASKS: &str = include_str!("../fixtures/asks.py");
const FILL: &str = include_str!("../fixtures/rows/fill.py");

/// Where it can die here alone: the parent's worker, when the app of a branch was made, and root, after each of its acts.
pub const POINTS: [&str; 2] = ["branch-made", "act-undone"];

const PREVIEW: &str = "app--feature-x";
const GRANT: &str = "[branches]\n\"feature/*\" = { preview = true, data = \"copy\" }\n";
const ENTRIES: &str = "1\tone\n2\ttwo\n";

impl Site {
    /// A server with an app on `engine`, live with two entries, whose features get previews.
    fn with_previews(engine: &str) -> Site {
        let site = Site::new();
        let setup =
            format!("receiver setup app --domain app.example --database {engine} --key /root/key.pub 2>&1");
        site.paste(&site.sh(&setup).ok());
        site.sh("apt-get install -qq -y --no-install-recommends python3 python3-mysqldb python3-psycopg2 >/dev/null 2>&1")
            .ok();
        site.sh(&format!("cat >> /srv/app/receiver.toml <<'END'\n{GRANT}END")).ok();
        site.for_engine(engine);
        site.file("fill.py", FILL);
        site.push("one").ok().says("=====> live: 0/");
        site.until_page("/version", "0");
        site.ssh("run app -- python3 fill.py").ok();
        site.sh("echo hidden | receiver env app set SECRET; echo picture | receiver put app media/a.txt")
            .ok();
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
    pub fn page_of(&self, host: &str, path: &str) -> String {
        let ask = format!("curl --silent --max-time 10 --resolve {host}:80:192.0.2.2 http://{host}{path}");
        self.dev(&ask).stdout
    }

    pub fn until_page_of(&self, host: &str, path: &str, wanted: &str) {
        self.until(&format!("{host}{path} to be {wanted:?}"), || self.page_of(host, path) == wanted);
    }

    /// What of a preview is left, wherever setup makes anything for an app.
    fn left_of(&self, app: &str) -> String {
        let left = format!(
            "getent passwd app-{app}; getent group app-{app} site-{app}; ls -d /srv/{app} /srv/.receiver-* \
             /etc/nginx/conf.d/receiver-{app}.conf /var/lib/receiver/home/{app} 2>/dev/null; \
             systemctl list-units --all --plain --no-legend | grep '{}'; \
             find /etc/systemd -name '*{}*'; getent group | grep 'app-{app}'; \
             git -C /srv/app/repo.git for-each-ref refs/receiver/ | grep '{app}/'",
            app.replace('-', "\\\\x2d"),
            app.replace('-', "\\x2d"),
        );
        self.sh(&left).stdout
    }

    #[track_caller]
    pub fn has_nothing_of(&self, app: &str) {
        assert_eq!(self.left_of(app), "", "something of {app} is left");
    }

    /// The same where nobody waits for its end: the user goes before its groups.
    pub fn until_nothing_of(&self, app: &str) {
        self.until(&format!("nothing of {app} to be left"), || self.left_of(app).is_empty());
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
    site.push_branch("feature/x", "the note")
        .ok()
        .says("=====> live: 1/")
        .never_says("with a user of its own");
    site.until_page_of(host, "/version", "1");
    assert_eq!(site.page_of(host, "/entries"), ENTRIES);
    assert_eq!(
        (site.page("/version"), site.page("/entries"), site.page("/")),
        ("0".into(), ENTRIES.into(), "first\n".into())
    );
    let status = site.ssh("status app --json").ok().json();
    assert_eq!(status["apps"][0]["database"]["version"], 0, "{status}");
    site.ssh("rollback app--feature-x").ok().says("=====> live: 0/");
    site.until_page_of(host, "/version", "0");
    // Commands over ssh mean it, root's, and setup's, which finds nothing to do.
    site.ssh("list app--feature-x").ok().says("live");
    site.ssh("env app--feature-x list").ok().never_says("hidden");
    site.sh("receiver doctor app 2>&1; receiver doctor app--feature-x 2>&1").ok();
    site.sh("receiver setup app 2>&1")
        .ok()
        .says("is there  app        /srv/app--feature-x")
        .says("nothing was changed");
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
        "find / -xdev \\( -path /proc -o -path /sys \\) -prune -o \\( -uid {uid} -o -nouser \\) -print; find /tmp /dev/shm -uid {uid}; \
         pgrep -u {uid}; grep -w {uid} /proc/sysvipc/shm"
    );
    assert_eq!(site.sh(&left).stdout, "", "something is left for who gets the number {uid} next");
    assert_eq!((site.page("/version"), site.page("/entries")), ("0".into(), ENTRIES.into()));
    site.until(&format!("{host} to be nobody's"), || site.page_of(host, "/").contains("Welcome to nginx"));
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
    lives_and_dies_on(
        "mysql",
        "mariadb -Ne 'SHOW DATABASES' | grep ^app; mariadb -Ne 'SELECT user FROM mysql.user' | grep ^app",
    );
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

/// The tries of one app's code at another: as they stand, they are those of `app` at `other`.
fn tries(own: &str, other: &str) -> String {
    let own = format!("/srv/{own}/");
    let names = [
        ("/srv/app/", own.as_str()),
        ("/srv/other/", &format!("/srv/{other}/")),
        ("app-other", &format!("app-{other}")),
    ];
    let mut text = names.iter().fold(TRIES.to_owned(), |text, (from, to)| text.replace(from, to));
    for (from, to) in
        [("home/other/", format!("home/{other}/")), ("srv-other.path", format!("srv-{other}.path"))]
    {
        text = text.replace(from, &to);
    }
    // Its databases, too: by file, and on a server with the name and password that it has itself.
    let more = format!(
        "try \"ls /srv/{other}/receiver/databases/0/\"\ntry \"cat /srv/{other}/receiver/databases/0/*\"\n\
         try \"ls /srv/{other}/shared/\"\ntry \"cat /srv/{other}/shared/media/a.txt\"\n\
         try \"cat /srv/{other}/receiver/secrets/env.json\"\n\
         try \"mariadb -u $RECEIVER_DATABASE_USER -p$RECEIVER_DATABASE_PASSWORD -e 'SELECT * FROM {}_v0.entry'\"\n\
         try \"kill -0 $(pgrep -u app-{other} | head -1)\"\n",
        other.replace('-', "_")
    );
    text.replace("echo tried\n", &format!("{more}echo tried\n"))
}

#[test]
fn code_of_a_preview_reaches_nothing_of_its_parent_and_of_other_previews_nor_they_of_it() {
    let site = Site::with_previews("mysql");
    site.sh("apt-get install -qq -y --no-install-recommends mariadb-client >/dev/null 2>&1").ok();
    site.push_branch("feature/y", "y").ok().says("=====> live: 0/");
    site.file("tries.sh", &format!("{}{}", tries(PREVIEW, "app"), tries(PREVIEW, "app--feature-y")));
    site.file("env.sh", "env; cat /proc/self/environ");
    let toml = site.read("receiver.toml");
    site.file("receiver.toml", &toml.replace("id -un;", "id -un; sh tries.sh; sh env.sh;"));
    let said = site.push_branch("feature/x", "x").ok().says("=====> live: 0/");
    assert_eq!(said.talk().matches("| tried").count(), 2, "{}", said.talk());
    said.never_says("CAN ").never_says("hidden").never_says("picture");
    // By hand, in what is live there; and from the others.
    site.ssh(&format!("run {PREVIEW} -- sh tries.sh")).ok().says("tried").never_says("CAN ");
    for from in ["app", "app--feature-y"] {
        std::fs::write(site.server.disk().join("usr/local/lib/tries.sh"), tries(from, PREVIEW)).unwrap();
        site.ssh(&format!("run {from} -- sh /usr/local/lib/tries.sh")).ok().says("tried").never_says("CAN ");
    }
    // The tries do find what is open.
    let open = site.sh(&format!(
        "sed 's/^echo tried//' /srv/{PREVIEW}/current/tries.sh > /root/tries.sh; sh /root/tries.sh"
    ));
    open.says("CAN cat /srv/app/receiver/secrets/env.json").says("CAN ls /srv/app--feature-y/shared/");
}

#[test]
fn a_connection_that_was_open_before_a_preview_was_made_pushes_to_it_too() {
    let site = Site::with_previews("sqlite");
    let shared = "export GIT_SSH_COMMAND=\"$GIT_SSH_COMMAND -o ControlMaster=auto -o ControlPersist=60 -o ControlPath=$HOME/master\"";
    let push = |subject: &str| {
        site.dev(&format!("{shared}; cd app; git commit --quiet --allow-empty -m '{subject}'; git push production HEAD:feature/x"))
    };
    site.dev(&format!("{shared}; $GIT_SSH_COMMAND deploy@app.example 'status app'")).ok();
    push("first").ok().says("app--feature-x, with a user of its own").says("=====> live: 0/");
    push("second").ok().says("=====> live: 0/").never_says("with a user of its own");
    site.dev(&format!("{shared}; $GIT_SSH_COMMAND -O exit deploy@app.example")).ok();
}

#[test]
fn previews_that_are_pushed_at_once_are_built_one_after_the_other_whoever_dies() {
    let site = Site::with_previews("sqlite");
    // A build that finds another one at work fails; the first waits until it may go on.
    let build =
        "flock -n /tmp/turn sh -c 'touch /tmp/turn/$RECEIVER_APP; until [ -e /tmp/go ]; do sleep 0.05; done'";
    site.sh("mkdir -m 1777 /tmp/turn").ok();
    let toml = site.read("receiver.toml");
    site.file("receiver.toml", &toml.replace("id -un; touch built", build));
    let branches = ["feature/a", "feature/b", "feature/c"];
    let push = "cd app; git add .; git commit --quiet --allow-empty -m many; \
                git push production HEAD:feature/a HEAD:feature/b HEAD:feature/c >../pushed 2>&1; echo $? > ../end";
    std::fs::write(site.laptop.path().join("push"), push).unwrap();
    site.dev("setsid sh push >/dev/null 2>&1 </dev/null &").ok();
    let all = || site.sh("cd /srv; ls -d app--*; cat app--*/receiver/logs/*.jsonl").stdout;
    site.until("two to wait", || all().matches("another preview of app is deployed first").count() == 2);
    let built = || site.sh("ls /tmp/turn").stdout.lines().map(str::to_owned).collect::<Vec<_>>();
    let [first] = &built()[..] else { panic!("not one is built: {:?}", built()) };
    // A newer push of a branch that waits takes its place.
    let waits = branches.iter().find(|branch| !first.ends_with(&branch.replace('/', "-"))).unwrap();
    let newer = format!(
        "cd app; git commit --quiet --allow-empty -m newer; git push production HEAD:{waits} >../newer 2>&1; echo $? > ../newer-end"
    );
    std::fs::write(site.laptop.path().join("newer-push"), newer).unwrap();
    site.dev("setsid sh newer-push >/dev/null 2>&1 </dev/null &").ok();
    site.until("the older push to be overtaken", || all().contains("a newer push took its place"));
    // Its worker dies: another one's turn has come, or its own again.
    let unit = format!("'receiver-work@srv-{}.service'", first.replace('-', "\\x2d"));
    let died = || site.sh("journalctl --no-pager -u 'receiver-work@*' | grep -c status=9/KILL").stdout;
    site.sh(&format!("systemctl kill --kill-whom=main --signal=KILL {unit}")).ok();
    site.until("it to be dead", || died().trim() != "0");
    site.sh("touch /tmp/go").ok();
    for branch in branches {
        let host = format!("{}.app.example", branch.replace('/', "-"));
        site.until_page_of(&host, "/entries", ENTRIES);
    }
    site.until("both pushes to end", || site.dev("cat end newer-end").stdout.lines().count() == 2);
    let said = all();
    assert!(said.contains("begins again") && !said.contains("stopped at stage"), "{said}");
    assert_eq!(site.dev("cat newer-end").stdout, "0\n", "{}", site.dev("cat newer").stdout);
}

#[test]
fn a_preview_is_removed_by_hand_and_what_is_kept_of_it_is_closed() {
    let site = Site::with_previews("mysql");
    let databases = || site.sh("mariadb -Ne 'SHOW DATABASES' | grep ^app__").stdout;
    site.push_branch("feature/x", "x").ok().says("=====> live: 0/");
    // Setup takes it back with its parent, and without its data it is as it was when both are set up again.
    site.sh("receiver setup app --undo 2>&1").ok();
    let unit = "'receiver-work@srv-app\\x2d\\x2dfeature\\x2dx.path'";
    site.sh(&format!("[ -d /srv/{PREVIEW}/versions ] && id app-{PREVIEW} && ! systemctl is-enabled {unit}"))
        .ok();
    site.sh("receiver setup app --domain app.example --database mysql 2>&1")
        .ok()
        .says("is there  app        /srv/app--feature-x");
    site.sh(&format!("systemctl is-enabled {unit}; receiver up app 2>&1; receiver up {PREVIEW} 2>&1")).ok();
    site.until_page_of("feature-x.app.example", "/entries", ENTRIES);
    site.until_page("/entries", ENTRIES);
    site.sh("receiver remove app 2>&1").fails(2).says("sudo receiver setup app --undo");
    site.ssh(&format!("remove {PREVIEW}")).fails(2);
    site.sh(&format!("receiver remove {PREVIEW} --dry-run")).ok().says("dump the database app__feature_x_v0");
    let said = site
        .sh(&format!("receiver remove {PREVIEW} 2>&1"))
        .ok()
        .says("is removed; what is kept of it is in /srv/.removed-");
    site.has_nothing_of(PREVIEW);
    assert_eq!(databases(), "");
    let place = said.stdout.split("is in ").nth(1).unwrap().trim().to_owned();
    site.sh(&format!(
        "[ \"$(stat -c '%U:%G %a' {place})\" = 'root:root 700' ] && ls {place}/receiver/dumps/*removed*"
    ))
    .ok();
    // Its branch is there, and makes it anew, by itself.
    site.sh("receiver deploy app 2>&1").ok();
    let is_live = || {
        let said = site.ssh(&format!("status {PREVIEW} --json"));
        said.code == 0
            && said.json()["apps"][0]["current"].is_string()
            && said.json()["apps"][0]["deploying"].is_null()
    };
    site.until("the preview to be made again", is_live);
    site.sh(&format!("receiver remove {PREVIEW} --data --yes {PREVIEW} 2>&1"))
        .ok()
        .says("is removed, with its data");
    site.has_nothing_of(PREVIEW);
    assert_eq!(databases(), "");
}

#[test]
fn there_are_as_many_previews_as_the_server_says_and_root_says_too() {
    let site = Site::with_previews("sqlite");
    std::fs::write(site.server.disk().join("usr/local/lib/asks.py"), ASKS).unwrap();
    let ask = |branch: &str| {
        let request = format!(r#"{{"request":"make-branch","app":"app","branch":"{branch}"}}"#);
        site.sh(&format!("runuser -u receiver -- python3 /usr/local/lib/asks.py '{request}'")).ok().stdout
    };
    site.sh("receiver config app preview.most 1").ok();
    site.push_branch("feature/x", "x").ok().says("=====> live: 0/");
    site.push_branch("feature/y", "y").fails(1).says("there are 1 previews, and no more may be");
    assert!(ask("feature/y").contains("there are 1 previews"), "root makes it");
    // What there is of it is looked after, and not made twice.
    assert_eq!(ask("feature/x"), "{\"done\":false}\n");
    site.sh("receiver config app preview.most 1000").ok();
    // As many as a server may have, whoever wrote what its settings say.
    site.sh(
        "cp /etc/passwd /root/passwd; for n in $(seq 100 198); do \
         echo app-zoo--n$n:x:50$n:50$n:made by receiver:/var/lib/receiver/home/zoo--n$n:/usr/sbin/nologin; done >> /etc/passwd",
    )
    .ok();
    site.push_branch("feature/y", "y")
        .says("NOT LIVE: this server has 100 apps of branches, and no more may be");
    site.has_nothing_of("app--feature-y");
    // One that is there is no new one.
    site.push_branch("feature/x", "again").ok().says("=====> live: 0/");
    site.sh("cp /root/passwd /etc/passwd; receiver deploy app 2>&1").ok();
    site.until_page_of("feature-y.app.example", "/entries", ENTRIES);
}

impl Site {
    /// From now on every process of this unit dies at a point; with `once` only the first.
    pub fn dies_at(&self, unit: &str, point: &str, once: bool) {
        let ticket = if once { "Environment=RECEIVER_TEST_DIE_ONCE=/var/lib/ticket/it" } else { "" };
        self.sh(&format!(
            "mkdir -p -m 777 /var/lib/ticket /run/systemd/system/{unit}.d; touch /var/lib/ticket/it; chmod 666 /var/lib/ticket/it
             printf '[Service]\nEnvironment=RECEIVER_TEST_DIE_AT={point}\n{ticket}\n' > /run/systemd/system/{unit}.d/die.conf
             systemctl daemon-reload"
        ))
        .ok();
    }

    pub fn lives_on(&self) {
        self.sh("rm -rf /var/lib/ticket /run/systemd/system/receiver-*.d; systemctl daemon-reload").ok();
    }

    /// What is made for a preview, as a person would look it over, without its name.
    fn made_for(&self, app: &str) -> String {
        let look = format!(
            "ls -ld /srv/{app} /var/lib/receiver/home/{app} | cut -d' ' -f1,3,4; cd /srv/{app}; stat -c '%n %U:%G %a' * receiver/* | grep -v previous
             getent passwd app-{app} | cut -d: -f1,5-7; getent group site-{app} app-{app} | cut -d: -f1,4
             cat receiver.toml; systemctl is-enabled receiver-work@srv-{}.path",
            app.replace('-', "\\x2d").replace('\\', "\\\\")
        );
        let slug = app.split_once("--").unwrap().1;
        self.sh(&look)
            .stdout
            .replace(app, "APP")
            .replace(slug, "SLUG")
            .replace(&slug.replacen('-', "/", 1), "SLUG")
    }
}

#[test]
fn a_preview_whose_making_dies_anywhere_is_whole_in_the_end() {
    let site = Site::with_previews("sqlite");
    site.push_branch("feature/whole", "whole").ok().says("=====> live: 0/");
    let whole = site.made_for("app--feature-whole");
    let shows = |slug: &str| site.until_page_of(&format!("feature-{slug}.app.example"), "/entries", ENTRIES);
    // Root dies after each thing that it makes, each time it is asked.
    site.dies_at("receiver-root@.service", "act-made", false);
    let mut deaths = 0;
    while site.sh("id app-app--feature-root; [ -e /srv/app--feature-root/receiver/app.toml ]").code != 0 {
        let said = site.push_branch("feature/root", "root");
        said.says("NOT LIVE: the root service gave no answer; the next push of that branch tries again");
        deaths += 1;
        assert!(deaths < 20, "it does not come to its end");
    }
    assert!(deaths > 3, "{deaths} deaths");
    site.lives_on();
    site.push_branch("feature/root", "root").ok().says("=====> live: 0/");
    shows("root");
    assert_eq!(site.made_for("app--feature-root"), whole);
    // In the middle of one, and in the parent's worker.
    let root = "receiver-root@.service";
    for (unit, point) in [
        (root, "owners-given"),
        (root, "app-made"),
        (root, "app-placed"),
        ("receiver-work@.service", POINTS[0]),
    ] {
        site.dies_at(unit, point, true);
        let slug = point.replace('-', "");
        site.push_branch(&format!("feature/{slug}"), point);
        shows(&slug);
        site.sh("[ ! -e /var/lib/ticket/it ]").ok();
        site.lives_on();
        assert_eq!(site.made_for(&format!("app--feature-{slug}")), whole, "{point}");
    }
    site.sh("[ -z \"$(ls -d /srv/.receiver* 2>/dev/null)\" ]").ok();
    // A branch that came and went while its app could not be made: what there is of it is taken back.
    site.dies_at(root, "act-made", false);
    site.push_branch("feature/gone", "gone").says("NOT LIVE");
    site.until("a part of it", || site.sh("id app-app--feature-gone").code == 0);
    site.delete_branch("feature/gone").ok();
    site.lives_on();
    site.sh("receiver deploy app 2>&1").ok();
    site.until_nothing_of("app--feature-gone");
}

#[test]
fn a_preview_whose_removal_dies_anywhere_is_gone_in_the_end() {
    let site = Site::with_previews("mysql");
    let again = || {
        site.dev("cd app; git switch --quiet main; git commit --quiet --allow-empty -m again; git push production main")
    };
    for (unit, point, once) in [
        ("receiver-root@.service", "removal-moved", true),
        ("receiver-root@.service", POINTS[1], false),
        ("receiver-work@.service", "preview-silent", true),
    ] {
        site.push_branch("feature/x", point).ok().says("=====> live: 0/");
        site.dies_at(unit, point, once);
        site.delete_branch("feature/x");
        let mut tries = 0;
        while site.sh(&format!("id app-{PREVIEW} || [ -e /srv/{PREVIEW} ]")).code == 0 {
            again().ok();
            tries += 1;
            assert!(tries < 20, "{point}: it does not come to its end");
        }
        site.lives_on();
        again().ok();
        site.until_nothing_of(PREVIEW);
        assert_eq!(site.sh("mariadb -Ne 'SHOW DATABASES' | grep ^app__").stdout, "", "{point}");
    }
}
