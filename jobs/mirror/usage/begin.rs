//! Where counting begins: at the installation, or later when told; and again after a restore.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// From now on readings recorded before `since` are history, billed elsewhere: kept and shown, not
/// reported. `None` = everything counts. Windows that are closed already stay as they are. False
/// where the tables were restored from another cluster and [`adopt`] comes first.
///
/// # Errors
/// If the database fails.
pub async fn begin(pool: &PgPool, since: Option<DateTime<Utc>>) -> Result<bool, sqlx::Error> {
    let begun = sqlx::query!(
        "UPDATE polar_jobs.usage_cursor SET since = $1, written_by = pg_current_xact_id()::text::bigint
          WHERE xmin::text::bigint = (written_by & 4294967295)",
        since
    )
    .execute(pool)
    .await?;
    Ok(begun.rows_affected() == 1)
}

/// What an adoption found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Readings that the next window counts.
    pub uncounted: i64,
    /// Readings that were counted before the copy was made.
    pub counted: i64,
}

/// Makes tables that were restored from another cluster count on, once; `None` where nothing was
/// restored. Writers of usage wait while it runs.
///
/// # Errors
/// If the database fails.
pub async fn adopt(pool: &PgPool) -> Result<Option<Adopted>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT uncounted AS "uncounted?", counted AS "counted?" FROM polar_jobs.adopt_usage()"#
    )
    .fetch_optional(pool)
    .await?;
    Ok(row
        .and_then(|row| row.uncounted.zip(row.counted))
        .map(|(uncounted, counted)| Adopted { uncounted, counted }))
}
