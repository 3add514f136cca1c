//! INSTALL.md, followed word for word: what it types is typed, what it says is seen is seen.

use std::path::Path;

use crate::booted::Booted;
use crate::keeping::Machine;
use crate::setup::Site;
use crate::system::on_mercurial;
use crate::world::{PROGRAM, World};

const TEXT: &str = include_str!("../../INSTALL.md");
/// Where the part begins that is for another system.
const MERCURIAL: &str = "\n# With Mercurial";
/// Where the part begins that needs root, nginx and systemd.
const SERVER: &str = "\n# On a server";
/// Where the part begins that is done in one step.
const BARE: &str = "\n# A bare server, in one step";

/// What a part of it types, and what it says is seen. A block without a language is for the reader only: it
/// needs a network, or a domain.
fn part(text: &str) -> (String, Vec<String>) {
    let blocks = blocks(text);
    let of = |wanted: &str| -> String {
        let fitting = blocks.iter().filter(|(language, _)| language == wanted);
        fitting.map(|(_, body)| body.as_str()).collect()
    };
    let script = of("sh");
    assert!(script.lines().count() > 12, "the blocks that are typed are marked as sh");
    let seen: Vec<String> = of("text").lines().map(str::to_owned).collect();
    assert!(seen.len() > 4, "the blocks that are seen are marked as text");
    (script, seen)
}

/// The fenced blocks of a document, with their language.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, body)), None) => {
                body.push_str(line);
                body.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn install_md_leads_to_the_first_rollback_word_for_word() {
    let world = World::new();
    world.file("index.html", "one\n").commit("one");
    std::fs::write(world.laptop().join(".git/info/exclude"), "key.txt\n.env\nscript\n").unwrap();
    world.file("key.txt", "a secret\n").file(".env", "A=1\n\n");
    let (script, seen) = part(TEXT.split(MERCURIAL).next().unwrap());
    world.file("script", &script);
    let path =
        format!("{}:{}", Path::new(PROGRAM).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output =
        world.command("sh", &world.laptop()).args(["-e", "script"]).env("PATH", path).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let home = world.place().join("home").display().to_string();
    for line in seen {
        assert!(said.contains(&line.replace("/home/you", &home)), "INSTALL.md promises {line:?}:\n{said}");
    }
}

#[test]
fn install_md_leads_on_to_nginx_and_over_a_boot_word_for_word() {
    let server = Booted::new();
    let by_hand = TEXT.split(BARE).next().unwrap();
    let (script, seen) = part(by_hand.split_once(SERVER).expect("there is a part for a server").1);
    std::fs::write(server.disk().join("root/script"), script).unwrap();
    server.sh("git config --global user.name Ada; git config --global user.email ada@example.org").ok();
    let said = server.sh("cd /root; sh -e script 2>&1").ok().stdout;
    for line in seen {
        assert!(said.contains(&line), "INSTALL.md promises {line:?}:\n{said}");
    }
    server.reboot();
    let ask = "curl --silent --retry 40 --retry-all-errors --retry-delay 1 --fail \
               -H 'Host: hello.example' http://127.0.0.1/";
    assert_eq!(server.sh(ask).ok().stdout, "Hello, it is live.\n");
}

#[test]
fn install_md_leads_on_with_mercurial_word_for_word() {
    let mut made = None;
    on_mercurial(|| made = Some(World::new()));
    let world = made.unwrap();
    world.file("index.html", "<h1>One</h1>\n");
    world.vcs(&["branch", "--quiet", "default"]).ok();
    world.commit("The first page");
    let text = TEXT.split_once(MERCURIAL).expect("there is a part for Mercurial").1;
    let (script, seen) = part(text.split(SERVER).next().unwrap());
    let file = world.place().join("script");
    std::fs::write(&file, script).unwrap();
    let path =
        format!("{}:{}", Path::new(PROGRAM).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = world.command("sh", &world.laptop());
    let output = command.arg("-e").arg(&file).env("PATH", path).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let home = world.place().join("home").display().to_string();
    for line in seen {
        assert!(said.contains(&line.replace("/home/you", &home)), "INSTALL.md promises {line:?}:\n{said}");
    }
}

#[test]
fn install_md_leads_from_a_bare_server_to_the_first_rollback_word_for_word() {
    let site = Site::new();
    let program = site.server.disk().join("usr/local/bin/receiver");
    assert!(program.is_file());
    site.sh("cp /root/key.pub /root/you.pub").ok();
    // The laptop's name service and ssh's settings are the reader's own.
    site.dev("mkdir bin; printf '#!/bin/sh\\nexec curl --resolve notes.example:80:192.0.2.2 --resolve parcels.example:80:192.0.2.2 --retry 20 --retry-all-errors \"$@\"\\n' > bin/curl")
        .ok();
    site.dev("sed -i s,curl,/usr/bin/curl, bin/curl; printf '#!/bin/sh\\nexec %s \"$@\"\\n' \"$GIT_SSH_COMMAND\" > bin/ssh").ok();
    site.dev("sed -i 's,exec ssh,exec /usr/bin/ssh,' bin/ssh; chmod +x bin/*").ok();
    site.dev("printf '[ui]\\nusername = Ada <a@b.c>\\n' > .hgrc").ok();
    let mut said = String::new();
    let mut seen = 0;
    for (language, body) in blocks(TEXT.split_once(BARE).expect("there is a part for a bare server").1) {
        match language.as_str() {
            "sh server" => said = site.sh(&format!("cd /root; set -e\n{body}")).ok().all(),
            "sh laptop" => said = site.dev(&format!("PATH=$PWD/bin:$PATH; set -e\n{body}")).ok().all(),
            "text" => {
                for line in body.lines() {
                    assert!(said.contains(line), "INSTALL.md promises {line:?}:\n{said}");
                    seen += 1;
                }
            }
            _ => {}
        }
    }
    assert!(seen > 10, "only {seen} lines were looked for");
}
