//! Reading rows. Lists walk both primary keys backwards and stop at the limit, so a page is quick
//! however long the history is; only a filter that nothing matches reads everything, of what waits or of
//! what is finished: the condition on `finished_at` says the planner which of the two has no such state.

use jobs::types::Timestamp;
use serde_json::value::RawValue;
use sqlx::PgPool;
use sqlx::types::Json;

use super::{Filter, JobRow, State};

/// Rows of the view `jobs` as `JobRow`s: `$which` selects and orders them.
macro_rules! job_rows {
    ($which:literal, $($value:expr),+ $(,)?) => {
        sqlx::query_as!(
            JobRow,
            r#"SELECT id AS "id!", queue AS "queue!", kind AS "kind!", payload AS "payload!: Json<Box<RawValue>>", state AS "state!: State",
                      priority AS "priority!", run_at AS "run_at!: Timestamp", attempt AS "attempt!", max_attempts AS "max_attempts!",
                      unique_key, ordering_key, worker, leased_until AS "leased_until: Timestamp",
                      errors AS "errors!: Json<Box<RawValue>>", created_at AS "created_at!: Timestamp",
                      started_at AS "started_at: Timestamp", finished_at AS "finished_at: Timestamp", outcome, note, blocked AS "blocked!", events,
                      polar_jobs.organization_of_job(payload, ordering_key) AS organization_id,
                      (SELECT o.name FROM polar_jobs.organizations o
                        WHERE o.id = polar_jobs.organization_of_job(payload, ordering_key)) AS organization
                 FROM polar_jobs.jobs "#
                + $which,
            $($value),+
        )
    };
}

/// Jobs that a filter means, newest first.
///
/// # Errors
/// If the database fails.
pub async fn list(pool: &PgPool, filter: &Filter) -> Result<Vec<JobRow>, sqlx::Error> {
    job_rows!(
        "WHERE ($1::text IS NULL OR state = $1)
           AND ($1 IS NULL OR $1 IN ('available', 'running') OR finished_at IS NOT NULL)
           AND ($2::text IS NULL OR kind = $2)
           AND ($3::text IS NULL OR queue = $3)
           AND ($4::text IS NULL OR payload->>'organization_id' = $4
                OR strpos(ordering_key, $4) > 0 OR strpos(unique_key, $4) > 0)
         ORDER BY id DESC LIMIT $5",
        filter.state(),
        filter.kind.as_deref(),
        filter.queue.as_deref(),
        filter.organization(),
        filter.limit,
    )
    .fetch_all(pool)
    .await
}

/// One job; `None` where there is none, or none any more.
///
/// # Errors
/// If the database fails.
pub async fn find(pool: &PgPool, id: i64) -> Result<Option<JobRow>, sqlx::Error> {
    job_rows!("WHERE id = $1", id).fetch_optional(pool).await
}

/// Jobs that an external event caused, oldest first. Reads both tables: for a person's question,
/// not for a hot path.
///
/// # Errors
/// If the database fails.
pub async fn caused_by(pool: &PgPool, event: i64) -> Result<Vec<JobRow>, sqlx::Error> {
    job_rows!("WHERE $1 = ANY (events) ORDER BY id LIMIT 100", event)
        .fetch_all(pool)
        .await
}
