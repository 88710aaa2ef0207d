//! Every kind of row is kept in the order in which it was made and found by its id.

use std::collections::HashMap;

use uuid::Uuid;

use crate::world::model::Row;

/// Rows in the order they were made, found by id.
#[derive(Debug)]
pub(crate) struct Table<T> {
    rows: Vec<T>,
    index: HashMap<Uuid, usize>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            index: HashMap::new(),
        }
    }
}

impl<T: Row> Table<T> {
    /// Adds a row and returns its id.
    pub(crate) fn insert(&mut self, row: T) -> Uuid {
        let id = row.id();
        self.index.insert(id, self.rows.len());
        self.rows.push(row);
        id
    }

    /// The row with this id.
    pub(crate) fn get(&self, id: Uuid) -> Option<&T> {
        self.index.get(&id).map(|position| &self.rows[*position])
    }

    /// The row with this id, to change.
    pub(crate) fn get_mut(&mut self, id: Uuid) -> Option<&mut T> {
        self.index
            .get(&id)
            .map(|position| &mut self.rows[*position])
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.rows.iter()
    }

    /// How many rows were ever made.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}
