//! `[cron]`: commands at their times, in the live release, never twice at once.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::keeping::Machine;
use crate::world::{PROGRAM, World};

/// A world whose app is live with this `[cron]`; it is stopped with the test.
struct Timed(World);

impl Timed {
    fn with(cron: &str) -> Timed {
        let world = World::with_app();
        world.file("index.html", "one\n");
        let timed = Timed(world);
        timed.push(cron);
        timed
    }

    fn push(&self, cron: &str) {
        self.0.file("receiver.toml", &format!("[database]\nengine = \"none\"\n{cron}"));
        self.0.commit("times");
        self.0.push().ok().says("=====> live: ");
    }

    /// From now on for this world, the next minute begins in about two seconds.
    fn shortly_before_a_minute(&mut self) {
        // Who looks at the clock since the push does so with the real one.
        self.0.receiver(&["cron", "app", "--stop"]).ok();
        let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 60;
        self.0
            .env
            .insert("RECEIVER_TEST_CLOCK".to_owned(), (58 - i64::try_from(second).unwrap()).to_string());
    }

    fn arrange(&self) {
        self.0.receiver(&["cron", "app", "--arrange"]).ok();
    }

    fn logs(&self, name: &str) -> String {
        self.0.receiver(&["logs", "app", name]).stdout
    }

    fn until(&self, what: &str, done: impl FnMut() -> bool) {
        self.0.until(30, what, done);
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.0.receiver(&["cron", "app", "--stop"]);
    }
}

#[test]
fn a_command_runs_at_its_time_in_the_live_release_and_its_output_is_in_the_logs() {
    let mut timed = Timed::with(
        "[cron]\nclean = { at = \"* * * * *\", command = \"echo in $RECEIVER_RELEASE; exit 3\" }\n",
    );
    timed.shortly_before_a_minute();
    timed.arrange();
    // A second time changes nothing.
    timed.arrange();
    timed.until("the command's end", || timed.logs("clean").contains("exited with status 3"));
    let live = timed.0.live().unwrap();
    assert!(timed.logs("clean").contains(&format!(" | in {live}\n")), "{}", timed.logs("clean"));
    assert_eq!(timed.logs("clean").matches(" | in ").count(), 1, "{}", timed.logs("clean"));
}

#[test]
fn a_command_is_never_run_twice_at_once() {
    let timed =
        Timed::with("[cron]\nslow = { at = \"daily\", command = \"echo at work; exec sleep 600\" }\n");
    let mut first = timed.0.start(PROGRAM, &["cron", "app", "slow"]);
    timed.until("it to run", || timed.logs("slow").contains(" | at work"));
    timed.0.receiver(&["cron", "app", "slow"]).ok();
    assert!(timed.logs("slow").contains(" - left out: it still runs from before"), "{}", timed.logs("slow"));
    assert_eq!(timed.logs("slow").matches(" | at work").count(), 1);
    timed.0.sh(&format!("pkill -fx 'sleep 600' -P {}", first.id())).ok();
    first.wait().unwrap();
    assert!(timed.logs("slow").contains(" - was ended by signal 15 after"), "{}", timed.logs("slow"));
    // Nor is it in the way any more.
    timed.0.receiver(&["cron", "app", "no-such-name"]).fails(2).says("it has: slow");
}

#[test]
fn what_is_no_longer_arranged_does_not_run_and_stop_ends_what_runs() {
    let mut timed = Timed::with(
        "[cron]\none = { at = \"* * * * *\", command = \"echo one\" }\n\
         two = { at = \"* * * * *\", command = \"echo two; trap '' TERM; echo $$ > $RECEIVER_SHARED_DIR/pid; setsid sleep 601\" }\n",
    );
    timed.arrange();
    timed.push("[cron]\ntwo = { at = \"* * * * *\", command = \"echo two; setsid sleep 601\" }\n");
    timed.0.receiver(&["cron", "app", "--stop"]).ok();
    timed.shortly_before_a_minute();
    timed.arrange();
    timed.until("the other one", || timed.logs("two").contains(" | two"));
    timed.0.receiver(&["cron", "app", "--stop"]).ok();
    assert_eq!(timed.logs("one"), "", "what is no longer there ran");
    let place = timed.0.root().display().to_string();
    let left = timed.0.sh(&format!("grep -lz '{place}' /proc/[0-9]*/environ 2>/dev/null")).stdout;
    let left: Vec<&str> = left.lines().filter(|line| !line.contains("/self/")).collect();
    let sleeping = left.iter().filter(|environ| {
        std::fs::read_to_string(environ.replace("environ", "comm")).is_ok_and(|name| name == "sleep\n")
    });
    assert_eq!(sleeping.count(), 0, "{left:?}");
}
