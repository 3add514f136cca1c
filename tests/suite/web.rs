//! A world with a web application behind the door, and a client that talks to it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::world::World;

/// What the door answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub status: u16,
    pub body: String,
}

/// The configuration of the application in `tests/fixtures/web.py`.
pub const WEB: &str = "[web]\ncommand = \"exec /usr/bin/python3 web.py\"\nsettle = \"100ms\"\nstart_timeout = \"20s\"\ndrain = \"10s\"\n";
/// A database that it writes notes to.
pub const SQL: &str =
    "[stages]\nsyncdb = { sql = [\"schema.sql\"] }\n[database]\nengine = \"sqlite\"\nmax_pause = \"20s\"\n";

/// One request over a socket, and the whole answer.
pub fn ask(socket: &Path, method: &str, path: &str, body: &str) -> std::io::Result<Answered> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let broken = || std::io::Error::other(format!("no answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    Ok(Answered { status, body: body.to_owned() })
}

impl World {
    /// With the web application of the fixtures, pushed and live.
    pub fn with_web() -> World {
        let world = World::with_app();
        world.file("web.py", include_str!("../fixtures/web.py"));
        world.file("receiver.toml", WEB);
        world.file("index.html", "one\n");
        world.commit("one");
        world.push().ok().says("live: 0/");
        world
    }

    /// The same with a database of notes for each version.
    pub fn with_web_and_notes() -> World {
        let world = World::with_app();
        world.file("web.py", include_str!("../fixtures/web.py"));
        world.file("receiver.toml", &format!("{WEB}{SQL}"));
        world.file(
            "schema.sql",
            "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n",
        );
        world.file("index.html", "one\n");
        world.commit("one");
        world.push().ok().says("live: 0/");
        world
    }

    /// Another page; with `schema`, another table as well, so that a version opens.
    pub fn next_page(&self, text: &str, schema: bool) {
        self.file("index.html", &format!("{text}\n"));
        if schema {
            let path = self.laptop().join("schema.sql");
            let before = std::fs::read_to_string(&path).unwrap();
            std::fs::write(
                path,
                format!("{before}CREATE TABLE IF NOT EXISTS {text} (id INTEGER PRIMARY KEY);\n"),
            )
            .unwrap();
        }
        self.commit(text);
    }

    pub fn door(&self) -> std::path::PathBuf {
        self.app().join("receiver/door.sock")
    }

    /// What the door answers to a GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answered {
        ask(&self.door(), "GET", path, "")
            .unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.picture()))
    }

    /// What the door answers to a POST.
    #[track_caller]
    pub fn post(&self, path: &str, body: &str) -> Answered {
        ask(&self.door(), "POST", path, body)
            .unwrap_or_else(|error| panic!("POST {path}: {error}\n{}", self.picture()))
    }

    /// The processes that `status` lists: name, state, release, pid.
    pub fn processes(&self) -> Vec<(String, String, String, Option<u64>)> {
        let status = self.status();
        let all = status["processes"].as_array().unwrap().iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        all.map(|one| (text(&one["name"]), text(&one["state"]), text(&one["release"]), one["pid"].as_u64()))
            .collect()
    }

    /// The names of processes that run, sorted, each with the release that it runs in.
    pub fn running(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .processes()
            .into_iter()
            .filter(|(_, state, ..)| state == "running")
            .map(|(name, _, release, _)| format!("{name} in {release}"))
            .collect();
        names.sort();
        names
    }

    /// Waits until only these run, all of them in what is live.
    #[track_caller]
    pub fn until_running(&self, names: &[&str]) {
        let live = self.live().unwrap();
        let mut wanted: Vec<String> = names.iter().map(|name| format!("{name} in {live}")).collect();
        wanted.sort();
        self.until(30, &format!("{wanted:?} to run, alone"), || {
            self.running() == wanted && self.processes().len() == wanted.len()
        });
    }
}
