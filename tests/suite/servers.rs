//! Real database servers: a MariaDB (or a MySQL, where it is wanted) or a PostgreSQL for one test, in the test's own directory, gone with it.
//!
//! A new server takes a second to make and a tenth of one to start. So an empty one is made once, under
//! `target/`, and each test starts a copy. They listen at sockets only, and keep what they acknowledged when
//! they are killed (it is with the kernel by then), but not when the machine loses its power.

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};

use crate::world::PROGRAM;

/// What PostgreSQL says where one of its processes that were killed is not gone yet, and keeps their memory.
const REFUSED: &str = "pre-existing shared memory block";

/// What an app may keep its data in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Mysql,
    Postgres,
}

impl Engine {
    /// As settings name it.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Sqlite => "sqlite",
            Engine::Mysql => "mysql",
            Engine::Postgres => "postgres",
        }
    }

    /// The section of the repository's `receiver.toml`, to which further lines of it may be added.
    pub fn settings(self) -> String {
        format!("[database]\nengine = \"{}\"\n", self.name())
    }

    /// The type of a column that numbers its rows by itself.
    pub fn serial(self) -> &'static str {
        match self {
            Engine::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
            Engine::Mysql => "BIGINT AUTO_INCREMENT PRIMARY KEY",
            Engine::Postgres => "BIGSERIAL PRIMARY KEY",
        }
    }

    /// The role that makes databases on servers of this file.
    pub fn admin(self) -> &'static str {
        if self == Engine::Postgres { "postgres" } else { "root" }
    }
}

/// A server that runs, or did.
pub struct Server {
    pub engine: Engine,
    place: PathBuf,
    more: Vec<String>,
    running: Option<Child>,
}

/// Counts for names of templates: another way to make them is another number.
const TEMPLATE: u32 = 1;

impl Server {
    /// Starts one in `place`, which is made, and waits until it answers.
    #[track_caller]
    pub fn start(engine: Engine, place: &Path) -> Server {
        Server::start_with(engine, place, &[])
    }

    /// The same with further options for `mariadbd` or `postgres`.
    #[track_caller]
    pub fn start_with(engine: Engine, place: &Path, more: &[&str]) -> Server {
        fs::create_dir_all(place.join("tmp")).unwrap();
        // PostgreSQL is another user, and has to come through to its own directory.
        for directory in place.ancestors().filter(|directory| directory.starts_with(std::env::temp_dir())) {
            let about = fs::metadata(directory).unwrap();
            let mode = about.permissions().mode();
            if directory != std::env::temp_dir() && mode & 0o001 == 0 {
                fs::set_permissions(directory, fs::Permissions::from_mode(mode | 0o011)).unwrap();
            }
        }
        if engine == Engine::Postgres {
            done(Command::new("chown").arg("postgres:").arg(place));
        }
        // One process does not wait for the disk of another: sparse where it was, and shared where it can be.
        done(Command::new("cp").args(["-a", "--reflink=auto"]).arg(template(engine)).arg(place.join("data")));
        let more = more.iter().map(|&one| one.to_owned()).collect();
        let mut server = Server { engine, place: place.to_owned(), more, running: None };
        let socket = if engine == Engine::Mysql { server.socket() } else { place.join(".s.PGSQL.5432") };
        assert!(socket.as_os_str().len() <= 107, "the path of a socket is too long: {}", socket.display());
        server.restart();
        server
    }

    /// The setting `database.server`: a socket, or PostgreSQL's directory of one.
    pub fn socket(&self) -> PathBuf {
        if self.engine == Engine::Mysql { self.place.join("s.sock") } else { self.place.clone() }
    }

    /// Starts it (again) on the data that it has.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        let begun = Instant::now();
        self.running = Some(self.spawn());
        loop {
            let ended = self.running.as_mut().unwrap().try_wait().unwrap();
            let answer = self.try_sql("", "SELECT 1");
            if answer.is_ok() {
                return;
            }
            let waits = ended.is_some() && self.log_end().contains(REFUSED);
            assert!(
                (ended.is_none() || waits) && begun.elapsed() < Duration::from_secs(60),
                "{} does not start: {answer:?} {ended:?}\n{}",
                self.engine.name(),
                self.log_end()
            );
            if waits {
                self.running = Some(self.spawn());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn spawn(&self) -> Child {
        let log = fs::File::options().append(true).create(true).open(self.log_file()).unwrap();
        let mut command = Command::new("setpriv");
        match self.engine {
            Engine::Sqlite => panic!("SQLite has no server"),
            // Whoever is killed with the test's thread needs nobody to end it; PostgreSQL is asked to, since it
            // has shared memory to give back.
            Engine::Mysql => command.args(["--pdeathsig", "KILL"]).arg(mysqld()).args(self.mysql_options()),
            Engine::Postgres => command
                .args(["--reuid", "postgres", "--regid", "postgres", "--init-groups", "--pdeathsig", "QUIT"])
                .arg(postgres("postgres"))
                .args(self.postgres_options()),
        };
        command.args(&self.more).current_dir(&self.place).env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().unwrap()
    }

    fn mysql_options(&self) -> Vec<String> {
        let place = self.place.display();
        let mut options = vec![
            "--no-defaults".to_owned(),
            "--user=root".into(),
            format!("--datadir={place}/data"),
            format!("--tmpdir={place}/tmp"),
            format!("--socket={}", self.socket().display()),
            format!("--pid-file={place}/pid"),
        ];
        let small = [
            "--skip-networking",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=16M",
            "--key-buffer-size=1M",
            "--performance-schema=OFF",
            // A commit is with the kernel when it is acknowledged, and nobody waits for the disk.
            "--innodb-flush-log-at-trx-commit=1",
            "--innodb-flush-method=nosync",
        ];
        let own: &[&str] = if is_mysql() {
            // It writes a binary log as it comes; the app's roles may make triggers all the same.
            &["--mysqlx=OFF", "--sync-binlog=0", "--log-bin-trust-function-creators=1"]
        } else {
            &["--aria-pagecache-buffer-size=1M"]
        };
        options.extend(small.iter().chain(own).chain(mysql_files()).map(|&option| option.to_owned()));
        options
    }

    fn postgres_options(&self) -> Vec<String> {
        let place = self.place.display();
        let mut options = vec!["-D".to_owned(), format!("{place}/data")];
        let small = [
            "listen_addresses=",
            "shared_buffers=8MB",
            "max_wal_size=64MB",
            // As above.
            "fsync=off",
            // In files of its own directory, not in /dev/shm, where a killed one would leave them.
            "dynamic_shared_memory_type=mmap",
        ];
        for option in small.map(str::to_owned).into_iter().chain([format!("unix_socket_directories={place}")])
        {
            options.extend(["-c".to_owned(), option]);
        }
        options
    }

    fn log_file(&self) -> PathBuf {
        self.place.join("log")
    }

    /// All that it said in its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// The last lines of it.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "the log of {} ends:\n{}",
            self.engine.name(),
            lines[lines.len().saturating_sub(30)..].join("\n")
        )
    }

    /// It and whatever works for it dies at once.
    pub fn kill9(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        let pid = Pid::from_child(&child);
        let workers = children(pid);
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        for worker in workers {
            let _ = rustix::process::kill_process(worker, Signal::KILL);
        }
        child.wait().unwrap();
    }

    /// It ends in order, and at once: connections are cut off.
    pub fn stop(&mut self) {
        let Some(mut child) = self.running.take() else { return };
        let signal = if self.engine == Engine::Postgres { Signal::INT } else { Signal::TERM };
        let _ = rustix::process::kill_process(Pid::from_child(&child), signal);
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{} does not end\n{}", self.engine.name(), self.log_end());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Statements by the server's own client, as its administrator: rows, separated by tabs, no heads.
    #[track_caller]
    pub fn sql(&self, database: &str, text: &str) -> String {
        self.try_sql(database, text).unwrap_or_else(|said| panic!("{text}: {said}\n{}", self.log_end()))
    }

    /// The same, or what it said against it.
    pub fn try_sql(&self, database: &str, text: &str) -> Result<String, String> {
        let mut command = if self.engine == Engine::Mysql {
            let other = other_programs(Engine::Mysql);
            let mut command =
                Command::new(other.map_or_else(|| "mariadb".into(), |place| place.join("mysql")));
            command.args(["--no-defaults", "--user=root", "--batch", "--skip-column-names", "--raw"]);
            command.arg("--socket").arg(self.socket()).arg(database);
            command
        } else {
            let mut command = Command::new(postgres("psql"));
            command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-F", "\t", "-U", "postgres", "-f", "-", "-h"]);
            command.arg(self.socket()).args(["-d", if database.is_empty() { "postgres" } else { database }]);
            command
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A client that cannot connect does not read.
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The databases, but for the server's own.
    pub fn databases(&self) -> Vec<String> {
        let query = if self.engine == Engine::Mysql {
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN \
             ('mysql', 'sys', 'information_schema', 'performance_schema') ORDER BY 1"
        } else {
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' \
             ORDER BY datname COLLATE \"C\""
        };
        let mut all = lines(&self.sql("", query));
        // Each server has an order of its own.
        all.sort();
        // On MySQL receiver keeps what it notes of a database in another one, which comes and goes with it.
        let is_noted =
            |name: &String| name.strip_suffix("_log").is_some_and(|of| all.iter().any(|other| other == of));
        all.iter().filter(|name| !is_noted(name)).cloned().collect()
    }

    /// The roles, but for the server's own.
    pub fn roles(&self) -> Vec<String> {
        let query = if self.engine == Engine::Mysql {
            "SELECT DISTINCT user FROM mysql.user WHERE user NOT IN ('root', 'mariadb.sys', 'mysql', '') \
             AND user NOT LIKE 'mysql.%' ORDER BY 1"
        } else {
            "SELECT rolname FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%' AND rolname <> 'postgres' \
             ORDER BY rolname COLLATE \"C\""
        };
        lines(&self.sql("", query))
    }

    /// Who is connected besides the administrator: role, database, statement.
    pub fn connected(&self) -> Vec<String> {
        let query = if self.engine == Engine::Mysql {
            "SELECT user, db, info FROM information_schema.processlist \
             WHERE user NOT IN ('root', 'system user', 'event_scheduler') ORDER BY 1"
        } else {
            "SELECT usename, datname, query FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND usename <> 'postgres' ORDER BY 1"
        };
        lines(&self.sql("", query))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_end());
        }
        if let Some(mut child) = self.running.take() {
            let signal = if self.engine == Engine::Postgres { Signal::QUIT } else { Signal::KILL };
            let _ = rustix::process::kill_process(Pid::from_child(&child), signal);
            let begun = Instant::now();
            while child.try_wait().is_ok_and(|ended| ended.is_none()) {
                if begun.elapsed() > Duration::from_secs(10) {
                    let _ = child.kill();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // One that was killed could not give its key of shared memory back: `postmaster.pid` says which.
        let file = fs::read_to_string(self.place.join("data/postmaster.pid")).unwrap_or_default();
        if let Some(id) = file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            let _ = Command::new("ipcrm").args(["-m", id]).stderr(Stdio::null()).status();
        }
    }
}

/// How its files are, which has to be the same when they are made and when they are used.
fn mysql_files() -> &'static [&'static str] {
    if is_mysql() {
        return &["--innodb-redo-log-capacity=8M"];
    }
    &[
        "--innodb-log-file-size=8M",
        "--innodb-data-file-path=ibdata1:4M:autoextend",
        "--innodb-autoextend-increment=1",
    ]
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// Runs it to its end, which has to be good.
#[track_caller]
fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn children(of: Pid) -> Vec<Pid> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        parent == Some(of.as_raw_nonzero().get())
    })
    .filter_map(Pid::from_raw)
    .collect()
}

/// MariaDB's server, which Debian puts where only root's path leads, or the MySQL that is wanted instead.
fn mysqld() -> PathBuf {
    if let Some(place) = other_programs(Engine::Mysql) {
        return place.join("mysqld");
    }
    let places = ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd", "/usr/bin/mariadbd"];
    let found = places.into_iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("there is no mariadbd: tests/run installs mariadb-server")
}

/// Whether [`Engine::Mysql`] is MySQL itself in this test, and not MariaDB.
pub fn is_mysql() -> bool {
    other_programs(Engine::Mysql).is_some()
}

thread_local! {
    /// The engine that this test wants the newest of that a package brings, and not the system's.
    static NEWEST: Cell<Option<Engine>> = const { Cell::new(None) };
}

/// Runs a case on the newest PostgreSQL, or on MySQL, that a package brings: `tests/server` has them under `target/`.
pub fn on_the_newest(engine: Engine, case: impl FnOnce()) {
    NEWEST.set(Some(engine));
    case();
}

/// The directory of another server's programs, where a test or whoever runs them wants it.
pub fn other_programs(engine: Engine) -> Option<PathBuf> {
    let (newest, variable) = match engine {
        Engine::Sqlite => return None,
        Engine::Mysql => ("newest-mysql/bin", "RECEIVER_TEST_MYSQL"),
        Engine::Postgres => ("newest-postgres/bin", "RECEIVER_TEST_POSTGRES"),
    };
    let place = if NEWEST.get() == Some(engine) {
        Path::new(PROGRAM).ancestors().nth(2).unwrap().join(newest)
    } else {
        std::env::var_os(variable).filter(|place| !place.is_empty()).map(PathBuf::from)?
    };
    assert!(place.is_dir(), "there is no {}: tests/run brings it", place.display());
    Some(place)
}

/// One of PostgreSQL's programs, of the newest that is there.
pub fn postgres(program: &str) -> PathBuf {
    if let Some(place) = other_programs(Engine::Postgres) {
        assert!(
            place.join(program).exists(),
            "there is no {program} in {}: tests/run brings it",
            place.display()
        );
        return place.join(program);
    }
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, place)| place.join("postgres").exists())
        .collect();
    found.sort();
    let (_, place) = found.pop().expect("there is no PostgreSQL: tests/run installs postgresql");
    place.join(program)
}

/// The data directory of an empty server of the version that is installed.
fn template(engine: Engine) -> PathBuf {
    let program = if engine == Engine::Mysql { mysqld() } else { postgres("postgres") };
    let version = String::from_utf8(done(Command::new(program).arg("--version")).stdout).unwrap();
    let version: String =
        version.trim().chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let target = Path::new(PROGRAM).ancestors().nth(2).unwrap().join("servers");
    fs::create_dir_all(&target).unwrap();
    let ready = target.join(format!("{}-{TEMPLATE}-{version}", engine.name()));
    // One test makes it, and the others wait for that one: kernel locks end with their holder.
    let lock = fs::File::create(target.join(format!("{}.lock", engine.name()))).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    if !ready.exists() {
        // In the temporary directory, into which PostgreSQL's user comes, and from there by a rename.
        let place = tempfile::TempDir::with_prefix("receiver-server-").unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let data = place.path().join("data");
        make(engine, &data);
        let new = target.join(format!(".new-{}", engine.name()));
        let _ = fs::remove_dir_all(&new);
        done(Command::new("cp").arg("-a").arg(&data).arg(&new));
        fs::rename(&new, &ready).unwrap();
    }
    ready
}

fn make(engine: Engine, data: &Path) {
    if engine == Engine::Mysql {
        let mut command;
        if is_mysql() {
            command = Command::new(mysqld());
            command.args(["--no-defaults", "--user=root", "--initialize-insecure"]).args(mysql_files());
        } else {
            command = Command::new("mariadb-install-db");
            command.args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal"]);
            command.args(["--skip-test-db", "--skip-name-resolve"]).args(mysql_files());
        }
        // Not among everybody's: what installs the system tables ends where one of its own there is gone.
        let place = data.parent().unwrap();
        done(command.arg(format!("--datadir={}", data.display())).env("TMPDIR", place));
        return;
    }
    fs::create_dir(data).unwrap();
    done(Command::new("chown").arg("postgres:").arg(data));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]).arg(postgres("initdb"));
    command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
    done(command.args(["--wal-segsize=1", "-D"]).arg(data).current_dir("/"));
    // Only its administrator comes in without a password: those of receiver's roles are put to the proof.
    fs::write(data.join("pg_hba.conf"), "local all postgres trust\nlocal all all scram-sha-256\n").unwrap();
}

/// The case of this name, on each server.
macro_rules! on_servers {
    ($($case:ident)*) => {$(
        mod $case {
            use crate::servers::Engine;
            #[test]
            fn on_mysql() {
                super::$case(Engine::Mysql);
            }
            #[test]
            fn on_postgres() {
                super::$case(Engine::Postgres);
            }
        }
    )*};
}
pub(crate) use on_servers;

/// A path of a server whose directory is too long for a socket is refused where it is started, so the tests of
/// this file use the shortest that there is.
#[cfg(test)]
mod tests {
    use super::{Engine, Pid, REFUSED, Server, Signal, children};

    fn lives(engine: Engine) {
        let place = tempfile::TempDir::with_prefix("receiver-test-").unwrap();
        let mut server = Server::start(engine, &place.path().join("db"));
        assert_eq!((server.databases().len(), server.roles().len()), (0, 0));
        server.sql("", "CREATE DATABASE shop");
        server.sql("shop", "CREATE TABLE kept (id INTEGER PRIMARY KEY)");
        server.sql("shop", "INSERT INTO kept VALUES (1), (2)");
        assert_eq!(server.databases(), ["shop"]);
        assert!(server.try_sql("shop", "SELECT nothing FROM kept").unwrap_err().contains("nothing"));
        server.kill9();
        assert!(server.try_sql("shop", "SELECT 1").is_err());
        server.restart();
        assert_eq!(server.sql("shop", "SELECT sum(id) FROM kept").trim(), "3");
        // A second one beside it is another.
        let other = Server::start(engine, &place.path().join("other"));
        assert!(other.databases().is_empty());
    }

    #[test]
    fn a_mariadb_keeps_what_it_acknowledged_when_it_is_killed() {
        lives(Engine::Mysql);
    }

    #[test]
    fn a_postgresql_keeps_what_it_acknowledged_when_it_is_killed() {
        lives(Engine::Postgres);
    }

    #[test]
    fn a_postgresql_of_which_a_process_is_not_gone_yet_is_started_when_it_is() {
        let place = tempfile::TempDir::with_prefix("receiver-test-").unwrap();
        let mut server = Server::start(Engine::Postgres, &place.path().join("db"));
        let mut dead = server.running.take().unwrap();
        let lingers = children(Pid::from_child(&dead))[0];
        rustix::process::kill_process(lingers, Signal::STOP).unwrap();
        dead.kill().unwrap();
        dead.wait().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let log = place.path().join("db/log");
                let refused = || std::fs::read_to_string(&log).unwrap().contains(REFUSED);
                let begun = std::time::Instant::now();
                while !refused() && begun.elapsed() < std::time::Duration::from_secs(20) {
                    std::thread::yield_now();
                }
                rustix::process::kill_process(lingers, Signal::KILL).unwrap();
            });
            server.restart();
        });
        assert!(server.log().contains(REFUSED));
        assert!(server.databases().is_empty());
    }

    #[test]
    #[should_panic(expected = "does not start")]
    fn a_server_that_does_not_start_fails_the_test_and_shows_its_log() {
        let place = tempfile::TempDir::with_prefix("receiver-test-").unwrap();
        Server::start_with(Engine::Mysql, &place.path().join("db"), &["--no-such-option"]);
    }
}
