//! Random schemas and random writes: what arrives is what a model in memory says.
//!
//! `RECEIVER_TEST_SEEDS=from..to` tries others.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::two::{Two, content, file};
use super::*;
use crate::data::Database;
use crate::data::way::{Expressions, OnConflict};

/// Numbers that look like chance, and come again with the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_in(&mut self, limit: u64) -> bool {
        self.below(limit) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Version {
    Old,
    New,
}

struct Column {
    name: String,
    versions: &'static [Version],
    unique: &'static [Version],
}

/// A table: the columns of its key with their types, and the others.
struct Table {
    name: String,
    key: &'static [(&'static str, &'static str)],
    columns: Vec<Column>,
    parent: Option<(usize, &'static str)>,
}

const BOTH: &[Version] = &[Version::Old, Version::New];
const KEYS: &[&[(&str, &str)]] = &[
    &[("id", "INTEGER")],
    &[("id", "INTEGER")],
    &[("name", "TEXT COLLATE NOCASE")],
    &[("uuid", "BLOB")],
    &[("part", "INT"), ("name", "TEXT")],
];

fn tables(chance: &mut Chance, stricter: bool) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for number in 0..=chance.below(4) {
        let mut columns = Vec::new();
        for at in 0..chance.below(5) {
            let versions = *chance.of(&[BOTH, BOTH, &[Version::Old], &[Version::New]]);
            let unique: &[Version] = match chance.below(4) {
                0 if !stricter => BOTH,
                0..=2 if stricter => &[Version::Old],
                _ => &[],
            };
            // What only the target has and fills by a default cannot be unique.
            let unique = if versions == BOTH { unique } else { &[] };
            columns.push(Column { name: format!("c{at}"), versions, unique });
        }
        let parents: Vec<usize> = (0..tables.len()).filter(|at| tables[*at].key.len() == 1).collect();
        let action = *chance.of(&["", "ON DELETE CASCADE ON UPDATE CASCADE", "ON DELETE SET NULL"]);
        let parent = (!parents.is_empty() && chance.one_in(2)).then(|| (*chance.of(&parents), action));
        let key = *chance.of(KEYS);
        tables.push(Table { name: format!("t {number}"), key, columns, parent });
    }
    tables
}

impl Table {
    fn has(&self, version: Version) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(move |column| column.versions.contains(&version))
    }

    fn create(&self, name: &str, version: Version, all: &[Table]) -> String {
        let mut sql = format!("CREATE TABLE \"{name}\" (");
        for (name, kind) in self.key {
            write!(sql, "{name} {kind} NOT NULL, ").unwrap();
        }
        for column in self.has(version) {
            let unique = if column.unique.contains(&version) { "UNIQUE" } else { "DEFAULT 'd'" };
            write!(sql, "{} {unique}, ", column.name).unwrap();
        }
        if let Some((parent, action)) = self.parent {
            let (key, kind) = all[parent].key[0];
            write!(sql, "p {kind} REFERENCES \"{}\" ({key}) {action}, ", all[parent].name).unwrap();
        }
        let key: Vec<_> = self.key.iter().map(|(name, _)| *name).collect();
        let rowid = if self.key[0].1 == "BLOB" { " WITHOUT ROWID" } else { "" };
        write!(sql, "PRIMARY KEY ({})){rowid};", key.join(", ")).unwrap();
        sql
    }

    /// From the older schema to the newer one, as frameworks do it.
    fn rebuild(&self, all: &[Table]) -> String {
        let mut common: Vec<&str> = self.key.iter().map(|(name, _)| *name).collect();
        common.extend(
            self.columns.iter().filter(|column| column.versions == BOTH).map(|column| column.name.as_str()),
        );
        common.extend(self.parent.map(|_| "p"));
        let (common, name) = (common.join(", "), &self.name);
        format!(
            "{} INSERT INTO \"new {name}\" ({common}) SELECT {common} FROM \"{name}\"; DROP TABLE \"{name}\";
             ALTER TABLE \"new {name}\" RENAME TO \"{name}\";",
            self.create(&format!("new {name}"), Version::New, all)
        )
    }
}

fn value(chance: &mut Chance, kind: &str) -> String {
    let n = chance.below(7);
    match kind.split(' ').next().unwrap() {
        "INTEGER" | "INT" => n.to_string(),
        "TEXT" => format!("'{}'", ["a", "A", "b", "B", "c", "d", "e"][usize::try_from(n).unwrap()]),
        "BLOB" => format!("x'0{n}'"),
        _ if n == 0 => "NULL".to_owned(),
        _ => (n + chance.below(2) * 7).to_string(),
    }
}

/// One statement; it may well fail.
fn statement(chance: &mut Chance, tables: &[Table], version: Version) -> String {
    let table = chance.of(tables);
    let mut kinds: BTreeMap<&str, &str> = table.key.iter().copied().collect();
    let names: Vec<&str> = table.has(version).map(|column| column.name.as_str()).collect();
    kinds.extend(names.iter().map(|name| (*name, "")));
    kinds.extend(table.parent.map(|(parent, _)| ("p", tables[parent].key[0].1)));
    let mut some: Vec<&str> = kinds.keys().copied().collect();
    some.retain(|name| table.key.iter().any(|(key, _)| key == name) || !chance.one_in(4));
    let values: Vec<String> = some.iter().map(|name| value(chance, kinds[name])).collect();
    let name = &table.name;
    let key: Vec<&str> = table.key.iter().map(|(name, _)| *name).collect();
    let which: Vec<_> =
        table.key.iter().map(|(name, kind)| format!("{name} = {}", value(chance, kind))).collect();
    let which = if chance.one_in(5) { "true".to_owned() } else { which.join(" AND ") };
    let changed = *chance.of(&some);
    let set = format!("{changed} = {}", value(chance, kinds[changed]));
    let how = *chance.of(&["", "OR REPLACE", "OR IGNORE", "OR FAIL", "OR ABORT"]);
    let insert = format!("INTO \"{name}\" ({}) VALUES ({})", some.join(", "), values.join(", "));
    match chance.below(9) {
        0..=3 => format!("INSERT {how} {insert}"),
        4 => format!("INSERT {insert} ON CONFLICT ({}) DO UPDATE SET {set}", key.join(", ")),
        5 | 6 => format!("UPDATE {how} \"{name}\" SET {set} WHERE {which}"),
        7 => format!("DELETE FROM \"{name}\" WHERE {which}"),
        _ => format!("DELETE FROM \"{name}\" WHERE rowid % 3 = 1"),
    }
}

/// Transactions of random statements, some of them undone.
fn write(chance: &mut Chance, path: &Path, tables: &[Table], version: Version) {
    let app = connect(path);
    let keys = if chance.one_in(4) { "OFF" } else { "ON" };
    let recursive = if chance.one_in(3) { "ON" } else { "OFF" };
    app.execute_batch(&format!("PRAGMA foreign_keys={keys}; PRAGMA recursive_triggers={recursive}")).unwrap();
    for _ in 0..chance.below(12) {
        app.execute_batch("BEGIN").unwrap();
        for _ in 0..chance.below(6) {
            if let Err(error) = app.execute_batch(&statement(chance, tables, version)) {
                let error = error.to_string();
                let known =
                    ["constraint failed", "no such column: rowid"].iter().any(|known| error.contains(known));
                assert!(known, "{error}");
            }
        }
        let end = if chance.one_in(4) { "ROLLBACK" } else { "COMMIT" };
        app.execute_batch(end).unwrap();
    }
}

type Rows = BTreeMap<String, BTreeMap<String, String>>;

/// What is in each table: by its key, each column.
fn state(database: &Sqlite, tables: &[Table], version: Version) -> Vec<Rows> {
    let read = |table: &Table| {
        let mut names: Vec<&str> = table.key.iter().map(|(name, _)| *name).collect();
        names.extend(table.has(version).map(|column| column.name.as_str()));
        names.extend(table.parent.map(|_| "p"));
        let shown: Vec<_> = names.iter().map(|name| format!("quote({name})")).collect();
        let rows = content(database, &format!("SELECT {} FROM \"{}\"", shown.join(", "), table.name));
        let mut found = Rows::new();
        for row in rows {
            let cells: Vec<&str> = row.split('|').collect();
            let key = cells[..table.key.len()].join("|");
            // As the collation of its key compares.
            let key = if table.key[0].1.ends_with("NOCASE") { key.to_lowercase() } else { key };
            let row = names.iter().zip(cells).map(|(name, cell)| ((*name).to_owned(), cell.to_owned()));
            found.insert(key, row.collect());
        }
        found
    };
    tables.iter().map(read).collect()
}

/// What the target must be: the source's rows; of its own columns what it had, or the default.
fn expected(source: &[Rows], target: &[Rows], tables: &[Table], version: Version) -> Vec<Rows> {
    let one = |(at, table): (usize, &Table)| {
        let mut rows = source[at].clone();
        for (key, row) in &mut rows {
            row.retain(|name, _| {
                table.columns.iter().all(|column| column.name != *name || column.versions.contains(&version))
            });
            for column in table.has(version) {
                let had = target[at].get(key).and_then(|row| row.get(&column.name)).cloned();
                row.entry(column.name.clone()).or_insert_with(|| had.unwrap_or_else(|| "'d'".to_owned()));
            }
        }
        rows
    };
    tables.iter().enumerate().map(one).collect()
}

fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("RECEIVER_TEST_SEEDS").unwrap_or_else(|_| "0..40".to_owned());
    let (from, to) = given.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

fn two(chance: &mut Chance, tables: &[Table]) -> Two {
    let create: String = tables.iter().map(|table| table.create(&table.name, Version::Old, tables)).collect();
    let mut rows = String::new();
    for _ in 0..chance.below(40) {
        let next = statement(chance, tables, Version::Old);
        if next.starts_with("INSERT") && !next.contains("CONFLICT") {
            let values = next.split_once("INTO").unwrap().1;
            writeln!(rows, "INSERT OR IGNORE INTO{values};").unwrap();
        }
    }
    let rebuild: String = tables.iter().map(|table| table.rebuild(tables)).collect();
    Two::new(
        &format!("PRAGMA foreign_keys=OFF; {create} {rows}"),
        &format!("PRAGMA foreign_keys=OFF; {rebuild}"),
    )
}

#[test]
fn whatever_is_written_arrives_back_and_forward() {
    let mut moved = 0;
    for seed in seeds() {
        println!("seed {seed}");
        let mut chance = Chance(seed * 2 + 1);
        let tables = tables(&mut chance, false);
        let two = two(&mut chance, &tables);
        let mut before = state(&two.old, &tables, Version::Old);
        for _ in 0..2 {
            write(&mut chance, &file(&two.new), &tables, Version::New);
            let source = state(&two.new, &tables, Version::New);
            let carried = two
                .try_back(&Expressions::new(), OnConflict::Abort)
                .unwrap_or_else(|error| panic!("{}", error.one_line()));
            moved += carried.moved.values().map(|moved| moved.written + moved.deleted).sum::<u64>();
            let after = state(&two.old, &tables, Version::Old);
            assert_eq!(after, expected(&source, &before, &tables, Version::Old));

            two.turn();
            write(&mut chance, &file(&two.old), &tables, Version::Old);
            let older = state(&two.old, &tables, Version::Old);
            two.forward(&Expressions::new());
            let newer = state(&two.new, &tables, Version::New);
            assert_eq!(newer, expected(&older, &source, &tables, Version::New));
            // And the newer one lives again.
            before = older;
            let hold = two.old.hold(&patience()).unwrap();
            two.new.unfence().unwrap();
            two.new.capture("shop_v3", &patience()).unwrap();
            hold.fence("version 3 is retired").unwrap();
        }
    }
    assert!(moved > 300 || std::env::var_os("RECEIVER_TEST_SEEDS").is_some(), "{moved}");
}

#[test]
fn whatever_is_refused_is_left_as_it_was_and_all_else_arrives() {
    let (mut refused, mut arrived) = (0, 0);
    for seed in seeds() {
        println!("seed {seed}");
        let mut chance = Chance(seed * 2 + 1_000_001);
        let tables = tables(&mut chance, true);
        let two = two(&mut chance, &tables);
        let before = state(&two.old, &tables, Version::Old);
        let broken =
            content(&two.old, "SELECT count(*) FROM pragma_foreign_key_check")[0].parse::<u64>().unwrap();
        for _ in 0..4 {
            write(&mut chance, &file(&two.new), &tables, Version::New);
        }
        let source = state(&two.new, &tables, Version::New);
        let carried = two.try_back(&Expressions::new(), OnConflict::Abort).unwrap_or_else(|_| {
            assert_eq!(state(&two.old, &tables, Version::Old), before);
            let carried = two.try_back(&Expressions::new(), OnConflict::Quarantine).unwrap();
            assert!(!carried.refused.is_empty());
            carried
        });
        let after = state(&two.old, &tables, Version::Old);
        let model = expected(&source, &before, &tables, Version::Old);
        for (at, table) in tables.iter().enumerate() {
            let differs = |key: &&String| after[at].get(*key) != model[at].get(*key);
            let all: std::collections::BTreeSet<&String> = after[at].keys().chain(model[at].keys()).collect();
            let differ: Vec<_> = all.into_iter().filter(differs).collect();
            for key in &differ {
                assert_eq!(after[at].get(*key), before[at].get(*key), "{} {key}", table.name);
            }
            let left_out = carried.refused.get(&table.name).map_or(0, |refused| refused.rows);
            assert!(differ.len() as u64 <= left_out, "{}: {differ:?} {carried:?}", table.name);
            refused += left_out;
            arrived += carried.moved.get(&table.name).map_or(0, |moved| moved.written);
        }
        two.old.examine(broken + carried.dangling, &patience()).unwrap();
    }
    println!("{refused} refused, {arrived} arrived");
    assert!((refused > 10 && arrived > 100) || std::env::var_os("RECEIVER_TEST_SEEDS").is_some());
}
