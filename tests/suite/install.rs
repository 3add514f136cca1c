//! INSTALL.md, followed word for word: what it types is typed, what it says is seen is seen.

use std::path::Path;

use crate::world::{PROGRAM, World};

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
    let text = include_str!("../../INSTALL.md");
    let blocks = blocks(text);
    let script: String =
        blocks.iter().filter(|(language, _)| language == "sh").map(|(_, body)| body.as_str()).collect();
    assert!(script.lines().count() > 12, "the blocks that are typed are marked as sh");
    world.file("script", &script);
    let path =
        format!("{}:{}", Path::new(PROGRAM).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output =
        world.command("sh", &world.laptop()).args(["-ex", "script"]).env("PATH", path).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let home = world.place().join("home").display().to_string();
    let seen = blocks.iter().filter(|(language, _)| language == "text").flat_map(|(_, body)| body.lines());
    for line in seen {
        assert!(said.contains(&line.replace("/home/you", &home)), "INSTALL.md promises {line:?}:\n{said}");
    }
}
