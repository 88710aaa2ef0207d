//! Puts a finished job back to waiting, with its id, its history and a new budget.

use jobs::contract::begin;
use sqlx::{PgConnection, PgPool};

use super::acted::Acted;
use super::wake::wake;

/// `None`: there is no finished job of this id, or none in `state`.
pub(super) async fn revive(
    pool: &PgPool,
    id: i64,
    state: Option<&str>,
) -> Result<Option<Acted>, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    // The lock comes before the statement that looks around, as in every enqueue with a key.
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(polar_jobs.ordering_lock(ordering_key)) FROM polar_jobs.finished_jobs
          WHERE id = $1 AND ordering_key IS NOT NULL",
        id,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(moved) = move_back(&mut transaction, id, state).await? else {
        return Ok(None);
    };
    let Moved::Back { queue, blocked } = moved else {
        transaction.rollback().await?;
        return twin_of(pool, id).await;
    };
    transaction.commit().await?;
    wake(pool, &queue).await?;
    Ok(Some(Acted::WaitsAgain { blocked }))
}

enum Moved {
    Back {
        queue: String,
        blocked: bool,
    },
    /// The unique key is taken; the transaction must be rolled back.
    KeyTaken,
}

/// The budget counts entries of `errors`, which are kept: so the new budget comes on top. A job
/// that was given fewer attempts than its kind keeps to the smaller number.
///
/// Its events are open again, except where another job of theirs was given up: those stay failed.
async fn move_back(
    connection: &mut PgConnection,
    id: i64,
    state: Option<&str>,
) -> Result<Option<Moved>, sqlx::Error> {
    let row = sqlx::query!(
        r#"WITH gone AS (DELETE FROM polar_jobs.finished_jobs
                         WHERE id = $1 AND ($2::text IS NULL OR state = $2) RETURNING *),
           back AS (
               INSERT INTO polar_jobs.live_jobs
                      (id, created_at, started_at, attempt, max_attempts, priority, blocked, queue, kind,
                       unique_key, ordering_key, events, note, payload, errors)
               OVERRIDING SYSTEM VALUE
               SELECT g.id, g.created_at, g.started_at, g.attempt,
                      jsonb_array_length(g.errors) + least(g.max_attempts, coalesce(k.max_attempts, 20)),
                      g.priority,
                      EXISTS (SELECT 1 FROM polar_jobs.live_jobs l WHERE l.ordering_key = g.ordering_key),
                      g.queue, g.kind, g.unique_key, g.ordering_key, g.events, 'put back by an operator',
                      g.payload, g.errors
                 FROM gone g LEFT JOIN polar_jobs.kinds k ON k.kind = g.kind
               ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
               RETURNING queue, blocked),
           -- In the order in which `settle_events` locks them.
           caused AS (
               SELECT e.id FROM polar_jobs.stored_events e JOIN gone ON e.id = ANY (gone.events)
                ORDER BY e.id FOR NO KEY UPDATE OF e),
           unsettled AS (
               UPDATE polar_jobs.stored_events e SET handled_at = NULL, outcome = NULL
                 FROM caused, back
                WHERE e.id = caused.id AND NOT EXISTS (
                      SELECT FROM polar_jobs.finished_jobs other
                       WHERE other.state = 'discarded' AND e.id = ANY (other.events) AND other.id <> $1))
           SELECT back.queue AS "queue?", back.blocked AS "blocked?" FROM gone LEFT JOIN back ON true"#,
        id,
        state,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| match (row.queue, row.blocked) {
        (Some(queue), Some(blocked)) => Moved::Back { queue, blocked },
        _ => Moved::KeyTaken,
    }))
}

async fn twin_of(pool: &PgPool, id: i64) -> Result<Option<Acted>, sqlx::Error> {
    let twin = sqlx::query_scalar!(
        "SELECT t.id FROM polar_jobs.finished_jobs f JOIN polar_jobs.live_jobs t ON t.unique_key = f.unique_key
          WHERE f.id = $1",
        id,
    )
    .fetch_optional(pool)
    .await?;
    // Gone in this very moment: the caller hears of the state that is there now.
    Ok(twin.map(|twin| Acted::TwinWaits { twin }))
}
