//! Retention: the deletion itself is SQL (`polar_jobs.prune`), because the queue's tables belong
//! to the queue.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// What is old enough to go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Completed jobs that finished before, and ticks before; the newest tick of a schedule stays.
    pub completed: DateTime<Utc>,
    /// Discarded and cancelled jobs that finished before.
    pub troubled: DateTime<Utc>,
    /// Handled events received before.
    pub events: DateTime<Utc>,
}

/// Deletes at most `batch` rows of each kind; answers how many. 0 = nothing old is left.
///
/// # Errors
/// If the database fails.
pub async fn batch(pool: &PgPool, limits: Limits, batch: i32) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT polar_jobs.prune($1, $2, $3, $4) AS "deleted!""#,
        batch,
        limits.completed,
        limits.troubled,
        limits.events,
    )
    .fetch_one(pool)
    .await
}
