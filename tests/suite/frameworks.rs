//! Which push opens a version, for each framework, by its files: the detector is what people see of
//! `plan --json` and of a push. The frameworks themselves are not needed; `syncdb` is a line of shell.

use crate::world::World;

/// A tree of a framework's, and what happens to its schema.
struct Case {
    detector: &'static str,
    /// The files of the first push.
    tree: &'static [(&'static str, &'static str)],
    /// A file that is no schema.
    other: (&'static str, &'static str),
    /// The same schema in other words; nothing where any other byte counts.
    same: Option<(&'static str, &'static str)>,
    /// A change of the schema, and the file that is named for it.
    change: (&'static str, &'static str),
    /// A lockfile that may bring migrations.
    lock: Option<(&'static str, &'static str)>,
}

/// Pushes a case through: what `plan` foresees is what the push does.
fn opens_versions_as_it_should(case: &Case) {
    let world = World::with_app();
    for (name, text) in case.tree {
        world.file(name, text);
    }
    // The question of `ask` is a program that is not there: doubt opens a version.
    world.file("receiver.toml", "[stages]\nsyncdb = \"echo made > made\"\n[database]\nengine = \"none\"\n");
    world.commit("one");
    world.push().ok().says("=====> live: 0/");
    step(&world, case, case.other, "no", 0);
    let mut version = 0;
    if let Some(same) = case.same {
        step(&world, case, same, "no", version);
    }
    version += 1;
    step(&world, case, case.change, "yes", version);
    if let Some(lock) = case.lock {
        version += 1;
        step(&world, case, lock, "ask", version);
    }
    // Back to the schema of the first push: a version of today's data, not the old one.
    for (name, text) in case.tree {
        world.file(name, text);
    }
    if case.tree.iter().all(|(name, _)| *name != case.change.0) {
        world.remove(case.change.0);
    }
    world.commit("back");
    world.push().ok().says(&format!("=====> live: {}/", version + 1));
}

fn step(world: &World, case: &Case, file: (&str, &str), changed: &str, version: u32) {
    world.file(file.0, file.1);
    let revision = world.commit(file.0);
    // The plan is asked before the branch moves: from another branch of the same repository.
    world.push_with(&["production", "HEAD:refs/heads/plan", "--force"]).ok();
    let plan = world.receiver(&["plan", "app", &revision, "--json"]).ok().json();
    assert_eq!(plan["schema"]["detector"], case.detector, "{plan}");
    assert_eq!(plan["schema"]["changed"], changed, "{}: {plan}", file.0);
    let planned = if changed == "ask" { version - 1 } else { version };
    assert_eq!(plan["version"], planned, "{plan}");
    if changed == "yes" {
        assert_eq!(plan["schema"]["files"], serde_json::json!([file.0]), "{plan}");
    }
    world.push().ok().says(&format!("=====> live: {version}/"));
    let opened = world.live_file("receiver.toml").contains("syncdb") && changed != "no";
    assert_eq!(
        world.app().join("current/made").exists(),
        opened,
        "syncdb ran exactly where a version opened"
    );
}

#[test]
fn a_rails_migration_opens_a_version_and_nothing_else_does() {
    opens_versions_as_it_should(&Case {
        detector: "rails",
        tree: &[
            ("bin/rails", "#!/usr/bin/env ruby\n"),
            ("Gemfile.lock", "GEM\n"),
            ("db/schema.rb", "ActiveRecord::Schema.define(version: 1) do\nend\n"),
            ("db/migrate/1_users.rb", "class Users < ActiveRecord::Migration[7.0]\nend\n"),
        ],
        other: ("app/models/user.rb", "class User < ApplicationRecord\nend\n"),
        same: None,
        change: ("db/migrate/2_areas.rb", "class Areas < ActiveRecord::Migration[7.0]\nend\n"),
        lock: Some(("Gemfile.lock", "GEM\n  devise\n")),
    });
}

#[test]
fn a_laravel_migration_opens_a_version_and_nothing_else_does() {
    opens_versions_as_it_should(&Case {
        detector: "laravel",
        tree: &[
            ("artisan", "#!/usr/bin/env php\n<?php exit(1);\n"),
            ("composer.lock", "{}\n"),
            ("database/migrations/2020_users.php", "<?php return new class extends Migration {};\n"),
        ],
        other: ("app/Models/User.php", "<?php class User {}\n"),
        same: None,
        change: ("database/migrations/2021_areas.php", "<?php return new class extends Migration {};\n"),
        lock: Some(("composer.lock", "{ \"packages\": [] }\n")),
    });
}

#[test]
fn an_alembic_migration_opens_a_version_and_nothing_else_does() {
    opens_versions_as_it_should(&Case {
        detector: "alembic",
        tree: &[
            ("alembic.ini", "[alembic]\nscript_location = store\n"),
            ("store/env.py", "from alembic import context\n"),
            (
                "store/versions/1_users.py",
                "revision = '1'\n\n\ndef upgrade():\n    op.create_table('users')\n",
            ),
        ],
        other: ("app.py", "print('hello')\n"),
        same: Some((
            "store/versions/1_users.py",
            "# Users.\nrevision = \"1\"\n\n\ndef upgrade():\n    op.create_table(\n        'users',\n    )\n",
        )),
        change: ("store/versions/2_areas.py", "revision = '2'\ndown_revision = '1'\n"),
        lock: None,
    });
}

#[test]
fn a_prisma_migration_opens_a_version_and_nothing_else_does() {
    opens_versions_as_it_should(&Case {
        detector: "prisma",
        tree: &[
            ("package.json", "{}\n"),
            ("prisma/schema.prisma", "model User {\n  id Int @id\n}\n"),
            ("prisma/migrations/1/migration.sql", "CREATE TABLE \"User\" (id INTEGER PRIMARY KEY);\n"),
        ],
        other: ("index.js", "console.log(1)\n"),
        same: Some((
            "prisma/migrations/1/migration.sql",
            "-- CreateTable\nCREATE TABLE \"User\" (\n  id INTEGER PRIMARY KEY\n);\n",
        )),
        change: ("prisma/schema.prisma", "model User {\n  id Int @id\n  name String\n}\n"),
        lock: None,
    });
}

#[test]
fn an_ecto_migration_opens_a_version_and_nothing_else_does() {
    opens_versions_as_it_should(&Case {
        detector: "ecto",
        tree: &[
            ("mix.exs", "defmodule Shop.MixProject do\nend\n"),
            ("priv/repo/migrations/1_users.exs", "defmodule Shop.Users do\nend\n"),
        ],
        other: ("lib/shop.ex", "defmodule Shop do\nend\n"),
        same: None,
        change: ("priv/repo/migrations/2_areas.exs", "defmodule Shop.Areas do\nend\n"),
        lock: None,
    });
}

#[test]
fn a_sqlx_migration_opens_a_version_and_nothing_else_does() {
    opens_versions_as_it_should(&Case {
        detector: "sqlx",
        tree: &[
            ("Cargo.toml", "[package]\nname = \"shop\"\n"),
            ("migrations/1_users.sql", "CREATE TABLE users (id INTEGER PRIMARY KEY);\n"),
        ],
        other: ("src/main.rs", "fn main() {}\n"),
        same: Some((
            "migrations/1_users.sql",
            "-- Users.\nCREATE TABLE users (\n  id INTEGER PRIMARY KEY\n);\n",
        )),
        change: ("migrations/2_areas.sql", "CREATE TABLE areas (id INTEGER PRIMARY KEY);\n"),
        lock: None,
    });
}

#[test]
fn a_diesel_migration_opens_a_version_and_nothing_else_does() {
    opens_versions_as_it_should(&Case {
        detector: "diesel",
        tree: &[
            ("Cargo.toml", "[package]\nname = \"shop\"\n"),
            ("diesel.toml", "[print_schema]\nfile = \"src/schema.rs\"\n"),
            ("migrations/1_users/up.sql", "CREATE TABLE users (id INTEGER PRIMARY KEY);\n"),
            ("migrations/1_users/down.sql", "DROP TABLE users;\n"),
        ],
        other: ("src/main.rs", "fn main() {}\n"),
        same: Some((
            "migrations/1_users/up.sql",
            "CREATE TABLE users ( id INTEGER PRIMARY KEY ); -- users\n",
        )),
        change: ("migrations/2_areas/up.sql", "CREATE TABLE areas (id INTEGER PRIMARY KEY);\n"),
        lock: None,
    });
}

#[test]
fn a_flyway_migration_opens_a_version_and_nothing_else_does() {
    opens_versions_as_it_should(&Case {
        detector: "flyway",
        tree: &[
            ("pom.xml", "<project/>\n"),
            ("src/main/resources/db/migration/V1__users.sql", "CREATE TABLE users (id INTEGER);\n"),
        ],
        other: ("src/main/java/App.java", "class App {}\n"),
        same: Some((
            "src/main/resources/db/migration/V1__users.sql",
            "CREATE TABLE users (\n    id INTEGER /* the key */\n);\n",
        )),
        change: ("src/main/resources/db/migration/V2__areas.sql", "CREATE TABLE areas (id INTEGER);\n"),
        lock: None,
    });
}

#[test]
fn the_push_may_say_that_the_schema_is_the_same_or_new_and_the_journal_keeps_it() {
    let world = World::with_sql();
    world.file("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL, x);\n");
    world.commit("a column that is there already");
    world.push_with(&["-o", "schema=same"]).ok().says("=====> live: 0/");
    world.file("page.html", "x");
    world.commit("a page");
    world.push().ok().says("unchanged, version 0");
    world.file("page.html", "y");
    world.commit("another page");
    world.push_with(&["-o", "schema=new"]).ok().says("=====> live: 1/");
    let journal = std::fs::read_to_string(world.app().join("receiver/journal.jsonl")).unwrap();
    assert!(journal.contains("schema=same") && journal.contains("schema=new"), "{journal}");
}

#[test]
fn paths_and_command_of_the_settings_take_the_place_of_the_detector() {
    let world = World::with_app();
    let toml = |schema: &str| {
        let text =
            format!("[schema]\n{schema}\n[stages]\nsyncdb = \"true\"\n[database]\nengine = \"none\"\n");
        world.file("receiver.toml", &text);
    };
    toml("paths = [\"model/**\"]");
    world.file("model/a.txt", "a\n").file("schema.sql", "CREATE TABLE a (b);\n");
    world.commit("one");
    world.push().ok().says("=====> live: 0/");
    world.file("schema.sql", "CREATE TABLE a (b, c);\n");
    world.commit("not what is named");
    world.push().ok().says("=====> live: 0/");
    world.file("model/b.txt", "b\n");
    world.commit("what is named");
    world.push().ok().says("changed: model/b.txt → version 1");
    toml("command = \"cat model/*\"");
    world.commit("a command");
    world.push().ok().says("=====> live: 2/");
    world.file("other.txt", "x");
    world.commit("the same output");
    world.push().ok().says("=====> live: 2/");
    world.file("model/b.txt", "c\n");
    world.commit("another output");
    world.push().ok().says("=====> live: 3/");
}

/// An Alembic that makes a table, and answers the question whether something is pending in the way of `current`.
fn alembic(world: &World, current: &str) {
    world.file(
        "bin/alembic",
        &format!(
            "#!/bin/sh\nif [ $1 = upgrade ]; then exec python3 -c \"import os, sqlite3\n\
             sqlite3.connect(os.environ['RECEIVER_DATABASE_NAME']).execute('CREATE TABLE IF NOT EXISTS t (n)')\"; fi\n{current}\n"
        ),
    );
}

#[test]
fn a_framework_that_does_not_understand_the_question_is_taken_at_its_files_word() {
    let world = World::with_app();
    world.file("alembic.ini", "[alembic]\nscript_location = steps\n");
    world.file("steps/env.py", "from alembic import context\n");
    world.file("steps/versions/1.py", "revision = '1'\n");
    let settings = "[stages]\nsyncdb = \"sh bin/alembic upgrade head\"\n[database]\nengine = \"sqlite\"\n";
    world.file("receiver.toml", settings);
    // As releases before 1.17.1 do.
    alembic(&world, "echo 'alembic: error: unrecognized arguments: --check-heads'; exit 2");
    world.commit("one");
    let said = world.push().ok().says("=====> live: 0/").says("cannot be asked");
    said.says("`sh bin/alembic current --check-heads`: alembic: error: unrecognized arguments");
    world.file("index.html", "two");
    world.commit("two");
    world.push().ok().says("cannot be asked").says("=====> live: 0/");
    // One that does understand it is believed, and quoted.
    alembic(&world, "echo 'FAILED: Database is not on all head revisions'; exit 1");
    world.commit("three");
    let said = world.push().ok().says("NOT LIVE: still 0/").says("migrations are pending");
    said.says("`sh bin/alembic current --check-heads`: FAILED: Database is not on all head revisions");
}
