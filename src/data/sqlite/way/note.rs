//! What notes the changes of one table: the triggers that enter its keys in a [`Log`].
//!
//! They cannot make a write of the app fail: `ON CONFLICT DO
//! NOTHING` stands whatever the app's own statement says (`INSERT OR ABORT` would overrule an `OR IGNORE`),
//! and what has a null in its key is passed over.
//!
//! A row that gives way to another one by `REPLACE` vanishes without a delete trigger (unless
//! `recursive_triggers` is on). With the same primary key that is seen as the insert of its successor. With
//! another one it stood in the way of a unique index: so, for each of these, a trigger looks before the write
//! who is there.

use rusqlite::Connection;

use super::super::lexer::{self, Token};
use super::super::open::Listed;
use super::super::triggers::Trigger;
use super::super::{canon, open};
use super::log::Log;
use super::tables::{self, Key};

/// What all of these have in their text, and nobody else's.
pub(super) const MARK: &str = "/* receiver: notes */";

/// Which objects are receiver's, in `sqlite_schema`: by their names, and what only they say. An app may well have
/// a table that begins with `receiver_`.
pub(in crate::data::sqlite) const OURS: &str = "(name GLOB 'receiver_log_*' AND \
     (type = 'table' AND sql GLOB 'CREATE TABLE \"receiver_log_*\" (/[*] receiver: notes [*]/*' OR \
      type = 'trigger' AND sql GLOB '* BEGIN /[*] receiver: notes [*]/ INSERT INTO \"receiver_log_*'))";

/// A table whose changes are noted.
pub(super) struct Watched {
    /// The name as it is written.
    pub(super) table: String,
    pub(super) key: Vec<Key>,
    columns: Vec<String>,
    /// For each unique index other than the key's: the condition for a row to be in the way of `NEW`.
    rivals: Vec<String>,
}

impl Watched {
    /// Reads what is needed of one table of `main`; `None` where it has no primary key.
    pub(super) fn read(connection: &Connection, listed: &Listed) -> rusqlite::Result<Option<Watched>> {
        let table = listed.name.as_str();
        let key = tables::key(connection, "main", listed)?;
        if key.is_empty() {
            return Ok(None);
        }
        let mut query = connection.prepare_cached(
            "SELECT name FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1 ORDER BY cid",
        )?;
        let columns = query.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut watched = Watched { table: table.to_owned(), key, columns, rivals: Vec::new() };
        watched.rivals = watched.find_rivals(connection)?;
        Ok(Some(watched))
    }

    /// The triggers that note its changes, exactly as SQLite keeps their text.
    pub(super) fn triggers(&self, log: &Log) -> Vec<Trigger> {
        let mut triggers = Vec::new();
        let mut trigger = |name: &str, when: &str, body: &str| {
            let name = format!("receiver_log_{}_{name}", log.number);
            let table = open::quoted(&self.table);
            let sql = format!("CREATE TRIGGER \"{name}\" {when} ON {table} BEGIN {MARK} {body} END");
            triggers.push(Trigger { name, table: self.table.clone(), sql });
        };
        let (new, old) = (self.note(log, "NEW", ""), self.note(log, "OLD", ""));
        let moved = format!("({}) IS NOT ({})", self.of_key("NEW."), self.of_key("OLD."));
        trigger("insert", "AFTER INSERT", &new);
        trigger("update", "AFTER UPDATE", &format!("{old} {}", self.note(log, "NEW", &moved)));
        trigger("delete", "AFTER DELETE", &old);
        if !self.rivals.is_empty() {
            let rivals: Vec<String> = self.rivals.iter().map(|rival| self.note_rivals(log, rival)).collect();
            trigger("before_insert", "BEFORE INSERT", &rivals.join(" "));
            trigger("before_update", "BEFORE UPDATE", &rivals.join(" "));
        }
        triggers
    }

    /// Its key, as `NEW."a", NEW."b"`.
    fn of_key(&self, prefix: &str) -> String {
        let names: Vec<_> =
            self.key.iter().map(|key| format!("{prefix}{}", open::quoted(&key.name))).collect();
        names.join(", ")
    }

    /// Notes the key of the row that a trigger is about.
    fn note(&self, log: &Log, row: &str, condition: &str) -> String {
        let mut conditions = self.present(&format!("{row}."));
        if !condition.is_empty() {
            conditions.push(condition.to_owned());
        }
        let entry = format!("{}, {}", log.number, self.of_key(&format!("{row}.")));
        let values = if conditions.is_empty() {
            format!("VALUES ({entry})")
        } else {
            format!("SELECT {entry} WHERE {}", conditions.join(" AND "))
        };
        format!("INSERT INTO \"{}\" {values} ON CONFLICT DO NOTHING;", log.name)
    }

    /// Notes the keys of the rows that are in the way.
    fn note_rivals(&self, log: &Log, rival: &str) -> String {
        let mut conditions = self.present("");
        conditions.push(rival.to_owned());
        format!(
            "INSERT INTO \"{}\" SELECT {}, {} FROM {} WHERE {} ON CONFLICT DO NOTHING;",
            log.name,
            log.number,
            self.of_key(""),
            open::quoted(&self.table),
            conditions.join(" AND ")
        )
    }

    fn present(&self, prefix: &str) -> Vec<String> {
        let nullable = self.key.iter().filter(|key| key.nullable);
        nullable.map(|key| format!("{prefix}{} IS NOT NULL", open::quoted(&key.name))).collect()
    }

    fn find_rivals(&self, connection: &Connection) -> rusqlite::Result<Vec<String>> {
        let mut query = connection.prepare_cached(
            "SELECT name, origin = 'c' FROM pragma_index_list(?1, 'main')
             WHERE \"unique\" AND origin <> 'pk' ORDER BY name",
        )?;
        let indexes: Vec<(String, bool)> = query
            .query_map([&self.table], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut rivals = Vec::new();
        for (index, said) in indexes {
            rivals.extend(self.rival(connection, &index, said)?);
        }
        Ok(rivals)
    }

    /// The condition for a row to be in the way of `NEW` in one unique index; `None` where only a row with
    /// the same primary key can be.
    fn rival(&self, connection: &Connection, index: &str, said: bool) -> rusqlite::Result<Option<String>> {
        let mut query =
            connection.prepare_cached("SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?1")?;
        // One that a constraint made has no statement, and to look for it is to look through the whole schema.
        let sql: Option<String> = if said { query.query_row([index], |row| row.get(0))? } else { None };
        let text = Definition::of(sql.as_deref().unwrap_or_default());
        let mut query = connection.prepare_cached(
            "SELECT name, coll FROM pragma_index_xinfo(?1, 'main') WHERE key ORDER BY seqno",
        )?;
        let parts: Vec<(Option<String>, String)> = query
            .query_map([index], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let in_index = |key: &Key| parts.iter().any(|(name, _)| name.as_deref() == Some(&key.name));
        if self.key.iter().all(in_index) {
            return Ok(None);
        }
        let mut conditions = Vec::new();
        for (at, (name, collation)) in parts.iter().enumerate() {
            conditions.push(match name {
                Some(name) => {
                    let (name, collation) = (open::quoted(name), open::quoted(collation));
                    format!("{name} COLLATE {collation} = NEW.{name}")
                }
                None => self.same(text.parts.get(at).copied().unwrap_or("NULL")),
            });
        }
        // Rows that a partial index leaves out are in nobody's way; and without this it would not be used.
        conditions.extend(text.condition.map(|condition| format!("({condition})")));
        Ok(Some(conditions.join(" AND ")))
    }

    /// That an expression says the same of a row and of `NEW`: there, `NEW`'s values go by the bare names.
    fn same(&self, expression: &str) -> String {
        let names: Vec<_> = self.columns.iter().map(|name| open::quoted(name)).collect();
        let values: Vec<_> = names.iter().map(|name| format!("NEW.{name} AS {name}")).collect();
        format!("({expression}) = (SELECT ({expression}) FROM (SELECT {}))", values.join(", "))
    }
}

/// What `CREATE UNIQUE INDEX … ON t (PARTS) WHERE CONDITION` says.
#[derive(Default)]
struct Definition<'a> {
    parts: Vec<&'a str>,
    condition: Option<&'a str>,
}

impl<'a> Definition<'a> {
    fn of(sql: &'a str) -> Definition<'a> {
        let tokens = lexer::tokens(sql);
        let Some(open) = tokens.iter().position(|token| token.is("(")) else { return Definition::default() };
        let text = |tokens: &[Token<'a>]| {
            let last = tokens.last().map_or(0, |last| last.at + last.text.len());
            tokens.first().map_or("", |first| &sql[first.at..last])
        };
        let items = canon::items(&tokens[open..]);
        let parts = items.iter().map(|item| match item {
            [rest @ .., last] if last.is("asc") || last.is("desc") => text(rest),
            whole => text(whole),
        });
        let length: usize = items.iter().map(|item| item.len() + 1).sum();
        let rest = tokens.get(open + length..).unwrap_or_default();
        let condition = rest.iter().position(|token| token.is("where")).map(|at| text(&rest[at + 1..]));
        Definition { parts: parts.collect(), condition }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_taken_apart() {
        let sql =
            "CREATE UNIQUE INDEX i ON t (lower(a, 'x,)') COLLATE nocase DESC, b -- c\n) WHERE (a) > 1 AND b";
        let definition = Definition::of(sql);
        assert_eq!(definition.parts, ["lower(a, 'x,)') COLLATE nocase", "b"]);
        assert_eq!(definition.condition, Some("(a) > 1 AND b"));
        assert_eq!(Definition::of("CREATE UNIQUE INDEX i ON t (a)").condition, None);
    }
}
