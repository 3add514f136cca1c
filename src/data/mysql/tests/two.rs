//! Two versions of one database: the older one retired, the newer one made from it, and noted.

use mysql::prelude::Queryable;

use super::*;
use crate::data::way::{Carried, Expressions, OnConflict, Way};
use crate::data::{Database, Fence};
use crate::support::Result;

pub(super) struct Two {
    pub(super) world: World,
    pub(super) old: Mysql,
    pub(super) new: Mysql,
}

/// For one table, columns and their expressions.
pub(super) fn map(table: &str, columns: &[(&str, &str)]) -> Expressions {
    let columns = columns.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Expressions::from([(table.to_owned(), columns.collect())])
}

impl Two {
    /// Makes both, by the SQL of the older one and what migrates it; statements are parted by `;;`.
    pub(super) fn new(sql: &str, migration: &str) -> Two {
        let world = World::new();
        let old = world.filled(sql);
        let new = world.at(&old.name().replace("_v1", "_v2"));
        old.prepare_hold(&soon()).unwrap();
        let hold = old.hold(&soon()).unwrap();
        hold.copy_to(new.spot(), &soon(), &mut |_| {}).unwrap();
        let two = Two { world, old, new };
        two.run(&two.new, migration);
        let capture = two.new.capture(two.old.name(), &soon()).unwrap();
        assert!(capture.is_whole(), "{:?}", capture.gaps);
        hold.fence("version 1 is retired").unwrap();
        two
    }

    /// Runs statements as the app does.
    pub(super) fn run(&self, database: &Mysql, sql: &str) {
        let mut app = self.world.role(database, Access::Write);
        for statement in said(sql).split(";;").filter(|statement| !statement.trim().is_empty()) {
            app.query_drop(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    /// The rows of a query, a text each.
    pub(super) fn content(&self, database: &Mysql, sql: &str) -> Vec<String> {
        let mut reader = self.world.role(database, Access::Read);
        let rows: Vec<mysql::Row> = reader.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let cell = |cell| match cell {
            mysql::Value::NULL => "NULL".to_owned(),
            mysql::Value::Bytes(bytes) => match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => format!("{:?}", error.as_bytes()),
            },
            other => format!("{other:?}"),
        };
        rows.into_iter().map(|row| row.unwrap().into_iter().map(cell).collect::<Vec<_>>().join("|")).collect()
    }

    /// All rows of all tables, and the triggers.
    pub(super) fn dump_of(&self, database: &Mysql) -> Vec<String> {
        let mut all = self.content(
            database,
            "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_STATEMENT, SQL_MODE, DEFINER
             FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() ORDER BY 1",
        );
        all.push(database.schema().unwrap().to_string());
        let tables = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()
                      AND TABLE_TYPE = 'BASE TABLE' ORDER BY 1";
        for table in self.content(database, tables) {
            let rows = self.content(database, &format!("SELECT * FROM `{}`", table.replace('`', "``")));
            all.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
        }
        all
    }

    pub(super) fn way(&self, down: &Expressions) -> Way {
        Way::plan(&self.new.tables().unwrap(), &self.old.tables().unwrap(), down)
    }

    /// Carries back what changed; the hold is dropped afterwards.
    pub(super) fn try_back(&self, down: &Expressions, on_conflict: OnConflict) -> Result<Carried> {
        let hold = self.new.hold(&soon()).unwrap();
        hold.carry_to(self.old.spot(), &self.way(down), on_conflict, &soon())
    }

    /// Carries back, and proves that the fence stands, that it was foreseen, and that a second time changes nothing.
    pub(super) fn back_by(&self, down: &Expressions, on_conflict: OnConflict) -> Carried {
        let before = self.dump_of(&self.old);
        let foreseen = self.new.foresee(self.old.spot(), &self.way(down), &soon()).unwrap();
        assert_eq!(self.dump_of(&self.old), before, "a look ahead changes nothing");
        let carried = self.try_back(down, on_conflict).unwrap();
        assert_eq!(carried, foreseen);
        assert_eq!(self.old.fence().unwrap(), Fence::Whole);
        let after = self.dump_of(&self.old);
        self.try_back(down, on_conflict).unwrap();
        assert_eq!(self.dump_of(&self.old), after);
        carried
    }

    pub(super) fn back(&self) -> Carried {
        self.back_by(&Expressions::new(), OnConflict::Abort)
    }

    /// That each of these tables holds the same in both.
    pub(super) fn same(&self, tables: &[&str]) {
        for table in tables {
            let all = format!("SELECT * FROM {table}");
            assert_eq!(self.content(&self.old, &all), self.content(&self.new, &all), "{table}");
        }
    }

    /// After a way back: the older one lives, and is noted for the way forward.
    pub(super) fn turn(&self) {
        self.new.prepare_hold(&soon()).unwrap();
        let hold = self.new.hold(&soon()).unwrap();
        self.old.unfence().unwrap();
        assert!(self.old.capture(self.new.name(), &soon()).unwrap().is_whole());
        hold.fence("version 2 is retired").unwrap();
    }

    pub(super) fn forward(&self, up: &Expressions) -> Carried {
        let way = Way::plan(&self.old.tables().unwrap(), &self.new.tables().unwrap(), up);
        let hold = self.old.hold(&soon()).unwrap();
        hold.carry_to(self.new.spot(), &way, OnConflict::Abort, &soon()).unwrap()
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        let _ = (self.old.remove(), self.new.remove());
    }
}
