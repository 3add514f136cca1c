//! The words of MySQL's SQL: enough to tell statements apart, to compare text without its looks, and to say
//! what somebody runs without saying with which values.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, a bare name or a number.
    Word,
    /// A name in backticks.
    Name,
    /// A string, in whichever quotes.
    Text,
    /// One sign, or the beginning or end of a comment that is run (`/*!50003`, `*/`).
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

    /// Whether it is this name, quoted or not.
    pub(super) fn names(&self, name: &str) -> bool {
        match self.kind {
            Kind::Word => self.text == name,
            Kind::Name => self.name() == name,
            _ => false,
        }
    }

    /// The name that it stands for.
    pub(super) fn name(&self) -> String {
        match self.text.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
            Some(inner) => inner.replace("``", "`"),
            None => self.text.to_owned(),
        }
    }

    /// Where it ends.
    pub(super) fn end(&self) -> usize {
        self.at + self.text.len()
    }

    /// The same however it was written: bare words in lower case, all else as it is.
    fn normal(&self) -> String {
        match self.kind {
            Kind::Word => self.text.to_lowercase(),
            _ => self.text.to_owned(),
        }
    }
}

/// All tokens of a text. What is not closed goes on to its end.
pub(super) fn tokens(sql: &str) -> Vec<Token<'_>> {
    tokens_at_first(sql, usize::MAX)
}

/// The first tokens of a text, at most `most`.
pub(super) fn tokens_at_first(sql: &str, most: usize) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while found.len() < most
        && let Some((kind, length)) = next(&sql[at..])
    {
        if let Some(kind) = kind {
            found.push(Token { kind, text: &sql[at..at + length], at });
        }
        at += length;
    }
    found
}

/// What a text begins with, and its length in bytes; no kind for comments and white space.
fn next(rest: &str) -> Option<(Option<Kind>, usize)> {
    let first = rest.chars().next()?;
    let line = || rest.find('\n').unwrap_or(rest.len());
    Some(match first {
        c if c.is_ascii_whitespace() || c == '\u{feff}' => (None, c.len_utf8()),
        '#' => (None, line()),
        // Two dashes are a comment only where a space follows: `5--3` is eight.
        '-' if rest.starts_with("--") && rest[2..].chars().next().is_none_or(|c| c.is_ascii_whitespace()) => {
            (None, line())
        }
        '/' if rest.starts_with("/*!") || rest.starts_with("/*M!") => {
            let word = rest.find('!').unwrap_or(2) + 1;
            let digits = rest[word..].bytes().take_while(u8::is_ascii_digit).count();
            (Some(Kind::Sign), word + digits)
        }
        '/' if rest.starts_with("/*") => (None, rest[2..].find("*/").map_or(rest.len(), |end| end + 4)),
        '*' if rest.starts_with("*/") => (Some(Kind::Sign), 2),
        '\'' | '"' => (Some(Kind::Text), quoted(rest, first, true)),
        '`' => (Some(Kind::Name), quoted(rest, first, false)),
        c if is_word(c) => (Some(Kind::Word), rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())),
        c => (Some(Kind::Sign), c.len_utf8()),
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// The length of what begins with a quote; a doubled one stands for itself, and so may one after a backslash.
fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let bytes = text.as_bytes();
    let quote = quote as u8;
    let mut at = 1;
    while at < bytes.len() {
        if escapes && bytes[at] == b'\\' {
            at += 1;
        } else if bytes[at] == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    text.len()
}

/// A text without comments, line breaks and other looks, and without naming its own database.
pub(super) fn normal(sql: &str, database: &str) -> String {
    let tokens = tokens(sql);
    let mut words = Vec::with_capacity(tokens.len());
    let mut skip = false;
    for (at, token) in tokens.iter().enumerate() {
        if skip {
            skip = false;
        } else if is_qualifier(&tokens, at, database) {
            skip = true;
        } else {
            words.push(token.normal());
        }
    }
    words.join(" ")
}

/// Whether the token at this place, and the dot after it, say that what follows is in `database`.
fn is_qualifier(tokens: &[Token<'_>], at: usize, database: &str) -> bool {
    tokens[at].names(database)
        && tokens.get(at + 1).is_some_and(|next| next.is("."))
        && (at == 0 || !tokens[at - 1].is("."))
}

/// The same text where each `from.` is `to.`: it speaks of its own database by another name.
pub(super) fn requalified(sql: &str, from: &str, to: &str) -> String {
    let tokens = tokens(sql);
    let mut text = String::with_capacity(sql.len());
    let mut written = 0;
    for at in 0..tokens.len() {
        if is_qualifier(&tokens, at, from) {
            text.push_str(&sql[written..tokens[at].at]);
            text.push_str(&super::quote::name(to));
            written = tokens[at].end();
        }
    }
    text.push_str(&sql[written..]);
    text
}

/// What a statement does, without the values that it does it with, and not all of it.
pub(super) fn masked(sql: &str) -> String {
    let words = tokens_at_first(sql, 24).into_iter().map(|token| match token.kind {
        Kind::Text => "?".to_owned(),
        Kind::Word if token.text.starts_with(|c: char| c.is_ascii_digit()) => "?".to_owned(),
        _ => token.text.to_owned(),
    });
    let mut text = words.collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = text.char_indices().nth(80) {
        text.truncate(end);
        text.push('…');
    }
    crate::support::text::printable(&text)
}

/// Where the statements of a text are, without what ends them, and whether the last one is ended.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) statements: Vec<Range<usize>>,
    pub(super) complete: bool,
    /// What ends a statement after this text: `;`, or what its last `DELIMITER` said.
    pub(super) delimiter: String,
}

/// Tells statements apart as the client programs do: each is ended by `;`, or by what a line `DELIMITER //` says.
pub(super) fn split(sql: &str, delimiter: &str) -> Split {
    let mut split = Split { statements: Vec::new(), complete: true, delimiter: delimiter.to_owned() };
    let (mut at, mut start, mut end) = (0, None, 0);
    while at < sql.len() {
        let rest = &sql[at..];
        if start.is_none() && is_delimiter_line(rest) {
            let line = rest.lines().next().unwrap_or(rest);
            if let Some(word) = line.split_ascii_whitespace().nth(1) {
                word.clone_into(&mut split.delimiter);
            }
            at += rest.find('\n').map_or(rest.len(), |end| end + 1);
            continue;
        }
        if rest.starts_with(&split.delimiter) {
            split.statements.extend(start.take().map(|start| start..end));
            at += split.delimiter.len();
            continue;
        }
        let Some((kind, length)) = next(rest) else { break };
        // A sign may be the beginning of a delimiter, a word or a comment never holds one.
        if kind.is_some() {
            let inner = rest[..length].find(split.delimiter.as_str());
            let length = if kind == Some(Kind::Word) { inner.unwrap_or(length) } else { length };
            start = start.or(Some(at));
            end = at + length;
            at += length;
        } else {
            at += length;
        }
    }
    if let Some(start) = start {
        split.statements.push(start..end);
        split.complete = false;
    }
    split
}

fn is_delimiter_line(rest: &str) -> bool {
    rest.get(..9).is_some_and(|word| word.eq_ignore_ascii_case("delimiter"))
        && rest[9..].starts_with([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(sql: &str) -> Vec<&str> {
        split(sql, ";").statements.into_iter().map(|range| &sql[range]).collect()
    }

    #[test]
    fn statements_are_told_apart() {
        assert_eq!(statements("a; b ;\n;; # c;\n c'x;\\';' /* ; */;"), ["a", "b", "c'x;\\';'"]);
        assert_eq!(
            statements("a -- b;\n; SELECT 5--3; \"x;\"\"\"; `;`"),
            ["a", "SELECT 5--3", "\"x;\"\"\"", "`;`"]
        );
        let trigger = "CREATE TRIGGER t BEFORE INSERT ON x FOR EACH ROW BEGIN SET @a = 1; END";
        let file = format!("DELIMITER //\n{trigger} //\ndelimiter ;\nSELECT 1;");
        assert_eq!(statements(&file), [trigger, "SELECT 1"]);
        assert_eq!(statements("DELIMITER $$\nSELECT a$$\nSELECT 2 $$"), ["SELECT a", "SELECT 2"]);
        assert_eq!(statements("/*!50003 SET a=1 */;x"), ["/*!50003 SET a=1 */", "x"]);
        assert!(split("SELECT 1;", ";").complete && split("-- nothing", ";").complete);
        assert!(!split("SELECT 'a;", ";").complete);
    }

    #[test]
    fn looks_and_the_own_name_do_not_count() {
        assert_eq!(normal("SELECT `a`.`t`.`b` FROM A.T -- x", "a"), normal("select `t`.`b`\nfrom A.t", "b"));
        assert_ne!(normal("'a'", ""), normal("'A'", ""));
        assert_eq!(
            requalified("select `a`.t.a, 'a.b', x.a.b from a . t", "a", "b`c"),
            "select `b``c`.t.a, 'a.b', x.a.b from `b``c` . t"
        );
    }

    #[test]
    fn what_somebody_runs_is_told_without_its_values() {
        assert_eq!(
            masked("UPDATE user SET name = 'Eve', n=12 WHERE id = 0x7f /* x */"),
            "UPDATE user SET name = ? , n = ? WHERE id = ?"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_lexer_panic(sql in "[-'\"`;/*!#\\\\a-zé \n0-9]{0,40}", end in "[;$é/]{1,2}") {
            let _ = (split(&sql, &end), normal(&sql, "a"), masked(&sql), requalified(&sql, "a", "b"));
        }
    }
}
