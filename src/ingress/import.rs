//! Changes from a file: stored as `POST /changes` stores them, with jobs that stay behind everything that
//! people wait for.

use jobs::change::Fault;
use jobs::contract::priority;
use serde_json::Value;
use sqlx::PgConnection;

use super::changes::{Batch, rows, store_rows};

/// Some changes of a file.
#[derive(Default)]
pub struct Import(Batch);

impl Import {
    /// Takes one more change.
    ///
    /// # Errors
    /// Every fault of it; then it is not taken.
    pub fn add(&mut self, change: Value) -> Result<(), Vec<Fault>> {
        self.0.add(change)
    }

    /// How many were taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stores them in the caller's transaction. Returns how many were new.
    ///
    /// # Errors
    /// If the database refuses; then none is stored.
    pub async fn store(&self, connection: &mut PgConnection) -> Result<usize, sqlx::Error> {
        let mut rows = rows(connection, &self.0).await?;
        for job in rows.iter_mut().flat_map(|row| &mut row.jobs) {
            job.priority = priority::BACKFILL;
        }
        store_rows(connection, &self.0, &rows).await
    }
}
