//! Stages: what they find, what becomes of what they print, and that nothing of them stays.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::plumbing::{assert_tame, snapshot};
use crate::world::World;

/// A live site, and on the laptop a commit with these settings that is not pushed yet.
fn staged(settings: &str) -> World {
    let world = World::with_site();
    world.file("receiver.toml", settings).file("index.html", "two\n");
    world.commit("two");
    world
}

/// With a script as the build stage.
fn building(script: &str) -> World {
    let world = staged("[stages]\nbuild = \"sh ./build.sh\"\n");
    world.file("build.sh", script);
    world.commit("a script");
    world
}

fn dumped(world: &World, path: &std::path::Path) -> BTreeMap<String, String> {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{error}\n{}", world.picture()));
    let pairs = text.split(|b| *b == 0).filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| String::from_utf8(pair.to_vec()).unwrap());
    let pairs = pairs.map(|pair| pair.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap());
    // What the shell adds for itself.
    pairs.filter(|(name, _)| !["PWD", "OLDPWD", "SHLVL", "_"].contains(&name.as_str())).collect()
}

#[test]
pub fn a_stage_finds_exactly_the_environment_of_the_contract() {
    let mut world = World::with_sql();
    for name in [
        "GIT_SSH_COMMAND",
        "GIT_ASKPASS",
        "GIT_EDITOR",
        "HG_NODE",
        "SSH_AUTH_SOCK",
        "SSH_CONNECTION",
        "TERM",
        "DISPLAY",
        "LC_ALL",
        "XDG_RUNTIME_DIR",
        "RECEIVER_TEST_LEAK",
        "RECEIVER_APP",
        "DATABASE_URL",
        "LD_X",
        "USER",
    ] {
        world.env.insert(name.into(), "leaked".into());
    }
    world.receiver_fed(&["env", "app", "set", "MINE"], b"a value\n").ok();
    world.receiver_fed(&["env", "app", "set", "EMPTY"], b"").ok();
    world.file(
        "receiver.toml",
        "[stages]\nbuild = { run = \"env -0 > build.env\", env = { OWN = \"own\" } }\n\
         syncdb = { sql = [\"schema.sql\"] }\nmigration = \"env -0 > \\\"$RECEIVER_SHARED_DIR/$RECEIVER_REHEARSAL.env\\\"\"\n\
         check = \"env -0 > check.env\"\n[database]\nengine = \"sqlite\"\ncarry = \"copy\"\n",
    );
    world.file("schema.sql", "ALTER TABLE note ADD COLUMN more TEXT;\n");
    let revision = world.commit("two");
    let first = world.live().unwrap();
    world.push().ok().says("=====> live: 1/");
    let app = world.app();
    let live = world.live().unwrap();
    let directory = app.join("versions").join(&live).display().to_string();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let home = world.place().join("home").display().to_string();
    let database = world.database(1).display().to_string();
    let shared = app.join("shared").display().to_string();
    let previous = app.join("versions").join(&first).display().to_string();
    let url = format!("sqlite://{database}");
    let always = [
        ("PATH", path),
        ("HOME", &home),
        ("LANG", "C.UTF-8"),
        ("MINE", "a value"),
        ("EMPTY", ""),
        ("RECEIVER_APP", "app"),
        ("RECEIVER_VERSION", "1"),
        ("RECEIVER_RELEASE", &live),
        ("RECEIVER_REVISION", &revision),
        ("RECEIVER_BRANCH", "main"),
        ("RECEIVER_RELEASE_DIR", &directory),
        ("RECEIVER_PREVIOUS_DIR", &previous),
        ("RECEIVER_SHARED_DIR", &shared),
        ("RECEIVER_DATABASE_ENGINE", "sqlite"),
        ("RECEIVER_DATABASE_USER", ""),
        ("RECEIVER_DATABASE_PASSWORD", ""),
        ("RECEIVER_DATABASE_SOCKET", ""),
        ("RECEIVER_DATABASE_NAME", &database),
    ];
    let always: BTreeMap<String, String> =
        always.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let with = |more: &[(&str, &str)]| {
        let mut all = always.clone();
        all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        all
    };
    let release = world.live_directory();
    let mut build = dumped(&world, &release.join("build.env"));
    let built_url = build.remove("DATABASE_URL").unwrap();
    assert!(built_url.ends_with(&database), "{built_url}");
    assert_eq!(build, with(&[("OWN", "own")]));
    // The real migration, after the rehearsal's.
    let mut migration = dumped(&world, &app.join("shared/.env"));
    let previous_url = migration.remove("PREVIOUS_DATABASE_URL").unwrap();
    assert!(previous_url.contains("previous.sqlite3"), "{previous_url}");
    assert_eq!(migration.remove("DATABASE_URL").as_deref(), Some(built_url.as_str()), "{url}");
    assert_eq!(migration, with(&[]));
    let rehearsal = dumped(&world, &app.join("shared/1.env"));
    assert_eq!(rehearsal["RECEIVER_REHEARSAL"], "1");
    assert_ne!(rehearsal["DATABASE_URL"], built_url, "a rehearsal works on a copy");
    let mut check = dumped(&world, &release.join("check.env"));
    check.remove("RECEIVER_REHEARSAL");
    for name in ["DATABASE_URL", "RECEIVER_DATABASE_NAME"] {
        check.remove(name);
    }
    let mut wanted = with(&[]);
    wanted.remove("RECEIVER_DATABASE_NAME");
    assert_eq!(check, wanted);
    // And `run` finds the same, without what only a push has.
    let said = world.receiver(&["run", "app", "--", "sh", "-c", "env -0 > run.env"]).ok();
    assert_eq!(said.stdout, "");
    let mut ran = dumped(&world, &release.join("run.env"));
    assert_eq!(ran.remove("TERM").as_deref(), Some("leaked"), "a person's terminal is passed on");
    ran.remove("DATABASE_URL").unwrap();
    let mut wanted = with(&[]);
    wanted.remove("RECEIVER_PREVIOUS_DIR");
    assert_eq!(ran, wanted);
}

#[test]
fn stages_run_in_their_order_in_the_release_with_an_empty_stdin_and_umask_022() {
    let world = staged(
        "[stages]\ncheck = \"echo check >> $RECEIVER_SHARED_DIR/order; pwd -P > where; umask > umask; cat > stdin; touch made; mkdir dir\"\n\
         assets = \"echo assets >> $RECEIVER_SHARED_DIR/order\"\n\
         build = \"echo build >> $RECEIVER_SHARED_DIR/order\"\n\
         syncdb = \"echo syncdb >> $RECEIVER_SHARED_DIR/order\"\n\
         migration = \"echo migration >> $RECEIVER_SHARED_DIR/order\"\n[database]\nengine = \"none\"\n",
    );
    let order = || std::fs::read_to_string(world.app().join("shared/order")).unwrap();
    world.push().ok();
    assert_eq!(order(), "build\nassets\ncheck\n", "the schema is the same");
    assert_eq!(world.live_file("where").trim(), world.live_directory().display().to_string());
    assert_eq!(world.live_file("umask").trim(), "0022");
    assert_eq!(world.live_file("stdin"), "");
    let mode = |name: &str| {
        std::fs::metadata(world.live_directory().join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("made"), mode("dir")), (0o644, 0o755));
    std::fs::remove_file(world.app().join("shared/order")).unwrap();
    world.file("index.html", "three\n");
    world.commit("three");
    world.push_with(&["-o", "schema=new"]).ok().says("=====> live: 1/");
    assert_eq!(order(), "build\nassets\nsyncdb\nmigration\ncheck\n");
}

#[test]
fn a_failed_stage_leaves_current_untouched() {
    for stage in ["build", "assets", "check"] {
        let world = staged(&format!("[stages]\n{stage} = \"echo what happened; exit 3\"\n"));
        let before = snapshot(&world.app().join("versions"));
        let live = world.live().unwrap();
        let said = world.push().ok();
        let last = said.talk().lines().last().unwrap().to_owned();
        assert_eq!(
            last,
            format!(
                "=====> NOT LIVE: still {live}; stage `{stage}` failed; push a fix, or `receiver deploy app` to try again"
            )
        );
        said.says("     | what happened").says("`echo what happened; exit 3` exited with status 3");
        assert_eq!(world.live_file("index.html"), "one\n");
        assert_eq!(world.states(), ["failed", "live"]);
        let kept = |mut all: BTreeMap<std::path::PathBuf, String>| {
            // The directories' own times tell that something was there for a while.
            all.retain(|path, what| !what.starts_with("directory") || path.ends_with("20"));
            all
        };
        assert_eq!(kept(snapshot(&world.app().join("versions"))), kept(before));
        let failed = world.list()["releases"][0]["name"].as_str().unwrap().to_owned();
        world.receiver(&["show", "app", &failed]).ok().says("     | what happened").says("failed     stage");
        world.receiver(&["attach", "app"]).fails(1).says("NOT LIVE: still");
    }
}

#[test]
fn a_stage_that_prints_without_end_fills_no_disk() {
    for (what, script) in [
        ("long lines", "yes 0123456789012345678901234567890123456789 | head -c 20M"),
        ("empty lines", "yes '' | head -c 6M"),
        ("one line", "head -c 20M /dev/zero | tr '\\\\0' x"),
        ("control characters", "yes \"$(printf '\\\\033\\\\033\\\\033\\\\033\\\\033\\\\033')\" | head -c 6M"),
    ] {
        let world = staged(&format!("[stages]\nbuild = \"{}\"\n", script.replace('"', "\\\"")));
        world.server_config("[limits]\nlog_bytes = \"100K\"\n");
        let begun = Instant::now();
        let said = world.push().ok().says("=====> live: 0/").says("it prints too much: the rest is not kept");
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:?}", begun.elapsed());
        assert!(world.logs().len() < 1 << 20, "{what}: {} bytes of log", world.logs().len());
        assert!(said.stderr.len() < 1 << 20, "{what}: {} bytes to the pusher", said.stderr.len());
    }
}

#[test]
fn a_stage_that_never_ends_is_ended_and_one_that_ignores_sigterm_too() {
    let world = staged(
        "[stages]\nbuild = { run = \"trap '' TERM; echo begun; while :; do sleep 1; done\", timeout = \"1s\" }\n",
    );
    let begun = Instant::now();
    world
        .push()
        .ok()
        .says("     | begun")
        .says("NOT LIVE: still 0/")
        .says("stage `build` took longer than 1s")
        .says("give it more time");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(world.live_file("index.html"), "one\n");
    assert!(processes_in(&world).is_empty(), "{:?}", processes_in(&world));
}

/// Processes whose working directory, or whose command, is of this world; the asking ones aside.
fn processes_in(world: &World) -> Vec<String> {
    let place = world.place().display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(directory) = std::fs::read_link(entry.path().join("cwd")) else { continue };
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if directory.display().to_string().starts_with(&format!("{place}/srv/app/versions")) {
            found.push(command.replace('\0', " "));
        }
    }
    found
}

#[test]
fn what_a_stage_leaves_running_holds_nothing_up_and_is_ended() {
    for (what, command) in [
        ("a background child that holds the output", "sleep 987 & echo done"),
        ("one that ignores signals", "(trap '' TERM HUP INT; exec sleep 987) & echo done"),
        ("one in a session of its own", "setsid sleep 987 & echo done"),
        (
            "a daemon, twice forked, that let go of everything",
            "setsid sh -c '(sleep 987 </dev/null >/dev/null 2>&1 &)' & sleep 0.3; echo done",
        ),
    ] {
        let world = staged(&format!("[stages]\nbuild = \"{command}\"\n"));
        let begun = Instant::now();
        world.push().ok().says("     | done").says("=====> live: 0/");
        assert!(begun.elapsed() < Duration::from_secs(15), "{what}: {:?}", begun.elapsed());
        assert!(processes_in(&world).is_empty(), "{what}: {:?}", processes_in(&world));
    }
}

#[test]
fn what_is_pushed_cannot_leave_its_place_into_a_terminal_by_what_a_stage_prints() {
    let world = building(
        "printf '\\033]0;owned\\007 title\\n'\nprintf '\\033[2J\\033[H clear\\n'\nprintf '\\302\\23331m c1\\n'\n\
         printf '\\033[1;31mred\\033[0m plain\\n'\nprintf 'binary \\000\\001\\377\\376 end\\n'\n\
         printf '=====> live: 9/20990101T000000Z-000000000000\\n'\nprintf '%s> app: fake\\n' -----\n\
         printf 'x\\r=====> live: by a return\\n'\nprintf '10%%\\r55%%\\r100%%\\r\\n'\n\
         printf '\\342\\200\\256 turned\\n'\nprintf 'tab\\there\\n'\nprintf '\\033[31munfinished colour\\n'\n\
         printf 'err\\n' >&2\nprintf 'no newline at the end'\n",
    );
    let said = world.push().ok();
    let talk = said.talk();
    let printed: Vec<&str> = talk.lines().filter(|line| line.contains(" | ")).collect();
    assert_eq!(
        printed,
        [
            "     | \\u{1b}]0;owned\\u{7} title",
            "     | \\u{1b}[2J\\u{1b}[H clear",
            "     | \\u{9b}31m c1",
            "     | \u{1b}[1;31mred\u{1b}[0m plain\u{1b}[0m",
            "     | binary \\u{0}\\u{1}\u{fffd}\u{fffd} end",
            "     | =====> live: 9/20990101T000000Z-000000000000",
            "     | -----> app: fake",
            "     | =====> live: by a return",
            "     | 100%",
            "     | \\u{202e} turned",
            "     | tab\there",
            "     | \u{1b}[31munfinished colour\u{1b}[0m",
            "     | err",
            "     | no newline at the end",
        ]
    );
    let ours: Vec<&str> =
        talk.lines().filter(|line| line.starts_with("=====>") || line.starts_with("----->")).collect();
    assert_eq!(ours.len(), 2, "{ours:?}");
    assert_eq!(ours[1], format!("=====> live: {}", world.live().unwrap()));
    assert_tame(
        "the push",
        &talk.replace("\u{1b}[1;31m", "").replace("\u{1b}[31m", "").replace("\u{1b}[0m", ""),
    );
    assert_tame("the log", &world.logs());
}

#[test]
fn secrets_are_masked_in_what_the_pusher_sees_and_in_every_file_of_the_log() {
    let world = staged(
        "[stages]\nbuild = \"echo key is $KEY, again $KEY; env | grep -v PEM; echo \\\"$PEM\\\"; false $KEY || exit 4\"\n\
         check = \"true\"\n",
    );
    let secret = "s3cr3t/with+signs";
    world.receiver_fed(&["env", "app", "set", "KEY"], format!("{secret}\n").as_bytes()).ok();
    world.receiver_fed(&["env", "app", "set", "LONGER"], format!("{secret}-and-more").as_bytes()).ok();
    world
        .receiver_fed(&["env", "app", "set", "PEM"], b"-----BEGIN KEY-----\nTWlzc2lzc2lwcGk\nZZtop99xyz\n")
        .ok();
    let said = world.push().ok().says("NOT LIVE").says("key is [KEY], again [KEY]").says("LONGER=[LONGER]");
    let failed = world.list()["releases"][0]["name"].as_str().unwrap().to_owned();
    let shown = world.receiver(&["show", "app", &failed]).ok();
    let journal = world.receiver(&["history", "app"]).ok();
    let everywhere = [said.talk(), shown.stdout, journal.stdout, world.logs()].concat();
    for part in [secret, "TWlzc2lzc2lwcGk", "ZZtop99xyz"] {
        assert!(!everywhere.contains(part), "{part} in:\n{everywhere}");
    }
}

#[test]
fn a_secret_in_the_command_or_in_a_name_is_masked_too() {
    let world = World::with_site();
    world.receiver_fed(&["env", "app", "set", "KEY"], b"hunter2hunter2").ok();
    world.file("receiver.toml", "[stages]\nbuild = \"echo hunter2hunter2; exit 1\"\n");
    world.commit("two");
    let said = world.push().ok().says("echo [KEY]; exit 1");
    assert!(!said.talk().contains("hunter2hunter2"), "{}", said.talk());
    assert!(!world.logs().contains("hunter2hunter2"));
}

#[test]
pub fn two_deploys_of_one_commit_in_one_second_have_names_of_their_own() {
    let world = World::with_site();
    for _ in 0..4 {
        world.receiver(&["deploy", "app"]).ok().says("=====> live: 0/");
    }
    let list = world.list();
    let names: Vec<&str> =
        list["releases"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 5);
    let mut distinct = names.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 5, "{names:?}");
    assert_eq!(list["current"].as_str().unwrap(), format!("0/{}", names[0]));
}

#[test]
fn a_clock_that_is_set_back_changes_no_order() {
    let mut world = World::with_site();
    for (text, shift) in [("two\n", "-3600"), ("three\n", "-7200"), ("four\n", "3600")] {
        world.env.insert("RECEIVER_TEST_CLOCK".into(), shift.into());
        world.file("index.html", text);
        world.commit(text.trim());
        world.push().ok();
    }
    world.env.insert("RECEIVER_TEST_CLOCK".into(), "-86400".into());
    let subjects = || {
        let list = world.list();
        list["releases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["subject"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(subjects(), ["four", "three", "two", "one"]);
    world.receiver(&["rollback", "app"]).ok();
    assert_eq!(world.live_file("index.html"), "three\n");
    world.receiver(&["rollback", "app"]).ok();
    assert_eq!(world.live_file("index.html"), "two\n");
    assert_eq!(world.states(), ["withdrawn", "withdrawn", "live", "good"]);
    let last = std::fs::read_link(world.app().join("versions/0/last")).unwrap();
    assert_eq!(format!("0/{}", last.display()), world.live().unwrap());
    let history = world.receiver(&["history", "app", "--json"]).ok().json();
    let seqs: Vec<u64> =
        history["entries"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    world.receiver(&["doctor", "app"]).ok();
}
