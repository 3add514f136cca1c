//! `[map.TABLE.up]` and `.down`: one expression for one column. It must stay one.

/// Why a text cannot be one expression of SQL, whatever the engine: it would end the statement that it is put
/// into, or a part of it. What is in it is the engine's to judge.
pub(super) fn fault(text: &str) -> Option<&'static str> {
    // Engines differ on what it does, also within quotes.
    if text.contains('\\') {
        return Some("it has a backslash");
    }
    let (mut open, mut words) = (Vec::new(), false);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        match first {
            '\'' | '"' | '`' => match quoted(rest, first) {
                Some(end) => length = end,
                None => return Some("a quote is not closed"),
            },
            '(' | '[' => open.push(first),
            ')' | ']' if open.pop() != Some(if first == ')' { '(' } else { '[' }) => {
                return Some("its parentheses do not match");
            }
            ';' => return Some("it has a semicolon"),
            '\0' => return Some("it has a zero byte"),
            // PostgreSQL's other strings; comments would take in what stands behind them.
            '$' => return Some("it has a dollar sign"),
            '#' => return Some("it has a comment sign"),
            '-' if rest.starts_with("--") => return Some("it has a comment"),
            '/' if rest.starts_with("/*") => return Some("it has a comment"),
            '*' if rest.starts_with("*/") => return Some("it has a comment"),
            // A placeholder of the drivers.
            '?' => return Some("it has a question mark"),
            _ => {}
        }
        words |= !first.is_whitespace();
        rest = &rest[length..];
    }
    match (open.is_empty(), words) {
        (false, _) => Some("its parentheses do not match"),
        (_, false) => Some("it is empty"),
        _ => None,
    }
}

/// Whether an expression mentions a column, by its bare or quoted name.
pub(super) fn mentions(text: &str, column: &str) -> bool {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        match first {
            '\'' => length = quoted(rest, first).unwrap_or(rest.len()),
            '"' | '`' => {
                length = quoted(rest, first).unwrap_or(rest.len());
                let doubled = format!("{first}{first}");
                let inner = rest.get(1..length - 1).unwrap_or_default();
                if inner.replace(&doubled, &first.to_string()).eq_ignore_ascii_case(column) {
                    return true;
                }
            }
            _ if is_word(first) => {
                length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                if rest[..length].eq_ignore_ascii_case(column) {
                    return true;
                }
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    false
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of what begins with a quote; a doubled one stands for itself.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut at = 1;
    loop {
        at += text[at..].find(quote)? + 1;
        if !text[at..].starts_with(quote) {
            return Some(at);
        }
        at += 1;
    }
}
