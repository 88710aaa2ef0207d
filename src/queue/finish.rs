//! Ends attempts: completed, back to waiting, or discarded. Every statement is fenced by
//! `(id, attempt, worker)`: whoever lost its lease changes nothing.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, Transaction};

use jobs::NewJob;

use super::place::RowPlace;
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
    pub place: RowPlace,
    /// Why there was nothing to do, if so.
    pub ignored: Option<String>,
}

/// Back to waiting.
#[derive(Clone, Debug, PartialEq)]
pub struct Return {
    /// The row.
    pub id: i64,
    /// The fence.
    pub attempt: i32,
    /// Seconds from now.
    pub delay: f64,
    /// Why.
    pub reason: Reason,
}

/// Why a job goes back to waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The attempt failed: it is counted, and kept in `errors`.
    Failed(String),
    /// The job put its work off; only then it is due.
    PutOff(String),
    /// It could not do its work now, which counts as due since it was due first.
    Released(Option<String>),
}

impl Return {
    /// The entry of `errors`, if this return is a failure.
    fn error(&self) -> Option<Value> {
        match &self.reason {
            Reason::Failed(reason) => Some(failure(self.attempt, reason)),
            Reason::PutOff(_) | Reason::Released(_) => None,
        }
    }

    fn note(&self) -> Option<&str> {
        match &self.reason {
            Reason::Failed(_) => None,
            Reason::PutOff(note) => Some(note),
            Reason::Released(note) => note.as_deref(),
        }
    }

    fn is_still_due(&self) -> bool {
        !matches!(self.reason, Reason::PutOff(_))
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

/// Puts jobs back to waiting. A job that came to wait with the same unique key meanwhile is merged into
/// the one that comes back, whose failures stay counted.
///
/// Returns the ids that could not be put back, because an open transaction of somebody else is in the
/// way. Try those again later; nobody waits here for others.
///
/// # Errors
/// If the database fails; repeating is harmless.
pub async fn requeue(
    connection: &mut PgConnection,
    worker: i64,
    returns: &[Return],
) -> Result<Vec<i64>, sqlx::Error> {
    if returns.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = returns.iter().map(|entry| entry.id).collect();
    let attempts: Vec<i32> = returns.iter().map(|entry| entry.attempt).collect();
    let delays: Vec<f64> = returns.iter().map(|entry| entry.delay).collect();
    let failures: Vec<Option<Value>> = returns.iter().map(Return::error).collect();
    let still_due: Vec<bool> = returns.iter().map(Return::is_still_due).collect();
    let notes: Vec<Option<&str>> = returns.iter().map(Return::note).collect();
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
