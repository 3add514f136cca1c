//! Every pushed ref gets one verdict line (promise 8), and what is in a name or a message stays text.

use crate::plumbing::{assert_tame, verdicts};
use crate::world::World;

#[test]
fn every_pushed_ref_gets_one_verdict_line_when_the_push_is_accepted() {
    let world = World::with_site();
    world.file("index.html", "two\n");
    world.commit("two");
    world.git(&["branch", "other"]).ok();
    world.git(&["branch", "mainx"]).ok();
    world.git(&["branch", "xmain"]).ok();
    world.git(&["branch", "feature/main"]).ok();
    world.git(&["tag", "light"]).ok();
    world.git(&["tag", "-a", "-m", "words", "annotated"]).ok();
    let refs = ["main", "other", "mainx", "xmain", "feature/main", "light", "annotated"];
    let said = world.push_with(&[&["production"], &refs[..]].concat()).ok();
    let mut lines = verdicts(&said);
    let live = lines.pop().unwrap();
    assert_eq!(live, format!("=====> live: {}", world.live().unwrap()));
    lines.sort();
    assert_eq!(
        lines,
        [
            "=====> ignored: feature/main (app deploys main)",
            "=====> ignored: mainx (app deploys main)",
            "=====> ignored: other (app deploys main)",
            "=====> ignored: tag annotated (app deploys main)",
            "=====> ignored: tag light (app deploys main)",
            "=====> ignored: xmain (app deploys main)",
        ]
    );
    assert_eq!(world.live_file("index.html"), "two\n");
    assert_eq!(world.states(), ["live", "good"]);
}

#[test]
fn every_pushed_ref_gets_one_verdict_line_when_the_push_is_refused() {
    let world = World::with_site();
    let before = world.git_there(&["for-each-ref"]).ok().stdout;
    world.file("manage.py", "");
    world.commit("a Django that nothing is said about");
    world.git(&["branch", "other"]).ok();
    world.git(&["tag", "v1"]).ok();
    let said = world.push_with(&["production", "main", "other", "v1"]).fails(1);
    let mut lines = verdicts(&said);
    lines.sort();
    assert_eq!(
        lines,
        [
            "=====> refused: main: this looks like Django, and nothing says how it is deployed: there is no receiver.toml in it",
            "=====> refused: other, together with main",
            "=====> refused: tag v1, together with main",
        ]
    );
    assert_eq!(world.git_there(&["for-each-ref"]).ok().stdout, before, "no ref moves");
    assert_eq!(world.live_file("index.html"), "one\n");
}

#[test]
fn every_pushed_ref_gets_one_verdict_line_also_where_none_would_be_deployed() {
    let world = World::with_site();
    world.git(&["branch", "a"]).ok();
    world.git(&["branch", "b"]).ok();
    for (option, why) in [
        ("plan", "nothing in this push is deployed: app deploys main"),
        ("sausage", "'sausage' is no option of a push"),
    ] {
        let said = world.push_with(&["-o", option, "production", "a", "b"]).fails(1);
        assert_eq!(
            verdicts(&said),
            [format!("=====> refused: a: {why}"), format!("=====> refused: b: {why}")],
            "{option}"
        );
    }
    let said = world.push_with(&["production", "a", "b"]).ok();
    assert_eq!(
        verdicts(&said),
        ["=====> ignored: a (app deploys main)", "=====> ignored: b (app deploys main)"]
    );
}

#[test]
fn every_pushed_ref_gets_one_verdict_line_also_with_a_broken_server_file() {
    let world = World::with_site();
    world.server_config("branch = \"main\"\nbrnch = 1\n");
    world.file("index.html", "two\n");
    world.commit("two");
    world.git(&["branch", "other"]).ok();
    let said = world.push_with(&["production", "main", "other"]).fails(1);
    let lines = verdicts(&said);
    assert_eq!(lines.len(), 2, "{}", said.talk());
    assert!(lines.iter().all(|line| line.contains("refused: ")), "{lines:?}");
    said.says("receiver.toml:2: unknown key 'brnch' (did you mean 'branch'?)");
}

#[test]
fn a_forced_push_deploys_and_says_so() {
    let world = World::with_site();
    world.git(&["commit", "--amend", "--quiet", "-m", "one, again"]).ok();
    world.push().fails(1);
    assert_eq!(world.states(), ["live"]);
    world.push_with(&["--force"]).ok().says("(forced: commits were left behind)").says("=====> live: 0/");
    assert_eq!(world.list()["releases"][0]["subject"], "one, again");
    world.receiver(&["history", "app"]).ok().says(", forced");
}

#[test]
fn the_deployed_branch_cannot_be_deleted_and_others_can() {
    let world = World::with_site();
    world.git(&["push", "--quiet", "production", "main:other"]).ok();
    let said = world.push_with(&["--delete", "production", "main"]).fails(1);
    assert_eq!(verdicts(&said), ["=====> refused: main: app deploys main, which cannot be deleted"]);
    said.says("`receiver config app branch OTHER`");
    let said = world.push_with(&["--delete", "production", "other"]).ok();
    assert_eq!(verdicts(&said), ["=====> ignored: other was deleted (app deploys main)"]);
    assert_eq!(world.live_file("index.html"), "one\n");
}

#[test]
fn an_annotated_tag_on_the_deployed_branch_is_refused_with_what_to_type() {
    let world = World::with_site();
    world.file("index.html", "two\n");
    world.commit("two");
    world.git(&["tag", "-a", "-m", "words", "v1"]).ok();
    let said = world.push_with(&["--force", "production", "v1:refs/heads/main"]).fails(1);
    // git before 2.47 or so refuses it itself, on the laptop; where it comes here, we do.
    let raw = world.git(&["rev-parse", "v1"]).ok().stdout;
    if !verdicts(&said).is_empty() {
        said.says("=====> refused: main: it is an annotated tag").says(&raw[..7]).says("^{commit}");
    }
    assert_eq!(world.live_file("index.html"), "one\n");
    assert_eq!(world.states(), ["live"]);
}

#[test]
fn a_push_from_a_shallow_clone_is_refused_with_what_to_type() {
    let world = World::with_app();
    for n in 0..3 {
        world.file("index.html", &format!("{n}\n"));
        world.commit("more");
    }
    let source = format!("file://{}", world.laptop().display());
    let shallow = world.place().join("shallow");
    world.git(&["clone", "--quiet", "--depth=1", &source, shallow.to_str().unwrap()]).ok();
    let url = world.app().join("repo.git").display().to_string();
    let said = world.run("git", &shallow, &["push", "--quiet", &url, "main"]).fails(1);
    assert!(said.talk().contains("shallow"), "{}", said.talk());
    assert_eq!(world.live(), None);
    said.says("=====> refused: main: it comes from a shallow clone").says("git fetch --unshallow");
    // One whose missing history is there already is as good as any.
    world.push().ok();
    std::fs::write(shallow.join("index.html"), "from the shallow one\n").unwrap();
    world.run("git", &shallow, &["commit", "--quiet", "-am", "x"]).ok();
    world.run("git", &shallow, &["push", "--quiet", &url, "main"]).ok().says("=====> live: 0/");
    assert_eq!(world.live_file("index.html"), "from the shallow one\n");
}

#[test]
fn what_is_pushed_cannot_leave_its_place_by_the_name_of_a_ref() {
    let world = World::with_site();
    let head = world.head();
    let names = [
        "refs/heads/$(touch${IFS}x)",
        "refs/heads/`touch${IFS}y`",
        "refs/heads/;touch${IFS}z;",
        "refs/heads/--upload-pack=touch",
        "refs/heads/-x",
        "refs/heads/\u{202e}niam",
        "refs/tags/|cat",
        "refs/odd/main",
        "refs/heads/refs/heads/main",
        "refs/heads/é'\"&<>",
    ];
    let before = world.snapshot(world.place());
    for name in names {
        world.git(&["update-ref", name, &head]).ok();
        let said = world.push_with(&["production", &format!("{name}:{name}")]).ok();
        let lines = verdicts(&said);
        assert_eq!(lines.len(), 1, "{name}: {}", said.talk());
        assert!(lines[0].starts_with("=====> ignored: ") && lines[0].ends_with("(app deploys main)"));
        assert_tame(name, &said.talk());
    }
    let new = |path: &std::path::Path| !path.starts_with(world.app()) && !path.starts_with(world.laptop());
    let outside: Vec<_> = world.snapshot(world.place()).into_keys().filter(|path| new(path)).collect();
    assert_eq!(outside, before.into_keys().filter(|path| new(path)).collect::<Vec<_>>());
    assert_eq!(world.states(), ["live"]);
    assert_eq!(world.receiver(&["doctor", "app"]).ok().code, 0);
}

#[test]
fn a_branch_with_shell_in_its_name_can_be_the_deployed_one() {
    let world = World::new();
    let name = "$(touch${IFS}x);--y";
    world.receiver(&["create", "app", "--branch", name]).ok();
    world.remote("app");
    world.file("index.html", "one\n");
    world.file("receiver.toml", "[stages]\nbuild = \"printf %s \\\"$RECEIVER_BRANCH\\\" > branch\"\n");
    world.commit("one");
    world.push_with(&["production", &format!("main:refs/heads/{name}")]).ok().says("=====> live: 0/");
    assert_eq!(world.live_file("branch"), name);
    assert!(!world.live_directory().join("x").exists());
    world.push_with(&["production", "main:main"]).ok().says(&format!("(app deploys {name})"));
}

#[test]
fn head_says_nothing_about_what_is_deployed() {
    let world = World::with_site();
    world.git_there(&["symbolic-ref", "HEAD", "refs/heads/other"]).ok();
    world.file("index.html", "two\n");
    world.commit("two");
    world.push_with(&["production", "main:other"]).ok().says("ignored: other (app deploys main)");
    assert_eq!(world.live_file("index.html"), "one\n");
    world.push().ok().says("=====> live: 0/");
}

#[test]
fn option_plan_prints_the_plan_and_refuses_the_push() {
    let world = World::with_sql();
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL, more TEXT);\n");
    let head = world.commit("more");
    let before = world.snapshot(&world.app());
    let said = world.push_with(&["-o", "plan"]).fails(1);
    assert_eq!(verdicts(&said), ["=====> refused: main: this was only the plan; nothing was pushed"]);
    let said = said
        .says(&format!("       app: deploy {} — the schema changed: version 1 opens", &head[..12]))
        .says("       export     4 files, 1 changed, ")
        .says("       schema     changed: schema.sql → version 1")
        .says("       stages     syncdb, migration");
    drop(said.says("filled by the migration from app_v0 (rehearsed first)"));
    let same = |path: &std::path::Path| path.starts_with(world.app().join("repo.git"));
    let (mut old, mut new) = (before, world.snapshot(&world.app()));
    old.retain(|path, _| !same(path));
    new.retain(|path, _| !same(path));
    assert_eq!(old, new, "a plan changes nothing");
    world.push_with(&["-o", "plan", "-o", "schema=same"]).fails(1).says("joins version 0");
    // The same by the command, on what is in the repository.
    world.push().ok();
    world.receiver(&["plan", "app"]).ok().says("skip").says("it is live already");
}

#[test]
fn options_overrule_the_schema_and_bad_ones_are_refused() {
    let world = World::with_sql();
    world.file("index.html", "two\n");
    world.commit("two");
    world.push_with(&["-o", "schema=new"]).ok().says("=====> live: 1/");
    world.receiver(&["history", "app", "--json"]).ok().says("schema=new");
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL, more TEXT);\n");
    world.commit("more");
    world
        .push_with(&["-o", "schema=same"])
        .ok()
        .says("=====> live: 1/")
        .says("taken as unchanged: schema.sql");
    world.file("index.html", "three\n");
    world.commit("three");
    for bad in ["schema=maybe", "schema", "carry=copy", "x=\u{1b}[2J", "max-pause=never", "--upload-pack=x"] {
        let said = world.push_with(&["-o", bad]).fails(1);
        assert_eq!(verdicts(&said).len(), 1, "{bad}");
        assert_tame(bad, &said.talk());
        said.says("is no option of a push").says("hint: there are: plan, schema=same");
    }
    assert_eq!(world.list()["releases"].as_array().unwrap().len(), 3);
}

#[test]
fn what_is_pushed_cannot_leave_its_place_into_a_terminal_by_a_commits_subject() {
    let world = World::with_site();
    let subject = "a\u{1b}]0;owned\u{7}b\u{1b}[2Jc\u{9b}31md\u{202e}e\u{2066}f\u{8}g\rh";
    world.file("index.html", "two\n");
    world.git(&["add", "--all"]).ok();
    let message = world.place().join("message");
    std::fs::write(&message, subject).unwrap();
    let arguments = ["commit", "--quiet", "--cleanup=verbatim", "-F", message.to_str().unwrap()];
    world.git(&arguments).ok();
    let said = world.push().ok();
    assert_tame("the push", &said.talk());
    said.says("a\\u{1b}]0;owned\\u{7}b");
    let live = world.live().unwrap();
    for command in [
        &["list", "app"][..],
        &["list", "app", "--json"],
        &["show", "app"],
        &["show", "app", "--json"],
        &["history", "app"],
        &["history", "app", "--json"],
        &["status", "app"],
        &["attach", "app"],
        &["rollback", "app", "--dry-run"],
        &["plan", "app"],
    ] {
        let said = world.receiver(command).ok();
        assert_tame(&format!("{command:?}"), &format!("{}{}", said.stdout, said.stderr));
    }
    let record = std::fs::read_to_string(world.app().join(format!("versions/{live}.toml"))).unwrap();
    assert_tame("the record", &record);
}

#[test]
fn what_a_person_locks_with_reaches_no_terminal_raw() {
    let world = World::with_site();
    let said = world.receiver(&["lock", "app", "-m", "why\u{1b}[2J\u{202e}?"]).ok();
    assert_tame("lock", &said.stderr);
    world.file("index.html", "two\n");
    world.commit("two");
    let said = world.push().fails(1).says("app is locked: why");
    assert_tame("the push", &said.talk());
    for command in [&["status", "app"][..], &["history", "app"]] {
        assert_tame(&format!("{command:?}"), &world.receiver(command).ok().stdout);
    }
    let said = world.receiver(&["deploy", "app"]).fails(1);
    assert_tame("deploy", &said.stderr);
}
