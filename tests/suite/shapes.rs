//! Every shape of `docs/format.md` is that of the real output.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::beside_live::{end as end_serve, serve_line};
use crate::browser::{Web, free_port};
use crate::world::World;

/// The shapes that the document has, by command.
fn documented() -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(format!("{}/docs/format.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut shapes = BTreeMap::new();
    for section in text.split("\n### `receiver ").skip(1) {
        let (command, rest) = section.split_once('`').unwrap();
        let (_, block) = rest.split_once("```json\n").unwrap_or_else(|| panic!("{command} has no shape"));
        let block = block.split_once("```").unwrap().0;
        let shape = serde_json::from_str(block).unwrap_or_else(|error| panic!("{command}: {error}: {block}"));
        shapes.insert(command.to_owned(), shape);
    }
    shapes
}

/// Why `real` does not have the shape, if it has not.
pub fn differs(shape: &Value, real: &Value, at: &str) -> Option<String> {
    match (shape, real) {
        (Value::String(kinds), _) => {
            let fits = |kind: &str| match (kind, real) {
                ("any", _) => true,
                ("text", real) => real.is_string(),
                ("number", real) => real.is_number(),
                ("bool", real) => real.is_boolean(),
                ("null", real) => real.is_null(),
                (words, Value::String(word)) => words.split('|').any(|one| one == word),
                _ => false,
            };
            (!kinds.split(" or ").any(fits)).then(|| format!("{at} is {real}, and not {kinds}"))
        }
        (Value::Array(shapes), Value::Array(members)) => {
            members.iter().enumerate().find_map(|(n, member)| {
                let whys: Vec<String> =
                    shapes.iter().map_while(|shape| differs(shape, member, &format!("{at}[{n}]"))).collect();
                (whys.len() == shapes.len()).then(|| format!("{at}[{n}]: {member}: {whys:?}"))
            })
        }
        (Value::Object(shape), Value::Object(object)) => {
            let any = shape.get("*");
            for (key, value) in object {
                let optional = shape.get(&format!("{key}?"));
                if optional.is_some() && value.is_null() {
                    continue;
                }
                let known = shape.get(key).or(optional).or(any);
                let Some(known) = known else { return Some(format!("{at}.{key} is not documented")) };
                if let Some(why) = differs(known, value, &format!("{at}.{key}")) {
                    return Some(why);
                }
            }
            let missing =
                shape.keys().find(|key| !key.ends_with('?') && *key != "*" && !object.contains_key(*key));
            missing.map(|key| format!("{at}.{key} is documented, and not there"))
        }
        _ => Some(format!("{at} is {real}, and not {shape}")),
    }
}

/// What `status` says of an app that serves.
fn serving() -> Value {
    let served = World::with_web().receiver(&["status", "--json"]).ok().json();
    assert_eq!(served["apps"][0]["processes"].as_array().unwrap().len(), 1, "{served}");
    served
}

#[test]
#[allow(clippy::too_many_lines, reason = "one list of what is asked")]
fn every_shape_of_the_document_is_that_of_the_real_output() {
    let world = World::with_sql();
    let mut real: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut ask = |command: &str, arguments: &[&str], input: &[u8]| {
        let mut all = arguments.to_vec();
        all.push("--json");
        let said = world.receiver_fed(&all, input);
        let line = said.stdout.trim_end();
        assert!(!line.contains('\n'), "{command} prints more than one line: {line}");
        let object =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{command}: {error}: {said:?}"));
        real.entry(command.to_owned()).or_default().push(object);
    };
    ask("plan", &["plan", "app"], b"");
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL, more TEXT);\n");
    world.commit("more");
    world.push_with(&["-o", "max-pause=10s"]).ok().says("=====> live: 1/");
    ask("rollback --dry-run", &["rollback", "app", "--dry-run"], b"");
    world.file("schema.sql", "CREATE TABLE broken (\n");
    world.commit("broken");
    world.push().ok().says("NOT LIVE");
    ask("plan", &["plan", "app"], b"");
    ask("plan", &["deploy", "app", "--dry-run"], b"");
    for (command, arguments) in [
        ("list", &["list", "app"][..]),
        ("status", &["status"]),
        ("show", &["show", "app"]),
        ("show --config", &["show", "app", "--config"]),
        ("verify", &["verify", "app"]),
        ("doctor", &["doctor"]),
        ("logs", &["logs", "app"]),
        ("db list", &["db", "app", "list"]),
        ("db url", &["db", "app", "url"]),
        ("config", &["config", "app"]),
        ("config KEY", &["config", "app", "domain"]),
        ("config KEY VALUE", &["config", "app", "keep.releases", "4"]),
        ("config KEY", &["config", "app", "keep.releases"]),
        ("config KEY VALUE", &["config", "app", "--unset", "keep.releases"]),
        ("pin", &["pin", "app", "0/"]),
        ("pin", &["unpin", "app", "0/"]),
        ("prune", &["prune", "app", "--dry-run"]),
        ("prune", &["prune", "app"]),
        ("setup", &["setup", "another", "--dry-run"]),
        ("create", &["create", "app"]),
        ("init --dry-run", &["init", "--dry-run"]),
    ] {
        let listed = world.list();
        let first = listed["releases"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap();
        let arguments: Vec<&str> =
            arguments.iter().map(|argument| if *argument == "0/" { first } else { argument }).collect();
        ask(command, &arguments, b"");
    }
    let failed = world.list()["releases"][0]["name"].as_str().unwrap().to_owned();
    ask("show", &["show", "app", &failed], b"");
    ask("env set", &["env", "app", "set", "A"], b"x");
    ask("env list", &["env", "app", "list"], b"");
    ask("env unset", &["env", "app", "unset", "A"], b"");
    let key = crate::sshd::make_key(&world, "alice");
    let add = ["key", "add", "alice", "--app", "app", "--role", "read"];
    ask("key add", &add, key.as_bytes());
    ask("key list", &["key", "list"], b"");
    crate::sshd::shell(&world, "alice", "list app").ok();
    ask("key list", &["key", "list"], b"");
    ask("key remove", &["key", "remove", "alice"], b"");
    ask("put", &["put", "app", "a"], b"x");
    let dump =
        world.command(crate::world::PROGRAM, world.place()).args(["db", "app", "dump"]).output().unwrap();
    ask("db load", &["db", "app", "load"], &dump.stdout);
    ask("deploy", &["lock", "app", "-m", "why"], b"");
    ask("status", &["status", "app"], b"");
    ask("deploy", &["unlock", "app"], b"");
    // What was loaded was not noted.
    ask("deploy", &["rollback", "app", "--without-new-data"], b"");
    ask("deploy", &["attach", "app"], b"");
    let _web = Web::prepare(&world);
    ask("config --site", &["config", "app", "--site"], b"");
    ask("config --site --install", &["config", "app", "--site", "--install"], b"");
    ask("config --site --install", &["config", "app", "--site", "--install"], b"");
    ask("config KEY VALUE", &["config", "app", "versions.urls", "password"], b"");
    ask("maintenance", &["maintenance", "app", "on"], b"");
    ask("maintenance", &["maintenance", "app", "off"], b"");
    std::fs::write(world.live_directory().join("index.html"), "x").unwrap();
    ask("verify", &["verify", "app"], b"");
    ask("list", &["list", "app"], b"");
    ask("history", &["history", "app"], b"");
    for (command, arguments) in [
        ("up", &["down", "app"][..]),
        ("up", &["up", "app"]),
        ("up", &["restart", "app"]),
        ("up --all", &["up", "--all"]),
    ] {
        ask(command, arguments, b"");
    }
    real.get_mut("status").unwrap().push(serving());
    let port = free_port();
    let (child, line) = serve_line(&world, port, &["--version", "0", "--json"]);
    real.entry("serve".to_owned()).or_default().push(serde_json::from_str(&line).unwrap());
    end_serve(&world, child, rustix::process::Signal::TERM);
    let old = world.place().join("old").display().to_string();
    std::fs::create_dir(&old).unwrap();
    for (command, arguments) in [
        ("adopt", &["adopt", "adopted", "--shared-from", &old, "--json"][..]),
        ("remove", &["remove", "adopted", "--json"]),
    ] {
        let object = world.receiver(arguments).ok().json();
        real.entry(command.to_owned()).or_default().push(object);
    }
    world.receiver(&["create", "second"]).ok();
    let shapes = documented();
    assert_eq!(shapes.keys().collect::<Vec<_>>(), real.keys().collect::<Vec<_>>());
    for (command, objects) in &real {
        for object in objects {
            if let Some(why) = differs(&shapes[command], object, command) {
                panic!("docs/format.md and `receiver {command} --json` differ: {why}\n{object}");
            }
        }
    }
    let events: Vec<&str> = real["history"][0]["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    for event in ["push", "verdict", "live", "withdraw", "pin", "unpin", "lock", "unlock", "change"] {
        assert!(events.contains(&event), "{event} in {events:?}");
    }
    // Nothing is live there: what is null then.
    let empty = world.receiver(&["status", "second", "--json"]).ok().json();
    assert!(empty["apps"][0]["database"].is_null() && empty["apps"][0]["tip"].is_null());
    assert_eq!(differs(&shapes["status"], &empty, "status"), None);
}

#[test]
fn the_shapes_of_the_contract_have_their_keys() {
    let world = World::with_sql();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let has = |value: &Value, wanted: &str| {
        let keys = keys(value);
        for key in wanted.split(' ') {
            assert!(keys.contains(&key.to_owned()), "{key} in {keys:?}");
        }
    };
    let list = world.list();
    has(&list, "app current releases");
    has(&list["releases"][0], "id version name revision state created pusher subject path");
    has(
        &world.status(),
        "app current revision branch tip in_sync deploying waiting locked processes database",
    );
    has(&world.status()["database"], "engine name version");
    let plan = world.receiver(&["plan", "app", "--json"]).ok().json();
    has(&plan, "app revision action reason version schema stages files bytes");
    has(&plan["schema"], "changed detector files");
    has(&plan["files"], "total changed");
    let created = list["releases"][0]["created"].as_str().unwrap();
    assert!(created.len() == 20 && created.ends_with('Z'), "{created}");
}
