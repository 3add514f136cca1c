//! What is said: data to stdout, talk to stderr, colours only where somebody sees them.

use std::io::{ErrorKind, IsTerminal, Write};

use serde::Serialize;

use super::{Color, Global};
use crate::support::text::printable;
use crate::support::{Context, Error, Result};

/// Prints data: `words`, a line each, or with `--json` the object.
///
/// # Errors
/// Where it cannot be written. A reader that is gone (`| head`) is none.
pub fn data(global: &Global, object: &impl Serialize, words: &[String]) -> Result<()> {
    let mut output = std::io::stdout().lock();
    if global.json {
        let text = serde_json::to_string(object).context(|| "cannot write JSON")?;
        return written(writeln!(output, "{text}"));
    }
    written(words.iter().try_for_each(|line| writeln!(output, "{line}")))
}

/// Sees out what was written to stdout.
///
/// # Errors
/// Where it cannot be written (`> /dev/full`).
pub fn flushed() -> Result<()> {
    written(std::io::stdout().flush())
}

/// A reader that is gone is no error; everything else is.
pub fn written(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context(|| "cannot write the output")
        }
        _ => Ok(()),
    }
}

/// Says something to the person; not with `--quiet`.
pub fn say(global: &Global, line: &str) {
    if !global.quiet {
        let _ = writeln!(std::io::stderr(), "{}", tame(line));
    }
}

/// Whatever a sentence quotes (a name, a file, another program) does nothing to the terminal.
fn tame(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Prints an error.
pub fn error(global: &Global, error: &Error) {
    let text = tame(&error.render());
    let coloured = match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let text = match text.strip_prefix("error:") {
        Some(rest) if coloured => format!("\x1b[1;31merror:\x1b[0m{rest}"),
        _ => text,
    };
    let _ = writeln!(std::io::stderr(), "{text}");
}
