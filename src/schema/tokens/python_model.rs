//! The Python lexer against CPython itself: where its syntax trees differ, we must say so.

mod cpython;

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use self::cpython::{CPython, Token, Verdict};
use super::Language;

const MIGRATIONS: [&str; 7] = [
    include_str!("../testdata/0001_initial.py"),
    include_str!("../testdata/0002_constraints.py"),
    include_str!("../testdata/0003_backfill.py"),
    include_str!("../testdata/0004_run_sql.py"),
    include_str!("../testdata/0005_state.py"),
    include_str!("../testdata/0006_choices.py"),
    include_str!("../testdata/0007_many.py"),
];

fn same(old: &str, new: &str) -> bool {
    Language::Python.same(old.as_bytes(), new.as_bytes())
}

/// Random choices, one after the other.
struct Dice<'a>(std::iter::Cycle<std::slice::Iter<'a, u8>>);

impl Dice<'_> {
    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[usize::from(*self.0.next().unwrap()) % from.len()]
    }

    fn one_in(&mut self, n: u8) -> bool {
        self.0.next().unwrap().is_multiple_of(n)
    }
}

/// The tokens as a source that looks different each time and says the same.
fn write(tokens: &[Token], dice: &mut Dice) -> String {
    let mut source = String::new();
    let unit = dice.pick(&["  ", "    ", "\t"]);
    let (mut indent, mut fresh, mut brackets) = (0, true, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token.kind.as_str() {
            "INDENT" => indent += 1,
            "DEDENT" => indent -= 1,
            "NEWLINE" => {
                source += dice.pick(&[
                    "\n",
                    "  # why\n",
                    "\n\n",
                    "\n# it's\n",
                    "\n   \t\n      # \"\"\"\n",
                    "\r\n",
                ]);
                fresh = true;
            }
            _ => {
                let inside = ["\n", " # a (comment\n", "  ", "\t", "\\\n", "\n\n  ", " "];
                if fresh {
                    source += &unit.repeat(indent);
                } else if !(token.touches && dice.one_in(2)) {
                    source +=
                        dice.pick(if brackets.is_empty() { &[" ", "  ", "\t", " \\\n "] } else { &inside });
                }
                fresh = false;
                comma(tokens, at, &mut brackets, dice, &mut source);
                source += &requoted(token, dice);
            }
        }
    }
    source
}

/// Follows the brackets, and adds a trailing comma now and then before one that closes a call, a list,
/// a set or a dict.
fn comma(
    tokens: &[Token],
    at: usize,
    brackets: &mut Vec<(bool, usize)>,
    dice: &mut Dice,
    source: &mut String,
) {
    let before = |at: usize| &tokens[at.saturating_sub(1)];
    match tokens[at].text.as_str() {
        "(" => brackets.push((before(at).kind == "NAME" && before(at).touches, at)),
        "[" => brackets.push((["=", ",", "(", "["].contains(&before(at).text.as_str()), at)),
        "{" => brackets.push((true, at)),
        ")" | "]" | "}" => {
            let (free, from) = brackets.pop().unwrap();
            let inside = &tokens[from + 1..at];
            let comprehension = inside.iter().any(|token| token.text == "for");
            let ends = inside.last().is_none_or(|token| token.text == ",");
            let keyword = ["in", "return", "if", "else", "not"].contains(&before(from).text.as_str());
            if free && !comprehension && !ends && !keyword && dice.one_in(2) {
                *source += dice.pick(&[",", " , ", ",\n"]);
            }
        }
        _ => {}
    }
}

/// A plain string in other quotes.
fn requoted(token: &Token, dice: &mut Dice) -> String {
    let body = token.text.trim_matches(['\'', '"']);
    let plain = token.kind == "STRING"
        && token.text.starts_with(['\'', '"'])
        && !body.contains(['\'', '"', '\\', '\n']);
    if plain {
        let quotes = dice.pick(&["'", "\"", "'''", "\"\"\""]);
        format!("{quotes}{body}{quotes}")
    } else {
        token.text.clone()
    }
}

fn dice() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 200..600)
}

/// What is put into a source, or makes one up.
const SOUP: [&str; 71] = [
    " ",
    "\n",
    "\n    ",
    "\n  ",
    "\t",
    "\r",
    "\r\n",
    "\x0c",
    "\\\n",
    "\\",
    "#",
    "# c\n",
    ",",
    ",",
    ",",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "(a,)",
    "(a, b,)",
    "[a,]",
    "f(a,)",
    "x[a,]",
    ":",
    ";",
    "=",
    "==",
    "=",
    "*",
    "**",
    "-",
    "->",
    ":=",
    ".",
    "...",
    "'",
    "\"",
    "'''",
    "\"\"\"",
    "'a'",
    "\"a\"",
    "r'\\'",
    "b'a'",
    "f'{a}'",
    "f'{'",
    "f\"{a!r}",
    "a",
    "b",
    "x",
    "1",
    "1.",
    "1e",
    "0x1e",
    "if",
    "else",
    "for a in b",
    "lambda a, b:",
    "in",
    "not",
    "return",
    "match",
    "case",
    "True",
    "é",
    "@",
    "pass",
];

/// A source made of what could be Python, more or less.
fn soup() -> impl Strategy<Value = String> {
    proptest::collection::vec(select(&SOUP[..]), 0..14).prop_map(|pieces| pieces.concat())
}

/// Puts a piece into a source, or takes as many characters out.
fn spoiled(source: &str, at: Index, piece: &str, insert: bool) -> String {
    let mut characters: Vec<char> = source.chars().collect();
    let at = at.index(characters.len() + 1);
    if insert {
        characters.splice(at..at, piece.chars());
    } else {
        let end = characters.len().min(at + piece.chars().count());
        characters.drain(at..end);
    }
    characters.into_iter().collect()
}

/// We may call the same what CPython calls the same, or nonsense.
fn check(cpython: &RefCell<CPython>, old: &str, new: &str) -> Result<(), TestCaseError> {
    if same(old, new) {
        let verdict = cpython.borrow_mut().verdict(old, new);
        prop_assert_ne!(verdict, Verdict::Different, "{:?} is taken for {:?}", old, new);
    }
    Ok(())
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

#[test]
fn a_migration_that_only_looks_different_is_the_same() {
    let cpython = CPython::start();
    let tokens = MIGRATIONS.map(|source| cpython.borrow_mut().tokens(source));
    proptest!(cases(300), |(which in 0..MIGRATIONS.len(), first in dice(), second in dice())| {
        let old = write(&tokens[which], &mut Dice(first.iter().cycle()));
        let new = write(&tokens[which], &mut Dice(second.iter().cycle()));
        prop_assert_eq!(cpython.borrow_mut().verdict(&old, &new), Verdict::Same, "the test itself is wrong");
        prop_assert!(same(&old, &new), "{}\n=====\n{}", old, new);
    });
}

#[test]
fn a_migration_with_another_token_is_another() {
    let cpython = CPython::start();
    let tokens = MIGRATIONS.map(|source| cpython.borrow_mut().tokens(source));
    let edits = (0..MIGRATIONS.len(), any::<Index>(), any::<Index>(), 0..4, dice());
    proptest!(cases(1000), |((which, at, other, how, dice) in edits)| {
        let old = &tokens[which];
        let (at, other) = (at.index(old.len()), other.index(old.len()));
        let mut new = old.clone();
        match how {
            0 => drop(new.remove(at)),
            1 => new.insert(at, old[other].clone()),
            2 => new[at] = old[other].clone(),
            _ => new[at].text.push('1'),
        }
        let bare = |tokens: &[Token]| -> Vec<String> {
            let texts = tokens.iter().filter(|token| token.kind != "NEWLINE" && token.text != ",");
            texts.map(|token| token.text.trim().to_owned()).collect()
        };
        // Commas are the other tests' affair; and what has lost a bracket or an indent cannot be written.
        let sound = |tokens: &[Token]| {
            let count = |kind: &str| tokens.iter().filter(|token| token.kind == kind || token.text == kind).count();
            [("(", ")"), ("[", "]"), ("{", "}"), ("INDENT", "DEDENT")].iter().all(|(a, b)| count(a) == count(b))
        };
        prop_assume!(bare(old) != bare(&new) && sound(&new) && !["INDENT", "DEDENT"].contains(&old[at].kind.as_str()));
        prop_assume!(!"()[]{}".contains(&old[at].text) && !"()[]{}".contains(&new[at.min(new.len() - 1)].text));
        let (old, new) = (MIGRATIONS[which], write(&new, &mut Dice(dice.iter().cycle())));
        prop_assert!(!same(old, &new), "{}", new);
    });
}

#[test]
fn a_spoiled_migration_is_the_same_only_if_cpython_says_so() {
    let cpython = CPython::start();
    let edits = (select(&MIGRATIONS[..]), any::<Index>(), select(&SOUP[..]), any::<bool>());
    proptest!(cases(4000), |((old, at, piece, insert) in edits)| {
        check(&cpython, old, &spoiled(old, at, piece, insert))?;
    });
}

#[test]
fn a_line_that_moved_under_another_is_the_same_only_if_cpython_says_so() {
    let cpython = CPython::start();
    let edits = (select(&MIGRATIONS[..]), any::<Index>(), select(&["    ", "  ", "\t", "\x0c", "-"][..]));
    proptest!(cases(1000), |((old, at, indent) in edits)| {
        let mut lines: Vec<String> = old.lines().map(str::to_owned).collect();
        let line = &mut lines[at.index(old.lines().count())];
        let (space, text) = line.split_at(line.len() - line.trim_start().len());
        *line = if indent == "-" { text.to_owned() } else { format!("{space}{indent}{text}") };
        check(&cpython, old, &lines.join("\n"))?;
    });
}

#[test]
fn token_soup_is_the_same_only_if_cpython_says_so() {
    let cpython = CPython::start();
    let edits = (soup(), any::<Index>(), select(&SOUP[..]), any::<bool>());
    proptest!(cases(20_000), |((old, at, piece, insert) in edits)| {
        check(&cpython, &old, &spoiled(&old, at, piece, insert))?;
    });
}

/// A bracket where it means a call, a tuple, a list, a subscript, a pattern or nothing.
fn bracket() -> impl Strategy<Value = [String; 2]> {
    let before = [
        "",
        "x = ",
        "x",
        "f",
        "x.match",
        "match ",
        "return ",
        "return",
        "1 if ",
        "1 if",
        "1if",
        "not ",
        "lambda: ",
        "'s'",
        "f(a)",
        "x[a]",
        "print ",
        "yield ",
        "for x in ",
        "del ",
        "assert ",
        "from a import ",
        "with ",
        "class C",
        "def g",
        "raise ",
        "True",
        "True ",
        "1",
        "...",
        "a.",
        "f'{a}'",
        "{}",
        "x = y, ",
        "a <",
        "@",
        "match a:\n  case ",
        "type ",
        "try:\n  pass\nexcept ",
        "x = await ",
        "\n",
        "if x:\n  ",
        "x = (",
        "f(",
        "[",
        "{",
        "x[",
    ];
    let items = [
        "a",
        "*a",
        "**a",
        "a=1",
        "a: b",
        "a:b",
        "lambda a, b: a",
        "a for a in b",
        "(a)",
        "(a,)",
        "[a,]",
        "a := 1",
        "yield a",
        "",
        "/",
        "*",
        "a as b",
        "f(a,)",
        "{a,}",
        "a if b else c",
        "1",
        "'s'",
        "not a",
        "_",
        "x.y",
    ];
    let after = [
        "",
        ":\n  pass",
        " else 2",
        ":\n  case (a): pass",
        " = a",
        " as y:\n  pass",
        "(a)",
        ")",
        "]",
        "}",
        ",)",
    ];
    let items = proptest::collection::vec(select(items.to_vec()), 1..4);
    (select(before.to_vec()), select(vec!["()", "[]", "{}"]), items, select(after.to_vec())).prop_map(
        |(before, bracket, items, after)| {
            let (open, close) = bracket.split_at(1);
            ["", ","].map(|comma| format!("{before}{open}{}{comma}{close}{after}\n", items.join(", ")))
        },
    )
}

#[test]
fn a_trailing_comma_is_set_aside_only_if_cpython_says_so() {
    let cpython = CPython::start();
    proptest!(cases(20_000), |([without, with] in bracket())| {
        check(&cpython, &without, &with)?;
    });
}

proptest! {
    #![proptest_config(cases(2000))]
    #[test]
    fn any_bytes_are_read(old: Vec<u8>, new: Vec<u8>) {
        prop_assert!(Language::Python.same(&old, &old.clone()));
        Language::Python.same(&old, &new);
    }
}
