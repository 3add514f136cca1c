//! What outlives releases: files and directories of `shared/`, and the variables of `receiver env`.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::plumbing::assert_tame;
use crate::world::World;

fn sharing(settings: &str) -> World {
    let world = World::with_site();
    world.file("receiver.toml", settings).file("index.html", "two\n");
    world
}

#[test]
fn a_missing_shared_file_fails_before_the_build_with_the_command_that_brings_it() {
    let world =
        sharing("[stages]\nbuild = \"echo built\"\n[shared]\nfiles = [\".env\", \"config/secret.key\"]\n");
    world.commit("two");
    world
        .push()
        .ok()
        .never_says("built")
        .says("NOT LIVE: still 0/")
        .says("shared/.env is not there, and the release needs it")
        .says("`receiver put app .env < FILE` brings it");
    assert_eq!(world.live_file("index.html"), "one\n");
    world.receiver_fed(&["put", "app", ".env"], b"A=1\n").ok().says("shared/.env has 4 bytes now");
    world.receiver(&["deploy", "app"]).fails(1).says("`receiver put app config/secret.key < FILE` brings it");
    world.receiver_fed(&["put", "app", "config/secret.key"], b"\x00\xff").ok();
    world.receiver(&["deploy", "app"]).ok().says("     | built");
    let live = world.live_directory();
    let target = |name: &str| std::fs::read_link(live.join(name)).unwrap().display().to_string();
    assert_eq!(target(".env"), "../../../shared/.env");
    assert_eq!(target("config/secret.key"), "../../../../shared/config/secret.key");
    assert_eq!(std::fs::read(live.join("config/secret.key")).unwrap(), b"\x00\xff");
    let got = world
        .command(crate::world::PROGRAM, world.place())
        .args(["get", "app", "config/secret.key"])
        .output();
    assert_eq!(got.unwrap().stdout, b"\x00\xff");
    let mode = std::fs::metadata(world.app().join("shared/.env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    // The whole app can be moved: no link names its place.
    let elsewhere = world.place().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::rename(world.app(), elsewhere.join("app")).unwrap();
    assert_eq!(std::fs::read_to_string(elsewhere.join("app/current/.env")).unwrap(), "A=1\n");
    std::fs::rename(elsewhere.join("app"), world.app()).unwrap();
}

#[test]
fn a_shared_directory_is_seeded_once_and_outlives_releases() {
    let world = sharing("[shared]\ndirs = [\"media\", \"var/cache\"]\n");
    world.file("media/logo.txt", "logo\n").file("media/deep/er/a", "a\n");
    world.commit("two");
    world.push().ok();
    let live = world.live_directory();
    assert_eq!(
        std::fs::read_link(live.join("media")).unwrap().display().to_string(),
        "../../../shared/media"
    );
    assert_eq!(
        std::fs::read_link(live.join("var/cache")).unwrap().display().to_string(),
        "../../../../shared/var/cache"
    );
    assert_eq!(world.live_file("media/deep/er/a"), "a\n");
    std::fs::write(live.join("media/upload"), "by a visitor\n").unwrap();
    world.file("media/logo.txt", "a new logo\n").file("index.html", "three\n");
    world.commit("three");
    world.push().ok();
    assert_eq!(world.live_file("media/upload"), "by a visitor\n");
    assert_eq!(world.live_file("media/logo.txt"), "logo\n", "what is shared is not the revision's any more");
    world.receiver(&["verify", "app"]).ok();
    world.receiver(&["rollback", "app"]).ok();
    assert_eq!(world.live_file("media/upload"), "by a visitor\n");
}

#[test]
fn symlinks_in_a_seed_stay_symlinks() {
    let world = sharing("[shared]\ndirs = [\"media\"]\n");
    world.file("media/deep/a", "a\n");
    // Followed, these would unfold to two to the power of forty directories.
    symlink(".", world.laptop().join("media/deep/x")).unwrap();
    symlink(".", world.laptop().join("media/deep/y")).unwrap();
    world.commit("two");
    world.push().ok().says("=====> live: 0/");
    let there = world.app().join("shared/media/deep");
    assert_eq!(std::fs::read_link(there.join("x")).unwrap().display().to_string(), ".");
    assert_eq!(std::fs::read_to_string(there.join("a")).unwrap(), "a\n");
}

#[test]
fn what_is_pushed_cannot_leave_its_place_by_a_shared_path() {
    for path in ["../x", "/etc/x", "a/../../x", "", ".", "a//b", ".receiver/x", ".git", "a\\u0000"] {
        let world = sharing(&format!("[shared]\nfiles = [\"{path}\"]\n"));
        world.commit("two");
        world.push().fails(1).says("refused: main").says("receiver.toml:2:");
    }
    // Behind a link of the revision, what is made there would be made elsewhere.
    let world = sharing("[shared]\nfiles = [\"config/.env\"]\ndirs = [\"config/media\"]\n");
    world.server_config("[export]\noutside_links = true\n");
    let outside = world.place().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join(".env"), "precious").unwrap();
    symlink(&outside, world.laptop().join("config")).unwrap();
    world.receiver_fed(&["put", "app", "config/.env"], b"A=1\n").ok();
    world.commit("two");
    world.push().ok().says("NOT LIVE: still 0/").says("lies behind the symlink config of the revision");
    assert_eq!(std::fs::read_to_string(outside.join(".env")).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn put_and_get_stay_in_shared_and_follow_no_link() {
    let world = World::with_site();
    let shared = world.app().join("shared");
    let secret = world.place().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    for path in ["../receiver.toml", "/etc/x", "a/../../x", "..", ".", ""] {
        let said = world.receiver_fed(&["put", "app", path], b"x").fails(2);
        assert_eq!(said.stdout, "", "{path:?}");
        world.receiver(&["get", "app", path]).fails(2);
    }
    symlink(&secret, shared.join("link")).unwrap();
    symlink(world.place(), shared.join("directory")).unwrap();
    world.receiver(&["get", "app", "link"]).fails(1).never_says("secretsecret");
    world.receiver(&["get", "app", "directory/secret"]).fails(1);
    world.receiver_fed(&["put", "app", "directory/secret"], b"x").fails(1);
    world.receiver_fed(&["put", "app", "directory"], b"x").ok();
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    world.receiver_fed(&["put", "app", "link"], b"new").ok();
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(std::fs::read_to_string(shared.join("link")).unwrap(), "new");
    // A FIFO holds nobody up.
    let fifo = shared.join("fifo");
    world.run("mkfifo", world.place(), &[fifo.to_str().unwrap()]).ok();
    world.receiver(&["get", "app", "fifo"]).fails(1).says("is not a regular file");
    world.receiver_fed(&["put", "app", "fifo"], b"x").ok();
    assert_eq!(world.receiver(&["get", "app", "fifo"]).ok().stdout, "x");
    std::fs::create_dir(shared.join("taken")).unwrap();
    world.receiver_fed(&["put", "app", "taken"], b"x").fails(1);
    world.receiver(&["get", "app", "nowhere"]).fails(1);
    world.receiver_fed(&["put", "app", "fifo/below"], b"x").fails(1);
    let left: Vec<_> = std::fs::read_dir(&shared).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".receiver")), "{left:?}");
}

#[test]
fn variables_are_set_by_stdin_kept_0600_and_found_by_the_next_deploy() {
    let world = World::with_site();
    world.receiver_fed(&["env", "app", "set", "KEY"], b"a=b \"c\" $d\nline two\n").ok().says("KEY is set");
    world.receiver_fed(&["env", "app", "set", "OTHER"], b"x").ok();
    let listed = world.receiver(&["env", "app", "list", "--json"]).ok().json();
    assert_eq!(listed["env"]["KEY"], "a=b \"c\" $d\nline two");
    let said = world.receiver(&["env", "app", "list"]).ok();
    assert_eq!(said.stdout, "KEY=a=b \"c\" $d\\nline two\nOTHER=x\n");
    assert_tame("the list", &said.stdout);
    let secrets = world.app().join("receiver/secrets");
    for entry in std::fs::read_dir(&secrets).unwrap().flatten() {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    assert_eq!(std::fs::metadata(&secrets).unwrap().permissions().mode() & 0o777, 0o700);
    world.file("receiver.toml", "[stages]\nbuild = \"printf %s \\\"$KEY\\\" > key\"\n");
    world.commit("two");
    world.push().ok();
    assert_eq!(world.live_file("key"), "a=b \"c\" $d\nline two");
    world.receiver(&["env", "app", "unset", "KEY"]).ok();
    world.receiver(&["env", "app", "unset", "KEY"]).fails(2).says("there is no variable KEY");
    assert_eq!(world.receiver(&["env", "app", "list"]).ok().stdout, "OTHER=x\n");
    let history = world.receiver(&["history", "app"]).ok().stdout;
    assert!(history.contains("env KEY set") && !history.contains("line two"), "{history}");
}

#[test]
fn a_value_on_the_command_line_and_unsound_names_are_refused() {
    let world = World::with_site();
    let said = world.receiver(&["env", "app", "set", "KEY=hunter2"]).fails(2);
    said.says("the value comes by stdin").says("`receiver env app set KEY < FILE`").never_says("hunter2");
    for name in
        ["1A", "A B", "", "A-B", "É", "RECEIVER_APP", "DATABASE_URL", "PREVIOUS_DATABASE_URL", "A\u{1b}[2J"]
    {
        let said = world.receiver_fed(&["env", "app", "set", name], b"x").fails(2);
        assert_tame(name, &said.stderr);
    }
    world.receiver_fed(&["env", "app", "set", "KEY"], b"a\0b").fails(2).says("zero byte");
    world.receiver_fed(&["env", "app", "set", "KEY"], b"\xff\xfe").fails(1).says("UTF-8");
    world
        .receiver_fed(&["env", "app", "set", "KEY"], &vec![b'x'; (1 << 20) + 10])
        .fails(2)
        .says("longer than 1 MB");
    assert_eq!(world.receiver(&["env", "app", "list"]).ok().stdout, "");
}
