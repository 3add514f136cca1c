//! `.sql` stages, run by receiver itself, as the version's own role: no client program, all files in one
//! transaction.

use postgres::error::ErrorPosition;

use super::lexer::{self, Token};
use super::session::Session;
use crate::data::{Limit, Script};
use crate::support::{Context, Error, Result};

/// Runs files of SQL in their order, in one transaction: all of it or nothing.
///
/// A `BEGIN` or `COMMIT` in a file is passed over, with a line to `on_line`. A database of PostgreSQL cannot read
/// another: a file that names `previous` is refused. Errors name the file and its line.
pub(super) fn run_sql(
    mut session: Session,
    scripts: &[Script<'_>],
    has_previous: bool,
    limit: &Limit<'_>,
    on_line: &mut dyn FnMut(&str),
) -> Result<()> {
    session.run("BEGIN")?;
    for script in scripts {
        let text = std::str::from_utf8(script.text)
            .context(|| format!("cannot run {}: it is not UTF-8", script.name))?;
        run(&mut session, script.name, text, has_previous, limit, on_line)
            .context(|| format!("{} failed, and nothing of the stage is kept", script.name))?;
    }
    // Not a file's fault alone: a deferred constraint may lead from one file's rows to another's.
    session.run("COMMIT").context(|| "the SQL ran, and could not be committed")
}

fn run(
    session: &mut Session,
    name: &str,
    text: &str,
    has_previous: bool,
    limit: &Limit<'_>,
    on_line: &mut dyn FnMut(&str),
) -> Result<()> {
    for range in lexer::split(text).statements {
        let (start, sql) = (range.start, &text[range]);
        let place = |offset: usize| format!("{name}:{}", line(text, start + offset));
        let (tokens, _) = lexer::tokens(sql);
        match judged(&tokens, has_previous) {
            Judgement::Run => {}
            Judgement::PassOver => {
                on_line(&format!("{}: passed over, as all files are one transaction: {sql}", place(0)));
                continue;
            }
            Judgement::Refuse(why) => return Err(Error::new(format!("{}: {why}", place(0)))),
        }
        let mut at = 0;
        let ran = session.within(limit, |session| {
            session.client.batch_execute(sql).map_err(|error| {
                at = offset(&error, sql);
                session.told(&error)
            })
        });
        ran.map_err(|error| Error::new(format!("{}: {error}", place(at))))?;
    }
    Ok(())
}

/// The line of a text, counted from 1, that an offset is on.
fn line(text: &str, offset: usize) -> usize {
    1 + text[..offset.min(text.len())].matches('\n').count()
}

/// Where in its statement the server found an error: it counts characters, from 1.
fn offset(error: &postgres::Error, sql: &str) -> usize {
    let position = match error.as_db_error().and_then(|said| said.position()) {
        Some(ErrorPosition::Original(position)) => *position as usize,
        _ => 1,
    };
    sql.char_indices().nth(position.saturating_sub(1)).map_or(0, |(at, _)| at)
}

/// What becomes of a statement.
pub(super) enum Judgement {
    Run,
    PassOver,
    Refuse(String),
}

fn judged(tokens: &[Token<'_>], has_previous: bool) -> Judgement {
    let first = |word: &str| tokens.first().is_some_and(|token| token.is(word));
    let boundary = ["begin", "start", "commit", "end", "work", "transaction", ";"];
    if boundary[..4].iter().any(|word| first(word)) {
        return if tokens.iter().all(|token| boundary.iter().any(|word| token.is(word))) {
            Judgement::PassOver
        } else {
            Judgement::Refuse("all files are one transaction, which has the settings of its role".to_owned())
        };
    }
    let to_savepoint = tokens.iter().any(|token| token.is("to"));
    if first("abort") || (first("rollback") && !to_savepoint) || is_prepared(tokens) {
        return Judgement::Refuse("all files are one transaction, which may not be ended here".to_owned());
    }
    if tokens.windows(2).any(|pair| pair[0].is("previous") && pair[1].is(".")) && has_previous {
        return Judgement::Refuse(
            "a database of PostgreSQL cannot read the previous one: a stage that is a program can, by PREVIOUS_DATABASE_URL".to_owned(),
        );
    }
    match foreign(tokens) {
        Some(why) => Judgement::Refuse(why),
        None => Judgement::Run,
    }
}

fn is_prepared(tokens: &[Token<'_>]) -> bool {
    matches!(tokens, [first, second, ..] if first.is("prepare") && second.is("transaction"))
}

/// What is no SQL for the server alone: `psql`'s commands, and rows that come with `COPY`.
pub(super) fn foreign(tokens: &[Token<'_>]) -> Option<String> {
    let first = tokens.first()?;
    if first.is("\\") {
        return Some("commands of psql that begin with a backslash are no SQL".to_owned());
    }
    let ends = |pair: &[Token<'_>], word: &str, end: &str| pair[0].is(word) && pair[1].is(end);
    let copies = |word, end| first.is("copy") && tokens.windows(2).any(|pair| ends(pair, word, end));
    if copies("from", "stdin") || copies("to", "stdout") {
        return Some(
            "rows of COPY cannot be read here: use INSERT, or a dump in custom format (`pg_dump -Fc`)"
                .to_owned(),
        );
    }
    None
}
