//! Tells the database which kinds this release knows, so that a job enqueued in SQL gets its kind's
//! queue, priority and budget without naming them.

use jobs::Registry;
use sqlx::PgConnection;

/// Writes the registry's kinds; kinds of another release stay, they may still have rows.
///
/// # Errors
/// If the database fails.
pub async fn publish(
    connection: &mut PgConnection,
    registry: &Registry,
) -> Result<(), sqlx::Error> {
    let entries: Vec<_> = registry.entries().collect();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry.kind).collect();
    let queues: Vec<&str> = entries.iter().map(|entry| entry.queue.name()).collect();
    let priorities: Vec<i16> = entries.iter().map(|entry| entry.priority).collect();
    let attempts: Vec<i32> = entries
        .iter()
        .map(|entry| i32::from(entry.retry.attempts))
        .collect();
    sqlx::query!(
        "INSERT INTO polar_jobs.kinds (kind, queue, priority, max_attempts)
         SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[], $4::int[]) n (kind, queue, priority, max_attempts)
          ORDER BY kind
         ON CONFLICT (kind) DO UPDATE
            SET queue = excluded.queue, priority = excluded.priority, max_attempts = excluded.max_attempts
          WHERE (kinds.queue, kinds.priority, kinds.max_attempts)
             IS DISTINCT FROM (excluded.queue, excluded.priority, excluded.max_attempts)",
        &kinds as &[&str],
        &queues as &[&str],
        &priorities,
        &attempts,
    )
    .execute(connection)
    .await
    .map(drop)
}
