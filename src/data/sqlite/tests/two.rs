//! Two versions of one database: the older one retired, the newer one made from it, and noted.

use super::*;
use crate::data::way::{Carried, Expressions, OnConflict, Way};
use crate::data::{Database, Spot};
use crate::support::Result;

pub(super) struct Two {
    sandbox: Sandbox,
    pub(super) old: Sqlite,
    pub(super) new: Sqlite,
}

/// For one table, columns and their expressions.
pub(super) fn map(table: &str, columns: &[(&str, &str)]) -> Expressions {
    let columns = columns.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Expressions::from([(table.to_owned(), columns.collect())])
}

pub(super) fn file(database: &Sqlite) -> PathBuf {
    super::super::database::file_of(database.spot())
}

/// The rows of a query, as SQL writes them.
pub(super) fn content(database: &Sqlite, sql: &str) -> Vec<String> {
    let connection = connect(&file(database));
    let mut query = connection.prepare(sql).unwrap();
    let width = query.column_count();
    let mut rows = query.query([]).unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let cell = |at| match row.get::<_, rusqlite::types::Value>(at).unwrap() {
            rusqlite::types::Value::Null => "NULL".to_owned(),
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Real(number) => format!("{number:?}"),
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Blob(bytes) => format!("{bytes:?}"),
        };
        found.push((0..width).map(cell).collect::<Vec<_>>().join("|"));
    }
    found
}

pub(super) fn run(database: &Sqlite, sql: &str) {
    connect(&file(database)).execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

impl Two {
    /// Makes both, by the SQL of the older one and what migrates it.
    pub(super) fn new(sql: &str, migration: &str) -> Two {
        let sandbox = Sandbox::new();
        let two = Two { old: place(&sandbox, "shop_v3"), new: place(&sandbox, "shop_v4"), sandbox };
        two.old.create().unwrap();
        run(&two.old, sql);
        let hold = two.old.hold(&patience()).unwrap();
        hold.copy_to(two.new.spot(), &patience(), &mut silent).unwrap();
        run(&two.new, migration);
        assert!(two.new.capture("shop_v3", &patience()).unwrap().is_whole());
        hold.fence("version 3 is retired").unwrap();
        two
    }

    pub(super) fn another(&self, name: &str) -> Sqlite {
        place(&self.sandbox, name)
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
        self.back_with(down, on_conflict, 0)
    }

    /// The same, where so many references led nowhere before.
    pub(super) fn back_with(&self, down: &Expressions, on_conflict: OnConflict, broken: u64) -> Carried {
        let before = dump_of(&self.old);
        let foreseen = self.new.foresee(self.old.spot(), &self.way(down), &patience()).unwrap();
        assert_eq!(dump_of(&self.old), before, "a look ahead changes nothing");
        let carried = self.try_back(down, on_conflict).unwrap();
        assert_eq!(carried, foreseen);
        assert_eq!(self.old.fence().unwrap(), Fence::Whole);
        let after = dump_of(&self.old);
        self.try_back(down, on_conflict).unwrap();
        assert_eq!(dump_of(&self.old), after);
        self.old.examine(broken + carried.dangling, &patience()).unwrap();
        carried
    }

    pub(super) fn back(&self) -> Carried {
        self.back_by(&Expressions::new(), OnConflict::Abort)
    }

    /// After a way back: the older one lives, and is noted for the way forward.
    pub(super) fn turn(&self) {
        let hold = self.new.hold(&patience()).unwrap();
        self.old.unfence().unwrap();
        assert!(self.old.capture("shop_v4", &patience()).unwrap().is_whole());
        hold.fence("version 4 is retired").unwrap();
    }

    pub(super) fn forward(&self, up: &Expressions) -> Carried {
        let way = Way::plan(&self.old.tables().unwrap(), &self.new.tables().unwrap(), up);
        let hold = self.old.hold(&patience()).unwrap();
        hold.carry_to(self.new.spot(), &way, OnConflict::Abort, &patience()).unwrap()
    }
}

fn place(sandbox: &Sandbox, name: &str) -> Sqlite {
    let directory = sandbox.path(name).parent().unwrap().to_owned();
    Sqlite::at(Spot { directory, name: name.to_owned() })
}

/// Everything in a database: its objects, and all rows with their hidden numbers.
pub(super) fn dump_of(database: &Sqlite) -> Vec<String> {
    let mut all = content(database, "SELECT type, name, sql FROM sqlite_schema ORDER BY name");
    let tables = content(
        database,
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name <> 'sqlite_schema' ORDER BY name",
    );
    for table in tables {
        let name = format!("\"{}\"", table.replace('"', "\"\""));
        let numbered = connect(&file(database)).prepare(&format!("SELECT rowid FROM {name}")).is_ok();
        let number = if numbered { ", rowid" } else { "" };
        let rows = content(database, &format!("SELECT *{number} FROM {name}"));
        all.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
    }
    all
}
