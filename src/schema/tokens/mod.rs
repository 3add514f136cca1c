//! Whether two texts of one file say the same, read as tokens.
//!
//! Set aside are comments, white space and line breaks that mean nothing; in Python also quote style
//! and trailing commas that make no tuple. The lexers are flat (no recursion), take linear time, and
//! are total: they read any bytes. What they are not sure about is a token that holds all of the rest
//! of the file, raw. So two texts may be called different without need, never the same without reason:
//! a needless version costs seconds, a missed one breaks the app.

mod python;
mod sql;

#[cfg(test)]
mod python_model;
#[cfg(feature = "sqlite")]
#[cfg(test)]
mod sql_model;

/// Texts above this are not lexed: they differ as soon as their bytes do.
const LONGEST: usize = 2 << 20;

/// A language whose tokens are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    Sql,
}

impl Language {
    /// The language of a file, by the end of its name.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "py" => Some(Language::Python),
            "sql" => Some(Language::Sql),
            _ => None,
        }
    }

    /// Whether two texts are certain to say the same.
    pub(super) fn same(self, old: &[u8], new: &[u8]) -> bool {
        if old == new {
            return true;
        }
        if old.len().max(new.len()) > LONGEST {
            return false;
        }
        match self {
            Language::Python => python::tokens(old) == python::tokens(new),
            Language::Sql => sql::same(old, new),
        }
    }
}

/// The length of the longest prefix of `text` whose bytes all are `wanted`.
fn run(text: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|&byte| !wanted(byte)).unwrap_or(text.len())
}

/// Where `wanted` begins in `text`.
fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// The length of the number at the start of `text`, together with all that is glued to it (`1.5e-3`,
/// `0x1f`, `1if`): more than a number is harmless, since no white space is lost in it.
fn number(text: &[u8]) -> usize {
    let glued = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' || byte >= 0x80;
    let mut end = run(text, glued);
    let hex = text.len() > 1 && text[0] == b'0' && text[1].eq_ignore_ascii_case(&b'x');
    while !hex && text[end - 1].eq_ignore_ascii_case(&b'e') && matches!(text.get(end), Some(b'+' | b'-')) {
        end += 1 + run(&text[end + 1..], glued);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_in_the_name() {
        assert_eq!(Language::of("shop/migrations/0001_initial.py"), Some(Language::Python));
        assert_eq!(Language::of("db/STRUCTURE.SQL"), Some(Language::Sql));
        assert_eq!(Language::of("db/schema.rb"), None);
        assert_eq!(Language::of("sql"), None);
    }

    #[test]
    fn a_text_that_is_too_long_is_compared_by_its_bytes() {
        let long = vec![b' '; LONGEST + 1];
        let longer = vec![b' '; LONGEST + 2];
        for language in [Language::Python, Language::Sql] {
            assert!(!language.same(&long, &longer));
            assert!(language.same(&long, &long.clone()));
        }
    }

    #[test]
    fn a_number_takes_along_what_is_glued_to_it() {
        for (text, length) in
            [("1 ", 1), ("1.5e-3+1", 6), ("0x1e-5", 4), ("1if x", 3), (".5,", 2), ("1e-e-5,", 6), ("1e", 2)]
        {
            assert_eq!(number(text.as_bytes()), length, "{text}");
        }
    }
}
