//! The architecture, read from the code: arrows only downward, one owner for each promise.

use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

fn all() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&top, &mut found);
    let name = |path: &Path| path.strip_prefix(&top).unwrap().display().to_string();
    let texts = found.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap()));
    texts.filter(|(name, _)| !name.contains("tests") && !name.contains("_model")).collect()
}

#[test]
fn arrows_between_rooms_only_point_downward() {
    let may = |room: &str| -> &[&str] {
        match room {
            "cli" => &["cli", "server", "deploy", "vcs", "schema", "data", "serve", "root", "app", "support"],
            "server" => &["server", "deploy", "vcs", "schema", "data", "serve", "root", "app", "support"],
            "deploy" => &["deploy", "vcs", "schema", "data", "serve", "root", "app", "support"],
            "vcs" => &["vcs", "app", "support"],
            "schema" => &["schema", "support"],
            "data" => &["data", "root", "app", "support"],
            "serve" => &["serve", "root", "app", "support"],
            "root" => &["root", "app", "support"],
            "app" => &["app", "support"],
            "support" => &["support"],
            other => panic!("the room {other} has no place in the order"),
        }
    };
    let mut seen = 0;
    for (name, text) in all() {
        let Some((room, _)) = name.split_once('/') else { continue };
        for part in text.split("crate::").skip(1) {
            let target: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(may(room).contains(&target.as_str()), "{name} reaches up to {target}");
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} uses were found: does this test still read the code?");
}

#[test]
fn only_one_file_renames_links_and_removes_trees() {
    let owned = ["fs::rename(", "::symlink(", "remove_dir_all(", "renameat", "fs::soft_link("];
    for (name, text) in all() {
        let code = text.split("#[cfg(test)]").next().unwrap();
        for call in owned {
            let found = code.lines().any(|line| line.contains(call) && !line.trim_start().starts_with("//"));
            assert!(!found || name == "support/files.rs", "{name} calls {call}");
        }
    }
}

#[test]
fn only_the_switch_touches_current() {
    for (name, text) in all() {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let touches = code.contains("link_atomic(") && code.contains("current()");
        assert!(!touches || name == "deploy/switch.rs", "{name} could change current");
    }
}
