//! A Django project on MariaDB that is pushed with Mercurial, over a real cable, to a server that `receiver setup` made:
//! the account of the push and the worker's are two, and both write to the repository.

use crate::django::{FIRST, MODELS};
use crate::setup::Site;
use crate::world::Said;

const SETTINGS: &str = "import os\n\
    SECRET_KEY = 'of a test'\nALLOWED_HOSTS = ['*']\nROOT_URLCONF = 'site_.urls'\n\
    INSTALLED_APPS = ['django.contrib.contenttypes', 'parcels']\n\
    DEFAULT_AUTO_FIELD = 'django.db.models.AutoField'\n\
    DATABASES = {'default': {'ENGINE': 'django.db.backends.mysql',\n    \
    'NAME': os.environ['RECEIVER_DATABASE_NAME'], 'USER': os.environ['RECEIVER_DATABASE_USER'],\n    \
    'PASSWORD': os.environ['RECEIVER_DATABASE_PASSWORD'], 'HOST': os.environ['RECEIVER_DATABASE_SOCKET']}}\n";

const MANAGE: &str = "import os, sys\n\
    sys.dont_write_bytecode = True\n\
    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site_.settings')\n\
    from django.core.management import execute_from_command_line\n\
    execute_from_command_line(sys.argv)\n";

const WSGI: &str = "import os\n\
    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site_.settings')\n\
    from django.core.wsgi import get_wsgi_application\n\
    application = get_wsgi_application()\n";

/// Every parcel, `NAME AREA` where there is one; `?add=NAME` adds one.
const URLS: &str = "import os\n\
    from django.http import HttpResponse\n\
    from django.urls import path\n\
    from parcels.models import Parcel\n\n\n\
    def parcels(request):\n    \
    if 'add' in request.GET:\n        Parcel.objects.create(name=request.GET['add'])\n    \
    names = [' '.join(str(part) for part in row[1:]) for row in Parcel.objects.order_by('id').values_list()]\n    \
    return HttpResponse(os.environ['RECEIVER_VERSION'] + ': ' + ', '.join(names))\n\n\n\
    urlpatterns = [path('', parcels)]\n";

const AREA: &str = "from django.db import migrations, models\n\n\n\
    class Migration(migrations.Migration):\n    dependencies = [('parcels', '0001_initial')]\n    \
    operations = [migrations.AddField('parcel', 'area', models.IntegerField(default=7))]\n";

const STAGES: &str = "[stages]\nsyncdb = \"/usr/bin/python3 manage.py migrate --noinput\"\n\
    [web]\ncommand = \"exec gunicorn --bind unix:$RECEIVER_SOCKET site_.wsgi\"\nsettle = \"100ms\"\n";

pub const SETUP: &str =
    "receiver setup app --vcs hg --domain app.example --database mysql --key /root/key.pub 2>&1";

/// What the project needs of a server besides receiver.
pub const NEEDS: &str = "apt-get update -qq; apt-get install -qq -y --no-install-recommends python3-django python3-mysqldb gunicorn \
     >/dev/null 2>&1";

/// A fresh server, and a laptop with the project in a repository of Mercurial's.
pub fn site() -> Site {
    let site = Site::new();
    site.dev("printf '[ui]\\nusername = Ada <a@b.c>\\nssh = %s\\n' \"$GIT_SSH_COMMAND\" > .hgrc; rm -rf app; hg init app")
        .ok();
    for (name, text) in [
        ("manage.py", MANAGE),
        ("receiver.toml", STAGES),
        ("site_/__init__.py", ""),
        ("site_/settings.py", SETTINGS),
        ("site_/urls.py", URLS),
        ("site_/wsgi.py", WSGI),
        ("parcels/__init__.py", ""),
        ("parcels/models.py", MODELS),
        ("parcels/migrations/__init__.py", ""),
        ("parcels/migrations/0001_initial.py", FIRST),
    ] {
        site.file(name, text);
    }
    site.sh(NEEDS).ok();
    site
}

impl Site {
    pub fn hg_push(&self, subject: &str) -> Said {
        self.dev(&format!(
            "cd app; hg addremove --quiet; hg commit --message '{subject}'; hg push -b default production 2>&1"
        ))
    }

    /// A schema change.
    pub fn hg_push_area(&self) -> Said {
        self.file("parcels/models.py", &format!("{MODELS}    area = models.IntegerField(default=7)\n"));
        self.file("parcels/migrations/0002_area.py", AREA);
        self.hg_push("the area")
    }

    /// What the application answers through nginx, over the cable.
    pub fn parcels(&self, query: &str) -> String {
        let resolve = "--resolve app.example:80:192.0.2.2";
        self.dev(&format!("curl --silent --max-time 10 {resolve} 'http://app.example/{query}'")).stdout
    }

    /// Types on the laptop what setup said to type there, as it stands.
    pub fn hg_paste(&self, said: &Said) {
        let path =
            said.stdout.lines().find(|line| line.starts_with("  production = ")).expect("what to type");
        self.dev(&format!("printf '[paths]\\n%s\\n' '{}' > app/.hg/hgrc", path.trim())).ok();
    }

    #[track_caller]
    pub fn shows(&self, wanted: &str) {
        self.until(&format!("{wanted:?}"), || self.parcels("") == wanted);
    }
}

#[test]
fn a_django_project_on_mariadb_is_deployed_by_hg_push_on_a_server_that_setup_made() {
    let site = site();
    site.sh(&SETUP.replace(" 2>&1", " --dry-run"))
        .ok()
        .says("packages   git nginx mariadb-server mariadb-client mercurial");
    let said = site.sh(SETUP).ok().says("made      app        /srv/app").says("deploy (repo.hg)");
    let said = said.says("  hg push -b default production");
    site.sh(SETUP).ok().says("nothing was changed");
    site.sh("receiver setup app 2>&1")
        .ok()
        .says("nothing was changed")
        .says("  hg push -b default production");
    site.sh("receiver setup app --vcs git 2>&1")
        .fails(1)
        .says("app is there already, and is pushed to with hg");
    site.hg_paste(&said);

    site.hg_push("parcels").ok().says("remote: -----> app: default new..").says("remote: =====> live: 0/");
    site.shows("0: ");
    site.parcels("?add=a");
    site.shows("0: a");
    site.sh("receiver doctor app 2>&1").ok();
    site.dev("cd app; echo '# Nothing.' >> parcels/models.py; hg commit -m plan; hg push --pushvars RECEIVER_PLAN=1 production")
        .fails(255)
        .says("this was only the plan");

    // A schema change opens a version with its data; what is entered there comes along at a rollback.
    site.hg_push_area().ok().says("0002_area.py → version 1").says("remote: =====> live: 1/");
    site.shows("1: a 7");
    site.parcels("?add=b");
    site.shows("1: a 7, b 7");
    site.ssh("rollback app").ok().says("=====> live: 0/");
    site.shows("0: a, b");
    let history = site.ssh("history app").ok();
    assert!(history.stdout.contains("admin"), "the journal names the key: {}", history.stdout);
    let parts = site.sh("receiver backup app > /root/app.tar && tar -tf /root/app.tar").ok();
    parts.says("repo.bundle").says("bookmarks").says("dumps/app_v0");
    the_store_is_of_both(&site);
    site.sh("receiver setup app --undo --data 2>&1").ok();
    site.sh("[ ! -e /srv/app ] && ! id app-app").ok();
}

/// What is kept of the files is written by the account that is pushed to, and by receiver's, whoever made it.
fn the_store_is_of_both(site: &Site) {
    let store = "/srv/app/repo.hg/.hg/receiver/objects.git";
    let owner = || site.sh(&format!("stat -c %U {store}")).ok().stdout;
    assert_eq!(owner(), "deploy\n");
    site.sh(&format!("rm -r {store}; receiver verify app 2>&1")).ok();
    assert_eq!(owner(), "receiver\n");
    // More than is left lying loose: receiver packs it, and throws the pushing account's files away.
    for n in 0..2100 {
        site.file(&format!("many/{n}"), &format!("{n}\n"));
    }
    site.hg_push("many").ok().says("remote: =====> live: 1/");
    let loose = || site.sh(&format!("find {store}/objects -path '*/??/*' -type f | wc -l")).ok().stdout;
    site.until("the objects to be packed", || loose() == "0\n");
    site.file("many/0", "other\n");
    site.hg_push("one of them").ok().says("remote: =====> live: 1/");
    site.sh("receiver verify app 2>&1; receiver doctor app 2>&1").ok();
    site.sh(&format!("rm -r {store}")).ok();
    site.file("many/1", "other\n");
    site.hg_push("another of them").ok().says("remote: =====> live: 1/");
    assert_eq!(owner(), "deploy\n");
}

#[test]
fn a_named_branch_and_a_bookmark_are_previews_with_users_of_their_own_and_go_when_they_end() {
    let site = site();
    let said = site.sh(SETUP).ok();
    site.hg_paste(&said);
    site.sh("printf '[branches]\n\"feature/*\" = { preview = true, data = \"copy\" }\n' >> /srv/app/receiver.toml").ok();
    site.hg_push("parcels").ok().says("remote: =====> live: 0/");
    site.shows("0: ");
    site.parcels("?add=a");
    let of =
        |slug: &str, wanted: &str| site.until_page_of(&format!("feature-{slug}.app.example"), "/", wanted);

    // A named branch, and a schema change there, which opens a version there alone.
    let push = |arguments: &str| site.dev(&format!("cd app; hg addremove --quiet; {arguments} 2>&1"));
    let pushed =
        push("hg branch --quiet feature/x; hg commit -m x; hg push --new-branch -b feature/x production")
            .ok();
    pushed
        .says("app--feature-x, with a user of its own, for feature/x")
        .says("url: http://feature-x.app.example/")
        .says("=====> live: 0/");
    of("x", "0: a");
    site.file("parcels/models.py", &format!("{MODELS}    area = models.IntegerField(default=7)\n"));
    site.file("parcels/migrations/0002_area.py", AREA);
    push("hg commit -m area; hg push -b feature/x production").ok().says("=====> live: 1/");
    of("x", "1: a 7");
    site.shows("0: a");
    // The deployed branch goes on beside it, and a bookmark on a head of its own begins where it was before.
    push("hg update --quiet --clean default; echo z > z.txt; hg add --quiet z.txt; hg commit -m z; hg push -b default production")
        .ok()
        .says("=====> live: 0/");
    let bookmark = "hg update --quiet --clean '.^'; hg bookmark feature/y; echo y > y.txt; hg add --quiet y.txt; hg commit -m y; \
                    hg push -B feature/y production";
    push(bookmark).ok().says("app--feature-y, with a user of its own").says("=====> live: 0/");
    of("y", "0: a");
    site.sh("[ -e /srv/app--feature-y/current/y.txt ] && [ -e /srv/app/current/z.txt ] && [ ! -e /srv/app/current/y.txt ]").ok();
    site.sh(
        "receiver verify app--feature-x; receiver verify app--feature-y; receiver doctor app--feature-x 2>&1",
    )
    .ok();
    let strange = "find /srv/app--* ! -user receiver ! -user deploy ! -user app-app--feature-x ! -user app-app--feature-y";
    assert_eq!(site.sh(strange).ok().stdout, "", "something is root's, or its parent's");
    site.ssh("rollback app--feature-x").ok().says("=====> live: 0/");
    // Each goes as its branch does.
    push("hg update --quiet --clean feature/x; hg commit --close-branch -m end; hg push -b feature/x production")
        .ok()
        .says("removed: app--feature-x with its data");
    site.until_nothing_of("app--feature-x");
    // The head of a bookmark that is gone counts for its branch again.
    push("hg update --quiet --clean feature/y; hg bookmark --delete feature/y; hg push -B feature/y production")
        .fails(255)
        .says("refused: default: default has 2 heads");
    push("hg commit --close-branch -m end; hg push -b default -B feature/y production")
        .ok()
        .says("removed: app--feature-y with its data");
    site.until_nothing_of("app--feature-y");
    assert_eq!(site.sh("mariadb -Ne 'SHOW DATABASES' | grep ^app__").stdout, "");
    site.shows("0: a");
    site.sh("receiver doctor app 2>&1; receiver verify app").ok();
}
