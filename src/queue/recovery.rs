//! What a fetcher does after it gave up on a connection: end what it left behind in Postgres, make sure
//! that nothing of it comes late, and requeue what the claim whose answer was lost took. It costs as much as
//! one claim, however long the backlog, and waits for nobody.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::finish::{self, Requeue, RequeueReason};

/// A session of ours. The start tells it from a later one with the same process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Postgres' process.
    pub pid: i32,
    /// When the session began.
    pub started_at: DateTime<Utc>,
}

/// The last claim that is recorded for a fetcher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastClaim {
    /// Which one it was.
    pub turn: i64,
    /// What the fetcher held then, followed by what that claim took.
    pub ids: Vec<i64>,
}

impl LastClaim {
    /// What the claim took, if the fetcher held `held` jobs before. One of those may have ended meanwhile and be
    /// claimed again by another connection of this process, where it runs: it is no part of the loss.
    #[must_use]
    pub fn taken(&self, held: usize) -> &[i64] {
        self.ids.get(held..).unwrap_or_default()
    }
}

/// A claim of a job that nobody runs, because the answer was lost. The attempt tells it from a later claim of
/// the same job: a release whose own answer was lost is repeated, and must not end that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostClaim {
    /// The row.
    pub id: i64,
    /// The fence.
    pub attempt: i32,
}

/// The session behind a connection.
///
/// # Errors
/// If the database fails.
pub async fn backend_of(connection: &mut PgConnection) -> Result<Backend, sqlx::Error> {
    sqlx::query_as!(
        Backend,
        r#"SELECT pid AS "pid!", backend_start AS "started_at!" FROM pg_catalog.pg_stat_activity
            WHERE pid = pg_backend_pid()"#
    )
    .fetch_one(connection)
    .await
}

/// Ends a session that nobody listens to any more, and waits up to two seconds until it is gone. One
/// that is gone already is none of our business.
///
/// # Errors
/// If the database fails.
pub async fn terminate(connection: &mut PgConnection, backend: Backend) -> Result<(), sqlx::Error> {
    let ended = sqlx::query_scalar!(
        r#"SELECT pg_terminate_backend(pid, 2000) AS "ended!" FROM pg_catalog.pg_stat_activity
            WHERE pid = $1 AND backend_start = $2"#,
        backend.pid,
        backend.started_at,
    )
    .fetch_optional(connection)
    .await?;
    if ended == Some(false) {
        tracing::warn!(
            pid = backend.pid,
            "a session of ours that was given up does not end"
        );
    }
    Ok(())
}

/// Begins an epoch of a fetcher: claims of earlier ones that still come take nothing, and one that is under
/// way is waited for. Returns the last claim, or `None` if the worker's row is gone.
///
/// # Errors
/// If the database fails; repeating is harmless.
pub async fn begin_epoch(
    connection: &mut PgConnection,
    worker: i64,
    fetcher: i16,
    epoch: i32,
) -> Result<Option<LastClaim>, sqlx::Error> {
    sqlx::query_as!(
        LastClaim,
        "INSERT INTO polar_jobs.claims AS c (worker, fetcher, epoch)
         SELECT w.id, $2, $3 FROM polar_jobs.workers w WHERE w.id = $1 FOR KEY SHARE
         ON CONFLICT (worker, fetcher) DO UPDATE SET epoch = excluded.epoch
         RETURNING c.turn, c.ids",
        worker,
        fetcher,
        epoch,
    )
    .fetch_optional(connection)
    .await
}

/// The claims by which the worker holds `ids`. To be asked before any of them is released.
///
/// # Errors
/// If the database fails.
pub async fn lost_claims(
    connection: &mut PgConnection,
    worker: i64,
    ids: &[i64],
) -> Result<Vec<LostClaim>, sqlx::Error> {
    sqlx::query_as!(
        LostClaim,
        "SELECT id, attempt FROM polar_jobs.live_jobs WHERE id = ANY ($2) AND worker = $1",
        worker,
        ids,
    )
    .fetch_all(connection)
    .await
}

/// Hands claims back without charging an attempt. Returns the ids that an open transaction of somebody else
/// is in the way of.
///
/// # Errors
/// If the database fails; repeating is harmless.
pub async fn release(
    connection: &mut PgConnection,
    worker: i64,
    claims: &[LostClaim],
) -> Result<Vec<i64>, sqlx::Error> {
    let release = |claim: &LostClaim| Requeue {
        id: claim.id,
        attempt: claim.attempt,
        delay: Duration::ZERO,
        reason: RequeueReason::Released(None),
    };
    let requeues: Vec<Requeue> = claims.iter().map(release).collect();
    finish::requeue(connection, worker, &requeues).await
}

/// Those of `ids` whose rows somebody else holds now, so that a statement that ends them would wait.
///
/// # Errors
/// If the database fails.
pub async fn locked_by_others(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "WITH free AS MATERIALIZED (
             SELECT id FROM polar_jobs.live_jobs WHERE id = ANY ($1) FOR UPDATE SKIP LOCKED)
         SELECT j.id FROM polar_jobs.live_jobs j
          WHERE j.id = ANY ($1) AND NOT EXISTS (SELECT 1 FROM free f WHERE f.id = j.id)",
        ids,
    )
    .fetch_all(connection)
    .await
}
