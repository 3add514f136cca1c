//! A small shell: statements in, rows out.

use std::io::Write;

use postgres::SimpleQueryMessage;

use super::lexer;
use super::script;
use super::session::Session;
use crate::data::Talk;
use crate::support::{Context, Error, Result};

/// Runs what `talk` says, statement by statement, each ended by `;`. What fails is told, and the rest is run all
/// the same. Answers whether everything succeeded.
pub(super) fn shell(mut session: Session, talk: Talk<'_>) -> Result<bool> {
    let mut succeeded = true;
    let mut text = String::new();
    loop {
        let read = talk.input.read_line(&mut text).context(|| "cannot read the next statement")?;
        let split = lexer::split(&text);
        if read > 0 && !split.complete {
            continue;
        }
        for range in split.statements {
            if let Err(error) = answer(&mut session, &text[range], talk.output) {
                succeeded = false;
                writeln!(talk.errors, "error: {}", error.one_line()).context(|| "cannot write an error")?;
            }
        }
        text.clear();
        if read == 0 {
            break;
        }
    }
    // In a transaction the time stands still; in one that failed nothing is answered.
    let asked = session.client.simple_query("SELECT WHERE statement_timestamp() <> transaction_timestamp()");
    let is_row = |message: &SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(_));
    if asked.map_or(true, |answer| answer.iter().any(is_row)) {
        succeeded = false;
        writeln!(talk.errors, "error: the transaction was not committed, and is undone")
            .context(|| "cannot write an error")?;
    }
    Ok(succeeded)
}

fn answer(session: &mut Session, sql: &str, output: &mut dyn Write) -> Result<()> {
    if let Some(why) = script::foreign(&lexer::tokens(sql).0) {
        return Err(Error::new(why));
    }
    let messages = session.client.simple_query(sql).map_err(|error| session.told(&error))?;
    let mut headed = false;
    for message in &messages {
        let SimpleQueryMessage::Row(row) = message else { continue };
        if !headed {
            headed = true;
            let names: Vec<_> = row.columns().iter().map(|column| plain(column.name())).collect();
            writeln!(output, "{}", names.join("\t")).context(|| "cannot write a row")?;
        }
        let cells: Vec<_> =
            (0..row.len()).map(|at| row.get(at).map_or_else(|| "NULL".to_owned(), plain)).collect();
        writeln!(output, "{}", cells.join("\t")).context(|| "cannot write a row")?;
    }
    output.flush().context(|| "cannot write a row")
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
