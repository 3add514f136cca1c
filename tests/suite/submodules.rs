//! Submodules: only those that the server grants, at their commit, and no way out through them.

use std::os::unix::fs::symlink;

use crate::plumbing::verdicts;
use crate::world::World;

/// A repository beside the laptop, with one file; answers its path and its commit.
fn library(world: &World, name: &str, inner: Option<&str>) -> (String, String) {
    let place = world.place().join(name);
    std::fs::create_dir(&place).unwrap();
    let git = |arguments: &[&str]| world.run("git", &place, arguments).ok().stdout.trim().to_owned();
    git(&["init", "--quiet", "--initial-branch=main"]);
    std::fs::write(place.join(format!("{name}.txt")), format!("{name}, one\n")).unwrap();
    std::fs::create_dir_all(place.join("a/b")).unwrap();
    std::fs::write(place.join("a/b/c"), name).unwrap();
    if let Some(inner) = inner {
        git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner, "inner"]);
    }
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "-m", "one"]);
    let head = git(&["rev-parse", "HEAD"]);
    std::fs::write(place.join(format!("{name}.txt")), "later\n").unwrap();
    git(&["commit", "--quiet", "-am", "two"]);
    (place.display().to_string(), head)
}

fn add_submodule(world: &World, url: &str, path: &str, commit: &str) {
    world.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, path]).ok();
    world.run("git", &world.laptop().join(path), &["checkout", "--quiet", commit]).ok();
}

#[test]
fn granted_submodules_are_exported_at_their_commit_and_others_are_refused_by_name() {
    let world = World::with_site();
    let (inner, _) = library(&world, "inner-library", None);
    let (outer, commit) = library(&world, "outer-library", Some(&inner));
    add_submodule(&world, &outer, "vendor/outer", &commit);
    world.commit("a submodule");
    let said = world.push().fails(1);
    assert_eq!(
        verdicts(&said),
        [format!(
            "=====> refused: main: the revision cannot be deployed: vendor/outer is a submodule of {outer}, which the \
             server does not grant"
        )]
    );
    // Only the outer one is granted: what lies in it is known when it is there.
    world.server_config(&format!("[export]\nsubmodules = [\"{outer}\"]\n"));
    world.push().ok().says("NOT LIVE: still 0/").says("vendor/outer/inner is a submodule of");
    assert_eq!(world.live_file("index.html"), "one\n");
    world.server_config(&format!("[export]\nsubmodules = [\"{outer}\", \"{inner}\"]\n"));
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 0/");
    assert_eq!(
        world.live_file("vendor/outer/outer-library.txt"),
        "outer-library, one\n",
        "the commit, not the tip"
    );
    assert_eq!(world.live_file("vendor/outer/inner/inner-library.txt"), "later\n");
    assert_eq!(world.live_file("vendor/outer/inner/a/b/c"), "inner-library");
    assert!(!world.live_directory().join("vendor/outer/.git").exists());
    world.receiver(&["verify", "app"]).ok().says("0 more made by stages");
    std::fs::write(world.live_directory().join("vendor/outer/inner/inner-library.txt"), "x").unwrap();
    world
        .receiver(&["verify", "app"])
        .fails(1)
        .says("vendor/outer/inner/inner-library.txt: has another content");
}

#[test]
fn a_submodule_whose_commit_is_nowhere_fails_cleanly_and_is_named() {
    let world = World::with_site();
    let (url, commit) = library(&world, "library", None);
    world.server_config(&format!("[export]\nsubmodules = [\"{url}\"]\n"));
    add_submodule(&world, &url, "lib", &commit);
    let place = world.laptop().join("lib");
    std::fs::write(place.join("mine"), "never pushed").unwrap();
    world.run("git", &place, &["add", "--all"]).ok();
    world.run("git", &place, &["commit", "--quiet", "-m", "mine"]).ok();
    let mine = world.run("git", &place, &["rev-parse", "HEAD"]).ok().stdout.trim().to_owned();
    world.commit("a submodule that is nowhere");
    world
        .push()
        .ok()
        .says("NOT LIVE: still 0/")
        .says(&format!("the submodule lib needs the commit {mine}, which {url} does not have"))
        .says("push the submodule's commit to its repository first");
    assert_eq!(world.live_file("index.html"), "one\n");
    // A submodule that nobody names.
    world.git(&["rm", "--quiet", "--cached", ".gitmodules"]).ok();
    world.git(&["commit", "--quiet", "-m", "no .gitmodules"]).ok();
    world.push().fails(1).says("lib is a submodule that neither .gitmodules nor .hgsub names");
}

#[test]
fn submodules_whose_paths_end_alike_are_told_apart() {
    let world = World::with_site();
    let (a, first) = library(&world, "first", None);
    let (b, second) = library(&world, "second", None);
    world.server_config(&format!("[export]\nsubmodules = [\"{a}\", \"{b}\"]\n"));
    add_submodule(&world, &a, "lib", &first);
    add_submodule(&world, &b, "vendor/lib", &second);
    world.commit("two submodules");
    world.push().ok().says("=====> live: 0/");
    assert_eq!(world.live_file("lib/first.txt"), "first, one\n");
    assert_eq!(world.live_file("vendor/lib/second.txt"), "second, one\n");
}

#[test]
fn what_is_pushed_cannot_leave_its_place_by_a_link_through_a_submodule() {
    let world = World::with_site();
    let place = world.place().join("library");
    std::fs::create_dir_all(place.join("deep/er")).unwrap();
    symlink("../../..", place.join("deep/er/up")).unwrap();
    let git = |arguments: &[&str]| world.run("git", &place, arguments).ok().stdout.trim().to_owned();
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "-m", "a link to the top"]);
    let url = place.display().to_string();
    world.server_config(&format!("[export]\nsubmodules = [\"{url}\"]\n"));
    add_submodule(&world, &url, "lib", &git(&["rev-parse", "HEAD"]));
    // By its text it stays inside; the submodule's link is the top of the release, and above that is out.
    symlink("lib/deep/er/up/../../../canary", world.laptop().join("out")).unwrap();
    world.commit("a link through a submodule");
    world
        .push()
        .ok()
        .says("NOT LIVE: still 0/")
        .says("out → lib/deep/er/up/../../../canary leads out of the release");
    assert_eq!(world.states(), ["live"]);
}
