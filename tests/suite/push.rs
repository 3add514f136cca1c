//! A push becomes a release.

use crate::world::World;

#[test]
pub fn a_push_becomes_a_live_release() {
    let world = World::with_app();
    world.file("index.html", "one\n");
    let hash = world.commit("the first page");
    let said = world.push().ok();
    assert_eq!(
        said.plain(&world),
        "-----> app: main new..HASH \"the first page\"\n       \
         schema     nothing is live yet → version 0\n       \
         export     1 file, 1 changed N s\n\
         =====> live: 0/RELEASE\n"
    );
    assert_eq!(world.live_file("index.html"), "one\n");
    let list = world.list();
    assert_eq!(list["current"], list["releases"][0]["id"]);
    assert_eq!(list["releases"][0]["revision"], hash);
    assert_eq!(list["releases"][0]["state"], "live");
    assert_eq!(list["releases"][0]["subject"], "the first page");
}

#[test]
pub fn a_second_push_joins_the_version_and_the_first_release_stays() {
    let world = World::with_site();
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok().says("unchanged, version 0").says("1 file, 1 changed");
    assert_eq!(world.live_file("index.html"), "two\n");
    assert_eq!(world.states(), ["live", "good"]);
}

#[test]
pub fn a_rollback_goes_back_and_the_release_that_it_left_is_withdrawn() {
    let world = World::with_site();
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok();
    world.receiver(&["rollback"]).ok().says("=====> live: 0/");
    assert_eq!(world.live_file("index.html"), "one\n");
    assert_eq!(world.states(), ["withdrawn", "live"]);
    world.receiver(&["rollback"]).fails(1).says("nothing was live before");
}
