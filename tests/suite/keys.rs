//! `receiver key`: what is a key and what is not, and what becomes of `authorized_keys`.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::sshd::{let_in, make_key, shell};
use crate::world::{Said, World};

fn add(world: &World, name: &str, key: &[u8]) -> Said {
    world.receiver_fed(&["key", "add", name, "--app", "app", "--role", "read"], key)
}

fn authorized(world: &World) -> String {
    std::fs::read_to_string(world.place().join("home/.ssh/authorized_keys")).unwrap_or_default()
}

#[test]
fn what_is_not_exactly_one_public_key_is_refused_with_a_sentence_for_each() {
    let world = World::with_app();
    let good = make_key(&world, "good");
    let line = good.trim_end().to_owned();
    let private = std::fs::read_to_string(world.place().join("good.key")).unwrap();
    let bare = line.rsplit_once(' ').unwrap().0.to_owned();
    let keygen = |file: &str, arguments: &[&str]| {
        let path = world.place().join(file).display().to_string();
        let all = [&["-q", "-N", "", "-f", &path], arguments].concat();
        world.run("ssh-keygen", world.place(), &all).ok();
        std::fs::read(format!("{path}.pub")).unwrap()
    };
    let other = String::from_utf8(keygen("other", &["-t", "ecdsa"])).unwrap();
    let weak = String::from_utf8(keygen("weak", &["-t", "rsa", "-b", "1024"])).unwrap();
    let swapped = other.replace("ecdsa-sha2-nistp256", "ssh-ed25519");
    for (what, key, sentence) in [
        ("nothing", String::new(), "it is empty"),
        ("white space", " \n\n".to_owned(), "it is empty"),
        ("not a key", "hello there\n".to_owned(), "'hello' is no kind of key"),
        ("a private key", private, "this is a private key"),
        ("two lines", format!("{line}\n{other}"), "there are several lines"),
        ("the same line twice", format!("{line}\n{line}\n"), "there are several lines"),
        ("two on a line", format!("{line} {other}"), "several keys on one line"),
        ("options in front", format!("no-pty,command=\"id\" {line}"), "stands in front of it"),
        ("an option with blanks", format!("command=\"sh -c id\" {line}"), "stands in front of it"),
        ("no base64", "ssh-ed25519 !!!! x\n".to_owned(), "is not base64"),
        ("a kind alone", "ssh-ed25519\n".to_owned(), "nothing follows"),
        ("a cut key", bare[..bare.len() - 8].to_owned(), "is not a key of that kind"),
        ("another kind's bytes", swapped, "is not a key of that kind"),
        ("a weak one", weak, "an RSA key of 1024 bits is too weak"),
        ("an old one", "ssh-dss AAAAB3NzaC1kc3MAAACB x\n".to_owned(), "DSA keys are no longer safe"),
        (
            "a certificate",
            "ssh-ed25519-cert-v01@openssh.com AAAA x\n".to_owned(),
            "certificates are not read",
        ),
        ("a control character", format!("{bare} a\x1b[2Jb\n"), "it has control characters"),
        ("a carriage return inside", format!("{bare} a\rssh-rsa AAAA\n"), "it has control characters"),
        ("a zero byte", format!("{bare} a\0b\n"), "it has control characters"),
        ("a long one", format!("{bare} {}\n", "x".repeat(1 << 20)), "it is longer than any"),
    ] {
        let said = add(&world, "x", key.as_bytes()).fails(2).says(sentence);
        assert!(!said.stderr.contains('\x1b'), "{what}");
    }
    add(&world, "x", b"\xff\xfe").fails(2).says("it is not text");
    assert_eq!(authorized(&world), "");
    assert!(!world.root().join(".receiver/keys.toml").exists());
    for (name, arguments) in [
        ("rsa", &["-t", "rsa", "-b", "2048"][..]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
        ("ed", &["-t", "ed25519", "-C", "a comment of words"]),
    ] {
        let file = world.place().join(format!("{name}.made"));
        let public = keygen(&format!("{name}.made"), arguments);
        add(&world, name, &public).ok().says(&format!("the key {name}, SHA256:"));
        let printed =
            world.run("ssh-keygen", world.place(), &["-l", "-f", &format!("{}.pub", file.display())]).ok();
        let fingerprint = printed.stdout.split(' ').nth(1).unwrap().to_owned();
        world.receiver(&["key", "list"]).ok().says(&fingerprint);
    }
    // With the line's end of another system, and as a file.
    std::fs::write(world.place().join("dos.pub"), good.replace('\n', "\r\n")).unwrap();
    world.receiver(&["key", "add", "dos", "dos.pub", "--app", "app", "--role", "read"]).ok();
}

#[test]
fn a_key_is_one_line_of_a_marked_block_and_no_other_line_is_touched() {
    let world = World::with_app();
    let ssh = world.place().join("home/.ssh");
    let alice = make_key(&world, "alice");
    let mine = "# mine\nssh-ed25519 AAAAMINE me\nrestrict ssh-rsa AAAAROBOT robot";
    std::fs::create_dir_all(&ssh).unwrap();
    std::fs::write(ssh.join("authorized_keys"), mine).unwrap();
    let_in(&world, "alice", "deploy", &["app"]);
    let text = authorized(&world);
    assert!(text.starts_with(&format!("{mine}\n# receiver ")), "{text}");
    let words = alice.trim_end().rsplit_once(' ').unwrap().0;
    let program = std::path::Path::new(crate::world::PROGRAM).canonicalize().unwrap();
    let wanted = format!(
        "restrict,pty,command=\"{} --root {} shell alice\" {words} alice\n",
        program.display(),
        world.root().canonicalize().unwrap().display()
    );
    assert!(text.contains(&wanted), "{text}\n{wanted}");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&ssh.join("authorized_keys")), 0o600);
    assert_eq!(mode(&world.root().join(".receiver/keys.toml")), 0o600);
    // Again, with the same: nothing is changed, and it says so.
    let keys = std::fs::read(world.root().join(".receiver/keys.toml")).unwrap();
    let again = ["key", "add", "alice", "--app", "app", "--role", "deploy"];
    world.receiver_fed(&again, alice.as_bytes()).ok().says("is there already");
    assert_eq!(
        (std::fs::read(world.root().join(".receiver/keys.toml")).unwrap(), authorized(&world)),
        (keys, text)
    );
    // What somebody wrote behind the block stays behind it.
    std::fs::write(ssh.join("authorized_keys"), format!("{}# last\n", authorized(&world))).unwrap();
    let_in(&world, "bob", "read", &["app"]);
    let text = authorized(&world);
    assert!(
        text.starts_with(mine) && text.ends_with("to here\n# last\n") && text.contains(" shell bob\""),
        "{text}"
    );
    world.receiver(&["key", "remove", "alice"]).ok().says("opens nothing any more");
    world.receiver(&["key", "remove", "bob"]).ok();
    assert_eq!(authorized(&world), format!("{mine}\n# last\n"));
    world.receiver(&["key", "remove", "bob"]).fails(2).says("there is no key bob");
}

#[test]
fn a_key_that_is_there_already_or_opens_a_login_is_refused() {
    let world = World::with_app();
    let alice = make_key(&world, "alice");
    let bob = make_key(&world, "bob");
    let_in(&world, "alice", "deploy", &["app"]);
    add(&world, "alice", alice.as_bytes()).fails(2).says("there is a key alice already");
    add(&world, "alice", bob.as_bytes()).fails(2).says("there is a key alice already");
    add(&world, "second", alice.as_bytes()).fails(2).says("this key is there already, as alice");
    let file = world.place().join("home/.ssh/authorized_keys");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}{bob}")).unwrap();
    let line = text.lines().count() + 1;
    add(&world, "bob", bob.as_bytes())
        .fails(2)
        .says(&format!("opens a whole login already, by line {line} of"));
    std::fs::write(&file, format!("from=\"10.0.0.1\" {bob}{text}")).unwrap();
    add(&world, "bob", bob.as_bytes()).fails(2).says("opens a whole login already, by line 1 of");
    for bad in ["", "-x", "A", "a b", "../x", "a/b", "a\n", "é", ".x", &"a".repeat(33), "a\"b", "a$(id)"] {
        add(&world, bad, bob.as_bytes()).fails(2);
    }
    for apps in [&["nothing"][..], &["app--dev"], &["../app"], &[""], &["list"]] {
        let mut arguments = vec!["key", "add", "bob", "--role", "read"];
        for app in apps {
            arguments.extend(["--app", app]);
        }
        world.receiver_fed(&arguments, bob.as_bytes()).fails(2);
    }
    world.receiver_fed(&["key", "add", "bob", "--role", "root", "--app", "app"], bob.as_bytes()).fails(2);
    world.receiver_fed(&["key", "add", "bob", "--role", "read"], bob.as_bytes()).fails(2);
    let dry = ["key", "add", "carol", "--role", "read", "--app", "*", "--dry-run"];
    let before = std::fs::read_to_string(&file).unwrap();
    world.receiver_fed(&dry, make_key(&world, "carol").as_bytes()).ok().says("would be added");
    world.receiver(&["key", "remove", "alice", "--dry-run"]).ok().says("would be removed");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn what_stands_in_the_way_of_keys_is_left_alone() {
    let world = World::with_app();
    let ssh = world.place().join("home/.ssh");
    let alice = make_key(&world, "alice");
    std::fs::create_dir_all(&ssh).unwrap();
    let file = ssh.join("authorized_keys");
    let other = world.place().join("elsewhere");
    std::fs::write(&other, "kept\n").unwrap();
    symlink(&other, &file).unwrap();
    add(&world, "alice", alice.as_bytes()).fails(1).says("is a symlink");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "kept\n");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    add(&world, "alice", alice.as_bytes()).fails(1).says("is not a regular file");
    std::fs::remove_dir(&file).unwrap();
    // A mark that somebody broke.
    let_in(&world, "alice", "read", &["app"]);
    let text = authorized(&world).replace("to here", "to where");
    std::fs::write(&file, &text).unwrap();
    add(&world, "bob", make_key(&world, "bob").as_bytes()).fails(1).says("are not where they were");
    assert_eq!(authorized(&world), text);
    std::fs::write(&file, "").unwrap();
    // A newer format is refused, and not written.
    let keys = world.root().join(".receiver/keys.toml");
    let newer = std::fs::read_to_string(&keys).unwrap().replacen("format = 1", "format = 2", 1);
    std::fs::write(&keys, &newer).unwrap();
    add(&world, "bob", make_key(&world, "bob").as_bytes()).fails(1).says("was written by a newer receiver");
    shell(&world, "alice", "list app").fails(1).says("was written by a newer receiver");
    assert_eq!(std::fs::read_to_string(&keys).unwrap(), newer);
    for damaged in ["", "format = 1\n[[key]]\nname = \"../x\"\n", "\0", "format = 1\nkey = 3\n"] {
        std::fs::write(&keys, damaged).unwrap();
        shell(&world, "alice", "list app").fails(1).says("is damaged");
    }
}

#[test]
fn two_who_add_keys_at_once_both_get_theirs() {
    let world = World::with_app();
    let names: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
    let keys: Vec<String> = names.iter().map(|name| make_key(&world, name)).collect();
    std::thread::scope(|scope| {
        for (name, key) in names.iter().zip(&keys) {
            scope.spawn(|| add(&world, name, key.as_bytes()).ok());
        }
    });
    let listed = world.receiver(&["key", "list", "--json"]).ok().json();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 8);
    assert_eq!(authorized(&world).matches("restrict,pty,command=").count(), 8);
}
