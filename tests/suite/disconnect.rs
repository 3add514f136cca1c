//! `hold = "disconnect"`: PostgreSQL copies its own files while nobody is connected, and lets everybody in again, whatever
//! dies.

use crate::backed::{Backed, SQL};
use crate::lost::{Act, Drama, Way};
use crate::servers::Engine;

/// The points that only such a deploy passes.
pub const POINTS: [&str; 1] = ["database-closed"];

/// Connections are let in by the server.
#[track_caller]
fn is_open(world: &Backed, database: &str) {
    let ask = format!("SELECT datallowconn FROM pg_database WHERE datname = '{database}'");
    assert_eq!(world.server().sql("", &ask).trim(), "t", "{database} lets nobody in");
}

pub fn a_version_opens_by_the_servers_own_copy(engine: Engine) {
    let world = Backed::live_with(engine, SQL, "hold = \"disconnect\"\n");
    let old = world.url(None);
    // What a copy of files brings along by itself, and what it must not.
    world.by(&old, "CREATE TYPE mood AS ENUM ('good', 'bad')").unwrap();
    world.by(&old, "CREATE TABLE face (id SERIAL PRIMARY KEY, mood mood NOT NULL)").unwrap();
    world.by(&old, "INSERT INTO face (mood) VALUES ('bad')").unwrap();
    world.by(&old, "CREATE VIEW faces AS SELECT count(*) AS n FROM face").unwrap();
    let mut open = world.talk(&old);
    open.says("SELECT 1").unwrap();
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    world.only(&["app_v0", "app_v1"]);
    assert_eq!(world.entries(), "one two three");
    for database in ["app_v0", "app_v1"] {
        is_open(&world, database);
    }
    // Its connection was ended, and its role cannot come in again.
    open.says("INSERT INTO entry (writer, number, text) VALUES (0, 9, 'late')").unwrap_err();
    world.write_by(&old).unwrap_err();
    let owners =
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(world.query("app_v1", owners).trim(), "app_v1");
    assert_eq!(world.query("app_v0", owners).trim(), "app_v0");
    // Nothing in the newer one is any more the older one's, or receiver could never drop its roles.
    let left = "SELECT count(*) FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid JOIN pg_database b ON b.oid = d.dbid
                WHERE r.rolname IN ('app_v0', 'app_v0_ro') AND b.datname = 'app_v1'";
    assert_eq!(world.query("app_v1", left).trim(), "0");
    let read = ["db", "app", "shell", "--read-only"];
    let ask = b"SELECT (SELECT n FROM faces), (SELECT count(*) FROM entry);";
    assert!(world.receiver_fed(&read, ask).ok().stdout.ends_with("1\t3\n"));
    let read = ["db", "app", "shell", "--read-only", "--version", "0"];
    assert!(world.receiver_fed(&read, ask).ok().stdout.ends_with("1\t3\n"));
    // The way back and forward is as always.
    world.enter(&[(4, "four")]);
    world.by(&world.url(None), "INSERT INTO face (mood) VALUES ('good')").unwrap();
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    assert_eq!(world.entries(), "one two three four");
    assert_eq!(world.by(&world.url(None), "SELECT n FROM faces").unwrap().trim(), "2");
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    world.receiver(&["doctor", "app"]).ok();
    world.nothing_is_left_over();
}

#[test]
fn a_version_opens_by_the_servers_own_copy_while_everybody_is_cut_off() {
    a_version_opens_by_the_servers_own_copy(Engine::Postgres);
}

#[test]
fn a_deploy_that_fails_while_everybody_is_cut_off_lets_everybody_in_again() {
    let world = Backed::live_with(Engine::Postgres, SQL, "hold = \"disconnect\"\n");
    world.settings(
        &format!("{SQL}migration = 'test \"$RECEIVER_REHEARSAL\" = 1 || exit 3'\n"),
        "hold = \"disconnect\"\n",
    );
    world.add_table("tag");
    world.push().ok().says("migration").says("NOT LIVE: still 0/");
    world.only(&["app_v0"]);
    is_open(&world, "app_v0");
    world.enter(&[(4, "four")]);
    assert_eq!(world.entries(), "one two three four");
    world.nothing_is_left_over();
}

#[test]
fn no_acknowledged_write_is_lost_wherever_a_worker_or_the_server_dies_while_everybody_is_cut_off() {
    let mut drama = Drama::begin(Engine::Postgres, 9);
    drama.world.receiver(&["config", "app", "database.hold", "disconnect"]).ok();
    for point in
        ["rehearsed", "held", "database-closed", "carried", "migrated", "fenced", "sealed", "switched"]
    {
        drama.play(Act::Dies(point, 1));
        is_open(&drama.world, &format!("app_v{}", drama.version()));
    }
    // The second time it is not the rehearsal's.
    drama.play(Act::ServerDiesAt("database-closed", 1, Way::Opens));
    is_open(&drama.world, &format!("app_v{}", drama.version()));
    drama.play(Act::Opens);
    drama.play(Act::Back);
    drama.end();
}
