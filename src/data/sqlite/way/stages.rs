//! All tables that rows could go through, in the order of inserts.

use std::collections::HashMap;

use super::stage::Stage;

/// Thousands of them may be there for the sake of a few whose rows are on their way.
#[derive(Default)]
pub(super) struct Stages<'a> {
    all: Vec<Stage<'a>>,
    places: HashMap<&'a str, usize>,
}

impl<'a> Stages<'a> {
    /// How many there are: the place of the next one.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn push(&mut self, stage: Stage<'a>) {
        self.places.insert(&stage.passage.table, self.all.len());
        self.all.push(stage);
    }

    /// That of a table, whether or not any row of it is on its way.
    pub(super) fn of(&self, table: &str) -> Option<&Stage<'a>> {
        self.places.get(table).map(|at| &self.all[*at])
    }

    /// That of a table of which a row is on its way.
    pub(super) fn used_of(&self, table: &str) -> Option<&Stage<'a>> {
        self.of(table).filter(|stage| stage.is_used())
    }

    /// Those through which rows go.
    pub(super) fn used(&self) -> impl DoubleEndedIterator<Item = &Stage<'a>> {
        self.all.iter().filter(|stage| stage.is_used())
    }

    pub(super) fn at(&self, place: usize) -> &Stage<'a> {
        &self.all[place]
    }

    pub(super) fn at_mut(&mut self, place: usize) -> &mut Stage<'a> {
        &mut self.all[place]
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stage<'a>> {
        self.all.iter_mut()
    }
}
