//! Which column goes where: pure, from two schemas.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Left, Order, Reference, Table, What, expression, order};
use crate::data::schema::BOOKKEEPING;

/// `[map.TABLE.up]` or `[map.TABLE.down]`, whichever leads to the target: for each table, for columns of the
/// target, an expression over the columns of the source's table of the same name.
pub type Expressions = BTreeMap<String, BTreeMap<String, String>>;

/// The way of all rows from one schema into another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The tables whose rows can go, parents before children. Rows are deleted in the opposite order.
    pub passages: Vec<Passage>,
    /// All references of the target between tables that it has, to be whole at the end.
    pub links: Vec<Link>,
    /// Tables of the target that refer to each other in a circle.
    pub cycles: Vec<Vec<String>>,
    /// What has no place in the target.
    pub left: Left,
}

/// The way of the rows of one table into the one of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// The name.
    pub table: String,
    /// The primary key, the same in both, in the order of the target's. Its columns go as they are.
    pub key: Vec<String>,
    /// The columns of the target that are written, and from what; the key's among them.
    pub columns: Vec<(String, Value)>,
    /// The other columns of the target that could be written: a row that is there keeps what it has, a new
    /// one takes the default.
    pub kept: Vec<String>,
    /// Whether only gaps are filled: columns (other than the key's) of rows that both have, where the
    /// source's value is not null. Nothing is inserted, and nothing deleted.
    pub fills: bool,
}

/// What a column of the target becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// The source's column of this name.
    Column(String),
    /// What this expression makes of the source's row. It can be put in parentheses, and nowhere else; the
    /// only names in its reach may be those of the source's table.
    Expression(String),
}

/// A reference of the target, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The table that refers.
    pub table: String,
    /// Its primary key; empty where it has none.
    pub key: Vec<String>,
    /// The reference.
    pub reference: Reference,
}

impl Way {
    /// Plans the way from one schema into another. Frameworks' own accounts stay where they are.
    pub fn plan(source: &[Table], target: &[Table], expressions: &Expressions) -> Way {
        let mut way = Way::along(target);
        let mut left = Left::default();
        let (targets, sources) = (Named::of(target), Named::of(source));
        let expressions = lowered(expressions);
        for table in passable(source) {
            let own = expressions.get(&table.name.to_ascii_lowercase()).map(|(_, columns)| *columns);
            match targets.find(&table.name) {
                None => left.add(&table.name, What::Table),
                Some(other) => way.passages.extend(passage(table, other, own, &mut left)),
            }
        }
        for (lower, (table, columns)) in &expressions {
            if sources.has_in_some_case(lower) && targets.has_in_some_case(lower) {
                continue;
            }
            for column in columns.keys() {
                let why = "there is no table of this name in both versions".to_owned();
                left.add(table, What::Expression { column: column.clone(), why });
            }
        }
        way.finish(target, left)
    }

    /// Plans how `own`, which was made from a database with the schema `base`, gets what `left` alone holds:
    /// rows of tables, and values of columns, that `left` and `own` have and `base` lacks.
    pub fn merge(left: &[Table], base: &[Table], own: &[Table]) -> Way {
        let mut way = Way::along(own);
        let mut stays = Left::default();
        let (bases, owns) = (Named::of(base), Named::of(own));
        for table in passable(left) {
            let between = bases.find(&table.name);
            let Some(other) = owns.find(&table.name) else {
                if between.is_none() {
                    stays.add(&table.name, What::Table);
                }
                continue;
            };
            let Some(between) = between else {
                way.passages.extend(passage(table, other, None, &mut stays));
                continue;
            };
            let mut lost = Left::default();
            let whole = passage(table, other, None, &mut lost);
            // What the table between had, too, went through it.
            lost.0.retain(|stay| match &stay.what {
                What::Column(column) => between.column(column).is_none(),
                What::Required(_) => false,
                _ => table.columns.iter().any(|column| between.column(&column.name).is_none()),
            });
            stays.0.extend(lost.0);
            way.passages.extend(whole.and_then(|whole| whole.filling(between)));
        }
        way.finish(own, stays)
    }

    fn along(target: &[Table]) -> Way {
        let targets = Named::of(target);
        let known = |reference: &&Reference| targets.find(&reference.table).is_some();
        let links = target.iter().flat_map(|table| {
            table.references.iter().filter(known).map(|reference| Link {
                table: table.name.clone(),
                key: table.key.clone(),
                reference: reference.clone(),
            })
        });
        Way { links: links.collect(), ..Way::default() }
    }

    /// The part of it that moves anything, where only rows of these tables changed: their passages, those of what they
    /// refer to (parents may have to come along), and the references from or to either.
    #[must_use]
    pub fn of_changed(&self, changed: &BTreeSet<&str>) -> Way {
        let mut parents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for link in &self.links {
            parents.entry(&link.table).or_default().push(&link.reference.table);
        }
        let (mut wanted, mut next) = (changed.clone(), changed.iter().copied().collect::<Vec<_>>());
        while let Some(table) = next.pop() {
            let new = parents.remove(table).unwrap_or_default().into_iter();
            next.extend(new.filter(|parent| wanted.insert(parent)));
        }
        let has = |table: &String| wanted.contains(table.as_str());
        let touches = |link: &&Link| has(&link.table) || has(&link.reference.table);
        Way {
            passages: self.passages.iter().filter(|passage| has(&passage.table)).cloned().collect(),
            links: self.links.iter().filter(touches).cloned().collect(),
            cycles: self.cycles.clone(),
            left: self.left.clone(),
        }
    }

    fn finish(mut self, target: &[Table], mut left: Left) -> Way {
        let Order { tables, cycles } = order(target);
        let place: BTreeMap<&str, usize> =
            tables.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        self.passages.sort_by_key(|passage| place.get(passage.table.as_str()).copied());
        left.0.sort_by(|one, other| one.table.cmp(&other.table));
        Way { cycles, left, ..self }
    }
}

impl Passage {
    /// The same, but only for what `between` lacks.
    fn filling(mut self, between: &Table) -> Option<Passage> {
        let own = |column: &String| self.key.contains(column) || between.column(column).is_none();
        let (columns, others): (Vec<_>, Vec<_>) =
            self.columns.into_iter().partition(|(column, _)| own(column));
        self.kept.extend(others.into_iter().map(|(column, _)| column));
        let any = columns.len() > self.key.len();
        any.then_some(Passage { columns, fills: true, ..self })
    }
}

/// The tables that are neither receiver's nor a framework's accounts.
fn passable(tables: &[Table]) -> impl Iterator<Item = &Table> {
    tables.iter().filter(|table| !BOOKKEEPING.contains(&table.name.as_str()))
}

/// Tables by name: a schema may have ten thousand.
struct Named<'a>(BTreeMap<&'a str, &'a Table>);

impl<'a> Named<'a> {
    fn of(tables: &'a [Table]) -> Named<'a> {
        Named(tables.iter().map(|table| (table.name.as_str(), table)).collect())
    }

    fn find(&self, name: &str) -> Option<&'a Table> {
        self.0.get(name).copied()
    }

    fn has_in_some_case(&self, lower: &str) -> bool {
        self.0.contains_key(lower) || self.0.keys().any(|name| name.eq_ignore_ascii_case(lower))
    }
}

/// Expressions by the names of tables in lower case, with those that were written.
fn lowered(expressions: &Expressions) -> BTreeMap<String, (&String, &BTreeMap<String, String>)> {
    expressions.iter().map(|(table, columns)| (table.to_ascii_lowercase(), (table, columns))).collect()
}

/// The way of one table's rows, if there is one; else it is said why not.
fn passage(
    source: &Table,
    target: &Table,
    expressions: Option<&BTreeMap<String, String>>,
    left: &mut Left,
) -> Option<Passage> {
    if let Some(why) = source.apart.as_ref().or(target.apart.as_ref()) {
        left.add(&source.name, What::Apart(why.clone()));
        return None;
    }
    if source.key.is_empty() || target.key.is_empty() {
        left.add(&source.name, What::Keyless);
        return None;
    }
    if !same_key(source, target) {
        left.add(&source.name, What::Key);
        return None;
    }
    let expressions = usable(source, target, expressions, left);
    let mut passage = Passage { table: target.name.clone(), key: target.key.clone(), ..Passage::default() };
    for column in target.columns.iter().filter(|column| !column.generated) {
        let named = |(name, _): &(&String, &String)| name.eq_ignore_ascii_case(&column.name);
        if let Some((_, text)) = expressions.iter().copied().find(named) {
            passage.columns.push((column.name.clone(), Value::Expression(text.clone())));
        } else if source.column(&column.name).is_some() {
            passage.columns.push((column.name.clone(), Value::Column(column.name.clone())));
        } else {
            if !column.nullable && column.default.is_none() {
                left.add(&source.name, What::Required(column.name.clone()));
            }
            passage.kept.push(column.name.clone());
        }
    }
    for column in source.columns.iter().filter(|column| !column.generated) {
        let used = expressions.iter().any(|(_, text)| expression::mentions(text, &column.name));
        if target.column(&column.name).is_none() && !used {
            left.add(&source.name, What::Column(column.name.clone()));
        }
    }
    Some(passage)
}

/// The expressions that can be used; of the others it is said why not.
fn usable<'a>(
    source: &Table,
    target: &Table,
    expressions: Option<&'a BTreeMap<String, String>>,
    left: &mut Left,
) -> Vec<(&'a String, &'a String)> {
    let mut usable = Vec::new();
    for (name, text) in expressions.into_iter().flatten() {
        let column = target.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        let why = match column {
            None => Some("the table has no such column"),
            Some(column) if column.generated => Some("the database computes this column itself"),
            Some(column) if target.key.contains(&column.name) => Some("a key stays as it is"),
            Some(_) => expression::fault(text),
        };
        match why {
            None => usable.push((name, text)),
            Some(why) => {
                let what = What::Expression { column: name.clone(), why: why.to_owned() };
                left.add(&source.name, what);
            }
        }
    }
    usable
}

/// Whether both have the same columns in their primary keys, in whatever order, of types whose values can be
/// equal, and no computed one.
fn same_key(source: &Table, target: &Table) -> bool {
    source.key.len() == target.key.len()
        && target.key.iter().all(|name| {
            let (from, to) = (source.column(name), target.column(name));
            let alike = from.zip(to).is_some_and(|(from, to)| from.kind == to.kind && !to.generated);
            source.key.contains(name) && alike
        })
}
