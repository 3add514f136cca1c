//! The door and who holds requests at it, with the real program as the holder.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use receiver::app::{App, Root};
use receiver::serve::hold::{Hold, Released};
use receiver::serve::{backlog, door};
use receiver::support::files;
use rustix::process::{Pid, Resource, Signal};

use crate::world::{PROGRAM, World};

const LONG: Duration = Duration::from_secs(60);

/// An app with something live, whose web process a test plays.
struct Scene {
    world: World,
    app: App,
}

impl Scene {
    fn new() -> Scene {
        let world = World::with_site();
        world.until_idle();
        let app = Root::find(Some(&world.root())).unwrap().open(&"app".parse().unwrap()).unwrap();
        Scene { world, app }
    }

    /// What is live listens on `socket` from now on.
    fn lead_to(&self, socket: &Path) {
        let place = self.world.live_directory().join(".receiver");
        std::fs::create_dir_all(&place).unwrap();
        let name = socket.file_name().unwrap().to_str().unwrap();
        let target = format!("../../../../receiver/run/app/{name}");
        files::link_atomic(Path::new(&target), &place.join("web.sock")).unwrap();
    }

    fn close(&self) -> Hold {
        self.close_for(LONG, LONG)
    }

    fn close_for(&self, most: Duration, grace: Duration) -> Hold {
        Hold::close_by(Path::new(PROGRAM), &self.app, most, grace).unwrap()
    }

    /// A request at the door that is not answered yet.
    fn request(&self) -> UnixStream {
        let mut client = UnixStream::connect(self.app.door()).unwrap();
        client.write_all(b"who are you?\n").unwrap();
        client
    }

    #[track_caller]
    fn nobody_holds(&self) {
        self.world
            .until(30, "the holder to leave", || files::names_in(&self.app.holds()).unwrap().is_empty());
    }
}

fn answer(mut client: UnixStream) -> String {
    client.set_read_timeout(Some(LONG)).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

/// A web process: reads a line, answers with its name, and closes.
struct Web {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
}

impl Web {
    fn start(scene: &Scene, name: &'static str) -> Web {
        Web::start_with(scene, name, 4096, Duration::ZERO)
    }

    /// With a backlog of its own, and a pause before each acceptance.
    fn start_with(scene: &Scene, name: &'static str, backlog: i32, pause: Duration) -> Web {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
        let socket = scene.app.run_app().join(format!("web-{name}.sock"));
        let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
        rustix::net::listen(&listener, backlog).unwrap();
        let listener = UnixListener::from(listener);
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let web = Web { socket, stop: stop.clone(), served: served.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::sleep(pause);
                serve(stream, name, &served);
            }
        });
        web
    }
}

fn serve(mut stream: UnixStream, name: &'static str, served: &Arc<AtomicUsize>) {
    // Who does not speak at once gets a thread of its own.
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut begin = [0; 64];
    match stream.read(&mut begin) {
        Ok(read) if begin[..read].ends_with(b"\n") => {
            served.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(name.as_bytes());
        }
        Ok(0) => {}
        begun => {
            let mut text = begun.map(|read| begin[..read].to_vec()).unwrap_or_default();
            let served = served.clone();
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(LONG)).unwrap();
                let mut byte = [0];
                while !text.ends_with(b"\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    text.push(byte[0]);
                }
                served.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(name.as_bytes());
                let _ = stream.write_all(b": ");
                let _ = stream.write_all(&text);
            });
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(&self.socket);
    }
}

/// As many files as may be, for tests with many connections.
fn raise_files() -> usize {
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    let all = rustix::process::Rlimit { current: most, maximum: most };
    rustix::process::setrlimit(Resource::Nofile, all).unwrap();
    usize::try_from(most.unwrap_or(u64::MAX)).unwrap_or(usize::MAX)
}

#[test]
fn requests_wait_at_the_door_and_are_answered_by_what_is_live_then() {
    let scene = Scene::new();
    let (old, new) = (Web::start(&scene, "old"), Web::start(&scene, "new"));
    scene.lead_to(&old.socket);
    door::open(&scene.app).unwrap();
    assert!(door::is_open(&scene.app));
    assert_eq!(answer(scene.request()), "old");
    let hold = scene.close();
    assert!(!door::is_open(&scene.app));
    hold.check().unwrap();
    let mut slow = UnixStream::connect(scene.app.door()).unwrap();
    slow.write_all(b"w").unwrap();
    let held: Vec<UnixStream> = (0..300).map(|_| scene.request()).collect();
    assert_eq!(hold.wait_for_running(&old.socket, LONG).unwrap(), 0);
    scene.lead_to(&new.socket);
    let Released { held: count, lost, waiting, .. } = hold.open().unwrap();
    assert_eq!((count, lost, waiting), (301, 0, 0));
    assert!(door::is_open(&scene.app));
    for client in held {
        assert_eq!(answer(client), "new");
    }
    // Who sends its request byte by byte is joined all the same.
    for byte in b"ho?\n" {
        slow.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(answer(slow), "new: who?\n");
    assert_eq!(old.served.load(Ordering::SeqCst), 1);
    scene.nobody_holds();
}

#[test]
fn ten_thousand_requests_wait_and_each_is_answered() {
    const MANY: usize = 10_000;
    let room = raise_files();
    assert!(room > MANY + 1000, "the machine allows {room} files");
    let scene = Scene::new();
    let new = Web::start(&scene, "new");
    scene.lead_to(&new.socket);
    let hold = scene.close();
    let held: Vec<UnixStream> = (0..MANY).map(|_| scene.request()).collect();
    hold.check().unwrap();
    let begun = Instant::now();
    let released = hold.open().unwrap();
    assert_eq!((released.held, released.lost), (MANY as u64, 0));
    for client in held {
        // A thread of its own answers at length; which one does, the load decides.
        assert!(answer(client).starts_with("new"));
    }
    println!("{MANY} held requests were answered {:?} after the door opened", begun.elapsed());
    assert_eq!(new.served.load(Ordering::SeqCst), MANY);
    scene.nobody_holds();
}

#[test]
fn a_full_backlog_of_the_new_socket_is_waited_for() {
    let scene = Scene::new();
    let new = Web::start_with(&scene, "new", 1, Duration::from_millis(5));
    scene.lead_to(&new.socket);
    let hold = scene.close();
    let held: Vec<UnixStream> = (0..100).map(|_| scene.request()).collect();
    let released = hold.open().unwrap();
    assert_eq!((released.held, released.lost), (100, 0));
    for client in held {
        assert_eq!(answer(client), "new");
    }
    scene.nobody_holds();
}

#[test]
fn a_new_socket_that_is_late_is_waited_for() {
    let scene = Scene::new();
    scene.lead_to(&scene.app.run_app().join("web-late.sock"));
    let hold = scene.close();
    let held = scene.request();
    let opening = std::thread::spawn(move || hold.open().unwrap());
    scene.world.until(30, "the door to open", || door::is_open(&scene.app));
    let _late = Web::start(&scene, "late");
    assert_eq!(answer(held), "late");
    assert_eq!(opening.join().unwrap().held, 1);
    scene.nobody_holds();
}

#[test]
fn running_requests_are_waited_for_and_counted() {
    let scene = Scene::new();
    let old = scene.app.run_app().join("web-old.sock");
    let listener = UnixListener::bind(&old).unwrap();
    scene.lead_to(&old);
    door::open(&scene.app).unwrap();
    let clients = [scene.request(), scene.request()];
    let running = listener.accept().unwrap().0;
    let hold = scene.close();
    // One runs, one waits in the backlog: both will be served.
    assert_eq!(hold.wait_for_running(&old, Duration::from_millis(50)).unwrap(), 2);
    let waiting = listener.accept().unwrap().0;
    drop(running);
    assert_eq!(hold.wait_for_running(&old, Duration::from_millis(50)).unwrap(), 1);
    let ends = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(waiting);
    });
    assert_eq!(hold.wait_for_running(&old, LONG).unwrap(), 0);
    ends.join().unwrap();
    drop(clients);
    hold.open().unwrap();
    scene.nobody_holds();
}

#[test]
fn a_websocket_that_never_ends_keeps_its_holder_and_nobody_elses() {
    let scene = Scene::new();
    let socket = scene.app.run_app().join("web-new.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    scene.lead_to(&socket);
    let hold = scene.close();
    let holder = hold.pid().unwrap();
    let mut client = scene.request();
    hold.open().unwrap();
    let mut server = listener.accept().unwrap().0;
    scene.nobody_holds();
    // The door was closed and opened again, and the holder's own socket is gone: the two still speak.
    let second = scene.close();
    let mut line = [0; 13];
    server.read_exact(&mut line).unwrap();
    for _ in 0..50 {
        server.write_all(b"tick").unwrap();
        client.read_exact(&mut line[..4]).unwrap();
        client.write_all(b"tock").unwrap();
        server.read_exact(&mut line[..4]).unwrap();
    }
    assert!(is_alive(holder));
    second.open().unwrap();
    drop(server);
    assert_eq!(answer(client), "");
    scene.world.until(30, "the holder to end", || !is_alive(holder));
    scene.nobody_holds();
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn a_dead_holder_is_noticed_and_the_door_opens_all_the_same() {
    let scene = Scene::new();
    let web = Web::start(&scene, "web");
    scene.lead_to(&web.socket);
    let hold = scene.close();
    signal(hold.pid().unwrap(), Signal::KILL);
    scene.world.until(30, "the holder's end to be seen", || hold.check().is_err());
    assert_eq!(hold.check().unwrap_err().to_string(), "the holder at the door died");
    assert!(hold.wait_for_running(&web.socket, Duration::ZERO).is_ok());
    assert_eq!(hold.open().unwrap_err().to_string(), "the holder at the door died");
    assert_eq!(answer(scene.request()), "web");
    // What it left is swept by the next one.
    scene.close().open().unwrap();
    scene.nobody_holds();
}

#[test]
fn a_holder_that_hangs_keeps_nobody_waiting() {
    let scene = Scene::new();
    let web = Web::start(&scene, "web");
    scene.lead_to(&web.socket);
    let hold = scene.close();
    let before = scene.request();
    hold.check().unwrap();
    signal(hold.pid().unwrap(), Signal::STOP);
    // The kernel keeps who comes now.
    let after = scene.request();
    assert_eq!(hold.check().unwrap_err().to_string(), "the holder at the door does not answer");
    let released = hold.open().unwrap();
    assert_eq!(released.lost, 0);
    assert_eq!((answer(before), answer(after)), ("web".to_owned(), "web".to_owned()));
    scene.nobody_holds();
}

#[test]
fn a_worker_that_lets_go_of_the_hold_does_not_leave_the_door_closed() {
    let scene = Scene::new();
    let web = Web::start(&scene, "web");
    scene.lead_to(&web.socket);
    let hold = scene.close_for(Duration::from_millis(10), Duration::from_millis(200));
    let held = scene.request();
    drop(hold);
    assert_eq!(answer(held), "web");
    assert!(door::is_open(&scene.app));
    scene.nobody_holds();
}

/// Plays a worker in a process of its own: starts a holder, closes the door, and hangs.
const HANGING_WORKER: &str = r#"
import os, socket, subprocess, sys, time
program, root, most, grace = sys.argv[1:]
subprocess.Popen([program, "--root", root, "hold", "app", "h-test", "--most", most, "--grace", grace],
                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
state = os.path.join(root, "app", "receiver")
while True:
    try:
        control = socket.socket(socket.AF_UNIX)
        control.connect(os.path.join(state, "run/hold/h-test.ctl"))
        break
    except OSError:
        time.sleep(0.005)
assert control.recv(100) == b"ready\n"
os.symlink("run/hold/h-test.sock", os.path.join(state, "door.new"))
os.rename(os.path.join(state, "door.new"), os.path.join(state, "door.sock"))
time.sleep(40)
"#;

fn hanging_worker(scene: &Scene, most: &str, grace: &str) -> Child {
    let mut command = scene.world.command("/usr/bin/python3", scene.world.place());
    command.args(["-c", HANGING_WORKER, PROGRAM, scene.world.root().to_str().unwrap(), most, grace]);
    let child = command.stderr(Stdio::inherit()).spawn().unwrap();
    scene.world.until(30, "the door to be closed", || {
        std::fs::read_link(scene.app.door()).is_ok_and(|to| to == Path::new("run/hold/h-test.sock"))
    });
    child
}

#[test]
fn a_worker_that_hangs_is_killed_and_the_held_requests_go_on() {
    use std::os::unix::process::ExitStatusExt;
    let scene = Scene::new();
    let web = Web::start(&scene, "web");
    scene.lead_to(&web.socket);
    let mut worker = hanging_worker(&scene, "50", "300");
    let held = scene.request();
    assert_eq!(worker.wait().unwrap().signal(), Some(9));
    assert_eq!(answer(held), "web");
    scene.world.until(30, "the door to open", || door::is_open(&scene.app));
    scene.world.until_idle();
    scene.nobody_holds();
}

#[test]
fn a_worker_that_is_killed_is_followed_by_one_that_recovers() {
    let scene = Scene::new();
    let web = Web::start(&scene, "web");
    scene.lead_to(&web.socket);
    // Something is left over that only recovery removes.
    let left = scene.app.queue().join(".receiver-new-4194304-left");
    std::fs::write(&left, "").unwrap();
    // No time for the holder itself to open the door before that.
    let mut worker = hanging_worker(&scene, "600000", "1500");
    let held = scene.request();
    let lock = std::fs::File::open(scene.app.lock_file()).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    worker.kill().unwrap();
    worker.wait().unwrap();
    // Somebody has the lock still: nobody is started beside it.
    std::thread::sleep(Duration::from_millis(100));
    assert!(left.exists());
    drop(lock);
    scene.world.until(30, "a new worker to recover", || !left.exists());
    door::open(&scene.app).unwrap();
    assert_eq!(answer(held), "web");
    scene.world.until_idle();
    scene.nobody_holds();
}

/// nginx with a prefix of its own, as the site has it: the door, and the live socket as `backup`.
struct Nginx {
    child: Child,
    socket: PathBuf,
    port: u16,
}

impl Nginx {
    fn start(scene: &Scene) -> Nginx {
        let place = scene.world.place().join("nginx");
        for directory in ["tmp", "logs"] {
            std::fs::create_dir_all(place.join(directory)).unwrap();
        }
        let socket = place.join("front.sock");
        let port = port();
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log logs/error.log; worker_rlimit_nofile 16384;
events {{ worker_connections 8000; }}
http {{ access_log off; client_body_temp_path tmp/b; proxy_temp_path tmp/p; fastcgi_temp_path tmp/f;
uwsgi_temp_path tmp/u; scgi_temp_path tmp/s; keepalive_requests 1000000;
upstream app {{ server unix:{door} max_fails=0; server unix:{live}/.receiver/web.sock backup; }}
server {{ listen unix:{socket} backlog=4096; listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://app; proxy_set_header Host $host; }} }} }}",
            door = scene.app.door().display(),
            live = scene.app.current().display(),
            socket = socket.display(),
        );
        std::fs::write(place.join("nginx.conf"), text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&place).args(["-c", "nginx.conf", "-e", "logs/error.log"]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx is needed");
        scene.world.until(30, "nginx to listen", || UnixStream::connect(&socket).is_ok());
        Nginx { child, socket, port }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    fn request(&self) -> UnixStream {
        let mut client = UnixStream::connect(&self.socket).unwrap();
        client.write_all(b"GET / HTTP/1.0\r\nHost: app.example\r\n\r\n").unwrap();
        client
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A web process that speaks HTTP as far as nginx needs it.
fn http(scene: &Scene, name: &'static str) -> PathBuf {
    let socket = scene.app.run_app().join(format!("web-{name}.sock"));
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut asked = Vec::new();
            let mut bytes = [0; 1024];
            while !asked.ends_with(b"\r\n\r\n") {
                match stream.read(&mut bytes) {
                    Ok(read) if read > 0 => asked.extend_from_slice(&bytes[..read]),
                    _ => break,
                }
            }
            let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        }
    });
    socket
}

#[test]
fn two_thousand_requests_wait_behind_nginx_and_each_is_answered() {
    const MANY: usize = 2000;
    raise_files();
    let scene = Scene::new();
    scene.lead_to(&http(&scene, "new"));
    let hold = scene.close();
    let nginx = Nginx::start(&scene);
    let held: Vec<UnixStream> = (0..MANY).map(|_| nginx.request()).collect();
    // All of them have come through nginx to the holder: its accepted connections are counted, too.
    let holder = std::fs::read_link(scene.app.door()).unwrap();
    let holder = scene.app.holds().join(holder.file_name().unwrap());
    scene.world.until(30, "nginx to pass them on", || backlog::on(&holder).unwrap().total() >= MANY);
    let released = hold.open().unwrap();
    assert_eq!((released.held, released.lost), (MANY as u64, 0));
    for client in held {
        let text = answer(client);
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\nnew"), "{text}");
    }
    scene.nobody_holds();
}

#[test]
fn a_dead_holder_is_no_outage_where_nginx_has_the_live_socket_as_backup() {
    let scene = Scene::new();
    scene.lead_to(&http(&scene, "web"));
    let hold = scene.close();
    let nginx = Nginx::start(&scene);
    signal(hold.pid().unwrap(), Signal::KILL);
    scene.world.until(30, "the holder's end to be seen", || hold.check().is_err());
    for _ in 0..50 {
        assert!(answer(nginx.request()).starts_with("HTTP/1.1 200"));
        let mut post = UnixStream::connect(&nginx.socket).unwrap();
        post.write_all(b"POST / HTTP/1.0\r\nHost: app.example\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert!(answer(post).starts_with("HTTP/1.1 200"));
    }
    // Whoever comes next opens the door, and nothing needs the backup any more.
    drop(hold);
    door::open(&scene.app).unwrap();
    assert!(answer(nginx.request()).starts_with("HTTP/1.1 200"));
}

/// The door is closed and opened, and what is live changes, again and again under load.
#[test]
fn no_request_fails_while_what_is_live_changes_hundreds_of_times_under_load() {
    const APPLICATION: &str = "def application(environ, start_response):\n    \
        start_response('200 OK', [('Content-Type', 'text/plain')])\n    return [b'fine']\n";
    raise_files();
    let scene = Scene::new();
    std::fs::write(scene.world.place().join("wsgi.py"), APPLICATION).unwrap();
    let mut servers = Vec::new();
    for name in ["one", "two"] {
        let socket = scene.app.run_app().join(format!("web-{name}.sock"));
        let mut command = Command::new("gunicorn");
        command.arg("--bind").arg(format!("unix:{}", socket.display())).args([
            "--backlog",
            "4096",
            "--log-level",
            "error",
            "wsgi",
        ]);
        let child = command
            .current_dir(scene.world.place())
            .stdin(Stdio::null())
            .spawn()
            .expect("gunicorn is needed");
        servers.push((Ended(child), socket));
    }
    for (_, socket) in &servers {
        scene.world.until(30, "gunicorn to listen", || UnixStream::connect(socket).is_ok());
    }
    scene.lead_to(&servers[0].1);
    door::open(&scene.app).unwrap();
    let nginx = Nginx::start(&scene);
    let mut load = Command::new("wrk");
    load.args(["-t1", "-c40", "-d8s", "--timeout", "20s", &nginx.url()]).stdout(Stdio::piped());
    let load = load.spawn().expect("wrk is needed");
    let pid = load.id();
    let end = std::thread::spawn(move || load.wait_with_output().unwrap());
    let (mut switches, mut holds) = (0, 0);
    while !end.is_finished() {
        scene.lead_to(&servers[switches % 2].1);
        switches += 1;
        if switches % 20 == 0 {
            let hold = scene.close();
            hold.wait_for_running(&servers[(switches + 1) % 2].1, Duration::from_millis(200)).unwrap();
            scene.lead_to(&servers[switches % 2].1);
            assert_eq!(hold.open().unwrap().lost, 0);
            holds += 1;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = String::from_utf8(end.join().unwrap().stdout).unwrap();
    println!("{switches} switches, {holds} holds, wrk {pid}:\n{output}");
    assert!(output.contains(" requests in "), "{output}");
    assert!(!output.contains("Non-2xx") && !output.contains("Socket errors"), "{output}");
    scene.nobody_holds();
}

/// A child that is ended with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let _ = self.0.wait();
    }
}
