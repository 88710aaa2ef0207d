//! Ends attempts: completed, back to waiting, or discarded. Every statement is fenced by
//! `(id, attempt, worker)`: whoever lost its lease changes nothing.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, Transaction};

use jobs::NewJob;

use super::ctid::Ctid;
use super::{connect, enqueue};

/// How long a completion waits for a row that somebody else holds. It keeps a connection of the jobs' pool
/// meanwhile, and a few of them would keep all others from theirs.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// A job whose work is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The row.
    pub id: i64,
    /// The fence.
    pub attempt: i32,
    /// Where the row was when it was claimed.
    pub ctid: Ctid,
    /// Why there was nothing to do, if so.
    pub ignored: Option<String>,
}

/// Back to waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requeue {
    /// The row.
    pub id: i64,
    /// The fence.
    pub attempt: i32,
    /// From now.
    pub delay: Duration,
    /// Why.
    pub reason: RequeueReason,
}

/// Why a job is requeued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequeueReason {
    /// The attempt failed: it is counted, and kept in `errors`.
    Failed(String),
    /// The job put its work off: it is due only then.
    Snoozed(String),
    /// It could not do its work now, which counts as due since it was due first.
    Released(Option<String>),
}

impl Requeue {
    /// The entry of `errors`, where the attempt failed.
    fn error(&self) -> Option<Value> {
        match &self.reason {
            RequeueReason::Failed(reason) => Some(failure(self.attempt, reason)),
            RequeueReason::Snoozed(_) | RequeueReason::Released(_) => None,
        }
    }

    fn note(&self) -> Option<&str> {
        match &self.reason {
            RequeueReason::Failed(_) => None,
            RequeueReason::Snoozed(note) => Some(note),
            RequeueReason::Released(note) => note.as_deref(),
        }
    }

    fn is_still_due(&self) -> bool {
        !matches!(self.reason, RequeueReason::Snoozed(_))
    }
}

/// The end without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discard {
    /// The row.
    pub id: i64,
    /// The fence.
    pub attempt: i32,
    /// Kept in `errors`.
    pub reason: String,
}

/// An entry of `errors`.
fn failure(attempt: i32, reason: &str) -> Value {
    json!({ "at": Utc::now(), "attempt": attempt, "error": reason })
}

/// Completes one job together with its follow-ups and whatever the handler wrote in `transaction`.
/// Returns false, and writes nothing, where the fence no longer holds.
///
/// # Errors
/// If the database fails; whether the commit happened is then unknown, and repeating is harmless.
pub async fn complete_with(
    mut transaction: Transaction<'_, Postgres>,
    worker: i64,
    completion: &Completion,
    next: &[NewJob],
) -> Result<bool, sqlx::Error> {
    connect::set_lock_timeout(&mut transaction, LOCK_TIMEOUT).await?;
    let held = complete_one(&mut transaction, worker, completion).await?;
    if !held {
        transaction.rollback().await?;
        return Ok(false);
    }
    enqueue::insert_all(&mut transaction, next).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn complete_one(
    connection: &mut PgConnection,
    worker: i64,
    done: &Completion,
) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        "SELECT polar_jobs.move_to_history(array_agg(held.job), 'completed',
                                           CASE WHEN $4::text IS NULL THEN 'applied' ELSE 'ignored' END, $4)
           FROM (SELECT j AS job FROM polar_jobs.live_jobs j
                  WHERE j.id = $1 AND j.attempt = $2 AND j.worker = $3 FOR UPDATE) held
         HAVING count(*) > 0",
        done.id,
        done.attempt,
        worker,
        done.ignored as _,
    )
    .execute(connection)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Requeues jobs. One that came to wait with the same unique key meanwhile is merged into the requeued one, whose failures
/// stay counted.
///
/// Returns the ids that could not be requeued, because an open transaction of somebody else is in the
/// way. Try those again later; nobody waits here for others.
///
/// # Errors
/// If the database fails; repeating is harmless.
pub async fn requeue(
    connection: &mut PgConnection,
    worker: i64,
    requeues: &[Requeue],
) -> Result<Vec<i64>, sqlx::Error> {
    if requeues.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = requeues.iter().map(|entry| entry.id).collect();
    let attempts: Vec<i32> = requeues.iter().map(|entry| entry.attempt).collect();
    let delays: Vec<f64> = requeues
        .iter()
        .map(|entry| entry.delay.as_secs_f64())
        .collect();
    let failures: Vec<Option<Value>> = requeues.iter().map(Requeue::error).collect();
    let still_due: Vec<bool> = requeues.iter().map(Requeue::is_still_due).collect();
    let notes: Vec<Option<&str>> = requeues.iter().map(Requeue::note).collect();
    sqlx::query_scalar!(
        r#"SELECT polar_jobs.requeue_jobs($1, $2, $3, $4, $5, $6, $7) AS "again!""#,
        worker,
        &ids,
        &attempts,
        &delays,
        &failures as &[Option<Value>],
        &notes as &[Option<&str>],
        &still_due,
    )
    .fetch_one(connection)
    .await
}

/// Discards jobs, each with its reason.
///
/// # Errors
/// If the database fails, or somebody holds the row of one of them; repeating is harmless.
pub async fn discard(
    connection: &mut PgConnection,
    worker: i64,
    discards: &[Discard],
) -> Result<(), sqlx::Error> {
    let ids: Vec<i64> = discards.iter().map(|entry| entry.id).collect();
    let attempts: Vec<i32> = discards.iter().map(|entry| entry.attempt).collect();
    let errors: Vec<Value> = discards
        .iter()
        .map(|entry| failure(entry.attempt, &entry.reason))
        .collect();
    sqlx::query!(
        r#"SELECT polar_jobs.discard_jobs($1, $2, $3, $4) AS "discarded: ()""#,
        worker,
        &ids,
        &attempts,
        &errors,
    )
    .fetch_one(connection)
    .await
    .map(drop)
}
