//! Health, asked of real servers over their own sockets.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use receiver::serve::backlog;
use receiver::serve::health::{Answer, Probe, Protocol, Unanswered};
use rustix::process::{Pid, Signal};

/// A program that is ended, with its group, when the test ends.
pub struct Server {
    child: Child,
    place: tempfile::TempDir,
}

const APPLICATION: &str = r#"
import time
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if environ.get("HTTP_HOST") != "app.example":
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [b"no such host"]
    if path == "/slow":
        time.sleep(20)
    if path == "/broken":
        raise ValueError("on purpose")
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Agent", environ["HTTP_USER_AGENT"])])
    names = "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REQUEST_METHOD", "SERVER_NAME", "REMOTE_ADDR"
    return ["".join("%s=%s\n" % (name, environ.get(name, "none")) for name in names).encode()]
"#;

impl Server {
    /// Starts `sh -c command` with `$S` as the socket, where the application lies.
    fn start(command: &str) -> Server {
        use std::os::unix::process::CommandExt;
        let place = tempfile::Builder::new().prefix("health").tempdir().unwrap();
        std::fs::write(place.path().join("wsgi.py"), APPLICATION).unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).env("S", place.path().join("s")).current_dir(&place).process_group(0);
        let output = std::fs::File::create(place.path().join("output")).unwrap();
        shell.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        Server { child: shell.spawn().unwrap(), place }
    }

    fn socket(&self) -> PathBuf {
        self.place.path().join("s")
    }

    /// Asks until it is up.
    fn ask(
        &self,
        protocol: Protocol,
        host: &str,
        path: &str,
        timeout: Duration,
    ) -> Result<Answer, Unanswered> {
        let socket = self.socket();
        let probe = Probe { socket: &socket, protocol, host, path, timeout };
        let begun = Instant::now();
        loop {
            match probe.ask() {
                Err(error) if error.why.may_come_up() && begun.elapsed() < Duration::from_secs(30) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.place.path().join("output")).unwrap_or_default());
        }
        let group = Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

const GUNICORN: &str = "exec gunicorn --bind unix:$S --workers 1 wsgi";
const UWSGI: &str = "exec uwsgi --plugin python3 --module wsgi:application --master --processes 1 --need-app --die-on-term --chmod-socket=660";
const LONG: Duration = Duration::from_secs(20);

fn answers(command: &str, protocol: Protocol) {
    let server = Server::start(command);
    let answer =
        server.ask(protocol, "app.example", "/a/b?c=d", LONG).unwrap_or_else(|e| panic!("{}", e.error));
    assert_eq!(answer.status, 200, "{:?}", answer.head);
    for line in ["PATH_INFO=/a/b", "QUERY_STRING=c=d", "REQUEST_METHOD=GET", "SCRIPT_NAME="] {
        assert!(answer.head.iter().any(|have| have == line), "{line} is not in {:?}", answer.head);
    }
    let agent = format!("X-Agent: receiver/{}", env!("CARGO_PKG_VERSION"));
    assert!(answer.head.contains(&agent), "{:?}", answer.head);
    // A wrong Host, a broken application, and a slow one.
    assert_eq!(server.ask(protocol, "wrong.example", "/", LONG).unwrap().status, 400);
    let broken = server.ask(protocol, "app.example", "/broken", LONG);
    assert!(broken.as_ref().map_or(true, |answer| answer.status == 500), "{broken:?}");
    let slow = server.ask(protocol, "app.example", "/slow", Duration::from_millis(300)).unwrap_err();
    assert_eq!(slow.why, receiver::serve::health::Why::TooSlow);
    assert!(backlog::on(&server.socket()).unwrap().listens);
}

#[test]
fn gunicorn_answers_http() {
    answers(GUNICORN, Protocol::Http);
}

#[test]
fn uwsgi_answers_fastcgi() {
    answers(&format!("{UWSGI} --fastcgi-socket $S"), Protocol::Fastcgi);
}

#[test]
fn uwsgi_answers_its_own_protocol() {
    answers(&format!("{UWSGI} --socket $S"), Protocol::Uwsgi);
}
