//! What is kept apart on a server that was set up: the code of one app from receiver's state, from other apps and from
//! root; and the root service from whoever asks for what is not his to ask.

use crate::keeping::Machine;
use crate::setup::Site;

const TRIES: &str = include_str!("../fixtures/tries.sh");
const ASKS: &str = include_str!("../fixtures/asks.py");

/// What a build leaves for whoever takes the release over.
const TRAPS: &str = "mkfifo pipe; ln -s /etc/shadow link; cp /bin/true set; chmod 6777 set; mkdir -m 000 closed; \
                     mkdir open; chmod 777 open; touch open/file; chmod 666 open/file; touch own; chmod 600 own";

#[test]
fn code_of_one_app_reaches_nothing_of_receivers_of_another_app_or_of_roots() {
    let site = Site::new();
    let server = &site.server;
    let setup = |app: &str| {
        let setup =
            format!("receiver setup {app} --domain {app}.example --database none --key /root/key.pub 2>&1");
        site.sh(&setup).ok()
    };
    site.paste(&setup("app"));
    setup("other");
    site.sh("apt-get install -qq -y --no-install-recommends python3 >/dev/null 2>&1").ok();
    site.file("tries.sh", TRIES);
    site.file(
        "receiver.toml",
        &format!(
            "[stages]\nbuild = \"sh tries.sh; {TRAPS}\"\ncheck = \"cat own && sh tries.sh\"\n[database]\nengine = \"none\"\n\
             [web]\ncommand = \"exec python3 web.py\"\nsettle = \"100ms\"\n"
        ),
    );
    // The other one runs, with a secret.
    site.sh("echo hidden | receiver env other set SECRET").ok();
    let push_other =
        site.dev("cd app; git add .; git commit --quiet -m one; git push deploy@app.example:other main");
    push_other.ok().says("=====> live: 0/");
    let before = site.sh("stat -c '%u %a' /etc/shadow").ok().stdout;
    let pushed = site.dev("cd app; git push production main").ok();
    assert_eq!(pushed.talk().matches("| tried").count(), 2, "{}", pushed.talk());
    pushed.never_says("CAN ").says("=====> live: 0/");
    // By hand, too, in the live release.
    site.ssh("run app -- sh tries.sh").ok().says("tried").never_says("CAN ");
    // What the build left was taken over without being followed, and nobody else may write to it.
    assert_eq!(site.sh("stat -c '%u %a' /etc/shadow").ok().stdout, before);
    let odd =
        "cd /srv/app/current; find . ! -type l \\( -perm /6000 -o -perm /022 -o ! -user receiver \\) -print";
    assert_eq!(site.sh(odd).ok().stdout, "");
    // A build that buries itself fails, and hinders nobody.
    site.file("deep.sh", "i=0; while [ $i -lt 1500 ]; do mkdir d && cd d || exit 0; i=$((i + 1)); done");
    let toml = std::fs::read_to_string(site.laptop.path().join("app/receiver.toml")).unwrap();
    site.file("receiver.toml", &toml.replace("sh tries.sh;", "sh deep.sh; sh tries.sh;"));
    site.dev("cd app; git add .; git commit --quiet -m deep; git push production main").ok().says("NOT LIVE");
    site.file("receiver.toml", &toml);
    site.dev("cd app; git add .; git commit --quiet -m back; git push production main")
        .ok()
        .says("=====> live: 0/");
    site.sh("[ $(ls -d /srv/app/versions/0/*/ | wc -l) -le 3 ]").ok();
    // It can be removed again, whatever is in it.
    site.sh("receiver config app keep.releases 1 2>&1").ok();
    for _ in 0..3 {
        site.dev("cd app; git commit --quiet --allow-empty -m again; git push production main").ok();
    }
    site.sh("receiver prune app 2>&1").ok();
    site.until("the trash to be empty", || site.sh("ls /srv/app/receiver/trash").stdout.is_empty());
    assert!(!server.sh("journalctl --no-pager").stdout.contains("hidden"));
    the_root_service_refuses(&site);
}

/// Every uid that is not receiver's, and every field that is not as it should be.
fn the_root_service_refuses(site: &Site) {
    site.sh("receiver create plain").ok();
    std::fs::write(site.server.disk().join("usr/local/lib/asks.py"), ASKS).unwrap();
    let release = site.sh("readlink /srv/app/current | cut -d/ -f2-").ok().stdout.trim().to_owned();
    let ask = |user: &str, requests: &[String]| {
        let quoted: Vec<String> = requests.iter().map(|request| format!("'{request}'")).collect();
        site.sh(&format!("runuser -u {user} -- python3 /usr/local/lib/asks.py {}", quoted.join(" ")))
            .ok()
            .stdout
    };
    let good = format!(r#"{{"request":"take-back","app":"app","release":"{release}"}}"#);
    assert!(ask("receiver", std::slice::from_ref(&good)).starts_with("{\"done\":"));
    for user in ["nobody", "deploy", "app-app", "www-data"] {
        assert_eq!(ask(user, std::slice::from_ref(&good)), "cannot: Permission denied\n", "{user}");
    }
    // It asks the kernel, whatever the socket's mode is.
    site.sh("chmod 666 /run/receiver/root.sock").ok();
    for user in ["nobody", "deploy", "app-app", "www-data"] {
        let said = ask(user, std::slice::from_ref(&good));
        assert!(said.contains("only the account receiver may ask"), "{user}: {said}");
    }
    site.sh("chmod 660 /run/receiver/root.sock").ok();

    let mut bad = vec!["{}".to_owned(), "[]".into(), "x".into(), r#"{"request":"reboot"}"#.into()];
    let apps = ["../etc", "/etc", "app/../other", "nothing", "plain", "", "app\\u0000", "APP", "shell"];
    bad.extend(apps.map(|app| format!(r#"{{"request":"give","app":"{app}","release":"{release}"}}"#)));
    let releases = ["../../etc", "0/..", "0/20200101T000000Z-0123456789ab", "", "/etc", "9/x"];
    for request in ["give", "take-back"] {
        bad.extend(releases.map(|id| format!(r#"{{"request":"{request}","app":"app","release":"{id}"}}"#)));
    }
    let paths = ["../receiver", "/etc/shadow", "..", "", "nothing", "a/../../x"];
    bad.extend(paths.map(|path| format!(r#"{{"request":"give-shared","app":"app","path":"{path}"}}"#)));
    let directories = ["..", "../run", "a/b", "", ".", "/etc"];
    bad.extend(directories.map(|name| format!(r#"{{"request":"remove","app":"app","directory":"{name}"}}"#)));
    for start in ["../x-00000000", "web-00000000", "", "web", "web-00000000.json/../x", "*-00000000"] {
        bad.push(format!(r#"{{"request":"start","app":"app","start":"{start}","tether":false}}"#));
        bad.push(format!(r#"{{"request":"stop","app":"app","start":"{start}"}}"#));
    }
    for (name, at) in
        [("a b", "daily"), ("x", "whenever"), ("", "daily"), ("x", "* * * * *\\nx"), ("../x", "daily")]
    {
        bad.push(format!(r#"{{"request":"timers","app":"app","at":{{"{name}":"{at}"}}}}"#));
    }
    // Apps of branches are made where setup's own file of the parent says so, and only they are taken back.
    for app in ["../etc", "nothing", "plain", "", "app--x", "app\\u0000"] {
        bad.push(format!(r#"{{"request":"make-branch","app":"{app}","branch":"feature/x"}}"#));
        bad.push(format!(r#"{{"request":"sweep-branches","app":"{app}"}}"#));
        bad.push(format!(r#"{{"request":"certificate-end","app":"{app}"}}"#));
    }
    site.sh("printf '[branches]\n\"feature/*\" = { preview = true }\n' >> /srv/app/receiver.toml").ok();
    let branches = [
        "main",
        "other",
        "",
        "..",
        "feature/../x",
        "feature/x y",
        "feature/x\\u0000",
        "-x",
        "feature/",
        "@{x",
    ];
    bad.extend(
        branches.map(|branch| format!(r#"{{"request":"make-branch","app":"app","branch":"{branch}"}}"#)),
    );
    bad.push(r#"{"request":"make-branch","app":"app","branch":"feature/x","user":"root"}"#.to_owned());
    bad.push(r#"{"request":"certificate-end","app":"app"}"#.to_owned());
    bad.push(r#"{"request":"certificate-end","app":"app","file":"/etc/shadow"}"#.to_owned());
    for app in ["app", "other", "plain", "plain--x", "nothing--x", "receiver", "../app--x", "app--x--y", ""] {
        bad.push(format!(r#"{{"request":"end-branch","app":"{app}","keep":false}}"#));
    }
    let run = |words: &str, environment: &str, more: &str| {
        format!(
            r#"{{"request":"run","app":"app","release":"{release}","words":{words},"environment":{environment},"bounds":{{}},"terminal":false{more}}}"#
        )
    };
    bad.push(run("[\"true\"]", "{}", ""));
    bad.push(format!("2|{}", run("[\"true\"]", "{}", "")));
    bad.push(format!("3|{}", run("[]", "{}", "")));
    bad.push(format!("3|{}", run("[\"a\\u0000b\"]", "{}", "")));
    bad.push(format!("3|{}", run("[\"true\"]", "{\"A=B\":\"x\"}", "")));
    bad.push(format!("3|{}", run("[\"true\"]", "{\"\":\"x\"}", "")));
    bad.push(format!("3|{}", run("[\"true\"]", "{}", ",\"user\":\"root\"")));
    bad.push(format!("3|{good}"));
    bad.push(format!("4|{}", run("[\"true\"]", "{}", "")));
    let answers = ask("receiver", &bad);
    for (request, answer) in bad.iter().zip(answers.lines()) {
        assert!(answer.starts_with("{\"refused\":"), "{request}: {answer}");
    }
    assert_eq!(answers.lines().count(), bad.len());
    site.sh("! getent passwd | grep -- -- && [ -d /srv/app/versions ] && [ -d /srv/other/versions ]").ok();
    let good_run = format!("3|{}", run("[\"/bin/sh\",\"-c\",\"exit 5\"]", "{}", ""));
    assert_eq!(ask("receiver", &[good_run]), "{\"ended\":{\"exited\":5}}\n");
    // What others own is not given away, though receiver names it.
    site.sh("mkdir /srv/app/versions/7 /srv/app/versions/7/20200101T000000Z-0123456789ab").ok();
    let theirs = r#"{"request":"give","app":"app","release":"7/20200101T000000Z-0123456789ab"}"#.to_owned();
    assert!(ask("receiver", &[theirs]).contains("neither receiver nor app-app"));
    // Nor is what lies behind a link, where receiver is not to be trusted.
    site.sh("rm -r /srv/app/versions/7; runuser -u receiver -- ln -s /etc /srv/app/versions/7").ok();
    let linked = r#"{"request":"give","app":"app","release":"7/20200101T000000Z-0123456789ab"}"#.to_owned();
    assert!(ask("receiver", &[linked]).contains("refused"));
    site.sh("rm /srv/app/versions/7; receiver doctor app 2>&1").ok();
}

/// The database of a version, and what it holds.
const FILE: &str = "/srv/app/receiver/databases";

#[test]
fn receiver_opens_no_database_in_a_file_of_an_app_with_a_user_of_its_own() {
    let site = Site::new();
    site.paste(
        &site.sh("receiver setup app --domain app.example --database sqlite --key /root/key.pub 2>&1").ok(),
    );
    site.sh("apt-get install -qq -y --no-install-recommends python3 >/dev/null 2>&1").ok();
    site.for_engine("sqlite");
    site.push("one").ok().says("=====> live: 0/");
    let whose =
        |version: u32| site.sh(&format!("stat -c %U:%a {FILE}/{version}/app_v{version}.sqlite3")).ok().stdout;
    assert_eq!(whose(0), "app-app:600\n");
    site.sh(&format!("runuser -u receiver -- cat {FILE}/0/app_v0.sqlite3")).fails(1);
    let sql =
        |sql: &str| site.dev(&format!("echo \"{sql}\" | $GIT_SSH_COMMAND deploy@app.example 'db shell app'"));
    sql("INSERT INTO entry (id, number, text) VALUES (1, 1, 'one');").ok();

    // A version that opens, a way back with what was written, and out and in again.
    site.file("steps/2.sql", "ALTER TABLE entry ADD COLUMN note VARCHAR(100)");
    site.push("two").ok().says("=====> live: 1/");
    assert_eq!((whose(0), whose(1)), ("app-app:600\n".into(), "app-app:600\n".into()));
    sql("INSERT INTO entry (id, number, text, note) VALUES (2, 2, 'two', 'stays');").ok();
    site.ssh("rollback app --dry-run").ok().says("entry").says("note");
    site.ssh("rollback app").ok().says("=====> live: 0/");
    sql("SELECT count(*) FROM entry;").ok().says("2");
    site.dev("$GIT_SSH_COMMAND deploy@app.example 'db dump app' > dump && sqlite3 dump 'SELECT count(*) FROM entry'")
        .ok()
        .says("2");
    sql("DELETE FROM entry;").ok();
    site.dev("$GIT_SSH_COMMAND deploy@app.example 'db load app' < dump").ok().says("is loaded");
    sql("SELECT count(*) FROM entry;").ok().says("2");
    site.sh("receiver serve app --version 1 --copy --port 8001 >/tmp/served 2>&1 & serve=$!
         for i in $(seq 600); do sleep 0.1; [ -e /srv/app/receiver/databases/*beside*/*.sqlite3 ] && break; done
         stat -c %U:%a /srv/app/receiver/databases/*beside*/*.sqlite3; kill $serve; wait $serve; true")
        .ok()
        .says("app-app:600");
    site.sh("receiver doctor app; receiver verify app").ok();
    what_an_apps_code_does_to_it_hurts_only_the_app(&site);
    a_hold_ends_with_its_worker(&site);
    sql("SELECT count(*) FROM entry;").ok().says("2");
    let left = site.sh(&format!("ls {FILE}")).ok().stdout;
    assert_eq!(left, "0\n1\n2\n3\n", "something is left that was on its way");
    let strange = "find /srv/app/receiver -user app-app ! -path '*/databases/*' ! -path '*/run/app*'";
    assert_eq!(site.sh(strange).ok().stdout, "");
}

/// Its user can end what works for it, and stop it; the deploy fails, and what is live goes on.
fn what_an_apps_code_does_to_it_hurts_only_the_app(site: &Site) {
    let toml = site.read("receiver.toml");
    let stage = "syncdb = \"python3 migrate.py\"";
    for (signal, why) in [("KILL", "has ended"), ("STOP", "does not answer")] {
        let hostile = format!("{stage}\nmigration = \"pkill -{signal} -f database-agen[t]; true\"");
        site.file("receiver.toml", &toml.replace(stage, &hostile));
        site.file("steps/3.sql", "ALTER TABLE entry ADD COLUMN other VARCHAR(100)");
        site.dev("cd app; git add .; git commit --quiet -m hostile; git push production main")
            .says("NOT LIVE")
            .says(why);
        site.until_page("/version", "0");
        let write = "python3 database.py";
        let write = format!("echo \"UPDATE entry SET number = number\" | receiver run app -- {write}");
        site.sh(&write).ok();
    }
    site.dev("cd app; git rm -q steps/3.sql").ok();
    site.file("receiver.toml", &toml);
    site.push("kind again").ok().says("=====> live: 2/");
}

/// The worker is killed while writers are held: they go on, and the deploy is begun again.
fn a_hold_ends_with_its_worker(site: &Site) {
    let toml = site.read("receiver.toml");
    let stage = "syncdb = \"python3 migrate.py\"";
    // The second time is the one in which writers wait.
    let waits = "echo >> /srv/app/shared/times; [ $(wc -l < /srv/app/shared/times) != 2 ] || sleep 60";
    site.file("receiver.toml", &toml.replace(stage, &format!("{stage}\nmigration = \"{waits}\"")));
    site.file("steps/3.sql", "ALTER TABLE entry ADD COLUMN third VARCHAR(100)");
    site.dev("cd app; git add .; git commit --quiet -m dies; git push production main >/dev/null 2>&1 &")
        .ok();
    let write = || {
        site.sh("echo \"UPDATE entry SET number = number\" | receiver run app -- env PATIENCE=0.1 python3 database.py")
    };
    site.until("writers to be held", || {
        site.sh("[ $(wc -l < /srv/app/shared/times) = 2 ]").code == 0 && write().code != 0
    });
    site.sh("pkill -KILL -u receiver -f 'receiver work'").ok();
    site.until("writers to go on", || write().code == 0);
    site.until_page("/version", "3");
}
