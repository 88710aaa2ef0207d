//! A process's right to hold jobs: a row in `workers`, renewed while it lives, and a session
//! advisory lock that Postgres drops within milliseconds of its death.

use std::time::Duration;

use sqlx::PgConnection;

/// How long a lease lasts without being renewed.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often it is renewed.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// The advisory lock space of living workers ("pj" in ASCII); the second key is the worker's id.
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
        "INSERT INTO polar_jobs.workers (host, pid, version, leased_until, queues)
         VALUES ($1, $2, $3, now() + make_interval(secs => $4), $5) RETURNING id",
        identity.host,
        identity.pid,
        env!("CARGO_PKG_VERSION"),
        LEASE.as_secs_f64(),
        &identity.queues,
    )
    .fetch_one(connection)
    .await
}

/// Takes the session lock on this connection, in share mode: a session of ours whose connection was cut
/// may still hold it for hours, and must not keep us from it. Then says so in the row: from now on others may judge
/// this process by its lock. Returns false if the row is gone.
///
/// # Errors
/// If the database fails.
pub async fn take_session_lock(
    connection: &mut PgConnection,
    worker: i64,
) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        "SELECT pg_advisory_lock_shared($1, $2)",
        LOCK_SPACE,
        lock_key(worker)
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE polar_jobs.workers SET session_lock = true WHERE id = $1",
        worker
    )
    .execute(connection)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Renews the lease. Returns false if the row is gone: the lease was taken over, stop.
///
/// # Errors
/// If the database fails.
pub async fn renew(connection: &mut PgConnection, worker: i64) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.workers SET leased_until = now() + make_interval(secs => $2) WHERE id = $1",
        worker,
        LEASE.as_secs_f64(),
    )
    .execute(connection)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Takes the worker's row away at a clean stop.
///
/// # Errors
/// If the database fails; the lease then simply runs out.
pub async fn retire(connection: &mut PgConnection, worker: i64) -> Result<(), sqlx::Error> {
    sqlx::query!("DELETE FROM polar_jobs.workers WHERE id = $1", worker)
        .execute(connection)
        .await
        .map(drop)
}

/// Worker ids are handed out one by one, so their low 31 bits tell living workers apart.
pub(super) fn lock_key(worker: i64) -> i32 {
    i32::try_from(worker & i64::from(i32::MAX)).unwrap_or(0)
}
