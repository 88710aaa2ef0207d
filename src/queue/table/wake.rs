//! Notifies workers after an operator's change.

use sqlx::PgConnection;

/// Shortens the wait of an idle worker, once the transaction commits; polling would find the job
/// as well.
///
/// # Errors
/// If the database fails.
pub async fn wake(connection: &mut PgConnection, queue: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT pg_notify('polar_jobs', $1) WHERE polar_jobs.anyone_is_idle($1)",
        queue
    )
    .execute(connection)
    .await
    .map(drop)
}
