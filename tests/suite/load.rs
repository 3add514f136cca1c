//! The short form of `bench/serve`: deploys under load through nginx, some of which change the schema.

use crate::world::{PROGRAM, World};

#[test]
fn no_request_fails_in_deploys_under_load_through_nginx() {
    let mut world = World::new();
    world.env.insert("RECEIVER".into(), PROGRAM.into());
    let bench = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/serve");
    let said = world.run(bench, world.place(), &["8", "2"]).ok();
    let line = said.stdout.lines().find(|line| line.starts_with("receiver ")).expect(&said.stdout);
    let figures: Vec<&str> = line.split_whitespace().collect();
    let requests: u64 = figures[1].replace(',', "").parse().unwrap();
    assert!(requests > 500, "{line}");
    assert_eq!((figures[2], figures[3]), ("0", "0"), "not 2xx, broken: {}", said.stdout);
    // A restart in place fails some: the load reaches what is behind nginx.
    let other = said.stdout.lines().find(|line| line.starts_with("in place ")).expect(&said.stdout);
    assert_ne!(other.split_whitespace().nth(3), Some("0"), "{}", said.stdout);
}
