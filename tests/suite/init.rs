//! What `receiver init` proposes for the web process, taken at its word: the comment signs are removed, it is
//! pushed, and a browser asks through nginx.

use crate::browser::{HOST, Web, get};
use crate::examples::with_example;
use crate::world::World;

/// Writes the file for what lies on the laptop, with the settings of `[web]` in force.
fn propose(world: &World) -> String {
    let here = world.laptop();
    let _ = std::fs::remove_file(here.join("receiver.toml"));
    world.receiver_in(&here, &["init"]).ok();
    let text = std::fs::read_to_string(here.join("receiver.toml")).unwrap();
    let (before, web) = text.split_once("[web]\n").expect("there is a [web]");
    let web: String = web
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    // What outlives releases is not there in these trees.
    let web = web.split("[shared]").next().unwrap();
    let text = format!("{before}[web]\n{web}");
    world.file("receiver.toml", &text);
    text
}

/// The stages of the framework cannot run here: none of its packages is installed.
fn without_stages(world: &World) {
    for stage in ["build", "assets", "syncdb", "check"] {
        world.receiver(&["config", "app", &format!("stages.{stage}"), "true"]).ok();
    }
    world.receiver(&["config", "app", "database.engine", "none"]).ok();
}

fn served(world: &World) -> Web {
    let mut web = Web::prepare(world);
    world.commit("what is proposed");
    world.push().ok().says("health").says("=====> live: 0/");
    web.open(world);
    web
}

#[test]
fn what_is_proposed_for_django_serves_it() {
    let world = with_example("django");
    let text = propose(&world);
    assert!(text.contains(" website.wsgi\""), "{text}");
    let build = "/usr/bin/python3 -m venv --without-pip --system-site-packages .venv";
    world.receiver(&["config", "app", "stages.build", build]).ok();
    world.receiver_fed(&["env", "app", "set", "ALLOWED_HOSTS"], HOST.as_bytes()).ok();
    let web = served(&world);
    assert!(get(web.port, "/").is(200).text().contains("<h1>Notes</h1>"));
}

#[test]
fn what_is_proposed_for_node_serves_it() {
    let world = with_example("node");
    world.file("package.json", "{ \"private\": true }\n");
    propose(&world);
    without_stages(&world);
    let web = served(&world);
    assert!(get(web.port, "/").is(200).text().contains("<h1>Notes</h1>"));
    assert!(get(web.port, "/assets/notes.css").is(200).text().contains("margin"));
}

#[test]
fn what_is_proposed_for_rails_serves_a_rack_application() {
    let world = World::with_app();
    world.file("bin/rails", "").file("public/robots.txt", "robots\n");
    world.file(
        "config.ru",
        "run ->(env) { [200, {}, [\"rack \", env['REQUEST_METHOD'], env['PATH_INFO']]] }\n",
    );
    let text = propose(&world);
    // There is no bundle here, but Debian's Puma.
    world.file("receiver.toml", &text.replace("bundle exec ", ""));
    without_stages(&world);
    let web = served(&world);
    assert_eq!(get(web.port, "/a/b").is(200).text(), "rack GET/a/b");
    assert_eq!(get(web.port, "/robots.txt").is(200).text(), "robots\n");
    world.receiver(&["restart", "app"]).ok();
    assert_eq!(get(web.port, "/").is(200).text(), "rack GET/");
}

#[test]
fn what_is_proposed_for_laravel_serves_a_front_controller_in_php() {
    let world = World::with_app();
    world.file("artisan", "").file("public/build/app.css", "css\n").file("public/favicon.ico", "icon\n");
    world.file(
        "public/index.php",
        "<?php // the source\necho $_SERVER['REQUEST_METHOD'], ' ', $_SERVER['REQUEST_URI'], ' ', $_GET['x'] ?? '';",
    );
    propose(&world);
    without_stages(&world);
    let web = served(&world);
    assert_eq!(get(web.port, "/a/b?x=1").is(200).text(), "GET /a/b?x=1 1");
    assert_eq!(get(web.port, "/build/app.css").is(200).text(), "css\n");
    assert_eq!(get(web.port, "/favicon.ico").is(200).text(), "icon\n");
    // Never the program itself.
    assert_eq!(get(web.port, "/index.php").is(200).text(), "GET /index.php ");
}
