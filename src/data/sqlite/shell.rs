//! A small shell: statements in, rows out.

use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::script::{self, Refusal, Transactions};
use super::{lexer, open};
use crate::data::Access;
use crate::support::{Context, Error, Result};

/// Runs what `input` says, statement by statement, each ended by `;`. Rows go to `output`, separated by
/// tabs, under the names of their columns; what fails goes to `errors`, and the rest is run all the same.
/// Answers whether everything succeeded.
pub fn shell(
    path: &Path,
    access: Access,
    input: impl BufRead,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<bool> {
    let shell = Shell::open(path, access)?;
    let succeeded = each(input, errors, &mut |sql| shell.run(sql, output))?;
    Ok(told(shell.close(), errors)? && succeeded)
}

/// A connection on which statements are run one by one. It stays within the one database: other files are neither
/// attached nor written.
pub(super) struct Shell {
    connection: Connection,
    refusal: Refusal,
}

impl Shell {
    pub(super) fn open(path: &Path, access: Access) -> Result<Shell> {
        let mut connection = match access {
            Access::Read => open::reader(path)?,
            Access::Write => open::writer(path)?,
        };
        let refusal = script::fetter(&mut connection, Transactions::Allowed)
            .context(|| format!("cannot open a shell on {}", path.display()))?;
        Ok(Shell { connection, refusal })
    }

    /// Runs one statement.
    pub(super) fn run(&self, sql: &str, output: &mut dyn Write) -> Result<()> {
        answer(&self.connection, sql, &self.refusal, output)
    }

    /// Ends it; an error where a transaction was left open.
    pub(super) fn close(self) -> Result<()> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        Err(Error::new("the transaction was not committed, and is undone"))
    }
}

/// Gives each statement of `input` to `run`, and tells what fails; whether nothing did.
pub(super) fn each(
    mut input: impl BufRead,
    errors: &mut dyn Write,
    run: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<bool> {
    let mut succeeded = true;
    let mut text = String::new();
    loop {
        let read = input.read_line(&mut text).context(|| "cannot read the next statement")?;
        let split = lexer::split(&text);
        if read > 0 && !split.complete {
            continue;
        }
        for range in split.statements {
            succeeded &= told(run(&text[range]), errors)?;
        }
        text.clear();
        if read == 0 {
            return Ok(succeeded);
        }
    }
}

/// Whether it succeeded; else why not is written.
pub(super) fn told(done: Result<()>, errors: &mut dyn Write) -> Result<bool> {
    let Err(error) = done else { return Ok(true) };
    writeln!(errors, "error: {}", error.one_line()).context(|| "cannot write an error")?;
    Ok(false)
}

fn answer(connection: &Connection, sql: &str, refusal: &Refusal, output: &mut dyn Write) -> Result<()> {
    let why = |error: rusqlite::Error| Error::new(refusal.take().unwrap_or_else(|| script::told(&error).1));
    let mut statement = script::prepare(connection, sql).map_err(why)?;
    let columns = statement.column_count();
    let names = statement.column_names().map(plain).collect::<Vec<_>>().join("\t");
    let mut rows = statement.raw_query();
    let mut headed = false;
    while let Some(row) = rows.next().map_err(why)? {
        let mut line = Vec::with_capacity(columns);
        for column in 0..columns {
            line.push(shown(row.get_ref(column).map_err(why)?));
        }
        if !headed {
            headed = true;
            writeln!(output, "{names}").context(|| "cannot write a row")?;
        }
        writeln!(output, "{}", line.join("\t")).context(|| "cannot write a row")?;
    }
    output.flush().context(|| "cannot write a row")
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => plain(&String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => {
            bytes.iter().fold(String::from("X'"), |mut hex, byte| {
                // Writing to a String cannot fail.
                let _ = write!(hex, "{byte:02X}");
                hex
            }) + "'"
        }
    }
}

/// Text on one line, in one cell, and without power over a terminal.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => plain.push_str("\\\\"),
            c if c.is_control() => plain.extend(c.escape_default()),
            c => plain.push(c),
        }
    }
    plain
}
