//! A real server, with an administrator that is no superuser, and roles that log in by their passwords: the system's, or
//! the one whose programs are in `RECEIVER_TEST_POSTGRES`.

mod behind;
mod capture;
mod carry;
mod dump;
mod fence;
mod hold;
mod place;
mod script;
mod two;
mod way;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{fs, thread};

use postgres::{Client, NoTls};

use super::*;
use crate::data::{Access, Database, Ground, Limit, Progress, Spot};

/// The administrator of the tests' server: what `receiver` is on a real one.
pub(super) const ADMIN: &str = "receiver";

/// A server that ends, and whose directory goes, when this process ends, however it does.
pub(super) struct Server {
    pub(super) directory: PathBuf,
    /// The end of this process closes its input, which is its sign.
    watchdog: Child,
}

/// What the watchdog runs: the server, until its input ends.
const WATCHDOG: &str = r#"
cd / && trap '' INT TERM
as_postgres() { if [ "$(id -u)" = 0 ]; then chown -R postgres "$D" && runuser -u postgres -- "$@"; else "$@"; fi; }
as_postgres "$BIN/initdb" -D "$D/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$D/initdb.log" 2>&1
printf 'local all postgres,receiver trust\nlocal all peered_v1 peer\nlocal all all scram-sha-256\n' >"$D/data/pg_hba.conf"
start() { as_postgres "$BIN/pg_ctl" -D "$D/data" -s -w -l "$D/log" -o "-c listen_addresses='' -c unix_socket_directories=$D -c fsync=off $OPTIONS" start >>"$D/start.log" 2>&1; }
start; echo ready
while read -r word; do
  case "$word" in restart) "as_postgres" "$BIN/pg_ctl" -D "$D/data" -s -m immediate stop >>"$D/start.log" 2>&1; start; echo ready >&2;; esac
done
as_postgres "$BIN/pg_ctl" -D "$D/data" -s -m immediate stop >>"$D/start.log" 2>&1
rm -rf "$D"
"#;

impl Server {
    /// Starts one in a directory of its own.
    pub(super) fn start(options: &str) -> Server {
        let place = tempfile::Builder::new().prefix("receiver-pg-").tempdir_in("/tmp").unwrap();
        let directory = place.keep();
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let newest = || {
            let all = fs::read_dir("/usr/lib/postgresql").unwrap().flatten();
            all.map(|entry| entry.path()).max().unwrap().join("bin")
        };
        let other = std::env::var_os("RECEIVER_TEST_POSTGRES").filter(|place| !place.is_empty());
        let mut watched = Command::new("setsid")
            .args(["sh", "-c", WATCHDOG])
            .env("D", &directory)
            .env("BIN", other.map_or_else(newest, PathBuf::from))
            .env("OPTIONS", options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let output = watched.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut said).unwrap();
        let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
        assert!(directory.join(".s.PGSQL.5432").exists(), "PostgreSQL cannot be started: {}", log());
        let server = Server { directory, watchdog: watched };
        server.postgres("postgres").batch_execute("CREATE ROLE receiver LOGIN CREATEDB CREATEROLE").unwrap();
        server
    }

    /// A superuser's connection.
    pub(super) fn postgres(&self, database: &str) -> Client {
        self.connect(database, "postgres", "")
    }

    pub(super) fn connect(&self, database: &str, role: &str, password: &str) -> Client {
        self.try_connect(database, role, password).unwrap()
    }

    pub(super) fn try_connect(
        &self,
        database: &str,
        role: &str,
        password: &str,
    ) -> Result<Client, postgres::Error> {
        let mut config = postgres::Config::new();
        config.host_path(&self.directory).user(role).dbname(database).password(password);
        config.notice_callback(|_| {}).connect(NoTls)
    }

    /// Ends the server without a word, as a power cut would, and starts it again.
    pub(super) fn kill(&mut self) {
        let pid = fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    pub(super) fn start_again(&mut self) {
        writeln!(self.watchdog.stdin.as_mut().unwrap(), "restart").unwrap();
        until("the server is up again", || self.try_connect("postgres", "postgres", "").is_ok());
    }
}

/// The server of this process.
pub(super) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start("-c max_connections=200"))
}

/// Databases of one test, gone with it.
pub(super) struct Sandbox {
    pub(super) ground: Ground,
    pub(super) server: &'static Server,
    names: std::sync::Mutex<Vec<String>>,
    _secrets: tempfile::TempDir,
}

impl Sandbox {
    pub(super) fn new() -> Sandbox {
        Sandbox::on(server())
    }

    pub(super) fn on(server: &'static Server) -> Sandbox {
        let secrets = tempfile::tempdir().unwrap();
        let ground = Ground {
            agent: None,
            lender: None,
            secrets: secrets.path().join("databases"),
            server: Some(server.directory.clone()),
            admin: Some(ADMIN.to_owned()),
            password_file: None,
        };
        Sandbox { ground, server, names: Vec::new().into(), _secrets: secrets }
    }

    /// The database of this name, which may not be there yet.
    pub(super) fn at(&self, name: &str) -> Postgres {
        self.names.lock().unwrap().push(name.to_owned());
        Postgres::at(&self.ground, spot(name))
    }

    /// Makes a database, and runs `sql` in it as its own role.
    pub(super) fn database(&self, name: &str, sql: &str) -> Postgres {
        let database = self.at(name);
        database.create().unwrap();
        self.app(name).batch_execute(sql).unwrap();
        database
    }

    /// A connection as the app has one.
    pub(super) fn app(&self, name: &str) -> Client {
        self.try_app(name, Access::Write).unwrap()
    }

    pub(super) fn reader(&self, name: &str) -> Client {
        self.try_app(name, Access::Read).unwrap()
    }

    pub(super) fn try_app(&self, name: &str, access: Access) -> Result<Client, postgres::Error> {
        let variables = Postgres::at(&self.ground, spot(name)).variables(access).unwrap();
        let of = |wanted: &str| variables.iter().find(|(key, _)| key.ends_with(wanted)).unwrap().1.clone();
        self.server.try_connect(name, &of("_USER"), &of("_PASSWORD"))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for name in self.names.lock().unwrap().iter() {
            let _ = Postgres::at(&self.ground, spot(name)).remove();
        }
    }
}

pub(super) fn spot(name: &str) -> Spot {
    Spot { directory: PathBuf::new(), name: name.to_owned() }
}

pub(super) fn patience() -> Limit<'static> {
    Limit::within(Duration::from_secs(60))
}

pub(super) fn silent(_: Progress) {}

pub(super) fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap().get(0)
}

/// Which PostgreSQL the server is: `150018`.
pub(super) fn version(server: &Server) -> i64 {
    number(&mut server.postgres("postgres"), "SELECT current_setting('server_version_num')::bigint")
}

/// Waits for something that comes.
pub(super) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "it never came: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Retires a database as a deploy does.
pub(super) fn retire(database: &Postgres) {
    database.hold(&patience()).unwrap().fence("version 3 of shop is retired").unwrap();
}

/// This test binary, once more, for one test.
pub(super) fn again(test: &str, variable: &str, value: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(variable, value)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}
