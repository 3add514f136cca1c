//! An app that setup made, and its backup on a second server: the same app there, with its data, secrets, files and keys.

use crate::booted::Booted;
use crate::hgsite;
use crate::setup::Site;

const PYTHON: &str = "apt-get update -qq; apt-get install -qq -y --no-install-recommends python3 python3-mysqldb \
                      python3-psycopg2 >/dev/null 2>&1";

const FILL: &str = r#"
import os
from database import Database
database = Database(os.environ["DATABASE_URL"])
for number, text in enumerate(["one", "two"], 1):
    insert = "INSERT INTO entry (id, number, text) VALUES (?, ?, ?)"
    database.transaction(lambda execute: execute(insert, number, number, text), "BEGIN")
"#;
const ENTRIES: &str = "1\tone\n2\ttwo\n";

/// A server with an app on `engine`, its second version live, with all that a backup has; then its backup.
fn backed_up(engine: &str) -> Site {
    let site = Site::new();
    site.sh(PYTHON).ok();
    let setup =
        format!("receiver setup app --domain app.example --database {engine} --key /root/key.pub 2>&1");
    site.paste(&site.sh(&setup).ok());
    site.for_engine(engine);
    site.file("fill.py", FILL);
    site.push("one").ok().says("=====> live: 0/");
    site.file("steps/2.sql", "ALTER TABLE entry ADD COLUMN note VARCHAR(100)");
    site.push("two").ok().says("=====> live: 1/");
    site.until_page("/version", "1");
    site.ssh("run app -- python3 fill.py").ok();
    site.sh("echo hidden | receiver env app set SECRET; echo picture | receiver put app media/a.txt").ok();
    site.dev("ssh-keygen -q -t ed25519 -N '' -f alice").ok();
    std::fs::copy(site.laptop.path().join("alice.pub"), site.server.disk().join("root/alice.pub")).unwrap();
    site.sh("receiver key add alice --app app --role deploy < /root/alice.pub").ok();
    site.sh("receiver config app keep.releases 3; receiver backup app > /root/app.tar").ok();
    site
}

/// The same laptop, with the backup on another server that has nothing yet.
fn elsewhere(site: Site) -> Site {
    let Site { server, laptop } = site;
    let other = Booted::bare();
    for file in ["app.tar", "key.pub"] {
        std::fs::copy(server.disk().join("root").join(file), other.disk().join("root").join(file)).unwrap();
    }
    let _ = std::fs::remove_file(laptop.path().join("known"));
    drop(server);
    Site { server: other, laptop }
}

fn comes_back_with(engine: &str) {
    let site = elsewhere(backed_up(engine));
    site.sh(PYTHON).ok();
    let restore = "receiver setup app --restore /root/app.tar --key /root/key.pub";
    let listed = site.sh(&format!("{restore} --dry-run")).ok();
    let listed = listed
        .says("to make   app        /srv/app, of the backup of ")
        .says("to make   keys       those of the backup");
    site.sh("[ ! -e /srv/app ] && ! id receiver").ok();
    let made = site.sh(&format!("{restore} 2>&1")).ok();
    // It says what it does without being asked to say more.
    let made = made.says("making    packages").says("read        the backup of").says("whole and undamaged");
    let made = made.says("=====> live: 1/").says("git remote add production deploy@app.example:app");
    let made: Vec<&str> = made.stdout.lines().filter_map(|line| line.strip_prefix("made ")).collect();
    let listed: Vec<&str> = listed.stdout.lines().filter_map(|line| line.strip_prefix("to make ")).collect();
    // A package starts what it brings.
    let is_ours =
        |line: &&&str| !["mariadb.service", "postgresql.service"].iter().any(|unit| line.ends_with(unit));
    let words = |lines: &[&str]| -> Vec<String> {
        lines
            .iter()
            .filter(is_ours)
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    assert_eq!(words(&made), words(&listed), "what is made is what was listed");
    // Data, secrets, files and settings are there, each its owner's.
    site.until_page("/version", "1");
    assert_eq!(site.page("/entries"), ENTRIES, "the data");
    site.sh("receiver env app list").ok().says("SECRET=hidden");
    site.sh("receiver get app media/a.txt").ok().says("picture");
    site.sh("runuser -u app-app -- sh -c 'echo more >> /srv/app/shared/media/a.txt'").ok();
    site.sh("receiver config app keep.releases").ok().says("3");
    let strange = "find /srv/app ! -user receiver ! -user deploy ! -user app-app -print";
    assert_eq!(site.sh(strange).ok().stdout, "", "something is root's");
    site.sh("receiver doctor app 2>&1 && receiver verify app").ok();
    // Both keys open it, as before; the journal goes on.
    site.ssh("history app").ok().says("restored from the backup of");
    let alice = "cd app; GIT_SSH_COMMAND=$(echo \"$GIT_SSH_COMMAND\" | sed 's,/key ,/alice ,')";
    site.file("index.html", "three\n");
    site.dev(&format!("{alice}; git add .; git commit --quiet -m three; git push production main"))
        .ok()
        .says("=====> live: 1/");
    site.until_page("/", "three\n");
    site.ssh("rollback app").ok().says("=====> live: 1/");
    assert_eq!(site.page("/entries"), ENTRIES, "the data after a rollback");
    // The same again is the same, and another app of that name is not overwritten.
    let again = site.sh(&format!("{restore} 2>&1")).ok().says("nothing was changed");
    again.never_says("-----> app");
    site.sh("receiver setup other --key /root/key.pub 2>&1").ok();
    site.sh("receiver setup other --restore /root/app.tar 2>&1")
        .fails(1)
        .says("the backup is of app, and not of other");
}

#[test]
fn an_app_on_mariadb_comes_back_on_a_fresh_server_with_its_data_and_its_keys() {
    comes_back_with("mysql");
}

#[test]
fn an_app_on_postgresql_comes_back_on_a_fresh_server_with_its_data_and_its_keys() {
    comes_back_with("postgres");
}

#[test]
fn a_restore_whose_first_deploy_fails_goes_on_by_the_same_command() {
    let site = elsewhere(backed_up("sqlite"));
    let restore = "receiver setup app --restore - --key /root/key.pub < /root/app.tar 2>&1";
    // Its application needs Python, which is not there yet.
    site.sh(restore).fails(1).says("NOT LIVE").says("the same command goes on");
    site.sh("receiver status app").ok().says("app");
    // Whoever pushes meanwhile is heard, too, and does not read the dump.
    let pushed =
        site.dev("cd app; git commit --quiet --allow-empty -m meanwhile; git push -o plan production main");
    pushed.fails(1).says("this was only the plan").never_says("Permission denied");
    site.sh("[ -e /srv/app/receiver/beginning/dump ] && ! runuser -u deploy -- cat /srv/app/receiver/beginning/dump >/dev/null")
        .ok();
    site.sh(PYTHON).ok();
    site.sh(restore).ok().says("is there  app ").says("=====> live: 1/");
    site.until_page("/entries", ENTRIES);
    // What is there is never overwritten by a backup of another one.
    site.sh("receiver setup app --undo --data 2>&1; receiver setup app --key /root/key.pub 2>&1").ok();
    site.sh(restore).fails(1).says("setup stopped at: app /srv/app").says("it is not the one of the backup");
    // Nor is anything made of what is no backup, or of one that was cut: not even an account.
    site.sh("receiver setup app --undo --data 2>&1; receiver setup --undo --data 2>&1").ok();
    site.sh("head -c 100 /root/app.tar > /root/cut.tar; receiver setup app --restore /root/cut.tar --key /root/key.pub 2>&1")
        .fails(1)
        .says("this is no backup of receiver's")
        .never_says("made ");
    site.sh("head -c 20000 /root/app.tar > /root/cut.tar; receiver setup app --restore /root/cut.tar --key /root/key.pub 2>&1")
        .fails(1)
        .says("setup stopped at: app /srv/app")
        .says("the backup is cut");
    site.sh("[ -z \"$(ls -A /srv)\" ]").ok();
}

#[test]
fn an_app_on_sqlite_comes_back_on_a_fresh_server_with_its_data_and_its_keys() {
    comes_back_with("sqlite");
}

#[test]
fn an_app_that_is_pushed_to_with_mercurial_comes_back_on_a_fresh_server_and_is_pushed_to_again() {
    let site = hgsite::site();
    site.hg_paste(&site.sh(hgsite::SETUP).ok());
    site.hg_push("parcels").ok().says("remote: =====> live: 0/");
    site.shows("0: ");
    site.parcels("?add=a");
    site.hg_push_area().ok().says("remote: =====> live: 1/");
    site.shows("1: a 7");
    site.parcels("?add=b");
    site.dev("cd app; hg bookmark later; hg push -B later production 2>&1");
    let heads = |site: &Site| {
        site.dev("cd app; hg identify --id production -r later; hg heads -q | wc -l").ok().stdout
    };
    let before = heads(&site);
    site.sh("echo hidden | receiver env app set SECRET; echo picture | receiver put app media/a.txt").ok();
    site.sh("receiver backup app > /root/app.tar").ok();

    let site = elsewhere(site);
    site.sh(hgsite::NEEDS).ok();
    let restore = "receiver setup app --restore /root/app.tar --key /root/key.pub";
    site.sh(&format!("{restore} --dry-run"))
        .ok()
        .says("to make   packages   git nginx mariadb-server mariadb-client mercurial");
    let said = site.sh(&format!("{restore} 2>&1")).ok().says("deploy (repo.hg)").says("=====> live: 1/");
    said.clone().says("  production = ssh://deploy@app.example/app").says("  hg push -b default production");
    site.shows("1: a 7, b 7");
    assert_eq!(heads(&site), before, "what was pushed, and the bookmark");
    site.sh("receiver env app list").ok().says("SECRET=hidden");
    site.sh("receiver get app media/a.txt").ok().says("picture");
    let strange = "find /srv/app ! -user receiver ! -user deploy ! -user app-app -print";
    assert_eq!(site.sh(strange).ok().stdout, "", "something is root's");
    site.sh("receiver doctor app 2>&1 && receiver verify app").ok();
    // It is pushed to as before, by whoever pushed before; both accounts write to the store.
    site.hg_paste(&said);
    site.file("more.txt", "more\n");
    site.hg_push("more").ok().says("remote: =====> live: 1/");
    site.sh("[ -e /srv/app/current/more.txt ]; receiver verify app").ok();
    site.ssh("rollback app").ok().says("=====> live: 1/");
    site.shows("1: a 7, b 7");
    site.sh(&format!("{restore} 2>&1")).ok().says("nothing was changed");
}
