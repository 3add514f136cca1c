//! The SQL lexer against SQLite itself: where two scripts make different databases, we must say so.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use rusqlite::{Connection, types::Value};

use super::Language;

const SQLITE: [&str; 3] = [
    include_str!("../testdata/shop.sql"),
    include_str!("../testdata/notes.sql"),
    include_str!("../testdata/library.sql"),
];
const SCRIPTS: [&str; 5] = [
    SQLITE[0],
    SQLITE[1],
    SQLITE[2],
    include_str!("../testdata/farm_postgres.sql"),
    include_str!("../testdata/farm_mysql.sql"),
];

fn same(old: &str, new: &str) -> bool {
    Language::Sql.same(old.as_bytes(), new.as_bytes())
}

/// The rows of a query as text; an error is a row too.
fn rows(database: &Connection, query: &str) -> String {
    let all = || -> rusqlite::Result<String> {
        let mut statement = database.prepare(query)?;
        let columns = statement.column_count();
        let mut text = String::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                let _ = write!(text, "{:?}|", row.get::<_, Value>(column)?);
            }
            text.push('\n');
        }
        Ok(text)
    };
    all().unwrap_or_else(|error| error.to_string())
}

/// The database that a script makes: tables with their columns, keys, indexes and rows. SQLite keeps
/// the text of a type and of a default with the white space and the comments in it: of a type only
/// the words are compared, and of a default its value.
fn database(script: &str) -> Option<String> {
    let database = Connection::open_in_memory().unwrap();
    database.execute_batch(script).ok()?;
    let mut names = database.prepare("SELECT type, name FROM sqlite_schema ORDER BY rowid").unwrap();
    let names = names.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let mut text = String::new();
    for (kind, name) in names.map(Result::<(String, String), _>::unwrap) {
        let _ = writeln!(text, "{kind} {name:?}");
        let literal = format!("'{}'", name.replace('\'', "''"));
        if kind == "index" {
            text += &rows(&database, &format!("SELECT * FROM pragma_index_xinfo({literal})"));
            continue;
        }
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let columns = "cid, name, \"notnull\", pk, hidden";
        text += &rows(&database, &format!("SELECT {columns} FROM pragma_table_xinfo({literal})"));
        text += &texts(&database, "type", &literal).map(|text| words(&text.unwrap())).collect::<String>();
        text += &rows(&database, &format!("SELECT * FROM pragma_index_list({literal})"));
        text += &rows(&database, &format!("SELECT * FROM pragma_foreign_key_list({literal})"));
        text += &rows(&database, &format!("SELECT * FROM {quoted}"));
        text += &defaults(&database, &literal);
    }
    Some(text)
}

/// One column of what SQLite says about the columns of a table.
fn texts(database: &Connection, column: &str, table: &str) -> impl Iterator<Item = Option<String>> {
    let query = format!("SELECT {column} FROM pragma_table_xinfo({table})");
    let mut statement = database.prepare(&query).unwrap();
    let texts = statement.query_map([], |row| row.get(0)).unwrap();
    texts.map(Result::unwrap).collect::<Vec<_>>().into_iter()
}

fn defaults(database: &Connection, table: &str) -> String {
    let value = |text: Option<String>| text.map(|text| rows(database, &format!("SELECT ({text}\n)")));
    texts(database, "dflt_value", table).map(|text| value(text).unwrap_or("none\n".to_owned())).collect()
}

/// A type without white space and comments, in small letters: SQLite folds those that it knows.
fn words(text: &str) -> String {
    let mut words = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("/*").into_iter().chain(rest.find("--")).min() {
        words += &rest[..at];
        let end = if rest[at..].starts_with("--") { "\n" } else { "*/" };
        rest = rest[at + 2..].split_once(end).map_or("", |(_, rest)| rest);
        words.push(' ');
    }
    (words + rest).split_whitespace().collect::<String>().to_lowercase() + "\n"
}

/// Cuts a script of the fixtures into pieces between which white space may stand: quoted texts whole,
/// and what is in `[`…`]` (a name in SQLite, where white space counts); signs one by one where more of them do not belong together.
fn pieces(script: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = script.trim_start();
    while let Some(first) = rest.chars().next() {
        let after = |end: &str| rest[1..].find(end).map_or(rest.len(), |at| 1 + at + end.len());
        let length = match first {
            _ if rest.starts_with("--") => after("\n"),
            _ if rest.starts_with("/*") => after("*/"),
            _ if rest.starts_with("$body$") => 6 + rest[6..].find("$body$").unwrap() + 6,
            '[' => after("]"),
            '\'' | '"' | '`' => {
                let mut end = after(&first.to_string());
                while rest[end..].starts_with(first) {
                    end += 1 + rest[end + 1..].find(first).unwrap() + 1;
                }
                end
            }
            'x' if rest[1..].starts_with('\'') => 2 + rest[2..].find('\'').unwrap() + 1,
            _ if first.is_alphanumeric() || "_.@".contains(first) && !rest.starts_with("@>") => {
                rest[1..].find(|c: char| !c.is_alphanumeric() && !"_.".contains(c)).unwrap() + 1
            }
            _ => ["::", "||", ">=", "<>", ":=", "->", "@>"]
                .iter()
                .find(|sign| rest.starts_with(**sign))
                .map_or(1, |s| s.len()),
        };
        if !rest.starts_with("--") && !rest.starts_with("/*") {
            pieces.push(rest[..length].to_owned());
        }
        rest = rest[length..].trim_start();
    }
    pieces
}

/// The pieces with white space and comments between them that differ each time.
fn written(pieces: &[String], dice: &[u8]) -> String {
    let gaps = [" ", "\n", "  \t", " -- it's a comment\n", " /* \"a\" */ ", "\r\n", "/**/", "\n\n -- ; \n"];
    let mut dice = dice.iter().cycle();
    pieces.iter().flat_map(|piece| [piece, gaps[usize::from(*dice.next().unwrap()) % gaps.len()]]).collect()
}

fn dice() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 100..300)
}

const SOUP: [&str; 62] = [
    " ",
    "\n",
    "\r",
    "\t",
    "\x0b",
    "--",
    "-- ",
    "--1",
    "-- it's\n",
    "/*",
    "*/",
    "/* a */",
    "/*!",
    "/*+",
    "#",
    "'",
    "'",
    "\"",
    "`",
    "[",
    "]",
    "''",
    "'a'",
    "'b'",
    "'a\\'",
    "\"a\"",
    "`a`",
    "[a b]",
    "[a  b]",
    "$$",
    "$a$",
    "(",
    ")",
    ",",
    ";",
    ".",
    "-",
    "+",
    "=",
    "<",
    ">",
    "|",
    "||",
    "@",
    ":",
    "?",
    "1",
    "1.5",
    "1e",
    ".5",
    "a",
    "b",
    "x",
    "create table a (b)",
    "create table ",
    "a (b ",
    "default ",
    "text",
    "select ",
    "E'",
    "\\",
    "é",
];

fn soup() -> impl Strategy<Value = String> {
    proptest::collection::vec(select(&SOUP[..]), 0..12).prop_map(|pieces| pieces.concat())
}

/// Puts a piece into a script, or takes as many characters out.
fn spoiled(script: &str, at: Index, piece: &str, insert: bool) -> String {
    let mut characters: Vec<char> = script.chars().collect();
    let at = at.index(characters.len() + 1);
    if insert {
        characters.splice(at..at, piece.chars());
    } else {
        let end = characters.len().min(at + piece.chars().count());
        characters.drain(at..end);
    }
    characters.into_iter().collect()
}

/// We may call the same what makes the same database, or none.
fn check(old: &str, new: &str) -> Result<(), TestCaseError> {
    if same(old, new) {
        prop_assert_eq!(database(old), database(new), "{:?} is taken for {:?}", old, new);
    }
    Ok(())
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

#[test]
fn the_scripts_make_databases() {
    for script in SQLITE {
        let made = database(script).expect("SQLite runs it");
        assert!(made.contains("table") && !made.contains("error"), "{made}");
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_script_that_only_looks_different_is_the_same(which in 0..SCRIPTS.len(), first in dice(), second in dice()) {
        let pieces = pieces(SCRIPTS[which]);
        let (old, new) = (written(&pieces, &first), written(&pieces, &second));
        prop_assert!(same(&old, &new), "{}\n=====\n{}", old, new);
        prop_assert!(same(SCRIPTS[which], &new), "{}", new);
        prop_assert_eq!(database(&old), database(&new), "the test itself is wrong");
    }

    #[test]
    fn a_script_with_another_token_is_another(
        which in 0..SCRIPTS.len(), at: Index, other: Index, how in 0..4, dice in dice(),
    ) {
        let old = pieces(SCRIPTS[which]);
        let (at, other) = (at.index(old.len()), other.index(old.len()));
        let mut new = old.clone();
        match how {
            0 => drop(new.remove(at)),
            1 => new.insert(at, old[other].clone()),
            2 => new[at].clone_from(&old[other]),
            _ => new[at].insert(1, '1'),
        }
        prop_assume!(old != new);
        prop_assert!(!same(SCRIPTS[which], &written(&new, &dice)));
    }

    #[test]
    fn a_spoiled_script_is_the_same_only_if_sqlite_says_so(
        old in select(&SQLITE[..]), at: Index, piece in select(&SOUP[..]), insert: bool,
    ) {
        check(old, &spoiled(old, at, piece, insert))?;
    }

    #[test]
    fn any_bytes_are_read(old: Vec<u8>, new: Vec<u8>) {
        prop_assert!(Language::Sql.same(&old, &old.clone()));
        Language::Sql.same(&old, &new);
    }
}

proptest! {
    #![proptest_config(cases(20_000))]
    #[test]
    fn token_soup_is_the_same_only_if_sqlite_says_so(
        old in soup(), at: Index, piece in select(&SOUP[..]), insert: bool,
    ) {
        check(&old, &spoiled(&old, at, piece, insert))?;
    }
}
