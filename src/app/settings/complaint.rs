//! What is wrong with a configuration: where, and in words that are safe to print.

use crate::support::Error;

/// Complaints beyond this many are counted, not shown: a push must not fill a terminal.
pub(super) const MOST_SHOWN: usize = 20;
/// Characters of one complaint, and of one name in it.
const LONGEST: usize = 400;
const LONGEST_NAME: usize = 60;

/// One thing that is wrong in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    place: String,
    text: String,
}

impl Complaint {
    /// `text` about `line` (from 1) of `file`; `None` where it is about the whole file.
    ///
    /// Whatever `text` quotes may come from a push, so control characters are escaped here, once for all.
    pub(super) fn new(file: &str, line: Option<usize>, text: &str) -> Self {
        let place = line.map_or_else(|| format!("{file}:"), |line| format!("{file}:{line}:"));
        Complaint { place, text: visible(text, LONGEST) }
    }
}

/// All complaints as one error: a summary, then one complaint a line.
pub(super) fn refusal(complaints: &[Complaint]) -> Error {
    let mut lines = vec![match complaints.len() {
        1 => "the configuration has an error:".to_owned(),
        count => format!("the configuration has {count} errors:"),
    }];
    lines.extend(
        complaints.iter().take(MOST_SHOWN).map(|Complaint { place, text }| format!("{place} {text}")),
    );
    if complaints.len() > MOST_SHOWN {
        lines.push(format!("and {} more", complaints.len() - MOST_SHOWN));
    }
    Error::new(lines.join("\n  "))
}

/// A path of keys as TOML writes it, `cache.".venv"`, safe to print.
pub(super) fn dotted<S: AsRef<str>>(path: &[S]) -> String {
    let segment = |name: &S| {
        let name = name.as_ref();
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let shown = visible(name, LONGEST_NAME);
        if !name.is_empty() && name.chars().all(bare) { shown } else { format!("\"{shown}\"") }
    };
    path.iter().map(segment).collect::<Vec<_>>().join(".")
}

/// `text` with everything escaped that a terminal could act on, or that would not be seen; cut after
/// `longest` characters.
pub(super) fn visible(text: &str, longest: usize) -> String {
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == longest {
            shown.push('…');
            break;
        }
        match c {
            '\'' | '"' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_could_act_on_is_escaped() {
        let complaint = Complaint::new("receiver.toml", Some(3), "\u{1b}[2J \r\n \u{9b}x \u{202e}é");
        assert_eq!(
            refusal(&[complaint]).to_string(),
            "the configuration has an error:\n  receiver.toml:3: \\u{1b}[2J \\r\\n \\u{9b}x \\u{202e}é"
        );
    }

    #[test]
    fn names_that_are_not_bare_are_quoted() {
        assert_eq!(dotted(&["cache", ".venv"]), "cache.\".venv\"");
        assert_eq!(dotted(&["a", ""]), "a.\"\"");
    }

    #[test]
    fn a_flood_of_complaints_is_counted() {
        let many = vec![Complaint::new("f", None, "x"); 23];
        let text = refusal(&many).to_string();
        assert!(text.starts_with("the configuration has 23 errors:\n  f: x\n"), "{text}");
        assert!(text.ends_with("\n  and 3 more"), "{text}");
        assert_eq!(text.lines().count(), 22);
    }
}
