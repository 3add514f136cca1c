//! Which framework a tree is made with, and the `receiver.toml` that suits it.
//!
//! One look serves the laptop's directory and the tree of a push: it sees only names, and runs nothing.

mod templates;

use std::fmt;

use super::settings::RelativePath;

pub use templates::template;

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
    /// The directory at the top that alone has a `wsgi.py`, where it is a name of Python's.
    pub wsgi: Option<String>,
}

/// How many directories at the top are looked into for a `wsgi.py`.
const MOST_DIRECTORIES: usize = 64;

/// Looks at a tree. `names_in` lists the names in a directory of it, `""` for the top, and nothing where
/// there is no such directory; only the top, `bin`, `public` and `db` are asked for, and for Django what else
/// is at the top.
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
    let wsgi = if framework == Framework::Django { wsgi(&top, names_in) } else { None };
    let (requirements, package_lock) = (has("requirements.txt"), has("package-lock.json"));
    Facts { framework, requirements, package_lock, sql, wsgi }
}

fn wsgi(top: &[String], names_in: &dyn Fn(&str) -> Vec<String>) -> Option<String> {
    let mut found = top
        .iter()
        .filter(|name| is_module(name))
        .take(MOST_DIRECTORIES)
        .filter(|name| names_in(name).iter().any(|file| file == "wsgi.py"));
    let first = found.next()?;
    if found.next().is_some() { None } else { Some(first.clone()) }
}

/// Whether Python can import it by this name; and a name from a push ends up in a file and on a terminal.
fn is_module(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty()
}

/// A name from a push ends up in a file and on a terminal: only what means nothing to either is taken.
fn is_sql(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let stem = name.strip_suffix(".sql").unwrap_or_default();
    !stem.is_empty() && name.bytes().all(plain) && name.parse::<RelativePath>().is_ok()
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
            let line = |line: &str| match line.strip_prefix('#') {
                Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => {
                    format!("{setting}\n")
                }
                _ => format!("{line}\n"),
            };
            let all: String = text.lines().map(line).collect();
            let loaded = Settings::load(Some(all.as_bytes()), None, "server");
            let loaded = loaded.unwrap_or_else(|error| panic!("{framework}: {error:?}\n{all}"));
            assert_eq!(loaded.web.command.is_some(), *framework != Framework::Static, "{framework}");
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
    fn django_is_served_by_the_module_that_its_tree_has() {
        let wsgi = |paths: &[&str]| facts(paths).wsgi;
        assert_eq!(wsgi(&["manage.py", "notes/views.py", "site_/wsgi.py"]).as_deref(), Some("site_"));
        assert!(template(&facts(&["manage.py", "site_/wsgi.py"])).contains(" site_.wsgi\"\n"));
        // Two of them, or a name that Python could not import or that is a trap: somebody else has to say it.
        assert_eq!(wsgi(&["manage.py", "a/wsgi.py", "b/wsgi.py"]), None);
        assert_eq!(wsgi(&["manage.py", "x\"]\n/wsgi.py", "$(reboot)/wsgi.py", "1/wsgi.py"]), None);
        assert_eq!(wsgi(&["site_/wsgi.py", "package.json"]), None);
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
