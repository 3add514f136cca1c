//! A real nginx in a world of its own, a browser to look through it, and applications behind it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::world::World;

/// The host of all apps here.
pub const HOST: &str = "app.example";

/// A port of loopback that nobody listens at.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What nginx answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn of(bytes: &[u8]) -> Answer {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = &bytes[end + 4..];
        Answer { status, head, body: if chunked { unchunked(body) } else { body.to_vec() } }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    #[track_caller]
    pub fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}\n\n{}", self.head, self.text());
        self
    }
}

/// A body in chunks, put together (RFC 9112, section 7.1).
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            break;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 2 + length + 2..];
    }
    body
}

/// Sends these bytes, and reads until the other side closes.
pub fn send(port: u16, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Answer::of(&answer)
}

pub fn ask(port: u16, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    ask_host(port, HOST, method, path, headers, body)
}

pub fn ask_host(port: u16, host: &str, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    send(port, &[text.as_bytes(), body].concat())
}

pub fn get(port: u16, path: &str) -> Answer {
    ask(port, "GET", path, &[], b"")
}

/// A form that is sent as a browser does it; `cookie` is what the page set, or empty.
pub fn submit(port: u16, path: &str, cookie: &str, fields: &str) -> Answer {
    let kind = "Content-Type: application/x-www-form-urlencoded";
    ask(port, "POST", path, &[kind, &format!("Cookie: {cookie}")], fields.as_bytes())
}

/// A process of a test, which does not outlive it.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// An nginx with a configuration of its own, as a server has one.
pub struct Web {
    pub place: PathBuf,
    pub port: u16,
    pub program: PathBuf,
    running: Option<Running>,
}

impl Web {
    /// Its configuration, and that the app of this world is told of it. It does not run yet.
    pub fn prepare(world: &World) -> Web {
        let place = world.place().join("nginx");
        for directory in ["conf.d", "logs", "tmp", "challenge"] {
            std::fs::create_dir_all(place.join(directory)).unwrap();
        }
        let web = Web { place, port: free_port(), program: "/usr/sbin/nginx".into(), running: None };
        web.configure("");
        for (key, value) in [
            ("domain", HOST.to_owned()),
            ("nginx.config", web.config().display().to_string()),
            ("nginx.site", web.site().display().to_string()),
            ("nginx.challenge", web.place.join("challenge").display().to_string()),
            ("nginx.listen", format!("[\"127.0.0.1:{}\"]", web.port)),
        ] {
            world.receiver(&["config", "app", key, &value]).ok();
        }
        web
    }

    /// The same, running, with the site of what is live.
    pub fn with_site(world: &World) -> Web {
        let mut web = Web::prepare(world);
        web.open(world);
        web
    }

    /// Starts it, and brings in the site of what is live.
    pub fn open(&mut self, world: &World) {
        self.start(world);
        world.receiver(&["config", "app", "--site", "--install"]).ok().says("nginx has loaded it");
    }

    pub fn configure(&self, more: &str) {
        let place = self.place.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|of| format!("{of}_temp_path {place}/tmp/{of};\n"))
            .collect();
        let text = format!(
            "user root;\nworker_processes 2;\npid {place}/nginx.pid;\nerror_log {place}/logs/error.log info;\n\
             events {{ worker_connections 512; }}\nhttp {{\n{temporary}access_log {place}/logs/access.log;\n\
             open_file_cache max=100 inactive=60s;\nopen_file_cache_valid 60s;\n\
             include /etc/nginx/mime.types;\n{more}\ninclude {place}/conf.d/*.conf;\n}}\n"
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.place.join("nginx.conf")
    }

    pub fn site(&self) -> PathBuf {
        self.place.join("conf.d/receiver-app.conf")
    }

    /// The site of somebody else, at a port of its own.
    pub fn neighbour(&self) -> u16 {
        let port = free_port();
        let text = format!("server {{ listen 127.0.0.1:{port}; return 200 neighbour; }}\n");
        std::fs::write(self.place.join("conf.d/neighbour.conf"), text).unwrap();
        port
    }

    pub fn start(&mut self, world: &World) {
        let mut command = Command::new(&self.program);
        command.arg("-p").arg(&self.place).arg("-c").arg(self.config()).args(["-g", "daemon off;"]);
        command.args(["-e", "logs/error.log"]).stderr(Stdio::null());
        self.running = Some(Running(command.spawn().unwrap()));
        world.until(10, "nginx to start", || {
            std::fs::read_to_string(self.place.join("nginx.pid")).is_ok_and(|pid| !pid.trim().is_empty())
        });
    }

    pub fn stop(&mut self) {
        self.running = None;
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.join("logs/error.log")).unwrap_or_default()
    }
}

/// A WSGI application that says what it was asked, and counts how often.
pub const ECHO: &str = r"
import json, os
def application(environ, start_response):
    body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
    with open(os.environ['COUNT'], 'a') as count:
        count.write(environ['REQUEST_METHOD'] + ' ' + environ['PATH_INFO'] + '\n')
    if environ['PATH_INFO'] == '/die':
        os._exit(1)
    if environ['PATH_INFO'] == '/busy':
        start_response('503 Service Unavailable', [])
        return [b'the application is busy']
    said = {key: environ.get(key) for key in (
        'REQUEST_METHOD', 'SCRIPT_NAME', 'PATH_INFO', 'QUERY_STRING', 'HTTP_HOST', 'HTTP_X_FORWARDED_FOR',
        'HTTP_X_FORWARDED_PROTO', 'HTTP_X_REAL_IP', 'HTTP_PROXY', 'HTTP_FORWARDED', 'HTTP_AUTHORIZATION', 'wsgi.url_scheme')}
    said['body'] = len(body)
    start_response('200 OK', [('Content-Type', 'application/json')])
    return [json.dumps(said).encode()]
";

pub const GUNICORN: &str = "exec /usr/bin/gunicorn --workers 1 --bind unix:$RECEIVER_SOCKET echo:application";
pub const FASTCGI: &str = "exec uwsgi --plugin python3 --module echo:application --fastcgi-socket $RECEIVER_SOCKET \
                           --chmod-socket=666 --master --processes 1 --need-app --die-on-term";
pub const UWSGI: &str = "exec uwsgi --plugin python3 --module echo:application --socket $RECEIVER_SOCKET \
                         --chmod-socket=666 --master --processes 1 --need-app --die-on-term";
