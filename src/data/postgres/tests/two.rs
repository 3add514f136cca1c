//! Two versions of one database: the older one retired, the newer one made from it, and noted.

use super::*;
use crate::data::Fence;
use crate::data::way::{Carried, Expressions, OnConflict, Way};
use crate::support::Result;

pub(super) struct Two {
    pub(super) sandbox: Sandbox,
    pub(super) old: Postgres,
    pub(super) new: Postgres,
}

/// For one table, columns and their expressions.
pub(super) fn map(table: &str, columns: &[(&str, &str)]) -> Expressions {
    let columns = columns.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Expressions::from([(table.to_owned(), columns.collect())])
}

impl Two {
    /// Makes both, by the SQL of the older one and what migrates it.
    pub(super) fn new(name: &str, sql: &str, migration: &str) -> Two {
        let sandbox = Sandbox::new();
        let old = sandbox.database(&format!("{name}_v3"), sql);
        let new = sandbox.at(&format!("{name}_v4"));
        let two = Two { sandbox, old, new };
        let hold = two.old.hold(&patience()).unwrap();
        hold.copy_to(two.new.spot(), &patience(), &mut silent).unwrap();
        two.run(migration);
        assert!(two.new.capture(&two.old.spot().name, &patience()).unwrap().is_whole());
        hold.fence("version 3 is retired").unwrap();
        two
    }

    /// Runs SQL in the newer one, as the app.
    pub(super) fn run(&self, sql: &str) {
        self.run_in(&self.new, sql);
    }

    pub(super) fn run_in(&self, database: &Postgres, sql: &str) {
        let mut app = self.sandbox.app(&database.spot().name);
        app.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The rows of a query, as COPY writes them.
    pub(super) fn content(&self, database: &Postgres, sql: &str) -> Vec<String> {
        let mut client = self.sandbox.server.postgres(&database.spot().name);
        let mut reader = client.copy_out(&format!("COPY ({sql}) TO STDOUT (DELIMITER '|')")).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// What a way changes for the while, and must be as it was: triggers and how they fire, references, identities.
    fn objects_of(&self, database: &Postgres) -> Vec<String> {
        let mut all = self.content(
            database,
            "SELECT t.tgrelid::regclass, t.tgname, t.tgenabled, t.tgdeferrable FROM pg_trigger t WHERE NOT t.tgisinternal ORDER BY 1, 2",
        );
        all.extend(self.content(
            database,
            "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid), obj_description(oid) FROM pg_constraint ORDER BY 1, 2, 3",
        ));
        all.extend(self.content(database, "SELECT attrelid::regclass, attname, attidentity FROM pg_attribute WHERE attidentity <> '' ORDER BY 1, 2"));
        all
    }

    /// That, and rows and sequences.
    pub(super) fn dump_of(&self, database: &Postgres) -> Vec<String> {
        let mut all = self.objects_of(database);
        all.extend(self.content(
            database,
            "SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2",
        ));
        let tables = self.content(
            database,
            "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information|receiver)' ORDER BY 1",
        );
        for table in tables {
            let rows = self.content(database, &format!("SELECT t::text FROM ONLY {table} t ORDER BY 1"));
            all.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
        }
        all
    }

    pub(super) fn way(&self, down: &Expressions) -> Way {
        Way::plan(&self.new.tables().unwrap(), &self.old.tables().unwrap(), down)
    }

    /// Carries back what changed; the hold is dropped afterwards.
    pub(super) fn try_back(&self, down: &Expressions, on_conflict: OnConflict) -> Result<Carried> {
        let hold = self.new.hold(&patience()).unwrap();
        hold.carry_to(self.old.spot(), &self.way(down), on_conflict, &patience())
    }

    /// Carries back, and proves that the fence stands, that it was foreseen, and that a second time changes nothing.
    pub(super) fn back_by(&self, down: &Expressions, on_conflict: OnConflict) -> Carried {
        let before = self.dump_of(&self.old);
        let foreseen = self.new.foresee(self.old.spot(), &self.way(down), &patience()).unwrap();
        assert_eq!(self.dump_of(&self.old), before, "a look ahead changes nothing");
        let objects = self.objects_of(&self.old);
        let carried = self.try_back(down, on_conflict).unwrap();
        assert_eq!(carried, foreseen);
        assert_eq!(self.objects_of(&self.old), objects, "everything is as it was");
        assert_eq!(self.old.fence().unwrap(), Fence::Whole);
        let after = self.dump_of(&self.old);
        self.try_back(down, on_conflict).unwrap();
        assert_eq!(self.dump_of(&self.old), after);
        self.old.examine(0, &patience()).unwrap();
        let roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE '%\\_way' AND starts_with(rolname, split_part(current_database(), '_v', 1))";
        let mut postgres = self.sandbox.server.postgres(&self.old.spot().name);
        assert_eq!(number(&mut postgres, roles), 0, "nobody is left who could go the way");
        carried
    }

    pub(super) fn back(&self) -> Carried {
        self.back_by(&Expressions::new(), OnConflict::Abort)
    }

    /// That both hold the same, as a query sees it.
    pub(super) fn same(&self, sql: &str) {
        assert_eq!(self.content(&self.old, sql), self.content(&self.new, sql), "{sql}");
    }

    /// After a way back: the older one lives, and is noted for the way forward.
    pub(super) fn turn(&self) {
        let hold = self.new.hold(&patience()).unwrap();
        self.old.unfence().unwrap();
        assert!(self.old.capture(&self.new.spot().name, &patience()).unwrap().is_whole());
        hold.fence("version 4 is retired").unwrap();
    }

    pub(super) fn forward(&self, up: &Expressions) -> Carried {
        let way = Way::plan(&self.old.tables().unwrap(), &self.new.tables().unwrap(), up);
        let hold = self.old.hold(&patience()).unwrap();
        hold.carry_to(self.new.spot(), &way, OnConflict::Abort, &patience()).unwrap()
    }
}
