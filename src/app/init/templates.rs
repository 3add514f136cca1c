//! The texts of `receiver init`: a `receiver.toml` for each framework, in which every choice is explained.

use super::{Facts, Framework};

/// A `receiver.toml` for that tree, in which every choice is explained.
pub fn template(facts: &Facts) -> String {
    let body = match facts.framework {
        Framework::Django => django(facts),
        Framework::Rails => RAILS.to_owned(),
        Framework::Laravel => LARAVEL.to_owned(),
        Framework::Node => node(facts),
        Framework::PlainSql => plain_sql(facts),
        Framework::Static => STATIC.to_owned(),
        Framework::Unknown => UNKNOWN.to_owned(),
    };
    format!("{HEAD}{}", body.replace("[web]\n", WEB))
}

const HEAD: &str = "\
# What receiver does with a push. Lines that begin with # and no blank are settings that you may want.
format = 1

";

/// For trees whose framework keeps its data in a database of receiver's.
const SQLITE: &str = "\
[database]
# Each version of the schema has a database of its own, a copy of the one before; stages find it in
# DATABASE_URL, and the application must use that. \"none\" where the data is the application's own affair.
engine = \"sqlite\"
";

/// How every table of the web process begins.
const WEB: &str = "\
[web]
# What answers requests: started before the switch, and asked; a release that does not answer never goes
# live. Without it no process runs.
";

fn django(facts: &Facts) -> String {
    let wsgi = facts.wsgi.as_deref().unwrap_or("project");
    let (python, where_from, build) = if facts.requirements {
        (
            ".venv/bin/python",
            "among the packages",
            "# The packages, in an environment of the release's own.
build = \"python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt\"
",
        )
    } else {
        ("python3", "of the server's python3", "# There is no requirements.txt, so nothing is built: the server's own python3 runs the application.
#build = \"python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt\"
")
    };
    format!(
        "\
[stages]
{build}
# The static files, if the settings have a STATIC_ROOT.
#assets = \"{python} manage.py collectstatic --noinput\"

# Only when the migrations changed: a new version opens, and this makes its schema.
syncdb = \"{python} manage.py migrate --noinput\"

# Before the switch, every time: a release that fails here never goes live.
check = \"{python} manage.py check\"

{SQLITE}
[web]
# With gunicorn {where_from}:
#command = \"exec {python} -m gunicorn --workers 2 --bind unix:$RECEIVER_SOCKET {wsgi}.wsgi\"

# What nginx serves itself: here the STATIC_URL and the STATIC_ROOT of the settings.
#static = {{ \"/static\" = \"static\" }}

[shared]
# What outlives releases. Uploads, if the settings have a MEDIA_ROOT; and a file of settings that is not in
# the repository.
#dirs = [\"media\"]
#files = [\".env\"]
"
    )
}

const RAILS: &str = "\
[stages]
# The gems, in the release itself.
build = \"bundle config set --local path vendor/bundle && bundle install --quiet\"

# The static files.
assets = \"bin/rails assets:precompile\"

# Only when the migrations changed: a new version opens, and this makes its schema.
syncdb = \"bin/rails db:migrate\"

# Before the switch, every time: a release that fails here never goes live.
check = \"bin/rails runner true\"

[database]
# Each version of the schema has a database of its own, a copy of the one before; stages find it in
# DATABASE_URL, which Rails uses by itself. \"none\" where the data is the application's own affair.
engine = \"sqlite\"

[web]
# Puma is among the gems of a new application:
#command = \"exec bundle exec puma -e production -b unix://$RECEIVER_SOCKET\"

# What nginx serves itself: files of public/, and what is not there is the application's to answer.
#static = { \"/\" = \"public\" }

[shared]
# What outlives releases. Uploads, and the key of the credentials: `receiver put APP config/master.key`.
#dirs = [\"storage\"]
#files = [\"config/master.key\"]
";

const LARAVEL: &str = "\
[stages]
# The packages.
build = \"composer install --no-dev --no-interaction --quiet\"

# Only when the migrations changed: a new version opens, and this makes its schema.
syncdb = \"php artisan migrate --force\"

# Before the switch, every time: a release that fails here never goes live.
check = \"php artisan about\"

[database]
# Each version of the schema has a database of its own, a copy of the one before; stages find it in
# RECEIVER_DATABASE_NAME and DATABASE_URL, and config/database.php must use that. \"none\" where the data is
# the application's own affair.
engine = \"sqlite\"

[web]
# With Debian's uwsgi and uwsgi-plugin-php:
#command = \"exec uwsgi --plugin 0:php --php-docroot $PWD/public --php-app $PWD/public/index.php --socket $RECEIVER_SOCKET --chmod-socket=666 --master --processes 4 --die-on-term\"
#protocol = \"uwsgi\"

# What nginx serves itself. Not all of public/: that has programs, too.
#static = { \"/build\" = \"public/build\", \"/favicon.ico\" = \"public/favicon.ico\" }

[shared]
# What outlives releases. Uploads, and a file of settings that is not in the repository.
#dirs = [\"storage/app\"]
#files = [\".env\"]
";

fn node(facts: &Facts) -> String {
    let install = if facts.package_lock { "npm ci" } else { "npm install" };
    format!(
        "\
[stages]
# The packages.
build = \"{install}\"

# What the packages make of the sources, if package.json has a script for it.
assets = \"npm run --if-present build\"

# Before the switch, every time: a release that fails here never goes live.
#check = \"npm test\"

# Only when the schema changed: a new version opens, and this makes its schema.
#syncdb = \"npx prisma migrate deploy\"

[database]
# none: the data is the application's own affair. With \"sqlite\" each version of the schema has a database
# of its own, a copy of the one before, which stages find in DATABASE_URL.
engine = \"none\"

[web]
# It stays in the foreground, ends on SIGTERM, and listens on the socket $RECEIVER_SOCKET:
# server.listen(process.env.RECEIVER_SOCKET) in Node.
#command = \"exec node server.js\"

# What nginx serves itself: paths on the web, and directories of the release.
#static = {{ \"/assets\" = \"assets\" }}

[shared]
# What outlives releases. Uploads, and a file of settings that is not in the repository.
#dirs = [\"uploads\"]
#files = [\".env\"]
"
    )
}

fn plain_sql(facts: &Facts) -> String {
    let files = facts.sql.iter().map(|path| format!("\"{path}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "\
[stages]
# Only when these files changed: a new version opens, and receiver runs them in this order. They find a copy
# of the data of the version before, so `CREATE TABLE IF NOT EXISTS` is what they need; or see carry.
syncdb = {{ sql = [{files}] }}

# Before the switch, every time: a release whose command fails here never goes live.
#check = \"make check\"

[schema]
# The files that open a version when they change.
paths = [{files}]

{SQLITE}
# How a version begins: with a copy of the data of the one before, or empty, for syncdb to make the schema and
# a migration stage to bring the data.
#carry = \"empty\"

[web]
# It stays in the foreground, ends on SIGTERM, and listens on the socket $RECEIVER_SOCKET.
#command = \"exec ./server\"

# What nginx serves itself: paths on the web, and directories of the release.
#static = {{ \"/assets\" = \"assets\" }}
"
    )
}

const STATIC: &str = "\
[stages]
# A static site needs none. A command here makes the site from its sources.
#build = \"make site\"

[database]
# No database.
engine = \"none\"

# No [web]: nginx serves public/ where only that has an index.html, or else all files, but dotfiles and this one.
# `receiver config APP domain …`, and after a push `receiver config APP --site --install`, on the server.
";

const UNKNOWN: &str = "\
[stages]
# Makes the release: dependencies, compiled programs.
#build = \"make\"

# Only when the schema changed: a new version opens, and this makes its schema.
#syncdb = \"make schema\"

# Before the switch, every time: a release that fails here never goes live.
#check = \"make check\"

[schema]
# The files that open a version when they change.
#paths = [\"**/migrations/*\"]

[database]
# none: the data is the application's own affair. With \"sqlite\" each version of the schema has a database
# of its own, a copy of the one before, which stages find in DATABASE_URL.
engine = \"none\"

[web]
# It stays in the foreground, ends on SIGTERM, and listens on the socket $RECEIVER_SOCKET.
#command = \"exec ./server\"

# What nginx serves itself: paths on the web, and directories of the release.
#static = { \"/assets\" = \"assets\" }

[shared]
# What outlives releases. Uploads, and a file of settings that is not in the repository.
#dirs = [\"uploads\"]
#files = [\".env\"]
";
