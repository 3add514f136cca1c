//! SQL's tokens, with white space and comments set aside. Nothing else is: not the case of a keyword,
//! not the quotes, not a comma.
//!
//! Which bytes are a comment depends on the dialect: `#` opens one in MySQL and is an operator in
//! PostgreSQL, `--1` is one in SQLite and twice a minus in MySQL, `$$` quotes in PostgreSQL only, and
//! each could hide what another executes. Nobody says here which one reads the file, so two texts are
//! the same only where they are for each of the three.

use super::{find, number, run};

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    Number(&'a [u8]),
    Operator(&'a [u8]),
    /// Whatever stands in quotes, with them.
    Quoted(&'a [u8]),
    /// Between two quoted texts: they are one text in PostgreSQL, if nothing but a line end parts them.
    Gap {
        newline: bool,
        comment: bool,
    },
    /// The token before and the one after touch, and would mean something else if they did not.
    Glued,
    /// All that follows, raw.
    Rest(&'a [u8]),
}

/// Those that may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    PostgreSql,
    /// And MariaDB.
    MySql,
    Sqlite,
}

impl Dialect {
    /// The length of the comment at the start of `text`, if one is there that its line ends.
    fn line_comment(self, text: &[u8]) -> Option<usize> {
        // MySQL reads `--1` as twice a minus.
        let spaced = || text.get(2).is_none_or(|&byte| byte <= b' ' || byte == 0x7f);
        let dashes = text.starts_with(b"--") && (self != Dialect::MySql || spaced());
        let hash = self == Dialect::MySql && text[0] == b'#';
        let inside = |byte| byte != b'\n' && !(self == Dialect::PostgreSql && byte == b'\r');
        (dashes || hash).then(|| run(text, inside))
    }

    /// What ends the name that `opening` begins, where it does.
    fn name_closing(self, opening: u8) -> Option<u8> {
        match (opening, self) {
            (b'`', Dialect::MySql | Dialect::Sqlite) => Some(b'`'),
            (b'[', Dialect::Sqlite) => Some(b']'),
            _ => None,
        }
    }
}

/// Whether two texts have the same tokens, whoever reads them.
pub(super) fn same(old: &[u8], new: &[u8]) -> bool {
    // SQLite takes a vertical tab for white space after other white space, and else for an error.
    if old.contains(&0x0b) || new.contains(&0x0b) {
        return old == new;
    }
    let dialects = [Dialect::PostgreSql, Dialect::MySql, Dialect::Sqlite];
    dialects.into_iter().all(|dialect| tokens(old, dialect) == tokens(new, dialect))
}

fn tokens(text: &[u8], dialect: Dialect) -> Vec<Token<'_>> {
    let mut lexer = Lexer { text, dialect, at: 0, out: vec![], newline: true, comment: false };
    while lexer.at < text.len() {
        if lexer.token().is_none() {
            lexer.out.push(Token::Rest(lexer.rest()));
            break;
        }
    }
    lexer.out
}

struct Lexer<'a> {
    text: &'a [u8],
    dialect: Dialect,
    at: usize,
    out: Vec<Token<'a>>,
    /// A line ended since the last token (or the file begins).
    newline: bool,
    /// There was a block comment since the last token.
    comment: bool,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'\'' | b'"' | b'`')
}

fn is_operator(byte: u8) -> bool {
    b"+-*/<>=~!@#%^&|?:".contains(&byte)
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    fn push(&mut self, length: usize, token: impl Fn(&'a [u8]) -> Token<'a>) {
        self.out.push(token(&self.rest()[..length]));
        self.at += length;
        (self.newline, self.comment) = (false, false);
    }

    /// One token, or a piece of what is between them. `None` is doubt, and consumes nothing.
    fn token(&mut self) -> Option<()> {
        let rest = self.rest();
        let byte = rest[0];
        if is_space(byte) {
            self.newline |= byte == b'\n' || byte == b'\r';
            self.at += 1;
        } else if let Some(length) = self.dialect.line_comment(rest) {
            self.at += length;
        } else if rest.starts_with(b"/*") {
            self.block_comment()?;
        } else if let Some(closing) = self.dialect.name_closing(byte) {
            self.quoted(name_end(rest, closing)?);
        } else if byte == b'\'' || byte == b'"' {
            self.quoted(text_end(rest)?);
        } else if let Some(tag) = self.dollar_tag() {
            let end = tag + find(&rest[tag..], &rest[..tag])? + tag;
            self.quoted(end);
        } else if byte == b'\\' {
            // A command of psql's or mysql's, up to the end of its line, or of its choice.
            return None;
        } else if byte.is_ascii_digit() || (byte == b'.' && rest.get(1).is_some_and(u8::is_ascii_digit)) {
            self.push(number(rest), Token::Number);
            self.glue(|next| next == b'$' || is_quote(next));
        } else if is_name(byte) {
            self.word()?;
        } else if is_operator(byte) {
            self.operators();
        } else {
            let at_statement = matches!(self.out.last(), None | Some(Token::Operator(b";")));
            if byte == b'.' && self.newline && at_statement {
                // A command of sqlite3's.
                return None;
            }
            self.push(1, Token::Operator);
        }
        Some(())
    }

    fn block_comment(&mut self) -> Option<()> {
        let rest = self.rest();
        let hint = [&b"/*!"[..], b"/*+", b"/*M!"].into_iter().find(|hint| rest.starts_with(hint));
        if let (Dialect::MySql, Some(hint)) = (self.dialect, hint) {
            // MySQL executes the first and the last, and obeys the second.
            self.push(hint.len(), Token::Operator);
            self.glue(|next| !is_space(next));
            return Some(());
        }
        let mut depth = 1;
        let mut end = 2;
        while depth > 0 {
            match rest.get(end..end + 2)? {
                b"*/" => (depth, end) = (depth - 1, end + 2),
                b"/*" if self.dialect == Dialect::PostgreSql => (depth, end) = (depth + 1, end + 2),
                _ => end += 1,
            }
        }
        self.at += end;
        self.comment = true;
        Some(())
    }

    fn quoted(&mut self, length: usize) {
        if matches!(self.out.last(), Some(Token::Quoted(_))) {
            self.out.push(Token::Gap { newline: self.newline, comment: self.comment });
        }
        self.push(length, Token::Quoted);
    }

    /// The length of the `$tag$` here, if there is one.
    fn dollar_tag(&self) -> Option<usize> {
        let rest = self.rest();
        if self.dialect != Dialect::PostgreSql
            || rest[0] != b'$'
            || rest.get(1).is_some_and(u8::is_ascii_digit)
        {
            return None;
        }
        let end = 1 + run(&rest[1..], |byte| is_name(byte) && byte != b'$');
        (rest.get(end) == Some(&b'$')).then_some(end + 1)
    }

    fn word(&mut self) -> Option<()> {
        let word = &self.rest()[..run(self.rest(), is_name)];
        // Rows of a dump follow `FROM stdin`, where white space is data; `DELIMITER //` changes what
        // the following text means to mysql, and `SOURCE` ends with its line.
        let client = [&b"delimiter"[..], b"source"].iter().any(|command| word.eq_ignore_ascii_case(command));
        if word.eq_ignore_ascii_case(b"stdin") || (self.newline && client) {
            return None;
        }
        self.push(word.len(), Token::Word);
        let unicode = word.eq_ignore_ascii_case(b"u");
        self.glue(|next| is_quote(next) || (unicode && next == b'&'));
        Some(())
    }

    /// A run of operator signs, cut as PostgreSQL cuts it: `=-` is `=` and `-`, but `@-` is one.
    fn operators(&mut self) {
        let rest = self.rest();
        let mut length = 1;
        while rest.get(length).is_some_and(|&byte| is_operator(byte)) {
            let next = &rest[length..];
            if next.starts_with(b"/*") || self.dialect.line_comment(next).is_some() {
                break;
            }
            length += 1;
        }
        let signs = &rest[..length];
        let special = signs.iter().any(|sign| b"~!@#%^&|?".contains(sign));
        while !special && length > 1 && matches!(signs[length - 1], b'+' | b'-') {
            length -= 1;
        }
        let last = signs[length - 1];
        let cast = signs[..length].ends_with(b"::");
        self.push(length, Token::Operator);
        self.glue(|next| match last {
            b':' => !cast && (is_name(next) || is_quote(next)),
            b'@' | b'?' => is_name(next) || is_quote(next),
            b'&' => is_quote(next),
            _ => false,
        });
    }

    /// Notes that the token touches the next one, where that is more than a matter of looks.
    fn glue(&mut self, matters: impl Fn(u8) -> bool) {
        if self.rest().first().is_some_and(|&next| matters(next)) {
            self.out.push(Token::Glued);
        }
    }
}

/// Where a text in `'` or `"` ends. A backslash before the quote may escape it or not, by the dialect
/// and by the server's mode: doubt.
fn text_end(text: &[u8]) -> Option<usize> {
    let quote = text[0];
    let mut at = 1;
    loop {
        at += run(&text[at..], |byte| byte != quote && byte != b'\\');
        if *text.get(at)? == b'\\' {
            let backslashes = run(&text[at..], |byte| byte == b'\\');
            at += backslashes;
            if backslashes % 2 == 1 && text.get(at) == Some(&quote) {
                return None;
            }
        } else if text.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return Some(at + 1);
        }
    }
}

/// Where a name that ends with `closing` does. A doubled backtick stands for one; there is no `]]`.
fn name_end(text: &[u8], closing: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        at += run(&text[at..], |byte| byte != closing) + 1;
        if closing == b']' || text.get(at) != Some(&closing) {
            return (at <= text.len()).then_some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    #[track_caller]
    fn check(pairs: &[(&str, &str)], expected: bool) {
        for (old, new) in pairs {
            let same = super::same(old.as_bytes(), new.as_bytes());
            assert_eq!(same, expected, "{old:?} and {new:?}");
        }
    }

    #[test]
    fn white_space_and_comments_open_nothing() {
        check(
            &[
                ("create table a (b int);", "create table a(\n  b int\n) ;\n"),
                ("create table a (b int);", "-- a table\ncreate table a (b int); -- it is"),
                ("create table a (b int);", "/* it's\n */ create/**/table a (b int);"),
                ("a default -1", "a  default\n- 1"),
                ("a=-1", "a = - 1"),
                ("x::text", "x :: text"),
                ("'a', 'it''s'", "'a' ,\n'it''s'"),
                ("$$ -- don't $$; -- b", "$$ -- don't $$; "),
                ("'a\\\\' -- b", "'a\\\\'"),
            ],
            true,
        );
    }

    #[test]
    fn whatever_else_differs_is_a_difference() {
        check(
            &[
                ("a b", "ab"),
                ("1 2", "12"),
                ("a", "A"),
                ("'a'", "\"a\""),
                ("a,", "a"),
                ("'a' 'b'", "'a''b'"),
                ("'a' 'b'", "'a'\n'b'"),
                ("'a'\n'b'", "'a' /**/\n'b'"),
                ("' a'", "'  a'"),
                ("< =", "<="),
                ("- -1", "--1"),
                ("x 'ab'", "x'ab'"),
                ("@ x", "@x"),
                ("$$ a  b $$", "$$ a b $$"),
                ("[a  b]", "[a b]"),
                ("`a  b`", "`a b`"),
            ],
            false,
        );
    }

    #[test]
    fn what_one_dialect_executes_is_no_comment() {
        check(
            &[
                ("select 1 #> a", "select 1 #> b"),
                ("select 2 --1\n", "select 2 --3\n"),
                ("/*!50000 engine=innodb */", "/*!50000 engine=myisam */"),
                ("/*+ hint */", ""),
                ("/*M!100 a */", "/*M!100 b */"),
                ("/* a /* b */ c */", "/* a /* b */ d */"),
                ("-- a\rdrop table b", "-- a\rdrop table c"),
            ],
            false,
        );
    }

    #[test]
    fn a_quote_that_dialects_end_differently_makes_the_rest_raw() {
        check(
            &[
                ("'it\\'s -- a\n'", "'it\\'s -- b\n'"),
                ("E'\\' -- a'", "E'\\' -- b'"),
                ("'open -- a", "'open -- b"),
                ("$a$ open -- a", "$a$ open -- b"),
                ("/* open", "/* open "),
                ("# don't -- a\n'", "# don't -- b\n'"),
                ("a ` b 'c ` -- d' `", "a ` b 'c ` -- e' `"),
            ],
            false,
        );
    }

    #[test]
    fn what_clients_read_by_lines_or_as_data_is_raw() {
        check(
            &[
                ("copy a from stdin;\n1\ta b\n\\.\n", "copy a from stdin;\n1\ta  b\n\\.\n"),
                ("\\restrict a -- b\n", "\\restrict a -- c\n"),
                ("DELIMITER //\n-- a\n", "DELIMITER //\n-- b\n"),
                (".mode  csv\n", ".mode csv\n"),
            ],
            false,
        );
    }
}
