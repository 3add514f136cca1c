//! What comes over ssh, split into words. There is no shell here, and nothing is ever replaced by anything.
//!
//! Quotes and backslashes work as in a shell, so that what a person quotes for a shell arrives as it was meant. What only a shell could do, `;`, `|`, `$(…)`
//! and the like, is refused where it is not quoted: nobody who writes it means the character.

use crate::support::text::printable;
use crate::support::{Error, Result};

/// The longest command that is looked at.
pub const MOST_BYTES: usize = 64 << 10;

/// What only a shell understands, outside of quotes.
const SHELL: &[char] = &[';', '&', '|', '<', '>', '(', ')', '$', '`'];

/// Splits a command into its words.
///
/// # Errors
/// Where it is too long, is not text, has control characters, asks for a shell, or leaves a quote open.
pub fn split(command: &[u8]) -> Result<Vec<String>> {
    if command.len() > MOST_BYTES {
        return Err(Error::usage(format!("the command is longer than {MOST_BYTES} bytes")));
    }
    let Ok(text) = std::str::from_utf8(command) else {
        return Err(Error::usage("the command is not UTF-8 text"));
    };
    if let Some(c) = text.chars().find(|c| is_control(*c)) {
        return Err(Error::usage(format!("the command has a control character: {}", c.escape_default())));
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = Quote::None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Quote::Single, '\'') | (Quote::Double, '"') => quote = Quote::None,
            (Quote::Single, c) => word.get_or_insert_default().push(c),
            (Quote::Double, '$' | '`') => return Err(no_shell(c)),
            (quote, '\\') => {
                let word = word.get_or_insert_default();
                let Some(next) = rest.next() else { return Err(open("\\")) };
                // Between double quotes it is only itself before anything else.
                if quote == Quote::Double && !"\\\"$`".contains(next) {
                    word.push('\\');
                }
                word.push(next);
            }
            (Quote::None, '\'') => {
                word.get_or_insert_default();
                quote = Quote::Single;
            }
            (Quote::None, '"') => {
                word.get_or_insert_default();
                quote = Quote::Double;
            }
            (Quote::None, ' ') => words.extend(word.take()),
            (Quote::None, c) if SHELL.contains(&c) => return Err(no_shell(c)),
            (Quote::Double | Quote::None, c) => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Quote::None => words.extend(word),
        Quote::Single => return Err(open("'")),
        Quote::Double => return Err(open("\"")),
    }
    Ok(words)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

/// Also the characters that turn the direction of writing, which could make a line lie.
fn is_control(c: char) -> bool {
    let mut buffer = [0; 4];
    let text: &str = c.encode_utf8(&mut buffer);
    printable(text) != text
}

fn no_shell(c: char) -> Error {
    Error::usage(format!("`{c}` is a shell's, and there is no shell here")).hint(
        "one command at a time; where the character is meant, it stands in quotes within quotes: \
         ssh HOST \"lock APP -m 'now; not later'\"",
    )
}

fn open(quote: &str) -> Error {
    Error::usage(format!("a {quote} is not closed"))
        .hint("ssh takes one pair of quotes away: ssh HOST \"lock APP -m 'why it is'\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text.as_bytes()).unwrap()
    }

    #[test]
    fn words_are_split_as_a_shell_would_and_nothing_is_replaced() {
        assert_eq!(words("git-receive-pack 'app'"), ["git-receive-pack", "app"]);
        assert_eq!(words("  a   b "), ["a", "b"]);
        assert_eq!(words("git-upload-pack 'it'\\''s'"), ["git-upload-pack", "it's"]);
        assert_eq!(words("lock a -m \"not \\\"now\\\"\""), ["lock", "a", "-m", "not \"now\""]);
        assert_eq!(
            words("run a -- sh -c 'echo $HOME; ls > x'"),
            ["run", "a", "--", "sh", "-c", "echo $HOME; ls > x"]
        );
        assert_eq!(words("key add b --app *"), ["key", "add", "b", "--app", "*"]);
        assert_eq!(words("a '' \"\""), ["a", "", ""]);
        assert_eq!(words("a\\ b \"\\d\\$\""), ["a b", "\\d$"]);
        assert!(words("").is_empty() && words("   ").is_empty());
    }

    #[test]
    fn what_only_a_shell_could_do_is_refused() {
        for bad in [
            "list; id",
            "list app && id",
            "list | id",
            "list `id`",
            "list $(id)",
            "list \"$(id)\"",
            "list > /tmp/x",
            "list < x",
            "list (x)",
            "list 'a",
            "list \"a",
            "list \\",
            "list\nid",
            "list\0",
            "list\tapp",
            "list \x1b[2J",
            "list \u{202e}x",
            "list \r",
            "list \u{9b}m",
        ] {
            let error = split(bad.as_bytes()).expect_err(bad);
            assert_eq!(error.exit_code(), 2, "{bad:?}");
            assert_eq!(printable(&error.to_string()), error.to_string(), "{bad:?}");
        }
        assert!(split(b"list \xff").is_err());
        assert!(split(&vec![b'a'; 1 << 20]).unwrap_err().to_string().contains("longer than"));
    }
}
