//! `receiver demo` tells the whole story.

use crate::world::{World, plain};

#[test]
fn the_demo_tells_the_whole_story_and_leaves_nothing() {
    let mut world = World::new();
    let place = world.place().join("tmp");
    std::fs::create_dir(&place).unwrap();
    world.env.insert("TMPDIR".into(), place.display().to_string());
    let said = world.receiver(&["demo"]).ok();
    let said = said.says("1\tbread\t0").says("NOT LIVE: still 1/").says("=====> live: 0/");
    // What was written in version 1 came along.
    drop(said.says("<h1>My notes</h1>").says("note: 1 row written").says("\n3\teggs\n"));
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
}

#[test]
fn the_demo_keeps_its_directory_when_asked() {
    let mut world = World::new();
    let place = world.place().join("tmp");
    std::fs::create_dir(&place).unwrap();
    world.env.insert("TMPDIR".into(), place.display().to_string());
    world.receiver(&["demo", "--keep"]).ok().says("To go on playing:");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
}

#[test]
fn the_session_of_the_readme_is_what_the_demo_prints() {
    let world = World::new();
    let said = world.receiver(&["demo"]).ok();
    let printed = format!("{}\n{}", plain(&said.stdout, &world), said.plain(&world));
    let printed: Vec<&str> = printed.lines().collect();
    let readme = include_str!("../../README.md");
    // Its first block: what is typed there is the reader's own, and what is printed is the demo's.
    let session = readme.split("```").nth(1).unwrap().trim().lines().filter(|line| !line.starts_with("$ "));
    let session: Vec<&str> = session.map(|line| line.strip_prefix("remote: ").unwrap_or(line)).collect();
    assert!(session.len() > 12, "the README shows a session");
    for line in session {
        let line = plain(line, &world);
        assert!(
            printed.contains(&line.trim_end()),
            "the demo does not print {line:?}:\n{}",
            printed.join("\n")
        );
    }
}
