//! How long readings and reports are kept: readings by the day, until nobody counts them again;
//! reports until they are added up to their month.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// Days for which partitions are made ahead.
const AHEAD: i32 = 7;

/// Makes the partitions of the next days, where they are missing. Readings of a day without one are
/// kept all the same, in the default partition.
///
/// # Errors
/// If the database fails.
pub async fn create_partitions(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT polar_jobs.create_partitions('usage', $1)", AHEAD)
        .fetch_one(pool)
        .await?;
    Ok(())
}

/// Drops the days whose readings lie in windows that closed before `before` and all of whose counts
/// are reported or excluded. Returns how many, `None` where somebody held the table. The windows and reports stay, so
/// the books can be read, though no longer be counted again.
///
/// # Errors
/// If the database fails.
pub async fn prune(pool: &PgPool, before: DateTime<Utc>) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar!("SELECT polar_jobs.prune_usage($1)", before)
        .fetch_one(pool)
        .await
}

/// Deletes up to `batch` ids of readings that were written before `before` and are deleted themselves: the id of one
/// that still waits to be reported keeps it from being recorded twice. Returns how many; 0 = nothing old is left.
///
/// # Errors
/// If the database fails.
pub async fn prune_ids(
    pool: &PgPool,
    before: DateTime<Utc>,
    batch: i32,
) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query!(
        "DELETE FROM polar_jobs.usage_external_ids WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM polar_jobs.usage_external_ids
              WHERE written_at < least($1, (SELECT polar_jobs.oldest_day('usage'))) LIMIT $2))",
        before,
        i64::from(batch),
    )
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}

/// Adds up to `batch` reports that were decided before `before` to the sums of their months and
/// deletes them. Returns how many; 0 = nothing old is left.
///
/// # Errors
/// If the database fails.
pub async fn fold(pool: &PgPool, before: DateTime<Utc>, batch: i32) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT polar_jobs.fold_usage_reports($1, $2) AS "folded!""#,
        before,
        batch,
    )
    .fetch_one(pool)
    .await
}
