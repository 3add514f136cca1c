//! What a hostile or unlucky pusher can do with git's plumbing, and the eyes for what came of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::world::{PROGRAM, Said, World};

/// One entry of a tree that is made by hand: mode, name, object.
pub type Entry<'a> = (&'a str, &'a [u8], String);

impl World {
    /// `program … < input` anywhere, with more in its environment.
    pub fn fed(&self, program: &str, place: &Path, arguments: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(program, place);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program} is needed: {error}"));
        let mut pipe = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        Said::of(&output)
    }

    /// `receiver …` in a directory.
    pub fn receiver_in(&self, place: &Path, arguments: &[&str]) -> Said {
        self.run(PROGRAM, place, arguments)
    }

    fn object(&self, arguments: &[&str], bytes: &[u8]) -> String {
        let mut all = vec!["hash-object", "-w", "--stdin"];
        all.extend(arguments);
        self.fed("git", &self.laptop(), &all, bytes).ok().stdout.trim().to_owned()
    }

    /// A file's object.
    pub fn blob(&self, bytes: &[u8]) -> String {
        self.object(&[], bytes)
    }

    /// A directory's object, exactly these entries in this order: git is not asked whether they are sound.
    pub fn tree(&self, entries: &[Entry]) -> String {
        let mut bytes = Vec::new();
        for (mode, name, object) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            let hex = object.as_bytes().chunks(2);
            bytes.extend(hex.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()));
        }
        self.object(&["-t", "tree", "--literally"], &bytes)
    }

    /// A commit of a tree, without a parent; `main` is left where it is.
    pub fn commit_tree(&self, tree: &str, message: &str) -> String {
        self.git(&["commit-tree", tree, "-m", message]).ok().stdout.trim().to_owned()
    }

    /// Pushes a commit onto the deployed branch, by force.
    pub fn push_commit(&self, commit: &str) -> Said {
        self.push_with(&["--force", "production", &format!("{commit}:refs/heads/main")])
    }

    /// `git …` in the app's repository.
    pub fn git_there(&self, arguments: &[&str]) -> Said {
        self.run("git", &self.app().join("repo.git"), arguments)
    }

    /// The server's own settings, written by hand.
    pub fn server_config(&self, text: &str) {
        std::fs::write(self.app().join("receiver.toml"), text).unwrap();
    }

    /// The directory of the live release, resolved.
    pub fn live_directory(&self) -> PathBuf {
        self.app().join("current").canonicalize().unwrap()
    }

    /// Everything below a directory: kind, mode, size, modification time, content or target.
    pub fn snapshot(&self, directory: &Path) -> BTreeMap<PathBuf, String> {
        let mut seen = BTreeMap::new();
        let mut waiting = vec![directory.to_owned()];
        while let Some(place) = waiting.pop() {
            let about = std::fs::symlink_metadata(&place).unwrap();
            let what = if about.is_symlink() {
                format!("link to {}", std::fs::read_link(&place).unwrap().display())
            } else if about.is_dir() {
                waiting.extend(std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
                "directory".to_owned()
            } else {
                format!("{} bytes", about.len())
            };
            let times = format!("{}.{:09}", about.mtime(), about.mtime_nsec());
            seen.insert(place, format!("{what}, {:o}, {times}", about.permissions().mode()));
        }
        seen
    }

    /// Files of the state's logs, as they lie on disk.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for entry in std::fs::read_dir(self.app().join("receiver/logs")).unwrap() {
            all.push_str(&String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()));
        }
        all
    }
}

/// The lines of a talk that are verdicts.
pub fn verdicts(said: &Said) -> Vec<String> {
    said.talk().lines().filter(|line| line.starts_with("=====> ")).map(str::to_owned).collect()
}

/// Asserts that nothing in it can make a terminal do anything but show text.
#[track_caller]
pub fn assert_tame(what: &str, text: &str) {
    let wild = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if let Some(at) = text.find(wild) {
        let around: String = text[at..].chars().take(40).collect();
        panic!("{what} has {around:?} in:\n{}", text.escape_debug());
    }
}
