//! Takes jobs: up to the free slots, due, not blocked, the most urgent first, in one statement,
//! which also stores what the worker finished meanwhile. One commit then serves both.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::finish::Completion;

/// A row that this process now holds. `(id, attempt, worker)` is its fence.
#[derive(Debug)]
pub struct Claimed {
    /// The row.
    pub id: i64,
    /// Claims so far, this one included.
    pub attempt: i32,
    /// Which job.
    pub kind: String,
    /// As stored; decoded by the job, so that a bad payload costs one job and no other.
    pub payload: Json<Box<RawValue>>,
    /// Failures so far.
    pub failures: i32,
    /// Failures after which it is discarded.
    pub max_attempts: i32,
    /// The external events that caused it.
    pub events: Option<Vec<i64>>,
    /// Whether it has an ordering key: its end may let the next one run.
    pub ordered: bool,
    /// Its place in the queue.
    pub priority: i16,
    /// Its place in the queue.
    pub run_at: DateTime<Utc>,
}

/// Where the last claim of a lane ended. A queue that is being emptied is full of dead index entries
/// at its head; starting behind them keeps a claim as cheap as the first one. It is only a shortcut:
/// whoever uses it must start from the head again after a moment, and before calling a queue empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    priority: i16,
    run_at: DateTime<Utc>,
    id: i64,
}

impl Place {
    /// The place of the last of these jobs.
    #[must_use]
    pub fn last_of(jobs: &[Claimed]) -> Option<Self> {
        jobs.iter()
            .map(|job| Self {
                priority: job.priority,
                run_at: job.run_at,
                id: job.id,
            })
            .max()
    }
}

/// Most rows that one claim takes: beyond it a batch gains nothing (bench/results.md, L3).
pub const LARGEST_CLAIM: usize = 500;

/// Stores `completions` and claims up to `limit` due jobs of `queue`, in one commit; from the head of
/// the queue, or from behind a [`Place`].
///
/// The picked ids go through an array: with a join or `IN`, a generic plan takes the unknown LIMIT
/// for a tenth of the table and walks all of it.
///
/// # Errors
/// If the database fails; then nothing was stored and nothing claimed, or the answer was lost and
/// both happened: repeating the completions is harmless, and claims without an answer are handed
/// back by [`super::finish::release_unknown`].
pub async fn turn(
    connection: &mut PgConnection,
    worker: i64,
    queue: &str,
    completions: &[Completion],
    limit: usize,
    after: Option<Place>,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let done = Done::of(completions);
    let limit = i64::try_from(limit.min(LARGEST_CLAIM)).unwrap_or(0);
    match after {
        None => from_head(connection, worker, queue, &done, limit).await,
        Some(place) => from_place(connection, worker, queue, &done, limit, place).await,
    }
}

/// The columns of completions, for `unnest`.
struct Done<'a> {
    ids: Vec<i64>,
    attempts: Vec<i32>,
    notes: Vec<Option<&'a str>>,
}

impl<'a> Done<'a> {
    fn of(completions: &'a [Completion]) -> Self {
        Self {
            ids: completions.iter().map(|done| done.id).collect(),
            attempts: completions.iter().map(|done| done.attempt).collect(),
            notes: completions
                .iter()
                .map(|done| done.ignored.as_deref())
                .collect(),
        }
    }
}

/// Priorities are visited one by one (`levels`), so jobs scheduled far ahead at an urgent priority
/// cost nothing. Nothing is claimed for a paused queue, or by a worker that was taken for dead.
async fn from_head(
    connection: &mut PgConnection,
    worker: i64,
    queue: &str,
    done: &Done<'_>,
    limit: i64,
) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Claimed,
        r#"WITH RECURSIVE finished AS (
               DELETE FROM polar_jobs.live_jobs j USING unnest($3::bigint[], $4::int[], $5::text[]) d (id, attempt, note)
                WHERE j.id = d.id AND j.attempt = d.attempt AND j.worker = $1
               RETURNING j.id, run_at, created_at, started_at, worker, j.attempt, max_attempts, priority, queue, kind,
                         CASE WHEN coalesces THEN ordering_key ELSE held_unique_key END, ordering_key, events, d.note, payload, errors
           ), kept AS (
               INSERT INTO polar_jobs.finished_jobs
                      (id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
                       unique_key, ordering_key, events, note, payload, errors, state, outcome)
               SELECT f.*, 'completed', CASE WHEN f.note IS NULL THEN 'applied' ELSE 'ignored' END FROM finished f
           ), ends AS (
               INSERT INTO polar_jobs.event_ends (event_id, job_id, rank)
               SELECT e, f.id, CASE WHEN f.note IS NULL THEN 2 ELSE 1 END FROM finished f, unnest(f.events) e
           ), levels (priority) AS (
               (SELECT j.priority FROM polar_jobs.live_jobs j
                 WHERE j.queue = $2 AND NOT j.blocked ORDER BY j.priority LIMIT 1)
               UNION ALL
               SELECT (SELECT j.priority FROM polar_jobs.live_jobs j
                        WHERE j.queue = $2 AND NOT j.blocked AND j.priority > l.priority
                        ORDER BY j.priority LIMIT 1)
                 FROM levels l WHERE l.priority IS NOT NULL
           )
           UPDATE polar_jobs.live_jobs j
              SET worker = $1, attempt = j.attempt + 1, started_at = now(),
                  held_unique_key = j.unique_key, unique_key = NULL, note = NULL
            WHERE j.id = ANY (ARRAY(
                  SELECT due.id FROM levels l CROSS JOIN LATERAL (
                      SELECT c.id FROM polar_jobs.live_jobs c
                       WHERE c.queue = $2 AND c.priority = l.priority AND c.run_at <= now()
                         AND NOT c.blocked AND c.worker IS NULL
                       ORDER BY c.run_at, c.id LIMIT $6 FOR UPDATE SKIP LOCKED) due
                   LIMIT CASE WHEN EXISTS (SELECT 1 FROM polar_jobs.workers w WHERE w.id = $1)
                               AND NOT EXISTS (SELECT 1 FROM polar_jobs.queues q WHERE q.name = $2 AND q.paused_at IS NOT NULL)
                              THEN $6 ELSE 0 END))
           RETURNING j.id, j.attempt, j.kind, j.payload AS "payload: Json<Box<RawValue>>",
                     jsonb_array_length(j.errors) AS "failures!", j.max_attempts, j.events,
                     j.ordering_key IS NOT NULL AS "ordered!", j.priority, j.run_at"#,
        worker,
        queue,
        &done.ids,
        &done.attempts,
        &done.notes as &[Option<&str>],
        limit,
    )
    .fetch_all(connection)
    .await
}

/// The same from behind a place and within its priority: the short form for a queue that is being
/// emptied, without the questions that a look at the head asks.
async fn from_place(
    connection: &mut PgConnection,
    worker: i64,
    queue: &str,
    done: &Done<'_>,
    limit: i64,
    place: Place,
) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Claimed,
        r#"WITH finished AS (
               DELETE FROM polar_jobs.live_jobs j USING unnest($3::bigint[], $4::int[], $5::text[]) d (id, attempt, note)
                WHERE j.id = d.id AND j.attempt = d.attempt AND j.worker = $1
               RETURNING j.id, run_at, created_at, started_at, worker, j.attempt, max_attempts, priority, queue, kind,
                         CASE WHEN coalesces THEN ordering_key ELSE held_unique_key END, ordering_key, events, d.note, payload, errors
           ), kept AS (
               INSERT INTO polar_jobs.finished_jobs
                      (id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
                       unique_key, ordering_key, events, note, payload, errors, state, outcome)
               SELECT f.*, 'completed', CASE WHEN f.note IS NULL THEN 'applied' ELSE 'ignored' END FROM finished f
           ), ends AS (
               INSERT INTO polar_jobs.event_ends (event_id, job_id, rank)
               SELECT e, f.id, CASE WHEN f.note IS NULL THEN 2 ELSE 1 END FROM finished f, unnest(f.events) e
           )
           UPDATE polar_jobs.live_jobs j
              SET worker = $1, attempt = j.attempt + 1, started_at = now(),
                  held_unique_key = j.unique_key, unique_key = NULL, note = NULL
            WHERE j.id = ANY (ARRAY(
                  SELECT c.id FROM polar_jobs.live_jobs c
                   WHERE c.queue = $2 AND c.priority = $7 AND c.run_at <= now() AND (c.run_at, c.id) > ($8, $9)
                     AND NOT c.blocked AND c.worker IS NULL
                   ORDER BY c.run_at, c.id LIMIT $6 FOR UPDATE SKIP LOCKED))
           RETURNING j.id, j.attempt, j.kind, j.payload AS "payload: Json<Box<RawValue>>",
                     jsonb_array_length(j.errors) AS "failures!", j.max_attempts, j.events,
                     j.ordering_key IS NOT NULL AS "ordered!", j.priority, j.run_at"#,
        worker,
        queue,
        &done.ids,
        &done.attempts,
        &done.notes as &[Option<&str>],
        limit,
        place.priority,
        place.run_at,
        place.id,
    )
    .fetch_all(connection)
    .await
}
