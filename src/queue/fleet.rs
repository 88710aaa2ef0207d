//! How far behind the fleet is, in a few bounded looks that do not get slower with the backlog.

use sqlx::PgPool;

/// A queue at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Backlog {
    /// Its name.
    pub queue: String,
    /// For how many seconds its oldest unfinished work has been due, whether it could run all the time or
    /// was requeued; 0 where none is.
    pub oldest_due: f64,
    /// Jobs that wait and are not behind another one of their ordering key; no more than
    /// [`COUNTED`] are counted.
    pub depth: i64,
}

/// Where counting stops: an operator who sees this number knows enough.
pub const COUNTED: i64 = 10_000;

/// The backlog of every queue, paused ones included. Reads one row per priority for the age, because
/// the index is ordered by priority first.
///
/// # Errors
/// If the database fails.
pub async fn backlogs(pool: &PgPool) -> Result<Vec<Backlog>, sqlx::Error> {
    // Seconds are subtracted and not moments: Postgres before 17 refuses to subtract infinite ones.
    // The order in which they are counted is that of an index: where one queue holds nearly all jobs, the planner
    // would look for another's in the whole table.
    sqlx::query_as!(
        Backlog,
        r#"SELECT q.name AS "queue!",
                  greatest(max(extract(epoch FROM now()) - extract(epoch FROM due.run_at)),
                           extract(epoch FROM now()) - extract(epoch FROM (
                               SELECT j.due_at FROM polar_jobs.live_jobs j
                                WHERE j.queue = q.name AND j.due_at IS NOT NULL ORDER BY j.due_at LIMIT 1)),
                           0)::float8 AS "oldest_due!",
                  (SELECT count(*) FROM (SELECT FROM polar_jobs.live_jobs j
                    WHERE polar_jobs.in_queue(j.queue, q.name) AND NOT j.blocked AND j.worker IS NULL
                    ORDER BY j.priority, j.run_at, j.id LIMIT $1) counted) AS "depth!"
             FROM polar_jobs.queues q
             LEFT JOIN LATERAL polar_jobs.priorities(q.name) p ON true
             LEFT JOIN LATERAL (
                  SELECT j.run_at FROM polar_jobs.live_jobs j
                   WHERE polar_jobs.in_queue(j.queue, q.name) AND j.priority = p.priority AND j.run_at <= now()
                     AND NOT j.blocked AND j.worker IS NULL ORDER BY j.run_at LIMIT 1) due ON true
            GROUP BY q.name"#,
        COUNTED,
    )
    .fetch_all(pool)
    .await
}

/// Workers whose lease holds and whose session lock Postgres has not dropped.
///
/// # Errors
/// If the database fails.
pub async fn workers_alive(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM polar_jobs.workers w WHERE polar_jobs.is_alive(w)"#
    )
    .fetch_one(pool)
    .await
}

/// Discarded jobs that nobody retried or acknowledged, no more than [`COUNTED`].
///
/// # Errors
/// If the database fails.
pub async fn discarded(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (
             SELECT FROM polar_jobs.finished_jobs
              WHERE state = 'discarded' AND acknowledged_at IS NULL LIMIT $1) counted"#,
        COUNTED,
    )
    .fetch_one(pool)
    .await
}
