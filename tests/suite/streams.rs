//! Commands that come over ssh: their streams, their terminal, their end, and who carries them out.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::ssh::{KEYS, each_way, two_apps};
use crate::sshd::{Listener, Sshd, let_in};
use crate::world::{PROGRAM, Said, World};

#[test]
fn streams_and_exit_codes_come_through() {
    each_way(|world, sshd, _| streams_and_codes(world, sshd));
}

fn streams_and_codes(world: &World, sshd: &Sshd) {
    for code in [0, 1, 3, 42, 255] {
        sshd.ssh(world, "dora", &format!("run app -- sh -c 'exit {code}'")).fails(code);
    }
    let said = sshd.fed(world, "dora", "run app -- sh -c 'cat; echo to-errors >&2; pwd'", b"through\n").ok();
    assert!(said.stdout.starts_with("through\n") && said.stdout.contains("/app/versions/0/"), "{said:?}");
    assert_eq!(said.stderr, "to-errors\n");
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    sshd.fed(world, "adam", "put app big/file", &bytes).ok();
    assert_eq!(std::fs::read(world.app().join("shared/big/file")).unwrap(), bytes);
    let got = sshd.command(world, "adam", "get app big/file").output().unwrap();
    assert!(
        got.status.success() && got.stdout == bytes,
        "{} of {}, {:?}",
        got.stdout.len(),
        bytes.len(),
        got.stderr
    );
    for path in ["../receiver/lock", "/etc/passwd", "a/../../receiver.toml"] {
        sshd.ssh(world, "adam", &format!("get app {path}")).fails(2);
        sshd.fed(world, "adam", &format!("put app {path}"), b"x").fails(2);
    }
    sshd.fed(world, "adam", "env app set SECRET", b"very secret").ok().never_says("very secret");
    sshd.ssh(world, "adam", "env app list").ok().says("SECRET=very secret");
    sshd.ssh(world, "dora", "run app -- printenv SECRET").ok().says("very secret");
    let dump = sshd.command(world, "adam", "db app dump").output().unwrap();
    assert!(dump.stdout.starts_with(b"SQLite format 3\0"), "{dump:?}");
    sshd.fed(world, "adam", "db app load", &dump.stdout).ok();
    sshd.ssh(world, "dora", "attach app --json").ok().says("\"code\":0");
    // A deploy that fails fails here, too.
    world.file("schema.sql", "CREATE TABLE broken (\n");
    world.commit("broken");
    sshd.git(world, "dora", &["push", &sshd.remote("app"), "main"]).ok().says("NOT LIVE");
    sshd.ssh(world, "dora", "attach app").fails(1).says("NOT LIVE");
    sshd.ssh(world, "ruth", "verify app 0/nothing").fails(2);
}

/// What comes last has no end of a line, and waits in the process for its end: nobody was told where that lost it.
#[test]
fn output_that_cannot_be_written_is_an_error_to_its_last_byte() {
    let world = two_apps();
    world.receiver_fed(&["put", "app", "note"], b"no end of line").ok();
    for words in [
        &["get", "app", "note"][..],
        &["list", "app", "--json"],
        &["status", "app"],
        &["man"],
        &["db", "app", "dump"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = world.command(PROGRAM, world.place());
        let said = Said::of(&command.args(words).stdout(full).output().unwrap());
        said.fails(1).says("error: cannot").says("No space left on device");
    }
    // A reader that has seen enough is none.
    let seen = world.run("sh", world.place(), &["-c", &format!("{PROGRAM} man | head -n 1")]).ok();
    assert_eq!((seen.stdout.lines().count(), seen.stderr.as_str()), (1, ""));
}

#[test]
fn a_command_has_the_terminal_that_ssh_has() {
    each_way(|world, sshd, _| terminal(world, sshd));
}

fn terminal(world: &World, sshd: &Sshd) {
    let words = |key: &str, line: &str| {
        let ssh = sshd.command(world, key, line);
        let mut arguments: Vec<String> =
            ssh.get_args().map(|word| word.to_str().unwrap().to_owned()).collect();
        arguments.insert(0, "-tt".to_owned());
        arguments
            .iter()
            .map(|word| format!("'{}'", word.replace('\'', "'\\''")))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let at_terminal = |line: &str, typed: &str| {
        let mut command = world.command("script", world.place());
        command.env("TERM", "xterm-test").args([
            "-qec",
            &format!("ssh {}", words("dora", line)),
            "/dev/null",
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let typed = typed.to_owned();
        // Typed once it is asked for: a terminal throws away what comes before it is set up.
        let mut output = child.stdout.take().unwrap();
        let mut seen = String::new();
        let mut part = [0; 4096];
        let mut told = typed.is_empty();
        while let Ok(length @ 1..) = std::io::Read::read(&mut output, &mut part) {
            seen.push_str(&String::from_utf8_lossy(&part[..length]));
            if !told && seen.contains("ready") {
                told = true;
                std::io::Write::write_all(&mut input, typed.as_bytes()).unwrap();
            }
        }
        (child.wait().unwrap().code().unwrap_or(-1), seen)
    };
    let (code, seen) =
        at_terminal("run app -- sh -c 'test -t 0 && test -t 1 && echo $TERM; stty size; exit 7'", "");
    assert!(code == 7 && seen.contains("xterm-test"), "{code} {seen}");
    let (code, seen) = at_terminal("run app -- sh -c 'echo ready; read line; echo got $line'", "hello\n");
    assert!(code == 0 && seen.contains("got hello"), "{code} {seen}");
    // Ctrl-C is the command's, which may live on; and what it ends with comes through.
    let trap = "run app -- sh -c 'trap \"echo caught; exit 9\" INT; echo ready; while :; do read x; done'";
    let (code, seen) = at_terminal(trap, "\u{3}");
    assert!(code == 9 && seen.contains("caught"), "{code} {seen}");
}

/// Waits until no process has this word in its command line.
fn until_gone(world: &World, word: &str) {
    world.until(20, &format!("{word} to end"), || {
        !world.run("pgrep", world.place(), &["-f", word]).stdout.contains(char::is_numeric)
    });
}

#[test]
fn a_dropped_connection_ends_the_command_and_never_a_deploy() {
    each_way(dropped);
}

fn dropped(world: &World, sshd: &Sshd, listener: Option<&Listener>) {
    let word = format!("nap-{}", world.place().file_name().unwrap().to_str().unwrap());
    let lone = |line: &str| {
        let mut command = world.command("ssh", world.place());
        command.args(sshd.plain_options("adam")).args(sshd.host()).arg(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    };
    let sleeping = format!("run app -- sh -c 'echo there; sleep 600; : {word}'");
    for signal in [Signal::TERM, Signal::KILL] {
        for line in [sleeping.as_str(), "logs app -f -n 5000"] {
            let mut client = lone(line).spawn().unwrap();
            world.until(20, "the command to run", || {
                let shells = world.run(
                    "pgrep",
                    world.place(),
                    &["-f", &format!("{} shell adam", world.root().display())],
                );
                shells.stdout.contains(char::is_numeric)
            });
            kill_process(Pid::from_raw(i32::try_from(client.id()).unwrap()).unwrap(), signal).unwrap();
            client.wait().unwrap();
            until_gone(world, &format!("{} shell adam", world.root().display()));
            until_gone(world, &word);
            if let Some(listener) = listener {
                listener.until_idle(world);
            }
        }
    }
    // Half a file is no file.
    let mut client = lone("put app half").spawn().unwrap();
    std::io::Write::write_all(client.stdin.as_mut().unwrap(), &vec![b'x'; 300_000]).unwrap();
    world.until(20, "half of it to be there", || !world.names("shared").is_empty());
    client.kill().unwrap();
    client.wait().unwrap();
    until_gone(world, &format!("{} shell adam", world.root().display()));
    assert!(!world.app().join("shared/half").exists());
    // A deploy goes on.
    let gate = world.gated();
    world.file("index.html", "three\n");
    world.commit("three");
    let url = sshd.remote("app");
    let mut push = world.command("git", &world.laptop());
    push.env("GIT_SSH_COMMAND", format!("ssh {} -p {}", sshd.plain_options("dora").join(" "), sshd.port));
    push.args(["push", &url, "main"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut push = push.spawn().unwrap();
    world.until_deploying();
    let mut follower = lone("attach app").spawn().unwrap();
    for client in [&mut push, &mut follower] {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    until_gone(world, &format!("{} shell adam", world.root().display()));
    assert_eq!(world.live_file("index.html"), "two\n");
    std::fs::write(gate, "").unwrap();
    world.until_idle();
    assert_eq!(world.live_file("index.html"), "three\n");
}

/// Sends one packet to the socket, with so many of its streams, and prints what comes back.
const ASK: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
streams = [0, 1, 2, 2][:int(sys.argv[2])]
packet = sys.argv[3].encode() if not sys.argv[3].startswith('junk') else b'\\xff' * int(sys.argv[3][4:])
try:
    socket.send_fds(s, [packet], streams) if streams else s.send(packet)
    print('answer', s.recv(1000).decode())
except OSError as e:
    print('answer none', e)
";

#[test]
fn nobody_but_the_account_for_ssh_and_root_is_answered_and_nothing_that_it_says_is_trusted() {
    let mut world = two_apps();
    let listener = Listener::start(&mut world, "nobody");
    for (name, role, apps) in KEYS {
        let_in(&world, name, role, apps);
    }
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(world.place(), 0o755);
    let keys = world.place().join("server/var/lib/receiver/keys/keys.toml");
    assert_eq!(std::fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o640);
    open(&keys, 0o644);
    let uid = |name: &str| world.run("id", world.place(), &["-u", name]).ok().stdout.trim().to_owned();
    let (account, other) = (uid("nobody"), uid("daemon"));
    let as_user = |user: &str, program: &str, arguments: &[&str], command: &str| {
        let mut all = world.command("setpriv", world.place());
        all.args([&format!("--reuid={user}"), "--regid=65534", "--clear-groups", program]).args(arguments);
        Said::of(&all.env("SSH_ORIGINAL_COMMAND", command).output().unwrap())
    };
    let shell =
        |user: &str, key: &str, command: &str| as_user(user, crate::world::PROGRAM, &["shell", key], command);
    shell(&account, "ruth", "list app").ok().says("live       two");
    shell(&account, "ruth", "env app list").fails(2).says("takes the role admin");
    shell(&other, "ruth", "list app").fails(1).says("receiver ended before the command did");
    let log = || std::fs::read_to_string(world.place().join("answer.log")).unwrap();
    assert!(log().contains(&format!("user {other} has nothing to ask here")), "{}", log());
    let socket = world.place().join("server/run/receiver/receiver.sock").display().to_string();
    let ask = |user: &str, streams: &str, packet: &str| {
        as_user(user, "/usr/bin/python3", &["-c", ASK, &socket, streams, packet], "").ok().stdout
    };
    let good = r#"{"format":1,"key":"adam","words":["list","app"],"terminal":null}"#;
    assert!(ask(&account, "3", good).contains(r#"answer {"code":0}"#));
    assert!(
        ask("0", "3", r#"{"format":1,"key":null,"words":["list","app"],"terminal":null}"#)
            .contains(r#"{"code":0}"#)
    );
    let refused = |said: String| !said.contains(r#""code":0"#) && !said.contains("two");
    assert!(refused(ask(&other, "3", good)));
    for (streams, packet) in [
        ("3", r#"{"format":1,"key":null,"words":["list","app"],"terminal":null}"#),
        ("3", r#"{"format":1,"key":"nobody","words":["list","app"],"terminal":null}"#),
        ("3", r#"{"format":1,"key":"../x","words":["list","app"],"terminal":null}"#),
        ("3", r#"{"format":1,"key":"ruth","role":"admin","words":["env","app","list"],"terminal":null}"#),
        ("3", r#"{"format":1,"key":"adam","words":["--root","/","list","app"],"terminal":null}"#),
        ("3", r#"{"format":1,"key":"adam","words":["list","shop"],"terminal":null}"#),
        ("3", r#"{"format":1,"key":"adam","words":["work","app"],"terminal":null}"#),
        ("3", r#"{"format":1,"key":"adam","words":[],"terminal":null}"#),
        ("3", r#"{"format":2,"key":"adam","words":["list","app"],"terminal":null}"#),
        ("3", r#"{"format":1,"key":"adam","words":"list app","terminal":null}"#),
        ("3", "{}"),
        ("3", ""),
        ("3", "junk100"),
        ("3", "junk100000"),
        ("0", good),
        ("2", good),
        ("4", good),
    ] {
        let said = ask(&account, streams, packet);
        assert!(refused(said.clone()), "{streams} {packet}: {said}");
    }
    // A terminal's name that is none is no variable of the command's.
    let said = ask(
        &account,
        "3",
        r#"{"format":1,"key":"dora","words":["run","app","--","printenv"],"terminal":"x\ny=1"}"#,
    );
    assert!(said.contains("RECEIVER_APP=app") && !said.contains("TERM="), "{said}");
    listener.until_idle(&world);
}
