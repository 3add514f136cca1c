//! What Mercurial has and git has not: named branches with heads, bookmarks, phases, descriptions, push variables.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::plumbing::verdicts;
use crate::sshd::{Sshd, let_in};
use crate::system::on_mercurial;
use crate::world::{Said, World};

/// A world with a live site, whose laptop has a Mercurial repository.
fn site() -> World {
    let mut site = None;
    on_mercurial(|| site = Some(World::with_site()));
    site.unwrap()
}

impl World {
    fn hg(&self, arguments: &[&str]) -> Said {
        self.run("hg", &self.laptop(), arguments)
    }

    /// `hg push` with exactly these words.
    fn hg_push(&self, arguments: &[&str]) -> Said {
        let words = [&["push", "--quiet"], arguments, &["production"]].concat();
        self.understood(self.hg(&words))
    }

    /// `hg …` in the app's repository, without receiver's hooks.
    fn hg_there(&self, arguments: &[&str]) -> Said {
        let none = ["--config", "hooks.pretxnclose.receiver=", "--config", "hooks.txnclose.receiver="];
        self.run("hg", &self.repository(), &[&none, arguments].concat())
    }
}

/// The live release is the changeset: names, bytes, executable bits, links.
#[track_caller]
fn live_is(world: &World, revision: &str) {
    let archive = tempfile::tempdir_in(world.place()).unwrap();
    let archive = archive.path().join("files");
    let path = archive.display().to_string();
    world.hg(&["archive", "--config", "ui.archivemeta=no", "--rev", revision, &path]).ok();
    let live = world.live_directory();
    let diff = world.run("diff", world.place(), &["-r", "--no-dereference", &path, live.to_str().unwrap()]);
    assert_eq!((diff.code, diff.stdout.as_str()), (0, ""), "{}", diff.stderr);
    let find = |place: &std::path::Path| {
        let output = world.command("find", place).args([".", "-printf", "%p %y %m %l\\0"]).output().unwrap();
        let mut all: Vec<Vec<u8>> = output.stdout.split(|b| *b == 0).map(<[u8]>::to_vec).collect();
        all.sort();
        all.retain(|one| !one.ends_with(b"d 755 ") && !one.ends_with(b"d 700 "));
        all
    };
    assert_eq!(find(&archive), find(&live));
}

#[test]
fn a_release_is_exactly_the_changeset_with_any_names_bits_links_and_times() {
    let world = site();
    let odd = std::ffi::OsStr::from_bytes(b"caf\xe9 \xff\n".strip_suffix(b"\n").unwrap());
    std::fs::write(world.laptop().join(odd), "not UTF-8\n").unwrap();
    world
        .file("dir/glob*[a]?.txt", "x")
        .file("-r", "an option?\n")
        .file("set:x", "")
        .file("run", "#!/bin/sh\n");
    world.bytes("binary", &[0, 1, 2, 255, 0, 10, 13]);
    std::fs::set_permissions(world.laptop().join("run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("dir/glob*[a]?.txt", world.laptop().join("link")).unwrap();
    let first = world.commit("many names");
    world.push().ok().says("=====> live: 0/");
    live_is(&world, &first);
    // A file becomes a directory, and a directory a file; a link a file; one is moved; a bit goes.
    world.remove("set:x").remove("dir/glob*[a]?.txt").remove("link").file("set:x/inner", "now inside\n");
    std::fs::remove_dir(world.laptop().join("dir")).unwrap();
    world.file("dir", "no directory\n").file("link", "no link\n");
    world.hg(&["move", "--quiet", "binary", "moved/binary"]).ok();
    std::fs::set_permissions(world.laptop().join("run"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let second = world.commit("all otherwise");
    world.push().ok();
    live_is(&world, &second);
    world.receiver(&["verify", "app"]).ok();
    let listed = world.list();
    assert_eq!(listed["releases"][0]["revision"], second);
    world.receiver(&["rollback", "app"]).ok();
    live_is(&world, &first);
    // What is kept of the files can be thrown away.
    std::fs::remove_dir_all(world.repository().join(".hg/receiver/objects.git")).unwrap();
    world.receiver(&["verify", "app"]).ok();
    world.receiver(&["deploy", "app"]).ok();
    live_is(&world, &second);
}

#[test]
fn several_heads_are_refused_with_what_to_do_and_a_head_with_a_bookmark_is_none() {
    let world = site();
    let base = world.head();
    world.file("index.html", "two\n");
    let two = world.commit("two");
    world.push().ok();
    world.hg(&["update", "--quiet", &base]).ok();
    world.file("index.html", "another two\n");
    let other = world.commit("another two");
    let said = world.hg_push(&["--force"]).fails(1);
    assert_eq!(
        verdicts(&said),
        [format!("=====> refused: main: main has 2 heads: {}, {}", &two[..7], &other[..7])]
    );
    said.says("hg merge").says("--close-branch");
    assert_eq!(world.live_file("index.html"), "two\n");
    // As a bookmark it is a branch of its own.
    world.hg(&["bookmark", "idea"]).ok();
    let said = world.hg_push(&["--bookmark", "idea"]).ok();
    assert_eq!(verdicts(&said), ["=====> ignored: idea (app deploys main)"]);
    assert_eq!(world.live_file("index.html"), "two\n");
    world.receiver(&["deploy", "app", "idea"]).ok();
    assert_eq!(world.live_file("index.html"), "another two\n");
    // Merged, there is one head again.
    world.hg(&["bookmark", "--delete", "idea"]).ok();
    world.hg(&["merge", "--quiet", "--tool", "internal:local", &two]).ok();
    world.commit("one again");
    let said = world.hg_push(&[]).ok();
    said.says("=====> live: 0/");
    assert_eq!(world.list()["releases"][0]["subject"], "one again");
}

#[test]
fn an_app_may_deploy_a_bookmark_and_a_push_of_it_alone_deploys() {
    let world = site();
    world.receiver(&["config", "app", "branch", "stable"]).ok();
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok().says("=====> ignored: main (app deploys stable)");
    assert_eq!(world.live_file("index.html"), "one\n");
    world.hg(&["bookmark", "stable"]).ok();
    let said = world.hg_push(&["--bookmark", "stable"]).ok();
    assert_eq!(verdicts(&said).len(), 1, "{}", said.talk());
    said.says("-----> app: stable new..").says("=====> live: 0/");
    assert_eq!(world.live_file("index.html"), "two\n");
    // Set back, by force.
    world.hg(&["bookmark", "--force", "--rev", ".^", "stable"]).ok();
    world.hg_push(&["--bookmark", "stable", "--force"]).ok().says("(forced: commits were left behind)");
    assert_eq!(world.live_file("index.html"), "one\n");
    world.hg(&["bookmark", "--delete", "stable"]).ok();
    let said = world.hg_push(&["--bookmark", "stable"]).fails(1);
    assert_eq!(verdicts(&said), ["=====> refused: stable: app deploys stable, which cannot be deleted"]);
}

#[test]
fn a_push_that_moves_no_branch_says_nothing_and_one_of_another_branch_says_so() {
    let world = site();
    let jobs = world.verdicts().len();
    for nothing in [&["--force"][..], &["--bookmark", "."]] {
        let said = world.hg_push(nothing);
        assert_eq!(verdicts(&said), [""; 0], "{}", said.talk());
    }
    world.hg_there(&["phase", "--draft", "--force", "--rev", "tip"]).ok();
    world.hg_push(&[]).ok().never_says("=====>");
    world.hg(&["branch", "--quiet", "other"]).ok();
    world.file("index.html", "of another branch\n");
    world.commit("elsewhere");
    let said = world.hg_push(&["--new-branch"]).ok();
    assert_eq!(verdicts(&said), ["=====> ignored: other (app deploys main)"]);
    assert_eq!((world.verdicts().len(), world.live_file("index.html").as_str()), (jobs, "one\n"));
    // A closed branch is gone, and the deployed one cannot be closed.
    world.hg(&["commit", "--close-branch", "--message", "done"]).ok();
    assert_eq!(verdicts(&world.hg_push(&[]).ok()), ["=====> ignored: other was deleted (app deploys main)"]);
    world.hg(&["update", "--quiet", "main"]).ok();
    world.hg(&["commit", "--close-branch", "--message", "the end"]).ok();
    let said = world.hg_push(&[]).fails(1);
    assert_eq!(verdicts(&said), ["=====> refused: main: app deploys main, which cannot be deleted"]);
    world.receiver(&["doctor", "app"]).ok();
}

#[test]
fn push_variables_ask_for_a_plan_and_for_what_the_options_of_git_ask_for() {
    let world = site();
    world.file("index.html", "two\n");
    world.commit("two");
    let said = world.hg_push(&["--pushvars", "RECEIVER_PLAN=1"]).fails(1);
    said.clone().says("app: deploy ").says("this was only the plan; nothing was pushed");
    assert_eq!(verdicts(&said).len(), 1);
    assert_eq!(world.live_file("index.html"), "one\n");
    world.hg_push(&["--pushvars", "RECEIVER_SAUSAGE=1"]).fails(1).says("'sausage=1' is no option of a push");
    world.hg_push(&["--pushvars", "RECEIVER_SCHEMA=new"]).ok().says("=====> live: 1/");
    assert_eq!(world.live_file("index.html"), "two\n");
    let journal = std::fs::read_to_string(world.app().join("receiver/journal.jsonl")).unwrap();
    assert!(journal.contains("schema=new"), "{journal}");
}

/// Kills who pushes at each moment of a push, and looks whether the app is as it should be.
fn killed_at_every_hook(world: &World, push: impl Fn() -> Command) {
    type HasCome = fn(&World) -> bool;
    let moments: [(&str, HasCome); 3] = [
        ("pretxnclose", |world| world.repository().join(".hg/store/00changelog.i.a").exists()),
        ("between the hooks", |world| {
            std::fs::read_dir(world.repository().join(".hg/receiver/pushes"))
                .is_ok_and(|mut all| all.next().is_some())
        }),
        ("txnclose", |world| world.names("receiver/queue").iter().any(|name| !name.starts_with('.'))),
    ];
    for (moment, has_come) in moments {
        let (old, new) = (world.live_file("index.html"), format!("{moment}\n"));
        world.file("index.html", &new);
        world.commit(moment);
        let mut command = push();
        use std::os::unix::process::CommandExt;
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
        let mut push = command.spawn().unwrap();
        world.until(30, moment, || has_come(world) || push.try_wait().unwrap().is_some());
        let group = rustix::process::Pid::from_raw(push.id().cast_signed()).unwrap();
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        push.wait().unwrap();
        // Whoever comes next does what was queued, or was lost.
        world.receiver(&["unlock", "app"]).ok();
        world.until_idle();
        let live = world.live_file("index.html");
        assert!(live == old || live == new, "{moment}: {live}");
        world.live_is_complete();
        // What died in the middle of a transaction is Mercurial's to mend.
        world.hg_there(&["recover", "--quiet"]);
        world.push().ok();
        world.receiver(&["watch", "app", "--once"]).ok();
        world.until_idle();
        assert_eq!(world.live_file("index.html"), new, "{moment}");
        world.nothing_is_left_over();
        world.receiver(&["doctor", "app"]).ok();
    }
}

#[test]
fn a_push_killed_at_every_hook_leaves_what_was_live_or_the_new_one_and_never_half() {
    let world = site();
    killed_at_every_hook(&world, || world.push_command(&[]));
}

#[test]
fn a_push_over_ssh_whose_client_is_killed_at_every_hook_leaves_what_was_live_or_the_new_one() {
    let world = site();
    let_in(&world, "dora", "deploy", &["app"]);
    let sshd = Sshd::start(&world);
    let ssh = format!("ui.ssh=ssh {} -p {}", sshd.plain_options("dora").join(" "), sshd.port);
    let remote = format!("ssh://{}/app", sshd.remote("").trim_end_matches(':'));
    // The other side goes on by itself, and its pipe is broken.
    killed_at_every_hook(&world, || {
        let mut command = world.command("hg", &world.laptop());
        command.args(["--config", &ssh, "push", "--branch", "main", &remote]);
        command
    });
}

#[test]
fn a_changeset_that_was_amended_is_hidden_and_its_successor_is_deployed() {
    let world = site();
    let hgrc = world.repository().join(".hg/hgrc");
    let text = std::fs::read_to_string(&hgrc).unwrap();
    // As who works with evolve has it, on both sides.
    let evolve = "[experimental]\nevolution = all\n";
    std::fs::write(&hgrc, text.replace("publish = yes", "publish = no") + evolve).unwrap();
    let evolves = ["--config", "experimental.evolution=all"];
    world.file("index.html", "a draft\n");
    let draft = world.commit("a draft");
    world.hg_push(&evolves).ok().says("=====> live: 0/");
    world.file("index.html", "amended\n");
    world.hg(&[&evolves[..], &["commit", "--amend", "--message", "amended"]].concat()).ok();
    let amended = world.head();
    assert_ne!(amended, draft);
    let said = world.hg_push(&evolves).ok();
    assert_eq!(verdicts(&said).len(), 1, "{}", said.talk());
    said.says("=====> live: 0/").never_says("heads");
    live_is(&world, &amended);
    world.receiver(&["deploy", "app", &draft]).fails(2).says("there is no revision");
    // The release of what is hidden now can be gone back to: its files are kept.
    world.receiver(&["rollback", "app"]).ok();
    assert_eq!(world.live_file("index.html"), "a draft\n");
}

#[test]
fn a_large_file_is_refused_and_one_of_before_stays_away() {
    let world = site();
    let large = ["--config", "extensions.largefiles="];
    world.bytes("large.bin", &vec![7; 100_000]);
    world.hg(&[&large[..], &["add", "--large", "large.bin"]].concat()).ok();
    world.hg(&[&large[..], &["commit", "--message", "a large file"]].concat()).ok();
    let said = world.hg(&[&large[..], &["push", "production"]].concat());
    assert_ne!(said.code, 0, "{}", said.talk());
    assert_eq!(world.live_file("index.html"), "one\n");
    assert_eq!(world.list()["releases"].as_array().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_read_is_said_in_a_sentence_and_changes_nothing() {
    let mut world = site();
    world.file(".hglf/large.bin", "0123456789012345678901234567890123456789\n");
    world.commit("a large file");
    world.push().fails(1).says("stands for a file of the extension largefiles");
    world.remove(".hglf/large.bin");
    world.file(".receiver/x", "x\n");
    world.commit("ours");
    world.push().fails(1).says("the revision cannot be deployed: .receiver/x belongs to receiver");
    world.remove(".receiver/x").file("big.bin", "version https://git-lfs.github.com/spec/v1\noid x\n");
    world.file(".gitattributes", "*.bin filter=lfs\n");
    world.commit("a pointer");
    world.push().fails(1).says("big.bin is a pointer of Git LFS");
    world.remove("big.bin");
    world.commit("an \u{1b}[31mescape\u{7} in a \u{202e}description");
    let said = world.push().ok();
    assert!(!said.stderr.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{:?}", said.stderr);
    world.receiver(&["list", "app"]).ok().never_says("\u{1b}").says("escape");
    let live = world.live();
    // A requirement that no Mercurial knows.
    let requires = world.repository().join(".hg/requires");
    let text = std::fs::read_to_string(&requires).unwrap();
    std::fs::write(&requires, format!("{text}sausage\n")).unwrap();
    world.file("index.html", "more\n");
    world.commit("more");
    world.push().fails(1).says("sausage");
    world
        .receiver(&["deploy", "app", "0"])
        .fails(1)
        .says("Mercurial cannot read the repository")
        .says("sausage");
    std::fs::write(&requires, text).unwrap();
    // A Mercurial that is too old, and none.
    let bin = world.place().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let hg = bin.join("hg");
    std::fs::write(&hg, "#!/bin/sh\necho 'Mercurial Distributed SCM (version 3.9.2)'\n").unwrap();
    std::fs::set_permissions(&hg, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    world.env.insert("PATH".into(), format!("{}:{path}", bin.display()));
    world.receiver(&["doctor", "app"]).fails(1).says("Mercurial 3.9.2 is too old");
    world
        .receiver(&["create", "more", "--vcs", "hg"])
        .fails(1)
        .says("Mercurial 3.9.2 is too old")
        .says("5.2 or newer");
    world.env.insert("PATH".into(), bin.display().to_string());
    std::fs::remove_file(&hg).unwrap();
    world.receiver(&["create", "more", "--vcs", "hg"]).fails(1).says("Mercurial is not installed");
    world.receiver(&["doctor", "app"]).fails(1).says("apt install mercurial");
    world.receiver(&["deploy", "app", "0"]).fails(1).says("Mercurial is not installed");
    world.env.remove("PATH");
    assert_eq!(world.live(), live);
    world.push().ok().says("=====> live: ");
}

#[test]
fn doctor_names_an_hgrc_of_somebody_else_and_a_changeset_that_was_stripped() {
    let world = site();
    world.file("index.html", "two\n");
    let two = world.commit("two");
    world.push().ok();
    let hgrc = world.repository().join(".hg/hgrc");
    std::os::unix::fs::chown(&hgrc, Some(1234), None).unwrap();
    world.receiver(&["doctor", "app"]).fails(1).says("Mercurial does not read it, and no hook runs");
    std::os::unix::fs::chown(&hgrc, Some(0), None).unwrap();
    std::fs::write(&hgrc, "").unwrap();
    world.receiver(&["doctor", "app"]).fails(1).says("does not call receiver").says("txnclose.receiver");
    std::fs::write(&hgrc, include_str!("../../hooks/hgrc")).unwrap();
    world.receiver(&["doctor", "app"]).ok();
    world.hg_there(&["--config", "extensions.strip=", "strip", "--quiet", "--no-backup", &two]).ok();
    world.receiver(&["doctor", "app"]).fails(1).says(&format!("the changeset {} of ", &two[..7]));
    // What is live stays, and pushing it again makes all well.
    assert_eq!(world.live_file("index.html"), "two\n");
    world.push().ok();
    world.until_idle();
    world.receiver(&["doctor", "app"]).ok();
    assert_eq!(world.live_file("index.html"), "two\n");
}

#[test]
fn a_hidden_changeset_is_not_deployed_and_a_draft_is() {
    let world = site();
    world.hg_there(&["phase", "--draft", "--force", "--rev", "tip"]).ok();
    let hgrc = world.repository().join(".hg/hgrc");
    let text = std::fs::read_to_string(&hgrc).unwrap();
    std::fs::write(&hgrc, text.replace("publish = yes", "publish = no")).unwrap();
    world.file("index.html", "two\n");
    let two = world.commit("two");
    world.push().ok().says("=====> live: 0/");
    let phase = world.hg_there(&["log", "--rev", "tip", "--template", "{phase}"]).ok().stdout;
    assert_eq!(phase, "draft");
    world.hg_there(&["--config", "experimental.evolution=createmarkers", "debugobsolete", &two]).ok();
    world.receiver(&["deploy", "app", &two]).fails(2).says("there is no revision");
    world.receiver(&["deploy", "app"]).ok();
    assert_eq!(world.live_file("index.html"), "one\n", "the tip is what is not hidden");
}

#[test]
fn other_branches_have_apps_and_previews_that_go_when_they_are_closed() {
    let world = site();
    world.server_config("[branches]\n\"f/*\" = { preview = true }\n");
    world.hg(&["branch", "--quiet", "f/map"]).ok();
    world.file("index.html", "a map\n");
    world.commit("a map");
    let said = world.hg_push(&["--new-branch"]).ok();
    said.says("=====> live: 0/");
    let preview = world.root().join("app--f-map");
    assert_eq!(std::fs::read_to_string(preview.join("current/index.html")).unwrap(), "a map\n");
    assert_eq!(world.live_file("index.html"), "one\n");
    world.hg(&["commit", "--close-branch", "--message", "merged"]).ok();
    world.hg_push(&[]).ok().says("removed: app--f-map");
    assert!(!preview.exists());
    assert_eq!(world.live_file("index.html"), "one\n");
    // One that lost its hook is found.
    world.hg(&["branch", "--quiet", "f/lost"]).ok();
    world.file("index.html", "lost\n");
    let lost = world.commit("lost");
    world.arrive_without_a_hook(&lost);
    world.receiver(&["watch", "app", "--once"]).ok();
    let page = world.root().join("app--f-lost/current/index.html");
    world.until(30, "the lost branch", || std::fs::read_to_string(&page).is_ok_and(|text| text == "lost\n"));
    world.until_idle();
}

#[test]
fn subrepositories_are_exported_where_they_are_granted_and_refused_by_name_elsewhere() {
    let world = site();
    let library = |name: &str, by: &str| {
        let place = world.place().join(name);
        std::fs::create_dir(&place).unwrap();
        let run = |words: &[&str]| world.run(by, &place, words).ok();
        run(&["init"]);
        std::fs::write(place.join("lib.txt"), format!("{name}, by {by}\n")).unwrap();
        run(&["add", "lib.txt"]);
        run(&["commit", "-m", "one"]);
        place.display().to_string()
    };
    let (ours, theirs) = (library("ours", "hg"), library("theirs", "git"));
    world.run("hg", &world.laptop(), &["clone", "--quiet", &ours, "vendor/ours"]).ok();
    world.run("git", &world.laptop(), &["clone", "--quiet", &theirs, "vendor/theirs"]).ok();
    world.file(".hgsub", &format!("vendor/ours = {ours}\nvendor/theirs = [git]{theirs}\n"));
    let git = ["--config", "subrepos.git:allowed=yes"];
    world.hg(&["add", "--quiet", ".hgsub"]).ok();
    world.hg(&[&git, &["commit", "--message", "with libraries"][..]].concat()).ok();
    let said = world.hg_push(&git).fails(1);
    said.says("vendor/ours is a submodule of").says("which the server does not grant");
    world.server_config(&format!("[export]\nsubmodules = [{ours:?}, {theirs:?}]\n"));
    world.hg_push(&git).ok().says("=====> live: 0/");
    assert_eq!(world.live_file("vendor/ours/lib.txt"), "ours, by hg\n");
    assert_eq!(world.live_file("vendor/theirs/lib.txt"), "theirs, by git\n");
    world.receiver(&["verify", "app"]).ok();
}

/// How many files lie in `objects.git/objects`, loose, and how many packs.
fn objects(world: &World) -> (usize, usize) {
    let place = world.repository().join(".hg/receiver/objects.git/objects");
    let count = |place: &std::path::Path| std::fs::read_dir(place).map_or(0, |all| all.count());
    let loose = std::fs::read_dir(&place).unwrap().flatten().filter(|entry| entry.file_name().len() == 2);
    (loose.map(|entry| count(&entry.path())).sum(), count(&place.join("pack")) / 2)
}

#[test]
fn what_no_release_holds_is_thrown_away_and_the_rest_is_whole() {
    let world = site();
    world.server_config("branch = \"main\"\n[keep]\nreleases = 1\n");
    for round in 0..3 {
        for n in 0..1200 {
            world.file(&format!("d{}/f{n}", n % 7), &format!("{round} {n}\n"));
        }
        let revision = world.commit(&format!("round {round}"));
        world.push().ok();
        world.until_idle();
        live_is(&world, &revision);
    }
    world.until(30, "the objects to be packed", || objects(&world).1 == 1);
    // Those of the first rounds are gone; what is kept can be verified, rolled back to, and built on.
    let (loose, _) = objects(&world);
    assert!(loose < 2000, "{loose}");
    world.receiver(&["verify", "app"]).ok();
    world.receiver(&["rollback", "app"]).ok();
    world.receiver(&["verify", "app"]).ok();
    world.file("index.html", "after\n");
    let last = world.commit("after");
    world.push().ok();
    live_is(&world, &last);
}

#[test]
fn a_limit_for_pushes_is_refused_since_mercurial_has_none() {
    let world = site();
    let live = world.live();
    world
        .receiver(&["config", "app", "limits.push_bytes", "1M"])
        .fails(1)
        .says("Mercurial has no limit for what is pushed");
    world.server_config("[limits]\npush_bytes = \"1M\"\n");
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok().says("Mercurial has no limit for what is pushed").says("NOT LIVE: still");
    assert_eq!(world.live(), live);
}

#[test]
fn ten_thousand_changesets_come_in_one_push() {
    let mut made = None;
    on_mercurial(|| made = Some(World::with_app()));
    let world = made.unwrap();
    world.hg(&["debugbuilddag", "--quiet", "@main +10000"]).ok();
    world.hg(&["update", "--quiet", "main"]).ok();
    world.file("index.html", "after ten thousand\n");
    let last = world.commit("the last one");
    let said = world.push().ok();
    assert_eq!(verdicts(&said).len(), 1, "{}", said.talk());
    assert_eq!(world.live_file("index.html"), "after ten thousand\n");
    assert_eq!(world.status()["tip"], last.as_str());
}

/// A git history with all that a tree goes through, as a repository of Mercurial's by `hg convert`.
fn converted(world: &World) -> Vec<String> {
    let source = world.place().join("source");
    std::fs::create_dir(&source).unwrap();
    let script = "git init -q --initial-branch=main; i=0; \
        while [ $i -lt 24 ]; do i=$((i+1)); mkdir -p a/$((i%5)) b; echo $i > a/$((i%5))/f$((i%7)); seq $i > b/long; \
        echo $i > index.html; ln -sfn ../a/$((i%5)) b/link; \
        case $((i%6)) in 1) chmod +x b/long;; 2) chmod -x b/long; git mv -k a/1/f1 moved$i;; 3) rm -rf a/2;; \
        4) printf '\\0\\377' > \"caf$(printf '\\351')$i\";; 5) git checkout -q -b side; date > s; git add -A; git commit -qm side$i; \
        git checkout -q main; git merge -q --no-ff -m merge$i side; git branch -q -d side;; esac; \
        git add -A; git commit -q --allow-empty -m \"commit $i\"; done";
    world.run("sh", &source, &["-ec", script]).ok();
    let place = world.place().display().to_string();
    let (from, to) = (format!("{place}/source"), format!("{place}/converted"));
    world
        .run("hg", world.place(), &["--config", "extensions.convert=", "convert", "--quiet", &from, &to])
        .ok();
    std::fs::remove_dir_all(world.laptop()).unwrap();
    world.run("mv", world.place(), &[&to, "laptop"]).ok();
    let template = ["log", "--rev", "sort(::tip, rev)", "--template", "{node}\\n"];
    world.hg(&template).ok().stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_converted_history_is_deployed_changeset_by_changeset_and_each_release_is_the_changeset() {
    let mut made = None;
    on_mercurial(|| made = Some(World::new()));
    let world = made.unwrap();
    let revisions = converted(&world);
    world.receiver(&["create", "app", "--vcs", "hg"]).ok().says("hg push -b default production");
    world.remote("app");
    world.server_config("branch = \"default\"\n[keep]\nreleases = 2\n");
    assert!(revisions.len() > 25, "{revisions:?}");
    let mut deployed = 0;
    for revision in revisions {
        // The inner side of a merge is a second head; it comes with the merge.
        let said = world.hg_push(&["--rev", &revision]);
        if said.code == 0 {
            said.says("=====> live: 0/");
            world.hg(&["update", "--quiet", "--clean", &revision]).ok();
            live_is(&world, &revision);
            deployed += 1;
        } else {
            said.says("push creates new remote head");
        }
    }
    assert!(deployed > 20, "{deployed}");
    world.receiver(&["verify", "app"]).ok();
}

#[test]
fn a_key_opens_the_mercurial_repository_that_it_names_and_nothing_else_of_hg() {
    let world = site();
    world.receiver(&["create", "shop", "--vcs", "hg"]).ok();
    let_in(&world, "dora", "deploy", &["app"]);
    let_in(&world, "ruth", "read", &["app"]);
    let sshd = Sshd::start(&world);
    let by = |key: &str| format!("ui.ssh=ssh {} -p {}", sshd.plain_options(key).join(" "), sshd.port);
    let remote = |app: &str| format!("ssh://{}/{app}", sshd.remote("").trim_end_matches(':'));
    let push = |key: &str, app: &str, more: &[&str]| {
        let (ssh, remote) = (by(key), remote(app));
        // Not quietly: Mercurial would keep to itself what the other side says.
        let words = [&["--config", &ssh, "push"], more, &["--branch", "main", &remote]].concat();
        world.understood(world.hg(&words))
    };
    // Hooks run also where Mercurial would not trust the repository's own settings.
    std::os::unix::fs::chown(world.repository().join(".hg/hgrc"), Some(1234), None).unwrap();
    world.file("index.html", "two\n");
    world.commit("two");
    let said = push("dora", "app", &["--pushvars", "RECEIVER_PLAN=1"]).fails(1);
    said.says("this was only the plan");
    push("ruth", "app", &[]).fails(1).says("this key may not push");
    assert_eq!(world.live_file("index.html"), "one\n");
    let said = push("dora", "app", &[]).ok();
    // Mercurial shows what the other side says on its own stdout.
    assert_eq!(said.stdout.matches("=====> ").count(), 1, "{}", said.stdout);
    said.says("remote: =====> live: 0/");
    assert_eq!(world.live_file("index.html"), "two\n");
    assert_eq!(world.list()["releases"][0]["pusher"], "dora");
    // Who reads may pull.
    let (ssh, from) = (by("ruth"), remote("app"));
    let clone = world.place().join("of-ruth").display().to_string();
    world.run("hg", world.place(), &["--config", &ssh, "clone", "--quiet", &from, &clone]).ok();
    push("dora", "shop", &[]).fails(1);
    push("dora", "../shop", &[]).fails(1);
    for bad in [
        "hg -R shop serve --stdio",
        "hg -R app serve --stdio --config hooks.x=id",
        "hg --config extensions.x=/tmp/x.py -R app serve --stdio",
        "hg -R app --debugger serve --stdio",
        "hg -R app --cwd / serve --stdio",
        "hg --cwd=/ -R app serve --stdio",
        "hg -R --debugger serve --stdio",
        "hg -R app/../shop serve --stdio",
        "hg -Rapp serve --stdio",
        "hg -R app serve --daemon",
        "hg init more",
        "hg",
    ] {
        let said = sshd.ssh(&world, "dora", bad);
        assert_ne!(said.code, 0, "{bad}");
        assert_eq!(said.stdout, "", "{bad}");
    }
}
