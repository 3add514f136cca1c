//! What is recorded of a revision's schema: which files hold it, and the ids of their contents.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use super::{Detector, Said, TreeFile, frameworks};
use crate::support::{Context, Result};

/// The schema of a revision, as far as files tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// How it was found.
    pub detector: Detector,
    /// A hash of what `[schema] command` printed: filled in by the deploy that ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_output: Option<String>,
    /// The files that hold the schema, by escaped path: the id of the content, after `link:` if it is
    /// a symlink.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// The lockfiles of dependencies that may bring migrations, in the same way.
    #[serde(default)]
    pub lockfiles: BTreeMap<String, String>,
}

/// What the id of a symlink begins with in a [`Fingerprint`].
pub(super) const LINK: &str = "link:";

/// The fingerprint of a revision. The only error is a glob that is none.
pub fn fingerprint<'a>(tree: impl Iterator<Item = TreeFile<'a>>, said: &Said) -> Result<Fingerprint> {
    let tree: Vec<TreeFile> = tree.collect();
    let mut fingerprint = match (said.command, said.paths) {
        (Some(_), _) => record(Detector::Command, vec![], vec![]),
        (None, None) => {
            let found = frameworks::find(&tree)?;
            record(found.detector, found.files, found.lockfiles)
        }
        (None, Some(globs)) => {
            let globs = glob_set(globs)?;
            let matches = |file: &TreeFile| globs.is_match(OsStr::from_bytes(file.path));
            let files = tree.iter().copied().filter(matches).collect();
            // Which files are the schema is said; that dependencies may bring more of it stays true.
            record(Detector::Paths, files, frameworks::find(&tree)?.lockfiles)
        }
    };
    fingerprint.files.extend(by_path(tree.into_iter().filter(|file| is_named(file, said))));
    if fingerprint.detector == Detector::None && !fingerprint.files.is_empty() {
        fingerprint.detector = Detector::Sql;
    }
    Ok(fingerprint)
}

fn record(detector: Detector, files: Vec<TreeFile>, lockfiles: Vec<TreeFile>) -> Fingerprint {
    Fingerprint { detector, command_output: None, files: by_path(files), lockfiles: by_path(lockfiles) }
}

fn by_path<'a>(files: impl IntoIterator<Item = TreeFile<'a>>) -> BTreeMap<String, String> {
    let entry = |file: TreeFile| {
        let link = if file.is_link { LINK } else { "" };
        (escape(file.path), format!("{link}{}", file.oid))
    };
    files.into_iter().map(entry).collect()
}

/// Whether a stage names the file: a `sql` stage, or the text of `syncdb`, from whatever directory it
/// does so (`cd db && psql -f tables.sql`).
fn is_named(file: &TreeFile, said: &Said) -> bool {
    let by_stage = |named: &String| named.trim_start_matches("./").as_bytes() == file.path;
    let in_text = |text: &str| {
        let path = std::str::from_utf8(file.path).ok();
        path.and_then(|path| path.rsplit('/').next()).is_some_and(|name| text.contains(name))
    };
    said.sql.iter().any(by_stage) || (frameworks::is_sql(file.path) && said.syncdb.is_some_and(in_text))
}

/// Globs as in settings: `*` stays in its directory, `**` does not.
fn glob_set(globs: &[String]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let built = GlobBuilder::new(glob.trim_start_matches("./")).literal_separator(true).build();
        set.add(built.context(|| format!("'{}' in [schema] paths is not a glob", glob.escape_default()))?);
    }
    set.build().context(|| "the globs of [schema] paths are too many or too large")
}

/// A path as text that is safe to store and to print, and different for different paths: control
/// characters, backslashes and whatever is not UTF-8 as `\xNN`.
fn escape(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                let mut buffer = [0; 4];
                escape_bytes(&mut text, character.encode_utf8(&mut buffer).as_bytes());
            } else {
                text.push(character);
            }
        }
        escape_bytes(&mut text, chunk.invalid());
    }
    text
}

fn escape_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02x}"); // to a String: cannot fail
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn print(paths: &[&str], said: &Said) -> Fingerprint {
        let file = |path: &&'static str| TreeFile { path: path.as_bytes(), oid: &"1", is_link: false };
        let paths: Vec<&'static str> = paths.iter().map(|path| &*path.to_string().leak()).collect();
        fingerprint(paths.iter().map(file), said).unwrap()
    }

    fn files(fingerprint: &Fingerprint) -> Vec<&str> {
        fingerprint.files.keys().map(String::as_str).collect()
    }

    #[test]
    fn paths_of_the_settings_replace_what_would_be_found() {
        let globs = ["tables/**/*.txt".to_owned(), "./top.*".to_owned()];
        let said = Said { paths: Some(&globs), ..Said::default() };
        let tree =
            ["manage.py", "shop/migrations/0001.py", "tables/a.txt", "tables/b/c.txt", "top.x", "a/top.x"];
        let found = print(&tree, &said);
        assert_eq!(found.detector, Detector::Paths);
        assert_eq!(files(&found), ["tables/a.txt", "tables/b/c.txt", "top.x"]);
    }

    #[test]
    fn paths_of_the_settings_keep_the_lockfiles_of_the_framework() {
        let globs = ["**/migrations/*.py".to_owned()];
        let said = Said { paths: Some(&globs), ..Said::default() };
        let found = print(&["manage.py", "a/migrations/0001.py", "requirements.txt"], &said);
        assert!(found.lockfiles.contains_key("requirements.txt"));
    }

    #[test]
    fn a_glob_that_is_none_is_named() {
        let globs = ["a[".to_owned()];
        let said = Said { paths: Some(&globs), ..Said::default() };
        let error = fingerprint(std::iter::empty(), &said).unwrap_err();
        assert_eq!(error.to_string(), "'a[' in [schema] paths is not a glob");
    }

    #[test]
    fn sql_that_a_stage_names_always_counts() {
        let sql = ["./setup/all.sql".to_owned()];
        let tree = ["manage.py", "shop/migrations/0001.py", "setup/all.sql", "setup/more.sql", "docs/x.sql"];
        let said = Said { sql: &sql, syncdb: Some("cd setup && psql -f more.sql"), ..Said::default() };
        let found = print(&tree, &said);
        assert_eq!(found.detector, Detector::Django);
        assert_eq!(files(&found), ["setup/all.sql", "setup/more.sql", "shop/migrations/0001.py"]);

        let found = print(&["setup/all.sql"], &said);
        assert_eq!((found.detector, files(&found)), (Detector::Sql, vec!["setup/all.sql"]));

        let said = Said { command: Some("./schema"), ..said };
        let found = print(&tree, &said);
        assert_eq!((found.detector, files(&found).len()), (Detector::Command, 2));
    }

    #[test]
    fn a_fingerprint_survives_its_record() {
        let tree = [
            TreeFile { path: b"manage.py", oid: &"1", is_link: false },
            TreeFile { path: b"a\xff \"b\"/migrations/0001\n.py", oid: &"2", is_link: true },
            TreeFile { path: b"requirements.txt", oid: &"3", is_link: false },
        ];
        let mut print = fingerprint(tree.into_iter(), &Said::default()).unwrap();
        print.command_output = Some("4".to_owned());
        let text = toml::to_string(&print).unwrap();
        assert!(text.contains(r#"'a\xff "b"/migrations/0001\x0a.py' = "link:2""#), "{text}");
        assert_eq!(toml::from_str::<Fingerprint>(&text).unwrap(), print);
    }

    fn unescape(text: &str) -> Vec<u8> {
        let mut parts = text.split('\\');
        let mut path = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            path.push(u8::from_str_radix(&part[1..3], 16).unwrap());
            path.extend(part[3..].bytes());
        }
        path
    }

    proptest! {
        #[test]
        fn an_escaped_path_can_be_told_from_every_other(path: Vec<u8>, text: String) {
            for path in [path, text.into_bytes()] {
                let escaped = escape(&path);
                prop_assert!(!escaped.contains(char::is_control));
                prop_assert_eq!(unescape(&escaped), path);
            }
        }
    }
}
