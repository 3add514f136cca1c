//! An application moves to a server that setup made by hand: a dump, and its files. `takeover.rs` has what `adopt` does.

use crate::setup::Site;

#[test]
fn an_application_moves_by_a_dump_and_its_files_to_a_server_that_was_set_up() {
    let site = Site::new();
    site.sh("apt-get update -qq; apt-get install -qq -y --no-install-recommends python3 python3-mysqldb >/dev/null 2>&1").ok();
    let said = site.sh("receiver setup app --database mysql --key /root/key.pub 2>&1").ok();
    assert!(!said.stdout.contains("app.example"), "{}", said.stdout);
    site.dev("cd app; git remote add production deploy@app.example:app").ok();
    site.for_engine("mysql");
    site.file("receiver.toml", &format!("{}[shared]\ndirs = [\"media\"]\n", site.read("receiver.toml")));
    site.push("one").ok().says("=====> live: 0/");

    // The old application: its rows, its files.
    site.sh(
        "mariadb -e \"CREATE DATABASE old; USE old; CREATE TABLE entry (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, \
         text VARCHAR(100) NOT NULL); INSERT INTO entry VALUES (1, 1, 'one'), (2, 2, 'two'); \
         CREATE TABLE step (name VARCHAR(100) PRIMARY KEY); INSERT INTO step VALUES ('1.sql')\"",
    )
    .ok();
    site.sh("mkdir -p /var/www/old/media/2020; echo picture > /var/www/old/media/2020/a").ok();

    // What adopts is an app that setup made: refused, with the way, before anything is done.
    let adopt = "receiver adopt shop --database-from mysql://root@localhost/old --shared-from /var/www/old/media 2>&1";
    site.sh(adopt).fails(2).says("setup makes apps").says("sudo receiver setup shop");
    site.sh("[ ! -e /srv/shop ]").ok();
    site.sh("receiver adopt app --go --stop true 2>&1").fails(1).says("app adopts nothing");
    // Elsewhere it is one's own, as on any machine.
    site.sh("mkdir /root/own; receiver --root /root/own adopt shop --shared-from /var/www/old/media 2>&1")
        .ok();

    site.sh("mariadb-dump --single-transaction --no-tablespaces old | receiver db app load 2>&1")
        .ok()
        .says("is loaded");
    site.sh("tar -C /var/www/old/media -c . | runuser -u app-app -- tar -C /srv/app/shared/media -x").ok();
    site.sh("receiver restart app 2>&1").ok();
    site.sh("receiver setup app --domain app.example 2>&1")
        .ok()
        .says("git remote add production deploy@app.example:app");
    site.until_page("/entries", "1\tone\n2\ttwo\n");
    site.sh("receiver get app media/2020/a").ok().says("picture");
    site.sh("cat /srv/app/current/media/2020/a && runuser -u app-app -- touch /srv/app/shared/media/2020/b")
        .ok();
    // It is an app like any other: a version opens with what came along.
    site.file("steps/2.sql", "ALTER TABLE entry ADD COLUMN note VARCHAR(100)");
    site.push("two").ok().says("=====> live: 1/");
    site.until_page("/version", "1");
    assert_eq!(site.page("/entries"), "1\tone\n2\ttwo\n");
    site.ssh("rollback app").ok().says("=====> live: 0/");
    site.until_page("/version", "0");
    site.sh("receiver doctor app 2>&1").ok();
}
