//! The two files of settings: what is refused and where it is said, what holds and where it came from.

use std::os::unix::fs::symlink;

use crate::plumbing::{assert_tame, verdicts};
use crate::world::World;

fn refused(world: &World, why: &str) {
    world.commit(why);
    let said = world.push().fails(1).says(why);
    assert_eq!(verdicts(&said).len(), 1, "{}", said.talk());
    assert_tame(why, &said.talk());
    assert_eq!(world.live_file("index.html"), "one\n");
}

#[test]
fn a_receiver_toml_that_is_no_readable_file_is_refused() {
    let world = World::with_site();
    let file = world.laptop().join("receiver.toml");
    symlink("/etc/passwd", &file).unwrap();
    refused(&world, "receiver.toml is a symlink or a submodule; a file is wanted");
    world.remove("receiver.toml").file("receiver.toml/x", "y");
    refused(&world, "receiver.toml is a directory; a file is wanted");
    std::fs::remove_dir_all(&file).unwrap();
    world.bytes("receiver.toml", &vec![b'#'; 100 << 20]);
    refused(&world, "receiver.toml has 104857600 bytes; nobody writes that many settings");
    world.bytes("receiver.toml", b"branch = \"\xff\xfe\"\n");
    refused(&world, "receiver.toml");
    world.bytes("receiver.toml", b"\xef\xbb\xbf\x1b]0;x\x07 = = \x1b[2J\n");
    refused(&world, "receiver.toml:1:");
}

#[test]
pub fn every_error_in_receiver_toml_is_said_with_its_line_and_the_nearest_key() {
    let world = World::with_site();
    world.file(
        "receiver.toml",
        "branch = \"mine\"\n[stages]\nbuidl = \"make\"\n[keep]\nreleases = 9\n[export]\noutside_links = true\n\
         [database]\nengine = \"oracle\"\n",
    );
    world.commit("wrong");
    let said = world.push().fails(1);
    let talk = said.talk();
    let start = talk.find("=====> refused").unwrap();
    let end = talk.find("To /").unwrap_or(talk.len());
    let lines: Vec<&str> = talk[start..end].lines().collect();
    assert_eq!(lines[0], "=====> refused: main: the configuration has 5 errors:");
    assert_eq!(
        &lines[1..4],
        [
            "         receiver.toml:1: 'branch' belongs in the server's receiver.toml, not in the repository's",
            "         receiver.toml:3: unknown key 'stages.buidl' (did you mean 'stages.build'?)",
            "         receiver.toml:4: 'keep' belongs in the server's receiver.toml, not in the repository's",
        ]
    );
    said.says("receiver.toml:9: 'database.engine'");
    world.file("receiver.toml", "[stages\n");
    refused(&world, "receiver.toml:1:");
}

#[test]
fn a_broken_server_file_is_said_by_commands_and_pushes() {
    let world = World::with_site();
    for (text, why) in [
        ("[keep\n", "receiver.toml:1:"),
        (
            "[keep]\nrelases = 3\n",
            "receiver.toml:2: unknown key 'keep.relases' (did you mean 'keep.releases'?)",
        ),
        ("[keep]\nreleases = 0\n", "receiver.toml:2: 'keep.releases'"),
    ] {
        world.server_config(text);
        for command in [
            &["status", "app"][..],
            &["show", "app", "--config"],
            &["plan", "app"],
            &["deploy", "app"],
            &["verify", "app"],
            &["prune", "app", "--dry-run"],
        ] {
            world.receiver(command).fails(1).says(why);
        }
        world.receiver(&["doctor", "app"]).fails(1).says(why).says("cure        correct ");
        world.file("index.html", text);
        world.commit("more");
        world.push().fails(1).says(why);
        // What is live does not depend on it, nor does the way back to see it.
        world.receiver(&["list", "app"]).ok();
        assert_eq!(world.live_file("index.html"), "one\n");
    }
    std::fs::remove_file(world.app().join("receiver.toml")).unwrap();
    std::fs::create_dir(world.app().join("receiver.toml")).unwrap();
    world.receiver(&["status", "app"]).fails(1).says("is not a regular file");
}

#[test]
fn show_config_says_what_holds_and_where_it_came_from() {
    let world = World::with_site();
    world.server_config("# ours\n[stages]\nbuild = \"true\"\n\n[keep]\nreleases = 7\n");
    world.file("receiver.toml", "[stages]\nbuild = \"make\"\ncheck = \"true # \u{202e}\"\n");
    world.commit("two");
    world.push().ok();
    let words = world.receiver(&["show", "app", "--config"]).ok().stdout;
    assert_tame("the configuration", &words);
    let server = world.app().join("receiver.toml").display().to_string();
    let line =
        |key: &str| words.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap().to_owned();
    assert!(
        line("stages.build").contains("\"true\"") && line("stages.build").ends_with(&format!("# {server}:3"))
    );
    assert!(line("stages.check").ends_with("# receiver.toml:3"));
    assert!(
        line("keep.releases").contains(" 7 ") && line("keep.releases").ends_with(&format!("# {server}:6"))
    );
    assert!(line("keep.versions").contains(" 3 ") && line("keep.versions").ends_with("# default"));
    let object = world.receiver(&["show", "app", "--config", "--json"]).ok().json();
    let all = object["config"].as_array().unwrap();
    let of = |key: &str| all.iter().find(|one| one["key"] == key).unwrap();
    assert_eq!(of("keep.releases")["value"], "7");
    assert_eq!(of("keep.releases")["origin"], format!("{server}:6"));
    assert_eq!(of("branch")["origin"], "default");
}

#[test]
fn config_sets_and_unsets_one_key_and_keeps_what_a_person_wrote() {
    let world = World::with_site();
    let text = "# ours\nbranch = \"main\"  # the branch\n\n[keep]\n# few\nreleases = 3\n";
    world.server_config(text);
    assert_eq!(world.receiver(&["config", "app"]).ok().stdout, text);
    assert_eq!(world.receiver(&["config", "app", "keep.releases"]).ok().stdout, "3\n");
    world.receiver(&["config", "app", "keep.releases", "4"]).ok();
    world.receiver(&["config", "app", "stages.check", "echo checked"]).ok();
    let now = std::fs::read_to_string(world.app().join("receiver.toml")).unwrap();
    assert_eq!(now, format!("{}\n[stages]\ncheck = \"echo checked\"\n", text.replace("= 3", "= 4")));
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok().says("     | checked");
    world.receiver(&["config", "app", "--unset", "stages.check"]).ok();
    world.receiver(&["config", "app", "--unset", "stages.check"]).fails(2).says("is not set");
    let said = world.receiver(&["config", "app", "domain"]).ok();
    assert_eq!(said.stdout, "");
    said.says("domain is not set on the server");
    let before = std::fs::read_to_string(world.app().join("receiver.toml")).unwrap();
    world.receiver(&["config", "app", "keep.relases", "5"]).fails(2).says("did you mean 'keep.releases'?");
    world.receiver(&["config", "app", "keep.releases", "none"]).fails(2);
    world.receiver(&["config", "app", "branch", "-x"]).fails(2);
    assert_eq!(std::fs::read_to_string(world.app().join("receiver.toml")).unwrap(), before);
    world.receiver(&["history", "app"]).ok().says("config keep.releases");
}

#[test]
fn a_framework_that_nothing_is_said_about_is_refused_with_the_file_to_add() {
    for (file, framework) in [
        ("manage.py", "Django"),
        ("bin/rails", "Rails"),
        ("artisan", "Laravel"),
        ("package.json", "Node"),
        ("schema.sql", "plain SQL"),
        ("README", "unknown framework"),
    ] {
        let world = World::with_app();
        world.file(file, "").file("x", "");
        world.commit("one");
        let said = world.push().fails(1).says("there is no receiver.toml in it").says("       [stages]");
        assert!(framework == "unknown framework" || said.talk().contains(framework), "{}", said.talk());
        assert_eq!(world.live(), None);
        // The file that it prints is the one that `init` writes; with it the push goes through to its stages.
        let here = world.laptop();
        world.receiver_in(&here, &["init"]).ok().says(&format!("(found: {framework})"));
        let written = std::fs::read_to_string(here.join("receiver.toml")).unwrap();
        for line in written.lines().filter(|line| !line.is_empty()) {
            assert!(said.talk().contains(line), "{framework}: {line}");
        }
        world.receiver_in(&here, &["init"]).fails(2).says("receiver.toml is there already");
        assert_eq!(std::fs::read_to_string(here.join("receiver.toml")).unwrap(), written);
        assert_eq!(world.receiver_in(&here, &["init", "--dry-run"]).ok().stdout, written);
        world.commit("what was advised");
        world.push_with(&["-o", "plan"]).fails(1).says("app: deploy ").says("nothing was pushed");
    }
}

#[test]
pub fn a_static_site_is_deployed_without_a_word() {
    for file in ["index.html", "public/index.html"] {
        let world = World::with_app();
        world.file(file, "one\n");
        world.commit("one");
        world.push().ok().says("=====> live: 0/");
    }
}

#[test]
fn a_schema_without_a_word_on_its_engine_is_refused_and_a_server_that_is_not_there_is_named() {
    let world = World::with_site();
    world.file("app/migrations/0001_initial.py", "x = 1\n").file("manage.py", "");
    world.file("receiver.toml", "[stages]\nbuild = \"true\"\n");
    refused(&world, "and nothing says what keeps its data");
    world.receiver(&["config", "app", "database.server", "/nowhere/s.sock"]).ok();
    for engine in ["mysql", "postgres"] {
        world.file(
            "receiver.toml",
            &format!("[stages]\nbuild = \"true\"\n[database]\nengine = \"{engine}\"\n"),
        );
        world.commit(engine);
        world.push().ok().says("/nowhere/s.sock").says("NOT LIVE: still 0/");
    }
    world.receiver(&["config", "app", "database.engine", "none"]).ok();
    world.file("receiver.toml", "[stages]\nbuild = \"true\"\n");
    world.commit("the server says it");
    world.push().ok().says("=====> live: 1/");
}

#[test]
fn a_push_that_is_larger_than_the_limit_is_refused_while_it_arrives() {
    let world = World::with_site();
    let large = |seed: u32| -> Vec<u8> {
        let mut state = seed;
        // What cannot be compressed.
        (0..200_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect()
    };
    world.receiver(&["config", "app", "limits.push_bytes", "100K"]).ok();
    world.bytes("large.bin", &large(1));
    world.commit("large");
    world.push().fails(1).says("pack exceeds maximum allowed size");
    world.receiver(&["config", "app", "--unset", "limits.push_bytes"]).ok();
    world.push().ok().says("=====> live:");
    // Changed by hand it holds from the next deploy on.
    world.server_config("[limits]\npush_bytes = \"100K\"\n");
    world.file("index.html", "small\n");
    world.commit("small");
    world.push().ok();
    world.bytes("large.bin", &large(2));
    world.commit("large again");
    world.push().fails(1).says("pack exceeds maximum allowed size");
}
