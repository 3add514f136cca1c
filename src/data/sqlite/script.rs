//! `.sql` stages, run by receiver itself: no client program, all files in one transaction.

use std::ffi::CString;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, Statement};

use super::lexer::{self, Token};
use super::{open, place};
use crate::data::{Limit, Script};
use crate::support::{Context, Error, Result};

/// The settings that SQL may ask for or change: those that leave the file, its journal and its safety alone.
const PRAGMAS: &[&str] = &[
    "application_id",
    "case_sensitive_like",
    "data_version",
    "defer_foreign_keys",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "optimize",
    "page_count",
    "page_size",
    "quick_check",
    "recursive_triggers",
    "schema_version",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// Functions that reach beyond the database, should SQLite ever be built with them.
const FUNCTIONS: &[&str] = &["load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"];

/// Runs files of SQL on a database, in their order, in one transaction: all of it or nothing.
///
/// `previous` can be read as the schema of that name, and not written. References are checked at the
/// end (`PRAGMA defer_foreign_keys`), so that rows may come in any order. A `BEGIN` or `COMMIT` in a
/// file is passed over, with a line to `on_log`; what would leave the transaction, attach a file or
/// change how this one is kept is refused. Errors name the file and its line.
pub fn run_sql(
    path: &Path,
    scripts: &[Script<'_>],
    previous: Option<&Path>,
    limit: &Limit<'_>,
    on_log: &mut dyn FnMut(&str),
) -> Result<()> {
    let cannot = || format!("cannot run SQL on the database {}", path.display());
    let mut connection = open::writer(path)?;
    if let Some(previous) = previous {
        attach(&connection, previous)?;
    }
    let begin = "PRAGMA foreign_keys=ON; BEGIN IMMEDIATE; PRAGMA defer_foreign_keys=ON";
    connection.execute_batch(begin).context(cannot)?;
    let refusal = fetter(&mut connection, Transactions::Refused).context(cannot)?;
    for script in scripts {
        let text = std::str::from_utf8(script.text)
            .context(|| format!("cannot run {}: it is not UTF-8", script.name))?;
        open::within(&connection, limit, || run(&connection, script.name, text, &refusal, limit, on_log))
            .context(|| format!("{} failed, and nothing of the stage is kept", script.name))?;
    }
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>).context(cannot)?;
    // Not a file's fault alone: a reference may lead from one file's rows to another's.
    connection.execute_batch("COMMIT").context(|| "the SQL ran, and could not be committed")
}

/// Attaches a database as `previous`, for reading. What SQLite opens with `mode=ro` nothing can write.
fn attach(connection: &Connection, previous: &Path) -> Result<()> {
    let file = place::existing(previous)?;
    let uri = format!("file:{}?mode=ro", place::percent_encoded(&file));
    connection
        .execute("ATTACH ?1 AS previous", [uri])
        .map(drop)
        .context(|| format!("cannot read the previous database {}", previous.display()))
}

fn run(
    connection: &Connection,
    name: &str,
    text: &str,
    refusal: &Refusal,
    limit: &Limit<'_>,
    on_log: &mut dyn FnMut(&str),
) -> Result<()> {
    for range in lexer::split(text).statements {
        let (start, sql) = (range.start, &text[range]);
        let place = |offset: usize| {
            let line = 1 + text[..offset].bytes().filter(|&b| b == b'\n').count();
            format!("{name}:{line}")
        };
        if is_boundary(&lexer::tokens(sql)) {
            on_log(&format!("{}: passed over, as all files are one transaction: {sql}", place(start)));
            continue;
        }
        limit.check()?;
        if let Err(error) = execute(connection, sql) {
            let (offset, message) = told(&error);
            let message = refusal.take().unwrap_or(message);
            return Err(Error::new(format!("{}: {message}", place(start + offset))));
        }
        if connection.is_autocommit() {
            return Err(Error::new(format!("{}: it ended the transaction", place(start))));
        }
    }
    Ok(())
}

/// Runs one statement to its end; the rows that it may answer are nobody's.
fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = prepare(connection, sql)?;
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(())
}

/// Prepares one statement. SQLite would stop reading at a zero byte and run what stands before it.
pub(super) fn prepare<'a>(connection: &'a Connection, sql: &str) -> rusqlite::Result<Statement<'a>> {
    CString::new(sql)?;
    connection.prepare(sql)
}

/// Whether a statement is one that a whole file is often wrapped in: it would change nothing here.
fn is_boundary(statement: &[Token<'_>]) -> bool {
    let words = ["begin", "commit", "end", "deferred", "immediate", "exclusive", "transaction", ";"];
    let first = statement.first().is_some_and(|token| words[..3].iter().any(|word| token.is(word)));
    first && statement.iter().all(|token| words.iter().any(|word| token.is(word)))
}

/// Where in its statement an error is, and what SQLite says, without the statement.
pub(super) fn told(error: &rusqlite::Error) -> (usize, String) {
    match error {
        rusqlite::Error::SqlInputError { msg, offset, .. } => {
            (usize::try_from(*offset).unwrap_or(0), msg.clone())
        }
        other => (0, other.to_string()),
    }
}

/// Whether what is run may begin and end transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transactions {
    Allowed,
    Refused,
}

/// Why the last statement was not allowed; SQLite itself only says `not authorized`.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal(Arc<Mutex<Option<String>>>);

impl Refusal {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, why: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// Keeps the SQL of others within the one database: no other file is opened, made or attached.
pub(super) fn fetter(connection: &mut Connection, transactions: Transactions) -> rusqlite::Result<Refusal> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    let refusal = Refusal::default();
    let reasons = refusal.clone();
    connection.authorizer(Some(move |asked: AuthContext<'_>| match refused(asked.action, transactions) {
        None => Authorization::Allow,
        Some(why) => {
            reasons.set(why);
            Authorization::Deny
        }
    }))?;
    Ok(refusal)
}

fn refused(action: AuthAction<'_>, transactions: Transactions) -> Option<String> {
    match action {
        // VACUUM attaches a nameless file of its own.
        AuthAction::Attach { filename } if !filename.is_empty() => {
            Some("other files may not be attached or written".to_owned())
        }
        AuthAction::Detach { .. } => Some("databases may not be detached".to_owned()),
        AuthAction::Transaction { .. } if transactions == Transactions::Refused => {
            Some("all files are one transaction, which may not be ended here".to_owned())
        }
        AuthAction::Pragma { pragma_name, .. } if !listed(PRAGMAS, pragma_name) => {
            Some(format!("the pragma '{}' is not allowed", pragma_name.escape_debug()))
        }
        AuthAction::Function { function_name } if listed(FUNCTIONS, function_name) => {
            Some(format!("the function '{function_name}' is not allowed"))
        }
        _ => None,
    }
}

fn listed(list: &[&str], name: &str) -> bool {
    list.iter().any(|known| known.eq_ignore_ascii_case(name))
}
