//! Who is idle, and how one who is idle is woken.
//!
//! A worker that found a queue empty holds the queue's lock in share mode and listens. Where the lock can be had
//! exclusively nobody is idle, and nobody is notified. It only shortens a wait, for polling finds every job.

use sqlx::postgres::PgListener;
use sqlx::{PgConnection, PgExecutor};

/// Listens for wake-ups; the payload of each is the name of a queue.
///
/// # Errors
/// If the database fails.
pub async fn listen(session: &mut PgListener) -> Result<(), sqlx::Error> {
    session.listen("polar_jobs").await
}

/// Marks this session as idle for a queue.
///
/// # Errors
/// If the database fails.
pub async fn share_lock(session: impl PgExecutor<'_>, queue: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT pg_advisory_lock_shared(polar_jobs.idle_lock($1))",
        queue
    )
    .execute(session)
    .await
    .map(drop)
}

/// Takes the mark away.
///
/// # Errors
/// If the database fails.
pub async fn drop_lock(session: impl PgExecutor<'_>, queue: &str) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT pg_advisory_unlock_shared(polar_jobs.idle_lock($1))",
        queue
    )
    .fetch_one(session)
    .await
    .map(drop)
}

/// Wakes the idle workers of a queue at once. The lock is tried in one statement with the notification, of which
/// nothing is written to the log.
///
/// # Errors
/// If the database fails.
pub async fn wake_now(executor: impl PgExecutor<'_>, queue: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT pg_notify('polar_jobs', $1) WHERE NOT pg_try_advisory_xact_lock(polar_jobs.idle_lock($1))",
        queue
    )
    .execute(executor)
    .await
    .map(drop)
}

/// Wakes the idle workers of a queue once the transaction commits, which is one of ours: the schema's own function of
/// this name serves those of applications, which may be prepared.
///
/// # Errors
/// If the database fails.
pub async fn wake_at_commit(connection: &mut PgConnection, queue: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT pg_notify('polar_jobs', $1) WHERE polar_jobs.anyone_is_idle($1)",
        queue
    )
    .execute(connection)
    .await
    .map(drop)
}
