//! How a site comes into nginx's configuration, and out of it again.

use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::browser::{HOST, Web, ask_host, free_port, get};
use crate::world::World;

#[test]
fn a_site_that_nginx_refuses_is_taken_back_and_others_are_untouched() {
    let world = World::with_site();
    let mut web = Web::prepare(&world);
    let neighbour = web.neighbour();
    web.start(&world);
    let theirs = std::fs::read(web.place.join("conf.d/neighbour.conf")).unwrap();
    let others = || std::fs::read_dir(web.place.join("conf.d")).unwrap().count();
    // A certificate that is not there.
    world.server_config(&format!(
        "{}\n[nginx]\nconfig = \"{}\"\nsite = \"{}\"\nlisten = [\"127.0.0.1:{}\"]\nlisten_tls = [\"127.0.0.1:{}\"]\n\
         certificate = \"/none.pem\"\ncertificate_key = \"/none.key\"\n",
        format_args!("domain = \"{HOST}\""), web.config().display(), web.site().display(), web.port, free_port()
    ));
    world
        .receiver(&["config", "app", "--site", "--install"])
        .fails(1)
        .says("it was taken back")
        .says("/none.pem");
    assert!(!web.site().exists());
    assert_eq!(others(), 1);
    assert_eq!(get(neighbour, "/").is(200).text(), "neighbour");
    // One that is well, and then one that is not: what was there before is there again.
    let text = std::fs::read_to_string(world.app().join("receiver.toml")).unwrap();
    let well: String = text
        .lines()
        .filter(|line| !line.starts_with("certificate"))
        .map(|line| format!("{line}\n"))
        .collect();
    world.server_config(&well);
    world.receiver(&["config", "app", "--site", "--install"]).ok();
    let before = std::fs::read(web.site()).unwrap();
    world.server_config(&text);
    world.receiver(&["config", "app", "--site", "--install"]).fails(1);
    assert_eq!(std::fs::read(web.site()).unwrap(), before);
    assert_eq!(get(web.port, "/").is(200).text(), "one\n");
    assert_eq!(get(neighbour, "/").is(200).text(), "neighbour");
    assert_eq!(std::fs::read(web.place.join("conf.d/neighbour.conf")).unwrap(), theirs);
}

#[test]
fn a_configuration_that_somebody_else_broke_is_named_and_nothing_is_added() {
    let world = World::with_site();
    let mut web = Web::prepare(&world);
    web.start(&world);
    std::fs::write(web.place.join("conf.d/broken.conf"), "server { lisen 80; }\n").unwrap();
    world
        .receiver(&["config", "app", "--site", "--install"])
        .fails(1)
        .says("nginx's configuration is broken already, and not by this app: nothing was changed")
        .says("unknown directive \"lisen\"");
    assert!(!web.site().exists());
}

#[test]
fn a_site_that_nginx_does_not_include_is_taken_back() {
    let world = World::with_site();
    let mut web = Web::prepare(&world);
    web.start(&world);
    let elsewhere = web.place.join("elsewhere.conf");
    world.receiver(&["config", "app", "nginx.site", &elsewhere.display().to_string()]).ok();
    world
        .receiver(&["config", "app", "--site", "--install"])
        .fails(1)
        .says("nginx does not read")
        .says("include ");
    assert!(!elsewhere.exists());
}

#[test]
fn a_port_in_use_is_seen_although_nginx_says_so_only_in_its_log() {
    let world = World::with_site();
    let mut web = Web::prepare(&world);
    let neighbour = web.neighbour();
    web.start(&world);
    let taken = std::net::TcpListener::bind(("127.0.0.1", web.port)).unwrap();
    world
        .receiver(&["config", "app", "--site", "--install"])
        .fails(1)
        .says("nginx did not load")
        .says("in use");
    assert!(!web.site().exists());
    assert_eq!(get(neighbour, "/").is(200).text(), "neighbour");
    drop(taken);
    world.receiver(&["config", "app", "--site", "--install"]).ok();
    get(web.port, "/").is(200);
}

#[test]
fn a_site_is_written_only_where_something_changed() {
    let world = World::with_site();
    let web = Web::with_site(&world);
    let workers = || {
        let ends = web.log().matches("gracefully shutting down").count();
        (std::fs::metadata(web.site()).unwrap().ino(), ends)
    };
    let before = workers();
    world.receiver(&["config", "app", "--site", "--install"]).ok().says("is as it should be");
    assert_eq!(workers(), before);
}

#[test]
fn a_copy_that_was_restored_beside_its_original_does_not_take_its_site() {
    let mut world = World::with_site();
    let web = Web::with_site(&world);
    let before = std::fs::read(web.site()).unwrap();
    let file = world.place().join("backup.tar");
    let words = format!("exec {} backup app > {}", crate::world::PROGRAM, file.display());
    world.run("sh", world.place(), &["-c", &words]).ok();
    // Its root ends as the original's does.
    let original = world.root();
    let copy = world.place().join(format!("copy{}", original.display()));
    world.env.insert("RECEIVER_ROOT".into(), copy.display().to_string());
    world.receiver(&["create", "app", "--restore", &file.display().to_string()]).ok();
    world
        .receiver(&["config", "app", "--site", "--install"])
        .fails(1)
        .says("is the site of something else: nothing was changed")
        .says("receiver config app nginx.site FILE");
    assert_eq!(std::fs::read(web.site()).unwrap(), before);
    world.receiver(&["deploy", "app"]).ok();
    assert_eq!(std::fs::read(web.site()).unwrap(), before);
    // With a place and a host of its own it has a site of its own.
    let other = web.place.join("conf.d/copy.conf");
    world.receiver(&["config", "app", "nginx.site", &other.display().to_string()]).ok();
    world.receiver(&["config", "app", "domain", "copy.example"]).ok();
    world.receiver(&["config", "app", "--site", "--install"]).ok();
    assert!(other.exists());
    assert_eq!(std::fs::read(web.site()).unwrap(), before);
}

#[test]
fn a_server_without_nginx_or_without_a_domain_is_told_so() {
    let mut world = World::with_site();
    world.receiver(&["config", "app", "--site"]).fails(1).says("config app domain");
    world.receiver(&["config", "app", "domain", HOST]).ok();
    let said = world.receiver(&["config", "app", "--site"]).ok();
    assert!(said.stdout.contains("server_name \"app.example\";"), "{}", said.stdout);
    // Without /usr/sbin nobody finds it: an empty place in its stead, in a namespace of its own.
    world.env.insert("PATH".into(), "/usr/bin:/bin".into());
    let hidden = world.place().join("empty");
    std::fs::create_dir(&hidden).unwrap();
    let script = format!(
        "mount --bind {0} /usr/sbin && exec {1} config app --site",
        hidden.display(),
        crate::world::PROGRAM
    );
    world
        .run("unshare", world.place(), &["--mount", "sh", "-c", &script])
        .fails(1)
        .says("nginx is not installed")
        .says("apt install nginx");
}

#[test]
fn nothing_that_is_pushed_becomes_a_word_of_nginxs_configuration() {
    let world = World::with_app();
    let odd = "a \"b;} {\\c'#é";
    world.file(&format!("{odd}/x.txt"), "odd\n").file("index.html", "home\n");
    let toml = format!("[web]\nstatic = {{ \"/odd.+@~\" = {} }}\n", Value::from(odd));
    world.file("receiver.toml", &toml);
    world.commit("odd names");
    world.push().ok();
    let web = Web::with_site(&world);
    assert_eq!(get(web.port, "/odd.+@~/x.txt").is(200).text(), "odd\n");
    get(web.port, "/oddxx@~/x.txt").is(404);
    for value in [
        "\"/a\" = \"x$host\"",
        "\"/a\" = \"x\\ny\"",
        "\"/a;b\" = \"x\"",
        "\"/a{\" = \"x\"",
        "\"/$uri\" = \"x\"",
        "\"/a b\" = \"x\"",
        "\"/a\\nb\" = \"x\"",
        "\"/é\" = \"x\"",
        "\"/.git\" = \"x\"",
        "\"/a\" = \"../x\"",
    ] {
        world.file("receiver.toml", &format!("[web]\nstatic = {{ {value} }}\n"));
        world.commit("bad");
        world.push().fails(1).says("receiver.toml:2");
    }
    for bad in ["a b.example", "a.example;", "a\nb", "a\"b", "a{b", "$host"] {
        world.receiver(&["config", "app", "domain", bad]).fails(2);
    }
}

#[test]
fn tls_is_spoken_where_there_is_a_certificate_and_http_leads_to_it() {
    let world = World::with_site();
    let mut web = Web::prepare(&world);
    web.start(&world);
    let (chain, key) = (web.place.join("chain.pem"), web.place.join("key.pem"));
    let made = world.run(
        "openssl",
        world.place(),
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=app.example",
            "-keyout",
            key.to_str().unwrap(),
            "-out",
            chain.to_str().unwrap(),
            "-days",
            "2",
        ],
    );
    made.ok();
    let tls = free_port();
    world.receiver(&["config", "app", "nginx.listen_tls", &format!("[\"127.0.0.1:{tls}\"]")]).ok();
    let config = std::fs::read_to_string(world.app().join("receiver.toml")).unwrap();
    let more = format!("certificate = \"{}\"\ncertificate_key = \"{}\"\n", chain.display(), key.display());
    world.server_config(&config.replace("[nginx]\n", &format!("[nginx]\n{more}")));
    world.receiver(&["config", "app", "--site", "--install"]).ok();
    let answer = get(web.port, "/x?y").is(301);
    assert_eq!(answer.header("location").as_deref(), Some("https://app.example/x?y"));
    std::fs::create_dir_all(web.place.join("challenge/.well-known/acme-challenge")).unwrap();
    std::fs::write(web.place.join("challenge/.well-known/acme-challenge/t"), "answer").unwrap();
    assert_eq!(get(web.port, "/.well-known/acme-challenge/t").is(200).text(), "answer");
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let connect = format!("127.0.0.1:{tls}");
    let said = world.fed(
        "openssl",
        world.place(),
        &["s_client", "-quiet", "-ign_eof", "-servername", HOST, "-connect", &connect],
        request.as_bytes(),
    );
    assert!(said.stdout.contains("200 OK") && said.stdout.ends_with("one\n"), "{said:?}");
    // Hosts of versions are under the same certificate, and its authority is answered without a password.
    world.receiver(&["config", "app", "versions.urls", "password"]).ok();
    let ask_v0 = |path: &str| ask_host(web.port, "v0.app.example", "GET", path, &[], b"");
    assert_eq!(ask_v0("/x").is(301).header("location").as_deref(), Some("https://v0.app.example/x"));
    assert_eq!(ask_v0("/.well-known/acme-challenge/t").is(200).text(), "answer");
    let over_tls = |host: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let arguments = ["s_client", "-quiet", "-ign_eof", "-servername", host, "-connect", &connect];
        world.fed("openssl", world.place(), &arguments, request.as_bytes()).stdout
    };
    assert!(over_tls("v0.app.example", "/").contains(" 401 "));
    assert!(over_tls("v0.app.example", "/.well-known/acme-challenge/t").ends_with("answer"));
    assert!(over_tls("v7.app.example", "/").contains(" 404 "));
    world.receiver(&["config", "app", "versions.urls", "public"]).ok();
    assert!(over_tls("v0.app.example", "/").ends_with("one\n"));
    world
        .receiver(&["config", "app", "--unset", "nginx.certificate_key"])
        .fails(1)
        .says("needs nginx.certificate_key");
}
