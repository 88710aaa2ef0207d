//! Whether anything could run now, and for how long it could: what `--drain` asks before it ends, and
//! what tells people that a queue falls behind.

use sqlx::{PgConnection, PgPool};

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

/// Due jobs of a queue that wait for a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Backlog {
    /// The queue.
    pub queue: String,
    /// How many, counted up to 10 000 per priority.
    pub depth: i64,
    /// Age of the oldest; 0 where nothing is due. For a job that was tried before it counts from its
    /// creation, because `run_at` moves with each try.
    pub oldest_seconds: f64,
}

/// How far behind every queue is, paused ones included. Reads a bounded number of rows per priority,
/// however long the backlog.
///
/// # Errors
/// If the database fails.
pub async fn backlogs(pool: &PgPool) -> Result<Vec<Backlog>, sqlx::Error> {
    sqlx::query_as!(
        Backlog,
        r#"WITH RECURSIVE levels (queue, priority) AS (
               SELECT q.name, (SELECT j.priority FROM polar_jobs.live_jobs j
                                WHERE j.queue = q.name AND NOT j.blocked ORDER BY j.priority LIMIT 1)
                 FROM polar_jobs.queues q
               UNION ALL
               SELECT l.queue, (SELECT j.priority FROM polar_jobs.live_jobs j
                                 WHERE j.queue = l.queue AND NOT j.blocked AND j.priority > l.priority
                                 ORDER BY j.priority LIMIT 1)
                 FROM levels l WHERE l.priority IS NOT NULL
           )
           SELECT l.queue AS "queue!", coalesce(sum(due.depth), 0)::bigint AS "depth!",
                  coalesce(max(extract(epoch FROM now() - due.since)), 0)::float8 AS "oldest_seconds!"
             FROM levels l LEFT JOIN LATERAL (
                  SELECT count(*) AS depth, min(CASE WHEN d.attempt > 0 THEN d.created_at ELSE d.run_at END) AS since
                    FROM (SELECT j.attempt, j.created_at, j.run_at FROM polar_jobs.live_jobs j
                           WHERE j.queue = l.queue AND j.priority = l.priority AND j.run_at <= now()
                             AND NOT j.blocked AND j.worker IS NULL ORDER BY j.run_at LIMIT 10000) d) due ON true
            GROUP BY l.queue"#
    )
    .fetch_all(pool)
    .await
}
