//! `kill -9` on the two servers, under eight writers: of the worker at every point of a version that opens, of a rollback
//! that carries rows, and of the way forward again; and of the database server itself. (On SQLite: `kill.rs`.)
//!
//! The usual form has the points at which rows are on their way or a database changes hands; `RECEIVER_LONG=1` has
//! every one.

use crate::lost::{Act, Drama, Way};
use crate::servers::Engine;

/// Those of a version that opens.
const OPENS: [&str; 4] = ["held", "migrated", "fenced", "switched"];
const OPENS_TOO: [&str; 18] = [
    "copying",
    "rehearsed",
    "door-closed",
    "carried",
    "started",
    "synced",
    "sealed",
    "journaled",
    "locked",
    "job-taken",
    "begun",
    "directory-made",
    "exported",
    "linked",
    "build",
    "last-moved",
    "verdict-written",
    "job-removed",
];

/// Those of a rollback.
const BACK: [&str; 2] = ["rows-carried", "rollback-fenced"];
const BACK_TOO: [&str; 9] = [
    "rollback-begun",
    "rollback-held",
    "rollback-opened",
    "rollback-switched",
    "locked",
    "job-taken",
    "last-moved",
    "journaled",
    "verdict-written",
];

/// Those of the way forward again.
const FORTH: [&str; 2] = ["rows-carried", "fenced"];
const FORTH_TOO: [&str; 9] =
    ["rehearsed", "held", "carried", "switched", "copying", "started", "synced", "sealed", "journaled"];

fn points(usual: &[&'static str], too: &[&'static str]) -> Vec<&'static str> {
    let long = std::env::var_os("RECEIVER_LONG").is_some();
    usual.iter().chain(too.iter().filter(|_| long)).copied().collect()
}

fn the_worker_dies_everywhere(engine: Engine) {
    let mut drama = Drama::begin(engine, 7);
    for point in points(&OPENS, &OPENS_TOO) {
        drama.play(Act::Dies(point, 1));
    }
    drama.play(Act::Dies("copied-ahead", 1));
    drama.play(Act::Opens);
    for point in points(&BACK, &BACK_TOO) {
        let newer = drama.version();
        drama.play(Act::BackDies(point));
        if drama.version() != newer {
            drama.play(Act::Forth);
        }
    }
    for point in points(&FORTH, &FORTH_TOO) {
        drama.play(Act::Back);
        let older = drama.version();
        drama.play(Act::ForthDies(point));
        if drama.version() == older {
            drama.play(Act::Forth);
        }
    }
    drama.end();
}

#[test]
fn no_acknowledged_write_is_lost_wherever_a_worker_dies_on_mysql() {
    the_worker_dies_everywhere(Engine::Mysql);
}

#[test]
fn no_acknowledged_write_is_lost_wherever_a_worker_dies_on_postgres() {
    the_worker_dies_everywhere(Engine::Postgres);
}

/// In the copy that nobody waits for, in the one that is carried, ahead or under the hold, held, fenced; on the way back in
/// the middle of the one transaction, and behind it; and on the way forward.
fn the_server_dies(engine: Engine) {
    let mut drama = Drama::begin(engine, 8);
    let points = [
        ("copying", 0),
        ("held", 0),
        ("copying", 1),
        ("copied-ahead", 0),
        ("migrated", 0),
        ("fenced", 0),
        ("carried", 0),
    ];
    for (point, passes) in points {
        drama.play(Act::ServerDiesAt(point, passes, Way::Opens));
    }
    for point in ["rollback-held", "rows-carried", "rollback-opened", "rollback-fenced"] {
        drama.play(Act::Opens);
        drama.play(Act::ServerDiesAt(point, 0, Way::Back));
    }
    drama.play(Act::Opens);
    drama.play(Act::Back);
    drama.play(Act::ServerDiesAt("rows-carried", 0, Way::Forth));
    drama.end();
}

#[test]
fn no_acknowledged_write_is_lost_wherever_a_mariadb_dies() {
    the_server_dies(Engine::Mysql);
}

#[test]
fn no_acknowledged_write_is_lost_wherever_a_postgresql_dies() {
    the_server_dies(Engine::Postgres);
}
