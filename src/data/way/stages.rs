//! All tables that rows could go through, in the order of inserts.

use std::collections::HashMap;

use super::Passage;

/// One of them, as an engine has it.
pub trait Staged<'a> {
    /// What goes through it, and how.
    fn passage(&self) -> &'a Passage;

    /// Whether any row is on its way.
    fn is_used(&self) -> bool;
}

/// Thousands of them may be there for the sake of a few whose rows are on their way.
pub struct Stages<'a, S> {
    all: Vec<S>,
    places: HashMap<&'a str, usize>,
}

impl<S> Default for Stages<'_, S> {
    fn default() -> Self {
        Stages { all: Vec::new(), places: HashMap::new() }
    }
}

impl<'a, S: Staged<'a>> Stages<'a, S> {
    /// How many there are: the place of the next one.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// One more.
    pub fn push(&mut self, stage: S) {
        self.places.insert(&stage.passage().table, self.all.len());
        self.all.push(stage);
    }

    /// All of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &S> {
        self.all.iter()
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut S> {
        self.all.iter_mut()
    }

    /// That of a table, whether or not any row of it is on its way.
    pub fn of(&self, table: &str) -> Option<&S> {
        self.places.get(table).map(|at| &self.all[*at])
    }

    /// That of a table of which a row is on its way.
    pub fn used_of(&self, table: &str) -> Option<&S> {
        self.of(table).filter(|stage| stage.is_used())
    }

    /// Those through which rows go.
    pub fn used(&self) -> impl DoubleEndedIterator<Item = &S> {
        self.all.iter().filter(|stage| stage.is_used())
    }

    /// That at a place.
    ///
    /// # Panics
    /// Where there are not so many.
    pub fn at(&self, place: usize) -> &S {
        &self.all[place]
    }

    /// The same, to be changed.
    ///
    /// # Panics
    /// Where there are not so many.
    pub fn at_mut(&mut self, place: usize) -> &mut S {
        &mut self.all[place]
    }
}
