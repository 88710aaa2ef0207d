//! Reports as people list them.

use sqlx::PgPool;
use uuid::Uuid;

use crate::types::Timestamp;

/// Which reports to list; `None` = any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportFilter {
    /// One organization's.
    pub organization: Option<Uuid>,
    /// In one state.
    pub state: Option<String>,
}

/// A row of `usage_reports`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ReportRow {
    /// The window.
    pub window_end: Timestamp,
    /// Who used it.
    pub organization_id: Uuid,
    /// How much.
    pub quantity: i64,
    /// Readings behind it.
    pub readings: i64,
    /// The event's id at Polar.
    pub external_id: String,
    /// Where it stands.
    pub state: String,
    /// Why it was excluded or refused.
    pub reason: Option<String>,
    /// Polar's answer.
    pub answer: Option<String>,
    /// When that was stored.
    pub reported_at: Option<Timestamp>,
}

/// Reports, newest window first.
///
/// # Errors
/// If the database fails.
pub async fn list(
    pool: &PgPool,
    filter: &ReportFilter,
    limit: i64,
) -> Result<Vec<ReportRow>, sqlx::Error> {
    sqlx::query_as!(
        ReportRow,
        r#"SELECT window_end AS "window_end: Timestamp", organization_id, quantity, readings, external_id, state,
                reason, answer, reported_at AS "reported_at: Timestamp"
           FROM polar_jobs.usage_reports
          WHERE ($1::uuid IS NULL OR organization_id = $1) AND ($2::text IS NULL OR state = $2)
          ORDER BY window_end DESC, organization_id LIMIT $3"#,
        filter.organization,
        filter.state,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Returns how many reports are refused.
///
/// # Errors
/// If the database fails.
pub async fn count_refused(pool: &PgPool, organization: Option<Uuid>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM polar_jobs.usage_reports
          WHERE state = 'refused' AND ($1::uuid IS NULL OR organization_id = $1)"#,
        organization,
    )
    .fetch_one(pool)
    .await
}
