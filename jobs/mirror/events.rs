//! What came in over HTTP, read by the jobs that it started.

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
