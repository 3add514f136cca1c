//! A real Django project on SQLite: Debian's python3-django, by /usr/bin/python3, as CI installs it.

use rusqlite::Connection;

use crate::data::value;
use crate::world::{Said, World};

const PYTHON: &str = "/usr/bin/python3";

const SETTINGS: &str = "import os\n\
    BASE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))\n\
    SECRET_KEY = 'of a test'\n\
    INSTALLED_APPS = ['django.contrib.contenttypes', 'django.contrib.auth', 'parcels']\n\
    ROOT_URLCONF = 'site_.urls'\n\
    DEFAULT_AUTO_FIELD = 'django.db.models.AutoField'\n\
    DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3',\n    \
    'NAME': os.environ.get('RECEIVER_DATABASE_NAME', os.path.join(BASE_DIR, 'db.sqlite3'))}}\n";

const MANAGE: &str = "import os, sys\n\
    sys.dont_write_bytecode = True\n\
    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site_.settings')\n\
    from django.core.management import execute_from_command_line\n\
    execute_from_command_line(sys.argv)\n";

const STAGES: &str = "[stages]\n\
    syncdb = \"/usr/bin/python3 manage.py migrate --noinput\"\n\
    [database]\nengine = \"sqlite\"\n";

pub const MODELS: &str = "from django.db import models\n\n\n\
    class Parcel(models.Model):\n    name = models.CharField(max_length=40)\n";

pub const FIRST: &str = "from django.db import migrations, models\n\n\n\
    class Migration(migrations.Migration):\n    initial = True\n    dependencies = []\n    operations = [\n        \
    migrations.CreateModel('Parcel', [\n            ('id', models.AutoField(primary_key=True)),\n            \
    ('name', models.CharField(max_length=40)),\n        ]),\n    ]\n";

/// A migration of `parcels` after `before`, with these operations.
fn migration(before: &str, head: &str, operations: &str) -> String {
    format!(
        "from django.db import migrations, models\n\n\n{head}class Migration(migrations.Migration):\n    \
         dependencies = [('parcels', '{before}')]\n    operations = [\n        {operations},\n    ]\n"
    )
}

/// The project on the laptop, not yet committed.
fn project() -> World {
    let django = std::process::Command::new(PYTHON).args(["-c", "import django"]).output();
    assert!(
        django.is_ok_and(|output| output.status.success()),
        "{PYTHON} has no Django: these tests need it (apt-get install python3-django)"
    );
    let world = World::with_app();
    // Django starts several times while writers are held: on a busy machine that is more than the 4 s of SQLite.
    world.receiver(&["config", "app", "database.max_pause", "2m"]).ok();
    world.file("manage.py", MANAGE).file("receiver.toml", STAGES).file("requirements.txt", "Django==3.2\n");
    world.file("site_/__init__.py", "").file("site_/settings.py", SETTINGS);
    world.file("site_/urls.py", "urlpatterns = []\n");
    world.file("parcels/__init__.py", "").file("parcels/models.py", MODELS);
    world.file("parcels/migrations/__init__.py", "").file("parcels/migrations/0001_initial.py", FIRST);
    world
}

/// The same, live, with three parcels that were put in by Django itself.
fn live_project() -> World {
    let world = project();
    world.commit("parcels");
    world.push().ok().says("=====> live: 0/");
    let said = shell(&world, "Parcel.objects.bulk_create([Parcel(name=n) for n in ('a', 'b', 'c')])");
    said.ok();
    assert_eq!(names(&world), "a,b,c");
    world
}

/// `receiver run app -- manage.py shell -c …` with the parcels at hand.
fn shell(world: &World, code: &str) -> Said {
    let code = format!("from parcels.models import Parcel; {code}");
    world.receiver(&["run", "app", "--", PYTHON, "manage.py", "shell", "-c", &code])
}

/// The names of the live parcels, as Django reads them.
fn names(world: &World) -> String {
    let said = shell(world, "print(','.join(p.name for p in Parcel.objects.order_by('id')))").ok();
    said.stdout.trim().to_owned()
}

#[track_caller]
fn unchanged(world: &World, live: &str) {
    assert_eq!(world.live().as_deref(), Some(live));
    assert!(!world.app().join("versions/1").exists());
    assert!(!world.database(1).exists());
    assert_eq!(names(world), "a,b,c");
    shell(world, "Parcel.objects.create(name='d').delete()").ok();
}

#[test]
pub fn a_commit_without_a_migration_joins_the_version_and_one_with_a_migration_opens_one() {
    let world = live_project();
    world.file("site_/urls.py", "# Nothing yet.\nurlpatterns = []\n");
    world.commit("a comment");
    world.push().ok().says("unchanged, version 0").says("=====> live: 0/");
    let field = "migrations.AddField('parcel', 'area', models.IntegerField(default=7))";
    world.file("parcels/migrations/0002_area.py", &migration("0001_initial", "", field));
    world.file("parcels/models.py", &format!("{MODELS}    area = models.IntegerField(default=7)\n"));
    world.commit("the area");
    let said = world.push().ok().says("changed: parcels/migrations/0002_area.py → version 1");
    said.says("Applying parcels.0002_area... OK").says("=====> live: 1/");
    assert_eq!(names(&world), "a,b,c");
    let areas = shell(&world, "print(sum(p.area for p in Parcel.objects.all()))").ok();
    assert_eq!(areas.stdout.trim(), "21");
    // Back over it with what was written there, and on in the old one.
    shell(&world, "Parcel.objects.create(name='d')").ok();
    world.receiver(&["rollback"]).ok().says("=====> live: 0/");
    assert_eq!(names(&world), "a,b,c,d");
    shell(&world, "Parcel.objects.create(name='e')").ok();
    assert_eq!(names(&world), "a,b,c,d,e");
}

#[test]
fn a_comment_in_a_migration_opens_no_version() {
    let world = live_project();
    let other =
        FIRST.replace("    initial = True\n", "    # The first.\n    initial = True\n").replace('\'', "\"");
    world.file("parcels/migrations/0001_initial.py", &other);
    world.commit("a comment");
    world.push().ok().says("=====> live: 0/").never_says("version 1");
    world.receiver(&["verify"]).ok();
}

#[test]
pub fn a_failing_migration_changes_nothing() {
    let world = live_project();
    let live = world.live().unwrap();
    let bad = migration(
        "0001_initial",
        "def fail(apps, schema_editor):\n    raise RuntimeError('no area for you')\n\n\n",
        "migrations.AddField('parcel', 'area', models.IntegerField(default=7)), migrations.RunPython(fail)",
    );
    world.file("parcels/migrations/0002_area.py", &bad);
    world.commit("the area");
    world.push().ok().says("no area for you").says("NOT LIVE: still 0/").says("syncdb");
    unchanged(&world, &live);
}

#[test]
fn a_migration_of_data_opens_a_version_and_its_rows_are_there() {
    let world = live_project();
    let code = "def up(apps, schema_editor):\n    Parcel = apps.get_model('parcels', 'Parcel')\n    \
        for parcel in Parcel.objects.all():\n        parcel.name = parcel.name.upper()\n        parcel.save()\n\n\n";
    world.file(
        "parcels/migrations/0002_upper.py",
        &migration("0001_initial", code, "migrations.RunPython(up)"),
    );
    world.commit("upper case");
    world.push().ok().says("the migration left the tables as they were").says("=====> live: 1/");
    assert_eq!(names(&world), "A,B,C");
    let old = Connection::open(world.database(0)).unwrap();
    let kept: String =
        old.query_row("SELECT group_concat(name) FROM parcels_parcel", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, "a,b,c");
}

#[test]
fn a_table_that_django_builds_anew_takes_no_fence_along_and_loses_none() {
    let world = live_project();
    for (number, before) in [(2, "0001_initial"), (3, "0002_longer"), (4, "0003_longer")] {
        // Debian's Django alters a column of SQLite by a new table, a copy, and a rename.
        let field = format!("models.CharField(max_length={})", 40 + number);
        let alter = format!("migrations.AlterField('parcel', 'name', {field})");
        world.file(&format!("parcels/migrations/000{number}_longer.py"), &migration(before, "", &alter));
        world.commit("longer names");
        world.push().ok().says(&format!("=====> live: {}/", number - 1));
        assert_eq!(names(&world), "a,b,c");
        shell(&world, "Parcel.objects.create(name='d').delete()").ok();
        let retired = Connection::open(world.database(number - 2)).unwrap();
        let said = retired.execute("DELETE FROM parcels_parcel", []).unwrap_err().to_string();
        assert!(said.contains(&format!("version {} of app is retired", number - 2)), "{said}");
    }
    // Neither does what notes the changes of one version come along into the next: it belongs to one table each.
    assert_eq!(value(&world, "SELECT count(*) FROM sqlite_schema WHERE name GLOB 'receiver_fence_*';"), "0");
    let noted = "SELECT count(*) FROM sqlite_schema WHERE name GLOB 'receiver_log_*' AND tbl_name = 'parcels_parcel';";
    assert_eq!(value(&world, noted), "3");
    world.receiver(&["rollback"]).ok().says("=====> live: 2/");
    assert_eq!(names(&world), "a,b,c");
}

#[test]
fn settings_that_ignore_the_database_are_told_the_line_to_write_and_nothing_changes() {
    let world = live_project();
    let live = world.live().unwrap();
    let elsewhere = world.place().join("elsewhere.sqlite3").display().to_string();
    // In the release, where each release would begin with an empty one; and outside of it.
    for name in ["os.path.join(BASE_DIR, 'db.sqlite3')".to_owned(), format!("'{elsewhere}'")] {
        let ignoring = SETTINGS
            .replace("os.environ.get('RECEIVER_DATABASE_NAME', os.path.join(BASE_DIR, 'db.sqlite3'))", &name);
        assert_ne!(ignoring, SETTINGS);
        world.file("site_/settings.py", &ignoring);
        let field = "migrations.AddField('parcel', 'area', models.IntegerField(default=7))";
        world.file("parcels/migrations/0002_area.py", &migration("0001_initial", "", field));
        world.commit("settings of my own");
        let said = world.push().ok().says("NOT LIVE: still 0/").says("in settings.py:");
        said.says("os.environ.get(\"RECEIVER_DATABASE_NAME\"");
        unchanged(&world, &live);
    }
}

#[test]
fn settings_that_write_the_live_database_by_its_path_are_caught() {
    let world = live_project();
    let live = world.live().unwrap();
    let path = world.database(0).display().to_string();
    world.file(
        "site_/settings.py",
        &SETTINGS.replace("os.environ.get('RECEIVER_DATABASE_NAME'", &format!("('{path}'")),
    );
    let text = world.laptop().join("site_/settings.py");
    let fixed =
        std::fs::read_to_string(&text).unwrap().replace(", os.path.join(BASE_DIR, 'db.sqlite3'))", ")");
    std::fs::write(text, fixed).unwrap();
    let field = "migrations.AddField('parcel', 'area', models.IntegerField(default=7))";
    world.file("parcels/migrations/0002_area.py", &migration("0001_initial", "", field));
    world.commit("a path");
    let said = world.push().ok().says("NOT LIVE: still 0/").says("syncdb changed the live database");
    said.says("in settings.py:");
    assert_eq!(world.live(), Some(live));
    assert_eq!(names(&world), "a,b,c");
}

#[test]
fn a_dependency_that_brings_a_migration_opens_a_version_and_one_that_brings_none_does_not() {
    let world = project();
    let installed = "'parcels'] + (['soils'] if os.path.isdir(os.path.join(BASE_DIR, 'soils')) else [])";
    world.file("site_/settings.py", &SETTINGS.replace("'parcels']", installed));
    // What a package index would hand out: outside of the tree, as a wheel is.
    let index = world.place().join("index");
    let build = format!(
        "[stages]\nbuild = \"sed -n s/==.*//p requirements.txt | grep -v Django | while read p; do cp -r {}/$p $p; done\"\n",
        index.display()
    );
    world.file("receiver.toml", &STAGES.replace("[stages]\n", &build));
    for (package, migrations) in [("soils", true), ("colours", false)] {
        let place = index.join(package);
        std::fs::create_dir_all(place.join("migrations")).unwrap();
        std::fs::write(place.join("__init__.py"), "").unwrap();
        if migrations {
            std::fs::write(place.join("migrations/__init__.py"), "").unwrap();
            std::fs::write(place.join("migrations/0001_initial.py"), FIRST.replace("Parcel", "Soil"))
                .unwrap();
        }
    }
    world.commit("parcels");
    world.push().ok().says("=====> live: 0/");
    shell(&world, "Parcel.objects.create(name='a')").ok();

    world.file("requirements.txt", "Django==3.2\ncolours==1\n");
    world.commit("colours");
    let said = world.push().ok().says("perhaps changed: requirements.txt: the framework is asked");
    said.says("nothing is pending").says("=====> live: 0/");

    world.file("requirements.txt", "Django==3.2\ncolours==1\nsoils==1\n");
    world.commit("soils");
    let said = world.push().ok().says("the framework is asked").says("something is pending");
    said.says("Applying soils.0001_initial... OK").says("=====> live: 1/");
    assert_eq!(names(&world), "a");
    assert_eq!(world.states(), ["live", "failed", "good", "good"]);
    let failed = world.list()["releases"][1]["id"].as_str().unwrap().to_owned();
    assert!(failed.starts_with("0/"), "{failed}");
    assert!(!world.app().join("versions").join(&failed).exists());
    // Nothing of the question is left.
    let rehearsals =
        std::process::Command::new("find").arg(world.app()).args(["-name", "question*"]).output();
    assert_eq!(String::from_utf8(rehearsals.unwrap().stdout).unwrap(), "");

    world.file("requirements.txt", "# Sorted.\nDjango==3.2\ncolours==1\nsoils==1\n");
    world.commit("a comment");
    world.push().ok().says("unchanged, version 1").says("=====> live: 1/");
}

#[test]
fn models_without_migrations_are_the_schema_where_there_are_none() {
    let world = project();
    std::fs::remove_dir_all(world.laptop().join("parcels/migrations")).unwrap();
    world.file("receiver.toml", &STAGES.replace("migrate --noinput", "migrate --noinput --run-syncdb"));
    world.commit("without migrations");
    world.push().ok().says("=====> live: 0/");
    shell(&world, "Parcel.objects.create(name='a')").ok();
    world.file("parcels/models.py", &format!("# The parcels.\n{MODELS}"));
    world.commit("a comment");
    world.push().ok().says("=====> live: 0/");
    let more = "\n\nclass Owner(models.Model):\n    name = models.CharField(max_length=40)\n";
    world.file("parcels/models.py", &format!("{MODELS}{more}"));
    world.commit("owners");
    world.push().ok().says("changed: parcels/models.py → version 1").says("=====> live: 1/");
    assert_eq!(names(&world), "a");
    assert_eq!(value(&world, "SELECT count(*) FROM parcels_owner;"), "0");
}

#[test]
fn a_command_of_a_person_runs_in_the_live_release_with_its_database_and_passes_its_code_on() {
    let world = live_project();
    let code = "import os; print(os.environ['DATABASE_URL'], os.getcwd())";
    let said = world.receiver(&["run", "app", "--", PYTHON, "manage.py", "shell", "-c", code]).ok();
    let place = world.app().join("versions").join(world.live().unwrap());
    assert_eq!(said.stdout.trim(), format!("sqlite:///{} {}", world.database(0).display(), place.display()));
    world.receiver(&["run", "app", "--", PYTHON, "-c", "raise SystemExit(7)"]).fails(7);
}
