//! A release is exactly its revision, and a hostile tree is refused before anything is written.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use crate::plumbing::{assert_tame, snapshot, verdicts};
use crate::world::World;

/// What a release has, by path: mode and content.
fn files(world: &World) -> BTreeMap<Vec<u8>, (String, Vec<u8>)> {
    let top = world.live_directory();
    let mut seen = BTreeMap::new();
    let mut waiting = vec![top.clone()];
    while let Some(place) = waiting.pop() {
        for entry in std::fs::read_dir(&place).unwrap() {
            let path = entry.unwrap().path();
            let about = std::fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(&top).unwrap().as_os_str().as_bytes().to_vec();
            if about.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                seen.insert(name, ("120000".to_owned(), target.as_os_str().as_bytes().to_vec()));
            } else if about.is_dir() {
                assert_eq!(about.permissions().mode() & 0o777, 0o755);
                waiting.push(path);
            } else {
                let mode = format!("100{:o}", about.permissions().mode() & 0o777);
                seen.insert(name, (mode, std::fs::read(&path).unwrap()));
            }
        }
    }
    seen
}

#[test]
fn a_release_is_exactly_its_revision() {
    let world = World::with_app();
    let laptop = world.laptop();
    world.file("index.html", "one\n");
    world.bytes("empty", b"").bytes("binary", &(0..=255).collect::<Vec<u8>>());
    world.bytes("crlf", b"a\r\nb\r\n").bytes("no-newline", b"x").bytes("large", &vec![7; 3 << 20]);
    world.file("run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(laptop.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    world.bytes("private", b"p");
    std::fs::set_permissions(laptop.join("private"), std::fs::Permissions::from_mode(0o600)).unwrap();
    for name in
        ["a\nb", "a\tb", "\u{1b}]0;x\u{7}", "-rf", "--", " ", "'\"$(touch x)`y`;&|", "é", "%s%n", "*", "~"]
    {
        world.bytes(name, name.as_bytes());
    }
    for name in [&b"latin\xe9"[..], b"\xff\xfe", b"dir\xff/in\xfe"] {
        let path = laptop.join(OsStr::from_bytes(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }
    let deep = format!("{}/f", vec!["d"; 300].join("/"));
    world.bytes(&deep, b"deep");
    world.bytes(&format!("{}/x", "n".repeat(255)), b"long");
    std::fs::create_dir(laptop.join("links")).unwrap();
    symlink("../index.html", laptop.join("links/up")).unwrap();
    symlink("nowhere", laptop.join("links/dangling")).unwrap();
    symlink("links", laptop.join("directory-link")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\n\x1b[2J"), laptop.join("links/odd")).unwrap();
    // What git would do to a work tree or an archive, and a release must not show.
    world.file(".gitattributes", "* text eol=crlf ident\nhidden export-ignore\nsubst export-subst\nlatin working-tree-encoding=LATIN1\n");
    world.bytes("hidden", b"h\n").bytes("subst", b"$Format:%H$ $Id$\n").bytes("latin", b"\xe9\n");
    std::fs::create_dir(laptop.join("nothing")).unwrap();
    world.git(&["-c", "core.autocrlf=false", "add", "--all"]).ok();
    let head = world.commit("everything");
    world.push().ok().says("=====> live: 0/");

    let output = world.command("git", &laptop).args(["ls-tree", "-r", "-z", &head]).output().unwrap();
    let mut wanted = BTreeMap::new();
    for line in output.stdout.split(|b| *b == 0).filter(|line| !line.is_empty()) {
        let tab = line.iter().position(|b| *b == b'\t').unwrap();
        let words: Vec<&str> = std::str::from_utf8(&line[..tab]).unwrap().split(' ').collect();
        let bytes = world.command("git", &laptop).args(["cat-file", "blob", words[2]]).output().unwrap();
        wanted.insert(line[tab + 1..].to_vec(), (words[0].to_owned(), bytes.stdout));
    }
    assert!(wanted.len() > 30, "{}", wanted.len());
    assert_eq!(wanted[&b"subst"[..]].1, b"$Format:%H$ $Id$\n");
    assert_eq!(wanted[&b"latin"[..]].1, "é\n".as_bytes());
    let found = files(&world);
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, (mode, bytes)) in &wanted {
        let (found_mode, found_bytes) = &found[name];
        assert_eq!(found_mode, mode, "{}", String::from_utf8_lossy(name));
        assert!(found_bytes == bytes, "{}", String::from_utf8_lossy(name));
    }
    assert!(!world.live_directory().join("nothing").exists());
    let said = world.receiver(&["verify", "app"]).ok();
    assert_eq!(
        said.stdout,
        format!("{}: {} files compared, 0 more made by stages\n", world.live().unwrap(), wanted.len())
    );
}

/// A tree that is refused: what it is called, its top entries, what is said.
type Hostile = (&'static str, Vec<(&'static str, &'static [u8], Made)>, &'static str);

enum Made {
    File(&'static [u8]),
    Tree(Vec<(&'static str, &'static [u8], Made)>),
}

use Made::{File, Tree};

fn make(world: &World, entries: &[(&'static str, &'static [u8], Made)]) -> String {
    let made = entries.iter().map(|(mode, name, what)| {
        let object = match what {
            File(bytes) => world.blob(bytes),
            Tree(below) => make(world, below),
        };
        (*mode, *name, object)
    });
    world.tree(&made.collect::<Vec<_>>())
}

const DOT_GIT: &str = "is, or could be taken for, git's own directory";

fn hostile() -> Vec<Hostile> {
    let hook =
        || Tree(vec![("40000", b"hooks", Tree(vec![("100755", b"post-checkout", File(b"#!/bin/sh\n"))]))]);
    let file = |name: &'static [u8]| vec![("100644", name, File(b"x"))];
    let link = |name: &'static [u8], target: &'static [u8]| vec![("120000", name, File(target))];
    vec![
        ("a git directory", vec![("40000", b".git", hook())], DOT_GIT),
        ("the same in capitals", vec![("40000", b".GIT", hook())], DOT_GIT),
        ("its short name", vec![("40000", b"git~1", hook())], DOT_GIT),
        ("with a dot behind", vec![("40000", b".git.", hook())], DOT_GIT),
        ("a git file", file(b".git"), DOT_GIT),
        (
            "deep down",
            vec![("40000", b"a", Tree(vec![("40000", b".Git", hook())]))],
            "a/.Git is, or could be",
        ),
        ("dot dot", vec![("40000", b"..", Tree(file(b"canary")))], ".. is a name that leads elsewhere"),
        (
            "dot dot below",
            vec![("40000", b"a", Tree(vec![("40000", b"..", Tree(file(b"x")))]))],
            "a/.. is a name",
        ),
        ("a file dot dot", file(b".."), ".. is a name that leads elsewhere"),
        ("dot", vec![("40000", b".", Tree(file(b"x")))], ". is a name that leads elsewhere"),
        ("absolute", file(b"/tmp/receiver-canary"), "has a slash or a zero byte in a name"),
        ("a slash", file(b"../canary"), "../canary has a slash"),
        ("a slash inside", file(b"a/b"), "a/b has a slash"),
        ("300 bytes", file(&[b'n'; 300]), "has a name of more than 255 bytes"),
        ("256 bytes", file(&[b'n'; 256]), "has a name of more than 255 bytes"),
        ("ours", vec![("40000", b".receiver", Tree(file(b"web.sock")))], ".receiver belongs to receiver"),
        ("ours in capitals", file(b".Receiver"), ".Receiver belongs to receiver"),
        ("twice", vec![("100644", b"a", File(b"1")), ("100644", b"a", File(b"2"))], "a is there twice"),
        (
            "a link and a directory",
            vec![("120000", b"a", File(b"b")), ("40000", b"a", Tree(file(b"x")))],
            "a is there twice",
        ),
        (
            "a directory and a link",
            vec![("40000", b"a", Tree(file(b"x"))), ("120000", b"a", File(b"../.."))],
            "a is there twice",
        ),
        ("passwd", link(b"p", b"/etc/passwd"), "p → /etc/passwd leads out of the release"),
        ("climbing", link(b"p", b"../../.."), "p → ../../.. leads out of the release"),
        ("one up", link(b"p", b".."), "p → .. leads out of the release"),
        (
            "up from below",
            vec![("40000", b"a", Tree(link(b"p", b"../../canary")))],
            "a/p → ../../canary leads out of the release",
        ),
        (
            "a chain that climbs",
            vec![(
                "40000",
                b"d",
                Tree(vec![(
                    "40000",
                    b"e",
                    Tree(vec![("120000", b"s", File(b"..")), ("120000", b"t", File(b"s/../../x"))]),
                )]),
            )],
            "d/e/t → s/../../x leads out of the release",
        ),
        ("a circle", vec![("120000", b"a", File(b"b")), ("120000", b"b", File(b"a"))], "leads in a circle"),
        ("itself", link(b"a", b"a/x"), "leads in a circle"),
        ("empty", link(b"a", b""), "is an empty symlink"),
        ("endless", link(b"a", &[b'x'; 5000]), "a is a symlink of 5000 bytes"),
        ("a terminal", link(b"a\x1b[2J", b"/\x1b]0;x\x07"), "leads out of the release"),
        ("a name for a terminal", file(b"a\x1b[2J/x"), "has a slash"),
    ]
}

#[test]
fn what_is_pushed_cannot_leave_its_place_by_a_tree() {
    let world = World::with_site();
    let canary = world.root().join("canary");
    std::fs::write(&canary, "untouched").unwrap();
    // What the worker does after its verdict is not the pushes'.
    world.until_idle();
    let before = snapshot(&world.root());
    let live = world.live();
    for (name, mut entries, why) in hostile() {
        entries.push(("100644", b"index.html", File(b"two\n")));
        let commit = world.commit_tree(&make(&world, &entries), name);
        let said = world.push_commit(&commit).fails(1);
        let lines = verdicts(&said);
        assert_eq!(lines.len(), 1, "{name}: {}", said.talk());
        assert!(
            lines[0].starts_with("=====> refused: main: the revision cannot be deployed")
                || why.contains("bytes"),
            "{name}: {}",
            lines[0]
        );
        assert!(said.talk().contains(why), "{name}: {}", said.talk());
        assert_tame(name, &said.talk());
        assert_eq!(world.live(), live, "{name}");
    }
    let outside = |mut all: BTreeMap<std::path::PathBuf, String>| {
        all.retain(|path, _| !path.starts_with(world.app().join("repo.git")));
        all
    };
    assert_eq!(outside(snapshot(&world.root())), outside(before), "something was written");
    assert!(!std::path::Path::new("/tmp/receiver-canary").exists());
    // And what is refused when it is pushed is refused by a command, too.
    let commit = world.commit_tree(
        &make(&world, &[("120000", b"p", File(b"/etc/passwd")), ("100644", b"index.html", File(b"x"))]),
        "x",
    );
    world.git(&["push", "--quiet", "production", &format!("{commit}:refs/heads/other")]).ok();
    world
        .receiver(&["deploy", "app", "other"])
        .fails(1)
        .says("leads out of the release")
        .says("NOT LIVE: still 0/");
    assert_eq!(world.live(), live);
}

#[test]
fn an_entry_without_a_name_and_a_cut_tree_are_refused() {
    let world = World::with_site();
    let blob = world.blob(b"x");
    let commit = world.commit_tree(&world.tree(&[("100644", b"", blob)]), "no name");
    let said = world.push_commit(&commit).fails(1);
    assert_eq!(said.talk().matches("live:").count(), 0, "{}", said.talk());
    assert_eq!(world.states(), ["live"]);
}

#[test]
fn a_tree_that_unfolds_without_end_is_refused_fast() {
    let world = World::with_site();
    let mut tree = world.tree(&[("100644", b"f", world.blob(b"x"))]);
    for _ in 0..12 {
        let names: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
        let entries: Vec<_> = names.iter().map(|name| ("40000", name.as_bytes(), tree.clone())).collect();
        tree = world.tree(&entries);
    }
    let commit = world.commit_tree(&tree, "a bomb");
    let begun = Instant::now();
    world.push_commit(&commit).fails(1).says("=====> refused: main: ").says("the revision has more than");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(world.states(), ["live"]);
}

#[test]
fn a_tree_that_unfolds_to_long_names_is_refused_before_it_fills_the_memory() {
    let world = World::with_site();
    let mut tree = world.tree(&[("100644", b"f", world.blob(b"x"))]);
    for _ in 0..12 {
        let names: Vec<String> = (0..4).map(|n| format!("{n}{}", "n".repeat(249))).collect();
        let entries: Vec<_> = names.iter().map(|name| ("40000", name.as_bytes(), tree.clone())).collect();
        tree = world.tree(&entries);
    }
    let commit = world.commit_tree(&tree, "a bomb of names");
    let url = world.app().join("repo.git").display().to_string();
    // 1 GB for git and its hooks together; all the names would be 50 GB.
    let push = format!("ulimit -v 2000000; exec git push --quiet --force '{url}' {commit}:refs/heads/main");
    let said = world.run("sh", &world.laptop(), &["-c", &push]).fails(1);
    said.says("=====> refused: main: ").says("of names");
    assert_eq!(world.states(), ["live"]);
}

#[test]
fn a_tree_that_is_deeper_than_any_path_is_refused() {
    let world = World::with_site();
    let path = format!("{}/f", vec!["d"; 5000].join("/"));
    let stream = format!(
        "commit refs/heads/deep\ncommitter Ada <ada@example.org> 0 +0000\ndata 4\ndeep\nM 100644 inline {path}\ndata 1\nx\n"
    );
    world.fed("git", &world.laptop(), &["fast-import", "--quiet", "--force"], stream.as_bytes()).ok();
    let said = world.push_commit("deep").fails(1);
    // git of today refuses to send or to take it itself: then nothing is left for us to refuse.
    let (ours, gits) = ("is too long a path", "exceeded maximum allowed tree depth");
    assert!(said.talk().contains(ours) || said.talk().contains(gits), "{}", said.talk());
    assert_eq!(world.states(), ["live"]);
    // Past git's own limit, straight into the repository: our own eyes.
    world
        .fed("git", &world.app().join("repo.git"), &["fast-import", "--quiet", "--force"], stream.as_bytes())
        .ok();
    world.receiver(&["plan", "app", "deep"]).fails(1).says(ours);
    world.receiver(&["deploy", "app", "deep"]).fails(1).says(ours).says("NOT LIVE: still 0/");
}

#[test]
pub fn outside_links_are_let_through_where_the_server_grants_them() {
    let world = World::with_site();
    world.server_config("[export]\noutside_links = true\n");
    symlink("/etc/hostname", world.laptop().join("host")).unwrap();
    world.commit("a link that leads out");
    world.push().ok().says("=====> live: 0/");
    let target = std::fs::read_link(world.live_directory().join("host")).unwrap();
    assert_eq!(target, std::path::Path::new("/etc/hostname"));
    world.receiver(&["verify", "app"]).ok();
}

#[test]
fn a_pointer_of_lfs_is_named_before_the_ref_moves() {
    let world = World::with_site();
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n", "0".repeat(64));
    world
        .file(".gitattributes", "*.psd filter=lfs diff=lfs merge=lfs -text\n")
        .file("art/logo.psd", &pointer);
    world.git(&["-c", "filter.lfs.clean=cat", "-c", "filter.lfs.required=false", "add", "--all"]).ok();
    world.git(&["commit", "--quiet", "-m", "art"]).ok();
    let said = world.push().fails(1);
    assert_eq!(
        verdicts(&said),
        ["=====> refused: main: art/logo.psd is a pointer of Git LFS, and not the file itself"]
    );
    // Without attributes that speak of it the export finds it.
    world.remove(".gitattributes");
    world.commit("art without attributes");
    world.push().ok().says("NOT LIVE: still 0/").says("art/logo.psd is a pointer of Git LFS");
    assert_eq!(world.live_file("index.html"), "one\n");
}

#[test]
pub fn verify_names_what_is_not_as_in_the_revision() {
    let world = World::with_app();
    for name in
        ["changed", "longer", "removed", "mode", "to-directory", "to-link", "kept", "touched-by-stage"]
    {
        world.file(name, &format!("{name}\n"));
    }
    world.file("directory/a", "a\n").file("directory/b", "b\n").file("index.html", "one\n");
    symlink("kept", world.laptop().join("link")).unwrap();
    symlink("kept", world.laptop().join("link-to-file")).unwrap();
    world.file(
        "receiver.toml",
        "[stages]\nbuild = \"echo more >> touched-by-stage; echo made > made-by-stage\"\n",
    );
    world.commit("one");
    world.push().ok();
    let live = world.live_directory();
    let id = world.live().unwrap();
    world
        .receiver(&["verify", "app"])
        .fails(1)
        .says("touched-by-stage: has another content\n")
        .says(&format!("{id}: 14 files compared, 1 more made by stages\n"))
        .says("1 file is not as in the revision");
    std::fs::write(live.join("touched-by-stage"), "touched-by-stage\n").unwrap();
    world.receiver(&["verify", "app"]).ok();
    let before = world.receiver(&["verify", "app", "--json"]).ok().json();
    assert_eq!(before["verify"]["differences"].as_array().unwrap().len(), 0);

    std::fs::write(live.join("changed"), "chanGed\n").unwrap();
    std::fs::write(live.join("longer"), "longer\nand longer\n").unwrap();
    std::fs::remove_file(live.join("removed")).unwrap();
    std::fs::set_permissions(live.join("mode"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_file(live.join("to-directory")).unwrap();
    std::fs::create_dir(live.join("to-directory")).unwrap();
    std::fs::remove_file(live.join("to-link")).unwrap();
    symlink("kept", live.join("to-link")).unwrap();
    std::fs::remove_file(live.join("link")).unwrap();
    symlink("changed", live.join("link")).unwrap();
    std::fs::remove_file(live.join("link-to-file")).unwrap();
    std::fs::write(live.join("link-to-file"), "kept\n").unwrap();
    // The same files, but elsewhere.
    std::fs::rename(live.join("directory"), world.place().join("elsewhere")).unwrap();
    symlink(world.place().join("elsewhere"), live.join("directory")).unwrap();
    let said = world.receiver(&["verify", "app"]).fails(1);
    let mut lines: Vec<&str> = said.stdout.lines().collect();
    lines.pop();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "changed: has another content",
            "directory: is no directory any more",
            "link-to-file: is no symlink any more",
            "link: points elsewhere",
            "longer: has another content",
            "mode: has another executable bit",
            "removed: is missing",
            "to-directory: is no regular file any more",
            "to-link: is no regular file any more",
        ]
    );
}

/// The modification time of a file of the live release, in nanoseconds.
fn time_of(world: &World, name: &str) -> i128 {
    use std::os::unix::fs::MetadataExt;
    let about = std::fs::metadata(world.live_directory().join(name)).unwrap();
    i128::from(about.mtime()) * 1_000_000_000 + i128::from(about.mtime_nsec())
}

#[test]
pub fn unchanged_files_keep_their_modification_time_over_releases_and_new_content_always_gets_a_new_one() {
    let world = World::with_app();
    world.file(
        "receiver.toml",
        "[stages]\nbuild = \"echo more >> touched.txt\"\n[database]\nengine = \"none\"\n",
    );
    for name in ["same.css", "other.css", "touched.txt", "away/deep.css"] {
        world.file(name, "one\n");
    }
    world.file("index.html", "1\n");
    world.commit("one");
    world.push().ok();
    let names = ["same.css", "away/deep.css", "other.css", "touched.txt", "index.html"];
    let mut before: Vec<i128> = names.map(|name| time_of(&world, name)).to_vec();
    let mut seconds = std::collections::BTreeMap::from([("other.css", vec![]), ("index.html", vec![])]);
    // As fast as it goes: several releases within a second, each with content of the same size.
    for round in 2..6 {
        world.file("index.html", &format!("{round}\n"));
        world.file("other.css", &format!("{round}ne\n"));
        world.commit("next");
        world.push().ok().says("live: ");
        let after: Vec<i128> = names.map(|name| time_of(&world, name)).to_vec();
        assert_eq!(before[..2], after[..2], "unchanged files have another time");
        for (name, seen) in &mut seconds {
            seen.push(time_of(&world, name) / 1_000_000_000);
        }
        // What a stage wrote to is not as it was, whatever the revision says.
        assert_ne!(before[3], after[3]);
        before = after;
    }
    for (name, seen) in seconds {
        let mut distinct = seen.clone();
        distinct.dedup();
        assert_eq!(distinct, seen, "{name} kept its second while its content changed");
    }
}

#[test]
fn a_file_that_was_a_link_or_a_directory_in_between_never_gets_a_time_that_its_path_had() {
    use std::os::unix::fs::symlink;
    let world = World::with_app();
    let place = world.laptop().join("one");
    world.file("receiver.toml", "[database]\nengine = \"none\"\n");
    let mut seen = std::collections::BTreeSet::new();
    let mut push = |text: &str| {
        world.commit("next");
        world.push().ok().says("live: ");
        if place.is_file() && !place.is_symlink() {
            let second = time_of(&world, "one").div_euclid(1_000_000_000);
            assert!(
                seen.insert(second),
                "with '{text}' the path has a second that it had with another content"
            );
        }
    };
    // As fast as it goes: the times of new content run ahead of the clock.
    for text in 0..12 {
        world.file("one", &format!("{text}\n"));
        push(&text.to_string());
    }
    std::fs::remove_file(&place).unwrap();
    symlink("receiver.toml", &place).unwrap();
    push("link");
    std::fs::remove_file(&place).unwrap();
    world.file("one", "after the link\n");
    push("after the link");
    std::fs::remove_file(&place).unwrap();
    world.file("one/below", "in a directory\n");
    push("directory");
    std::fs::remove_dir_all(&place).unwrap();
    world.file("one", "after the directory\n");
    push("after the directory");
}
