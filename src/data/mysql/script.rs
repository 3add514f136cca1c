//! SQL of others: `.sql` stages, the shell, and dumps that are loaded. It is run by the database's own role, one
//! statement after the other, each as it stands in its file.
//!
//! Nothing of it can be undone as a whole: most statements that change a schema commit what was before them. What a
//! stage leaves when it fails is the copy's, which is thrown away.

use std::io::BufRead;

use mysql::Value;
use mysql::prelude::Queryable;

use super::database::Mysql;
use super::lexer;
use super::quote;
use super::roles;
use super::session::Session;
use crate::data::{Access, Limit, Script, Spot, Talk};
use crate::support::{Context, Error, Result};

/// How the database before this one is called in a script, as on SQLite.
const PREVIOUS: &str = "previous";

/// Statements, read one after the other, however long the text is.
pub(super) struct Statements<'a> {
    input: &'a mut dyn BufRead,
    delimiter: String,
    text: String,
    /// The line that `text` begins with, and the next one to read.
    begins: usize,
    line: usize,
    ready: std::vec::IntoIter<(usize, String)>,
    ended: bool,
}

impl<'a> Statements<'a> {
    pub(super) fn of(input: &'a mut dyn BufRead) -> Statements<'a> {
        Statements {
            input,
            delimiter: ";".to_owned(),
            text: String::new(),
            begins: 1,
            line: 1,
            ready: Vec::new().into_iter(),
            ended: false,
        }
    }

    /// The next statement and the line that it begins in.
    pub(super) fn next(&mut self) -> Result<Option<(usize, String)>> {
        loop {
            if let Some(statement) = self.ready.next() {
                return Ok(Some(statement));
            }
            if self.ended {
                return Ok(None);
            }
            let mut bytes = Vec::new();
            let read =
                self.input.read_until(b'\n', &mut bytes).context(|| "cannot read the next statement")?;
            let line = String::from_utf8(bytes).map_err(|_| {
                Error::new(format!("line {} is not UTF-8", self.line)).hint("make the dump with --hex-blob")
            })?;
            self.text.push_str(&line);
            self.line += 1;
            self.ended = read == 0;
            // Only a line that may end a statement is worth a look: a statement can have very many.
            let word = line.trim_end();
            let ends = word.ends_with(&self.delimiter) || line.trim_start().len() < 40 || line.contains("*/");
            if self.ended || ends {
                self.look();
            }
        }
    }

    fn look(&mut self) {
        let split = lexer::split(&self.text, &self.delimiter);
        if !split.complete && !self.ended {
            return;
        }
        let line = |at: usize| self.begins + self.text[..at].bytes().filter(|&byte| byte == b'\n').count();
        let found: Vec<(usize, String)> = split
            .statements
            .iter()
            .map(|range| (line(range.start), self.text[range.clone()].to_owned()))
            .collect();
        self.ready = found.into_iter();
        self.delimiter = split.delimiter;
        self.text.clear();
        self.begins = self.line;
    }
}

/// A session of a database's own role.
pub(super) fn session(database: &Mysql, access: Access) -> Result<Session> {
    let (role, password) = database.role(access)?;
    Session::of_role(&database.server.socket, &role, password, database.name())
}

/// Runs files of SQL, in their order.
pub(super) fn run(
    database: &Mysql,
    scripts: &[Script<'_>],
    previous: Option<&Spot>,
    limit: &Limit<'_>,
) -> Result<()> {
    if let Some(previous) = previous {
        let mut admin = database.session()?;
        let place = roles::place(&mut admin, &previous.name)?;
        let to = quote::account(database.name());
        admin.run(&format!("GRANT SELECT, SHOW VIEW ON {place}.* TO {to}"))?;
        let result = run_all(database, scripts, Some(&previous.name), limit);
        let taken_back = admin.run(&format!("REVOKE SELECT, SHOW VIEW ON {place}.* FROM {to}"));
        return result.and(taken_back);
    }
    run_all(database, scripts, None, limit)
}

fn run_all(
    database: &Mysql,
    scripts: &[Script<'_>],
    previous: Option<&str>,
    limit: &Limit<'_>,
) -> Result<()> {
    let mut session = session(database, Access::Write)?;
    for script in scripts {
        let mut input = script.text;
        let mut statements = Statements::of(&mut input);
        let failed = |why| Error::new(format!("{} failed", script.name)).caused_by(why);
        while let Some((line, statement)) = statements.next().map_err(failed)? {
            let statement = match previous {
                Some(previous) => lexer::requalified(&statement, PREVIOUS, previous),
                None => statement,
            };
            database
                .server
                .within(&mut session, limit, |session| session.run(&statement))
                .map_err(|why| Error::new(format!("{}:{line} failed", script.name)).caused_by(why))?;
        }
    }
    Ok(())
}

/// Runs what a dump says on a database, as its role. Who defined an object elsewhere is not asked for here.
pub(super) fn load(database: &Mysql, input: &mut dyn BufRead, name: &str, limit: &Limit<'_>) -> Result<()> {
    let mut session = session(database, Access::Write)?;
    let mut statements = Statements::of(input);
    while let Some((line, statement)) = statements.next()? {
        let statement = without_definer(&statement);
        database
            .server
            .within(&mut session, limit, |session| session.run(&statement))
            .map_err(|why| Error::new(format!("{name}:{line} failed")).caused_by(why))?;
    }
    Ok(())
}

/// A statement without `DEFINER=a@b`: what it makes is its role's.
fn without_definer(statement: &str) -> String {
    let tokens: Vec<lexer::Token<'_>> = lexer::tokens_at_first(statement, 24);
    let Some(at) = tokens.windows(2).position(|pair| pair[0].is("definer") && pair[1].is("=")) else {
        return statement.to_owned();
    };
    let end = match tokens.get(at + 3) {
        Some(sign) if sign.is("@") => tokens.get(at + 4),
        _ => tokens.get(at + 2),
    };
    match end {
        Some(end) => format!("{}{}", &statement[..tokens[at].at], &statement[end.end()..]),
        None => statement.to_owned(),
    }
}

/// Statements in, rows out; whether all of them succeeded.
pub(super) fn shell(database: &Mysql, access: Access, talk: Talk<'_>) -> Result<bool> {
    let mut session = session(database, access)?;
    let mut statements = Statements::of(talk.input);
    let mut succeeded = true;
    while let Some((_, statement)) = statements.next()? {
        if let Err(why) = answer(&mut session, &statement, talk.output)? {
            succeeded = false;
            writeln!(talk.errors, "error: {}", why.one_line()).context(|| "cannot write an error")?;
        }
    }
    Ok(succeeded)
}

/// Runs one statement. The outer error is that of the output.
fn answer(session: &mut Session, statement: &str, output: &mut dyn std::io::Write) -> Result<Result<()>> {
    let mut lines: Result<(), mysql::Error> = Ok(());
    let mut written = Ok(());
    match session.connection().query_iter(statement) {
        Err(error) => lines = Err(error),
        Ok(mut answers) => {
            while let Some(rows) = answers.iter() {
                let names: Vec<String> =
                    rows.columns().as_ref().iter().map(|column| plain(&column.name_str())).collect();
                let mut headed = false;
                for row in rows {
                    match row {
                        Err(error) => lines = Err(error),
                        Ok(row) => {
                            let cells: Vec<String> = row.unwrap_raw().into_iter().map(shown).collect();
                            if !headed {
                                headed = true;
                                written = written.and(writeln!(output, "{}", names.join("\t")));
                            }
                            written = written.and(writeln!(output, "{}", cells.join("\t")));
                        }
                    }
                }
            }
        }
    }
    written.and_then(|()| output.flush()).context(|| "cannot write a row")?;
    Ok(lines.map_err(|error| session.told(&error)))
}

fn shown(value: Option<Value>) -> String {
    match value {
        None | Some(Value::NULL) => "NULL".to_owned(),
        Some(Value::Bytes(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => plain(&text),
            Err(error) => {
                let hex: Vec<String> = error.as_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
                format!("X'{}'", hex.concat())
            }
        },
        Some(other) => other.as_sql(true),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut text: &[u8]) -> Vec<(usize, String)> {
        let mut statements = Statements::of(&mut text);
        std::iter::from_fn(|| statements.next().unwrap()).collect()
    }

    #[test]
    fn statements_are_read_with_their_lines() {
        let text = b"a;\n\n-- x\nb\n c ;\nDELIMITER //\nd;\ne//\nDELIMITER ;\nf";
        let expected = [(1, "a"), (4, "b\n c"), (7, "d;\ne"), (10, "f")];
        assert_eq!(all(text), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn a_definer_is_left_out() {
        let dumped = "/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ /*!50003 TRIGGER t*/";
        assert_eq!(without_definer(dumped), "/*!50003 CREATE*/ /*!50017 */ /*!50003 TRIGGER t*/");
        assert_eq!(without_definer("CREATE DEFINER = CURRENT_USER VIEW v"), "CREATE  VIEW v");
    }
}
