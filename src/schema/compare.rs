//! Whether two fingerprints are the same schema, and which files decide it.

use std::collections::{BTreeMap, BTreeSet};

use super::fingerprint::LINK;
use super::tokens::Language;
use super::{Detector, Fingerprint, Question, Said, question};
use crate::support::Result;

/// Whether the schema is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is the same.
    No,
    /// It is another, or may be: a version opens.
    Yes,
    /// Files cannot tell: the answer decides.
    Ask(Question),
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content differs.
    Edited,
}

/// A file that two revisions do not share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDifference {
    /// Its path, escaped: safe to print.
    pub path: String,
    /// What happened to it.
    pub kind: Kind,
}

/// What [`compare`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The verdict.
    pub changed: Changed,
    /// The files that decided it: of the schema, or the lockfiles where the framework is to be asked.
    pub files: Vec<FileDifference>,
    /// Files that were edited and say the same as before.
    pub noise: Vec<String>,
}

/// Compares what the live version recorded with what a revision has. `read` gives the content of an
/// object; it is called only for files that were edited and whose language is known. `said` are the
/// settings of the new one: they tell whether there is anybody to ask.
pub fn compare(
    old: &Fingerprint,
    new: &Fingerprint,
    said: &Said,
    read: &mut dyn FnMut(&str) -> Result<Vec<u8>>,
) -> Result<Difference> {
    let mut noise = Vec::new();
    let files =
        differences(&old.files, &new.files, &mut noise, &mut |path, old, new| match Language::of(path) {
            Some(language) => Ok(language.same(&read(old)?, &read(new)?)),
            None => Ok(false),
        })?;
    if old.detector != new.detector || !files.is_empty() {
        return Ok(Difference { changed: Changed::Yes, files, noise });
    }
    let Some(question) = question(new.detector, said) else {
        return Ok(Difference { changed: Changed::No, files, noise });
    };
    let files = differences(&old.lockfiles, &new.lockfiles, &mut noise, &mut |path, old, new| {
        // A list of requirements, one on each line; the others are made by programs.
        Ok(path.rsplit_once('.').is_some_and(|(_, end)| end == "txt") && same_list(&read(old)?, &read(new)?))
    })?;
    // What a command prints is known only when it has run.
    let ask = !files.is_empty() || new.detector == Detector::Command;
    let changed = if ask { Changed::Ask(question) } else { Changed::No };
    Ok(Difference { changed, files, noise })
}

/// The files that differ, and are not the `same` when both texts are looked at; those that are go to
/// `noise`. What a symlink points to is no text: it is the same or it is not.
fn differences(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    noise: &mut Vec<String>,
    same: &mut dyn FnMut(&str, &str, &str) -> Result<bool>,
) -> Result<Vec<FileDifference>> {
    let mut files = Vec::new();
    for path in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let kind = match (old.get(path), new.get(path)) {
            (Some(_), None) => Kind::Removed,
            (Some(old), Some(new)) => {
                if old == new {
                    continue;
                }
                let link = old.starts_with(LINK) || new.starts_with(LINK);
                if !link && same(path, old, new)? {
                    noise.push(path.clone());
                    continue;
                }
                Kind::Edited
            }
            (None, _) => Kind::Added,
        };
        files.push(FileDifference { path: path.clone(), kind });
    }
    Ok(files)
}

/// Whether two lists have the same lines, but for comments and blank ones. pip joins lines at a
/// backslash, and comments then reach over several: such lists are not looked into.
fn same_list(old: &[u8], new: &[u8]) -> bool {
    !old.contains(&b'\\') && !new.contains(&b'\\') && lines(old).eq(lines(new))
}

fn lines(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bare = |line: &'_ [u8]| {
        let comment = line
            .iter()
            .enumerate()
            .position(|(at, &byte)| byte == b'#' && (at == 0 || line[at - 1].is_ascii_whitespace()));
        comment.unwrap_or(line.len())
    };
    list.split(|&byte| byte == b'\n')
        .map(move |line| line[..bare(line)].trim_ascii())
        .filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::{TreeFile, fingerprint};
    use super::*;

    /// A tree of paths and texts; a text is its own object id.
    fn print(tree: &[(&str, &str)], said: &Said) -> Fingerprint {
        let files =
            tree.iter().map(|(path, text)| TreeFile { path: path.as_bytes(), oid: text, is_link: false });
        fingerprint(files, said).unwrap()
    }

    fn difference(old: &[(&str, &str)], new: &[(&str, &str)], said: &Said) -> Difference {
        let mut read = |oid: &str| Ok(oid.as_bytes().to_vec());
        compare(&print(old, said), &print(new, said), said, &mut read).unwrap()
    }

    /// What becomes of a tree when one file of it is replaced, added, or (for no text) removed.
    fn edit(tree: &[(&str, &str)], path: &str, text: &str, said: &Said) -> Difference {
        let mut new: Vec<_> = tree.iter().copied().filter(|(other, _)| *other != path).collect();
        new.extend((!text.is_empty()).then_some((path, text)));
        difference(tree, &new, said)
    }

    const DJANGO: &[(&str, &str)] = &[
        ("manage.py", "run()"),
        ("shop/migrations/0001.py", "a = 1"),
        ("blog/migrations/0001.py", "a = 1"),
        ("requirements.txt", "Django==4.2\n"),
    ];
    const MIGRATES: Said = Said { paths: None, command: None, syncdb: Some("./manage.py migrate"), sql: &[] };

    #[test]
    fn a_changed_migration_in_any_one_folder_opens_a_version() {
        // The trap: "changed in this folder OR in that one", written as AND, skips it.
        for folder in ["shop", "blog"] {
            let path = format!("{folder}/migrations/0001.py");
            let found = edit(DJANGO, &path, "a = 2", &MIGRATES);
            assert_eq!(found.changed, Changed::Yes, "{folder}");
            assert_eq!(found.files, [FileDifference { path, kind: Kind::Edited }]);
        }
    }

    #[test]
    fn a_file_that_comes_or_goes_opens_a_version_even_if_it_is_empty() {
        let found = edit(DJANGO, "shop/migrations/__init__.py", "# empty", &MIGRATES);
        assert_eq!((found.changed, found.files[0].kind), (Changed::Yes, Kind::Added));
        let found = edit(DJANGO, "blog/migrations/0001.py", "", &MIGRATES);
        assert_eq!((found.changed, found.files[0].kind), (Changed::Yes, Kind::Removed));
    }

    #[test]
    fn an_edit_that_says_the_same_is_noise() {
        let found = edit(DJANGO, "shop/migrations/0001.py", "a  = 1 # one", &MIGRATES);
        assert_eq!(found.changed, Changed::No);
        assert_eq!(found.noise, ["shop/migrations/0001.py"]);
    }

    #[test]
    fn a_symlink_is_what_it_points_to_and_no_text() {
        let link = |oid: &'static str, is_link| {
            let tree = [("manage.py", "", false), ("shop/migrations/0001.py", oid, is_link)];
            let files = tree.iter().map(|(path, oid, is_link)| TreeFile {
                path: path.as_bytes(),
                oid,
                is_link: *is_link,
            });
            fingerprint(files, &MIGRATES).unwrap()
        };
        let mut read = |_: &str| -> Result<Vec<u8>> { panic!("a link was read") };
        for new in [link("a  b", true), link("a b", false)] {
            let found = compare(&link("a b", true), &new, &MIGRATES, &mut read).unwrap();
            assert_eq!(found.changed, Changed::Yes);
        }
    }

    #[test]
    fn a_moved_lockfile_is_a_question_for_the_framework() {
        let found = edit(DJANGO, "requirements.txt", "Django==5.2\n", &MIGRATES);
        let Changed::Ask(question) = found.changed else { panic!("{found:?}") };
        assert_eq!(question.command, "./manage.py migrate --check");
        assert_eq!(found.files, [FileDifference { path: "requirements.txt".to_owned(), kind: Kind::Edited }]);
    }

    #[test]
    fn a_lockfile_opens_nothing_without_a_syncdb_stage() {
        let found = edit(DJANGO, "requirements.txt", "Django==5.2\n", &Said::default());
        assert_eq!((found.changed, found.files.len()), (Changed::No, 0));
    }

    #[test]
    fn a_lockfile_does_not_hide_a_changed_migration() {
        let new = [("manage.py", ""), ("shop/migrations/0001.py", "a = 2"), ("requirements.txt", "b")];
        assert_eq!(difference(DJANGO, &new, &MIGRATES).changed, Changed::Yes);
    }

    #[test]
    fn requirements_are_compared_without_their_comments() {
        let found = edit(DJANGO, "requirements.txt", "# web\n\nDjango==4.2  # LTS\r\n", &MIGRATES);
        assert_eq!((found.changed, found.noise), (Changed::No, vec!["requirements.txt".to_owned()]));
        for (old, new) in [("a#egg=b", "a#egg=c"), ("a # x \\\nb", "a\nb"), ("a b", "a  b"), ("a\nb", "b\na")]
        {
            assert!(!same_list(old.as_bytes(), new.as_bytes()), "{old:?} and {new:?}");
        }
        let rails = [("bin/rails", "1"), ("Gemfile.lock", "a")];
        let said = Said { syncdb: Some("bin/rails db:migrate"), ..Said::default() };
        assert!(matches!(edit(&rails, "Gemfile.lock", "a # b", &said).changed, Changed::Ask(_)));
    }

    #[test]
    fn another_framework_is_another_schema() {
        let rails = [("bin/rails", "1"), ("db/schema.rb", "1")];
        assert_eq!(difference(DJANGO, &rails, &MIGRATES).changed, Changed::Yes);
    }

    #[test]
    fn a_tree_without_a_schema_stays_one_version() {
        let found = edit(&[("index.html", "a")], "index.html", "b", &MIGRATES);
        assert_eq!(found.changed, Changed::No);
    }

    #[test]
    fn a_schema_that_a_command_prints_is_asked_for_every_time() {
        let said = Said { command: Some("./schema"), ..Said::default() };
        let found = edit(DJANGO, "shop/migrations/0001.py", "a = 2", &said);
        assert!(matches!(found.changed, Changed::Ask(Question { command, .. }) if command == "./schema"));
    }

    #[test]
    fn an_object_that_cannot_be_read_is_an_error_and_no_verdict() {
        let mut read = |_: &str| Err(crate::support::Error::new("object is missing"));
        let (old, new) = (print(DJANGO, &MIGRATES), [("manage.py", ""), ("shop/migrations/0001.py", "b")]);
        let new = [&new[..], &DJANGO[2..]].concat();
        assert!(compare(&old, &print(&new, &MIGRATES), &MIGRATES, &mut read).is_err());
    }
}
