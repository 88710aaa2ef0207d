//! Queues and the workers that serve them.

use jobs::contract::begin;
use jobs::types::Timestamp;
use serde::Serialize;
use sqlx::PgPool;

use crate::operators::{self, Actor, OperatorAction};
use crate::queue::idle;

/// A queue and how full it is.
#[derive(Clone, Debug, Serialize)]
pub struct QueueRow {
    /// Its name.
    pub name: String,
    /// Since when it is paused.
    pub paused_at: Option<Timestamp>,
    /// Slots of the queue per worker process; `None`: the process decides.
    pub slots_per_worker: Option<i32>,
    /// How many of its jobs the living workers run at once, all together.
    pub slots: i64,
    /// Jobs that wait, blocked and future ones included.
    pub waiting: i64,
    /// Jobs that could run now.
    pub ready: i64,
    /// Jobs that workers have.
    pub running: i64,
    /// Living workers that serve it.
    pub workers: i64,
}

/// A worker process.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerRow {
    /// Its id, never given twice.
    pub id: i64,
    /// Its host.
    pub host: String,
    /// Its process id there.
    pub pid: i32,
    /// Its release.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// How long its lease lasts.
    pub leased_until: Timestamp,
    /// Whether its lease still holds, by the database's clock, and its session lock.
    pub alive: bool,
}

/// Every queue, by name. Counts the live table, which is as small as the backlog.
///
/// # Errors
/// If the database fails.
pub async fn queues(pool: &PgPool) -> Result<Vec<QueueRow>, sqlx::Error> {
    sqlx::query_as!(
        QueueRow,
        r#"SELECT q.name, q.paused_at AS "paused_at: Timestamp", q.slots AS slots_per_worker,
                  coalesce(w.slots, 0) AS "slots!", coalesce(w.workers, 0) AS "workers!",
                  coalesce(c.waiting, 0) AS "waiting!", coalesce(c.ready, 0) AS "ready!",
                  coalesce(c.running, 0) AS "running!"
             FROM polar_jobs.queues q
             LEFT JOIN (SELECT served.queue, count(*) AS workers, sum(served.slots) AS slots
                          FROM polar_jobs.workers w, unnest(w.queues, w.slots) AS served (queue, slots)
                         WHERE polar_jobs.is_alive(w) GROUP BY served.queue) w ON w.queue = q.name
             LEFT JOIN (SELECT queue, count(*) FILTER (WHERE worker IS NULL) AS waiting,
                               count(*) FILTER (WHERE worker IS NULL AND NOT blocked AND run_at <= now()) AS ready,
                               count(*) FILTER (WHERE worker IS NOT NULL) AS running
                          FROM polar_jobs.live_jobs GROUP BY queue) c ON c.queue = q.name
            ORDER BY q.name"#
    )
    .fetch_all(pool)
    .await
}

/// Every worker that has a row.
///
/// # Errors
/// If the database fails.
pub async fn workers(pool: &PgPool) -> Result<Vec<WorkerRow>, sqlx::Error> {
    sqlx::query_as!(
        WorkerRow,
        r#"SELECT id, host, pid, version, started_at AS "started_at: Timestamp",
                  leased_until AS "leased_until: Timestamp", polar_jobs.is_alive(w) AS "alive!"
             FROM polar_jobs.workers w ORDER BY id"#
    )
    .fetch_all(pool)
    .await
}

/// Stops claims from a queue; what runs ends as it would. `false`: there is no such queue.
///
/// # Errors
/// If the database fails.
pub async fn pause(pool: &PgPool, actor: &Actor, name: &str) -> Result<bool, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    let done = sqlx::query!(
        "UPDATE polar_jobs.queues SET paused_at = coalesce(paused_at, now()) WHERE name = $1",
        name
    )
    .execute(&mut *transaction)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let action = OperatorAction::new("queues pause", format!("queue/{name}"));
    operators::record(&mut transaction, actor, &action).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Lets claims begin again. `false`: there is no such queue.
///
/// # Errors
/// If the database fails.
pub async fn resume(pool: &PgPool, actor: &Actor, name: &str) -> Result<bool, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    let done = sqlx::query!(
        "UPDATE polar_jobs.queues SET paused_at = NULL WHERE name = $1",
        name
    )
    .execute(&mut *transaction)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    idle::wake_at_commit(&mut transaction, name).await?;
    let action = OperatorAction::new("queues resume", format!("queue/{name}"));
    operators::record(&mut transaction, actor, &action).await?;
    transaction.commit().await?;
    Ok(true)
}
