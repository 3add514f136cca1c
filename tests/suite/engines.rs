//! What a person sees of databases for versions is the same on every engine: each case here is one body, for
//! SQLite, MariaDB and PostgreSQL. The project is plain SQL, or a script of its own, and the application Python.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::backed::{Backed, SQL, WEB};
use crate::servers::{Engine, is_mysql, on_servers};
use crate::world::{PROGRAM, Said};

/// The case of this name, on each engine.
macro_rules! on_every_engine {
    ($($case:ident)*) => {$(
        mod $case {
            use crate::servers::Engine;
            #[test]
            fn on_sqlite() {
                super::$case(Engine::Sqlite);
            }
            #[test]
            fn on_mysql() {
                super::$case(Engine::Mysql);
            }
            #[test]
            fn on_postgres() {
                super::$case(Engine::Postgres);
            }
        }
    )*};
}

/// The same for what is carried back at a rollback.
macro_rules! on_every_engine_that_carries_back {
    ($($case:ident)*) => {$(
        mod $case {
            use crate::servers::Engine;
            #[test]
            fn on_sqlite() {
                super::$case(Engine::Sqlite);
            }
            #[test]
            fn on_mysql() {
                super::$case(Engine::Mysql);
            }
            #[test]
            fn on_postgres() {
                super::$case(Engine::Postgres);
            }
        }
    )*};
}

on_every_engine! {
    a_version_opens_with_its_data_in_a_database_of_its_own_and_the_old_one_refuses_writes
    a_script_of_ones_own_changes_tables_on_the_way
    a_deploy_that_fails_anywhere_leaves_everything_and_nothing_behind
    a_rollback_without_new_data_brings_the_old_database_back_as_it_was
    an_empty_version_is_filled_from_the_previous_one_which_can_only_be_read
    a_shared_database_is_rehearsed_and_then_changed_in_place
    databases_are_listed_dumped_loaded_and_asked
    a_retired_version_is_pruned_after_its_dump
    a_password_is_nowhere_but_in_its_file_and_in_the_environment
    a_preview_gets_a_copy_of_its_own_and_takes_it_along
    apps_cannot_touch_each_others_databases
    the_application_writes_behind_the_door_while_versions_open_and_go_back
    a_long_transaction_is_named_and_nobody_waits_for_it_for_ever
    another_engine_is_refused_unless_the_version_begins_empty
}

on_servers! {
    a_server_that_is_down_is_named_and_what_is_live_goes_on
    a_server_that_dies_in_the_middle_of_a_deploy_leaves_what_is_live
    a_database_of_somebody_else_is_refused_and_left_alone
    a_role_of_somebody_else_is_refused_and_left_alone
    a_password_is_in_no_log_of_the_server
    what_doctor_says_a_role_lacks_is_all_that_it_needs
    a_server_that_has_no_connection_left_is_named_and_what_is_live_goes_on
    a_disk_of_the_servers_that_has_no_room_is_noticed_before_anybody_waits
}

on_every_engine_that_carries_back! {
    a_rollback_brings_what_was_written_since_and_forward_does_so_too
    another_schema_after_a_rollback_brings_what_the_left_version_alone_holds
    a_rollback_says_what_the_old_schema_cannot_hold_before_it_does_anything
}

pub fn a_version_opens_with_its_data_in_a_database_of_its_own_and_the_old_one_refuses_writes(engine: Engine) {
    let world = Backed::new(engine);
    world.settings(SQL, "");
    world.commit("one");
    world.push().ok().says("=====> live: 0/");
    world.only(&["app_v0"]);
    world.enter(&[(1, "one"), (2, "two"), (3, "three")]);

    world.file("index.html", "page two\n");
    world.commit("a page");
    world.push().ok().says("unchanged, version 0").says("=====> live: 0/");
    world.only(&["app_v0"]);
    assert_eq!(world.entries(), "one two three");

    let old = world.url(None);
    let mut open = world.talk(&old);
    open.says("UPDATE entry SET text = 'THREE' WHERE number = 3").unwrap();
    world.add_table("tag");
    let said = world.push().ok().says("changed: schema.sql → version 1");
    said.says("app_v0").says("=====> live: 1/");
    world.only(&["app_v0", "app_v1"]);
    assert_ne!(world.url(None), old);
    assert_eq!(world.entries(), "one two THREE");
    assert_eq!(world.query("app_v1", "SELECT count(*) FROM tag").trim(), "0");
    // Numbers go on where they were.
    world.enter(&[(4, "four")]);
    assert_eq!(world.query("app_v1", "SELECT max(id) FROM entry").trim(), "4");

    // On a connection that was open before, on a new one, and by receiver's own shell.
    let refused = open.says("INSERT INTO entry (writer, number, text) VALUES (0, 9, 'late')").unwrap_err();
    println!("{}: {refused}", engine.name());
    let refused = world.write_by(&old).unwrap_err();
    println!("{}: {refused}", engine.name());
    world
        .receiver_fed(&["db", "app", "shell", "--version", "0"], b"DELETE FROM entry;")
        .fails(1)
        .says("retired");
    assert_eq!(world.query("app_v0", "SELECT count(*) FROM entry").trim(), "3");
    let said = world.receiver_fed(
        &["db", "app", "shell", "--version", "0", "--read-only"],
        b"SELECT text FROM entry ORDER BY id;",
    );
    assert_eq!(said.ok().stdout, "text\none\ntwo\nTHREE\n");
    world.receiver(&["verify", "app"]).ok();
    world.receiver(&["doctor", "app"]).ok();
    world.nothing_is_left_over();
    let status = world.status();
    assert_eq!(
        (&status["database"]["engine"], &status["database"]["name"]),
        (&engine.name().into(), &"app_v1".into())
    );
}

fn a_script_of_ones_own_changes_tables_on_the_way(engine: Engine) {
    let world = Backed::new(engine);
    let serial = engine.serial();
    world.file("steps/1.sql", &format!("CREATE TABLE person (id {serial}, name VARCHAR(90) NOT NULL)"));
    world.settings("syncdb = \"/usr/bin/python3 -B migrate.py\"\n", "[schema]\npaths = [\"steps/*\"]\n");
    world.remove("schema.sql");
    world.commit("one");
    world.push().ok().says("did 1.sql").says("=====> live: 0/");
    world.by(&world.url(None), "INSERT INTO person (name) VALUES ('Ada'), ('Grace')").unwrap();
    world.file(
        "steps/2.sql",
        "ALTER TABLE person ADD COLUMN stars INTEGER NOT NULL DEFAULT 3;\n\
         CREATE INDEX by_name ON person (name);\nUPDATE person SET stars = 5 WHERE name = 'Ada'",
    );
    world.commit("stars");
    world.push().ok().says("did 2.sql").never_says("did 1.sql").says("=====> live: 1/");
    let rows = world.by(&world.url(None), "SELECT name, stars FROM person ORDER BY id").unwrap();
    assert_eq!(rows, "Ada\t5\nGrace\t3\n");
    assert_eq!(world.query("app_v0", "SELECT count(*) FROM step").trim(), "1");
    // A step that fails in its middle: the one before it may be done on some engines, on a copy.
    world.file("steps/3.sql", "DROP TABLE person;\nDROP TABLE nobody");
    world.commit("a mistake");
    world.push().ok().says("nobody").says("NOT LIVE: still 1/");
    world.only(&["app_v0", "app_v1"]);
    assert_eq!(world.by(&world.url(None), "SELECT count(*) FROM person").unwrap().trim(), "2");
}

/// What may go wrong: lines of `[stages]`, and what is said of it.
const FAILURES: [(&str, &str); 5] = [
    ("syncdb = { sql = [\"schema.sql\", \"wrong.sql\"] }\n", "wrong.sql"),
    (
        "syncdb = { sql = [\"schema.sql\"] }\nmigration = \"echo no rows for you; exit 3\"\n",
        "no rows for you",
    ),
    (
        "syncdb = { sql = [\"schema.sql\"] }\nmigration = 'test \"$RECEIVER_REHEARSAL\" = 1 || exit 3'\n",
        "migration",
    ),
    ("syncdb = { sql = [\"schema.sql\"] }\ncheck = \"exit 4\"\n", "check"),
    ("syncdb = { sql = [\"schema.sql\"] }\nbuild = \"exit 5\"\n", "build"),
];

pub fn a_deploy_that_fails_anywhere_leaves_everything_and_nothing_behind(engine: Engine) {
    let world = Backed::live(engine, "copy");
    let (live, url) = (world.live(), world.url(None));
    world.file("wrong.sql", "CREATE TABLE half (id INTEGER PRIMARY KEY);\nCREATE TABEL wrong;\n");
    let mut open = world.talk(&url);
    for (number, (stages, told)) in FAILURES.into_iter().enumerate() {
        world.settings(stages, "");
        world.add_table(&format!("t{number}"));
        world.push().ok().says(told).says("NOT LIVE: still 0/");
        assert_eq!((world.live(), world.url(None)), (live.clone(), url.clone()), "{told}");
        world.only(&["app_v0"]);
        // It takes writes, also on the connection that was there all the time.
        open.says(&format!("UPDATE entry SET text = 'one{number}' WHERE number = 1"))
            .unwrap_or_else(|said| panic!("{told}: {said}"));
        assert_eq!(world.entries(), format!("one{number} two three"), "{told}");
        world.nothing_is_left_over();
    }
    // The number is used again, and nothing of the failures is in it.
    world.settings(SQL, "");
    world.commit("without them");
    world.push().ok().says("=====> live: 1/");
    world.only(&["app_v0", "app_v1"]);
    assert_eq!(world.entries(), "one4 two three");
    assert!(world.by(&world.url(None), "SELECT * FROM half").is_err());
}

fn a_rollback_without_new_data_brings_the_old_database_back_as_it_was(engine: Engine) {
    let world = Backed::live(engine, "copy");
    let (live, old) = (world.live(), world.url(None));
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    world.enter(&[(4, "four")]);
    let new = world.url(None);
    let mut open = world.talk(&new);
    open.says("UPDATE entry SET text = 'ONE' WHERE number = 1").unwrap();
    world.receiver(&["rollback", "app", "--without-new-data"]).ok().says("=====> live: 0/").says("app_v0");
    assert_eq!((world.live(), world.url(None)), (live, old.clone()));
    assert_eq!(world.entries(), "one two three");
    // The old one takes writes again, and the newer one refuses them and keeps what it has.
    world.enter(&[(5, "five")]);
    open.says("DELETE FROM entry").unwrap_err();
    world.write_by(&new).unwrap_err();
    world.only(&["app_v0", "app_v1"]);
    assert_eq!(world.query("app_v1", "SELECT count(*) FROM entry").trim(), "4");
    assert_eq!(world.entries(), "one two three five");
    world.receiver(&["doctor", "app"]).ok();
    world.nothing_is_left_over();
}

const FILL: &str = "import os, sys
from database import Database
previous, own = Database(os.environ['PREVIOUS_DATABASE_URL'], 1), Database(os.environ['DATABASE_URL'])
entries = previous.read('SELECT id, writer, number, text FROM entry')
for statement in ('DELETE FROM remark', 'UPDATE entry SET text = 1', 'DROP TABLE remark', 'CREATE TABLE sneaky (id INTEGER)'):
    try:
        previous.transaction(lambda execute: execute(statement))
        sys.exit('it could be written: ' + statement)
    except Exception as error:
        print('refused:', error)
def fill(execute):
    for id, writer, number, text in entries:
        execute('INSERT INTO entry (id, writer, number, text, length) VALUES (?, ?, ?, ?, ?)', id, writer, number, text, len(text))
own.transaction(fill)
print(len(entries), 'entries', flush=True)
";

fn an_empty_version_is_filled_from_the_previous_one_which_can_only_be_read(engine: Engine) {
    // Root writes files whatever their mode is, unless it gave that right away.
    let weak = if engine == Engine::Sqlite {
        "setpriv --bounding-set=-dac_override --inh-caps=-dac_override "
    } else {
        ""
    };
    let fill = format!("{SQL}migration = \"{weak}/usr/bin/python3 -B fill.py\"\n");
    let world = Backed::live(engine, "empty");
    world.settings(&fill, "carry = \"empty\"\n");
    world.file("fill.py", FILL);
    let schema = std::fs::read_to_string(world.laptop().join("schema.sql")).unwrap();
    world.file(
        "schema.sql",
        &schema.replace("text VARCHAR(200) NOT NULL, U", "text VARCHAR(200) NOT NULL, length INTEGER, U"),
    );
    world.commit("lengths");
    let said = world.push().ok().says("3 entries").says("refused:").says("=====> live: 1/");
    drop(said);
    let rows = world.by(&world.url(None), "SELECT text, length FROM entry ORDER BY number").unwrap();
    assert_eq!(rows, "one\t3\ntwo\t3\nthree\t5\n");
    assert_eq!(world.query("app_v0", "SELECT count(*) FROM remark").trim(), "3");
    world.only(&["app_v0", "app_v1"]);
}

fn a_shared_database_is_rehearsed_and_then_changed_in_place(engine: Engine) {
    let world = Backed::live(engine, "shared");
    let url = world.url(None);
    let mut open = world.talk(&url);
    // What syncdb does is committed when the migration fails: only the rehearsal's copy may have it.
    world.settings(&format!("{SQL}migration = \"exit 3\"\n"), "carry = \"shared\"\n");
    world.add_table("tag");
    world.push().ok().says("NOT LIVE: still 0/");
    world.by(&url, "SELECT * FROM tag").unwrap_err();
    world.only(&["app_v0"]);
    world.settings(SQL, "carry = \"shared\"\n");
    world.commit("without it");
    world.push().ok().says("is shared").says("=====> live: 1/");
    world.only(&["app_v0"]);
    assert_eq!(world.url(None), url);
    open.says("INSERT INTO tag VALUES (1)").unwrap();
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    open.says("INSERT INTO tag VALUES (2)").unwrap();
    assert_eq!(world.entries(), "one two three");
    // Once by the push alone: the next version has a database of its own again.
    let world = Backed::live(engine, "copy");
    world.add_table("tag");
    world.push_with(&["-o", "carry=shared"]).ok().says("is shared").says("=====> live: 1/");
    world.add_table("other");
    world.push().ok().says("=====> live: 2/");
    world.only(&["app_v0", "app_v2"]);
    assert_eq!(world.entries(), "one two three");
}

/// Bytes of a command's output.
fn bytes(world: &Backed, arguments: &[&str]) -> Vec<u8> {
    let output = world.command(PROGRAM, world.place()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn databases_are_listed_dumped_loaded_and_asked(engine: Engine) {
    let world = Backed::live(engine, "copy");
    world.add_table("tag");
    world.push().ok();
    let list = world.receiver(&["db", "app", "list", "--json"]).ok().json();
    let databases = list["databases"].as_array().unwrap();
    let shown: Vec<_> = databases
        .iter()
        .map(|one| {
            (one["version"].as_u64(), one["name"].as_str(), one["live"].as_bool(), one["retired"].as_bool())
        })
        .collect();
    assert_eq!(
        shown,
        [
            (Some(1), Some("app_v1"), Some(true), Some(false)),
            (Some(0), Some("app_v0"), Some(false), Some(true))
        ]
    );
    assert!(databases.iter().all(|one| one["engine"] == engine.name() && one["bytes"].as_u64().unwrap() > 0));
    world.receiver(&["db", "app", "list"]).ok().says("retired: it refuses writes").says("live");

    let said =
        world.receiver_fed(&["db", "app", "shell"], b"SELECT number, text FROM entry ORDER BY number;");
    assert_eq!(said.ok().stdout, "number\ttext\n1\tone\n2\ttwo\n3\tthree\n");
    world.receiver_fed(&["db", "app", "shell", "--read-only"], b"DELETE FROM entry;").fails(1);
    world.receiver_fed(&["db", "app", "shell"], b"SELECT nothing FROM entry;").fails(1).says("nothing");

    let dump = bytes(&world, &["db", "app", "dump"]);
    let old = bytes(&world, &["db", "app", "dump", "--version", "0"]);
    assert!(dump.len() > 500 && old.len() > 500);
    world.by(&world.url(None), "DELETE FROM entry").unwrap();
    world.enter(&[(1, "other")]);
    let needs = "a rollback over this version needs --without-new-data now";
    world.receiver_fed(&["db", "app", "load"], &dump).ok().says(needs);
    assert_eq!(world.entries(), "one two three");
    world.by(&world.url(None), "DELETE FROM entry").unwrap();
    world.enter(&[(1, "other")]);
    let said = world.receiver_fed(&["db", "app", "load", "--json"], &dump).ok().never_says(needs);
    assert_eq!(world.entries(), "one two three");
    // What it held before can be brought back, too.
    let before = std::fs::read(said.json()["before"].as_str().unwrap()).unwrap();
    world.receiver_fed(&["db", "app", "load"], &before).ok();
    assert_eq!(world.entries(), "other");
    world.receiver_fed(&["db", "app", "load"], b"CREATE TABEL").fails(1);
    assert_eq!(world.entries(), "other");
    // A dump of a retired one carries no fence, and numbers go on after a load.
    world.receiver_fed(&["db", "app", "load"], &old).ok();
    world.enter(&[(4, "four")]);
    assert_eq!(world.entries(), "one two three four");
    world.receiver_fed(&["db", "app", "load", "--version", "0"], &dump).fails(1).says("retired");
    world.only(&["app_v0", "app_v1"]);
}

fn a_retired_version_is_pruned_after_its_dump(engine: Engine) {
    let mut world = Backed::live(engine, "copy");
    world.receiver(&["config", "app", "keep.versions", "1"]).ok();
    world.receiver(&["config", "app", "keep.releases", "1"]).ok();
    world.env.insert("RECEIVER_TEST_CLOCK".into(), "0".into());
    for (number, table) in [(1, "a"), (2, "b")] {
        world.add_table(table);
        world.push().ok().says(&format!("=====> live: {number}/"));
        world.until_idle();
    }
    world.by(&world.url(None), "DELETE FROM entry").unwrap();
    world.only(&["app_v0", "app_v1", "app_v2"]);
    // Its window is over.
    world.env.insert("RECEIVER_TEST_CLOCK".into(), (25 * 3600).to_string());
    world.receiver(&["prune", "app"]).ok();
    world.nothing_is_left_over();
    assert_eq!(world.names("versions"), ["1", "2"]);
    world.only(&["app_v1", "app_v2"]);
    let dumps = world.names("receiver/dumps");
    assert!(dumps.len() == 1 && dumps[0].starts_with("app_v0-"), "{dumps:?}");
    let file = world.app().join("receiver/dumps").join(&dumps[0]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    world.receiver_fed(&["db", "app", "load"], &std::fs::read(file).unwrap()).ok();
    assert_eq!(world.entries(), "one two three");
    world.enter(&[(4, "four")]);
}

/// The password in an address.
fn password(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (user, _) = rest.split_once('@')?;
    Some(user.split_once(':')?.1.to_owned())
}

/// Every command line that is seen while `work` is done.
fn command_lines(work: impl FnOnce()) -> BTreeSet<Vec<u8>> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                for process in std::fs::read_dir("/proc").unwrap().flatten() {
                    seen.extend(std::fs::read(process.path().join("cmdline")).ok());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        let seen = watcher.join().unwrap();
        done.unwrap_or_else(|error| std::panic::resume_unwind(error));
        seen
    })
}

/// The files below a directory, but those below `but`.
fn files(directory: &Path, but: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && path != but {
            found.extend(files(&path, but));
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found
}

fn has(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

fn a_password_is_nowhere_but_in_its_file_and_in_the_environment(engine: Engine) {
    let world = Backed::new(engine);
    world.settings(&format!("{SQL}check = \"env; echo $DATABASE_URL\"\n"), WEB);
    world.commit("one");
    let mut talk = String::new();
    let mut passwords = BTreeSet::new();
    let mut urls = Vec::new();
    let seen = command_lines(|| {
        let mut tell = |said: Said| talk.push_str(&format!("{}\n{}", said.stdout, said.stderr));
        tell(world.push().ok());
        world.enter(&[(1, "one")]);
        urls.push(world.url(None));
        world.add_table("tag");
        tell(world.push_with(&["-v"]).ok().says("=====> live: 1/"));
        urls.push(world.url(None));
        // One that fails, one that goes back, and those who tell about databases.
        world.settings(&format!("{SQL}migration = \"echo $PREVIOUS_DATABASE_URL; exit 3\"\n"), WEB);
        world.add_table("other");
        tell(world.push().ok().says("NOT LIVE"));
        for arguments in [
            &["rollback", "app", "--without-new-data"][..],
            &["db", "app", "list", "--json"],
            &["db", "app", "dump"],
            &["status", "app", "--json"],
            &["history", "app"],
            &["doctor", "app", "--json"],
            &["show", "app", "--config"],
            &["logs", "app"],
            &["plan", "app", "--json"],
            &["list", "app", "--json"],
        ] {
            tell(world.receiver(arguments));
        }
        tell(world.receiver_fed(&["db", "app", "shell"], b"SELECT nothing FROM nowhere;").fails(1));
        world.until_idle();
    });
    passwords.extend(urls.iter().filter_map(|url| password(url)));
    let secrets = world.app().join("receiver/secrets");
    if engine == Engine::Sqlite {
        // No password, and so nothing to hide: its files are the owner's alone.
        assert!(passwords.is_empty());
        return;
    }
    assert_eq!(passwords.len(), 2, "a password for each version: {urls:?}");
    for entry in files(&secrets, Path::new("")) {
        assert_eq!(std::fs::metadata(&entry).unwrap().permissions().mode() & 0o077, 0, "{}", entry.display());
        let text = std::fs::read_to_string(&entry).unwrap();
        // Those of read-only roles are there, too.
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        passwords.extend(words.filter(|word| word.len() >= 32).map(str::to_owned));
    }
    assert!(passwords.len() >= 4, "{passwords:?}");
    for password in &passwords {
        assert!(password.len() >= 32 && password.bytes().all(|b| b.is_ascii_alphanumeric()), "{password}");
        for line in &seen {
            let line_text = String::from_utf8_lossy(line);
            assert!(!has(line, password), "in a command line: {line_text}");
        }
        assert!(!talk.contains(password.as_str()), "it is said: {talk}");
        for file in files(&world.root(), &secrets) {
            // What a process is started with is written down for its supervisor, for the owner alone.
            if file.parent().is_some_and(|place| place.ends_with("run/processes")) {
                continue;
            }
            let text = std::fs::read(&file).unwrap_or_default();
            assert!(!has(&text, password), "it is in {}", file.display());
        }
    }
}

fn a_preview_gets_a_copy_of_its_own_and_takes_it_along(engine: Engine) {
    let world = Backed::live(engine, "copy");
    let config = world.app().join("receiver.toml");
    let before = std::fs::read_to_string(&config).unwrap_or_default();
    world.server_config(&format!("{before}\n[branches]\n\"f/*\" = {{ preview = true, data = \"copy\" }}\n"));
    // Nobody is held for it, not even for a transaction that never ends.
    let mut long = world.talk(&world.url(None));
    long.says("begin").unwrap();
    long.says("UPDATE entry SET text = 'not yet' WHERE number = 1").unwrap();
    world.git(&["switch", "--quiet", "--create", "f/x"]).ok();
    world.file("index.html", "preview\n");
    world.commit("a preview");
    world.push_with(&["production", "f/x"]).ok().says("nobody was held").says("=====> live: 0/");
    long.says("commit").unwrap();
    world.only(&["app__f_x_v0", "app_v0"]);
    let preview = world.url_of("app--f-x", None);
    assert_eq!(world.by(&preview, "SELECT text FROM entry ORDER BY number").unwrap(), "one\ntwo\nthree\n");
    // Each is its own from then on.
    world.by(&preview, "DELETE FROM entry").unwrap();
    assert_eq!(world.entries(), "not yet two three");
    world.add_table("tag");
    world.push_with(&["production", "f/x"]).ok().says("=====> live: 1/");
    world.only(&["app__f_x_v0", "app__f_x_v1", "app_v0"]);
    world.push_with(&["production", ":f/x"]).ok().says("removed: app--f-x");
    world.until(20, "the preview's databases to be gone", || world.databases() == ["app_v0"]);
    world.only(&["app_v0"]);
    assert_eq!(world.entries(), "not yet two three");
}

fn apps_cannot_touch_each_others_databases(engine: Engine) {
    let world = Backed::new(engine);
    world.settings(SQL, "");
    world.commit("one");
    // Also as somebody reads them who takes `_` for any character.
    let apps = ["shop", "shop-videos", "shopxvideos"];
    for app in apps {
        world.receiver(&["create", app]).ok();
        world.grant(app);
        world.remote(app);
        world.push().ok().says("=====> live: 0/");
    }
    if engine == Engine::Sqlite {
        // Each has a file in a directory of its own.
        for app in apps {
            let url = world.url_of(app, None);
            assert!(url.contains(&format!("/{app}/receiver/databases/0/")), "{url}");
        }
        return;
    }
    world.only(&["shop_v0", "shop_videos_v0", "shopxvideos_v0"]);
    let urls = apps.map(|app| world.url_of(app, None));
    for (app, url) in apps.iter().zip(&urls) {
        let entry = format!("INSERT INTO entry (writer, number, text) VALUES (0, 1, 'of {app}')");
        world.by(url, &entry).unwrap();
    }
    let names = ["shop_v0", "shop_videos_v0", "shopxvideos_v0"];
    for (own, url) in names.iter().zip(&urls) {
        for other in names.iter().filter(|other| *other != own) {
            let refused = if engine == Engine::Mysql {
                assert_eq!(world.by(url, "SHOW DATABASES").unwrap().matches("shop").count(), 1);
                world.by(url, &format!("INSERT INTO {other}.entry (writer, number, text) VALUES (1, 1, 'x')"))
            } else {
                let (start, end) = url.rsplit_once(&format!("/{own}")).unwrap();
                world.by(&format!("{start}/{other}{end}"), "SELECT * FROM entry")
            };
            refused.expect_err(&format!("{own} comes into {other}"));
            world.by(url, &format!("CREATE DATABASE {other}_x")).expect_err(own);
            world.by(url, &format!("DROP DATABASE {other}")).expect_err(own);
        }
    }
    // A version of one opens beside the others, and one of its versions goes.
    world.remote("shop");
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    for (app, url) in apps.iter().zip(&urls).skip(1) {
        assert_eq!(world.by(url, "SELECT text FROM entry").unwrap(), format!("of {app}\n"));
        world.by(url, "UPDATE remark SET text = text").unwrap();
    }
}

fn the_application_writes_behind_the_door_while_versions_open_and_go_back(engine: Engine) {
    let world = Backed::new(engine);
    world.settings(SQL, WEB);
    world.commit("one");
    world.push().ok().says("=====> live: 0/");
    let enter = |number: u32, text: &str| {
        let answer = world.post("/", &format!("insert\t0\t{number}\t0\t{text}\n"));
        assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
    };
    enter(1, "one");
    world.add_table("tag");
    world.file("index.html", "page two\n");
    world.commit("two");
    world.push().ok().says("carry").says("health").says("=====> live: 1/");
    enter(2, "two");
    assert_eq!(world.get("/entries").body, "1\tone\n2\ttwo\n");
    assert_eq!((world.get("/").body.as_str(), world.get("/version").body.as_str()), ("page two\n", "1"));
    world.receiver(&["rollback", "app", "--without-new-data"]).ok().says("=====> live: 0/");
    assert_eq!(world.get("/entries").body, "1\tone\n");
    assert_eq!((world.get("/").body.as_str(), world.get("/version").body.as_str()), ("page one\n", "0"));
    enter(3, "three");
    assert_eq!(world.get("/entries").body, "1\tone\n3\tthree\n");
    world.until_running(&["web"]);
    world.nothing_is_left_over();
}

fn a_long_transaction_is_named_and_nobody_waits_for_it_for_ever(engine: Engine) {
    let world = Backed::live(engine, "copy");
    world.receiver(&["config", "app", "database.max_pause", "6s"]).ok();
    let mut long = world.talk(&world.url(None));
    long.says("begin").unwrap();
    long.says("UPDATE entry SET text = 'ONE' WHERE number = 1").unwrap();
    world.add_table("tag");
    world.push().ok().says("cannot hold the writers").says("NOT LIVE: still 0/");
    long.says("commit").unwrap();
    assert_eq!(world.entries(), "ONE two three");
    world.only(&["app_v0"]);
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    assert_eq!(world.entries(), "ONE two three");
}

fn a_server_that_is_down_is_named_and_what_is_live_goes_on(engine: Engine) {
    let mut world = Backed::live(engine, "copy");
    let live = world.live();
    let socket = world.server().socket().display().to_string();
    world.server_mut().stop();
    world.add_table("tag");
    world.push().ok().says(&socket).says("NOT LIVE: still 0/");
    assert_eq!(world.live(), live);
    for arguments in [&["db", "app", "list"][..], &["db", "app", "dump"], &["rollback", "app"]] {
        let said = world.receiver(arguments);
        assert_ne!(said.code, 0, "{arguments:?}: {}", said.talk());
    }
    // What has nothing to do with it still answers, and says so where it matters.
    world.receiver(&["list", "app"]).ok();
    world.receiver(&["history", "app"]).ok();
    world.receiver(&["doctor", "app"]).fails(1).says(&socket);
    world.receiver(&["status", "app"]).says("live");
    world.server_mut().restart();
    world.only(&["app_v0"]);
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    assert_eq!(world.entries(), "one two three");
    world.only(&["app_v0", "app_v1"]);
}

fn a_server_that_dies_in_the_middle_of_a_deploy_leaves_what_is_live(engine: Engine) {
    // In the rehearsal, and under the hold.
    for rehearsal in ["1", ""] {
        let mut world = Backed::live(engine, "copy");
        let live = world.live();
        let gate = world.place().join("gate").display().to_string();
        let wait =
            format!("test \"$RECEIVER_REHEARSAL\" != \"{rehearsal}\" || {{ touch {gate}; sleep 600; }}");
        world.settings(&format!("{SQL}migration = '''{wait}'''\n"), "max_pause = \"5s\"\n");
        world.add_table("tag");
        let push = world.push_in_background();
        world.until(30, "the migration", || Path::new(&gate).exists());
        world.server_mut().kill9();
        if rehearsal == "1" {
            // Nobody looks at the server while a stage of the rehearsal runs: the stage ends with its process.
            world.receiver(&["cancel", "app"]).ok();
        }
        let said = world.end(push, 60);
        said.says("NOT LIVE: still 0/");
        assert_eq!(world.live(), live);
        world.server_mut().restart();
        world.settings(SQL, "");
        world.commit("without waiting");
        world.push().ok().says("=====> live: 1/");
        assert_eq!(world.entries(), "one two three");
        world.only(&["app_v0", "app_v1"]);
    }
}

fn a_database_of_somebody_else_is_refused_and_left_alone(engine: Engine) {
    let world = Backed::live(engine, "copy");
    let live = world.live();
    let server = world.server();
    server.sql("", "CREATE DATABASE app_v1");
    server.sql("app_v1", "CREATE TABLE precious (id INTEGER PRIMARY KEY)");
    world.add_table("tag");
    world.push().ok().says("app_v1").says("NOT LIVE: still 0/");
    assert_eq!(world.live(), live);
    assert_eq!(server.sql("app_v1", "SELECT count(*) FROM precious").trim(), "0");
    assert_eq!(server.roles().iter().filter(|role| role.starts_with("app_v1")).count(), 0);
    world.enter(&[(4, "four")]);
    server.sql("", "DROP DATABASE app_v1");
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    assert_eq!(world.entries(), "one two three four");
    world.only(&["app_v0", "app_v1"]);
}

fn a_role_of_somebody_else_is_refused_and_left_alone(engine: Engine) {
    let world = Backed::live(engine, "copy");
    let server = world.server();
    let (make, remove) = match engine {
        Engine::Mysql => {
            ("CREATE USER app_v1@localhost IDENTIFIED BY 'theirs'", "DROP USER app_v1@localhost")
        }
        _ => ("CREATE ROLE app_v1 LOGIN PASSWORD 'theirs'", "DROP ROLE app_v1"),
    };
    server.sql("", make);
    world.add_table("tag");
    world.push().ok().says("app_v1").says("NOT LIVE: still 0/");
    assert_eq!(server.databases(), ["app_v0"]);
    let theirs = world.url(None).replace("app_v0", "app_v1");
    let theirs = theirs.replace(&password(&theirs).unwrap(), "theirs");
    let database = if engine == Engine::Mysql { "information_schema" } else { "postgres" };
    let theirs = theirs.replace("localhost/app_v1", &format!("localhost/{database}"));
    world.by(&theirs.replace("@/app_v1", &format!("@/{database}")), "SELECT 1").unwrap();
    server.sql("", remove);
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    world.only(&["app_v0", "app_v1"]);
}

fn a_password_is_in_no_log_of_the_server(engine: Engine) {
    let options: &[&str] = if engine == Engine::Mysql {
        &["--general-log=1", "--log-output=FILE", "--general-log-file=general.log"]
    } else {
        &["-c", "log_statement=all", "-c", "log_connections=on"]
    };
    let world = Backed::with_options(engine, options);
    world.settings(SQL, "");
    world.commit("one");
    world.push().ok().says("=====> live: 0/");
    world.enter(&[(1, "one")]);
    let password = password(&world.url(None)).unwrap();
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    let place = world.place().join("db");
    let mut seen = 0;
    for file in files(&place, Path::new("")) {
        let text = std::fs::read(&file).unwrap_or_default();
        let log = file.extension().is_some_and(|end| end == "log") || file.ends_with("log");
        seen += usize::from(log && has(&text, "CREATE"));
        assert!(!log || !has(&text, &password), "it is in {}", file.display());
    }
    assert!(seen > 0, "no log of the server has any statement");
}

fn another_engine_is_refused_unless_the_version_begins_empty(engine: Engine) {
    let world = Backed::live(engine, "copy");
    let live = world.live();
    let other = if engine == Engine::Sqlite { Engine::Mysql } else { Engine::Sqlite };
    world.file("receiver.toml", &format!("[stages]\n{SQL}{}", other.settings()));
    world.add_table("tag");
    world.push().says(engine.name()).says("carry = \"empty\"");
    assert_eq!(world.live(), live);
    world.only(&["app_v0"]);
    assert_eq!(world.entries(), "one two three");
    if engine != Engine::Sqlite {
        // From a server to a file, with nothing in it.
        let schema = std::fs::read_to_string(world.laptop().join("schema.sql")).unwrap();
        world.file("schema.sql", &schema.replace(engine.serial(), Engine::Sqlite.serial()));
        world.file("receiver.toml", &format!("[stages]\n{SQL}{}carry = \"empty\"\n", other.settings()));
        world.commit("another engine");
        world.push().ok().says("=====> live: 1/");
        assert!(world.url(None).starts_with("sqlite:"));
        assert_eq!(world.entries(), "");
        world.only(&["app_v0"]);
        world.receiver(&["rollback", "app", "--without-new-data"]).ok().says("=====> live: 0/");
        assert_eq!(world.entries(), "one two three");
        world.enter(&[(4, "four")]);
    }
}

/// An app whose server knows receiver as a role of its own, with a password, that may not do anything yet.
fn with_a_role_that_may_nothing(engine: Engine, more: &[&str]) -> Backed {
    let world = Backed::with_options(engine, more);
    let make = match engine {
        Engine::Mysql => "CREATE USER receiver@localhost IDENTIFIED BY 'a long secret'",
        _ => "CREATE ROLE receiver LOGIN PASSWORD 'a long secret'",
    };
    world.server().sql("", make);
    let file = world.place().join("admin-password");
    std::fs::write(&file, "a long secret\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    world.receiver(&["config", "app", "database.admin", "receiver"]).ok();
    world.receiver(&["config", "app", "database.password_file", &file.display().to_string()]).ok();
    // As `receiver setup --database` does it.
    world.receiver(&["config", "app", "database.engine", engine.name()]).ok();
    world.settings(SQL, "");
    world.commit("one");
    world
}

/// Does what `receiver doctor` says until it says no more; answers how many statements that were.
#[track_caller]
fn grant_what_doctor_says(world: &Backed) -> usize {
    let mut granted = 0;
    loop {
        let said = world.receiver(&["doctor", "app", "--json"]);
        if said.code == 0 {
            return granted;
        }
        let findings = said.json()["apps"][0]["findings"].as_array().unwrap().clone();
        let cures = findings.iter().filter_map(|finding| finding["cure"].as_str());
        let statements = cures.filter_map(|cure| {
            let start = ["GRANT ", "ALTER "].iter().filter_map(|word| cure.find(word)).min()?;
            let statement = cure[start..].split(';').next()?;
            // It may stand between backticks, and have some of its own.
            Some(
                if cure[..start].ends_with('`') { statement.rsplit_once('`')?.0 } else { statement }
                    .to_owned(),
            )
        });
        let statements: Vec<String> = statements.collect();
        assert!(!statements.is_empty() && granted < 40, "doctor is not content: {findings:#?}");
        for statement in statements {
            world.server().sql("", &statement);
            granted += 1;
        }
    }
}

pub fn what_doctor_says_a_role_lacks_is_all_that_it_needs(engine: Engine) {
    let world = with_a_role_that_may_nothing(engine, &[]);
    // Before, a push says what is missing, too, and leaves nothing.
    world.push().says("receiver").says("NOT LIVE: nothing is live");
    assert!(world.databases().is_empty());
    assert!(grant_what_doctor_says(&world) > 0);
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 0/");
    world.enter(&[(1, "one")]);
    let mut open = world.talk(&world.url(None));
    open.says("UPDATE entry SET text = 'ONE'").unwrap();
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    open.says("DELETE FROM entry").unwrap_err();
    assert_eq!(world.entries(), "ONE");
    world.receiver(&["rollback", "app", "--without-new-data"]).ok();
    world.enter(&[(2, "two")]);
    let dump = bytes(&world, &["db", "app", "dump"]);
    world.receiver_fed(&["db", "app", "load"], &dump).ok();
    assert_eq!(world.entries(), "ONE two");
    world.receiver(&["doctor", "app"]).ok();
}

fn a_server_that_has_no_connection_left_is_named_and_what_is_live_goes_on(engine: Engine) {
    // Of PostgreSQL's, three are for superusers, which receiver is not here.
    let options: &[&str] = match engine {
        Engine::Mysql => &["--max-connections=17"],
        _ => {
            &["-c", "max_connections=20", "-c", "superuser_reserved_connections=3", "-c", "max_wal_senders=0"]
        }
    };
    let world = with_a_role_that_may_nothing(engine, options);
    grant_what_doctor_says(&world);
    world.push().ok().says("=====> live: 0/");
    world.enter(&[(1, "one")]);
    let socket = world.server().socket().display().to_string();
    let url = world.url(None);
    let mut all = Vec::new();
    while let Some(talk) = world.try_talk(&url) {
        all.push(talk);
        assert!(all.len() < 30, "there is always one more");
    }
    world.add_table("tag");
    world.push().says("connections").says(&socket).says("NOT LIVE: still 0/");
    all[0].says("UPDATE entry SET text = 'ONE'").unwrap();
    drop(all);
    world.until(20, "the connections to end", || world.server().connected().is_empty());
    // What could not be undone without a connection is undone first now.
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    assert_eq!(world.databases(), ["app_v0", "app_v1"]);
    assert_eq!(world.entries(), "ONE");
}

fn a_disk_of_the_servers_that_has_no_room_is_noticed_before_anybody_waits(engine: Engine) {
    // MySQL's own files are a hundred megabytes, and its binary log holds every row once more, twice while it is
    // written.
    let megabytes = if engine == Engine::Mysql && is_mysql() { 340 } else { 160 };
    let world = Backed::on_a_disk_of(engine, megabytes, &[]);
    world.settings(SQL, "");
    world.commit("one");
    world.push().ok().says("=====> live: 0/");
    world.enter(&[(1, "one")]);
    // Two thirds of what is free.
    let some = "x".repeat(190);
    let first = format!("INSERT INTO entry (writer, number, text) VALUES (1, 1, '{some}')");
    let url = world.url(None);
    world.by(&url, &first).unwrap();
    for power in 0..18 {
        let half = 1 << power;
        world
            .by(&url, &format!("INSERT INTO entry (writer, number, text) SELECT 1, number + {half}, text FROM entry WHERE writer = 1"))
            .unwrap();
        if world.disk_free() < 75_000_000 {
            break;
        }
    }
    let mut open = world.talk(&url);
    world.add_table("tag");
    let said = world.push().says("NOT LIVE: still 0/").says("free");
    drop(said.never_says("carry  "));
    open.says("UPDATE entry SET text = 'ONE' WHERE writer = 0").unwrap();
    world.only(&["app_v0"]);
    assert_eq!(world.entries(), "ONE");
}

pub fn a_rollback_brings_what_was_written_since_and_forward_does_so_too(engine: Engine) {
    let world = Backed::live(engine, "copy");
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    let mut open = world.talk(&world.url(None));
    open.says("UPDATE entry SET text = 'ONE' WHERE number = 1").unwrap();
    open.says("DELETE FROM entry WHERE number = 2").unwrap();
    world.enter(&[(4, "four")]);
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    assert_eq!(world.entries(), "ONE three four");
    open.says("DELETE FROM entry").unwrap_err();
    // The remark went with its entry; those that came have theirs.
    let remarks = world.by(&world.url(None), "SELECT text FROM remark ORDER BY entry").unwrap();
    assert_eq!(remarks, "one\nthree\nfour\n");
    // Numbers go on after those that came.
    world.enter(&[(5, "five")]);
    world.by(&world.url(None), "DELETE FROM entry WHERE number = 4").unwrap();
    world
        .receiver(&["deploy", "app"])
        .ok()
        .says("app_v1 comes back, which a rollback left, with what was written to app_v0 since")
        .says("=====> live: 1/");
    assert_eq!(world.entries(), "ONE three five");
    world.enter(&[(6, "six")]);
    // And back once more.
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    assert_eq!(world.entries(), "ONE three five six");
    world.only(&["app_v0", "app_v1"]);
    world.receiver(&["doctor", "app"]).ok();
    world.nothing_is_left_over();
}

fn another_schema_after_a_rollback_brings_what_the_left_version_alone_holds(engine: Engine) {
    let world = Backed::live(engine, "copy");
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    world.enter(&[(4, "four")]);
    world.by(&world.url(None), "INSERT INTO tag VALUES (7)").unwrap();
    world.receiver(&["rollback", "app"]).ok().says("tag").says("=====> live: 0/");
    world.enter(&[(5, "five")]);
    world.add_table("other");
    world.push().ok().says("=====> live: 2/");
    assert_eq!(world.entries(), "one two three four five");
    assert_eq!(world.by(&world.url(None), "SELECT id FROM tag").unwrap(), "7\n");
}

fn a_rollback_says_what_the_old_schema_cannot_hold_before_it_does_anything(engine: Engine) {
    let world = Backed::live(engine, "copy");
    let live = world.live();
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    world.by(&world.url(None), "INSERT INTO tag VALUES (7)").unwrap();
    world.by(&world.url(None), "INSERT INTO tag VALUES (8)").unwrap();
    world.enter(&[(4, "four")]);
    let new = world.live();
    world.receiver(&["rollback", "app", "--dry-run"]).ok().says("tag").says("2");
    assert_eq!(world.live(), new);
    world.enter(&[(5, "five")]);
    world.receiver(&["rollback", "app"]).ok().says("tag").says("=====> live: 0/");
    assert_eq!(world.live(), live);
    assert_eq!(world.entries(), "one two three four five");
    assert_eq!(world.query("app_v1", "SELECT count(*) FROM tag").trim(), "2");
}
