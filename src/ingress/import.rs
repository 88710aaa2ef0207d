//! Changes from a file: stored as `POST /changes` stores them, with jobs that stay behind everything that
//! people wait for.

use jobs::change::Fault;
use jobs::contract::priority;
use jobs::mirror::{costs, usage};
use serde_json::Value;
use sqlx::PgConnection;

use super::accept::{reserve, store_changes};
use super::changes::{Batch, row};

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
        let ids = reserve(connection, &self.0.subjects(), self.0.changes.len()).await?;
        let mut rows: Vec<_> = self
            .0
            .changes
            .iter()
            .zip(ids)
            .map(|(change, id)| row(change, id))
            .collect();
        for job in rows.iter_mut().flat_map(|row| &mut row.jobs) {
            job.priority = priority::BACKFILL;
        }
        let changes = match rows.as_slice() {
            [] => 0,
            rows => store_changes(connection, rows).await?,
        };
        let usage = usage::record_all(connection, &self.0.usage).await?;
        let costs = costs::record_all(connection, &self.0.costs).await?;
        Ok(changes + usize::try_from(usage.accepted + costs.accepted).unwrap_or(usize::MAX))
    }
}
