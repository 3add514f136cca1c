//! The canonical form of a schema, from information_schema. Names that nobody chose (of constraints and
//! indexes), the order of columns, definers and the next numbers are no part of it.

use std::collections::BTreeMap;

use super::fence::is_ours;
use super::lexer;
use super::quote;
use super::session::Session;
use super::tables;
use crate::data::Schema;
use crate::support::Result;

/// What is read of a schema, and where it is put.
struct Reader<'a> {
    session: &'a mut Session,
    database: &'a str,
    /// As a literal.
    literal: String,
    schema: Schema,
}

/// All of the schema, the framework's bookkeeping included, receiver's own left out.
pub(super) fn read(session: &mut Session, database: &str) -> Result<Schema> {
    let literal = quote::text(database);
    let mut reader = Reader { session, database, literal, schema: Schema::default() };
    reader.tables()?;
    reader.columns()?;
    reader.indexes()?;
    reader.foreign_keys()?;
    reader.checks()?;
    reader.partitions()?;
    reader.triggers()?;
    reader.views()?;
    reader.routines()?;
    reader.events()?;
    Ok(reader.schema)
}

impl Reader<'_> {
    fn rows<T: mysql::prelude::FromRow>(&mut self, select: &str) -> Result<Vec<T>> {
        self.session.rows(&select.replace("{schema}", &self.literal), ())
    }

    fn normal(&self, sql: &str) -> String {
        lexer::normal(sql, self.database)
    }

    fn tables(&mut self) -> Result<()> {
        type Told = (String, String, Option<String>, Option<String>);
        let rows: Vec<Told> = self.rows(
            "SELECT TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_COLLATION FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = {schema} AND TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW')",
        )?;
        for (table, kind, engine, collation) in rows {
            if kind == "SEQUENCE" {
                let says = format!(
                    "SELECT CONCAT_WS(' ', minimum_value, maximum_value, increment, cache_size, cycle_option) FROM {}",
                    quote::table(self.database, &table)
                );
                let says = self.session.value(&says, ())?;
                self.schema.other(format!("sequence {table}"), says);
                continue;
            }
            self.schema.table(&table);
            let says = format!("{} {}", engine.unwrap_or_default(), collation.unwrap_or_default());
            self.schema.fact(&table, format!("{table} is"), says.to_lowercase());
        }
        Ok(())
    }

    fn columns(&mut self) -> Result<()> {
        type Told = (String, String, String, String, Option<String>, String, Option<String>, Option<String>);
        let rows: Vec<Told> = self.rows(
            "SELECT c.TABLE_NAME, c.COLUMN_NAME, c.COLUMN_TYPE, c.IS_NULLABLE, c.COLUMN_DEFAULT, c.EXTRA, \
             c.COLLATION_NAME, c.GENERATION_EXPRESSION FROM information_schema.COLUMNS c \
             WHERE c.TABLE_SCHEMA = {schema}",
        )?;
        // MariaDB writes a default as SQL, MySQL only one that is an expression: any other is the text itself.
        let mariadb = self.session.is_mariadb();
        let raw = |extra: &str| !mariadb && !extra.to_uppercase().contains("DEFAULT_GENERATED");
        for (table, column, kind, nullable, default, extra, collation, generated) in rows {
            let mut says = kind;
            let mut add = |word: &str, value: &str| {
                if !value.is_empty() {
                    says.push_str(word);
                    says.push_str(value);
                }
            };
            add(" collate ", &collation.unwrap_or_default());
            add("", if nullable == "NO" { " not null" } else { "" });
            let default = default
                .map(|default| if raw(&extra) { quote::text(&default) } else { self.normal(&default) });
            add(" default ", &default.unwrap_or_default());
            add(" ", &extra.to_lowercase());
            add(" as ", &generated.map(|expression| self.normal(&expression)).unwrap_or_default());
            // A view has columns as well: its text tells of them.
            if self.schema.has(&table) {
                self.schema.fact(&table, format!("{table}.{column}"), says);
            }
        }
        Ok(())
    }

    fn indexes(&mut self) -> Result<()> {
        type Told = (String, String, u8, Option<String>, Option<u32>, Option<String>, String);
        // MySQL's indexes may be of expressions; MariaDB's (10.11) are of columns alone.
        let part =
            if self.session.is_mariadb() { "COLUMN_NAME" } else { "COALESCE(COLUMN_NAME, EXPRESSION)" };
        let rows: Vec<Told> = self.rows(&format!(
            "SELECT TABLE_NAME, INDEX_NAME, NON_UNIQUE, {part}, SUB_PART, COLLATION, INDEX_TYPE \
             FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {{schema}} \
             ORDER BY BINARY TABLE_NAME, BINARY INDEX_NAME, SEQ_IN_INDEX"
        ))?;
        let mut indexes: BTreeMap<(String, String), (String, Vec<String>)> = BTreeMap::new();
        for (table, index, not_unique, column, part, order, kind) in rows {
            let what = match (index.as_str(), not_unique) {
                ("PRIMARY", _) => "primary key".to_owned(),
                (_, 0) => format!("unique {}", kind.to_lowercase()),
                _ => format!("index {}", kind.to_lowercase()),
            };
            let mut says = column.unwrap_or_default();
            if let Some(part) = part {
                says = format!("{says}({part})");
            }
            if order.as_deref() == Some("D") {
                says.push_str(" desc");
            }
            indexes.entry((table, index)).or_insert_with(|| (what, Vec::new())).1.push(says);
        }
        for ((table, _), (what, columns)) in indexes {
            self.schema.fact(&table, format!("{table} {what} ({})", columns.join(", ")), String::new());
        }
        Ok(())
    }

    fn foreign_keys(&mut self) -> Result<()> {
        for key in tables::references(self.session, self.database)? {
            let to = if key.to_database == self.database {
                key.to_table
            } else {
                format!("{}.{}", key.to_database, key.to_table)
            };
            let (columns, to_columns) = (key.columns.join(", "), key.to_columns.join(", "));
            let says = format!("on update {} on delete {}", key.on_update, key.on_delete).to_lowercase();
            let name = format!("{} foreign key ({columns}) references {to} ({to_columns})", key.table);
            self.schema.fact(&key.table, name, says);
        }
        Ok(())
    }

    fn checks(&mut self) -> Result<()> {
        // MySQL's CHECK_CONSTRAINTS do not name their table.
        let select = if self.session.is_mariadb() {
            "SELECT TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS \
             WHERE CONSTRAINT_SCHEMA = {schema}"
        } else {
            "SELECT t.TABLE_NAME, CONCAT(c.CHECK_CLAUSE, ' enforced ', t.ENFORCED) \
             FROM information_schema.CHECK_CONSTRAINTS c JOIN information_schema.TABLE_CONSTRAINTS t \
             USING (CONSTRAINT_SCHEMA, CONSTRAINT_NAME) WHERE c.CONSTRAINT_SCHEMA = {schema}"
        };
        let rows: Vec<(String, String)> = self.rows(select)?;
        for (table, clause) in rows {
            self.schema.fact(&table, format!("{table} check {}", self.normal(&clause)), String::new());
        }
        Ok(())
    }

    fn partitions(&mut self) -> Result<()> {
        type Told = (String, String, Option<String>, Option<String>, Option<String>);
        let rows: Vec<Told> = self.rows(
            "SELECT TABLE_NAME, PARTITION_NAME, PARTITION_METHOD, PARTITION_EXPRESSION, PARTITION_DESCRIPTION \
             FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = {schema} AND PARTITION_NAME IS NOT NULL",
        )?;
        for (table, name, method, expression, description) in rows {
            let says = [method, expression, description].map(Option::unwrap_or_default).join(" ");
            self.schema.fact(&table, format!("{table} partition {name}"), says);
        }
        Ok(())
    }

    fn triggers(&mut self) -> Result<()> {
        type Told = (String, String, String, String, String);
        let rows: Vec<Told> = self.rows(
            "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_STATEMENT \
             FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {schema}",
        )?;
        for (name, table, timing, event, statement) in rows {
            if !is_ours(&name) {
                let says =
                    format!("{} {} {}", timing.to_lowercase(), event.to_lowercase(), self.normal(&statement));
                self.schema.fact(&table, format!("trigger {name} on {table}"), says);
            }
        }
        Ok(())
    }

    fn views(&mut self) -> Result<()> {
        type Told = (String, String, String, String);
        let rows: Vec<Told> = self.rows(
            "SELECT TABLE_NAME, VIEW_DEFINITION, CHECK_OPTION, SECURITY_TYPE FROM information_schema.VIEWS \
             WHERE TABLE_SCHEMA = {schema}",
        )?;
        for (view, definition, check, security) in rows {
            let says = format!("{} check {check} security {security}", self.normal(&definition));
            self.schema.other(format!("view {view}"), says);
        }
        Ok(())
    }

    fn routines(&mut self) -> Result<()> {
        type Told = (String, String, Option<String>, String, String, String, Option<String>);
        let rows: Vec<Told> = self.rows(
            "SELECT r.ROUTINE_TYPE, r.ROUTINE_NAME, r.DTD_IDENTIFIER, r.IS_DETERMINISTIC, r.SQL_DATA_ACCESS, \
             r.SECURITY_TYPE, r.ROUTINE_DEFINITION FROM information_schema.ROUTINES r \
             WHERE r.ROUTINE_SCHEMA = {schema} AND r.ROUTINE_TYPE IN ('PROCEDURE', 'FUNCTION')",
        )?;
        let parameters: Vec<(String, String, String)> = self.rows(
            "SELECT ROUTINE_TYPE, SPECIFIC_NAME, CONCAT_WS(' ', PARAMETER_MODE, PARAMETER_NAME, DTD_IDENTIFIER) \
             FROM information_schema.PARAMETERS WHERE SPECIFIC_SCHEMA = {schema} AND ORDINAL_POSITION > 0 \
             ORDER BY SPECIFIC_NAME, ORDINAL_POSITION",
        )?;
        for (kind, name, returns, deterministic, access, security, body) in rows {
            let of = parameters.iter().filter(|(of_kind, of, _)| *of == name && *of_kind == kind);
            let parameters: Vec<&str> = of.map(|(_, _, says)| says.as_str()).collect();
            let says = format!(
                "({}) {} deterministic {deterministic} {access} security {security} {}",
                parameters.join(", "),
                returns.unwrap_or_default(),
                self.normal(&body.unwrap_or_default())
            );
            self.schema.other(format!("{} {name}", kind.to_lowercase()), says);
        }
        Ok(())
    }

    fn events(&mut self) -> Result<()> {
        type Told = (String, Option<String>, Option<String>, Option<String>, String, String);
        let rows: Vec<Told> = self.rows(
            "SELECT EVENT_NAME, INTERVAL_VALUE, INTERVAL_FIELD, CAST(EXECUTE_AT AS CHAR), ON_COMPLETION, \
             EVENT_DEFINITION FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {schema}",
        )?;
        for (name, every, unit, once, completion, body) in rows {
            let when = match (every, unit, once) {
                (Some(every), Some(unit), _) => format!("every {every} {unit}"),
                (_, _, once) => format!("at {}", once.unwrap_or_default()),
            };
            let says = format!("{when} {completion} {}", self.normal(&body));
            self.schema.other(format!("event {name}"), says);
        }
        Ok(())
    }
}
