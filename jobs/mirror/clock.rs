//! The clock that stored times are compared with. A host's own clock may be wrong, and then nothing
//! that is decided by a stored time may follow it.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// The time by the clock of Postgres.
///
/// # Errors
/// If the database fails.
pub async fn now(pool: &PgPool) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#)
        .fetch_one(pool)
        .await
}
