//! Promise 4: eight writers go on, through the application and around it, while versions open, fail, are killed and
//! are rolled back. At the end everything that was acknowledged is in the live database, and nothing else is.
//!
//! The writers are `tests/fixtures/rows/writers.py`. The short form is run with all other tests; the long one, at
//! random, by `tests/soak`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use receiver::support::death::POINTS;

use crate::backed::{Backed, SQL, WEB};
use crate::servers::Engine;
use crate::world::PROGRAM;

/// Those who write, and what they say.
struct Writers {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Writers {
    fn begin(world: &Backed, seed: u64) -> Writers {
        let place = world.place().join("writers");
        std::fs::create_dir(&place).unwrap();
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rows/writers.py");
        let mut command = world.command("/usr/bin/python3", world.place());
        command.args(["-B", program]).arg(place).env("SEED", seed.to_string());
        command.env("DOOR", world.door()).env("URL", format!("{PROGRAM} db app url"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Writers { child, input, output: BufReader::new(output) }
    }

    /// How many transactions were acknowledged. What was lost already is not waited for.
    #[track_caller]
    fn count(&mut self) -> u64 {
        writeln!(self.input, "count").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let (count, lost) = line.trim().split_once(' ').expect("the writers ended");
        assert!(lost == "0", "{lost} rows that were acknowledged are not there:\n{}", self.end());
        count.parse().unwrap()
    }

    /// Waits until they wrote some more.
    #[track_caller]
    fn more(&mut self, world: &Backed, some: u64) {
        let before = self.count();
        world.until(90, "the writers to go on", || self.count() >= before + some);
    }

    /// Ends them, compares, and says what came of it.
    fn end(&mut self) -> String {
        let _ = writeln!(self.input, "end");
        let mut said = String::new();
        let _ = self.output.read_to_string(&mut said);
        said
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is done to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A page alone: it joins the version, or opens the one that the schema of a failed deploy asks for.
    Page,
    /// A version opens.
    Opens,
    /// One fails before anybody waits, or while writers are held.
    FailsInRehearsal,
    FailsUnderHold,
    /// One opens, and its worker dies at this point, so many times.
    Dies(&'static str, u8),
    /// What is live goes back over a version, and comes again.
    Back,
    BackDies(&'static str),
    Forth,
    ForthDies(&'static str),
    /// The database server dies at this point of a version that opens, of a rollback, or of the way forward again, once
    /// so many have passed it, and comes back when the command has ended.
    ServerDiesAt(&'static str, u8, Way),
    /// The database server dies while a version opens, and comes again.
    ServerDies,
}

/// Over which versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Opens,
    Back,
    Forth,
}

const BACK: [&str; 6] = [
    "rows-carried",
    "rollback-begun",
    "rollback-held",
    "rollback-opened",
    "rollback-fenced",
    "rollback-switched",
];

/// A drama, act by act.
pub struct Drama {
    pub world: Backed,
    writers: Writers,
    /// Counts acts: names pages and tables.
    number: u32,
    /// Whether the act before opened a version, so that a rollback brings all that was written since.
    opened: bool,
    switches: u32,
    deaths: u32,
    failures: u32,
    /// Whether versions open by a copy that is made ahead.
    ahead: Option<bool>,
}

impl Drama {
    pub fn begin(engine: Engine, seed: u64) -> Drama {
        let world = Backed::new(engine);
        world.receiver(&["config", "app", "database.max_pause", "20s"]).ok();
        world.settings(SQL, WEB);
        world.commit("page 0");
        world.push().ok().says("=====> live: 0/");
        let mut writers = Writers::begin(&world, seed);
        writers.more(&world, 40);
        Drama { world, writers, number: 0, opened: false, switches: 0, deaths: 0, failures: 0, ahead: None }
    }

    /// On the servers every other version opens by a copy that is made ahead.
    fn choose_copy(&mut self, act: Act) {
        let ahead = self.number.is_multiple_of(2)
            || matches!(act, Act::Dies("copied-ahead", _) | Act::ServerDiesAt("copied-ahead", ..));
        if self.world.server.is_some() && self.ahead.replace(ahead) != Some(ahead) {
            let from = if ahead { "0s" } else { "1h" };
            self.world.receiver(&["config", "app", "database.copy_ahead", from]).ok();
        }
    }

    /// The next commit: another page, perhaps another table, and what migration does.
    fn commit(&mut self, table: bool, migration: &str) {
        let number = self.number;
        self.world.file("index.html", &format!("page {number}\n"));
        let migration =
            if migration.is_empty() { String::new() } else { format!("migration = '{migration}'\n") };
        self.world.settings(&format!("{SQL}{migration}"), WEB);
        if table {
            self.world.add_table(&format!("t{number}"));
        } else {
            self.world.commit("a page");
        }
    }

    pub fn version(&self) -> String {
        self.world.live().unwrap().split('/').next().unwrap().to_owned()
    }

    #[track_caller]
    pub fn play(&mut self, act: Act) {
        self.number += 1;
        let begun = Instant::now();
        let before = self.version();
        self.choose_copy(act);
        match act {
            Act::Page => {
                self.commit(false, "");
                self.world.push().ok().says("=====> live: ");
            }
            Act::Opens => {
                self.commit(true, "");
                let said = self.world.push().ok();
                assert_ne!(self.version(), before, "{}", said.talk());
            }
            Act::FailsInRehearsal | Act::FailsUnderHold => {
                let rehearsal = act == Act::FailsInRehearsal;
                self.commit(true, if rehearsal { "exit 3" } else { "test \"$RECEIVER_REHEARSAL\" = 1" });
                self.world.push().ok().says(&format!("=====> NOT LIVE: still {before}/"));
                self.failures += 1;
            }
            Act::Dies(point, times) => self.dies(point, times),
            Act::Back => {
                self.world.receiver(&["rollback", "app"]).ok().says("=====> live: ");
                assert_ne!(self.version(), before);
            }
            Act::BackDies(point) => {
                self.die_at(point, 1);
                self.world.receiver(&["rollback", "app"]);
                self.mend(point);
            }
            Act::Forth => {
                self.world.receiver(&["deploy", "app"]).ok().says("=====> live: ");
                assert_ne!(self.version(), before);
            }
            Act::ForthDies(point) => {
                self.die_at(point, 1);
                self.world.receiver(&["deploy", "app"]);
                self.mend(point);
            }
            Act::ServerDiesAt(point, passes, way) => self.server_dies_at(point, passes, way),
            Act::ServerDies => self.server_dies(),
        }
        self.world.until_idle();
        let after = self.version();
        self.switches += u32::from(after != before);
        self.opened = act == Act::Opens || act == Act::Forth;
        self.writers.more(&self.world, 20);
        assert_eq!(self.world.get("/version").body, after, "{}", self.world.picture());
        println!("{:>4}  {act:?}: {before} → {after}, {:.1} s", self.number, begun.elapsed().as_secs_f64());
    }

    /// The worker of what comes next dies at this point, so many times.
    fn die_at(&mut self, point: &str, times: u8) {
        let ticket = self.world.place().join("ticket");
        self.world.env.insert("RECEIVER_TEST_DIE_AT".into(), point.into());
        self.world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
        std::fs::write(&ticket, "").unwrap();
        if times == 2 {
            std::fs::write(self.world.place().join("ticket.2"), "").unwrap();
        }
    }

    #[track_caller]
    fn dies(&mut self, point: &str, times: u8) {
        self.commit(true, "");
        self.die_at(point, times);
        let push = self.world.push_in_background();
        let said = self.world.end(push, 120);
        self.mend(point);
        let (page, wanted) = (self.world.live_file("index.html"), format!("page {}\n", self.number));
        assert!(page == wanted || said.talk().contains("NOT LIVE"), "{point}: {page}{}", said.talk());
    }

    /// After a death the next command that writes finishes what it left, or undoes it.
    #[track_caller]
    fn mend(&mut self, point: &str) {
        // A pusher has its verdict before the last points.
        let ticket = self.world.place().join("ticket");
        self.world.until(30, &format!("the death at {point}"), || !ticket.exists());
        let _ = std::fs::remove_file(self.world.place().join("ticket.2"));
        self.world.env.remove("RECEIVER_TEST_DIE_AT");
        self.tidy();
    }

    /// What a death left is finished or undone by the next command that writes.
    #[track_caller]
    fn tidy(&mut self) {
        if self.world.app().join("receiver/underway.json").exists()
            || !self.world.names("receiver/trash").is_empty()
        {
            self.world.receiver(&["prune", "app"]).ok();
        }
        self.deaths += 1;
    }

    #[track_caller]
    fn server_dies(&mut self) {
        self.commit(true, "");
        let push = self.world.push_in_background();
        let hundredths = u64::from(self.number % 12) * 10;
        std::thread::sleep(Duration::from_millis(hundredths * 10));
        self.world.server_mut().kill9();
        self.world.server_mut().restart();
        self.world.end(push, 120);
        self.tidy();
    }

    #[track_caller]
    fn server_dies_at(&mut self, point: &str, passes: u8, way: Way) {
        let ticket = self.world.place().join("ticket");
        let go = self.world.place().join("ticket.go");
        self.world.env.insert("RECEIVER_TEST_STOP_AT".into(), point.into());
        self.world.env.insert("RECEIVER_TEST_DIE_ONCE".into(), ticket.display().to_string());
        std::fs::write(&ticket, passes.to_string()).unwrap();
        let child = match way {
            Way::Opens => {
                self.commit(true, "");
                self.world.push_in_background()
            }
            Way::Back => self.world.start(PROGRAM, &["rollback", "app"]),
            Way::Forth => self.world.start(PROGRAM, &["deploy", "app"]),
        };
        self.world.until(60, &format!("the stop at {point}"), || !ticket.exists());
        self.world.server_mut().kill9();
        std::fs::write(&go, "").unwrap();
        let said = self.world.end(child, 120);
        println!("the server died at {point}: {}", said.talk().lines().last().unwrap_or_default());
        self.world.env.remove("RECEIVER_TEST_STOP_AT");
        std::fs::remove_file(&go).unwrap();
        self.world.server_mut().restart();
        self.tidy();
    }

    /// Everything that was acknowledged is there, and nothing is left of what failed.
    #[track_caller]
    pub fn end(mut self) {
        let said = self.writers.end();
        println!(
            "{}: {} switches between versions, {} failed deploys, {} deaths\n{said}",
            self.world.engine.name(),
            self.switches,
            self.failures,
            self.deaths
        );
        assert!(said.ends_with("nothing lost\n"), "{}", self.world.picture());
        self.world.nothing_is_left_over();
        self.world.receiver(&["doctor", "app"]).ok();
        let versions = self.world.names("versions");
        let names: Vec<String> = versions.iter().map(|version| format!("app_v{version}")).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        self.world.only(&names);
    }
}

/// A small generator of our own (xorshift): the same seed is the same drama.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// The points that a deploy passes which opens a version behind the door.
fn opening(engine: Engine) -> Vec<&'static str> {
    let end = POINTS.iter().position(|point| *point == "job-removed").unwrap();
    // Of a release that joins, of a hold that disconnects, and of a release that takes a spare, where there is one.
    let others = ["checked", "database-closed", "spare-taken"];
    let passed =
        |point: &&str| !others.contains(point) && (*point != "copied-ahead" || engine != Engine::Sqlite);
    POINTS[..=end].iter().copied().filter(passed).collect()
}

fn next(chance: &mut Chance, drama: &Drama) -> Act {
    let (back, engine) = (drama.opened, drama.world.engine);
    match chance.below(if back { 16 } else { 10 }) {
        1..=3 => Act::Opens,
        4 => Act::FailsInRehearsal,
        5 => Act::FailsUnderHold,
        6..=7 => Act::Dies(chance.of(&opening(engine)), 1),
        8 => Act::Dies(chance.of(&opening(engine)), 2),
        9 if drama.world.server.is_some() => Act::ServerDies,
        0 | 9 => Act::Page,
        10 => Act::BackDies(chance.of(&BACK)),
        _ => Act::Back,
    }
}

fn nothing_is_lost(engine: Engine) {
    // Other points in each of a few runs on end; which, is printed.
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut chance = Chance(seed + 1);
    let mut drama = Drama::begin(engine, seed);
    drama.play(Act::Opens);
    drama.play(Act::Back);
    drama.play(Act::Forth);
    drama.play(Act::BackDies(chance.of(&BACK)));
    drama.play(Act::FailsUnderHold);
    drama.play(Act::Dies(chance.of(&["held", "carried", "migrated", "started"]), 1));
    drama.play(Act::Dies(chance.of(&["fenced", "synced", "sealed", "switched"]), 1));
    drama.play(Act::Dies(chance.of(&opening(engine)), 2));
    drama.play(Act::Opens);
    drama.end();
}

#[test]
fn nothing_that_was_acknowledged_is_lost_on_sqlite() {
    nothing_is_lost(Engine::Sqlite);
}

#[test]
fn nothing_that_was_acknowledged_is_lost_on_mysql() {
    nothing_is_lost(Engine::Mysql);
}

#[test]
fn nothing_that_was_acknowledged_is_lost_on_postgres() {
    nothing_is_lost(Engine::Postgres);
}

#[test]
fn a_soak() {
    let engine = match std::env::var("SOAK_ENGINE").as_deref() {
        Ok("mysql") => Engine::Mysql,
        Ok("postgres") => Engine::Postgres,
        _ => Engine::Sqlite,
    };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}");
    // Without a word from `tests/soak`, as long as it takes to see that it runs.
    let most =
        number("SOAK_MINUTES").map_or(Duration::from_secs(2), |minutes| Duration::from_secs(60 * minutes));
    let begun = Instant::now();
    let mut chance = Chance(seed + 1);
    let mut drama = Drama::begin(engine, seed);
    while begun.elapsed() < most {
        // Time goes by, so that what is retired is pruned.
        drama
            .world
            .env
            .insert("RECEIVER_TEST_CLOCK".into(), (u64::from(drama.number) * 7 * 3600).to_string());
        let act = next(&mut chance, &drama);
        drama.play(act);
        if matches!(act, Act::Back) && chance.below(2) == 0 {
            drama.play(Act::Forth);
        }
    }
    drama.end();
}
