//! The disk is full, before a deploy or in the middle of one.

use crate::world::World;

/// A small filesystem in memory as a world's root; unmounted before the world's directory goes.
struct Small {
    world: World,
}

impl Drop for Small {
    fn drop(&mut self) {
        let root = self.world.root();
        let _ = std::process::Command::new("umount").arg("--lazy").arg(root).status();
    }
}

impl Small {
    fn new(options: &str) -> Small {
        let world = World::new();
        std::fs::create_dir(world.root()).unwrap();
        let root = world.root().display().to_string();
        let options = format!("mode=0755,{options}");
        let said = world.run("mount", world.place(), &["-t", "tmpfs", "-o", &options, "tmpfs", &root]);
        assert_eq!(said.code, 0, "this test mounts a small tmpfs, so it needs root: {}", said.stderr);
        world.receiver(&["create", "app"]).ok();
        world.remote("app");
        world.file("receiver.toml", "[database]\nengine = \"none\"\n").file("index.html", "one\n");
        world.commit("one");
        world.push().ok().says("=====> live: ");
        Small { world }
    }
}

#[track_caller]
fn nothing_changed(world: &World) {
    world.until_idle();
    assert_eq!(world.live_file("index.html"), "one\n");
    assert_eq!(world.states().iter().filter(|state| *state == "live").count(), 1);
    world.nothing_is_left_over();
}

#[track_caller]
fn the_next_push_works(world: &World) {
    world.file("receiver.toml", "[database]\nengine = \"none\"\n").file("index.html", "three\n");
    world.commit("three");
    world.push().ok().says("=====> live: ");
    assert_eq!(world.live_file("index.html"), "three\n");
}

#[test]
fn too_little_space_is_said_before_anything_is_done() {
    let small = Small::new("size=40m");
    let world = &small.world;
    let ballast = world.root().join("ballast");
    std::fs::write(&ballast, vec![1; 33 << 20]).unwrap();
    world.file(
        "receiver.toml",
        "[stages]\nbuild = \"touch $RECEIVER_SHARED_DIR/built\"\n[database]\nengine = \"none\"\n",
    );
    world.file("index.html", "two\n");
    world.commit("two");
    let said = world.push().ok().says("=====> NOT LIVE: still 0/").says("the disk has too little space: ");
    drop(said.says("`receiver config app keep.releases 2`, then `receiver prune`"));
    nothing_changed(world);
    assert!(!world.app().join("shared/built").exists());
    std::fs::remove_file(ballast).unwrap();
    the_next_push_works(world);
}

#[test]
fn too_few_inodes_are_said_before_anything_is_done() {
    let small = Small::new("size=200m,nr_inodes=400");
    let world = &small.world;
    for at in 0..300 {
        world.file(&format!("files/{at}"), "x\n");
    }
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok().says("=====> NOT LIVE: still 0/").says("the disk has too little inodes: ");
    nothing_changed(world);
    for at in 0..300 {
        world.remove(&format!("files/{at}"));
    }
    the_next_push_works(world);
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_deploy_changes_nothing_that_is_live() {
    for place in [".", "$RECEIVER_SHARED_DIR"] {
        let small = Small::new("size=40m");
        let world = &small.world;
        let build = format!("cat /dev/zero > {place}/filler; sync; false");
        let toml = format!("[stages]\nbuild = \"{build}\"\n[database]\nengine = \"none\"\n");
        world.file("receiver.toml", &toml).file("index.html", "two\n");
        world.commit("two");
        // Whether there is room for the verdict or not, the pusher hears that it is not live.
        let said = world.push();
        assert!(!said.talk().contains("=====> live: "), "{}", said.talk());
        assert!(
            said.talk().contains("stage `build` failed") || said.talk().contains("error: "),
            "{}",
            said.talk()
        );
        assert_eq!(world.live_file("index.html"), "one\n");
        let _ = std::fs::remove_file(world.app().join("shared/filler"));
        the_next_push_works(world);
        world.until_idle();
        world.nothing_is_left_over();
    }
}
