//! Names and texts as PostgreSQL and its addresses want them: the only place that quotes.

use std::fmt::Write as _;

use crate::support::{Error, Result};

/// The longest name in bytes (`NAMEDATALEN` - 1): what is longer would be cut, silently.
const LONGEST: usize = 63;

/// A name, whatever it is.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, whatever it is, where a statement takes no parameters.
pub(super) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// A name, if it is one of a database or role that PostgreSQL would not cut, and a file can have.
pub(super) fn checked(name: &str) -> Result<&str> {
    let fits = !name.is_empty() && name.len() <= LONGEST;
    if fits && !name.starts_with('.') && !name.contains(['/', '\0']) {
        return Ok(name);
    }
    Err(Error::new(format!("'{}' cannot be the name of a database", name.escape_debug()))
        .hint(format!("it has 1 to {LONGEST} bytes, none of them '/', and does not begin with a dot")))
}

/// The text with every byte that means something in an address as `%XX`; slashes stay.
pub(super) fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_name_holds_it_stays_one() {
        assert_eq!(ident("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(percent_encoded("/run/a b@?"), "/run/a%20b%40%3F");
        assert!(checked(&"x".repeat(63)).is_ok());
        for bad in ["", ".x", "a/b", &"x".repeat(64)] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
