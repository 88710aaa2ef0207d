//! Whether anything could run now: what `--drain` asks before it ends.

use sqlx::PgConnection;

/// True if a job of these queues is due and free, or an ordering key is about to be released, or a worker that
/// looks dead holds one: it is reclaimed within seconds, but by nobody if every process ends before that. It
/// counts as dead sooner here than where jobs are reclaimed: a drain that waits too long is harmless, one that ends too
/// early leaves the job behind.
///
/// # Errors
/// If the database fails.
pub async fn any(connection: &mut PgConnection, queues: &[String]) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM polar_jobs.key_releases)
               OR EXISTS (SELECT 1
                            FROM polar_jobs.queues q CROSS JOIN LATERAL polar_jobs.priorities(q.name) p
                            CROSS JOIN LATERAL (
                                 SELECT 1 FROM polar_jobs.live_jobs j
                                  WHERE polar_jobs.in_queue(j.queue, q.name) AND j.priority = p.priority AND j.run_at <= now()
                                    AND NOT j.blocked AND j.worker IS NULL LIMIT 1) due
                           WHERE q.name = ANY ($1) AND q.paused_at IS NULL)
               OR EXISTS (SELECT 1
                            FROM polar_jobs.claims c LEFT JOIN polar_jobs.workers w ON w.id = c.worker
                            CROSS JOIN LATERAL unnest(c.ids) AS held (id)
                            JOIN polar_jobs.live_jobs j ON j.id = held.id AND j.worker = c.worker
                           WHERE j.queue = ANY ($1)
                             AND (w.id IS NULL OR w.leased_until < now()
                               OR w.session_lock AND NOT polar_jobs.holds_session_lock(w.id))) AS "any!""#,
        queues,
    )
    .fetch_one(connection)
    .await
}
