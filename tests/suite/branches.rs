//! Other branches, side by side: apps of their own that read their parent's repository; previews.

use std::path::PathBuf;

use crate::plumbing::{assert_tame, verdicts};
use crate::web::{SQL, WEB, ask};
use crate::world::{Said, World};

const DEVELOP: &str =
    "domain = \"app.example\"\n[branches]\ndevelop = { app = \"app--dev\", domain = \"dev.app.example\" }\n";
const PREVIEWS: &str = "domain = \"app.example\"\n[branches]\n\"feature/*\" = { preview = true }\n";

/// The points at which making an app, and removing a preview, are died at.
pub const POINTS: [&str; 4] = ["app-made", "app-placed", "preview-silent", "preview-moved"];

/// A site that is live on `main`, its server's file as given.
fn site(server: &str) -> World {
    let world = World::with_site();
    world.server_config(server);
    world
}

/// A database that is live on `main`, with one note in it.
fn notes(server: &str) -> World {
    let world = World::with_sql();
    world.sql("INSERT INTO note (text) VALUES ('of main');\n");
    world.server_config(server);
    world
}

fn app_of(world: &World, name: &str) -> PathBuf {
    world.root().join(name)
}

fn page(world: &World, name: &str) -> String {
    std::fs::read_to_string(app_of(world, name).join("current/index.html")).unwrap_or_default()
}

/// A commit on a branch, made from `main`, with this text on its page.
fn branch(world: &World, name: &str, text: &str) {
    world.git(&["switch", "--quiet", "--force-create", name]).ok();
    world.file("index.html", text);
    world.commit(text);
    world.git(&["switch", "--quiet", "main"]).ok();
}

fn push(world: &World, refs: &[&str]) -> Said {
    world.push_with(&[&["production"], refs].concat())
}

/// The names of all apps, and of what lies about in the root.
fn apps(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.root()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn held(world: &World) -> Vec<String> {
    let refs = world.git_there(&["for-each-ref", "--format=%(refname)", "refs/receiver"]).ok().stdout;
    refs.lines().map(str::to_owned).collect()
}

fn sql(world: &World, app: &str, statements: &str) -> String {
    let said = world.receiver_fed(&["db", app, "shell"], statements.as_bytes()).ok().stdout;
    // Without the line that names the columns.
    said.split_once('\n').map(|(_, rows)| rows.to_owned()).unwrap_or_default()
}

/// Nobody works, nothing waits and nothing is half made, in this app and in all others.
#[track_caller]
fn settled(world: &World) {
    world.until(60, "all workers to end", || {
        let status = world.receiver(&["status", "--json"]).ok().json();
        let all = status["apps"].as_array().unwrap().clone();
        all.iter().all(|app| app["deploying"].is_null() && app["waiting"] == 0)
            && apps(world).iter().all(|app| {
                let lock = std::fs::File::open(app_of(world, app).join("receiver/lock"));
                lock.is_ok_and(|lock| {
                    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared).is_ok()
                })
            })
    });
    world.nothing_is_left_over();
}

#[test]
fn another_branch_is_an_app_of_its_own_that_reads_its_parents_repository() {
    let world = site(DEVELOP);
    branch(&world, "develop", "next\n");
    let said = push(&world, &["develop"]).ok();
    said.clone().says("-----> app--dev: develop new..").says("url: http://dev.app.example/");
    assert_eq!(verdicts(&said).len(), 1);
    assert_eq!((page(&world, "app"), page(&world, "app--dev")), ("one\n".into(), "next\n".into()));
    assert!(!app_of(&world, "app--dev").join("repo.git").exists());
    let status = world.receiver(&["status", "app--dev", "--json"]).ok().json()["apps"][0].clone();
    assert_eq!((&status["branch"], &status["in_sync"]), (&"develop".into(), &true.into()));
    // All commands mean it, where it is named; without a name its parent is meant.
    world.receiver(&["list", "app--dev"]).ok().says("live");
    world.receiver(&["verify", "app--dev"]).ok();
    world.receiver(&["plan", "app--dev"]).ok().says("skip");
    world.receiver(&["deploy", "app--dev"]).ok().says("=====> live: 0/");
    branch(&world, "develop", "worse\n");
    push(&world, &["--force", "develop"]).ok().says("=====> live");
    world.receiver(&["rollback", "app--dev"]).ok();
    assert_eq!(page(&world, "app--dev"), "next\n");
    world.receiver(&["history", "app--dev"]).ok().says("develop");
    world.receiver(&["status"]).ok().says("app--dev");
    assert_eq!(world.receiver(&["list", "--json"]).ok().json()["app"], "app");
    settled(&world);
    world.receiver(&["doctor", "app"]).ok().says("1 have an app");
    world.receiver(&["doctor", "app--dev"]).ok().says("develop of app");
}

#[test]
fn a_push_of_several_branches_deploys_each_and_gives_each_its_verdict() {
    let world = site("[branches]\ndevelop = { app = \"app--dev\" }\n\"feature/*\" = { preview = true }\n");
    world.file("index.html", "two\n");
    world.commit("two");
    branch(&world, "develop", "next\n");
    branch(&world, "feature/map", "map\n");
    branch(&world, "other", "other\n");
    world.git(&["tag", "v1"]).ok();
    let said = push(&world, &["main", "develop", "feature/map", "other", "v1"]).ok();
    let mut lines: Vec<String> =
        verdicts(&said).iter().map(|line| line.split(" 0/").next().unwrap().to_owned()).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "=====> app--dev: live:",
            "=====> app--feature-map: live:",
            "=====> app: live:",
            "=====> ignored: other (app deploys main)",
            "=====> ignored: tag v1 (app deploys main)",
        ]
    );
    said.says("       app--dev: export").says("       app--feature-map: export").says("-----> app: main ");
    let pages = ["app", "app--dev", "app--feature-map"].map(|app| page(&world, app));
    assert_eq!(pages, ["two\n", "next\n", "map\n"]);
    settled(&world);
}

#[test]
fn what_refuses_one_branch_refuses_the_whole_push_and_makes_no_app() {
    let world = site(DEVELOP);
    world.file("index.html", "two\n");
    world.commit("two");
    world.git(&["switch", "--quiet", "-c", "develop"]).ok();
    world.file("manage.py", "");
    world.commit("a Django that nothing is said about");
    let said = push(&world, &["main", "develop"]).fails(1);
    let mut lines = verdicts(&said);
    lines.sort();
    assert_eq!(
        lines,
        [
            "=====> refused: develop: this looks like Django, and nothing says how it is deployed: there is no receiver.toml in it",
            "=====> refused: main, together with develop",
        ]
    );
    assert_eq!(apps(&world), ["app"]);
    assert_eq!(page(&world, "app"), "one\n");
}

#[test]
fn an_app_begins_with_what_its_parent_is_granted_and_is_then_its_own() {
    let world = site(
        "# ours\ndomain = \"app.example\"\n[branches]\ndevelop = { app = \"app--dev\" }\n\
         [stages]\nbuild = \"echo built > built\" # for code that is not ours\n[keep]\nreleases = 2\n[versions]\nurls = \"public\"\n",
    );
    world.receiver_fed(&["env", "app", "set", "SECRET"], b"of the parent").ok();
    world.file("receiver.toml", "[stages]\nassets = \"env > environment\"\n");
    world.commit("its environment");
    branch(&world, "develop", "next\n");
    push(&world, &["develop"]).ok();
    let file = std::fs::read_to_string(app_of(&world, "app--dev").join("receiver.toml")).unwrap();
    for kept in ["branch = \"develop\"\n", "releases = 2", "# for code that is not ours"] {
        assert!(file.contains(kept), "{kept} is not in:\n{file}");
    }
    for left in ["app.example", "branches", "public"] {
        assert!(!file.contains(left), "{left} is in:\n{file}");
    }
    let release = app_of(&world, "app--dev").join("current");
    assert!(release.join("built").is_file());
    let environment = std::fs::read_to_string(release.join("environment")).unwrap();
    assert!(!environment.contains("of the parent"), "{environment}");
    assert!(environment.contains("RECEIVER_BRANCH=develop\n"), "{environment}");
    // Whatever its file says, its branch is that which it was made for.
    std::fs::write(app_of(&world, "app--dev").join("receiver.toml"), "branch = \"main\"\n").unwrap();
    assert_eq!(world.receiver(&["status", "app--dev", "--json"]).ok().json()["apps"][0]["branch"], "develop");
}

#[test]
fn an_app_or_a_domain_that_the_parent_did_not_make_is_refused_and_hinders_no_other_branch() {
    let world = site(
        "domain = \"app.example\"\n[branches]\ndevelop = { app = \"app--dev\" }\ntaken = { app = \"app--taken\", domain = \"shop.example\" }\n\
         strange = { app = \"shop--dev\" }\nown = { app = \"app--own\", domain = \"app.example\" }\n",
    );
    world.receiver(&["create", "shop"]).ok();
    world.receiver(&["config", "shop", "domain", "shop.example"]).ok();
    let foreign = app_of(&world, "app--dev").join("receiver");
    std::fs::create_dir_all(&foreign).unwrap();
    std::fs::write(foreign.join("app.toml"), "format = 1\napp = \"app--dev\"\n").unwrap();
    world.file("index.html", "two\n");
    world.commit("two");
    for name in ["develop", "taken", "strange", "own"] {
        branch(&world, name, "x\n");
    }
    let said = push(&world, &["main", "develop", "taken", "strange", "own"]).ok();
    let mut lines = verdicts(&said);
    lines.sort();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[0].starts_with("=====> live: 0/"), "{lines:?}");
    assert_eq!(
        lines[1..],
        [
            "=====> refused: develop: app did not make the app app--dev",
            "=====> refused: own: app.example is the domain of app already",
            "=====> refused: strange: [branches] wants the app shop--dev, which app cannot make",
            "=====> refused: taken: shop.example is the domain of shop already",
        ]
    );
    assert_eq!(page(&world, "app"), "two\n");
    assert_eq!(apps(&world), ["app", "app--dev", "shop"]);
    assert!(!foreign.join("queue").exists(), "nothing was put into it");
    let said = world.receiver(&["doctor", "app"]).fails(1);
    said.says("strange: [branches] wants the app shop--dev")
        .says("own has no app: app.example is the domain");
    // Where nothing else is to be deployed, nothing moves, and the pusher's exit code says so.
    branch(&world, "taken", "y\n");
    push(&world, &["--force", "taken"]).fails(1).says("=====> refused: taken: shop.example is the domain");
    let there = world.git_there(&["log", "-1", "--format=%s", "taken"]).ok().stdout;
    assert_eq!(there.trim(), "x");
}

#[test]
fn settings_that_cannot_be_are_refused_where_they_are_made() {
    let world = site("");
    let refused = |key: &str, value: &str| world.receiver(&["config", "app", key, value]).fails(2);
    refused("branches.main.app", "app--main").says("means the branch 'main', which the app deploys itself");
    refused("branches.\"*\".preview", "true").says("means the branch 'main'");
    refused("branches.develop.app", "shop--dev").says("which app cannot make");
    refused("branches.develop.app", "app--a-name-that-is-too-long").says("at most 24");
    world.receiver(&["config", "app", "branches.develop.app", "app--dev"]).ok();
    refused("branches.other.app", "app--dev").says("one app, one branch");
    refused("branch", "develop").says("means the branch 'develop'");
    branch(&world, "develop", "next\n");
    push(&world, &["develop"]).ok();
    world.receiver(&["config", "app--dev", "branches.x.app", "app--dev--x"]).fails(2);
    world
        .receiver(&["config", "app--dev", "branches.x.app", "app--x"])
        .fails(2)
        .says("the app of a branch itself");
    world.receiver(&["create", "app--x"]).fails(2).says("-- is kept for the apps of branches");
    assert_eq!(apps(&world), ["app", "app--dev"]);
}

#[test]
fn apps_that_share_a_repository_hold_their_revisions_apart() {
    let world = site("[branches]\ndevelop = { app = \"app--dev\" }\n[keep]\nreleases = 1\n");
    world.git(&["branch", "develop"]).ok();
    push(&world, &["develop"]).ok();
    let release = |app: &str| {
        let name = std::fs::read_link(app_of(&world, app).join("current")).unwrap();
        name.file_name().unwrap().to_str().unwrap().to_owned()
    };
    let (main, develop) = (release("app"), release("app--dev"));
    let mut wanted = [format!("refs/receiver/{main}"), format!("refs/receiver/app--dev/{develop}")];
    wanted.sort();
    assert_eq!(held(&world), wanted);
    // The branch's own revisions are kept from collection, also when the branch leaves them behind.
    branch(&world, "develop", "two\n");
    push(&world, &["develop"]).ok();
    branch(&world, "develop", "three\n");
    push(&world, &["--force", "develop"]).ok();
    settled(&world);
    world.git_there(&["reflog", "expire", "--expire=now", "--all"]);
    world.git_there(&["gc", "--quiet", "--prune=now"]).ok();
    world.receiver(&["verify", "app"]).ok();
    world.receiver(&["verify", "app--dev"]).ok();
    let before = page(&world, "app--dev");
    world.receiver(&["rollback", "app--dev"]).ok();
    assert_eq!((before.as_str(), page(&world, "app--dev").as_str()), ("three\n", "two\n"));
}

#[test]
fn a_lock_is_for_one_app() {
    let world = site(DEVELOP);
    branch(&world, "develop", "next\n");
    push(&world, &["develop"]).ok();
    world.receiver(&["lock", "app", "-m", "a holiday"]).ok();
    branch(&world, "develop", "more\n");
    push(&world, &["--force", "develop"]).ok().says("=====> live");
    world.receiver(&["unlock", "app"]).ok();
    world.receiver(&["lock", "app--dev", "-m", "a feast"]).ok();
    branch(&world, "develop", "most\n");
    world.file("index.html", "two\n");
    world.commit("two");
    push(&world, &["--force", "develop", "main"])
        .fails(1)
        .says("=====> refused: develop: app--dev is locked: a feast");
    push(&world, &["main"]).ok().says("=====> live");
    assert_eq!((page(&world, "app"), page(&world, "app--dev")), ("two\n".into(), "more\n".into()));
}

#[test]
fn a_preview_is_made_by_the_push_of_its_branch_and_goes_with_it() {
    let world = site(PREVIEWS);
    branch(&world, "feature/map", "map\n");
    let said = push(&world, &["-o", "plan", "feature/map"]).fails(1);
    said.says("app--feature-map: deploy").says("=====> refused: feature/map: this was only the plan");
    assert_eq!(apps(&world), ["app"], "a plan makes nothing");
    let said = push(&world, &["feature/map"]).ok();
    said.says("url: http://feature-map.app.example/").says("=====> live: 0/");
    assert_eq!(apps(&world), ["app", "app--feature-map"]);
    assert_eq!(page(&world, "app--feature-map"), "map\n");
    assert_eq!(held(&world).len(), 2);
    push(&world, &["-o", "plan", ":feature/map"])
        .fails(1)
        .says("app--feature-map: would be removed, with its data");
    let said = push(&world, &[":feature/map"]).ok();
    assert_eq!(
        verdicts(&said),
        ["=====> removed: app--feature-map with its data, since feature/map was deleted"]
    );
    assert_eq!(apps(&world), ["app"]);
    assert_eq!(held(&world).len(), 1, "its revisions are let go");
    world
        .receiver(&["history", "app"])
        .ok()
        .says("preview app--feature-map removed: its branch feature/map is gone");
    settled(&world);
    // And again from nothing.
    push(&world, &["feature/map"]).ok().says("=====> live: 0/");
    settled(&world);
}

#[test]
fn the_branch_of_an_app_that_stays_cannot_be_deleted() {
    let world = site(DEVELOP);
    branch(&world, "develop", "next\n");
    push(&world, &["develop"]).ok();
    let said = push(&world, &[":develop"]).fails(1);
    assert_eq!(
        verdicts(&said),
        ["=====> refused: develop: app--dev deploys develop, which cannot be deleted"]
    );
    said.says("take it out of [branches]");
    world.server_config("");
    push(&world, &[":develop"]).ok().says("=====> ignored: develop was deleted (app deploys main)");
    assert_eq!(page(&world, "app--dev"), "next\n", "it stays");
    world.receiver(&["doctor", "app"]).fails(1).says("[branches] says nothing of develop any more");
}

#[test]
fn prune_removes_previews_whose_branch_is_gone_and_no_other_app() {
    let world = site("[branches]\ndevelop = { app = \"app--dev\" }\n\"feature/*\" = { preview = true }\n");
    for name in ["develop", "feature/a", "feature/b"] {
        branch(&world, name, "x\n");
    }
    push(&world, &["develop", "feature/a", "feature/b"]).ok();
    settled(&world);
    world.git_there(&["branch", "-D", "feature/a"]).ok();
    world.git_there(&["branch", "-D", "develop"]).ok();
    let would = world.receiver(&["prune", "app", "--dry-run", "--json"]).ok().json();
    assert_eq!(would["previews"], serde_json::json!(["app--feature-a"]));
    world.receiver(&["prune", "app", "--dry-run"]).ok().says("preview app--feature-a, with its data");
    assert_eq!(apps(&world).len(), 4);
    world
        .receiver(&["doctor", "app"])
        .fails(1)
        .says("app--feature-a is the preview of a branch that is gone");
    world.receiver(&["prune", "app"]).ok().says("preview app--feature-a, with its data: its branch is gone");
    assert_eq!(apps(&world), ["app", "app--dev", "app--feature-b"]);
    settled(&world);
    // A repository that has lost all of its branches says nothing about previews.
    world.git_there(&["branch", "-D", "feature/b"]).ok();
    world.git_there(&["update-ref", "-d", "refs/heads/main"]).ok();
    world.receiver(&["prune", "app"]).ok();
    assert_eq!(apps(&world), ["app", "app--dev", "app--feature-b"]);
}

#[test]
fn a_preview_finds_what_it_is_granted_and_nothing_of_its_parents() {
    let world = site(
        "[branches]\n\"feature/*\" = { preview = true }\n[preview.env]\nMAIL = \"off\"\nMODE = \"a 'b' $(c)\"\n",
    );
    world.receiver_fed(&["env", "app", "set", "SECRET"], b"of the parent").ok();
    world.receiver_fed(&["put", "app", ".env"], b"SECRET=too\n").ok();
    world.file(
        "receiver.toml",
        "[stages]\nassets = \"env > environment\"\n[shared]\nfiles = [\".env\"]\ndirs = [\"media\"]\n",
    );
    world.commit("its environment");
    world.push().ok();
    std::fs::write(world.app().join("shared/media/upload"), "private").unwrap();
    branch(&world, "feature/x", "x\n");
    let said = push(&world, &["feature/x"]).ok();
    said.says("shared/.env is not there")
        .says("receiver put app--feature-x .env < FILE")
        .says("[preview.env]");
    assert_eq!(page(&world, "app--feature-x"), "");
    world.receiver_fed(&["put", "app--feature-x", ".env"], b"x\n").ok();
    world.receiver(&["deploy", "app--feature-x"]).ok();
    let release = app_of(&world, "app--feature-x").join("current");
    let environment = std::fs::read_to_string(release.join("environment")).unwrap();
    assert!(environment.contains("\nMAIL=off\n") || environment.starts_with("MAIL=off\n"), "{environment}");
    assert!(environment.contains("MODE=a 'b' $(c)\n"), "{environment}");
    assert!(!environment.contains("SECRET"), "{environment}");
    assert_eq!(std::fs::read_dir(release.join("media")).unwrap().count(), 0);
    // What an administrator gives to this preview alone wins; and the parent never sees any of it.
    world.receiver_fed(&["env", "app--feature-x", "set", "MAIL"], b"on").ok();
    world.receiver(&["run", "app--feature-x", "--", "sh", "-c", "test $MAIL = on"]).ok();
    world.receiver(&["run", "app", "--", "sh", "-c", "test -z \"$MAIL\""]).ok();
}

#[test]
fn a_previews_data_begins_empty_or_with_a_snapshot_that_holds_nobody() {
    let world = notes(
        "[branches]\n\"empty/*\" = { preview = true }\n\"copy/*\" = { preview = true, data = \"copy\" }\n",
    );
    branch(&world, "empty/x", "x\n");
    branch(&world, "copy/x", "x\n");
    // A writer that never ends its transaction: a hold would wait for it, a snapshot does not.
    let writer = rusqlite::Connection::open(world.database(0)).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO note (text) VALUES ('not committed');").unwrap();
    push(&world, &["empty/x", "copy/x"]).ok().says("from a snapshot of app_v0; nobody was held");
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(sql(&world, "app--empty-x", "SELECT count(*) FROM note;\n"), "0\n");
    assert_eq!(sql(&world, "app--copy-x", "SELECT text FROM note;\n"), "of main\n");
    // From then on each is its own; a later version is carried from it, not from the parent.
    sql(&world, "app--copy-x", "INSERT INTO note (text) VALUES ('of the preview');\n");
    world.sql("INSERT INTO note (text) VALUES ('later');\n");
    world.git(&["switch", "--quiet", "copy/x"]).ok();
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL, more TEXT);\n");
    world.commit("a column");
    world.git(&["switch", "--quiet", "main"]).ok();
    push(&world, &["copy/x"]).ok().says("=====> live: 1/");
    assert_eq!(
        sql(&world, "app--copy-x", "SELECT text FROM note ORDER BY id;\n"),
        "of main\nof the preview\n"
    );
    assert_eq!(sql(&world, "app", "SELECT text FROM note ORDER BY id;\n"), "of main\nnot committed\nlater\n");
    settled(&world);
}

#[test]
fn a_copy_for_a_preview_with_the_same_schema_is_proved_on_an_empty_database() {
    let world = World::with_app();
    let migrate = "python3 -c \"import os, sqlite3; c = sqlite3.connect(os.environ['RECEIVER_DATABASE_NAME']); \
                   c.execute('CREATE TABLE IF NOT EXISTS note (text TEXT)'); c.commit()\"";
    world.file(
        "receiver.toml",
        &format!("[stages]\nsyncdb = '''{migrate}'''\n[schema]\npaths = [\"schema\"]\n[database]\nengine = \"sqlite\"\n"),
    );
    world.file("schema", "1").file("index.html", "one\n");
    world.commit("one");
    world.push().ok();
    world.sql("INSERT INTO note (text) VALUES ('of main');\n");
    world.server_config("[branches]\n\"f/*\" = { preview = true, data = \"copy\" }\n");
    branch(&world, "f/x", "x\n");
    push(&world, &["f/x"]).ok().says("=====> live: 0/");
    assert_eq!(sql(&world, "app--f-x", "SELECT text FROM note;\n"), "of main\n");
    // One that uses another database is still found out.
    world.git(&["switch", "--quiet", "-c", "f/y"]).ok();
    world.file(
        "receiver.toml",
        "[stages]\nsyncdb = \"true\"\n[schema]\npaths = [\"schema\"]\n[database]\nengine = \"sqlite\"\n",
    );
    world.commit("y");
    push(&world, &["f/y"]).ok().says("syncdb did not touch the database of this version");
}

#[test]
fn a_preview_runs_beside_its_parent_with_its_own_processes_and_ends_with_its_branch() {
    let world = World::with_web_and_notes();
    world.server_config(
        "[branches]\n\"a/*\" = { preview = true, data = \"copy\" }\n\"b/*\" = { preview = true, process = true }\n",
    );
    world.post("/", "of main");
    world.file("receiver.toml", &format!("{WEB}{SQL}[process.mailer]\ncommand = \"exec sleep 1000\"\n"));
    world.commit("a mailer");
    branch(&world, "a/x", "a\n");
    branch(&world, "b/x", "b\n");
    push(&world, &["a/x", "b/x"]).ok().says("app--a-x: health").says("app--b-x: health");
    let get = |app: &str| ask(&app_of(&world, app).join("receiver/door.sock"), "GET", "/", "").unwrap().body;
    assert_eq!((get("app"), get("app--a-x"), get("app--b-x")), ("one\n".into(), "a\n".into(), "b\n".into()));
    let processes = |app: &str| {
        let status = world.receiver(&["status", app, "--json"]).ok().json()["apps"][0].clone();
        let all = status["processes"].as_array().unwrap().clone();
        let mut names: Vec<String> = all.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        (names, all.iter().map(|one| one["pid"].as_u64().unwrap()).collect::<Vec<_>>())
    };
    let (names, mut pids) = processes("app--a-x");
    assert_eq!(names, ["web"]);
    let (names, more) = processes("app--b-x");
    assert_eq!(names, ["mailer", "web"]);
    pids.extend(more);
    assert_eq!(
        sql(&world, "app--a-x", "SELECT count(*) FROM note;\n"),
        sql(&world, "app", "SELECT count(*) FROM note;\n")
    );
    push(&world, &[":a/x", ":b/x"]).ok().says("removed: app--a-x").says("removed: app--b-x");
    for pid in pids {
        world.until(10, "the preview's processes to be gone", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
    }
    assert_eq!(apps(&world), ["app"]);
    assert_eq!(get("app"), "one\n");
    settled(&world);
}

#[test]
fn names_of_branches_are_only_names() {
    let world = site("domain = \"app.example\"\n[branches]\n\"x/*\" = { preview = true }\n");
    let wild = [
        "x/$(touch${IFS}hacked)",
        "x/`id`;'\"&|",
        "x/größe",
        "x/\u{202e}txt",
        "x/日本",
        "x/UPPER",
        "x/-rf",
        "x/a--b",
    ];
    for name in wild {
        world.git(&["branch", "--", name]).ok();
        let said = world.git(&["push", "production", &format!("refs/heads/{name}")]);
        let ours = said.talk().lines().filter(|line| !line.contains(" -> ")).collect::<Vec<_>>().join("\n");
        assert_tame("what receiver says", &ours);
        assert_eq!(verdicts(&said).len(), 1, "{name}: {}", said.talk());
    }
    assert!(!world.laptop().join("hacked").exists());
    let made = apps(&world);
    assert_eq!(made.len(), 8, "all but the one that turns the direction of writing: {made:?}");
    for app in made.iter().filter(|app| *app != "app") {
        assert!(
            app.len() <= 24 && app.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        );
        assert_eq!(page(&world, app), "one\n", "{app}");
    }
    for name in wild {
        world.git(&["push", "production", &format!(":refs/heads/{name}")]).ok();
    }
    settled(&world);
    assert_eq!(apps(&world), ["app"]);
}

#[test]
fn two_branches_never_share_a_preview() {
    let world = site("[branches]\n\"*/x\" = { preview = true }\n\"x-*\" = { preview = true }\n");
    world.git(&["branch", "a-b/x"]).ok();
    world.git(&["branch", "a/b/x"]).ok();
    push(&world, &["a-b/x", "a/b/x"]).ok();
    assert_eq!(apps(&world).len(), 3, "{:?}", apps(&world));
    // Where two names meet all the same, the app says whose it is, and the second is refused.
    let made = apps(&world)[1].clone();
    let marker = app_of(&world, &made).join("receiver/app.toml");
    let text = std::fs::read_to_string(&marker).unwrap();
    let old = text.lines().find(|line| line.starts_with("branch = ")).unwrap();
    std::fs::write(&marker, text.replace(old, "branch = \"another/x\"")).unwrap();
    let name = old.trim_start_matches("branch = ").trim_matches('"');
    world.file("index.html", "two\n");
    world.commit("two");
    push(&world, &[&format!("+main:{name}")])
        .fails(1)
        .says(&format!("=====> refused: {name}: {made} is the app of the branch another/x"));
    assert_eq!(page(&world, &made), "one\n");
}

#[test]
fn two_hundred_branches_get_a_verdict_each_and_no_more_previews_than_may_be() {
    let world = site("[branches]\n\"f/*\" = { preview = true }\n[preview]\nmost = 3\n");
    for n in 0..200 {
        world.git(&["branch", &format!("f/{n:03}")]).ok();
    }
    let said = push(&world, &["refs/heads/f/*:refs/heads/f/*"]).ok();
    let lines = verdicts(&said);
    assert_eq!(lines.len(), 200);
    assert_eq!(lines.iter().filter(|line| line.contains(": live: 0/")).count(), 3, "{lines:?}");
    let refused = lines.iter().filter(|line| line.contains("there are 3 previews, and no more may be"));
    assert_eq!(refused.count(), 197);
    assert_eq!(apps(&world).len(), 4);
    settled(&world);
    // Where one goes there is room for another.
    push(&world, &[":f/000"]).ok().says("=====> removed: app--f-000");
    push(&world, &["--force", "main:f/100"]).ok();
    let all: Vec<String> = (0..200).filter(|n| *n != 0).map(|n| format!(":f/{n:03}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let said = push(&world, &all).ok();
    assert_eq!(verdicts(&said).len(), 199);
    settled(&world);
    assert_eq!(apps(&world), ["app"]);
}

#[test]
fn a_preview_whose_deploy_runs_is_stopped_and_removed() {
    let world = site(PREVIEWS);
    let begun = world.place().join("begun");
    world.git(&["switch", "--quiet", "-c", "feature/slow"]).ok();
    world.file("receiver.toml", &format!("[stages]\nbuild = \"touch {}; sleep 1000\"\n", begun.display()));
    world.commit("slow");
    world.git(&["switch", "--quiet", "main"]).ok();
    let pusher = world.start("git", &["push", "--quiet", "production", "feature/slow"]);
    world.until(30, "the build to begin", || begun.exists());
    push(&world, &[":feature/slow"]).ok().says("=====> removed: app--feature-slow with its data");
    let said = world.end(pusher, 30);
    assert_eq!(verdicts(&said).len(), 1, "{}", said.talk());
    said.says("NOT LIVE");
    settled(&world);
    assert_eq!(apps(&world), ["app"]);
    assert_eq!(held(&world).len(), 1);
}

#[test]
fn a_branch_whose_hook_died_is_deployed_by_the_next_worker() {
    for point in ["app-made", "app-placed"] {
        let mut world = site(PREVIEWS);
        branch(&world, "feature/map", "map\n");
        world.env.insert("RECEIVER_TEST_DIE_AT".into(), point.into());
        push(&world, &["feature/map"]);
        assert_eq!(page(&world, "app--feature-map"), "", "{point}");
        world.env.clear();
        if point == "app-made" {
            let lost = "feature/map was never deployed";
            world.receiver(&["doctor", "app"]).fails(1).says(lost).says("`receiver watch --once app`");
            world.receiver(&["status", "app"]).ok().says(lost);
        }
        world.file("index.html", "two\n");
        world.commit("two");
        push(&world, &["main"]).ok();
        world.until(30, "the branch to be deployed", || page(&world, "app--feature-map") == "map\n");
        settled(&world);
        assert_eq!(apps(&world), ["app", "app--feature-map"], "{point}");
    }
}

#[test]
fn a_preview_whose_removal_died_is_gone_after_the_next_push() {
    for point in ["preview-silent", "preview-moved", "job-taken", "verdict-written"] {
        let mut world = site(PREVIEWS);
        branch(&world, "feature/map", "map\n");
        push(&world, &["feature/map"]).ok();
        settled(&world);
        let ticket = world.place().join("ticket");
        std::fs::write(&ticket, "").unwrap();
        world.env.insert("RECEIVER_TEST_DIE_AT".into(), point.into());
        world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
        push(&world, &[":feature/map"]);
        assert!(!ticket.exists(), "{point} was passed");
        world.env.clear();
        world.file("index.html", "two\n");
        world.commit("two");
        push(&world, &["main"]).ok().says("=====> live");
        settled(&world);
        assert_eq!(apps(&world), ["app"], "{point}");
        assert_eq!(held(&world).len(), 2, "{point}");
    }
}

#[test]
fn a_branch_that_is_there_again_keeps_its_preview() {
    let world = site(PREVIEWS);
    branch(&world, "feature/map", "map\n");
    push(&world, &["feature/map"]).ok();
    settled(&world);
    // The parent's worker is busy while the branch is deleted and pushed again.
    let (begun, go) = (world.place().join("begun"), world.place().join("go"));
    world.file(
        "receiver.toml",
        &format!(
            "[stages]\nbuild = \"touch {}; while [ ! -e {} ]; do sleep 0.05; done\"\n",
            begun.display(),
            go.display()
        ),
    );
    world.commit("slow");
    let main = world.push_in_background();
    world.until(30, "the build to begin", || begun.exists());
    let deletion = world.start("git", &["push", "--quiet", "production", ":feature/map"]);
    world.until(30, "the removal to wait", || {
        !world.names("receiver/queue").is_empty() && world.names("receiver/queue").len() == 2
    });
    world.git(&["push", "--quiet", "production", "feature/map"]).ok();
    std::fs::write(&go, "").unwrap();
    world.end(main, 60).ok();
    world.end(deletion, 60).ok().says("app--feature-map stays: feature/map is there again");
    assert_eq!(page(&world, "app--feature-map"), "map\n");
    settled(&world);
}

#[test]
fn watch_deploys_the_branches_that_a_mirror_fetched() {
    let world = site("[branches]\ndevelop = { app = \"app--dev\" }\n");
    branch(&world, "develop", "next\n");
    let laptop = world.laptop().display().to_string();
    world.git_there(&["fetch", "--quiet", &laptop, "+refs/heads/*:refs/heads/*"]).ok();
    world.receiver(&["watch", "--once", "app"]).ok().says("app--dev: develop arrived");
    world.until(30, "the branch to be deployed", || page(&world, "app--dev") == "next\n");
    settled(&world);
    world.receiver(&["watch", "--once"]).ok().never_says("arrived");
}

#[test]
fn a_preview_never_takes_the_name_of_another_app_of_the_same_parent() {
    let world = site("[branches]\ndevelop = { app = \"app--dev\" }\n\"d*\" = { preview = true }\n");
    branch(&world, "dev", "a preview\n");
    let wanted =
        "=====> refused: dev: [branches] wants the app app--dev for develop, too: one app, one branch";
    push(&world, &["dev"]).fails(1).says(wanted);
    branch(&world, "develop", "next\n");
    push(&world, &["develop"]).ok();
    push(&world, &["dev"]).fails(1).says(wanted);
    assert_eq!(page(&world, "app--dev"), "next\n");
}

#[test]
fn what_only_looks_like_the_app_of_a_branch_is_nobodys() {
    let world = site(DEVELOP);
    let foreign = app_of(&world, "app--dev");
    std::fs::create_dir_all(foreign.join("receiver")).unwrap();
    std::fs::write(
        foreign.join("receiver/app.toml"),
        "format = 1\nparent = \"shop\"\nbranch = \"x\"\npreview = true\n",
    )
    .unwrap();
    world.receiver(&["status"]).ok().never_says("app--dev");
    world.receiver(&["prune", "app"]).ok();
    assert!(foreign.join("receiver/app.toml").is_file());
    branch(&world, "develop", "next\n");
    push(&world, &["develop"]).fails(1).says("app did not make the app app--dev").says("or move ");
    world.receiver(&["deploy", "app--dev"]).fails(1).says("app did not make the app app--dev");
}

#[test]
fn a_domain_that_changed_since_is_named_with_its_cure() {
    let world = site(DEVELOP);
    branch(&world, "develop", "next\n");
    push(&world, &["develop"]).ok();
    settled(&world);
    world.server_config(&DEVELOP.replace("dev.app.example", "next.app.example"));
    world
        .receiver(&["doctor", "app"])
        .fails(1)
        .says("app--dev answers for dev.app.example, and [branches] says next.app.example")
        .says("`receiver config app--dev domain next.app.example`");
    world.receiver(&["config", "app--dev", "domain", "next.app.example"]).ok();
    world.receiver(&["doctor", "app"]).ok();
}

#[test]
fn pushes_of_several_branches_at_once_do_not_get_in_each_others_way() {
    let world = site(PREVIEWS);
    let names = ["feature/a", "feature/b", "feature/c", "feature/d"];
    for name in names {
        branch(&world, name, &format!("{name}\n"));
    }
    let pushers: Vec<_> =
        names.iter().map(|name| world.start("git", &["push", "--quiet", "production", name])).collect();
    for pusher in pushers {
        world.end(pusher, 60).ok().says("=====> live: 0/");
    }
    for name in names {
        assert_eq!(page(&world, &format!("app--{}", name.replace('/', "-"))), format!("{name}\n"));
    }
    let pushers: Vec<_> = names
        .iter()
        .map(|name| world.start("git", &["push", "--quiet", "production", &format!(":{name}")]))
        .collect();
    for pusher in pushers {
        world.end(pusher, 60).ok().says("=====> removed: app--feature-");
    }
    settled(&world);
    assert_eq!((apps(&world), held(&world).len()), (vec!["app".to_owned()], 1));
}

#[test]
fn a_preview_is_proved_like_any_other_app_when_its_worker_dies() {
    for point in ["begun", "sealed", "switched", "verdict-written"] {
        let mut world = notes("[branches]\n\"f/*\" = { preview = true, data = \"copy\" }\n");
        branch(&world, "f/x", "x\n");
        let ticket = world.place().join("ticket");
        std::fs::write(&ticket, "").unwrap();
        world.env.insert("RECEIVER_TEST_DIE_AT".into(), point.into());
        world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
        push(&world, &["f/x"]).ok().says("=====> live: 0/");
        assert!(!ticket.exists(), "{point} was passed");
        world.env.clear();
        assert_eq!(sql(&world, "app--f-x", "SELECT text FROM note;\n"), "of main\n", "{point}");
        settled(&world);
        assert_eq!(held(&world).len(), 2, "{point}");
    }
}

#[test]
fn a_previews_site_is_its_own_and_leaves_nginx_with_it() {
    let world = site("[branches]\n\"feature/*\" = { preview = true }\n");
    let mut web = crate::browser::Web::prepare(&world);
    web.open(&world);
    branch(&world, "feature/map", "map\n");
    push(&world, &["feature/map"]).ok().says("live");
    let preview = "app--feature-map";
    let inherited = world.receiver(&["config", preview, "nginx.site"]);
    let parents = web.site().display().to_string();
    assert!(!inherited.stdout.contains(&parents), "it would write its parent's file: {inherited:?}");
    let file = web.place.join("conf.d/preview.conf");
    world.receiver(&["config", preview, "nginx.site", file.to_str().unwrap()]).ok();
    world.receiver(&["config", preview, "--site", "--install"]).ok().says("nginx has loaded it");
    assert!(file.exists());
    push(&world, &[":feature/map"]).ok();
    world.until(30, "its site to leave nginx", || !file.exists());
    assert!(!app_of(&world, preview).exists() && web.site().exists());
}
