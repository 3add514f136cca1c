//! Text from others, made safe for a terminal, and figures made readable.

use std::fmt::Write as _;

/// `text` with every control character written out, so that it can do nothing to a terminal.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        push_safe(&mut safe, c);
    }
    safe
}

/// The same for bytes that need not be UTF-8: what is not is written as `\xNN`.
pub fn printable_bytes(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        safe.push_str(&printable(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

/// A line that a stage printed: colours (SGR sequences) pass, all other control characters are
/// written out; a tab stays.
pub fn printable_output(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    let mut rest = line;
    let mut coloured = false;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = colour_length(rest) {
            safe.push_str(&rest[..length]);
            rest = &rest[length..];
            coloured = true;
            continue;
        }
        if c == '\t' {
            safe.push(c);
        } else {
            push_safe(&mut safe, c);
        }
        rest = &rest[c.len_utf8()..];
    }
    if coloured {
        safe.push_str("\x1b[0m");
    }
    safe
}

fn push_safe(safe: &mut String, c: char) {
    // Besides C0 and C1: the characters that turn the direction of writing, which can make a line lie.
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || turns {
        let _ = write!(safe, "{}", c.escape_default());
    } else {
        safe.push(c);
    }
}

/// The length of the colour sequence that `text` begins with: ESC [ digits and semicolons m.
fn colour_length(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("\x1b[")?;
    let length = inner.bytes().take_while(|b| b.is_ascii_digit() || *b == b';').count();
    (length < 32 && inner.as_bytes().get(length) == Some(&b'm')).then_some(length + 3)
}

/// A number with commas at the thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes for people: `1.2 GB`.
pub fn bytes(number: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "it is rounded to a digit")]
    let mut size = number as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if size < 1000.0 {
            return if unit == "B" { format!("{number} B") } else { format!("{size:.1} {unit}") };
        }
        size /= 1000.0;
    }
    format!("{size:.1} TB")
}

/// `one` or `many`, as the number asks.
pub fn plural<'a>(number: usize, one: &'a str, many: &'a str) -> &'a str {
    if number == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_reaches_no_terminal_as_a_control_sequence() {
        assert_eq!(printable("a\x1b]0;title\x07b\r\n"), "a\\u{1b}]0;title\\u{7}b\\r\\n");
        assert_eq!(printable("x\u{202e}y\u{9b}31m"), "x\\u{202e}y\\u{9b}31m");
        assert_eq!(printable_bytes(b"a\xffb"), "a\\xffb");
    }

    #[test]
    fn colours_of_a_stage_pass_and_are_ended() {
        assert_eq!(printable_output("\x1b[31mred\x1b[2J"), "\x1b[31mred\\u{1b}[2J\x1b[0m");
        assert_eq!(printable_output("a\tb"), "a\tb");
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!(grouped(1_271), "1,271");
        assert_eq!(grouped(12), "12");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_240_000_000), "1.2 GB");
    }
}
