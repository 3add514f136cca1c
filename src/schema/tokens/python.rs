//! Python's tokens, with what changes nothing set aside.
//!
//! Line ends and indentation count outside of brackets; there indentation is its depth. Strings are
//! their prefix and their body: the quotes around it, and whether quotes in it are escaped, do not
//! count. A trailing comma is set aside where it cannot make a tuple.
//!
//! `None` from a method of the lexer means doubt: from there on the text is compared raw. Nothing is
//! consumed before its token is out, so that what is compared raw is all that was not compared yet.

use std::borrow::Cow;

use super::{find, number, run};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a [u8]),
    Number(&'a [u8]),
    Operator(&'a [u8]),
    Text {
        prefix: &'a [u8],
        body: Cow<'a, [u8]>,
    },
    /// A comment that says how the file is encoded, or the mark that does.
    Encoding(&'a [u8]),
    Line,
    Indent,
    Dedent,
    /// All that follows, raw.
    Rest(&'a [u8]),
}

/// The tokens of a text.
pub(super) fn tokens(text: &[u8]) -> Vec<Token<'_>> {
    let mut lexer =
        Lexer { text, at: 0, line: 1, fresh: true, out: vec![], open: vec![], indents: vec![b""] };
    if lexer.all().is_none() {
        lexer.out.push(Token::Rest(&text[lexer.at..]));
    }
    lexer.out
}

/// What a trailing comma means in a bracket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comma {
    /// Nothing: a call, a list, a set, a dict.
    Nothing,
    /// A tuple, unless another comma makes one already.
    Tuple,
    /// A tuple in a subscript: `x[a,]` is not `x[a]`.
    Index,
}

struct Open {
    bracket: u8,
    comma: Comma,
    commas: usize,
    /// How many tokens there were when it was opened.
    from: usize,
    /// A `for` at its level: a comma after a comprehension is an error.
    comprehension: bool,
    /// A `lambda` at its level: its commas make no tuple.
    lambda: bool,
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    /// At the start of a logical line.
    fresh: bool,
    out: Vec<Token<'a>>,
    open: Vec<Open>,
    indents: Vec<&'a [u8]>,
}

/// Keywords that no value ends with: a `(` after one is no call, a `[` no subscript.
const KEYWORDS: &[&[u8]] = &[
    b"and",
    b"as",
    b"assert",
    b"async",
    b"await",
    b"break",
    b"class",
    b"continue",
    b"def",
    b"del",
    b"elif",
    b"else",
    b"except",
    b"finally",
    b"for",
    b"from",
    b"global",
    b"if",
    b"import",
    b"in",
    b"is",
    b"lambda",
    b"nonlocal",
    b"not",
    b"or",
    b"pass",
    b"raise",
    b"return",
    b"try",
    b"while",
    b"with",
    b"yield",
];

/// Words that may be keywords, by where they stand: doubt, so neither calls nor lists.
const SOFT_KEYWORDS: &[&[u8]] = &[b"match", b"case"];

const OPERATORS: &[&[u8]] = &[
    b"**=", b"//=", b">>=", b"<<=", b"...", b"**", b"//", b">>", b"<<", b"<=", b">=", b"==", b"!=", b"<>",
    b"->", b"+=", b"-=", b"*=", b"/=", b"%=", b"&=", b"|=", b"^=", b"@=", b":=",
];

fn is_newline(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0c)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl<'a> Lexer<'a> {
    fn all(&mut self) -> Option<()> {
        if self.text.starts_with(b"\xef\xbb\xbf") {
            self.push(3, Token::Encoding);
        }
        while self.at < self.text.len() {
            if self.fresh {
                self.begin_line()?;
            } else {
                self.token()?;
            }
        }
        if self.open.is_empty() {
            if !self.fresh {
                self.out.push(Token::Line);
            }
            let depth = self.indents.len() - 1;
            self.out.extend((0..depth).map(|_| Token::Dedent));
        }
        Some(())
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    fn push(&mut self, length: usize, token: impl Fn(&'a [u8]) -> Token<'a>) {
        self.out.push(token(&self.rest()[..length]));
        self.at += length;
    }

    /// From the start of a line to its first token, or over it where it is blank.
    fn begin_line(&mut self) -> Option<()> {
        let rest = self.rest();
        let width = run(rest, is_space);
        match rest.get(width) {
            None => self.at += width,
            Some(&byte) if is_newline(byte) => {
                self.at += width;
                self.newline();
            }
            Some(b'#') => {
                self.at += width;
                self.comment()?;
            }
            Some(b'\\') => return None,
            Some(_) => {
                self.indent(&rest[..width])?;
                self.at += width;
                self.fresh = false;
            }
        }
        Some(())
    }

    /// Indentation as its depth. It is compared byte for byte with that of the lines above, so tabs
    /// and spaces that only look alike are doubt.
    fn indent(&mut self, indent: &'a [u8]) -> Option<()> {
        if indent.contains(&0x0c) {
            return None;
        }
        loop {
            let top = *self.indents.last()?;
            if top == indent {
                return Some(());
            }
            if top.len() < indent.len() {
                let last_was_deeper = self.out.last() == Some(&Token::Dedent);
                if last_was_deeper || !indent.starts_with(top) {
                    return None;
                }
                self.indents.push(indent);
                self.out.push(Token::Indent);
                return Some(());
            }
            self.indents.pop();
            self.out.push(Token::Dedent);
        }
    }

    fn token(&mut self) -> Option<()> {
        let rest = self.rest();
        match rest[0] {
            byte if is_space(byte) => self.at += 1,
            byte if is_newline(byte) => {
                if self.open.is_empty() {
                    self.out.push(Token::Line);
                    self.fresh = true;
                }
                self.newline();
            }
            b'#' => self.comment()?,
            b'\\' => self.at += continuation(rest)?,
            b'\'' | b'"' => self.string(0)?,
            b'(' | b'[' | b'{' => self.open(),
            b')' | b']' | b'}' => self.close()?,
            b'.' if rest.get(1).is_some_and(u8::is_ascii_digit) => self.push(number(rest), Token::Number),
            byte if byte.is_ascii_digit() => self.push(number(rest), Token::Number),
            byte if is_name(byte) => self.word()?,
            byte => {
                if let (b',', Some(open)) = (byte, self.open.last_mut()) {
                    open.commas += 1;
                }
                let length = OPERATORS.iter().find(|op| rest.starts_with(op)).map_or(1, |op| op.len());
                self.push(length, Token::Operator);
            }
        }
        Some(())
    }

    fn newline(&mut self) {
        let rest = self.rest();
        self.at += if rest.starts_with(b"\r\n") { 2 } else { 1 };
        self.line += 1;
    }

    /// A comment says nothing, but for one in the first two lines that tells the encoding.
    fn comment(&mut self) -> Option<()> {
        let length = run(self.rest(), |byte| !is_newline(byte));
        let comment = &self.rest()[..length];
        if self.line <= 2 && find(comment, b"coding").is_some() {
            let lower = comment.to_ascii_lowercase();
            if find(&lower, b"utf-8").is_none() && find(&lower, b"utf8").is_none() {
                return None;
            }
            self.push(length, Token::Encoding);
        } else {
            self.at += length;
        }
        Some(())
    }

    fn word(&mut self) -> Option<()> {
        let length = run(self.rest(), is_name);
        let word = &self.rest()[..length];
        if matches!(self.rest().get(length), Some(b'\'' | b'"')) && is_prefix(word) {
            return self.string(length);
        }
        if let Some(open) = self.open.last_mut() {
            open.comprehension |= word == b"for";
            open.lambda |= word == b"lambda";
        }
        self.push(length, Token::Word);
        Some(())
    }

    /// A string, after a prefix of so many bytes.
    fn string(&mut self, prefix: usize) -> Option<()> {
        let rest = self.rest();
        let (prefix, quoted) = rest.split_at(prefix);
        let (width, length) = string_end(quoted)?;
        let has = |letter: u8| prefix.iter().any(|byte| byte.eq_ignore_ascii_case(&letter));
        let body = &quoted[width..length - width];
        let body = if has(b'f') || has(b't') {
            if !is_plain_format(body) {
                return None;
            }
            Cow::Borrowed(&quoted[..length])
        } else if has(b'r') || !body.contains(&b'\\') {
            Cow::Borrowed(body)
        } else {
            Cow::Owned(without_quote_escapes(body))
        };
        self.out.push(Token::Text { prefix, body });
        self.at += prefix.len() + length;
        Some(())
    }

    fn open(&mut self) {
        let bracket = self.rest()[0];
        let comma = match (bracket, self.out.last()) {
            (b'(', before) if before.is_some_and(|before| self.may_be_called(before)) => Comma::Nothing,
            (b'(', _) => Comma::Tuple,
            (b'[', before) if before.is_some_and(may_be_indexed) => Comma::Index,
            _ => Comma::Nothing,
        };
        self.push(1, Token::Operator);
        let from = self.out.len();
        self.open.push(Open { bracket, comma, commas: 0, from, comprehension: false, lambda: false });
    }

    /// Whether a `(` after the token that was read last is a call of it, or its definition.
    fn may_be_called(&self, last: &Token) -> bool {
        let word = match last {
            Token::Operator(b")" | b"]") => return true,
            Token::Word(word) => *word,
            _ => return false,
        };
        let attribute = matches!(&self.out[..], [.., Token::Operator(b"."), _]);
        let value = [&b"True"[..], b"False", b"None"].contains(&word);
        !value && !KEYWORDS.contains(&word) && (attribute || !SOFT_KEYWORDS.contains(&word))
    }

    fn close(&mut self) -> Option<()> {
        let bracket = self.rest()[0];
        let partner = match bracket {
            b')' => b'(',
            b']' => b'[',
            _ => b'{',
        };
        if self.open.last()?.bracket != partner {
            return None;
        }
        let open = self.open.pop()?;
        let comma = Token::Operator(b",");
        let trails = match &self.out[open.from..] {
            [.., before, last] => *last == comma && *before != comma,
            _ => false,
        };
        let changes_nothing = match open.comma {
            Comma::Nothing => true,
            Comma::Tuple => open.commas > 1 && !open.lambda,
            Comma::Index => false,
        };
        if trails && changes_nothing && !open.comprehension {
            self.out.pop();
        }
        self.push(1, Token::Operator);
        Some(())
    }
}

/// Whether a `[` after the token is a subscript of it.
fn may_be_indexed(last: &Token) -> bool {
    match last {
        Token::Word(word) => !KEYWORDS.contains(word),
        Token::Number(_) | Token::Text { .. } => true,
        Token::Operator(operator) => [&b")"[..], b"]", b"}", b".", b"..."].contains(operator),
        _ => false,
    }
}

/// The length of a backslash and its line end. At the end of the file it is an error.
fn continuation(text: &[u8]) -> Option<usize> {
    let length = if text.starts_with(b"\\\r\n") { 3 } else { 2 };
    (is_newline(*text.get(1)?) && text.len() > length).then_some(length)
}

fn is_prefix(word: &[u8]) -> bool {
    let lower = word.to_ascii_lowercase();
    matches!(&lower[..], b"r" | b"b" | b"u" | b"f" | b"t" | b"rb" | b"br" | b"rf" | b"fr" | b"rt" | b"tr")
}

/// The number of quotes on each side, and the length of all, of the string at the start of a text.
fn string_end(text: &[u8]) -> Option<(usize, usize)> {
    let quote = text[0];
    let triple = [quote; 3];
    let quotes = if text.starts_with(&triple) { 3 } else { 1 };
    let mut at = quotes;
    loop {
        match *text.get(at)? {
            b'\\' => at += 2,
            byte if is_newline(byte) && quotes == 1 => return None,
            byte if byte == quote && text[at..].starts_with(&triple[..quotes]) => {
                return Some((quotes, at + quotes));
            }
            _ => at += 1,
        }
    }
}

/// `\'` and `\"` without their backslash: they need it in one quote style and not in the other.
fn without_quote_escapes(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(body.len());
    let mut bytes = body.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' {
            match bytes.next() {
                Some(quote @ (b'\'' | b'"')) => plain.push(quote),
                escaped => plain.extend([byte].into_iter().chain(escaped)),
            }
        } else {
            plain.push(byte);
        }
    }
    plain
}

/// Whether a format string ends where an ordinary one would. Since Python 3.12 its expressions may
/// hold quotes, comments and line ends of their own; before, they may not. Where both readings agree
/// nothing in a brace needs a second look.
fn is_plain_format(body: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut bytes = body.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return false,
            b'}' => depth -= 1,
            b'\\' if depth > 0 || matches!(bytes.next(), Some(b'{' | b'}')) => return false,
            b'\'' | b'"' | b'#' | b'\n' | b'\r' if depth > 0 => return false,
            _ => {}
        }
    }
    depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(old: &str, new: &str) -> bool {
        tokens(old.as_bytes()) == tokens(new.as_bytes())
    }

    #[test]
    fn what_the_design_sets_aside_opens_nothing() {
        for (old, new) in [
            ("x = 1\n", "x = 1"),
            ("x = 1\n", "# why\n\nx   =  1  # because\n\n"),
            ("x=-1\n", "x = -1\n"),
            ("x = f(a, b)\n", "x = f(\n    a,\n    b,  # the second\n)\n"),
            ("x = [1, 2]\n", "x = [1, 2,]\n"),
            ("x = {1: 2}\n", "x = {1: 2,}\n"),
            ("x = (1, 2)\n", "x = (1, 2,)\n"),
            ("x = 'a'\n", "x = \"a\"\n"),
            ("x = 'it\\'s'\n", "x = \"it's\"\n"),
            ("x = 'a'\n", "x = \"\"\"a\"\"\"\n"),
            ("if x:\n  y = 1\n", "if x:\n\ty = 1\n"),
            ("x = 1 + 2\n", "x = 1 + \\\n  2\n"),
            ("x = 1\r\ny = 2\r\n", "x = 1\ny = 2\n"),
            ("return [a]\n", "return [a,]\n"),
            ("re.match(a, b)\n", "re.match(a, b,)\n"),
            ("x = f'a {b}'  # c\n", "x = f'a {b}'\n"),
        ] {
            assert!(same(old, new), "{old:?} is not {new:?}");
        }
    }

    #[test]
    fn what_could_mean_something_else_is_a_difference() {
        for (old, new) in [
            ("x = (a)\n", "x = (a,)\n"),
            ("return (a)\n", "return (a,)\n"),
            ("match (a):\n  pass\n", "match (a,):\n  pass\n"),
            ("x = 1 if(a)else 2\n", "x = 1 if(a,)else 2\n"),
            ("x = 1if(a)else 2\n", "x = 1if(a,)else 2\n"),
            ("x[a]\n", "x[a,]\n"),
            ("(lambda a, b: a)\n", "(lambda a, b: a,)\n"),
            ("f(a for a in b)\n", "f(a for a in b,)\n"),
            ("(a,)\n", "(a,,)\n"),
            ("f()\n", "f(,)\n"),
            ("x = 'a' 'b'\n", "x = 'ab'\n"),
            ("x = 'a'\n", "x = b'a'\n"),
            ("x = 'a'\n", "x = 'a '\n"),
            ("x = '\\n'\n", "x = r'\\n'\n"),
            ("x = r'\\''\n", "x = r\"'\"\n"),
            ("x = 1\ny = 2\n", "x = 1; y = 2\n"),
            ("if x:\n  y\nz\n", "if x:\n  y\n  z\n"),
            ("if x:\n        y\n\tz\n", "if x:\n        y\n        z\n"),
            ("a = = b\n", "a == b\n"),
            ("x = 1 \\\n", "x = 1\n"),
            ("x = f'{a['#']}' # b\n", "x = f'{a['#']}' # c\n"),
            ("# coding: latin-1\nx = 'é'\n", "x = 'é'\n"),
            ("# coding: utf-7\n# a\n", "# coding: utf-7\n# b\n"),
            ("x = 1\n", "x = 1\n}\n"),
            ("x = 'a\n", "x = 'a # b\n"),
        ] {
            assert!(!same(old, new), "{old:?} is taken for {new:?}");
        }
    }

    #[test]
    fn indentation_that_fits_no_line_above_is_doubt() {
        assert!(!same("if x:\n    if y:\n        z\n  w\n", "if x:\n    if y:\n        z\n    w\n"));
        assert!(!same("if x:\n    y\n  z\n", "if x:\n    y\nif z:\n  z\n"));
    }
}
