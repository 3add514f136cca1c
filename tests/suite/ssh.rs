//! What comes over ssh, by a real sshd: a key opens what it was given, nothing else.

use std::os::unix::ffi::OsStrExt;

use crate::browser::free_port;
use crate::sshd::{Listener, Sshd, let_in, make_key, shell};
use crate::world::{Said, World};

/// Who carries out what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The process that ssh starts: there is one user.
    Itself,
    /// One that listens at a socket: there is an account for ssh, and one for receiver.
    Socket,
}

/// Does something in a world of each way.
pub fn each_way(what: impl Fn(&World, &Sshd, Option<&Listener>)) {
    for way in [Way::Itself, Way::Socket] {
        let mut world = two_apps();
        let listener = (way == Way::Socket).then(|| Listener::start(&mut world, "root"));
        for (name, role, apps) in KEYS {
            let_in(&world, name, role, apps);
        }
        let top = world.place().join("server").display().to_string();
        let sshd = match &listener {
            Some(_) => {
                Listener::put_in_force(&world, &KEYS.map(|(name, _, _)| name));
                Sshd::start_with(&world, &[("RECEIVER_TEST_SERVER", &top)])
            }
            None => Sshd::start(&world),
        };
        what(&world, &sshd, listener.as_ref());
        if let Some(listener) = listener {
            listener.until_idle(&world);
        }
    }
}

/// The same where only one user has it all.
fn with_keys() -> (World, Sshd) {
    let world = two_apps();
    for (name, role, apps) in KEYS {
        let_in(&world, name, role, apps);
    }
    let sshd = Sshd::start(&world);
    (world, sshd)
}

/// A world with two apps, `app` and `shop`, each with two releases.
pub fn two_apps() -> World {
    let world = World::with_sql();
    world.receiver(&["create", "shop"]).ok();
    let shop = world.root().join("shop/repo.git").display().to_string();
    world.git(&["push", "--quiet", &shop, "main"]).ok();
    world.file("index.html", "two\n");
    world.commit("two");
    world.git(&["push", "--quiet", &shop, "main"]).ok();
    world.push().ok();
    world
}

pub const KEYS: [(&str, &str, &[&str]); 4] = [
    ("ruth", "read", &["app"]),
    ("dora", "deploy", &["app"]),
    ("adam", "admin", &["app"]),
    ("both", "deploy", &["app", "shop"]),
];

/// Every command of the contract's table: what it takes, its words, its input, and how it may end.
pub fn table(port: u16) -> Vec<(&'static str, String, &'static str, &'static [i32])> {
    let ok: &[i32] = &[0];
    vec![
        ("read", "list APP".into(), "", ok),
        ("read", "status APP".into(), "", ok),
        ("read", "show APP".into(), "", ok),
        ("read", "history APP".into(), "", ok),
        ("read", "logs APP".into(), "", ok),
        ("read", "plan APP".into(), "", ok),
        ("read", "verify APP".into(), "", ok),
        ("read", "doctor APP".into(), "", &[0, 1]),
        ("deploy", "deploy APP".into(), "", ok),
        ("deploy", "rollback APP --dry-run".into(), "", ok),
        ("deploy", "attach APP".into(), "", ok),
        ("deploy", "cancel APP".into(), "", ok),
        ("deploy", "lock APP -m 'why it is'".into(), "", ok),
        ("deploy", "unlock APP".into(), "", ok),
        ("deploy", "run APP -- true".into(), "", ok),
        ("deploy", format!("serve APP --version 77 --port {port}"), "", &[1, 2]),
        ("deploy", "maintenance APP on".into(), "", ok),
        ("deploy", "maintenance APP off".into(), "", ok),
        ("deploy", "down APP".into(), "", ok),
        ("deploy", "up APP".into(), "", ok),
        ("deploy", "restart APP".into(), "", ok),
        ("admin", "db APP list".into(), "", ok),
        ("admin", "db APP url".into(), "", ok),
        ("admin", "db APP dump".into(), "", ok),
        ("admin", "db APP shell".into(), "SELECT 1;", ok),
        ("admin", "env APP set KEY".into(), "value", ok),
        ("admin", "env APP list".into(), "", ok),
        ("admin", "env APP unset KEY".into(), "", ok),
        ("admin", "config APP".into(), "", ok),
        ("admin", "config APP keep.releases 4".into(), "", ok),
        ("admin", "config APP --unset keep.releases".into(), "", ok),
        ("admin", "put APP a/b".into(), "text", ok),
        ("admin", "get APP a/b".into(), "", ok),
        ("admin", "pin APP 0/".into(), "", &[0, 2]),
        ("admin", "unpin APP 0/".into(), "", &[0, 2]),
        ("admin", "prune APP".into(), "", ok),
        ("nobody", "setup APP".into(), "", ok),
        ("nobody", "backup APP".into(), "", ok),
        ("nobody", "adopt APP".into(), "", ok),
        ("nobody", "remove APP".into(), "", ok),
        ("nobody", "create APP".into(), "", ok),
        ("nobody", "create new".into(), "", ok),
        ("nobody", "init".into(), "", ok),
        ("nobody", "watch APP --once".into(), "", ok),
        ("nobody", "demo".into(), "", ok),
        ("nobody", "completions bash".into(), "", ok),
        ("nobody", "man".into(), "", ok),
        ("nobody", "hook post-receive".into(), "", ok),
        ("nobody", "shell adam".into(), "", ok),
        ("nobody", "answer".into(), "", ok),
        ("nobody", "work APP".into(), "", ok),
        ("nobody", "hold APP x".into(), "", ok),
        ("nobody", "wake APP".into(), "", ok),
        ("nobody", "cron APP --arrange".into(), "", ok),
        ("nobody", "process begin APP web id".into(), "", ok),
        ("nobody", "tethered --parent 1 -- id".into(), "", ok),
        ("nobody", "id".into(), "", ok),
        ("nobody", "/bin/sh".into(), "", ok),
        ("nobody", "scp -t /tmp".into(), "", ok),
        ("nobody", "/usr/lib/openssh/sftp-server".into(), "", ok),
        ("nobody", "rsync --server . /tmp".into(), "", ok),
    ]
}

pub fn reach(role: &str) -> usize {
    ["read", "deploy", "admin", "nobody"].iter().position(|one| *one == role).unwrap()
}

/// All that is in an app's directory, with its times: what nobody may have touched.
fn picture(world: &World, app: &str) -> String {
    let place = world.root().join(app);
    let arguments = [place.to_str().unwrap(), "-printf", "%P %y %m %s %T@ %l\n"];
    let mut lines: Vec<String> =
        world.run("find", world.place(), &arguments).ok().stdout.lines().map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

fn was_refused(said: &Said) -> bool {
    let why = [
        "takes the role",
        "is nothing that is done over ssh",
        "there is no app 'shop'",
        "this key opens no app",
    ];
    said.code == 2 && why.iter().any(|why| said.stderr.contains(why))
}

#[test]
fn a_key_opens_what_it_was_given_and_nothing_else() {
    each_way(|world, sshd, _| every_command_of_every_key(world, sshd));
}

fn every_command_of_every_key(world: &World, sshd: &Sshd) {
    let table = table(free_port());
    let apps = ["app", "shop"];
    for (name, role, opened) in KEYS {
        for app in apps {
            let opens = opened.contains(&app);
            let before = if opens { String::new() } else { picture(world, app) };
            for (takes, words, input, codes) in &table {
                let line = words.replace("APP", app);
                let said = sshd.fed(world, name, &line, input.as_bytes());
                let may = reach(role) >= reach(takes) && *takes != "nobody";
                // To a key for another app the name is no app's, but may be a release's or a process's of its own.
                let refused = if may && !opens { said.code != 0 } else { was_refused(&said) };
                assert_eq!(refused, !may || !opens, "{name}: {line}: {said:?}");
                assert!(refused || codes.contains(&said.code), "{name}: {line}: {said:?}");
            }
            if !opens {
                world.until_idle();
                assert_eq!(picture(world, app), before, "{name} changed {app}");
            }
        }
    }
    assert!(!world.root().join("new").exists());
    // What is a name of the one app is never taken for one of the other's: `rollback shop` of a key for `app`.
    for line in [
        "rollback shop",
        "deploy shop",
        "env shop list",
        "db shop url",
        "restart shop",
        "config shop domain x.org",
    ] {
        let before = picture(world, "shop");
        let said = sshd.ssh(world, "adam", line);
        assert_ne!(said.code, 0, "{line}: {said:?}");
        assert_eq!(picture(world, "shop"), before, "{line}");
    }
}

#[test]
fn a_key_sees_and_names_no_apps_but_its_own() {
    each_way(|world, sshd, _| sees(world, sshd));
}

fn sees(world: &World, sshd: &Sshd) {
    let said = sshd.ssh(world, "ruth", "status --json").ok();
    let apps =
        said.json()["apps"].as_array().unwrap().iter().map(|app| app["app"].clone()).collect::<Vec<_>>();
    assert_eq!(apps, ["app"]);
    for line in [
        "status",
        "doctor",
        "list",
        "show",
        "history",
        "list shop",
        "list nothing",
        "status shop",
        "",
        "--help",
    ] {
        sshd.ssh(world, "ruth", line).never_says("shop/").never_says("shop,").never_says(", shop");
    }
    // What is not there and what is not to be seen are told by the same words.
    let hidden = sshd.ssh(world, "ruth", "list shop").fails(2).stderr.replace("shop", "X");
    let absent = sshd.ssh(world, "ruth", "list nothing").fails(2).stderr.replace("nothing", "X");
    assert_eq!(hidden, absent);
    let hidden =
        sshd.git(world, "ruth", &["ls-remote", &sshd.remote("shop")]).fails(128).stderr.replace("shop", "X");
    let absent =
        sshd.git(world, "ruth", &["ls-remote", &sshd.remote("none")]).fails(128).stderr.replace("none", "X");
    assert_eq!(hidden, absent);
    // Where only one can be meant, it is; of two, one has to be named.
    sshd.ssh(world, "dora", "list").ok().says("live       two");
    sshd.ssh(world, "both", "list").fails(2).says("they are: app, shop");
    sshd.ssh(world, "both", "status").ok().says("app").says("shop");
}

#[test]
fn git_goes_to_the_apps_of_a_key_as_far_as_its_role_and_the_journal_names_it() {
    each_way(|world, sshd, _| git_with_keys(world, sshd));
}

fn git_with_keys(world: &World, sshd: &Sshd) {
    let clone = world.place().join("clone");
    let path = clone.display().to_string();
    let root = world.root().canonicalize().unwrap();
    for place in ["app", "app.git", "/app", "~/app", &root.join("app/repo.git").display().to_string()] {
        sshd.git(world, "ruth", &["clone", "--quiet", &sshd.remote(place), &path]).ok();
        assert_eq!(std::fs::read_to_string(clone.join("index.html")).unwrap(), "two\n");
        std::fs::remove_dir_all(&clone).unwrap();
    }
    let url = format!("ssh://{}/app", sshd.remote("").trim_end_matches(':'));
    sshd.git(world, "ruth", &["-c", "protocol.version=2", "ls-remote", &url])
        .ok()
        .never_says("refs/receiver");
    world.file("index.html", "three\n");
    world.commit("three");
    sshd.git(world, "ruth", &["push", &sshd.remote("app"), "main"])
        .fails(128)
        .says("a push takes the role deploy");
    for (key, place) in [("dora", "shop"), ("adam", "shop"), ("adam", "../app"), ("adam", "app/../shop")] {
        sshd.git(world, key, &["push", &sshd.remote(place), "main"]).fails(128).never_says("live:");
    }
    assert_eq!(world.live_file("index.html"), "two\n");
    sshd.git(world, "dora", &["push", &sshd.remote("app"), "main"]).ok().says("=====> live: 0/");
    assert_eq!(world.live_file("index.html"), "three\n");
    assert_eq!(world.list()["releases"][0]["pusher"], "dora");
    world.until_idle();
    sshd.ssh(world, "dora", "rollback app").ok().says("=====> live: 0/");
    sshd.ssh(world, "adam", "receiver pin app current").fails(2);
    let history = sshd.ssh(world, "ruth", "history app --json").ok().json();
    let by: Vec<&str> =
        history["entries"].as_array().unwrap().iter().filter_map(|e| e["by"].as_str()).collect();
    assert!(by.iter().filter(|by| **by == "dora").count() >= 3, "{by:?}");
    let listed = sshd.ssh(world, "adam", "key list --json").ok().json();
    let used: Vec<bool> =
        listed["keys"].as_array().unwrap().iter().map(|key| key["last_use"].is_string()).collect();
    assert_eq!(used, [true, false, true, true], "{listed}");
}

#[test]
fn bad_input_over_ssh_is_refused_with_a_sentence_and_nothing_is_executed() {
    let (world, sshd) = with_keys();
    let mark = world.place().join("mark");
    let touch = format!("touch {}", mark.display());
    let before = picture(&world, "shop");
    for line in [
        format!("list app; {touch}"),
        format!("list app && {touch}"),
        format!("list app | {touch}"),
        format!("list $({touch})"),
        format!("list `{touch}`"),
        format!("list \"$({touch})\""),
        format!("list app\n{touch}"),
        format!("list app\r{touch}"),
        format!("list app > {}", mark.display()),
        format!("list 'app"),
        format!("list \"app"),
        format!("list app \\"),
        "list ../shop".to_owned(),
        "list app/../shop".to_owned(),
        "list \x1b[2J".to_owned(),
        "list \u{202e}app".to_owned(),
        "receiver --root /tmp list app".to_owned(),
        "receiver --root=/tmp list app".to_owned(),
        "list app --root /".to_owned(),
        "list --root=/ app".to_owned(),
        "receiver -q --root / list app".to_owned(),
        "run --release 0/ app --root / -- true".to_owned(),
        format!("git-receive-pack '../shop'"),
        format!("git-receive-pack 'app' '{touch}'"),
        format!("git-receive-pack \"$({touch})\""),
        format!("git-receive-pack 'app';{touch}"),
        format!("git-upload-pack --upload-pack='{touch}' app"),
        format!("git-upload-pack '--upload-pack={touch}' 'app'"),
        format!("git -c core.pager='{touch}' upload-pack app"),
        "git-upload-archive app".to_owned(),
        "git-receive-pack ''".to_owned(),
        "git-receive-pack '/etc/passwd'".to_owned(),
        "hg -R app serve --stdio".to_owned(),
        "hg -R app serve --stdio --config hooks.x=id".to_owned(),
        format!("list {}", "a".repeat(70_000)),
        "'' list".to_owned(),
        "'list app'".to_owned(),
    ] {
        let said = sshd.ssh(&world, "adam", &line);
        let shown: String = line.chars().take(60).collect();
        assert!([2, 128].contains(&said.code), "{shown:?}: {said:?}");
        assert!(said.stderr.starts_with("error: ") && said.stdout.is_empty(), "{shown:?}: {said:?}");
        let quiet = said.stderr.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}');
        assert!(quiet && said.stderr.len() < 2000, "{shown:?}: {said:?}");
        assert!(!mark.exists(), "{shown:?} was executed");
    }
    // A megabyte fits into no packet, and what does fit into no environment: sshd can start nothing with it.
    for (words, length) in [(10, 100_000), (2, 90_000)] {
        let mut command = world.command("ssh", world.place());
        command.args(sshd.plain_options("adam")).args(sshd.host()).args(["list", "app"]);
        command.args(vec!["a".repeat(length); words]);
        let said = Said::of(&command.output().unwrap());
        assert!(said.code != 0 && said.stdout.is_empty(), "{said:?}");
    }
    assert_eq!(picture(&world, "shop"), before);
    // The same without sshd, which hands over what is no text, too.
    let mut command = world.command(crate::world::PROGRAM, world.place());
    command
        .args(["shell", "adam"])
        .env("SSH_ORIGINAL_COMMAND", std::ffi::OsStr::from_bytes(b"list \xff\xfe"));
    Said::of(&command.output().unwrap()).fails(2).says("is not UTF-8 text");
    for key in ["nobody", "../adam", "", "ADAM", "adam\n", "-x"] {
        let said = shell(&world, key, "list app");
        assert_eq!(said.code, 2, "{key:?}: {said:?}");
    }
    world.receiver(&["key", "remove", "adam"]).ok();
    shell(&world, "adam", "list app").fails(2).says("opens nothing any more");
}

#[test]
fn who_wants_a_shell_is_told_what_there_is() {
    let (world, sshd) = with_keys();
    sshd.ssh(&world, "ruth", "")
        .fails(1)
        .says("Hello ruth! There is no shell here.")
        .says("list")
        .never_says("HOST rollback");
    sshd.ssh(&world, "dora", "").fails(1).says("git push").says("rollback").never_says("@HOST env");
    sshd.ssh(&world, "ruth", "ls -l")
        .fails(2)
        .says("'ls' is nothing that is done over ssh")
        .says("this key, ruth, may do");
    let mut command = world.command("ssh", world.place());
    command.args(sshd.options("adam")).args(["-s"]).args(sshd.host()).arg("sftp");
    Said::of(&command.output().unwrap()).never_says("sftp>");
}

#[test]
fn an_admin_gives_no_more_than_he_has() {
    let (world, sshd) = with_keys();
    let_in(&world, "chief", "admin", &["*"]);
    let new = make_key(&world, "new");
    let add = |by: &str, apps: &str| {
        sshd.fed(&world, by, &format!("key add new --role admin {apps}"), new.as_bytes())
    };
    add("adam", "--app shop").fails(2).says("there is no app 'shop'");
    add("adam", "--app app --app shop").fails(2);
    add("adam", "--app *").fails(2).says("opens apps that yours does not");
    add("dora", "--app app").fails(2).says("takes the role admin");
    let file = sshd.ssh(&world, "adam", "key add new /etc/shadow --role read --app app").fails(2);
    file.says("comes by stdin").never_says("root:");
    // Of a key that opens more only what is seen here is named, and it is not taken away.
    let names = |by: &str| {
        let listed = sshd.ssh(&world, by, "key list --json").ok().json();
        listed["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let_in(&world, "shopper", "admin", &["shop"]);
    assert_eq!(names("adam"), ["adam", "both", "chief", "dora", "ruth"]);
    sshd.ssh(&world, "adam", "key list").ok().never_says("shop");
    sshd.ssh(&world, "adam", "key remove shopper").fails(2).says("there is no key shopper");
    sshd.ssh(&world, "adam", "key remove both").fails(2).says("opens apps that yours does not");
    sshd.ssh(&world, "adam", "key remove chief").fails(2);
    add("adam", "--app app").ok().says("is added");
    // It is in force at once, and so is its end.
    sshd.ssh(&world, "new", "env app list").ok();
    let entry = world.receiver(&["key", "list", "--json"]).ok().json();
    let entry = entry["keys"].as_array().unwrap().iter().find(|key| key["name"] == "new").unwrap().clone();
    assert_eq!(entry["by"], "adam");
    sshd.ssh(&world, "adam", "key remove new").ok();
    let mut command = world.command("ssh", world.place());
    command.args(sshd.plain_options("new")).args(sshd.host()).arg("list app");
    Said::of(&command.output().unwrap()).fails(255).says("Permission denied");
    // Also for a connection that was there before.
    sshd.ssh(&world, "new", "list app").fails(2).says("opens nothing any more");
    sshd.ssh(&world, "chief", "key remove shopper").ok();
}
