//! Why a job is where it is.

use chrono::{DateTime, Utc};
use jobs::types::Timestamp;
use serde::Serialize;
use sqlx::PgPool;

use super::{JobRow, State};

/// The facts around a job that decide when it runs.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The database's time, by which everything is judged.
    pub now: DateTime<Utc>,
    /// Since when its queue is paused.
    pub queue_paused_at: Option<Timestamp>,
    /// Living workers that serve its queue.
    pub workers: i64,
    /// Whether the installed release knows its kind.
    pub kind_is_known: bool,
    /// When an operator took note of its failure.
    pub acknowledged_at: Option<Timestamp>,
    /// The earlier unfinished job of its ordering key.
    pub behind: Option<HeadOfKey>,
    /// The worker that has it; `None` while it runs means that the worker is gone.
    pub holder: Option<Holder>,
}

/// The job that runs or waits first for an ordering key.
#[derive(Clone, Debug, Serialize)]
pub struct HeadOfKey {
    /// Its id.
    pub id: i64,
    /// Its kind.
    pub kind: String,
    /// Whether a worker has it.
    pub running: bool,
}

/// A worker process.
#[derive(Clone, Debug, Serialize)]
pub struct Holder {
    /// Its host.
    pub host: String,
    /// Its process id there.
    pub pid: i32,
    /// How long its lease lasts.
    pub leased_until: Timestamp,
}

/// Looks at everything around a job.
///
/// # Errors
/// If the database fails.
pub async fn explain(pool: &PgPool, job: &JobRow) -> Result<Explanation, sqlx::Error> {
    let facts = sqlx::query!(
        r#"SELECT clock_timestamp() AS "now!",
                  (SELECT paused_at FROM polar_jobs.queues WHERE name = $1) AS "paused_at: Timestamp",
                  (SELECT count(*) FROM polar_jobs.workers w WHERE polar_jobs.is_alive(w) AND $1 = ANY (w.queues)) AS "workers!",
                  EXISTS (SELECT 1 FROM polar_jobs.kinds WHERE kind = $2) AS "kind_is_known!",
                  (SELECT max(acknowledged_at) FROM polar_jobs.finished_jobs
                    WHERE id = $3) AS "acknowledged_at: Timestamp""#,
        job.queue,
        job.kind,
        job.id,
    )
    .fetch_one(pool)
    .await?;
    Ok(Explanation {
        now: facts.now,
        queue_paused_at: facts.paused_at,
        workers: facts.workers,
        kind_is_known: facts.kind_is_known,
        acknowledged_at: facts.acknowledged_at,
        behind: head_of_key(pool, job).await?,
        holder: holder(pool, job).await?,
    })
}

/// The one that is not blocked; it need not be the oldest where an operator put an old one back.
async fn head_of_key(pool: &PgPool, job: &JobRow) -> Result<Option<HeadOfKey>, sqlx::Error> {
    if !job.blocked {
        return Ok(None);
    }
    sqlx::query_as!(
        HeadOfKey,
        r#"SELECT id, kind, worker IS NOT NULL AS "running!" FROM polar_jobs.live_jobs
            WHERE ordering_key = $1 AND id <> $2 ORDER BY blocked, id LIMIT 1"#,
        job.ordering_key,
        job.id,
    )
    .fetch_optional(pool)
    .await
}

async fn holder(pool: &PgPool, job: &JobRow) -> Result<Option<Holder>, sqlx::Error> {
    if job.state != State::Running {
        return Ok(None);
    }
    sqlx::query_as!(
        Holder,
        r#"SELECT host, pid, leased_until AS "leased_until: Timestamp" FROM polar_jobs.workers WHERE id = $1"#,
        job.worker,
    )
    .fetch_optional(pool)
    .await
}
