//! Ends attempts: completed, back to waiting, or discarded. Every statement is fenced by
//! `(id, attempt, worker)`: whoever lost its lease changes nothing.

use chrono::Utc;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Postgres, Transaction};

use jobs::NewJob;

use super::enqueue;

/// A job whose work is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The row.
    pub id: i64,
    /// The fence.
    pub attempt: i32,
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
    /// The failure to be kept in `errors`; `None` where no attempt is charged.
    pub failure: Option<String>,
    /// Why it waits, in words.
    pub note: Option<String>,
}

impl Return {
    /// The entry of `errors`, if this return is a failure.
    fn error(&self) -> Option<Value> {
        self.failure
            .as_deref()
            .map(|reason| failure(self.attempt, reason))
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
        "WITH finished AS (
             DELETE FROM polar_jobs.live_jobs WHERE id = $1 AND attempt = $2 AND worker = $3 RETURNING *)
         INSERT INTO polar_jobs.finished_jobs
                (id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
                 unique_key, ordering_key, events, note, payload, errors, state, outcome)
         SELECT id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
                held_unique_key, ordering_key, events, $4, payload, errors, 'completed',
                CASE WHEN $4::text IS NULL THEN 'applied' ELSE 'ignored' END
           FROM finished",
        done.id,
        done.attempt,
        worker,
        done.ignored as _,
    )
    .execute(connection)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Puts jobs back to waiting. A job whose twin (same unique key) came to wait meanwhile gives way:
/// the twin takes over its cause and its delay, and this row ends as `cancelled`.
///
/// Answers the ids that could not be put back, because an open transaction of somebody else is in the
/// way: it enqueued or holds a twin. Try those again later; nobody waits here for others.
///
/// # Errors
/// If the database fails; repeating is harmless.
pub async fn put_back(
    connection: &mut PgConnection,
    worker: i64,
    returns: &[Return],
) -> Result<Vec<i64>, sqlx::Error> {
    let put = match wait_again(connection, worker, returns).await {
        // A twin came to wait in this very moment, or two of one key come back at once.
        Err(error) if is_conflict(&error) => Vec::new(),
        other => other?,
    };
    let mut left = Vec::new();
    for entry in returns.iter().filter(|entry| !put.contains(&entry.id)) {
        if !put_back_one(connection, worker, entry).await? {
            left.push(entry.id);
        }
    }
    Ok(left)
}

/// True once the job waits again, gave way, or is not ours any more.
async fn put_back_one(
    connection: &mut PgConnection,
    worker: i64,
    entry: &Return,
) -> Result<bool, sqlx::Error> {
    let stored = async {
        Ok(give_way(connection, worker, entry).await?
            || !wait_again(connection, worker, std::slice::from_ref(entry))
                .await?
                .is_empty())
    };
    match stored.await {
        Ok(true) => return Ok(true),
        Err(error) if !is_conflict(&error) => return Err(error),
        // A twin came or went between the two looks, or the row is not ours any more.
        _ => {}
    }
    sqlx::query_scalar!(
        r#"SELECT NOT EXISTS (SELECT 1 FROM polar_jobs.live_jobs
                               WHERE id = $1 AND attempt = $2 AND worker = $3) AS "over!""#,
        entry.id,
        entry.attempt,
        worker,
    )
    .fetch_one(connection)
    .await
}

/// A twin (23505), or somebody who holds one (55P03).
fn is_conflict(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.is_unique_violation() || error.code().as_deref() == Some("55P03")
    })
}

/// A transaction that waits for nobody longer than a moment.
async fn impatient(
    connection: &mut PgConnection,
) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query_scalar!("SELECT set_config('lock_timeout', '100ms', true)")
        .fetch_one(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// The twin is locked first, so it cannot be claimed while this job hands over to it.
async fn give_way(
    connection: &mut PgConnection,
    worker: i64,
    entry: &Return,
) -> Result<bool, sqlx::Error> {
    let mut transaction = impatient(connection).await?;
    let gone = sqlx::query!(
        "WITH twin AS (
             SELECT t.id FROM polar_jobs.live_jobs j JOIN polar_jobs.live_jobs t ON t.unique_key = j.held_unique_key
              WHERE j.id = $1 AND j.attempt = $2 AND j.worker = $3 FOR UPDATE OF t
         ), gone AS (
             DELETE FROM polar_jobs.live_jobs j USING twin WHERE j.id = $1 RETURNING j.*
         ), heir AS (
             UPDATE polar_jobs.live_jobs t
                SET run_at = greatest(t.run_at, now() + make_interval(secs => $4)),
                    priority = least(t.priority, gone.priority),
                    events = CASE WHEN gone.events IS NULL THEN t.events ELSE gone.events || coalesce(t.events, '{}') END
               FROM twin, gone WHERE t.id = twin.id RETURNING t.id
         )
         INSERT INTO polar_jobs.finished_jobs
                (id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
                 unique_key, ordering_key, note, payload, errors, state, outcome)
         SELECT g.id, g.run_at, g.created_at, g.started_at, g.worker, g.attempt, g.max_attempts, g.priority, g.queue,
                g.kind, g.held_unique_key, g.ordering_key, 'gave way to job ' || heir.id || ', which waits with the same unique key',
                g.payload, CASE WHEN $5::jsonb IS NULL THEN g.errors ELSE g.errors || $5 END, 'cancelled', 'ignored'
           FROM gone g CROSS JOIN heir",
        entry.id,
        entry.attempt,
        worker,
        entry.delay,
        entry.error(),
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(gone.rows_affected() == 1)
}

/// Answers the ids that wait again; the others have a waiting twin, or are not ours any more.
async fn wait_again(
    connection: &mut PgConnection,
    worker: i64,
    returns: &[Return],
) -> Result<Vec<i64>, sqlx::Error> {
    let ids: Vec<i64> = returns.iter().map(|entry| entry.id).collect();
    let attempts: Vec<i32> = returns.iter().map(|entry| entry.attempt).collect();
    let delays: Vec<f64> = returns.iter().map(|entry| entry.delay).collect();
    let failures: Vec<Option<Value>> = returns.iter().map(Return::error).collect();
    let notes: Vec<Option<&str>> = returns.iter().map(|entry| entry.note.as_deref()).collect();
    let mut transaction = impatient(connection).await?;
    let put = sqlx::query_scalar!(
        "UPDATE polar_jobs.live_jobs j
            SET worker = NULL, run_at = now() + make_interval(secs => d.delay), note = d.note,
                unique_key = held_unique_key, held_unique_key = NULL,
                errors = CASE WHEN d.failure IS NULL THEN errors ELSE errors || d.failure END
           FROM unnest($2::bigint[], $3::int[], $4::float8[], $5::jsonb[], $6::text[]) d (id, attempt, delay, failure, note)
          WHERE j.id = d.id AND j.attempt = d.attempt AND j.worker = $1
            AND NOT EXISTS (SELECT 1 FROM polar_jobs.live_jobs twin WHERE twin.unique_key = j.held_unique_key)
         RETURNING j.id",
        worker,
        &ids,
        &attempts,
        &delays,
        &failures as &[Option<Value>],
        &notes as &[Option<&str>],
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(put)
}

/// Discards jobs, each with its reason.
///
/// # Errors
/// If the database fails; repeating is harmless.
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
        "WITH finished AS (
             DELETE FROM polar_jobs.live_jobs j USING unnest($2::bigint[], $3::int[], $4::jsonb[]) d (id, attempt, error)
              WHERE j.id = d.id AND j.attempt = d.attempt AND j.worker = $1
             RETURNING j.*, d.error)
         INSERT INTO polar_jobs.finished_jobs
                (id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
                 unique_key, ordering_key, events, payload, errors, state, outcome)
         SELECT id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
                held_unique_key, ordering_key, events, payload, errors || error, 'discarded', 'failed'
           FROM finished",
        worker,
        &ids,
        &attempts,
        &errors,
    )
    .execute(connection)
    .await
    .map(drop)
}
