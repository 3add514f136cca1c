//! Keys on a server that was set up, over a real cable: what each opens of two apps, by systemd's socket and receiver's
//! own account.

use crate::setup::Site;
use crate::ssh::{KEYS, reach, table};

/// Types a line over ssh with each of its inputs, and prints how it ended and the first line that was said about it.
fn type_all(site: &Site, key: &str, lines: &[(String, &str)]) -> Vec<(i32, String)> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let mut script = format!(
        "S=$(echo \"$GIT_SSH_COMMAND\" | sed 's#/key #/{key} #'); \
         S=\"$S -o ControlMaster=auto -o ControlPersist=20 -o ControlPath=$HOME/m-{key}\"\n"
    );
    for (line, input) in lines {
        script.push_str(&format!(
            "printf %s {} | $S deploy@app.example {} >/dev/null 2>said; echo \"$? $(head -n 1 said | tr -d '\\r')\"\n",
            quoted(input),
            quoted(line)
        ));
    }
    let said = site.dev(&format!("{script}$S -O exit deploy@app.example 2>/dev/null\ntrue")).ok();
    let of = |line: &str| {
        let (code, words) = line.split_once(' ').unwrap_or((line, ""));
        (code.parse().unwrap(), words.to_owned())
    };
    said.stdout.lines().map(of).collect()
}

#[test]
fn on_a_server_that_was_set_up_a_key_opens_what_it_was_given_and_nothing_else() {
    let site = Site::new();
    for app in ["app", "shop"] {
        let setup =
            format!("receiver setup {app} --domain {app}.example --database none --key /root/key.pub 2>&1");
        let said = site.sh(&setup).ok();
        if app == "app" {
            site.paste(&said);
        }
    }
    site.dev("cd app; git rm --quiet -r --cached . 2>/dev/null; rm -r *; mkdir -p docs; true").ok();
    site.file("index.html", "one\n");
    site.push("one").ok().says("=====> live: 0/");
    site.dev("cd app; git push deploy@app.example:shop main").ok().says("=====> live: 0/");
    site.file("index.html", "two\n");
    site.push("two").ok().says("=====> live: 0/");
    site.dev("cd app; git push deploy@app.example:shop main").ok().says("=====> live: 0/");
    for (name, role, apps) in KEYS {
        site.dev(&format!("ssh-keygen -q -t ed25519 -N '' -f {name}")).ok();
        let apps: Vec<String> = apps.iter().map(|app| format!("--app {app}")).collect();
        // By the first admin's own key, over ssh.
        let add = format!("key add {name} --role {role} {}", apps.join(" "));
        site.dev(&format!("$GIT_SSH_COMMAND deploy@app.example '{add}' < {name}.pub")).ok().says("is added");
    }
    let picture = |app: &str| {
        let find =
            format!("find /srv/{app} ! -path '*/receiver/lock' -printf '%P %y %m %s %T@ %l\\n' | sort");
        site.sh(&find).ok().stdout
    };
    let table = table(8099);
    for (name, role, opened) in KEYS {
        for app in ["app", "shop"] {
            let opens = opened.contains(&app);
            let before = picture(app);
            let lines: Vec<(String, &str)> =
                table.iter().map(|row| (row.1.replace("APP", app), row.2)).collect();
            let ends = type_all(&site, name, &lines);
            assert_eq!(ends.len(), lines.len(), "{name}: {ends:?}");
            for (((takes, _, _, codes), (line, _)), (code, said)) in table.iter().zip(&lines).zip(&ends) {
                let may = reach(role) >= reach(takes) && *takes != "nobody";
                if may && opens {
                    // What needs a database has none here.
                    assert!(codes.contains(code) || line.starts_with("db "), "{name}: {line}: {code} {said}");
                } else {
                    assert_ne!(*code, 0, "{name}: {line}: {said}");
                    assert!(
                        may || *code == 2 && said.starts_with("error: "),
                        "{name}: {line}: {code} {said}"
                    );
                }
            }
            if !opens {
                assert_eq!(picture(app), before, "{name} changed {app}");
            }
        }
    }
    // git, with each key; and who it was.
    for (name, role, opened) in KEYS {
        for app in ["app", "shop"] {
            let git = |words: &str| {
                site.dev(&format!(
                    "export GIT_SSH_COMMAND=$(echo \"$GIT_SSH_COMMAND\" | sed 's#/key #/{name} #'); cd app; {words}"
                ))
            };
            let opens = opened.contains(&app);
            let fetched = git(&format!("git ls-remote deploy@app.example:{app}"));
            assert_eq!(fetched.code == 0, opens, "{name} {app}: {fetched:?}");
            let pushed = git(&format!(
                "git commit --quiet --allow-empty -m {name}; git push deploy@app.example:{app} main 2>&1"
            ));
            assert_eq!(pushed.code == 0, opens && role != "read", "{name} {app}: {pushed:?}");
        }
    }
    let history = site.ssh("history app").ok().stdout;
    assert!(history.contains("dora") && history.contains("adam") && !history.contains("ruth"), "{history}");
    // Nobody but the account for ssh reaches the socket, and no line leads past the shell.
    site.sh("[ \"$(stat -c '%U %G %a' /run/receiver/receiver.sock)\" = 'receiver deploy 660' ]").ok();
    let forwarded = site.dev("$GIT_SSH_COMMAND -W 127.0.0.1:80 deploy@app.example < /dev/null");
    assert_ne!(forwarded.code, 0, "{forwarded:?}");
    site.ssh("key remove dora").ok();
    let ends = type_all(&site, "dora", &[("list app".to_owned(), "")]);
    assert_eq!(ends[0].0, 255, "{ends:?}");
}
