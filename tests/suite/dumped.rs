//! An administrator's own dump, by the server's own programs, of a database that receiver notes and fences: it goes into
//! another database as it is, and what is done there is nothing to the original.

use std::process::{Command, Stdio};

use crate::backed::Backed;
use crate::servers::{self, Engine};

const ROW: &str = "INSERT INTO entry (writer, number, text) VALUES (9, 9, 'in the copy')";

/// `mariadb-dump app_v1 --triggers | mariadb other`, or `pg_dump app_v1 | psql other`.
fn copied(world: &Backed, database: &str, other: &str) {
    let server = world.server();
    server.sql("", &format!("CREATE DATABASE {other}"));
    let socket = server.socket();
    let mut dump = if world.engine == Engine::Mysql {
        let other = servers::other_programs(Engine::Mysql);
        let mut dump =
            Command::new(other.map_or_else(|| "mariadb-dump".into(), |place| place.join("mysqldump")));
        dump.args(["--no-defaults", "--user=root", "--triggers", "--routines"]);
        if servers::is_mysql() {
            // It is loaded into the server that it comes from.
            dump.arg("--set-gtid-purged=OFF");
        }
        dump.arg("--socket");
        dump
    } else {
        let mut dump = Command::new(servers::postgres("pg_dump"));
        dump.args(["-U", "postgres", "-h"]);
        dump
    };
    let dump = dump.arg(socket).arg(database).stderr(Stdio::inherit()).output().unwrap();
    assert!(dump.status.success());
    let text = String::from_utf8(dump.stdout).unwrap();
    assert!(text.contains("receiver"), "it has nothing of receiver's, and this test shows nothing");
    server.sql(other, &text);
}

/// What was noted, as a rollback would tell.
fn noted(world: &Backed) -> String {
    world.receiver(&["rollback", "app", "--dry-run"]).ok().all()
}

pub fn is_loaded_elsewhere(engine: Engine) {
    let world = Backed::live(engine, "copy");
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    world.enter(&[(4, "four")]);
    let before = noted(&world);

    copied(&world, "app_v1", "elsewhere");
    world.server().sql("elsewhere", ROW);
    world.server().sql("elsewhere", "UPDATE entry SET text = 'changed'");
    world.server().sql("elsewhere", "DELETE FROM entry WHERE number = 1");
    assert_eq!(noted(&world), before);

    // The retired one: on MariaDB the copy is an ordinary database, on PostgreSQL after one statement.
    copied(&world, "app_v0", "older");
    if engine == Engine::Postgres {
        let refused = world.server().try_sql("older", ROW).unwrap_err();
        assert!(refused.contains("retired"), "{refused}");
        world.server().sql("older", "DROP SCHEMA receiver CASCADE");
    }
    world.server().sql("older", ROW);
    world.server().sql("older", "DELETE FROM entry");
    world.server().try_sql("app_v0", ROW).unwrap_err();

    // It goes on where the original's log is gone.
    world.receiver(&["doctor", "app"]).ok();
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    assert_eq!(world.entries(), "one two three four");
    assert_eq!(world.server().sql("elsewhere", "SELECT count(*) FROM entry").trim(), "4");
    if engine == Engine::Mysql {
        world.server().sql("", "DROP DATABASE app_v1_log");
        world.server().sql("elsewhere", &ROW.replace("9, 9", "9, 10"));
    }
}

#[test]
fn an_administrators_own_dump_is_loaded_elsewhere_and_changes_nothing_of_the_original_on_mysql() {
    is_loaded_elsewhere(Engine::Mysql);
}

#[test]
fn an_administrators_own_dump_is_loaded_elsewhere_and_changes_nothing_of_the_original_on_postgres() {
    is_loaded_elsewhere(Engine::Postgres);
}
