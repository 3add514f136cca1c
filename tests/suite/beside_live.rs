//! `receiver serve`: kept releases beside the live one.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::browser::{Running, ask, free_port, get};
use crate::world::{PROGRAM, World};

/// Starts it, and returns its first line.
pub fn serve_line(world: &World, port: u16, arguments: &[&str]) -> (Running, String) {
    let mut command = world.command(PROGRAM, world.place());
    command.args(["serve", "app", "--port", &port.to_string()]).args(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Running(child), line)
}

/// Starts it, and returns when it says its URL.
fn serve(world: &World, port: u16, arguments: &[&str]) -> Running {
    let (child, line) = serve_line(world, port, arguments);
    assert_eq!(line, format!("http://127.0.0.1:{port}/\n"));
    child
}

pub fn end(world: &World, mut child: Running, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(&child.0), signal).unwrap();
    world.until(30, "serve to end", || child.0.try_wait().unwrap().is_some());
    assert!(child.0.wait().unwrap().success());
}

/// Two versions: the first has the note `zero`, the second has it too, and `one`.
fn two_versions() -> World {
    let world = World::with_web_and_notes();
    world.post("/note", "zero");
    world.next_page("more", true);
    world.push().ok().says("live: 1/");
    world.post("/note", "one");
    world
}

#[test]
fn two_versions_are_served_at_once_each_with_its_own_data_and_leave_nothing() {
    let world = two_versions();
    // What was live before ends its work first.
    world.until_running(&["web"]);
    let before = world.names("receiver/run/processes");
    let (one, other) = (free_port(), free_port());
    let (first, second) =
        (serve(&world, one, &["--version", "0"]), serve(&world, other, &["--version", "1"]));
    let (old, new) = (get(one, "/notes").is(200).text(), get(other, "/notes").is(200).text());
    assert!(old.contains("zero") && !old.contains("one"), "{old}");
    assert!(new.contains("zero") && new.contains("one"), "{new}");
    assert!(ask(one, "POST", "/note", &[], b"three").status >= 500, "version 0 could write");
    end(&world, first, rustix::process::Signal::INT);
    end(&world, second, rustix::process::Signal::HUP);
    world.until(20, "what ran beside to be gone", || world.names("receiver/run/processes") == before);
    for port in [one, other] {
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}

#[test]
fn a_copy_can_be_written_and_the_real_one_is_unchanged() {
    let world = two_versions();
    let rows = || {
        let said = world.run(
            "sqlite3",
            world.place(),
            &[world.database(0).to_str().unwrap(), "SELECT text FROM note"],
        );
        said.ok().stdout
    };
    let before = rows();
    let port = free_port();
    let child = serve(&world, port, &["--version", "0", "--copy"]);
    assert!(ask(port, "POST", "/note", &[], b"thrown away").status < 400);
    assert!(get(port, "/notes").is(200).text().contains("thrown away"));
    end(&world, child, rustix::process::Signal::TERM);
    assert_eq!(rows(), before);
}

#[test]
fn a_static_release_is_served_without_a_process() {
    let world = World::with_site();
    world.file("index.html", "two\n");
    world.commit("two");
    world.push().ok();
    let oldest = world.list()["releases"][1]["name"].as_str().unwrap().to_owned();
    let port = free_port();
    let child = serve(&world, port, &["--release", &oldest]);
    assert_eq!(get(port, "/").is(200).text(), "one\n");
    let taken = port.to_string();
    world
        .receiver(&["serve", "app", "--version", "0", "--port", &taken])
        .fails(1)
        .says("cannot listen at")
        .says("--port");
    end(&world, child, rustix::process::Signal::TERM);
    world.receiver(&["serve", "app", "--version", "7", "--port", &taken]).fails(2);
    world.receiver(&["serve", "app", "--port", &taken]).fails(2);
}
