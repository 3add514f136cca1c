//! All of an app as one stream, and the same app again from it.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::backed::{Backed, SQL, WEB};
use crate::servers::Engine;
use crate::sshd::make_key;
use crate::system::{System, on_mercurial};
use crate::world::{PROGRAM, Said, World};

/// Where a restore can die.
pub const POINTS: [&str; 2] = ["app-restored", "data-loaded"];

/// An app with all that a backup has, its second release live: data, secrets, files, a pin, a failed release.
fn app() -> World {
    let world = World::with_sql();
    world.sql("INSERT INTO note (text) VALUES ('first'), ('second');");
    world.receiver_fed(&["env", "app", "set", "SECRET_KEY"], b"a secret value\n").ok();
    world.receiver_fed(&["put", "app", "media/a b/picture"], &[0, 1, 2, 255]).ok();
    world.receiver_fed(&["put", "app", ".env"], b"A=1\n").ok();
    std::os::unix::fs::symlink("a b/picture", world.app().join("shared/media/newest")).unwrap();
    world.receiver(&["config", "app", "keep.releases", "4"]).ok();
    world.file("index.html", "two\n").commit("two");
    world.push().ok();
    world.file("index.html", "three\n").file("schema.sql", "CREATE TABLE broken (\n").commit("three");
    world.push().ok().says("NOT LIVE");
    if world.system == System::Git {
        world.git(&["tag", "v1"]).ok();
        world.git(&["push", "--quiet", "production", "v1"]).ok();
    }
    world.until_idle();
    world
}

/// Takes a backup into a file.
#[track_caller]
fn taken(world: &World) -> PathBuf {
    let file = world.place().join("backup.tar");
    let output = std::fs::File::create(&file).unwrap();
    let mut command = world.command(PROGRAM, world.place());
    command.args(["backup", "app"]).stdout(output).stderr(Stdio::piped());
    Said::of(&command.output().unwrap()).ok();
    file
}

/// Restores it below another root, which then is the world's.
fn restore(world: &mut World, file: &Path) -> Said {
    let other = world.place().join("other");
    world.env.insert("RECEIVER_ROOT".into(), other.display().to_string());
    world.receiver(&["create", "app", "--restore", &file.display().to_string()])
}

fn other(world: &World) -> PathBuf {
    world.place().join("other")
}

#[track_caller]
fn nothing_is_made(world: &World) {
    let found: Vec<_> = std::fs::read_dir(other(world))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
pub fn a_backup_makes_the_same_app_again() {
    let mut world = app();
    let (list, status) = (world.list(), world.status());
    let revision = status["revision"].as_str().unwrap().to_owned();
    let last = world.receiver(&["history", "app", "--json"]).ok().json()["entries"].as_array().unwrap().len();
    let file = taken(&world);
    restore(&mut world, &file).ok().says("read        the backup of").says("=====> live: 0/");
    let app = other(&world).join("app");
    let restored = world.status();
    assert_eq!(restored["revision"], revision.as_str());
    assert_eq!(std::fs::read_to_string(app.join("current/index.html")).unwrap(), "two\n");
    world.receiver(&["verify", "app"]).ok();
    assert_eq!(world.sql("SELECT text FROM note ORDER BY id;"), "text\nfirst\nsecond\n");
    assert_eq!(world.receiver(&["env", "app", "list"]).ok().stdout, "SECRET_KEY=a secret value\n");
    assert_eq!(std::fs::read(app.join("shared/media/newest")).unwrap(), [0, 1, 2, 255]);
    assert_eq!(std::fs::read_link(app.join("shared/media/newest")).unwrap(), Path::new("a b/picture"));
    for secret in ["receiver/secrets/env.json", "receiver.toml"] {
        let mode = std::fs::metadata(app.join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    assert_eq!(world.receiver(&["config", "app", "keep.releases"]).ok().stdout, "4\n");
    // The journal goes on, and what failed is known still.
    let entries = world.receiver(&["history", "app", "--json"]).ok().json()["entries"].clone();
    let entries = entries.as_array().unwrap();
    assert!(entries.len() > last);
    assert!(entries.iter().enumerate().all(|(at, entry)| entry["seq"] == at as u64 + 1), "{entries:?}");
    assert!(entries.iter().any(|e| e["what"].as_str().is_some_and(|what| what.starts_with("restored from"))));
    let failed = |list: &serde_json::Value| {
        let all = list["releases"].as_array().unwrap().clone();
        all.into_iter().find(|release| release["state"] == "failed").unwrap()["name"].clone()
    };
    assert_eq!(failed(&world.list()), failed(&list));
    // It is an app like any other: it is pushed to, and goes back to what was restored.
    world.remote_of(&app);
    if world.system == System::Git {
        assert_eq!(world.git(&["ls-remote", "--tags", "production"]).ok().stdout.lines().count(), 1);
    }
    world.file("index.html", "four\n");
    world
        .file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n")
        .commit("four");
    world.push().ok().says("=====> live: 0/");
    world.receiver(&["rollback", "app"]).ok();
    assert_eq!(std::fs::read_to_string(app.join("current/index.html")).unwrap(), "two\n");
    world.receiver(&["rollback", "app"]).fails(1);
    assert!(!app.join("receiver/beginning").exists());
    let left: Vec<_> = std::fs::read_dir(other(&world)).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["app"]);
}

#[test]
fn a_stream_that_is_not_whole_or_not_ours_makes_nothing() {
    let mut world = app();
    let file = taken(&world);
    let whole = std::fs::read(&file).unwrap();
    let bad = world.place().join("bad.tar");
    let mut refused = |bytes: &[u8], why: &str| {
        std::fs::write(&bad, bytes).unwrap();
        restore(&mut world, &bad).fails(1).says(why);
        nothing_is_made(&world);
    };
    for part in [0, 1, 100, 512, 1500, whole.len() / 2, whole.len() - 2000] {
        let why = if part < 1024 { "no backup of receiver's" } else { "the backup is cut" };
        refused(&whole[..part], why);
    }
    // One bit, in the content of a part.
    let secret = whole.windows(14).position(|part| part == b"a secret value").unwrap();
    let mut damaged = whole.clone();
    damaged[secret] ^= 1;
    refused(&damaged, "the backup is damaged: env.json is not what was written");
    refused(b"PK\x03\x04 something else", "no backup of receiver's");
    let newer = String::from_utf8_lossy(&whole[512..1024]).replacen("\"format\":1", "\"format\":9", 1);
    let mut later = whole.clone();
    later[512..1024].copy_from_slice(newer.as_bytes());
    refused(&later, "install that one");
    world
        .receiver(&["create", "shop", "--restore", &file.display().to_string()])
        .fails(1)
        .says("the backup is of app, and not of shop");
    nothing_is_made(&world);
    world.receiver_fed(&["create", "app", "--restore", "-"], &whole).ok().says("=====> live: 0/");
}

/// The same backup with one part more, whose sum its end has, too.
fn with_part(whole: &[u8], path: &str, kind: tar::EntryType, target: Option<&str>) -> Vec<u8> {
    let mut output = tar::Builder::new(Vec::new());
    let mut archive = tar::Archive::new(whole);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut header = entry.header().clone();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if name == "receiver-backup-end.json" {
            let mut strange = tar::Header::new_gnu();
            strange.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            strange.set_entry_type(kind);
            strange.set_mode(0o644);
            strange.set_size(0);
            if let Some(target) = target {
                strange.set_link_name_literal(target).unwrap();
            }
            strange.set_cksum();
            output.append(&strange, std::io::empty()).unwrap();
        }
        header.set_size(bytes.len() as u64);
        if entry.header().entry_type() == tar::EntryType::Symlink {
            let target = entry.link_name().unwrap().unwrap().into_owned();
            output.append_link(&mut header, &name, target).unwrap();
        } else {
            output.append_data(&mut header, &name, &bytes[..]).unwrap();
        }
    }
    output.into_inner().unwrap()
}

#[test]
fn what_leads_out_of_a_backup_is_refused() {
    let mut world = app();
    let whole = std::fs::read(taken(&world)).unwrap();
    let bad = world.place().join("bad.tar");
    use tar::EntryType as E;
    let outside = world.place().join("outside").display().to_string();
    for (path, kind, target) in [
        (outside.as_str(), E::Regular, None),
        ("shared/../../outside", E::Regular, None),
        ("../outside", E::Regular, None),
        ("shared/out", E::Symlink, Some("/etc")),
        ("shared/out", E::Symlink, Some("../../outside")),
        ("shared/media/out", E::Symlink, Some("a b/../../../out")),
        ("shared/hard", E::Link, Some("/etc/passwd")),
        ("shared/pipe", E::Fifo, None),
        ("shared/disk", E::Block, None),
        ("shared/tty", E::Char, None),
        ("receiver.toml", E::Symlink, Some("shared/media")),
        ("repo.git/hooks/update", E::Regular, None),
        // Twice the same, and through a link that is there.
        ("env.json", E::Regular, None),
        ("shared/media/newest/x", E::Regular, None),
    ] {
        std::fs::write(&bad, with_part(&whole, path, kind, target)).unwrap();
        let said = restore(&mut world, &bad).fails(1);
        assert!(!said.stderr.contains("panicked"), "{path}: {}", said.stderr);
        nothing_is_made(&world);
        assert!(!world.place().join("outside").exists(), "{path}");
    }
}

#[test]
fn nothing_is_overwritten_by_a_restore() {
    let world = app();
    let file = taken(&world).display().to_string();
    world.receiver(&["create", "app", "--restore", &file]).fails(1).says("app is there already");
    std::fs::create_dir_all(other(&world).join("app")).unwrap();
    std::fs::write(other(&world).join("app/mine"), "x").unwrap();
    let root = other(&world).display().to_string();
    world
        .receiver(&["--root", &root, "create", "app", "--restore", &file])
        .fails(1)
        .says("holds something that receiver did not make");
    assert_eq!(std::fs::read_to_string(other(&world).join("app/mine")).unwrap(), "x");
}

#[test]
pub fn a_restore_that_dies_anywhere_is_begun_again() {
    let points = ["app-made", "app-placed", "exported", "checked", "sealed", "switched", "journaled"];
    for point in POINTS.iter().chain(&points) {
        let mut world = app();
        let file = taken(&world);
        let ticket = world.place().join("ticket");
        std::fs::write(&ticket, "").unwrap();
        world.env.insert("RECEIVER_TEST_DIE_AT".into(), (*point).into());
        world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
        restore(&mut world, &file);
        world.until(20, &format!("the death at {point}"), || !ticket.exists());
        world.env.retain(|name, _| !name.starts_with("RECEIVER_TEST_DIE"));
        let again = restore(&mut world, &file);
        assert!([0, 1].contains(&again.code), "{point}: {again:?}");
        let app = other(&world).join("app");
        let live = || std::fs::read_to_string(app.join("current/index.html")).unwrap_or_default();
        world.until(20, &format!("it to be live after {point}"), || live() == "two\n");
        assert_eq!(world.sql("SELECT text FROM note ORDER BY id;"), "text\nfirst\nsecond\n", "{point}");
        world.until(20, "the rest", || !app.join("receiver/beginning").exists());
    }
}

#[test]
pub fn a_restore_whose_build_fails_keeps_the_data_for_the_next_deploy() {
    let mut world = World::with_app();
    world.file(
        "schema.sql",
        "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n",
    );
    let gate = world.place().join("gate").display().to_string();
    std::fs::write(&gate, "").unwrap();
    let toml = format!(
        "[stages]\nbuild = \"test -e {gate}\"\nsyncdb = {{ sql = [\"schema.sql\"] }}\n[database]\nengine = \"sqlite\"\n"
    );
    world.file("receiver.toml", &toml).file("index.html", "one\n").commit("one");
    world.push().ok().says("live: 0/");
    world.sql("INSERT INTO note (text) VALUES ('kept');");
    let file = taken(&world);
    std::fs::remove_file(&gate).unwrap();
    restore(&mut world, &file).fails(1).says("NOT LIVE: nothing is live yet");
    // Pushed or deployed, the next one begins with the data; here with a file more than what was live.
    world.remote_of(&other(&world).join("app"));
    world.file("receiver.toml", &toml.replace(&format!("test -e {gate}"), "true")).commit("mended");
    world.push().ok().says("from the backup of").says("=====> live: 0/");
    assert_eq!(world.sql("SELECT text FROM note;"), "text\nkept\n");
}

#[test]
fn a_backup_comes_back_on_every_server() {
    for engine in [Engine::Mysql, Engine::Postgres] {
        let mut backed = Backed::live_with(engine, SQL, &format!("carry = \"copy\"\n{WEB}"));
        backed.add_table("more");
        backed.push().ok().says("=====> live: 1/");
        backed.enter(&[(4, "four")]);
        let file = taken(&backed);
        backed.receiver(&["remove", "app", "--data", "--yes", "app"]).ok();
        backed.only(&[]);
        let said = backed.receiver(&["create", "app", "--restore", &file.display().to_string()]);
        said.ok().says("=====> live: 1/");
        assert_eq!(backed.entries(), "one two three four", "{engine:?}");
        backed.only(&["app_v1"]);
        // Its role is a new one, and only its own; the next version opens from it.
        backed.write_by(&backed.url(None)).unwrap();
        backed.remote("app");
        backed.add_table("again");
        backed.push().ok().says("=====> live: 2/");
        assert_eq!(backed.entries(), "one two three four");
        backed.world.env.clear();
    }
}

#[test]
pub fn a_backup_never_holds_up_a_deploy_and_is_of_one_moment() {
    let mut world = app();
    // More than a pipe takes, so that the backup waits for its reader, in the middle.
    world.receiver_fed(&["put", "app", "large"], &vec![7; 4 << 20]).ok();
    let mut child = world.start(PROGRAM, &["backup", "app"]);
    let mut output = child.stdout.take().unwrap();
    let mut stream = vec![0; 4096];
    output.read_exact(&mut stream).unwrap();
    world.file("index.html", "later\n");
    world
        .file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n")
        .commit("later");
    world.push().ok().says("=====> live: 0/");
    output.read_to_end(&mut stream).unwrap();
    world.end(child, 20).ok().says("is live meanwhile");
    let file = world.place().join("backup.tar");
    std::fs::write(&file, stream).unwrap();
    restore(&mut world, &file).ok();
    assert_eq!(std::fs::read_to_string(other(&world).join("app/current/index.html")).unwrap(), "two\n");
    assert!(other(&world).join("app/shared/large").is_file());
}

#[test]
fn a_backup_names_what_it_leaves_out_and_is_for_no_terminal() {
    let world = app();
    let shared = world.app().join("shared");
    std::os::unix::fs::symlink("/etc", shared.join("out")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        shared.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let said = world.receiver(&["backup", "app"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("left out: shared/out leads out of shared/, to /etc"), "{}", said.stderr);
    assert!(said.stderr.contains("left out: shared/pipe is neither"), "{}", said.stderr);
    assert!(!said.stderr.contains("secret"), "{}", said.stderr);
    world.receiver(&["backup", "app", "--json"]).fails(2);
    let typed = format!("{PROGRAM} backup app");
    let said = world.run("script", world.place(), &["-qec", &typed, "/dev/null"]);
    assert!(said.code == 2 && said.stdout.contains("not for a terminal"), "{said:?}");
    assert!(world.names("receiver/dumps").is_empty(), "{:?}", world.names("receiver/dumps"));
}

#[test]
fn keys_that_name_an_app_go_with_its_backup_and_end_with_it() {
    let mut world = app();
    world.receiver(&["create", "other"]).ok();
    let add = |name: &str, apps: &[&str]| {
        let key = make_key(&world, name);
        let mut arguments = vec!["key", "add", name, "--role", "deploy"];
        arguments.extend(apps.iter().flat_map(|app| ["--app", app]));
        world.receiver_fed(&arguments, key.as_bytes()).ok();
    };
    add("alice", &["app"]);
    add("bob", &["app", "other"]);
    add("carol", &["other"]);
    let names = |world: &World| -> Vec<String> {
        let keys = world.receiver(&["key", "list", "--json"]).ok().json()["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| format!("{} {}", key["name"].as_str().unwrap(), key["apps"])).collect()
    };
    let file = taken(&world);
    // A copy beside the original: a login cannot have one key twice, and that is said.
    world.receiver(&["remove", "app", "--data", "--yes", "app"]).ok();
    assert_eq!(names(&world), ["bob [\"other\"]", "carol [\"other\"]"]);
    world.receiver(&["remove", "other", "--data", "--yes", "other"]).ok();
    assert_eq!(names(&world), Vec::<String>::new());
    restore(&mut world, &file).ok().says("the key alice opens app again, as deploy").never_says("carol");
    assert_eq!(names(&world), ["alice [\"app\"]", "bob [\"app\"]"]);
}

#[test]
fn a_backup_of_mercurials_has_bookmarks_phases_and_what_is_hidden() {
    let mut made = None;
    on_mercurial(|| made = Some(World::with_site()));
    let mut world = made.unwrap();
    let quiet = ["--config", "hooks.pretxnclose.receiver=", "--config", "hooks.txnclose.receiver="];
    let evolve = ["--config", "experimental.evolution=all"];
    let there = |world: &World, words: &[&str]| {
        world.run("hg", &world.repository(), &[&quiet[..], &evolve, words].concat()).ok().stdout
    };
    let hgrc = world.repository().join(".hg/hgrc");
    let text = std::fs::read_to_string(&hgrc).unwrap();
    std::fs::write(&hgrc, text.replace("publish = yes", "publish = no")).unwrap();
    world.file("index.html", "hidden later\n");
    let hidden = world.commit("hidden later");
    world.push().ok();
    there(&world, &["debugobsolete", &hidden]);
    world.vcs(&["update", "--quiet", ".^"]).ok();
    world.file("index.html", "a draft\n");
    let draft = world.commit("a draft");
    world.vcs(&["push", "--quiet", "--force", "--rev", &draft, "production"]);
    world.vcs(&["bookmark", "--rev", &draft, "an idea: 50%"]).fails(255);
    world.vcs(&["bookmark", "--rev", &draft, "idea of -mine"]).ok();
    world.vcs(&["push", "--quiet", "--bookmark", "idea of -mine", "production"]);
    world.until_idle();
    let all = ["--hidden", "log", "--template", "{node} {phase} {bookmarks} {obsolete}\n"];
    let heads = ["log", "--rev", "head()", "--template", "{node}\n"];
    let before = (there(&world, &all), there(&world, &heads));
    assert!(before.0.contains("draft idea of -mine") && before.0.contains("public"), "{}", before.0);
    assert_eq!((before.0.matches("obsolete").count(), before.1), (1, format!("{draft}\n")));
    let file = taken(&world);
    // Its part is one that Mercurial itself reads.
    let place = world.place().display().to_string();
    world.run("tar", world.place(), &["-xf", &file.display().to_string(), "repo.bundle"]).ok();
    world.run("hg", world.place(), &["clone", "--quiet", "--noupdate", "repo.bundle", "cloned"]).ok();
    let cloned = format!("{place}/cloned");
    let said =
        world.run("hg", world.place(), &["-R", &cloned, "log", "--rev", "tip", "--template", "{node}"]);
    assert_eq!(said.ok().stdout, draft);
    restore(&mut world, &file).ok().says("=====> live: 0/");
    let restored = other(&world).join("app/repo.hg");
    let said = world.run("hg", &restored, &[&evolve, &all[..]].concat()).ok();
    assert_eq!(said.stdout, before.0);
    assert_eq!(world.run("hg", &restored, &[&evolve, &heads[..]].concat()).ok().stdout, format!("{draft}\n"));
    world.receiver(&["verify", "app"]).ok();
    world.receiver(&["doctor", "app"]).ok();
}
