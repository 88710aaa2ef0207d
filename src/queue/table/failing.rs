//! Jobs that fail again and again: each looks like work that waits, and only its errors say otherwise.

use jobs::types::Timestamp;
use sqlx::PgPool;

/// Failures from which on a job counts as failing: the first few pass within seconds.
const FAILURES: i32 = 3;

/// An unfinished job with several failures.
#[derive(Clone, Debug)]
pub struct FailingJob {
    /// Its id.
    pub id: i64,
    /// Its kind.
    pub kind: String,
    /// The organization that it is about, by name or else by id; `None` where that is not known.
    pub organization: Option<String>,
    /// When it failed first, as its errors say.
    pub since: Option<String>,
    /// When it was written.
    pub created_at: Timestamp,
    /// The newest error.
    pub error: Option<String>,
}

/// Failing jobs, oldest first, at most `limit`. Reads the live table, which is as small as the backlog.
///
/// # Errors
/// If the database fails.
pub async fn failing(pool: &PgPool, limit: i64) -> Result<Vec<FailingJob>, sqlx::Error> {
    sqlx::query_as!(
        FailingJob,
        r#"SELECT j.id, j.kind, coalesce(o.name, j.organization_id::text) AS organization,
                  j.errors -> 0 ->> 'at' AS since, j.created_at AS "created_at: Timestamp",
                  j.errors -> -1 ->> 'error' AS error
             FROM (SELECT l.id, l.kind, l.errors, l.created_at,
                          polar_jobs.organization_of_job(l.payload::jsonb, l.ordering_key) AS organization_id
                     FROM polar_jobs.live_jobs l
                    WHERE l.errors <> '[]' AND CASE WHEN jsonb_typeof(l.errors) = 'array'
                                                    THEN jsonb_array_length(l.errors) >= $1 END
                    ORDER BY l.id LIMIT $2) j
             LEFT JOIN polar_jobs.organizations o ON o.id = j.organization_id
            ORDER BY j.id"#,
        FAILURES,
        limit,
    )
    .fetch_all(pool)
    .await
}
