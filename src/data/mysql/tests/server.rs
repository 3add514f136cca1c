//! A real server in a directory of its own, which ends with the test process.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use mysql::{Conn, OptsBuilder};

/// Starts the server, and ends it and removes its directory when the pipe that it reads is closed: by the end of the
/// test process, however it comes. It is the system's MariaDB, or the MySQL whose programs are in `RECEIVER_TEST_MYSQL`.
const KEEPER: &str = r#"
    # What ends the tests by their process group must leave somebody to clean up.
    trap '' INT TERM HUP
    D="$1"; shift
    # Not among everybody's: what installs the system tables ends where one of its own there is gone.
    export TMPDIR="$D"
    install() {
        mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$D/data" \
            --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve
    }
    server=mariadbd; own=--innodb-log-file-size=16M
    if [ "$RECEIVER_TEST_MYSQL" ]; then
        server="$RECEIVER_TEST_MYSQL/mysqld"; own="--innodb-redo-log-capacity=32M --mysqlx=OFF --log-bin-trust-function-creators=1"
        install() { "$server" --no-defaults --initialize-insecure --user="$(id -un)" --datadir="$D/data"; }
    fi
    install >"$D/error.log" 2>&1 </dev/null || exit 1
    while true; do
    "$server" --no-defaults --user="$(id -un)" --datadir="$D/data" --tmpdir="$D" --socket="$D/s.sock" \
        --pid-file="$D/pid" --skip-networking --innodb-buffer-pool-size=48M $own \
        --innodb-flush-log-at-trx-commit=2 --sync-binlog=0 --performance-schema=OFF --log-error="$D/error.log" \
        "$@" </dev/null >/dev/null 2>&1 &
    read -r again || break
    wait
    done
    kill -9 $! 2>/dev/null
    wait
    rm -rf "$D"
"#;

pub(super) struct TestServer {
    pub(super) socket: PathBuf,
    directory: PathBuf,
    life: Mutex<ChildStdin>,
    _keeper: Child,
}

impl TestServer {
    /// The one that all tests share.
    pub(super) fn shared() -> &'static TestServer {
        static SERVER: OnceLock<TestServer> = OnceLock::new();
        SERVER.get_or_init(|| TestServer::start(&[]))
    }

    /// One of its own.
    pub(super) fn start(options: &[&str]) -> TestServer {
        TestServer::start_in(
            tempfile::Builder::new().prefix("receiver-mariadb-").tempdir().unwrap().keep(),
            options,
        )
    }

    /// One of its own, in this directory.
    pub(super) fn start_in(directory: PathBuf, options: &[&str]) -> TestServer {
        std::fs::create_dir_all(&directory).unwrap();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&directory)
            .args(options)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let life = keeper.stdin.take().unwrap();
        let socket = directory.join("s.sock");
        let server = TestServer { socket, directory, life: Mutex::new(life), _keeper: keeper };
        server.wait();
        server
    }

    fn wait(&self) {
        let began = Instant::now();
        while self.try_root().is_err() {
            let log = std::fs::read_to_string(self.directory.join("error.log")).unwrap_or_default();
            let tail = &log[log.len().saturating_sub(2000)..];
            assert!(began.elapsed() < Duration::from_secs(60), "the server does not start: {tail}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn root(&self) -> Conn {
        self.try_root().unwrap()
    }

    fn try_root(&self) -> mysql::Result<Conn> {
        let socket = Path::to_str(&self.socket);
        Conn::new(OptsBuilder::new().socket(socket).user(Some("root")).prefer_socket(false))
    }

    /// Kills the server, as a power cut would.
    pub(super) fn kill(&self) {
        let pid = std::fs::read_to_string(self.directory.join("pid")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// Starts it again, after [`kill`](TestServer::kill).
    pub(super) fn restart(&self) {
        writeln!(self.life.lock().unwrap(), "again").unwrap();
        self.wait();
    }
}
