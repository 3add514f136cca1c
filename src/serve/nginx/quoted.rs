//! Text as one token of nginx's configuration.

use std::path::Path;

use serde::Serialize;

use crate::support::text::printable;
use crate::support::{Error, Result};

/// One token, quoted: the only text that the template is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quoted(String);

impl Quoted {
    /// Quotes a text that means itself.
    ///
    /// # Errors
    /// A `$`, which nginx reads inside quotes too and has no way to write, and control characters.
    pub fn literal(text: &str) -> Result<Quoted> {
        if text.contains('$') || text.chars().any(char::is_control) {
            return Err(Error::new(format!("nginx cannot be told of '{}'", printable(text)))
                .hint("rename what holds the $ or the control character"));
        }
        Ok(Quoted::of(text))
    }

    /// The same for a path, which has to be UTF-8.
    pub fn path(path: &Path) -> Result<Quoted> {
        Quoted::path_between("", path, "")
    }

    /// A path with text of ours before and behind it, in which a `$` is a variable.
    pub fn path_between(before: &str, path: &Path, behind: &str) -> Result<Quoted> {
        let text = path.to_str().ok_or_else(|| {
            Error::new(format!("nginx cannot be told of {}: it is not UTF-8", path.display()))
        })?;
        Quoted::literal(text)?;
        Ok(Quoted::of(&format!("{before}{text}{behind}")))
    }

    /// A regular expression of ours in which `text` stands for itself.
    pub fn pattern(before: &str, text: &str, behind: &str) -> Result<Quoted> {
        Quoted::literal(text)?;
        let mut escaped = String::new();
        for c in text.chars() {
            if c.is_ascii() && !c.is_ascii_alphanumeric() && !"/-_~%@:".contains(c) {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        Ok(Quoted::of(&format!("{before}{escaped}{behind}")))
    }

    /// nginx's lexer knows `\"` and `\\` in double quotes (ngx_conf_read_token).
    fn of(text: &str) -> Quoted {
        Quoted(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
    }
}

impl std::fmt::Display for Quoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_quoted_is_refused() {
        for bad in ["$x", "a$", "a\nb", "a\0b", "\u{7f}", "\u{85}"] {
            assert!(Quoted::literal(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Quoted::literal("a \"b\\;{}").unwrap().0, "\"a \\\"b\\\\;{}\"");
        assert_eq!(Quoted::pattern("^", "/a.b+c", "/").unwrap().0, "\"^/a\\\\.b\\\\+c/\"");
    }
}
