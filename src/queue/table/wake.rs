//! Notifies workers after an operator's change.

use sqlx::PgPool;

/// Shortens the wait of a worker that sleeps; polling would find the job as well.
pub(super) async fn wake(pool: &PgPool, queue: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT pg_notify('polar_jobs', $1) WHERE polar_jobs.somebody_sleeps($1)",
        queue
    )
    .execute(pool)
    .await
    .map(drop)
}
