//! Where PostgreSQL's statements begin and end, by the rules of `psql`.

use std::ops::Range;

/// One word, sign or quoted thing of a statement. Comments and white space are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl Token<'_> {
    /// Whether it is this keyword or sign.
    pub(super) fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }
}

/// All tokens of a text, and whether its last one is whole.
pub(super) fn tokens(sql: &str) -> (Vec<Token<'_>>, bool) {
    let (mut found, mut at, mut whole) = (Vec::new(), 0, true);
    while let Some(first) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let (is_token, length) = match first {
            c if c.is_whitespace() || c == '\u{feff}' => (false, Some(c.len_utf8())),
            '-' if rest.starts_with("--") => (false, Some(rest.find('\n').unwrap_or(rest.len()))),
            '/' if rest.starts_with("/*") => (false, comment(rest)),
            '\'' | '"' => (true, quoted(rest, first, false)),
            'e' | 'E' if rest[1..].starts_with('\'') => {
                (true, quoted(&rest[1..], '\'', true).map(|length| length + 1))
            }
            '$' => (true, dollars(rest)),
            c if is_word(c) => {
                (true, Some(rest.find(|c: char| !is_word(c) && c != '$').unwrap_or(rest.len())))
            }
            c => (true, Some(c.len_utf8())),
        };
        whole = length.is_some();
        let length = length.unwrap_or(rest.len());
        if is_token {
            found.push(Token { text: &rest[..length], at });
        }
        at += length;
    }
    (found, whole)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

/// The length of a comment; they nest.
fn comment(text: &str) -> Option<usize> {
    let (bytes, mut at, mut depth) = (text.as_bytes(), 0, 0_usize);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The length of what begins with a quote; a doubled one stands for itself, after a backslash any sign does.
fn quoted(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let (bytes, quote, mut at) = (text.as_bytes(), quote as u8, 1);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 1,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 1,
            byte if byte == quote => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The length of `$tag$ … $tag$`, or of a lone `$1`.
fn dollars(text: &str) -> Option<usize> {
    let end = text[1..].find('$').map(|end| end + 2);
    let tag = end.map(|end| &text[..end]).filter(|tag| {
        let name = &tag[1..tag.len() - 1];
        name.chars().all(is_word) && !name.starts_with(|first: char| first.is_ascii_digit())
    });
    let Some(tag) = tag else { return Some(1) };
    text[tag.len()..].find(tag).map(|end| end + 2 * tag.len())
}

/// Where the statements of a text are, and whether the last one is ended by its `;`.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) statements: Vec<Range<usize>>,
    pub(super) complete: bool,
}

/// Tells statements apart: by `;` that is neither in parentheses nor in the body of a routine
/// (`BEGIN ATOMIC … END`).
pub(super) fn split(sql: &str) -> Split {
    let (tokens, whole) = tokens(sql);
    let mut split = Split { statements: Vec::new(), complete: true };
    let (mut statement, mut parentheses, mut depth): (Vec<Token<'_>>, usize, usize) = (Vec::new(), 0, 0);
    for token in tokens {
        let ends = token.is(";") && parentheses == 0 && depth == 0;
        match token.text {
            "(" => parentheses += 1,
            ")" => parentheses = parentheses.saturating_sub(1),
            _ if parentheses == 0 && is_routine(&statement) => {
                if token.is("begin") || (depth > 0 && token.is("case")) {
                    depth += 1;
                } else if token.is("end") {
                    depth = depth.saturating_sub(1);
                }
            }
            _ => {}
        }
        if !(statement.is_empty() && ends) {
            statement.push(token);
        }
        if ends {
            if let Some(first) = statement.first() {
                split.statements.push(first.at..token.at + 1);
            }
            statement.clear();
        }
    }
    if let Some(first) = statement.first() {
        split.statements.push(first.at..sql.len());
        split.complete = false;
    }
    split.complete &= whole;
    split
}

fn is_routine(statement: &[Token<'_>]) -> bool {
    let mut words = statement.iter().take(4);
    words.next().is_some_and(|token| token.is("create"))
        && words
            .find(|token| !token.is("or") && !token.is("replace"))
            .is_some_and(|token| token.is("function") || token.is("procedure"))
}

#[cfg(test)]
mod unit {
    use super::*;

    fn statements(sql: &str) -> Vec<&str> {
        split(sql).statements.into_iter().map(|range| &sql[range]).collect()
    }

    #[test]
    fn statements_are_told_apart() {
        assert_eq!(
            statements("a; b ;\n;; -- c;\n c'x;''y' /* ; /* ; */ ; */;"),
            ["a;", "b ;", "c'x;''y' /* ; /* ; */ ; */;"]
        );
        for one in [
            "DO $$ BEGIN PERFORM 1; END $$;",
            "SELECT $a$ ; $$ ; $a$, E'\\';', \"a;\"\"\";",
            "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; SELECT 2; END;",
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);",
        ] {
            assert_eq!(statements(&format!("{one} SELECT 1;")), [one, "SELECT 1;"]);
        }
        assert!(!split("SELECT 1").complete);
        assert!(!split("SELECT $$;").complete);
        assert!(!split("/* ;").complete);
        assert!(split("  -- nothing").complete);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_lexer_panic(sql in "[-'\"$;/*a-eé(\\\\) \\n]{0,40}") {
            let _ = split(&sql);
        }
    }
}
