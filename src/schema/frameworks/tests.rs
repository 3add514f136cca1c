use super::*;

/// A tree in which `+` marks the files of the schema and `=` the lockfiles; checks that exactly they
/// are found.
#[track_caller]
fn check(detector: Detector, marked: &[&str]) {
    let path = |marked: &&'static str| marked.trim_start_matches(['+', '=']);
    let marked: Vec<&'static str> = marked.iter().map(|path| &*path.to_string().leak()).collect();
    let tree: Vec<TreeFile> = marked
        .iter()
        .map(|marked| TreeFile { path: path(marked).as_bytes(), oid: &"1", is_link: false })
        .collect();
    let found = find(&tree).unwrap();
    let of = |mark: char| -> BTreeSet<&str> {
        marked.iter().filter(|path| path.starts_with(mark)).map(path).collect()
    };
    let names = |files: &[TreeFile<'static>]| -> BTreeSet<&str> {
        files.iter().map(|file| std::str::from_utf8(file.path).unwrap()).collect()
    };
    assert_eq!(found.detector, detector, "{marked:?}");
    assert_eq!(names(&found.files), of('+'), "{detector:?}");
    assert_eq!(names(&found.lockfiles), of('='), "{detector:?}");
}

#[test]
fn a_tree_of_many_files_has_its_frameworks_wherever_their_markers_are() {
    // What has to be known to judge one file lies far from it.
    let between = |directory| (0..10_000).map(move |number| format!("{directory}/mm{number}.txt"));
    let mut paths: Vec<String> = between("many").chain(between("scripts")).collect();
    let marked = [
        "a/manage.py",
        "+a/shop/migrations/0001.py",
        "+many/migrations/0001.py",
        "many/models.py",
        "alembic.ini",
        "scripts/env.py",
        "+scripts/versions/1.py",
        "z/manage.py",
        "=z/uv.lock",
    ];
    paths.extend(marked.map(str::to_owned));
    paths.sort_by_key(|path| path.trim_start_matches(['+', '=']).to_owned());
    check(Detector::Django, &paths.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn django_keeps_it_in_migrations_wherever_they_are() {
    let files = [
        "manage.py",
        "shop/models.py",
        "shop/views.py",
        "=requirements.txt",
        "=requirements-dev.txt",
        "=requirements/base.txt",
        "=pyproject.toml",
        "=setup.cfg",
        "docs/requirements.txt",
        "README.md",
        "+shop/migrations/__init__.py",
        "+shop/migrations/0001_initial.py",
        "+shop/migrations/sql/view.sql",
        "+shop/migrations/old/0001_initial.py",
        "shop/migrations/tests/test_0001.py",
        "shop/migrations/README",
        "+apps/deep/blog/migrations/0001_initial.py",
        "apps/deep/blog/models/post.py",
        "+tests/migrations/0001_exams.py",
        "db/report.sql",
        "schema.sql",
        ".venv/lib/python3/site-packages/django/contrib/auth/migrations/0001_initial.py",
        "lib/site-packages/wagtail/migrations/0001.py",
        "node_modules/x/migrations/0001.py",
        "venv/a/migrations/b.py",
    ];
    check(Detector::Django, &files);
}

#[test]
fn a_django_app_without_migrations_keeps_it_in_its_models() {
    check(
        Detector::Django,
        &[
            "manage.py",
            "+shop/migrations/0001.py",
            "shop/models.py",
            "+blog/models.py",
            "+wiki/models/page.py",
            "+wiki/models/__init__.py",
            "blog/tests/models.py",
            "+models.py",
        ],
    );
    check(
        Detector::DjangoModels,
        &["manage.py", "+blog/models.py", "+wiki/models/a/b.py", "blog/views.py", "=uv.lock"],
    );
    check(Detector::DjangoModels, &["manage.py", "site/settings.py"]);
}

#[test]
fn a_framework_may_live_one_directory_down() {
    check(
        Detector::Django,
        &[
            "backend/manage.py",
            "+backend/shop/migrations/0001.py",
            "+libs/pay/migrations/0001.py",
            "=backend/requirements.txt",
            "=poetry.lock",
            "frontend/package-lock.json",
            "frontend/requirements.txt",
        ],
    );
    check(Detector::Rails, &["web/bin/rails", "+web/db/schema.rb", "=web/Gemfile.lock", "db/schema.rb"]);
    check(Detector::None, &["a/b/manage.py", "a/b/shop/migrations/0001.py"]);
}

#[test]
fn every_framework_has_its_files() {
    check(
        Detector::Rails,
        &[
            "bin/rails",
            "+db/schema.rb",
            "+db/structure.sql",
            "+db/queue_schema.rb",
            "+db/migrate/1_a.rb",
            "db/seeds.rb",
            "+db/cache_migrate/1_b.rb",
            "+engines/pay/db/migrate/1_c.rb",
            "=Gemfile.lock",
            "app/models/a.rb",
        ],
    );
    check(
        Detector::Laravel,
        &[
            "artisan",
            "+database/migrations/1_a.php",
            "+database/schema/mysql-schema.sql",
            "=composer.lock",
            "database/seeders/A.php",
            "+Modules/Pay/Database/Migrations/1_b.php",
            "package-lock.json",
        ],
    );
    check(
        Detector::Alembic,
        &[
            "alembic.ini",
            "alembic/env.py",
            "alembic/script.py.mako",
            "+alembic/versions/1_a.py",
            "app/versions/b.py",
            "requirements.txt",
        ],
    );
    check(Detector::Alembic, &["a/b/db/env.py", "a/b/db/script.py.mako", "+a/b/db/versions/2026/1_a.py"]);
    check(Detector::Alembic, &["migrations/alembic.ini", "migrations/env.py", "+migrations/versions/1_a.py"]);
    check(
        Detector::Prisma,
        &[
            "package.json",
            "+prisma/schema.prisma",
            "+prisma/migrations/1_a/migration.sql",
            "+prisma/migrations/migration_lock.toml",
            "prisma/seed.ts",
            "package-lock.json",
        ],
    );
    check(
        Detector::Ecto,
        &[
            "mix.exs",
            "mix.lock",
            "+priv/repo/migrations/1_a.exs",
            "+apps/a/priv/repo/migrations/1.exs",
            "+priv/repo/structure.sql",
            "priv/static/a.js",
        ],
    );
    check(
        Detector::Diesel,
        &[
            "Cargo.toml",
            "diesel.toml",
            "Cargo.lock",
            "+migrations/1_a/up.sql",
            "+migrations/1_a/down.sql",
            "src/schema.rs",
        ],
    );
    check(
        Detector::Refinery,
        &["Cargo.toml", "+migrations/V1__a.rs", "+migrations/V2__b.sql", "+src/migrations/U1__c.rs"],
    );
    check(
        Detector::Sqlx,
        &["Cargo.toml", "+migrations/20260101_a.sql", "+crates/db/migrations/2.sql", "src/migrations/mod.rs"],
    );
    check(
        Detector::Flyway,
        &[
            "pom.xml",
            "+src/main/resources/db/migration/V1__a.sql",
            "+src/main/resources/db/migration/R__b.sql",
        ],
    );
    check(Detector::Flyway, &["flyway.conf", "+sql/V1__a.sql"]);
}

#[test]
fn sql_is_looked_for_where_no_framework_is() {
    check(Detector::Sql, &["app.py", "+schema.sql", "+queries/more.sql", "tests/data.sql"]);
    check(Detector::Sql, &["app/+", "+flaskr/schema.sql"]);
    check(Detector::Sql, &["+db/tables.SQL"]);
}

#[test]
fn what_only_looks_like_a_schema_is_none() {
    check(
        Detector::None,
        &["index.html", "static/downloads/example.sql", "manage.py.bak", "mix.exs", "Cargo.toml"],
    );
    check(
        Detector::None,
        &["birds/migrations/swallow.py", "bin/rails.md", "db/migration/readme.txt", "x/y/V1__a.sql"],
    );
    check(Detector::None, &[]);
}

#[test]
fn several_frameworks_are_put_together() {
    check(
        Detector::Django,
        &[
            "manage.py",
            "+shop/migrations/0001.py",
            "+prisma/schema.prisma",
            "Cargo.toml",
            "+migrations/1.sql",
            "=uv.lock",
        ],
    );
}

#[test]
fn a_path_that_is_not_utf_8_counts() {
    let tree = [b"manage.py".as_slice(), b"\xff/migrations/\xfe.py"];
    let tree = tree.map(|path| TreeFile { path, oid: &"1", is_link: false });
    assert_eq!(find(&tree).unwrap().files.len(), 1);
}
