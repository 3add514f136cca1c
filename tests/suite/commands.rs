//! The commands of `receiver --help`, as people and scripts use them.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::plumbing::assert_tame;
use crate::world::{PROGRAM, World};

/// The commands that the help lists.
fn commands(world: &World) -> Vec<String> {
    let help = world.receiver(&["--help"]).ok().stdout;
    let section = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names = section.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn every_command_has_help_and_wrong_usage_exits_2() {
    let world = World::new();
    let commands = commands(&world);
    assert!(commands.len() >= 27, "{commands:?}");
    for command in &commands {
        let said = world.receiver(&[command, "--help"]).ok();
        assert!(said.stdout.contains(&format!("receiver {command}")), "{command}: {}", said.stdout);
        assert_eq!(said.stderr, "");
        world.receiver(&[command, "--no-such-option"]).fails(2);
    }
    for wrong in
        [&["nonsense"][..], &[], &["--nonsense"], &["list", "a", "b"], &["db"], &["run", "app"], &["put"]]
    {
        let said = world.receiver(wrong).fails(2);
        assert_eq!(said.stdout, "", "{wrong:?}");
        assert_tame("usage", &said.stderr);
    }
    world.receiver(&["--version"]).ok().says("receiver 0.");
}

#[test]
fn the_readme_names_every_command_and_no_other() {
    let readme = include_str!("../../README.md");
    let table = readme.split("## Commands").nth(1).unwrap().split("\n\n").nth(1).unwrap();
    let named: std::collections::BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next().map(str::to_owned))
        .flat_map(|cell| cell.split('`').step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|words| words.split_whitespace().next().map(str::to_owned))
        .collect();
    let real: std::collections::BTreeSet<String> = commands(&World::new()).into_iter().collect();
    assert_eq!(named, real);
}

#[test]
fn completions_and_the_manual_know_every_command() {
    let world = World::new();
    let commands = commands(&world);
    for shell in ["bash", "zsh", "fish"] {
        let script = world.receiver(&["completions", shell]).ok().stdout;
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell}: {command}");
        }
    }
    let script = world.receiver(&["completions", "bash"]).ok().stdout;
    world.fed("bash", world.place(), &["-n"], script.as_bytes()).ok();
    let page = world.receiver(&["man"]).ok().stdout;
    assert!(page.contains(".TH receiver 1"), "{}", &page[..200]);
    for command in &commands {
        assert!(page.contains(&format!(".SH \"RECEIVER {}\"", command.to_uppercase())), "{command}");
    }
    let file = world.place().join("receiver.1");
    std::fs::write(&file, &page).unwrap();
    let shown = world.run("man", world.place(), &["-l", file.to_str().unwrap()]).ok();
    assert!(shown.stdout.contains("RECEIVER ROLLBACK"), "{}", shown.stdout);
}

#[test]
fn the_app_may_be_left_out_where_it_is_clear() {
    let world = World::new();
    world.receiver(&["list"]).fails(2).says("there is no app in").says("`receiver create APP` makes one");
    world.receiver(&["create", "app"]).ok();
    assert_eq!(world.receiver(&["list"]).ok().stdout, "app has no release yet\n");
    world.receiver(&["create", "second"]).ok();
    for command in
        [&["list"][..], &["show"], &["verify"], &["db", "list"], &["env", "list"], &["config", "branch"]]
    {
        world.receiver(command).fails(2);
    }
    world.receiver(&["list"]).fails(2).says("there are several apps: name one").says("they are: app, second");
    let inside = world.root().join("second/receiver/logs");
    assert_eq!(world.receiver_in(&inside, &["list"]).ok().stdout, "second has no release yet\n");
    assert_eq!(world.receiver_in(&inside, &["env", "list"]).ok().stdout, "");
    let both = world.receiver(&["status", "--json"]).ok().json();
    assert_eq!(both["apps"].as_array().unwrap().len(), 2);
    world
        .receiver(&["list", "third"])
        .fails(2)
        .says("there is no app 'third'")
        .says("the apps here: app, second");
    // --root wins over the environment.
    let other = world.place().join("other");
    world.receiver(&["--root", other.to_str().unwrap(), "create", "third"]).ok();
    world.receiver(&["list", "third", "--root", other.to_str().unwrap()]).ok();
}

#[test]
pub fn list_and_status_read_as_they_should() {
    let world = World::with_sql();
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL, more TEXT);\n");
    let tip = world.commit("more");
    world.push().ok();
    let name = |n: usize| world.list()["releases"][n]["name"].as_str().unwrap().to_owned();
    assert_eq!(
        world.receiver(&["list", "app"]).ok().stdout,
        format!("version 1\n* {}  live       more\nversion 0\n  {}  good       one\n", name(0), name(1))
    );
    let words = world.receiver(&["status", "app"]).ok().stdout;
    let lines: Vec<&str> = words.lines().collect();
    let bytes = std::fs::metadata(world.database(1)).unwrap().len();
    let size = receiver::support::text::bytes(bytes);
    assert_eq!(
        lines[..4],
        [
            "app".to_owned(),
            format!("  live       {}", world.live().unwrap()),
            format!("  branch     main at {}, which is live", &tip[..7]),
            format!("  database   app_v1 (sqlite, {size})"),
        ]
    );
    assert!(lines.len() == 5 && lines[4].starts_with("  disk       "), "{words}");
    let status = world.status();
    assert_eq!(status["in_sync"], true);
    let database = serde_json::json!({ "engine": "sqlite", "name": "app_v1", "version": 1, "bytes": bytes });
    assert_eq!(status["database"], database);
    assert_eq!(status["processes"], serde_json::json!([]));
    assert_eq!(
        world.receiver(&["plan", "app"]).ok().stdout.lines().next().unwrap(),
        format!("app: skip {} — it is live already", &tip[..12])
    );
}

#[test]
fn status_check_exits_1_where_something_needs_attention() {
    let world = World::with_site();
    world.receiver(&["status", "app", "--check"]).ok();
    world.receiver(&["status", "--check"]).ok();
    world.file("index.html", "two\n");
    world.file("receiver.toml", "[stages]\nbuild = \"false\"\n");
    world.commit("two");
    world.push().ok().says("NOT LIVE");
    let said = world.receiver(&["status", "app", "--check", "--json"]).fails(1).says("app needs attention");
    assert_eq!(said.json()["apps"][0]["in_sync"], false);
}

#[test]
fn run_passes_its_commands_code_streams_and_place_on() {
    let world = World::with_site();
    let live = world.live_directory().display().to_string();
    let said = world.receiver(&["run", "app", "--", "sh", "-c", "pwd -P; echo err >&2; exit 7"]).fails(7);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), (format!("{live}\n").as_str(), "err\n"));
    world.receiver(&["run", "app", "--", "sh", "-c", "kill -TERM $$"]).fails(128 + 15);
    world.receiver(&["run", "app", "--", "no-such-program"]).fails(127);
    assert_eq!(
        world.receiver(&["run", "app", "--", "printf", "%s|", "a b", "$(x)", "-q"]).ok().stdout,
        "a b|$(x)|-q|"
    );
    let said = world.receiver_fed(&["run", "app", "--", "cat"], b"by stdin\n").ok();
    assert_eq!(said.stdout, "by stdin\n");
    let first = world.live().unwrap();
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok();
    assert_eq!(world.receiver(&["run", "--release", &first, "--", "cat", "index.html"]).ok().stdout, "one\n");
    world.receiver(&["run", "--release", "nothing", "--", "true"]).fails(2);
}

#[test]
fn run_hands_its_terminal_on() {
    let world = World::with_site();
    let command = format!("{PROGRAM} run app -- sh -c 'test -t 0 && test -t 1 && echo a terminal; exit 5'");
    let said = world.run("script", world.place(), &["-qec", &command, "/dev/null"]).fails(5);
    assert!(said.stdout.contains("a terminal"), "{}", said.stdout);
    // And there is a colour for errors only there.
    let command = format!("{PROGRAM} list nowhere");
    let said = world.run("script", world.place(), &["-qec", &command, "/dev/null"]).fails(2);
    assert!(said.stdout.contains("\u{1b}[1;31merror:"), "{}", said.stdout);
    assert_tame("without a terminal", &world.receiver(&["list", "nowhere"]).fails(2).stderr);
    assert!(
        world.receiver(&["list", "nowhere", "--color", "always"]).fails(2).stderr.contains("\u{1b}[1;31m")
    );
}

#[test]
fn history_shows_the_journal_and_only_its_end_when_asked() {
    let world = World::with_site();
    let live = world.live().unwrap();
    let words = world.receiver(&["history", "app"]).ok().stdout;
    let what: Vec<String> = words.lines().map(|line| line[41..].to_owned()).collect();
    assert_eq!(
        what,
        [
            format!("push       main to {}", &world.head()[..7]),
            format!("switch     {live}"),
            format!("live       {live}"),
        ]
    );
    assert_eq!(world.receiver(&["history", "app", "-n", "1"]).ok().stdout.lines().count(), 1);
    assert_eq!(world.receiver(&["history", "app", "-n", "0"]).ok().stdout, "");
}

#[test]
fn pinned_releases_stay_and_unpinned_ones_go() {
    let world = World::with_site();
    world.receiver(&["config", "app", "keep.releases", "1"]).ok();
    let first = world.live().unwrap();
    world.receiver(&["pin", "app", &first]).ok().says("is pinned");
    world.receiver(&["pin", "app", &first]).ok().says("is pinned already");
    for n in 0..4 {
        world.file("index.html", &format!("{n}\n"));
        world.commit("more");
        world.push().ok();
    }
    let kept = || world.list()["releases"].as_array().unwrap().iter().any(|r| r["id"] == first.as_str());
    assert!(kept());
    world.receiver(&["list", "app"]).ok().says("(pinned)");
    world.receiver(&["unpin", "app", &first]).ok();
    world.receiver(&["prune", "app", "--dry-run"]).ok().says(&first);
    assert!(kept(), "a dry run removes nothing");
    world.receiver(&["prune", "app"]).ok();
    assert!(!kept());
    world.receiver(&["pin", "app", "nothing"]).fails(2);
}

#[test]
fn databases_come_down_and_go_up() {
    let world = World::with_sql();
    world.sql("INSERT INTO note (text) VALUES ('bread');");
    let listed = world.receiver(&["db", "app", "list"]).ok().stdout;
    assert!(listed.contains("app_v0") && listed.contains("live"), "{listed}");
    let url = world.receiver(&["db", "app", "url"]).ok().stdout;
    assert_eq!(url.trim(), format!("sqlite:///{}", world.database(0).display()));
    let dump = world.command(PROGRAM, world.place()).args(["db", "app", "dump"]).output().unwrap();
    assert!(dump.status.success() && dump.stdout.starts_with(b"SQLite format 3\0"));
    world.sql("INSERT INTO note (text) VALUES ('milk');");
    assert_eq!(world.sql("SELECT count(*) FROM note;").trim(), "count(*)\n2");
    let said =
        world.receiver_fed(&["db", "app", "load"], &dump.stdout).ok().says("what it held before is in");
    assert_eq!(world.sql("SELECT text FROM note;").trim(), "text\nbread");
    let before = said.talk().split_whitespace().last().unwrap().to_owned();
    assert!(std::fs::metadata(before).unwrap().len() > 0);
    world.receiver_fed(&["db", "app", "load"], b"junk that is no database").fails(1);
    assert_eq!(world.sql("SELECT text FROM note;").trim(), "text\nbread");
    world.receiver_fed(&["db", "app", "shell", "--read-only"], b"DELETE FROM note;").fails(1);
    world.receiver_fed(&["db", "app", "shell"], b"SELECT nonsense;").fails(1);
    world.receiver(&["db", "app", "dump", "--version", "9"]).fails(2);
    world.receiver(&["db", "app", "nonsense"]).fails(2).says("list, dump, load, shell, url");
    assert_eq!(world.sql("SELECT text FROM note;").trim(), "text\nbread");
}

#[test]
fn quiet_says_only_what_went_wrong() {
    let world = World::with_site();
    let said = world.receiver(&["create", "app", "-q"]).ok();
    assert_eq!(said.stderr, "");
    let said = world.receiver(&["list", "nowhere", "--quiet"]).fails(2);
    assert!(said.stderr.starts_with("error: "), "{}", said.stderr);
}

#[test]
fn doctor_names_each_trap_with_its_cure() {
    let world = World::with_sql();
    let fine = world.receiver(&["doctor", "app"]).ok().stdout;
    assert!(!fine.contains("trouble"), "{fine}");
    let repository = world.app().join("repo.git");
    let hook = repository.join("hooks/post-receive");
    let healthy = std::fs::read(&hook).unwrap();
    let sick = |what: &str, cure: &str| {
        let said = world.receiver(&["doctor", "app"]).fails(1).says("trouble  ").says(what);
        assert!(said.stdout.contains(cure), "no cure {cure:?} in:\n{}", said.stdout);
        assert_tame("doctor", &said.stdout);
    };
    std::fs::write(&hook, "#!/bin/sh\nexit 0\n").unwrap();
    sick("post-receive is not receiver's, or cannot run", "cure        ");
    std::fs::write(&hook, healthy).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o644)).unwrap();
    sick("post-receive is not receiver's, or cannot run", "cure        ");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();

    let link = repository.join("hooks/receiver");
    std::fs::remove_file(&link).unwrap();
    symlink("/nowhere/receiver", &link).unwrap();
    sick("leads to no program", "`ln -sfn $(command -v receiver) ");
    std::fs::remove_file(&link).unwrap();
    symlink(PROGRAM, &link).unwrap();

    world.git_there(&["config", "core.hooksPath", "/dev/null"]).ok();
    sick("looks for its hooks elsewhere", "config core.hooksPath hooks`");
    world.git_there(&["config", "core.hooksPath", "hooks"]).ok();

    world.server_config("nonsense = 1\n");
    sick("unknown key 'nonsense'", "cure        correct ");
    std::fs::remove_file(world.app().join("receiver.toml")).unwrap();

    std::fs::create_dir(world.app().join("versions/0/mine")).unwrap();
    sick("versions/0/mine", "move it away; receiver leaves it alone");
    std::fs::remove_dir(world.app().join("versions/0/mine")).unwrap();

    let current = world.app().join("current");
    let target = std::fs::read_link(&current).unwrap();
    std::fs::remove_file(&current).unwrap();
    symlink("versions/0/20990101T000000Z-000000000000", &current).unwrap();
    sick("trouble  current", "cure        ");
    std::fs::remove_file(&current).unwrap();
    symlink(&target, &current).unwrap();

    // A tip whose hook was lost.
    world.file("index.html", "two\n");
    let tip = world.commit("two");
    world.git_there(&["config", "core.hooksPath", "/dev/null"]).ok();
    world.push().ok();
    world.git_there(&["config", "core.hooksPath", "hooks"]).ok();
    sick(&format!("the tip {} was never deployed: its hook was lost", &tip[..7]), "`receiver deploy app`");
    world.receiver(&["list", "app"]).ok().says("was never deployed; `receiver deploy app` does it");
    world.receiver(&["deploy", "app"]).ok();
    world.until_idle();

    // A retired database that takes writes.
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL, more TEXT);\n");
    world.commit("more");
    world.push().ok().says("=====> live: 1/");
    world.receiver(&["doctor", "app"]).ok().says("app_v0 is retired, and refuses writes");
    let triggers = "SELECT 'DROP TRIGGER \"' || name || '\";' FROM sqlite_master WHERE type = 'trigger';";
    let retired = world.database(0).display().to_string();
    let drops = world.run("sqlite3", world.place(), &[&retired, triggers]).ok().stdout;
    assert!(drops.contains("DROP TRIGGER"), "{drops}");
    world.run("sqlite3", world.place(), &[&retired, &drops]).ok();
    sick("app_v0 is ", "cure        ");
    assert_eq!(world.receiver(&["doctor"]).code, 1);
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_would_change() {
    let world = World::with_sql();
    world.receiver_fed(&["env", "app", "set", "KEY"], b"value").ok();
    let id = world.live().unwrap();
    world.until_idle();
    let before = crate::plumbing::snapshot(&world.root());
    for (arguments, says) in [
        (&["create", "other"][..], "other would be made in "),
        (&["deploy", "app"], "app: deploy "),
        (&["pin", "app", &id], "would pin 0/"),
        (&["unpin", "app", &id], "would unpin 0/"),
        (&["prune", "app"], "nothing to remove"),
        (&["env", "app", "set", "KEY"], "would replace KEY"),
        (&["env", "app", "unset", "KEY"], "would forget KEY"),
        (&["config", "app", "keep.releases", "2"], "releases = 2"),
        (&["put", "app", "a/b"], "would make shared/a/b"),
        (&["db", "app", "load"], "would replace what app_v0 holds"),
        (&["lock", "app", "-m", "why"], "would lock app: why"),
        (&["unlock", "app"], "would unlock app"),
        (&["cancel", "app"], "nothing runs or waits"),
    ] {
        let mut all = arguments.to_vec();
        all.push("--dry-run");
        world.receiver_fed(&all, b"x").ok().says(says);
    }
    assert_eq!(crate::plumbing::snapshot(&world.root()), before);
    world.receiver(&["env", "app", "unset", "NONE", "--dry-run"]).fails(2);
    world.receiver(&["config", "app", "keep.releases", "none", "--dry-run"]).fails(2);
}

#[test]
fn a_command_reads_the_repository_where_the_directory_that_it_is_typed_in_is_gone() {
    let world = World::with_app();
    world.file("receiver.toml", "[database]\nengine = \"none\"\n").file("index.html", "1\n");
    world.commit("one");
    world.push().ok();
    let typed =
        format!("mkdir gone && cd gone && rmdir ../gone && exec '{}' verify app", crate::world::PROGRAM);
    world.run("sh", world.place(), &["-c", &typed]).ok().says("compared");
}
