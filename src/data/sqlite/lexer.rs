//! The words of SQL: enough to tell statements apart and to compare text without its looks.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, a bare name or a number.
    Word,
    /// A name in quotes.
    Name,
    /// A string.
    Text,
    /// One sign.
    Sign,
}

/// One token and where it stands. Comments and white space are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl Token<'_> {
    /// Whether it is this keyword or sign.
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Sign) && self.text.eq_ignore_ascii_case(word)
    }

    /// The same however it was written: words and plain names in lower case, all else as it is.
    pub(super) fn normal(&self) -> String {
        match self.kind {
            Kind::Word => self.text.to_lowercase(),
            Kind::Name => {
                let name = self.name();
                let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                    && !name.starts_with(|first: char| first.is_ascii_digit())
                    && !name.is_empty();
                if plain { name } else { format!("\"{}\"", name.replace('"', "\"\"")) }
            }
            Kind::Text | Kind::Sign => self.text.to_owned(),
        }
    }

    /// The name that it stands for, in lower case: SQLite's names differ by case for nobody.
    pub(super) fn name(&self) -> String {
        let inner = |text: &str, quote: char| {
            let end = text.len() - usize::from(text.len() > 1 && text.ends_with(quote));
            text[1..end].replace(&format!("{quote}{quote}"), &quote.to_string())
        };
        let name = match self.text.as_bytes()[0] {
            quote @ (b'"' | b'`' | b'\'') => inner(self.text, char::from(quote)),
            b'[' => self.text[1..].trim_end_matches(']').to_owned(),
            _ => self.text.to_owned(),
        };
        name.to_ascii_lowercase()
    }
}

/// All tokens of a text. What is not closed goes on to its end.
pub(super) fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let (kind, length) = match first {
            c if c.is_ascii_whitespace() || c == '\u{feff}' => (None, c.len_utf8()),
            '-' if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (None, rest[2..].find("*/").map_or(rest.len(), |end| end + 4)),
            '\'' => (Some(Kind::Text), quoted(rest, '\'')),
            '"' | '`' => (Some(Kind::Name), quoted(rest, first)),
            '[' => (Some(Kind::Name), rest.find(']').map_or(rest.len(), |end| end + 1)),
            c if is_word(c) => (Some(Kind::Word), rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())),
            c => (Some(Kind::Sign), c.len_utf8()),
        };
        if let Some(kind) = kind {
            found.push(Token { kind, text: &rest[..length], at });
        }
        at += length;
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// The length of what begins with a quote; a doubled one stands for itself.
fn quoted(text: &str, quote: char) -> usize {
    let bytes = text.as_bytes();
    let quote = quote as u8;
    let mut at = 1;
    while at < bytes.len() {
        if bytes[at] == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    text.len()
}

/// A text without comments, line breaks and other looks.
pub(super) fn normal(sql: &str) -> String {
    joined(&tokens(sql))
}

/// Tokens as text, each in its normal form.
pub(super) fn joined(tokens: &[Token<'_>]) -> String {
    tokens.iter().map(Token::normal).collect::<Vec<_>>().join(" ")
}

/// Where the statements of a text are, and whether the last one is ended by its `;`.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) statements: Vec<Range<usize>>,
    pub(super) complete: bool,
}

/// Tells statements apart, by SQLite's own rule: a trigger ends with `; END;`, all else with `;`.
pub(super) fn split(sql: &str) -> Split {
    let mut split = Split { statements: Vec::new(), complete: true };
    let mut statement: Vec<Token<'_>> = Vec::new();
    for token in tokens(sql) {
        let ends = token.is(";") && (!is_trigger(&statement) || is_ended(&statement));
        if !(statement.is_empty() && ends) {
            statement.push(token);
        }
        if ends && let Some(first) = statement.first() {
            split.statements.push(first.at..token.at + 1);
            statement.clear();
        }
    }
    if let Some(first) = statement.first() {
        split.statements.push(first.at..sql.len());
        split.complete = false;
    }
    split
}

fn is_trigger(statement: &[Token<'_>]) -> bool {
    let mut words = statement
        .iter()
        .take(6)
        .skip_while(|token| ["explain", "query", "plan"].iter().any(|word| token.is(word)));
    words.next().is_some_and(|token| token.is("create"))
        && words
            .find(|token| !token.is("temp") && !token.is("temporary"))
            .is_some_and(|token| token.is("trigger"))
}

fn is_ended(statement: &[Token<'_>]) -> bool {
    matches!(statement, [.., before, end] if before.is(";") && end.is("end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(sql: &str) -> Vec<&str> {
        split(sql).statements.into_iter().map(|range| &sql[range]).collect()
    }

    #[test]
    fn statements_are_told_apart() {
        assert_eq!(statements("a; b ;\n;; -- c;\n c'x;''y' /* ; */;"), ["a;", "b ;", "c'x;''y' /* ; */;"]);
        let trigger = "CREATE TEMP TRIGGER t BEFORE INSERT ON x BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; END;";
        assert_eq!(statements(&format!("{trigger} SELECT 1;")), [trigger, "SELECT 1;"]);
        assert!(!split("SELECT 1").complete);
        assert!(!split("SELECT 'a;").complete);
        assert!(split("  -- nothing").complete);
        assert!(split("").complete);
    }

    #[test]
    fn looks_do_not_count() {
        assert_eq!(normal("CHECK(\"a\"  > 'X Y') -- why"), normal("check ( [A] > 'X Y' )"));
        assert_ne!(normal("'a'"), normal("'A'"));
        assert_eq!(normal("\"a b\""), normal("`a b`"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_lexer_panic(sql in "[-'\"`\\[\\];/*a-zé \\n]{0,40}") {
            let _ = (split(&sql), normal(&sql));
        }
    }
}
