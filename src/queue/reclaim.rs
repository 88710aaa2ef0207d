//! Takes the jobs of dead workers back, and looks once a second, in one statement, for everything that
//! somebody must do: dead workers, keys to be released, queues with due jobs.
//!
//! A worker is dead when its session lock is free, or when its lease ran out. Both may also mean that the
//! server was away: after its restart, its crash or a failover all locks are free and leases may be
//! over. Every worker notes the server's incarnation in its row, so one that has not come back to the
//! present one is judged by its lease alone, and only by a session that has lasted [`STARTUP_GRACE`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use jobs::contract::BEGIN;
use sqlx::{Connection, PgConnection};

/// How long a worker has to come back to a server that was away.
pub const STARTUP_GRACE: Duration = Duration::from_secs(15);

/// A worker that looks dead, and its session then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Suspect {
    /// The worker.
    pub worker: i64,
    /// Another number later means that it came back.
    pub session: i32,
    /// What makes it look dead: its session lock, of this incarnation of the server, is free; or else its lease is over.
    pub lock_is_free: bool,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The database's time.
    pub now: DateTime<Utc>,
    /// Workers that look dead. Look twice, a moment apart, before believing it: a lock is also free
    /// while a living process reconnects.
    pub suspects: Vec<Suspect>,
    /// Jobs are recorded for workers that have no row any more.
    pub orphans: bool,
    /// Ordering keys wait to be released.
    pub noted_keys: bool,
    /// Queues that have a due, free job and are not paused.
    pub due: Vec<String>,
}

/// A job that was reclaimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReclaimedJob {
    /// The row.
    pub id: i64,
    /// Which job.
    pub kind: String,
    /// The organization that it is about, where its payload says so.
    pub organization: Option<String>,
    /// True if its budget was spent, as of a job that kills its process each time; else it waits again.
    pub discarded: bool,
}

/// Looks for everything that there is to do, for worker `me` and its queues.
///
/// # Errors
/// If the database fails.
pub async fn look(
    connection: &mut PgConnection,
    me: i64,
    queues: &[String],
) -> Result<Findings, sqlx::Error> {
    let row = sqlx::query!(
        r#"WITH due AS (
               SELECT DISTINCT q.name AS queue
                 FROM polar_jobs.queues q CROSS JOIN LATERAL polar_jobs.priorities(q.name) p
                WHERE q.name = ANY ($2) AND q.paused_at IS NULL
                  AND EXISTS (SELECT 1 FROM polar_jobs.live_jobs j
                               WHERE polar_jobs.in_queue(j.queue, q.name) AND j.priority = p.priority AND j.run_at <= now()
                                 AND NOT j.blocked AND j.worker IS NULL)
           ), server AS MATERIALIZED (
               SELECT polar_jobs.server_incarnation() AS incarnation
           ), suspects AS (
               SELECT w.id, w.session, lock.is_free
                 FROM polar_jobs.workers w CROSS JOIN server
                CROSS JOIN LATERAL (SELECT w.session_lock AND w.incarnation IS NOT DISTINCT FROM server.incarnation
                                           AND NOT polar_jobs.holds_session_lock(w.id)) lock (is_free)
                WHERE w.id <> $1 AND (w.leased_until < now() OR lock.is_free)
           )
           SELECT now() AS "now!",
                  ARRAY(SELECT id FROM suspects ORDER BY id) AS "workers!",
                  ARRAY(SELECT session FROM suspects ORDER BY id) AS "sessions!",
                  ARRAY(SELECT is_free FROM suspects ORDER BY id) AS "free_locks!",
                  EXISTS (SELECT 1 FROM polar_jobs.claims c
                           WHERE NOT EXISTS (SELECT 1 FROM polar_jobs.workers w WHERE w.id = c.worker)) AS "orphans!",
                  EXISTS (SELECT 1 FROM polar_jobs.key_releases) AS "noted_keys!",
                  ARRAY(SELECT queue FROM due) AS "due!""#,
        me,
        queues,
    )
    .fetch_one(connection)
    .await?;
    let workers = row.workers.into_iter().zip(row.sessions);
    let suspects = workers.zip(row.free_locks);
    Ok(Findings {
        now: row.now,
        suspects: suspects
            .map(|((worker, session), lock_is_free)| Suspect {
                worker,
                session,
                lock_is_free,
            })
            .collect(),
        orphans: row.orphans,
        noted_keys: row.noted_keys,
        due: row.due,
    })
}

/// Removes a dead worker's row, if it is dead still: what made it look dead is checked again under the row's
/// lock, which the worker needs as well when it comes back. From then on it can claim nothing more, and
/// [`reclaim_jobs`] requeues what it held. Returns whether it was removed.
///
/// # Errors
/// If the database fails; then nothing was changed.
pub async fn remove_dead_worker(
    connection: &mut PgConnection,
    suspect: Suspect,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    let locked = sqlx::query!(
        "SELECT id FROM polar_jobs.workers WHERE id = $1 AND session = $2 FOR UPDATE SKIP LOCKED",
        suspect.worker,
        suspect.session,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if locked.is_none() {
        return Ok(false);
    }
    // A statement of its own, so that it sees what was committed while the row was not ours.
    let removed = sqlx::query!(
        "DELETE FROM polar_jobs.workers w
          WHERE w.id = $1
            AND CASE WHEN w.incarnation IS NOT DISTINCT FROM polar_jobs.server_incarnation()
                     THEN CASE WHEN $3 THEN w.session_lock AND NOT polar_jobs.holds_session_lock(w.id)
                               ELSE w.leased_until < clock_timestamp() END
                     ELSE w.leased_until < clock_timestamp()
                          AND (SELECT a.backend_start FROM pg_catalog.pg_stat_activity a WHERE a.pid = pg_backend_pid())
                              < clock_timestamp() - make_interval(secs => $2) END",
        suspect.worker,
        STARTUP_GRACE.as_secs_f64(),
        suspect.lock_is_free,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(removed.rows_affected() == 1)
}

/// Puts back what workers without a row held. A dead worker is a failure like any other: it adds an
/// entry to `errors`, and a spent budget discards. What an open transaction of somebody else holds stays
/// for the next call.
///
/// # Errors
/// If the database fails; then nothing was changed.
pub async fn reclaim_jobs(connection: &mut PgConnection) -> Result<Vec<ReclaimedJob>, sqlx::Error> {
    sqlx::query_as!(
        ReclaimedJob,
        r#"SELECT id AS "id!", kind AS "kind!", organization, discarded AS "discarded!"
             FROM polar_jobs.reclaim_jobs()"#
    )
    .fetch_all(connection)
    .await
}
