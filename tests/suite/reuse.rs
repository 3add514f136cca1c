//! Trees that are taken over: exactly the revision after it, whatever was done to them.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::world::World;

/// The points that only a deploy with a spare passes.
pub const POINTS: [&str; 1] = ["spare-taken"];

/// An app with some files, which keeps as few releases as can be: from the third deploy on a spare lies ready.
fn frugal(toml: &str) -> World {
    let world = World::with_app();
    world.receiver(&["config", "app", "keep.releases", "1"]).ok();
    world.file("receiver.toml", toml);
    for name in ["a.txt", "b.txt", "deep/er/c.txt", "deep/d.txt", "other/e.txt", "other/f.txt"] {
        world.file(name, &format!("{name}\n"));
    }
    world.file("index.html", "0\n");
    symlink("a.txt", world.laptop().join("link")).unwrap();
    world.commit("0");
    world.push().ok();
    for number in 1..3 {
        world.publish(&number.to_string());
    }
    world
}

impl World {
    /// Answers what the push said.
    fn publish(&self, text: &str) -> String {
        self.file("index.html", &format!("{text}\n"));
        self.commit(text);
        let said = self.push().ok().says("=====> live: ").talk();
        self.until_idle();
        said
    }

    fn spare(&self) -> Option<PathBuf> {
        let names = self.names("receiver/spare");
        assert!(names.len() < 2, "{names:?}");
        names.first().map(|name| self.app().join("receiver/spare").join(name))
    }

    fn release(&self) -> PathBuf {
        self.app().join("versions").join(self.live().unwrap())
    }

    #[track_caller]
    fn is_exactly_the_revision(&self) {
        let verify = self.receiver(&["verify", "app", "--json"]).ok().json();
        assert_eq!(verify["verify"]["extra"], 0, "{}", self.picture());
        // Git's own eyes: every path, kind and mode.
        let listed = self.git(&["ls-tree", "-r", "--full-tree", "HEAD"]).ok().stdout;
        let mut wanted: Vec<String> = listed
            .lines()
            .map(|line| {
                let (about, path) = line.split_once('\t').unwrap();
                format!("{} {path}", about.split(' ').next().unwrap())
            })
            .collect();
        let mut found = Vec::new();
        walk(&self.release(), Path::new(""), &mut found);
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted);
    }
}

fn walk(top: &Path, inside: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(top.join(inside)).unwrap() {
        let name = inside.join(entry.unwrap().file_name());
        let about = std::fs::symlink_metadata(top.join(&name)).unwrap();
        if about.is_dir() {
            assert_eq!(about.mode() & 0o7777, 0o755, "{}", name.display());
            walk(top, &name, found);
        } else {
            let mode = match about.mode() & 0o170_777 {
                0o120_777 => "120000",
                0o100_755 => "100755",
                0o100_644 => "100644",
                other => panic!("{} has mode {other:o}", name.display()),
            };
            found.push(format!("{mode} {}", name.display()));
        }
    }
}

const PLAIN: &str = "[database]\nengine = \"none\"\n";

/// Sets the modification time back, as whoever hides a change would.
fn hide(path: &Path, before: &std::fs::Metadata) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
}

#[test]
fn a_spare_is_taken_over_and_its_files_stay_the_same_ones() {
    let world = frugal(PLAIN);
    let spare = world.spare().expect("prune leaves a spare");
    let inode = std::fs::metadata(spare.join("deep/er/c.txt")).unwrap().ino();
    // Open, so that its number is not given to another file.
    let page = std::fs::File::open(spare.join("index.html")).unwrap();
    world.publish("3");
    assert_eq!(std::fs::metadata(world.release().join("deep/er/c.txt")).unwrap().ino(), inode);
    let new = std::fs::metadata(world.release().join("index.html")).unwrap().ino();
    assert_ne!(new, page.metadata().unwrap().ino());
    // Whoever has the old one open sees what it was.
    assert_eq!(std::io::read_to_string(page).unwrap(), "0\n");
    world.is_exactly_the_revision();
    // The releases that are kept share nothing with it.
    assert_eq!(std::fs::metadata(world.release().join("a.txt")).unwrap().nlink(), 1);
    // Another one lies ready, which `prune` removes.
    assert!(world.spare().is_some());
    world.receiver(&["prune", "app"]).ok().says("the spare");
    assert!(world.spare().is_none());
    world.publish("4");
    world.is_exactly_the_revision();
}

/// What is done to a tree, by its path.
type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 16] = [
    ("changed in place, its time set back", |tree| {
        let path = tree.join("a.txt");
        let before = std::fs::metadata(&path).unwrap();
        std::fs::write(&path, "A.txt\n").unwrap();
        hide(&path, &before);
    }),
    ("replaced by another of the same size and time", |tree| {
        let path = tree.join("b.txt");
        let before = std::fs::metadata(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "B.txt\n").unwrap();
        hide(&path, &before);
    }),
    ("another file renamed over it", |tree| {
        std::fs::rename(tree.join("other/e.txt"), tree.join("other/f.txt")).unwrap();
    }),
    ("chmod", |tree| {
        std::fs::set_permissions(tree.join("deep/d.txt"), std::fs::Permissions::from_mode(0o777)).unwrap();
    }),
    ("a file more", |tree| std::fs::write(tree.join("deep/more"), "x").unwrap()),
    ("directories more", |tree| {
        std::fs::create_dir_all(tree.join("deep/er/new/newer")).unwrap();
        std::fs::write(tree.join("deep/er/new/newer/x"), "x").unwrap();
    }),
    ("a file removed", |tree| std::fs::remove_file(tree.join("deep/er/c.txt")).unwrap()),
    ("a directory removed", |tree| std::fs::remove_dir_all(tree.join("deep")).unwrap()),
    ("a directory in a file's place", |tree| {
        std::fs::remove_file(tree.join("a.txt")).unwrap();
        std::fs::create_dir_all(tree.join("a.txt/x")).unwrap();
    }),
    ("a file in a directory's place", |tree| {
        std::fs::remove_dir_all(tree.join("other")).unwrap();
        std::fs::write(tree.join("other"), "x").unwrap();
    }),
    ("a link in a directory's place", |tree| {
        std::fs::rename(tree.join("other"), tree.join("deep/moved")).unwrap();
        symlink("deep/moved", tree.join("other")).unwrap();
    }),
    ("a link out in a directory's place", |tree| {
        std::fs::remove_dir_all(tree.join("deep/er")).unwrap();
        symlink("/etc", tree.join("deep/er")).unwrap();
    }),
    ("a link that points elsewhere", |tree| {
        std::fs::remove_file(tree.join("link")).unwrap();
        symlink("b.txt", tree.join("link")).unwrap();
    }),
    ("a directory that may not be written", |tree| {
        std::fs::set_permissions(tree.join("deep"), std::fs::Permissions::from_mode(0o555)).unwrap();
    }),
    ("a second name somewhere else", |tree| {
        let other = tree.ancestors().nth(4).unwrap().join("second");
        let _ = std::fs::remove_file(&other);
        std::fs::hard_link(tree.join("a.txt"), &other).unwrap();
        let before = std::fs::metadata(&other).unwrap();
        std::fs::write(&other, "A.txt\n").unwrap();
        hide(&other, &before);
    }),
    ("nothing but the mode of the top", |tree| {
        std::fs::set_permissions(tree, std::fs::Permissions::from_mode(0o700)).unwrap();
    }),
];

#[test]
fn a_spare_that_was_damaged_in_any_way_becomes_exactly_the_revision() {
    damaged_in_any_way(&frugal(PLAIN));
}

/// Where there are many directories, two threads look at them.
#[test]
fn a_spare_of_many_directories_that_was_damaged_becomes_exactly_the_revision() {
    let world = frugal(PLAIN);
    for number in 0..600 {
        // Some come before what is damaged, some between, some behind.
        world.file(&format!("{}{number}/x", ["ahead", "many", "zeal"][number % 3]), "x\n");
    }
    for number in 0..3 {
        world.publish(&format!("many {number}"));
    }
    damaged_in_any_way(&world);
}

fn damaged_in_any_way(world: &World) {
    for (number, (name, damage)) in DAMAGES.iter().enumerate() {
        eprintln!("{name}");
        damage(&world.spare().expect(name));
        let said = world.publish(&format!("damage {number}"));
        // Only where the spare itself is not what it was.
        assert_eq!(said.contains("begins afresh"), name.ends_with("of the top"), "{name}: {said}");
        world.is_exactly_the_revision();
    }
    world.nothing_is_left_over();
}

#[test]
fn what_stages_did_to_a_release_does_not_come_along_into_the_next() {
    let build = "touch -r a.txt stamp; echo A.txt > a.txt; touch -r stamp a.txt; rm b.txt; mkdir -p deep/made; \
                 echo x > deep/made/x; mv other other.moved; ln -s /etc other; chmod 600 index.html";
    let world = frugal(&format!("[stages]\nbuild = \"{build}\"\n{PLAIN}"));
    // The stage is gone with the next commit; the trees that it changed lie ready as spares.
    world.file("receiver.toml", PLAIN);
    for number in 3..7 {
        world.publish(&number.to_string());
        world.is_exactly_the_revision();
    }
}

#[test]
fn a_spare_takes_every_kind_of_change_of_a_revision() {
    let world = frugal(PLAIN);
    let laptop = world.laptop();
    // The spare is two deploys old: each change is seen from either side.
    world.remove("a.txt").file("a.txt/now/a/directory", "x\n");
    world.publish("a file became a directory");
    world.is_exactly_the_revision();
    std::fs::remove_dir_all(laptop.join("a.txt")).unwrap();
    symlink("b.txt", laptop.join("a.txt")).unwrap();
    std::fs::remove_dir_all(laptop.join("other")).unwrap();
    world.file("other", "a file\n");
    world.publish("a directory became a link, another a file");
    world.is_exactly_the_revision();
    std::fs::set_permissions(laptop.join("b.txt"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(laptop.join("deep"), laptop.join("renamed")).unwrap();
    std::fs::remove_file(laptop.join("link")).unwrap();
    world.file("link", "a file now\n");
    world.publish("a mode, a rename, a link became a file");
    world.is_exactly_the_revision();
    for number in 0..3 {
        world.publish(&format!("after {number}"));
        world.is_exactly_the_revision();
    }
}

#[test]
fn no_release_in_which_something_runs_is_taken_over() {
    let world = frugal(PLAIN);
    let spare = world.spare().unwrap();
    let mut sleeper =
        std::process::Command::new("sleep").arg("60").current_dir(spare.join("deep")).spawn().unwrap();
    world.publish("3");
    assert!(
        std::fs::read_link(format!("/proc/{}/cwd", sleeper.id()))
            .unwrap()
            .starts_with(world.app().join("receiver"))
            || std::fs::read_link(format!("/proc/{}/cwd", sleeper.id()))
                .unwrap()
                .to_string_lossy()
                .ends_with("(deleted)")
    );
    world.is_exactly_the_revision();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let lock = std::fs::File::open(world.spare().unwrap()).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    let held = lock.metadata().unwrap().ino();
    world.publish("4");
    assert_ne!(std::fs::metadata(world.release()).unwrap().ino(), held);
    world.is_exactly_the_revision();
}

#[test]
fn a_deploy_that_dies_with_a_spare_in_its_hands_leaves_nothing_wrong() {
    let mut world = frugal(PLAIN);
    for point in POINTS.into_iter().chain(["directory-made", "exported", "synced", "sealed", "pruned"]) {
        assert!(world.spare().is_some(), "{point}");
        world.file("index.html", &format!("at {point}\n"));
        world.commit(point);
        let ticket = world.place().join("ticket");
        std::fs::write(&ticket, "").unwrap();
        world.env.insert("RECEIVER_TEST_DIE_AT".into(), point.into());
        world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
        world.push().ok().says("=====> live: ");
        world.until(20, point, || !ticket.exists());
        world.env.clear();
        world.receiver(&["unlock", "app"]).ok();
        world.until_idle();
        world.is_exactly_the_revision();
        world.nothing_is_left_over();
        let (manifests, mut known) = (world.names("receiver/manifests"), world.names("receiver/spare"));
        known.extend(
            world.names("versions/0").into_iter().filter(|name| name.ends_with("Z.toml") || name.len() == 29),
        );
        known.sort();
        assert_eq!(manifests, known, "{point}");
        world.publish(&format!("after {point}"));
        world.publish(&format!("and after {point}"));
    }
}

#[test]
fn a_lost_or_damaged_manifest_costs_time_and_nothing_else() {
    let world = frugal(PLAIN);
    for text in [None, Some(""), Some("{\"format\":1}"), Some("junk")] {
        for name in world.names("receiver/manifests") {
            let path = world.app().join("receiver/manifests").join(name);
            match text {
                Some(text) => std::fs::write(path, text).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
        }
        world.publish(&format!("{text:?}"));
        world.is_exactly_the_revision();
        world.publish("and again");
        world.publish("and again, with a spare");
        world.is_exactly_the_revision();
    }
}

/// A loop-mounted filesystem as a world's root; unmounted before the world's directory goes.
struct Mounted {
    world: World,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.world.root()).status();
    }
}

impl Mounted {
    fn new(mkfs: &[&str]) -> Mounted {
        let world = World::new();
        std::fs::create_dir(world.root()).unwrap();
        let image = world.place().join("disk");
        std::fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
        let (image, root) = (image.display().to_string(), world.root().display().to_string());
        let made = world.run(mkfs[0], world.place(), &[&mkfs[1..], &[&image]].concat());
        assert_eq!(made.code, 0, "{} {}", made.stdout, made.stderr);
        let mounted = world.run("mount", world.place(), &["-o", "loop", &image, &root]);
        assert_eq!(mounted.code, 0, "this test mounts a filesystem, so it needs root: {}", mounted.stderr);
        world.receiver(&["create", "app"]).ok();
        world.remote("app");
        Mounted { world }
    }
}

/// Whether a file shares blocks with another, as the filesystem tells.
fn shares_blocks(world: &World, path: &Path) -> bool {
    let said = world.run("filefrag", world.place(), &["-v", path.to_str().unwrap()]).ok();
    said.stdout.contains("shared")
}

fn large(seed: u8) -> Vec<u8> {
    (0..300_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0] ^ seed).collect()
}

#[test]
fn blocks_are_shared_with_the_live_release_where_the_filesystem_can_do_that() {
    for mkfs in [&["mkfs.btrfs", "-q"][..], &["mkfs.xfs", "-q"]] {
        let mounted = Mounted::new(mkfs);
        let world = &mounted.world;
        world.file("receiver.toml", PLAIN).bytes("large", &large(1)).bytes("other", &large(2));
        world.publish("one");
        world.publish("two");
        assert!(shares_blocks(world, &world.release().join("large")), "{mkfs:?}");
        world.is_exactly_the_revision();
        // A change in the live one, however well it is hidden, is not taken over.
        let path = world.release().join("large");
        let before = std::fs::metadata(&path).unwrap();
        let mut text = large(1);
        text[0] ^= 1;
        std::fs::write(&path, &text).unwrap();
        hide(&path, &before);
        world.bytes("other", &large(3));
        world.publish("three");
        world.is_exactly_the_revision();
        // And what is written to the new one is not seen in those before.
        std::fs::write(world.release().join("large"), "short").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), text);
    }
}

#[test]
fn what_changes_in_the_second_of_an_export_is_seen_where_the_filesystem_counts_in_seconds() {
    // So small that there is no room for more than the seconds of a time.
    let mounted = Mounted::new(&["mkfs.ext4", "-q", "-I", "128"]);
    let world = &mounted.world;
    world.receiver(&["config", "app", "keep.releases", "1"]).ok();
    // Who finds what the export wrote changes it at once, and sets its time back.
    let build = "grep -qx a a.txt && touch -r a.txt before && echo A > a.txt && touch -r before a.txt";
    world.file("receiver.toml", &format!("{PLAIN}[stages.build]\nrun = \"{build}\"\n")).file("a.txt", "a\n");
    for number in 0..6 {
        world.publish(&number.to_string());
        assert_eq!(world.live_file("a.txt"), "A\n");
    }
    let about = std::fs::metadata(world.release().join("a.txt")).unwrap();
    assert_eq!((about.mtime_nsec(), about.ctime_nsec()), (0, 0), "this filesystem counts more finely");
    assert!(world.spare().is_some());
}

#[test]
fn names_are_shared_only_where_the_server_says_so_and_nothing_runs() {
    let world = World::with_app();
    world.server_config("[export]\nlink = \"hard\"\n[keep]\nreleases = 2\n");
    world.file("receiver.toml", PLAIN).file("a.txt", "a\n").file("empty", "").file("b/run", "#!/bin/sh\n");
    world.publish("one");
    let first = world.release();
    world.publish("two");
    let second = world.release();
    let inode = |release: &Path, name: &str| std::fs::metadata(release.join(name)).unwrap().ino();
    assert_eq!(inode(&first, "a.txt"), inode(&second, "a.txt"));
    assert_ne!(inode(&first, "index.html"), inode(&second, "index.html"));
    // Another mode is another file, and so is one that was changed by hand.
    std::fs::set_permissions(world.laptop().join("b/run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let before = std::fs::metadata(second.join("a.txt")).unwrap();
    std::fs::write(second.join("a.txt"), "A\n").unwrap();
    hide(&second.join("a.txt"), &before);
    world.publish("three");
    world.is_exactly_the_revision();
    assert_eq!(world.live_file("a.txt"), "a\n");
    assert_eq!(std::fs::metadata(second.join("b/run")).unwrap().mode() & 0o777, 0o644);
    assert_eq!(inode(&second, "empty"), inode(&world.release(), "empty"));
    for number in 4..8 {
        world.publish(&number.to_string());
        world.is_exactly_the_revision();
    }
    assert!(world.spare().is_none(), "a spare would share its files with what is live");
    // A stage could write in place: then no file has two names.
    world.file("receiver.toml", "[stages]\nbuild = \"echo more >> a.txt\"\n[database]\nengine = \"none\"\n");
    world.file("index.html", "8").commit("8");
    world.push().ok().says("note       export.link = \"hard\" is not followed").says("=====> live: ");
    let (old, new) = (std::fs::read_link(world.app().join("receiver/previous")).unwrap(), world.release());
    let old = world.app().join("receiver").join(old);
    assert_ne!(inode(&old, "a.txt"), inode(&new, "a.txt"));
    assert_eq!(std::fs::read_to_string(old.join("a.txt")).unwrap(), "a\n");
    // Not even where a tree of the time before becomes a spare.
    for number in 9..13 {
        world.publish(&number.to_string());
        for name in world.names("versions/0").iter().filter(|name| name.len() == 29) {
            let text =
                std::fs::read_to_string(world.app().join("versions/0").join(name).join("a.txt")).unwrap();
            assert!(["a\n", "A\n", "a\nmore\n"].contains(&text.as_str()), "{number}: {text}");
        }
    }
}

#[test]
fn a_file_of_many_megabytes_is_written_without_having_it_in_memory() {
    let world = World::with_app();
    let large: Vec<u8> = (0..40).flat_map(large).collect();
    world.file("receiver.toml", PLAIN).bytes("large.bin", &large);
    world.publish("one");
    assert_eq!(std::fs::read(world.release().join("large.bin")).unwrap(), large);
    world.run("git", &world.app().join("repo.git"), &["repack", "-adq"]).ok();
    world.receiver(&["deploy", "app"]).ok();
    assert_eq!(std::fs::read(world.release().join("large.bin")).unwrap(), large);
    world.is_exactly_the_revision();
}

/// How many names, files and bytes' worth of writes a deploy of one changed file makes, as the kernel is asked for them.
fn calls_of_one_change(files: usize) -> usize {
    let world = World::with_app();
    world.receiver(&["config", "app", "keep.releases", "1"]).ok();
    world.file("receiver.toml", PLAIN);
    for number in 0..files {
        world.file(&format!("d{}/f{number}", number / 50), &format!("{number}\n"));
    }
    for number in 0..3 {
        world.publish(&number.to_string());
    }
    world.file("index.html", "changed").commit("changed");
    let head = world.head();
    let (laptop, repository) = (world.laptop().display().to_string(), world.app().join("repo.git"));
    world.run("git", &repository, &["fetch", "--quiet", &laptop, "main"]).ok();
    world.run("git", &repository, &["update-ref", "refs/heads/main", &head]).ok();
    let log = world.place().join("calls").display().to_string();
    let traced = "trace=rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,symlinkat,linkat,write,pwrite64,fsync,\
                  fdatasync,syncfs,ftruncate,utimensat,fchmod";
    let work = ["-f", "-qq", "-o", &log, "-e", traced, crate::world::PROGRAM, "work", "app"];
    world.end(world.start("strace", &work), 120).ok();
    assert_eq!(world.live_file("index.html"), "changed");
    world.is_exactly_the_revision();
    std::fs::read_to_string(log).unwrap().lines().filter(|line| line.contains('(')).count()
}

#[test]
fn the_cost_of_a_deploy_grows_with_what_changed_and_not_with_the_size_of_the_tree() {
    let (small, large) = (calls_of_one_change(100), calls_of_one_change(1500));
    assert!(small > 10, "{small}");
    // The directory of each fifty files is made and removed by nobody, and no file is written but what changed.
    assert!(large < small + 20, "{small} calls that change something for 100 files, {large} for 1500");
}
