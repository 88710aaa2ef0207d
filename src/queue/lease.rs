//! A process's right to hold jobs: a row in `workers`, renewed while it lives, and a session advisory
//! lock that Postgres drops within milliseconds of its death.
//!
//! The lock is also gone when only the session was cut, so it is a hint. What counts is the row:
//! `session` grows with each connection on which the worker took its lock again.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};

/// How long a lease lasts without being renewed.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often it is renewed.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// The advisory lock space of living workers ("pj" in ASCII); the second key is the worker's id. The
/// SQL function `holds_session_lock` looks there.
pub const LOCK_SPACE: i32 = 0x706a;

/// Who a process says it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: i32,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// How many jobs of each of them it runs at once.
    pub slots: Vec<i32>,
}

/// Registers a new worker and returns its id, which is never given twice.
///
/// # Errors
/// If the database fails.
pub async fn register(
    connection: &mut PgConnection,
    identity: &Identity,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        "INSERT INTO polar_jobs.workers (host, pid, version, leased_until, queues, slots, incarnation)
         VALUES ($1, $2, $3, now() + make_interval(secs => $4), $5, $6, polar_jobs.server_incarnation()) RETURNING id",
        identity.host,
        identity.pid,
        env!("CARGO_PKG_VERSION"),
        LEASE.as_secs_f64(),
        &identity.queues,
        &identity.slots,
    )
    .fetch_one(connection)
    .await
}

/// Takes the session lock on this connection, in share mode: a session of ours whose connection was cut
/// may still hold it for hours, and must not keep us from it. To be followed by [`begin_session`].
///
/// # Errors
/// If the database fails.
pub async fn take_session_lock(
    connection: impl PgExecutor<'_>,
    worker: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT pg_advisory_lock_shared($1, $2)",
        LOCK_SPACE,
        lock_key(worker)
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Renews the lease on a new connection and says so in the row, so that a reclaimer that saw no lock
/// before knows that it was wrong. Returns false if the row is gone.
///
/// The lock is taken before: a reclaimer that holds the row now makes this wait, and then either saw the
/// lock and leaves the row alone, or has deleted it.
///
/// # Errors
/// If the database fails.
pub async fn begin_session(
    connection: impl PgExecutor<'_>,
    worker: i64,
    session_lock: bool,
) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.workers
            SET leased_until = now() + make_interval(secs => $2), session = session + 1, session_lock = $3,
                incarnation = polar_jobs.server_incarnation()
          WHERE id = $1",
        worker,
        LEASE.as_secs_f64(),
        session_lock,
    )
    .execute(connection)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Renews the lease. Returns false if the row is gone: the lease was taken over, stop.
///
/// # Errors
/// If the database fails.
pub async fn renew(connection: impl PgExecutor<'_>, worker: i64) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.workers SET leased_until = now() + make_interval(secs => $2) WHERE id = $1",
        worker,
        LEASE.as_secs_f64(),
    )
    .execute(connection)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Deletes the worker's row at a clean stop, and its claims unless one of them is still held; that one
/// is for another worker to reclaim.
///
/// # Errors
/// If the database fails; the lease then simply runs out.
pub async fn retire(connection: impl PgExecutor<'_>, worker: i64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH gone AS (DELETE FROM polar_jobs.workers WHERE id = $1)
         DELETE FROM polar_jobs.claims c
          WHERE c.worker = $1 AND NOT EXISTS (
                SELECT 1 FROM polar_jobs.live_jobs j WHERE j.id = ANY (c.ids) AND j.worker = $1)",
        worker
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Worker ids are handed out one by one, so their low 31 bits tell living workers apart.
fn lock_key(worker: i64) -> i32 {
    i32::try_from(worker & i64::from(i32::MAX)).unwrap_or(0)
}
