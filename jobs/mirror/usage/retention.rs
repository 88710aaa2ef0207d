//! Counted readings go after their retention, but never before Polar's answer is in the books.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// Deletes up to `batch` readings of windows that closed before `before` and all of whose counts
/// are reported or excluded. Returns how many; 0 = nothing is left to delete. The windows and
/// reports stay, so the books can be read, though no longer be counted again.
///
/// # Errors
/// If the database fails.
pub async fn prune(pool: &PgPool, before: DateTime<Utc>, batch: i64) -> Result<u64, sqlx::Error> {
    loop {
        let Some(window) = next(pool, before).await? else {
            return prune_adopted(pool, before, batch).await;
        };
        let deleted = sqlx::query!(
            "DELETE FROM polar_jobs.usage WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM polar_jobs.usage WHERE written_by >= $1 AND written_by < $2 LIMIT $3))",
            window.from_xid,
            window.to_xid,
            batch,
        )
        .execute(pool)
        .await?
        .rows_affected();
        if deleted > 0 {
            return Ok(deleted);
        }
        sqlx::query!(
            "UPDATE polar_jobs.usage_windows SET emptied_at = now() WHERE window_end = $1",
            window.window_end
        )
        .execute(pool)
        .await?;
    }
}

struct Prunable {
    window_end: DateTime<Utc>,
    from_xid: i64,
    to_xid: i64,
}

/// The oldest window that may lose its readings, marked: from now on nobody counts it again.
async fn next(pool: &PgPool, before: DateTime<Utc>) -> Result<Option<Prunable>, sqlx::Error> {
    sqlx::query_as!(
        Prunable,
        "UPDATE polar_jobs.usage_windows SET pruned_at = coalesce(pruned_at, now())
          WHERE window_end = (
                SELECT w.window_end FROM polar_jobs.usage_windows w
                 WHERE w.emptied_at IS NULL AND w.closed_at < $1 AND NOT EXISTS (
                       SELECT 1 FROM polar_jobs.usage_reports r
                        WHERE r.window_end = w.window_end AND r.state NOT IN ('reported', 'excluded'))
                 ORDER BY w.window_end LIMIT 1)
         RETURNING window_end, from_xid, to_xid",
        before,
    )
    .fetch_optional(pool)
    .await
}

/// Readings that were counted before the tables were restored here belong to no window any more.
async fn prune_adopted(
    pool: &PgPool,
    before: DateTime<Utc>,
    batch: i64,
) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query!(
        "DELETE FROM polar_jobs.usage WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM polar_jobs.usage WHERE written_by = 0 AND recorded_at < $1 LIMIT $2))",
        before,
        batch,
    )
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}
