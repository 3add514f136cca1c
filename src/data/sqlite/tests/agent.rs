//! What an agent does is what is done here, and what it says is no more trusted than an app.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::data::way::{OnConflict, Refusal, Way};
use crate::data::{Database, Lender, Talk};
use crate::support::Result;

/// A database of this name by an agent, and the same one opened here.
fn both(sandbox: &Sandbox, name: &str) -> (Box<dyn Database>, Box<dyn Database>) {
    let spot = Spot { directory: sandbox.root.path().join(name), name: "app".into() };
    let ground = Ground { agent: Some("shop".parse().unwrap()), ..Ground::default() };
    (at(&ground, spot.clone()), at(&Ground::default(), spot))
}

fn run(database: &dyn Database, text: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let script = Script { name: "one.sql", text: text.as_bytes() };
    database.run_sql(&[script], None, &patience(), &mut |line| lines.push(line.to_owned())).map(|()| lines)
}

fn talk(database: &dyn Database, said: &str) -> (bool, String, String) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let talk = Talk { input: &mut said.as_bytes(), output: &mut output, errors: &mut errors };
    let succeeded = database.shell(Access::Write, talk).unwrap();
    (succeeded, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
}

#[test]
fn every_verb_does_by_an_agent_what_it_does_here() {
    let sandbox = Sandbox::new();
    let (theirs, ours) = both(&sandbox, "3");
    theirs.create().unwrap();
    assert!(theirs.exists().unwrap() && theirs.is_empty().unwrap());
    let lines = run(
        &*theirs,
        "BEGIN; CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO t (x) VALUES ('ä');",
    );
    assert!(lines.unwrap()[0].starts_with("one.sql:1: passed over"));
    let why = |database: &dyn Database| run(database, "\nOOPS;").unwrap_err().render();
    assert_eq!(why(&*theirs), why(&*ours));
    assert!(!theirs.is_empty().unwrap());
    assert_eq!(theirs.schema().unwrap(), ours.schema().unwrap());
    assert_eq!(theirs.rows(&patience()).unwrap(), ours.rows(&patience()).unwrap());
    assert_eq!(theirs.census(&patience()).unwrap(), ours.census(&patience()).unwrap());
    assert_eq!(theirs.tables().unwrap(), ours.tables().unwrap());
    assert_eq!(theirs.size().unwrap(), ours.size().unwrap());
    let said = "SELECT * FROM t; SELECT nothing; BEGIN; INSERT INTO t (x) VALUES ('lost');";
    assert_eq!(talk(&*theirs, said), talk(&*ours, said));
    assert_eq!(ours.rows(&patience()).unwrap()["t"], 1);

    let (copy, copied) = both(&sandbox, "4");
    theirs.snapshot(copy.spot(), &patience(), &mut silent).unwrap();
    assert_eq!(copy.verify(theirs.spot(), &patience()).unwrap(), 0);
    copy.examine(0, &patience()).unwrap();
    copy.sync().unwrap();
    run(&*copied, "CREATE TABLE other (x);").unwrap();
    assert!(copy.verify(theirs.spot(), &patience()).is_err());

    let dump = sandbox.root.path().join("dump");
    theirs.dump(&dump, &patience(), &mut silent).unwrap();
    assert_eq!(std::fs::metadata(&dump).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(theirs.dump(&dump, &patience(), &mut silent).is_err(), "a dump is never written over");
    let (scratch, _) = both(&sandbox, "4.loading");
    copy.load(&dump, scratch.spot(), &patience()).unwrap();
    assert_eq!(copy.verify(theirs.spot(), &patience()).unwrap(), 0);
    std::fs::write(&dump, "OOPS;").unwrap();
    let error = copy.load(&dump, scratch.spot(), &patience()).unwrap_err().one_line();
    assert!(error.contains(&format!("{}:1: near \"OOPS\"", dump.display())), "{error}");
    copy.freeze().unwrap();
    copy.remove().unwrap();
    let mut left: Vec<_> =
        std::fs::read_dir(sandbox.root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["3", "dump"], "what was made on the way is gone");
}

#[test]
fn rows_go_back_by_an_agent_and_a_row_that_is_refused_is_named_to_who_decides() {
    let sandbox = Sandbox::new();
    let (old, _) = both(&sandbox, "3");
    let (new, here) = both(&sandbox, "4");
    old.create().unwrap();
    run(&*old, "CREATE TABLE t (id INTEGER PRIMARY KEY, x CHECK (x < 5)); INSERT INTO t VALUES (1, 1);")
        .unwrap();
    let hold = old.hold(&patience()).unwrap();
    hold.copy_to(new.spot(), &patience(), &mut silent).unwrap();
    hold.check().unwrap();
    hold.fence("version 3 is retired").unwrap();
    assert_eq!(old.fence().unwrap(), Fence::Whole);
    let refused = run(&*old, "INSERT INTO t VALUES (2, 2);").unwrap_err().one_line();
    assert!(refused.contains("version 3 is retired"), "{refused}");

    run(&*new, "ALTER TABLE t RENAME TO old; CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t SELECT * FROM old; DROP TABLE old;").unwrap();
    assert_eq!(new.captured().unwrap(), None);
    assert!(new.capture("app", &patience()).unwrap().is_whole());
    run(&*here, "INSERT INTO t VALUES (2, 2), (3, 9);").unwrap();
    assert_eq!(new.changes(&patience()).unwrap()["t"].written, 2);
    let way = Way::plan(&new.tables().unwrap(), &old.tables().unwrap(), &BTreeMap::default());
    let foreseen = new.foresee(old.spot(), &way, &patience()).unwrap();
    assert_eq!((foreseen.moved["t"].written, foreseen.refused["t"].rows), (1, 1));

    let hold = new.hold(&patience()).unwrap();
    let error = hold.carry_to(old.spot(), &way, OnConflict::Abort, &patience()).unwrap_err();
    assert_eq!(Refusal::of(&error).map(|refusal| refusal.key.as_str()), Some("id = 3"));
    let carried = hold.carry_to(old.spot(), &way, OnConflict::Quarantine, &patience()).unwrap();
    assert_eq!(carried.moved, foreseen.moved);
    drop(hold);
    new.end_capture().unwrap();
    old.unfence().unwrap();
    assert_eq!(old.rows(&patience()).unwrap()["t"], 2);
}

#[test]
fn a_hold_by_an_agent_lets_writers_wait_and_ends_with_who_asked_for_it() {
    let sandbox = Sandbox::new();
    let (theirs, ours) = both(&sandbox, "3");
    theirs.create().unwrap();
    run(&*theirs, "CREATE TABLE t (x);").unwrap();
    let writer = connect(&sandbox.root.path().join("3/app.sqlite3"));
    writer.busy_timeout(Duration::ZERO).unwrap();
    let write = || writer.execute_batch("INSERT INTO t VALUES (1)").is_ok();
    let hold = theirs.hold(&patience()).unwrap();
    assert!(!write());
    assert!(theirs.rows(&patience()).is_ok(), "readers go on");
    drop(hold);
    let mut tries = 0;
    while !write() {
        tries += 1;
        assert!(tries < 500, "the hold went on");
        thread::sleep(Duration::from_millis(10));
    }
    // Somebody else's lock: the limit ends the wait, and so does who does not want it any more.
    let other = ours.hold(&patience()).unwrap();
    let error = theirs.hold(&Limit::within(Duration::from_millis(100))).err().unwrap();
    assert!(error.one_line().contains("still has the lock"), "{}", error.one_line());
    let flag = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(100));
            flag.store(true, Ordering::Relaxed);
        });
        let error = theirs.hold(&patience().unless(&flag)).err().unwrap().one_line();
        assert!(error.contains("it was cancelled"), "{error}");
    });
    other.check().unwrap();
}

#[test]
fn a_database_that_is_lent_comes_as_bytes_from_one_agent_to_the_other() {
    let sandbox = Sandbox::new();
    let (parents, _) = both(&sandbox, "parent");
    parents.create().unwrap();
    run(&*parents, "CREATE TABLE t (x); INSERT INTO t VALUES (1);").unwrap();
    let lent = Ground {
        agent: Some("shop--x".parse().unwrap()),
        lender: Some(Lender { secrets: "/nowhere".into(), agent: Some("shop".parse().unwrap()) }),
        ..Ground::default()
    };
    let lent = at(&lent, parents.spot().clone());
    let (own, here) = both(&sandbox, "own");
    lent.snapshot(own.spot(), &patience(), &mut silent).unwrap();
    assert_eq!(here.verify(parents.spot(), &patience()).unwrap(), 0);
    own.remove().unwrap();
    let error = lent.snapshot(own.spot(), &Limit::within(Duration::ZERO), &mut silent).unwrap_err();
    assert!(error.one_line().contains("it took longer than"), "{}", error.one_line());
    assert_eq!(std::fs::read_dir(sandbox.root.path()).unwrap().count(), 1, "only the parent's is left");
}

#[test]
fn what_an_agent_says_is_bounded_and_read_as_what_it_has_to_be() {
    use super::super::agent::tests::hears;
    let frame =
        |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    for (said, why) in [
        (Vec::new(), "has ended"),
        (vec![0, 0], "has ended"),
        (u32::MAX.to_be_bytes().to_vec(), "a message of more than"),
        (frame("{}"), "not a message that is known"),
        (frame("{\"Done\":[]}"), "not the answer to what was asked"),
        (frame("{\"Failed\":{\"sentences\":[],\"hint\":null,\"refusal\":null}}"), ""),
        (frame("{\"Done\":7}")[..8].to_vec(), "not a message that is known"),
    ] {
        let error = hears(&said).unwrap_err().one_line();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(hears(&frame("{\"Done\":7}")).unwrap(), 7);
}
