//! The canonical form of an SQLite schema, from its pragmas; only what they do not tell (checks,
//! generated columns, collations, views, triggers) is read from the text of the statements.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::lexer::{self, Token};
use super::{fence, open, way};
use crate::data::Schema;
use crate::support::{Context, Result};

/// The schema of a database, without receiver's own objects, SQLite's and the framework's bookkeeping.
pub fn schema(path: &Path) -> Result<Schema> {
    let connection = open::reader(path)?;
    let whole = read(&connection).context(|| format!("cannot read the schema of {}", path.display()))?;
    Ok(whole.without_bookkeeping())
}

/// All of the schema, bookkeeping included.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Schema> {
    let mut schema = Schema::default();
    let statements = Statements::read(connection)?;
    for (table, kind, options) in tables(connection)? {
        let name = table.to_lowercase();
        match kind.as_str() {
            "table" => {
                schema.table(&name);
                if !options.is_empty() {
                    schema.fact(&name, format!("{name} options"), options);
                }
                columns(connection, &table, &name, &mut schema)?;
                indexes(connection, &statements, &table, &name, &mut schema)?;
                foreign_keys(connection, &table, &name, &mut schema)?;
                if let Some(sql) = statements.of("table", &table) {
                    clauses(sql, &name, &mut schema);
                }
            }
            // A module may be unknown here: its statement is all there is to ask.
            "virtual" => {
                schema.table(&name);
                if let Some(sql) = statements.of("table", &table) {
                    let definition = after(&lexer::tokens(sql), "using");
                    schema.fact(&name, format!("{name} virtual"), definition);
                }
            }
            "view" => {
                if let Some(sql) = statements.of("view", &table) {
                    schema.other(format!("view {name}"), after(&lexer::tokens(sql), "as"));
                }
            }
            // The tables behind a virtual one are its module's affair.
            _ => {}
        }
    }
    triggers(connection, &mut schema)?;
    Ok(schema)
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<(String, String, String)>> {
    let mut query = connection.prepare(&format!(
        "SELECT name, type, rtrim(iif(wr, 'without rowid ', '') || iif(strict, 'strict', '')) FROM pragma_table_list
         WHERE schema = 'main' AND lower(substr(name, 1, 7)) <> 'sqlite_'
             AND name NOT IN (SELECT name FROM sqlite_schema WHERE {}) ORDER BY name",
        way::NOTES
    ))?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

/// The text of every statement that made something, by kind and name: to look for one is to look through all of them.
struct Statements(BTreeMap<(String, String), String>);

impl Statements {
    fn read(connection: &Connection) -> rusqlite::Result<Statements> {
        let mut query = connection.prepare(
            "SELECT type, name, sql FROM sqlite_schema WHERE type IN ('table', 'view', 'index') AND sql IS NOT NULL",
        )?;
        let rows = query.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
        Ok(Statements(rows.collect::<rusqlite::Result<_>>()?))
    }

    fn of(&self, kind: &str, name: &str) -> Option<&str> {
        self.0.get(&(kind.to_owned(), name.to_owned())).map(String::as_str)
    }
}

fn columns(connection: &Connection, table: &str, name: &str, schema: &mut Schema) -> rusqlite::Result<()> {
    let mut query = connection.prepare_cached(
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1)",
    )?;
    let mut rows = query.query([table])?;
    let mut key: Vec<(u32, String)> = Vec::new();
    while let Some(row) = rows.next()? {
        let column = row.get::<_, String>(0)?.to_lowercase();
        let mut says = lexer::normal(&row.get::<_, String>(1)?);
        if row.get(2)? {
            says.push_str(" not null");
        }
        if let Some(default) = row.get::<_, Option<String>>(3)? {
            says.push_str(" default ");
            says.push_str(&lexer::normal(&default));
        }
        match row.get::<_, u32>(5)? {
            2 => says.push_str(" virtual"),
            3 => says.push_str(" stored"),
            _ => {}
        }
        let place = row.get(4)?;
        if place > 0 {
            key.push((place, column.clone()));
        }
        schema.fact(name, format!("{name}.{column}"), says.trim_start().to_owned());
    }
    key.sort_unstable();
    if !key.is_empty() {
        let key: Vec<_> = key.into_iter().map(|(_, column)| column).collect();
        schema.fact(name, format!("{name} primary key"), key.join(", "));
    }
    Ok(())
}

fn indexes(
    connection: &Connection,
    statements: &Statements,
    table: &str,
    name: &str,
    schema: &mut Schema,
) -> rusqlite::Result<()> {
    let mut query =
        connection.prepare_cached("SELECT name, \"unique\", origin FROM pragma_index_list(?1)")?;
    let mut rows = query.query([table])?;
    while let Some(row) = rows.next()? {
        let index: String = row.get(0)?;
        match row.get::<_, String>(2)?.as_str() {
            "u" => {
                let columns = index_columns(connection, &index)?;
                schema.fact(name, format!("{name} unique ({columns})"), String::new());
            }
            "c" => {
                let tokens = lexer::tokens(statements.of("index", &index).unwrap_or_default());
                let from = tokens.iter().position(|token| token.is("(")).unwrap_or(tokens.len());
                let unique = if row.get(1)? { "unique " } else { "" };
                let says = format!("{unique}{}", lexer::joined(&tokens[from..]));
                schema.fact(name, format!("index {} on {name}", index.to_lowercase()), says);
            }
            // The primary key's, which is told already.
            _ => {}
        }
    }
    Ok(())
}

fn index_columns(connection: &Connection, index: &str) -> rusqlite::Result<String> {
    let mut query = connection.prepare_cached(
        "SELECT lower(name) || iif(coll = 'BINARY', '', ' collate ' || lower(coll)) || iif(\"desc\", ' desc', '')
         FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno",
    )?;
    let columns: Vec<String> =
        query.query_map([index], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(columns.join(", "))
}

fn foreign_keys(
    connection: &Connection,
    table: &str,
    name: &str,
    schema: &mut Schema,
) -> rusqlite::Result<()> {
    let mut query = connection.prepare_cached(
        "SELECT group_concat(lower(\"from\"), ', ' ORDER BY seq), lower(\"table\"),
                coalesce(group_concat(lower(\"to\"), ', ' ORDER BY seq), ''), lower(on_update), lower(on_delete)
         FROM pragma_foreign_key_list(?1) GROUP BY id",
    )?;
    let mut rows = query.query([table])?;
    while let Some(row) = rows.next()? {
        let cell = |at| row.get::<_, String>(at);
        let key = format!("{name} foreign key ({}) references {} ({})", cell(0)?, cell(1)?, cell(2)?);
        schema.fact(name, key, format!("on update {} on delete {}", cell(3)?, cell(4)?));
    }
    Ok(())
}

/// What only the text of a table tells: its checks, and of each column the collation, the
/// generating expression, autoincrement and how its foreign key is deferred.
fn clauses(sql: &str, table: &str, schema: &mut Schema) {
    let tokens = lexer::tokens(sql);
    let Some(open) = tokens.iter().position(|token| token.is("(")) else { return };
    for item in items(&tokens[open..]) {
        let Some(first) = item.first() else { continue };
        let column = first.name();
        for (at, token) in item.iter().enumerate().skip(1) {
            let next = item.get(at + 1);
            if token.is("collate") {
                let name = next.map(Token::name).unwrap_or_default();
                schema.fact(table, format!("{table}.{column} collate"), name);
            } else if token.is("autoincrement") {
                schema.fact(table, format!("{table}.{column} autoincrement"), String::new());
            } else if token.is("as") {
                schema.fact(table, format!("{table}.{column} as"), group(&item[at + 1..]));
            } else if token.is("initially") {
                let when = next.map(Token::name).unwrap_or_default();
                schema.fact(table, format!("{table} {} initially", lexer::joined(&item[..1])), when);
            }
        }
        for (at, _) in item.iter().enumerate().filter(|(_, token)| token.is("check")) {
            schema.fact(table, format!("{table} check {}", group(&item[at + 1..])), String::new());
        }
    }
}

/// The parts of a list in parentheses, at its outermost commas.
pub(super) fn items<'a, 'b>(list: &'b [Token<'a>]) -> Vec<&'b [Token<'a>]> {
    let (mut depth, mut from, mut found) = (0_u32, 1, Vec::new());
    for (at, token) in list.iter().enumerate() {
        if token.is("(") {
            depth += 1;
        } else if token.is(")") {
            depth -= 1;
        }
        if depth == 0 || (depth == 1 && token.is(",")) {
            found.push(&list[from.min(at)..at]);
            from = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// What stands in the parentheses that come first.
fn group(tokens: &[Token<'_>]) -> String {
    let mut depth = 0_u32;
    let end = tokens.iter().position(|token| {
        depth += u32::from(token.is("("));
        depth = depth.saturating_sub(u32::from(token.is(")")));
        depth == 0
    });
    lexer::joined(&tokens[..end.map_or(tokens.len(), |end| end + 1)])
}

/// All that follows a word.
fn after(tokens: &[Token<'_>], word: &str) -> String {
    let from = tokens.iter().position(|token| token.is(word)).map_or(0, |at| at + 1);
    lexer::joined(&tokens[from..])
}

fn triggers(connection: &Connection, schema: &mut Schema) -> rusqlite::Result<()> {
    let mut query = connection.prepare(&format!(
        "SELECT lower(name), lower(tbl_name), sql FROM sqlite_schema WHERE type = 'trigger' AND NOT ({}) AND NOT {}",
        fence::OURS,
        way::NOTES
    ))?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (name, table, sql): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let tokens = lexer::tokens(&sql);
        // What comes before it is `create trigger [if not exists] NAME`, written in many ways.
        let from = tokens
            .iter()
            .position(|token| {
                ["before", "after", "instead", "delete", "insert", "update"].iter().any(|word| token.is(word))
            })
            .unwrap_or(0);
        schema.fact(&table, format!("trigger {name} on {table}"), lexer::joined(&tokens[from..]));
    }
    Ok(())
}
