//! The end of an app.

use std::path::PathBuf;

use crate::backed::Backed;
use crate::browser::{Web, get};
use crate::servers::Engine;
use crate::world::{PROGRAM, World};

/// Where a removal can die.
pub const POINTS: [&str; 5] =
    ["site-taken-back", "removal-silent", "removal-dumped", "removal-emptied", "removal-moved"];

/// The names in the root.
fn root(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.root()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn kept(world: &World) -> PathBuf {
    let names = root(world);
    let name =
        names.iter().find(|name| name.starts_with(".removed-app-")).unwrap_or_else(|| panic!("{names:?}"));
    world.root().join(name)
}

/// Nothing that was started in this world is left.
#[track_caller]
fn nothing_runs(world: &World) {
    let place = world.place().display().to_string();
    let runs = || {
        let said = world.run("pgrep", world.place(), &["-af", &place]);
        said.stdout.lines().filter(|line| !line.contains("pgrep")).map(str::to_owned).collect::<Vec<_>>()
    };
    world.until(20, "everything to end", || runs().is_empty());
}

#[test]
fn an_app_that_is_removed_leaves_nothing_running_and_keeps_its_data() {
    let world = World::with_web_and_notes();
    world.receiver_fed(&["put", "app", "media/a"], b"x").ok();
    world.receiver_fed(&["env", "app", "set", "KEY"], b"a secret\n").ok();
    world.receiver(&["create", "app-2"]).ok();
    let before = root(&world);
    let list = world.receiver(&["remove", "app", "--dry-run"]).ok().stdout;
    assert!(list.contains("end web of app\n") && list.contains(".removed-app-"), "{list}");
    assert_eq!(root(&world), before);
    let said = world.receiver(&["remove", "app"]).ok().says("app is removed; what is kept of it is in");
    let place = kept(&world);
    assert!(said.stderr.contains(&place.display().to_string()));
    for file in ["repo.git/HEAD", "shared/media/a", "receiver/secrets/env.json", "receiver/journal.jsonl"] {
        assert!(place.join(file).is_file(), "{file}");
    }
    assert!(place.join("receiver/databases/0/app_v0.sqlite3").is_file());
    let releases: Vec<_> = std::fs::read_dir(place.join("versions/0"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir())
        .collect();
    assert!(releases.is_empty());
    nothing_runs(&world);
    world.receiver(&["status", "app"]).fails(2).says("there is no app 'app'").says("app-2");
    world.receiver(&["status", "app-2"]).ok();
    // The name is free again, and the same name can go again in the same second.
    world.receiver(&["create", "app"]).ok();
    world.receiver(&["remove", "app"]).ok();
    assert_eq!(root(&world).iter().filter(|name| name.starts_with(".removed-app-2")).count(), 2);
}

#[test]
fn data_goes_only_when_told_twice() {
    let world = World::with_sql();
    world.receiver(&["remove", "app", "--data"]).fails(2);
    world.receiver(&["remove", "app", "--data", "--yes", "other"]).fails(2).says("--yes says other");
    world.receiver(&["remove", "app", "--yes", "app"]).fails(2);
    world.receiver(&["remove"]).fails(2);
    world.live_is_complete();
    let said = world.receiver(&["remove", "app", "--data", "--yes", "app", "--json"]).ok();
    assert_eq!(said.json(), serde_json::json!({ "app": "app", "kept": null }));
    assert_eq!(root(&world), Vec::<String>::new());
}

#[test]
fn an_app_is_not_removed_while_it_is_deployed_unless_that_is_cancelled() {
    let world = World::with_site();
    let begun = world.place().join("begun");
    let stage = format!("touch {}; exec sleep 600", begun.display());
    world.file("receiver.toml", &format!("[stages]\nbuild = \"{stage}\"\n[database]\nengine = \"none\"\n"));
    world.commit("slow");
    let push = world.push_in_background();
    world.until(20, "the build", || begun.exists());
    world.receiver(&["remove", "app"]).fails(1).says("is under way").says("--cancel");
    world.live_is_complete();
    world.receiver(&["remove", "app", "--cancel"]).ok().says("app is removed");
    world.end(push, 20).says("it was cancelled");
    kept(&world);
    nothing_runs(&world);
}

#[test]
fn databases_on_a_server_are_dumped_and_dropped_with_their_roles() {
    for engine in [Engine::Mysql, Engine::Postgres] {
        let backed = Backed::live(engine, "copy");
        backed.add_table("more");
        backed.push().ok().says("=====> live: 1/");
        backed.receiver(&["remove", "app"]).ok().says("app_v0 is dropped").says("app_v1 is dropped");
        backed.only(&[]);
        let dumps: Vec<String> = std::fs::read_dir(kept(&backed).join("receiver/dumps"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(dumps.iter().filter(|name| name.contains("_v")).count(), 2, "{dumps:?}");
    }
}

#[test]
fn the_apps_of_branches_go_with_their_parent() {
    let world = World::with_site();
    std::fs::write(
        world.app().join("receiver.toml"),
        "[branches]\n\"feature/*\" = { preview = true }\ndevelop = { app = \"app--dev\" }\n",
    )
    .unwrap();
    for branch in ["develop", "feature/map"] {
        world.git(&["push", "--quiet", "production", &format!("main:refs/heads/{branch}")]).ok();
    }
    assert!(root(&world).contains(&"app--dev".to_owned()), "{:?}", root(&world));
    world.receiver(&["remove", "app", "--data", "--yes", "app"]).ok();
    assert_eq!(root(&world), Vec::<String>::new());
}

#[test]
fn a_removal_that_dies_anywhere_ends_when_it_is_run_again() {
    for point in POINTS {
        let mut backed = Backed::live(Engine::Mysql, "copy");
        backed.env.insert("RECEIVER_TEST_DIE_AT".into(), point.into());
        let all = ["remove", "app", "--data", "--yes", "app"];
        // What is kept passes points that what goes does not, and the other way round.
        let arguments = if point == "removal-moved" { &all[..] } else { &all[..2] };
        assert_eq!(backed.receiver(arguments).code, 128 + 9, "{point}");
        backed.env.remove("RECEIVER_TEST_DIE_AT");
        backed.receiver(arguments).ok().says("app is removed");
        backed.only(&[]);
        let left = root(&backed);
        assert!(left.iter().all(|name| name.starts_with(".removed-app-")), "{point}: {left:?}");
        if point != "removal-moved" {
            let dumps = kept(&backed).join("receiver/dumps/app_v0-removed.sql");
            assert!(std::fs::metadata(dumps).unwrap().len() > 500, "{point}");
        }
    }
}

#[test]
fn the_site_of_an_app_is_taken_out_and_that_of_its_copy_in_another_root_is_not() {
    let world = World::with_site();
    let mut web = Web::prepare(&world);
    let neighbour = web.neighbour();
    web.open(&world);
    assert_eq!(get(web.port, "/").is(200).text(), "one\n");
    // The same app once more, in another root: what it does and its end are nothing to the site.
    let backup = world.place().join("backup.tar").display().to_string();
    let taken = format!("{PROGRAM} backup app > {backup}");
    world.run("sh", world.place(), &["-c", &taken]).ok();
    let other = world.place().join("other").display().to_string();
    let before = std::fs::read(web.site()).unwrap();
    world.receiver(&["--root", &other, "create", "app", "--restore", &backup]).ok().says("=====> live: 0/");
    let list = world.receiver(&["--root", &other, "remove", "app", "--dry-run"]).ok().stdout;
    assert!(!list.contains("nginx"), "{list}");
    // The worker that restored it may still clear up after its verdict.
    world.until(60, "the copy's worker to end", || {
        match world.receiver(&["--root", &other, "remove", "app"]) {
            said if said.stderr.contains("app is busy") => false,
            said => said.ok().code == 0,
        }
    });
    assert_eq!(std::fs::read(web.site()).unwrap(), before);
    assert_eq!(get(web.port, "/").is(200).text(), "one\n");
    let list = world.receiver(&["remove", "app", "--dry-run"]).ok().stdout;
    assert!(list.contains(&format!("take {} out of nginx", web.site().display())), "{list}");
    world.receiver(&["remove", "app"]).ok().says("its site is taken out");
    assert!(!web.site().exists());
    assert_eq!(get(neighbour, "/").is(200).text(), "neighbour");
}
