//! What came in over HTTP, read by the jobs that it started.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::PgPool;

/// A stored change of the application.
#[derive(Clone, Debug)]
pub struct StoredChange {
    /// The type, as it was sent.
    pub change_type: String,
    /// The data, as it was sent.
    pub data: Value,
}

/// The stored change of an event; `None` if it is no change, or is gone.
///
/// # Errors
/// If the database fails.
pub async fn change(pool: &PgPool, event: i64) -> Result<Option<StoredChange>, sqlx::Error> {
    sqlx::query_as!(
        StoredChange,
        r#"SELECT type AS "change_type!", change AS "data!" FROM polar_jobs.stored_events
            WHERE id = $1 AND source = 'app' AND type IS NOT NULL AND change IS NOT NULL"#,
        event,
    )
    .fetch_optional(pool)
    .await
}

/// Returns for how many seconds these events have been there, by the clock of the database; those of the last day
/// only, for what is replayed later is no measure of anything.
///
/// # Errors
/// If the database fails.
pub async fn ages(pool: &PgPool, events: &[i64]) -> Result<HashMap<i64, f64>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT id, extract(epoch FROM clock_timestamp() - received_at)::float8 AS "seconds!"
             FROM polar_jobs.stored_events WHERE id = ANY ($1) AND received_at > now() - interval '1 day'"#,
        events,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.seconds)).collect())
}

/// The exact bytes of the deliveries among these events, oldest first.
///
/// # Errors
/// If the database fails.
pub async fn deliveries(pool: &PgPool, events: &[i64]) -> Result<Vec<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT body AS "body!" FROM polar_jobs.stored_events
            WHERE id = ANY ($1) AND body IS NOT NULL ORDER BY id"#,
        events,
    )
    .fetch_all(pool)
    .await
}
