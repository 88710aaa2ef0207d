//! Costs as people list them, and how they are let go.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use crate::types::Timestamp;

/// Which costs to list; `None` = any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CostFilter {
    /// One organization's.
    pub organization: Option<Uuid>,
    /// In one state.
    pub state: Option<String>,
}

/// A row of `costs`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CostRow {
    /// The row.
    pub id: i64,
    /// Who caused it.
    pub organization_id: Uuid,
    /// What caused it.
    pub source: String,
    /// What of it.
    pub context: Option<String>,
    /// US dollars, exactly as stored.
    pub cost_usd: Option<String>,
    /// The run's own id.
    pub usage_id: Option<String>,
    /// When it happened.
    pub recorded_at: Timestamp,
    /// Where it stands.
    pub state: String,
    /// Why it was skipped or refused.
    pub reason: Option<String>,
    /// When Polar's answer was stored.
    pub reported_at: Option<Timestamp>,
}

/// Costs, newest first.
///
/// # Errors
/// If the database fails.
pub async fn list(
    pool: &PgPool,
    filter: &CostFilter,
    limit: i64,
) -> Result<Vec<CostRow>, sqlx::Error> {
    sqlx::query_as!(
        CostRow,
        r#"SELECT id, organization_id, source, context, cost_usd::text AS cost_usd, usage_id,
                recorded_at AS "recorded_at: Timestamp", state, reason, reported_at AS "reported_at: Timestamp"
           FROM polar_jobs.costs
          WHERE ($1::uuid IS NULL OR organization_id = $1) AND ($2::text IS NULL OR state = $2)
          ORDER BY id DESC LIMIT $3"#,
        filter.organization,
        filter.state,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Returns how many costs are refused.
///
/// # Errors
/// If the database fails.
pub async fn count_refused(pool: &PgPool, organization: Option<Uuid>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM polar_jobs.costs
          WHERE state = 'refused' AND ($1::uuid IS NULL OR organization_id = $1)"#,
        organization,
    )
    .fetch_one(pool)
    .await
}

/// Sends refused costs again at the next run, once their cause is repaired. Returns how many.
///
/// # Errors
/// If the database fails.
pub async fn retry_refused(
    executor: impl PgExecutor<'_>,
    organization: Option<Uuid>,
) -> Result<u64, sqlx::Error> {
    let retried = sqlx::query!(
        "UPDATE polar_jobs.costs SET state = 'waiting', reason = NULL
          WHERE state = 'refused' AND ($1::uuid IS NULL OR organization_id = $1)",
        organization,
    )
    .execute(executor)
    .await?;
    Ok(retried.rows_affected())
}

/// Deletes up to `batch` costs that were reported, or written and skipped, before `before`. Returns how
/// many; 0 = nothing is left to delete.
///
/// # Errors
/// If the database fails.
pub async fn prune(pool: &PgPool, before: DateTime<Utc>, batch: i64) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query!(
        "DELETE FROM polar_jobs.costs WHERE id = ANY (ARRAY(
             SELECT id FROM polar_jobs.costs
              WHERE coalesce(reported_at, written_at) < $1
                AND state IN ('reported', 'skipped') ORDER BY id LIMIT $2))",
        before,
        batch,
    )
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}
