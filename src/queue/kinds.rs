//! Tells the database which kinds this release knows, so that a job enqueued in SQL gets its kind's
//! queue, priority and budget without naming them.

use jobs::Registry;
use jobs::contract::BEGIN;
use sqlx::{Connection, PgConnection};

use crate::release::Release;

/// A release's kinds, as columns of the table.
#[derive(Clone)]
pub struct Kinds {
    kinds: Vec<&'static str>,
    queues: Vec<&'static str>,
    priorities: Vec<i16>,
    attempts: Vec<i32>,
}

impl Kinds {
    /// The kinds of a registry.
    #[must_use]
    pub fn of(registry: &Registry) -> Self {
        let mut kinds = Self {
            kinds: Vec::new(),
            queues: Vec::new(),
            priorities: Vec::new(),
            attempts: Vec::new(),
        };
        for entry in registry.entries() {
            kinds.kinds.push(entry.kind);
            kinds.queues.push(entry.queue.name());
            kinds.priorities.push(entry.priority);
            kinds.attempts.push(i32::from(entry.retry.attempts));
        }
        kinds
    }

    /// Writes them. Kinds of another release stay, they may still have rows; where another release
    /// decides (`newest` is false), kinds that it knows stay as it declared them.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn write(
        &self,
        connection: &mut PgConnection,
        newest: bool,
    ) -> Result<(), sqlx::Error> {
        sqlx::query!(
            // What is right already is left out: ON CONFLICT would lock it all the same, and wait for whoever holds it.
            "INSERT INTO polar_jobs.kinds (kind, queue, priority, max_attempts)
             SELECT n.* FROM unnest($1::text[], $2::text[], $3::smallint[], $4::int[]) n (kind, queue, priority, max_attempts)
               LEFT JOIN polar_jobs.kinds k USING (kind)
              WHERE k.kind IS NULL
                 OR $5 AND (k.queue, k.priority, k.max_attempts) IS DISTINCT FROM (n.queue, n.priority, n.max_attempts)
              ORDER BY n.kind
             ON CONFLICT (kind) DO UPDATE
                SET queue = excluded.queue, priority = excluded.priority, max_attempts = excluded.max_attempts",
            &self.kinds as &[&str],
            &self.queues as &[&str],
            &self.priorities,
            &self.attempts,
            newest,
        )
        .execute(connection)
        .await
        .map(drop)
    }
}

/// Declares the kinds of a registry, unless a newer release declared them.
///
/// # Errors
/// If the database fails; then nothing is changed.
pub async fn publish(
    connection: &mut PgConnection,
    registry: &Registry,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    let newest = Release::of(registry).announce(&mut transaction).await?;
    Kinds::of(registry).write(&mut transaction, newest).await?;
    transaction.commit().await
}
