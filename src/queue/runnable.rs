//! Whether anything could run now: what `--drain` asks before it ends.

use sqlx::PgConnection;

/// True if a job of these queues is due and free, or an ordering key is about to be released.
/// Priorities are visited one by one, as in a claim, so what waits for tomorrow costs nothing.
///
/// # Errors
/// If the database fails.
pub async fn any(connection: &mut PgConnection, queues: &[String]) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"WITH RECURSIVE levels (queue, priority) AS (
               SELECT q.name, (SELECT j.priority FROM polar_jobs.live_jobs j
                                WHERE j.queue = q.name AND NOT j.blocked ORDER BY j.priority LIMIT 1)
                 FROM polar_jobs.queues q WHERE q.name = ANY ($1) AND q.paused_at IS NULL
               UNION ALL
               SELECT l.queue, (SELECT j.priority FROM polar_jobs.live_jobs j
                                 WHERE j.queue = l.queue AND NOT j.blocked AND j.priority > l.priority
                                 ORDER BY j.priority LIMIT 1)
                 FROM levels l WHERE l.priority IS NOT NULL
           )
           SELECT EXISTS (SELECT 1 FROM polar_jobs.key_releases)
               OR EXISTS (SELECT 1 FROM levels l CROSS JOIN LATERAL (
                      SELECT 1 FROM polar_jobs.live_jobs j
                       WHERE j.queue = l.queue AND j.priority = l.priority AND j.run_at <= now()
                         AND NOT j.blocked AND j.worker IS NULL LIMIT 1) due) AS "any!""#,
        queues,
    )
    .fetch_one(connection)
    .await
}
