//! Random histories, random damage, random deaths: after each deploy the release is the revision, and times obey their
//! rule.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::world::World;

/// Paths that are in each other's way.
const PATHS: [&str; 9] = ["a", "a/b", "a/b/c", "d", "d/e", "d/f g", "z", "z/.hidden", "é/ü"];

/// What happens to a file of the repository.
#[derive(Clone, Debug)]
enum Change {
    Write(usize, u8),
    Program(usize),
    Link(usize, usize),
    Remove(usize),
    Copy(usize, usize),
}

/// What happens to a tree that may be taken over.
#[derive(Clone, Debug)]
enum Damage {
    Edit(usize),
    Mode(usize),
    Remove(usize),
    Directory(usize),
    Extra(usize),
    Touch(usize),
    Link(usize),
}

#[derive(Clone, Debug)]
struct Step {
    changes: Vec<Change>,
    damages: Vec<Damage>,
    death: Option<usize>,
}

const DEATHS: [&str; 6] = ["begun", "spare-taken", "directory-made", "exported", "sealed", "switched"];

fn change() -> impl Strategy<Value = Change> {
    let at = || 0..PATHS.len();
    prop_oneof![
        // Few contents of one size: the same comes back, and comes elsewhere.
        4 => (at(), 0..3_u8).prop_map(|(at, content)| Change::Write(at, content)),
        1 => at().prop_map(Change::Program),
        1 => (at(), at()).prop_map(|(at, to)| Change::Link(at, to)),
        2 => at().prop_map(Change::Remove),
        1 => (at(), at()).prop_map(|(from, to)| Change::Copy(from, to)),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || 0..64_usize;
    prop_oneof![
        2 => at().prop_map(Damage::Edit),
        1 => at().prop_map(Damage::Mode),
        1 => at().prop_map(Damage::Remove),
        1 => at().prop_map(Damage::Directory),
        1 => at().prop_map(Damage::Extra),
        1 => at().prop_map(Damage::Touch),
        1 => at().prop_map(Damage::Link),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let parts = (
        proptest::collection::vec(change(), 0..5),
        proptest::collection::vec(damage(), 0..3),
        proptest::option::weighted(0.2, 0..DEATHS.len()),
    );
    parts.prop_map(|(changes, damages, death)| Step { changes, damages, death })
}

fn clear(path: &Path, top: &Path) {
    // A file in a directory's place goes, too.
    for above in path.ancestors().take_while(|above| *above != top) {
        if std::fs::symlink_metadata(above).is_ok_and(|about| !about.is_dir()) {
            std::fs::remove_file(above).unwrap();
        }
    }
    let _ = std::fs::remove_dir_all(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
}

fn apply(change: &Change, laptop: &Path) {
    let place = |at: &usize| laptop.join(PATHS[*at]);
    match change {
        Change::Write(at, content) => {
            clear(&place(at), laptop);
            std::fs::write(place(at), format!("content {content}\n")).unwrap();
        }
        Change::Program(at) => {
            if std::fs::symlink_metadata(place(at)).is_ok_and(|about| about.is_file()) {
                let mode = std::fs::metadata(place(at)).unwrap().mode() ^ 0o111;
                std::fs::set_permissions(place(at), std::fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        // Only ways that stay inside, and in no circle.
        Change::Link(at, to) => {
            clear(&place(at), laptop);
            symlink(format!("nowhere-{to}"), place(at)).unwrap();
        }
        Change::Remove(at) => clear(&place(at), laptop),
        Change::Copy(from, to) => {
            let text = std::fs::symlink_metadata(place(from)).is_ok_and(|about| about.is_file());
            let text = text.then(|| std::fs::read(place(from)).unwrap());
            if let Some(text) = text {
                clear(&place(to), laptop);
                std::fs::write(place(to), text).unwrap();
            }
        }
    }
}

/// All below a tree but the top, in order.
fn all_below(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(place) = waiting.pop() {
        for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn harm(damage: &Damage, tree: &Path) {
    let all = all_below(tree);
    let pick = |at: &usize| all.get(at % all.len().max(1)).cloned();
    let kind = |path: &Path| std::fs::symlink_metadata(path).unwrap().file_type();
    let remove = |path: &Path| {
        if kind(path).is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
    };
    match damage {
        Damage::Edit(at) => {
            let Some(path) = pick(at).filter(|path| kind(path).is_file()) else { return };
            let before = std::fs::metadata(&path).unwrap();
            let mut text = std::fs::read(&path).unwrap();
            text.iter_mut().take(1).for_each(|first| *first ^= 1);
            std::fs::write(&path, text).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(before.modified().unwrap()).unwrap();
        }
        Damage::Mode(at) => {
            let Some(path) = pick(at).filter(|path| !kind(path).is_symlink()) else { return };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        Damage::Remove(at) => drop(pick(at).map(|path| remove(&path).unwrap())),
        Damage::Directory(at) => {
            let Some(path) = pick(at) else { return };
            remove(&path).unwrap();
            std::fs::create_dir_all(path.join("in the way")).unwrap();
        }
        Damage::Extra(at) => {
            let Some(path) = pick(at).filter(|path| kind(path).is_dir()) else { return };
            std::fs::write(path.join("extra"), "x").unwrap();
        }
        Damage::Touch(at) => {
            let Some(path) = pick(at).filter(|path| kind(path).is_file()) else { return };
            std::fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(std::time::UNIX_EPOCH)
                .unwrap();
        }
        Damage::Link(at) => {
            let Some(path) = pick(at) else { return };
            remove(&path).unwrap();
            symlink("/etc", path).unwrap();
        }
    }
}

/// How the next release can be made.
#[derive(Clone, Copy, Debug)]
enum Way {
    Spare,
    Names,
    Afresh,
}

/// What was seen of the times of files.
#[derive(Default)]
struct Times {
    /// The content that a path had at each second.
    seen: BTreeMap<(String, i64), String>,
    /// The content and the time that each path has now.
    now: BTreeMap<String, (String, i128)>,
}

impl Times {
    fn look(&mut self, world: &World, release: &Path) {
        let listed = world.git(&["ls-tree", "-rz", "--full-tree", "HEAD"]).ok().stdout;
        let mut now = BTreeMap::new();
        for line in listed.split_terminator('\0').filter(|line| line.starts_with("100")) {
            let (about, path) = line.split_once('\t').unwrap();
            let content = about.split(' ').nth(2).unwrap().to_owned();
            let about = std::fs::symlink_metadata(release.join(path)).unwrap();
            let time = i128::from(about.mtime()) * 1_000_000_000 + i128::from(about.mtime_nsec());
            if let Some((before, then)) = self.now.get(path)
                && *before == content
            {
                assert_eq!(*then, time, "{path} did not change, and has another time");
            }
            let seen = self.seen.entry((path.to_owned(), about.mtime())).or_insert_with(|| content.clone());
            assert_eq!(*seen, content, "{path} had this second with other content");
            now.insert(path.to_owned(), (content, time));
        }
        self.now = now;
    }
}

fn run(steps: &[Step], way: Way) {
    let mut world = World::with_app();
    world.receiver(&["config", "app", "keep.releases", "1"]).ok();
    if matches!(way, Way::Names) {
        world.receiver(&["config", "app", "export.link", "hard"]).ok();
    }
    world.file("receiver.toml", "[database]\nengine = \"none\"\n").file("index.html", "0\n");
    let mut times = Times::default();
    let ticket = world.place().join("ticket");
    for (number, step) in steps.iter().enumerate() {
        step.changes.iter().for_each(|change| apply(change, &world.laptop()));
        world.file("number", &format!("{number}\n"));
        world.commit("next");
        let trees = match way {
            Way::Spare => world.app().join("receiver/spare"),
            Way::Names | Way::Afresh => world.app().join("versions/0"),
        };
        for tree in std::fs::read_dir(trees).into_iter().flatten().flatten() {
            if tree.file_type().unwrap().is_dir() {
                step.damages.iter().for_each(|damage| harm(damage, &tree.path()));
            }
        }
        if let Some(death) = step.death {
            std::fs::write(&ticket, "").unwrap();
            world.env.insert("RECEIVER_TEST_DIE_AT".into(), DEATHS[death].into());
            world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
        }
        world.push().ok().says("=====> live: ");
        world.env.clear();
        let _ = std::fs::remove_file(&ticket);
        world.until_idle();
        let verify = world.receiver(&["verify", "app", "--json"]).ok().json();
        assert_eq!(verify["verify"]["extra"], 0, "{}", world.picture());
        let release = world.app().join("versions").join(world.live().unwrap());
        for path in all_below(&release) {
            let mode = std::fs::symlink_metadata(&path).unwrap().mode();
            assert!(
                [0o100_644, 0o100_755, 0o40755, 0o120_777].contains(&mode),
                "{} {mode:o}",
                path.display()
            );
        }
        times.look(&world, &release);
        if matches!(way, Way::Afresh) {
            world.receiver(&["prune", "app"]).ok();
        }
    }
    world.nothing_is_left_over();
}

fn any_history(way: Way) {
    let cases = if std::env::var_os("RECEIVER_LONG").is_some() { 200 } else { 5 };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let steps = proptest::collection::vec(step(), 3..9);
    if let Err(error) = TestRunner::new(config).run(&steps, |steps| {
        run(&steps, way);
        Ok(())
    }) {
        panic!("{error}");
    }
}

#[test]
fn after_any_history_and_any_damage_a_release_made_of_a_spare_is_the_revision() {
    any_history(Way::Spare);
}

#[test]
fn after_any_history_and_any_damage_a_release_that_shares_names_is_the_revision() {
    any_history(Way::Names);
}

#[test]
fn after_any_history_a_release_made_afresh_is_the_revision() {
    any_history(Way::Afresh);
}
