//! `receiver create`: a new app, wholly or not at all.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::plumbing::{assert_tame, snapshot};
use crate::world::World;

#[test]
fn what_is_pushed_cannot_leave_its_place_by_an_apps_name() {
    let world = World::new();
    let long = "a".repeat(200);
    let names = [
        "..",
        ".",
        "-x",
        "--root",
        "A",
        "",
        &long,
        "a/b",
        "/",
        "/etc",
        "../x",
        "a--b",
        "deploy",
        "help",
        "receiver",
        "setup",
        "logs",
        "a\nb",
        "a\n",
        "a b",
        "é",
        "a\u{1b}[2J",
        "$(touch x)",
        "1a",
        "-",
        "a.git",
    ];
    for name in names {
        let said = world.receiver(&["create", name]).fails(2);
        assert_eq!(said.stdout, "", "{name:?}");
        assert_tame(name, &said.stderr);
        assert!(said.stderr.starts_with("error: "), "{name:?}: {}", said.stderr);
        assert!(!world.root().exists(), "{name:?} made something");
        // Nor does any other command take it for an app.
        for command in ["list", "status", "verify", "doctor"] {
            world.receiver(&[command, "--", name]).fails(2);
        }
    }
    for name in ["a", "a1", "shop-videos", &"a".repeat(24)] {
        world.receiver(&["create", name]).ok();
    }
}

#[test]
fn create_prints_the_remote_and_what_to_type() {
    let world = World::new();
    let said = world.receiver(&["create", "app"]).ok();
    let root = world.root().display().to_string();
    assert_eq!(said.stdout, format!("{root}/app/repo.git\n"));
    assert_eq!(
        said.stderr,
        format!(
            "app is made in {root}/app; on the laptop, or here:\n  git remote add production {root}/app/repo.git\n  \
             git push production main\n"
        )
    );
    let said = world.receiver(&["create", "second", "--json", "--quiet"]).ok();
    assert_eq!(said.stderr, "");
    let object = said.json();
    assert_eq!((object["app"].as_str(), object["created"].as_bool()), (Some("second"), Some(true)));
    assert_eq!(object["remote"], format!("{root}/second/repo.git"));
}

#[test]
fn create_again_says_so_and_changes_nothing() {
    let world = World::with_site();
    world.server_config("# mine\nbranch = \"main\"\n");
    // What comes after a verdict is done.
    world.until_idle();
    let before = snapshot(&world.root());
    let said = world.receiver(&["create", "app", "--branch", "other"]).ok();
    said.says("app is there already").says("nothing was changed");
    assert_eq!(snapshot(&world.root()), before);
}

#[test]
fn create_refuses_what_it_did_not_make() {
    let world = World::new();
    let root = world.root();
    std::fs::create_dir_all(root.join("full")).unwrap();
    std::fs::write(root.join("full/precious"), "x").unwrap();
    std::fs::create_dir(root.join("empty")).unwrap();
    std::fs::create_dir(root.join("elsewhere")).unwrap();
    symlink("elsewhere", root.join("link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    std::fs::write(root.join("file"), "x").unwrap();
    let hidden = root.join("hidden");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::write(hidden.join(std::ffi::OsString::from(".x")), "").unwrap();
    let before = snapshot(&root);
    world.receiver(&["create", "full"]).fails(1).says("holds something that receiver did not make");
    world.receiver(&["create", "hidden"]).fails(1).says("holds something that receiver did not make");
    world.receiver(&["create", "link"]).fails(1).says("is no directory");
    world.receiver(&["create", "dangling"]).fails(1).says("is no directory");
    world.receiver(&["create", "file"]).fails(1).says("is no directory").says("choose another name");
    assert_eq!(snapshot(&root), before);
    world.receiver(&["create", "empty"]).ok();
    assert!(root.join("empty/repo.git").is_dir());
    let left: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
}

#[test]
fn a_link_to_an_app_is_not_a_second_app() {
    let world = World::with_site();
    symlink("app", world.root().join("alias")).unwrap();
    world.receiver(&["create", "alias"]).fails(1);
    world.receiver(&["list", "alias"]).fails(2);
    let said = world.receiver(&["status", "--json"]).ok();
    assert_eq!(said.json()["apps"].as_array().unwrap().len(), 1);
}

#[test]
fn hooks_are_the_same_constant_text_for_every_app() {
    let world = World::with_app();
    world.receiver(&["create", "other", "--branch", "x-$(y)"]).ok();
    for name in ["pre-receive", "post-receive"] {
        let shipped = std::fs::read(format!("{}/hooks/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(shipped, format!("#!/bin/sh\nexec hooks/receiver hook {name}\n").into_bytes());
        for app in ["app", "other"] {
            let hook = world.root().join(app).join("repo.git/hooks").join(name);
            assert_eq!(std::fs::read(&hook).unwrap(), shipped);
            assert_eq!(std::fs::metadata(&hook).unwrap().permissions().mode() & 0o777, 0o755);
        }
    }
    let link = std::fs::read_link(world.app().join("repo.git/hooks/receiver")).unwrap();
    assert_eq!(
        link.canonicalize().unwrap(),
        std::path::Path::new(crate::world::PROGRAM).canonicalize().unwrap()
    );
}

#[test]
fn the_apps_own_hooks_path_wins_over_a_global_one() {
    let mut world = World::new();
    let (config, hooks) = (world.place().join("gitconfig"), world.place().join("no-hooks"));
    std::fs::create_dir(&hooks).unwrap();
    std::fs::write(&config, format!("[core]\n\thooksPath = {}\n", hooks.display())).unwrap();
    world.env.insert("GIT_CONFIG_GLOBAL".into(), config.display().to_string());
    world.receiver(&["create", "app"]).ok();
    world.remote("app");
    world.file("index.html", "one\n");
    world.commit("one");
    world.push().ok().says("=====> live: 0/");
}

#[test]
fn a_template_directory_of_the_users_puts_no_hook_into_an_app() {
    let mut world = World::new();
    let (config, template) = (world.place().join("gitconfig"), world.place().join("template"));
    std::fs::create_dir_all(template.join("hooks")).unwrap();
    std::fs::write(template.join("hooks/update"), "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(template.join("hooks/update"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&config, format!("[init]\n\ttemplateDir = {}\n", template.display())).unwrap();
    world.env.insert("GIT_CONFIG_GLOBAL".into(), config.display().to_string());
    world.receiver(&["create", "app"]).ok();
    let mut names: Vec<_> = std::fs::read_dir(world.app().join("repo.git/hooks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["post-receive", "pre-receive", "receiver"]);
}

#[test]
fn push_options_are_advertised_and_the_refs_that_hold_releases_are_hidden() {
    let world = World::with_site();
    world
        .push_with(&["-o", "plan", "production", "main:other"])
        .fails(1)
        .says("nothing in this push is deployed");
    assert!(world.git_there(&["for-each-ref", "refs/receiver"]).ok().stdout.contains("refs/receiver/"));
    let seen = world.git(&["ls-remote", "production"]).ok();
    assert!(!seen.stdout.contains("refs/receiver"), "{}", seen.stdout);
    let before = world.git_there(&["for-each-ref"]).ok().stdout;
    world.push_with(&["production", "main:refs/receiver/mine"]).fails(1).says("deny updating a hidden ref");
    let held = world.live().unwrap().split_once('/').unwrap().1.to_owned();
    world.push_with(&["production", &format!(":refs/receiver/{held}")]).fails(1);
    assert_eq!(world.git_there(&["for-each-ref"]).ok().stdout, before);
}

#[test]
fn another_branch_can_be_the_deployed_one() {
    let world = World::new();
    world
        .receiver(&["create", "app", "--branch", "release/1.0"])
        .ok()
        .says("git push production release/1.0");
    world.remote("app");
    world.file("index.html", "one\n");
    world.commit("one");
    world.push().ok().says("=====> ignored: main (app deploys release/1.0)");
    world.push_with(&["production", "main:release/1.0"]).ok().says("=====> live: 0/");
    assert_eq!(world.receiver(&["config", "app", "branch"]).ok().stdout, "release/1.0\n");
    for bad in ["", "-x", "a..b", "a b", "x.lock", "a\u{1b}", "refs~1"] {
        world.receiver(&["create", "second", &format!("--branch={bad}")]).fails(2);
        assert!(!world.root().join("second").exists(), "{bad:?}");
    }
}

#[test]
fn a_branch_of_letters_that_are_not_shown_leaves_a_readable_file_of_settings() {
    let world = World::new();
    let name = "a\u{200d}b\u{301}";
    world.receiver(&["create", "app", "--branch", name]).ok();
    assert_eq!(world.status()["branch"], name);
}
