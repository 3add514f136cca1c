//! `receiver logs`: what processes print, the last lines and those to come.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::keeping::{Kept, Machine};
use crate::world::{PROGRAM, World};

/// `receiver logs -f`, its lines as they come.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn begin(world: &World, arguments: &[&str]) -> Following {
        let mut command = world.command(PROGRAM, world.place());
        command.args(["logs", "app", "-f"]).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).count()
        });
        Following { child, lines }
    }

    #[track_caller]
    fn next(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(20)).expect("another line")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(line: &str) -> &str {
    line.splitn(4, ' ').nth(3).unwrap()
}

#[test]
fn logs_show_what_processes_print_and_what_became_of_them() {
    let world = World::with_site();
    let kept = Kept::start(&world, "echo first; printf 'a\\033[2Jb\\n'; exit 3", &[]);
    kept.until(20, "it to end twice", || kept.condition()["restarts"].as_u64() >= Some(2));
    kept.stop();
    let said = world.receiver(&["logs", "app", "mailer"]).ok();
    let texts: Vec<&str> = said.stdout.lines().map(text).collect();
    assert_eq!(texts[..3], ["first", "a\\u{1b}[2Jb", "exited with status 3; started again in 0.1 s"]);
    assert_eq!(said.stdout, world.receiver(&["logs", "app"]).ok().stdout);
    let last = world.receiver(&["logs", "app", "mailer", "-n", "1"]).ok().stdout;
    assert_eq!(last, format!("{}\n", said.stdout.lines().last().unwrap()));
    let object = world.receiver(&["logs", "app", "mailer", "--json"]).ok().json();
    assert_eq!(object["lines"][1]["text"], "a\u{1b}[2Jb");
    assert_eq!(
        (&object["lines"][2]["by"], &object["lines"][2]["process"]),
        (&"receiver".into(), &"mailer".into())
    );
}

#[test]
fn logs_of_a_process_that_nobody_knows_name_those_that_there_are() {
    let world = World::with_site();
    world
        .receiver(&["logs", "app", "mialer"])
        .fails(2)
        .says("app has no process 'mialer'")
        .says("it has none: [web]");
    let kept = Kept::start(&world, "exec sleep 600", &[]);
    world.receiver(&["logs", "app", "mialer"]).fails(2).says("it has: mailer");
    world.receiver(&["logs", "app", "../../x\u{1b}"]).fails(2).never_says("\u{1b}");
    assert_eq!(world.receiver(&["logs", "app", "mailer"]).ok().stdout, "");
    drop(kept);
}

#[test]
fn logs_are_followed_through_rotation_and_to_processes_that_start_later() {
    let world = World::with_site();
    world.server_config("[limits]\nlog_bytes = \"64K\"\n");
    let following = Following::begin(&world, &["-n", "100000"]);
    let command = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo \"line $i\"; \
                   [ $((i % 200)) != 0 ] || sleep 0.3; done; exec sleep 600";
    let kept = Kept::start(&world, command, &[]);
    for number in 1..=3000 {
        assert_eq!(text(&following.next()), format!("line {number}"));
    }
    assert!(world.app().join("receiver/logs/processes/mailer.log.1").exists(), "nothing was rotated");
    kept.stop();
    assert_eq!(text(&following.next()), "was ended by signal 15, as asked");
    // Who comes later begins with the last lines.
    let later = Following::begin(&world, &["mailer", "-n", "2"]);
    assert_eq!(text(&later.next()), "line 3000");
    assert_eq!(text(&later.next()), "was ended by signal 15, as asked");
}

#[test]
fn logs_that_are_followed_end_with_their_reader() {
    let world = World::with_site();
    let kept = Kept::start(&world, "while :; do echo tick; sleep 0.1; done", &[]);
    let said = world.sh(&format!("timeout 20 {PROGRAM} logs app -f | head -n 2"));
    assert_eq!(said.ok().stdout.lines().map(text).collect::<Vec<_>>(), ["tick", "tick"]);
    drop(kept);
}
