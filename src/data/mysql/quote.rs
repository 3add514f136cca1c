//! Names and texts as SQL writes them: the only place where either is put into a statement.

use std::fmt::Write as _;
use std::path::Path;

/// A name in backticks.
pub(super) fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table of a database.
pub(super) fn table(database: &str, table: &str) -> String {
    format!("{}.{}", name(database), name(table))
}

/// Names in backticks, with commas between.
pub(super) fn names<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(|each| name(each.as_ref())).collect::<Vec<_>>().join(", ")
}

/// A text as a literal, in a session whose `sql_mode` lets backslashes escape, as all of receiver's do.
pub(super) fn text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// An account on this machine, as statements name it.
pub(super) fn account(role: &str) -> String {
    format!("{}@'localhost'", text(role))
}

/// What only unreserved characters (and the signs in `also`) may stand in: a part of a URL.
pub(super) fn percent_encoded(bytes: &[u8], also: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut encoded, &byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// A path as a part of a URL, its slashes as they are.
pub(super) fn path(path: &Path) -> String {
    percent_encoded(path.as_os_str().as_encoded_bytes(), b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_quotes() {
        assert_eq!(name("a`b"), "`a``b`");
        assert_eq!(text(r"it's \ "), r"'it''s \\ '");
        assert_eq!(path(Path::new("/run/a b/ä.sock")), "/run/a%20b/%C3%A4.sock");
    }
}
