//! A real sshd on a loopback port, for the account that runs the tests, and clients with keys of their own.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::world::{PROGRAM, Said, World};

/// An ssh server whose keys are those in the world's `home/.ssh/authorized_keys`.
pub struct Sshd {
    pub daemon: Child,
    pub port: u16,
    place: PathBuf,
    user: String,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        for name in std::fs::read_dir(self.place.join("masters")).into_iter().flatten().flatten() {
            let _ = Command::new("ssh")
                .arg("-o")
                .arg(format!("ControlPath={}", name.path().display()))
                .args(["-O", "exit", "host"])
                .stderr(Stdio::null())
                .status();
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Sshd {
    pub fn start(world: &World) -> Sshd {
        Sshd::start_with(world, &[])
    }

    /// The same with variables that every session finds.
    pub fn start_with(world: &World, variables: &[(&str, &str)]) -> Sshd {
        let program = "/usr/sbin/sshd";
        assert!(std::path::Path::new(program).exists(), "this test needs sshd: `apt install openssh-server`");
        // Where it is started by root it wants this directory.
        let _ = std::fs::create_dir_all("/run/sshd");
        let place = world.place().display().to_string();
        std::fs::create_dir_all(world.place().join("masters")).unwrap();
        make_key(world, "host");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // One line for all: of several, sshd takes the first.
        let mut set = format!("SetEnv HOME={place}/home");
        for (name, value) in variables {
            set.push_str(&format!(" {name}={value}"));
        }
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {place}/host.key\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {place}/home/.ssh/authorized_keys\nPermitRootLogin yes\nPasswordAuthentication no\n\
             MaxStartups 100\nMaxSessions 100\n{set}\n"
        );
        std::fs::write(world.place().join("sshd.conf"), config).unwrap();
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(world.place().join("sshd.conf"));
        command.stderr(std::fs::File::create(world.place().join("sshd.log")).unwrap());
        let daemon = command.spawn().unwrap();
        world.until(10, "sshd to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        let user = world.run("id", world.place(), &["-un"]).ok().stdout.trim().to_owned();
        Sshd { daemon, port, place: world.place().to_owned(), user }
    }

    /// The options by which ssh comes with a key, one connection for all that it is used for.
    pub fn options(&self, key: &str) -> Vec<String> {
        let mut options = self.plain_options(key);
        let master = self.place.join("masters").join(key).display().to_string();
        for option in
            ["ControlMaster=auto".to_owned(), "ControlPersist=60".to_owned(), format!("ControlPath={master}")]
        {
            options.extend(["-o".to_owned(), option]);
        }
        options
    }

    /// The same with a connection of its own each time.
    pub fn plain_options(&self, key: &str) -> Vec<String> {
        let file = self.place.join(format!("{key}.key")).display().to_string();
        let mut options = vec!["-F".to_owned(), "/dev/null".to_owned(), "-i".to_owned(), file];
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "LogLevel=ERROR",
        ] {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }

    /// `USER@HOST` and the port.
    pub fn host(&self) -> Vec<String> {
        vec!["-p".to_owned(), self.port.to_string(), format!("{}@127.0.0.1", self.user)]
    }

    /// ssh with a key and a command line, in the background or not.
    pub fn command(&self, world: &World, key: &str, line: &str) -> Command {
        let mut command = world.command("ssh", world.place());
        command.args(self.options(key)).args(self.host());
        if !line.is_empty() {
            command.arg(line);
        }
        command
    }

    /// `ssh HOST LINE`.
    pub fn ssh(&self, world: &World, key: &str, line: &str) -> Said {
        Said::of(&self.command(world, key, line).output().unwrap())
    }

    /// `ssh HOST LINE < input`.
    pub fn fed(&self, world: &World, key: &str, line: &str, input: &[u8]) -> Said {
        let file = world.place().join("input");
        std::fs::write(&file, input).unwrap();
        let mut command = self.command(world, key, line);
        Said::of(&command.stdin(std::fs::File::open(file).unwrap()).output().unwrap())
    }

    /// `git …` on the laptop, as somebody who has a key.
    pub fn git(&self, world: &World, key: &str, arguments: &[&str]) -> Said {
        let mut command = world.command("git", &world.laptop());
        let ssh = format!("ssh {} -p {}", self.options(key).join(" "), self.port);
        Said::of(&command.env("GIT_SSH_COMMAND", ssh).args(arguments).output().unwrap())
    }

    /// What the app is pushed to: `USER@HOST:APP`.
    pub fn remote(&self, place: &str) -> String {
        format!("{}@127.0.0.1:{place}", self.user)
    }

    /// What the server side said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.join("sshd.log")).unwrap_or_default()
    }
}

/// Makes a pair of keys, `NAME.key` and `NAME.key.pub`. Answers the public one.
pub fn make_key(world: &World, name: &str) -> String {
    let file = world.place().join(format!("{name}.key"));
    if !file.exists() {
        let place = file.display().to_string();
        world
            .run("ssh-keygen", world.place(), &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &place])
            .ok();
    }
    std::fs::read_to_string(file.with_extension("key.pub")).unwrap()
}

/// Makes a pair of keys, and lets its owner in.
pub fn let_in(world: &World, name: &str, role: &str, apps: &[&str]) {
    let public = make_key(world, name);
    let mut arguments = vec!["key", "add", name, "--role", role];
    for app in apps {
        arguments.extend(["--app", app]);
    }
    world.receiver_fed(&arguments, public.as_bytes()).ok().says("is added");
}

/// Lets somebody in as to any account, with a shell.
pub fn let_in_wholly(world: &World, name: &str) {
    let public = make_key(world, name);
    std::fs::create_dir_all(world.place().join("home/.ssh")).unwrap();
    std::fs::write(world.place().join("home/.ssh/authorized_keys"), public).unwrap();
}

/// The program that is tested, as ssh calls it, without ssh.
pub fn shell(world: &World, key: &str, line: &str) -> Said {
    let mut command = world.command(PROGRAM, world.place());
    Said::of(&command.args(["shell", key]).env("SSH_ORIGINAL_COMMAND", line).output().unwrap())
}

/// A server that was set up for several users, as far as ssh has to do with it: keys in a place of its own, and
/// somebody who listens for commands.
pub struct Listener {
    running: Arc<AtomicUsize>,
    socket: PathBuf,
}

impl Listener {
    /// Makes it of a world, with `account` for ssh, and listens.
    pub fn start(world: &mut World, account: &str) -> Listener {
        let top = world.place().join("server");
        for directory in ["etc/receiver", "var/lib/receiver/keys/used", "run/receiver"] {
            std::fs::create_dir_all(top.join(directory)).unwrap();
        }
        let root = world.root().canonicalize().unwrap();
        let facts = format!("format = 1\nroot = \"{}\"\naccount = \"{account}\"\nmore = 1\n", root.display());
        std::fs::write(top.join("etc/receiver/server.toml"), facts).unwrap();
        world.env.insert("RECEIVER_TEST_SERVER".into(), top.display().to_string());
        let socket = top.join("run/receiver/receiver.sock");
        let listening = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        rustix::net::bind(&listening, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
        rustix::net::listen(&listening, 64).unwrap();
        let running = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&running);
        let mut answer = world.command(PROGRAM, world.place());
        answer.arg("answer").env_remove("RECEIVER_ROOT").process_group(0);
        answer.stdout(Stdio::null()).stderr(std::fs::File::create(world.place().join("answer.log")).unwrap());
        std::thread::spawn(move || {
            while let Ok(connection) = rustix::net::accept(&listening) {
                if count.load(Ordering::SeqCst) == usize::MAX {
                    return;
                }
                let mut child = answer.stdin(Stdio::from(connection)).spawn().unwrap();
                // The command keeps the last descriptor that it was given: the connection has to end with the child.
                answer.stdin(Stdio::null());
                count.fetch_add(1, Ordering::SeqCst);
                let count = Arc::clone(&count);
                std::thread::spawn(move || {
                    child.wait().unwrap();
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Listener { running, socket }
    }

    /// Waits until no command runs.
    pub fn until_idle(&self, world: &World) {
        world.until(20, "commands to end", || self.running.load(Ordering::SeqCst) == 0);
    }

    /// Puts the keys in force, as the root service does.
    pub fn put_in_force(world: &World, names: &[&str]) {
        let root = world.root().canonicalize().unwrap();
        let mut lines = String::new();
        for name in names {
            let public = make_key(world, name);
            lines.push_str(&format!(
                "restrict,pty,command=\"{PROGRAM} --root {} shell {name}\" {public}",
                root.display()
            ));
        }
        std::fs::create_dir_all(world.place().join("home/.ssh")).unwrap();
        std::fs::write(world.place().join("home/.ssh/authorized_keys"), lines).unwrap();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.running.store(usize::MAX, Ordering::SeqCst);
        let last = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        let _ = rustix::net::connect(&last, &SocketAddrUnix::new(&self.socket).unwrap());
    }
}
