//! Which framework a tree is made with, and the `receiver.toml` that suits it.
//!
//! One look serves the laptop's directory and the tree of a push: it sees only names, and runs nothing.

use std::fmt;

use super::settings::RelativePath;

/// What a tree is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framework {
    /// Django: `manage.py`.
    Django,
    /// Ruby on Rails: `bin/rails`.
    Rails,
    /// Laravel: `artisan`.
    Laravel,
    /// Node: `package.json`.
    Node,
    /// No framework, but SQL files at the top or in `db/`.
    PlainSql,
    /// A static site: `index.html` or `public/index.html`, and none of the above.
    Static,
    /// None of these.
    Unknown,
}

impl fmt::Display for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Framework::Django => "Django",
            Framework::Rails => "Rails",
            Framework::Laravel => "Laravel",
            Framework::Node => "Node",
            Framework::PlainSql => "plain SQL",
            Framework::Static => "static site",
            Framework::Unknown => "unknown framework",
        })
    }
}

/// What was seen in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it is made with.
    pub framework: Framework,
    /// Whether it has a `requirements.txt`.
    pub requirements: bool,
    /// Whether it has a `package-lock.json`.
    pub package_lock: bool,
    /// Its SQL files at the top and in `db/`, by name, `schema.sql` first; only those with plain names.
    pub sql: Vec<String>,
}

/// Looks at a tree. `names_in` lists the names in a directory of it, `""` for the top, and nothing where
/// there is no such directory; only the top, `bin`, `public` and `db` are asked for.
pub fn detect(names_in: &dyn Fn(&str) -> Vec<String>) -> Facts {
    let top = names_in("");
    let has = |name: &str| top.iter().any(|found| found == name);
    let has_below =
        |directory: &str, name: &str| has(directory) && names_in(directory).iter().any(|found| found == name);
    let mut sql: Vec<String> = top.iter().filter(|name| is_sql(name)).cloned().collect();
    if has("db") {
        sql.extend(names_in("db").iter().filter(|name| is_sql(name)).map(|name| format!("db/{name}")));
    }
    sql.sort_by_key(|path| (path.rsplit('/').next() != Some("schema.sql"), path.clone()));
    let framework = if has("manage.py") {
        Framework::Django
    } else if has_below("bin", "rails") {
        Framework::Rails
    } else if has("artisan") {
        Framework::Laravel
    } else if has("package.json") {
        Framework::Node
    } else if !sql.is_empty() {
        Framework::PlainSql
    } else if has("index.html") || has_below("public", "index.html") {
        Framework::Static
    } else {
        Framework::Unknown
    };
    Facts { framework, requirements: has("requirements.txt"), package_lock: has("package-lock.json"), sql }
}

/// A name from a push ends up in a file and on a terminal: only what means nothing to either is taken.
fn is_sql(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let stem = name.strip_suffix(".sql").unwrap_or_default();
    !stem.is_empty() && name.bytes().all(plain) && name.parse::<RelativePath>().is_ok()
}

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
    format!("{HEAD}{body}")
}

/// What a push is told whose tree has no `receiver.toml` though it needs one: the file to add, whole.
pub fn missing_file_advice(facts: &Facts) -> String {
    let seen = match facts.framework {
        Framework::Unknown => "and it is no static site".to_owned(),
        framework => format!("and looks like: {framework}"),
    };
    format!(
        "the tree has no receiver.toml, {seen}.\n\
         Add this as receiver.toml at the top of the repository (`receiver init` writes it), look it over,\n\
         commit and push again:\n\n{}",
        template(facts)
    )
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

fn django(facts: &Facts) -> String {
    let (python, build) = if facts.requirements {
        (
            ".venv/bin/python",
            "# The packages, in an environment of the release's own.
build = \"python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt\"
",
        )
    } else {
        ("python3", "# There is no requirements.txt, so nothing is built: the server's own python3 runs the application.
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

[shared]
# What outlives releases. Uploads, and a file of settings that is not in the repository.
#dirs = [\"uploads\"]
#files = [\".env\"]
";

#[cfg(test)]
mod tests {
    use super::super::settings::{Engine, Settings, StageName};
    use super::*;

    fn facts(paths: &[&str]) -> Facts {
        detect(&|directory| {
            let below = |path: &&str| {
                let rest = if directory.is_empty() {
                    path
                } else {
                    path.strip_prefix(directory)?.strip_prefix('/')?
                };
                rest.split('/').next().map(str::to_owned)
            };
            paths.iter().filter_map(below).collect()
        })
    }

    const TREES: &[(&[&str], Framework)] = &[
        (&["manage.py", "package.json", "index.html"], Framework::Django),
        (&["manage.py", "requirements.txt"], Framework::Django),
        (&["bin/rails", "package.json", "Gemfile"], Framework::Rails),
        (&["artisan", "composer.json", "package.json", "public/index.php"], Framework::Laravel),
        (&["package.json", "index.html"], Framework::Node),
        (&["package.json", "package-lock.json"], Framework::Node),
        (&["schema.sql", "index.html"], Framework::PlainSql),
        (&["db/b.sql", "db/a.sql", "db/schema.sql"], Framework::PlainSql),
        (&["index.html"], Framework::Static),
        (&["public/index.html", "README"], Framework::Static),
        (&["README", "src/manage.py", "private/index.html"], Framework::Unknown),
        (&[], Framework::Unknown),
    ];

    #[test]
    fn a_framework_is_known_by_its_files() {
        for (paths, framework) in TREES {
            assert_eq!(facts(paths).framework, *framework, "{paths:?}");
        }
    }

    #[test]
    fn every_template_loads_with_and_without_its_commented_settings() {
        for (paths, framework) in TREES {
            let text = template(&facts(paths));
            let settings = Settings::load(Some(text.as_bytes()), None, "server").unwrap();
            assert!(
                settings.database.engine_said,
                "{framework}: a push with this file must not be refused for it"
            );
            assert_eq!(settings.not_in_force_yet(), Vec::<String>::new());
            let line = |line: &str| match line.strip_prefix('#') {
                Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => {
                    format!("{setting}\n")
                }
                _ => format!("{line}\n"),
            };
            let all: String = text.lines().map(line).collect();
            let loaded = Settings::load(Some(all.as_bytes()), None, "server");
            assert!(loaded.is_ok(), "{framework}: {loaded:?}\n{all}");
        }
    }

    #[test]
    fn django_has_an_environment_only_where_packages_are_named() {
        let load = |paths: &[&str]| {
            Settings::load(Some(template(&facts(paths)).as_bytes()), None, "server").unwrap()
        };
        let with = load(&["manage.py", "requirements.txt"]);
        assert!(with.stage(StageName::Build).is_some());
        assert_eq!(with.database.engine, Engine::Sqlite);
        let without = load(&["manage.py"]);
        assert!(without.stage(StageName::Build).is_none());
        assert!(without.stage(StageName::Syncdb).is_some());
    }

    #[test]
    fn sql_files_come_in_order_and_only_with_plain_names() {
        let found = facts(&["db/b.sql", "db/a.sql", "db/schema.sql", "x\"]\n.sql", ".sql", "a b.sql"]);
        assert_eq!(found.sql, ["db/schema.sql", "db/a.sql", "db/b.sql"]);
    }

    #[test]
    fn the_advice_is_the_whole_file() {
        let django = facts(&["manage.py"]);
        let advice = missing_file_advice(&django);
        assert!(advice.starts_with("the tree has no receiver.toml, and looks like: Django.\n"), "{advice}");
        assert!(advice.ends_with(&template(&django)));
        assert!(!advice.contains(|c: char| c != '\n' && c.is_control()));
    }
}
