//! Takes back the jobs of dead workers, and does the queue's other small repairs.
//!
//! A worker is dead when its session lock is free (seen within milliseconds), or when its lease ran
//! out (hosts that vanish, poolers). After a restart of Postgres every lock is free for a moment,
//! so nobody is judged until everybody had time to come back.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::lease::{self, LOCK_SPACE};

/// How long after a start of Postgres nobody is taken for dead.
pub const AMNESTY: Duration = Duration::from_secs(15);

/// A job that the rescue ended or put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Workers found dead.
    pub workers: u64,
    /// Jobs put back to waiting.
    pub returned: u64,
    /// Jobs whose budget was spent: a job that kills its process ends as discarded.
    pub discarded: u64,
}

/// Workers that look dead now. Look twice, a moment apart, before believing it: a lock is also free
/// while a living process reconnects.
///
/// # Errors
/// If the database fails.
pub async fn suspects(connection: &mut PgConnection, me: i64) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT w.id FROM polar_jobs.workers w
          WHERE w.id <> $1
            AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => $3)
            AND (w.leased_until < now()
                 OR (w.session_lock AND NOT EXISTS (
                     SELECT 1 FROM pg_catalog.pg_locks l
                      WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                        AND l.classid = $2::int::oid AND l.objid = (w.id & 2147483647)::int::oid)))
          ORDER BY w.id",
        me,
        LOCK_SPACE,
        AMNESTY.as_secs_f64(),
    )
    .fetch_all(connection)
    .await
}

/// Takes a dead worker's row away and puts its jobs back, in one transaction: from then on nothing
/// that it still writes passes the fence. A spent budget discards.
///
/// # Errors
/// If the database fails; then nothing was changed.
pub async fn bury(connection: &mut PgConnection, worker: i64) -> Result<Rescued, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let found = sqlx::query!(
        "SELECT id FROM polar_jobs.workers WHERE id = $1 FOR UPDATE SKIP LOCKED",
        worker
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if found.is_none() {
        return Ok(Rescued::default());
    }
    let mut rescued = return_jobs(&mut transaction, worker).await?;
    lease::retire(&mut transaction, worker).await?;
    transaction.commit().await?;
    rescued.workers = 1;
    Ok(rescued)
}

/// Jobs held by workers that have no row any more: a claim that was under way while its worker was
/// buried. Reads the whole live table, so it is for a slow clock.
///
/// # Errors
/// If the database fails.
pub async fn sweep(connection: &mut PgConnection) -> Result<Rescued, sqlx::Error> {
    let orphaned = sqlx::query_scalar!(
        r#"SELECT DISTINCT j.worker AS "worker!" FROM polar_jobs.live_jobs j
            WHERE j.worker IS NOT NULL AND NOT EXISTS (SELECT 1 FROM polar_jobs.workers w WHERE w.id = j.worker)"#
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut total = Rescued::default();
    for worker in orphaned {
        let mut transaction = connection.begin().await?;
        let rescued = return_jobs(&mut transaction, worker).await?;
        transaction.commit().await?;
        total.returned += rescued.returned;
        total.discarded += rescued.discarded;
    }
    Ok(total)
}

pub use super::release::{note_headless_keys, release_noted_keys};

async fn return_jobs(connection: &mut PgConnection, worker: i64) -> Result<Rescued, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT returned AS "returned!", discarded AS "discarded!" FROM polar_jobs.return_jobs_of($1)"#,
        worker
    )
    .fetch_one(connection)
    .await?;
    Ok(Rescued {
        workers: 0,
        returned: row.returned as u64,
        discarded: row.discarded as u64,
    })
}
