//! What notes the changes of one table: its log, two functions, and the triggers that call them.
//!
//! All of it but the triggers is the administrator's, in a schema where the app's role may do nothing. The
//! functions run as the administrator, whoever writes; so they name nothing but the log, which keeps the key in the
//! types under its domains: no check, view or rule of the app's can be called by them. `TRUNCATE` is noted as
//! such, as a look at the table would be a look at what the app has put in its place.

use super::super::catalog::OURS;
use super::super::names::ident;
use super::tables::Known;
use crate::data::way::For;

/// Insert, update and delete, after each row; and before a truncate, for the statement: `pg_trigger.tgtype`.
pub(super) const EACH_ROW: i16 = 1 | 4 | 8 | 16;
pub(super) const BEFORE_TRUNCATE: i16 = 2 | 32;

/// A table that is noted, and for what.
pub(super) struct Note<'a>(pub(super) &'a Known, pub(super) For);

impl Note<'_> {
    /// The log.
    pub(super) fn log(&self) -> String {
        format!("{OURS}.{}log_{}", self.1.prefix(), self.0.oid)
    }

    /// What the trigger of each row is called.
    pub(super) fn rows(&self) -> String {
        format!("receiver_{}note", self.1.prefix())
    }

    /// What the one is called that sees a table emptied.
    pub(super) fn emptied(&self) -> String {
        format!("receiver_{}emptied", self.1.prefix())
    }

    pub(super) fn row_function(&self) -> String {
        format!("{}note_{}", self.1.prefix(), self.0.oid)
    }

    pub(super) fn emptied_function(&self) -> String {
        format!("{}emptied_{}", self.1.prefix(), self.0.oid)
    }

    /// The columns of the log, as they are declared.
    pub(super) fn columns(&self) -> Vec<String> {
        let key = self.0.table.key.iter().enumerate();
        key.map(|(at, name)| {
            let known = self.0.of(name);
            format!("k{at} {}{}", known.base, known.collate)
        })
        .collect()
    }

    fn values(&self, row: &str) -> String {
        let names = self.0.table.key.iter().map(|name| format!("{row}.{}", ident(name)));
        names.collect::<Vec<_>>().join(", ")
    }

    /// The body of the function that notes a row.
    pub(super) fn row_body(&self) -> String {
        let note =
            |row| format!("INSERT INTO {} VALUES ({}) ON CONFLICT DO NOTHING;", self.log(), self.values(row));
        format!(
            " BEGIN IF TG_OP <> 'INSERT' THEN {} END IF; IF TG_OP <> 'DELETE' THEN {} END IF; RETURN NULL; END ",
            note("OLD"),
            note("NEW")
        )
    }

    /// The body of the one that notes that all rows are gone.
    pub(super) fn emptied_body(&self) -> String {
        format!(
            " BEGIN INSERT INTO {OURS}.{}emptied VALUES ({}) ON CONFLICT DO NOTHING; RETURN NULL; END ",
            self.1.prefix(),
            self.0.oid
        )
    }

    /// Makes log and functions anew.
    pub(super) fn make(&self) -> String {
        let width = 0..self.0.table.key.len();
        let key: Vec<_> = width.map(|at| format!("k{at}")).collect();
        let function = |name: String, body: String| {
            format!(
                "CREATE OR REPLACE FUNCTION {OURS}.{name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
                 SET search_path = pg_catalog, pg_temp AS $receiver${body}$receiver$;
                 REVOKE ALL ON FUNCTION {OURS}.{name}() FROM PUBLIC;"
            )
        };
        format!(
            "CREATE TABLE {} ({}, PRIMARY KEY ({}));\n{}\n{}",
            self.log(),
            self.columns().join(", "),
            key.join(", "),
            function(self.row_function(), self.row_body()),
            function(self.emptied_function(), self.emptied_body())
        )
    }

    /// Makes the trigger of that name on one table, or switches on the one that is there: `there` says whether
    /// one of ours is, and is for this table.
    pub(super) fn trigger(&self, name: &str, table: &str, there: Option<bool>) -> String {
        let (when, each, function) = if name == self.rows() {
            ("AFTER INSERT OR UPDATE OR DELETE ON", "ROW", self.row_function())
        } else {
            ("BEFORE TRUNCATE ON", "STATEMENT", self.emptied_function())
        };
        let make = format!(
            "CREATE TRIGGER {name} {when} {table} FOR EACH {each} EXECUTE FUNCTION {OURS}.{function}();"
        );
        let make = match there {
            Some(true) => String::new(),
            // A partition of another table, once.
            Some(false) => format!("DROP TRIGGER {name} ON {table}; {make}"),
            None => make,
        };
        format!("{make} ALTER TABLE ONLY {table} ENABLE ALWAYS TRIGGER {name};\n")
    }
}
