//! The examples for CI: their shell, run as a runner runs it, against a real sshd.

use crate::sshd::{Sshd, let_in};
use crate::world::{Said, World};

/// The shell of the step that begins with `mark` on a line of its own.
fn shell_of(file: &str, mark: &str) -> String {
    let path = format!("{}/examples/ci/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("{mark}\n")).unwrap();
    let indent = rest.len() - rest.trim_start().len();
    let lines = rest
        .lines()
        .take_while(|line| line.is_empty() || line.len() > indent && line[..indent].trim().is_empty());
    lines.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect()
}

#[test]
fn the_examples_for_ci_push_and_fail_when_the_deploy_fails() {
    for (file, mark) in [("github.yml", "        run: |"), ("gitlab.yml", "    - |")] {
        let world = World::with_app();
        let_in(&world, "ci", "deploy", &["app"]);
        let sshd = Sshd::start(&world);
        let shell = shell_of(file, mark);
        assert!(shell.contains("git push") && shell.contains(" attach "), "{file}: {shell}");
        let key = std::fs::read_to_string(world.place().join("ci.key")).unwrap();
        let host = std::fs::read_to_string(world.place().join("host.key.pub")).unwrap();
        let run = |hosts: &str| {
            let mut command = world.command("bash", &world.laptop());
            command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &shell]);
            command.env("DEPLOY_HOST", sshd.remote("").trim_end_matches(':')).env("DEPLOY_APP", "app");
            command.env("DEPLOY_PORT", sshd.port.to_string());
            command.env("DEPLOY_KEY", &key).env("DEPLOY_KNOWN_HOSTS", hosts).env("TMPDIR", world.place());
            Said::of(&command.output().unwrap())
        };
        let known = format!("[127.0.0.1]:{} {host}", sshd.port);
        world.file("index.html", "one\n");
        world.commit("one");
        // A server that is not known is not talked to.
        run("").fails(128).says("Host key verification failed");
        run(&known).ok().says("=====> live: 0/");
        assert_eq!(
            (world.live_file("index.html"), &world.list()["releases"][0]["pusher"]),
            ("one\n".to_owned(), &"ci".into())
        );
        // Once more, with nothing to push: it ends as that deploy did.
        run(&known).ok().says("Everything up-to-date");
        world.file("receiver.toml", "[stages]\nbuild = \"false\"\n[database]\nengine = \"none\"\n");
        world.commit("fails");
        run(&known).fails(1).says("NOT LIVE");
        run(&known).fails(1);
        assert_eq!(world.live_file("index.html"), "one\n");
        let left = std::fs::read_dir(world.place()).unwrap().flatten();
        assert!(!left.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("tmp.")));
    }
}
